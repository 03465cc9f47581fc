# SPDX-License-Identifier: Apache-2.0
"""Framing of PostgreSQL protocol 3.0 (manual, "Message Formats"): one type byte, an int32 length that counts itself, the payload.

Two readers, both incremental and lazy. ``FrameReader`` gives one message at a time, for the caller's side and wherever a
message matters. ``RunReader`` is for the target's side: consecutive DataRow or CopyData messages come as one slice that can be
relayed as it is, without an object per row::

    frames = RunReader(limits.message)
    while data := await target.read():
        frames.feed(data)
        for kind, block, count in frames:                   # lazy: what the loop sets counts for the next step
            if kind == DATA_ROW:
                backend.rows(count)                          # once per run
                client.write(block if plan.clear else mask_rows(plan, block)[0])
            else:                                            # block is one whole message; its payload is block[5:]
                expect = backend.accept(kind, block[5:])
                if kind == ROW_DESCRIPTION:
                    plan = check_row_description(...)
                    frames.stream = plan.clear               # whether rows above STREAM_ABOVE may pass in pieces
        await client.drain()

While ``stream`` is true a DataRow or CopyData above 1 MiB passes in pieces as they arrive (``count`` is 1 with the first piece and 0 with
the others), so that memory stays flat at any row size. While it is false such a message is collected, up to ``limit``.
Nothing is allocated before its length has been checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.errors import ClientFault, TargetFault
from gateway.protocols.postgres.rows import INT32, begins, scan_run

Fault = type[ClientFault] | type[TargetFault]

DATA_ROW = 0x44
COPY_DATA = 0x64

STARTUP_LIMIT = 10_000
PASSWORD_LIMIT = 64 * 1024
SMALL_LIMIT = 10_000
STREAM_ABOVE = 1024 * 1024
MAX_LENGTH = 0x3FFFFFFF

# What PostgreSQL itself bounds by PQ_SMALL_MESSAGE_LIMIT (postgres.c, SocketBackend): Describe Execute Close Sync Flush
# CopyDone Terminate. Names are at most 63 bytes where they mean anything.
SMALL_MESSAGES = frozenset(b"DECSHXc")


def startup_length(header: bytes, fault: Fault = ClientFault) -> int:
    """Bytes of a startup packet that follow its 4-byte length. Raises the fault on a length out of 8..``STARTUP_LIMIT``."""
    length = INT32(header, 0)[0]
    if not 8 <= length <= STARTUP_LIMIT:
        raise fault("invalid length of startup packet", "08P01")
    return int(length) - 4


class _Buffer:
    """Bytes received and not yet given out. Grows by joining once per message, not once per chunk."""

    __slots__ = ("_at", "_data", "_need", "_parts", "_waiting")

    def __init__(self) -> None:
        self._data: bytes = b""
        self._at = 0
        self._parts: list[bytes] = []
        self._waiting = 0
        self._need = 0

    def feed(self, data: bytes) -> None:
        """Take bytes that were received. Nothing is parsed until the reader is iterated."""
        if self._parts:
            self._parts.append(data)
            self._waiting += len(data)
        elif self._at == len(self._data):
            self._data = data
            self._at = 0
        else:
            self._parts = [self._data[self._at:], data]
            self._waiting = len(self._data) - self._at + len(data)
            self._data = b""
            self._at = 0
        if self._parts and self._waiting >= self._need:
            self._join()

    def _join(self) -> None:
        self._data = b"".join(self._parts)
        self._at = 0
        self._parts = []
        self._waiting = 0

    def _starve(self, need: int) -> None:
        """The message at hand needs ``need`` bytes in all: later chunks are not joined before they are there."""
        self._need = need

    @property
    def pending(self) -> int:
        """Bytes held back: an incomplete message, or messages not yet taken."""
        return self._waiting if self._parts else len(self._data) - self._at

    def begun(self, kind: int, most: int) -> bool:
        """Whether what is held is nothing, or the beginning of one ``kind`` message of a length up to ``most``."""
        return self.pending <= most and begins(b"".join(self._parts) if self._parts else self._data[self._at:], kind, most)

    def remainder(self) -> bytes:
        """Take out everything held, for a change of reader."""
        if self._parts:
            self._join()
        data = self._data[self._at:]
        self._data = b""
        self._at = self._need = 0
        return data


_SMALL: Mapping[int, int] = dict.fromkeys(SMALL_MESSAGES, SMALL_LIMIT)
_NONE: Mapping[int, int] = {}


class FrameReader(_Buffer):
    """Messages one by one as ``(type, payload)``.

    ``limit`` bounds the payload (bytes); ``limits`` bounds single types below it. Raises ``fault`` with 08P01 on a length below 4,
    negative or over the limit, before anything is allocated for it. The faulty reader stays faulty.
    """

    __slots__ = ("_fault", "_limits", "limit")

    def __init__(self, limit: int, fault: Fault = ClientFault, limits: Mapping[int, int] | None = None) -> None:
        super().__init__()
        self.limit = limit
        self._fault = fault
        self._limits = limits if limits is not None else _SMALL if fault is ClientFault else _NONE

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while (message := self.next()) is not None:
            yield message

    def next(self) -> tuple[int, bytes] | None:
        """The next complete message, ``None`` when more bytes are needed."""
        if self._parts:
            return None
        data, at = self._data, self._at
        held = len(data) - at
        if held < 5:
            self._starve(5)
            return None
        kind = data[at]
        length = INT32(data, at + 1)[0]
        if length < 4 or length - 4 > self._limits.get(kind, self.limit):
            raise self._fault(f"invalid message length for type {kind_name(kind)}", "08P01")
        if held < length + 1:
            self._starve(length + 1)
            return None
        end = at + 1 + length
        self._at = end
        self._need = 0
        return kind, data[at + 5:end]


class RunReader(_Buffer):
    """A target's messages (or a caller's COPY data) as ``(type, bytes of whole messages, count)``; see the module's docstring.

    Runs are maximal within what has been received. ``stream`` says whether big rows may pass in pieces.
    """

    __slots__ = ("_fault", "_kind", "_left", "limit", "stream")

    def __init__(self, limit: int, stream: bool = False, fault: Fault = TargetFault) -> None:
        super().__init__()
        self._fault = fault
        self.limit = limit
        self.stream = stream
        self._left = 0
        self._kind = 0

    def __iter__(self) -> Iterator[tuple[int, bytes, int]]:
        while (block := self.next()) is not None:
            yield block

    @property
    def inside(self) -> bool:
        """A large row is half given out: its next piece has to follow before anything else is written."""
        return self._left > 0

    def next(self) -> tuple[int, bytes, int] | None:
        """The next block, ``None`` when more bytes are needed. Raises the fault (08P01) on a wrong length."""
        if self._parts:
            return None
        if self._left:
            return self._piece(self._kind, 0)
        data, at = self._data, self._at
        if len(data) - at < 5:
            self._starve(5)
            return None
        kind = data[at]
        length = INT32(data, at + 1)[0]
        if length < 4 or length > MAX_LENGTH:
            raise self._fault(f"invalid message length for type {kind_name(kind)}", "08P01")
        if kind in (DATA_ROW, COPY_DATA):
            return self._run(kind, length)
        return self._one(kind, length)

    def _one(self, kind: int, length: int) -> tuple[int, bytes, int] | None:
        if length > self.limit:
            raise self._fault(f"message of type {kind_name(kind)} over the limit", "08P01")
        end = self._at + 1 + length
        if end > len(self._data):
            self._starve(1 + length)
            return None
        block = self._data[self._at:end]
        self._at = end
        self._need = 0
        return kind, block, 1

    def _run(self, kind: int, length: int) -> tuple[int, bytes, int] | None:
        data, at = self._data, self._at
        end, count = scan_run(data, at, len(data), kind)
        if not count:
            if length > STREAM_ABOVE and self.stream:
                self._left = length + 1
                self._kind = kind
                return self._piece(kind, 1)
            return self._one(kind, length)
        self._at = end
        self._need = 0
        block = data if at == 0 and end == len(data) else data[at:end]
        return kind, block, count

    def _piece(self, kind: int, count: int) -> tuple[int, bytes, int] | None:
        piece = self._data[self._at:self._at + self._left]
        if not piece:
            self._starve(1)
            return None
        self._at += len(piece)
        self._left -= len(piece)
        self._need = 0
        return kind, piece, count


def kind_name(kind: int) -> str:
    """A type byte as it may be shown."""
    return repr(chr(kind)) if 0x20 < kind < 0x7F else f"0x{kind:02x}"


def frame(kind: bytes, payload: bytes) -> bytes:
    """One whole message."""
    return kind + (len(payload) + 4).to_bytes(4, "big") + payload
