# SPDX-License-Identifier: Apache-2.0
"""Functions and operators: which one is meant, and what that means for lineage and rules.

Where every candidate of a name is built in, the choice between them does not matter. Where a user object has the name too, the
target's choice depends on argument types (manual 10.2, 10.3): an exact match of known types is certain; otherwise every
user candidate that could be meant counts as called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.model import Operation
from gateway.protocols.postgres.catalog import FIRST_USER_OID, Function, Operator
from gateway.protocols.postgres.catalog.builtin import effect, reveals
from gateway.protocols.postgres.sql.casts import _could_be, _into_user_type, user_casts, user_code, user_function
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.knowledge import PG_CATALOG, POLYMORPHIC, BuiltinFunction, free_call, populates
from gateway.protocols.postgres.sql.values import BOOL, RECORD, TEXT, UNKNOWN, Value, combine
from gateway.protocols.postgres.sql.walk import Walk, dotted
from gateway.protocols.postgres.statement import SqlFault

_FREE: dict[str, Operation] = {}
_FREE_LIMIT = 10_000

NARROW = frozenset({16, 20, 21, 23, 26, 28, 29, 700, 701, 790, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2278, 3220, 5069})
"""Result types (bool, numbers, oids, times, void, pg_lsn) that hold nothing of what an effectful function has read."""


class Called:
    """A resolved call: its value, and the functions it can be."""

    __slots__ = ("functions", "value")

    def __init__(self, value: Value, functions: Sequence[Function]) -> None:
        self.value = value
        self.functions = functions


def call(
    walk: Walk,
    schema: str | None,
    name: str,
    args: Sequence[Value],
    named: Sequence[str] = (),
    *,
    variadic: bool = False,
    ordered: int = 0,
    extra: Sequence[Value] = (),
) -> Called | None:
    """The call of a function; ``None`` where there is none of that name and number of arguments.

    ``extra`` values flow into the result without being arguments (FILTER); ``ordered`` counts WITHIN GROUP arguments.
    """
    known = walk.knowledge.builtin.functions.get(name)
    if known is not None and schema in (None, PG_CATALOG) and _only_builtin(walk, schema, name):
        return _builtin(walk, name, known, args, extra)
    candidates = walk.functions(name, schema)
    if not candidates:
        return None
    fitting = [f for f in candidates if _fits(f, len(args), named, variadic)]
    if not fitting:
        if any(f.oid < FIRST_USER_OID and f.schema == PG_CATALOG for f in candidates) and known is not None:
            return _builtin(walk, name, known, args, extra)
        return None
    users = [f for f in fitting if f.oid >= FIRST_USER_OID and _applicable(walk, f, args, named)]
    exact = None if named or variadic else _exact(fitting, args)
    if exact is not None:
        users = [exact] if exact.oid >= FIRST_USER_OID else []
        fitting = [exact]
    elif users:
        fitting = [f for f in fitting if f.oid < FIRST_USER_OID or f in users]
    else:
        fitting = [f for f in fitting if f.oid < FIRST_USER_OID]
    if not fitting:
        return None
    return _chosen(walk, fitting, users, args, extra)


def _only_builtin(walk: Walk, schema: str | None, name: str) -> bool:
    if schema == PG_CATALOG:
        return name not in walk.knowledge.user_functions
    return name not in walk.knowledge.user_functions and "functions" not in walk.names.stale


def _fits(function: Function, count: int, named: Sequence[str], variadic: bool) -> bool:
    """Whether the number and names of the arguments can be this function's."""
    total = len(function.arg_types)
    if function.variadic and not variadic and not named:
        return count >= total - 1 - function.defaults
    if any(name not in function.arg_names for name in named):
        return False
    return total - function.defaults <= count <= total


