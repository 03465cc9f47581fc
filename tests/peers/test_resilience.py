# SPDX-License-Identifier: Apache-2.0
"""kill -9 under load, a full disk, reloads, limits, a clock set back, and a search for what must be nowhere."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from gateway.audit import writer as writer_module
from gateway.audit.log import AuditLog
from gateway.identity.clock import Clock
from tests.peers.clients import connect_psycopg, psql
from tests.peers.gateway import Appliance, inside, running
from tests.peers.postgres import PostgresServer
from tests.unit.audit.failing_vfs import failing_disk

Connection = psycopg.Connection[tuple[object, ...]]
SECONDS = 60.0


def until(holds: Callable[[], object], what: str = "") -> None:
    """Look until it holds; a minute is long enough for everything here."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what or holds
        time.sleep(0.05)


def exported(appliance: Appliance, kind: str = "") -> list[dict[str, Any]]:
    return [record for record in appliance.lines("audit", "export") if record["kind"].startswith(kind)]


def code(connection: Connection, sql: str) -> str:
    """The SQLSTATE a statement ends with, ``""`` when it works; a connection that was closed before says nothing."""
    try:
        connection.execute(sql)
    except psycopg.Error as error:
        return error.sqlstate or type(error).__name__
    return ""


# --- kill -9 (T62) ---


