# SPDX-License-Identifier: Apache-2.0
"""``ChannelRecorder``: a program's masked output as parts for ``command.output`` and ``command.end`` records. Pure but for hashing.

Fed after masking, so that what was masked is nowhere. Memory is one part. Beyond ``limit`` bytes of output a ``cut`` event stands, and from
there on only sizes, once a second, and at the end their sum and SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from gateway.recording.terminal import encoded, packed

PART = 192 * 2**10
"""Bytes of events in a part before it is packed: a part stays below 256 KiB whatever is in it."""
DUE = 1.0
"""Seconds after which a part is given out although it is not full."""
_SIZES_EVERY = 1_000_000
_EVENT = 8
"""Bytes of an event besides what it says."""
_SLACK = 1000
"""Microseconds by which a clock may be early."""


class Part(bytes):
    """A part to be kept as ``recording``. ``fields``: ``part`` (from 0), ``first`` and ``last`` (seconds since the program began),
    ``bytes`` (of output in it)."""

    fields: Mapping[str, Any]


class ChannelRecorder:
    """One program. ``at`` everywhere is a monotonic clock in seconds; ``limit``: bytes of output that are kept. ``terminal``: ``term``,
    ``cols``, ``rows`` of a PTY. ``keep_input`` keeps what is typed, else only how much."""

    def __init__(self, limit: int, at: float, terminal: tuple[str, int, int] | None = None, *, keep_input: bool = False) -> None:
        self._began, self._left, self._keep_input = at, limit, keep_input
        self._events = limit
        self._body = bytearray()
        self._start = self._last = 0
        self._number = self._bytes = 0
        self._dropped = self._unsaid = 0
        self._said, self._digest = 0, sha256()
        self._cut = self._over = False
        about = {"term": terminal[0], "cols": terminal[1], "rows": terminal[2]} if terminal is not None else None
        self._add("b", json.dumps(about).encode() if about else b"", at)

    def output(self, data: bytes, *, stderr: bool, at: float) -> None:
        """What the caller got."""
        kept = data[:self._left] if len(data) > self._left else data
        if kept:
            self._left -= len(kept)
            self._bytes += len(kept)
            self._add("e" if stderr else "o", kept, at)
        if len(kept) < len(data):
            self._drop(data[len(kept):], at)

    def input(self, data: bytes, at: float) -> None:
        """What the caller sent: counts against the limit where it is kept."""
        if self._keep_input and len(data) <= self._left:
            self._left -= len(data)
            self._add("i", data, at)
        elif not self._cut:
            self._event("I", b"%d" % len(data), at)

    def resized(self, cols: int, rows: int, at: float) -> None:
        self._event("r", b"%dx%d" % (cols, rows), at)

    def signal(self, name: str, at: float) -> None:
        self._event("s", name.encode(), at)

    def env(self, name: str, value: str, at: float) -> None:
        self._event("v", f"{name}={value}".encode(errors="replace"), at)

    def exit(self, status: int, at: float) -> None:
        """Nothing comes any more: ``take`` gives the rest."""
        if self._cut:
            self._say(at)
            self._add("h", b"%d %b" % (self._dropped, self._digest.hexdigest().encode()), at)
        self._add("x", b"%d" % status, at)
        self._over = True

    @property
    def due(self) -> float | None:
        """The moment at which ``take`` gives a part although it is not full; ``None`` while there is nothing to give."""
        return self._began + self._start / 1e6 + DUE if self._body else None

    def take(self, at: float | None = None) -> Part | None:
        """A part that is full, or due ``at`` this moment (else: with its last event), or the last one; ``None`` where there is none."""
        now = self._last if at is None else round((at - self._began) * 1e6)
        if not self._body or not (self._over or len(self._body) >= PART or now - self._start >= DUE * 1e6 - _SLACK):
            return None
        part = Part(packed(self._start, bytes(self._body)))
        part.fields = {"part": self._number, "first": self._start / 1e6, "last": self._last / 1e6, "bytes": self._bytes}
        self._body.clear()
        self._number, self._bytes = self._number + 1, 0
        return part

    def _event(self, kind: str, data: bytes, at: float) -> None:
        """What the caller makes happen, as often as it likes: as much of it is kept as of the output."""
        size = len(data) + _EVENT
        if size <= self._events:
            self._events -= size
            self._add(kind, data, at)

    def _drop(self, data: bytes, at: float) -> None:
        if not self._cut:
            self._cut = True
            self._add("c", b"", at)
            self._said = self._last
        self._dropped += len(data)
        self._unsaid += len(data)
        self._digest.update(data)
        if (at - self._began) * 1e6 - self._said >= _SIZES_EVERY:
            self._say(at)

    def _say(self, at: float) -> None:
        if self._unsaid:
            self._add("z", b"%d" % self._unsaid, at)
            self._unsaid, self._said = 0, self._last

    def _add(self, kind: str, data: bytes, at: float) -> None:
        now = max(self._last, round((at - self._began) * 1e6))
        if not self._body:
            self._start = self._last = now
        self._body += encoded(now - self._last, kind, data)
        self._last = now
