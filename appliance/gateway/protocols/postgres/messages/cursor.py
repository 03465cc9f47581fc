# SPDX-License-Identifier: Apache-2.0
"""Payloads, piece by piece: reading with bounds checked at every step, and writing."""

from __future__ import annotations

from struct import Struct
from typing import Protocol

from gateway.protocols.postgres.codec import Fault

INT16 = Struct("!H")
INT32 = Struct("!i")


class Message(Protocol):
    """Anything that can be sent."""

    def encode(self) -> bytes: ...


class Cursor:
    """Reads a payload from its start; every step is bounds-checked and raises the sender's fault."""

    __slots__ = ("_at", "_data", "_fault")

    def __init__(self, data: bytes, fault: Fault) -> None:
        self._data = data
        self._at = 0
        self._fault = fault

    def broken(self) -> Exception:
        return self._fault("malformed message", "08P01")

    def take(self, count: int) -> bytes:
        at, end = self._at, self._at + count
        if count < 0 or end > len(self._data):
            raise self.broken()
        self._at = end
        return self._data[at:end]

    def int8(self) -> int:
        return self.take(1)[0]

    def int16(self) -> int:
        """Unsigned, as PostgreSQL reads counts."""
        return int.from_bytes(self.take(2), "big")

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def oid(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def cstring(self) -> str:
        data, at = self._data, self._at
        end = data.find(b"\0", at)
        if end < 0:
            raise self.broken()
        self._at = end + 1
        try:
            return data[at:end].decode()
        except UnicodeDecodeError:
            raise self._fault("text is not valid UTF-8", "22021") from None

    def value(self) -> bytes | None:
        """An int32 length (-1 is NULL) and its bytes."""
        length = self.int32()
        return None if length == -1 else self.take(length)

    def int16s(self) -> tuple[int, ...]:
        return tuple([self.int16() for _ in range(self.int16())])

    def oids(self) -> tuple[int, ...]:
        return tuple([self.oid() for _ in range(self.int16())])

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def finish(self) -> None:
        if self._at < len(self._data):
            raise self.broken()


def cstring(text: str) -> bytes:
    """NUL-terminated UTF-8. Raises ``ValueError`` on a NUL inside."""
    raw = text.encode()
    if b"\0" in raw:
        raise ValueError("text with a NUL byte")
    return raw + b"\0"


def int16s_of(values: tuple[int, ...]) -> bytes:
    return INT16.pack(len(values)) + b"".join([INT16.pack(value) for value in values])


def value_of(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else INT32.pack(len(value)) + value
