# SPDX-License-Identifier: Apache-2.0
"""Texts of several statements whose later ones need the earlier ones: as on a direct connection, and never past a rule or a mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gateway.protocols.postgres import messages
from tests.peers.gateway import Appliance, running
from tests.peers.postgres import PostgresServer
from tests.peers.wire import Frame, Wire, codes, errors, rows, status, tags

POLICY = """identities:
  - {name: mover, issuer: ci, match: {sub: "service:mover"}, owner: dana}
  - {name: veiled, issuer: ci, match: {sub: "service:veiled"}, owner: dana}
masks:
  - {name: veil, columns: {public.customers.ssn: redact, public.kin.ssn: redact, public.born.code: redact,
                           public.shaped.ssn: redact}}
grants:
  - name: moves
    to: [mover, veiled]
    targets: [orders-db]
    rules: &rules
      - name: all
        allow: {sql: {verbs: [select, insert, update, delete, set, reset, begin, commit, rollback, savepoint, prepare, execute, deallocate,
                              copy-to, copy-from, create, alter, drop, do, comment, show, vacuum, declare, fetch, close]}}
      - {name: few, allow: {sql: {verbs: [truncate], relations: ["public.t_*"]}}}
      - {name: own, allow: {sql: {functions: ["public.*", nextval]}}}
      - {name: ask, approve: {sql: {verbs: [drop-table], relations: [public.asked]}}, by: one-dba}
      - {name: never, deny: {sql: {verbs: [select, insert], relations: [public.vault]}}}
      - {name: some, allow: {sql: {verbs: [delete], relations: [public.counted]}}, max_rows: 1}
  - {name: veil, to: [veiled], targets: [orders-db], rules: [{name: x, allow: {sql: {verbs: [show]}}}], masks: [veil]}
