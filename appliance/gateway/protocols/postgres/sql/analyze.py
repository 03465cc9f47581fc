# SPDX-License-Identifier: Apache-2.0
"""Text in, ``Statement`` values out: the one entry to this package.

The steps of one statement: ``parse`` (libpg_query) → ``select``/``dml``/``utility`` walk its tree with the names of the session →
``draft`` makes the ``Statement``. What is not understood is refused: ``SqlFault``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.protocols.postgres.catalog import Catalog
from gateway.protocols.postgres.sql import calls, containers, dml, draft, expressions, functions, select, session, tables, walk
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.draft import Job, job_of
from gateway.protocols.postgres.sql.knowledge import knowledge_of
from gateway.protocols.postgres.sql.lineage import shape_of
from gateway.protocols.postgres.sql.parse import DEFAULT_LIMIT, Offsets, parse, statements
from gateway.protocols.postgres.sql.settings import list_items
from gateway.protocols.postgres.sql.verbs import BY_OBJECT, FIXED, SEVERAL
from gateway.protocols.postgres.sql.walk import Names
from gateway.protocols.postgres.statement import Context, SqlFault, Statement


def analyze(
    text: str, context: Context, catalog: Catalog, limit: int = DEFAULT_LIMIT, answer: bytes | None = None
) -> tuple[Statement, ...]:
    """The statements of a text; ``()`` where it holds none. ``limit`` bounds the text in bytes; ``answer`` is the parser's, of a text
    that is too long to be parsed in this process.

    Raises ``SqlFault`` and nothing else: with the target's own code for what it would refuse too, 42501, 54001 or 0A000 for
    what the gateway refuses to understand.
    """
    try:
        return _analyze(text, context, catalog, limit, answer)
    except RecursionError:
        raise SqlFault("54001", "the statement is nested too deeply") from None
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as fault:
        # The tree had a shape that no handler expects: not understood, so refused.
        raise SqlFault("0A000", f"this form of the statement is not supported ({type(fault).__name__})") from fault


def _analyze(text: str, context: Context, catalog: Catalog, limit: int, answer: bytes | None) -> tuple[Statement, ...]:
    knowledge = knowledge_of(catalog, shape_of)
    names = Names(context.path, context.temp_schema, context.user)
    known = fast.analyzed(text, names, context, knowledge, min(limit, DEFAULT_LIMIT)) if fast is not None and answer is None else None
    if isinstance(known, tuple):
        return known
    parsed, data = parse(text, limit, answer) if known is None else (statements(known, len(text)), text.encode())
    offsets = Offsets(data)
    found: list[Statement] = []
    for index, entry in enumerate(parsed):
        job = job_of(text, offsets, knowledge, names, context, entry)
        statement = one(job)
        found.append(statement)
        if index + 1 < len(parsed):
            names, context = _after(statement, job, catalog)
    return tuple(found)


def one(job: Job) -> Statement:
    """One statement. Raises ``SqlFault`` 0A000 for a kind that is not known."""
    if job.kind in containers.QUERIES:
        return containers.query_statement(job)
    around = _CONTAINERS.get(job.kind)
    if around is not None:
        return around(job, one)
    about = _SESSION.get(job.kind)
    if about is not None:
        return about(job)
    if job.kind in FIXED or job.kind in SEVERAL or job.kind in BY_OBJECT:
        return session.other(job)
    raise SqlFault("0A000", f"{job.kind} is not supported")


_CONTAINERS: dict[str, Callable[[Job, containers.Analyze], Statement]] = {
    "CopyStmt": containers.copy,
    "ExplainStmt": containers.explain,
    "PrepareStmt": containers.prepare,
    "ExecuteStmt": containers.execute,
    "DeclareCursorStmt": containers.declare,
    "CreateTableAsStmt": containers.create_as,
}

_SESSION: dict[str, Callable[[Job], Statement]] = {
    "TransactionStmt": session.transaction,
    "VariableSetStmt": session.set_variable,
    "VariableShowStmt": session.show,
    "ConstraintsSetStmt": session.set_constraints,
    "FetchStmt": session.fetch,
    "ClosePortalStmt": session.close,
    "DeallocateStmt": session.deallocate,
    "DiscardStmt": session.discard,
    "ListenStmt": session.channel,
    "UnlistenStmt": session.channel,
    "NotifyStmt": session.channel,
    "CheckPointStmt": session.simple,
    "LoadStmt": session.simple,
    "DoStmt": session.do,
    "CallStmt": session.call_procedure,
}


# what a statement changes for the later ones of the same text

_TABLE_LIKE = ("table", "index", "view", "materialized-view", "sequence", "foreign-table", "trigger", "rule", "policy", "statistics")


def _after(statement: Statement, job: Job, catalog: Catalog) -> tuple[Names, Context]:
    """The names and context that the next statement sees."""
    names, context = job.names, job.context
    if statement.changes_context or statement.transaction in ("commit", "rollback", "rollback-to"):
        path = _new_path(statement, job, catalog)
        stale = names.stale | _ANYTHING if path is None and context.switched and _hides(catalog) else names.stale
        names = Names(path, names.temp, names.user, stale)
    if statement.changes_catalog:
        kinds = {"relations", "types"} if statement.verb.partition("-")[2] in _TABLE_LIKE else {"relations", "types", "functions"}
        names = Names(names.path, names.temp, names.user, names.stale | kinds)
    return names, _new_context(statement, context)


_ANYTHING = frozenset({"relations", "types", "functions"})


def _hides(catalog: Catalog) -> bool:
    """Whether there is something in a schema that the catalog's reader may not use; the role that a session switched to perhaps may."""
    user = catalog.user
    places = {one.schema for kind in (user.relations, user.functions, user.operators, user.types) for one in kind}
    return any(place not in catalog.schemas and not place.startswith("pg_") for place in places)


