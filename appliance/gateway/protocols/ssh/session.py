# SPDX-License-Identifier: Apache-2.0
"""One caller's session: one SSH connection, everything that runs on it, and every way it can end.

Channels and forwards run as tasks that the session owns; nothing outlives it. What a caller is told at its end is a line on every open
channel's stderr and the reason of the disconnect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import asyncssh

from gateway.approvals.view import ApprovalView
from gateway.errors import Refused, SessionOver, TargetFault
from gateway.govern import Policy, session_fields
from gateway.masking.stream import Plan, StreamMasker
from gateway.model import Session, SessionLimits
from gateway.net.server import Supervisor
from gateway.protocols.ssh.connection import CallerConnection
from gateway.protocols.ssh.desk import Running, SessionDesk, Tell, notice, printable
from gateway.protocols.ssh.door import without_tokens
from gateway.protocols.ssh.ending import Ended
from gateway.protocols.ssh.forwards import Forwards
from gateway.protocols.ssh.own import OwnConnections
from gateway.protocols.ssh.recorder import ChannelRecorder
from gateway.protocols.ssh.settings import SshResource
from gateway.protocols.ssh.towards import Towards
from gateway.protocols.ssh.upstream import Upstream

if TYPE_CHECKING:
    from gateway.datapath import DataPath
    from gateway.protocols.ssh.connection import Terminal
    from gateway.protocols.ssh.program import Program
    from gateway.protocols.ssh.relay import Recorder

log = logging.getLogger("gateway.ssh")
T = TypeVar("T")

LOOK_EVERY = 1.0
"""Seconds between looks at what may end an idle or long-running session."""
LAST_WAIT = 5.0
"""Seconds that the end of a session waits for its channels and the disk."""


class Channel(Protocol):
    """What a session knows of a channel or forward that is open. ``busy``: it runs something, and is not idle when nothing passes."""

    busy: bool

    def tell(self, line: str) -> None:
        """A line for the caller, where it can be shown."""

    def conclude(self, line: str) -> None:
        """The session ends: tell the caller, end at the target."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """An operation that is being decided: how it is shown, who is told when it is held, whether that was done."""

    shown: str
    tell: Tell
    task: asyncio.Task[Any] | None
    told: bool = False


class SshSession:
    """``run()`` returns the reason it ended; it never raises for what a peer or the policy did."""

    def __init__(self, session: Session, gate: DataPath, caller: CallerConnection, resource: SshResource,
                 towards: Callable[[], Towards]) -> None:
        """``towards`` gives the way to targets that is in force now."""
        self.session, self.gate, self.caller, self.resource = session, gate, caller, resource
        self._towards = towards
        self._ways: set[Towards] = set()
        self.channels: set[Channel] = set()
        self.running: set[Running] = set()
        self.bytes = self.denials = 0
        self.recorded = False
        """Its end is on record."""
        self._tasks = Supervisor()
        self._waiting: list[_Waiting] = []
        self.forwards = Forwards(self)
        self._own = OwnConnections(session, self.forwards.opened)
        self._over: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next_look: asyncio.TimerHandle | None = None
        self._draining = ""
        self._limits: tuple[Policy, SessionLimits] | None = None
        self._plan: tuple[Policy, Plan] | None = None
        self._active = asyncio.get_running_loop().time()

    # --- what ends it

    @property
    def over(self) -> bool:
        """It has been asked to end."""
        return self._over.done()

    def end(self, reason: str) -> None:
        """Ask the session to end; safe to call from anywhere on the loop, more than once."""
        self._conclude(Ended(reason, f"session ended: {reason}"))

    def drain(self, reason: str) -> None:
        """Ask it to end once what is running has ended; at once where nothing is."""
        self._draining = reason
        self.rested()

    def rested(self) -> None:
        """Something has ended: maybe it was the last. A restricted shell at its prompt runs nothing."""
        if self._draining and not self._waiting and all(one.verb == "restricted-shell" for one in self.running):
            self.end(self._draining)

    def left(self, reason: str) -> None:
        """The caller's connection is gone."""
        if not self.gone.done():
            self.gone.set_result(None)
        self._conclude(Ended(reason))

    def _conclude(self, ended: Ended) -> None:
        if not self._over.done():
            self._over.set_result(ended)

    async def ended(self) -> None:
        """Until it has been asked to end."""
        await asyncio.shield(self._over)

    def check(self) -> None:
        """Raises ``SessionOver`` where nothing new may begin."""
        if self.over:
            raise SessionOver("the session is over")
        if self._draining:
            raise SessionOver(self._draining)

    def outlived(self, over: SessionOver) -> None:
        """Something found the session over."""
        if not self._draining:
            self.end(str(over))

    def mistrusted(self, fault: TargetFault) -> None:
        """The target is not who it should be: nothing more goes there."""
        self._conclude(Ended(f"target: {fault}", f"session ended: {fault}"))

    # --- what runs on it

    def start(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """A task of this session's."""
        return self._tasks.start(work, name)

    def desk(self, tell: Tell, *, wait: bool = True, context: dict[str, str] | None = None) -> SessionDesk:
        """The desk for one channel."""
        return SessionDesk(self, tell, wait=wait, context=context)

    def touch(self) -> None:
        """Something happened: it is not idle."""
        self._active = asyncio.get_running_loop().time()

    def deliver(self, size: int) -> int:
        """How many of ``size`` bytes may still be sent to the caller; the session ends with the last one."""
        self.touch()
        most = self.limits.bytes
        if most is None or self.bytes + size <= most:
            self.bytes += size
            return size
        fits = max(most - self.bytes, 0)
        self.bytes += fits
        self.end(f"the session has sent its {most} bytes")
        return fits

    def refused(self, no: Refused) -> None:
        """Count a denial; too many end the session."""
        if no.code in ("held", "withdrawn"):
            return
        self.denials += 1
        most = self.limits.denials
        if most is not None and self.denials >= most:
            self.end(f"{self.denials} denied commands")

    @contextmanager
    def waiting(self, shown: str, tell: Tell) -> Iterator[None]:
        """While an operation is decided: it may be held, and then its caller is told."""
        entry = _Waiting(shown, tell, asyncio.current_task())
        self._waiting.append(entry)
        try:
            yield
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
            self.touch()

    async def _told(self, view: ApprovalView) -> None:
        """Each request is told of once, to the channel that asked with this text."""
        untold = [one for one in self._waiting if not one.told]
        found = next((one for one in untold if one.shown == view.text), untold[0] if untold else None)
        if found is not None:
            found.told = True
            found.tell(notice(view))

    def withdraw(self, task: asyncio.Task[Any] | None, reason: str) -> None:
        """A channel that waits is given up by its caller; what others wait for stays."""
        if len(self._waiting) == 1 and self._waiting[0].task is task:
            self.gate.approvals.withdraw_session(self.session.id, reason)
        elif task is not None:
            task.cancel()

    @property
    def held(self) -> bool:
        """Something is being decided."""
        return bool(self._waiting)

    def hidden(self, text: str) -> str:
        """As the log may show it: without what the gateway keeps secret."""
        for secret in self.gate.secrets():
            for line in {secret, *secret.splitlines()}:
                if len(line) >= 12:
                    text = text.replace(line, "****")
        return without_tokens(text)

    def masker(self) -> StreamMasker | None:
        """A masker for one stream to the caller: what the policy hides, and always what the gateway keeps secret. Raises ``Refused`` where
        there can be none."""
        plan = self._mask_plan()
        return StreamMasker(plan, self.resource.hold) if plan else None

    def _mask_plan(self) -> Plan:
        policy = self.gate.policy
        if self._plan is None or self._plan[0] is not policy:
            masks = policy.masks(self.session.identity, self.session.resource, self.gate.now())
            try:
                self._plan = (policy, Plan((secret.encode() for secret in self.gate.secrets()), masks))
            except ValueError as wrong:
                raise Refused(f"what has to be masked here cannot be: {wrong}") from None
        return self._plan[1]

    @property
    def masks_detect(self) -> bool:
        """Whether anything is looked for in what passes, besides the gateway's own secrets."""
        return bool(self.gate.policy.masks(self.session.identity, self.session.resource, self.gate.now()).detect)

    def recorder(self, terminal: Terminal | None, wanted: Program, env: Mapping[bytes, bytes] | None = None) -> Recorder | None:
        """What keeps a program's output for replay, begun with the variables it was given; ``None`` where nothing of it is kept. Raises
        ``Refused`` where they cannot be masked."""
        kept = self.resource.recording
        if not kept.output:
            return None
        shape = (terminal.kind, terminal.size[0], terminal.size[1]) if terminal is not None else None
        now = asyncio.get_running_loop().time()
        made = ChannelRecorder(kept.output, now, shape, keep_input=kept.input)
        for name, value in (env or {}).items():
            made.env(self._masked(name), self._masked(value), now)
        return made

    def _masked(self, said: bytes) -> str:
        """As a stream to the caller would show it. Raises ``Refused`` where it cannot be masked."""
        masker = self.masker()
        return printable((masker.feed(said) + masker.end() if masker is not None else said).decode("utf-8", "surrogateescape"))

    def record(self, kind: str, fields: Mapping[str, Any], recording: bytes | None = None) -> asyncio.Future[int]:
        """One record of this session."""
        return self.gate.audit.record(kind, session_fields(self.session, self.gate.policy) | dict(fields), recording)

    def tell_all(self, line: str) -> None:
        """A line for the caller that belongs to no channel: on every one that shows it."""
        for channel in list(self.channels):
            channel.tell(line)

    async def upstream(self, *, own: bool = False) -> Upstream:
        """A connection to the target with room for one more channel; to be given back. ``own``: no other session is on it. Raises
        ``TargetFault``, ``SessionOver`` or ``AuditUnavailable``."""
        towards = self._towards()
        if not own:
            self._ways.add(towards)
            return await towards.shared(self.session, self._resource())
        return await self._own.taken(towards, self._resource())

    async def while_open(self, work: Awaitable[T]) -> T:
        """Its result; given up once the session is over. Raises ``SessionOver`` then."""
        task = asyncio.ensure_future(work)
        try:
            either: list[asyncio.Future[Any]] = [task, self._over]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise SessionOver("the session is over")
        finally:
            task.cancel()

    def _resource(self) -> SshResource:
        """As the policy in force has it. Raises ``TargetFault``."""
        found = self.gate.policy.resources.get(self.session.resource)
        if not isinstance(found, SshResource) or self.session.login not in found.logins:
            raise TargetFault(f"{self.session.resource} has no login {self.session.login} any more")
        return found

    # --- its life

    @property
    def limits(self) -> SessionLimits:
        """The bounds that hold now; asked of the policy once per policy and once per look of the watch."""
        if self._limits is None or self._limits[0] is not self.gate.policy:
            policy = self.gate.policy
            self._limits = (policy, policy.session_limits(self.session.identity, self.session.resource, self.gate.now()))
        return self._limits[1]

    async def run(self) -> str:
        """Until something ends it; tell the caller, end what runs, record why."""
        self.gate.approvals.listen(self.session.id, self._told)
        ended = Ended("internal error")
        try:
            self._look()
            ended = await asyncio.shield(self._over)
        except asyncio.CancelledError:
            ended = Ended("gateway stopping", "the gateway is stopping")
            self._conclude(ended)
            raise
        finally:
            if self._next_look is not None:
                self._next_look.cancel()
            await self._close(ended)
        return ended.reason

    async def _close(self, ended: Ended) -> None:
        try:
            await self._wind_up(ended)
        finally:                                                 # whatever went wrong: its end is on record
            last = [done for one in list(self.running) if (done := one.finish("cancelled", error="session over")) is not None]
            await asyncio.wait([self.record_end(ended.reason), *last], timeout=LAST_WAIT)

    async def _wind_up(self, ended: Ended) -> None:
        self.gate.approvals.unlisten(self.session.id)
        self.gate.approvals.withdraw_session(self.session.id, ended.reason)
        for channel in list(self.channels):
            channel.conclude(ended.told)
        await asyncio.sleep(0)
        await self._tasks.drain(LAST_WAIT if ended.told else 1.0)
        if ended.told:
            await self._let_go()
            self.caller.disconnect(asyncssh.DISC_BY_APPLICATION, f"lockgate: {ended.told}")
        await self._tasks.close()
        self._own.close()
        for towards in self._ways:
            towards.left(self.session)

    async def _let_go(self) -> None:
        """A client that is told of its connection's end first forgets how its commands ended: it gets a moment to close them, and to go."""
        had = self.caller.channels
        if had:
            await self.caller.without_channels(LAST_WAIT)
            await asyncio.wait([self.gone], timeout=0.5)

    def record_end(self, reason: str) -> asyncio.Future[int]:
        """The ``session.end`` record."""
        self.recorded = True
        fields = session_fields(self.session, self.gate.policy)
        fields.update(reason=reason, rows=0, bytes=self.bytes, denials=self.denials)
        return self.gate.audit.record("session.end", fields)

    def _look(self) -> None:
        """Once a second: what may end a session while nothing passes."""
        self._limits = None
        try:
            ended = self._found_over()
        except Exception as error:
            log.error("session failed: %s", type(error).__name__)
            ended = Ended("internal error", "internal error of the gateway")
        if ended is not None:
            self._conclude(ended)
        else:
            self._next_look = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)

    def _found_over(self) -> Ended | None:
        limits = self.limits
        if reason := self.gate.policy.ended(self.session, self.gate.now()):
            return Ended(reason, f"session ended: {reason}")
        offered = self.gate.policy.resources.get(self.session.resource)
        if not isinstance(offered, SshResource) or self.session.login not in offered.logins:
            reason = f"{self.session.resource} no longer has the login {self.session.login}"
            return Ended(reason, f"session ended: {reason}")
        quiet = asyncio.get_running_loop().time() - self._active
        busy = self.held or any(channel.busy for channel in self.channels)
        if limits.idle is not None and not busy and quiet >= limits.idle:
            return Ended("idle", f"session ended: idle for {limits.idle:g} s")
        for running in list(self.running):
            self._look_at(running)
        return None

    def _look_at(self, running: Running) -> None:
        """What runs on without a byte of the caller's is looked at too."""
        try:
            running.still()
        except Refused as no:
            if running.stop is not None:
                running.stop(no)
        except SessionOver as over:
            self.end(str(over))


