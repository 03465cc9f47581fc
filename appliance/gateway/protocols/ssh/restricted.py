# SPDX-License-Identifier: Apache-2.0
"""The restricted shell: the gateway reads lines, and each is a command of its own, decided, run at the target by exec, and recorded.

Nothing outlives a line at the target: what may be done is exactly what exec rules say. With a terminal the caller edits lines, and a
program that runs has the terminal until it ends; without one, lines are read to the end of the stream and programs have no input. What the
shell itself shows goes through a ``Relay`` as any program's output: masked, counted, recorded.
"""

from __future__ import annotations

import asyncio
import re
import signal
from typing import TYPE_CHECKING, Any, Protocol, cast

from gateway.errors import ClientFault, Fault, Refused
from gateway.protocols.ssh.ending import BROKEN, verdict
from gateway.protocols.ssh.lineedit import LineEditor, PlainLines, Step
from gateway.protocols.ssh.relay import Exit, Masked, Recorder, Relay

if TYPE_CHECKING:
    from gateway.protocols.ssh.connection import CallerChannel, TargetChannel, Terminal
    from gateway.protocols.ssh.desk import Running
    from gateway.protocols.ssh.session import SshSession

AHEAD = 64 * 2**10
"""What may be typed ahead before the caller is paused."""
INTERRUPTED = 130
"""Exit status of a line that was given up, as a shell's."""
DUMB = frozenset({"", "dumb", "unknown"})
BANNER = "restricted shell on {place}: each line is a command of its own, so cd, variables and aliases do not last; `help` says more"
HELP = """\
Each line is one command for the target: decided, recorded and run by itself.
Nothing lasts from one line to the next: no directory (cd), no variables (export),
no aliases, no history expansion (!!), no jobs. Lists (a; b, a && b) and pipes are
decided part by part; what a shell expands needs a rule with that very text.
A line that needs an approval waits for it; Ctrl-C takes it back, or interrupts
what runs. Keys: arrows, Home, End, Delete, Backspace, Ctrl-A E B F P N U K W.
A paste is one line. `exit [STATUS]`, `logout` or Ctrl-D leaves, with the status
of the last command.
"""
_LEAVE = re.compile(r"logout|exit(?: +([0-9]{1,3}))?")


class Host(Protocol):
    """The channel that the shell is on. ``busy``: what was asked for is decided, and runs or is about to."""

    busy: bool

    async def line(self, text: str, refusal: str) -> Exit:
        """Decide and run one command (``refusal``: it cannot run). Raises what kept it from running or ended it."""


class Screen:
    """The caller's channel, for the shell and its programs in turn. ``fresh``: the cursor is at the beginning of a row."""

    def __init__(self, channel: CallerChannel) -> None:
        self._channel = channel
        self.fresh = True
        self.is_closing, self.set_xon_xoff = channel.is_closing, channel.set_xon_xoff
        self.pause_reading, self.resume_reading = channel.pause_reading, channel.resume_reading

    def write(self, data: bytes, datatype: int | None = None) -> None:
        self.fresh = data.endswith(b"\n")
        self._channel.write(data, datatype)


class Front(Relay):
    """The shell's own output and the caller's keys."""

    _before = 0

    @property
    def masked(self) -> int:
        return self._before + super().masked

    def settle(self) -> None:
        """Something else writes to the caller now: what was held back is decided, and what comes later is a stream of its own."""
        try:
            self._out.end()
            self._err.end()
            self._before += self._out.masked + self._err.masked
            self._out = Masked(self._session.masker(), self._deliver, self._broken)
            self._err = Masked(self._session.masker(), self._deliver_stderr, self._broken)
        except Exception as problem:
            self._broken(problem)


class Line(Relay):
    """One program. With a terminal the caller's keys are its input until it ends; without one, lines are not input."""

    def __init__(self, shell: RestrictedShell, session: SshSession, running: Running, target: TargetChannel,
                 recorder: Recorder | None) -> None:
        super().__init__(session, running, shell.screen, target, recorder)
        self._shell = shell
        shell.joined(self)
        if shell.terminal is None:
            target.write_eof()

    def from_caller(self, data: bytes) -> None:
        if self._shell.terminal is None or self.done.done():
            self._shell.front.from_caller(data)
        else:
            super().from_caller(data)

    def caller_eof(self) -> None:
        self._shell.front.caller_eof()
        if self._shell.terminal is not None:
            super().caller_eof()


