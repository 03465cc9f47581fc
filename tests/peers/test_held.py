# SPDX-License-Identifier: Apache-2.0
"""Held statements on a real server, each brought to its end: what the caller is told, what the table says, what is on record."""

from __future__ import annotations

import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.cli.client import Client, ClientProblem, client
from gateway.testing.postgres import PostgresServer
from tests.peers.clients import connect_psycopg
from tests.peers.gateway import Appliance, running

Connection = psycopg.Connection[tuple[object, ...]]
ALL = "update orders set total = total"
"""Changes every row and none; without WHERE, so it is held."""


def console(appliance: Appliance, name: str) -> Client:
    """The console as one person asks it."""
    return client(Namespace(config=appliance.folder, url=None, ca=None, token_file=appliance.token_file(name)))


@dataclass
class Held:
    """A statement that waits in a thread of its own."""

    appliance: Appliance
    connection: Connection
    running: Future[int]
    id: str
    notices: list[str] = field(default_factory=list)

    def vote(self, name: str, what: str = "approve", reason: str = "test") -> dict[str, Any]:
        asked = console(self.appliance, name)
        view = asked.get(f"/api/v1/approvals/{self.id}")
        voted: dict[str, Any] = asked.post(f"/api/v1/approvals/{self.id}/{what}", {"digest": view["digest"], "reason": reason})
        return voted

    def state(self, name: str = "ines") -> str:
        return str(console(self.appliance, name).get(f"/api/v1/approvals/{self.id}")["state"])

    def kinds(self) -> list[str]:
        """The kinds of its records, in order."""
        return [one["kind"] for one in self.appliance.lines("audit", "export") if one.get("id") == self.id]

    def failure(self) -> psycopg.Error:
        with pytest.raises(psycopg.Error) as failed:
            self.running.result(60)
        return failed.value


@contextmanager
def held(appliance: Appliance, sql: str = ALL, prepare: str = "") -> Iterator[Held]:
    """Run ``sql`` in a thread; inside of the block it waits for its approval."""
    with ThreadPoolExecutor(1) as pool, connect_psycopg(appliance, autocommit=True) as connection:
        told, notices = threading.Event(), list[str]()

        def notice(diagnostic: psycopg.errors.Diagnostic) -> None:
            notices.append(diagnostic.message_primary or "")
            told.set()

        connection.add_notice_handler(notice)
        if prepare:
            connection.execute(prepare)
        future = pool.submit(lambda: connection.execute(sql).rowcount)
        until(lambda: told.is_set() or future.done())
        assert told.is_set(), future.exception(0)
        [approval] = [word.rstrip(":") for word in notices[0].split() if word.startswith("apr_")][:1]
        try:
            yield Held(appliance, connection, future, approval, notices)
        finally:
            if not future.done():
                connection.cancel_safe(timeout=60)
                future.exception(60)


