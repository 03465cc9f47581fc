# SPDX-License-Identifier: Apache-2.0
"""Masking of COPY … TO STDOUT in binary format (manual, COPY, "Binary Format").

A header (signature, int32 flags, int32 length of an extension and the extension), tuples (int16 count of columns, then per column an int32
length, -1 for NULL, and its bytes), and an int16 -1 at the end. A CopyData message that holds one tuple looks like a DataRow but for
its type, and is masked by the same loops; anything else is put together first. The header goes out in front of the first tuple, in one
message, as the server sends it: there are clients that count on it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import GatewayFault, TargetFault
from gateway.native import compiled
from gateway.protocols.postgres import rows
from gateway.protocols.postgres.codec import frame
from gateway.protocols.postgres.copytext import COPY_DATA, ROW_LIMIT
from gateway.protocols.postgres.rows import INT16, INT32

if TYPE_CHECKING:
    from gateway.protocols.postgres.masking import MaskPlan

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
TRAILER = b"\xff\xff"
_HEADER = len(SIGNATURE) + 8
EXTENSION_LIMIT = 1 << 16

Tuples = Callable[[bytes, int, int], int]


def whole_tuples_pure(block: bytes, at: int, width: int) -> int:
    """Where the run of messages ends that begins at ``at`` and in which each message holds exactly one tuple of ``width`` columns."""
    end = len(block)
    try:
        while end - at >= 7:
            following = at + 1 + INT32(block, at + 1)[0]
            if following > end or following < at + 7 or INT16(block, at + 5)[0] != width:
                break
            if _tuple_end(block, at + 5, following, width) != following:
                break
            at = following
    except struct.error:
        pass
    return at


def _tuple_end(block: bytes | bytearray, at: int, end: int, width: int) -> int:
    """Where the tuple at ``at`` ends, -1 where it is not whole. Raises ``TargetFault`` on a length below -1."""
    at += 2
    for _ in range(width):
        if end - at < 4:
            return -1
        length = INT32(block, at)[0]
        if length < -1:
            raise TargetFault("the target sent a malformed COPY tuple", "08P01")
        at += 4 + max(length, 0)
        if at > end:
            return -1
    return at


class BinaryMasker:
    """Masks one COPY in binary format. ``masked`` counts values replaced. Raises ``GatewayFault`` on a tuple with another number of
    columns or a header that says more than is understood, ``TargetFault`` on what is malformed or too long."""

    def __init__(self, plan: MaskPlan, width: int) -> None:
        self.masked = 0
        self._width = width
        self._columns = plan.copy
        self._detected = plan.copy_detect
        self._detectors = plan.detectors
        self._headed = self._ended = False
        self._before = b""              # the header, until something comes to go out with it
        self._carry = bytearray()

    def feed(self, block: bytes) -> bytes:
        """Whole CopyData messages in, whole CopyData messages out."""
        out: list[bytes] = []
        at, end = 0, len(block)
        while at < end:
            if self._ready() and (last := whole_tuples(block, at, self._width)) > at:
                out.append(self._masked(block[at:last]))
                at = last
            else:
                following = at + 1 + int(INT32(block, at + 1)[0])
                self._pieces(block[at + 5:following], out)
                at = following
        return b"".join(out)

    def straight(self, before: bytes, data: bytes) -> rows.Passed | None:
        """``rows.pass_rows`` of messages that hold one tuple each; ``None`` where there is anything else. Where it raises nothing
        has happened."""
        if not self._ready():
            return None
        block, count, _, rest, more = rows.pass_rows(before, data, COPY_DATA, rows.BEGUN, 0, ())
        if whole_tuples(block, 0, self._width) != len(block):
            return None
        had = self.masked
        return self._masked(block), count, self.masked - had, rest, more

    def _ready(self) -> bool:
        """Nothing of a tuple is held, and the header is out."""
        return self._headed and not self._carry and not self._ended and not self._before

    def close(self) -> bytes:
        """At CopyDone."""
        if self._carry or not self._ended:
            raise TargetFault("the target ended a binary COPY in the middle", "08P01")
        return b""

    def _masked(self, messages: bytes) -> bytes:
        messages, count = rows.mask_rows(messages, self._width, self._columns)
        if self._detected and self._detectors is not None and self._detectors.candidates(messages):
            messages, found = rows.mask_rows(messages, self._width, self._detected)
            count += found
        self.masked += count
        return messages

    def _pieces(self, payload: bytes, out: list[bytes]) -> None:
        data = self._carry
        data += payload
        at = 0 if self._headed else self._header(data)
        while at >= 0 and len(data) - at >= 2 and not self._ended:
            count = INT16(data, at)[0]
            if count == -1:
                self._ended = True
                self._pass(TRAILER, out)
                at += 2
                break
            if count != self._width:
                raise GatewayFault("the target sent a COPY row with another number of columns than announced")
            end = _tuple_end(data, at, len(data), count)
            if end < 0:
                break
            self._pass(self._masked(frame(b"d", bytes(data[at:end])))[5:], out)
            at = end
        del data[:max(at, 0)]
        if self._ended and data:
            raise TargetFault("the target sent more after the end of a binary COPY", "08P01")
        if len(data) > ROW_LIMIT:
            raise TargetFault("the target sent a COPY row over the limit", "54000")

    def _pass(self, payload: bytes, out: list[bytes]) -> None:
        out.append(frame(b"d", self._before + payload))
        self._before = b""

    def _header(self, data: bytearray) -> int:
        """Where the header ends, -1 as long as it is not whole."""
        if not data.startswith(SIGNATURE[:len(data)]):
            raise TargetFault("the target sent no binary COPY", "08P01")
        if len(data) < _HEADER:
            return -1
        flags, extension = struct.unpack_from("!II", data, len(SIGNATURE))
        if flags >> 16 or extension > EXTENSION_LIMIT:
            raise GatewayFault("the target sent a binary COPY of a kind that is not understood")
        if len(data) < _HEADER + extension:
            return -1
        self._headed = True
        self._before = bytes(data[:_HEADER + extension])
        return int(_HEADER + extension)


_fast = compiled("gateway.protocols.postgres._rows")
whole_tuples: Tuples = whole_tuples_pure if _fast is None else _fast.whole_tuples
