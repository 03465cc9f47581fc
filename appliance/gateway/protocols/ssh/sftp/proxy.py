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
from collections.abc import Coroutine
from dataclasses import dataclass
from struct import Struct
from typing import Any

from gateway.errors import AuditUnavailable, ClientFault, Fault, Refused, SessionOver, TargetFault
from gateway.model import Operation
from gateway.protocols.ssh.desk import Running
from gateway.protocols.ssh.files import KEEPS, KEEPS_OF_ONE, SAYS, FileDesk, FileLimits, Pipe, finish, told
from gateway.protocols.ssh.sftp import machine
from gateway.protocols.ssh.sftp import messages as m
from gateway.protocols.ssh.sftp.codec import MAX_DATA, MAX_PACKET, U32, U64, PacketReader
from gateway.protocols.ssh.sftp.handles import Handles, Opened
from gateway.protocols.ssh.sftp.names import shown
from gateway.protocols.ssh.sftp.order import Order
from gateway.protocols.ssh.sftp.transfer import Transfer
from gateway.protocols.ssh.sftp.watch import Look, Watch

UNKNOWN = 100
"""Kinds of requests not understood, at most, that are recorded by name."""
LOOK_AGAIN = 1.0
"""Seconds for which what is masked in an open file is not asked anew."""
LINGER = 5.0
"""Seconds that what is under way has to end once the caller sends no more."""

_MOVE = Struct(">IBII4sQI")
"""READ, and WRITE up to its bytes, with a handle of ours: length, kind, id, 4, handle, offset, count."""
_DATA = Struct(">IBII")
"""DATA up to its bytes: length, kind, id, count."""
_PLACE = Struct(">QI")


async def serve_sftp(caller: Pipe, target: Pipe, desk: FileDesk, limits: FileLimits) -> None:
    """Serve one SFTP channel until either side ends it.

    Raises ``SessionOver``, ``AuditUnavailable``, and ``ClientFault`` or ``TargetFault`` for a side that broke the protocol.
    """
    await SftpProxy(caller, target, desk, limits).run()


class _Ended(Exception):
    """A side has no more to say."""


class _Unreadable(Exception):
    """What stands around a range cannot be seen."""


@dataclass(slots=True)
class Asked:
    """A request the target owes an answer to. The caller's is relayed (``number`` is its id), the gateway's own sets ``future``."""

    kind: type[m.Message]
    number: int = 0
    opened: Opened | None = None
    offset: int = 0
    length: int = 0
    watched: bool = False
    future: asyncio.Future[m.Message] | None = None


