# SPDX-License-Identifier: Apache-2.0
"""Everything that analysis says of a text, as a line that two processes can compare: ``python -m …twin`` answers JSON lines."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass

from gateway.protocols.postgres.catalog import Catalog
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.statement import Context, SqlFault, Write
from tests.unit.protocols.postgres.sql import shop

CATALOGS: dict[str, Catalog] = {"shop": shop.CATALOG, "newer": shop.NEWER}
CONTEXTS = (
    Context(("pg_catalog", "public"), user="app"),
    Context(("pg_temp_3", "pg_catalog", "app", "public"), "bob", temp_schema="pg_temp_3", parameter_types=(23, 25),
            prepared={"p": "select ssn from customers where id = $1"}, cursors={"c": None}),
)


def said(text: str, catalog: str = "shop", context: int = 0) -> str:
    """The statements of a text, or its fault; that it is nested too deeply is found at different depths."""
    try:
        return shown(analyze(text, CONTEXTS[context], CATALOGS[catalog]))
    except SqlFault as fault:
        return repr((fault.code, str(fault), fault.position, fault.hint))


def shown(value: object) -> str:
    """A value with sets in order, and the writes that were found in one."""
    if isinstance(value, tuple) and value and isinstance(value[0], Write):
        return f"({', '.join(sorted(map(shown, value)))})"
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(f'{field.name}={shown(getattr(value, field.name))}' for field in fields(value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(shown, value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {shown(one)}' for key, one in value.items())}}}"
    return f"({', '.join(map(shown, value))})" if isinstance(value, tuple | list) else repr(value)


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(said(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
