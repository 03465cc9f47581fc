# SPDX-License-Identifier: Apache-2.0
"""Collecting the audit log: what is taken, what is refused, and what an interruption leaves."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.note import fingerprint
from gateway.audit.reader import LogReader, export, newest_notes
from tests.unit.audit.log_folder import KEY, ORIGIN, PUBLIC, commands, filled, open_log
from tests.unit.roles.playbook import LOCKGATE, play, plugin

collecting: Any = plugin("audit_collect", "action_plugins/audit_collect.py")
reading: Any = plugin("audit_collect", "library/audit_piece.py")
KEY_LINE = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + PUBLIC).decode()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    asyncio.run(filled(tmp_path / "state", 12))
    return tmp_path / "state"


def lines(state: Path, since: dict[str, int] | None = None) -> list[bytes]:
    return list(export(LogReader(state / "audit"), since or {}))


async def more(state: Path, count: int = 3) -> None:
    log = open_log(state)
    await commands(log, count)
    await log.close()


async def second_file(state: Path) -> None:
    """A new day begins a new file, and a file begins with a checkpoint that says what was before."""
    log = open_log(state, clock=lambda: time.time() + 90_000)
    await commands(log, 2)
    await log.close()


def collect(folder: Path, piece: list[bytes], *, accept_gap: bool = False) -> int:
    with collecting.opened(folder) as collection:
        count: int = collection.add(b"".join(line + b"\n" for line in piece), [PUBLIC], accept_gap)
        return count


def content(folder: Path) -> list[bytes]:
    """What an auditor reads: the numbered files, one after the other."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("records-*.jsonl"))).splitlines()


def test_pieces_of_any_size_add_up_to_the_export(state: Path, tmp_path: Path) -> None:
    whole = lines(state)
    for start in range(0, len(whole), 7):
        assert collect(tmp_path / "held", whole[start:start + 7]) == len(whole[start:start + 7])
    assert content(tmp_path / "held") == whole
    with collecting.opened(tmp_path / "held") as collection:
        assert collection.positions == {ORIGIN: len(whole)}
        assert collection.held[ORIGIN].compare(newest_notes(LogReader(state / "audit"))[ORIGIN])
        collection.check_files()


def test_only_the_manifest_commits(state: Path, tmp_path: Path) -> None:
    """A numbered file without its line in collection.json is from a run that was killed between the two: the next run writes it anew."""
    whole, held = lines(state), tmp_path / "held"
    collect(held, whole[:10])
    (held / "records-000002.jsonl").write_bytes(b"".join(line + b"\n" for line in whole[10:15]))
    (held / ".records-000003.jsonl.partial").write_bytes(whole[15][:9])
    collect(held, whole[10:])
    assert content(held) == whole


@pytest.mark.parametrize("change", ["lost", "doubled", "swapped", "edited", "rechecked"])
def test_what_does_not_fit_is_not_taken(state: Path, tmp_path: Path, change: str) -> None:
    whole, held = lines(state), tmp_path / "held"
    collect(held, whole[:10])
    before = (held / "collection.json").read_bytes()
    rest = whole[10:]
    if change == "lost":
        del rest[4]
    elif change == "doubled":
        rest.insert(0, whole[9])
    elif change == "swapped":
        rest[2], rest[3] = rest[3], rest[2]
    elif change == "edited":
        rest[0] = rest[0].replace(b'"segment":"plant-a"', b'"segment":"plant-b"')
    else:
        at = next(number for number, line in enumerate(rest) if b'"kind":"checkpoint"' in line)
        rest[at] = rest[at].replace(b"\\n\\n", b"\\nx y\\n\\n")
    with pytest.raises(collecting.Wrong):
        collect(held, rest)
    assert (held / "collection.json").read_bytes() == before
    assert content(held) == whole[:10]


