# SPDX-License-Identifier: Apache-2.0
"""A long result goes straight through: once its first rows have taken ``Backend``'s way, each chunk of the target's is masked, counted
and written to the caller as it comes, without waking a task and without being joined with what came before it.

``Bulk`` takes chunks only while nothing can be in them but more rows of the result at hand and nothing bounds these: the command's
record is on disk, no limit of rows or bytes holds, its sample is full, nothing waits to be delivered. Everything else is the loop's: it
gets back the bytes that were not passed on, untouched. A chunk that cannot be masked is such bytes, too, so that faults are raised where
they always were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.masking.detect import Detectors
from gateway.net.gather import Gather
from gateway.protocols.postgres import rows
from gateway.protocols.postgres.codec import COPY_DATA, DATA_ROW, RunReader
from gateway.protocols.postgres.expect import QUERY, Expect, Running, on_disk
from gateway.protocols.postgres.masking import MaskPlan, RowPlan, look_into
from gateway.protocols.postgres.rows import Passed

if TYPE_CHECKING:
    from gateway.protocols.postgres.session import Relay

Pass = Callable[[bytes, bytes], Passed | None]
"""What is left of the chunk before, and a chunk: what passes of them. ``None``: not to be passed here, and nothing has happened."""


class Bulk:
    """One result of one ``Relay``, from some chunk on. What the loop has of it that is no whole message yet is taken out of ``frames``, and
    given back in the end."""

    __slots__ = ("_frames", "_gather", "_pass", "_relay", "_rest", "_running")

    def __init__(self, relay: Relay, running: Running, straight: Pass, frames: RunReader) -> None:
        self._relay, self._running, self._pass, self._frames = relay, running, straight, frames
        self._rest = frames.remainder()
        self._gather = Gather(relay.target.stream)

    def take(self, data: bytes) -> bool:
        """A chunk of the target's: whether it was taken. Raises nothing."""
        relay, running = self._relay, self._running
        client, limits = relay.client, relay.limits
        if client.congested or relay.over or limits.rows is not None or limits.bytes is not None:
            return self._leave()
        try:
            found = self._pass(self._rest, data)
        except Exception:       # the loop finds it again, and says so
            return self._leave()
        if found is None:
            return self._leave()
        self._gather.came(len(data))
        block, count, masked, self._rest, more = found
        running.rows += count
        running.masked += masked
        running.size += len(block)
        relay.totals.rows += count
        relay.totals.bytes += len(block)
        client.write(block)
        if not more:
            rest, self._rest = self._rest, b""
            self._leave()
            relay.target.stream.received(rest)
        return True

    def _leave(self) -> bool:
        """The loop goes on, with what is left in front of what comes."""
        self._gather.stop()
        self._relay.target.stream.tap = self._relay.lane.from_target
        self._frames.feed(self._rest)
        return False


def bulk(relay: Relay, expect: Expect, kind: int, frames: RunReader) -> Bulk | None:
    """For the result that ``expect`` answers, of which ``kind`` messages came last; ``None`` where it takes the loop's way."""
    running = expect.running
    if (running is None or expect.rows is not None or expect.hold is not None or relay.client.congested
            or running.permit.decision.limits.rows is not None or running.sample is not None and not running.sample.full
            or not on_disk(running.permit.recorded) or not frames.begun(kind, rows.BEGUN)):
        return None
    straight = _copy(expect) if kind == COPY_DATA else _rows(expect.plan if expect.kind == QUERY else running.plan)
    return None if straight is None else Bulk(relay, running, straight, frames)


def _copy(expect: Expect) -> Pass:
    return _unchanged(COPY_DATA) if expect.live is None else expect.live.straight


def _rows(plan: MaskPlan | None) -> Pass | None:
    """Of a verified plan."""
    if plan is None or plan.any and plan.rows is None:
        return None
    return _unchanged(DATA_ROW) if plan.rows is None or not plan.any else _masked(plan.rows, plan.detectors)


def _unchanged(kind: int) -> Pass:
    passed = rows.pass_rows
    return lambda before, data: passed(before, data, kind, rows.BEGUN, 0, ())


def _masked(plan: RowPlan, detectors: Detectors | None) -> Pass:
    passed, width, columns = rows.pass_rows, plan.width, plan.masked

    def straight(before: bytes, data: bytes) -> Passed:
        block, count, masked, rest, more = passed(before, data, DATA_ROW, rows.BEGUN, width, columns)
        block, found = look_into(plan, detectors, block)
        return block, count, masked + found, rest, more

    return straight
