# SPDX-License-Identifier: Apache-2.0
"""FROM: relations, sub-queries, functions, joins and table constructs as items of a scope (parse_clause.c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.protocols.postgres.catalog import FIRST_USER_OID, Function, Relation
from gateway.protocols.postgres.sql.calls import operate
from gateway.protocols.postgres.sql.casts import cast, type_named, user_code
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.constructs import need_version, parts
from gateway.protocols.postgres.sql.expressions import composite_fields, each, expression, row_columns
from gateway.protocols.postgres.sql.functions import function_call, result_name
from gateway.protocols.postgres.sql.knowledge import POLYMORPHIC
from gateway.protocols.postgres.sql.naming import column_name
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.scope import Item, Scope
from gateway.protocols.postgres.sql.select import cte_columns, query
from gateway.protocols.postgres.sql.values import RECORD, Value, combine, constant, union_type
from gateway.protocols.postgres.sql.walk import Walk, split_name
from gateway.protocols.postgres.statement import SqlFault

_READABLE = frozenset("rpvmfSt")


def from_clause(walk: Walk, nodes: Sequence[Node], scope: Scope) -> None:
    """Add the items of a FROM clause to the scope, in order. Raises ``SqlFault``."""
    for node in nodes:
        scope.items.extend(_entry(walk, node, scope)[1])


def _entry(walk: Walk, node: Node, scope: Scope) -> tuple[Item, list[Item]]:
    """(the entry's own item, every item it makes visible). ``scope`` holds what LATERAL entries may see."""
    ((kind, body),) = node.items()
    if kind == "JoinExpr":
        return _join(walk, body, scope)
    make = _ENTRIES.get(kind)
    if make is None:
        raise SqlFault("0A000", f"{kind} is not supported in FROM")
    item = make(walk, body, scope)
    return item, [item]


# relations and WITH queries


def _range_var(walk: Walk, body: Node, scope: Scope) -> Item:
    name, schema = body["relname"], body.get("schemaname")
    if schema is None:
        cte = scope.cte(name)
        if cte is not None:
            columns = cte_columns(walk, cte)
            item = Item(name, columns.names, columns.values)
            return item.renamed(body["alias"]) if "alias" in body else item
    item = relation_item(walk, walk.relation(name, schema, max(body.get("location", 0), 0)))
    walk.on_relation("select", item.relation) if item.relation else None
    return item.renamed(body["alias"]) if "alias" in body else item


def relation_item(walk: Walk, relation: Relation) -> Item:
    """A catalog relation as an item. Raises ``SqlFault`` 42809 for what cannot be read."""
    if relation.kind not in _READABLE:
        raise SqlFault("42809", f'"{relation.name}" is not a table')
    shape = walk.shape(relation)
    if not shape.early:
        walk.early = False
    if shape.code:
        walk.user_code = True
    for reason in shape.reasons:
        walk.uncertain(reason)
    return Item(relation.name, shape.names, shape.values, index=shape.index, relation=relation, row_type=shape.row_type)


def _sample(walk: Walk, body: Node, scope: Scope) -> Item:
    item = _range_var(walk, body["relation"]["RangeVar"], scope)
    schema, name = split_name(body["method"], walk.catalog.database)
    values = each(walk, body.get("args", ()), scope)
    if "repeatable" in body:
        values.append(expression(walk, body["repeatable"], scope))
    users = [f for f in walk.functions(name, schema) if f.oid >= FIRST_USER_OID]
    for function in users:
        user_code(walk, f"{function.schema}.{function.name}", combine(values))
    return item


# sub-queries, functions, table constructs


def _subselect(walk: Walk, body: Node, scope: Scope) -> Item:
    outer = scope if body.get("lateral") else scope.outer
    columns = query(walk, body["subquery"]["SelectStmt"], outer)
    item = Item(None, columns.names, columns.values)
    return item.renamed(body["alias"]) if "alias" in body else item


def _function(walk: Walk, body: Node, scope: Scope) -> Item:
    """RangeFunction: one function or ROWS FROM several; always LATERAL."""
    names: list[str] = []
    values: list[Value] = []
    entries = [one for entry in body["functions"] for one in _separately(entry["List"]["items"], body)]
    single = len(entries) == 1
    alias = body.get("alias", {}).get("aliasname")
    loose = None
    for entry in entries:
        definitions = entry[1].get("List", {}).get("items", ()) if len(entry) > 1 else ()
        if single and body.get("coldeflist"):
            definitions = body["coldeflist"]
        columns, shaped = _function_columns(walk, entry[0], definitions, scope, alias if single else None)
        if not shaped and not single:
            raise SqlFault("0A000", "the columns of a function in ROWS FROM cannot be known: cast its arguments")
        loose = None if shaped else columns[0][1]
        names += [name for name, _ in columns]
        values += [value for _, value in columns]
    if body.get("ordinality"):
        names.append("ordinality")
        values.append(constant(20))
    item = Item(alias or (column_name(entries[0][0]) if entries else None), names, values, any_column=loose)
    if single and len(names) == 1 and values[0].type:
        item.row_type = values[0].type
    return item.renamed(body["alias"]) if "alias" in body else item


def _function_columns(
    walk: Walk, node: Node, definitions: Sequence[Node], scope: Scope, alias: str | None
) -> tuple[list[tuple[str, Value]], bool]:
    """(columns, whether their number and names are certain) of one function in FROM."""
    if "FuncCall" in node:
        called = function_call(walk, node["FuncCall"], scope)
        value, functions = called.value, called.functions
    else:
        value, functions = expression(walk, node, scope), ()
    if definitions:
        return [_defined(walk, entry["ColumnDef"], value) for entry in definitions], True
    if value.fields is not None or composite_fields(walk, value) is not None:
        return row_columns(walk, value), True
    name = result_name(functions) or alias or column_name(node)
    return [(name, value)], value.type not in (0, RECORD) or _scalar(walk, functions)


def _scalar(walk: Walk, functions: Sequence[Function]) -> bool:
    """Whether every function that this could be gives one column, whatever its arguments are."""
    results = {function.result for function in functions}
    return bool(results) and not any(
        result in POLYMORPHIC or result == RECORD or composite_fields(walk, constant(result)) is not None for result in results)


def _separately(entry: Sequence[Node], body: Node) -> list[Sequence[Node]]:
    """``unnest(a, b, …)`` in FROM is one unnest for each (transformRangeFunction)."""
    call = entry[0].get("FuncCall", {})
    names, args = call.get("funcname", ()), call.get("args", ())
    if len(names) != 1 or names[0]["String"]["sval"] != "unnest" or len(args) < 2 or body.get("coldeflist"):
        return [entry]
    return [[{"FuncCall": {**call, "args": [arg]}}, *entry[1:]] for arg in args]


def _defined(walk: Walk, body: Node, value: Value) -> tuple[str, Value]:
    kind = type_named(walk, body["typeName"])
    return body["colname"], cast(walk, value, kind)


def _xml_table(walk: Walk, body: Node, scope: Scope) -> Item:
    inputs = [expression(walk, body[key], scope) for key in ("docexpr", "rowexpr") if key in body]
    inputs += [expression(walk, entry["ResTarget"]["val"], scope) for entry in body.get("namespaces", ())]
    names: list[str] = []
    values: list[Value] = []
    for entry in body.get("columns", ()):
        column = entry["RangeTableFuncCol"]
        own = [expression(walk, column[key], scope) for key in ("colexpr", "coldefexpr") if key in column]
        value = combine([*inputs, *own])
        names.append(column["colname"])
        values.append(cast(walk, value, type_named(walk, column["typeName"])) if "typeName" in column else constant(23))
    walk.compare(inputs)
    item = Item("xmltable", names, values)
    return item.renamed(body["alias"]) if "alias" in body else item


def _json_table(walk: Walk, body: Node, scope: Scope) -> Item:
    need_version(walk, "JsonTable")
    inputs = parts(walk, {key: value for key, value in body.items() if key not in ("columns", "alias")}, scope)
    walk.compare(inputs)
    columns = _json_columns(walk, body.get("columns", ()), combine(inputs), scope)
    item = Item("json_table", [name for name, _ in columns], [value for _, value in columns])
    return item.renamed(body["alias"]) if "alias" in body else item


def _json_columns(walk: Walk, nodes: Sequence[Node], source: Value, scope: Scope) -> list[tuple[str, Value]]:
    """A level's own columns, then those of its NESTED paths: the target's order."""
    found: list[tuple[str, Value]] = []
    nested: list[tuple[str, Value]] = []
    for entry in nodes:
        column = entry["JsonTableColumn"]
        inside = {key: value for key, value in column.items() if key not in ("columns", "typeName")}
        value = combine([source, *parts(walk, inside, scope)])
        if column.get("coltype") == "JTC_NESTED":
            nested += _json_columns(walk, column.get("columns", ()), source, scope)
        elif "typeName" in column:
            found.append((column["name"], cast(walk, value, type_named(walk, column["typeName"]))))
        else:
            found.append((column["name"], constant(23)))
    return found + nested


# joins


def _join(walk: Walk, body: Node, scope: Scope) -> tuple[Item, list[Item]]:
    left, left_items = _entry(walk, body["larg"], scope)
    right, right_items = _entry(walk, body["rarg"], Scope(scope.outer, [*scope.items, *left_items]))
    inside = [*left_items, *right_items]
    shared = _shared_names(body, left, right)
    kind = body.get("jointype", "JOIN_INNER")
    merged = [(name, _merge(walk, kind, left.column(name), right.column(name), name)) for name in shared]
    if "quals" in body:
        expression(walk, body["quals"], Scope(scope.outer, inside))
    item = _joined(merged, left, right, set(shared))
    if "alias" in body:
        item = item.renamed(body["alias"])
        visible = [item]
    else:
        for entry in inside:
            entry.open_columns = False
        visible = [*inside, item]
    if "join_using_alias" in body:
        using = Item(body["join_using_alias"]["aliasname"], [name for name, _ in merged], [value for _, value in merged])
        using.open_columns = False
        visible.append(using)
    return item, visible


def _shared_names(body: Node, left: Item, right: Item) -> list[str]:
    if body.get("isNatural"):
        if left.any_column is not None or right.any_column is not None:
            raise SqlFault("0A000", "the columns that a NATURAL JOIN shares cannot be known: name them with USING")
        return [name for name in left.names if name in right.index]
    return [entry["String"]["sval"] for entry in body.get("usingClause", ())]


def _merge(walk: Walk, kind: str, left: Value | None, right: Value | None, name: str) -> Value:
    """The merged column of USING: the left one's value, the right one's of a RIGHT JOIN, either of a FULL JOIN."""
    if left is None or right is None:
        raise SqlFault("42703", f'column "{name}" specified in USING clause does not exist')
    walk.read(left)
    walk.read(right)
    operate(walk, None, "=", left, right, predicate=True)
    both = combine([left, right], union_type((left, right)))
    chosen = right if kind == "JOIN_RIGHT" else left
    plain = chosen.plain and kind != "JOIN_FULL" and left.type == right.type
    return Value(both.origins, plain, both.unknown, both.system, both.type, None, both.literals)


def _joined(merged: Sequence[tuple[str, Value]], left: Item, right: Item, shared: set[str]) -> Item:
    columns = list(merged)
    for side in (left, right):
        columns += [(name, value) for name, value in zip(side.names, side.values, strict=True) if name not in shared]
    any_column = left.any_column or right.any_column
    item = Item(None, [name for name, _ in columns], [value for _, value in columns], any_column=any_column)
    item.named = False
    return item


_ENTRIES = {
    "RangeVar": _range_var,
    "RangeSubselect": _subselect,
    "RangeFunction": _function,
    "RangeTableFunc": _xml_table,
    "RangeTableSample": _sample,
    "JsonTable": _json_table,
}


PURE: dict[str, Any] = {"_entry": _entry, "_join": _join}

if fast is not None and not TYPE_CHECKING:
    from_clause, _entry, relation_item = fast.from_clause, fast.entry, fast.relation_item