def _new_path(statement: Statement, job: Job, catalog: Catalog) -> tuple[str, ...] | None:
    """The path after a SET search_path to literals; ``None`` after anything else that may change it."""
    only = statement.verb == "set" and set(statement.settings) == {"search_path"}
    if not only or job.kind != "VariableSetStmt":
        return None
    items = list_items(job.body.get("args", ())) if statement.settings["search_path"] is not None else None
    if items is None or job.names.path is None:
        return None
    path = effective_path(items, job.names, catalog)
    new = set(path) - {*job.names.path, "pg_catalog"}
    if job.context.switched and set(items) - {*job.names.path, ""}:
        return None         # which schemas another role than the catalog's reader may use is not known, nor whether it has more of them
    if new & catalog.builtin.objects.schemas:
        return None         # the target passes over a schema that the role may not use
    return path


def effective_path(items: list[str], names: Names, catalog: Catalog) -> tuple[str, ...]:
    """``current_schemas(true)`` for a search_path of these items (recomputeNamespacePath)."""
    listed = [names.user if item == "$user" else (names.temp or "") if item == "pg_temp" else item for item in items]
    path = [schema for schema in listed if schema in catalog.schemas or (schema and schema == names.temp)]
    if "pg_catalog" not in path:
        path.insert(0, "pg_catalog")
    if names.temp and names.temp not in path:
        path.insert(0, names.temp)
    return tuple(dict.fromkeys(path))


def _new_context(statement: Statement, context: Context) -> Context:
    prepared, cursors, early = dict(context.prepared), dict(context.cursors), set(context.early_cursors)
    if statement.prepares is not None:
        prepared[statement.prepares] = statement.inner_text
    if statement.declares is not None:
        cursors[statement.declares] = statement.columns
        if statement.inner is not None and statement.inner.early:
            early.add(statement.declares)
    if statement.forgets == "*":
        if statement.verb in ("deallocate", "discard"):
            prepared.clear()
        if statement.verb in ("close", "discard"):
            cursors.clear()
    elif statement.forgets is not None:
        (cursors if statement.verb == "close" else prepared).pop(statement.forgets, None)
    return replace(context, prepared=prepared, cursors=cursors, early_cursors=frozenset(early))


if fast is not None:
    fast.bind_walk(walk.Walk)
    fast.bind_pure(expressions.HANDLERS, {
        **walk.PURE, **calls.PURE, **expressions.PURE, **functions.PURE, **select.PURE, **tables.PURE, **draft.PURE, **dml.PURE,
        **containers.PURE})
