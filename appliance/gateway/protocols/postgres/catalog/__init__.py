# SPDX-License-Identifier: Apache-2.0
"""The target's catalog: what names mean.

``model`` holds the values and look-ups, ``load`` reads them from a target, ``offline`` keeps them as JSON, ``builtin`` lists the
built-in functions that have effects and the system columns that count as masked, ``snapshot`` makes the shipped data file.
"""

from __future__ import annotations

from gateway.protocols.postgres.catalog.model import (
    FIRST_USER_OID,
    BuiltinCatalog,
    Cast,
    Catalog,
    Column,
    Function,
    Objects,
    Operator,
    Relation,
    Type,
)

__all__ = ["FIRST_USER_OID", "BuiltinCatalog", "Cast", "Catalog", "Column", "Function", "Objects", "Operator", "Relation", "Type"]
