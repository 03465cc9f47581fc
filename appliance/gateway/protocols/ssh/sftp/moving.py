# SPDX-License-Identifier: Apache-2.0
"""READ, WRITE and CLOSE, quickly: the bytes of a file are copied once, and looked at where something is masked for the caller."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from struct import Struct

from gateway.errors import ClientFault, Refused, TargetFault
from gateway.protocols.ssh.sftp import messages as m
from gateway.protocols.ssh.sftp.codec import MAX_DATA, MAX_PACKET, U32
from gateway.protocols.ssh.sftp.handles import Opened
from gateway.protocols.ssh.sftp.names import shown
from gateway.protocols.ssh.sftp.watch import Look, Watch
from gateway.protocols.ssh.sftp.wire import Asked, Wire

LOOK_AGAIN = 1.0
"""Seconds for which what is masked in an open file is not asked anew."""

_DATA = Struct(">IBII")
"""DATA up to its bytes: length, kind, id, count."""
_PLACE = Struct(">QI")


class _Unreadable(Exception):
    """What stands around a range cannot be seen."""


class Moving(Wire):
    """The quick part of a channel."""

    # --- quick requests ---

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

    # --- what comes of them ---

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
