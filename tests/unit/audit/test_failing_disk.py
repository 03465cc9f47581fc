# SPDX-License-Identifier: Apache-2.0
"""T62: a full or failing disk. Nothing acknowledged is lost, nothing is acknowledged that is not there, and it comes back by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from gateway.audit import writer as writer_module
from gateway.audit.log import AuditLog
from gateway.errors import AuditUnavailable, GatewayFault
from tests.unit.audit.failing_vfs import Disk, failing_disk
from tests.unit.audit.log_folder import BASE, begin, commands, end, filled, open_log, records, settings, verify

FAILURES = [("write", apsw.FullError), ("write", apsw.IOError), ("sync", apsw.IOError), ("sync", apsw.FullError)]


@pytest.fixture
def disk() -> Iterator[Disk]:
    with failing_disk("failing") as found:
        yield found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_PROBE_FIRST", 0.05)


async def until_open(log: AuditLog) -> None:
    for _ in range(400):
        if log.available:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"still not open: {log.why_not}")


async def until_refused(log: AuditLog, kept: dict[int, str]) -> list[str]:
    """Record until it fails; gives the texts that were refused."""
    for number in range(500):
        texts = [f"SELECT {number}, {n}" for n in range(4)]
        done = await asyncio.gather(*(log.record("command.begin", begin(text)) for text in texts), return_exceptions=True)
        for text, one in zip(texts, done, strict=True):
            if isinstance(one, int):
                kept[one] = text
        if any(isinstance(one, AuditUnavailable) for one in done):
            return [text for text, one in zip(texts, done, strict=True) if isinstance(one, AuditUnavailable)]
    raise AssertionError("nothing failed")


@pytest.mark.parametrize("after", [1, 2, 3, 7, 20])
@pytest.mark.parametrize(("what", "error"), FAILURES)
async def test_t62_it_refuses_and_comes_back(tmp_path: Path, disk: Disk, what: str, error: type[Exception], after: int) -> None:
    log = open_log(tmp_path, vfs="failing")
    kept: dict[int, str] = {}
    await commands(log, 3)
    disk.fail(what, after, error)
    refused = await until_refused(log, kept)
    assert refused
    assert not log.available
    assert log.why_not
    with pytest.raises(AuditUnavailable):
        await log.record("command.begin", begin("refused at once"))
    disk.mend()
    await until_open(log)
    after_it = await log.record("command.begin", begin("SELECT 'after'"))
    await log.close()
    found = {record["seq"]: record for record in records(tmp_path)}
    assert all(found[seq]["text"] == text for seq, text in kept.items())
    assert found[after_it]["text"] == "SELECT 'after'"
    assert "refused at once" not in {record.get("text") for record in found.values()}
    ended = {record["begin"] for record in found.values() if record["kind"] == "command.end"}
    assert {seq for seq, record in found.items() if record["kind"] == "command.begin"} <= ended, "no begin without an end"
    report = verify(tmp_path)
    assert report.status == 0, report.findings
    assert any(record["kind"] == "audit.restored" for record in found.values())


async def test_t62_a_full_disk_leaves_a_last_note(tmp_path: Path, disk: Disk) -> None:
    """The writes of the note itself succeed again: that is what the reserve was given up for."""
    log = open_log(tmp_path, vfs="failing")
    disk.fail("write", 1, apsw.FullError)
    released = log._writer._reserve.release
    def release() -> None:
        released()
        disk.mend()
    log._writer._reserve.release = release  # type: ignore[method-assign]
    with pytest.raises(AuditUnavailable):
        await log.record("command.begin", begin())
    await until_open(log)
    await log.close()
    kinds = [record["kind"] for record in records(tmp_path)]
    assert kinds.index("audit.degraded") < kinds.index("audit.restored")
    assert kinds[kinds.index("audit.degraded") + 1] == "checkpoint"
    assert (tmp_path / "reserve").stat().st_size == 64 * 1024
    assert verify(tmp_path).status == 0


async def test_t62_ends_that_could_not_be_written_are_written_later(tmp_path: Path, disk: Disk) -> None:
    log = open_log(tmp_path, vfs="failing")
    await log.record("session.start", dict(BASE))
    seq = await log.record("command.begin", begin())
    disk.fail("sync", 1, apsw.IOError)
    with pytest.raises(AuditUnavailable):
        await log.record("command.end", end(seq, rows=7))
    with pytest.raises(AuditUnavailable):
        await log.record("session.end", {**BASE, "reason": "audit cannot be written"})
    disk.mend()
    await until_open(log)
    await log.close()
    kept = records(tmp_path)
    ends = [record for record in kept if record["kind"] == "command.end" and record["begin"] == seq]
    assert len(ends) == 1
    assert ends[0]["rows"] == 7 or ends[0]["status"] == "orphaned"
    assert len([record for record in kept if record["kind"] == "session.end"]) == 1
    assert verify(tmp_path).status == 0


async def test_t62_it_does_not_open_on_a_disk_that_fails(tmp_path: Path, disk: Disk) -> None:
    disk.fail("sync", 1, apsw.IOError)
    with pytest.raises(AuditUnavailable, match="cannot be opened"):
        open_log(tmp_path, vfs="failing")
    disk.mend()
    await open_log(tmp_path, vfs="failing").close()
    assert verify(tmp_path).status == 0


async def test_t62_closing_while_the_disk_fails_ends_anyway(tmp_path: Path, disk: Disk) -> None:
    log = open_log(tmp_path, vfs="failing")
    kept = await commands(log, 2)
    disk.fail("sync", 1, apsw.IOError)
    late = log.record("command.begin", begin())
    await log.close()
    with pytest.raises(AuditUnavailable):
        await late
    disk.mend()
    assert {record["seq"] for record in records(tmp_path)} >= set(kept)
    await open_log(tmp_path).close()
    assert verify(tmp_path).status == 0


async def test_t62_lost_acknowledged_records_keep_it_closed(tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that comes back with less than it had acknowledged is not written to again."""
    await filled(tmp_path, 2)
    old = {path.name: path.read_bytes() for path in (tmp_path / "audit").glob("*.db")}
    log = open_log(tmp_path, vfs="failing")
    await commands(log, 5)
    disk.fail("sync", 1, apsw.IOError)
    with pytest.raises(AuditUnavailable):
        await log.record("command.begin", begin())
    for name, data in old.items():
        (tmp_path / "audit" / name).write_bytes(data)
        for beside in ("-wal", "-shm"):
            (tmp_path / "audit" / f"{name}{beside}").unlink(missing_ok=True)
    disk.mend()
    await asyncio.sleep(0.5)
    assert not log.available
    assert "missing" in caplog.text
    await log.close()


