# SPDX-License-Identifier: Apache-2.0
"""Whether bytes read out of a file hold what is masked for this caller: a secret the gateway holds, or a finding of a detector.

A file is passed as it is or not at all: replacing would break sizes, offsets and hashes. A range is looked at with what stands around it in
the file, so that reading byte by byte, or in any order, shows no more than reading it whole. What is already known of the neighbourhood is
not read again; where something may begin or end outside the range, the gateway reads on by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol

WINDOW = 16 * 1024
"""Bytes before a range that are looked at with it: longer than any key or token that is masked whole."""
STEP = 4 * 1024
AHEAD = 64 * 1024
"""Bytes after a range, at most, to find out whether what begins in it is a secret. Undecided after that counts as one."""

Look = Generator[tuple[int, int], bytes, bool]
"""Yields (offset, length) it has to see and gets those bytes, ``b""`` at the end of the file; returns whether the range is clean."""


class Masker(Protocol):
    """The part of ``masking.stream.StreamMasker`` that is used."""

    masked: int

    def feed(self, data: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class Watch:
    """Looks at the ranges of one open file. ``fresh`` gives a new masker."""

    __slots__ = ("_end", "_fresh", "_given", "_masker", "_tail", "_taken")

    def __init__(self, fresh: Callable[[], Masker]) -> None:
        self._fresh = fresh
        self._masker = fresh()
        self._end = 0
        self._taken = self._given = 0
        self._tail = b""

    def look(self, offset: int, data: bytes) -> Look:
        """Look at ``data``, which was read at ``offset``."""
        if offset != self._end:
            yield from self._elsewhere(offset)
        self._feed(data)
        self._tail = data[-WINDOW:] if len(data) >= WINDOW else (self._tail + data)[-WINDOW:]
        self._end = offset + len(data)
        if self._masker.masked:
            return False
        if self._given == self._taken:
            return True
        return (yield from self._ahead())

    def _feed(self, data: bytes) -> None:
        self._taken += len(data)
        self._given += len(self._masker.feed(data))

    def _elsewhere(self, offset: int) -> Generator[tuple[int, int], bytes, None]:
        """Begin anew, with what stands before ``offset``."""
        self._masker = self._fresh()
        self._taken = self._given = 0
        self._tail = b""
        at = max(0, offset - WINDOW)
        while at < offset:
            more = (yield at, min(offset - at, WINDOW))[:offset - at]
            if not more:
                break
            self._feed(more)
            self._tail += more
            at += len(more)

    def _ahead(self) -> Look:
        """Something may begin at the end of what was read: look at what follows, with a masker of its own."""
        probe = self._fresh()
        given, wanted = len(probe.feed(self._tail)), len(self._tail)
        at = self._end
        while given < wanted and not probe.masked and at < self._end + AHEAD:
            more = yield at, STEP
            if not more:
                given += len(probe.end())
                break
            given += len(probe.feed(more))
            at += len(more)
        return given >= wanted and not probe.masked
