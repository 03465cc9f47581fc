# SPDX-License-Identifier: Apache-2.0
"""Reads a target's catalog through a caller's ``Fetch``; knows no socket.

The caller's connection has ``search_path`` pinned to ``pg_catalog`` (so that definitions come out fully qualified). Load
functions raise what ``fetch`` raises, and ``TargetFault`` where an answer has another shape than asked for.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from gateway.errors import TargetFault
from gateway.protocols.postgres.catalog import queries
from gateway.protocols.postgres.catalog.model import (
    BuiltinCatalog,
    Cast,
    Catalog,
    Column,
    Function,
    Objects,
    Operator,
    Relation,
    Type,
)
from gateway.protocols.postgres.catalog.offline import from_json, to_json
from gateway.protocols.postgres.catalog.queries import CONTEXT_SQL, EPOCH_SQL

__all__ = [
    "CONTEXT_SQL",
    "EPOCH_SQL",
    "Fetch",
    "SessionState",
    "array_items",
    "from_json",
    "load_builtin",
    "load_catalog",
    "parse_context",
    "to_json",
]

Row = tuple[str | None, ...]
Fetch = Callable[[str], Awaitable[list[Row]]]
"""Runs one SQL text and gives its rows in text format, ``None`` for NULL."""

_Value = TypeVar("_Value")
_ATTEMPTS = 3
_TOAST_COLUMNS = (Column("chunk_id", 1, 26), Column("chunk_seq", 2, 23), Column("chunk_data", 3, 17))


@dataclass(frozen=True, slots=True)
class SessionState:
    """What ``CONTEXT_SQL`` answers: ``path`` is the effective search path, ``temp_schema`` is None before the first use."""

    path: tuple[str, ...]
    user: str
    session_user: str
    temp_schema: str | None
    role: str
    search_path: str
    standard_conforming_strings: str
    client_encoding: str
    row_security: str
    session_replication_role: str


def parse_context(row: Row) -> SessionState:
    """The row of ``CONTEXT_SQL`` as a value. Raises TargetFault."""
    if len(row) != 10:
        raise TargetFault("the target answered the context query with another number of columns")
    path, user, session_user, temp, role, *settings = (field or "" for field in row)
    return SessionState(tuple(array_items(path)), user, session_user, temp or None, role, *settings)


def array_items(literal: str) -> list[str]:
    """The items of a one-dimensional array literal without NULLs (manual 8.15.6). Raises TargetFault."""
    if literal[:1] != "{" or literal[-1:] != "}":
        raise TargetFault("the target sent a malformed array")
    items: list[str] = []
    current: list[str] = []
    quoted = started = False
    characters = iter(literal[1:-1])
    for character in characters:
        if character == "\\":
            current.append(next(characters, ""))
        elif character == '"':
            quoted, started = not quoted, True
        elif character == "," and not quoted:
            items.append("".join(current))
            current, started = [], False
        else:
            current.append(character)
    return [*items, "".join(current)] if items or current or started else items


async def load_builtin(fetch: Fetch) -> BuiltinCatalog:
    """What initdb made on this server: once per server version is enough."""
    version, _, _ = await _server(fetch)
    return BuiltinCatalog(version, await _objects(fetch, queries.BUILTIN))


async def load_catalog(fetch: Fetch, builtin: BuiltinCatalog, database: str) -> Catalog:
    """All user objects of the connection's database, named ``database`` in the result.

    Reads again where definitions changed meanwhile; after three attempts the result keeps the epoch from before its
    reading, so that the caller's next look at the epoch tells it apart.
    """
    version, _, temp = await _server(fetch)
    if version // 10000 != builtin.server_version // 10000:
        raise TargetFault("the target's major version changed since its built-in catalog was read")
    epoch = await _epoch(fetch)
    for _ in range(_ATTEMPTS):
        objects, before = await _objects(fetch, queries.USER), epoch
        epoch = await _epoch(fetch)
        if epoch == before:
            break
    return Catalog(before, version, database, builtin, objects, temp)


async def _server(fetch: Fetch) -> tuple[int, str, str | None]:
    rows = await fetch(queries.SERVER)
    if len(rows) != 1 or len(rows[0]) != 3:
        raise TargetFault("the target did not say its version")
    version, database, temp = rows[0]
    return _int(version), _text(database), temp


async def _epoch(fetch: Fetch) -> str:
    rows = await fetch(EPOCH_SQL)
    if len(rows) != 1 or len(rows[0]) != 1 or not rows[0][0]:
        raise TargetFault("the target did not answer the catalog epoch query")
    return rows[0][0]


async def _objects(fetch: Fetch, range_: str) -> Objects:
    async def read(query: str, make: Callable[..., _Value]) -> tuple[_Value, ...]:
        return _made(make, await fetch(query.format(range=range_)))

    columns = _columns(await fetch(queries.COLUMNS.format(range=range_)))
    called = await fetch(queries.TYPE_FUNCTIONS) if range_ == queries.USER else []
    return Objects(
        schemas=frozenset(await read(queries.SCHEMAS, _text)),
        relations=tuple(_with_columns(found, columns) for found in await read(queries.RELATIONS, _relation)),
        functions=await read(queries.FUNCTIONS, _function),
        operators=await read(queries.OPERATORS, _operator),
        types=tuple(_with_functions(await read(queries.TYPES, _type), called)),
        casts=await read(queries.CASTS, _cast),
    )


def _made(make: Callable[..., _Value], rows: Iterable[Row]) -> tuple[_Value, ...]:
    try:
        return tuple(make(*row) for row in rows)
    except (TypeError, ValueError) as fault:
        raise TargetFault("the target answered a catalog query with another shape") from fault


def _relation(
    oid: str,
    schema: str,
    name: str,
    kind: str,
    persistence: str,
    definition: str | None,
    parents: str | None,
    rules: str,
    triggers: str,
    row_security: str,
) -> Relation:
    return Relation(
        int(oid),
        schema,
        name,
        kind,
        definition=definition,
        parents=_oids(parents),
        rules=_bool(rules),
        triggers=_bool(triggers),
        row_security=_bool(row_security),
        persistence=persistence,
    )


def _columns(rows: Iterable[Row]) -> Mapping[int, list[Column]]:
    groups: dict[int, list[Column]] = {}
    for relation, column in _made(_column, rows):
        groups.setdefault(relation, []).append(column)
    return groups


def _column(
    relation: str, name: str, number: str, type_oid: str, not_null: str, generated: str | None, default: str | None
) -> tuple[int, Column]:
    return int(relation), Column(name, int(number), int(type_oid), generated, default, _bool(not_null))


def _with_columns(relation: Relation, columns: Mapping[int, list[Column]]) -> Relation:
    own = _TOAST_COLUMNS if relation.kind == "t" else tuple(columns.get(relation.oid, ()))
    return replace(relation, columns=own) if own else relation


def _function(
    oid: str,
    schema: str,
    name: str,
    kind: str,
    arg_types: str,
    defaults: str,
    variadic: str,
    result: str,
    returns_set: str,
    volatile: str,
    strict: str,
    arg_names: str | None,
    modes: str | None,
    all_types: str | None,
    language: str,
) -> Function:
    inputs, outputs = _arguments(arg_names, modes, all_types or arg_types)
    return Function(
        int(oid),
        schema,
        name,
        kind,
        _oids(arg_types),
        int(defaults),
        int(variadic),
        int(result),
        _bool(returns_set),
        volatile,
        _bool(strict),
        inputs,
        outputs,
        language,
    )


def _arguments(names: str | None, modes: str | None, types: str | None) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...]]:
    """The names of the input arguments, and the OUT and TABLE columns; modes are i in, o out, b both, v variadic, t table."""
    all_names: list[str] = json.loads(names) if names else []
    if not modes:
        return tuple(all_names), ()
    all_names = all_names or [""] * len(modes)
    inputs = [name for name, mode in zip(all_names, modes, strict=True) if mode in "ibv"]
    outputs = [(name, oid) for name, mode, oid in zip(all_names, modes, _oids(types), strict=True) if mode in "obt"]
    return tuple(inputs) if any(inputs) else (), tuple(outputs)


def _operator(oid: str, schema: str, name: str, left: str, right: str, result: str, function: str) -> Operator:
    return Operator(int(oid), schema, name, int(left), int(right), int(result), int(function))


def _type(
    oid: str,
    schema: str,
    name: str,
    kind: str,
    category: str,
    element: str,
    array: str,
    relation: str,
    base: str,
    preferred: str,
    subtype: str,
) -> Type:
    return Type(
        int(oid),
        schema,
        name,
        kind,
        category,
        int(element),
        int(array),
        int(relation),
        int(base),
        subtype=int(subtype),
        preferred=_bool(preferred),
    )


def _with_functions(types: Iterable[Type], called: Iterable[Row]) -> Iterable[Type]:
    by_type: dict[int, list[int]] = {}
    for oid, _, function in called:
        by_type.setdefault(_int(oid), []).append(_int(function))
    for entry in types:
        functions = tuple(by_type.get(entry.oid, ()))
        if functions:
            yield replace(entry, checks=functions) if entry.kind == "d" else replace(entry, functions=functions)
        else:
            yield entry


def _cast(oid: str, source: str, target: str, function: str, context: str, method: str) -> Cast:
    return Cast(int(source), int(target), int(function), context, int(oid), method)


def _oids(text: str | None) -> tuple[int, ...]:
    return tuple(int(item) for item in text.split()) if text else ()


def _bool(text: str) -> bool:
    if text not in ("t", "f"):
        raise ValueError("not a boolean")
    return text == "t"


def _int(text: str | None) -> int:
    if text is None or not text.isdecimal():
        raise TargetFault("the target sent something else than an oid")
    return int(text)


def _text(text: str | None) -> str:
    if text is None:
        raise TargetFault("the target sent NULL for a name")
    return text
