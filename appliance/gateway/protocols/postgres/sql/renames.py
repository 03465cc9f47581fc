# SPDX-License-Identifier: Apache-2.0
"""Statements that take columns away from their names, or give whole rows to something: masks go by names, so a masked column may not get
another one.

ALTER … RENAME and SET SCHEMA of relations, columns and schemas; DETACH PARTITION and NO INHERIT, for a mask of the parent's is one of the
child's no longer afterwards; DROP EXPRESSION, which leaves the values of a generated column; triggers and rules, which are given the rows.
Where the columns cannot be told, anything may flow: what belongs to an extension, ALTER TYPE … RENAME ATTRIBUTE … CASCADE, which renames
columns of typed tables, and another volatility of a function, by which extensions' code is believed to compute alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.protocols.postgres.catalog import Relation
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.values import Value
from gateway.protocols.postgres.sql.walk import Walk

_RELATIONS = frozenset({"OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE", "OBJECT_TYPE", "OBJECT_INDEX"})
"""ALTER INDEX … RENAME takes tables and views, too (RangeVarCallbackForAlterRelation in commands/tablecmds.c)."""
_COLUMNS = frozenset({"OBJECT_COLUMN", "OBJECT_ATTRIBUTE"})
_PARTING = frozenset({"AT_DetachPartition", "AT_DropInherit"})
_GIVEN = {"CreateTrigStmt": "a trigger", "RuleStmt": "a rule"}
NEW_NAME = "another name: masks go by names"


def renames(walk: Walk, kind: str, body: Node) -> None:
    """Note every column that the statement takes from its name as a sink of its values."""
    if what := _untold(kind, body):
        walk.sink(what, Value(frozenset(), False, True, False))
    for relation, column in _taken(walk, kind, body):
        shape = walk.shape(relation)
        for name, value in zip(shape.names, shape.values, strict=True):
            if column is None or name == column:
                walk.sink(_GIVEN.get(kind, NEW_NAME), Value(value.origins, False, False, value.system))


def _untold(kind: str, body: Node) -> str:
    """What is given values that analysis cannot name, or ``""``."""
    if kind == "AlterExtensionContentsStmt" or kind == "AlterObjectSchemaStmt" and body.get("objectType") == "OBJECT_EXTENSION":
        return NEW_NAME
    if kind == "RenameStmt" and body.get("renameType") == "OBJECT_ATTRIBUTE" and body.get("behavior") == "DROP_CASCADE":
        return NEW_NAME
    if kind == "AlterFunctionStmt" and any(entry["DefElem"]["defname"] == "volatility" for entry in body.get("actions", ())):
        return "a function of another volatility"
    return ""


def _taken(walk: Walk, kind: str, body: Node) -> Iterator[tuple[Relation, str | None]]:
    """Relations and their column, ``None`` for all of them."""
    if kind == "AlterTableStmt":
        yield from _parted(walk, body)
    if kind in _GIVEN and (given := _named(walk, body["relation"])) is not None:
        yield given, None
    what = body.get("renameType") if kind == "RenameStmt" else body.get("objectType") if kind == "AlterObjectSchemaStmt" else None
    if what == "OBJECT_SCHEMA":
        yield from ((relation, None) for relation in walk.catalog.user.relations if relation.schema == body.get("subname"))
    elif what in _RELATIONS | _COLUMNS and "relation" in body:
        found = _named(walk, body["relation"])
        if found is not None:
            yield found, str(body["subname"]) if what in _COLUMNS else None


def _parted(walk: Walk, body: Node) -> Iterator[tuple[Relation, str | None]]:
    for entry in body.get("cmds", ()):
        command = entry["AlterTableCmd"]
        subtype = command.get("subtype")
        if subtype == "AT_DropExpression":
            yield from ((found, str(command["name"])) for found in (_named(walk, body["relation"]),) if found is not None)
        elif subtype in _PARTING:
            child = command["def"]["PartitionCmd"]["name"] if subtype == "AT_DetachPartition" else body["relation"]
            yield from ((found, None) for found in (_named(walk, child),) if found is not None)


def _named(walk: Walk, node: Node) -> Relation | None:
    return walk.find_relation(node["relname"], node.get("schemaname"))
