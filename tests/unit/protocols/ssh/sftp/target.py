# SPDX-License-Identifier: Apache-2.0
"""A target's SFTP server in memory, as far as conversations need one, and a caller that speaks packets."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from typing import Any

from gateway.errors import ClientFault, TargetFault
from gateway.protocols.ssh.files import FileLimits
from gateway.protocols.ssh.sftp import messages as m
from gateway.protocols.ssh.sftp.codec import U32, PacketReader, packet
from gateway.protocols.ssh.sftp.proxy import serve_sftp
from tests.unit.protocols.ssh.sftp.desk import FakeDesk, MemoryPipe

HOME = "/home/deploy"
EVERYTHING = dict(m.EXTENSIONS) | {
    b"users-groups-by-id@openssh.com": b"1", b"home-directory": b"1", b"secret-door@example": b"1"}


class FakeTarget:
    """Files, directories and links by absolute path. ``seen`` are the requests that came; ``lies`` replaces answers by kind of request."""

    def __init__(self, files: dict[str, bytes] | None = None, links: dict[str, str] | None = None) -> None:
        self.files, self.links = dict(files or {}), dict(links or {})
        self.seen: list[m.Message] = []
        self.lies: dict[type[Any], Callable[[Any], m.Message | None]] = {}
        self.handles: dict[bytes, str] = {}

    def resolve(self, path: str) -> str:
        done = ""
        for part in [part for part in path.split("/") if part not in ("", ".")]:
            done = f"{done}/{part}" if part != ".." else done.rpartition("/")[0]
            if done in self.links:
                done = self.resolve(self.links[done])
        return done or "/"

    def is_directory(self, path: str) -> bool:
        return path in ("/", HOME) or any(name.startswith(f"{path}/") for name in [*self.files, *self.links])

    def answer(self, request: Any) -> m.Message:
        self.seen.append(request)
        lie = self.lies.get(type(request))
        if lie is not None and (told := lie(request)) is not None:
            return told
        return self._of(request)

    def _of(self, request: Any) -> m.Message:
        path = request.path.decode() if hasattr(request, "path") else ""
        if isinstance(request, m.Realpath):
            absolute = HOME if path == "." else path if path.startswith("/") else f"{HOME}/{path}"
            return m.Names((m.Entry(self.resolve(absolute).encode(), b""),))
        if isinstance(request, m.Lstat | m.Stat):
            return self._stat(path, isinstance(request, m.Lstat))
        if isinstance(request, m.Open | m.Opendir):
            path = self.resolve(path)
            if isinstance(request, m.Open) and request.flags & m.FLAG_CREATE:
                self.files.setdefault(path, b"")
            if path not in self.files and not self.is_directory(path):
                return m.failed("No such file", m.NO_SUCH_FILE)
            handle = U32.pack(len(self.handles))
            self.handles[handle] = path
            return m.Handle(handle)
        if isinstance(request, m.Read):
            data = self.files[self.handles[request.handle]][request.offset:request.offset + request.length]
            return m.Data(data) if data else m.Status(m.EOF, b"End of file")
        if isinstance(request, m.Write):
            path = self.handles[request.handle]
            old = self.files[path].ljust(request.offset, b"\0")
            self.files[path] = old[:request.offset] + request.data + old[request.offset + len(request.data):]
        if isinstance(request, m.Limits):
            return m.Reply(b"".join(value.to_bytes(8, "big") for value in (1 << 20, 1 << 19, 0, 1000)))
        if isinstance(request, m.Readdir):
            return m.Names((m.Entry(b"a", b"-rw a"),))
        if isinstance(request, m.Readlink):
            return m.Names((m.Entry(self.links[path].encode(), b""),))
        if isinstance(request, m.Fstat):
            return m.Found(m.Attributes(size=1))
        return m.Status(m.OK, b"Success")

    def _stat(self, path: str, itself: bool) -> m.Message:
        if itself and path in self.links:
            return m.Found(m.Attributes(permissions=stat.S_IFLNK | 0o777))
        path = self.resolve(path)
        if path in self.files:
            return m.Found(m.Attributes(size=len(self.files[path]), permissions=stat.S_IFREG | 0o644))
        return m.Found(m.Attributes(permissions=stat.S_IFDIR | 0o755)) if self.is_directory(path) else m.failed("No", m.NO_SUCH_FILE)

    async def serve(self, pipe: TargetPipe) -> None:
        """Answer what the gateway writes to this pipe."""
        reader = PacketReader(ClientFault)
        while data := await pipe.asked.get():
            reader.feed(data)
            while (place := reader.next()) is not None:
                if place[0][place[1] + 4] == m.INIT:
                    pipe.give(m.hello(m.VERSION_ANSWER, EVERYTHING))
                else:
                    number, request = m.parse_request(*place)
                    pipe.give(m.encode_answer(number, self.answer(request)))
        pipe.give(b"")


class TargetPipe(MemoryPipe):
    """The gateway's end of the channel to the target."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: asyncio.Queue[bytes] = asyncio.Queue()

    def write(self, data: bytes, *, stderr: bool = False) -> None:
        self.asked.put_nowait(bytes(data))

    def write_eof(self) -> None:
        self.asked.put_nowait(b"")


