# SPDX-License-Identifier: Apache-2.0
"""The bytes of one channel, both ways, by callbacks: what one side gives is written to the other at once, and a side that does not read
pauses the other.

To the caller: mask, count, record, send. The exit status arrives before the end of the stream is passed on, always.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import asyncssh
from asyncssh.constants import EXTENDED_DATA_STDERR

from gateway.errors import AuditUnavailable, Fault, Refused, SessionOver, TargetFault
from gateway.protocols.ssh.towards import MISMATCH
from gateway.recording.terminal import Event

if TYPE_CHECKING:
    from gateway.masking.stream import StreamMasker
    from gateway.protocols.ssh.connection import TargetChannel
    from gateway.protocols.ssh.desk import Running
    from gateway.protocols.ssh.recorder import Part
    from gateway.protocols.ssh.session import SshSession

UNSYNCED = 2**20
"""Bytes of recording that may wait for the disk before the target is paused."""
SIGNALS = frozenset({"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"})
"""RFC 4254, section 6.10."""


class Recorder(Protocol):
    """What keeps a channel for replay (``recorder.ChannelRecorder``)."""

    def output(self, data: bytes, *, stderr: bool, at: float) -> None: ...
    def input(self, data: bytes, at: float) -> None: ...
    def resized(self, cols: int, rows: int, at: float) -> None: ...
    def signal(self, name: str, at: float) -> None: ...
    def exit(self, status: int, at: float) -> None: ...
    @property
    def due(self) -> float | None: ...
    def take(self, at: float | None = None) -> Part | None: ...


class Read(Protocol):
    """What can be paused."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Outlet(Read, Protocol):
    """The caller's end of a program: its channel, or the restricted shell's screen."""

    def write(self, data: bytes, datatype: int | None = None) -> None: ...
    def is_closing(self) -> bool: ...
    def set_xon_xoff(self, client_can_do: bool) -> None: ...


class Brakes:
    """Why a channel is not read. It is, where there is no reason."""

    def __init__(self, channel: Read) -> None:
        self._channel = channel
        self._reasons: set[str] = set()

    def set(self, reason: str, on: bool) -> None:
        before = bool(self._reasons)
        (self._reasons.add if on else self._reasons.discard)(reason)
        if bool(self._reasons) == before:
            return
        if before:
            self._channel.resume_reading()
        else:
            self._channel.pause_reading()


class Exit:
    """How the program ended: a status, or a signal, or neither where the target only closed the channel."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.signal: tuple[str, bool, str, str] | None = None

    @property
    def known(self) -> bool:
        return self.status is not None or self.signal is not None


class TargetSide(asyncssh.SSHClientSession[bytes]):
    """The target's end of a program: what asyncssh calls. How a quick program ended may be known before there is a sink."""

    def __init__(self) -> None:
        self.sink: Sink | None = None
        self._exit = Exit()
        self._gone: tuple[Exception | None] | None = None

    def attach(self, sink: Sink) -> None:
        """It takes what comes from now on, and what came."""
        self.sink = sink
        if self._exit.known:
            sink.exited(self._exit.status, self._exit.signal)
        if self._gone is not None:
            sink.target_gone(*self._gone)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self.sink is not None:
            self.sink.from_target(data, datatype is not None)

    def eof_received(self) -> bool:
        if self.sink is not None:
            self.sink.target_eof()
        return True

    def exit_status_received(self, status: int) -> None:
        self._exit.status = status
        if self.sink is not None:
            self.sink.exited(status, None)

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._exit.signal = (signal, core_dumped, msg, lang)
        if self.sink is not None:
            self.sink.exited(None, (signal, core_dumped, msg, lang))

    def xon_xoff_requested(self, client_can_do: bool) -> None:
        if self.sink is not None:
            self.sink.flow_control(client_can_do)

    def pause_writing(self) -> None:
        if self.sink is not None:
            self.sink.target_full(True)

    def resume_writing(self) -> None:
        if self.sink is not None:
            self.sink.target_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = (exc,)
        if self.sink is not None:
            self.sink.target_gone(exc)


