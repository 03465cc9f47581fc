# SPDX-License-Identifier: Apache-2.0
"""The log's format is what docs/audit.md says: a verifier written from that page alone agrees with ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form

from gateway.audit.reader import LogReader, newest_notes
from tests.unit.audit.log_folder import KEY, ORIGIN, filled, lines

SCRIPT = Path(__file__).with_name("independent_verify.py")
DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"


@pytest.fixture
async def exported(tmp_path: Path) -> Path:
    await filled(tmp_path / "state", 10)
    (tmp_path / "export.jsonl").write_bytes(b"".join(line + b"\n" for line in lines(tmp_path / "state")))
    (tmp_path / "anchor").write_text(newest_notes(LogReader(tmp_path / "state" / "audit"))[ORIGIN])
    (tmp_path / "key.pub").write_bytes(KEY.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH) + b" audit\n")
    return tmp_path


def verdict(folder: Path, *anchors: str) -> tuple[int, str]:
    """Run as an auditor would: the script, without the gateway's code on the path."""
    files = [str(folder / name) for name in ("export.jsonl", "key.pub", *anchors)]
    command = [sys.executable, "-I", str(SCRIPT), *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


async def test_it_agrees_on_an_untouched_log(exported: Path) -> None:
    count = len((exported / "export.jsonl").read_bytes().splitlines())
    assert verdict(exported) == (0, f"{ORIGIN}: {count} records, vouched for up to {count - 1}\n")
    assert verdict(exported, "anchor")[0] == 0


async def test_it_finds_what_ours_finds(exported: Path) -> None:
    path = exported / "export.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)
    changed = kept[7].replace(b"plant-a\"", b"plant-b\"", 1) if b"plant-a\"" in kept[7] else b"{}\n"
    for broken, said in (([*kept[:7], changed, *kept[8:]], "8"), (kept[:7] + kept[8:], "8 is missing"),
                         ([*kept[:7], kept[8], kept[7], *kept[9:]], "8 is missing")):
        path.write_bytes(b"".join(broken))
        status, answer = verdict(exported)
        assert status == 1
        assert said in answer
    path.write_bytes(b"".join(kept[:-4]))
    assert verdict(exported)[0] == 0, "a tail that is cut off needs an anchor"
    status, answer = verdict(exported, "anchor")
    assert status == 1
    assert "cut off" in answer


def test_the_page_shows_this_script() -> None:
    """The page may not lag behind: it holds the script as it is."""
    assert SCRIPT.read_text() in DOCUMENT.read_text()