def test_a_log_signed_by_somebody_else_is_refused(state: Path, tmp_path: Path) -> None:
    with collecting.opened(tmp_path / "held") as collection, pytest.raises(collecting.Wrong, match=r"not signed by a key in audit\.pub"):
        collection.add(b"".join(line + b"\n" for line in lines(state)), [bytes(32)], False)


def test_a_hole_is_said_and_only_crossed_when_asked(state: Path, tmp_path: Path) -> None:
    asyncio.run(second_file(state))
    whole, held = lines(state), tmp_path / "held"
    at = next(number for number, line in enumerate(whole) if number > 20 and b'"peaks":' in line)
    collect(held, whole[:15])
    with pytest.raises(collecting.Wrong, match=f"{at - 15} records before {at + 1} are gone"):
        collect(held, whole[at:])
    collect(held, whole[at:], accept_gap=True)
    with collecting.opened(held) as collection:
        assert collection.gaps == [{"origin": ORIGIN, "before": at + 1, "missing": at - 15}]
        assert collection.held[ORIGIN].compare(newest_notes(LogReader(state / "audit"))[ORIGIN])


def test_a_file_changed_on_the_controller_is_found(state: Path, tmp_path: Path) -> None:
    held = tmp_path / "held"
    collect(held, lines(state))
    path = held / "records-000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b"ci-bot", b"no-bot"))
    with collecting.opened(held) as collection, pytest.raises(collecting.Wrong, match="was changed since it was collected"):
        collection.check_files()


def test_without_its_manifest_a_collection_is_not_begun_anew(state: Path, tmp_path: Path) -> None:
    held, whole = tmp_path / "held", lines(state)
    collect(held, whole[:10])
    collect(held, whole[10:])
    (held / "collection.json").unlink()
    with pytest.raises(collecting.Wrong, match="restore it"), collecting.opened(held):
        pass


def test_two_collections_do_not_meet(tmp_path: Path) -> None:
    with collecting.opened(tmp_path / "held"), pytest.raises(collecting.Wrong, match="at work"), collecting.opened(tmp_path / "held"):
        pass


def test_a_log_that_was_put_back_is_found(state: Path, tmp_path: Path) -> None:
    held, early = tmp_path / "held", newest_notes(LogReader(state / "audit"))[ORIGIN]
    asyncio.run(more(state))
    collect(held, lines(state))
    with collecting.opened(held) as collection, pytest.raises(collecting.Wrong, match="cut off or put back"):
        collection.held[ORIGIN].compare(early)


def test_the_public_half_of_a_private_key(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    path = tmp_path / "key"
    path.write_bytes(KEY.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()))
    line = reading.public_key(str(path))
    assert collecting.raw_key(line) == PUBLIC
    assert "SHA256:" in fingerprint(collecting.raw_key(line))
    path.write_text(line + " somebody@somewhere\n")
    assert reading.public_key(str(path)) == line
    path.write_text("-----BEGIN\nAAAA\n-----END\n")
    with pytest.raises(reading.Failed, match="expected an OpenSSH"):
        reading.public_key(str(path))


def settings(root: Path, **changes: Any) -> dict[str, Any]:
    return {"audit_collect_destination": str(root / "held"), "audit_collect_command": [LOCKGATE],
            "audit_collect_config": str(root / "etc"), "audit_collect_key_files": [str(root / "etc/tls/audit_ed25519_key")],
            "audit_collect_piece_bytes": 2000, **changes}


