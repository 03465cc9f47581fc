# SPDX-License-Identifier: Apache-2.0
"""Calls between two processes of a gateway over a pair of Unix sockets, both ways at once.

A frame is four bytes of length and a JSON object: ``{"call": NAME, "id": N, "about": …}``, ``{"tell": NAME, "about": …}`` (nobody answers),
``{"drop": N}`` (the caller waits no longer), ``{"id": N, "answer": …}`` or ``{"id": N, "fault": {…}}``. Frames are seen in the order they
were sent. Who breaks these rules is hung up on: neither process works without the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from gateway.errors import AuditUnavailable, ClientFault, ConfigError, Fault, GatewayFault, Refused, TargetFault

log = logging.getLogger("gateway.workers")

Answers = Mapping[str, Callable[[Any], Awaitable[Any]]]
"""What may be called here, by name: takes what the call is about, gives JSON."""
Hears = Mapping[str, Callable[[Any], None]]
"""What may be told here."""

FAULTS: Mapping[str, type[Fault]] = {one.__name__: one for one in (Refused, ClientFault, TargetFault, AuditUnavailable, ConfigError)}
"""The faults that arrive as what they were; any other is a ``GatewayFault``."""
_SAID = ("code", "detail", "hint")


class LinkLost(GatewayFault):
    """The other process is gone, or hung up."""


class TooLong(GatewayFault):
    """What was to be said is longer than a frame may be."""


class Link:
    """One end. ``run()`` reads until the other end is gone; ``lost`` is set then, and every call that waits raises ``LinkLost``.

    ``limit`` is the longest frame either may send, in bytes.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: Answers, hears: Hears, limit: int) -> None:
        self._reader, self._writer = reader, writer
        self._answers, self._hears, self._limit = answers, hears, limit
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._last = 0
        self.lost = asyncio.Event()

    @classmethod
    async def over(cls, sock: socket.socket, answers: Answers, hears: Hears, limit: int) -> Link:
        """On one of a pair of connected sockets, which it owns from here on."""
        sock.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        return cls(reader, writer, answers, hears, limit)

    # --- asking

    async def call(self, name: str, about: Any = None) -> Any:
        """What the other process answers. Raises the fault it answered with, or ``LinkLost``."""
        if self.lost.is_set():
            raise LinkLost("the other process of this gateway is gone")
        self._last += 1
        number, future = self._last, asyncio.get_running_loop().create_future()
        self._send({"call": name, "id": number, "about": about})
        self._calls[number] = future
        try:
            return await future
        except asyncio.CancelledError:
            if number in self._calls:
                self._send({"drop": number})
            raise
        finally:
            self._calls.pop(number, None)

    def tell(self, name: str, about: Any = None) -> None:
        """Say it; nobody answers."""
        self._send({"tell": name, "about": about})

    def _send(self, frame: Mapping[str, Any]) -> None:
        if self.lost.is_set():
            return
        try:
            data = orjson.dumps(frame)
        except (TypeError, ValueError):
            raise GatewayFault("not what can be said to another process of this gateway") from None
        if len(data) > self._limit:
            raise TooLong("too long for another process of this gateway")
        self._writer.write(len(data).to_bytes(4, "big") + data)

    # --- answering

    async def run(self) -> None:
        """Read until the other end is gone."""
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(4), "big")
                if size > self._limit:
                    raise GatewayFault("a frame longer than any may be")
                self._take(orjson.loads(await self._reader.readexactly(size)))
        except (asyncio.IncompleteReadError, OSError):
            return
        except (GatewayFault, ValueError, KeyError, TypeError) as error:
            log.error("the other process of this gateway cannot be understood: %s", type(error).__name__)
        finally:
            await self.close()

    def _take(self, frame: Mapping[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        if "call" in frame:
            number, answer = frame["id"], self._answers[frame["call"]]
            self._serving[number] = loop.create_task(self._serve(number, answer, frame["about"]))
        elif "tell" in frame:
            loop.call_soon(self._hears[frame["tell"]], frame["about"])      # after the first step of calls that came before it
        elif "drop" in frame:
            if (task := self._serving.get(frame["drop"])) is not None:
                task.cancel()
        elif (future := self._calls.get(frame["id"])) is not None and not future.done():
            if "fault" in frame:
                future.set_exception(_fault(frame["fault"]))
            else:
                future.set_result(frame["answer"])

    async def _serve(self, number: int, answer: Callable[[Any], Awaitable[Any]], about: Any) -> None:
        try:
            said: dict[str, Any] = {"answer": await answer(about)}
        except Fault as fault:
            said = {"fault": _said(fault)}
        except Exception as error:
            log.error("a call of another process failed: %s", type(error).__name__)
            said = {"fault": _said(GatewayFault("internal error"))}
        finally:
            self._serving.pop(number, None)
        with contextlib.suppress(GatewayFault):
            self._send({"id": number, **said})

    async def close(self) -> None:
        """Hang up. What is being answered is cancelled, whoever waits for an answer hears that there is none. Idempotent."""
        if self.lost.is_set():
            return
        self.lost.set()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(LinkLost("the other process of this gateway is gone"))
        serving = list(self._serving.values())
        for task in serving:
            task.cancel()
        self._writer.close()
        if serving:
            await asyncio.wait(serving)


def _said(fault: Fault) -> dict[str, str]:
    return {"kind": type(fault).__name__, "message": str(fault)} | {key: str(getattr(fault, key, "")) for key in _SAID}


def _fault(said: Mapping[str, str]) -> Fault:
    kind, message = FAULTS.get(said["kind"], GatewayFault), said["message"]
    if issubclass(kind, Refused):
        return kind(message, said["code"], said["detail"], said["hint"])
    return kind(message, said["code"]) if issubclass(kind, ClientFault | TargetFault) else kind(message)
