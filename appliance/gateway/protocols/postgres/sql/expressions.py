# SPDX-License-Identifier: Apache-2.0
"""Lineage of expressions: one handler per node kind, and nothing that is not listed is understood.

``HANDLERS`` is filled by this module, ``functions``, ``constructs`` and ``select``; a test holds it against every node kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gateway.protocols.postgres.sql.calls import array_type, call, element_type, operate
from gateway.protocols.postgres.sql.casts import cast, type_code, type_named
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.scope import Item, Scope
from gateway.protocols.postgres.sql.values import BOOL, INT4, RECORD, UNKNOWN, Value, combine, row, union_type
from gateway.protocols.postgres.sql.walk import MAX_STEPS, Walk, split_name, strings
from gateway.protocols.postgres.statement import SqlFault

Handler = Callable[[Walk, Node, Scope], Value]

HANDLERS: dict[str, Handler] = {}


def handles(*kinds: str) -> Callable[[Handler], Handler]:
    """Register a handler for node kinds."""

    def register(handler: Handler) -> Handler:
        for kind in kinds:
            HANDLERS[kind] = handler
        return handler

    return register


def expression(walk: Walk, node: Node, scope: Scope) -> Value:
    """The lineage of an expression node. Raises ``SqlFault``; 0A000 for a kind that is not understood."""
    walk.steps += 1
    if walk.steps > MAX_STEPS:
        walk.step()
    for kind, body in node.items():
        handler = HANDLERS.get(kind)
        if handler is None:
            raise SqlFault("0A000", f"{kind} is not supported here")
        return handler(walk, body, scope)
    return Value()


def each(walk: Walk, nodes: Sequence[Node], scope: Scope) -> list[Value]:
    return [expression(walk, node, scope) for node in nodes]


# constants and parameters


@handles("A_Const")
def _constant(walk: Walk, body: Node, scope: Scope) -> Value:
    location = body.get("location", 0)
    literals = (location + 1,) if location >= 0 and not walk.quiet else ()
    if "sval" in body or "isnull" in body:
        kind = UNKNOWN
        literals = () if "isnull" in body else literals
    elif "ival" in body:
        kind = INT4
    elif "boolval" in body:
        kind = BOOL
    else:
        kind = 1560 if "bsval" in body else _numeric_type(body["fval"]["fval"])
    return Value(type=kind, literals=literals)


def _numeric_type(digits: str) -> int:
    if not digits.isdecimal():
        return 1700
    return 20 if len(digits) < 19 or int(digits) < 2**63 else 1700


@handles("ParamRef")
def _parameter(walk: Walk, body: Node, scope: Scope) -> Value:
    number = body.get("number", 0)
    types = walk.context.parameter_types
    kind = types[number - 1] if 0 < number <= len(types) and types[number - 1] else UNKNOWN
    return Value(type=kind, literals=(-number,) if number > 0 and not walk.quiet else ())


@handles("SQLValueFunction")
def _value_function(walk: Walk, body: Node, scope: Scope) -> Value:
    kind = body.get("op", "")
    if kind == "SVFOP_SYSTEM_USER" and walk.version < 160000:
        raise SqlFault("0A000", "SYSTEM_USER is a column name on this server; quote it")
    return Value(type=_VALUE_FUNCTIONS.get(kind, 0))


_VALUE_FUNCTIONS = {
    "SVFOP_CURRENT_DATE": 1082, "SVFOP_CURRENT_TIME": 1266, "SVFOP_CURRENT_TIME_N": 1266,
    "SVFOP_CURRENT_TIMESTAMP": 1184, "SVFOP_CURRENT_TIMESTAMP_N": 1184, "SVFOP_LOCALTIME": 1083, "SVFOP_LOCALTIME_N": 1083,
    "SVFOP_LOCALTIMESTAMP": 1114, "SVFOP_LOCALTIMESTAMP_N": 1114, "SVFOP_CURRENT_ROLE": 19, "SVFOP_CURRENT_USER": 19,
    "SVFOP_USER": 19, "SVFOP_SESSION_USER": 19, "SVFOP_CURRENT_CATALOG": 19, "SVFOP_CURRENT_SCHEMA": 19, "SVFOP_SYSTEM_USER": 25,
}  # fmt: skip


@handles("SetToDefault")
def _default(walk: Walk, body: Node, scope: Scope) -> Value:
    return Value(type=UNKNOWN)


@handles("MergeSupportFunc")
def _merge_action(walk: Walk, body: Node, scope: Scope) -> Value:
    if walk.version < 170000:
        raise SqlFault("0A000", "merge_action() is not supported by this server")
    return Value(type=25)


# columns


@handles("ColumnRef")
def _column(walk: Walk, body: Node, scope: Scope) -> Value:
    fields = body["fields"]
    if len(fields) == 1 and "String" in fields[0]:
        name = fields[0]["String"]["sval"]
        found = scope.column(name, body.get("location", 0) + 1)
        if found is not None:
            if found[1].target:
                walk.target_refs.add(id(body))
            return walk.read(found[0])
        item = scope.item(name)
        if item is None:
            raise SqlFault("42703", f'column "{name}" does not exist', body.get("location", 0) + 1)
        return whole_row(walk, item, body)
    item = named_item(walk, fields[:-1], scope, body)
    if "A_Star" in fields[-1]:
        return whole_row(walk, item, body)
    walk.mark_target(item, body)
    name = fields[-1]["String"]["sval"]
    value = item.column(name)
    return walk.read(value) if value is not None else attribute(walk, whole_row(walk, item, body), name, body)


def named_item(walk: Walk, fields: Sequence[Node], scope: Scope, body: Node) -> Item:
    """The FROM item that a qualifier names. Raises ``SqlFault`` 42P01."""
    parts = strings(fields)
    item = None
    if len(parts) == 1:
        item = scope.item(parts[0])
    else:
        schema, name = split_name(fields, walk.catalog.database)
        relation = walk.find_relation(name, schema)
        item = scope.relation_item(relation) if relation else None
    if item is None:
        raise SqlFault("42P01", f'missing FROM-clause entry for table "{parts[-1]}"', body.get("location", 0) + 1)
    return item


def whole_row(walk: Walk, item: Item, body: Node) -> Value:
    walk.mark_target(item, body)
    walk.early = walk.early and item.row_type == RECORD
    return walk.read(item.whole())


def attribute(walk: Walk, value: Value, name: str, body: Node) -> Value:
    """``value.name``: a field of a row value, or a function of one argument in attribute notation (manual 8.16.3)."""
    own = value.field(name)
    if own is not None:
        return own.derived(own.type)
    shape = composite_fields(walk, value)
    if shape is not None and name in shape:
        return value.derived(shape[name])
    called = call(walk, None, name, [value])
    if called is not None:
        return called.value
    if shape is not None or value.fields is not None:
        qualifiers = strings(body.get("fields", ())[:-1])
        what = f"column {'.'.join([*qualifiers, name])} does not exist" if qualifiers else f'column "{name}" not found in data type'
        raise SqlFault("42703", what, body["location"] + 1 if body.get("location", -1) >= 0 else 0)
    return value.derived()


def composite_fields(walk: Walk, value: Value) -> dict[str, int] | None:
    """Names and types of the fields of a value's composite type, where it is known to have one."""
    entry = walk.catalog.type_by_oid(value.type) if value.type else None
    while entry is not None and entry.kind == "d" and entry.base:
        entry = walk.catalog.type_by_oid(entry.base)
    if entry is None or not entry.relation_oid:
        return None
    relation = walk.catalog.relation_by_oid(entry.relation_oid)
    return {column.name: column.type_oid for column in relation.columns} if relation else None


