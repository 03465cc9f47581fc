# SPDX-License-Identifier: Apache-2.0
"""How commands end: recorded once and never before their beginning, cancelled on the target when their time is over."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import takewhile
from typing import TYPE_CHECKING

from gateway.errors import TargetFault
from gateway.govern import finish
from gateway.protocols.postgres.expect import QUERY, SYNC, Fields, Running, on_disk
from gateway.protocols.postgres.target import cancel

if TYPE_CHECKING:
    from gateway.protocols.postgres.session import Relay

LAST_WAIT = 5.0
"""Seconds that the end of a session waits for the disk, and for its CancelRequest."""


class Commands:
    """The endings of one ``Relay``'s commands."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._unrecorded: dict[asyncio.Future[int], None] = {}   # commands that ended before their begin was on disk
        self._cancelling: asyncio.Task[None] | None = None

    def finish(self, running: Running, status: str, fields: Fields) -> None:
        """Record how a command ended, once, and never before its beginning is on disk."""
        if running.finished:
            return
        running.close()
        self._relay.totals.active = asyncio.get_running_loop().time()
        recorded = running.permit.recorded
        if recorded.done():
            self._record_end(running, status, fields)
            return
        self._unrecorded[recorded] = None
        recorded.add_done_callback(lambda done: self._unrecorded.pop(done, None))
        recorded.add_done_callback(lambda done: self._record_end(running, status, fields))

    def _record_end(self, running: Running, status: str, fields: Fields) -> None:
        recorded = running.permit.recorded
        if not on_disk(recorded):
            return
        sample = running.sample.close() if running.sample is not None else None
        finish(self._relay.gate, self._relay.session, recorded.result(), running.status or status, rows=running.rows or running.affected,
               size=running.size, masked=running.masked, error=fields.get("C", ""), recording=sample)

    def overtime(self, running: Running, seconds: float) -> None:
        """``statement: {time}`` is over: cancel it on the target; the error comes back from there.

        While the target is still busy with an earlier query or pipeline, the time has not begun. Inside of one pipeline a server keeps its
        answers back until Sync, so how far it has come is not known, and an error ends all of it anyway.
        """
        if running.finished:
            return
        before = takewhile(lambda expect: expect.running is not running, self._relay.pending)
        if any(expect.kind in (SYNC, QUERY) for expect in before):
            running.timer = asyncio.get_running_loop().call_later(seconds, self.overtime, running, seconds)
            return
        running.status = "cancelled"
        self.cancel_target()

    @property
    def cancelled(self) -> bool:
        """A CancelRequest was sent: it may arrive at any time."""
        return self._cancelling is not None

    def cancel_target(self) -> None:
        """Send the target's own cancel key on a second connection; one at a time, owned by this session."""
        if self._cancelling is None or self._cancelling.done():
            self._cancelling = asyncio.get_running_loop().create_task(self._cancel())

    async def _cancel(self) -> None:
        target = self._relay.target
        if target.key is not None:
            with contextlib.suppress(TargetFault, OSError):
                await cancel(target.address, target.key, target.tls)

    async def close(self) -> None:
        """Nothing of this session outlives it."""
        if self._unrecorded:
            await asyncio.wait(set(self._unrecorded), timeout=LAST_WAIT)
        if self._cancelling is not None:
            await asyncio.wait({self._cancelling}, timeout=LAST_WAIT)
            self._cancelling.cancel()
