# SPDX-License-Identifier: Apache-2.0
"""Framing and fields of SFTP (draft-ietf-secsh-filexfer-02, sections 3 and 5): uint32 length, a type byte, the payload.

Nothing is allocated before its length has been checked; a packet is given out as a place in the bytes received, so that the bytes of a
file are copied once, when they are written out again.
"""

from __future__ import annotations

from struct import Struct, error

from gateway.errors import ClientFault, TargetFault

Fault = type[ClientFault] | type[TargetFault]

MAX_PACKET = 256 * 1024
"""Bytes after the length: what OpenSSH takes and sends (SFTP_MAX_MSG_LENGTH)."""
MAX_DATA = MAX_PACKET - 1024
"""Bytes of a file in one READ or WRITE, as OpenSSH's ``limits@openssh.com`` says it."""
MAX_PATH = 4096
MAX_HANDLE = 256

U32 = Struct(">I")
U64 = Struct(">Q")


class PacketReader:
    """Packets out of a stream, incrementally: ``next()`` gives ``(buffer, start, end)`` of one whole packet, its length included.

    Raises ``fault`` on a length of 0 or over ``limit``, before anything is allocated for it.
    """

    __slots__ = ("_at", "_data", "_fault", "_limit", "_need", "_parts", "_waiting")

    def __init__(self, fault: Fault, limit: int = MAX_PACKET) -> None:
        self._fault = fault
        self._limit = limit
        self._data = b""
        self._at = 0
        self._parts: list[bytes] = []
        self._waiting = 0
        self._need = 0

    def feed(self, data: bytes) -> None:
        """Take bytes that were received; pieces of one packet are joined once."""
        if self._parts:
            self._parts.append(data)
            self._waiting += len(data)
        elif self._at == len(self._data):
            self._data, self._at = data, 0
        else:
            self._parts = [self._data[self._at:], data]
            self._waiting = len(self._data) - self._at + len(data)
            self._data, self._at = b"", 0
        if self._parts and self._waiting >= self._need:
            self._data, self._parts = b"".join(self._parts), []

    def next(self) -> tuple[bytes, int, int] | None:
        """The next whole packet, ``None`` when more bytes are needed."""
        if self._parts:
            return None
        data, at = self._data, self._at
        held = len(data) - at
        if held < 4:
            self._need = 4
            return None
        length = U32.unpack_from(data, at)[0]
        if not 1 <= length <= self._limit:
            raise self._fault(f"an SFTP packet of {length} bytes: expected 1 to {self._limit}")
        if held < length + 4:
            self._need = length + 4
            return None
        self._at = end = at + 4 + length
        self._need = 0
        return data, at, end

    @property
    def pending(self) -> int:
        """Bytes received and not given out."""
        return self._waiting if self._parts else len(self._data) - self._at


class Fields:
    """The fields of one packet in order, from ``at`` up to ``end``. Raises ``fault`` where they do not fit."""

    __slots__ = ("_data", "_end", "_fault", "at")

    def __init__(self, data: bytes, at: int, end: int, fault: Fault) -> None:
        self._data, self.at, self._end, self._fault = data, at, end, fault

    def u32(self) -> int:
        return self._number(U32, 4)

    def u64(self) -> int:
        return self._number(U64, 8)

    def string(self, limit: int = MAX_PACKET) -> bytes:
        """A uint32 length and as many bytes, at most ``limit``."""
        length = self.u32()
        if length > limit or self.at + length > self._end:
            raise self._fault("an SFTP field is longer than it may be")
        self.at += length
        return self._data[self.at - length:self.at]

    def rest(self) -> bytes:
        at, self.at = self.at, self._end
        return self._data[at:self._end]

    @property
    def left(self) -> int:
        return self._end - self.at

    def done(self) -> None:
        """Nothing may follow."""
        if self.at != self._end:
            raise self._fault("an SFTP packet is longer than its fields")

    def _number(self, form: Struct, size: int) -> int:
        if self.at + size > self._end:
            raise self._fault("an SFTP packet is shorter than its fields")
        try:
            value: int = form.unpack_from(self._data, self.at)[0]
        except error:
            raise self._fault("an SFTP packet is shorter than its fields") from None
        self.at += size
        return value


def string(value: bytes) -> bytes:
    """A string as it is written."""
    return U32.pack(len(value)) + value


def packet(kind: int, payload: bytes) -> bytes:
    """One whole packet."""
    return U32.pack(len(payload) + 1) + bytes((kind,)) + payload