""".replace(" &rules", "")
TABLES = """
create table customers (id int primary key, name text, ssn text, half text generated always as (left(ssn, 3)) stored);
insert into customers values (1, 'Ann', '078-05-1120');
create table kin (id int, ssn text); create table kin_a () inherits (kin); insert into kin_a values (1, '078-05-1120');
create table born (id int, code text) partition by range (id); create table born_a partition of born for values from (0) to (9);
insert into born values (1, '078-05-1120');
create type shape as (id int, ssn text); create table shaped of shape;
create table vault (v text); insert into vault values ('kept');
create table asked (v text); create table counted (v int); insert into counted values (1), (2);
create function noticed() returns trigger language plpgsql as 'begin return new; end';
"""
SECRET = b"078-05-1120"


@dataclass(slots=True)
class Place:
    server: PostgresServer
    appliance: Appliance

    def through(self, name: str = "mover") -> Wire:
        return Wire.connect(self.appliance.port, name, self.appliance.token(name), "orders-db", ca=self.appliance.ca,
                            parameters={"lockgate.wait": "off"})

    def direct(self) -> Wire:
        return Wire.connect(self.server.port, "postgres", self.server.password, "scripts_direct")

    def execute(self, text: str) -> list[tuple[str | None, ...]]:
        return [tuple(row) for row in self.server.execute(text, "scripts")[-1].rows]


@pytest.fixture(scope="module", params=["system", "newest"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    server: PostgresServer = request.getfixturevalue("postgres" if request.param == "system" else "newest_postgres")
    for name in ("scripts", "scripts_direct"):
        server.execute(f"drop database if exists {name} with (force)")
        server.create_database(name)
        server.execute(TABLES, name)

    def change(appliance: Appliance) -> None:
        appliance.rewrite("policy/resources.yaml", {"database: orders ": "database: scripts "})
        (appliance.folder / "policy" / "scripts.yaml").write_text(POLICY)

    with running(tmp_path_factory.mktemp("scripts"), server, change=change) as appliance:
        yield Place(server, appliance)
    for name in ("scripts", "scripts_direct"):
        server.execute(f"drop database {name} with (force)")


def seen(frames: list[Frame]) -> tuple[str, list[str], list[list[bytes | None]], list[tuple[str, str]], str]:
    """What a client can tell two answers apart by. ParameterStatus comes with each statement, not once at the end."""
    wrong = [(one["C"], one.get("P", "")) for one in errors(frames)]
    return "".join(kind for kind, _ in frames if kind != "S"), tags(frames), [list(row) for row in rows(frames)], wrong, status(frames)


ALIKE = {
    "a table with an index and rows": ["create table a1 (id serial primary key, name text unique); create index on a1 (name); "
                                       "insert into a1 (name) values ('q') returning id; select * from a1; drop table a1"],
    "alter, fill, index": ["create table a2 (id int); alter table a2 add column n text; update a2 set n = 'x'; create index on a2 (n)"],
    "begin and commit": ["begin; create table a3 (id int); insert into a3 values (1); select * from a3; commit", "select * from a3"],
    "begin alone": ["begin; create table a4 (id int); insert into a4 values (1)", "select * from a4", "rollback", "select 1"],
    "in a block": ["begin", "create table a5 (id int); savepoint s; insert into a5 values (1); rollback to s; select * from a5; commit"],
    "a block, rolled back": ["begin", "create table a6 (id int); insert into a6 values (1); rollback", "create table a6 (id int)"],
    "schema and search_path": ["create schema s1; set search_path = s1, public; create table t (a int); insert into t values (1); "
                               "select * from t", "show search_path", "reset search_path"],
    "a function": ["create function f1() returns int language plpgsql as $$ begin return 1; end $$; select public.f1() as \"é\", 'ü;'"],
    "DO": ["do $$ begin create table a7 (a int); end $$; insert into a7 values (1); select * from a7; -- the end\n"],
    "copy": ["create table a8 (id int); copy a8 to stdout; insert into a8 values (3); copy a8 to stdout"],
    "prepare": ["create table a9 (id int); prepare p9 as select * from a9; execute p9", "execute p9", "deallocate p9"],
    "nothing stays of a failed one": ["create table b1 (id int); insert into b1 values (1); select 1/0; insert into b1 values (2)",
                                      "create table b1 (id int)"],
    "names that are not there": ["create table b2 (id int); select nosuch, 'ä' from b2", "create table b2 (id int); select * from nosuch"],
    "places in the whole text": ["create table b3 (ä int); insert into b3 values ('ö'); select 1"],
    "an error in a block": ["begin; create table b4 (id int); insert into b4 values (1/0); commit", "select 1", "rollback"],
    "no vacuum in a transaction": ["create table b5 (id int); vacuum b5"],
    "a constraint at the end": ["create table b6 (id int primary key); create table b7 (id int references b6 initially deferred); "
                                "insert into b7 values (1)", "create table b6 (id int)"],
    "cursors end with it": ["create table b8 (id int); declare c cursor for select * from b8; fetch all from c", "fetch all from c"],
    "a setting that is rolled back": ["create table b9 (id int); set application_name = 'x'; insert into b9 values (1/0)",
                                      "show application_name"],
}


@pytest.mark.parametrize("texts", ALIKE.values(), ids=ALIKE.keys())
def test_a_script_is_answered_as_on_a_direct_connection(texts: list[str], place: Place) -> None:
    with place.through() as gated, place.direct() as direct:
        for text in texts:
            assert seen(gated.query(text)) == seen(direct.query(text)), text


def test_each_statement_is_recorded(place: Place) -> None:
    with place.through() as gated:
        gated.query("create table c1 (id int); insert into c1 values (1); insert into c1 values (2)")
        gated.query("create table c2 (id int); insert into c2 values (1); insert into c2 values ('x')")
    log = place.appliance.lines("audit", "export")
    begun = {record["seq"]: record["text"].strip() for record in log if record["kind"] == "command.begin"}
    ended = {begun[record["begin"]]: (record["status"], record.get("error")) for record in log if record["kind"] == "command.end"}
    assert [ended[text][0] for text in ("create table c1 (id int)", "insert into c1 values (1)", "insert into c1 values (2)")] == ["ok"] * 3
    assert ended["create table c2 (id int)"] == ended["insert into c2 values (1)"] == ("error", "22P02"), "it was rolled back"
    assert ended["insert into c2 values ('x')"] == ("error", "22P02")


def test_t24_a_statement_that_is_denied_takes_the_script_along(place: Place) -> None:
    with place.through() as gated:
        for text, code in {
            "create table d1 (v text); insert into d1 select v from vault; select * from d1": "42501",
            "create table d1 (v text); insert into d1 values ('x'); drop table asked": "42501",
            "create table d1 (v text); insert into d1 values ('x'); truncate asked": "42501",
            "create view d2 as select 1 as x; select x from d2; select v from vault": "42501",
            "create table d1 (v text); select * from d1; delete from counted": "42501",
        }.items():
            frames = gated.query(text)
            assert (codes(frames), status(frames)) == ([code], "I"), text
            assert b"kept" not in b"".join(payload for _, payload in frames)
        assert place.execute("select to_regclass('d1'), to_regclass('d2'), to_regclass('asked'), (select count(*) from counted)") == [
            (None, None, "asked", "2")]
        gated.query("begin")
        frames = gated.query("create table d1 (v text); insert into d1 select v from vault")
        assert (codes(frames), status(frames)) == (["42501"], "E")
        assert tags(gated.query("commit")) == ["ROLLBACK"]
        assert place.execute("select to_regclass('d1')") == [(None,)]


def test_t24_a_view_over_what_is_denied_gives_nothing_that_its_owner_may_not_see(place: Place) -> None:
    """A view's own query is decided when it is made."""
    with place.through() as gated:
        frames = gated.query("create view d3 as select v from vault; select * from d3")
        assert codes(frames) == ["42501"]


