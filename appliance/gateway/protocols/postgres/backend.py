# SPDX-License-Identifier: Apache-2.0
"""The target's half of a session: every answer is matched with what was asked, masked, counted and then passed on.

Nothing reaches the caller before the record of its command is on disk, and no row before its RowDescription was compared with the plan
(the second lock). What a correct server would not send ends the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import TargetFault
from gateway.model import SessionLimits
from gateway.net.flag import Flag
from gateway.protocols.postgres import machine, messages
from gateway.protocols.postgres.bulk import bulk
from gateway.protocols.postgres.codec import COPY_DATA, DATA_ROW, RunReader, frame
from gateway.protocols.postgres.commands import LAST_WAIT
from gateway.protocols.postgres.copyout import copy_masker
from gateway.protocols.postgres.expect import (
    DESCRIBE_PORTAL,
    EXECUTE,
    PARSE,
    QUERY,
    Expect,
    Fields,
    Running,
    on_disk,
)
from gateway.protocols.postgres.masking import MaskPlan, mask_rows
from gateway.protocols.postgres.runs import first_messages, text_rows, whole_messages
from gateway.protocols.postgres.scrub import scrub_error
from gateway.protocols.postgres.secondlock import SecondLock
from gateway.protocols.postgres.target import MAX_PARAMETERS

if TYPE_CHECKING:
    from gateway.protocols.postgres.session import Relay


class Backend:
    """Reads the target leg of one ``Relay``."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self._out = bytearray()
        self._gates: list[asyncio.Future[int]] = []
        self._ended: list[tuple[Running, str, Fields]] = []
        self._working = False
        self.waiting = False                      # for the target, with nothing of it in hand
        self._frames: RunReader | None = None
        self._limits: SessionLimits | None = None
        self._quiet = Flag(on=True)
        self._copy: Expect | None = None          # the COPY FROM STDIN that the client may feed
        self._copy_known = Flag()
        self.lock = SecondLock(relay.context)
        self._cut = False                         # a limit is reached: no row passes any more
        self._last: tuple[Expect, int] | None = None      # the result that the last message was a row of, and its type

    # state that the frontend looks at

    def busy(self) -> bool:
        """Something sent has not been answered to the last byte."""
        return bool(self.relay.pending) or self._working or self.relay.lane.busy

    async def idle(self) -> None:
        """Until everything sent so far has been answered."""
        while self.busy():
            self._quiet.clear()
            await self._quiet.wait()

    def resting(self) -> bool:
        """Nothing of the target is in hand, and nothing for the caller."""
        return (self.waiting and not self._out and not self._gates and not self._ended and self._copy is None and not self._cut
                and not self.relay.target.stream.buffered)

    def copying_in(self) -> bool:
        return self._copy is not None

    async def copy_decided(self) -> None:
        """Until the target has said whether it takes the COPY FROM STDIN just sent."""
        while self._copy is None and self.relay.pending:
            self._copy_known.clear()
            await self._copy_known.wait()

    def copy_sent(self) -> None:
        self._copy = None

    # the loop

    async def run(self) -> None:
        """Until the target closes; that is never expected."""
        self._frames = frames = RunReader(self.relay.message_limit)
        while data := await self._read(frames):
            self._working = True
            self._limits = self.relay.limits
            frames.feed(data)
            frames.stream = self._may_stream()
            for kind, block, count in frames:
                self._message(kind, block, count)
                if len(self._out) > 1 << 18:
                    await self._deliver()
            await self._deliver()
            self._working = False
            if not self.relay.pending:
                self._quiet.set()
        raise TargetFault("the target closed the connection", "08006")

    async def _read(self, frames: RunReader) -> bytes:
        self.waiting = not frames.pending and not frames.inside
        self.relay.rested()
        if self._last is not None and not frames.inside and not self._cut:
            self._go_straight(frames, *self._last)
        try:
            return await self.relay.target.stream.read()
        finally:
            self.waiting = False

    def _go_straight(self, frames: RunReader, expect: Expect, kind: int) -> None:
        """More rows of this result go past the loop, where they may."""
        if expect is self.relay.pending.head() and not self.relay.target.stream.buffered:
            straight = bulk(self.relay, expect, kind, frames)
            if straight is not None:
                self.relay.target.stream.tap = straight.take

    def inside_message(self) -> bool:
        """A large row is half passed on: nothing else may be written to the caller."""
        return self._frames is not None and self._frames.inside and not self._cut

    def _may_stream(self) -> bool:
        """Rows that need no change may pass in pieces, so that memory stays flat at any row size."""
        head = self.relay.pending.head()
        if head is None or head.rows is not None or head.live is not None or self._limits is not None and self._limits.bytes is not None:
            return False
        plan = head.plan if head.kind == QUERY else head.running.plan if head.running is not None else None
        if plan is None and head.plans:
            plan = head.plans[min(head.at, len(head.plans) - 1)]
        return head.state == machine.COPYING_OUT or plan is not None and not plan.any

    async def _deliver(self) -> None:
        """Pass on what is ready, once the records it depends on are on disk; then record what has ended."""
        if self._gates:
            await asyncio.wait(self._gates)
            for gate in self._gates:
                gate.result()
            self._gates = []
        self._write()
        await self.relay.client.drain()
        ended, self._ended = self._ended, []
        for running, status, fields in ended:
            self.relay.commands.finish(running, status, fields)

    async def deliver_last(self) -> None:
        """The session ends: what was ready still goes out, if its records are on disk now."""
        if self._gates:
            await asyncio.wait(self._gates, timeout=LAST_WAIT)
        if all(on_disk(gate) for gate in self._gates):
            self._write()

    def _write(self) -> None:
        data, self._out = bytes(self._out), bytearray()
        limit = self._limits.bytes if self._limits is not None else None
        if limit is not None and len(data) > limit - self.relay.totals.bytes:
            data = whole_messages(data, limit - self.relay.totals.bytes)
            self._over(f"more than {limit} bytes in this session")
        if data:
            self.relay.totals.bytes += len(data)
            self.relay.client.write(data)

    def _message(self, kind: int, block: bytes, count: int) -> None:
        """One message, or one run of rows: allowed by the table, handled, and the answer is that much further."""
        if self._cut:
            return
        letter = chr(kind)
        if letter in machine.ANY_TIME:
            self._last = None
            _ANY_TIME[letter](self, block[5:])
            return
        head = self.relay.pending.head()
        if letter == "E":
            self._error(head, block[5:])
            return
        state = machine.target(head.kind if head else None, head.state if head else "", kind)
        if head is None:
            raise TargetFault("the target answers what nobody asked", "08P01")
        if head.running is not None and not on_disk(head.running.permit.recorded):
            self._gates.append(head.running.permit.recorded)
        self._last = None
        if kind == DATA_ROW:
            self._data_rows(head, block, count)
            self._last = head, kind
        elif kind == COPY_DATA:
            self._copy_data(head, block, count)
            self._last = head, kind
        else:
            _HANDLERS[letter](self, head, letter, block[5:])
        head.state = state
        if state == machine.DONE:
            self.relay.pending.pop()
            head.done(head.failed)
        if kind not in (DATA_ROW, COPY_DATA) and self._frames is not None:
            self._frames.stream = self._may_stream()

    def _pass(self, expect: Expect | None, kind: str, payload: bytes) -> None:
        if expect is None or not expect.silent:
            self._out += frame(kind.encode(), payload)

    # answers of the extended protocol

    def _relayed(self, expect: Expect, kind: str, payload: bytes) -> None:
        """ParseComplete, BindComplete, CloseComplete, ParameterDescription, NoData, PortalSuspended."""
        self._pass(expect, kind, payload)
        if kind == "t" and expect.described is not None:
            found = messages.parse_backend(ord("t"), payload)
            expect.described[:] = found.types if isinstance(found, messages.ParameterDescription) else ()
        if expect.running is not None and expect.kind == PARSE:
            self._ended.append((expect.running, "ok", {}))
        elif expect.running is not None and kind == "s":
            expect.running.suspended = True
            expect.running.stop_clock()

    def _row_description(self, expect: Expect, kind: str, payload: bytes) -> None:
        """The second lock: compared with the plan before any row may pass."""
        if expect.rows is not None:
            return
        fields, plan = self.lock.verified(expect.plans[expect.at] if expect.at < len(expect.plans) else None, expect.formats, payload)
        self._pass(expect, kind, payload)
        if expect.kind == QUERY:
            expect.plan = plan
            self._columns(expect, fields)
            return
        if expect.kind == DESCRIBE_PORTAL and expect.running is not None:
            expect.running.plan = plan
            self._columns(expect, fields)

    def _columns(self, expect: Expect, fields: tuple[messages.Field, ...]) -> None:
        if expect.running is not None and expect.running.sample is not None:
            expect.running.sample.columns(fields)

    def _data_rows(self, expect: Expect, block: bytes, count: int) -> None:
        """A run of rows, or a piece of one too large to hold (``count`` 0 for all but the first piece)."""
        if expect.rows is not None:
            self._own_rows(expect, block)
            return
        running = expect.running
        if running is None:
            raise TargetFault("the target sent a row that nobody asked for", "08P01")
        plan = expect.plan if expect.kind == QUERY else self._portal_plan(expect, running)
        block, count = self._within_limits(running, block, count)
        if plan is not None and plan.any:
            block, masked = mask_rows(plan, block)
            running.masked += masked
        running.rows += count
        running.size += len(block)
        self.relay.totals.rows += count
        if running.sample is not None and not running.sample.full:
            running.sample.rows(block)
        self._out += block

    def _within_limits(self, running: Running, block: bytes, count: int) -> tuple[bytes, int]:
        """What of a run of rows may still pass. At the limit the target's query is cancelled and the session ends; what fits is delivered.

        ``count`` 0 is another piece of a row that was let through.
        """
        statement, session = running.permit.decision.limits.rows, self._limits.rows if self._limits is not None else None
        room = 1 << 62 if statement is None else statement - running.rows
        alone = session is None or room <= session - self.relay.totals.rows
        if session is not None:
            room = min(room, session - self.relay.totals.rows)
        if count <= room:
            return block, count
        running.status = "refused"
        self._over(f"more than {statement} rows in one statement" if alone else f"more than {session} rows in this session")
        return first_messages(block, max(room, 0)), max(room, 0)

    def _over(self, reason: str) -> None:
        self._cut = True
        self.relay.commands.cancel_target()
        self.relay.end(reason, "53400")

    def _portal_plan(self, expect: Expect, running: Running) -> MaskPlan | None:
        if running.plan is not None:
            return running.plan
        plan = expect.plans[0] if expect.plans else None
        silent = bool(self.relay.context.masks()) and running.statements[0].returns != "rows"
        if plan is None or plan.any or silent:
            raise TargetFault("the target sent DataRow before RowDescription", "08P01")
        return plan

    def _own_rows(self, expect: Expect, block: bytes) -> None:
        if expect.rows is None or len(expect.rows) > 1_000_000:
            raise TargetFault("the target's answer to the gateway's own query is too long", "54000")
        expect.rows.extend(text_rows(block))

    def _complete(self, expect: Expect, kind: str, payload: bytes) -> None:
        complete = messages.parse_backend(ord("C"), payload)
        if isinstance(complete, messages.CommandComplete):
            expect.affected += complete.rows
            if expect.running is not None and not expect.running.rows and not complete.tag.startswith("SELECT"):
                expect.running.affected += complete.rows
        self._statement_done(expect, kind, payload)

    def _statement_done(self, expect: Expect, kind: str, payload: bytes) -> None:
        if expect.live is not None:
            expect.live = None
        if expect.hold is not None:
            expect.hold += frame(kind.encode(), payload)
        else:
            self._pass(expect, kind, payload)
        if expect.kind == EXECUTE:
            if expect.running is not None and expect.hold is None:
                self._ended.append((expect.running, "ok", {}))
            return
        expect.at += 1
        expect.plan = None

    def answered(self, running: Running, answer: bytes) -> None:
        """A whole answer waits for the record of its command, and the session ends."""
        self._gates.append(running.permit.recorded)
        self._out += answer
        self._ended.append((running, "ok", {}))

    # errors and what comes at any time

    def _error(self, head: Expect | None, payload: bytes) -> None:
        """An error ends the answer; one that comes unasked (the server stops, an administrator ended it) ends the session."""
        fields = dict(messages.parse_error(payload).fields)
        if head is None or fields.get("V", fields.get("S")) in ("FATAL", "PANIC"):
            if head is not None and head.running is not None:
                self.relay.commands.finish(head.running, "error", fields)
            raise TargetFault(self._shown(fields, bool(self.relay.context.masks())).get("M", ""), fields["C"])
        head.state = machine.target(head.kind, head.state, ord("E"))
        running = head.running
        if running is not None and not on_disk(running.permit.recorded):
            self._gates.append(running.permit.recorded)
        shown = head.instead or self.shown(fields, head)
        if not head.silent or head.told:
            self._out += messages.ErrorResponse(shown).encode()
        self._copy = None
        self._copy_known.set()
        head.failed = fields
        if running is not None and head.hold is None:
            self._ended.append((running, running.status or ("cancelled" if fields["C"] == "57014" else "error"), fields))
        if head.kind != QUERY:
            self._skip_rest(head, fields)
        if head.undo is not None:
            head.undo()
            head.undo = None

    def _skip_rest(self, failed: Expect, fields: Fields) -> None:
        """After an error the target skips to Sync: what was already sent behind it will never be answered."""
        dropped = list(self.relay.pending.after_error())
        for expect in reversed(dropped[1:]):
            self.skipped(expect)
        failed.done(fields)

    def skipped(self, expect: Expect) -> None:
        """Settle a message that the target skips."""
        if expect.undo is not None:
            expect.undo()
        expect.done({"C": "25P02", "M": "skipped after an earlier error"})
        if expect.running is not None:
            self._ended.append((expect.running, "error", {"C": "25P02"}))

    def _reads_masked(self, head: Expect) -> bool:
        return any(plan is None or plan.scrub for plan in head.plans) or (not head.plans and bool(self.relay.context.masks()))

    def shown(self, fields: Fields, head: Expect) -> Fields:
        """An error of the target as the caller may see it."""
        return _placed(self._shown(fields, self._reads_masked(head)), head)

    def _shown(self, fields: Fields, scrub: bool) -> Fields:
        return scrub_error(fields, scrub, catalog=self.relay.context.last(), secrets=self.relay.secrets)

    def _notice(self, payload: bytes) -> None:
        fields = dict(messages.parse_error(payload, notice=True).fields)
        head = self.relay.pending.head()
        if head is not None and head.silent:
            return
        scrub = bool(self.relay.context.masks()) if head is None else self._reads_masked(head)
        shown = self._shown(fields, scrub)
        if head is not None:
            shown = _placed(shown, head)
        self._out += messages.ErrorResponse(shown, notice=True).encode()

    def _notification(self, payload: bytes) -> None:
        """A notification's payload comes from anywhere: with masks in force it is not shown (contract section 2, unknown origin)."""
        told = messages.parse_backend(ord("A"), payload)
        masks = self.relay.context.masks()
        if isinstance(told, messages.Notification) and told.payload and (masks or masks.filters):
            told = replace(told, payload="****")
        self._out += told.encode()

    def _parameter_status(self, payload: bytes) -> None:
        told = messages.parse_backend(ord("S"), payload)
        if not isinstance(told, messages.ParameterStatus):
            raise TargetFault("the target sent a malformed ParameterStatus", "08P01")
        name, value = told.name, told.value
        if name == "standard_conforming_strings" and value != "on" or name == "client_encoding" and value.upper() != "UTF8":
            raise TargetFault(f"the target changed the pinned setting {name}", "42501")
        machine.check_parameter_status(name, value)
        known = self.relay.target.parameters
        if name not in known and len(known) >= MAX_PARAMETERS:
            raise TargetFault("the target reports more settings than there can be", "08P01")
        self.relay.target.report(name, value)
        self._out += told.encode()

    def _ready(self, expect: Expect, kind: str, payload: bytes) -> None:
        told = messages.parse_backend(ord("Z"), payload)
        status = told.status if isinstance(told, messages.ReadyForQuery) else ""
        running = expect.running
        if running is not None and expect.kind == QUERY and expect.failed is None and expect.hold is None:
            self._ended.append((running, "ok", {}))
        if expect.hold is not None:
            expect.hold += frame(kind.encode(), payload)
        else:
            self._pass(expect, kind, payload)
        self.relay.status = status
        if status == "I":
            self.relay.frontend.names.transaction_over(expect.turn)
        self.relay.context.ready(status)
        self._copy = None
        self._copy_known.set()

    # COPY

    def _copy_in(self, expect: Expect, kind: str, payload: bytes) -> None:
        self._check_copy(expect, "copy-in")
        self._pass(expect, kind, payload)
        self._copy = expect
        self._copy_known.set()

    def _copy_out(self, expect: Expect, kind: str, payload: bytes) -> None:
        plan = self._check_copy(expect, "copy-out")
        told = messages.parse_backend(ord("H"), payload)
        if plan is not None and plan.any:
            if not isinstance(told, messages.CopyResponse):
                raise TargetFault("the target sent a malformed CopyOutResponse", "08P01")
            expect.live = copy_masker(plan, len(told.columns), binary=told.format != 0)
        self._pass(expect, kind, payload)

    def _check_copy(self, expect: Expect, what: str) -> MaskPlan | None:
        statements = expect.running.statements if expect.running is not None else ()
        if expect.at >= len(statements) or statements[expect.at].returns != what:
            raise TargetFault("the target began a COPY that nobody asked for", "08P01")
        return expect.plans[expect.at] if expect.at < len(expect.plans) else None

    def _copy_data(self, expect: Expect, block: bytes, count: int) -> None:
        running = expect.running
        if running is None:
            raise TargetFault("the target sent CopyData outside of a COPY", "08P01")
        block, count = self._within_limits(running, block, count)
        if expect.live is not None:
            had = expect.live.masked
            block = expect.live.feed(block)
            running.masked += expect.live.masked - had
        running.rows += count
        running.size += len(block)
        self.relay.totals.rows += count
        if running.sample is not None and not running.sample.full and count:
            running.sample.copy(block)
        self._out += block

    def _copy_done(self, expect: Expect, kind: str, payload: bytes) -> None:
        if expect.live is not None:
            had = expect.live.masked
            self._out += expect.live.close()
            if expect.running is not None:
                expect.running.masked += expect.live.masked - had
        self._pass(expect, kind, payload)

    def abandon(self, reason: str) -> None:
        """The session ends: whatever still runs is recorded as cancelled."""
        self.relay.lane.give_up()
        if self.relay.pending:
            self.relay.commands.cancel_target()
        for running, status, fields in self._ended:
            self.relay.commands.finish(running, status, fields)
        for expect in self.relay.pending:
            if expect.running is not None:
                self.relay.commands.finish(expect.running, "cancelled", {"C": "53400" if expect.running.status == "refused" else "57P01"})
        self.relay.frontend.names.transaction_over()


def _placed(fields: Fields, head: Expect) -> Fields:
    """An error's position in the caller's own text; none where the target was given another one."""
    place = fields.get("P", "")
    if head.moved or not place.isdigit():
        return {key: value for key, value in fields.items() if key != "P"}
    return {**fields, "P": str(int(place) + head.offset)} if head.offset else fields


_HANDLERS: dict[str, Callable[[Backend, Expect, str, bytes], None]] = {
    **dict.fromkeys("123nts", Backend._relayed),
    "T": Backend._row_description, "C": Backend._complete, "I": Backend._statement_done, "Z": Backend._ready,
    "G": Backend._copy_in, "H": Backend._copy_out, "c": Backend._copy_done,
}
_ANY_TIME: dict[str, Callable[[Backend, bytes], None]] = {
    "N": Backend._notice, "S": Backend._parameter_status, "A": Backend._notification}
