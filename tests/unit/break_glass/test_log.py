# SPDX-License-Identifier: Apache-2.0
"""The console log: who may read it, what a full disk does, and that the gateway's own commands know it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from gateway.audit.note import load_public_key
from gateway.audit.reader import LogReader, export, newest_notes
from gateway.audit.verify import Trust, verify_folder
from gateway.break_glass.events import Event, decode, encode, shown, typed
from gateway.break_glass.log import ConsoleLog
from gateway.break_glass.settings import BreakGlass
from gateway.cli import main
from gateway.errors import AuditUnavailable, GatewayFault, Refused
from tests.unit.audit.failing_vfs import Disk, failing_disk
from tests.unit.cli.log_folder import make

BEGIN = {"session": "s-1", "person": "Dana", "tty": "tty1", "reason": "the gateway hangs"}


def settings(folder: Path) -> BreakGlass:
    return BreakGlass.model_validate({"gateway": "plant-a-1", "segment": "plant-a", "state": str(folder / "console"), "reserve": "1MiB"})


def filled(folder: Path, *, ended: bool = True) -> BreakGlass:
    found = settings(folder)
    with ConsoleLog.open(found) as log:
        begin = log.record("break-glass.begin", BEGIN)
        log.record("break-glass.data", {"session": "s-1", "begin": begin}, encode([typed(0.1, b"id\n"), shown(0.2, b"uid=0\xff")]))
        if ended:
            log.record("break-glass.end", {"session": "s-1", "begin": begin, "status": "ok", "reason": ""})
    return found


def test_its_folder_is_for_root_and_its_records_for_the_group(tmp_path: Path) -> None:
    filled(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "console").rglob("*")}
    assert modes["audit"] == 0o2750 and modes["000001.db"] == 0o640 and modes["lock"] == 0o640
    assert modes["recordings"] == 0o700 and modes["000001.rec"] == 0o600 and modes["audit_ed25519_key"] == 0o600
    assert (tmp_path / "console" / "reserve").stat().st_size == 2**20


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "console").mkdir()
    (tmp_path / "console").chmod(0o770)
    with pytest.raises(GatewayFault, match="nobody else can write"):
        ConsoleLog.open(settings(tmp_path))
    (tmp_path / "console").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "console").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GatewayFault, match="nobody else can write"):
        ConsoleLog.open(settings(tmp_path))


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with ConsoleLog.open(settings(tmp_path)), pytest.raises(Refused, match="another"):
        ConsoleLog.open(settings(tmp_path))


@contextmanager
def holding(path: Path, *, whole: bool) -> Iterator[None]:
    """Another process that may only read the file holds it: a lock on the file, or on every byte as SQLite does."""
    program = ("import fcntl, os, sys; handle = os.open(sys.argv[1], os.O_RDONLY); "
               f"fcntl.{'flock' if whole else 'lockf'}(handle, fcntl.LOCK_SH); print(flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None
        other.stdout.readline()
        try:
            yield
        finally:
            other.stdin.close()


def test_t61_a_captured_gateway_that_holds_the_lock_shuts_nobody_out(tmp_path: Path) -> None:
    """It may read the log, so it may lock it."""
    found = filled(tmp_path)
    console = tmp_path / "console"
    with holding(console / "audit" / "lock", whole=True):
        with ConsoleLog.open(found) as log:
            log.record("break-glass.begin", BEGIN)
            assert stat.S_IMODE((console / "audit").stat().st_mode) == 0o700
        kept = next(console.glob("damaged-*"))
        assert (kept / "audit" / "000001.db").is_file() and kept.stat().st_mode & 0o777 == 0o700
        with ConsoleLog.open(found) as log:
            log.record("break-glass.end", {"session": "s-1", "status": "ok", "reason": ""})
    assert len(list(console.glob("damaged-*"))) == 1 and (console / "withheld").exists()
    (console / "withheld").unlink()
    with ConsoleLog.open(found):
        assert stat.S_IMODE((console / "audit").stat().st_mode) == 0o2750
    assert len(list(console.glob("damaged-*"))) == 1


def test_t61_a_captured_gateway_that_holds_a_file_ends_one_session_and_no_other(tmp_path: Path) -> None:
    found = filled(tmp_path)
    console = tmp_path / "console"
    log = ConsoleLog.open(found)
    log._journal.file.connection.set_busy_timeout(200)  # type: ignore[union-attr]
    with holding(console / "audit" / "000001.db-shm", whole=False):
        with pytest.raises(AuditUnavailable):
            log.record("break-glass.begin", BEGIN)
        log.close()
        with ConsoleLog.open(found) as other:
            other.record("break-glass.begin", BEGIN)
        assert stat.S_IMODE((console / "audit").stat().st_mode) == 0o700
    assert [json.loads(line)["kind"] for line in export(LogReader(console / "audit"), {})][-2] == "break-glass.begin"


def full_while(disk: Disk, reserve: Path) -> None:
    """No room as long as the reserve takes it."""
    def use(what: str) -> None:
        if what == "write" and reserve.exists():
            disk.failed += 1
            raise apsw.FullError("injected")
    disk.use = use  # type: ignore[method-assign]


def test_t61_a_full_disk_takes_the_reserve(tmp_path: Path) -> None:
    filled(tmp_path)
    reserve = tmp_path / "console" / "reserve"
    with failing_disk("console-full") as disk:
        log = ConsoleLog.open(settings(tmp_path), vfs="console-full")
        full_while(disk, reserve)
        log.record("break-glass.begin", BEGIN)
        assert disk.failed and not reserve.exists()
        log.close()
    assert reserve.exists()     # there is room again


def test_t61_a_full_disk_without_a_reserve_takes_no_record(tmp_path: Path) -> None:
    filled(tmp_path)
    with failing_disk("console-fuller") as disk:
        log = ConsoleLog.open(settings(tmp_path), vfs="console-fuller")
        disk.fail("write", 1, apsw.FullError)
        with pytest.raises(AuditUnavailable):
            log.record("break-glass.begin", BEGIN)
        log.close()
    trust = Trust((load_public_key(tmp_path / "console" / "audit_ed25519_key.pub"),))
    assert verify_folder(tmp_path / "console" / "audit", trust).status == 0


def test_events_are_kept_byte_for_byte() -> None:
    events = [typed(0.0, "ü\x1b[A".encode()), shown(0.25, b"\xff\x00\xfe"), Event(1.5, "r", "24x80")]
    assert decode(encode(events)) == events
    assert events[1].data.encode("latin-1") == b"\xff\x00\xfe"
    for broken in (b"{}\n", b"[1]\n", b'[0,"x",""]\n', b"\xff\n", b'["0","i",""]\n'):
        with pytest.raises(ValueError):
            decode(broken)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A gateway's folder whose log knows of the console's."""
    found = make(tmp_path)
    with (found / "gateway.yaml").open("a") as file:
        file.write("audit: {console: ../console}\n")
    return found


