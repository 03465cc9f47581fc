# SPDX-License-Identifier: Apache-2.0
"""A text of several statements whose later ones cannot be understood before the earlier ones have run (``CREATE TABLE …; INSERT …``).

Migration tools send whole scripts like that. The statements go to the target one by one, each of them understood, decided and recorded
when its turn comes, and all in one transaction, as the text itself would be: in the block that is open or that it opens, else in one of
the gateway's own. So a statement that is refused or fails takes everything before it along. The caller is answered as by one Query.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import Refused, TargetFault
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.answers import CODES, IDLE, NOT_WRITTEN, command_complete_of
from gateway.protocols.postgres.context import Compiled
from gateway.protocols.postgres.expect import QUERY, Expect, Fields, Running, on_disk
from gateway.protocols.postgres.sql.parse import Offsets, Parsed
from gateway.protocols.postgres.statement import SqlFault

if TYPE_CHECKING:
    from gateway.protocols.postgres.frontend import Frontend

HEADER = 5
"""Bytes of a message before its payload: kind and length."""
_BEGIN = frozenset({"TRANS_STMT_BEGIN", "TRANS_STMT_START"})
_END = frozenset({"TRANS_STMT_COMMIT", "TRANS_STMT_ROLLBACK"})
_INSIDE = frozenset({"TRANS_STMT_SAVEPOINT", "TRANS_STMT_RELEASE", "TRANS_STMT_ROLLBACK_TO"})


@dataclass(frozen=True, slots=True)
class Piece:
    """One statement of a text: its own text, the characters that stand before it, and whether it begins a transaction."""

    text: str
    start: int
    opens: bool = False


class Divided(Exception):
    """A text that is to be sent by its pieces: no fault."""

    def __init__(self, found: tuple[Piece, ...]) -> None:
        super().__init__("")
        self.pieces = found


def pieces(text: str, parsed: list[Parsed], data: bytes, status: str) -> tuple[Piece, ...]:
    """The statements of a text that may go one by one in a session of that transaction status; ``()`` where they may not.

    All of them have to be in one transaction: BEGIN only comes first while none is open, COMMIT and ROLLBACK only last while one is.
    COPY FROM STDIN is none of them: its data comes after the text.
    """
    if len(parsed) < 2 or status not in ("I", "T") or not _one_transaction(parsed, status) or any(map(_copies_in, parsed)):
        return ()
    offsets = Offsets(data)
    places = [(offsets.character(entry.start), offsets.character(entry.end)) for entry in parsed]
    return tuple(Piece(text[start:end], start, _kind(entry) in _BEGIN) for entry, (start, end) in zip(parsed, places, strict=True))


def _kind(entry: Parsed) -> str:
    """Of a statement about transactions."""
    return str(entry.body.get("kind", "")) if entry.kind == "TransactionStmt" else ""


def _one_transaction(parsed: list[Parsed], status: str) -> bool:
    kinds = [_kind(entry) for entry in parsed]
    opens = status == "I" and kinds[0] in _BEGIN
    inside = kinds[1:] if opens else kinds
    if not opens and status == "I":
        return not any(inside)
    return all(kind in _INSIDE for kind in inside[:-1] if kind) and (not inside[-1] or inside[-1] in _INSIDE | _END)


def _copies_in(entry: Parsed) -> bool:
    return entry.kind == "CopyStmt" and bool(entry.body.get("is_from")) and "filename" not in entry.body


def ended_as(failed: Fields | None) -> str:
    """How a command's end is recorded."""
    return "ok" if not failed else "cancelled" if failed.get("C") == "57014" else "error"


