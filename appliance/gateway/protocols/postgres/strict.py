# SPDX-License-Identifier: Apache-2.0
"""Strict masks: what a statement does with a column besides returning it as it is.

The statement is analysed a second time without the plain columns of its result, and, where lookups are allowed, without those
conditions of its WHERE that compare a column with a parameter for equality. Every column that is then still read is *used*: in a
condition, a join, an order, a grouping, a function, a cast, a sub-query. So is a column of the result that DISTINCT, GROUP BY, ORDER BY or
a set operation without ALL looks at by its name or place. What cannot be analysed like that uses everything it reads. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gateway.protocols.postgres.catalog.model import Catalog
from gateway.protocols.postgres.sql.analyze import one
from gateway.protocols.postgres.sql.draft import job_of
from gateway.protocols.postgres.sql.knowledge import knowledge_of
from gateway.protocols.postgres.sql.lineage import shape_of
from gateway.protocols.postgres.sql.parse import DEFAULT_LIMIT, Node, Offsets, Parsed, parse
from gateway.protocols.postgres.sql.walk import Names
from gateway.protocols.postgres.statement import ColumnId, Context, Output, SqlFault, Statement

NOTHING: frozenset[ColumnId] = frozenset()
_NULL: Node = {"A_Const": {"isnull": True}}
_TRUE: Node = {"A_Const": {"boolval": {"boolval": True}}}
_PLAIN = frozenset({"targetList", "fromClause", "whereClause", "limitOption", "limitCount", "limitOffset", "op", "withClause"})


class Uses:
    """The uses in the statements of one text."""

    def __init__(self, text: str, context: Context, catalog: Catalog, statements: Sequence[Statement], limit: int = DEFAULT_LIMIT,
                 answer: bytes | None = None) -> None:
        self._text, self._context, self._catalog, self._statements, self._limit = text, context, catalog, statements, limit
        self._answer = answer           # the parser's of this text, where it is there already
        self._known: dict[tuple[int, bool], frozenset[ColumnId]] = {}

    def of(self, statement: Statement, *, lookups: bool) -> frozenset[ColumnId]:
        """The columns that a statement of this text uses; with ``lookups`` not those that are only looked up."""
        index = next(i for i, entry in enumerate(self._statements) if entry is statement)
        key = (index, lookups)
        if key not in self._known:
            self._known[key] = self._used(index, lookups)
        return self._known[key]

    def _used(self, index: int, lookups: bool) -> frozenset[ColumnId]:
        statement = self._statements[index]
        if any(entry.changes_context or entry.changes_catalog for entry in self._statements[:index]):
            return statement.reads
        try:
            return self._again(self._text, index, statement, lookups, self._answer)
        except (SqlFault, RecursionError, KeyError, ValueError, TypeError, IndexError, AttributeError):
            return statement.reads

    def _again(self, text: str, index: int, statement: Statement, lookups: bool, answer: bytes | None = None) -> frozenset[ColumnId]:
        parsed, data = parse(text, self._limit, answer)         # a tree of its own: it is taken apart
        entry = parsed[index]
        if entry.kind == "FetchStmt":
            return NOTHING      # the cursor's query was looked at when it was declared
        if entry.kind == "ExecuteStmt":
            name = entry.body["name"]
            here = [entry.inner_text for entry in self._statements[:index] if entry.prepares == name]
            text = here[-1] if here else self._context.prepared[name]
            return self._again(text, 0, statement, lookups) | self._arguments(entry, statement)
        if entry.kind == "CopyStmt" and "relation" in entry.body and "whereClause" not in entry.body:
            return NOTHING
        positions = frozenset().union(*_stripped({entry.kind: entry.body}, statement, lookups), NOTHING)
        names = Names(self._context.path, self._context.temp_schema, self._context.user)
        job = job_of(text, Offsets(data), knowledge_of(self._catalog, shape_of), names, self._context, entry)
        return one(job).reads | positions

    def _arguments(self, entry: Parsed, statement: Statement) -> frozenset[ColumnId]:
        """EXECUTE's arguments are expressions without columns; one with a sub-query reads what it likes."""
        return statement.reads if any("SubLink" in kind for kind in _kinds(entry.body.get("params", ()))) else NOTHING