@handles("A_Indirection")
def _indirection(walk: Walk, body: Node, scope: Scope) -> Value:
    value = expression(walk, body["arg"], scope)
    for step in body["indirection"]:
        value = indirect(walk, value, step, scope)
    return value


def indirect(walk: Walk, value: Value, step: Node, scope: Scope) -> Value:
    """One ``.field`` or ``[subscript]`` of a value."""
    if "String" in step:
        return attribute(walk, value, step["String"]["sval"], {})
    if "A_Star" in step:
        return value
    indices = step["A_Indices"]
    subscripts = [expression(walk, indices[key], scope) for key in ("lidx", "uidx") if key in indices]
    kind = value.type if indices.get("is_slice") else element_type(walk, value.type)
    found = combine([value, *subscripts], kind)
    entry = walk.catalog.type_by_oid(value.type) if value.type else None
    return found if entry is None else type_code(walk, entry, found)


# operators


@handles("A_Expr")
def _operator(walk: Walk, body: Node, scope: Scope) -> Value:
    kind = body.get("kind", "AEXPR_OP")
    handler = _OPERATORS.get(kind)
    if handler is None:
        raise SqlFault("0A000", f"{kind} is not supported")
    return handler(walk, body, scope)


def _binary(walk: Walk, body: Node, scope: Scope) -> Value:
    left = expression(walk, body["lexpr"], scope) if "lexpr" in body else None
    right = expression(walk, body["rexpr"], scope)
    schema, name = split_name(body["name"], "")
    return _rowwise(walk, schema, name, left, right)


