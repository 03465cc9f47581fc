# SPDX-License-Identifier: Apache-2.0
"""Counts that all workers see at once, in shared memory: connections now, and operations begun by each identity.

A table of 64-bit cells, a row for what is counted and a column for each worker. A worker writes its own column alone, so no count is ever
lost and none needs a lock; what all have is the sum of a row, as of this moment give or take an operation that is just beginning elsewhere.
"""

from __future__ import annotations

import mmap
import os
import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import GatewayFault
from gateway.live import Connections, Rates

CELL = 8
CONNECTIONS = 0
"""The row of open connections; those after it belong to identities."""


class Meter:
    """The table behind ``fd``, which stays its maker's."""

    def __init__(self, fd: int, rows: int, workers: int) -> None:
        self.fd, self.rows, self.workers = fd, rows, workers
        self._memory = mmap.mmap(fd, rows * workers * CELL)
        self._cells = memoryview(self._memory).cast("Q")

    @classmethod
    def make(cls, rows: int, workers: int) -> Meter:
        """A new table of zeros."""
        fd = os.memfd_create("lockgate-meter", os.MFD_CLOEXEC)
        os.ftruncate(fd, rows * workers * CELL)
        return cls(fd, rows, workers)

    def total(self, row: int) -> int:
        """What all workers counted."""
        return sum(self._cells[row * self.workers:(row + 1) * self.workers])

    def add(self, row: int, column: int, more: int) -> None:
        """Count in one's own column (from 0)."""
        self._cells[row * self.workers + column] += more

    def clear(self, row: int, column: int) -> None:
        """A worker is gone, and what it held with it."""
        self._cells[row * self.workers + column] = 0

    def close(self) -> None:
        self._cells.release()
        self._memory.close()
        os.close(self.fd)


class SharedConnections(Connections):
    """Connections open in all workers, as one of them sees them."""

    def __init__(self, meter: Meter, column: int) -> None:
        super().__init__()
        self._meter, self._column = meter, column

    def opened(self) -> int:
        self.here += 1
        self._meter.add(CONNECTIONS, self._column, 1)
        return self._meter.total(CONNECTIONS)

    def closed(self) -> None:
        self.here -= 1
        self._meter.add(CONNECTIONS, self._column, -1)


class SharedRates(Rates):
    """The token bucket of each identity over all workers: each sees what the others took since it last looked."""

    def __init__(self, rate: float, meter: Meter, column: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(rate, monotonic)
        self._meter, self._column = meter, column
        self._rows: dict[str, int] = {}
        self._taken: dict[str, int] = {}

    def count_in(self, identity: str, row: int) -> None:
        """Where this identity's operations are counted, as the first process says."""
        if self._rows.get(identity) != row:
            self._rows[identity] = row
            self._taken[identity] = self._meter.total(row)

    def take(self, identity: str) -> bool:
        row = self._rows.get(identity)
        if row is None:
            return False
        total, now = self._meter.total(row), self._monotonic()
        left, seen = self._left.get(identity, (self._most, now))
        left = min(self._most, left + (now - seen) * self._rate) - (total - self._taken[identity])
        may = left >= 1
        if may:
            self._meter.add(row, self._column, 1)
            left, total = left - 1, total + 1
        self._left[identity], self._taken[identity] = (max(left, -self._most), now), total
        return may


class Rows:
    """Which row counts which identity. A row passes to another identity only once nobody is left of the one it had, the one unused for
    longest first, so that a caller who comes again finds its bucket as it left it."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._given: OrderedDict[str, int] = OrderedDict()

    def row_of(self, identity: str, in_use: Callable[[str], int]) -> int:
        """``in_use`` says how many sessions an identity has. Raises ``GatewayFault`` where every row is taken."""
        if (row := self._given.get(identity)) is not None:
            self._given.move_to_end(identity)
            return row
        if len(self._given) + 1 < self._rows:
            row = len(self._given) + 1
        else:
            free = next((name for name in self._given if not in_use(name)), None)
            if free is None:
                raise GatewayFault("more identities are here than can be counted")
            row = self._given.pop(free)
        self._given[identity] = row
        return row
