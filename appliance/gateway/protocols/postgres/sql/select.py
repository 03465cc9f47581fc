# SPDX-License-Identifier: Apache-2.0
"""Queries: SELECT, VALUES, set operations, WITH, and sub-queries in expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.protocols.postgres.sql.calls import array_type, operate
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.expressions import (
    expanded,
    expression,
    handles,
    item_columns,
    star_columns,
)
from gateway.protocols.postgres.sql.functions import sort_operator, window
from gateway.protocols.postgres.sql.naming import column_name
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.scope import Scope
from gateway.protocols.postgres.sql.values import BOOL, NO_ORIGINS, RECORD, TEXT, UNKNOWN, Value, combine, union_type
from gateway.protocols.postgres.sql.walk import Walk, split_name
from gateway.protocols.postgres.statement import SqlFault

MAX_PASSES = 64
MAX_COLUMNS = 1664


@dataclass(slots=True)
class Columns:
    """The result columns of a query."""

    names: list[str]
    values: list[Value]


@dataclass(slots=True)
class Cte:
    """A WITH query. ``columns`` is what is known so far: while a recursive one is ``working``, its first term's columns."""

    name: str
    body: Node
    scope: Scope
    recursive: bool
    columns: Columns | None = None
    working: bool = False


ModifyingQuery = Callable[[Walk, str, Node, Scope], Columns]
MODIFYING: dict[str, ModifyingQuery] = {}
"""InsertStmt, UpdateStmt, DeleteStmt and MergeStmt in WITH: filled by ``dml``."""


def query(walk: Walk, body: Node, outer: Scope | None) -> Columns:
    """The columns of a SelectStmt. Raises ``SqlFault``."""
    walk.step()
    if "withClause" in body:
        outer = with_scope(walk, body["withClause"], outer)
    if body.get("lockingClause") or "intoClause" in body:
        walk.early = False
    if "larg" in body:
        return _set_operation(walk, body, outer)
    if "valuesLists" in body:
        return _values(walk, body, outer)
    return _simple(walk, body, outer)


def _simple(walk: Walk, body: Node, outer: Scope | None) -> Columns:
    from gateway.protocols.postgres.sql.tables import from_clause

    scope = Scope(outer)
    outside, walk.condition = walk.condition, None
    if "fromClause" in body:
        from_clause(walk, body["fromClause"], scope)
    walk.condition = body.get("whereClause")
    columns = _unseen(walk, body, scope) if walk.unseen is body else targets(walk, body.get("targetList", ()), scope)
    walk.condition = None
    if "whereClause" in body:
        expression(walk, body["whereClause"], scope)
    if not body.keys() <= _PLAIN:
        _clauses(walk, body, scope, columns)
    walk.condition = outside
    return columns


_PLAIN = frozenset({"targetList", "fromClause", "whereClause", "limitOption", "op", "withClause"})


def _unseen(walk: Walk, body: Node, scope: Scope) -> Columns:
    """The target list of EXISTS, made of columns and constants: they are named, but show in nothing."""
    before, walk.reads = walk.reads, set()
    columns = targets(walk, body.get("targetList", ()), scope)
    walk.named |= walk.reads
    walk.reads = before
    return columns


def targets(walk: Walk, nodes: Sequence[Node], scope: Scope, *, keep_unknown: bool = False) -> Columns:
    """A target list or RETURNING list, stars expanded."""
    names: list[str] = []
    values: list[Value] = []
    for node in nodes:
        target = node["ResTarget"]
        found = _star(walk, target["val"], scope)
        if found is None:
            value = expression(walk, target["val"], scope)
            if value.type == UNKNOWN and not keep_unknown:
                value = value.as_type(TEXT)
            names.append(target["name"] if "name" in target else column_name(target["val"]))
            values.append(value)
        else:
            names.extend(name for name, _ in found)
            values.extend(value for _, value in found)
        if len(names) > MAX_COLUMNS:
            raise SqlFault("54011", f"target lists can have at most {MAX_COLUMNS} entries")
    return Columns(names, values)


def _star(walk: Walk, node: Node, scope: Scope) -> list[tuple[str, Value]] | None:
    if "ColumnRef" in node and len(node["ColumnRef"]["fields"]) == 1 and "A_Star" in node["ColumnRef"]["fields"][0]:
        for item in scope.items:
            walk.mark_target(item, node["ColumnRef"])
        return [column for item in scope.items if item.open_columns for column in item_columns(walk, item)]
    return star_columns(walk, node, scope)


def _clauses(walk: Walk, body: Node, scope: Scope, columns: Columns) -> None:
    group_by(walk, body.get("groupClause", ()), scope, columns)
    if "havingClause" in body:
        expression(walk, body["havingClause"], scope)
    for entry in body.get("windowClause", ()):
        window(walk, entry["WindowDef"], scope)
    _by_output(walk, body.get("distinctClause", ()), scope, columns)
    order_by(walk, body, scope, columns)


