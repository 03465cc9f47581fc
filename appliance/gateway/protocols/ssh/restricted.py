# SPDX-License-Identifier: Apache-2.0
"""The restricted shell: the gateway reads lines, and each is a command of its own, decided, run at the target by exec, and recorded.

There is no terminal at the target, no working directory and no variable that outlives a line: what may be done in it is exactly what exec
rules say. A line that runs gets no input; Ctrl-C ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from gateway.protocols.ssh.lines import Lines, Typed
from gateway.protocols.ssh.relay import Exit, Relay

if TYPE_CHECKING:
    from gateway.protocols.ssh.connection import CallerChannel

QUEUED = 64
"""Lines typed ahead; more are dropped, and said to be."""
PROMPT = b"$ "


class Serve(Protocol):
    """Decides and runs one line; writes to ``out``; gives its exit status."""

    def __call__(self, text: str, out: Screen, joined: Callable[[Relay], None]) -> Awaitable[int]: ...


class Screen:
    """The caller's channel as a program's output goes to it: with a terminal, lines end in CR LF as its own driver would have them."""

    def __init__(self, channel: CallerChannel, *, terminal: bool) -> None:
        self._channel, self._terminal = channel, terminal

    def write(self, data: bytes, datatype: int | None = None) -> None:
        self._channel.write(data.replace(b"\n", b"\r\n") if self._terminal else data, datatype)

    def is_closing(self) -> bool:
        return self._channel.is_closing()

    def set_xon_xoff(self, client_can_do: bool) -> None:
        """There is no terminal at the target to ask for it."""

    def pause_reading(self) -> None:
        """Nothing that is typed goes to the target."""

    def resume_reading(self) -> None:
        """As ``pause_reading``."""


class RestrictedShell:
    """The sink of what the caller types. ``run`` returns once they leave."""

    def __init__(self, channel: CallerChannel, serve: Serve, *, terminal: bool) -> None:
        self._channel, self._serve, self._terminal = channel, serve, terminal
        self._lines = Lines(echo=terminal)
        self._typed: asyncio.Queue[Typed] = asyncio.Queue(QUEUED)
        self._screen = Screen(channel, terminal=terminal)
        self.relay: Relay | None = None
        """What runs now."""

    async def run(self) -> Exit:
        how = Exit()
        how.status = 0
        while True:
            self._say(PROMPT)
            typed = await self._typed.get()
            if typed.kind == "end":
                return how
            words = typed.text.split()
            if words[:1] == ["exit"] and len(words) <= 2 and all(word.isdecimal() for word in words[1:]):
                how.status = int(words[1]) & 0xff if len(words) == 2 else how.status
                return how
            if words:
                how.status = await self._serve(typed.text, self._screen, self._joined)
                self.relay = None

    def _joined(self, relay: Relay) -> None:
        self.relay = relay

    def _say(self, data: bytes) -> None:
        if self._terminal and not self._channel.is_closing():
            self._channel.write(data)

    def stop(self) -> None:
        """The caller, or the session, is gone."""
        self._put([Typed("end")])

    # what the caller says

    def from_caller(self, data: bytes) -> None:
        typed = self._lines.feed(data)
        self._say(self._lines.shown())
        self._put(typed)

    def caller_eof(self) -> None:
        self._put(self._lines.end())

    def caller_full(self, full: bool) -> None:
        if self.relay is not None:
            self.relay.caller_full(full)

    def _put(self, typed: list[Typed]) -> None:
        for one in typed:
            if one.kind == "interrupt":
                self._interrupt()
                continue
            if self._typed.full():
                self._say(b"\a")
                if one.kind != "end":
                    continue
                self._typed.get_nowait()
            self._typed.put_nowait(one)

    def _interrupt(self) -> None:
        if self.relay is not None:
            self.relay.signal("INT")
        else:
            self._say(PROMPT)
