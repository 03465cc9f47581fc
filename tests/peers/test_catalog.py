# SPDX-License-Identifier: Apache-2.0
"""The catalog as read from real servers: every kind of object, the epoch, and loading while others hold locks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.protocols.postgres.catalog import builtin, queries
from gateway.protocols.postgres.catalog.load import Fetch, array_items, load_builtin, load_catalog, parse_context
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Relation
from gateway.protocols.postgres.catalog.offline import builtin_to_bytes, dump, from_json, shipped_builtin, to_json
from gateway.protocols.postgres.catalog.snapshot import catalog_connection
from gateway.testing.client import Client, ServerError
from gateway.testing.postgres import SUPERUSER, PostgresServer

DATABASE = "catalog"

OBJECTS = """
create schema app;
create type app.mood as enum ('sad', 'ok');
create type app.pair as (x int, y text);
create type app.span as range (subtype = numeric);
create function app.looks_good(text) returns boolean language sql immutable as 'select $1 <> ''''';
create function app.matches(text, text) returns boolean language sql immutable as 'select $1 = $2';
create operator app.~~~ (leftarg = text, rightarg = text, function = app.matches);
create operator app.!! (rightarg = text, function = app.looks_good);
create domain app.good as text default 'x' check (app.looks_good(value)) check (value operator(app.~~~) value);
create domain app.better as app.good;
create table app.base (id serial primary key, a text default app.looks_good('q')::text, b int not null,
  c text generated always as (upper(a)) stored, d app.good, gone int);
alter table app.base drop column gone;
create table app.child (e int) inherits (app.base);
create table app.grandchild () inherits (app.child);
create table app.parts (id int, at date) partition by range (at);
create table app.parts_2024 partition of app.parts for values from ('2024-01-01') to ('2025-01-01');
create view app.plain as select id, upper(a) as loud from app.base;
create materialized view app.kept as select b from app.base;
create view app.nested as select loud from app.plain where loud like 'A%';
create unlogged table app.fast (id int);
create sequence app.numbers;
create table app.ruled (id int);
create rule also as on insert to app.ruled do also select 1;
create function app.fill() returns trigger language plpgsql as 'begin return new; end';
create table app.fired (id int references app.base);
create trigger fills before insert on app.fired for each row execute function app.fill();
create table app.guarded (id int);
create policy mine on app.guarded using (id = 1);
alter table app.guarded enable row level security;
create function app.many(a int, variadic b text[] default '{}') returns setof text language plpgsql volatile strict as 'begin end';
create function app.rows(in k int, out name text, out size bigint) returns setof record language sql stable as 'select ''a'', 1::bigint';
create function app.cells() returns table (x int, y text) language sql as 'select 1, ''a''';
create procedure app.proceed(a int, inout b int) language sql as 'select 1';
create aggregate app.total(int) (sfunc = int4pl, stype = int, initcond = '0');
create function app.to_mood(int) returns app.mood language sql immutable as 'select ''ok''::app.mood';
create cast (int as app.mood) with function app.to_mood(int) as assignment;
create foreign data wrapper nowhere;
create server far foreign data wrapper nowhere options (host 'far.example');
create foreign table app.remote (id int) server far;
"""


@pytest.fixture(scope="module", params=["postgres", "newest_postgres"])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    found: PostgresServer = request.getfixturevalue(request.param)
    found.execute(f'drop database if exists "{DATABASE}" with (force)')
    found.create_database(DATABASE)
    found.execute(OBJECTS, DATABASE)
    return found


@pytest.fixture
def fetch(server: PostgresServer) -> Iterator[Fetch]:
    with catalog_connection(server, DATABASE) as fetch:
        yield fetch


@pytest.fixture(scope="module")
def system(server: PostgresServer) -> BuiltinCatalog:
    with catalog_connection(server, DATABASE) as fetch:
        return asyncio.run(load_builtin(fetch))


@pytest.fixture
def catalog(server: PostgresServer, system: BuiltinCatalog) -> Catalog:
    with catalog_connection(server, DATABASE) as fetch:
        return asyncio.run(load_catalog(fetch, system, DATABASE))


@pytest.fixture
def session(server: PostgresServer) -> Iterator[Client]:
    with connect(server) as client:
        yield client


def connect(server: PostgresServer) -> Client:
    socket = server.folder / "s" / f".s.PGSQL.{server.port}"
    return Client.connect_unix(socket, user=SUPERUSER, database=DATABASE)


def relation(catalog: Catalog, name: str) -> Relation:
    found = catalog.relation(name, "app")
    assert found is not None
    return found


def test_relations_of_every_kind(catalog: Catalog) -> None:
    kinds = {name: relation(catalog, name).kind for name in ("base", "plain", "kept", "parts", "remote", "numbers", "pair", "base_pkey")}
    assert kinds == {
        "base": "r", "plain": "v", "kept": "m", "parts": "p", "remote": "f", "numbers": "S", "pair": "c", "base_pkey": "i",
    }  # fmt: skip
    toast = catalog.relation(f"pg_toast_{relation(catalog, 'base').oid}", "pg_toast")
    assert toast is not None
    assert (toast.kind, [column.name for column in toast.columns]) == ("t", ["chunk_id", "chunk_seq", "chunk_data"])
    assert relation(catalog, "fast").persistence == "u"
    assert {"app", "public", "pg_catalog", "information_schema"} <= catalog.schemas


def test_columns_with_defaults_and_generated_expressions(catalog: Catalog) -> None:
    columns = {column.name: column for column in relation(catalog, "base").columns}
    assert list(columns) == ["id", "a", "b", "c", "d"]
    assert (columns["id"].default, columns["id"].not_null) == ("nextval('app.base_id_seq'::regclass)", True)
    assert columns["a"].default == "(app.looks_good('q'::text))::text"
    assert (columns["c"].generated, columns["c"].default) == ("upper(a)", None)
    assert columns["d"].type_oid == catalog.type("good", "app").oid  # type: ignore[union-attr]
    assert columns["b"].default is None


def test_definitions_are_schema_qualified(catalog: Catalog) -> None:
    assert "FROM app.base" in (relation(catalog, "plain").definition or "")
    assert "FROM app.plain" in (relation(catalog, "nested").definition or "")
    assert "FROM app.base" in (relation(catalog, "kept").definition or "")
    assert relation(catalog, "base").definition is None


def test_inheritance_and_partitions(catalog: Catalog) -> None:
    assert [found.name for found in catalog.children(relation(catalog, "base").oid)] == ["child", "grandchild"]
    assert [found.name for found in catalog.ancestors(relation(catalog, "grandchild").oid)] == ["child", "base"]
    assert [found.name for found in catalog.children(relation(catalog, "parts").oid)] == ["parts_2024"]


def test_rules_triggers_and_policies(catalog: Catalog) -> None:
    flags = {name: relation(catalog, name) for name in ("ruled", "fired", "guarded", "base", "plain")}
    assert {name for name, found in flags.items() if found.rules} == {"ruled"}
    assert {name for name, found in flags.items() if found.triggers} == {"fired"}
    assert {name for name, found in flags.items() if found.row_security} == {"guarded"}


def test_functions_of_every_kind(catalog: Catalog) -> None:
    many, rows, cells, proceed, total = (catalog.functions(name, "app")[0] for name in ("many", "rows", "cells", "proceed", "total"))
    assert (many.arg_types, many.defaults, many.variadic, many.arg_names) == ((23, 1009), 1, 25, ("a", "b"))
    assert (many.kind, many.returns_set, many.volatile, many.strict, many.language) == ("f", True, "v", True, "plpgsql")
    assert (rows.arg_types, rows.arg_names, rows.outputs, rows.volatile) == ((23,), ("k",), (("name", 25), ("size", 20)), "s")
    assert (cells.arg_types, cells.outputs) == ((), (("x", 23), ("y", 25)))
    assert (proceed.kind, proceed.arg_types, total.kind, total.result) == ("p", (23, 23), "a", 23)


def test_operators(catalog: Catalog) -> None:
    (infix,), (prefix,) = catalog.operators("~~~", "app"), catalog.operators("!!", "app")
    assert (infix.left, infix.right, infix.result) == (25, 25, 16)
    assert catalog.function_by_oid(infix.function_oid).name == "matches"  # type: ignore[union-attr]
    assert (prefix.left, prefix.right) == (0, 25)


def test_types_with_what_they_call(catalog: Catalog) -> None:
    mood, pair, span, good, better, base = (catalog.type(name, "app") for name in ("mood", "pair", "span", "good", "better", "base"))
    assert mood and pair and span and good and better and base
    assert [entry.kind for entry in (mood, pair, span, good, better, base)] == ["e", "c", "r", "d", "d", "c"]
    assert catalog.type_by_oid(mood.array).element == mood.oid  # type: ignore[union-attr]
    assert (pair.relation_oid, span.subtype) == (relation(catalog, "pair").oid, 1700)
    assert {catalog.function_by_oid(oid).name for oid in good.checks} == {"looks_good", "matches"}  # type: ignore[union-attr]
    assert (good.base, better.base, better.checks) == (25, good.oid, ())
    assert catalog.type("text").preferred  # type: ignore[union-attr]


def test_casts(catalog: Catalog) -> None:
    mood = catalog.type("mood", "app")
    assert mood
    (cast,) = catalog.casts_to(mood.oid)
    assert (cast.source, cast.context, cast.method) == (23, "a", "f")
    assert catalog.function_by_oid(cast.function_oid).name == "to_mood"  # type: ignore[union-attr]
    assert cast in catalog.casts_from(23)


def test_built_in_objects(catalog: Catalog) -> None:
    assert catalog.relation("pg_class", path=("public",)).schema == "pg_catalog"  # type: ignore[union-attr]
    assert catalog.relation("tables", "information_schema").column("table_name")  # type: ignore[union-attr]
    assert len(catalog.functions("upper", path=("public",))) >= 2
    assert catalog.cast(23, 20).context == "i"  # type: ignore[union-attr]


def test_each_volatile_built_in_is_classified(system: BuiltinCatalog) -> None:
    volatile = {function.name for function in system.objects.functions if function.volatile == "v"}
    assert volatile <= set(builtin.EFFECTFUL) | set(builtin.HARMLESS_VOLATILE)
    known = {name for name in builtin.EFFECTFUL if name in {function.name for function in system.objects.functions}}
    assert {function.name for function in system.objects.functions if builtin.effect(function)} == known


def test_the_shipped_catalog_is_what_the_server_says(system: BuiltinCatalog) -> None:
    """Of the same minor version byte for byte; of another one at least the names."""
    shipped = shipped_builtin(system.server_version)
    if shipped.server_version == system.server_version:
        assert builtin_to_bytes(shipped) == builtin_to_bytes(system)
    assert {function.oid for function in shipped.objects.functions} == {function.oid for function in system.objects.functions}


def test_schema_file_of_a_live_catalog_comes_back(catalog: Catalog) -> None:
    document = to_json(catalog)
    again = from_json(document)
    assert (again.user, again.schemas) == (catalog.user, catalog.schemas)
    assert dump(to_json(again)) == dump(document)


CHANGES = {
    "schema": (
        "create schema s1",
        "alter schema s1 rename to s2",
        "drop schema s2",
    ),
    "table": (
        "create table t1 (a int)",
        "alter table t1 rename to t2",
        "alter table t2 set schema app",
        "drop table app.t2",
    ),
    "column": (
        "create table t1 (a int, z int)",
        "alter table t1 add column b int",
        "alter table t1 rename column b to c",
        "alter table t1 drop column c",
        "alter table t1 alter column a type bigint",
        "alter table t1 alter column a set default 1",
        "alter table t1 alter column a set not null",
        "drop table t1",
    ),
    "view": (
        "create view v1 as select 1 as a",
        "create or replace view v1 as select 2 as a",
        "alter view v1 rename column a to b",
        "drop view v1",
    ),
    "matview": (
        "create materialized view m1 as select 1 as a",
        "drop materialized view m1",
    ),
    "function": (
        "create function f1() returns int language sql as 'select 1'",
        "create or replace function f1() returns int language sql as 'select 2'",
        "alter function f1() immutable",
        "drop function f1()",
    ),
    "aggregate": (
        "create aggregate a1(int) (sfunc = int4pl, stype = int)",
        "drop aggregate a1(int)",
    ),
    "operator": (
        "create operator === (leftarg = int, rightarg = int, function = int4eq)",
        "drop operator === (int, int)",
    ),
    "type": (
        "create type e1 as enum ('a')",
        "alter type e1 rename to e2",
        "drop type e2",
    ),
    "range": (
        "create type r1 as range (subtype = int)",
        "drop type r1",
    ),
    "domain": (
        "create domain d1 as text",
        "alter domain d1 add constraint c1 check (value <> '')",
        "alter domain d1 drop constraint c1",
        "drop domain d1",
    ),
    "cast": (
        "create cast (text as point) with inout",
        "drop cast (text as point)",
    ),
    "rule": (
        "create rule r1 as on insert to app.fast do also select 1",
        "drop rule r1 on app.fast",
    ),
    "trigger": (
        "create trigger t1 before insert on app.fast for each row execute function app.fill()",
        "alter table app.fast disable trigger t1",
        "drop trigger t1 on app.fast",
    ),
    "policy": (
        "create policy p1 on app.fast using (true)",
        "alter policy p1 on app.fast using (false)",
        "alter table app.fast enable row level security",
        "alter table app.fast disable row level security",
        "drop policy p1 on app.fast",
    ),
    "inheritance": (
        "create table c1 (id int)",
        "alter table c1 inherit app.fast",
        "alter table c1 no inherit app.fast",
        "drop table c1",
    ),
    "sequence": (
        "create sequence q1",
        "drop sequence q1",
    ),
    "temporary": (
        "create temp table t1 (a int)",
        "drop table t1",
    ),
    "foreign": (
        "create foreign table f1 (a int) server far",
        "drop foreign table f1",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
async def test_every_change_of_definitions_changes_the_epoch(kind: str, session: Client, fetch: Fetch) -> None:
    seen = [await fetch(queries.EPOCH_SQL)]
    for statement in CHANGES[kind]:
        session.query(statement)
        seen.append(await fetch(queries.EPOCH_SQL))
    assert [statement for statement, before, after in zip(CHANGES[kind], seen, seen[1:], strict=False) if before == after] == []


async def test_data_and_statistics_do_not_change_the_epoch(session: Client, fetch: Fetch) -> None:
    session.query("insert into app.base (b) values (1)")
    session.query("analyze app.base")
    before = await fetch(queries.EPOCH_SQL)
    for statement in (
        "insert into app.base (b) select g from generate_series(1, 5000) g",
        "update app.base set b = 2",
        "delete from app.base where id % 2 = 0",
        "select nextval('app.numbers')",
        "analyze app.base",
        "vacuum app.base",
        "vacuum (freeze) pg_class",
        "begin; create table rolled_back (a int); rollback",
        "begin; lock table app.base; commit",
        "comment on table app.base is 'said'",
    ):
        for part in statement.split("; "):
            session.query(part)
        assert (statement, await fetch(queries.EPOCH_SQL)) == (statement, before)


async def test_uncommitted_changes_are_for_their_own_session(server: PostgresServer, system: BuiltinCatalog, fetch: Fetch) -> None:
    with catalog_connection(server, DATABASE) as own:
        before = await own(queries.EPOCH_SQL)
        await own("begin")
        await own("create table public.mine (a int)")
        first = await own(queries.EPOCH_SQL)
        await own("alter table public.mine rename to yours")
        second = await own(queries.EPOCH_SQL)
        inside = await load_catalog(own, system, DATABASE)
        outside = await load_catalog(fetch, system, DATABASE)
        await own("rollback")
        assert len({str(before), str(first), str(second)}) == 3
        assert inside.relation("yours", "public") and not outside.relation("yours", "public")
        assert await own(queries.EPOCH_SQL) == before


async def test_context_of_a_session(session: Client) -> None:
    plain = parse_context(session.query(queries.CONTEXT_SQL)[0].rows[0])
    assert (plain.path, plain.temp_schema, plain.role) == (("pg_catalog", "public"), None, "none")
    session.query("create temp table shadow (a int)")
    session.query("""set search_path = app, "odd, name", public""")
    session.query('create schema "odd, name"')
    state = parse_context(session.query(queries.CONTEXT_SQL)[0].rows[0])
    session.query('drop schema "odd, name"')
    assert state.temp_schema is not None
    assert state.path == (state.temp_schema, "pg_catalog", "app", "odd, name", "public")
    assert (state.standard_conforming_strings, state.client_encoding, state.row_security, state.session_replication_role) == (
        "on", "UTF8", "on", "origin",
    )  # fmt: skip


async def test_context_and_epoch_do_not_fall_for_shadowing(session: Client) -> None:
    """Operators and functions of the session's path cannot lie to the gateway."""
    expected = (session.query(queries.CONTEXT_SQL)[0].rows[0], session.query(queries.SERVER)[0].rows)
    session.query("begin")
    session.query("create schema evil")
    session.query("create function evil.lie(oid, oid) returns boolean language sql as 'select true'")
    session.query("create operator evil.= (leftarg = oid, rightarg = oid, function = evil.lie)")
    session.query("create function evil.current_setting(text) returns text language sql as 'select ''lie'''")
    session.query("create function evil.md5(text) returns text language sql as 'select ''lie'''")
    session.query("create function evil.sum(numeric) returns numeric language sql as 'select 1::numeric'")
    session.query("set local search_path = evil, pg_catalog")
    context = session.query(queries.CONTEXT_SQL)[0].rows[0]
    epoch = session.query(queries.EPOCH_SQL)[0].rows[0][0]
    server = session.query(queries.SERVER)[0].rows
    session.query("rollback")
    assert context[1:5] == expected[0][1:5]
    assert server == expected[1]
    assert epoch != "lie"
    assert array_items(context[0] or "") == ["evil", "pg_catalog"]