def test_export_verify_and_head_take_both_logs(etc: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def said(*words: str, status: int = 0) -> str:
        assert main(["audit", *words, "--config", str(etc)]) == status
        return capfd.readouterr().out

    assert "console" not in said("verify")          # nobody has broken the glass: nothing is missing
    filled(tmp_path)
    records = [json.loads(line) for line in said("export").splitlines()]
    assert {record["origin"] for record in records} == {"plant-a-1", "plant-a-1/console"}
    assert [record["time"] for record in records] == sorted(record["time"] for record in records)
    anchor = tmp_path / "anchor"
    anchor.write_text(said("head"))
    assert "plant-a-1/console" in said("verify", "--anchor", str(anchor))
    export, keys, gateways = tmp_path / "log.jsonl", tmp_path / "audit.pub", tmp_path / "key.pub"
    export.write_text(said("export"))
    keys.write_bytes(gateways.read_bytes() + b"\n" + (tmp_path / "console" / "audit_ed25519_key.pub").read_bytes())
    said("verify", str(export), "--key", str(keys), "--anchor", str(anchor))
    assert "not signed" in said("verify", str(export), "--key", str(gateways), status=1)
    recording = next((tmp_path / "console" / "recordings").rglob("*.rec"))
    recording.write_bytes(recording.read_bytes().replace(b"uid", b"gid"))
    assert "recording" in said("verify", status=1)
    for path in (tmp_path / "console" / "audit").glob("*.db"):
        path.unlink()
    assert "plant-a-1/console" in said("verify", "--anchor", str(anchor), status=1)


def test_the_command_lists_and_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = filled(tmp_path, ended=False)
    file = tmp_path / "settings.yaml"
    file.write_text(f"{{gateway: plant-a-1, segment: plant-a, state: {found.state}, reserve: 1MiB}}\n")
    assert main(["break-glass", "list", "--settings", str(file)]) == 0
    assert "Dana" in capsys.readouterr().out
    assert main(["break-glass", "settle", "--settings", str(file)]) == 0
    assert "1 sessions had lost their recorder" in capsys.readouterr().out
    assert main(["break-glass", "list", "--settings", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "orphaned"
    assert main(["break-glass", "replay", "s-1", "--settings", str(file)]) == 0
    out = capsys.readouterr().out
    assert "typed   | id" in out and "uid=0ÿ" in out
    assert main(["break-glass", "replay", "other", "--settings", str(file)]) == 2
    assert main(["break-glass", "record", "--settings", str(file)]) == 2
    assert "systemd" in capsys.readouterr().err
    assert main(["break-glass"]) == 1      # no terminal here


def test_newest_notes_are_of_the_console(tmp_path: Path) -> None:
    filled(tmp_path)
    assert list(newest_notes(LogReader(tmp_path / "console" / "audit"))) == ["plant-a-1/console"]