def _exact(candidates: Sequence[Function], args: Sequence[Value]) -> Function | None:
    types = tuple(value.type for value in args)
    if types and set(types) == {UNKNOWN}:
        types = (TEXT,) * len(types)  # unknown literals alone prefer text to everything (manual 10.3, step 4e)
    elif 0 in types or UNKNOWN in types:
        return None
    return next((f for f in candidates if f.arg_types == types), None)


def _applicable(walk: Walk, function: Function, args: Sequence[Value], named: Sequence[str]) -> bool:
    """Whether a user function could be chosen for arguments of these types; when in doubt, yes."""
    if named:
        return True
    types = function.arg_types
    if function.variadic and len(args) >= len(types):
        types = (*types[:-1], *[function.variadic] * (len(args) - len(types) + 1))
    return all(could_accept(walk, value.type, wanted) for value, wanted in zip(args, types, strict=False))


def could_accept(walk: Walk, source: int, wanted: int) -> bool:
    """Whether an argument of type ``source`` could be passed as ``wanted`` without a cast being written."""
    if source in (0, UNKNOWN) or source == wanted or wanted in POLYMORPHIC or _could_be(walk, source, wanted):
        return True
    target = walk.catalog.type_by_oid(wanted)
    known = walk.catalog.cast(source, wanted)
    if target is None or source in (RECORD, 2287) or (known is not None and known.context == "i"):
        return True
    return bool(user_casts(walk, source, target, "i")) or any(
        cast.context == "i" and _could_be(walk, source, cast.source) for cast in walk.catalog.casts_to(wanted)
    )


def _builtin(walk: Walk, name: str, known: BuiltinFunction, args: Sequence[Value], extra: Sequence[Value]) -> Called:
    if not known.simple:
        fitting = [f for f in known.functions if _fits(f, len(args), (), False)] or list(known.functions)
        return _chosen(walk, fitting, (), args, extra)
    if not walk.quiet:
        _note_free(walk, name)
    value = combine([*args, *extra] if extra else args, known.result or _result(walk, known.functions, args))
    if walk.knowledge.casting:
        value = _implicit_casts(walk, value, args)
    return Called(value, known.functions)


def _note_free(walk: Walk, name: str) -> None:
    """A built-in function that needs no rule of its own is still shown to deny and approve rules."""
    qualified = f"pg_catalog.{name}"
    key = ("call", qualified)
    if key in walk.operations:
        return
    operation = _FREE.get(name)
    if operation is None:
        operation = free_call(name)
        if len(_FREE) < _FREE_LIMIT:
            _FREE[name] = operation
    walk.operations[key] = operation


def _chosen(
    walk: Walk, fitting: Sequence[Function], users: Sequence[Function], args: Sequence[Value], extra: Sequence[Value]
) -> Called:
    value = combine([*args, *extra], _result(walk, fitting, args))
    for user in users:
        value = user_function(walk, user, value)
    for function in fitting:
        if function.oid < FIRST_USER_OID:
            value = _effects(walk, function, value)
            value = _filled(walk, value, args) if populates(function) else value
    if walk.knowledge.casting:
        value = _implicit_casts(walk, value, args)
    return Called(value, fitting)


def _effects(walk: Walk, function: Function, value: Value) -> Value:
    name = f"{function.schema}.{function.name}"
    if function.volatile == "v":
        walk.early = False
    if effect(function):
        walk.early = False
        walk.operation("call", name, functions=(name,), free=False)
        walk.sink(name, value)
        if function.result not in NARROW and function.name != "set_config":
            walk.uncertain(f"{name} reads what analysis cannot see")
            return Value(value.origins, False, True, False, value.type, None, value.literals)
        return value
    if function.schema == PG_CATALOG:
        _note_free(walk, function.name)
    if reveals(function):
        walk.uncertain(f"{name} may show other people's data")
        return Value(value.origins, False, True, False, value.type, None, value.literals)
    return value


