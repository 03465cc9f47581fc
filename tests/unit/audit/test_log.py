# SPDX-License-Identifier: Apache-2.0
"""What is recorded is there, numbered, timed, sealed; what cannot be recorded is refused."""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import log as log_module
from gateway.audit.checkpoint import parse_checkpoint
from gateway.audit.files import log_files
from gateway.audit.note import parse_note
from gateway.audit.reader import LogReader, newest_notes
from gateway.errors import AuditUnavailable, GatewayFault
from tests.unit.audit.log_folder import BASE, ORIGIN, begin, commands, end, filled, open_log, records, settings, verify


class Clock:
    """Set by hand."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def test_numbers_have_no_gaps_and_answers_name_them(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    seqs = await asyncio.gather(*(log.record("command.begin", begin(f"SELECT {n}")) for n in range(200)))
    await log.close()
    kept = records(tmp_path)
    assert [record["seq"] for record in kept] == list(range(1, len(kept) + 1))
    assert [kept[seq - 1]["text"] for seq in seqs] == [f"SELECT {n}" for n in range(200)]
    assert all(record["origin"] == ORIGIN and record["segment"] == "plant-a" for record in kept)
    assert verify(tmp_path).status == 0


async def test_records_of_one_transaction_stand_together(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    used, begun = await log.record_together([("approval.used", {**BASE, "id": "apr_1"}), ("command.begin", begin())])
    await log.close()
    assert begun == used + 1
    assert [records(tmp_path)[seq - 1]["kind"] for seq in (used, begun)] == ["approval.used", "command.begin"]


async def test_one_bad_record_takes_its_companions_along_and_nobody_else(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    together = log.record_together([("approval.used", dict(BASE)), ("command.begin", begin(extra=object()))])
    after = log.record("command.begin", begin("SELECT 'after'"))
    with pytest.raises(AuditUnavailable):
        await together
    await after
    await log.close()
    kinds = [record["kind"] for record in records(tmp_path)]
    assert "approval.used" not in kinds
    assert verify(tmp_path).status == 0


async def test_time_never_goes_back_though_the_clock_does(tmp_path: Path) -> None:
    """T70: a hypervisor sets the clock back."""
    clock = Clock()
    log = open_log(tmp_path, clock=clock)
    await log.record("command.begin", begin("SELECT 'before'"))
    clock.now -= 3600
    await log.record("command.begin", begin("SELECT 'after'"))
    await log.close()
    clock.now -= 86400
    log = open_log(tmp_path, clock=clock)
    await log.close()
    times = [record["time"] for record in records(tmp_path)]
    assert times == sorted(times)
    assert times[0] == "2027-01-15T08:00:00.000000Z"
    assert verify(tmp_path).status == 0


async def test_a_clock_set_forward_removes_nothing(tmp_path: Path) -> None:
    """T70: a jump of a year must not look like the end of the retention."""
    clock = Clock()
    log = open_log(tmp_path, settings(database="1MiB"), clock=clock)
    await fill_files(log, tmp_path, 2)
    clock.now += 366 * 86400
    looked = log._writer._pruned = log._writer._pruned - 2 * 3600
    while log._writer._pruned == looked:
        log._writer._upkeep_at = 0.0
        await log.record("command.begin", begin())
    await log.close()
    assert len(log_files(tmp_path / "audit")) >= 2
    assert "audit.pruned" not in {record["kind"] for record in records(tmp_path)}


def holding(state: Path, secret: bytes) -> list[Path]:
    """Files that hold these bytes."""
    return [path for path in state.rglob("*") if path.is_file() and secret in path.read_bytes()]


async def test_the_text_is_never_kept_only_its_keyed_digest(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    shown, secret = "SELECT ****", "SELECT 'hunter2-hunter2'"
    await log.record("command.begin", {**begin(shown), "text_secret": secret})
    await log.close()
    record = next(record for record in records(tmp_path) if record["kind"] == "command.begin")
    key = (tmp_path / "audit" / "digest.key").read_bytes()
    assert record["text"] == shown
    assert record["text_digest"] == "hmac-sha256:" + hmac.digest(key, secret.encode(), "sha256").hex()
    assert (tmp_path / "audit" / "digest.key").stat().st_mode & 0o777 == 0o600
    assert holding(tmp_path, b"hunter2") == []


async def test_fields_may_not_pass_for_the_log_s_own(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for name in ("seq", "origin", "time", "kind", "segment", "prev"):
        with pytest.raises(AuditUnavailable):
            await log.record("command.begin", {**begin(), name: "forged"})
    with pytest.raises(AuditUnavailable):
        await log.record_together([])
    await log.close()


async def test_more_than_the_queue_holds_is_refused_at_once(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    limit, log._inbox.limit = log._inbox.limit, 100_000
    futures = [log.record("command.begin", begin("x" * 10_000)) for _ in range(20)]
    done = await asyncio.gather(*futures, return_exceptions=True)
    assert sum(isinstance(one, AuditUnavailable) for one in done) == 11
    assert log.pending == 0
    log._inbox.limit = limit
    await log.record("command.begin", begin("there is room again"))
    with pytest.raises(AuditUnavailable, match="too large"):
        await log.record("command.begin", begin("x" * (17 * 2**20)))
    with pytest.raises(AuditUnavailable, match="too large"):
        await log.record("command.begin", begin("\x01" * (5 * 2**20)))
    await log.close()
    assert verify(tmp_path).status == 0


async def test_a_closed_log_refuses(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    assert log.why_not == ""
    await log.close()
    await log.close()
    assert not log.available
    with pytest.raises(AuditUnavailable, match="stopping"):
        await log.record("command.begin", begin())


async def test_everything_queued_is_written_before_it_closes(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    seq = await log.record("command.begin", begin())
    lazy = log.record("command.end", end(seq), b"sample")
    late = [log.record("command.begin", begin(f"SELECT {n}")) for n in range(50)]
    await log.close()
    assert await lazy > seq
    assert len({await one for one in late}) == 50


async def test_how_a_command_ended_rides_with_others_but_before_its_session_s_end(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    await log.record("session.start", dict(BASE))
    seq = await log.record("command.begin", begin())
    ending = log.record("command.end", end(seq), b"sample")
    over = log.record("session.end", {**BASE, "reason": "client closed"})
    assert await ending < await over
    alone = log.record("command.end", end(seq), b"sample")
    assert await asyncio.wait_for(alone, 5)
    await log.close()


@pytest.mark.parametrize("last", [True, False], ids=["its-session-ends", "it-stands-alone"])
async def test_what_a_command_showed_comes_before_how_it_ended(tmp_path: Path, last: bool) -> None:
    """All of it may wait for the writer together; a replay is read in the order of the numbers."""
    log = open_log(tmp_path)
    wanted = []
    for _ in range(20):
        seq = await log.record("command.begin", begin())
        shown = [log.record("command.output", {**BASE, "begin": seq, "part": part}, b"part") for part in range(2)]
        over = [log.record("command.end", end(seq), b"the rest")]
        over += [log.record("session.end", {**BASE, "reason": "client closed"})] if last else []
        places = await asyncio.gather(*shown, *over)
        assert places == sorted(places)
        wanted += [["command.output", "command.output", "command.end", *["session.end"] * last]]
    await log.close()
    kinds = [one["kind"] for one in records(tmp_path) if one["kind"] in ("command.output", "command.end", "session.end")]
    assert kinds == [kind for each in wanted for kind in each]


async def test_commands_say_how_long_they_took(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path, clock=clock)
    seq = await log.record("command.begin", begin())
    clock.now += 1.5
    await log.record("command.end", end(seq))
    await log.close()
    assert records(tmp_path)[-3 if records(tmp_path)[-2]["kind"] == "checkpoint" else -2]["duration"] == 1.5


async def test_a_checkpoint_comes_soon_and_a_heartbeat_when_idle(tmp_path: Path) -> None:
    log = open_log(tmp_path, settings(heartbeat="100ms"))
    begun = await log.record("command.begin", begin())
    reader = LogReader(tmp_path / "audit")
    assert reader.live
    pulses: list[dict[str, Any]] = []
    covered = 0
    async with asyncio.timeout(30):
        while not pulses or covered < begun:
            await asyncio.sleep(0.1)
            pulses = [record for record in records(tmp_path) if record["kind"] == "heartbeat" and record["seq"] > begun]
            covered = parse_checkpoint(parse_note(newest_notes(LogReader(tmp_path / "audit"))[ORIGIN])).size
    await log.close()
    assert pulses[0]["disk_free"] > 0
    assert pulses[0]["commands"] == 1


async def test_only_one_gateway_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_LOCK_PATIENCE", 0.1)
    log = open_log(tmp_path)
    with pytest.raises(GatewayFault, match="another gateway"):
        open_log(tmp_path)
    await log.close()
    await open_log(tmp_path).close()


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\nbreak"])
async def test_names_that_cannot_be_an_origin(tmp_path: Path, name: str) -> None:
    from gateway.audit.log import AuditLog
    from tests.unit.audit.log_folder import KEY
    with pytest.raises(GatewayFault, match="origin"):
        AuditLog.open(tmp_path, name, "s", settings(), KEY)


async def fill_files(log: log_module.AuditLog, state: Path, count: int) -> None:
    """Write until there are so many files."""
    from os import urandom
    while len(log_files(state / "audit")) < count:
        await asyncio.gather(*(log.record("command.begin", begin(urandom(8000).hex())) for _ in range(20)))
        log._writer._upkeep_at = log._writer._roll_at = 0.0


async def test_files_follow_one_another_without_a_seam(tmp_path: Path) -> None:
    log = open_log(tmp_path, settings(database="1MiB"))
    await fill_files(log, tmp_path, 3)
    assert verify(tmp_path).status == 0
    await log.close()
    files = log_files(tmp_path / "audit")
    firsts = [sqlite3.connect(file).execute("SELECT min(first) FROM batch").fetchone()[0] for file in files]
    kept = records(tmp_path)
    assert [kept[first - 1]["kind"] for first in firsts] == ["checkpoint"] * len(files)
    assert all("peaks" in kept[first - 1] for first in firsts)
    assert verify(tmp_path).status == 0
    assert not [path.name for path in (tmp_path / "audit").iterdir() if path.name.endswith(("-wal", "-shm"))]


def recordings(state: Path) -> list[str]:
    return sorted(path.relative_to(state / "recordings").as_posix() for path in state.glob("recordings/*/*.rec"))


async def test_a_new_day_is_a_new_file(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path, clock=clock)
    await commands(log, 3, b"first day")
    clock.now += 86400
    log._writer._upkeep_at = 0.0
    await commands(log, 1)
    for _ in range(100):
        if len(log_files(tmp_path / "audit")) == 2:
            break
        log._writer._upkeep_at = 0.0
        await commands(log, 1)
    await commands(log, 3, b"second day")
    await log.close()
    assert len(log_files(tmp_path / "audit")) == 2
    assert recordings(tmp_path) == ["2027-01-15/000001.rec", "2027-01-16/000002.rec"]
    assert verify(tmp_path).status == 0


async def test_what_is_over_its_time_is_removed_and_that_is_on_record(tmp_path: Path) -> None:
    clock = Clock()
    log = open_log(tmp_path, settings(database="1MiB", retention={"local": "1d"}), clock=clock)
    await commands(log, 2, b"a recording of the first file")
    await fill_files(log, tmp_path, 2)
    await log.close()
    first = (tmp_path / "audit" / "000001.db", tmp_path / "recordings" / "2027-01-15" / "000001.rec")
    assert all(path.exists() for path in first)
    clock.now += 2 * 86400
    log = open_log(tmp_path, settings(database="1MiB", retention={"local": "1d"}), clock=clock)
    await log.close()
    assert not any(path.exists() for path in first)
    assert (tmp_path / "audit" / "000002.db").exists(), "the file in use is never removed"
    pruned = [record for record in records(tmp_path) if record["kind"] == "audit.pruned"]
    assert [(record["file"], record["first"], record["recordings"]) for record in pruned] == [("000001.db", 1, 1)]
    report = verify(tmp_path)
    assert report.status == 0
    assert any("their time was over" in note for note in report.notes)


async def test_the_size_limit_stops_and_deletes_nothing(tmp_path: Path) -> None:
    from os import urandom
    log = open_log(tmp_path, settings(retention={"size": "1MiB"}))
    kept: list[int] = []
    with pytest.raises(AuditUnavailable, match="size"):
        for _ in range(400):
            kept.append(await log.record("command.begin", begin(urandom(4000).hex())))
    assert not log.available
    assert "retention.size" in log.why_not
    with pytest.raises(AuditUnavailable):
        await log.record("command.begin", begin())
    await log.close()
    assert len(kept) > 50
    found = records(tmp_path)
    assert {record["seq"] for record in found} >= set(kept)
    assert any(record["kind"] == "audit.degraded" for record in found)
    assert verify(tmp_path).status == 0
    log = open_log(tmp_path, settings(retention={"size": "8MiB"}))
    assert log.available
    await log.close()


async def test_strict_does_not_wait_for_company(tmp_path: Path) -> None:
    log = open_log(tmp_path, settings(durability="strict"))
    assert log.strict
    seq = await log.record("command.begin", begin())
    log.record("command.end", end(seq), b"sample")
    await log.record("command.begin", begin())
    await log.close()
    kinds = [record["kind"] for record in records(tmp_path) if record["kind"].startswith("command")]
    assert kinds[:3] == ["command.begin", "command.end", "command.begin"]


async def test_two_runs_are_one_log(tmp_path: Path) -> None:
    await filled(tmp_path, 5, runs=3)
    kept = records(tmp_path)
    assert [record["seq"] for record in kept] == list(range(1, len(kept) + 1))
    assert len([record for record in kept if record["kind"] == "audit.opened"]) == 3
    assert verify(tmp_path).status == 0
