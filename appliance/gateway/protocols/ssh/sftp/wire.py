# SPDX-License-Identifier: Apache-2.0
"""Both ends of one SFTP channel: ids of the gateway's own, questions to the target, answers to the caller, what is open, records."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from gateway.errors import ClientFault, Refused, TargetFault
from gateway.model import Operation
from gateway.protocols.ssh.files import SAYS, FileDesk, FileLimits, Pipe, finish
from gateway.protocols.ssh.sftp import messages as m
from gateway.protocols.ssh.sftp.codec import MAX_PACKET, PacketReader
from gateway.protocols.ssh.sftp.handles import Handles, Opened
from gateway.protocols.ssh.sftp.names import shown
from gateway.protocols.ssh.sftp.order import Order


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


class _Nothing:
    """A masker where nothing is masked any more."""

    masked = 0

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


class Wire:
    """What every part of the channel uses."""

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

    def _say(self, text: str) -> None:
        self._said += 1
        if self._said <= SAYS:
            self._caller.write(f"lockgate: denied: {shown(text)}\n".encode(), stderr=True)

    async def _record_refusal(self, text: str, reason: str) -> None:
        """Of what does not come to a decision."""
        with contextlib.suppress(Refused):
            await self._desk.refuse((Operation("ssh", text.partition(" ")[2] or text),), text, reason)

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

    def _fresh(self) -> Any:
        return self._desk.masker() or _Nothing()
