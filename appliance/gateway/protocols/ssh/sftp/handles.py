# SPDX-License-Identifier: Apache-2.0
"""Handles as the caller knows them: the gateway's own, never given out twice, each bound to the decision made when it was opened.

A handle of the target is never shown: it would be used again for another file once it is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import Refused
from gateway.protocols.ssh.sftp.codec import U32
from gateway.protocols.ssh.sftp.transfer import Transfer
from gateway.protocols.ssh.sftp.watch import Watch


@dataclass(slots=True)
class Opened:
    """An open file or directory. ``path`` is what the caller named, normalised; ``resolved`` where it lies, links followed; ``running`` is
    the command that opened it."""

    theirs: bytes
    path: str
    resolved: str
    reads: bool = False
    writes: bool = False
    directory: bool = False
    ours: bytes = b""
    running: Any = None
    transfer: Transfer = field(default_factory=Transfer)
    watch: Watch | None = None
    look_again: float = 0.0
    """Loop time at which it is asked anew whether there is something to look for."""
    refusal: str = ""
    """Why it may not be used any more."""
    error: str = ""
    """The first error the target gave for it."""
    closing: bool = False
    close: int | None = None
    """The caller's CLOSE (its id), to be sent once everything before it is answered."""
    outstanding: int = 0
    """Requests sent for it whose answers the caller has not got."""
    waiting: deque[Any] | None = None
    """What came for it while a request on it is being decided."""
    looking: deque[Any] | None = None
    """What was read from it while something before it is being looked at."""


class Handles:
    """The open ones of one channel."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[bytes, Opened] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Opened]:
        return iter(tuple(self._open.values()))

    @property
    def full(self) -> bool:
        return len(self._open) >= self._limit

    def add(self, opened: Opened) -> bytes:
        """Name it. Raises ``Refused`` when there are too many, or all names were used."""
        if self.full or self._next > 0xFFFFFFFF:
            raise Refused(f"too many open files on this channel: at most {self._limit}")
        opened.ours = U32.pack(self._next)
        self._next += 1
        self._open[opened.ours] = opened
        return opened.ours

    def get(self, handle: bytes) -> Opened | None:
        """What this handle names; ``None`` for one that is closed, closing, or was never given."""
        found = self._open.get(handle)
        return None if found is None or found.closing else found

    def remove(self, opened: Opened) -> None:
        self._open.pop(opened.ours, None)
