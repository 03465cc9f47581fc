# SPDX-License-Identifier: Apache-2.0
"""The first process's end: it starts the workers, answers what only all of them together can know, and replaces one that died.

A worker that dies takes its own sessions with it and nothing else: what those waited for is withdrawn, the others never notice. Its
listening sockets stay open here, so that who connects meanwhile waits for the next worker; if that one dies at once too, they are closed
until a worker lives, and the kernel gives its share of callers to the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.approvals.view import ApprovalView
from gateway.datapath import Change, cannot_listen
from gateway.errors import ConfigError, Fault, GatewayFault, Refused
from gateway.model import Session
from gateway.net.server import Supervisor, bound
from gateway.workers.documents import CAPS, COMMAND, DECISION, SESSION, VIEW, rows_read
from gateway.workers.link import Link, LinkLost
from gateway.workers.meter import CONNECTIONS, Meter, Rows
from gateway.workers.seat import Granted

if TYPE_CHECKING:
    from gateway.build import Gateway

log = logging.getLogger("gateway.workers")

BEGIN, ANSWER = 120.0, 60.0
"""Seconds a worker has to begin, and to answer what takes no time; one that does not is killed, and replaced."""
PING_EVERY = 5.0
STEADY = 10.0
"""A worker that served for so many seconds is replaced at once; one that did not, after a while that doubles."""
SOON, LATE = 0.5, 30.0
FRAME = 2**20
_NOT_THEIRS = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "RUNTIME_DIRECTORY"})
"""What systemd says to the first process alone."""


@dataclass(slots=True)
class Member:
    """One worker's place, whoever holds it now. ``number`` is from 1; ``problem`` is why its log cannot be written."""

    number: int
    sockets: dict[str, list[socket.socket]] = field(default_factory=dict)
    process: Process | None = None
    link: Link | None = None
    serving: bool = False
    problem: str = ""
    sessions: dict[str, Session] = field(default_factory=dict)

    def close_sockets(self) -> None:
        for mine in self.sockets.values():
            for one in mine:
                one.close()
        self.sockets = {}


@dataclass(frozen=True, slots=True)
class Named:
    """A policy by its digest alone."""

    digest: str


