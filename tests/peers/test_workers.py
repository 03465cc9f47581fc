# SPDX-License-Identifier: Apache-2.0
"""``workers: 2``: what only all workers together can know is right, and one that dies takes nothing but its own sessions."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from gateway.cli.client import ClientProblem
from gateway.testing.appliance import Appliance, ApplianceFailed
from gateway.testing.postgres import PostgresServer
from gateway.workers import crew as crew_of_workers
from tests.peers.clients import connect_psycopg
from tests.peers.gateway import inside, running
from tests.peers.test_ephemeral_roles import make_target, with_roles
from tests.peers.test_held import ALL, console, held, until

Connection = psycopg.Connection[tuple[object, ...]]
WORKERS = 2


def shared(appliance: Appliance) -> None:
    appliance.rewrite("gateway.yaml", {"segment:": f"workers: {WORKERS}\nsegment:"})


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Appliance]:
    """A gateway of two workers. Shared: leave data and folder as you found them."""
    with running(tmp_path_factory.mktemp("crew"), postgres, change=shared) as appliance:
        yield appliance


def worker_of(connection: Connection) -> int:
    """Which worker a session is on: its cancel key says so."""
    return connection.info.backend_pid % WORKERS


@contextmanager
def one_on_each(appliance: Appliance) -> Iterator[dict[int, Connection]]:
    """A session on every worker; the kernel deals them out, so it is asked until each has one."""
    with ExitStack() as stack:
        found: dict[int, Connection] = {}
        for _ in range(200):
            connection = connect_psycopg(appliance, autocommit=True)
            if worker_of(connection) in found:
                connection.close()
                continue
            found[worker_of(connection)] = stack.enter_context(connection)
            if len(found) == WORKERS:
                break
        assert sorted(found) == list(range(WORKERS))
        yield found


def pids(appliance: Appliance) -> dict[str, int]:
    """The process of each worker, by its number, as its log says."""
    starts = [one for one in appliance.lines("audit", "export") if one["kind"] == "gateway.start"]
    return {one["origin"].rpartition("/")[2]: one["pid"] for one in starts if "/" in one["origin"]}


def metric(appliance: Appliance, name: str) -> float:
    lines = appliance.get("/metrics")[1].decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"lockgate_{name} ")))


def lived(statement: Callable[[], object]) -> bool:
    try:
        statement()
    except psycopg.OperationalError:
        return False
    return True


# --- one gateway to those outside ---

def test_every_worker_serves_and_keeps_a_log_of_its_own(crew: Appliance) -> None:
    with one_on_each(crew) as sessions:
        for connection in sessions.values():
            assert connection.execute("select name from customers where id = 1").fetchone() is not None
    origins = {one["origin"] for one in crew.lines("audit", "export")}
    name = min(origins, key=len)
    assert origins == {name, *(f"{name}/{number}" for number in range(1, WORKERS + 1))}
    for origin in origins:
        seqs = [one["seq"] for one in crew.lines("audit", "export") if one["origin"] == origin]
        assert seqs == list(range(1, len(seqs) + 1))
    assert set(crew.json("audit", "verify")["origins"]) == origins
    assert (metric(crew, "workers"), metric(crew, "workers_serving")) == (WORKERS, WORKERS)


def test_an_export_since_one_worker_s_record_has_everything_of_the_others(crew: Appliance) -> None:
    with one_on_each(crew) as sessions:
        for connection in sessions.values():
            connection.execute("select 1")
    records = crew.lines("audit", "export")
    one = next(record["origin"] for record in records if record["origin"].endswith("/1"))
    last = max(record["seq"] for record in records if record["origin"] == one)
    since = crew.lines("audit", "export", "--since", f"{one}:{last}")
    assert [record for record in since if record["origin"] == one and record["seq"] <= last] == []
    assert {record["origin"] for record in since} >= {record["origin"] for record in records} - {one}


def test_a_cancel_reaches_its_session_whoever_accepts_it(crew: Appliance) -> None:
    with one_on_each(crew) as sessions, ThreadPoolExecutor(1) as pool:
        for connection in list(sessions.values()) * 2:
            waiting = pool.submit(connection.execute, "select count(*) from generate_series(1, 2000000000)")
            until(lambda: connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE or waiting.done())  # noqa: B023
            while not waiting.done():
                connection.cancel_safe(timeout=60)
                time.sleep(0.05)
            assert isinstance(waiting.exception(60), psycopg.errors.QueryCanceled)
            assert connection.execute("select 1").fetchone() == (1,)


def test_a_stranger_s_cancel_key_cancels_nobody(crew: Appliance) -> None:
    with one_on_each(crew) as sessions:
        with connect_psycopg(crew, autocommit=True) as other:
            assert other.pgconn.backend_pid not in {one.pgconn.backend_pid for one in sessions.values()}
        other.close()
        for connection in sessions.values():
            assert connection.execute("select 1").fetchone() == (1,)


def test_sessions_are_listed_shown_and_ended_wherever_they_are(crew: Appliance) -> None:
    with one_on_each(crew) as sessions:
        for connection in sessions.values():
            connection.execute("select 1")
        listed = console(crew, "dana").get("/api/v1/sessions", {"open": "1"})["sessions"]
        live = [one["id"] for one in listed if one["live"]]
        assert len(live) >= WORKERS and metric(crew, "sessions_live") >= WORKERS
        for session in live:
            console(crew, "dana").post(f"/api/v1/sessions/{session}/end", {"reason": "test"})
        for connection in sessions.values():
            until(lambda: not lived(lambda: connection.execute("select 1")))  # noqa: B023
    until(lambda: metric(crew, "sessions_live") == 0)
    assert "select 1" in crew.run("sessions", "show", live[0])


# --- what is counted over all ---

def test_concurrent_sessions_are_counted_over_all_workers(tmp_path: Path, postgres: PostgresServer) -> None:
    def few(appliance: Appliance) -> None:
        shared(appliance)
        appliance.rewrite("policy/grants/ci-bot.yaml", {"concurrent: 50": "concurrent: 4"})

    with running(tmp_path, postgres, change=few) as appliance, ThreadPoolExecutor(12) as pool:
        appliance.token()
        for _ in range(2):
            tried = list(pool.map(lambda _: _tried(appliance), range(12)))
            let_in = [one for one in tried if isinstance(one, psycopg.Connection)]
            refused = [one for one in tried if not isinstance(one, psycopg.Connection)]
            assert len(let_in) == 4 and all("has 4 sessions on orders-db already" in str(one) for one in refused)
            for connection in let_in:
                connection.close()
            until(lambda: metric(appliance, "sessions_live") == 0)


def _tried(appliance: Appliance) -> Connection | psycopg.OperationalError:
    try:
        return connect_psycopg(appliance, autocommit=True)
    except psycopg.OperationalError as refused:
        return refused


def test_the_rate_of_operations_is_one_over_all_workers(tmp_path: Path, postgres: PostgresServer) -> None:
    """A bucket of twenty that hardly fills again: however many sessions ask, about twenty statements run."""
    def slow(appliance: Appliance) -> None:
        shared(appliance)
        appliance.rewrite("gateway.yaml", {"operations_per_identity: 100000/s": "operations_per_identity: 20/s"})

    with running(tmp_path, postgres, change=slow) as appliance, one_on_each(appliance) as sessions:
        began, ran = time.monotonic(), Counter[bool]()
        for turn in range(200):
            ran[_ran(sessions[turn % WORKERS])] += 1
        taken = time.monotonic() - began
        # each worker looks at the bucket for the first time by itself: at most one more bucket for each of the others
        assert 0 < ran[True] <= 20 * WORKERS + 20 * (taken + 1), (ran, taken)
        assert ran[False] > 0


def _ran(connection: Connection) -> bool:
    try:
        connection.execute("select 1")
    except psycopg.errors.InsufficientPrivilege as refused:
        assert "rate of operations" in str(refused)
        return False
    return True


def test_a_single_use_token_is_used_once_over_all_workers(tmp_path: Path, postgres: PostgresServer) -> None:
    def once(appliance: Appliance) -> None:
        shared(appliance)
        appliance.rewrite("policy/identities.yaml", {"    session: 8h ": "    single_use: true\n    session: 8h "})

    with running(tmp_path, postgres, change=once) as appliance, ThreadPoolExecutor(12) as pool:
        appliance.token()
        tried = list(pool.map(lambda _: _tried(appliance), range(12)))
        let_in = [one for one in tried if isinstance(one, psycopg.Connection)]
        assert len(let_in) == 1
        let_in[0].close()


# --- approvals ---

def test_a_vote_reaches_the_session_that_waits_wherever_it_is(crew: Appliance) -> None:
    seen = set[int]()
    for _ in range(60):
        with held(crew) as waiting:
            waiting.vote("ines")
            assert waiting.running.result(60) == 20
            seen.add(worker_of(waiting.connection))
            assert waiting.kinds() == ["approval.requested", "approval.vote", "approval.granted", "approval.used"]
            records = crew.lines("audit", "export")
            [begin] = [one for one in records if one.get("approval") == waiting.id and one["kind"] == "command.begin"]
            [used] = [one for one in records if one.get("id") == waiting.id and one["kind"] == "approval.used"]
            assert begin["origin"].startswith(f"{used['origin']}/") and used["time"] <= begin["time"]
            assert begin["text_digest"] == next(one for one in records if one["kind"] == "approval.requested"
                                                and one["id"] == waiting.id)["text_digest"]
        if len(seen) == WORKERS:
            break
    assert len(seen) == WORKERS


def test_a_grant_is_found_by_the_same_command_on_another_worker_and_used_once(crew: Appliance) -> None:
    asked = _held_and_not_waiting(crew)
    client = console(crew, "ines")
    client.post(f"/api/v1/approvals/{asked}/approve", {"digest": client.get(f"/api/v1/approvals/{asked}")["digest"], "reason": "test"})
    outcomes = Counter[str]()
    with ThreadPoolExecutor(12) as pool:
        for outcome in pool.map(lambda _: _run_not_waiting(crew), range(12)):
            outcomes[outcome] += 1
    assert outcomes["ran"] == 1 and outcomes["LG001"] == 11
    for approval in client.get("/api/v1/approvals", {"state": "pending"})["approvals"]:
        client.post(f"/api/v1/approvals/{approval['id']}/deny", {"digest": approval["digest"], "reason": "the test is over"})


def _held_and_not_waiting(appliance: Appliance) -> str:
    with connect_psycopg(appliance, autocommit=True, options="-c lockgate.wait=off") as connection:
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(ALL)
        assert refused.value.sqlstate == "LG001"
        return str(refused.value.diag.message_detail)


def _run_not_waiting(appliance: Appliance) -> str:
    with connect_psycopg(appliance, autocommit=True, options="-c lockgate.wait=off") as connection:
        try:
            connection.execute(ALL)
        except psycopg.Error as refused:
            return refused.sqlstate or ""
        return "ran"


def test_who_cancels_or_leaves_while_waiting_withdraws(crew: Appliance) -> None:
    with held(crew) as waiting:
        waiting.connection.cancel_safe(timeout=60)
        assert waiting.failure().sqlstate == "57014"
        until(lambda: waiting.state() == "withdrawn")
    with held(crew) as waiting:
        waiting.connection.pgconn.finish()
        until(lambda: waiting.state() == "withdrawn")


# --- a new policy ---

def test_a_reload_reaches_sessions_of_every_worker_and_a_bad_one_none(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres, change=shared) as appliance, one_on_each(appliance) as sessions:
        grants = appliance.folder / "policy" / "grants" / "ci-bot.yaml"
        before = grants.read_text()
        grants.write_text(before.replace("verbs: [select, insert, update, delete]", "verbs: [insert, update, delete]"))
        appliance.reload()
        until(lambda: _kinds(appliance)["policy.loaded"] == 2 * (WORKERS + 1))
        for connection in sessions.values():
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select id from orders")
        grants.write_text("grants: nonsense\n")
        appliance.reload()
        until(lambda: _kinds(appliance)["policy.rejected"] == 1)
        grants.write_text(before)
        appliance.reload()
        until(lambda: _kinds(appliance)["policy.loaded"] == 3 * (WORKERS + 1))
        for connection in sessions.values():
            assert connection.execute("select id from orders limit 1").fetchone() is not None
        digests = {one["policy"] for one in appliance.lines("audit", "export") if one["kind"] == "policy.loaded"}
        assert len(digests) == 2


def _kinds(appliance: Appliance) -> Counter[str]:
    return Counter(one["kind"] for one in appliance.lines("audit", "export"))


def test_a_worker_that_begins_later_has_the_policy_in_force_or_none(tmp_path: Path, postgres: PostgresServer) -> None:
    """A folder edited in place and never loaded is not what a new worker takes up."""
    with running(tmp_path, postgres, change=shared) as appliance:
        grants = appliance.folder / "policy" / "grants" / "ci-bot.yaml"
        before = grants.read_text()
        grants.write_text(before.replace("concurrent: 50", "concurrent: 49"))
        os.kill(pids(appliance)["1"], signal.SIGKILL)
        until(lambda: "was changed since it was loaded" in appliance.log)
        assert metric(appliance, "workers_serving") == WORKERS - 1 and appliance.ready()
        appliance.reload()
        until(lambda: metric(appliance, "workers_serving") == WORKERS)
        with one_on_each(appliance) as sessions:
            for connection in sessions.values():
                connection.execute("select 1")


# --- one that dies ---

def test_one_that_is_killed_takes_its_own_sessions_alone(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres, change=shared) as appliance:
        with one_on_each(appliance) as sessions:
            for connection in sessions.values():
                connection.execute("begin")
                connection.execute("select 1")
            os.kill(pids(appliance)["2"], signal.SIGKILL)
            until(lambda: not lived(lambda: sessions[1].execute("select 1")))
            for number in set(range(WORKERS)) - {1}:
                assert sessions[number].execute("select 2").fetchone() == (2,)
                sessions[number].execute("commit")
            until(lambda: metric(appliance, "workers_serving") == WORKERS)
            assert metric(appliance, "workers_replaced_total") == 1
        with one_on_each(appliance) as sessions:
            assert sessions[1].execute("select 3").fetchone() == (3,)
        records = [one for one in appliance.lines("audit", "export") if one["origin"].endswith("/2")]
        ended = [one for one in records if one["kind"] == "session.end" and one["reason"] == "gateway stopped"]
        assert ended and [one["seq"] for one in records] == list(range(1, len(records) + 1))


def test_what_its_sessions_waited_for_is_withdrawn(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres, change=shared) as appliance, held(appliance) as waiting:
        os.kill(pids(appliance)[str(worker_of(waiting.connection) + 1)], signal.SIGKILL)
        assert isinstance(waiting.failure(), psycopg.OperationalError)
        until(lambda: waiting.state() == "withdrawn")
        with pytest.raises(ClientProblem, match="withdrawn"):
            waiting.vote("ines")


async def test_one_that_does_not_answer_any_more_is_replaced(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew_of_workers, "ANSWER", 2.0)
    monkeypatch.setattr(crew_of_workers, "PING_EVERY", 0.1)
    async with inside(tmp_path, postgres, change=shared) as (gateway, appliance):
        stopped = pids(appliance)["2"]
        os.kill(stopped, signal.SIGSTOP)
        async with asyncio.timeout(60):
            while gateway.workers["replaced"] < 1 or gateway.workers["serving"] < WORKERS:  # noqa: ASYNC110 - processes, not events
                await asyncio.sleep(0.05)
        assert not _is_worker(stopped)


def test_without_the_first_process_none_goes_on(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres, change=shared) as appliance:
        found = list(pids(appliance).values())
        with one_on_each(appliance) as sessions:
            appliance.kill()
            for connection in sessions.values():
                until(lambda: not lived(lambda: connection.execute("select 1")))  # noqa: B023
        until(lambda: not any(Path(f"/proc/{pid}/fd").exists() and _is_worker(pid) for pid in found))
        appliance.start()
        with one_on_each(appliance) as sessions:
            assert len(sessions) == WORKERS


def _is_worker(pid: int) -> bool:
    try:
        return b"gateway.workers.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def test_sigterm_lets_running_commands_end_in_every_worker(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres, change=shared) as appliance, one_on_each(appliance) as sessions, ThreadPoolExecutor(WORKERS) as pool:
        begun = threading.Barrier(WORKERS + 1)

        def slow(connection: Connection) -> object:
            begun.wait(60)
            return connection.execute("select count(*) from generate_series(1, 3000000)").fetchone()

        answers = [pool.submit(slow, connection) for connection in sessions.values()]
        begun.wait(60)
        until(lambda: _kinds(appliance)["command.begin"] >= WORKERS)
        appliance.stop()
        assert [answer.result(60) for answer in answers] == [(3000000,)] * WORKERS


def test_a_signal_to_all_processes_is_for_the_first_one(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres, change=shared) as appliance:
        for pid in pids(appliance).values():
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGHUP)
        with one_on_each(appliance) as sessions:
            for connection in sessions.values():
                connection.execute("select 1")
        assert metric(appliance, "workers_replaced_total") == 0


# --- the log over time ---

def test_fewer_workers_leave_no_session_open_and_a_log_that_verifies(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres, change=shared) as appliance:
        with one_on_each(appliance) as sessions:
            for connection in sessions.values():
                connection.execute("select 1")
            found = list(pids(appliance).values())
            appliance.kill()
            for pid in found:
                if _is_worker(pid):
                    os.kill(pid, signal.SIGKILL)
        appliance.rewrite("gateway.yaml", {f"workers: {WORKERS}\n": ""})
        appliance.start()
        begun = {one["session"] for one in appliance.lines("audit", "export") if one["kind"] == "session.start"}
        ended = {one["session"] for one in appliance.lines("audit", "export") if one["kind"] == "session.end"}
        assert begun == ended
        with connect_psycopg(appliance, autocommit=True) as connection:
            connection.execute("select 1")


def test_somebody_else_s_address_is_not_shared(tmp_path: Path, crew: Appliance, postgres: PostgresServer) -> None:
    def same(appliance: Appliance) -> None:
        shared(appliance)
        appliance.rewrite("gateway.yaml", {f"127.0.0.1:{appliance.port}": f"127.0.0.1:{crew.port}"})

    with pytest.raises(ApplianceFailed, match=f"cannot listen on 127.0.0.1:{crew.port}"), running(tmp_path, postgres, change=same):
        pass


def test_sessions_roles_of_other_workers_are_left_alone(tmp_path: Path) -> None:
    with PostgresServer() as server:
        make_target(server)

        def roles(appliance: Appliance) -> None:
            shared(appliance)
            with_roles(appliance)

        with running(tmp_path, server, change=roles) as appliance:
            with one_on_each(appliance) as sessions:
                os.kill(pids(appliance)["2"], signal.SIGKILL)
                until(lambda: metric(appliance, "workers_serving") == WORKERS)
                until(lambda: len(_roles(server)) == WORKERS - 1)
                for number in set(range(WORKERS)) - {1}:
                    assert sessions[number].execute("select count(*) from orders").fetchone() is not None
            until(lambda: _roles(server) == [])


def _roles(server: PostgresServer) -> list[str]:
    [result] = server.execute("select rolname from pg_roles where rolvaliduntil is not null")
    return [str(row[0]) for row in result.rows]
