# SPDX-License-Identifier: Apache-2.0
"""A session that takes over the connection of an earlier one of its caller: when it does, and that nothing is left of the earlier one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.protocols.postgres import messages
from gateway.testing.postgres import PostgresServer, embedded_binaries, system_binaries
from tests.peers.gateway import Appliance, running
from tests.peers.wire import Wire, codes, rows, tags, texts

CATALOG, MARK = "lockgate catalog", "a-program"
POLICY = """identities:
  - {name: first, issuer: ci, match: {sub: "service:first"}, owner: dana}
  - {name: second, issuer: ci, match: {sub: "service:second"}, owner: dana}
grants:
  - name: whatever
    to: [first, second]
    targets: [orders-db]
    rules:
      - {name: hidden, deny: {sql: {verbs: [select], relations: ["public.hidden"]}}}
      - {name: data, allow: {sql: {verbs: [select, insert, copy-to, copy-from, create-table], relations: ["*.*"]}}}
      - {name: functions, allow: {sql: {verbs: [call], functions: ["pg_catalog.*", "public.*"]}}}
      - {name: settings, allow: {sql: {verbs: [set, reset], parameters: ["*"]}}}
      - {name: named, allow: {sql: {verbs: [set, set-role], parameters: [role, row_security, session_replication_role]}}}
      - {name: session, allow: {sql: {verbs: [show, begin, commit, prepare, declare, listen]}}}
"""


@pytest.fixture(scope="module", params=["system", "newest"])
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    binaries = system_binaries() if request.param == "system" else embedded_binaries()
    with PostgresServer(binaries=binaries, settings={"max_prepared_transactions": "5"}) as made:
        made.create_database("orders")
        made.execute("create table public.things(id int); insert into public.things values (1), (2); create role other nologin; "
                     "create table public.hidden as select 'a secret' as secret", "orders")
        yield made


def reusing(appliance: Appliance) -> None:
    (appliance.folder / "policy" / "reuse.yaml").write_text(POLICY)
    appliance.rewrite("policy/resources.yaml", {"credential: orders-db": "credential: orders-db\n    reuse: 300s"})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, server: PostgresServer) -> Iterator[Appliance]:
    with running(tmp_path_factory.mktemp("reuse"), server, change=reusing) as appliance:
        yield appliance


@pytest.fixture(autouse=True)
def nothing_kept(gateway: Appliance, server: PostgresServer) -> None:
    """What earlier tests left there is gone."""
    server.execute("select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' "
                   f"and pid <> pg_backend_pid() and application_name <> '{CATALOG}'")
    until(lambda: not backends(server))


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def backends(server: PostgresServer, where: str = "true") -> list[str]:
    """The target's processes that serve sessions, or are kept for them."""
    found = server.execute("select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() "
                           f"and application_name <> '{CATALOG}' and {where} order by 1")
    return [row[0] or "" for row in found[-1].rows]


def enter(appliance: Appliance, name: str = "first", **parameters: str) -> Wire:
    return Wire.connect(appliance.port, name, appliance.token(name), "orders-db", ca=appliance.ca, parameters=parameters)


def leave(wire: Wire) -> None:
    """Say goodbye, and wait until the gateway has taken it."""
    wire.send(messages.Terminate())
    wire.until("")
    wire.close()


def kept(server: PostgresServer) -> str:
    """The one process that waits, clean, for the next session."""
    until(lambda: len(backends(server, "query = 'discard all' and state = 'idle'")) == 1 == len(backends(server)))
    return backends(server)[0]


def own(wire: Wire) -> str:
    return value(wire, "select pg_catalog.pg_backend_pid()") or ""


def value(wire: Wire, text: str) -> str | None:
    frames = wire.query(text)
    assert not codes(frames), frames
    return texts(frames)[0][0]


def starts(appliance: Appliance) -> list[dict[str, object]]:
    return [line for line in appliance.lines("audit", "export") if line["kind"] == "session.start"]


