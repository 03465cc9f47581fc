# SPDX-License-Identifier: Apache-2.0
"""The caller's half of a session: every message the client sends is understood, decided and only then passed on.

What is refused never reaches the target. Where the target must know of the refusal (a transaction or a pipeline is open) a message that
the target is bound to reject goes in its place, so that its own state machine does what any error would: abort the transaction,
skip to Sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.errors import AuditUnavailable, Refused
from gateway.govern import Permit, govern, recheck, refuse
from gateway.model import Command, Decision
from gateway.protocols.postgres import machine, messages
from gateway.protocols.postgres.codec import FrameReader, frame
from gateway.protocols.postgres.context import Compiled
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
)
from gateway.protocols.postgres.recorder import Sample
from gateway.protocols.postgres.statement import SqlFault

if TYPE_CHECKING:
    from gateway.approvals.view import ApprovalView
    from gateway.protocols.postgres.session import Relay

_T = TypeVar("_T")

OWN = "lockgate_"
"""Prefix of the gateway's own statement and portal names; callers may not use it."""

CODES = {"denied": "42501", "expired": "42501", "withdrawn": "57014", "held": "LG001"}
FLUSH_BYTES = 1 << 16
FLUSH = messages.Flush().encode()
SYNC_NOW = messages.Sync().encode()
IDLE = messages.ReadyForQuery("I").encode()


@dataclass(slots=True)
class Prepared:
    """A protocol-level statement: its text as understood when it was parsed, and the parameter types the client gave."""

    text: str
    types: tuple[int, ...]
    compiled: Compiled


@dataclass(slots=True)
class Portal:
    """A bound statement, its command decided and recorded."""

    compiled: Compiled
    command: Command
    running: Running
    formats: tuple[int, ...]
    described: bool = False


def error(code: str, message: str, *, detail: str = "", hint: str = "", position: int = 0) -> Fields:
    """Fields of an ERROR response (manual 55.8)."""
    fields = {"S": "ERROR", "V": "ERROR", "C": code, "M": message}
    for key, value in (("D", detail), ("H", hint), ("P", str(position) if position else "")):
        if value:
            fields[key] = value
    return fields


NOT_WRITTEN = error("58030", "the audit log cannot be written; nothing runs until it can")


