# SPDX-License-Identifier: Apache-2.0
"""What a SQL text would mean on a resource, without sending it: operations, masked columns, refusals.

The catalog comes from ``policy/schemas/RESOURCE.json``, else from the target itself. Names are resolved as in a fresh session of the
gateway's login: the default search_path, no temporary schema.
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.config.load import Folder
from gateway.config.schema import Resource
from gateway.errors import ConfigError, Fault, Refused
from gateway.masking.model import MaskSet
from gateway.model import Operation
from gateway.policy.question import Meaning, rule_text
from gateway.protocols.postgres.catalog.builtin import EFFECTFUL
from gateway.protocols.postgres.catalog.load import CONTEXT_SQL, load_builtin, load_catalog, parse_context
from gateway.protocols.postgres.catalog.model import Catalog
from gateway.protocols.postgres.catalog.offline import from_json
from gateway.protocols.postgres.filters.reach import Reach
from gateway.protocols.postgres.filters.rewrite import Filtered, filtered
from gateway.protocols.postgres.masking import MaskPlan, plan
from gateway.protocols.postgres.roles import role_prefix
from gateway.protocols.postgres.settings import PostgresResource
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.sql.verbs import GENERIC, VERBS
from gateway.protocols.postgres.statement import Context, SqlFault, Statement
from gateway.protocols.postgres.strict import Uses
from gateway.protocols.postgres.towards import open_catalog_connection

SCHEMA_BYTES = 256 * 2**20
SETTINGS_VERBS: Mapping[str, tuple[str, ...]] = {
    "set": (), "reset": (), "set-role": ("role",), "set-session-authorization": ("session_authorization",)}
"""Verbs that carry a parameter, and the one that is all they can carry."""
BOUNDED = ("update", "delete", "merge")
"""Verbs that may lack a WHERE."""
_HIDDEN = re.compile(r"'?\*{4}'?")


@dataclass(frozen=True, slots=True)
class SqlReader:
    """One database's catalog, and how a fresh session sees its names."""

    catalog: Catalog
    context: Context

    def read(self, asked: Any, masks: MaskSet) -> Meaning:
        return explain_sql(str(asked), self.catalog, masks, self.context)

    def filled(self, text: Any) -> Any:
        return _HIDDEN.sub("NULL", text)

    def names(self) -> Iterable[str]:
        return tuple(f"{relation.schema}.{relation.name}" for relation in self.catalog.user.relations if relation.kind in "rvmpf")


def explain_sql(text: str, catalog: Catalog, masks: MaskSet, context: Context) -> Meaning:
    """The meaning of a text; pure. What cannot be parsed or resolved has no operations and a refusal."""
    try:
        statements = analyze(text, context, catalog)
    except SqlFault as fault:
        return Meaning((), refusal=f"{fault.code}: {fault}")
    operations = tuple(operation for statement in statements for operation in statement.operations)
    given = Filtered(text, statements)
    try:
        if masks.filters:
            given = filtered(text, statements, masks, context, catalog)
    except Refused as refusal:
        return Meaning(operations, refusal=str(refusal))
    statements = given.statements
    notes = tuple(dict.fromkeys(note for statement in statements for note in statement.hidden_reasons))
    try:
        uses = Uses(text, context, catalog, statements) if masks.strict else None
        plans = [(statement, plan(statement, masks, catalog, uses)) for statement in statements]
    except Refused as refusal:
        return Meaning(operations, refusal=str(refusal), notes=notes)
    conditions = {name: " and ".join(f"({one})" for one in _conditions(name, masks, catalog)) for name in given.relations}
    return Meaning(operations, dict(_masked(plans)), notes=notes, filtered=conditions, sent="" if given.text == text else given.text)


def _conditions(name: str, masks: MaskSet, catalog: Catalog) -> Iterator[str]:
    """The row filters of ``schema.relation`` as the policy writes them."""
    reach = Reach(masks, catalog)
    yield from sorted(reach.texts(reach.by_name[name]))


def _masked(plans: Iterable[tuple[Statement, MaskPlan]]) -> Iterator[tuple[str, str]]:
    for statement, made in plans:
        if made.columns is None:
            yield "*", "redact"
        for number, (column, output) in enumerate(zip(made.columns or (), statement.columns or (), strict=False)):
            if column is not None:
                yield output.name or f"column {number + 1}", "redact" if column.full else rule_text(column.rule)


def reader(folder: Folder, resource: Resource, database: str | None = None) -> SqlReader | None:
    """The reader of a resource; ``None`` where there is no schema file of that database and the target does not answer."""
    if not isinstance(resource, PostgresResource):
        raise ConfigError(f"{resource.name} is no PostgreSQL resource")
    wanted = database or resource.offered[0]
    if wanted not in resource.offered:
        raise ConfigError(f"{resource.name} does not offer the database {wanted!r}; it offers: {', '.join(resource.offered)}")
    catalog = _from_file(folder.path / "policy" / "schemas" / f"{resource.name}.json")
    if catalog is not None and catalog.database == wanted:
        credential = folder.credentials.get(resource.credential)
        return SqlReader(catalog, _fresh(folder, resource, catalog, (credential.username if credential is not None else "") or ""))
    try:
        return asyncio.run(_from_target(folder, resource, wanted))
    except (Fault, OSError):
        return None