async def test_temp_objects_of_the_loading_session(server: PostgresServer, system: BuiltinCatalog) -> None:
    with catalog_connection(server, DATABASE) as own:
        await own("create temp table shadow (a int)")
        await own("create temp view over as select a from shadow")
        catalog = await load_catalog(own, system, DATABASE)
        temp = catalog.loaded_temp_schema
        found = catalog.relation("over", "pg_temp", temp_schema=temp)
        assert found and temp
        assert (found.schema, catalog.relation("shadow", "pg_temp", temp_schema=temp).persistence) == (temp, "t")  # type: ignore[union-attr]
        assert "FROM shadow" in (found.definition or "")


async def test_a_known_definition_is_not_printed_behind_a_lock(server: PostgresServer, system: BuiltinCatalog) -> None:
    with catalog_connection(server, DATABASE) as own, connect(server) as other, connect(server) as busy:
        await own("set lock_timeout = '200ms'")
        known = await load_catalog(own, system, DATABASE)
        busy.query("begin")
        busy.query("lock table app.base in access exclusive mode")
        other.query("create view app.appears as select id from app.fast")
        try:
            fresh = await load_catalog(own, system, DATABASE, known)
            assert "FROM app.base" in (relation(fresh, "plain").definition or "")
            assert relation(fresh, "base") == relation(known, "base")
            assert "FROM app.fast" in (relation(fresh, "appears").definition or "")
            with pytest.raises(ServerError) as caught:
                await load_catalog(own, system, DATABASE)
            assert caught.value.code == "55P03"
        finally:
            busy.query("rollback")
            other.query("drop view app.appears")


