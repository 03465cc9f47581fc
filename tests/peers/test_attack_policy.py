# SPDX-License-Identifier: Apache-2.0
"""Attempts to run what is denied or held without a vote, in SQL and by the order of messages; names that change their meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.protocols.postgres.messages import Bind, Close, Describe, Execute, Message, Parse
from gateway.testing.postgres import PostgresServer
from tests.peers.attack import Attacked, attacked, leaked, outcome, through
from tests.peers.attack_cases import POLICY, Case
from tests.peers.wire import Wire, codes, tags, texts

HIDDEN = "select ssn || chr(32) from customers"
CLEAR = "select name from customers order by id"


@pytest.mark.parametrize("case", POLICY, ids=[case.what for case in POLICY])
def test_policy(case: Case, attacks: Attacked) -> None:
    assert outcome(attacks.send(case.texts), []) == case.outcome


Step = str | tuple[Message, ...]

SEQUENCES: dict[str, tuple[Step, ...]] = {
    "the unnamed statement replaced": ((Parse("", CLEAR), Parse("", HIDDEN), Bind("", ""), Execute("")),),
    "a name closed and taken again": ((Parse("a", CLEAR), Close("S", "a"), Parse("a", HIDDEN), Bind("", "a"), Execute("")),),
    "a name that is taken": ((Parse("a", CLEAR),), (Parse("a", HIDDEN), Bind("", "a"), Execute("")), (Bind("", "a"), Execute(""))),
    "a portal outlives its statement": ((Parse("a", HIDDEN), Bind("p", "a"), Close("S", "a"), Parse("a", CLEAR), Execute("p")),),
    "prepared by SQL, bound by message": (f"prepare a as {HIDDEN}", (Bind("", "a"), Execute(""))),
    "prepared by SQL over a message's": ((Parse("a", CLEAR),), f"prepare a as {HIDDEN}", (Bind("", "a"), Execute(""))),
    "deallocated by SQL, parsed anew": ((Parse("a", CLEAR),), "deallocate a", (Parse("a", HIDDEN), Bind("", "a"), Execute(""))),
    "prepared in a text that fails": (f"prepare a as {CLEAR}; select 1/0", f"prepare a as {HIDDEN}", "execute a"),
    "prepared in a transaction that is rolled back": (f"begin; prepare a as {HIDDEN}", "rollback", "execute a"),
    "a portal fetched by SQL": ("begin", (Parse("", HIDDEN), Bind("c", "")), "fetch all from c"),
    "a cursor run by message": ("begin", f"declare c cursor for {HIDDEN}", (Execute("c"),)),
    "a cursor closed and declared again": ("begin", f"declare c cursor for {CLEAR}", "close c", f"declare c cursor for {HIDDEN}",
                                           (Describe("P", "c"), Execute("c"))),
    "a cursor behind a savepoint": ("begin", f"declare c cursor for {CLEAR}", "savepoint s", "close c", f"declare c cursor for {HIDDEN}",
                                    "fetch 1 from c", "rollback to s", "fetch 1 from c"),
    "a cursor with hold": ("begin", f"declare c cursor with hold for {HIDDEN}", "commit", "fetch 1 from c", (Execute("c"),)),
    "search_path within a pipeline": ((Parse("a", "set search_path = archive, public"), Parse("b", HIDDEN), Bind("", "a"), Execute(""),
                                       Bind("", "b"), Execute("")),),
    "a portal bound before search_path changes": ((Parse("b", HIDDEN), Bind("p", "b"), Parse("a", "set search_path = archive"),
                                                   Bind("", "a"), Execute(""), Execute("p")),),
    "search_path back by ROLLBACK TO": ("begin", "savepoint s", "set local search_path = archive", "rollback to s", HIDDEN),
    "rows in parts": ((Parse("", HIDDEN), Bind("p", ""), Execute("p", 1), Execute("p", 1), Execute("p")),),
    "described by statement only": ((Parse("", HIDDEN), Describe("S", ""), Bind("", ""), Execute("")),),
    "binary results": ((Parse("", "select ssn, length(ssn) from customers"), Bind("", "", results=(1,)), Execute("")),),
    "COPY by message": ((Parse("", "copy customers to stdout"), Bind("", ""), Execute("")),),
    "behind an error": ((Parse("", "select 1/0"), Bind("", ""), Execute(""), Parse("", HIDDEN), Bind("", ""), Execute("")),
                        (Parse("", HIDDEN), Bind("", ""), Execute(""))),
}


def play(wire: Wire, steps: tuple[Step, ...]) -> list[tuple[str, bytes]]:
    return [frame for step in steps for frame in (wire.query(step) if isinstance(step, str) else wire.run(*step))]


@pytest.mark.parametrize("name", SEQUENCES)
def test_names_mean_to_the_gateway_what_they_mean_to_the_target(name: str, attacks: Attacked) -> None:
    with through(attacks.appliance) as wire:
        found = play(wire, SEQUENCES[name])
        assert not wire.closed
        assert leaked(found) == set()
        if wire.query("rollback"):
            assert texts(wire.query("select 1")) == [("1",)]


def test_behind_a_denied_statement_nothing_of_the_pipeline_runs(attacks: Attacked) -> None:
    with through(attacks.appliance) as wire:
        write = "update orders set note = 'ran' where id = 1"
        found = wire.run(Parse("", "drop database x"), Bind("", ""), Execute(""), Parse("", write), Bind("", ""), Execute(""))
        assert codes(found) == ["42501"] and tags(found) == []
        assert texts(wire.query("select note from orders where id = 1")) == [("order 1",)]


@pytest.mark.parametrize("message", [Parse("lockgate_1", "select 1"), Describe("P", "lockgate_1"), Execute("lockgate_refused"),
                                     Close("S", "lockgate_1"), Bind("lockgate_1", "")])
def test_the_gateways_own_names_are_refused(message: Message, attacks: Attacked) -> None:
    with through(attacks.appliance) as wire:
        assert codes(wire.run(message)) == ["42602"]


def test_the_gateways_savepoint_is_not_the_callers(attacks: Attacked) -> None:
    """DDL of the caller makes the gateway read the catalog inside a savepoint of its own."""
    steps = ["begin", "savepoint lockgate_catalog", "update orders set note = 'kept' where id = 1", "select note from orders where id = 1",
             "rollback to lockgate_catalog", "select note from orders where id = 1"]
    with through(attacks.appliance) as wire:
        assert texts(play(wire, tuple(steps))) == [("kept",), ("order 1",)]
        wire.query("rollback")


def test_a_schema_that_the_role_may_not_use_shadows_nothing(tmp_path: Path, postgres: PostgresServer) -> None:
    """The target passes over such a schema in search_path: its clear ``customers`` is not the one that is read."""
    with attacked(tmp_path, postgres, options="") as appliance:
        postgres.execute("grant select on all tables in schema public to public", "attacks")
        with through(appliance, "reporting") as wire:
            found = wire.query("set search_path = archive, public; select ssn || chr(32) from customers")
            assert leaked(found) == set()
            assert {value for row in texts(found) for value in row} == {"****", None}
