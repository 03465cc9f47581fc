# SPDX-License-Identifier: Apache-2.0
"""Function calls as they are written: arguments, aggregates, windows, and the few built-ins that mean a setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.protocols.postgres.catalog import FIRST_USER_OID, Function
from gateway.protocols.postgres.sql import settings
from gateway.protocols.postgres.sql.calls import Called, call, operate
from gateway.protocols.postgres.sql.casts import cast
from gateway.protocols.postgres.sql.expressions import composite_fields, each, expression, handles
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.scope import Scope
from gateway.protocols.postgres.sql.signature import HINT, signature
from gateway.protocols.postgres.sql.values import RECORD, Value
from gateway.protocols.postgres.sql.walk import Walk, dotted, split_name, strings
from gateway.protocols.postgres.sql.where import same, without_casts
from gateway.protocols.postgres.statement import SqlFault


@handles("FuncCall")
def _function(walk: Walk, body: Node, scope: Scope) -> Value:
    return function_call(walk, body, scope).value


def function_call(walk: Walk, body: Node, scope: Scope) -> Called:
    """The value of a FuncCall node and the functions it can be. Raises ``SqlFault`` 42883, 3F000."""
    schema, name = split_name(body["funcname"], walk.catalog.database)
    if name == "json_object" and schema == "pg_catalog" and walk.version < 160000:
        schema = None  # older grammars read this word as an ordinary function name
    nodes = body.get("args", ())
    args = each(walk, nodes, scope)
    named = [node["NamedArgExpr"]["name"] for node in nodes if "NamedArgExpr" in node]
    extra: list[Value] = []
    if not body.keys() <= _PLAIN:
        _modifiers(walk, body, scope, args, extra)
    if len(args) > 1:
        walk.compare(args)
    try:
        called = call(walk, schema, name, args, named, variadic=body.get("func_variadic", False), extra=extra)
    except SqlFault as fault:
        fault.position = fault.position or max(body.get("location", -1), -1) + 1
        raise
    if called is None:
        return _not_a_function(walk, schema, name, args, body)
    if name in _SPECIAL and all(function.oid < FIRST_USER_OID for function in called.functions):
        called = Called(_SPECIAL[name](walk, called.value, nodes, args), called.functions)
    fields = _output_fields(called)
    return Called(fields, called.functions) if fields is not None else called


_PLAIN = frozenset({"funcname", "args", "funcformat", "location", "func_variadic", "agg_star", "agg_distinct"})


def _modifiers(walk: Walk, body: Node, scope: Scope, args: list[Value], extra: list[Value]) -> None:
    """FILTER flows into the result; WITHIN GROUP gives arguments; ORDER BY and OVER only order and group."""
    ordered = [expression(walk, entry["SortBy"]["node"], scope) for entry in body.get("agg_order", ())]
    if body.get("agg_within_group"):
        args.extend(ordered)
    for entry in body.get("agg_order", ()):
        sort_operator(walk, entry["SortBy"], scope)
    if "agg_filter" in body:
        extra.append(expression(walk, body["agg_filter"], scope).derived(keep_literals=False))
    if "over" in body:
        window(walk, body["over"], scope)


def sort_operator(walk: Walk, body: Node, scope: Scope) -> None:
    """``ORDER BY … USING operator``: the operator's function runs."""
    if "useOp" in body:
        schema, name = split_name(body["useOp"], "")
        value = expression(walk, body["node"], scope)
        operate(walk, schema, name, value, value, predicate=True)


def window(walk: Walk, body: Node, scope: Scope) -> None:
    """A window definition: its expressions are read, but order and group only."""
    each(walk, body.get("partitionClause", ()), scope)
    for entry in body.get("orderClause", ()):
        expression(walk, entry["SortBy"]["node"], scope)
        sort_operator(walk, entry["SortBy"], scope)
    for key in ("startOffset", "endOffset"):
        if key in body:
            expression(walk, body[key], scope)