@pytest.mark.parametrize("text", [
    "create table e1 (id int); commit; select * from e1", "create table e1 (id int); savepoint x; select * from e1",
    "begin; create table e1 (id int); commit; select * from e1", "create table e1 (id int); begin; select * from e1",
    "create table e1 (id int); copy e1 from stdin", "begin; create table e1 (id int); select * from e1; prepare transaction 'x'",
])
def test_t24_what_is_not_one_transaction_is_refused_before_anything_runs(text: str, place: Place) -> None:
    with place.through() as gated:
        frames = gated.query(text)
        assert (codes(frames), status(frames)) == (["42501"], "I")
        assert "one by one" in errors(frames)[0]["H"]
    assert place.execute("select to_regclass('e1')") == [(None,)]


@pytest.mark.parametrize(("before", "piped", "left"), [([], "begin", "E"), (["begin"], "commit", "I")])
def test_t33_behind_a_pipeline_without_sync_it_stays_whole(before: list[str], piped: str, left: str, place: Place) -> None:
    """The gateway's own COMMIT would end the caller's transaction, or its pieces would be in none."""
    with place.through() as gated:
        for text in before:
            gated.query(text)
        gated.send(messages.Parse("", piped), messages.Bind("", ""), messages.Execute(""),
                   messages.Query("create table k1 (i int); insert into k1 values (1)"))
        frames = gated.until("Z")
        assert (codes(frames), tags(frames), status(frames)) == (["42501"], [piped.upper()], left)
        gated.query("rollback")
    assert place.execute("select to_regclass('k1')") == [(None,)]


MOVED = [
    "alter table customers rename column ssn to other", "alter table customers rename to others", "alter schema public rename to open",
    "alter table customers set schema apart", "alter table customers rename column half to other",
    "alter table customers alter column half drop expression", "alter table kin_a no inherit kin", "alter table kin_a rename to k",
    "alter table born detach partition born_a", "alter table born_a rename column code to c",
    "create trigger t before update on customers for each row execute function noticed()",
    "create trigger t before update on customers for each row execute function tsvector_update_trigger(v, 'pg_catalog.simple', ssn)",
    "create rule r as on update to customers do also insert into vault values (old.ssn)",
    "alter index customers rename to others", "alter extension plpgsql add table customers",
    "alter type shape rename attribute ssn to other cascade", "alter function lower(text) immutable",
    "update pg_catalog.pg_attribute set attname = 'other' where attname = 'ssn'", "delete from pg_inherits",
]


@pytest.mark.parametrize("text", MOVED)
def test_t30_a_masked_column_keeps_its_name(text: str, place: Place) -> None:
    """Masks go by names: whoever may alter, but may not see, does not take a column away from its own."""
    with place.through("veiled") as veiled:
        for form in (text, f"create table f1 (i int); insert into f1 values (1); {text}", f"do $$ begin null; end $$; {text}"):
            frames = veiled.query(form)
            assert (codes(frames), status(frames)) == (["42501"], "I"), form
    assert place.execute("select ssn, to_regclass('f1') from customers") == [("078-05-1120", None)]


def test_t30_what_a_script_reads_is_masked(place: Place) -> None:
    with place.through("veiled") as veiled:
        veiled.query("begin")
        frames = veiled.query("alter table customers add column more text; select ssn, half, more from customers; select c from "
                              "customers c; copy customers (ssn) to stdout")
        frames += veiled.query("create table g1 (i int); select ssn as i from customers")
        assert codes(frames) == []
        frames += veiled.query("create table g2 (v text); insert into g2 select ssn from customers")
        assert codes(frames) == ["42501"]
        assert SECRET not in b"".join(payload for _, payload in frames)
        assert b"078" not in b"".join(payload for _, payload in frames)
        veiled.query("rollback")


def test_other_names_may_change(place: Place) -> None:
    with place.through("veiled") as veiled:
        for text in ("alter table customers rename column name to called; alter table customers rename column called to name",
                     "create table h1 (i int); alter table h1 rename to h2; alter table h2 rename column i to j; select j from h2",
                     "alter table kin rename constraint nosuch to other"):
            assert set(codes(veiled.query(text))) <= {"42704"}, text
