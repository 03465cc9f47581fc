# SPDX-License-Identifier: Apache-2.0
"""A role of its own for each session, on PostgreSQL 15 and the newest: its rights, its name, its end, what a crash leaves."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.errors import AuditUnavailable
from gateway.protocols.postgres import ephemeral
from gateway.protocols.postgres.ephemeral import Mark
from gateway.protocols.postgres.messages import Query
from gateway.testing.appliance import ORDERS_SQL, Appliance
from gateway.testing.postgres import PostgresServer, embedded_binaries, system_binaries
from tests.peers.gateway import inside, running
from tests.peers.wire import Wire, codes, errors, rows

ADMIN = "lockgate_admin"
PASSWORD = "of-the-administrative-login"
MAKER = """identities:
  - {name: maker, issuer: ci, match: {sub: "service:maker"}, owner: dana}
grants:
  - name: makes things
    to: [maker]
    targets: [orders-db]
    rules:
      - name: makes
        allow: {sql: {verbs: [create-table, create-schema, create-view, create-function, drop-table, insert, select, set, call, begin,
                              commit, prepare-transaction]}}
"""


def make_target(server: PostgresServer) -> None:
    """What docs/operating.md tells a database's administrator to do, the rights of version 16 where there are any."""
    server.execute("create role orders_reader nologin; create role orders_maker nologin")
    server.create_role(ADMIN, PASSWORD, "createrole")
    if server.version >= 16:
        server.execute(f"grant orders_reader, orders_maker to {ADMIN} with admin true, inherit false, set false")
    server.create_database("orders")
    server.execute(ORDERS_SQL.read_text(), "orders")
    server.execute("grant select on all tables in schema public to orders_reader; grant create on database orders to orders_maker; "
                   "grant create on schema public to orders_maker; revoke select on public.customers from orders_reader", "orders")


@pytest.fixture(scope="module", params=["system", "newest"])
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    binaries = system_binaries() if request.param == "system" else embedded_binaries()
    with PostgresServer(binaries=binaries, settings={"log_statement": "all", "max_prepared_transactions": "10"}) as made:
        make_target(made)
        yield made


def credential(appliance: Appliance, **keys: object) -> None:
    found = {"kind": "ephemeral-role", "username": ADMIN, "password": PASSWORD, "member_of": ["orders_reader", "orders_maker"], **keys}
    (appliance.folder / "credentials" / "orders-db.yaml").write_text(json.dumps(found))


def with_roles(appliance: Appliance) -> None:
    appliance.password = PASSWORD
    credential(appliance)
    (appliance.folder / "policy" / "more.yaml").write_text(MAKER)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, server: PostgresServer) -> Iterator[Appliance]:
    with running(tmp_path_factory.mktemp("roles"), server, change=with_roles) as appliance:
        yield appliance


def enter(appliance: Appliance) -> Wire:
    return Wire.connect(appliance.port, "maker", appliance.token("maker"), "orders-db", ca=appliance.ca)


def roles(server: PostgresServer) -> list[str]:
    found = server.execute("select rolname from pg_roles where rolname like 'lockgate\\_%' and rolname <> 'lockgate_admin' order by 1")
    return [row[0] or "" for row in found[-1].rows]


def until(holds: Callable[[], object], seconds: float = 60.0, why: Callable[[], object] = lambda: "not in time") -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


def none_left(server: PostgresServer) -> None:
    until(lambda: not roles(server), why=lambda: roles(server))


def records(appliance: Appliance, kind: str) -> list[dict[str, object]]:
    return [line for line in appliance.lines("audit", "export") if line["kind"] == kind]


