# SPDX-License-Identifier: Apache-2.0
"""Between the person's terminal and the shell's: each turn gathers what was typed and shown, puts it on disk, then passes it on."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.break_glass import terminal
from gateway.break_glass.events import Event, encode, shown, typed
from gateway.break_glass.settings import BreakGlass
from gateway.break_glass.shell import Shell

_TYPED, _SHOWN = 4096, 65536
_TURN = 1.0
_WARNING = 300.0
_STUCK = 30.0
Record = Callable[[bytes, float, float], None]


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session ended: ``status`` is ok, expired, idle, closed or full."""

    status: str
    reason: str


class Relay:
    """``keep(recording, first, last)`` returns once a turn's events are on disk; what it raises ends the session. ``screen`` is the
    person's terminal, ``login`` the connection to the login program: readable once that is gone."""

    def __init__(self, screen: int, login: int, shell: Shell, settings: BreakGlass, keep: Record) -> None:
        self._screen, self._login, self._shell, self._settings, self._keep = screen, login, shell, settings, keep
        self._began = self._active = time.monotonic()
        self._left = settings.output
        self._size = (0, 0)
        self._warned = False

    def run(self) -> Ending:
        """Until the shell ends, the time is over, or the person is gone."""
        while True:
            notes = self._notices()
            if (ending := self._over()) is not None:
                return ending
            ready, _, _ = select.select([self._screen, self._shell.master, self._login], [], [], 0 if notes else _TURN)
            if self._login in ready:
                return Ending("closed", "the login on the terminal ended")
            ended = self._turn(ready, notes)
            if ended is not None:
                return ended

    def _turn(self, ready: list[int], events: list[Event]) -> Ending | None:
        keys = _read(self._screen, _TYPED) if self._screen in ready else None
        output = _read(self._shell.master, _SHOWN) if self._shell.master in ready else None
        at = time.monotonic() - self._began
        if keys:
            events.append(Event(at, "h") if terminal.hides(self._shell.master) else typed(at, keys))
        if output:
            events.append(shown(at, output))
        if events:
            recording = encode(events)
            self._left -= len(recording)
            self._keep(recording, events[0].at, events[-1].at)
            self._active = time.monotonic() if keys or output else self._active
        said = "".join(event.data for event in events if event.type == "n").encode()
        if not self._write(self._screen, said + (output or b"")) or keys == b"":
            return Ending("closed", "the terminal was closed")
        if not self._write(self._shell.master, keys or b"") or output == b"":
            return Ending("ok", self._last_words())
        return None

    def _last_words(self) -> str:
        until = time.monotonic() + 1.0
        while self._shell.status() is None and time.monotonic() < until:
            time.sleep(0.01)
        status = self._shell.status()
        return "the shell closed its terminal" if status is None else f"the shell ended with status {status}"

    def _over(self) -> Ending | None:
        now = time.monotonic()
        if now >= self._began + self._settings.max:
            return Ending("expired", "the time is over")
        if now >= self._active + self._settings.idle:
            return Ending("idle", "nothing was typed or shown for too long")
        if self._left <= 0:
            return Ending("full", "more was shown than may be recorded")
        return None

    def _notices(self) -> list[Event]:
        """What the recorder itself has to say: the screen's size where it changed, and that the time is nearly over."""
        at, found = time.monotonic() - self._began, []
        size = terminal.size_of(self._screen)
        if size != self._size:
            self._size = size
            terminal.set_size(self._shell.master, size)
            found.append(Event(at, "r", f"{size[0]}x{size[1]}"))
        left = self._settings.max - at
        if not self._warned and left <= max(2 * _TURN, min(_WARNING, self._settings.max / 10)):
            self._warned = True
            found.append(Event(at, "n", f"\r\n[break-glass: this session ends in {max(0, round(left))} seconds]\r\n"))
        return found

    def _write(self, handle: int, data: bytes) -> bool:
        """All of it; False where the other side is gone, or does not take anything for long."""
        until = time.monotonic() + _STUCK
        while data:
            try:
                data = data[os.write(handle, data):]
            except BlockingIOError:
                if time.monotonic() > until or self._over() is not None:
                    return False
                select.select([], [handle], [], _TURN)
            except OSError:
                return False
        return True


def _read(handle: int, most: int) -> bytes | None:
    """Empty at the end, ``None`` where there was nothing after all."""
    try:
        return os.read(handle, most)
    except BlockingIOError:
        return None
    except OSError:
        return b""
