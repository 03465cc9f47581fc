# SPDX-License-Identifier: Apache-2.0
"""A program's recording as asciicast, version 2 or 3 (docs.asciinema.org/manual/asciicast): what ``asciinema`` and its web player show.

Pure. Output is made safe for the viewer as in a replay. Standard error is output: a terminal knows one. A character cut between two events
is joined; bytes that are no UTF-8 become U+FFFD.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.recording.screen import Screen, visible
from gateway.recording.terminal import Event

SIZE = (80, 24)
_MOST = 10_000


def size_of(data: bytes) -> tuple[int, int] | None:
    """``COLSxROWS``; ``None`` for anything else."""
    cols, _, rows = data.decode("latin-1").partition("x")
    if not (cols.isascii() and cols.isdigit() and rows.isascii() and rows.isdigit() and len(cols) < 6 and len(rows) < 6):
        return None
    return (int(cols), int(rows)) if 0 < int(cols) <= _MOST and 0 < int(rows) <= _MOST else None


def terminal_of(events: Sequence[Event]) -> dict[str, Any]:
    """``term``, ``cols``, ``rows`` of the terminal, as far as there was one."""
    try:
        found = json.loads(next(event.data for event in events if event.kind == "b"))
    except (StopIteration, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def asciicast(events: Sequence[Event], version: int, *, timestamp: int, command: str, title: str) -> Iterator[str]:
    """Lines, the header first. ``timestamp``: seconds since the epoch at which the program began."""
    terminal = terminal_of(events)
    cols, rows = size_of(f"{terminal.get('cols')}x{terminal.get('rows')}".encode()) or SIZE
    common: dict[str, Any] = {"timestamp": timestamp, "command": visible(command, ""), "title": visible(title, "")}
    term = visible(str(terminal.get("term") or ""), "")
    if version == 2:
        yield _line({"version": 2, "width": cols, "height": rows, **common, "env": {"TERM": term} if term else {}})
    else:
        yield _line({"version": 3, "term": {"cols": cols, "rows": rows, **({"type": term} if term else {})}, **common})
    before = 0
    for at, code, data in _shown(events, version):
        yield _line([round((at if version == 2 else at - before) / 1e6, 6), code, data])
        before = at


def _shown(events: Sequence[Event], version: int) -> Iterator[tuple[int, str, str]]:
    screens = {"o": Screen(), "e": Screen()}
    last, status = 0, ""
    for event in events:
        last = max(last, event.at)
        if event.kind in screens:
            if text := screens[event.kind].feed(event.data):
                yield last, "o", text
        elif event.kind == "i":
            yield last, "i", event.data.decode("utf-8", "replace")
        elif event.kind == "r" and (size := size_of(event.data)) is not None:
            yield last, "r", f"{size[0]}x{size[1]}"
        elif event.kind == "c":
            yield last, "m", "from here on output was not kept"
        elif event.kind == "s":
            yield last, "m", f"signal {visible(event.data.decode('utf-8', 'replace'), '')}"
        elif event.kind == "x":
            status = event.data.decode("latin-1")
    if rest := "".join(screen.close() for screen in screens.values()):
        yield last, "o", rest
    if version == 3 and status.isascii() and status.isdigit():
        yield last, "x", status


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