class Load(threading.Thread):
    """One client that works until its connection breaks; ``answered`` holds the marker of every statement whose answer it has read."""

    def __init__(self, appliance: Appliance, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.connection = connect_psycopg(appliance, autocommit=True, prepare_threshold=3)
        self.answered: list[str] = []
        self.ended = ""

    def run(self) -> None:
        try:
            for number in range(100_000):
                self._one(f"{self.name}-{number}", number % 4)
        except psycopg.OperationalError as error:
            self.ended = str(error)
        except psycopg.Error as error:
            self.ended = f"not as a broken connection does: {error}"

    def _one(self, marker: str, kind: int) -> None:
        connection = self.connection
        if kind == 0:
            connection.execute(f"select '{marker}'").fetchall()
        elif kind == 1:
            connection.execute(f"update orders set total = total where id = 1 and '{marker}' <> ''")
        elif kind == 2:
            connection.execute(f"select id from orders where id < %s and '{marker}' <> ''", (9,)).fetchall()
        else:
            with connection.cursor().copy(f"copy (select '{marker}') to stdout") as lines:
                assert b"".join(lines).decode() == f"{marker}\n"
        self.answered.append(marker)


def busy(clients: Sequence[Load]) -> bool:
    """Every client has had a dozen answers."""
    return all(len(client.answered) >= 12 for client in clients)


def test_t62_what_was_answered_is_on_record_after_kill_9(tmp_path: Path, postgres: PostgresServer) -> None:
    answered: list[str] = []
    with running(tmp_path, postgres) as appliance, postgres_lock(postgres) as locked:
        for turn in range(3):
            waiting = connect_psycopg(appliance, autocommit=True)
            held = threading.Thread(target=code, args=(waiting, f"select 'open-{turn}' from {locked}"), daemon=True)
            clients = [Load(appliance, f"r{turn}c{client}") for client in range(4)]
            for thread in (held, *clients):
                thread.start()
            until(functools.partial(busy, clients))
            appliance.kill()
            for thread in (held, *clients):
                thread.join(SECONDS)
            assert [client.ended for client in clients if client.ended.startswith("not as") or not client.ended] == []
            answered += [marker for client in clients for marker in client.answered]
            appliance.start()
        appliance.run("audit", "verify")
        records = exported(appliance)
    assert len(answered) == len(set(answered)) >= 3 * 4 * 12
    texts = " ".join(record["text"] for record in records if record["kind"] == "command.begin")
    assert [marker for marker in answered if f"'{marker}'" not in texts] == []
    everything_ended(records)
    orphans = {end["begin"] for end in records if end.get("status") == "orphaned"}
    still_open = {record["seq"] for record in records if record["kind"] == "command.begin" and "'open-" in record["text"]}
    assert len(still_open) == 3 and still_open <= orphans
    assert [record["kind"] for record in records].count("gateway.start") == 4


def everything_ended(records: Sequence[dict[str, Any]]) -> None:
    """Each command and each session that began has exactly one end."""
    begins = [record["seq"] for record in records if record["kind"] == "command.begin"]
    assert sorted(begins) == sorted(record["begin"] for record in records if record["kind"] == "command.end")
    sessions = [record["session"] for record in records if record["kind"] == "session.start"]
    assert sorted(sessions) == sorted(record["session"] for record in records if record["kind"] == "session.end")


@contextmanager
def postgres_lock(server: PostgresServer) -> Iterator[str]:
    """A table that nobody can read for as long as it lasts."""
    server.execute("create table if not exists waits_for_a_lock (id int)", "orders")
    with psycopg.connect(server.dsn("orders")) as holder:
        holder.execute("lock table waits_for_a_lock in access exclusive mode")
        yield "public.waits_for_a_lock"
    server.execute("drop table waits_for_a_lock", "orders")


# --- a full disk (T62) ---


class Disk:
    """Where the state of a gateway lies, and how to fill it."""

    def __init__(self, fill: Callable[[], None], free: Callable[[], None]) -> None:
        self.fill, self.free = fill, free


def small_reserve(durability: str) -> Callable[[Appliance], None]:
    def change(appliance: Appliance) -> None:
        appliance.rewrite("gateway.yaml", {"durability: effects": f"durability: {durability}\n  reserve: 256KiB"})
    return change


@contextmanager
def small_filesystem(state: Path, size: str = "8m") -> Iterator[Disk]:
    """A tmpfs at ``state``. Raises ``PermissionError`` where this process may not mount one."""
    state.mkdir(parents=True, mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "lockgate-test", str(state)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise PermissionError(done.stderr.decode())
    filler = state / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as sink:
            try:
                while sink.write(b"\0" * 4096):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC

    try:
        yield Disk(fill, filler.unlink)
    finally:
        subprocess.run(["umount", "--lazy", str(state)], check=True)


def fills_and_recovers(appliance: Appliance, server: PostgresServer, disk: Disk, base: int) -> None:
    """With a live gateway: refusals 58030, no effect without a record, 503 meanwhile, and it comes back by itself."""
    kept, refused = [], 0
    with connect_psycopg(appliance, autocommit=True) as before:
        disk.fill()
        for number in range(base, base + 3000):
            said = code(before, f"insert into orders values ({number}, 1, 1)")
            if said:
                refused = number
                break
            kept.append(number)
        assert (said, refused > 0) == ("58030", True)
        assert code(before, "select name from customers where id = 1") == "58030"
        assert not appliance.ready()
        status, body = appliance.get("/readyz")
        assert (status, b"audit log cannot be written" in body) == (503, True)
        with pytest.raises(psycopg.OperationalError, match="audit log cannot be written"):
            connect_psycopg(appliance)
        present = [int(row[0] or 0) for row in server.execute(f"select id from orders where id >= {base} order by 1", "orders")[0].rows]
        assert present == kept
        disk.free()
        until(appliance.ready, "it does not come back")
        assert code(before, f"insert into orders values ({refused}, 1, 1)") == ""
    with connect_psycopg(appliance, autocommit=True) as after:
        assert code(after, f"delete from orders where id >= {base}") == ""
    texts = [record["text"] for record in exported(appliance, "command.begin")]
    for number in (*kept, refused):
        assert len([text for text in texts if f"values ({number}," in text]) == 1


def fills_under_load(appliance: Appliance, server: PostgresServer, disk: Disk, base: int) -> None:
    """Four clients insert while the disk fills: what is in the table is on record, what was refused is not in the table."""
    outcomes: list[dict[int, str]] = [{} for _ in range(4)]
    workers = [threading.Thread(target=inserts, args=(appliance, base + 1000 * number, outcome), daemon=True)
               for number, outcome in enumerate(outcomes)]
    for worker in workers:
        worker.start()
    until(lambda: all(len(outcome) >= 10 for outcome in outcomes))
    disk.fill()
    for worker in workers:
        worker.join(SECONDS)
        assert not worker.is_alive()
    said = {number: code for outcome in outcomes for number, code in outcome.items()}
    disk.free()
    until(appliance.ready, "it does not come back")
    present = {int(row[0] or 0) for row in server.execute(f"select id from orders where id >= {base}", "orders")[0].rows}
    server.execute(f"delete from orders where id >= {base}", "orders")
    assert set(said.values()) == {"", "58030"}
    assert present == {number for number, code in said.items() if not code}
    records = exported(appliance, "command")
    recorded = {record["seq"]: inserted(record) for record in records if record["kind"] == "command.begin"}
    assert present <= set(recorded.values())
    ended_well = {record["begin"] for record in records if record["kind"] == "command.end" and record["status"] == "ok"}
    assert {number for seq, number in recorded.items() if number >= base and seq in ended_well} <= present


def inserted(record: dict[str, Any]) -> int:
    """The id that a recorded INSERT puts into the table, as literal or as parameter; -1 for everything else."""
    found = re.search(r"insert into orders values \((?:(\d+)|\$1)", record["text"])
    return int(found[1] or (record["parameters"] or [-1])[0]) if found else -1


def inserts(appliance: Appliance, first: int, outcome: dict[int, str]) -> None:
    """Insert until three in a row were refused, in both protocols by turns; the SQLSTATE of each."""
    with connect_psycopg(appliance, autocommit=True, prepare_threshold=2) as connection:
        refused = 0
        for number in range(first, first + 1000):
            try:
                if number % 2:
                    connection.execute(f"insert into orders values ({number}, 1, 1)")
                else:
                    connection.execute("insert into orders values (%s, 1, 1)", (number,))
                outcome[number], refused = "", 0
            except psycopg.Error as error:
                outcome[number], refused = error.sqlstate or str(error), refused + 1
            if refused == 3:
                return


def may_mount(folder: Path) -> bool:
    try:
        with small_filesystem(folder / "probe"):
            return True
    except (PermissionError, FileNotFoundError):
        return False


@pytest.mark.parametrize("durability", ["effects", "strict"])
async def test_t62_full_disk(tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    """On a filesystem of its own where this process may mount one; everywhere else a SQLite VFS that has no room."""
    change = small_reserve(durability)
    if os.geteuid() == 0 and may_mount(tmp_path):
        with small_filesystem(tmp_path / "gw" / "state") as disk, running(tmp_path / "gw", postgres, change=change) as appliance:
            await asyncio.to_thread(fills_and_recovers, appliance, postgres, disk, 8000)
            await asyncio.to_thread(fills_under_load, appliance, postgres, disk, 20_000)
            appliance.stop()
            everything_ended(exported(appliance))
        return
    await full_vfs(tmp_path, postgres, monkeypatch, durability)


@pytest.mark.parametrize("durability", ["effects", "strict"])
async def test_t62_disk_that_fails(tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    await full_vfs(tmp_path, postgres, monkeypatch, durability)


async def full_vfs(root: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    monkeypatch.setattr(writer_module, "_PROBE_FIRST", 0.05)
    monkeypatch.setattr("gateway.datapath.AuditLog.open", functools.partial(AuditLog.open, vfs="failing"))
    with failing_disk("failing") as failing:
        async with inside(root / "vfs", postgres, change=small_reserve(durability)) as (_, appliance):
            disk = Disk(lambda: failing.fail("write", 1, apsw.FullError), failing.mend)
            await asyncio.to_thread(fills_and_recovers, appliance, postgres, disk, 8000)
            await asyncio.to_thread(fills_under_load, appliance, postgres, disk, 20_000)
        everything_ended(exported(appliance))


# --- what must be nowhere (T65) ---


SEEDED = ("078-05-1120", "219-09-9999", "4111111111111111", "5500005555555559", "alice.secret@example.com", "bob.hidden@corp.test")
SENT = ("321-54-9876", "5105105105105100", "new.person@example.com", "555-66-7777", "6011111111111117", "hunter2-and-more")


def test_t65_no_secret_and_no_unmasked_value_is_kept_anywhere(tmp_path: Path, postgres: PostgresServer) -> None:
    postgres.execute("""create or replace function public.tell(int) returns text language plpgsql as
        $$ declare found text = (select ssn from customers where id = $1); begin raise notice 'it is %', found; return found; end $$""",
        "orders")
    [notes] = postgres.execute("select notes from customers where id = 1", "orders")[0].rows[0]
    postgres.execute("update customers set notes = null where id = 1", "orders")       # it repeats the number, and no mask names it

    def change(appliance: Appliance) -> None:
        appliance.rewrite("policy/grants/ci-bot.yaml", {"pg_catalog.lastval,": "pg_catalog.lastval, public.tell,"})

    with running(tmp_path, postgres, change=change) as appliance:
        seen = uses_masked_values(appliance)
        environment = appliance.client_variables() | {"PGUSER": appliance.token(), "PGAPPNAME": f"job {appliance.token()}"}
        for database in ("orders-db", appliance.token()):       # a token typed where something else belongs
            seen += psql(postgres, "-Atc", "select 1", environment=environment | {"PGDATABASE": database}).stderr
        appliance.run("audit", "verify")
        sessions = [session["id"] for session in appliance.lines("sessions", "list")]
        assert sessions
        played = "".join(appliance.run("sessions", "replay", one, "--speed", "0") for one in sessions)
        found = appliance.run("search", "customers")
        command_lines = " ".join(path.read_bytes().decode(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline")
                                 if path.parent.name != str(os.getpid()) and readable(path))
        places = {str(path): path.read_bytes() for path in appliance.state.rglob("*") if path.is_file()}
        places |= {"log": appliance.log.encode(), "export": appliance.run("audit", "export").encode(), "replay": played.encode(),
                   "search": found.encode(), "the caller": seen.encode()}
        hidden = [*SEEDED, *SENT]
        assert [(value, place) for place, content in places.items() for value in hidden if value.encode() in content] == []
        assert [what for what, secret in appliance.secrets() if secret in command_lines] == []
        assert [value for value in SEEDED if value in command_lines] == []
        assert "customers" in played and "****" in played
    postgres.execute(f"drop function public.tell(int); update customers set notes = '{notes}' where id = 1", "orders")


def readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def uses_masked_values(appliance: Appliance) -> str:
    """A session that has masked values in every place a caller can put them; what it got back, as text."""
    got: list[str] = []
    with connect_psycopg(appliance, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: got.append(f"{notice.message_primary} {notice.message_detail}"))

        def run(sql: str, parameters: Sequence[object] | None = None) -> None:
            try:
                cursor = connection.execute(sql, parameters)
                got.append(str(cursor.fetchall()) if cursor.description else "")
            except psycopg.Error as error:
                got.append(f"{error.diag.message_primary} {error.diag.message_detail} {error.diag.context}")

        run("select * from customers where ssn = '078-05-1120'")
        run("select id from customers where ssn = %s and card = %s", ("219-09-9999", "5500005555555559"))
        run("select count(*) from customers where email in ('alice.secret@example.com', 'x') or ssn like '078-05-1120%'")
        run("prepare by_number as select name from customers where ssn = $1")
        run("execute by_number('078-05-1120')")
        run("begin")
        run("insert into customers values (9001, 'New', 'new.person@example.com', '321-54-9876', '5105105105105100', null) returning *")
        run("update customers set ssn = '555-66-7777', card = %s where id = 9001 returning ssn", ("6011111111111117",))
        run("declare walk cursor for select ssn, card from customers where ssn <> '555-66-7777'")
        run("fetch 5 from walk")
        run("rollback")
        run("insert into customers (id, name, ssn) values (1, 'Twice', '321-54-9876')")
        run("insert into customers (id, ssn) values (9002, '321-54-9876')")
        run("select ssn::int from customers where id = 1")
        run("select public.tell(1)")
        run("explain select id from customers where ssn = '078-05-1120'")
        run("selekt '078-05-1120'")
        run("create role somebody password 'hunter2-and-more'")
        run(f"select '{appliance.password}'")
        run("delete from customers where ssn = '321-54-9876' and no_such_column = 1")
        try:
            with connection.cursor().copy("copy customers from stdin") as lines:
                lines.write("9003\tCopied\tnew.person@example.com\t321-54-9876\t5105105105105100\tnot json\n")
        except psycopg.Error as error:
            got.append(f"{error.diag.message_primary} {error.diag.message_detail} {error.diag.context}")
        with connection.cursor().copy("copy (select * from customers where ssn = '078-05-1120') to stdout") as lines:
            got.append(b"".join(lines).decode())
    return "\n".join(got)


# --- reload, limits ---


GRANT = "policy/grants/ci-bot.yaml"


@contextmanager
def changed(appliance: Appliance, name: str, changes: dict[str, str]) -> Iterator[None]:
    """The folder with one file changed, loaded; and as it was, loaded again."""
    path = appliance.folder / name
    before = path.read_text()
    appliance.rewrite(name, changes)
    reloaded(appliance)
    yield
    path.write_text(before)
    reloaded(appliance)


def reloaded(appliance: Appliance, told: str = r"policy sha256:\w+ loaded") -> None:
    """SIGHUP, and wait until the log says what became of it."""
    before = len(re.findall(told, appliance.log))
    appliance.reload()
    until(lambda: len(re.findall(told, appliance.log)) > before, appliance.log[-2000:])


def ends_with(connection: Connection) -> str:
    """What a session ends with that is told between two statements."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        said = code(connection, "select 1")
        if said:
            return said
        time.sleep(0.1)
    return "still open"


def test_t67_reload_reaches_live_sessions(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres) as appliance, connect_psycopg(appliance, autocommit=True) as live:
        touch = "update orders set total = total where id = 1"
        assert code(live, touch) == ""
        with changed(appliance, GRANT, {"verbs: [select, insert, update, delete], relations": "verbs: [select], relations"}):
            assert code(live, touch) == "42501"
        assert code(live, touch) == ""

        (appliance.folder / "policy" / "bad.yaml").write_text("grants:\n  - {nope: 1}\n")
        reloaded(appliance, "reload refused")
        rejected = exported(appliance, "policy.rejected")[-1]
        assert "bad.yaml:2" in rejected["reason"] and "nope" in rejected["reason"]
        assert code(live, touch) == ""
        (appliance.folder / "policy" / "bad.yaml").unlink()

        removed = {"  - name: ci-bot\n": "  - name: other-bot\n"}
        grants = (appliance.folder / GRANT).read_text()
        (appliance.folder / GRANT).write_text(grants.replace("to: [ci-bot]", 'to: ["group:robots"]'))
        tests = appliance.folder / "policy" / "tests"
        for file in tests.glob("*.yaml"):
            file.unlink()
        with changed(appliance, "policy/identities.yaml", removed):
            assert ends_with(live) == "57P01"
        (appliance.folder / GRANT).write_text(grants)
        reloaded(appliance)

        for name, text in (
                ("revoked.yaml", f"revoked: [{{token_id: {exported(appliance, 'session.start')[-1]['token_id']}}}]\n"),
                ("revoked.yaml", "revoked: [{identity: ci-bot}]\n")):
            with connect_psycopg(appliance, autocommit=True) as other:
                assert code(other, "select 1") == ""
                (appliance.folder / "policy" / name).write_text(text)
                reloaded(appliance)
                assert ends_with(other) == "57P01"
            with pytest.raises(psycopg.OperationalError):
                connect_psycopg(appliance)
            (appliance.folder / "policy" / name).unlink()
            reloaded(appliance)

        with connect_psycopg(appliance, autocommit=True) as other, changed(appliance, GRANT, {"from: 2026-01-01": "from: 2035-01-01"}):
            assert ends_with(other) == "57P01"
        reasons = {record["reason"] for record in exported(appliance, "session.end")}
        assert len(reasons) >= 3, reasons
        assert len(exported(appliance, "policy.rejected")) == 1


LIMITED = """identities:
  - {name: brief, issuer: ci, match: {sub: "service:brief"}, owner: dana}
  - {name: idler, issuer: ci, match: {sub: "service:idler"}, owner: dana}
  - {name: pair, issuer: ci, match: {sub: "service:pair"}, owner: dana}
  - {name: reader, issuer: ci, match: {sub: "service:reader"}, owner: dana}
grants:
  - {name: brief, to: [brief], targets: [orders-db], session: {max: 2s}, rules: [{name: r, allow: {sql: {verbs: [select]}}}]}
  - {name: idler, to: [idler], targets: [orders-db], session: {idle: 1s}, rules: [{name: r, allow: {sql: {verbs: [select]}}}]}
  - {name: pair, to: [pair], targets: [orders-db], session: {concurrent: 2}, rules: [{name: r, allow: {sql: {verbs: [select]}}}]}
  - {name: reader, to: [reader], targets: [orders-db], session: {rows: 25}, rules: [{name: r, allow: {sql: {verbs: [select]}}}]}
"""


def limited(appliance: Appliance) -> None:
    (appliance.folder / "policy" / "limited.yaml").write_text(LIMITED)


def test_session_limits(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres, change=limited) as appliance:
        for name in ("brief", "idler", "pair", "reader"):
            appliance.token(name)
        with connect_psycopg(appliance, "brief", autocommit=True) as brief:
            assert ends_with(brief) == "57P01"
        with connect_psycopg(appliance, "idler", autocommit=True) as idler:
            assert code(idler, "select 1") == ""
            until(lambda: any(record["reason"] == "idle" for record in exported(appliance, "session.end")))
            assert code(idler, "select 1") == "57P05"
        with connect_psycopg(appliance, "pair", autocommit=True) as one, connect_psycopg(appliance, "pair", autocommit=True) as two:
            with pytest.raises(psycopg.OperationalError, match="2 sessions"):
                connect_psycopg(appliance, "pair")
            assert code(one, "select 1") == code(two, "select 1") == ""
        until(lambda: len(exported(appliance, "session.end")) >= 4)
        with connect_psycopg(appliance, "pair", autocommit=True) as third:
            assert code(third, "select 1") == ""
        with connect_psycopg(appliance, "reader", autocommit=True) as reader:
            assert code(reader, "select id from orders") == ""
            assert code(reader, "select id from orders") == "53400"
        assert {"53300"} == {sqlstate_of_door(appliance, "pair", 3)}


def sqlstate_of_door(appliance: Appliance, name: str, sessions: int) -> str:
    """The code with which the last of so many sessions is turned away."""
    from tests.peers.wire import Wire, codes

    wires = [Wire.connect(appliance.port, name, appliance.token(name), "orders-db", ca=appliance.ca) for _ in range(sessions)]
    try:
        return ",".join(codes(wires[-1].seen))
    finally:
        for wire in wires:
            wire.close()


# --- T70: a clock set back ---


async def test_t70_a_clock_set_back_revives_nothing(tmp_path: Path, postgres: PostgresServer) -> None:
    async with inside(tmp_path, postgres) as (gateway, appliance):
        offset = [0.0]
        gateway.clock = Clock(time.time(), wall=lambda: time.time() + offset[0], tell=gateway._clock_told)
        await asyncio.to_thread(appliance.token)
        connection = await asyncio.to_thread(functools.partial(connect_psycopg, appliance, autocommit=True))
        before = gateway.now()
        offset[0] = -7200.0
        assert gateway.now() >= before
        assert await asyncio.to_thread(code, connection, "select 'set back'") == ""
        offset[0] = 7200.0                      # the token's hour is over
        assert await asyncio.to_thread(enters, appliance) is False
        offset[0] = 0.0                         # set back by two hours: it stays over
        assert await asyncio.to_thread(enters, appliance) is False
        assert gateway.now() >= before + 7000
        assert await asyncio.to_thread(code, connection, "select 'goes on'") == ""      # issuer key `session: 8h`
        await asyncio.to_thread(connection.close)
        records = await asyncio.to_thread(exported, appliance)
    times = [record["time"] for record in records]
    assert times == sorted(times)
    assert {"clock.behind", "clock.step"} <= {record["kind"] for record in records}


def enters(appliance: Appliance) -> bool:
    try:
        connect_psycopg(appliance).close()
    except psycopg.OperationalError:
        return False
    return True


# --- T64, T65, T68: the console ---


def test_t64_sessions_of_others_need_console_read(gateway: Appliance) -> None:
    with connect_psycopg(gateway, autocommit=True) as connection:
        assert code(connection, "select 'somebody else''s'") == ""
    [session, *_] = [one["id"] for one in gateway.lines("sessions", "list", "--limit", "1")]
    paths = ("/api/v1/sessions", f"/api/v1/sessions/{session}", f"/api/v1/sessions/{session}/events", "/api/v1/search?q=select",
             "/api/v1/audit/head")
    for path in paths:
        assert gateway.get(path, gateway.token("sam"))[0] == 200, path
        assert gateway.get(path, gateway.token("omar"))[0] == 403, path         # ops: a person, not in console.read
        assert gateway.get(path)[0] == 401, path
    guessed = f"/api/v1/sessions/{'0' * 32}/events"
    assert gateway.get(guessed, gateway.token("omar"))[0] == 403                # no telling which ids there are
    assert gateway.get(guessed, gateway.token("sam"))[0] == 404


def test_t65_no_core_dump_and_no_debug_endpoint(gateway: Appliance) -> None:
    limits = Path(f"/proc/{gateway.pid}/limits").read_text()
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.MULTILINE), limits
    for path in ("/debug", "/debug/pprof/", "/debug/vars", "/console", "/trace", "/env", "/actuator/env", "/.git/config"):
        assert gateway.get(path, gateway.token("sam"))[0] == 404, path


def test_t68_the_console_refuses_robots(gateway: Appliance) -> None:
    for path in ("whoami", "approvals", "approvals/x", "sessions", "sessions/x", "sessions/x/events", "search?q=x", "audit/head"):
        assert gateway.get(f"/api/v1/{path}", gateway.token("ci-bot"))[0] == 403, path
    assert gateway.get("/api/v1/whoami", gateway.token("sam"))[0] == 200
    with pytest.raises(psycopg.OperationalError, match="sam has no grant"):
        psycopg.connect(gateway.dsn("sam").replace("//sam:", "//ci-bot:"))      # and the listener refuses people's