def _filled(walk: Walk, value: Value, args: Sequence[Value]) -> Value:
    """A row made of values, as a cast of them to its type would make it."""
    for arg in args:
        entry = walk.catalog.type_by_oid(arg.type) if arg.type else None
        value = _into_user_type(walk, value, entry) if entry is not None else user_code(walk, "a row of unknown type", value, rule=False)
    return value


def _implicit_casts(walk: Walk, value: Value, args: Sequence[Value]) -> Value:
    """User casts that may run unseen because an argument's type has one to a built-in type."""
    for arg in args:
        if arg.type == UNKNOWN:
            continue
        found = walk.catalog.casts_from(arg.type) if arg.type else walk.catalog.user.casts
        for cast in found:
            if cast.context == "i" and cast.method != "b":
                function = walk.catalog.function_by_oid(cast.function_oid) if cast.function_oid else None
                if function is None or function.oid >= FIRST_USER_OID:
                    value = user_code(walk, "a user cast", value, rule=False) if function is None else user_function(walk, function, value)
    return value


def _result(walk: Walk, functions: Sequence[Function], args: Sequence[Value]) -> int:
    """The type of the result where it is certain."""
    fitting = [f for f in functions if len(f.arg_types) == len(args)] or functions
    if len(fitting) > 1:
        fitting = [f for f in fitting if _agrees(walk, f, args)] or fitting
    if len(fitting) > 1:
        fitting = [f for f in fitting if _prefers(f, args)] or fitting
    results = {f.result for f in fitting}
    if len(results) != 1:
        return 0
    result = results.pop()
    return _polymorphic(walk, fitting[0], result, args) if result in POLYMORPHIC else result


def _agrees(walk: Walk, function: Function, args: Sequence[Value]) -> bool:
    pairs = zip(args, function.arg_types, strict=False)
    return all(a.type in (UNKNOWN, wanted) or (wanted in POLYMORPHIC and _is_one(walk, a.type, wanted)) for a, wanted in pairs)


_KINDS = {3500: "e", 3831: "r", 5080: "r", 4537: "m", 4538: "m"}


def _is_one(walk: Walk, type: int, wanted: int) -> bool:
    """Whether a known type can stand for a polymorphic one."""
    found = walk.catalog.type_by_oid(type) if type else None
    if found is None:
        return False
    if wanted in _ARRAYS:
        return found.element != 0
    return wanted not in _KINDS or found.kind == _KINDS[wanted]


def _prefers(function: Function, args: Sequence[Value]) -> bool:
    """An unknown literal prefers to be text (manual 10.3, step 4e)."""
    return all(wanted == TEXT if a.type == UNKNOWN else a.type == wanted for a, wanted in zip(args, function.arg_types, strict=False))


_ARRAYS, _ELEMENTS = frozenset({2277, 5078}), frozenset({2283, 2776, 5077, 5079})


def _polymorphic(walk: Walk, function: Function, result: int, args: Sequence[Value]) -> int:
    """A polymorphic result whose type follows from an argument's (manual 38.2.5)."""
    for value, declared in zip(args, function.arg_types, strict=False):
        if value.type in (0, UNKNOWN):
            continue
        if declared == result:
            return value.type
        if result in _ARRAYS and declared in _ELEMENTS:
            return array_type(walk, value.type)
        if result in _ELEMENTS and declared in _ARRAYS:
            return element_type(walk, value.type)
    return 0


def element_type(walk: Walk, array: int) -> int:
    """The element type of an array type, 0 where that is not known."""
    found = walk.catalog.type_by_oid(array) if array else None
    return found.element if found else 0


def array_type(walk: Walk, element: int) -> int:
    """The array type over an element type, 0 where there is none or it is not known."""
    found = walk.catalog.type_by_oid(element) if element else None
    return found.array if found else 0


# operators


