# SPDX-License-Identifier: Apache-2.0
"""The clock: whether something keeps it right, and whether it has gone back behind what is already recorded."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import orjson

from gateway.audit.files import RowError
from gateway.audit.reader import LogReader
from gateway.audit.record import time_value
from gateway.doctor.finding import Check, Sign
from gateway.errors import GatewayFault
from gateway.identity.clock import TOLERANCE, read_floor

UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""
LARGE_ERROR = 1.0


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds since the epoch; ``floor`` and ``last`` are 0 where nothing is known. ``error`` is the kernel's bound, in seconds;
    ``synchronised`` is ``None`` where the kernel does not say."""

    wall: float
    floor: float
    last: float
    synchronised: bool | None
    error: float


def look_at(state: Path) -> Time:
    """What clock, kernel, floor and log say."""
    synchronised, error = kernel_clock()
    return Time(time.time(), read_floor(state / "clock.floor") or 0.0, last_record(state / "audit"), synchronised, error)


def kernel_clock() -> tuple[bool | None, float]:
    """Whether the kernel's clock is kept by somebody, and how far off it may be, in seconds (adjtimex(2); reads only)."""
    answer = (ctypes.c_long * 32)()
    try:
        failed = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(answer)) < 0
    except (OSError, AttributeError):
        failed = True
    if failed:
        return None, 0.0
    status = ctypes.cast(ctypes.byref(answer, 5 * ctypes.sizeof(ctypes.c_long)), ctypes.POINTER(ctypes.c_int))[0]
    return not status & UNSYNCHRONISED, answer[3] / 1e6


def last_record(audit: Path) -> float:
    """The time of the newest record; 0 where there is none, or it cannot be read (`audit verify` says why)."""
    with contextlib.suppress(apsw.Error, OSError, GatewayFault, RowError, ValueError, LookupError):
        reader = LogReader(audit)
        for path in reversed(reader.paths()):
            for row in reader.rows_backwards(path):
                return _time_of(row.records()[-1])
    return 0.0


def _time_of(line: bytes) -> float:
    return time_value(orjson.loads(line)["time"]) / 1e6


def _unkept(clock: Time) -> Iterator[Sign]:
    if clock.synchronised is False:
        yield Sign("clock", "the kernel says that nobody keeps it (STA_UNSYNC)")


def _inexact(clock: Time) -> Iterator[Sign]:
    if clock.synchronised and clock.error > LARGE_ERROR:
        yield Sign("clock", f"may be {clock.error:.1f} s off, says the kernel")


def _behind(clock: Time) -> Iterator[Sign]:
    for name, known in (("the floor that the gateway keeps", clock.floor), ("the newest record", clock.last)):
        if clock.wall < known - TOLERANCE:
            yield Sign("clock", f"is {known - clock.wall:.0f} s behind {name}")


CHECKS: tuple[Check[Time], ...] = (
    Check("clock.behind", "high", "The clock has gone back behind what is recorded: the gateway decides by its own floor until then.",
          "Set the clock right; look at who or what set it back.", _behind),
    Check("clock.unkept", "medium", "Nothing keeps the clock right: tokens, windows and records are only as true as it is.",
          "Run a time client (chrony, systemd-timesyncd) against the segment's own servers.", _unkept),
    Check("clock.inexact", "low", "The clock may be off by more than a second.",
          "Look at the time client: it has not heard of its servers lately.", _inexact),
)
"""What is looked at of the clock."""
