# SPDX-License-Identifier: Apache-2.0
"""What the lane reads of both directions' bytes: pure functions, with a compiled twin in ``_lanewire.pyx``.

They recognise one shape only, whole and without a byte left over (manual, "Message Flow"): ``[Parse] Bind [Describe] Execute Sync`` of
unnamed portals, or ``Query``, and the answer that such a group has when nothing goes wrong. What is not exactly that is not theirs.
"""

from __future__ import annotations

import struct

from gateway.native import compiled
from gateway.protocols.postgres.rows import INT16, INT32, scan_run

Group = tuple[bytes, int, int, int, int]
"""(key, where Bind begins, where the parameters begin, where they end, where Bind ends). The key is the group without the parameters'
values and without Bind's length; of a Query the whole message, and the offsets are 0."""
Answer = tuple[int, int, int, int, int, int, int]
"""(where the RowDescription begins, where it ends, where rows begin, where they end, how many, where the CommandComplete ends, the
transaction status). Without a RowDescription the first two are equal."""

PARSE, BIND, TYPED, ROWS = 1, 2, 4, 8
"""What an answer is made of: begins with ParseComplete · is of the extended protocol · tells its columns (or NoData) · has rows."""

DESCRIBE = b"D\0\0\0\x06P\0"
EXECUTE = b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"
TAILS = (DESCRIBE + EXECUTE, EXECUTE)

MORE, OTHER = 0, 1
"""Of an answer: not all of it is here yet · it is not of that shape."""


def split_pure(data: bytes) -> Group | None:
    """A caller's chunk as one group, ``None`` for anything else."""
    if data[:1] == b"Q":
        whole = len(data) >= 6 and INT32(data, 1)[0] == len(data) - 1 and data.find(0, 5) == len(data) - 1
        return (data, 0, 0, 0, 0) if whole else None
    try:
        return _extended(data)
    except (struct.error, IndexError):
        return None


def _extended(data: bytes) -> Group | None:
    start = 0
    if data[0] == 0x50:
        start = 1 + int(INT32(data, 1)[0])
        if start < 9 or data[5] or start > len(data) - 5:
            return None
    if data[start] != 0x42:
        return None
    after = start + 1 + int(INT32(data, start + 1)[0])
    if after < start + 13 or data[after:] not in TAILS or data[start + 5]:
        return None
    name = data.find(0, start + 6, after)
    if name < 0:
        return None
    formats = int(INT16(data, name + 1)[0])
    at = name + 5 + 2 * formats
    if formats < 0 or at > after:
        return None
    count = int(INT16(data, at - 2)[0])
    end = at
    for _ in range(count):
        length = int(INT32(data, end)[0])
        end += 4 + max(length, 0)
        if length < -1 or end > after:
            return None
    if count < 0 or end + 2 > after or end + 2 + 2 * int(INT16(data, end)[0]) != after:
        return None
    return data[:start] + data[start + 5:at] + data[end:], start, at, end, after


def plain_pure(data: bytes, at: int, end: int, hidden: frozenset[int]) -> bytes | None:
    """The parameters from ``at`` to ``end`` (whole ones) as a JSON array of text; those of ``hidden`` numbers as ``****``.

    ``None`` where one is more than ASCII that JSON leaves as it is.
    """
    shown = []
    while at < end:
        length = int(INT32(data, at)[0])
        at += 4
        if length < 0:
            shown.append(b"null")
            continue
        if len(shown) + 1 in hidden:
            shown.append(b'"****"')
            at += length
            continue
        value = data[at:at + length]
        if not is_plain(value):
            return None
        shown.append(b'"%b"' % value)
        at += length
    return b"[%b]" % b",".join(shown)


def is_plain(value: bytes) -> bool:
    """Printable ASCII without the two characters that JSON escapes."""
    return not value.translate(None, _PLAIN)


_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))


def answer_pure(data: bytes, shape: int) -> Answer | int:
    """A target's answer of this shape, to its last byte; ``MORE`` or ``OTHER``."""
    at = 0
    for part in _opening(shape):
        if data[at:at + 5] != part:
            return MORE if part.startswith(data[at:at + 5]) else OTHER
        at += 5
    described = at
    if _describes(shape):
        at = _message(data, at, 0x54)
        if at <= 0:
            return -at
    end = rows = at
    count = 0
    if shape & ROWS:
        end, count = scan_run(data, at, len(data), 0x44)
    if shape & ROWS and data[end:end + 1] == b"D":
        return OTHER if len(data) - end >= 5 and INT32(data, end + 1)[0] < 4 else MORE
    complete = _message(data, end, 0x43)
    if complete <= 0:
        return -complete
    last = data[complete:complete + 6]
    if len(last) < 6:
        return MORE if b"Z\0\0\0\x05".startswith(last[:5]) else OTHER
    if last[:5] != b"Z\0\0\0\x05" or complete + 6 != len(data) or last[5] not in b"IT":
        return OTHER
    return described, rows, rows, end, count, complete, last[5]


def _opening(shape: int) -> list[bytes]:
    if not shape & BIND:
        return []
    parts = [b"1\0\0\0\x04"] if shape & PARSE else []
    parts.append(b"2\0\0\0\x04")
    return [*parts, b"n\0\0\0\x04"] if shape & TYPED and not shape & ROWS else parts


def _describes(shape: int) -> bool:
    return bool(shape & ROWS) and (bool(shape & TYPED) or not shape & BIND)


def _message(data: bytes, at: int, kind: int) -> int:
    """Where the message of that kind ends; ``-MORE`` or ``-OTHER``."""
    if at == len(data):
        return -MORE
    if data[at] != kind:
        return -OTHER
    if len(data) - at < 5:
        return -MORE
    length = int(INT32(data, at + 1)[0])
    if length < 4:
        return -OTHER
    return at + 1 + length if at + 1 + length <= len(data) else -MORE


def sample_pure(data: bytes, head: bytes, room: int, most: int, longest: int) -> bytes | None:
    """The recording of whole DataRow messages as ``recorder.Sample`` would make it: at most ``most`` rows that together take ``room``.

    ``head`` is what stands before the rows. ``None`` where a value is not plain or is longer than ``longest``, or a row is malformed.
    """
    out: list[bytes] = []
    at = 0
    cut = False
    try:
        while at < len(data) and not cut:
            row, size, at = _row(data, at, longest)
            if row is None:
                return None
            cut = len(out) >= most or size > room
            if not cut:
                room -= size
                out.append(row)
    except (struct.error, IndexError):
        return None
    return b'%b%b],"truncated":%b}' % (head, b",".join(out), b"true" if cut else b"false")


def _row(data: bytes, at: int, longest: int) -> tuple[bytes | None, int, int]:
    end = at + 1 + int(INT32(data, at + 1)[0])
    pos = at + 7
    size = 0
    shown = []
    for _ in range(INT16(data, at + 5)[0]):
        length = int(INT32(data, pos)[0])
        pos += 4
        if length < 0:
            shown.append(b"null")
            size += 4
            continue
        value = data[pos:pos + length]
        if length > longest or pos + length > end or not is_plain(value):
            return None, 0, 0
        shown.append(b'"%b"' % value)
        size += length + 3
        pos += length
    if pos != end or end > len(data):
        return None, 0, 0
    return b"[%b]" % b",".join(shown), size, end


_fast = compiled("gateway.protocols.postgres._lanewire")
split = _fast.split if _fast is not None else split_pure
plain = _fast.plain if _fast is not None else plain_pure
answer = _fast.answer if _fast is not None else answer_pure
sample = _fast.sample if _fast is not None else sample_pure