async def test_t62_a_tail_that_was_changed_is_not_written_after(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    await commands(log, 5)
    await log.close()
    connection = apsw.Connection(str(tmp_path / "audit" / "000001.db"))
    row = connection.execute("SELECT max(first) FROM batch WHERE first < (SELECT max(first) FROM batch)").fetchall()[0][0]
    connection.execute("DELETE FROM batch WHERE first = ?", (row,))
    connection.close()
    with pytest.raises(GatewayFault, match="audit verify"):
        open_log(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 3 MiB where this user may mount one, else a plain folder."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)]
    done = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    yield folder
    if done:
        subprocess.run(["umount", "-l", folder], check=True)


def mounted(folder: Path) -> bool:
    return os.path.ismount(folder)


async def test_t62_a_small_filesystem_fills_up_and_is_cleared(small: Path, disk: Disk) -> None:
    """With a real file system where it can be mounted; the VFS plays one otherwise."""
    real = mounted(small)
    log = open_log(small / "state", settings(), vfs=None if real else "failing")
    kept: dict[int, str] = {}
    ballast = small / "ballast"
    if not real:
        disk.fail("write", 60, apsw.FullError)
    refused = await until_full(log, kept, ballast if real else None)
    assert refused
    assert not log.available
    ballast.unlink(missing_ok=True)
    disk.mend()
    await until_open(log)
    await log.record("command.begin", begin("SELECT 'again'"), b"a recording" * 100)
    await log.close()
    found = {record["seq"]: record for record in records(small / "state")}
    assert all(found[seq]["text"] == text for seq, text in kept.items())
    kinds = [record["kind"] for record in found.values()]
    assert "audit.restored" in kinds
    assert not real or "audit.degraded" in kinds, "the reserve let the last note through"
    assert verify(small / "state").status == 0


async def until_full(log: AuditLog, kept: dict[int, str], ballast: Path | None) -> bool:
    for number in range(400):
        if ballast is not None and number == 20:
            fill(ballast)
        text = f"SELECT {number} -- {os.urandom(500).hex()}"
        try:
            kept[await log.record("command.begin", begin(text), os.urandom(2000) if ballast else None)] = text
        except AuditUnavailable:
            return True
    return False


def fill(path: Path) -> None:
    """Take all but a little of what is left."""
    room = shutil.disk_usage(path.parent).free - 200_000
    path.write_bytes(b"\0" * max(0, room))
