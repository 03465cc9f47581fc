# SPDX-License-Identifier: Apache-2.0
"""What the target still owes: one ``Expect`` per message sent to it, in order. Pure values; ``backend.py`` works through them.

The target answers strictly in order (manual 55.2.3), and after an error in the extended protocol skips everything up to Sync, so a
queue is all that is needed to know which answer belongs to which command.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gateway.govern import Permit
from gateway.protocols.postgres.machine import (
    BIND,
    CLOSE,
    DESCRIBE_PORTAL,
    DESCRIBE_STATEMENT,
    EXECUTE,
    PARSE,
    QUERY,
    SYNC,
)
from gateway.protocols.postgres.masking import MaskPlan
from gateway.protocols.postgres.recorder import Sample
from gateway.protocols.postgres.statement import Statement

Fields = dict[str, str]



def on_disk(record: asyncio.Future[int]) -> bool:
    """Whether a record is durable: done, and not failed."""
    return record.done() and not record.cancelled() and record.exception() is None


@dataclass(slots=True)
class Running:
    """One command in flight: its permit and what has been answered so far."""

    permit: Permit
    statements: tuple[Statement, ...]
    rows: int = 0
    affected: int = 0
    size: int = 0
    masked: int = 0
    sample: Sample | None = None
    finished: bool = False
    executed: bool = False
    suspended: bool = False          # its portal has more rows than were asked for
    most: int | None = None          # ``max_rows``
    plan: MaskPlan | None = None     # verified by the RowDescription of its portal
    timer: asyncio.TimerHandle | None = None
    status: str = ""                 # set from outside: withdrawn, cancelled

    def close(self) -> None:
        """It has ended; nothing more is recorded of it."""
        self.finished = True
        self.stop_clock()

    def stop_clock(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(slots=True)
class Expect:
    """One message the target has to answer.

    ``plans`` are the mask plans of the statements in the message, in order. ``silent`` answers are the gateway's own and never
    reach the caller. ``instead`` replaces the error that a poisoned message provokes. ``answered`` is resolved when the
    last byte of the answer has been handled, with the error's fields or ``None``.
    """

    kind: str
    plans: tuple[MaskPlan | None, ...] = ()
    running: Running | None = None
    silent: bool = False
    told: bool = False               # an error of a silent one is the caller's too: it stands in the caller's own pipeline
    instead: Fields | None = None
    answered: asyncio.Future[Fields | None] | None = None
    undo: Callable[[], None] | None = None       # takes back what sending it changed in the session's names
    rows: list[tuple[str | None, ...]] | None = None
    formats: tuple[int, ...] = ()
    described: list[int] | None = None    # filled with the types of a ParameterDescription
    hold: bytearray | None = None    # CommandComplete and ReadyForQuery kept back until max_rows is settled
    affected: int = 0
    at: int = 0                      # index into plans: which statement of a simple query is being answered
    state: str = ""                  # how far the answer is: machine.TARGET
    plan: MaskPlan | None = None     # the verified plan of the result being sent
    live: Any = None                 # the masker of the copy being sent
    failed: Fields | None = None
    moved: bool = False              # the target was given another text: a place in it is none in the caller's
    offset: int = 0                  # characters of the caller's text in front of what the target was given
    turn: int = 0                    # Syncs and simple queries that were sent before

    def done(self, error: Fields | None = None) -> None:
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(error)


@dataclass(slots=True)
class Pending:
    """The queue, and whether the target is skipping to the next Sync."""

    queue: deque[Expect] | None = None       # while something is owed: an empty one takes more than all else in an idle session
    skipping: bool = False

    def push(self, expect: Expect) -> bool:
        """Add what was just sent. False when the target will skip it (it is settled at once)."""
        if self.skipping and expect.kind != SYNC:
            expect.done({"C": "25P02", "M": "skipped after an earlier error"})
            return False
        if expect.kind == SYNC:
            self.skipping = False
        if self.queue is None:
            self.queue = deque()
        self.queue.append(expect)
        return True

    def head(self) -> Expect | None:
        return self.queue[0] if self.queue is not None else None

    def pop(self) -> Expect:
        """The head has been answered to its end, or skipped. Raises ``IndexError`` where there is none."""
        if self.queue is None:
            raise IndexError("nothing is owed")
        found = self.queue.popleft()
        if not self.queue:
            self.queue = None
        return found

    def __iter__(self) -> Iterator[Expect]:
        return iter(self.queue or ())

    def after_error(self) -> Iterator[Expect]:
        """Drop what the target skips after an error in the extended protocol: everything up to the next Sync."""
        while (head := self.head()) is not None and head.kind != SYNC:
            yield self.pop()
        self.skipping = self.queue is None

    def __bool__(self) -> bool:
        return self.queue is not None


__all__ = ["BIND", "CLOSE", "DESCRIBE_PORTAL", "DESCRIBE_STATEMENT", "EXECUTE", "PARSE", "QUERY", "SYNC", "Expect", "Fields", "Pending",
           "Running", "on_disk"]