def test_the_next_session_of_the_same_caller_takes_it_over_and_the_audit_log_says_so(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one:
        mine, key = own(one), one.key
        leave(one)
    assert kept(server) == mine
    with enter(gateway) as two:
        assert own(two) == mine
        assert two.key != key, "no cancel key is given out twice"
        leave(two)
    assert kept(server) == mine
    with enter(gateway) as three:
        assert own(three) == mine
        leave(three)
    first, second, third = starts(gateway)[-3:]
    assert "reuses" not in first
    assert second["reuses"] == third["reuses"] == first["session"]


@pytest.mark.parametrize(("name", "parameters"), [
    ("second", {}), ("first", {"application_name": MARK}), ("first", {"statement_timeout": "5s"}), ("first", {"search_path": "pg_catalog"}),
], ids=["another identity", "another name", "another setting", "another path"])
def test_t36_nobody_else_gets_it(name: str, parameters: dict[str, str], gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one:
        mine = own(one)
        leave(one)
    kept(server)
    with enter(gateway, name, **parameters) as two:
        assert own(two) != mine
    assert "reuses" not in starts(gateway)[-1]


def test_t36_it_goes_by_its_own_name_and_settings(gateway: Appliance, server: PostgresServer) -> None:
    for _ in range(2):
        with enter(gateway, application_name=MARK, DateStyle="German") as wire:
            assert value(wire, "show application_name") == MARK
            assert value(wire, "show datestyle") == "German, DMY"
            told = dict(payload.rstrip(b"\0").split(b"\0") for kind, payload in wire.seen if kind == "S")
            assert told[b"application_name"] == MARK.encode()
            assert told[b"DateStyle"] == b"German, DMY"
            wire.query("set datestyle = 'ISO'")
            wire.query("set application_name = 'another'")
            leave(wire)
        mine = kept(server)
    assert starts(gateway)[-1]["reuses"]
    assert backends(server, f"application_name = '{MARK}'") == [mine]


LEFT = {
    "setting": ("set statement_timeout = '7s'", "show statement_timeout", "0"),
    "search path": ("set search_path = pg_catalog", "show search_path", '"$user", public'),
    "setting of its own": ("set shop.customer = '7'", "select pg_catalog.current_setting('shop.customer', true)", ""),
    "advisory lock": ("select pg_catalog.pg_advisory_lock(42)", "select count(*) from pg_locks where locktype = 'advisory'", "0"),
    "prepared statement": ("prepare it as select 1", "select count(*) from pg_catalog.pg_prepared_statements", "0"),
    "cursor": ("begin; declare c cursor with hold for select 1; commit", "select count(*) from pg_catalog.pg_cursors", "0"),
    "listen": ("listen shouting", "select count(*) from pg_catalog.pg_listening_channels()", "0"),
    "role": ("set role other", "select current_user = session_user", "t"),
    "replication role": ("set session_replication_role = replica", "show session_replication_role", "origin"),
    "row security": ("set row_security = off", "show row_security", "on"),
    "read only": ("set session characteristics as transaction read only", "show transaction_read_only", "off"),
    "isolation": ("set default_transaction_isolation = 'serializable'", "show transaction_isolation", "read committed"),
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT.keys())
def test_t36_what_a_session_left_is_gone(left: tuple[str, str, str], gateway: Appliance, server: PostgresServer) -> None:
    does, asks, clean = left
    with enter(gateway) as one:
        mine = own(one)
        assert not codes(one.query(does))
        assert value(one, asks) != clean, "it has to be seen while it is there"
        leave(one)
    assert kept(server) == mine
    with enter(gateway) as two:
        assert own(two) == mine
        assert value(two, asks) == clean


def test_t36_after_temporary_tables_the_next_session_logs_in_anew(gateway: Appliance, server: PostgresServer) -> None:
    """Names that the catalog still knows of them would stand for what rules and masks hide."""
    with enter(gateway) as one:
        mine = own(one)
        assert not codes(one.query("create temp table hidden(secret text); create temp table things(id int)"))
        assert not codes(one.query("select secret from hidden; select id from things"))
        leave(one)
    assert kept(server) == mine
    with enter(gateway) as two:
        assert codes(two.query("select secret from hidden")) == ["42501"]
        assert value(two, "select count(*) from things") == "2"
        assert own(two) != mine


def test_t36_a_statement_and_a_portal_of_the_protocol_are_gone(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one:
        mine = own(one)
        one.run(messages.Parse("mine", "select 1"), messages.Bind("held", "mine"))
        leave(one)
    assert kept(server) == mine
    with enter(gateway) as two:
        assert own(two) == mine
        assert codes(two.run(messages.Bind("", "mine"), messages.Execute(""))) == ["26000"]
        assert codes(two.run(messages.Execute("held"))) == ["34000"]
        assert not codes(two.run(messages.Parse("mine", "select 2"), messages.Bind("", "mine"), messages.Execute("")))


def ends_with(appliance: Appliance, server: PostgresServer, does: Callable[[Wire], None]) -> str:
    """A session that does this at its end; its process, which has to go away."""
    with enter(appliance) as one:
        mine = own(one)
        does(one)
        one.send(messages.Terminate())
        one.until("")
    until(lambda: mine not in backends(server))
    return mine


def test_t36_an_open_transaction_is_not_carried_over_nor_committed(gateway: Appliance, server: PostgresServer) -> None:
    def opens(wire: Wire) -> None:
        assert tags(wire.query("begin")) == ["BEGIN"]
        assert not codes(wire.query("insert into things values (3)"))

    ends_with(gateway, server, opens)
    with enter(gateway) as two:
        assert value(two, "select count(*) from things") == "2"


def test_t36_a_failed_transaction_is_not_carried_over(gateway: Appliance, server: PostgresServer) -> None:
    def fails(wire: Wire) -> None:
        wire.query("begin")
        assert codes(wire.query("select 1/0")) == ["22012"]

    ends_with(gateway, server, fails)


def test_t36_a_pipeline_without_its_sync_is_not_committed_by_the_cleaning(gateway: Appliance, server: PostgresServer) -> None:
    def pipes(wire: Wire) -> None:
        wire.send(messages.Parse("", "insert into things values (4)"), messages.Bind("", ""), messages.Execute(""), messages.Flush())
        assert tags(wire.until("CE")) == ["INSERT 0 1"]

    ends_with(gateway, server, pipes)
    with enter(gateway) as two:
        assert value(two, "select count(*) from things") == "2"


def test_t36_a_half_sent_copy_is_not_carried_over(gateway: Appliance, server: PostgresServer) -> None:
    def copies(wire: Wire) -> None:
        wire.send(messages.Query("copy things from stdin"))
        assert [kind for kind, _ in wire.until("GE")] == ["G"]
        wire.send(messages.CopyData(b"5\n"))

    ends_with(gateway, server, copies)
    with enter(gateway) as two:
        assert value(two, "select count(*) from things") == "2"


def test_t36_a_half_read_copy_is_read_by_nobody_else(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one:
        mine = own(one)
        one.send(messages.Query("copy (select g, repeat('x', 1000) from generate_series(1, 100000) g) to stdout"))
        one.until("H")
        one.close()
    until(lambda: mine not in backends(server))
    with enter(gateway) as two:
        assert rows(two.query("select 7")) == [(b"7",)]


def test_t36_who_is_gone_without_a_goodbye_leaves_nothing(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one:
        mine = own(one)
    until(lambda: mine not in backends(server))


def test_t36_a_cancel_on_its_way_hits_nobody_else(gateway: Appliance, server: PostgresServer) -> None:
    def cancels(wire: Wire) -> None:
        wire.send(messages.Query("select pg_catalog.pg_sleep(60)"))
        until(lambda: backends(server, "wait_event = 'PgSleep'"))
        wire.cancel(gateway.port, gateway.ca)
        assert codes(wire.until("Z")) == ["57014"]

    ends_with(gateway, server, cancels)


def test_t36_an_old_cancel_key_opens_nothing(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one:
        old = one
        mine = own(one)
        leave(one)
    assert kept(server) == mine
    with enter(gateway) as two:
        two.send(messages.Query("select pg_catalog.pg_sleep(0.5), 7"))
        until(lambda: backends(server, "wait_event = 'PgSleep'"))
        old.cancel(gateway.port, gateway.ca)
        frames = two.until("Z")
        assert not codes(frames)
        two.send(messages.Query("select pg_catalog.pg_sleep(60)"))
        until(lambda: backends(server, "wait_event = 'PgSleep'"))
        two.cancel(gateway.port, gateway.ca)
        assert codes(two.until("Z")) == ["57014"]


def test_t36_a_notification_for_the_earlier_session_reaches_nobody(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one:
        mine = own(one)
        one.query("listen shouting")
        leave(one)
    assert kept(server) == mine
    server.execute("notify shouting, 'to whom'", "orders")
    with enter(gateway) as two:
        assert own(two) == mine
        two.query("select 1")
        assert not [kind for kind, _ in two.seen if kind == "A"]


def test_a_target_that_was_started_anew_meanwhile_is_no_fault_of_the_caller(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one:
        mine = own(one)
        leave(one)
    assert kept(server) == mine
    server.restart()
    with enter(gateway) as two:
        assert own(two) != mine
    assert "reuses" not in starts(gateway)[-1]


def test_a_setting_that_the_target_changes_meanwhile_is_found(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one:
        mine = own(one)
        leave(one)
    assert kept(server) == mine
    try:
        server.execute("alter system set intervalstyle = 'sql_standard'")
        server.execute("select pg_reload_conf()")
        until(lambda: server.execute("show intervalstyle")[-1].rows == [("sql_standard",)])
        with enter(gateway) as two:
            assert own(two) != mine
            assert value(two, "show intervalstyle") == "sql_standard"
    finally:
        server.execute("alter system reset intervalstyle")
        server.execute("select pg_reload_conf()")


def test_a_target_without_room_gets_back_what_is_kept(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as one:
        role = value(one, "select current_user") or ""
        leave(one)
    mine = kept(server)
    server.execute(f'alter role "{role}" nosuperuser connection limit 2')     # the catalog's reader, and one more
    try:
        with enter(gateway, "second") as two:
            assert not codes(two.seen)
            assert own(two) != mine
    finally:
        server.execute(f'alter role "{role}" superuser connection limit -1')


def test_t36_nothing_opened_before_a_reload_is_given_to_anybody(gateway: Appliance, server: PostgresServer) -> None:
    with enter(gateway) as open_now, enter(gateway) as one:
        mine, live = own(one), own(open_now)
        leave(one)
        until(lambda: backends(server, f"query = 'discard all' and state = 'idle' and pid = {mine}"))
        gateway.reload()
        until(lambda: backends(server) == [live])
        leave(open_now)
        until(lambda: not backends(server))


def test_by_default_nothing_is_kept(tmp_path: Path, server: PostgresServer) -> None:
    def plain(appliance: Appliance) -> None:
        (appliance.folder / "policy" / "reuse.yaml").write_text(POLICY)

    with running(tmp_path / "plain", server, change=plain) as appliance:
        with enter(appliance) as one:
            leave(one)
        until(lambda: not backends(server))
        with enter(appliance):
            pass
        assert not [one for one in starts(appliance) if "reuses" in one]