class Conversation:
    """A caller on one SFTP channel: ``async with Conversation(desk, target) as say``, then ``await say(request)``."""

    def __init__(self, desk: FakeDesk, target: FakeTarget, limits: FileLimits | None = None) -> None:
        self.desk, self.target, self.limits = desk, target, limits or FileLimits()
        self.caller, self.pipe = MemoryPipe(), TargetPipe()
        self.kinds: dict[int, type[m.Message]] = {}
        self.answers: dict[int, m.Message] = {}
        self.extensions: dict[bytes, bytes] = {}
        self.fault: BaseException | None = None
        self._next = 7
        self._at = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Conversation:
        self._tasks = [asyncio.create_task(self.target.serve(self.pipe)), asyncio.create_task(self._serve())]
        self.caller.give(m.hello(m.INIT, {}))
        await self.caller.until(lambda: len(self.caller.taken) > 4)
        _, self.extensions = m.parse_hello(bytes(self.caller.taken), 0, len(self.caller.taken), m.VERSION_ANSWER, TargetFault)
        self._at = len(self.caller.taken)
        return self

    async def _serve(self) -> None:
        try:
            await serve_sftp(self.caller, self.pipe, self.desk, self.limits)
        except BaseException as fault:
            self.fault = fault
        self.caller.write_eof()

    async def __aexit__(self, *_: object) -> None:
        self.caller.give(b"")
        async with asyncio.timeout(10):
            await self._tasks[1]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def send(self, request: m.Message, number: int | None = None) -> int:
        """Without waiting for the answer; gives its id."""
        if number is None:
            self._next += 1
            number = self._next
        self.kinds[number] = type(request)
        self.caller.give(m.encode_request(number, request))
        return number

    def send_raw(self, kind: int, body: bytes) -> int:
        self._next += 1
        self.kinds[self._next] = m.Close
        self.caller.give(packet(kind, U32.pack(self._next) + body))
        return self._next

    async def answer(self, number: int) -> Any:
        """The answer to a request that was sent."""
        await self.caller.until(lambda: self._collect(number) or self.fault is not None)
        if number not in self.answers and self.fault is not None:
            raise self.fault
        return self.answers.pop(number)

    def _collect(self, number: int) -> bool:
        data = bytes(self.caller.taken)
        while len(data) - self._at >= 4 and (end := self._at + 4 + U32.unpack_from(data, self._at)[0]) <= len(data):
            found = U32.unpack_from(data, self._at + 5)[0]
            self.answers[found] = m.parse_answer(self.kinds[found], data, self._at, end)
            self._at = end
        return number in self.answers

    async def __call__(self, request: m.Message) -> Any:
        return await self.answer(self.send(request))

    async def denied(self, request: m.Message) -> str:
        """It is refused; gives the reason."""
        answer = await self(request)
        assert isinstance(answer, m.Status), answer
        assert answer.code == m.PERMISSION_DENIED, answer
        return answer.text.decode()