class Sink(Protocol):
    """Who takes what a channel's two ends say."""

    def from_target(self, data: bytes, stderr: bool) -> None: ...
    def target_eof(self) -> None: ...
    def exited(self, status: int | None, signal: tuple[str, bool, str, str] | None) -> None: ...
    def flow_control(self, client_can_do: bool) -> None: ...
    def target_full(self, full: bool) -> None: ...
    def target_gone(self, exc: Exception | None) -> None: ...
    def from_caller(self, data: bytes) -> None: ...
    def caller_eof(self) -> None: ...
    def caller_full(self, full: bool) -> None: ...


class Masked:
    """One stream to the caller through its masker. ``deliver`` gets what may go out."""

    def __init__(self, masker: StreamMasker | None, deliver: Callable[[bytes], None], broken: Callable[[Exception], None]) -> None:
        self._masker, self._deliver, self._broken = masker, deliver, broken
        self._timer: asyncio.TimerHandle | None = None
        self._counting = masker

    @property
    def masked(self) -> int:
        """How much was, also once nothing more goes out."""
        return self._counting.masked if self._counting is not None else 0

    def feed(self, data: bytes) -> None:
        if self._masker is None:
            self._deliver(data)
            return
        self._deliver(self._masker.feed(data))
        self._arm()

    def _arm(self) -> None:
        holding = self._masker.holding if self._masker is not None else None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if holding is not None:
            self._timer = asyncio.get_running_loop().call_later(holding, self._due)

    def _due(self) -> None:
        self._timer = None
        assert self._masker is not None
        try:
            self._deliver(self._masker.due())
            self._arm()
        except Exception as problem:
            self._broken(problem)

    def end(self) -> None:
        """What was held back is decided now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._masker is not None:
            self._deliver(self._masker.end())
            self._masker = None

    def drop(self) -> None:
        """Nothing more goes out."""
        if self._timer is not None:
            self._timer.cancel()
        self._masker, self._deliver = None, lambda data: None


class Relay:
    """One program: caller's channel and target's. ``done`` is set to ``None`` once it has ended by itself, else to the fault."""

    def __init__(self, session: SshSession, running: Running, caller: Outlet, target: TargetChannel,
                 recorder: Recorder | None, *, masked: bool = True) -> None:
        self._session, self._running, self._caller, self._target, self._recorder = session, running, caller, target, recorder
        self.exit = Exit()
        self.size = self.received = 0
        self.done: asyncio.Future[Fault | None] = asyncio.get_running_loop().create_future()
        self._out = Masked(session.masker() if masked else None, self._deliver, self._broken)
        self._err = Masked(session.masker() if masked else None, self._deliver_stderr, self._broken)
        self._target_brakes, self._caller_brakes = Brakes(target), Brakes(caller)
        self._unsynced = 0
        self._eof = False
        self._began = self._now()
        self._later: asyncio.TimerHandle | None = None

    @property
    def masked(self) -> int:
        return self._out.masked + self._err.masked

    # from the target

    def from_target(self, data: bytes, stderr: bool) -> None:
        if self.done.done():
            return
        try:
            (self._err if stderr else self._out).feed(data)
        except Exception as problem:
            self._broken(problem)

    def _deliver(self, data: bytes, datatype: int | None = None) -> None:
        if not data or self.done.done():
            return
        fits = self._session.deliver(len(data))
        if fits < len(data):
            data = data[:fits]
        if self._recorder is not None and data:
            self._recorder.output(data, stderr=datatype is not None, at=self._now())
            self._keep()
        self._show("o" if datatype is None else "e", data)
        self.size += len(data)
        if not self._caller.is_closing():
            self._caller.write(data, datatype)

    def _deliver_stderr(self, data: bytes) -> None:
        self._deliver(data, EXTENDED_DATA_STDERR)

    def exited(self, status: int | None, signal: tuple[str, bool, str, str] | None) -> None:
        self.exit.status, self.exit.signal = status, signal
        if self._eof:
            self._finish(None)

    def target_eof(self) -> None:
        """Not before the exit status: a caller may take the end of the stream for the end of everything."""
        self._eof = True
        if self.exit.known:
            self._finish(None)

    def target_gone(self, exc: Exception | None) -> None:
        lost = None if self.exit.known or exc is None else TargetFault("the target ended the connection")
        if isinstance(exc, asyncssh.HostKeyNotVerifiable):
            lost = TargetFault("the target showed another host key when keys were exchanged anew", MISMATCH)
        self._finish(lost)

    def flow_control(self, client_can_do: bool) -> None:
        if not self._caller.is_closing():
            self._caller.set_xon_xoff(client_can_do)

    def target_full(self, full: bool) -> None:
        self._caller_brakes.set("full", full)

    # from the caller

    def from_caller(self, data: bytes) -> None:
        if self.done.done():
            return
        try:
            self._running.still()
        except (Refused, SessionOver) as no:
            self._finish(no)
            return
        self._session.touch()
        self.received += len(data)
        if self._recorder is not None:
            try:
                self._recorder.input(data, self._now())
                self._keep()
            except Exception as problem:
                self._broken(problem)
                return
        if not self._target.is_closing():
            self._target.write(data)

    def caller_eof(self) -> None:
        if not self._target.is_closing():
            self._target.write_eof()

    def caller_full(self, full: bool) -> None:
        self._target_brakes.set("caller", full)

    def resized(self, size: tuple[int, int, int, int]) -> None:
        if not self._target.is_closing():
            self._target.change_terminal_size(*size)
        if self._recorder is not None and not self.done.done():
            self._recorder.resized(size[0], size[1], self._now())
            self._kept_up()
        self._show("r", b"%dx%d" % size[:2])

    def signal(self, name: str) -> None:
        if name in SIGNALS and not self._target.is_closing():
            self._target.send_signal(name)
            if self._recorder is not None and not self.done.done():
                self._recorder.signal(name, self._now())
                self._kept_up()

    def send_break(self, milliseconds: int) -> bool:
        if not self._target.is_closing():
            self._target.send_break(milliseconds)
        return True

    # recording

    def _show(self, kind: str, data: bytes) -> None:
        """To people who watch the session now."""
        session = self._session
        if session.gate.watching.watched(session.session.id):
            at = round((self._now() - self._began) * 1e6)
            session.gate.watching.publish(session.session.id, ((self._running.seq, Event(at, kind, data)),))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _keep(self) -> None:
        """Give what is full to the log. What has not come to the disk yet is bounded; what cannot be kept ends the channel."""
        assert self._recorder is not None
        while (part := self._recorder.take(self._now())) is not None:
            size = len(part)
            self._unsynced += size
            self._target_brakes.set("disk", self._unsynced > UNSYNCED)
            kept = self._session.record("command.output", {"begin": self._running.seq, **part.fields}, part)
            kept.add_done_callback(partial(self._kept, size))

        if self._later is None and (due := self._recorder.due) is not None:
            self._later = asyncio.get_running_loop().call_at(due, self._overdue)

    def _overdue(self) -> None:
        """A part is not full, and nothing came since."""
        self._later = None
        if not self.done.done():
            self._kept_up()

    def _kept_up(self) -> None:
        try:
            self._keep()
        except Exception as problem:
            self._broken(problem)

    def _kept(self, size: int, done: asyncio.Future[int]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._finish(AuditUnavailable("the recording cannot be written"))
            return
        self._unsynced -= size
        self._target_brakes.set("disk", self._unsynced > UNSYNCED)

    # the end

    def _broken(self, problem: Exception) -> None:
        """A masker or recorder that fails lets nothing more pass."""
        self._finish(problem if isinstance(problem, Fault) else TargetFault(f"its output cannot be masked ({type(problem).__name__})"))

    def _finish(self, fault: Fault | None) -> None:
        if self.done.done():
            return
        if fault is None:
            try:
                self._out.end()
                self._err.end()
            except Exception as problem:
                fault = TargetFault(f"its output cannot be masked ({type(problem).__name__})")
        if self._later is not None:
            self._later.cancel()
        if not self.done.done():
            self.done.set_result(fault)
        self._out.drop()
        self._err.drop()

    def stop(self, fault: Fault) -> None:
        """From outside: nothing more passes."""
        self._finish(fault)

    def last_part(self) -> bytes | None:
        """What is left of the recording, for the ``command.end`` record."""
        status = self.exit.status if self.exit.status is not None else -1
        self._show("x", b"%d" % status)
        if self._recorder is None:
            return None
        self._recorder.exit(status, self._now())
        return self._recorder.take()
