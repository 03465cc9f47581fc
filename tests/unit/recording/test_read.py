# SPDX-License-Identifier: Apache-2.0
"""Sessions are found, shown and searched from the log, whatever becomes of the index."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.audit.log import AuditLog
from gateway.errors import ConfigError, GatewayFault
from gateway.recording.read import Archive
from tests.unit.audit.log_folder import BASE, begin, end, filled, open_log, settings

SAMPLE = {"columns": ["id", "email"], "rows": [["1", "d***@example.org"]], "truncated": False}


async def session(log: AuditLog, name: str, *texts: str, over: bool = True, **fields: Any) -> None:
    """One session of some commands; those with DROP are denied."""
    base = {**BASE, "session": name, **fields}
    await log.record("session.start", {**base, "subject": "project:7", "token_id": "t-1", "claims": {"run": "42"}})
    for text in texts:
        denied = "DROP" in text
        decision = {"effect": "deny" if denied else "allow", "rules": ["g/r"], "reason": "never here" if denied else ""}
        seq = await log.record("command.begin", {**begin(text), **base, "decision": decision})
        ending = {**end(seq, "refused" if denied else "ok", masked=2), **base}
        await log.record("command.end", ending, None if denied else orjson.dumps(SAMPLE))
    if over:
        await log.record("session.end", {**base, "reason": "client closed"})


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[AuditLog]:
    found = open_log(tmp_path)
    await session(found, "s-aa1", "SELECT email FROM customers", "DROP DATABASE orders")
    await session(found, "s-aa2", "SELECT count(*) FROM orders_archive", identity="report-bot", resource="warehouse")
    await session(found, "s-bbb", "VACUUM", over=False)
    yield found
    await found.close()


async def test_sessions_newest_first_with_their_counts(tmp_path: Path, log: AuditLog) -> None:
    found = Archive(tmp_path).sessions()
    assert [one["id"] for one in found] == ["s-bbb", "s-aa2", "s-aa1"]
    first = found[-1]
    assert (first["commands"], first["denied"], first["masked"], first["rows"], first["state"]) == (2, 1, 4, 2, "ended")
    assert first["duration"] > 0
    assert (found[0]["state"], found[0]["end"], found[0]["duration"]) == ("open", None, None)
    assert [one["id"] for one in Archive(tmp_path).sessions(1)] == ["s-bbb"]
    assert [one["id"] for one in Archive(tmp_path).sessions(identity="report-bot")] == ["s-aa2"]
    assert [one["id"] for one in Archive(tmp_path).sessions(resource="orders-db", open_only=True)] == ["s-bbb"]


async def test_a_session_that_nobody_serves_any_more_is_not_open(tmp_path: Path) -> None:
    import shutil
    log = open_log(tmp_path / "state")
    await session(log, "s-1", "SELECT 1", over=False)
    shutil.copytree(tmp_path / "state", tmp_path / "crashed")
    await log.close()
    assert Archive(tmp_path / "crashed").sessions()[0]["state"] == "unfinished"
    assert Archive(tmp_path / "state").sessions()[0]["reason"] == "gateway stopped"


async def test_one_session_and_its_events(tmp_path: Path, log: AuditLog) -> None:
    archive = Archive(tmp_path)
    one = archive.session("s-aa1")
    assert one is not None
    assert one["subject"] == "project:7"
    assert one["claims"] == {"run": "42"}
    assert [(command["text"], command["effect"], command["status"]) for command in one["list"]] == [
        ("SELECT email FROM customers", "allow", "ok"), ("DROP DATABASE orders", "deny", "refused")]
    events = archive.events("s-aa1")
    assert [event["kind"] for event in events][::5] == ["session.start", "session.end"]
    assert [event["sample"] for event in events if "sample" in event] == [SAMPLE]
    assert all(event["session"] == "s-aa1" for event in events)


async def test_ids_may_be_shortened_but_not_guessed(tmp_path: Path, log: AuditLog) -> None:
    archive = Archive(tmp_path)
    assert archive.resolve("s-b") == "s-bbb"
    assert archive.session("s-b")["id"] == "s-bbb"  # type: ignore[index]
    for prefix in ("s-a", "s-x", "%", "_-aa1", "s-aa1 OR 1=1"):
        with pytest.raises(ConfigError):
            archive.resolve(prefix)
        assert archive.session(prefix) is None
        assert archive.events(prefix) == []


async def test_searching(tmp_path: Path, log: AuditLog) -> None:
    archive = Archive(tmp_path)
    def texts(words: str) -> set[str]:
        return {str(record.get("text")) for record in archive.search(words) if record["kind"] == "command.begin"}
    assert texts("drop database") == {"DROP DATABASE orders"}
    assert texts("orders_arch") == {"SELECT count(*) FROM orders_archive"}
    assert texts("count(*)") == {"SELECT count(*) FROM orders_archive"}
    assert texts("never here") == {"DROP DATABASE orders"}
    assert "VACUUM" in texts("CU")
    for hostile in ('"', "' OR 1=1 --", "NEAR(", "*", "text:", "a AND", '"" OR "', "\0\0\0\0", "x" * 1000):
        assert archive.search(hostile) == [] or hostile in ("*", "\0\0\0\0")
    assert len(archive.search("e", 2)) == 2


async def test_it_keeps_up(tmp_path: Path, log: AuditLog) -> None:
    archive = Archive(tmp_path)
    assert not archive.search("REINDEX")
    await session(log, "s-ccc", "REINDEX TABLE orders")
    assert [record["session"] for record in archive.search("REINDEX")] == ["s-ccc"]
    assert archive.sessions()[0]["commands"] == 1


@pytest.mark.parametrize("damage", ["delete", "garbage", "truncate", "old version"])
async def test_the_index_can_be_lost(tmp_path: Path, log: AuditLog, damage: str) -> None:
    archive = Archive(tmp_path)
    before = archive.sessions()
    path = tmp_path / "index" / "index.db"
    spoil(path, damage)
    assert archive.sessions() == before
    assert {record["seq"] for record in archive.search("DROP DATABASE")}


def spoil(path: Path, damage: str) -> None:
    if damage == "delete":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"no database " * 1000)
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:6000])
    else:
        import sqlite3
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()


async def test_another_log_in_its_place_makes_another_index(tmp_path: Path) -> None:
    import shutil
    await filled(tmp_path / "a", 5, runs=1)
    assert Archive(tmp_path / "a").sessions()[0]["commands"] == 5
    log = open_log(tmp_path / "b")
    await session(log, "s-other", "ANALYZE")
    for number in range(20):
        await session(log, f"s-{number}", "SELECT 1")
    await log.close()
    shutil.rmtree(tmp_path / "a" / "audit")
    shutil.copytree(tmp_path / "b" / "audit", tmp_path / "a" / "audit")
    assert "s-1" in {one["id"] for one in Archive(tmp_path / "a").sessions()}
    assert len(Archive(tmp_path / "a").sessions()) == 21
    assert Archive(tmp_path / "a").search("ANALYZE")


async def test_many_readers_count_nothing_twice(tmp_path: Path, log: AuditLog) -> None:
    found: list[int] = []
    def read() -> None:
        found.append(sum(one["commands"] for one in Archive(tmp_path).sessions()))
    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [4] * 6


async def test_without_a_place_for_an_index_it_is_kept_in_memory(tmp_path: Path, log: AuditLog) -> None:
    (tmp_path / "index").write_text("in the way")
    assert len(Archive(tmp_path).sessions()) == 3
    (tmp_path / "index").unlink()


async def test_removed_records_leave_the_index(tmp_path: Path) -> None:
    from tests.unit.audit.test_log import Clock, fill_files
    clock = Clock()
    log = open_log(tmp_path, settings(database="1MiB", retention={"local": "1d"}), clock=clock)
    await session(log, "s-old", "SELECT 'long ago'")
    await fill_files(log, tmp_path, 2)
    assert Archive(tmp_path).search("long ago")
    await log.close()
    clock.now += 2 * 86400
    log = open_log(tmp_path, settings(database="1MiB", retention={"local": "1d"}), clock=clock)
    await log.close()
    assert not Archive(tmp_path).search("long ago")
    assert "s-old" not in {one["id"] for one in Archive(tmp_path).sessions()}


def change_sample(state: Path) -> None:
    path = next(state.glob("recordings/*/*.rec"))
    path.write_bytes(path.read_bytes().replace(b"example.org", b"example.com"))


async def test_a_changed_sample_is_not_shown(tmp_path: Path, log: AuditLog) -> None:
    change_sample(tmp_path)
    event = next(event for event in Archive(tmp_path).events("s-aa1") if "recording" in event)
    assert "sample" not in event
    assert "changed" in event["sample_error"]


async def test_the_head(tmp_path: Path, log: AuditLog) -> None:
    assert Archive(tmp_path).head().startswith("plant-a-1\n")
    with pytest.raises(GatewayFault):
        Archive(tmp_path / "none").head()
    with pytest.raises(GatewayFault):
        Archive(tmp_path / "none").sessions()