def _rowwise(walk: Walk, schema: str | None, name: str, left: Value | None, right: Value, *, predicate: bool = False) -> Value:
    if left is not None and left.fields is not None and right.fields is not None and left.type == right.type == RECORD:
        pairs = zip(left.fields, right.fields, strict=False)
        found = [operate(walk, schema, name, one, other, predicate=predicate) for (_, one), (_, other) in pairs]
        return combine(found, BOOL) if found else Value(type=BOOL)
    return operate(walk, schema, name, left, right, predicate=predicate)


def _array_operator(walk: Walk, body: Node, scope: Scope) -> Value:
    left = expression(walk, body["lexpr"], scope)
    right = expression(walk, body["rexpr"], scope)
    schema, name = split_name(body["name"], "")
    return operate(walk, schema, name, left, right.as_type(element_type(walk, right.type)), predicate=True)


def _in(walk: Walk, body: Node, scope: Scope) -> Value:
    left = expression(walk, body["lexpr"], scope)
    schema, name = split_name(body["name"], "")
    items = each(walk, body["rexpr"]["List"]["items"], scope)
    found = _rowwise(walk, schema, name, left, items[0], predicate=True)
    if len(items) == 1:
        return found
    if left.fields is None:
        walk.compare([left, *items])
    if left.fields is not None or name in walk.knowledge.user_operators:
        found = combine([found, *(_rowwise(walk, schema, name, left, item, predicate=True) for item in items[1:])])
    return combine([found, *items], BOOL).derived(BOOL, keep_literals=False)


def _between(walk: Walk, body: Node, scope: Scope) -> Value:
    value = expression(walk, body["lexpr"], scope)
    low, high = each(walk, body["rexpr"]["List"]["items"], scope)
    names = ("<", ">") if "NOT_" in body["kind"] else (">=", "<=")
    pairs = [(names[0], low), (names[1], high)]
    if body["kind"].endswith("_SYM"):
        pairs += [(names[0], high), (names[1], low)]
    return combine([_rowwise(walk, None, name, value, bound, predicate=True) for name, bound in pairs], BOOL)


def _comparison(walk: Walk, body: Node, scope: Scope) -> Value:
    left, right = expression(walk, body["lexpr"], scope), expression(walk, body["rexpr"], scope)
    schema, name = split_name(body["name"], "")
    return _rowwise(walk, schema, name, left, right, predicate=True)


def _nullif(walk: Walk, body: Node, scope: Scope) -> Value:
    left, right = expression(walk, body["lexpr"], scope), expression(walk, body["rexpr"], scope)
    compared = operate(walk, None, "=", left, right, predicate=True)
    return combine([left, compared], left.type)


_OPERATORS: dict[str, Handler] = {
    "AEXPR_OP": _binary,
    "AEXPR_OP_ANY": _array_operator,
    "AEXPR_OP_ALL": _array_operator,
    "AEXPR_DISTINCT": _comparison,
    "AEXPR_NOT_DISTINCT": _comparison,
    "AEXPR_NULLIF": _nullif,
    "AEXPR_IN": _in,
    "AEXPR_LIKE": _comparison,
    "AEXPR_ILIKE": _comparison,
    "AEXPR_SIMILAR": _comparison,
    "AEXPR_BETWEEN": _between,
    "AEXPR_NOT_BETWEEN": _between,
    "AEXPR_BETWEEN_SYM": _between,
    "AEXPR_NOT_BETWEEN_SYM": _between,
}


# conditions and combinations


@handles("BoolExpr")
def _boolean(walk: Walk, body: Node, scope: Scope) -> Value:
    return combine(each(walk, body["args"], scope), BOOL).derived(BOOL, keep_literals=False)


@handles("NullTest", "BooleanTest")
def _test(walk: Walk, body: Node, scope: Scope) -> Value:
    return expression(walk, body["arg"], scope).derived(BOOL, keep_literals=False)


@handles("CaseExpr")
def _case(walk: Walk, body: Node, scope: Scope) -> Value:
    subject = expression(walk, body["arg"], scope) if "arg" in body else None
    conditions: list[Value] = []
    results: list[Value] = []
    for when in body["args"]:
        condition = expression(walk, when["CaseWhen"]["expr"], scope)
        if subject is not None:
            condition = operate(walk, None, "=", subject, condition, predicate=True)
        conditions.append(condition.derived(BOOL, keep_literals=False))
        results.append(expression(walk, when["CaseWhen"]["result"], scope))
    if "defresult" in body:
        results.append(expression(walk, body["defresult"], scope))
    walk.compare(results)
    return combine([*results, *conditions], union_type(results))