def test_the_role_collects_once_checks_and_finds_a_tail_that_was_cut_off(tmp_path: Path) -> None:
    """The whole way: verify there, carry over in pieces, verify here; again: nothing; then the log loses its newest run."""
    from tests.unit.cli.demo_folder import run
    from tests.unit.cli.log_folder import make
    make(tmp_path)
    state, held = tmp_path / "state", tmp_path / "held" / "gw-1"
    assert play(tmp_path, "audit_collect", settings(tmp_path), ("gw-1",), "--check").changed == {"gw-1": 1}
    assert not held.exists() or not list(held.glob("records*"))
    first = play(tmp_path, "audit_collect", settings(tmp_path))
    assert (first.status, first.changed) == (0, {"gw-1": 1}), first.text
    assert content(held) == lines(state)
    assert json.loads((held / "collection.json").read_text())["positions"] == {ORIGIN: len(lines(state))}
    assert (held / "audit.pub").read_text().startswith("ssh-ed25519 ")
    assert {path.stat().st_mode & 0o77 for path in (held, *held.glob("r*"))} == {0}
    old = {path.name: path.read_bytes() for path in (state / "audit").iterdir()}
    asyncio.run(more(state))
    assert play(tmp_path, "audit_collect", settings(tmp_path)).changed == {"gw-1": 1}
    assert play(tmp_path, "audit_collect", settings(tmp_path)).changed == {"gw-1": 0}
    assert content(held) == lines(state)
    with_another = tmp_path / "etc" / "tls" / "audit_ed25519_key"
    kept = with_another.read_bytes()
    with_another.unlink()
    assert run("init", str(tmp_path / "another"), "--demo") == 0
    with_another.write_bytes((tmp_path / "another" / "tls" / "audit_ed25519_key").read_bytes())
    other = play(tmp_path, "audit_collect", settings(tmp_path))
    assert other.status == 2
    assert "is not signed by a key that was given" in " ".join(other.text.split()), other.text
    with_another.write_bytes(kept)
    before = hashlib.sha256(b"".join(content(held))).digest()
    for path in (state / "audit").iterdir():
        path.unlink()
    for name, data in old.items():
        (state / "audit" / name).write_bytes(data)
    cut = play(tmp_path, "audit_collect", settings(tmp_path))
    assert cut.status == 2
    assert "the gateway's log is tampered" in cut.text
    assert hashlib.sha256(b"".join(content(held))).digest() == before


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def test_a_piece_does_not_take_the_controllers_memory() -> None:
    """What a captured gateway sends is a few kilobytes that are a gigabyte."""
    assert collecting.unpacked(packed(b"{}\n" * 5), 8) == b"{}\n" * 5
    with pytest.raises(collecting.Wrong, match="more records came than were asked for"):
        collecting.unpacked(packed(bytes(32 * 2**20)), 8)
    for broken in ("!", base64.b64encode(b"no zlib").decode(), packed(b"x")[:8]):
        with pytest.raises(collecting.Wrong):
            collecting.unpacked(broken, 8)


def test_an_export_that_never_begins_ends(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def ask(*_: object, **what: object) -> dict[str, object]:
        asked.append(what)
        assert len(asked) < 5, "asked for ever"
        return {"records": packed(b""), "more": True}

    task = collecting.ActionModule.__new__(collecting.ActionModule)
    monkeypatch.setattr(task, "_ask", ask)
    heads = newest_notes(LogReader(state / "audit"))
    with collecting.opened(tmp_path / "held") as collection, pytest.raises(collecting.Wrong, match="the export ends before"):
        collection.held[ORIGIN] = collecting.Held(ORIGIN)
        task._fetch(collection, heads, [PUBLIC], {"piece_bytes": 8, "accept_gap": False})


@pytest.mark.parametrize("offered", [
    "ssh-ed25519 AAAA", "nothing", f"{KEY_LINE} x\nssh-ed25519 other", f"{KEY_LINE}\n", f"ssh-rsa{KEY_LINE[11:]}"])
def test_a_key_that_is_none_is_not_pinned(tmp_path: Path, offered: str) -> None:
    with collecting.opened(tmp_path / "held") as collection:
        with pytest.raises(collecting.Wrong):
            collecting._pinned(collection, [offered], True)
        assert collection.keys() == []
        assert collecting._pinned(collection, [KEY_LINE], False) == [KEY_LINE] == collection.keys()


def test_a_line_nested_too_deep_is_no_record() -> None:
    with pytest.raises(collecting.Wrong, match="not a record"):
        collecting._record(b"[" * 200_000)