class RestrictedShell:
    """``front`` is the sink for what the caller sends while nothing runs; its other end is this."""

    def __init__(self, session: SshSession, running: Running, caller: CallerChannel, terminal: Terminal | None,
                 recorder: Recorder | None, host: Host) -> None:
        self._session, self._caller, self.terminal, self._host = session, caller, terminal, host
        self.screen = Screen(caller)
        self.front = Front(session, running, self.screen, cast("TargetChannel", _FarEnd(self)), recorder)
        self.front.done.add_done_callback(lambda _: self._news.set())
        self._place = f"{session.session.resource} as {session.session.login}"
        self._lines: LineEditor | PlainLines = PlainLines()
        if terminal is not None:
            prompt = f"{session.session.login}@{session.session.resource}$ "
            self._lines = LineEditor(prompt, terminal.size[0], dumb=terminal.kind in DUMB)
        self._news = asyncio.Event()
        self._full = self._eof = False
        self._task: asyncio.Task[Exit] | None = None
        self._line: Line | None = None
        self._taken_back: Fault | None = None
        self._status = 0

    # --- its life

    async def run(self) -> Fault | None:
        """Until the caller leaves, or something ends it: what that was."""
        if self.terminal is not None:
            self._show(f"lockgate: {BANNER.format(place=self._place)}\n".encode())
        try:
            while (step := await self._submitted()) is not None and not await self._served(step):
                self._session.rested()
        except Fault as fault:
            self.front.stop(fault)
        if not self.front.done.done():
            self.front.exited(self._status, None)
            self.front.target_eof()
        return self.front.done.result()

    def stop(self, fault: Fault) -> None:
        """It may not go on, nor what runs in it."""
        self.front.stop(fault)

    async def _submitted(self) -> Step | None:
        """The next line; ``None`` at the end."""
        if self.terminal is not None:
            self._lines.resize(self.terminal.size[0])
            self._show((b"" if self.screen.fresh else b"\r\n") + self._lines.begin())
        while not self.front.done.done():
            self._news.clear()
            step = self._lines.step()
            self._show(step.screen)
            self.front.target_full(self._lines.waiting > AHEAD)
            if step.line is not None:
                return step
            if step.end:
                return None
            if self._full or not (self._lines.waiting and self.terminal is not None):
                await self._news.wait()
        return None

    async def _served(self, step: Step) -> bool:
        """Whether that was the last line."""
        text = step.line or ""
        words = text.strip(" ")
        if (leaving := _LEAVE.fullmatch(words)) is not None:
            self._status = int(leaving[1]) & 0xFF if leaving[1] else self._status
            return True
        if words == "help":
            self._show(HELP.encode())
            self._status = 0
        elif words:
            self._status = await self._run(text, step.refusal)
        return self.front.done.done()

    async def _run(self, text: str, refusal: str) -> int:
        self.front.settle()
        self._taken_back = None
        self._task = task = asyncio.create_task(self._host.line(text, refusal))
        try:
            either: list[asyncio.Future[Any]] = [task, self.front.done]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._take_back(self.front.done.result() or ClientFault("the shell is over"))
                await asyncio.wait([task])
        finally:
            self._task = self._line = None
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        self.front.target_full(False)
        self.screen.resume_reading()
        return INTERRUPTED if task.cancelled() else self._ended(task)

    def _ended(self, task: asyncio.Task[Exit]) -> int:
        """A line that is refused does not end the shell; whatever else goes wrong does."""
        try:
            return _status(task.result())
        except Refused as no:
            said = verdict(no)
            self._show(f"lockgate: {said.line}\n".encode("utf-8", "backslashreplace"), stderr=self.terminal is None)
            self.front.settle()                 # one after the other, whichever stream what comes next is on
            return said.status

    def joined(self, line: Line) -> None:
        """A program has begun. Raises what took it back before it had."""
        if self._taken_back is not None:
            raise self._taken_back
        self._line = line
        if self.terminal is not None:
            self._caller.resume_reading()

    def _take_back(self, fault: Fault) -> None:
        self._taken_back = fault
        if self._line is not None:
            self._line.stop(fault)
        elif self._task is not None and self._host.busy:
            self._task.cancel()
        elif self._task is not None:
            self._session.withdraw(self._task, str(fault))

    def _show(self, data: bytes, *, stderr: bool = False) -> None:
        if data:
            self.front.from_target(re.sub(rb"(?<!\r)\n", b"\r\n", data) if self.terminal is not None else data, stderr)

    # --- what the caller sends, while no program takes it

    def typed(self, data: bytes) -> None:
        """Ctrl-C while a line is decided takes it back, and what was typed behind it."""
        _, interrupt, after = data.rpartition(b"\x03")
        if interrupt and self.terminal is not None and self._task is not None and not self._task.done():
            self._lines.forget()
            self._show(b"^C\n")
            self._take_back(Refused("the caller pressed Ctrl-C", "withdrawn"))
            data = after
        self._lines.feed(data)
        self.front.target_full(self._lines.waiting > AHEAD)
        self._news.set()

    def signalled(self, name: str) -> None:
        if name == "INT" and self.terminal is not None:
            self.typed(b"\x03")
        elif self._task is not None:
            self._take_back(Refused(f"the caller sent {name}", "withdrawn"))
        else:
            self.front.stop(ClientFault(f"the caller sent {name}"))

    def ended(self) -> None:
        self._lines.end()
        self._news.set()

    def resized(self, width: int) -> None:
        self._lines.resize(width)

    def full(self, full: bool) -> None:
        self._full = full
        self._news.set()


class _FarEnd:
    """The shell as the far end of its front: what a ``Relay`` asks of a channel at a target."""

    def __init__(self, shell: RestrictedShell) -> None:
        self.write, self.write_eof, self.send_signal = shell.typed, shell.ended, shell.signalled
        self._shell = shell

    def is_closing(self) -> bool:
        return False

    def change_terminal_size(self, width: int, *_: int) -> None:
        self._shell.resized(width)

    def send_break(self, milliseconds: int) -> None:
        """It has no meaning at a prompt."""

    def pause_reading(self) -> None:
        self._shell.full(True)

    def resume_reading(self) -> None:
        self._shell.full(False)


def _status(how: Exit) -> int:
    """As a shell has it: a signal is 128 and its number."""
    if how.status is not None:
        return how.status & 0xFF
    number = signal.Signals.__members__.get(f"SIG{how.signal[0]}") if how.signal is not None else None
    return 128 + number if number is not None else BROKEN
