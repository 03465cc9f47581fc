# SPDX-License-Identifier: Apache-2.0
"""Extensions under masks: what they compute from clear columns is shown, from masked ones hidden; their other code is not believed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.gateway import Appliance, running
from tests.peers.postgres import PostgresServer
from tests.peers.wire import Wire, codes, texts

POLICY = """masks:
  - {name: veil, columns: {public.people.ssn: redact}}
grants:
  - name: extended
    to: [ci-bot]
    targets: [orders-db]
    rules:
      - {name: all, allow: {sql: {verbs: [select, insert, update, create-function]}}}
      - {name: own, allow: {sql: {functions: ["public.*"]}}}
    masks: [veil]
"""
TABLES = """
create extension hstore; create extension citext; create extension pg_trgm; create extension ltree;
create table people (id int primary key, name text, email citext, bag hstore, place ltree, ssn text);
insert into people values (1, 'anna', 'A@x.y', 'a=>1', 'top.sub', '078-05-1120');
create function aliased(text) returns text language internal immutable as 'upper';
create function reads(text) returns text language sql immutable as 'select ssn from public.people';
"""
SHOWN = {
    "select similarity(name, 'ann') > 0.1 from people": "t", "select bag -> 'a' from people": "1", "select bag || 'b=>2' from people": None,
    "select lower(email::text)::citext from people": "a@x.y", "select email || 'x' from people": "A@x.yx", "select 'X'::citext = 'x'": "t",
    "select subpath(place, 0, 1) from people": "top", "select place <@ 'top' from people": "t",
    "select hstore('k', name) -> 'k' from people": "anna",
    "select value from people, each(bag)": "1", "select bag['a'] from people": "1", "select id from people where email = 'a@X.Y'": "1",
}
HIDDEN = [
    "select similarity(ssn, '078') from people", "select hstore('k', ssn) -> 'k' from people", "select ssn::citext from people",
    "select show_trgm(ssn) from people", "select (ssn::citext)::text from people", "select value from people, each(hstore('k', ssn))",
    "select hstore(people) -> 'ssn' from people", "select avals(hstore(p)) from people p",
    "select regexp_match(ssn::citext, '.*') from people",
    "select reads('x')", "select aliased('x')", "select similarity(reads('x'), '078')", "select hstore('k', reads('x')) -> 'k'",
]


@pytest.fixture(scope="module", params=["system", "newest"])
def wire(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    server: PostgresServer = request.getfixturevalue("postgres" if request.param == "system" else "newest_postgres")
    server.execute("drop database if exists extended with (force)")
    server.create_database("extended")
    server.execute(TABLES, "extended")

    def change(appliance: Appliance) -> None:
        appliance.rewrite("policy/resources.yaml", {"database: orders ": "database: extended "})
        for path in ("grants", "tests"):
            for file in (appliance.folder / "policy" / path).glob("*.yaml"):
                file.unlink()
        (appliance.folder / "policy" / "extended.yaml").write_text(POLICY)

    with (running(tmp_path_factory.mktemp("extended"), server, change=change) as appliance,
          Wire.connect(appliance.port, "ci-bot", appliance.token("ci-bot"), "orders-db", ca=appliance.ca) as connected):
        yield connected
    server.execute("drop database extended with (force)")


@pytest.mark.parametrize("text", SHOWN)
def test_what_is_computed_from_clear_columns_is_shown(text: str, wire: Wire) -> None:
    frames = wire.query(text)
    assert codes(frames) == []
    (row,) = texts(frames)
    assert row[0] not in (None, "****")
    assert SHOWN[text] in (None, row[0])


@pytest.mark.parametrize("text", HIDDEN)
def test_t30_what_could_hold_a_masked_value_is_not(text: str, wire: Wire) -> None:
    frames = wire.query(text)
    assert set(codes(frames)) <= {"42501"}
    assert all(set(row) <= {None, "****"} for row in texts(frames))
    assert b"078" not in b"".join(payload for _, payload in frames)


def test_t30_it_is_written_where_it_may_be(wire: Wire) -> None:
    assert codes(wire.query("update people set bag = bag || 'b=>2' where email = 'a@x.y'")) == []
    for text in ("update people set bag = bag || hstore('c', ssn)", "update people set name = ssn::citext", "update people set email = ssn",
                 "insert into people (id, place) select 2, text2ltree(replace(ssn, '-', '')) from people"):
        assert codes(wire.query(text)) == ["42501"], text
