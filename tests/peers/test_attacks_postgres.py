# SPDX-License-Identifier: Apache-2.0
"""Items of the attack list under PostgreSQL, each by its number, through a live gateway whose role on the target is a superuser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.protocols.postgres import messages
from tests.peers.gateway import Appliance
from tests.peers.postgres import PostgresServer
from tests.peers.wire import Frame, Wire, codes, errors, rows, status, tags, texts

RAW = ("078-05-1120", "219-09-9999", "4111111111111111", "5500005555555559", "alice.secret@example.com", "078051120")


@pytest.fixture
def wire(gateway: Appliance) -> Iterator[Wire]:
    with Wire.connect(gateway.port, "ci-bot", gateway.token("ci-bot"), "orders-db", ca=gateway.ca,
                      parameters={"lockgate.wait": "off"}) as connected:
        yield connected


COPY_OF_IT = '{"ssn": "078-05-1120", "tier": "gold"}'
"""What the corpus keeps in `notes`, a column that no mask names: not a leak of a masked column."""


def shown(frames: list[Frame]) -> str:
    return "\n".join(payload.decode("utf-8", "replace") for _, payload in frames).replace(COPY_OF_IT, "")


def refused(frames: list[Frame], *expected: str) -> bool:
    return bool(codes(frames)) and set(codes(frames)) <= set(expected or ("42501",)) and not rows(frames)


HIDDEN_WRITES = {
    "after a select": "select 1; drop table orders",
    "leading comment": "/* harmless */ drop table orders",
    "empty comment inside": "drop/**/table/**/orders",
    "nested comment": "/* /* */ select 1; */ drop table orders",
    "line comment ended by a carriage return": "-- x\rdrop table orders\r\n; drop table orders",
    "dollar quotes": "select $x$;$x$; drop table orders",
    "unicode identifier": 'drop table U&"\\006frders"',
    "escape string": "select E'\\'; --'; drop table orders",
}


@pytest.mark.parametrize("text", HIDDEN_WRITES.values(), ids=HIDDEN_WRITES.keys())
def test_t24_a_hidden_statement_is_seen(text: str, wire: Wire, postgres: PostgresServer) -> None:
    frames = wire.query(text)
    assert set(codes(frames)) <= {"42501", "LG001", "42601"}
    assert "DROP TABLE" not in tags(frames)
    assert codes(frames) or "\r" in text, "only a carriage return that ends no comment may hide it: then nothing runs either"
    assert postgres.execute("select count(*) from orders", "orders")[-1].rows[0][0] != "0"


def test_t24_string_rules_of_another_setting_are_not_believed(wire: Wire) -> None:
    assert refused(wire.query("set standard_conforming_strings = off"))
    assert not any(raw in shown(wire.query("select 'x\\' as a, ssn as b from customers where id=1--'")) for raw in RAW)


@pytest.mark.parametrize("encoding", ["SJIS", "GBK", "BIG5", "LATIN1", "SQL_ASCII"])
def test_t24_no_other_encoding(encoding: str, wire: Wire) -> None:
    assert refused(wire.query(f"set client_encoding = '{encoding}'"))
    assert refused(wire.query(f"set names '{encoding}'"))


def test_t24_bytes_that_are_no_text_end_the_session(gateway: Appliance) -> None:
    for payload in (b"select '\xff'\0", b"select 1\0 drop table orders\0"):
        with Wire.connect(gateway.port, "ci-bot", gateway.token("ci-bot"), "orders-db", ca=gateway.ca) as wire:
            wire.send(b"Q" + (len(payload) + 4).to_bytes(4, "big") + payload)
            frames = wire.until("Z")
            assert codes(frames) and not rows(frames)


def test_t26_function_call_is_refused(wire: Wire) -> None:
    wire.send(messages.FunctionCall((1).to_bytes(4, "big") + bytes(6)))
    assert codes(wire.until("Z")) == ["0A000"]


INDIRECT = {
    "do": "do $$begin delete from orders; end$$",
    "made function": "select get_ssn(1)",
    "call of an unknown procedure": "call nothing()",
    "cte delete without where": "with gone as (delete from orders returning id) select count(*) from gone",
    "explain analyze": "explain analyze delete from orders",
    "select into": "select * into copied from orders",
    "merge without condition": "merge into orders o using customers c on true when matched then delete",
    "prepared": "prepare p as delete from orders",
    "create rule": "create rule r as on insert to orders do also delete from customers",
    "create trigger": "create trigger t after insert on orders execute function suppress_redundant_updates_trigger()",
}


@pytest.mark.parametrize("text", INDIRECT.values(), ids=INDIRECT.keys())
def test_t27_no_detour_around_a_rule(text: str, wire: Wire) -> None:
    frames = wire.query(text)
    assert set(codes(frames)) <= {"42501", "LG001", "42883"} and codes(frames)
    assert not rows(frames)
    if text.startswith("prepare"):
        wire.query("execute p")
        assert codes(wire.seen)[-1] in ("26000", "LG001", "42501")


POWERS = [
    "select pg_read_file('/etc/passwd')", "select * from pg_read_file('/etc/passwd')", "select pg_read_binary_file('/etc/passwd')",
    "select lo_import('/etc/passwd')", "select lo_export(1, '/tmp/x')", "select pg_ls_dir('/')", "select * from pg_ls_logdir()",
    "select pg_sleep(10)", "select pg_terminate_backend(1)", "select pg_cancel_backend(1)", "select set_config('role', 'postgres', false)",
    "set role postgres", "set local role postgres", "reset role", "set session authorization postgres", "reset session authorization",
    "alter user orders_app superuser", "create role x", "select pg_reload_conf()", "select query_to_xml('select 1', true, true, '')",
    "select pg_logical_emit_message(true, 'a', 'b')", "select pg_create_logical_replication_slot('s', 'test_decoding')",
    "select setval('s', 1)", "load 'auto_explain'", "lock table orders",
    "copy orders from program 'id'", "copy orders to '/tmp/x'", "alter system set work_mem = '1MB'", "vacuum", "checkpoint",
]


@pytest.mark.parametrize("text", POWERS)
def test_t29_powers_of_the_role_stay_out_of_reach(text: str, wire: Wire) -> None:
    frames = wire.query(text)
    assert set(codes(frames)) <= {"42501", "42P01"} and codes(frames)
    assert not rows(frames)


ROUTES = [
    "select ssn as x from customers where id=1", "select ssn::text from customers where id=1", "select ssn||'' from customers where id=1",
    "select substr(ssn,1,3)||substr(ssn,4) from customers where id=1", "select row_to_json(c) from customers c where id=1",
    "select c::text from customers c where id=1", "select (c).* from customers c where id=1", "select array_agg(ssn) from customers",
    "select json_agg(c) from customers c", "select xmlforest(ssn) from customers where id=1",
    "select name from customers union select ssn from customers",
    "with a as (select ssn as b from customers) select b from a", "select l.s from customers c, lateral (select c.ssn as s) l where c.id=1",
    "select unnest(array[ssn]) from customers where id=1", "select first_value(ssn) over () from customers",
    "select (select ssn from customers where id=1)", "select national_id from customer_v where id=1", "table customers",
    "select * from customers natural join (select id, ssn from customers) q where id=1", "values ((select ssn from customers where id=1))",
]


@pytest.mark.parametrize("text", ROUTES)
def test_t30_every_route_of_a_masked_column(text: str, wire: Wire) -> None:
    found = shown(wire.query(text))
    assert not any(raw in found for raw in RAW)
    binary = wire.run(messages.Parse("", text), messages.Bind("", "", results=(1,)), messages.Execute(""))
    assert not any(raw in shown(binary) for raw in RAW)


TOLD = [
    "select ssn::int from customers where id=1", "select 1/(length(ssn)-11) from customers where id=1",
    "select ssn::date from customers where id=1",
    "insert into customers(id,name,ssn) values (1,'x','078-05-1120')", "select ('{'||ssn||'}')::int[] from customers where id=1",
    "explain select * from customers where ssn = '078-05-1120'", "select most_common_vals from pg_stats where tablename='customers'",
    "select stavalues1 from pg_statistic", "select query from pg_stat_activity",
]


@pytest.mark.parametrize("text", TOLD)
def test_t31_errors_plans_and_statistics_tell_nothing(text: str, wire: Wire) -> None:
    found = shown(wire.query(text))
    assert not any(raw in found for raw in RAW)


def test_t32_predicates_are_allowed_and_recorded_without_the_value(wire: Wire, gateway: Appliance) -> None:
    """What masking does not promise: docs/masking.md. The question is in the log, the value it compares with is not."""
    marker = "t32-marker"
    assert texts(wire.query(f"select count(*), '{marker}' from customers where ssn = '078-05-1120'"))[0][0] == "1"
    told = [line for line in gateway.lines("audit", "export", "--json") if marker in str(line.get("text", ""))]
    assert told and all("078-05-1120" not in str(line) for line in told)
    assert any("ssn = '****'" in str(line["text"]) for line in told)


def test_t36_nothing_of_a_session_reaches_the_next(gateway: Appliance) -> None:
    """Every session has a connection of its own to the target: no pool, no leftovers."""
    def connect() -> Wire:
        return Wire.connect(gateway.port, "ci-bot", gateway.token("ci-bot"), "orders-db", ca=gateway.ca)

    with connect() as first:
        first.query("set application_name = 'left behind'")
        first.query("set search_path = pg_catalog")
        first.query("listen left")
        first.run(messages.Parse("kept", "select 1"))
        pid = texts(first.query("select pg_backend_pid()"))
    with connect() as second:
        assert texts(second.query("select pg_backend_pid()")) != pid
        assert texts(second.query("show search_path"))[0][0] == '"$user", public'
        assert texts(second.query("select count(*) from pg_listening_channels()")) == [("0",)]
        frames = second.run(messages.Bind("", "kept"), messages.Execute(""))
        assert codes(frames) == ["26000"] and status(frames) == "I"


def test_t28_copy_in_every_format_is_masked_or_refused(wire: Wire) -> None:
    for form in ("text", "csv", "binary", "csv, header"):
        frames = wire.query(f"copy customers (id, name, email, ssn, card) to stdout (format {form})")
        assert not codes(frames) and not any(raw in shown(frames) for raw in RAW)
    for options in ("format csv, delimiter ';'", "format csv, quote '|'", "format csv, force_quote *", "delimiter ','",
                    "format csv, null '-'"):
        frames = wire.query(f"copy customers (id, name, email, ssn, card) to stdout ({options})")
        assert not codes(frames) and not any(raw in shown(frames) for raw in RAW)
    for options in ("null '-'", "format csv, encoding 'LATIN1'", "delimiter ';', null ''"):
        assert refused(wire.query(f"copy customers to stdout ({options})"))


def test_t28_replication_is_refused(wire: Wire, gateway: Appliance) -> None:
    assert refused(wire.query("select * from pg_logical_slot_get_changes('s', null, null)"), "42501", "42704")
    for kind in ("database", "true", "on", "1"):
        with Wire.connect(gateway.port, "ci-bot", gateway.token("ci-bot"), "orders-db", ca=gateway.ca,
                          parameters={"replication": kind}) as replication:
            assert [fields["C"] for fields in errors(replication.seen)] == ["28000"]
