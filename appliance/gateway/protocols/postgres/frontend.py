# SPDX-License-Identifier: Apache-2.0
"""The caller's half of a session: every message the client sends is understood, decided and only then passed on.

What is refused never reaches the target. Where the target must know of the refusal (a transaction or a pipeline is open) a message that
the target is bound to reject goes in its place, so that its own state machine does what any error would: abort the transaction,
skip to Sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from gateway.errors import AuditUnavailable, Refused
from gateway.govern import Permit, recheck
from gateway.model import Command, Decision
from gateway.protocols.postgres import bounded, machine, messages
from gateway.protocols.postgres.answers import CODES, IDLE, NOT_WRITTEN, OWN, error, own_name, typed_parameters
from gateway.protocols.postgres.codec import FrameReader, frame
from gateway.protocols.postgres.context import Compiled
from gateway.protocols.postgres.deciding import Deciding
from gateway.protocols.postgres.ending import Ended
from gateway.protocols.postgres.expect import (
    BIND,
    CLOSE,
    DESCRIBE_PORTAL,
    DESCRIBE_STATEMENT,
    EXECUTE,
    PARSE,
    QUERY,
    SYNC,
    Expect,
    Fields,
    Running,
    on_disk,
)
from gateway.protocols.postgres.names import Names, Portal, other_filters
from gateway.protocols.postgres.pieces import Divided, Script
from gateway.protocols.postgres.recorder import Sample
from gateway.protocols.postgres.statement import SqlFault

if TYPE_CHECKING:
    from gateway.protocols.postgres.lanerun import Entry
    from gateway.protocols.postgres.session import Relay

FLUSH_BYTES = 1 << 16
AT_ONCE = 128
"""Messages of one session that are handled before the others have their turn."""
AHEAD = 4096
"""Answers that the target may owe a session before more is passed on: each takes about 2 KiB here."""
HEADER = 5
"""Bytes of a message before its payload: kind and length."""
FLUSH = messages.Flush().encode()
SYNC_NOW = messages.Sync().encode()


class Frontend:
    """Reads the client leg of one ``Relay``."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.names = Names(relay.context, relay.names_limit, relay.message_limit,
                           lambda running, status: relay.commands.finish(running, status, {}))
        self.deciding = Deciding(relay)
        self.waiting = False             # for the caller, with nothing of it in hand
        self.leaving = False             # the caller has said goodbye: what it sent before still runs
        self._out = bytearray()
        self._staged: list[Expect] = []
        self._gates: list[asyncio.Future[int]] = []
        self._skip = False              # discard to Sync: something in this pipeline was refused
        self._pipeline = False          # extended messages were sent or staged since the last Sync
        self._sent_pipeline = False     # the same, of what has really been sent
        self._turn = 0                  # Syncs and simple queries so far
        self._asked = 0

    async def run(self) -> None:
        """Until the client says goodbye or is gone."""
        reader, handled = FrameReader(self.relay.message_limit), 0
        while data := await self._read(reader):
            reader.feed(data)
            for kind, payload in reader:
                await self._message(kind, payload)
                handled += 1
                if handled % AT_ONCE == 0:
                    await self._others_turn()
            await self.flush()
        raise Ended("the caller disconnected")

    async def _others_turn(self) -> None:
        """Thousands of messages may come in one read: the other sessions do not wait for all of them. Nor are they passed on faster than
        the target answers: what it owes takes memory."""
        owed = self.relay.pending.queue
        if owed is not None and len(owed) > AHEAD and not self.relay.backend.copying_in():
            await self.settle()
        await asyncio.sleep(0)

    async def _read(self, reader: FrameReader) -> bytes:
        self.waiting = not reader.pending
        self.relay.rested()
        try:
            return await self.relay.client.read()
        finally:
            self.waiting = False

    def resting(self) -> bool:
        """Nothing of the caller is in hand, and nothing for the target."""
        client = self.relay.client
        return (self.waiting and not self._out and not self._staged and not self._gates and not self._skip and not self._pipeline
                and not self.leaving and not client.buffered and not client.ended and self.names.resting())

    def settled(self) -> bool:
        """No message waits to be sent, and no pipeline is open: a Query would commit what one without its Sync has done."""
        return not self._out and not self._staged and not self._gates and not self._skip and not self._pipeline and not self._sent_pipeline

    async def _message(self, code: int, payload: bytes) -> None:
        action = machine.caller(self._phase(), code)
        if action is machine.Action.END:
            await self._goodbye()
        if action is machine.Action.DISCARD:
            return
        kind = chr(code)
        message = messages.parse_frontend(code, payload)
        try:
            await _HANDLERS[kind](self, message, payload)
        except SqlFault as fault:
            self._deny(kind, error(fault.code, str(fault), position=fault.position, hint=fault.hint))
        except Refused as no:
            shown = CODES.get(no.code, no.code) or "42501"
            self._deny(kind, error(shown, str(no), detail=no.detail, hint=no.hint or self.deciding.how_to_ask(no)))
            if shown == "42501":
                await self._count_denial()

    def _phase(self) -> str:
        if self._skipping():
            return machine.SKIPPING
        if self.relay.backend.copying_in():
            return machine.COPY_IN
        return machine.EXTENDED if self._pipeline else machine.READY

    def _skipping(self) -> bool:
        """Behind an error of ours or of the target's, and the Sync that ends it has not come yet."""
        return self._skip or self.relay.pending.skipping and not any(expect.kind == SYNC for expect in self._staged)

    async def _goodbye(self) -> None:
        """Terminate: as on a server, what was sent before it is brought to its end."""
        self.leaving = True
        if not self.relay.backend.copying_in():
            await self.flush()
            await self.relay.backend.idle()
            self.relay.left_clean = self.relay.clean()
        raise Ended("closed by the caller")

    async def _count_denial(self) -> None:
        totals, limit = self.relay.totals, self.relay.limits.denials
        totals.denials += 1
        if limit is not None and totals.denials >= limit:
            await self.settle()
            self.relay.end(f"{totals.denials} denied commands")

    async def _before_permit(self, decision: Decision) -> None:
        """A command that may be held waits until what came before it has been answered, so that the notice comes in order."""
        if decision.effect == "approve" and (self.relay.pending or self._staged):
            await self.settle()

    # sending

    def send(self, data: bytes, expect: Expect | None = None, gate: asyncio.Future[int] | None = None) -> None:
        """Stage bytes for the target, what it will owe for them, and the record that has to be on disk first."""
        self._out += data
        if expect is not None:
            expect.turn = self._turn
            self._staged.append(expect)
        if gate is not None and not on_disk(gate):
            self._gates.append(gate)

    async def flush(self, *, now: bool = False) -> None:
        """Pass on what was decided: after every record that must come first is on disk, and never before.

        ``now`` asks the target to answer in the middle of a pipeline.
        """
        if now:
            self._out += FLUSH
        if not self._out:
            return
        gates, self._gates = self._gates, []
        if gates:
            try:
                await asyncio.gather(*gates)
            except AuditUnavailable:
                self._take_back()
        self.relay.target.stream.write(self._given())
        await self.relay.target.stream.drain()

    def _given(self) -> bytes:
        """What is staged, as bytes; the target owes it from now on."""
        staged, self._staged = self._staged, []
        data, self._out = bytes(self._out), bytearray()
        self._sent_pipeline = self._pipeline
        for expect in staged:
            if not self.relay.pending.push(expect):
                self.relay.backend.skipped(expect)
        return data

    def adopt(self, entry: Entry, running: Running, command: Command, group: bytes, *, sent: bool) -> None:
        """Take over what the lane began: afterwards everything is as if these messages had come here, up to and with their Sync, and
        had been staged, or (``sent``) passed on. Each line is what the handler of its message does after the permit."""
        compiled, turn, permit = entry.compiled, self._turn, running.permit
        gate = None if permit.early else permit.recorded
        running.executed = True
        if entry.statement is None:
            self.send(group, Expect(QUERY, compiled.plans, running, undo=self.names.applied(compiled, turn)), gate)
        else:
            portal = Portal(compiled, command, running, entry.results, turn, described=entry.describes)
            if entry.parses and entry.prepared is not None:
                self.send(b"", Expect(PARSE, undo=self.names.parsed("", entry.prepared.text, entry.prepared.types)))
            self.send(group, Expect(BIND, running=running, undo=self.names.bound("", portal)), gate)
            if entry.describes:
                self.send(b"", Expect(DESCRIBE_PORTAL, compiled.plans, running, silent=entry.silent, formats=portal.formats))
            self.send(b"", Expect(EXECUTE, compiled.plans, running, undo=self.names.applied(compiled, turn), formats=portal.formats))
            self.send(b"", Expect(SYNC))
        self._turn += 1
        if sent:
            self._given()

    def _take_back(self) -> None:
        """The records of what is staged could not be written: none of it is sent, every part of it is refused."""
        staged, self._staged = self._staged, []
        self._out.clear()
        for expect in reversed(staged):
            if expect.undo is not None:
                expect.undo()
            expect.done(NOT_WRITTEN)
            if expect.running is not None:
                expect.running.close()
        self._skip, self._pipeline = False, self._sent_pipeline
        for expect in staged:
            if expect.silent:
                continue
            if expect.kind == SYNC:
                self._send_sync()
            elif not self._skip:
                self._deny("Q" if expect.kind == QUERY else "P", NOT_WRITTEN)

    async def settle(self) -> None:
        """Everything sent so far has been answered. In a pipeline the target is asked to flush."""
        await self.flush(now=self._pipeline)
        await self.relay.backend.idle()

    async def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        """A query of the gateway's own on the session's connection, between the caller's messages. Gives text rows."""
        self._asked += 1
        name, told = f"{OWN}{self._asked}", self._pipeline
        last = Expect(EXECUTE, silent=True, told=told, rows=[], answered=asyncio.get_running_loop().create_future())
        self.send(messages.Parse(name, sql).encode(), Expect(PARSE, silent=True, told=told))
        self.send(messages.Bind(name, name).encode(), Expect(BIND, silent=True, told=told))
        self.send(messages.Execute(name).encode(), last)
        self.send(messages.Close("P", name).encode(), Expect(CLOSE, silent=True, told=told))
        self.send(messages.Close("S", name).encode(), Expect(CLOSE, silent=True, told=told))
        if not self._pipeline:
            self.send(SYNC_NOW, Expect(SYNC, silent=True))
        await self.flush(now=self._pipeline)
        failed = await last.answered if last.answered is not None else None
        if failed:
            raise SqlFault(failed.get("C", "XX000"), "the session's state on the target could not be read")
        await self.settle()
        return last.rows or []

    def _deny(self, kind: str, fields: Fields) -> None:
        """Refuse one message in the caller's own protocol. The target learns of it where a transaction or pipeline is open.

        Behind an error that skips to Sync nothing more is said.
        """
        if self._skipping():
            return
        simple = kind == "Q"
        open_ended = self._pipeline or self._staged or self.relay.backend.busy() or self.relay.status != "I"
        if not open_ended:
            self.answer(messages.ErrorResponse(fields).encode() + (IDLE if simple else b""))
        elif simple:
            self.send(messages.Query(f"{OWN}refused").encode(), Expect(QUERY, instead=fields))
            self._pipeline = False
        else:
            self._pipeline = True
            self.send(messages.Execute(f"{OWN}refused").encode(), Expect(EXECUTE, instead=fields))
        self._skip = not simple

    def answer(self, data: bytes) -> None:
        """To the caller, from the gateway itself."""
        self.relay.client.write(data)

    # simple query protocol

    async def _query(self, query: messages.Query, payload: bytes) -> None:
        behind = self._pipeline         # without its Sync: in which transaction it has left the session is not known
        if behind:
            await self.settle()
            if self.relay.pending.skipping:
                return
        try:
            compiled = await self.deciding.understand(query.text, whole=behind)
        except Divided as found:
            await Script(self, found.pieces).run()
            return
        command = self.relay.context.command(compiled, wait=self.relay.wait)
        decision = self.deciding.decide(command)
        most = await self.deciding.bound(command, compiled, decision)
        await self._before_permit(decision)
        permit = await self.deciding.permit(command)
        running = Running(permit, compiled.statements, sample=self.sample())
        if compiled.sent != query.text:
            payload = messages.Query(compiled.sent).encode()[HEADER:]
        if most is not None:
            await bounded.query(self, payload, compiled, running, most)
            return
        self.send_query(payload, compiled, running)
        if any(s.returns == "copy-in" for s in compiled.statements):
            await self.flush()
            await self.relay.backend.copy_decided()

    def send_query(self, payload: bytes, compiled: Compiled, running: Running, hold: bytearray | None = None) -> Expect:
        """Stage a permitted simple query."""
        expect = Expect(QUERY, compiled.plans, running, hold=hold, undo=self.names.applied(compiled, self._turn),
                        moved=compiled.sent != compiled.text)
        self.send(frame(b"Q", payload), expect, None if running.permit.early else running.permit.recorded)
        self._start(running)
        self._turn += 1
        self._pipeline = False
        return expect

    def sample(self) -> Sample | None:
        """Where the first rows go that replay shows; ``audit.sample: 0`` keeps none."""
        return Sample(self.relay.secrets, self.relay.sample_bytes) if self.relay.sample_bytes else None

    def _start(self, running: Running) -> None:
        """The statement is on its way: ``statement: {time}`` begins."""
        running.executed, running.suspended = True, False
        if (seconds := running.permit.decision.limits.time) is not None:
            running.stop_clock()
            running.timer = asyncio.get_running_loop().call_later(seconds, self.relay.commands.overtime, running, seconds)

    # extended query protocol

    async def _parse(self, parse: messages.Parse, payload: bytes) -> None:
        name, text, types = parse.statement, parse.text, parse.types
        own_name(name)
        compiled = await self.deciding.understand(text, types)
        command = self.relay.context.command(compiled, phase="prepare")
        if len(compiled.statements) > 1:
            await self.deciding.refuse(command, "cannot insert multiple commands into a prepared statement", "42601")
        self.names.check_room()
        decision = self.deciding.decide(command)
        await self.deciding.bound(command, compiled, decision)
        gate = None
        if decision.effect == "deny" or not compiled.early or self.relay.gate.audit.strict:
            gate = (await self.deciding.permit(command)).recorded
        running = None if gate is None else Running(Permit(decision, gate, early=False), compiled.statements)
        self._pipeline = True
        moved = compiled.sent != text
        if moved:
            payload = messages.Parse(name, compiled.sent, types).encode()[HEADER:]
        undo = self.names.parsed(name, text, types, compiled.sent if moved else None)
        self.send(frame(b"P", payload), Expect(PARSE, running=running, undo=undo, moved=moved), gate)

    async def _bind(self, bind: messages.Bind, payload: bytes) -> None:
        own_name(bind.portal)
        prepared = self.names.statement(bind.statement)
        compiled = await self.deciding.understand(prepared.text, prepared.types, prepared)
        parameters = typed_parameters(bind, prepared.types, prepared.described)
        command = self.relay.context.command(compiled, parameters, wait=self.relay.wait)
        self.names.check_room()
        decision = self.deciding.decide(command)
        most = await self.deciding.bound(command, compiled, decision)
        await self._before_permit(decision)
        permit = await self.deciding.permit(command)
        running = Running(permit, compiled.statements, sample=self.sample(), most=most)
        undo = self.names.bound(bind.portal, Portal(compiled, command, running, bind.results, self._turn))
        self._pipeline = True
        self.send(frame(b"B", payload), Expect(BIND, running=running, undo=undo), None if permit.early else permit.recorded)

    async def _describe(self, describe: messages.Describe, payload: bytes) -> None:
        what, name = describe.kind, describe.name
        own_name(name)
        if what == "S":
            prepared = self.names.statement(name)
            compiled = await self.deciding.understand(prepared.text, prepared.types)
            self._pipeline = True
            self.send(frame(b"D", payload), Expect(DESCRIBE_STATEMENT, compiled.plans, described=prepared.described))
            return
        portal = await self._portal(name)
        portal.described = True
        self._pipeline = True
        self.send(frame(b"D", payload), Expect(DESCRIBE_PORTAL, portal.compiled.plans, portal.running, formats=portal.formats))

    async def _portal(self, name: str) -> Portal:
        """A bound portal, or a cursor declared by SQL: running that is a FETCH ALL."""
        found = self.names.portal(name)
        if found is not None and not found.running.finished:
            return found
        if found is not None:
            compiled, command = found.compiled, found.command       # it has run; running it once more is another command
        elif self.names.has_cursor(name):
            quoted = name.replace('"', '""')
            compiled = await self.deciding.understand(f'FETCH ALL FROM "{quoted}"')
            command = self.relay.context.command(compiled, wait=self.relay.wait)
        else:
            raise SqlFault("34000", f'portal "{name}" does not exist')
        await self._before_permit(self.deciding.decide(command))
        permit = await self.deciding.permit(command)
        most = found.running.most if found is not None else None
        running = Running(permit, compiled.statements, sample=self.sample(), most=most)
        portal = Portal(compiled, command, running, found.formats if found is not None else (), self._turn)
        self.names.kept(name, portal)
        return portal

    async def _execute(self, execute: messages.Execute, payload: bytes) -> None:
        name = execute.portal
        own_name(name)
        portal = await self._portal(name)
        running, compiled = portal.running, portal.compiled
        if (decision := recheck(self.relay.gate, self.relay.session, portal.command, running.permit)) is not None:
            await self.deciding.refuse(portal.command, decision.reason)
        if running.permit.policy != self.relay.gate.policy.digest:
            compiled = await self._understood_anew(portal)
        if running.most is not None and execute.rows > 0 and compiled.statements[0].returns == "rows":
            await self.deciding.refuse(portal.command, "a statement under max_rows cannot be fetched in parts")
        self._pipeline = True
        self._describe_first(name, portal)
        self._start(running)
        expect = Expect(EXECUTE, compiled.plans, running, undo=self.names.applied(compiled, self._turn), formats=portal.formats)
        self.send(frame(b"E", payload), expect, None if running.permit.early else running.permit.recorded)
        if running.most is not None:
            await bounded.execute(self, expect, running, running.most)
        elif any(s.returns == "copy-in" for s in compiled.statements):
            await self.flush(now=True)
            await self.relay.backend.copy_decided()

    async def _understood_anew(self, portal: Portal) -> Compiled:
        """The policy changed since the portal was bound: what it hides now is what counts."""
        before = portal.compiled.sent
        portal.compiled = await self.deciding.understand(portal.compiled.text, portal.compiled.types)
        if portal.compiled.sent != before:
            await self.deciding.refuse(portal.command, str(other_filters("34000", "portal")), "34000")
        portal.running.permit.policy = self.relay.gate.policy.digest
        portal.running.plan, portal.described = None, False
        return portal.compiled

    def _describe_first(self, name: str, portal: Portal) -> None:
        """Rows that may need masking never pass unless the target has described them: where the caller did not ask, the gateway does."""
        plan = portal.compiled.plans[0] if portal.compiled.plans else None
        if plan is None or not plan.any or portal.described:
            return
        portal.described = True
        own = Expect(DESCRIBE_PORTAL, portal.compiled.plans, portal.running, silent=True, formats=portal.formats)
        self.send(messages.Describe("P", name).encode(), own)

    async def _close(self, close: messages.Close, payload: bytes) -> None:
        own_name(close.name)
        self._pipeline = True
        undo = self.names.closed_statement(close.name) if close.kind == "S" else self.names.closed_portal(close.name)
        self.send(frame(b"C", payload), Expect(CLOSE, undo=undo))

    async def _sync(self, sync: messages.Sync, payload: bytes) -> None:
        self._send_sync()

    def _send_sync(self) -> None:
        skipped, self._skip = self._skip, False
        pipeline, self._pipeline = self._pipeline, False
        if skipped and not pipeline:
            self.answer(IDLE)
            return
        self.send(SYNC_NOW, Expect(SYNC))
        self._turn += 1

    async def _flush_message(self, flush: messages.Flush, payload: bytes) -> None:
        self._out += FLUSH

    async def _copy(self, part: messages.CopyData | messages.CopyDone | messages.CopyFail, payload: bytes) -> None:
        """CopyData, CopyDone, CopyFail of a COPY FROM STDIN that the target has begun."""
        self._out += part.encode()
        if not isinstance(part, messages.CopyData):
            self.relay.backend.copy_sent()
        if len(self._out) >= FLUSH_BYTES:
            await self.flush()


_HANDLERS: dict[str, Callable[[Frontend, Any, bytes], Awaitable[None]]] = {
    "Q": Frontend._query, "P": Frontend._parse, "B": Frontend._bind, "D": Frontend._describe, "E": Frontend._execute,
    "C": Frontend._close, "S": Frontend._sync, "H": Frontend._flush_message,
    "d": Frontend._copy, "c": Frontend._copy, "f": Frontend._copy,
}