RENAMES = (
    "alter table app.base rename to base2",
    "alter table app.base rename column a to a2",
    "alter schema app rename to app2",
    "alter function app.looks_good(text) rename to looks_fine",
    "alter operator app.~~~ (text, text) set schema public",
    "alter type app.mood rename to mood2",
    "alter view app.plain rename column loud to louder",
)


@pytest.mark.parametrize("change", RENAMES)
async def test_definitions_are_read_again_where_their_text_changed(change: str, server: PostgresServer, system: BuiltinCatalog) -> None:
    with catalog_connection(server, DATABASE) as own:
        await own("begin")
        await own("create view app.uses as select app.looks_good(a) as g, a operator(app.~~~) 'x' as o, 'ok'::app.mood as m from app.base")
        known = await load_catalog(own, system, DATABASE)
        await own(change)
        kept = await load_catalog(own, system, DATABASE, known)
        anew = await load_catalog(own, system, DATABASE)
        await own("rollback")
    assert kept == anew
    assert kept.user != known.user


async def test_unchanged_definitions_are_not_asked_for(server: PostgresServer, system: BuiltinCatalog) -> None:
    asked: list[str] = []
    with catalog_connection(server, DATABASE) as own:

        async def counting(sql: str) -> list[tuple[str | None, ...]]:
            asked.append(sql)
            return await own(sql)

        known = await load_catalog(counting, system, DATABASE)
        assert any("pg_get_viewdef" in sql for sql in asked)
        asked.clear()
        assert await load_catalog(counting, system, DATABASE, known) == known
        assert not any("pg_get_viewdef" in sql for sql in asked)


def test_only_triggers_that_may_change_the_row_are_rewriting(server: PostgresServer, system: BuiltinCatalog) -> None:
    server.execute("""
        create table trg_after(id int); create table trg_before(id int); create table trg_statement(id int);
        create function trg_f() returns trigger language plpgsql as 'begin return new; end';
        create trigger a after insert on trg_after for each row execute function trg_f();
        create trigger b before insert on trg_before for each row execute function trg_f();
        create trigger s before insert on trg_statement for each statement execute function trg_f();""", DATABASE)
    try:
        with catalog_connection(server, DATABASE) as fetch:
            now = asyncio.run(load_catalog(fetch, system, DATABASE))
        found = {name: now.relation(name, "public") for name in ("trg_after", "trg_before", "trg_statement")}
        assert {name: (one.triggers, one.rewriting) for name, one in found.items() if one} == {
            "trg_after": (True, False), "trg_before": (True, True), "trg_statement": (True, False)}
    finally:
        server.execute("drop table trg_after, trg_before, trg_statement; drop function trg_f()", DATABASE)