def order_by(walk: Walk, body: Node, scope: Scope, columns: Columns) -> None:
    """ORDER BY, LIMIT and OFFSET."""
    for entry in body.get("sortClause", ()):
        _by_output(walk, (entry["SortBy"]["node"],), scope, columns)
        if "useOp" in entry["SortBy"]:
            sort_operator(walk, entry["SortBy"], scope)
    for key in ("limitOffset", "limitCount"):
        if key in body:
            expression(walk, body[key], scope)


def _by_output(walk: Walk, nodes: Sequence[Node], scope: Scope, columns: Columns) -> None:
    """ORDER BY and DISTINCT ON take a result column's name or number before anything else."""
    for node in nodes:
        name = _bare_name(node)
        if node and "A_Const" not in node and not (name is not None and name in columns.names):
            expression(walk, node, scope)


def group_by(walk: Walk, nodes: Sequence[Node], scope: Scope, columns: Columns) -> None:
    """GROUP BY takes an input column before a result column."""
    for node in nodes:
        if "GroupingSet" in node:
            group_by(walk, node["GroupingSet"].get("content", ()), scope, columns)
            continue
        name = _bare_name(node)
        if "A_Const" in node or (name is not None and name in columns.names and scope.column(name) is None):
            continue
        if "RowExpr" in node:
            group_by(walk, node["RowExpr"].get("args", ()), scope, columns)
        else:
            expression(walk, node, scope)


def _bare_name(node: Node) -> str | None:
    fields: list[Node] = node["ColumnRef"]["fields"] if "ColumnRef" in node else []
    return fields[0]["String"]["sval"] if len(fields) == 1 and "String" in fields[0] else None


def _values(walk: Walk, body: Node, outer: Scope | None) -> Columns:
    scope = Scope(outer)
    rows = [expanded(walk, entry["List"]["items"], scope) for entry in body["valuesLists"]]
    width = len(rows[0])
    if any(len(found) != width for found in rows):
        raise SqlFault("42601", "VALUES lists must all be the same length")
    columns = Columns([f"column{number}" for number in range(1, width + 1)], [])
    for place in range(width):
        cells = [found[place] for found in rows]
        columns.values.append(combine(cells, union_type(cells)))
    order_by(walk, body, Scope(outer), columns)
    return columns


def value_rows(walk: Walk, body: Node, outer: Scope | None) -> list[list[Value]] | None:
    """The rows of a bare VALUES of an INSERT, ``None`` for any other query."""
    if "valuesLists" not in body or "withClause" in body:
        return None
    return [expanded(walk, entry["List"]["items"], Scope(outer)) for entry in body["valuesLists"]]


def _set_operation(walk: Walk, body: Node, outer: Scope | None) -> Columns:
    left = query(walk, body["larg"], outer)
    right = query(walk, body["rarg"], outer)
    columns = merged(left, right)
    order_by(walk, body, Scope(outer), columns)
    return columns


def merged(left: Columns, right: Columns) -> Columns:
    """The columns of a set operation: names of the left, values of both. Raises ``SqlFault`` 42601."""
    if len(left.values) != len(right.values):
        raise SqlFault("42601", "each set operation query must have the same number of columns")
    pairs = zip(left.values, right.values, strict=True)
    return Columns(left.names, [combine(pair, union_type(pair)) for pair in pairs])


# WITH


def with_scope(walk: Walk, body: Node, outer: Scope | None) -> Scope:
    """The level that a WITH clause adds. Every WITH query is analysed, named or not: the target does so too."""
    ctes: dict[str, Cte] = {}
    scope = Scope(outer, ctes=ctes)
    recursive = bool(body.get("recursive"))
    for entry in body["ctes"]:
        node = entry["CommonTableExpr"]
        if node["ctename"] in ctes:
            raise SqlFault("42712", f'WITH query name "{node["ctename"]}" specified more than once')
        inside = scope if recursive else Scope(outer, ctes=dict(ctes))
        ctes[node["ctename"]] = Cte(node["ctename"], node, inside, recursive)
        if not recursive:
            cte_columns(walk, ctes[node["ctename"]])
    for cte in ctes.values():
        cte_columns(walk, cte)
    return scope


def cte_columns(walk: Walk, cte: Cte) -> Columns:
    """The columns of a WITH query; inside its own recursive term those known so far. Raises ``SqlFault`` 42P19."""
    if cte.columns is not None:
        return cte.columns
    if cte.working:
        raise SqlFault("42P19", f'recursive reference to query "{cte.name}" is not supported here')
    cte.working = True
    ((kind, body),) = cte.body["ctequery"].items()
    if kind != "SelectStmt":
        walk.early = False
        columns = MODIFYING[kind](walk, kind, body, cte.scope)
    elif cte.recursive and "larg" in body:
        columns = _recursive(walk, cte, body)
    else:
        columns = query(walk, body, cte.scope)
    cte.columns = _with_extra(cte, _aliased(cte, columns))
    cte.working = False
    return cte.columns


