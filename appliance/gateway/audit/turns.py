# SPDX-License-Identifier: Apache-2.0
"""The writer's turns while nothing else is due: take what queued, write it, hand it over, and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.audit.inbox import Inbox, Queued, cost_of, parted
from gateway.audit.journal import Journal
from gateway.native import compiled

LINGER = 0.02
"""Seconds that a lazy record is kept back at most."""
BATCH_RECORDS, BATCH_BYTES = 4096, 8 * 2**20
KEPT_BACK = 1000


class Turns:
    """For the writer thread alone. ``used`` and ``limit`` are bytes on the disk, ``done`` the last batch, not handed over yet.

    ``error`` is why what ``run`` gave could not be written; ``None`` where nobody has tried.
    """

    def __init__(self, inbox: Inbox, journal: Journal, deliver: Callable[[Sequence[Queued]], Any], limit: int) -> None:
        self.used, self.limit = 0, limit
        self.done: Sequence[Queued] = ()
        self.error: Exception | None = None
        self._inbox, self._journal, self._deliver = inbox, journal, deliver
        self._lazy: list[Queued] = []
        self._recorded: list[Queued] = []       # the lazy ones with a recording
        self._since = 0.0

    def run(self, until: float, look: float) -> list[Queued]:
        """Turn after turn until ``until``, or once something came after ``look`` (both monotonic seconds), or until somebody else has to
        look: when the log was clean, the batch is too large, the limit is near, it could not be written. Gives what is to be written next.
        """
        while not self._inbox.closing:
            due = min(until, self._since + LINGER) if self.kept_back() else until
            wait = due - time.monotonic()
            self.tell()
            taken = self._inbox.take(max(0.0, wait))
            now = time.monotonic()
            ready = self.ready(taken, now)
            if now >= look or now >= until:
                return ready
            if not ready:
                continue
            cost = cost_of(ready)
            if len(ready) > BATCH_RECORDS or cost > BATCH_BYTES or self.used + cost // 2 > self.limit:
                return ready
            was_clean = not self._journal.dirty
            try:
                self._journal.commit(ready, 0)
            except Exception as error:          # whatever it is, no record may be taken for written
                self.error = error
                return ready
            self.used += cost // 2
            self.done = ready
            if was_clean:
                break
        return []

    def tell(self) -> None:
        """Hand the last batch over: the last thing before sleeping, so that the event loop does not wake only to wait for this thread."""
        done, self.done = self.done, ()
        if done:
            self._deliver(done)

    def ready(self, entries: Sequence[Queued], now: float) -> list[Queued]:
        """What goes to disk now: what was kept back, then the rest as it came. A lazy entry rides with the next batch; one with a recording
        waits for others up to ``LINGER``."""
        lazy, recorded, urgent, ending = parted(entries)
        if not lazy and not recorded and not self.kept_back():
            return urgent
        if not self.kept_back():
            self._since = now
        if ending or now >= self._since + LINGER or self.kept_back() + len(lazy) + len(recorded) > KEPT_BACK:
            return [*self.all_lazy(), *entries]
        self._recorded += recorded
        if not urgent:
            self._lazy += lazy
            return []
        riding, self._lazy = self._lazy, []
        riding += [entry for entry in entries if not entry.lazy or not entry.recording] if recorded else entries
        return riding

    def kept_back(self) -> int:
        """How many entries wait for a batch to ride with."""
        return len(self._lazy) + len(self._recorded)

    def all_lazy(self) -> list[Queued]:
        """Everything kept back, which is not any more."""
        riding, self._lazy, self._recorded = self._lazy + self._recorded, [], []
        return riding


PureTurns = Turns
_fast = compiled("gateway.audit._record")
if _fast is not None:
    Turns = _fast.Turns  # type: ignore[misc]