def _not_a_function(walk: Walk, schema: str | None, name: str, args: Sequence[Value], body: Node) -> Called:
    """``name(x)`` can also be a field of a row value or a cast (manual 8.16.3, 4.2.9)."""
    if len(args) == 1:
        value = args[0]
        own = value.field(name) if schema is None else None
        if own is not None:
            return Called(own.derived(own.type), ())
        shape = composite_fields(walk, value) if schema is None else None
        if shape is not None and name in shape:
            return Called(value.derived(shape[name]), ())
        target = walk.type(name, schema, temporary=False)
        if target is not None:
            return Called(cast(walk, value, target), ())
        if schema is None and value.type in (0, RECORD) and value.fields is None:
            return Called(value.derived(), ())
    named = [node["NamedArgExpr"]["name"] for node in body.get("args", ()) if "NamedArgExpr" in node]
    message = f"function {dotted(schema, name)}{signature(walk, args, named)} does not exist"
    raise SqlFault("42883", message, max(body.get("location", 0), 0) + 1, HINT)


def _output_fields(called: Called) -> Value | None:
    """The value with the columns of its OUT parameters, where the function gives a record of them."""
    shapes = {function.outputs for function in called.functions}
    if len(shapes) != 1 or called.functions[0].result != RECORD:
        return None
    value = called.value
    fields = tuple((name, value.derived(kind)) for name, kind in called.functions[0].outputs)
    return Value(value.origins, False, value.unknown, value.system, RECORD, fields, value.literals) if fields else None


def result_name(functions: Sequence[Function]) -> str | None:
    """The name of a scalar function's one OUT parameter (get_func_result_name in funcapi.c)."""
    names = {function.outputs[0][0] for function in functions if len(function.outputs) == 1}
    return names.pop() or None if len(names) == 1 else None


def _set_config(walk: Walk, value: Value, nodes: Sequence[Node], args: Sequence[Value]) -> Value:
    """``set_config('name', value, local)`` is SET: contract section 2. Raises ``SqlFault`` 42501 where the name is computed."""
    name = literal_text(nodes[0]) if nodes else None
    column = nodes and "ColumnRef" in without_casts(nodes[0]) and args[0].origins == _SETTING_NAME
    if name is None and column and "=" not in walk.knowledge.user_operators:
        name = equated(walk.condition, nodes[0])
    if name is None:
        raise SqlFault("42501", "set_config() needs the name of the setting as a literal")
    walk.operations.pop(("call", "pg_catalog.set_config"), None)
    walk.operation("call", "pg_catalog.set_config", functions=("pg_catalog.set_config",), free=True)
    settings.note(walk, name, literal_text(nodes[1]) if len(nodes) > 1 else None, known=len(nodes) > 1 and _literal(nodes[1]))
    return value


_SETTING_NAME = frozenset({("pg_catalog", "pg_settings", "name")})


def equated(condition: Node | None, column: Node) -> str | None:
    """The text that a WHERE clause says a column equals (``column = 'text'``, also under AND), else ``None``."""
    if condition is None:
        return None
    both = condition.get("BoolExpr", {})
    if both.get("boolop") == "AND_EXPR":
        return next((found for arg in both["args"] if (found := equated(arg, column)) is not None), None)
    body = condition.get("A_Expr", {})
    if body.get("kind") != "AEXPR_OP" or strings(body["name"]) not in (["="], ["pg_catalog", "="]) or "lexpr" not in body:
        return None
    for one, other in ((body["lexpr"], body["rexpr"]), (body["rexpr"], body["lexpr"])):
        if same(one, column):
            return literal_text(other)
    return None


def _current_setting(walk: Walk, value: Value, nodes: Sequence[Node], args: Sequence[Value]) -> Value:
    """Built-in settings are clear; one of an application's own could hold anything a function put there."""
    name = literal_text(nodes[0]) if nodes else None
    if name is not None and "." not in name:
        return value
    if nodes and args[0].origins == _SETTING_NAME and args[0].plain:
        return value        # psql's \dconfig; pg_settings does not list settings that an application made up (guc_funcs.c)
    walk.uncertain("a custom setting may hold anything")
    return Value(value.origins, False, True, False, value.type)


_SPECIAL = {"set_config": _set_config, "current_setting": _current_setting}


def _literal(node: Node) -> bool:
    return "A_Const" in without_casts(node)


def literal_text(node: Node) -> str | None:
    """The text of a string literal, casts aside; ``None`` for anything else."""
    node = without_casts(node)
    if "NamedArgExpr" in node:
        return None
    found = node.get("A_Const", {}).get("sval")
    return found.get("sval", "") if found is not None else None


PURE: dict[str, Any] = {"_function": _function, "sort_operator": sort_operator}
