# SPDX-License-Identifier: Apache-2.0
"""Exports that asciinema plays: header and events as its manual has them, versions 2 and 3."""

from __future__ import annotations

import json
from typing import Any

from gateway.recording.asciicast import asciicast
from gateway.recording.terminal import Event

EURO = "\u20ac".encode()
EVENTS = [
    Event(0, "b", b'{"term": "xterm-256color", "cols": 100, "rows": 30}'), Event(500_000, "o", b"price " + EURO[:1]),
    Event(600_000, "o", EURO[1:] + b"\xff\r\n"), Event(700_000, "e", b"\x1b]52;c;AAAA\x07oops"), Event(900_000, "r", b"120x40"),
    Event(950_000, "r", b"0x99999999"), Event(1_000_000, "i", b"q"), Event(1_200_000, "s", b"INT"), Event(1_500_000, "c"),
    Event(2_000_000, "x", b"3"),
]


def made(version: int, events: list[Event] = EVENTS) -> tuple[dict[str, Any], list[list[Any]]]:
    lines = list(asciicast(events, version, timestamp=1_790_000_000, command="top", title="ci-bot on web"))
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    head, *rest = map(json.loads, lines)
    return head, rest


def test_version_2() -> None:
    head, rows = made(2)
    assert head == {"version": 2, "width": 100, "height": 30, "timestamp": 1_790_000_000, "command": "top", "title": "ci-bot on web",
                    "env": {"TERM": "xterm-256color"}}
    assert rows == [[0.5, "o", "price "], [0.6, "o", "\u20ac\ufffd\r\n"], [0.7, "o", "oops"], [0.9, "r", "120x40"], [1.0, "i", "q"],
                    [1.2, "m", "signal INT"], [1.5, "m", "from here on output was not kept"]]


def test_version_3_has_intervals_and_the_exit_status() -> None:
    head, rows = made(3)
    assert head["version"] == 3
    assert head["term"] == {"cols": 100, "rows": 30, "type": "xterm-256color"}
    assert "width" not in head
    assert [row[0] for row in rows] == [0.5, 0.1, 0.1, 0.2, 0.1, 0.2, 0.3, 0.5]
    assert rows[-1] == [0.5, "x", "3"]


def test_without_a_terminal_a_usual_size_is_written() -> None:
    assert made(2, [Event(0, "b"), Event(5, "o", b"x")])[0]["width"] == 80
    assert made(3, [])[0]["term"] == {"cols": 80, "rows": 24}


def test_what_attacks_a_viewer_is_not_exported_t53() -> None:
    events = [Event(0, "o", b"\x1b]0;t\x07\x1b[6n\x1b[?1049hx")]
    text = "".join(asciicast(events, 2, timestamp=0, command="\x1b]52;c;A\x07", title="\u202e"))
    rows = [json.loads(line) for line in text.splitlines()[1:]]
    assert "".join(row[2] for row in rows) == "\x1b[?1049hx\x1b[?1049l"
    assert "\\u202e" in json.loads(text.splitlines()[0])["title"]
    assert "\x1b" not in json.loads(text.splitlines()[0])["command"]
