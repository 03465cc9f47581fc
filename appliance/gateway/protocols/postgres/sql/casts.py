# SPDX-License-Identifier: Apache-2.0
"""Type names and casts: which type is meant, and whether code that is not built in runs on the way."""

from __future__ import annotations

from gateway.protocols.postgres.catalog import FIRST_USER_OID, Cast, Function, Type
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.values import TEXT, UNKNOWN, Value
from gateway.protocols.postgres.sql.walk import Walk, dotted, split_name
from gateway.protocols.postgres.statement import SqlFault

_INTERNAL = 2281
_STRINGS = frozenset({TEXT, 1042, 1043, 18, 19, UNKNOWN})


def type_named(walk: Walk, node: Node) -> Type:
    """The type a TypeName means; an array where it has bounds. Raises ``SqlFault`` 42704, 0A000."""
    if node.get("pct_type") or "names" not in node:
        raise SqlFault("0A000", "%TYPE references are not supported")
    schema, name = split_name(node["names"], walk.catalog.database)
    if schema == "pg_catalog" and name in ("json", "jsonb") and walk.version < 170000:
        schema = None  # older grammars read this word as an ordinary type name
    found = walk.type(name, schema)
    if found is None:
        raise SqlFault("42704", f'type "{dotted(schema, name)}" does not exist', _position(node))
    if node.get("arrayBounds"):
        found = walk.catalog.type_by_oid(found.array) or found
    return found


def _position(node: Node) -> int:
    location = int(node.get("location", 0))
    return location + 1 if location >= 0 else 0


def cast(walk: Walk, value: Value, target: Type, context: str = "e") -> Value:
    """The value converted to a type: explicitly (e), by assignment (a) or implicitly (i)."""
    if target.oid == value.type:
        return value.derived(value.type) if context == "e" else value
    made = value.derived(target.oid)
    if target.oid >= FIRST_USER_OID:
        walk.early = False
        made = _into_user_type(walk, made, target)
    for user in user_casts(walk, value.type, target, context):
        made = _through(walk, made, user)
    return made


def user_casts(walk: Walk, source: int, target: Type, context: str) -> list[Cast]:
    """The casts with code of their own that could convert ``source`` (0: any type) to ``target``."""
    allowed = {"e": "eai", "a": "ai", "i": "i"}[context]
    wanted = {target.oid, _element(walk, target)}
    found = []
    for oid in wanted:
        for entry in walk.catalog.casts_to(oid):
            if entry.method != "b" and entry.context in allowed and _could_be(walk, source, entry.source):
                found.append(entry)
    return found


def _element(walk: Walk, target: Type) -> int:
    base = target
    while base.kind == "d" and base.base:
        base = walk.catalog.type_by_oid(base.base) or base
    return base.element or base.oid


def _could_be(walk: Walk, source: int, wanted: int) -> bool:
    """Whether a value of type ``source`` can be one of type ``wanted`` without a conversion of its own."""
    if source == 0 or source == wanted:
        return True
    if source == UNKNOWN:
        return False
    own = walk.catalog.type_by_oid(source)
    if own is None:
        return True
    if own.kind == "d":
        return _could_be(walk, own.base, wanted)
    if own.element:
        other = walk.catalog.type_by_oid(wanted)
        return other is not None and (own.element == wanted or (other.element != 0 and _could_be(walk, own.element, other.element)))
    return source in _STRINGS and wanted in _STRINGS


def _through(walk: Walk, value: Value, entry: Cast) -> Value:
    """The result of a user cast: a function, or input and output functions of the types."""
    function = walk.catalog.function_by_oid(entry.function_oid) if entry.function_oid else None
    name = f"{function.schema}.{function.name}" if function else ""
    if function is not None and function.oid < FIRST_USER_OID:
        return value
    if function is not None:
        return user_function(walk, function, value)
    return user_code(walk, name or "a user cast", value, rule=bool(name))


def user_function(walk: Walk, function: Function, value: Value) -> Value:
    """The result of a function that is not built in."""
    name = f"{function.schema}.{function.name}"
    if function.computes:
        return _computed(walk, name, value)
    return user_code(walk, name, value, volatile=function.volatile == "v")


def _computed(walk: Walk, name: str, value: Value) -> Value:
    """What code that only computes makes of a value: a rule has to name it, but it carries nothing else and keeps nothing."""
    walk.early = False
    walk.user_code = True
    walk.operation("call", name, functions=(name,), free=False)
    return value


def user_code(walk: Walk, name: str, value: Value, *, rule: bool = True, volatile: bool = True) -> Value:
    """The result of code that is not built in on this value: it could carry anything, and could keep what it is given."""
    walk.early = False
    walk.user_code = True
    walk.volatile_code = walk.volatile_code or volatile
    walk.uncertain(f"{name} is not built in")
    if rule:
        walk.operation("call", name, functions=(name,), free=False)
    walk.sink(name, value)
    return Value(value.origins, False, True, False, value.type, None, value.literals)


def _into_user_type(walk: Walk, value: Value, target: Type) -> Value:
    """Domain checks and the input functions of extension types run when a value becomes one."""
    checks = [*_checks(walk, target)]
    for oid in checks:
        function = walk.catalog.function_by_oid(oid)
        if function is not None and function.oid >= FIRST_USER_OID:
            user_function(walk, function, value)
    base = walk.catalog.type_by_oid(_element(walk, target)) or target
    return type_code(walk, base, value)


def type_code(walk: Walk, base: Type, value: Value) -> Value:
    """A value that went through the functions that a base type is made of."""
    name = f"{base.schema}.{base.name}"
    made = [walk.catalog.function_by_oid(oid) for oid in base.functions if oid >= FIRST_USER_OID]
    if not made:
        return value
    if all(function is not None and _converts(function) for function in made):
        return _computed(walk, name, value)
    return user_code(walk, name, value)


def _converts(function: Function) -> bool:
    """Of the functions of an extension's type: input, output and typmod convert what they are given, stable where they read a setting.
    Those with an internal argument are no way for a value (typanalyze), or one for the caller's own (receive)."""
    return function.compiled and (function.volatile != "v" or function.arg_types[:1] == (_INTERNAL,))


def _checks(walk: Walk, target: Type) -> list[int]:
    """The functions in the checks of a domain, of the domains under it, and of the domains in a composite or array."""
    found: list[int] = []
    waiting, seen = [target], {target.oid}
    while waiting:
        entry = waiting.pop()
        found.extend(entry.checks)
        under = [entry.base, entry.element, entry.subtype]
        relation = walk.catalog.relation_by_oid(entry.relation_oid) if entry.relation_oid else None
        under.extend(column.type_oid for column in relation.columns) if relation else None
        for oid in under:
            if oid and oid not in seen and (next_type := walk.catalog.type_by_oid(oid)):
                seen.add(oid)
                waiting.append(next_type)
    return found


def assigned(walk: Walk, value: Value, type_oid: int) -> Value:
    """The value as a column of that type takes it (assignment cast)."""
    if type_oid == value.type or not walk.knowledge.casting:
        return value
    target = walk.catalog.type_by_oid(type_oid)
    return cast(walk, value, target, "a") if target and user_casts(walk, value.type, target, "a") else value