def _kinds(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from node
        for value in node.values():
            yield from _kinds(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _kinds(value)


def _stripped(node: Node, statement: Statement, lookups: bool) -> Iterator[frozenset[ColumnId]]:
    """Take the plain columns, and the lookups, out of a statement's tree; gives what is used by name or place in the result."""
    ((kind, body),) = node.items()
    if "query" in body and kind in ("ExplainStmt", "PrepareStmt", "DeclareCursorStmt", "CopyStmt"):
        yield from _stripped(body["query"], statement.inner or statement, lookups)
        return
    if lookups and "whereClause" in body:
        body["whereClause"] = _without_lookups(body["whereClause"])
    if kind == "SelectStmt" and "intoClause" not in body:
        yield from _select(body, statement.columns or (), lookups)
    elif kind == "InsertStmt" and "selectStmt" in body:
        source = body["selectStmt"]["SelectStmt"]
        if source.keys() <= _PLAIN:
            _blank(source.get("targetList", ()))
    clause = body.get("returningClause")
    if kind in ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt") and clause:
        _blank(clause.get("exprs", ()))


def _select(body: Node, outputs: Sequence[Output], lookups: bool) -> Iterator[frozenset[ColumnId]]:
    every = frozenset().union(*(output.flow.origins for output in outputs), NOTHING)
    yield from _by_output(body, outputs, every)
    if "larg" in body:
        if not body.get("all") or body.get("op") != "SETOP_UNION":
            yield every
        for arm in (body["larg"], body["rarg"]):
            if lookups and "whereClause" in arm:
                arm["whereClause"] = _without_lookups(arm["whereClause"])
            yield from _select(arm, outputs, lookups)
        return
    _blank(body.get("targetList", ()))


def _by_output(body: Node, outputs: Sequence[Output], every: frozenset[ColumnId]) -> Iterator[frozenset[ColumnId]]:
    """What DISTINCT, GROUP BY and ORDER BY look at by the name or the place of a result column."""
    nodes = [entry["SortBy"]["node"] for entry in body.get("sortClause", ())]
    nodes += _groups(body.get("groupClause", ()))
    for entry in body.get("distinctClause", ()):
        if not entry:
            yield every
        else:
            nodes.append(entry)
    for node in nodes:
        if "A_Const" in node:
            place = node["A_Const"].get("ival", {}).get("ival", 0)
            yield outputs[place - 1].flow.origins if 0 < place <= len(outputs) else every
        elif "ColumnRef" in node and len(node["ColumnRef"]["fields"]) == 1:
            name = node["ColumnRef"]["fields"][0].get("String", {}).get("sval")
            for output in outputs:
                if output.name == name:
                    yield output.flow.origins


def _groups(nodes: Sequence[Node]) -> list[Node]:
    found: list[Node] = []
    for node in nodes:
        if "GroupingSet" in node:
            found += _groups(node["GroupingSet"].get("content", ()))
        elif "RowExpr" in node:
            found += _groups(node["RowExpr"].get("args", ()))
        else:
            found.append(node)
    return found


def _blank(targets: Sequence[Node]) -> None:
    """Constants in place of plain columns."""
    for entry in targets:
        target = entry["ResTarget"]
        if "ColumnRef" in target["val"]:
            target["val"] = _NULL


def _without_lookups(condition: Node) -> Node:
    if "BoolExpr" in condition and condition["BoolExpr"].get("boolop") == "AND_EXPR":
        body = condition["BoolExpr"]
        return {"BoolExpr": {**body, "args": [_without_lookups(part) for part in body["args"]]}}
    return _TRUE if _is_lookup(condition) else condition


def _is_lookup(condition: Node) -> bool:
    """``column = $1``, the parameter perhaps with a cast, either way round."""
    body = condition.get("A_Expr", {})
    if body.get("kind", "AEXPR_OP") != "AEXPR_OP" or [part.get("String", {}).get("sval") for part in body.get("name", ())] != ["="]:
        return False
    sides = [body.get("lexpr", {}), body.get("rexpr", {})]
    return any("ColumnRef" in one and "A_Star" not in one["ColumnRef"]["fields"][-1] and _is_parameter(other)
               for one, other in (sides, sides[::-1]))


def _is_parameter(node: Node) -> bool:
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    return "ParamRef" in node