class SftpProxy:
    """One channel."""

    def __init__(self, caller: Pipe, target: Pipe, desk: FileDesk, limits: FileLimits) -> None:
        self._caller, self._target, self._desk, self._limits = caller, target, desk, limits
        self._requests = PacketReader(ClientFault, min(limits.message, MAX_PACKET))
        self._answers = PacketReader(TargetFault)
        self._asked: dict[int, Asked] = {}
        self._next = 0
        self._handles = Handles(limits.handles)
        self._opening = 0
        self._deciding = 0
        self._reading = self._kept = 0
        self._room = asyncio.Event()
        self._order = Order()
        self._home = "/"
        self._said = 0
        self._unsupported: set[str] = set()
        self._group: asyncio.TaskGroup | None = None

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

    def _usable(self, number: int, opened: Opened) -> bool:
        """Whether the decision of its OPEN still holds; answers where not."""
        if not opened.refusal:
            try:
                self._desk.still(opened.running)
            except Refused as no:
                self._drop(opened, str(no))
        if opened.refusal:
            self._answer(number, m.denied(opened.refusal))
            return False
        return True

    def _read(self, number: int, opened: Opened, offset: int, length: int) -> None:
        if not self._usable(number, opened):
            return
        if not opened.reads:
            self._answer(number, m.denied(f"{shown(opened.path)} was not opened to be read"))
            return
        self._watched(opened)
        length = min(length, MAX_DATA)
        opened.outstanding += 1
        asked = Asked(m.Read, number, opened, offset, length, opened.watch is not None)
        self._reading += length if asked.watched else 0
        own = self._expect(asked)
        theirs = opened.theirs
        self._target.write(b"".join((_DATA.pack(len(theirs) + 21, m.READ, own, len(theirs)), theirs, _PLACE.pack(offset, length))))

    def _write(self, number: int, opened: Opened, offset: int, data: memoryview) -> None:
        if not self._usable(number, opened):
            return
        if not opened.writes:
            self._answer(number, m.denied(f"{shown(opened.path)} was not opened to be written"))
            return
        opened.outstanding += 1
        opened.transfer.writing(offset, data)
        own = self._expect(Asked(m.Write, number, opened))
        theirs, size = opened.theirs, len(data)
        head = _DATA.pack(len(theirs) + 21 + size, m.WRITE, own, len(theirs))
        if len(theirs) + 21 + size > MAX_PACKET:
            raise ClientFault("an SFTP WRITE over the limit")
        self._target.write(b"".join((head, theirs, _PLACE.pack(offset, size), data)))

    def _close(self, number: int, opened: Opened) -> None:
        opened.closing = True
        if opened.refusal:
            self._handles.remove(opened)
            self._answer(number, m.Status(m.OK, b"Success"))
        elif opened.watch is not None and opened.outstanding:
            opened.close = number
        else:
            self._send(Asked(m.Close, number, opened), m.Close(opened.theirs))

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

    def _fresh(self) -> Any:
        return self._desk.masker() or _Nothing()

    async def _record_refusal(self, text: str, reason: str) -> None:
        """Of what does not come to a decision."""
        with contextlib.suppress(Refused):
            await self._desk.refuse((Operation("ssh", text.partition(" ")[2] or text),), text, reason)

    def _say(self, text: str) -> None:
        self._said += 1
        if self._said <= SAYS:
            self._caller.write(f"lockgate: denied: {shown(text)}\r\n".encode(), stderr=True)

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

    def _data(self, asked: Asked, data: bytes, at: int, end: int) -> None:
        if end - at < 13 or U32.unpack_from(data, at + 9)[0] != end - at - 13 or end - at - 13 > asked.length:
            raise TargetFault("the target's answer to read has a strange length")
        opened = asked.opened
        assert opened is not None
        if opened.watch is None:
            self._deliver(asked, opened, memoryview(data)[at + 13:end])
        else:
            self._looked_at(asked, opened, data[at + 13:end])

    def _deliver(self, asked: Asked, opened: Opened, data: bytes | memoryview) -> None:
        opened.transfer.reading(asked.offset, data)
        self._caller.write(b"".join((_DATA.pack(len(data) + 9, m.DATA, asked.number, len(data)), data)))
        self._settled(asked, opened)

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

    def _settled(self, asked: Asked, opened: Opened) -> None:
        """The caller has its answer."""
        opened.outstanding -= 1
        if asked.watched:
            self._reading -= asked.length
            self._room.set()
        if opened.close is not None and not opened.outstanding:
            number, opened.close = opened.close, None
            self._close(number, opened)

    # --- what is read is looked at ---

    def _watched(self, opened: Opened) -> None:
        """Begin, or begin anew, to look at what is read: what is masked may have changed."""
        now = asyncio.get_running_loop().time()
        if now >= opened.look_again:
            opened.look_again = now + LOOK_AGAIN
            opened.watch = Watch(self._fresh) if self._desk.masker() is not None else None

    def _looked_at(self, asked: Asked, opened: Opened, data: bytes) -> None:
        if opened.looking is not None:
            opened.looking.append((asked, data))
            return
        if opened.watch is None:
            self._deliver(asked, opened, data)
            return
        look = opened.watch.look(asked.offset, data)
        try:
            span = next(look)
        except StopIteration as done:
            self._judge(asked, opened, data, clean=done.value)
        else:
            opened.looking = deque()
            self._spawn(self._look_on(asked, opened, data, look, span))

    async def _look_on(self, asked: Asked, opened: Opened, data: bytes, look: Look, span: tuple[int, int]) -> None:
        """It has to see more of the file; what is read meanwhile waits for its turn."""
        clean = False
        with contextlib.suppress(_Unreadable):
            try:
                while True:
                    span = look.send(await self._peek(opened, span))
            except StopIteration as done:
                clean = done.value
        self._judge(asked, opened, data, clean=clean)
        await self._caller.drain()
        queue, opened.looking = opened.looking or (), None
        for asked, data in queue:
            self._looked_at(asked, opened, data)

    async def _peek(self, opened: Opened, span: tuple[int, int]) -> bytes:
        answer = await self._ask(m.Read(opened.theirs, *span))
        if opened.refusal or (isinstance(answer, m.Status) and answer.code != m.EOF):
            raise _Unreadable
        return getattr(answer, "data", b"")

    def _judge(self, asked: Asked, opened: Opened, data: bytes, *, clean: bool) -> None:
        if not opened.refusal and not clean:
            self._drop(opened, f"{shown(opened.path)} holds what is masked for you: a file is passed as it is or not at all", "masked")
        if opened.refusal:
            self._answer(asked.number, m.denied(opened.refusal))
            self._settled(asked, opened)
        else:
            self._deliver(asked, opened, data)

    # --- small things ---

    def _finish(self, opened: Opened, status: str, error: str) -> None:
        self._kept -= opened.transfer.keeps
        finish(self._desk, opened.running, opened.transfer, opened.path, status, error, opened.resolved)

    def _drop(self, opened: Opened, reason: str, error: str = "") -> None:
        """This handle is no more, whatever the caller still sends for it."""
        opened.refusal = reason
        self._finish(opened, "refused", error or reason)
        own = self._expect(Asked(m.Close, future=asyncio.get_running_loop().create_future()))
        self._target.write(m.encode_request(own, m.Close(opened.theirs)))
        self._say(reason)

    def _answer(self, number: int, answer: m.Message) -> None:
        self._caller.write(m.encode_answer(number, answer))

    def _expect(self, asked: Asked) -> int:
        """An id of the gateway's own for it."""
        self._next = own = (self._next + 1) & 0xFFFFFFFF
        while own in self._asked:
            self._next = own = (own + 1) & 0xFFFFFFFF
        self._asked[own] = asked
        return own

    def _send(self, asked: Asked, request: m.Message) -> None:
        self._target.write(m.encode_request(self._expect(asked), request))

    async def _ask(self, request: m.Message) -> m.Message:
        """A question of the gateway's own."""
        future: asyncio.Future[m.Message] = asyncio.get_running_loop().create_future()
        self._send(Asked(type(request), future=future), request)
        await self._target.drain()
        return await future

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None
        self._deciding += 1
        task = self._group.create_task(work)
        task.add_done_callback(self._spawned)

    def _spawned(self, _: object) -> None:
        self._deciding -= 1
        self._room.set()


class _Nothing:
    """A masker where nothing is masked any more."""

    masked = 0

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


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