def _recursive(walk: Walk, cte: Cte, body: Node) -> Columns:
    """A recursive union: passes over the recursive term until no column carries more than before."""
    outer: Scope | None = cte.scope
    if "withClause" in body:
        outer = with_scope(walk, body["withClause"], outer)
    first = query(walk, body["larg"], outer)
    known = first
    for _ in range(MAX_PASSES):
        cte.columns = _with_extra(cte, _aliased(cte, known))
        following = merged(known, query(walk, body["rarg"], outer))
        if all(_same(a, b) for a, b in zip(known.values, following.values, strict=True)):
            break
        known = following
    else:
        walk.uncertain(f"the recursion of {cte.name} did not settle")
        following = Columns(known.names, [Value(v.origins, False, True, False, v.type) for v in known.values])
    cte.columns = None
    return following


def _same(one: Value, other: Value) -> bool:
    return one.origins == other.origins and one.unknown == other.unknown and one.system == other.system


def _aliased(cte: Cte, columns: Columns) -> Columns:
    new = [entry["String"]["sval"] for entry in cte.body.get("aliascolnames", ())]
    if len(new) > len(columns.names):
        raise SqlFault("42P10", f'WITH query "{cte.name}" has fewer columns than its alias names')
    return Columns([*new, *columns.names[len(new) :]], columns.values)


def _with_extra(cte: Cte, columns: Columns) -> Columns:
    """The columns that SEARCH and CYCLE add."""
    search, cycle = cte.body.get("search_clause"), cte.body.get("cycle_clause")
    if not search and not cycle:
        return columns
    names, values = list(columns.names), list(columns.values)
    every = combine(columns.values, 0)
    if search:
        names.append(search["search_seq_column"])
        values.append(every)
    if cycle:
        names += [cycle["cycle_mark_column"], cycle["cycle_path_column"]]
        values += [every.derived(0), every]
    return Columns(names, values)


# sub-queries in expressions


@handles("SubLink")
def _sublink(walk: Walk, body: Node, scope: Scope) -> Value:
    kind = body.get("subLinkType", "EXISTS_SUBLINK")
    if kind == "EXISTS_SUBLINK":
        return _exists(walk, body, scope)
    test = expression(walk, body["testexpr"], scope) if "testexpr" in body else None
    columns = query(walk, body["subselect"]["SelectStmt"], scope)
    if kind in ("ANY_SUBLINK", "ALL_SUBLINK") and test is not None:
        return _quantified(walk, body, test, columns)
    if kind not in ("EXPR_SUBLINK", "ARRAY_SUBLINK"):
        raise SqlFault("0A000", f"{kind} is not supported")
    if not columns.values:
        raise SqlFault("42601", "subquery must return only one column")
    first = columns.values[0]
    if kind == "ARRAY_SUBLINK":
        return combine(columns.values, array_type(walk, first.type))
    if len(columns.values) > 1:
        return Value(*_carried(columns.values), type=RECORD, fields=tuple(zip(columns.names, columns.values, strict=True)))
    return Value(first.origins, False, first.unknown, first.system, first.type, first.fields, first.literals)


def _carried(values: Sequence[Value]) -> tuple[frozenset[tuple[str, str, str]], bool, bool, bool]:
    whole = combine(values)
    return whole.origins, False, whole.unknown, whole.system


def _exists(walk: Walk, body: Node, scope: Scope) -> Value:
    """EXISTS shows nothing but whether its conditions held: what they read counts as carried."""
    before, walk.reads = walk.reads, set()
    select = body["subselect"]["SelectStmt"]
    if all(next(iter(entry["ResTarget"]["val"])) in ("A_Const", "ColumnRef") for entry in select.get("targetList", ())):
        walk.unseen = select
    query(walk, select, scope)
    found, walk.reads = walk.reads, before
    walk.reads |= found
    system = all(schema in ("pg_catalog", "information_schema") for schema, _, _ in found)
    return Value(frozenset(found) if found else NO_ORIGINS, False, False, system, BOOL)


def _quantified(walk: Walk, body: Node, test: Value, columns: Columns) -> Value:
    schema, name = split_name(body["operName"], "") if "operName" in body else (None, "=")
    left = [value for _, value in test.fields] if test.fields is not None and test.type == RECORD else [test]
    if len(left) != len(columns.values):
        raise SqlFault("42601", "subquery has another number of columns")
    pairs = zip(left, columns.values, strict=True)
    return combine([operate(walk, schema, name, one, other, predicate=True) for one, other in pairs], BOOL)


PURE: dict[str, Any] = {
    "_unseen": _unseen, "_star": _star, "column_name": column_name, "group_by": group_by, "MODIFYING": MODIFYING,
    "_recursive": _recursive, "_aliased": _aliased, "_with_extra": _with_extra, "_quantified": _quantified,
}  # fmt: skip

if fast is not None and not TYPE_CHECKING:
    Columns, Cte = fast.Columns, fast.Cte
    query, _simple, targets, order_by = fast.query, fast.simple, fast.targets, fast.order_by
    merged, with_scope, cte_columns = fast.merged, fast.with_scope, fast.cte_columns
