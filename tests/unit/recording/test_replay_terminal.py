# SPDX-License-Identifier: Apache-2.0
"""A replay of what programs showed: in time, from anywhere, drawn or as marked text; file transfers as lines."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.replay import Player, export
from gateway.cli.screens import Screens
from gateway.errors import ConfigError
from gateway.recording.replay import Frame, frames, starting
from gateway.recording.terminal import Event, listed

DECISION = {"effect": "allow", "rules": ["ssh/up"], "reason": ""}


def event(kind: str, seq: int, at: float, **fields: Any) -> dict[str, Any]:
    seconds, rest = divmod(round(at * 1_000_000), 1_000_000)
    time = f"2026-11-22T10:00:{seconds:02d}.{rest:06d}Z"
    return {"kind": kind, "seq": seq, "time": time, "session": "s-1", "identity": "ci-bot", **fields}


def shows(*events: Event) -> dict[str, Any]:
    return {"terminal": listed(events)}


SESSION = [
    event("session.start", 1, 0, resource="web-1"),
    event("command.begin", 2, 1, verb="shell", text="shell", decision=DECISION),
    event("command.output", 3, 3, begin=2, sample=shows(
        Event(0, "b", b'{"term": "xterm", "cols": 80, "rows": 24}'), Event(500_000, "o", b"\x1b[31m$ ls"),
        Event(1_500_000, "o", b"\r\nfile\r\n"))),
    event("command.output", 4, 5, begin=2, sample=shows(Event(3_000_000, "o", b"\x1b]52;c;AA\x07late"), Event(3_100_000, "e", b"oops\n"))),
    event("session.watched", 5, 5.5, identity="ines", source="10.0.0.9"),
    event("command.end", 6, 6, begin=2, status="ok", rows=0, bytes=30, masked=0, sample=shows(
        Event(4_900_000, "c"), Event(4_950_000, "h", b"12 ab"), Event(5_000_000, "x", b"0"))),
    event("command.begin", 7, 7, verb="write", text="put /srv/x", decision=DECISION),
    event("command.end", 8, 8, begin=7, status="ok", rows=0, bytes=0, masked=0,
          path="/srv/x", size=12, sha256="ab" * 32, direction="received"),
]


def played(made: list[Frame], *, plain: bool, speed: float = 0.0) -> tuple[str, list[float]]:
    out: list[str] = []
    waits: list[float] = []
    Player(out.append, lambda: None, waits.append, Screens(plain=plain), bar=False).play(made, speed, None)
    return "".join(out), waits


def test_events_stand_at_their_own_time() -> None:
    made = frames(SESSION)
    assert [(frame.at, frame.event.kind) for frame in made if frame.event] == [
        (1.0, "b"), (1.5, "o"), (2.5, "o"), (4.0, "o"), (4.1, "e"), (5.9, "c"), (5.95, "h"), (6.0, "x")]
    assert [frame.at for frame in made] == sorted(frame.at for frame in made)


def test_plain_marks_every_line_t53() -> None:
    text, _ = played(frames(SESSION), plain=True)
    assert "\x1b" not in text
    lines = [line.strip() for line in text.splitlines()]
    for wanted in ("| $ ls", "| file", "| late", "! oops", "(from here on output was not kept)", "(not kept: 12 bytes, sha256 ab)"):
        assert wanted in lines
    assert any("ines watches, from 10.0.0.9" in line for line in lines)
    assert f"received /srv/x 12 bytes sha256 {'ab' * 32}" in lines


def test_drawn_output_is_undone_before_a_line_of_the_replay_t53() -> None:
    text, waits = played(frames(SESSION), plain=False, speed=1.0)
    assert "\x1b[31m$ ls\r\nfile\r\nlate" in text
    assert "\x1b]" not in text
    assert text.index("\x1b[0m") < text.index("ines watches")
    assert sum(waits) == pytest.approx(8.0)


def test_a_seek_draws_what_was_there_before_at_once() -> None:
    made = starting(frames(SESSION), "4")
    shown = [frame for frame in made if frame.event is not None and frame.event.kind == "o"]
    assert [frame.at for frame in shown] == [4.0, 4.0, 4.0]
    assert starting(frames(SESSION), "7")[0].lines


def test_an_export_needs_one_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert export(SESSION, "asciicast-v2", "-", None) == 0
    assert '"$ ls"' in capsys.readouterr().out.replace("\\u001b[31m", "")
    for form, command in (("gif", None), ("asciicast-v2", 7)):
        with pytest.raises(ConfigError):
            export(SESSION, form, "-", command)
    with pytest.raises(ConfigError):
        export([], "asciicast-v3", "-", None)


def test_two_programs_at_once_are_told_apart() -> None:
    screens = Screens(plain=False)
    text = screens.show(2, Event(0, "o", b"one")) + screens.show(9, Event(0, "o", b"two")) + screens.close()
    assert text == "one\x1b[0m\r\n      (#9 goes on)\ntwo\x1b[0m\r\n"


def test_a_broken_sample_shows_that_it_is() -> None:
    broken = [event("command.output", 3, 1, begin=2, sample_error="changed"),
              event("command.output", 4, 1, begin=2, sample={"terminal": [[1]]})]
    made = frames(broken)
    assert "command.output" in made[0].lines[0]
    assert all(frame.event is None for frame in made)