def until(holds: Callable[[], object]) -> None:
    """Look until it holds; a minute is long enough for everything here."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_notice_says_who_until_when_and_how(gateway: Appliance) -> None:
    with held(gateway) as waiting:
        assert f"lockgate approvals approve {waiting.id}" in waiting.notices[0]
        assert "1 of dba" in waiting.notices[0] and " until 20" in waiting.notices[0]


def test_approved_it_runs_once(gateway: Appliance) -> None:
    with held(gateway) as waiting:
        assert waiting.vote("ines")["state"] == "granted"
        assert waiting.running.result(60) == 20
        assert waiting.kinds() == ["approval.requested", "approval.vote", "approval.granted", "approval.used"]
        begins = [one for one in gateway.lines("audit", "export") if one.get("approval") == waiting.id]
        assert [one["kind"] for one in begins] == ["command.begin"] and waiting.state() == "used"


def test_denied_it_is_refused_and_says_by_whom(gateway: Appliance) -> None:
    with held(gateway) as waiting:
        waiting.vote("ines", "deny", "not today")
        error = waiting.failure()
        assert error.sqlstate == "42501" and "denied by ines: not today" in str(error)
        assert waiting.kinds() == ["approval.requested", "approval.vote", "approval.denied"]
        assert waiting.connection.execute("select 1").fetchone() == (1,)


def test_t58_the_owner_and_strangers_do_not_vote(gateway: Appliance) -> None:
    with held(gateway) as waiting:
        for name in ("dana", "sam", "omar"):
            with pytest.raises(ClientProblem) as refused:
                waiting.vote(name)
            assert refused.value.status == 1
        gateway.run("approvals", "approve", waiting.id, "--reason", "mine", "--token-file", str(gateway.token_file("dana")), expect=1)
        assert waiting.kinds() == ["approval.requested"] and waiting.state() == "pending"


def test_cancelled_it_is_withdrawn(gateway: Appliance) -> None:
    with held(gateway) as waiting:
        waiting.connection.cancel_safe(timeout=60)
        assert waiting.failure().sqlstate == "57014"
        assert waiting.kinds() == ["approval.requested", "approval.withdrawn"]
        with pytest.raises(ClientProblem, match="withdrawn already"):
            waiting.vote("ines")
        assert waiting.connection.execute("select 1").fetchone() == (1,)


def test_a_caller_that_goes_away_withdraws(gateway: Appliance) -> None:
    with connect_psycopg(gateway, autocommit=True) as gone:
        told = threading.Event()
        found: list[str] = []

        def notice(diagnostic: psycopg.errors.Diagnostic) -> None:
            found.append((diagnostic.message_primary or "").split()[3].rstrip(":"))
            told.set()

        gone.add_notice_handler(notice)
        gone.pgconn.send_query(ALL.encode())
        gone.pgconn.flush()
        def heard() -> bool:
            gone.pgconn.consume_input()
            return not gone.pgconn.is_busy() or told.is_set()

        until(heard)
        gone.pgconn.finish()
    until(lambda: console(gateway, "ines").get(f"/api/v1/approvals/{found[0]}")["state"] == "withdrawn")


def test_t59_two_votes_at_once_run_it_once(gateway: Appliance) -> None:
    """Both groups are needed; three people vote at the same time, the grant comes from two of them (T59)."""
    with held(gateway, "drop table if exists public.no_such_table") as waiting:
        with ThreadPoolExecutor(3) as voters:
            answers = [voters.submit(waiting.vote, name) for name in ("ines", "sam", "dana")]
            outcomes = [answer.exception(60) is None for answer in answers]
        assert outcomes == [True, True, False]
        waiting.running.result(60)
        assert sorted(waiting.kinds()) == ["approval.granted", "approval.requested", "approval.used", "approval.vote", "approval.vote"]


def test_t57_another_search_path_is_another_statement(gateway: Appliance) -> None:
    """T57: what was approved under one search_path does not run under another."""
    with connect_psycopg(gateway, autocommit=True, options="-c lockgate.wait=off") as connection:
        ids = []
        for path in ("public", "public, pg_catalog", "public"):
            connection.execute(f"set search_path = {path}")
            with pytest.raises(psycopg.Error) as waits:
                connection.execute(ALL)
            assert waits.value.sqlstate == "LG001"
            ids.append(waits.value.diag.message_detail)
        assert ids[0] == ids[2] != ids[1]
        asked = console(gateway, "ines")
        for one in set(ids):
            view = asked.get(f"/api/v1/approvals/{one}")
            if one == ids[0]:
                asked.post(f"/api/v1/approvals/{one}/approve", {"digest": view["digest"], "reason": "test"})
        connection.execute("set search_path = public, pg_catalog")
        with pytest.raises(psycopg.Error) as still:
            connection.execute(ALL)
        assert still.value.diag.message_detail == ids[1]
        connection.execute("set search_path = public")
        assert connection.execute(ALL).rowcount == 20
        console(gateway, "ines").post(f"/api/v1/approvals/{ids[1]}/deny", {
            "digest": asked.get(f"/api/v1/approvals/{ids[1]}")["digest"], "reason": "tidy up"})


def test_t57_parameters_are_part_of_it(gateway: Appliance) -> None:
    sql = "update orders set total = %t"
    with connect_psycopg(gateway, autocommit=True, options="-c lockgate.wait=off") as connection:
        found = set()
        for value in (1, 2, 1):
            with pytest.raises(psycopg.Error) as waits:
                connection.execute(sql, (value,))
            found.add(waits.value.diag.message_detail)
        assert len(found) == 2
        asked = console(gateway, "ines")
        for one in found:
            view = asked.get(f"/api/v1/approvals/{one}")
            assert view["parameters"] in (["1"], ["2"]) and view["text"] == "update orders set total = $1"
            asked.post(f"/api/v1/approvals/{one}/deny", {"digest": view["digest"], "reason": "tidy up"})


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Appliance]:
    """A gateway of this module's own, whose approvals expire quickly."""
    def change(appliance: Appliance) -> None:
        one = "all_of: [{group: dba, count: 1}]\n    expires: "
        appliance.rewrite("policy/approvals.yaml", {f"{one}15m": f"{one}3s"})

    with running(tmp_path_factory.mktemp("held"), postgres, change=change) as appliance:
        yield appliance


def test_expired_it_is_refused(own: Appliance) -> None:
    with held(own) as waiting:
        error = waiting.failure()
        assert error.sqlstate == "42501" and "expired" in str(error)
        assert waiting.kinds() == ["approval.requested", "approval.expired"]
        with pytest.raises(ClientProblem, match="expired already"):
            waiting.vote("ines")


def test_another_policy_withdraws_it(own: Appliance) -> None:
    own.rewrite("policy/approvals.yaml", {"expires: 3s": "expires: 15m"})
    own.reload()
    until(lambda: sum(one["kind"] == "policy.loaded" for one in own.lines("audit", "export")) == 2)
    with held(own) as waiting:
        path = Path("policy/approvals.yaml")
        own.rewrite(str(path), {"expires: 15m\n  - name: dba-and-security": "expires: 14m\n  - name: dba-and-security"})
        own.reload()
        error = waiting.failure()
        assert error.sqlstate == "57014" and "the policy changed" in str(error)
        assert waiting.kinds() == ["approval.requested", "approval.withdrawn"]


def test_a_gateway_that_stops_withdraws_it(own: Appliance) -> None:
    with held(own) as waiting:
        own.stop()
        assert waiting.failure().sqlstate in ("57014", "57P01", None)
        assert waiting.kinds() == ["approval.requested", "approval.withdrawn"]
    own.start()
