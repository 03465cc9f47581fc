# SPDX-License-Identifier: Apache-2.0
"""Reads a target's catalog through a caller's ``Fetch``; knows no socket.

The caller's connection has ``search_path`` pinned to ``pg_catalog`` (so that definitions come out fully qualified). Load
functions raise what ``fetch`` raises, and ``TargetFault`` where an answer has another shape than asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from gateway.errors import TargetFault
from gateway.protocols.postgres.catalog import queries, rows
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Column, Objects
from gateway.protocols.postgres.catalog.offline import from_json, to_json
from gateway.protocols.postgres.catalog.queries import CONTEXT_SQL, EPOCH_SQL
from gateway.protocols.postgres.catalog.rows import Key, Row

__all__ = [
    "CONTEXT_SQL",
    "EPOCH_SQL",
    "Fetch",
    "Row",
    "SessionState",
    "array_items",
    "from_json",
    "load_builtin",
    "load_catalog",
    "one_of_all",
    "parse_context",
    "to_json",
]

Fetch = Callable[[str], Awaitable[list[Row]]]
"""Runs one SQL text and gives its rows in text format, ``None`` for NULL."""

_Value = TypeVar("_Value")
CONTEXTS, CONTEXT_CHARACTERS = 256, 2048
"""Rows of ``CONTEXT_SQL`` that are remembered, and how long one may be for that."""
_ATTEMPTS = 3
_SLICE = 256
"""Rows that are taken in before other sessions get their turn."""
_INDEXES = ("relations_by_name", "relations_by_oid", "functions_by_name", "functions_by_oid", "operators_by_name", "types_by_name",
            "types_by_oid", "casts_by_pair", "casts_by_source", "casts_by_target", "children_by_parent")


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
    return _state(row) if _short(row) else _state.__wrapped__(row)


def one_of_all(row: Row) -> Row:
    """The same row, so that sessions that were told the same keep one of it."""
    return _one(row) if _short(row) else row


def _short(row: Row) -> bool:
    return sum(len(field or "") for field in row) <= CONTEXT_CHARACTERS


@lru_cache(maxsize=CONTEXTS)
def _one(row: Row) -> Row:
    return row


@lru_cache(maxsize=CONTEXTS)
def _state(row: Row) -> SessionState:
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
    """What initdb made on this server: once per server version is enough. Definitions of its views are left out."""
    version, _ = await _server(fetch)
    return BuiltinCatalog(version, await _objects(fetch, queries.BUILTIN, {}, ()))


async def load_catalog(fetch: Fetch, builtin: BuiltinCatalog, database: str, previous: Catalog | None = None, *,
                       every_schema: bool = False) -> Catalog:
    """All user objects of the connection's database, named ``database`` in the result.

    Definitions are taken from ``previous``, an earlier catalog of the same database, where they cannot have changed: printing
    one waits for locks on what it names. Reads again where anything changed meanwhile; after three attempts the result
    keeps the epoch from before its reading, so that the caller's next look at the epoch tells it apart. ``every_schema`` also takes in
    the schemas that the reading role may not use.
    """
    version, temp = await _server(fetch)
    if version // 10000 != builtin.server_version // 10000:
        raise TargetFault("the target's major version changed since its built-in catalog was read")
    known = previous if previous and previous.loaded_temp_schema == temp else None
    epoch = await _epoch(fetch)
    for _ in range(_ATTEMPTS):
        versions = dict(await _made(rows.version, await fetch(queries.VERSIONS)))
        texts = await _texts(fetch, versions, known)
        called = await _made(rows.type_function, await fetch(queries.TYPE_FUNCTIONS))
        objects, before = await _objects(fetch, queries.USER, texts, called, every_schema), epoch
        epoch = await _epoch(fetch)
        if epoch == before:
            break
    return Catalog(before, version, database, builtin, objects, temp, versions)


async def _server(fetch: Fetch) -> tuple[int, str | None]:
    match await fetch(queries.SERVER):
        case [(str(version), temp)] if version.isdecimal():
            return int(version), temp
    raise TargetFault("the target did not say its version")


async def _epoch(fetch: Fetch) -> str:
    match await fetch(EPOCH_SQL):
        case [(str(epoch),)] if epoch:
            return epoch
    raise TargetFault("the target did not answer the catalog epoch query")


async def _texts(fetch: Fetch, versions: Mapping[Key, str], known: Catalog | None) -> Mapping[Key, str]:
    """Every definition and expression, those with a known version out of the known catalog."""
    kept = await _kept(versions, known) if known else {}
    stale = versions.keys() - kept.keys()
    if not stale:
        return kept
    views = ",".join(sorted(str(oid) for oid, number in stale if number == 0))
    tables = ",".join(sorted({str(oid) for oid, number in stale if number != 0}))
    return kept | dict(await _made(rows.text, await fetch(queries.DEFINITIONS.format(views=views, tables=tables))))


async def _kept(versions: Mapping[Key, str], known: Catalog) -> dict[Key, str]:
    same = {key for key, version in versions.items() if known.versions.get(key) == version}
    kept: dict[Key, str] = {}
    for found in await _in_slices(known.relation_by_oid(oid) for oid in {oid for oid, _ in same}):
        if found is None:
            continue
        texts = {0: found.definition, **{column.number: column.default or column.generated for column in found.columns}}
        kept.update({(found.oid, number): text for number, text in texts.items() if text and (found.oid, number) in same})
    return kept


async def _objects(fetch: Fetch, range_: str, texts: Mapping[Key, str], called: Iterable[tuple[int, int]],
                   every_schema: bool = False) -> Objects:
    async def read(query: str, make: Callable[..., _Value]) -> tuple[_Value, ...]:
        return await _made(make, await fetch(query.format(range=range_)))

    columns: dict[int, list[Column]] = {}
    for oid, column in await read(queries.COLUMNS, rows.column):
        columns.setdefault(oid, []).append(column)
    relations = await read(queries.RELATIONS, rows.relation)
    made = Objects(
        schemas=frozenset(await read(queries.EVERY_SCHEMA if every_schema else queries.SCHEMAS, rows.schema)),
        relations=await _in_slices(rows.with_columns(found, columns, texts) for found in relations),
        functions=await read(queries.FUNCTIONS, rows.function),
        operators=await read(queries.OPERATORS, rows.operator),
        types=await _in_slices(rows.with_functions(await read(queries.TYPES, rows.type_), called)),
        casts=await read(queries.CASTS, rows.cast),
    )
    for name in _INDEXES:
        getattr(made, name)         # made at first use: here, not in the middle of somebody's statement
        await asyncio.sleep(0)
    return made


async def _made(make: Callable[..., _Value], answer: Iterable[Row]) -> tuple[_Value, ...]:
    try:
        return await _in_slices(make(*row) for row in answer)
    except (TypeError, ValueError) as fault:
        raise TargetFault("the target answered a catalog query with another shape") from fault


async def _in_slices(entries: Iterable[_Value]) -> tuple[_Value, ...]:
    """What is given one after the other; a catalog of many thousand relations keeps no session waiting for longer than a slice."""
    found: list[_Value] = []
    for entry in entries:
        found.append(entry)
        if not len(found) % _SLICE:
            await asyncio.sleep(0)
    return tuple(found)
