# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli.replay import Player
from gateway.recording.replay import Frame
from tests.unit.cli.demo_folder import run
from tests.unit.cli.log_folder import make

Capture = pytest.CaptureFixture[str]


def test_without_a_terminal_all_is_shown_at_once(tmp_path: Path, capsys: Capture) -> None:
    etc = str(make(tmp_path))
    assert run("replay", "s-0001", "--config", etc) == 0
    whole = capsys.readouterr().out
    for part in ("SELECT email", "d***@example.org", "DENY drop-database", "client closed"):
        assert part in whole
    assert "\x1b" not in whole
    assert run("sessions", "replay", "s-0001", "--config", etc) == 0
    assert capsys.readouterr().out == whole
    denied = next(line.split("#")[1].split()[0] for line in whole.splitlines() if "DENY" in line)
    assert run("replay", "s-0001", "--at", denied, "--config", etc) == 0
    assert capsys.readouterr().out == whole[whole.index("DENY") - len(f"00:00.000  #{denied}  "):]
    assert run("replay", "s-0001", "--config", etc, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["kind"] == "session.start"


def test_wrong_options(tmp_path: Path) -> None:
    etc = str(make(tmp_path))
    assert run("replay", "s-0001", "--at", "noon", "--config", etc) == 2
    assert run("replay", "s-9999", "--config", etc) == 1
    for words in (("--speed", "-1"), ("--speed", "fast"), ("--idle", "a while")):
        with pytest.raises(SystemExit):
            run("replay", "s-0001", *words, "--config", etc)


def test_it_waits_as_long_as_it_took_and_shows_how_far_it_is() -> None:
    frames = [Frame(0.0, 1, ("first",)), Frame(1.0, 2, ("second", "line")), Frame(21.0, 3, ("third",))]
    out: list[str] = []
    slept: list[float] = []
    Player(out.append, lambda: None, slept.append, bar=True).play(frames, 2.0, 5.0)
    assert sum(slept) == pytest.approx(0.5 + 5.0)
    shown = "".join(out)
    assert shown.index("first\n") < shown.index("second\nline\n") < shown.index("third\n")
    assert "of 00:21.000" in shown
    assert shown.endswith("\r\x1b[K")
    slept.clear()
    out.clear()
    Player(out.append, lambda: None, slept.append, bar=False).play(frames, 0.0, None)
    assert (slept, "".join(out)) == ([], "first\nsecond\nline\nthird\n")
    Player(out.append, lambda: None, slept.append, bar=True).play([], 1.0, None)