class Crew:
    """All workers of one gateway."""

    def __init__(self, gateway: Gateway, count: int) -> None:
        self._gateway = gateway
        limits = gateway.folder.gateway.limits
        self._members = [Member(number) for number in range(1, count + 1)]
        self._meter = Meter.make(limits.connections + 2, count)
        self._rows = Rows(limits.connections + 2)
        self._frame = 2 * limits.message + FRAME
        self._tasks = Supervisor()
        self._changing = asyncio.Lock()
        self._stopping = False
        self._replaced = 0
        gateway.watching.asked = self._watched
        self.address: dict[str, tuple[str, int]] = {}
        """Where each listener really listens."""

    @property
    def counts(self) -> Mapping[str, int]:
        """configured, serving, replaced."""
        return {"configured": len(self._members), "serving": sum(one.serving for one in self._members), "replaced": self._replaced}

    @property
    def audit_available(self) -> bool:
        """Whether every worker that serves could write records when it was last asked."""
        return not any(one.serving and one.problem for one in self._members)

    # --- starting, and starting again

    async def start(self) -> None:
        """Bind the listeners and begin. Raises what keeps a worker from beginning: ``ConfigError``, ``GatewayFault``."""
        self._bind(self._members)
        async with asyncio.TaskGroup() as group:
            beginning = [group.create_task(self._tried(member)) for member in self._members]
        if problem := next((one.result() for one in beginning if one.result() is not None), None):
            await self.stop("a worker could not begin")
            raise problem
        for member in self._members:
            self._tasks.start(self._keep(member), f"worker {member.number}")

    async def _began(self, member: Member) -> Fault | None:
        """As ``_tried``, not while the policy changes."""
        async with self._changing:
            return await self._tried(member)

    async def _tried(self, member: Member) -> Fault | None:
        """What kept it from beginning."""
        try:
            await self._begin(member)
        except Fault as fault:
            return fault
        except OSError as error:
            return GatewayFault(f"its process could not be started: {error.strerror}")
        return None

    def _bind(self, members: list[Member]) -> None:
        for name, settings in self._gateway.folder.gateway.listeners.items():
            if name == "console":
                continue
            host, port = settings.place
            if name in self.address:
                port = self.address[name][1]
            try:
                shares = bound(host, port, len(members), shared=name in self.address)
            except OSError as error:
                raise cannot_listen(name, settings, error) from None
            for member, mine in zip(members, shares, strict=True):
                member.sockets[name] = mine
            self.address.setdefault(name, shares[0][0].getsockname()[:2])

    async def _begin(self, member: Member) -> None:
        """One process, until it serves. Raises the fault it began with."""
        await self._spawn(member)
        assert member.link is not None
        try:
            async with asyncio.timeout(BEGIN):
                await member.link.call("begin", self._beginning(member))
        except TimeoutError:
            await self._bury(member)
            raise GatewayFault(f"worker {member.number} did not begin in time") from None
        except Fault:
            await self._bury(member)
            raise
        member.serving, member.problem = True, ""
        log.info("worker %d serves (process %d)", member.number, member.process.pid if member.process else 0)

    def _beginning(self, member: Member) -> dict[str, Any]:
        folder = self._gateway.folder
        return {"worker": member.number, "workers": len(self._members), "folder": str(folder.path), "digest": self._gateway.policy.digest,
                "meter": self._meter.fd, "rows": self._meter.rows,
                "sockets": {name: [one.fileno() for one in mine] for name, mine in member.sockets.items()}}

    async def _spawn(self, member: Member) -> None:
        if self._stopping:
            raise GatewayFault("the gateway is stopping")
        if not member.sockets:
            self._bind([member])
        ours, theirs = socket.socketpair()
        with theirs:
            shared = [theirs.fileno(), self._meter.fd, *(one.fileno() for mine in member.sockets.values() for one in mine)]
            member.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway.workers.worker", str(theirs.fileno()), str(self._frame),
                logging.getLevelName(log.getEffectiveLevel()), pass_fds=shared, stdin=DEVNULL, env=_environment())
        member.link = await Link.over(ours, self._answers(member), self._hears(member), self._frame)
        self._tasks.start(member.link.run(), f"link {member.number}")

    async def _keep(self, member: Member) -> None:
        """Watch one that serves, and put another in its place when it is gone, until the gateway stops."""
        delay = SOON
        while True:
            began = time.monotonic()
            await self._watch(member)
            await self._bury(member)
            if self._stopping:
                return
            self._replaced += 1
            if time.monotonic() - began >= STEADY:
                delay = SOON
            else:
                delay = await self._wait(member, delay)
            while (problem := await self._began(member)) is not None:
                log.error("worker %d could not begin: %s", member.number, problem)
                delay = await self._wait(member, delay)

    @staticmethod
    async def _wait(member: Member, delay: float) -> float:
        """Its share of callers goes to the others for so long; gives how long the next time."""
        member.close_sockets()
        await asyncio.sleep(delay)
        return min(2 * delay, LATE)

    async def _watch(self, member: Member) -> None:
        """Until it is gone. One that does not answer any more is killed."""
        link, process = member.link, member.process
        assert link is not None and process is not None
        while not link.lost.is_set():
            try:
                async with asyncio.timeout(ANSWER):
                    member.problem = (await link.call("ping"))["audit"]
            except TimeoutError:
                log.error("worker %d does not answer", member.number)
                return
            except GatewayFault:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_EVERY):
                    await link.lost.wait()

    async def _bury(self, member: Member) -> None:
        """It is gone, or has to go: what its sessions held is free, and what they waited for withdrawn."""
        served, member.serving = member.serving, False
        link, process, member.link, member.process = member.link, member.process, None, None
        if link is not None:
            await link.close()
        if process is not None:
            if process.returncode is None and not self._stopping:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
            if served and not self._stopping:
                log.error("worker %d (process %d) ended with status %s: its %d sessions are over", member.number, process.pid,
                          process.returncode, len(member.sessions))
        for session_id in list(member.sessions):
            self._left(member, session_id, "the process that served it ended")
        self._meter.clear(CONNECTIONS, member.number - 1)

    # --- a new folder

    @asynccontextmanager
    async def following(self, change: Change) -> AsyncIterator[None]:
        """All workers can follow, or it raises ``ConfigError``; they do once the block ends well. None begins meanwhile."""
        async with self._changing:
            about = {"folder": str(change.folder.path), "digest": change.policy.digest}
            serving = [member for member in self._members if member.serving]
            try:
                await self._ask_all(serving, "prepare", about)
                yield
            except BaseException:
                for member in serving:
                    if member.link is not None:
                        member.link.tell("abandon")
                raise
            await asyncio.gather(*(self._commit(member) for member in serving))

    async def _ask_all(self, members: list[Member], name: str, about: Any) -> None:
        answers = await asyncio.gather(*(self._ask(member, name, about) for member in members), return_exceptions=True)
        for member, answer in zip(members, answers, strict=True):
            if isinstance(answer, LinkLost):
                continue                                    # another will begin, with the folder that is in force then
            if isinstance(answer, Fault | TimeoutError):
                raise ConfigError(f"worker {member.number}: {answer if isinstance(answer, Fault) else 'it did not answer in time'}")
            if isinstance(answer, BaseException):
                raise answer

    @staticmethod
    async def _ask(member: Member, name: str, about: Any = None) -> None:
        if member.link is not None:
            async with asyncio.timeout(ANSWER):
                await member.link.call(name, about)

    async def _commit(self, member: Member) -> None:
        """One that does not follow now may not go on with the old policy."""
        try:
            await self._ask(member, "commit")
        except (Fault, TimeoutError) as fault:
            log.error("worker %d does not follow the new policy and is replaced: %s", member.number, fault)
            if member.link is not None:
                await member.link.close()

    # --- the end

    async def stop(self, reason: str) -> None:
        """Let every worker drain, for a bounded time. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        for member in self._members:
            member.close_sockets()
        await asyncio.gather(*(self._stop(member, reason) for member in self._members))
        await self._tasks.close()
        for member in self._members:
            await self._bury(member)
        self._meter.close()

    async def _stop(self, member: Member, reason: str) -> None:
        link, process = member.link, member.process
        if link is None or process is None:
            return
        try:
            async with asyncio.timeout(self._gateway.folder.gateway.limits.drain + ANSWER):
                with contextlib.suppress(Fault):
                    await link.call("stop", reason)
                await process.wait()
        except TimeoutError:
            log.error("worker %d does not stop and is killed", member.number)
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    # --- what workers ask

    def _answers(self, member: Member) -> dict[str, Any]:
        async def enter(about: Any) -> int:
            session = SESSION.read(about["session"])
            self._gateway.live.admit(session, CAPS.read(about["caps"]), lambda reason: _end(member, session.id, reason))
            member.sessions[session.id] = session
            try:
                row = self._rows.row_of(session.identity.name, self._gateway.live.of_identity)
            except BaseException:
                self._left(member, session.id, "refused")
                raise
            self._gateway.approvals.listen(session.id, lambda view: _tell(member, view))
            return row

        async def obtain(about: Any) -> str:
            command, decision = COMMAND.read(about["command"]), DECISION.read(about["decision"])
            given = await self._gateway.approvals.obtain(_session(member, about), command, decision, Named(about["policy"]))
            return given.id

        async def use(about: Any) -> None:
            session, desk = _session(member, about), self._gateway.approvals
            held = desk.show(about["approval"])
            if held is None or held.user is None or held.user.id != session.id:
                raise Refused("there is no such approval for this session", "denied", str(about["approval"])[:64])
            await self._gateway.audit.record("approval.used", desk.consumed(Granted(held.id)))

        async def cancel(about: Any) -> None:
            if (link := self._members[about["worker"]].link) is not None:
                await link.call("cancel", {"pid": about["pid"], "secret": about["secret"]})

        async def shown(about: Any) -> None:
            if about["session"] in member.sessions:
                self._gateway.watching.shown(about["session"], None if about["rows"] is None else rows_read(about["rows"]))

        return {"enter": enter, "obtain": obtain, "use": use, "cancel": cancel, "shown": shown}

    def _watched(self, session_id: str, on: bool) -> None:
        """Somebody begins to watch a session of a worker's, or nobody does any more."""
        for member in self._members:
            if session_id in member.sessions and member.link is not None:
                member.link.tell("watch" if on else "unwatch", session_id)

    def _hears(self, member: Member) -> dict[str, Any]:
        def withdraw(about: Any) -> None:
            if about["session"] in member.sessions:
                self._gateway.approvals.withdraw_session(about["session"], about["reason"])

        return {"leave": lambda about: self._left(member, about, "the session is over"), "withdraw": withdraw}

    def _left(self, member: Member, session_id: str, reason: str) -> None:
        if member.sessions.pop(session_id, None) is not None:
            self._gateway.live.remove(session_id)
            self._gateway.approvals.unlisten(session_id)
            self._gateway.approvals.withdraw_session(session_id, reason)


def _session(member: Member, about: Mapping[str, Any]) -> Session:
    """A session that this worker was let begin: it cannot speak for another's."""
    found = member.sessions.get(about["session"])
    if found is None:
        raise GatewayFault("no session of this worker")
    return found


def _end(member: Member, session_id: str, reason: str) -> None:
    if member.link is not None:
        member.link.tell("end", {"session": session_id, "reason": reason})


async def _tell(member: Member, view: ApprovalView) -> None:
    if member.link is not None:
        await member.link.call("notice", VIEW.write(view))


def _environment() -> dict[str, str]:
    """The worker finds this program where this process did."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_THEIRS}
    return kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