class Frontend:
    """Reads the client leg of one ``Relay``."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.statements: dict[str, Prepared] = {}
        self.portals: dict[str, Portal] = {}
        self._out = bytearray()
        self._staged: list[Expect] = []
        self._gates: list[asyncio.Future[int]] = []
        self._skip = False              # discard to Sync: something in this pipeline was refused
        self._pipeline = False          # extended messages were sent since the last Sync
        self._asked = 0
        self._handlers: dict[str, Callable[[Any, bytes], Awaitable[None]]] = {
            "Q": self._query, "P": self._parse, "B": self._bind, "D": self._describe, "E": self._execute, "C": self._close,
            "S": self._sync, "H": self._flush_message, "d": self._copy, "c": self._copy, "f": self._copy,
        }

    async def run(self) -> None:
        """Until the client says goodbye or is gone."""
        client = self.relay.client
        reader = FrameReader(self.relay.message_limit)
        while data := await client.read():
            reader.feed(data)
            for kind, payload in reader:
                await self._message(kind, payload)
            await self.flush()
        raise Ended("the caller disconnected")

    async def _message(self, code: int, payload: bytes) -> None:
        action = machine.caller(self._phase(), code)
        if action is machine.Action.END:
            raise Ended("closed by the caller")
        if action is machine.Action.DISCARD:
            return
        kind = chr(code)
        handler = self._handlers[kind]
        message = messages.parse_frontend(code, payload)
        try:
            await handler(message, payload)
        except SqlFault as fault:
            if not self.relay.pending.skipping:
                self._deny(kind, error(fault.code, str(fault), position=fault.position, hint=fault.hint))
        except Refused as no:
            self._count_denial()
            code_shown = CODES.get(no.code, no.code) or "42501"
            self._deny(kind, error(code_shown, str(no), detail=no.detail, hint=no.hint))

    def _phase(self) -> str:
        if self._skip or self.relay.pending.skipping:
            return machine.SKIPPING
        if self.relay.backend.copying_in():
            return machine.COPY_IN
        return machine.EXTENDED if self._pipeline else machine.READY

    def _count_denial(self) -> None:
        totals, limit = self.relay.totals, self.relay.limits.denials
        totals.denials += 1
        if limit is not None and totals.denials > limit:
            self.relay.end(f"more than {limit} denied commands")

    # understanding and deciding

    async def _understand(self, text: str, types: tuple[int, ...] = ()) -> Compiled:
        """Compile a text; what cannot be understood or may not be masked is recorded as refused."""
        relay = self.relay
        try:
            compiled = await relay.context.compile(text, types)
        except SqlFault as fault:
            if relay.status != "E" or fault.code == "42601":
                await self._record_refusal(relay.context.unparsable(text), f"{fault.code}: {fault}", fault.code)
            raise
        if compiled.refusal:
            await self._record_refusal(relay.context.command(compiled), compiled.refusal, "42501")
            raise Refused(compiled.refusal, "42501")
        return compiled

    async def _record_refusal(self, command: Command, reason: str, code: str) -> None:
        relay = self.relay
        try:
            await refuse(relay.gate, relay.session, command, Decision("deny", reason=reason), code)
        except AuditUnavailable as no:
            raise Refused(NOT_WRITTEN["M"], "58030") from no
        except Refused:
            return

    async def _permit(self, command: Command) -> Permit:
        """Ask ``govern``; while a person is waited for, the caller's connection stays open and quiet."""
        relay = self.relay
        desk = relay.gate.approvals
        relay.totals.active = asyncio.get_running_loop().time()
        desk.listen(relay.session.id, self._notice)
        try:
            permit = await govern(relay.gate, relay.session, command)
            if permit.recorded.done():
                permit.recorded.result()
            return permit
        except AuditUnavailable as no:
            raise Refused(NOT_WRITTEN["M"], "58030") from no
        finally:
            relay.held = False
            relay.totals.active = asyncio.get_running_loop().time()
            desk.unlisten(relay.session.id)

    async def _notice(self, view: ApprovalView) -> None:
        """Tell the caller that its command waits, once everything before it has been answered."""
        relay = self.relay
        relay.held = True
        relay.client.write(messages.notice(view.notice()).encode())
        await relay.client.drain()

    # sending

    def _send(self, data: bytes, expect: Expect | None = None, gate: asyncio.Future[int] | None = None) -> None:
        self._out += data
        if expect is not None:
            self._staged.append(expect)
        if gate is not None and not gate.done():
            self._gates.append(gate)

    async def flush(self) -> None:
        """Pass on what was decided: after every record that must come first is on disk, and never before."""
        if not self._out:
            return
        gates, self._gates = self._gates, []
        if gates:
            try:
                await asyncio.gather(*gates)
            except AuditUnavailable:
                self._take_back()
        staged, self._staged = self._staged, []
        data, self._out = bytes(self._out), bytearray()
        for expect in staged:
            if not self.relay.pending.push(expect):
                self.relay.backend.skipped(expect)
        self.relay.target.stream.write(data)
        await self.relay.target.stream.drain()

    def _take_back(self) -> None:
        """The records of what is staged could not be written: none of it is sent, every part of it is refused."""
        staged, self._staged = self._staged, []
        self._out.clear()
        for expect in reversed(staged):
            if expect.undo is not None:
                expect.undo()
            expect.done(NOT_WRITTEN)
            if expect.running is not None:
                expect.running.finished = True
        for expect in staged:
            if expect.silent:
                continue
            if expect.kind == SYNC:
                self._send_sync()
            elif not self._skip:
                self._deny("Q" if expect.kind == QUERY else "P", NOT_WRITTEN)

    async def settle(self) -> None:
        """Everything sent so far has been answered. In a pipeline the target is asked to flush."""
        if self._pipeline:
            self._out += FLUSH
        await self.flush()
        await self.relay.backend.idle()

    async def ask(self, sql: str) -> list[tuple[str | None, ...]]:
        """A query of the gateway's own on the session's connection, between the caller's messages. Gives text rows."""
        self._asked += 1
        name = f"{OWN}{self._asked}"
        last = Expect(EXECUTE, silent=True, rows=[], answered=asyncio.get_running_loop().create_future())
        self._send(messages.Parse(name, sql).encode(), Expect(PARSE, silent=True))
        self._send(messages.Bind(name, name).encode(), Expect(BIND, silent=True))
        self._send(messages.Execute(name).encode(), last)
        self._send(messages.Close("P", name).encode(), Expect(CLOSE, silent=True))
        self._send(messages.Close("S", name).encode(), Expect(CLOSE, silent=True))
        if self._pipeline:
            self._out += FLUSH
        else:
            self._send(SYNC_NOW, Expect(SYNC, silent=True))
        await self.flush()
        failed = await last.answered if last.answered is not None else None
        if failed:
            raise SqlFault(failed.get("C", "XX000"), "the session's state on the target could not be read")
        await self.settle()
        return last.rows or []

    def _deny(self, kind: str, fields: Fields) -> None:
        """Refuse one message in the caller's own protocol. The target learns of it where a transaction or pipeline is open."""
        simple = kind == "Q"
        open_ended = self._pipeline or self._staged or self.relay.backend.busy() or self.relay.status != "I"
        if not open_ended:
            self._answer(messages.ErrorResponse(fields).encode() + (IDLE if simple else b""))
        elif simple:
            self._send(messages.Query(f"{OWN}refused").encode(), Expect(QUERY, instead=fields))
        else:
            self._pipeline = True
            self._send(messages.Execute(f"{OWN}refused").encode(), Expect(EXECUTE, instead=fields))
        self._skip = not simple

    def _answer(self, data: bytes) -> None:
        self.relay.client.write(data)

    # simple query protocol

    async def _query(self, query: messages.Query, payload: bytes) -> None:
        compiled = await self._understand(query.text)
        command = self.relay.context.command(compiled, wait=self.relay.wait)
        await self._before_permit(command)
        permit = await self._permit(command)
        running = self._running(permit, compiled)
        if permit.decision.max_rows is not None and any(s.dml for s in compiled.statements):
            await self._query_bounded(payload, compiled, running, permit.decision.max_rows)
            return
        self._send_query(payload, compiled, running)
        if any(s.returns == "copy-in" for s in compiled.statements):
            await self.flush()
            await self.relay.backend.copy_decided()

    def _send_query(self, payload: bytes, compiled: Compiled, running: Running, hold: bytearray | None = None) -> Expect:
        expect = Expect(QUERY, compiled.plans, running, hold=hold, undo=self._apply(compiled))
        self._send(frame(b"Q", payload), expect, None if running.permit.early else running.permit.recorded)
        return expect

    def _apply(self, compiled: Compiled) -> Callable[[], None] | None:
        undos = [undo for s in compiled.statements if (undo := self.relay.context.sent(s)) is not None]
        for statement in compiled.statements:
            if statement.forgets == "*" and statement.verb in ("discard", "deallocate"):
                self.statements.clear()
        if not undos:
            return None
        return undos[0]

    async def _query_bounded(self, payload: bytes, compiled: Compiled, running: Running, most: int) -> None:
        """``max_rows``: run inside a transaction, the gateway's own where there is none, and look at the count before it ends."""
        if len(compiled.statements) != 1:
            raise Refused("a statement under max_rows has to be sent alone", "42501")
        await self.settle()
        own = self.relay.status == "I"
        loop = asyncio.get_running_loop()
        if own:
            self._send(messages.Query("begin").encode(), Expect(QUERY, silent=True))
        expect = self._send_query(payload, compiled, running, hold=bytearray())
        expect.answered = loop.create_future()
        await self.flush()
        failed = await expect.answered
        too_many = not failed and expect.affected > most
        if too_many:
            running.status = "refused"
        if own:
            failed = await self._end_own(expect, failed, too_many, most)
        elif too_many:
            self._send(messages.Query(f"{OWN}refused").encode(), Expect(QUERY, instead=_too_many(expect.affected, most)))
        else:
            self._answer(bytes(expect.hold or b""))
        self.relay.backend.finish(running, "error" if failed else "ok", failed or {})

    async def _end_own(self, expect: Expect, failed: Fields | None, too_many: bool, most: int) -> Fields | None:
        """End the gateway's own transaction; the error that the statement ended with, if any."""
        end = Expect(QUERY, silent=True, answered=asyncio.get_running_loop().create_future())
        self._send(messages.Query("rollback" if failed or too_many else "commit").encode(), end)
        await self.flush()
        refused = await end.answered if end.answered is not None else None
        if failed:
            self._answer(IDLE)
        elif too_many:
            self._answer(messages.ErrorResponse(_too_many(expect.affected, most)).encode() + IDLE)
        elif refused:
            self._answer(messages.ErrorResponse(refused).encode() + IDLE)
        else:
            self._answer(command_complete_of(expect) + IDLE)
        return failed or refused

    async def _before_permit(self, command: Command) -> None:
        """A command that may be held waits until what came before it has been answered, so that the notice comes in order."""
        relay = self.relay
        decision = relay.gate.policy.decide(relay.session.identity, relay.session.resource, command.operations, relay.gate.now())
        if decision.effect == "approve" and (relay.pending or self._staged):
            await self.settle()

    def _running(self, permit: Permit, compiled: Compiled) -> Running:
        running = Running(permit, compiled.statements, sample=Sample())
        if (seconds := permit.decision.limits.time) is not None:
            running.timer = asyncio.get_running_loop().call_later(seconds, self.relay.backend.overtime, running)
        return running

    # extended query protocol

    async def _parse(self, parse: messages.Parse, payload: bytes) -> None:
        name, text, types = parse.statement, parse.text, parse.types
        _own_name(name)
        compiled = await self._understand(text, types)
        if len(compiled.statements) > 1:
            raise SqlFault("42601", "cannot insert multiple commands into a prepared statement")
        gate = None
        command = self.relay.context.command(compiled, phase="prepare")
        decision = self._decide(command)
        if decision.effect == "deny" or not compiled.early or self.relay.gate.audit.strict:
            permit = await self._permit(command)
            gate = permit.recorded
        self._check_room()
        before = self.statements.get(name)
        self.statements[name] = Prepared(text, types, compiled)
        texts = self.relay.context.prepared
        text_before = texts.get(name)
        if name:
            texts[name] = text

        def undo() -> None:
            _restore(self.statements, name, before)
            _restore(texts, name, text_before)

        running = None if gate is None else Running(Permit(decision, gate, early=False), compiled.statements)
        self._pipeline = True
        self._send(frame(b"P", payload), Expect(PARSE, running=running, undo=undo), gate)

    def _check_room(self) -> None:
        if len(self.statements) + len(self.portals) >= self.relay.names_limit:
            raise Refused("too many prepared statements and portals in this session (limits.statements)", "53400")

    def _decide(self, command: Command) -> Decision:
        relay = self.relay
        return relay.gate.policy.decide(relay.session.identity, relay.session.resource, command.operations, relay.gate.now())

    async def _current(self, name: str) -> Prepared:
        """The prepared statement, understood anew if anything it depends on has changed since."""
        found = self.statements.get(name)
        if found is None:
            text = self.relay.context.prepared.get(name)
            if text is None:
                which = f'prepared statement "{name}"' if name else "unnamed prepared statement"
                raise SqlFault("26000", f"{which} does not exist")
            found = Prepared(text, (), await self._understand(text))
        compiled = await self._understand(found.text, found.types)
        return Prepared(found.text, found.types, compiled)

    async def _bind(self, bind: messages.Bind, payload: bytes) -> None:
        _own_name(bind.portal)
        prepared = await self._current(bind.statement)
        compiled = prepared.compiled
        command = self.relay.context.command(compiled, typed_parameters(bind, prepared.types), wait=self.relay.wait)
        self._check_room()
        await self._before_permit(command)
        permit = await self._permit(command)
        running = self._running(permit, compiled)
        before = self.portals.get(bind.portal)
        if before is not None and not bind.portal:
            self._drop(before)
        self.portals[bind.portal] = Portal(compiled, command, running, bind.results)
        self._remember_cursor(bind.portal, compiled)

        def undo() -> None:
            self._drop(self.portals.get(bind.portal))
            _restore(self.portals, bind.portal, before)

        self._pipeline = True
        self._send(frame(b"B", payload), Expect(BIND, running=running, undo=undo), None if permit.early else permit.recorded)

    def _remember_cursor(self, name: str, compiled: Compiled) -> None:
        if name and compiled.statements and compiled.statements[0].columns is not None:
            self.relay.context.cursors[name] = compiled.statements[0].columns

    def _drop(self, portal: Portal | None) -> None:
        if portal is not None and not portal.running.finished and not portal.running.executed:
            self.relay.backend.finish(portal.running, "withdrawn", {})

    async def _describe(self, describe: messages.Describe, payload: bytes) -> None:
        what, name = describe.kind, describe.name
        _own_name(name)
        self._pipeline = True
        if what == "S":
            prepared = await self._current(name)
            self._send(frame(b"D", payload), Expect(DESCRIBE_STATEMENT, prepared.compiled.plans))
            return
        portal = await self._portal(name)
        portal.described = True
        self._send(frame(b"D", payload), Expect(DESCRIBE_PORTAL, portal.compiled.plans, portal.running, formats=portal.formats))

    async def _portal(self, name: str) -> Portal:
        found = self.portals.get(name)
        if found is not None:
            return found
        if name not in self.relay.context.cursors:
            raise SqlFault("34000", f'portal "{name}" does not exist')
        quoted = name.replace('"', '""')
        compiled = await self._understand(f'FETCH ALL FROM "{quoted}"')
        command = self.relay.context.command(compiled, wait=self.relay.wait)
        await self._before_permit(command)
        permit = await self._permit(command)
        return Portal(compiled, command, self._running(permit, compiled), ())

    async def _execute(self, execute: messages.Execute, payload: bytes) -> None:
        name = execute.portal
        _own_name(name)
        portal = await self._portal(name)
        if (decision := recheck(self.relay.gate, self.relay.session, portal.command, portal.running.permit)) is not None:
            await self._record_refusal(portal.command, decision.reason, "42501")
            raise Refused(decision.reason, "42501")
        running, compiled = portal.running, portal.compiled
        gate = None if running.permit.early else running.permit.recorded
        self._pipeline = True
        plan = compiled.plans[0] if compiled.plans else None
        if plan is not None and plan.any and not portal.described:
            portal.described = True
            own = Expect(DESCRIBE_PORTAL, compiled.plans, running, silent=True, formats=portal.formats)
            self._send(messages.Describe("P", name).encode(), own)
        running.executed = True
        expect = Expect(EXECUTE, compiled.plans, running, undo=self._apply(compiled), formats=portal.formats)
        self._send(frame(b"E", payload), expect, gate)
        if running.permit.decision.max_rows is not None and any(s.dml for s in compiled.statements):
            await self._execute_bounded(expect, running, running.permit.decision.max_rows)
        elif any(s.returns == "copy-in" for s in compiled.statements):
            self._out += FLUSH
            await self.flush()
            await self.relay.backend.copy_decided()

    async def _execute_bounded(self, expect: Expect, running: Running, most: int) -> None:
        """``max_rows`` in a pipeline: nothing is committed before Sync, so the count is looked at before anything follows."""
        expect.hold = bytearray()
        expect.answered = asyncio.get_running_loop().create_future()
        self._out += FLUSH
        await self.flush()
        failed = await expect.answered
        if failed:
            self.relay.backend.finish(running, "error", failed)
            return
        if expect.affected <= most:
            self._answer(bytes(expect.hold))
            self.relay.backend.finish(running, "ok", {})
            return
        running.status = "refused"
        self.relay.backend.finish(running, "refused", {"C": "42501"})
        raise Refused(_too_many(expect.affected, most)["M"], "42501")

    async def _close(self, close: messages.Close, payload: bytes) -> None:
        what, name = close.kind, close.name
        _own_name(name)
        self._pipeline = True
        if what == "S":
            before, texts = self.statements.pop(name, None), self.relay.context.prepared
            text_before = texts.pop(name, None)

            def undo() -> None:
                _restore(self.statements, name, before)
                _restore(texts, name, text_before)
        else:
            portal = self.portals.pop(name, None)
            self._drop(portal)

            def undo() -> None:
                _restore(self.portals, name, portal)

        self._send(frame(b"C", payload), Expect(CLOSE, undo=undo))

    async def _sync(self, sync: messages.Sync, payload: bytes) -> None:
        self._send_sync()

    def _send_sync(self) -> None:
        skipped, self._skip = self._skip, False
        pipeline, self._pipeline = self._pipeline, False
        if skipped and not pipeline:
            self._answer(IDLE)
            return
        self._send(SYNC_NOW, Expect(SYNC))

    async def _flush_message(self, flush: messages.Flush, payload: bytes) -> None:
        self._out += FLUSH

    async def _copy(self, part: messages.CopyData | messages.CopyDone | messages.CopyFail, payload: bytes) -> None:
        """CopyData, CopyDone, CopyFail of a COPY FROM STDIN that the target has begun."""
        self._out += part.encode()
        if not isinstance(part, messages.CopyData):
            self.relay.backend.copy_sent()
        if len(self._out) >= FLUSH_BYTES:
            await self.flush()

    def transaction_over(self) -> None:
        """Portals end with their transaction (manual 55.2.3); a command bound and never executed is withdrawn."""
        for portal in self.portals.values():
            self._drop(portal)
        self.portals.clear()


