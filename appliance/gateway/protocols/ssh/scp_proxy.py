# SPDX-License-Identifier: Apache-2.0
"""Files by scp's own protocol (``scp -O``) under policy: each file is a decision of its own once it is named.

Where a path leads is asked over an SFTP channel of the gateway's own (``sftp.questions``). A file that is refused is answered with an error
in place of the sink's answer; scp tells its user, leaves the file out and goes on with the next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from gateway.errors import ClientFault, Refused, TargetFault
from gateway.model import Operation
from gateway.protocols.ssh.desk import Running
from gateway.protocols.ssh.files import KEEPS_OF_ONE, FileDesk, FileLimits, Pipe, finish, told
from gateway.protocols.ssh.scp import Line, ScpReader, Tree, error, parse_line
from gateway.protocols.ssh.sftp.names import absolute, join, shown, split, text_of
from gateway.protocols.ssh.sftp.questions import Questions
from gateway.protocols.ssh.sftp.transfer import Transfer
from gateway.protocols.ssh.transfers import FileAccess
from gateway.protocols.ssh.understand import file_request

CHUNK = 128 * 1024


async def serve_scp(access: FileAccess, caller: Pipe, target: Pipe, desk: FileDesk, limits: FileLimits, questions: Questions) -> int:
    """Serve one ``scp -t`` or ``scp -f`` that the target has begun, until it ends. Gives the exit status: 1 where anything was refused or
    went wrong.

    Raises ``Refused`` where what was begun may not go on or holds what is masked, ``ClientFault`` and ``TargetFault`` for what is not scp's
    protocol, ``SessionOver``, ``AuditUnavailable``.
    """
    copy = (_Upload if access.sends else _Download)(access, caller, target, desk, limits, questions)
    try:
        await copy.run()
    except Refused as no:
        copy.done("refused", no.code or str(no))
        raise
    finally:
        copy.done("cancelled", "the channel ended")
        target.write_eof()
    return 1 if copy.trouble else 0


class _Side:
    """One side of an scp, read piece by piece."""

    def __init__(self, pipe: Pipe, fault: type[ClientFault] | type[TargetFault]) -> None:
        self._pipe, self._fault = pipe, fault
        self._reader = ScpReader(fault)

    async def line(self) -> bytes | None:
        """``None`` at the end."""
        while (line := self._reader.line()) is None:
            if not await self._more():
                if self._reader.pending:
                    raise self._fault("scp ended in the middle of a line")
                return None
        return line

    async def answer(self) -> bytes:
        while (answer := self._reader.answer()) is None:
            if not await self._more():
                raise self._fault("scp ended where an answer is owed")
        return answer

    async def data(self, count: int) -> bytes:
        """Some of ``count`` bytes of a file."""
        while not self._reader.pending:
            if not await self._more():
                raise self._fault("scp ended in the middle of a file")
        return self._reader.take(min(count, CHUNK))

    async def _more(self) -> bool:
        data = await self._pipe.read()
        self._reader.feed(data)
        return bool(data)

    async def send(self, data: bytes) -> None:
        self._pipe.write(data)
        await self._pipe.drain()


class _Copy(ABC):
    """What both directions share: ``source`` sends lines and files, ``sink`` answers."""

    sends = True

    def __init__(self, access: FileAccess, caller: Pipe, target: Pipe, desk: FileDesk, limits: FileLimits, questions: Questions) -> None:
        self.access, self.desk, self.limits, self.questions = access, desk, limits, questions
        self.fault: type[ClientFault] | type[TargetFault] = ClientFault if self.sends else TargetFault
        sides = (_Side(caller, ClientFault), _Side(target, TargetFault))
        self.source, self.sink = sides if self.sends else sides[::-1]
        self.tree = Tree(self.fault)
        self.times: Line | None = None
        self.now: tuple[Running, Transfer, str] | None = None
        self.trouble = False
        self.paths = [questions.absolute(text_of(path.encode("utf-8", "surrogateescape"))) for path in access.paths]

    async def run(self) -> None:
        """From the sink's first answer, which says that it is ready, to the source's end."""
        ready = await self.sink.answer()
        await self.source.send(ready)
        if ready == b"\0":
            await self.lines()

    async def lines(self) -> None:
        """Every line of the source."""
        while (raw := await self.source.line()) is not None:
            try:
                line = parse_line(raw, self.fault)
            except Refused as no:
                await self.refusal(no, recorded=False)
                continue
            if line.kind == "T":
                self.times = line
                await self.source.send(b"\0")
            elif line.kind.startswith("!"):
                self.trouble = True
                await self.sink.send(line.raw)              # no answer is owed
                if line.kind == "!!":
                    return
            elif line.kind == "E":
                self.tree.leave()
                await self.hand_over(line)
            else:
                await self.entry(line)

    async def entry(self, line: Line) -> None:
        """A file or a directory."""
        times, self.times = self.times, None
        try:
            path = self.tree.path(line, self.top(line))
            running = await self.decide(line, path, times)
        except Refused as no:
            await self.refusal(no, recorded=True)
            return
        self.now = (running, Transfer(min(self.limits.content, KEEPS_OF_ONE)), path)
        taken = (times is None or await self.hand_over(times, relay=False)) and await self.hand_over(line)
        if line.kind == "D":
            self.done("ok" if taken else "error")
            if taken:
                self.tree.enter(path)
        elif taken:
            await self.content(line.size)
        else:
            self.done("error")

    @abstractmethod
    def top(self, line: Line) -> str:
        """The path of a file that is in no other directory than the command's."""

    async def decide(self, line: Line, path: str, times: Line | None) -> Running:
        special = ("setattr",) if self.sends and (times is not None or line.mode & 0o7000) else ()
        verb = ("write" if self.sends else "read") if line.kind == "C" else ("mkdir" if self.sends else "list")
        resolved = await self.questions.resolve(path)
        known = absolute(path, "/")
        operations = tuple(one for action in (verb, *special) for one in file_request(action, known, resolved=resolved))
        running = await self.desk.run(operations, f"scp {verb} {known}")
        if running.decision.effect == "approve" and await self.questions.resolve(path) != resolved:
            running.finish("refused", error="what this path leads to changed while the approval was waited for")
            raise Refused("what this path leads to changed while the approval was waited for")
        return running

    async def refusal(self, no: Refused, *, recorded: bool) -> None:
        """The source hears an error in place of an answer and goes on with the next file."""
        self.trouble = True
        if not recorded:
            try:
                await self.desk.refuse((Operation("ssh", "write" if self.sends else "read"),), "scp", str(no))
            except Refused as again:
                no = again
        await self.source.send(error(f"denied: {told(no)}"))

    async def hand_over(self, line: Line, *, relay: bool = True) -> bool:
        """A line to the sink; its answer goes to the source. Whether it was a yes."""
        await self.sink.send(line.raw)
        answer = await self.sink.answer()
        if relay or answer != b"\0":
            await self.source.send(answer)
        self.trouble |= answer != b"\0"
        return answer == b"\0"

    async def content(self, size: int) -> None:
        """The bytes of a file, its status, and the sink's answer."""
        assert self.now is not None
        running, transfer, path = self.now
        masker = None if self.sends else self.desk.masker()
        at = 0
        while at < size:
            data = await self.source.data(size - at)
            self.desk.still(running)
            transfer.writing(at, data) if self.sends else transfer.reading(at, data)
            at += len(data)
            if masker is not None:
                data = masker.feed(data) + (masker.end() if at == size else b"")
                if masker.masked:
                    raise Refused(f"{shown(path)} holds what is masked for you: a file is passed as it is or not at all", "masked")
            await self.sink.send(data)
        status = await self.source.answer()
        await self.sink.send(status)
        answer = await self.sink.answer()
        await self.source.send(answer)
        self.trouble |= not status == answer == b"\0"
        self.done("ok" if status == answer == b"\0" else "error")

    def done(self, status: str, why: str = "") -> None:
        if self.now is not None:
            running, transfer, path = self.now
            self.now = None
            finish(self.desk, running, transfer, path, status, why)


class _Upload(_Copy):
    """``scp -t``: the caller is the source."""

    async def run(self) -> None:
        self.directory = await self.questions.is_directory(self.paths[0])
        await super().run()

    def top(self, line: Line) -> str:
        return join(self.paths[0], line.name) if self.directory else self.paths[0]


class _Download(_Copy):
    """``scp -f``: the target is the source."""

    sends = False
    at = 0

    def top(self, line: Line) -> str:
        """The next path of the command with this name: a target that sends another file than asked for is at fault."""
        if self.tree.depth:
            return ""
        while self.at < len(self.paths):
            path = self.paths[self.at].rstrip("/") or "/"
            self.at += 1
            if line.name == (split(path)[1] or "/"):
                return path
        raise TargetFault("scp on the target sends a file that was not asked for")

    async def refusal(self, no: Refused, *, recorded: bool) -> None:
        await super().refusal(no, recorded=recorded)
        await self.sink.send(error(f"denied: {told(no)}"))