def operate(walk: Walk, schema: str | None, name: str, left: Value | None, right: Value, *, predicate: bool = False) -> Value:
    """The result of an operator; ``left`` is ``None`` for a prefix operator. Raises ``SqlFault`` 42883.

    Literals on either side are bound to the columns on the other. ``predicate``: the construct answers a boolean.
    """
    args = [right] if left is None else [left, right]
    if left is not None:
        walk.compare(args)
    elif right.literals:
        walk.bind(right, right.origins)
    builtin = walk.knowledge.builtin
    if name in builtin.operators and (schema is None or schema == PG_CATALOG) and _plain_operator(walk, name):
        users: Sequence[Operator] = ()
    else:
        users = _user_operators(walk, schema, name, left, right)
    result = BOOL if predicate or name in builtin.predicates else _operator_type(walk, name, left, right)
    value = combine(args, result)
    for operator in users:
        value = _user_operator(walk, operator, value)
    if walk.knowledge.casting:
        value = _implicit_casts(walk, value, args)
    if result == BOOL and value.literals:
        value = value.derived(BOOL, keep_literals=False)
    return value


def _plain_operator(walk: Walk, name: str) -> bool:
    return name not in walk.knowledge.user_operators and "functions" not in walk.names.stale


def _operator_type(walk: Walk, name: str, left: Value | None, right: Value) -> int:
    own = left.type if left is not None else 0
    other = right.type
    if left is not None and own == UNKNOWN:
        own = other
    elif other == UNKNOWN and left is not None:
        other = own
    results = walk.knowledge.builtin.operator_results
    if name == "||" and own and other and (own == other or own == element_type(walk, other) or other == element_type(walk, own)):
        array = own if element_type(walk, own) else other if element_type(walk, other) else 0
        if array:
            return array
    own, other = (TEXT if side == 1043 else side for side in (own, other))
    found = results.get((name, own, other), 0)
    if not found and right.type == UNKNOWN:
        found = results.get((name, own, TEXT), 0)
    return found if found not in POLYMORPHIC else 0


def _user_operators(walk: Walk, schema: str | None, name: str, left: Value | None, right: Value) -> Sequence[Operator]:
    """The user operators that this could be; empty where a built-in one is certain."""
    found = [op for op in walk.operators(name, schema) if (op.left == 0) == (left is None)]
    if not found:
        raise SqlFault("42883", f"operator does not exist: {dotted(schema, name)}")
    types = _operand_types(walk, left, right)
    if 0 not in types[left is None :] and UNKNOWN not in types:
        exact = next((op for op in found if (op.left, op.right) == types), None)
        if exact is not None:
            return (exact,) if exact.oid >= FIRST_USER_OID else ()
    written = (left.type if left is not None else 0, right.type)
    return [op for op in found if op.oid >= FIRST_USER_OID and _operator_applies(walk, op, written)]


def _operand_types(walk: Walk, left: Value | None, right: Value) -> tuple[int, int]:
    """The operand types; an unknown literal is taken to be like the other side (manual 10.2, step 2a)."""
    own, other = (left.type if left is not None else 0), right.type
    if left is not None and own == UNKNOWN and other != UNKNOWN:
        own = other
    elif left is not None and other == UNKNOWN:
        own = other = TEXT if own == UNKNOWN else own
    return own, other


def _operator_applies(walk: Walk, operator: Operator, types: tuple[int, int]) -> bool:
    sides = ((types[0], operator.left), (types[1], operator.right))
    return all(wanted == 0 or could_accept(walk, source, wanted) for source, wanted in sides)


def _user_operator(walk: Walk, operator: Operator, value: Value) -> Value:
    function = walk.catalog.function_by_oid(operator.function_oid)
    if function is None:
        return user_code(walk, f"{operator.schema}.{operator.name}", value)
    if function.oid < FIRST_USER_OID and not effect(function) and not reveals(function):
        return value
    return user_function(walk, function, value)


PURE: dict[str, Any] = {"operate": operate, "_operator_type": _operator_type, "_result": _result, "array_type": array_type,
                        "element_type": element_type}

if fast is not None and not TYPE_CHECKING:
    operate = fast.operate
