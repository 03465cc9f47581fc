# SPDX-License-Identifier: Apache-2.0
"""What a program showed on a terminal or sent as output, typed and timed. Pure.

A recording is a series of *parts*, each ``LGT1`` and a zstd frame (RFC 8878) of: microseconds since the program began (varint), then events
``delta`` (varint, microseconds since the one before), ``kind`` (one letter), ``length`` (varint), bytes. Varints are LEB128, seven bits a
byte, least first. Each part can be read alone; their order is that of the records that hold them.

Kinds: ``b`` begin (JSON: ``term``, ``cols``, ``rows``; empty without a terminal) · ``o`` output · ``e`` standard error · ``i`` input (where
that is kept) · ``I`` bytes of input (decimal) · ``r`` resized (``COLSxROWS``) · ``s`` signal (name) · ``v`` environment (``NAME=VALUE``) ·
``c`` cut: what comes after is not kept · ``z`` bytes that were not kept (decimal) · ``h`` all of them:
``BYTES SHA256`` · ``x`` exit (decimal status).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import zstandard

MAGIC = b"LGT1"
KINDS = frozenset("boeiIrsvczhx")
LARGEST_PART = 2**20
"""Bytes of one part, unpacked."""
_LEVEL = 1
_VARINT = 9


@dataclass(frozen=True, slots=True)
class Event:
    """``at`` is microseconds since the program began."""

    at: int
    kind: str
    data: bytes = b""


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encoded(delta: int, kind: str, data: bytes) -> bytes:
    """One event as it stands in a part."""
    return varint(max(0, delta)) + kind.encode() + varint(len(data)) + data


def packed(start: int, body: bytes) -> bytes:
    """A part: ``body`` is encoded events, the first of them ``delta`` after ``start``."""
    return MAGIC + zstandard.ZstdCompressor(level=_LEVEL).compress(varint(max(0, start)) + body)


def decode(part: bytes) -> list[Event]:
    """Raises ``ValueError`` for anything else, also one that would unpack to more than ``LARGEST_PART``."""
    if part[:len(MAGIC)] != MAGIC:
        raise ValueError("not a part of a terminal's recording")
    try:
        size = zstandard.frame_content_size(part[len(MAGIC):])
        if not 0 <= size <= LARGEST_PART:
            raise ValueError("a part that says no size, or too large a one")
        body = zstandard.ZstdDecompressor().decompress(part[len(MAGIC):], max_output_size=LARGEST_PART)
    except zstandard.ZstdError:
        raise ValueError("a part that cannot be unpacked") from None
    at, place = _number(body, 0)
    found: list[Event] = []
    while place < len(body):
        delta, place = _number(body, place)
        kind = body[place:place + 1].decode("latin-1")
        length, place = _number(body, place + 1)
        if kind not in KINDS or place + length > len(body):
            raise ValueError("a part that is broken")
        at += delta
        found.append(Event(at, kind, body[place:place + length]))
        place += length
    return found


def _number(body: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(_VARINT):
        if place >= len(body):
            break
        byte = body[place]
        value |= (byte & 0x7F) << 7 * index
        place += 1
        if byte < 0x80:
            return value, place
    raise ValueError("a part that is broken")


Listed = list[list[Any]]


def listed(events: Iterable[Event]) -> Listed:
    """As JSON has them: ``[SECONDS, KIND, TEXT]``; a kind with ``!`` behind it is no UTF-8, each character is one byte."""
    return [_listed(event) for event in events]


def _listed(event: Event) -> list[Any]:
    try:
        return [event.at / 1e6, event.kind, event.data.decode()]
    except UnicodeDecodeError:
        return [event.at / 1e6, event.kind + "!", event.data.decode("latin-1")]


def unlisted(rows: object) -> list[Event]:
    """The other way. Raises ``ValueError``."""
    found: list[Event] = []
    for row in cast(Sequence[Any], rows if isinstance(rows, list) else [None]):
        match row:
            case [int() | float() as at, str() as kind, str() as text] if kind.removesuffix("!") in KINDS:
                try:
                    found.append(Event(round(at * 1e6), kind[0], text.encode("latin-1" if kind.endswith("!") else "utf-8")))
                except UnicodeEncodeError:
                    raise ValueError("not an event") from None
            case _:
                raise ValueError("not an event")
    return found