def fresh_context(catalog: Catalog, user: str) -> Context:
    """A new session's names: ``search_path = "$user", public``, pg_catalog first."""
    return Context(path=("pg_catalog", *(name for name in dict.fromkeys((user, "public")) if name in catalog.schemas)), user=user)


def _fresh(folder: Folder, resource: PostgresResource, catalog: Catalog, user: str) -> Context:
    """A session's names, where it logs in as ``user`` or as a role of its own."""
    own = role_prefix(folder, resource)
    return replace(fresh_context(catalog, f"{own}*" if own else user), switched=bool(own))


def _from_file(path: Path) -> Catalog | None:
    try:
        if path.stat().st_size > SCHEMA_BYTES:
            raise ConfigError(f"{path}: a schema file may have {SCHEMA_BYTES} bytes")
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        raise ConfigError(f"{path}: expected what `lockgate schema pull` writes") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected what `lockgate schema pull` writes")
    return from_json(document)


async def _from_target(folder: Folder, resource: PostgresResource, database: str) -> SqlReader:
    connection = await open_catalog_connection(folder, resource, database)
    try:
        catalog = await load_catalog(connection.query, await load_builtin(connection.query), database,
                                     every_schema=bool(role_prefix(folder, resource)))
        state = parse_context((await connection.query(CONTEXT_SQL))[0])
        return SqlReader(catalog, _fresh(folder, resource, catalog, state.user))
    finally:
        await connection.close()


# --- what rules and records speak about ---


def operation(verb: str, objects: tuple[str, ...]) -> Operation:
    """An operation as far as a record shows it: its objects are functions, parameters or relations, as the verb has them."""
    if verb == "call":
        return Operation("postgres", verb, objects, {"functions": objects, "free": all(map(_harmless, objects))})
    if verb in SETTINGS_VERBS:
        return Operation("postgres", verb, objects, {"parameters": tuple(name.lower() for name in objects)})
    relations = tuple(name for name in objects if "." in name)
    return Operation("postgres", verb, objects, {"relations": relations} if relations else {})


def _harmless(name: str) -> bool:
    schema, _, bare = name.partition(".")
    return schema == "pg_catalog" and bare not in EFFECTFUL


def probes(bodies: Iterable[Mapping[str, Any]], names: Iterable[str] = ()) -> Iterator[Operation]:
    """Operations that tell rules with these matchers apart: each verb they mention, on the relations, functions and parameters they
    mention (``names`` that fit a pattern, and one made up for it), and on ones that no pattern fits."""
    several = list(bodies)
    relations = _concrete(_mentioned(several, "relations"), tuple(names), "public.lockgate_probe")
    functions = [_qualified(name) for name in _concrete(_mentioned(several, "functions"), (), "public.lockgate_probe")]
    parameters = _concrete(_mentioned(several, "parameters"), (), "application_name")
    for verb in _verbs(several):
        if verb == "call":
            yield from (Operation("postgres", verb, (name,), {"functions": (name,)}) for name in functions)
        elif verb in SETTINGS_VERBS:
            yield from (Operation("postgres", verb, (name,), {"parameters": (name,)}) for name in SETTINGS_VERBS[verb] or parameters)
        else:
            yield Operation("postgres", verb)
            yield from _on_relations(verb, relations)


def _on_relations(verb: str, relations: Iterable[str]) -> Iterator[Operation]:
    for name in relations:
        yield Operation("postgres", verb, (name,), {"relations": (name,)})
        if verb in BOUNDED:
            yield Operation("postgres", verb, (name,), {"relations": (name,), "where": "missing"})


def _mentioned(bodies: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(value for body in bodies for value in _entries(body, key)))


def _entries(body: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A key's entries; one alone may stand without a list."""
    value = body.get(key, ())
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _concrete(patterns: list[str], names: tuple[str, ...], other: str) -> list[str]:
    made = [name for pattern in patterns for name in (*fnmatch.filter(names, pattern), pattern.replace("*", "x").replace("?", "x"))]
    return list(dict.fromkeys((*made, other)))


def _qualified(function: str) -> str:
    return function if "." in function else f"pg_catalog.{function}"


def _verbs(bodies: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every verb the matchers mention; generic ones as what they stand for, a matcher without verbs as what its other keys can have."""
    found: dict[str, None] = {}
    for body in bodies:
        for verb in _entries(body, "verbs") or _implied(body):
            kinds = sorted(one for one in VERBS if one.startswith(f"{verb}-")) if verb in GENERIC else []
            found.update(dict.fromkeys(kinds or [verb]))
            if verb == "set":
                found.update(dict.fromkeys(SETTINGS_VERBS))
    return list(found)


def _implied(body: Mapping[str, Any]) -> Iterable[str]:
    if "functions" in body:
        return ("call",)
    if "parameters" in body:
        return tuple(SETTINGS_VERBS)
    if "where" in body:
        return BOUNDED
    return sorted(VERBS - {"empty", *GENERIC})
