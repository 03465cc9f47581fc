# SPDX-License-Identifier: Apache-2.0
"""Types as error messages write them (format_type.c): the target's own words for a function that does not exist."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.protocols.postgres.catalog import FIRST_USER_OID
from gateway.protocols.postgres.sql.values import UNKNOWN, Value
from gateway.protocols.postgres.sql.walk import Walk

_SPELLED = {
    "bit": "bit", "bool": "boolean", "bpchar": "character", "float4": "real", "float8": "double precision", "int2": "smallint",
    "int4": "integer", "int8": "bigint", "time": "time without time zone", "timetz": "time with time zone",
    "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone", "varbit": "bit varying",
    "varchar": "character varying",
}  # fmt: skip

HINT = "No function matches the given name and argument types. You might need to add explicit type casts."


def signature(walk: Walk, args: Sequence[Value], named: Sequence[str]) -> str:
    """``(integer, text)``, named arguments as ``name => type``; ``(...)`` where a type is not known to analysis."""
    types = [_shown(walk, value.type) for value in args]
    first = len(types) - len(named)
    words = [name if index < first else f"{named[index - first]} => {name}" for index, name in enumerate(types)]
    return f"({', '.join(words)})" if all(types) else "(...)"


def _shown(walk: Walk, oid: int) -> str:
    if oid == UNKNOWN:
        return "unknown"
    found = walk.catalog.type_by_oid(oid) if oid else None
    if found is None:
        return ""
    if found.element and found.name.startswith("_") and found.category == "A":
        return f"{_shown(walk, found.element)}[]"
    if oid >= FIRST_USER_OID and found.schema not in (walk.names.path or ()):
        return f"{found.schema}.{found.name}"
    return _SPELLED.get(found.name, found.name)