@handles("CoalesceExpr", "MinMaxExpr")
def _coalesce(walk: Walk, body: Node, scope: Scope) -> Value:
    values = each(walk, body["args"], scope)
    walk.compare(values)
    return combine(values, union_type(values))


@handles("TypeCast")
def _cast(walk: Walk, body: Node, scope: Scope) -> Value:
    value = expression(walk, body["arg"], scope)
    return cast(walk, value, type_named(walk, body["typeName"]))


@handles("CollateClause")
def _collate(walk: Walk, body: Node, scope: Scope) -> Value:
    value = expression(walk, body["arg"], scope)
    return value.derived(25 if value.type == UNKNOWN else value.type)


@handles("RowExpr")
def _row(walk: Walk, body: Node, scope: Scope) -> Value:
    values = expanded(walk, body.get("args", ()), scope)
    return row([f"f{number}" for number in range(1, len(values) + 1)], values)


def expanded(walk: Walk, nodes: Sequence[Node], scope: Scope) -> list[Value]:
    """Expressions of a row constructor or VALUES list, where ``item.*`` stands for the item's columns."""
    values: list[Value] = []
    for node in nodes:
        star = star_columns(walk, node, scope)
        if star is None:
            values.append(expression(walk, node, scope))
        else:
            values.extend(value for _, value in star)
    return values


def star_columns(walk: Walk, node: Node, scope: Scope) -> list[tuple[str, Value]] | None:
    """The columns of ``item.*`` or ``(expression).*``, ``None`` for another node. Raises ``SqlFault`` 0A000 where unknown."""
    if "ColumnRef" in node and "A_Star" in node["ColumnRef"]["fields"][-1]:
        body = node["ColumnRef"]
        if len(body["fields"]) == 1:
            return None
        item = named_item(walk, body["fields"][:-1], scope, body)
        walk.mark_target(item, body)
        return item_columns(walk, item)
    if "A_Indirection" in node and "A_Star" in node["A_Indirection"]["indirection"][-1]:
        body = node["A_Indirection"]
        value = expression(walk, body["arg"], scope)
        for step in body["indirection"][:-1]:
            value = indirect(walk, value, step, scope)
        return row_columns(walk, value)
    return None


def item_columns(walk: Walk, item: Item) -> list[tuple[str, Value]]:
    """The columns of an item, noted as read."""
    if item.any_column is not None:
        raise SqlFault("0A000", f'the columns of "{item.name or "this join"}" cannot be known: name them, or cast what they come from')
    walk.step(len(item.names) // 8 + 1)
    return [(name, walk.read(value)) for name, value in zip(item.names, item.values, strict=True)]


def row_columns(walk: Walk, value: Value) -> list[tuple[str, Value]]:
    """The columns of a row value. Raises ``SqlFault`` 0A000 where its shape is not known."""
    if value.fields is not None:
        return [(name, own.derived(own.type)) for name, own in value.fields]
    shape = composite_fields(walk, value)
    if shape is None:
        raise SqlFault("0A000", "the columns of this row value cannot be known")
    return [(name, value.derived(kind)) for name, kind in shape.items()]


@handles("A_ArrayExpr")
def _array(walk: Walk, body: Node, scope: Scope) -> Value:
    values = each(walk, body.get("elements", ()), scope)
    walk.compare(values)
    kind = union_type(values) if values else 0
    entry = walk.catalog.type_by_oid(kind) if kind else None
    return combine(values, kind if entry is not None and entry.element else array_type(walk, kind))


@handles("List")
def _list(walk: Walk, body: Node, scope: Scope) -> Value:
    return combine(each(walk, body.get("items", ()), scope))


@handles("NamedArgExpr")
def _named_argument(walk: Walk, body: Node, scope: Scope) -> Value:
    return expression(walk, body["arg"], scope)


@handles("GroupingFunc")
def _grouping(walk: Walk, body: Node, scope: Scope) -> Value:
    each(walk, body.get("args", ()), scope)
    return Value(type=INT4)


PURE: dict[str, Any] = {
    "_constant": _constant, "_column": _column, "_operator": _operator, "_rowwise": _rowwise, "cast": cast, "type_named": type_named,
    "item_columns": item_columns, "star_columns": star_columns,
}  # fmt: skip

if fast is not None and not TYPE_CHECKING:
    expression, each, item_columns, expanded = fast.expression, fast.each, fast.item_columns, fast.expanded
