# SPDX-License-Identifier: Apache-2.0
"""The I/O of SFTP: reads both sides, drives the plans, moves READ and WRITE.

Requests keep their order where order means something: what changes a path waits for everything before it on that path, above or below it;
what comes for a handle waits for what is decided on that handle. Everything else goes on while one request is held for approval. Both ways
are bounded: requests unanswered, requests being decided, bytes read and not yet delivered; then the caller is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from struct import Struct
from typing import Any

from gateway.errors import AuditUnavailable, ClientFault, Fault, Refused, SessionOver, TargetFault
from gateway.protocols.ssh.desk import Running
from gateway.protocols.ssh.files import KEEPS, KEEPS_OF_ONE, FileDesk, FileLimits, Pipe, told
from gateway.protocols.ssh.sftp import machine
from gateway.protocols.ssh.sftp import messages as m
from gateway.protocols.ssh.sftp.codec import MAX_DATA, U32, U64, PacketReader
from gateway.protocols.ssh.sftp.handles import Opened
from gateway.protocols.ssh.sftp.moving import Moving
from gateway.protocols.ssh.sftp.transfer import Transfer
from gateway.protocols.ssh.sftp.wire import Asked

UNKNOWN = 100
"""Kinds of requests not understood, at most, that are recorded by name."""
LINGER = 5.0
"""Seconds that what is under way has to end once the caller sends no more."""

_MOVE = Struct(">IBII4sQI")
"""READ, and WRITE up to its bytes, with a handle of ours: length, kind, id, 4, handle, offset, count."""


async def serve_sftp(caller: Pipe, target: Pipe, desk: FileDesk, limits: FileLimits) -> None:
    """Serve one SFTP channel until either side ends it.

    Raises ``SessionOver``, ``AuditUnavailable``, and ``ClientFault`` or ``TargetFault`` for a side that broke the protocol.
    """
    await SftpProxy(caller, target, desk, limits).run()


class _Ended(Exception):
    """A side has no more to say."""


class SftpProxy(Moving):
    """One channel."""

    async def run(self) -> None:
        """See ``serve_sftp``."""
        ended = "the channel ended"
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._begin()
                group.create_task(self._from_target())
                await self._from_caller()
                await self._last_answers()
                raise _Ended
        except BaseExceptionGroup as problems:
            fault = _worst(problems)
            if fault is not None:
                ended = str(fault)
                raise fault from None
        finally:
            for opened in self._handles:
                if not opened.refusal:
                    self._finish(opened, "cancelled", ended)

    # --- the beginning and the end ---

    async def _begin(self) -> None:
        """INIT and VERSION, and where relative paths begin."""
        m.parse_hello(*await self._packet(self._caller, self._requests), m.INIT, ClientFault)
        self._target.write(m.hello(m.INIT, {}))
        _, extensions = m.parse_hello(*await self._packet(self._target, self._answers), m.VERSION_ANSWER, TargetFault)
        self._target.write(m.encode_request(0, m.Realpath(b".")))
        data, at, end = await self._packet(self._target, self._answers)
        if end - at < 9 or U32.unpack_from(data, at + 5)[0] != 0:
            raise TargetFault("the target answered a request that was not made")
        self._home = machine.one_path(m.parse_answer(m.Realpath, data, at, end))
        self._caller.write(m.hello(m.VERSION_ANSWER, machine.offered(extensions)))
        await self._caller.drain()

    async def _packet(self, side: Pipe, reader: PacketReader) -> tuple[bytes, int, int]:
        while (place := reader.next()) is None:
            data = await side.read()
            if not data:
                raise _Ended
            reader.feed(data)
        return place

    async def _last_answers(self) -> None:
        """The caller sends no more: what it asked for is still done, as sftp-server does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while self._deciding or self._asked:
                    self._room.clear()
                    await self._room.wait()
        self._target.write_eof()

    # --- from the caller ---

    async def _from_caller(self) -> None:
        while True:
            while (place := self._requests.next()) is not None:
                self._request(*place)
                while self._crowded():
                    self._room.clear()
                    await self._room.wait()
            await self._target.drain()
            data = await self._caller.read()
            if not data:
                return
            self._requests.feed(data)

    def _crowded(self) -> bool:
        limits = self._limits
        return len(self._asked) >= limits.requests or self._deciding >= limits.deciding or self._reading > limits.reading

    def _request(self, data: bytes, at: int, end: int) -> None:
        if (data[at + 4] == m.READ or data[at + 4] == m.WRITE) and end - at >= _MOVE.size:
            _, kind, number, size, handle, offset, length = _MOVE.unpack_from(data, at)
            opened = self._handles.get(handle) if size == 4 else None
            if opened is not None and opened.waiting is None and end - at == _MOVE.size + (length if kind == m.WRITE else 0):
                if kind == m.READ:
                    self._read(number, opened, offset, length)
                else:
                    self._write(number, opened, offset, memoryview(data)[at + _MOVE.size:end])
                return
        self._dispatch(*m.parse_request(data, at, end))

    def _dispatch(self, number: int, request: m.Message) -> None:
        """Everything but a READ or WRITE that can go at once."""
        if isinstance(request, m.Unknown):
            self._refuse_unknown(number, request)
        elif machine.on_path(request):
            self._start_plan(number, request)
        elif isinstance(request, m.CopyData):
            self._copy(number, request)
        elif isinstance(request, m.Realpath | m.ExpandPath | m.Limits):
            self._send(Asked(type(request), number), request)
        else:
            self._on_handle(number, request)

    def _on_handle(self, number: int, request: Any) -> None:
        opened = self._handles.get(request.handle)
        if opened is None:
            self._answer(number, m.failed("this handle is not open"))
        elif opened.waiting is not None:
            opened.waiting.append((number, request))
            self._deciding += 1                    # so that they are bounded
        elif isinstance(request, m.Close):
            self._close(number, opened)
        elif isinstance(request, m.Read):
            self._read(number, opened, request.offset, request.length)
        elif isinstance(request, m.Write):
            self._write(number, opened, request.offset, memoryview(request.data))
        elif not self._usable(number, opened):
            return
        elif isinstance(request, m.Readdir) != opened.directory and not isinstance(request, m.Fstat | m.Fstatvfs | m.Fsetstat):
            self._answer(number, m.failed(f"{m.NAMES[type(request)]}: not that kind of handle"))
        elif isinstance(request, m.Fsetstat):
            self._set_attributes(number, request, opened)
        else:
            opened.outstanding += 1
            self._send(Asked(type(request), number, opened), type(request)(opened.theirs))

    def _refuse_unknown(self, number: int, request: m.Unknown) -> None:
        """Never forwarded; recorded once by name."""
        answer = m.failed(f"{request.name} is not supported", m.OP_UNSUPPORTED)
        if request.name in self._unsupported or len(self._unsupported) >= UNKNOWN:
            self._answer(number, answer)
        else:
            self._unsupported.add(request.name)
            self._spawn(self._record_unknown(number, request.name, answer))

    async def _record_unknown(self, number: int, name: str, answer: m.Status) -> None:
        await self._record_refusal(f"sftp {name}", f"{name} is not a request that is understood")
        self._answer(number, answer)
        await self._caller.drain()

    # --- what has to be decided ---

    def _start_plan(self, number: int, request: m.Message) -> None:
        opens = isinstance(request, m.Open | m.Opendir)
        if opens and len(self._handles) + self._opening >= self._limits.handles:
            self._answer(number, m.failed(f"too many open files on this channel: at most {self._limits.handles}"))
            return
        try:
            paths = machine.paths_of(request, self._home)
        except Refused:                     # its plan says so
            paths = ()
        turn = self._order.enter(paths, alone=machine.changes(request))
        self._opening += opens
        self._spawn(self._planned(number, request, turn, opens))

    async def _planned(self, number: int, request: m.Message, turn: Any, opens: bool) -> None:
        try:
            with turn:
                await turn.come()
                await self._follow(number, machine.plan(request, self._home), f"sftp {m.NAMES[type(request)]}")
        finally:
            self._opening -= opens

    def _set_attributes(self, number: int, request: m.Fsetstat, opened: Opened) -> None:
        opened.waiting = deque()
        self._spawn(self._on_opened(number, machine.set_attributes(request, opened), "sftp fsetstat", (opened,)))

    def _copy(self, number: int, request: m.CopyData) -> None:
        source, destination = self._handles.get(request.source), self._handles.get(request.destination)
        if source is None or destination is None:
            self._answer(number, m.failed("this handle is not open"))
            return
        if source.waiting is not None or destination.waiting is not None:
            self._answer(number, m.failed("copy-data: something else on these files is still being decided"))
            return
        if self._usable(number, source) and self._usable(number, destination):
            source.waiting, destination.waiting = deque(), deque()
            self._spawn(self._on_opened(number, machine.copy_data(request, source, destination), "sftp copy-data", (source, destination)))

    async def _on_opened(self, number: int, plan: machine.Plan, text: str, held: tuple[Opened, ...]) -> None:
        """A plan on handles; what comes for them meanwhile waits."""
        try:
            await self._follow(number, plan, text)
        finally:
            for opened in held:
                waiting, opened.waiting = opened.waiting or (), None
                self._deciding -= len(waiting)
                for later, request in waiting:         # one of them may make the rest wait again
                    self._on_handle(later, request)

    async def _follow(self, number: int, plan: machine.Plan, text: str) -> None:
        """Drive a plan to its end, answer, record."""
        running: Running | None = None
        recorded = False
        try:
            step = plan.send(None)
            while True:
                if isinstance(step, machine.Ask):
                    step = plan.send(await self._ask(step.request))
                else:
                    text, recorded = step.text, True
                    running = await self._desk.run(step.operations, text)
                    step = plan.send(running)
        except StopIteration as done:
            self._done(number, done.value, running)
        except Refused as no:
            if running is not None:
                running.finish("refused", error=str(no))
            elif not recorded:
                await self._record_refusal(text, str(no))
            self._answer(number, m.denied(told(no)))
            self._say(told(no))
        except BaseException:
            if running is not None:
                running.finish("cancelled")
            raise
        await self._caller.drain()

    def _done(self, number: int, outcome: machine.Outcome, running: Running | None) -> None:
        answer, opened = outcome.answer, outcome.opened
        if opened is not None and running is not None:
            opened.running = running
            opened.transfer = Transfer(min(self._limits.content, KEEPS_OF_ONE, KEEPS - self._kept))
            self._kept += opened.transfer.keeps
            answer = m.Handle(self._handles.add(opened))
        elif running is not None:
            bad = isinstance(answer, m.Status) and answer.code not in (m.OK, m.EOF)
            running.finish("error" if bad else "ok", error=answer.name if bad and isinstance(answer, m.Status) else "")
        self._answer(number, answer)

    # --- from the target ---

    async def _from_target(self) -> None:
        while True:
            while (place := self._answers.next()) is not None:
                self._answered(*place)
            await self._caller.drain()
            data = await self._target.read()
            if not data:
                raise _Ended
            self._answers.feed(data)

    def _answered(self, data: bytes, at: int, end: int) -> None:
        asked = self._asked.pop(U32.unpack_from(data, at + 5)[0], None) if end - at >= 9 else None
        if asked is None:
            raise TargetFault("the target answered a request that was not made")
        self._room.set()
        if asked.kind is m.Read and asked.future is None and data[at + 4] == m.DATA:
            self._data(asked, data, at, end)
            return
        answer = m.parse_answer(asked.kind, data, at, end)
        if asked.future is not None:
            if not asked.future.done():
                asked.future.set_result(answer)
            return
        self._relay(asked, answer)

    def _relay(self, asked: Asked, answer: m.Message) -> None:
        """An answer to the caller, as it came but for its id."""
        opened = asked.opened
        if isinstance(answer, m.Status) and opened is not None and answer.code not in (m.OK, m.EOF):
            opened.error = opened.error or answer.name
        if opened is not None and asked.kind is m.Close:
            self._handles.remove(opened)
            if not opened.refusal:
                self._finish(opened, "error" if opened.error else "ok", opened.error)
        if asked.kind is m.Limits and isinstance(answer, m.Reply):
            answer = m.Reply(self._limited(answer.body))
        self._answer(asked.number, answer)
        if opened is not None and asked.kind is not m.Close:
            self._settled(asked, opened)

    def _limited(self, body: bytes) -> bytes:
        """The smaller of the target's limits and the gateway's: packet, read, write, open handles."""
        ours = (self._limits.message, MAX_DATA, MAX_DATA, self._limits.handles)
        theirs = (U64.unpack_from(body, 8 * place)[0] for place in range(4))
        return b"".join(U64.pack(min(own, their) if their else own) for own, their in zip(ours, theirs, strict=True))

def _worst(problems: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The one that has to be told; ``None`` where a side has just ended."""
    found: list[BaseException] = []
    for problem in problems.exceptions:
        found.append(problem if not isinstance(problem, BaseExceptionGroup) else _worst(problem) or _Ended())
    for kind in (AuditUnavailable, SessionOver, TargetFault, ClientFault, Fault):
        for problem in found:
            if isinstance(problem, kind):
                return problem
    return next((problem for problem in found if not isinstance(problem, _Ended | asyncio.CancelledError)), None)