def test_a_session_has_a_role_of_its_own_with_no_more_than_its_groups(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one, enter(gateway) as two:
        made = roles(server)
        assert len(made) == 2
        assert all(re.fullmatch(r"lockgate_plant-a-1_[0-9a-f]{16}", role) for role in made)
        assert rows(one.query("select count(*) from orders")) == [(b"20",)]
        assert rows(two.query("select count(*) from orders")) == [(b"20",)]
        [attributes] = server.execute(
            "select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolcanlogin, rolconnlimit, "
            f"rolvaliduntil > now() and rolvaliduntil < now() + interval '1 day' from pg_roles where rolname = '{made[0]}'")[-1].rows
        assert attributes == ("f", "f", "f", "f", "f", "t", "1", "t")
        groups = server.execute(f"select roleid::regrole::text, admin_option from pg_auth_members where member = '\"{made[0]}\"'::regrole")
        assert sorted(groups[-1].rows) == [("orders_maker", "f"), ("orders_reader", "f")]
        assert codes(one.query("select 1 from customers")) == ["42501"], "the groups have no right to it"
    none_left(server)


def test_the_records_name_the_role_and_nothing_secret(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as session:
        [role] = roles(server)
        session.query("select 1")
    none_left(server)
    until(lambda: any(one["role"] == role for one in records(gateway, "credential.revoked")))
    [issued] = [one for one in records(gateway, "credential.issued") if one["role"] == role]
    assert issued["member_of"] == ["orders_reader", "orders_maker"]
    assert issued["credential"] == "orders-db"
    started = [one for one in records(gateway, "session.start") if one["session"] == issued["session"]]
    assert len(started) == 1
    assert "SCRAM" not in json.dumps(issued)
    gateway.run("sessions", "show", str(issued["session"]))
    gateway.run("sessions", "replay", str(issued["session"]))


def test_nothing_that_can_be_logged_in_with_is_in_the_targets_log(gateway: Appliance, server: PostgresServer) -> None:
    before = len(server.log)
    with enter(gateway) as session:
        [role] = roles(server)
        session.query("select 1")
    none_left(server)
    said = server.log[before:]
    made = [line for line in said.splitlines() if f'create role "{role}"' in line]
    assert made, "log_statement = all shows the statement"
    assert all("password 'SCRAM-SHA-256$4096:" in line for line in made)
    assert PASSWORD not in said


def test_what_a_session_made_is_dropped_with_it(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as session:
        for text in ("create table mine as select * from orders", "create schema own_place", "create table own_place.t (a int)",
                     "create view own_place.v as select * from orders",
                     "create function own_place.f() returns int language sql as 'select 1'"):
            assert codes(session.query(text)) == [], text
        assert rows(session.query("select count(*) from mine")) == [(b"20",)]
        assert codes(session.query("select * from own_place.t")) == []
        assert rows(session.query("select own_place.f()")) == [(b"1",)]
    none_left(server)
    assert server.execute("select count(*) from pg_class where relname in ('mine', 't')", "orders")[-1].rows == [("0",)]
    assert server.execute("select count(*) from pg_namespace where nspname = 'own_place'", "orders")[-1].rows == [("0",)]


def test_a_session_that_is_cut_off_leaves_nothing(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as session:
        session.send(Query("select count(*) from orders, orders a, orders b, orders c, orders d, orders e"))
    until(lambda: not running_as_ours(server))
    none_left(server)


def test_two_sessions_keep_their_things_apart(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one, enter(gateway) as two:
        for number, session in enumerate((one, two)):
            assert codes(session.query(f"create schema place_{number}")) == []
            assert codes(session.query(f"create table place_{number}.t as select {number} as n")) == []
        assert rows(two.query("select n from place_1.t")) == [(b"1",)]
        assert codes(two.query("select n from place_0.t")) == ["42501"], "the target says no"
        assert codes(two.query("set search_path = place_0, public; select n from t")) in (["42501"], ["42P01"])
        assert codes(two.query("drop table place_0.t")) == ["42501"]
    none_left(server)


def test_a_prepared_transaction_keeps_the_role_until_it_is_over(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as session:
        [role] = roles(server)
        session.query("begin")
        session.query("create table kept (a int)")
        assert codes(session.query("prepare transaction 'kept'")) == []
    until(lambda: any(one["role"] == role for one in records(gateway, "credential.left")))
    assert server.execute(f"select rolcanlogin from pg_roles where rolname = '{role}'")[-1].rows == [("f",)]
    server.execute("rollback prepared 'kept'", "orders")
    none_left(server)
    assert any(one["role"] == role and one["swept"] for one in records(gateway, "credential.revoked"))


def running_as_ours(server: PostgresServer) -> bool:
    found = server.execute(f"select count(*) from pg_stat_activity where usename like 'lockgate\\_%' and usename <> '{ADMIN}'")
    return found[-1].rows != [("0",)]


def test_t35_kill_9_leaves_a_role_that_the_next_start_drops(gateway: Appliance, server: PostgresServer) -> None:
    """Also one whose statement still runs on the target; nobody else's role is touched, whatever its name looks like."""
    server.execute("create role \"lockgate_plant-a-1_00000000000000aa\"; create role \"lockgate_plant-a-12_00000000000000aa\" nologin")
    theirs = Mark("plant-a-1", "plant-a", "another-state-fo", "b" * 32, "orders-db", "orders").text()
    server.execute("create role \"lockgate_plant-a-1_bbbbbbbbbbbbbbbb\" valid until '2999-01-01'; "
                   f"comment on role \"lockgate_plant-a-1_bbbbbbbbbbbbbbbb\" is '{theirs}'; "
                   "create role \"lockgate_plant-a-1_cccccccccccccccc\" valid until '2001-01-01'; "
                   f"comment on role \"lockgate_plant-a-1_cccccccccccccccc\" is '{theirs.replace('b' * 32, 'c' * 32)}'")
    if server.version >= 16:
        server.execute(f"grant \"lockgate_plant-a-1_cccccccccccccccc\" to {ADMIN} with admin true")
    busy, idle = enter(gateway), enter(gateway)
    busy.send(Query("select count(*) from orders a, orders b, orders c, orders d, orders e, orders f, orders g, orders h, orders i"))
    idle.query("create table of_the_dead (a int)")
    until(lambda: running_as_ours(server))
    gateway.kill()
    busy.close()
    idle.close()
    before = len(roles(server))
    assert before == 6
    gateway.start()
    untouched = ["lockgate_plant-a-12_00000000000000aa", "lockgate_plant-a-1_00000000000000aa", "lockgate_plant-a-1_bbbbbbbbbbbbbbbb"]
    until(lambda: roles(server) == untouched)
    until(lambda: not running_as_ours(server))
    until(lambda: len([one for one in records(gateway, "credential.revoked") if one.get("swept")]) >= 3)
    server.execute("; ".join(f'drop role "{role}"' for role in untouched))


def test_a_role_of_that_name_that_is_not_ours_is_neither_used_nor_dropped(tmp_path: Path, server: PostgresServer) -> None:
    """The name is of 64 random bits; here they are not."""
    taken = ephemeral.role_name("plant-a-1", "0" * 32)
    server.execute(f'create role "{taken}" superuser login')

    async def scenario() -> None:
        async with inside(tmp_path, server, change=with_roles) as (gateway, appliance):
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(uuid, "uuid4", lambda: uuid.UUID(int=0))
                with pytest.raises(asyncpg.PostgresError, match="no role could be made for this session") as refused:
                    await connect(appliance)
            assert refused.value.sqlstate == "28000"
            for _ in range(500):
                await asyncio.sleep(0.01 if gateway.live.all() else 0)
            assert gateway.live.all() == []

    try:
        asyncio.run(scenario())
        assert taken in roles(server)
    finally:
        server.execute(f'drop role "{taken}"')


def test_without_its_record_no_role_is_made(tmp_path: Path, server: PostgresServer) -> None:
    async def scenario() -> None:
        async with inside(tmp_path, server, change=with_roles) as (gateway, appliance):
            record = gateway.audit.record

            def failing(kind: str, fields: Mapping[str, Any], recording: bytes | None = None) -> asyncio.Future[int]:
                if kind == "credential.issued":
                    raise AuditUnavailable("the disk is full")
                return record(kind, fields, recording)

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(gateway.audit, "record", failing)
                with pytest.raises(asyncpg.PostgresError) as refused:
                    await connect(appliance)
                assert refused.value.sqlstate == "58030"

    before = len(server.log)
    asyncio.run(scenario())
    assert "create role" not in server.log[before:].replace("create role \"gateway_", "")


async def connect(appliance: Appliance) -> asyncpg.Connection[asyncpg.Record]:
    context = ssl.create_default_context(cafile=str(appliance.ca))
    token = await asyncio.to_thread(appliance.token, "maker")
    return await asyncpg.connect(host="127.0.0.1", port=appliance.port, user="maker", password=token, database="orders-db", ssl=context)


def test_what_is_left_goes_to_the_declared_owner(tmp_path: Path, server: PostgresServer) -> None:
    if server.version < 16:
        server.execute(f"grant orders_maker to {ADMIN}")

    def with_owner(appliance: Appliance) -> None:
        with_roles(appliance)
        credential(appliance, owner="orders_maker")

    with running(tmp_path, server, change=with_owner) as appliance:
        with enter(appliance) as session:
            for text in ("create table kept_table (a int)", "create schema kept_schema",
                         "create function kept_schema.f() returns int language sql as 'select 1'"):
                assert codes(session.query(text)) == [], text
        none_left(server)
    found = server.execute("select relowner::regrole::text from pg_class where relname = 'kept_table' union all "
                           "select nspowner::regrole::text from pg_namespace where nspname = 'kept_schema' union all "
                           "select proowner::regrole::text from pg_proc where pronamespace = 'kept_schema'::regnamespace", "orders")
    assert found[-1].rows == [("orders_maker",)] * 3
    members = server.execute(f"select count(*) from pg_auth_members where member = '{ADMIN}'::regrole and (inherit_option or set_option)"
                             if server.version >= 16 else "select 0")
    assert members[-1].rows == [("0",)], "the administrative login keeps no right of the owner's"
    server.execute("drop table kept_table; drop schema kept_schema cascade", "orders")


@pytest.mark.parametrize(("keys", "code"), [
    ({"member_of": ["no_such_role"]}, "42704"), ({"member_of": ["postgres"]}, "42501"), ({"username": "no_such_login"}, "28P01")])
def test_without_its_role_no_session_begins(tmp_path: Path, server: PostgresServer, keys: dict[str, object], code: str) -> None:
    def change(appliance: Appliance) -> None:
        with_roles(appliance)
        credential(appliance, **keys)

    with running(tmp_path, server, change=change) as appliance:
        refused = enter(appliance)
        assert codes(refused.seen) == ["28000"]
        [said] = [message["M"] for message in errors(refused.seen)]
        assert "no role could be made for this session: " in said
        assert code in said
        assert [one["reason"] for one in records(appliance, "session.end") if code in str(one["reason"])]
    assert roles(server) == []


def test_a_password_that_changes_meanwhile(tmp_path: Path, server: PostgresServer) -> None:
    """Rotated on the target and in the folder: roles made before are dropped with the new login."""
    with running(tmp_path, server, change=with_roles) as appliance:
        session = enter(appliance)
        server.execute(f"alter role {ADMIN} password 'another-one'; "
                       f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{ADMIN}'")
        credential(appliance, password="another-one")
        appliance.reload()
        until(lambda: len(records(appliance, "policy.loaded")) == 2)
        with enter(appliance) as fresh:
            assert rows(fresh.query("select count(*) from orders")) == [(b"20",)]
        assert rows(session.query("select count(*) from orders")) == [(b"20",)], "an open session goes on"
        session.close()
        none_left(server)
    server.execute(f"alter role {ADMIN} password '{PASSWORD}'")


def test_every_database_of_a_resource_is_swept(tmp_path: Path, server: PostgresServer) -> None:
    server.execute("drop database if exists stats")
    server.create_database("stats")
    server.execute("grant create on schema public to orders_maker", "stats")

    def two(appliance: Appliance) -> None:
        with_roles(appliance)
        appliance.rewrite("policy/resources.yaml", {"database: orders ": "databases: [orders, stats] "})

    with running(tmp_path, server, change=two) as appliance:
        session = Wire.connect(appliance.port, "maker", appliance.token("maker"), "orders-db/stats", ca=appliance.ca)
        assert codes(session.query("create table of_stats (a int)")) == []
        appliance.kill()
        session.close()
        assert len(roles(server)) == 1
        appliance.start()
        none_left(server)
    assert server.execute("select count(*) from pg_class where relname = 'of_stats'", "stats")[-1].rows == [("0",)]
    server.execute("drop database stats")


HELD = """grants:
  - name: asks first
    to: [maker]
    targets: [orders-db]
    rules:
      - {name: asks, approve: {sql: {verbs: [truncate], relations: ["public.*"]}}, by: one-dba}
"""


def test_what_was_approved_for_one_session_runs_in_the_next(tmp_path: Path, server: PostgresServer) -> None:
    """An approval binds the login: to all of them these are one."""
    def change(appliance: Appliance) -> None:
        with_roles(appliance)
        (appliance.folder / "policy" / "held.yaml").write_text(HELD)

    def ask(appliance: Appliance) -> list[dict[str, str]]:
        with Wire.connect(appliance.port, "maker", appliance.token("maker"), "orders-db", ca=appliance.ca,
                          parameters={"options": "-c lockgate.wait=off"}) as session:
            return errors(session.query("truncate public.orders"))

    with running(tmp_path, server, change=change) as appliance:
        [waits] = ask(appliance)
        assert waits["C"] == "LG001"
        appliance.run("approvals", "approve", waits["D"], "--reason", "test", "--token-file", str(appliance.token_file("ines")))
        [done] = ask(appliance)
        assert done["C"] == "42501", "approved and run: it is the target that says no"
        assert "lockgate" not in done["M"]
        [used] = records(appliance, "approval.used")
        assert used["id"] == waits["D"]


def test_explain_and_schema_pull_see_what_a_session_sees(tmp_path: Path, server: PostgresServer) -> None:
    server.execute("create schema hidden; create table hidden.t (a int); grant usage on schema hidden to orders_reader; "
                   "grant select on hidden.t to orders_reader", "orders")
    try:
        with running(tmp_path, server, change=with_roles) as appliance:
            with enter(appliance) as session:
                assert codes(session.query("select a from hidden.t")) == []
            appliance.run("schema", "pull", "orders-db")
            schema = json.loads((appliance.folder / "policy" / "schemas" / "orders-db.json").read_text())
            assert "hidden" in json.dumps(schema)
            explained = appliance.json("explain", "--identity", "maker", "--resource", "orders-db", "select a from hidden.t")
            assert explained["effect"] == "allow"
            none_left(server)
    finally:
        server.execute("drop schema hidden cascade", "orders")