class Script:
    """The pieces of one text on their way."""

    def __init__(self, frontend: Frontend, found: tuple[Piece, ...]) -> None:
        self._frontend = frontend
        self._relay = frontend.relay
        self._pieces = found
        self._own = frontend.relay.status == "I" and not found[0].opens     # in a transaction of the gateway's own
        self._begun = False
        self._done: list[Running] = []
        """Pieces that have run; under ``own`` whether they stay is known at the end."""

    async def run(self) -> None:
        """Every piece, up to the first that fails. Raises ``SqlFault`` and ``Refused`` for one that may not run; nothing of the text has
        happened then, or cannot be committed any more."""
        status, fields = "cancelled", {"C": "57P01"}
        try:
            failed = await self._each()
            status, fields = ended_as(failed), failed or {}
        except (SqlFault, Refused) as no:
            status, fields = "refused", {"C": CODES.get(no.code, no.code) or "42501"}
            if self._begun:
                await self._say("rollback")
            raise
        finally:
            for running in self._done:
                self._relay.commands.finish(running, status, fields)

    async def _each(self) -> Fields | None:
        for place, piece in enumerate(self._pieces):
            compiled, running = await self._permitted(piece)
            expect = await self._sent(compiled, running, piece)
            failed = await self._answer(expect, last=place + 1 == len(self._pieces))
            if not self._own:
                self._relay.commands.finish(running, ended_as(failed), failed or {})
            if failed:
                return failed
        return None

    async def _permitted(self, piece: Piece) -> tuple[Compiled, Running]:
        """The piece as it is understood now, and its record on disk. Raises ``SqlFault``, ``Refused``."""
        deciding = self._frontend.deciding
        try:
            compiled = await deciding.understand(piece.text)
        except SqlFault as fault:
            raise SqlFault(fault.code, str(fault), fault.position and fault.position + piece.start, fault.hint) from None
        command = self._relay.context.command(compiled, wait=False)
        decision = deciding.decide(command)
        if decision.effect == "approve":
            await deciding.refuse(command, "a statement that needs an approval has to be sent alone: the earlier ones of this text change "
                                           "what it means")
        if await deciding.bound(command, compiled, decision) is not None:
            await deciding.refuse(command, "a statement under max_rows has to be sent alone")
        permit = await deciding.permit(command)
        await asyncio.wait({permit.recorded})
        if not on_disk(permit.recorded):
            raise Refused(NOT_WRITTEN["M"], "58030")
        return compiled, Running(permit, compiled.statements, sample=self._frontend.sample())

    async def _sent(self, compiled: Compiled, running: Running, piece: Piece) -> Expect:
        """The piece is passed on and has been answered."""
        if self._own and not self._begun:
            await self._say("begin")
            self._begun = True
        expect = self._frontend.send_query(messages.Query(compiled.sent).encode()[HEADER:], compiled, running, hold=bytearray())
        expect.offset = piece.start
        self._done.append(running)
        await self._frontend.settle()
        running.stop_clock()
        if self._own and self._relay.status != ("E" if expect.failed else "T"):
            raise TargetFault("the target has left the transaction of a text", "08P01")
        return expect

    async def _answer(self, expect: Expect, *, last: bool) -> Fields | None:
        """Tell the caller how the piece ended; with the last one, or a failed one, how all of it did. Gives the error, if any."""
        failed = expect.failed
        if self._own and (failed or last):
            return await self._ended(expect, failed)
        self._frontend.answer(bytes(expect.hold or b"") if failed or last else command_complete_of(expect))
        return failed

    async def _ended(self, expect: Expect, failed: Fields | None) -> Fields | None:
        """The end of the gateway's own transaction, and what it makes of the last answer."""
        end = await self._say("rollback" if failed else "commit")
        if failed:
            self._frontend.answer(IDLE)
        elif end.failed:
            self._frontend.answer(messages.ErrorResponse(self._relay.backend.shown(end.failed, expect)).encode() + IDLE)
        else:
            self._frontend.answer(command_complete_of(expect) + IDLE)
        return failed or end.failed

    async def _say(self, text: str) -> Expect:
        """BEGIN, COMMIT or ROLLBACK of the gateway's own, answered. An error of COMMIT may be a deferred constraint's."""
        said = Expect(QUERY, silent=True)
        self._frontend.send(messages.Query(text).encode(), said)
        await self._frontend.settle()
        if self._relay.status != ("T" if text == "begin" else "I"):
            raise TargetFault(f"the target did not {text}", "08P01")
        return said