def _own_name(name: str) -> None:
    if name.startswith(OWN):
        raise SqlFault("42602", f"names that begin with {OWN} are the gateway's own")


def _restore(names: dict[str, _T], name: str, before: _T | None) -> None:
    if before is None:
        names.pop(name, None)
    else:
        names[name] = before


def typed_parameters(bind: messages.Bind, types: tuple[int, ...]) -> tuple[tuple[str, str | None], ...]:
    """Bound values as ``(type oid, text)``; binary ones as ``\\x`` and hexadecimal digits."""
    found: list[tuple[str, str | None]] = []
    for index, value in enumerate(bind.parameters):
        oid = types[index] if index < len(types) else 0
        if value is None:
            shown = None
        elif bind.format_of(index):
            shown = "\\x" + value.hex()
        else:
            shown = value.decode("utf-8", "backslashreplace")
        found.append((str(oid), shown))
    return tuple(found)


def command_complete_of(expect: Expect) -> bytes:
    """The CommandComplete that was held back, without the ReadyForQuery behind it."""
    held = bytes(expect.hold or b"")
    size = int.from_bytes(held[1:5], "big") + 1 if held else 0
    return held[:size]


def _too_many(affected: int, most: int) -> Fields:
    return error("42501", f"refused: {affected} rows affected, at most {most} are allowed; rolled back")
