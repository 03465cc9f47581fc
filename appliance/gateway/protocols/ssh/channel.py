# SPDX-License-Identifier: Apache-2.0
"""A session channel of the caller: terminal, environment, then one command, shell or subsystem, decided, run at the target, recorded.

Nothing the caller sends is read before the decision (``CallerChannel.gated``), nothing goes to the target before the record is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncssh
from asyncssh.constants import EXTENDED_DATA_STDERR

from gateway.errors import AuditUnavailable, ClientFault, Fault, Refused, SessionOver, TargetFault
from gateway.model import Operation
from gateway.protocols.ssh import understand
from gateway.protocols.ssh.attarget import AtTarget
from gateway.protocols.ssh.connection import X11, CallerChannel, TargetChannel, Terminal
from gateway.protocols.ssh.desk import Running, SessionDesk, printable
from gateway.protocols.ssh.ending import BROKEN, Verdict, verdict
from gateway.protocols.ssh.files import FileLimits
from gateway.protocols.ssh.pipes import ChannelPipe, Pipes
from gateway.protocols.ssh.program import Environment, Kind, Program, environment, program
from gateway.protocols.ssh.relay import Exit, Relay, Sink, TargetSide
from gateway.protocols.ssh.restricted import Line, RestrictedShell
from gateway.protocols.ssh.rsync import located, serve_rsync
from gateway.protocols.ssh.scp_proxy import serve_scp
from gateway.protocols.ssh.sftp.proxy import serve_sftp
from gateway.protocols.ssh.sftp.questions import Questions
from gateway.protocols.ssh.towards import MISMATCH
from gateway.protocols.ssh.transfers import FileAccess
from gateway.protocols.ssh.upstream import Upstream

if TYPE_CHECKING:
    from gateway.protocols.ssh.session import SshSession

_TERMINAL_NAME = 64


class SessionChannel(asyncssh.SSHServerSession[bytes]):
    """What asyncssh calls for one session channel, and the task that serves it."""

    def __init__(self, session: SshSession) -> None:
        self._session = session
        self._at = AtTarget(session)
        self._sink: Sink | None = None
        self._shell: RestrictedShell | None = None
        self._terminal: Terminal | None = None
        self._x11: X11 | None = None
        self._agent = False
        self._beside: list[Running] = []
        self._task: asyncio.Task[None] | None = None
        self._left = False
        self._no: Refused | None = None
        self._overtime: asyncio.TimerHandle | None = None
        self.busy = False
        self.chan: CallerChannel

    # --- asyncssh's callbacks

    def connection_made(self, chan: CallerChannel) -> None:  # type: ignore[override]
        self.chan = chan
        chan.left = self._gone
        chan.set_write_buffer_limits(high=self._session.gate.folder.gateway.limits.buffer)

    def pty_requested(self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]) -> bool:
        if len(term_type) > _TERMINAL_NAME:
            return False
        self._terminal = Terminal(term_type, term_size, term_modes)
        return True

    def exec_requested(self, command: str) -> bool:
        return self._start("exec", command)

    def shell_requested(self) -> bool:
        return self._start("shell", None)

    def subsystem_requested(self, subsystem: str) -> bool:
        return self._start("subsystem", subsystem)

    async def agent_requested(self) -> bool:
        """``ssh -A``: a decision of its own."""
        self._agent = self._agent or await self._beside_it("agent")
        return self._agent

    async def x11_requested(self, x11: X11) -> bool:
        """``ssh -X``: a decision of its own."""
        if await self._beside_it("x11"):
            self._x11 = x11
        return self._x11 is not None

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self._sink is not None:
            self._sink.from_caller(data)

    def eof_received(self) -> bool:
        if self._sink is not None:
            self._sink.caller_eof()
        return True

    def pause_writing(self) -> None:
        if self._sink is not None:
            self._sink.caller_full(True)

    def resume_writing(self) -> None:
        if self._sink is not None:
            self._sink.caller_full(False)

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        if self._terminal is not None:
            self._terminal.size = (width, height, pixwidth, pixheight)
            if isinstance(self._sink, Relay):
                self._sink.resized(self._terminal.size)

    def signal_received(self, signal: str) -> None:
        """Before it runs, a signal takes it back."""
        if isinstance(self._sink, Relay):
            self._sink.signal(signal)
        elif self._sink is None and self._task is not None:
            self._session.withdraw(self._task, f"the caller sent {printable(signal)[:20]}")

    def break_received(self, msec: int) -> bool:
        return self._sink.send_break(msec) if isinstance(self._sink, Relay) else False

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()

    # --- its life

    def _start(self, kind: Kind, argument: str | None) -> bool:
        self._task = self._session.start(self._run(kind, argument), f"{kind} of {self._session.session.id[:8]}")
        return True

    def _gone(self) -> None:
        """The caller closed the channel, or is gone altogether."""
        if self._left:
            return
        self._left = True
        if self._task is None or self._task.done():
            self._end_beside()
        if isinstance(self._sink, Relay):
            self._sink.stop(ClientFault("the caller left"))
        elif isinstance(self._sink, Pipes):
            self._sink.caller.lost()
        elif self._task is not None and not self._task.done():
            self._session.withdraw(self._task, "the caller disconnected")

    def conclude(self, line: str) -> None:
        """The session ends: tell the caller, end at the target."""
        if isinstance(self._sink, Relay):
            self._sink.stop(SessionOver(line.removeprefix("session ended: ")))
            return
        if line:
            self.tell(line)
        if isinstance(self._sink, Pipes):
            self._sink.caller.lost()
            self._sink.target.lost()
        elif self._task is not None and not self._session.held:
            self._task.cancel()

    def tell(self, line: str) -> None:
        """One line on the caller's stderr."""
        if not self.chan.is_closing():
            end = "\r\n" if self._terminal is not None else "\n"
            self.chan.write(f"lockgate: {printable(line)}{end}".encode(), EXTENDED_DATA_STDERR)

    async def _run(self, kind: Kind, argument: str | None) -> None:
        session = self._session
        session.channels.add(self)
        try:
            self._exit(await self._served(program(kind, argument, pty=self._terminal is not None)))
        except asyncio.CancelledError:
            self.chan.exit_now(BROKEN)
            raise
        except Exception as problem:
            self._failed(problem)
        finally:
            self.busy = False
            if self._overtime is not None:
                self._overtime.cancel()
            session.channels.discard(self)
            self._end_beside()
            session.rested()

    def _failed(self, problem: Exception) -> None:
        said: Verdict = verdict(problem)
        self.tell(said.line)
        self.chan.exit_now(said.status)
        if isinstance(problem, SessionOver):
            self._session.outlived(problem)
        elif isinstance(problem, TargetFault) and problem.code == MISMATCH:
            self._session.mistrusted(problem)

    def _exit(self, how: Exit) -> None:
        if how.status is not None:
            self.chan.exit_now(how.status)
        elif how.signal is not None:
            self.chan.exit_by_signal(*how.signal)
        else:
            self.chan.end_now()

    async def _served(self, wanted: Program) -> Exit:
        asked = self._session.desk(self.tell)
        if wanted.kind == "shell" and (lesser := self._lesser(wanted, asked)) is not None:
            return await self._restricted(lesser, asked)
        env = environment(self.chan.get_environment_bytes(), wanted.understood, asked.allowed)
        desk = self._session.desk(self.tell, wait=env.wait, context=self._context(wanted, env))
        if wanted.understood.refusal:
            await desk.refuse(wanted.understood.operations, wanted.text, wanted.understood.refusal)
        if env.dropped:
            names = [self._session.hidden(printable(name))[:64] for name in env.dropped]
            desk.event("environment.dropped", {"names": names}).add_done_callback(_seen)
        await self._maskable(wanted, desk)
        if wanted.understood.files is not None:
            return await self._copied(wanted, wanted.understood.files, env, desk)
        running = await self._let_run(wanted.understood.operations, wanted, env, desk)
        async with (self._recorded(running), self._at.upstream(own=self._own) as upstream,
                    self._begun(upstream, wanted, env, running) as (channel, side)):
            if wanted.sftp:
                return await self._sftp(channel, side, desk, running)
            return await self._relayed(wanted, env, channel, side, running)

    async def _maskable(self, wanted: Program, desk: SessionDesk) -> None:
        """What cannot be masked does not begin."""
        try:
            self._session.masker()
        except Refused as no:
            await desk.refuse(wanted.understood.operations, wanted.text, str(no))

    def _lesser(self, wanted: Program, asked: SessionDesk) -> Program | None:
        """The restricted shell, where a shell is not allowed and that is."""
        restricted = program("restricted-shell", None, pty=self._terminal is not None)
        fits = not asked.allowed(wanted.understood.operations) and asked.allowed(restricted.understood.operations)
        return restricted if fits else None

    async def _restricted(self, wanted: Program, asked: SessionDesk) -> Exit:
        """A shell of the gateway's: each line is served as an exec of its own."""
        env = environment(self.chan.get_environment_bytes(), wanted.understood, asked.allowed)
        desk = self._session.desk(self.tell, wait=env.wait, context=self._context(wanted, replace(env, given={})))
        await self._maskable(wanted, desk)
        running = await desk.run(wanted.understood.operations, wanted.text)
        async with self._recorded(running):
            recorder = self._session.recorder(self._terminal, wanted)
            self._shell = shell = RestrictedShell(self._session, running, self.chan, self._terminal, recorder, self)
            running.stop = shell.stop
            self._sink = shell.front
            self.chan.open_gate()
            fault = await shell.run()
            self._record_end(running, shell.front, fault)
            if fault is not None:
                raise fault
            return shell.front.exit

    async def line(self, text: str, refusal: str) -> Exit:
        """A line of the restricted shell."""
        wanted = program("exec", text, pty=self._terminal is not None)
        if not refusal and wanted.understood.files is not None:
            refusal = "scp and rsync are no lines of a restricted shell: they need a command of their own"
        if refusal:
            wanted = replace(wanted, understood=replace(wanted.understood, refusal=refusal))
        try:
            return await self._served(wanted)
        finally:
            self.busy = False
            if self._overtime is not None:
                self._overtime.cancel()
            if self._shell is not None:
                self._sink = self._shell.front

    async def _let_run(self, operations: tuple[Operation, ...], wanted: Program, env: Environment, desk: SessionDesk) -> Running:
        running = await desk.run(operations + env.operations, wanted.text)
        running.stop, self._no = self._stopped, None
        self.busy = wanted.kind == "exec"
        seconds = running.decision.limits.time
        if seconds is not None:
            late = Refused(f"it ran for {seconds:g} s (statement: time)", "cancelled")
            self._overtime = asyncio.get_running_loop().call_later(seconds, self._stopped, late)
        return running

    @asynccontextmanager
    async def _recorded(self, running: Running) -> AsyncIterator[None]:
        """However it ends, its end is recorded."""
        try:
            yield
        except Exception as problem:
            said = verdict(problem)
            running.finish(said.record, error=said.error)
            raise
        finally:
            running.finish("cancelled")

    def _context(self, wanted: Program, env: Environment) -> dict[str, str]:
        """What an approval is bound to besides the text."""
        found = {f"env {printable(name.decode('utf-8', 'surrogateescape'))}": printable(value.decode("utf-8", "surrogateescape"))
                 for name, value in env.given.items()}
        return found | {"pty": "yes" if self._terminal is not None else "no"}

    def _stopped(self, no: Refused) -> None:
        """What runs, or is about to, may not go on."""
        self._no = no
        if isinstance(self._sink, Relay):
            self._sink.stop(no)
        elif isinstance(self._sink, Pipes):
            self.tell(verdict(no).line)
            self._sink.caller.lost()
            self._sink.target.lost()

    # --- at the target

    @property
    def _own(self) -> bool:
        """Agent and X11 need a connection that no other session is on."""
        return self._agent or self._x11 is not None

    @asynccontextmanager
    async def _begun(self, upstream: Upstream, wanted: Program, env: Environment,
                     running: Running) -> AsyncIterator[tuple[TargetChannel, TargetSide]]:
        """A channel on which the target runs what was asked for, where it still may. Raises ``TargetFault``."""
        side = TargetSide()
        ask = wanted.kind.encode(), wanted.argument, env.given, self._terminal, self._x11, self._agent
        self._may_begin(running)
        channel = await self._at.opened(upstream, side, *ask)
        try:
            self._may_begin(running)
            yield channel, side
        except BaseException:
            channel.give_up()
            raise
        finally:
            channel.close()

    def _may_begin(self, running: Running) -> None:
        """The way to the target takes its time: things change meanwhile."""
        if self._left:
            raise ClientFault("the caller left")
        if self._no is not None:
            raise self._no
        running.still()

    async def _relayed(self, wanted: Program, env: Environment, channel: TargetChannel, side: TargetSide, running: Running) -> Exit:
        recorder = self._session.recorder(self._terminal, wanted, env.given)
        if self._shell is not None:
            relay: Relay = Line(self._shell, self._session, running, channel, recorder)
        else:
            relay = Relay(self._session, running, self.chan, channel, recorder)
        self._join(relay, channel, side)
        return await self._carried(relay, running)

    async def _carried(self, relay: Relay, running: Running) -> Exit:
        """Until the program has ended. Raises what ended it."""
        fault = await relay.done
        self._record_end(running, relay, fault)
        if fault is not None:
            raise fault
        return relay.exit

    def _join(self, sink: Sink, channel: TargetChannel, side: TargetSide) -> None:
        self._sink = sink
        side.attach(sink)
        channel.open_gate()
        self.chan.open_gate()

    @staticmethod
    def _record_end(running: Running, relay: Relay, fault: Fault | None) -> None:
        how = relay.exit
        said = verdict(fault) if fault is not None else None
        status = said.record if said is not None else "ok" if how.status == 0 else "error"
        error = said.error if said is not None else "" if how.status == 0 else _how(how)
        if isinstance(fault, ClientFault):
            status, error = "cancelled", "the caller left"
        more = {"exit_status": how.status} if how.status is not None else {}
        running.finish(status, bytes=relay.size, masked=relay.masked, error=error, recording=relay.last_part(), received=relay.received,
                       **more)

    # --- files

    def _pipes(self, channel: TargetChannel, side: TargetSide) -> Pipes:
        session = self._session
        pipes = Pipes(ChannelPipe(self.chan, session, counted=True), ChannelPipe(channel, session, counted=False), session.masker())
        self._join(pipes, channel, side)
        return pipes

    @property
    def _file_limits(self) -> FileLimits:
        return FileLimits(content=self._session.resource.recording.files)

    async def _sftp(self, channel: TargetChannel, side: TargetSide, desk: SessionDesk, running: Running) -> Exit:
        pipes = self._pipes(channel, side)
        await serve_sftp(pipes.caller, pipes.target, desk, self._file_limits)
        running.finish(exit_status=0)
        how = Exit()
        how.status = 0
        return how

    async def _copied(self, wanted: Program, access: FileAccess, env: Environment, desk: SessionDesk) -> Exit:
        """scp and rsync: their paths are decided as the target understands them."""
        async with self._at.upstream(own=self._own) as upstream, self._at.questions(upstream) as questions:
            operations = await self._located(wanted, access, questions, desk)
            running = await self._let_run(operations, wanted, env, desk)
            async with (self._recorded(running), self._unmoved(running, operations, access, questions),
                        self._begun(upstream, wanted, env, running) as (channel, side)):
                pipes = self._pipes(channel, side)
                if access.kind == "rsync":
                    await serve_rsync(access, pipes.caller, pipes.target, desk, running)
                    return await pipes.over()
                refused = await serve_scp(access, pipes.caller, pipes.target, desk, self._file_limits, questions)
                how = await pipes.over()
                how.status = refused or how.status
                running.finish("ok" if how.status == 0 else "error", error="" if how.status == 0 else _how(how), exit_status=how.status)
                return how

    async def _located(self, wanted: Program, access: FileAccess, questions: Questions, desk: SessionDesk) -> tuple[Operation, ...]:
        try:
            await questions.begin()
            return await located(access, wanted.understood.operations, questions, detects=self._session.masks_detect)
        except Refused as no:
            await desk.refuse(wanted.understood.operations, wanted.text, str(no))
            raise

    @asynccontextmanager
    async def _unmoved(self, running: Running, operations: tuple[Operation, ...], access: FileAccess,
                       questions: Questions) -> AsyncIterator[None]:
        """Where an approval was waited for, the paths lead where they did. Raises ``Refused``."""
        if running.decision.effect == "approve" and await located(access, operations, questions) != operations:
            raise Refused("what this path leads to changed while the approval was waited for")
        yield

    # --- beside it

    async def _beside_it(self, kind: understand.Forward) -> bool:
        try:
            running = await self._session.desk(self.tell).run(understand.forward_request(kind, "").operations, kind)
        except (Refused, AuditUnavailable) as no:
            self.tell(verdict(no).line)
            return False
        except SessionOver as over:
            self._session.outlived(over)
            return False
        self._beside.append(running)
        if self._left:
            self._end_beside()
        return not self._left

    def _end_beside(self) -> None:
        for running in self._beside:
            running.finish()


def _seen(recorded: asyncio.Future[int]) -> None:
    """What fails here fails again for the command's own record, which is waited for."""
    if not recorded.cancelled():
        recorded.exception()


def _how(how: Exit) -> str:
    if how.signal is not None:
        return f"signal {printable(how.signal[0])[:20]}"
    return f"exit {how.status}" if how.status is not None else "no exit status"
