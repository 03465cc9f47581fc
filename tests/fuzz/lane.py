# SPDX-License-Identifier: Apache-2.0
"""Sessions with the lane and without it: the same bytes to the caller, the same to the target, the same records.

A byte below the number of turns is one of them, whole or with the next byte changed; 250 and above take the bytes that follow as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.protocols.postgres.messages import Bind, Close, Describe, Execute, Flush, Parse, Query, Sync
from tests.unit.protocols.postgres.test_lane import HIDES, INSERT, ONE, PREPARE, TEXTS, again, both, run

_PARTS = (Parse("", ONE), Parse("h", HIDES), Bind("", "s", (), (b"1",)), Bind("p", "h", (), (None,)), Describe("P", ""), Describe("S", "h"),
          Execute("", 1), Execute(""), Close("S", "s"), Close("P", ""), Flush(), Sync())
TURNS = (
    *(Query(text).encode() for text in TEXTS), *(part.encode() for part in _PARTS),
    run(ONE, b"1"), run(ONE, b"2", describe=False), run(HIDES, b"078-05-1120"), run(INSERT, b"4"), again("s", b"1"), again("h", b"x"),
    again("i", b"4111111111111111"), again("s", b"1", describe=False), again("h", None, describe=False),
    again("s", b"\0\0\0\1", formats=(1,)))
_RAW = 250
MOST = 24
"""Turns of one conversation."""


def turns(data: bytes) -> list[bytes]:
    """What a caller says."""
    found: list[bytes] = []
    at = 0
    while at < len(data) and len(found) < MOST:
        chosen = data[at]
        at += 1
        if chosen >= _RAW:
            found.append(data[at:at + chosen - _RAW + 1])
            at += chosen - _RAW + 1
            continue
        turn = TURNS[chosen % len(TURNS)]
        if chosen >= 3 * len(TURNS):
            place = data[at] % len(turn) if at < len(data) else 0
            turn = turn[:place] + data[at + 1:at + 2] + turn[place + 1:]
            at += 2
        found.append(turn)
    return [one for one in found if one]


def conversation(data: bytes) -> None:
    """The first byte: whether columns are masked, how the target's answers are cut, whether the caller's turns come in one piece."""
    if len(data) < 2:
        return
    said = turns(data[1:])
    if data[0] & 8:
        said = [b"".join(said)] if said else []
    both([PREPARE, Query("select 1").encode(), *said], bool(data[0] & 1), (0, 1, 7, 64)[data[0] >> 1 & 3], hang_up=True)


def seeds() -> Iterable[bytes]:
    first = len(TEXTS) + len(_PARTS)
    for mode in range(0, 16, 3):
        yield bytes([mode, first + 4, first + 4, first + 4, first + 5, first + 5, 0, 0, first, first])
        yield bytes([mode, 7, first + 4, first + 6, 8, 0, first + 1, first + 2, first + 8, first + 8])
    yield bytes([1, first + 4, 251, 0x51, 0, first + 4])
    yield bytes([0, first + 4, 3 * len(TURNS) + 2, 6, 0x7F, first + 4])
