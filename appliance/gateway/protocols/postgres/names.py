# SPDX-License-Identifier: Apache-2.0
"""A session's prepared statements, portals and cursors: one namespace each, whether they were made by message or by SQL.

A name must never be believed to mean something else than it means on the target. What was sent and then failed is taken back, unless
something sent later has given the name another meaning already. Where a text of several statements failed somewhere, the names it
touched are forgotten altogether: PREPARE and DEALLOCATE are not undone by a rollback, and how far the text came is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gateway.errors import Refused
from gateway.masking.model import Filters
from gateway.model import Command
from gateway.protocols.postgres.context import Compiled, SessionContext
from gateway.protocols.postgres.expect import Running
from gateway.protocols.postgres.sql.parse import parse
from gateway.protocols.postgres.statement import Output, SqlFault, Statement

_T = TypeVar("_T")
_Shown = TypeVar("_Shown")
Undo = Callable[[], None]

_HOLD = 0x20  # CURSOR_OPT_HOLD of parsenodes.h


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A prepared statement: its text and the parameter types the client gave. ``sent`` is what the target got in place of the text.

    ``described`` are those of the target's ParameterDescription once there is one: bound values are shown by them, nothing is decided.
    """

    text: str
    types: tuple[int, ...] = ()
    described: list[int] = field(default_factory=list)
    sent: str | None = None

    @property
    def held(self) -> str:
        """The text that the target holds."""
        return self.text if self.sent is None else self.sent


@dataclass(frozen=True, slots=True, eq=False)
class Cursor:
    """What FETCH brings from a portal or SQL cursor; one that holds outlives its transaction. ``filters`` are the row filters it was
    opened with."""

    columns: tuple[Output, ...] | None
    turn: int
    hold: bool = False
    early: bool = False
    filters: Filters = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Portal:
    """A bound statement, its command decided and recorded. ``turn`` counts the Syncs before it was bound."""

    compiled: Compiled
    command: Command
    running: Running
    formats: tuple[int, ...]
    turn: int
    described: bool = False


class _Weighed(dict[str, _T]):
    """Names and values; ``bytes`` is what the values weigh together."""

    __slots__ = ("_weigh", "bytes")

    def __init__(self, weigh: Callable[[_T], int]) -> None:
        super().__init__()
        self.bytes, self._weigh = 0, weigh

    def __setitem__(self, name: str, value: _T) -> None:
        self.drop(name)
        self.bytes += self._weigh(value)
        super().__setitem__(name, value)

    def drop(self, name: str) -> _T | None:
        found = super().pop(name, None)
        self.bytes -= 0 if found is None else self._weigh(found)
        return found


class _Slots(Generic[_T, _Shown]):
    """Names and what they mean; ``shown`` is the part of it that analysis looks at, kept alongside in ``mirror``."""

    __slots__ = ("_mirror", "_now", "_shown", "get")

    def __init__(self, mirror: dict[str, _Shown], shown: Callable[[_T], _Shown], weigh: Callable[[_T], int]) -> None:
        self._now: _Weighed[_T] = _Weighed(weigh)
        self._mirror, self._shown = mirror, shown
        self.get: Callable[[str], _T | None] = self._now.get

    def __len__(self) -> int:
        return len(self._now)

    @property
    def bytes(self) -> int:
        return self._now.bytes

    def items(self) -> list[tuple[str, _T]]:
        return list(self._now.items())

    def put(self, name: str, value: _T | None) -> Undo:
        """Give a name a meaning, or none. The undo does nothing when the name has got another one since."""
        before = self._now.get(name)
        self._set(name, value)

        def undo() -> None:
            if self._now.get(name) is value:
                self._set(name, before)

        return undo

    def clear(self) -> Undo:
        return _all([self.put(name, None) for name in list(self._now)])

    def _set(self, name: str, value: _T | None) -> None:
        if value is None:
            self._now.drop(name)
            self._mirror.pop(name, None)
        else:
            self._now[name] = value
            self._mirror[name] = self._shown(value)


def _text(one: Prepared) -> str:
    return one.text


def _length(one: Prepared) -> int:
    return len(one.text) + len(one.sent or "")


def _columns(one: Cursor) -> tuple[Output, ...] | None:
    return one.columns


def _nothing(one: Cursor) -> int:
    return 0


class Names:
    """``finish(running, status)`` records a command whose portal goes away."""

    def __init__(self, context: SessionContext, limit: int, most_bytes: int, finish: Callable[[Running, str], None]) -> None:
        self._context, self._limit, self._most_bytes, self._finish = context, limit, most_bytes, finish
        self._statements: _Slots[Prepared, str] = _Slots(context.prepared, _text, _length)
        self.known: Callable[[str], Prepared | None] = self._statements.get     # the statement of a name, if there is one
        self._cursors: _Slots[Cursor, tuple[Output, ...] | None] = _Slots(context.cursors, _columns, _nothing)
        self._portals: _Weighed[Portal] = _Weighed(_weight)
        self._gone: list[tuple[int, Running]] = []       # of portals closed or replaced that the target may still be at
        context.early_cursors = lambda: frozenset(name for name, cursor in self._cursors.items() if cursor.early)

    def check_room(self) -> None:
        """Raises ``Refused`` when the session keeps too many names."""
        if len(self._statements) + max(len(self._portals), len(self._cursors)) >= self._limit:
            raise Refused("too many prepared statements and portals in this session (limits.statements)", "53400")
        if self._statements.bytes + self._portals.bytes > self._most_bytes:
            raise Refused("the prepared statements and portals of this session hold too much (limits.message)", "53400")

    def resting(self) -> bool:
        """Another unnamed portal would end no command, and there is room for it."""
        unnamed = self._portals.get("")
        try:
            self.check_room()
        except Refused:
            return False
        return unnamed is None or unnamed.running.finished

    # statements

    def reparsed(self, prepared: Prepared) -> None:
        """The unnamed statement is this one now."""
        if self._statements.get("") is not prepared:
            self._statements.put("", prepared)

    def statement(self, name: str) -> Prepared:
        """Raises ``SqlFault`` 26000."""
        found = self._statements.get(name)
        if found is None:
            which = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise SqlFault("26000", f"{which} does not exist")
        return found

    def parsed(self, name: str, text: str, types: tuple[int, ...], sent: str | None = None) -> Undo:
        return self._statements.put(name, Prepared(text, types, sent=sent))

    def check_filters(self, compiled: Compiled, held: Prepared | None = None) -> None:
        """Raises ``SqlFault`` where what would run was given to the target with other row filters than apply now: as for a name that means
        nothing any more. ``held``: it was prepared by message."""
        if held is not None and held.held != compiled.sent:
            raise other_filters("26000", "prepared statement")
        for statement in compiled.statements:
            name, cursor = statement.uses_prepared, statement.uses_cursor
            known = self._statements.get(name) if name is not None else None
            if known is not None and known.held != compiled.executes.get(name or "", known.text):
                raise other_filters("26000", "prepared statement")
            opened = self._cursors.get(cursor) if cursor is not None else None
            if opened is not None and opened.filters != self._context.masks().filters:
                raise other_filters("34000", "cursor")

    def closed_statement(self, name: str) -> Undo:
        return self._statements.put(name, None)

    # portals

    def portal(self, name: str) -> Portal | None:
        return self._portals.get(name)

    def has_cursor(self, name: str) -> bool:
        return self._cursors.get(name) is not None

    def bound(self, name: str, portal: Portal) -> Undo:
        """A Bind was sent. The unnamed portal replaces the one before; a name that is taken is the target's to refuse."""
        before = self._portals.get(name)
        if before is not None:
            self._left(before, drop=not name)
        self._portals[name] = portal
        columns = portal.compiled.statements[0].columns if portal.compiled.statements else None
        cursor = Cursor(columns, portal.turn, early=portal.compiled.early, filters=self._context.masks().filters)
        forget = self._cursors.put(name, cursor) if name else None

        def undo() -> None:
            self._drop(portal)
            if forget is not None:
                forget()
            if self._portals.get(name) is portal:
                self._replace(name, before)

        return undo

    def kept(self, name: str, portal: Portal) -> None:
        """A cursor is run by message, or a portal once more."""
        self._portals[name] = portal

    def closed_portal(self, name: str) -> Undo:
        portal = self._portals.drop(name)
        forget = self._cursors.put(name, None)
        if portal is not None:
            self._left(portal, drop=True)

        def undo() -> None:
            forget()
            if name not in self._portals:
                self._replace(name, portal)

        return undo

    def transaction_over(self, turn: int | None = None) -> None:
        """Portals end with their transaction (manual 55.2.3): those bound before the Sync that ended it, all where ``turn`` is absent."""
        for name, portal in list(self._portals.items()):
            if turn is None or portal.turn <= turn:
                self._drop(portal)
                self._portals.drop(name)
        for running in [running for bound, running in self._gone if turn is None or bound <= turn]:
            self._end(running)
        self._gone = [one for one in self._gone if turn is not None and one[0] > turn]
        for name, cursor in self._cursors.items():
            if not cursor.hold and (turn is None or cursor.turn <= turn):
                self._cursors.put(name, None)

    def _replace(self, name: str, portal: Portal | None) -> None:
        if portal is None:
            self._portals.drop(name)
        else:
            self._portals[name] = portal

    def _left(self, portal: Portal, drop: bool) -> None:
        """Another portal has its name, or none: its command ends now, or with its transaction where it may still be under way."""
        if drop:
            self._drop(portal)
        if not portal.running.finished:
            self._gone.append((portal.turn, portal.running))

    def _drop(self, portal: Portal) -> None:
        self._end(portal.running)

    def _end(self, running: Running) -> None:
        """A command that was bound and never executed is withdrawn; one that was not fetched to its end has ended now."""
        if not running.executed:
            self._finish(running, "withdrawn")
        elif running.suspended:
            self._finish(running, "ok")

    # SQL

    def applied(self, compiled: Compiled, turn: int) -> Undo | None:
        """What a text does to names once it succeeds; gives the way to take it back when it fails."""
        undos: list[Undo] = []
        for statement in compiled.statements:
            self._context.sent(statement)
            undos += self._apply(statement, compiled.text, turn)
        if not undos:
            return None
        if len(compiled.statements) == 1:
            return _all(undos)

        def undo() -> None:
            for statement in compiled.statements:
                self._uncertain(statement)

        return undo

    def _apply(self, statement: Statement, text: str, turn: int) -> list[Undo]:
        undos: list[Undo] = []
        if statement.prepares is not None:
            undos.append(self._statements.put(statement.prepares, Prepared(statement.inner_text, sent=statement.inner_sent)))
        if statement.declares is not None:
            early = statement.inner is not None and statement.inner.early
            holds = _holds(text, statement.declares)
            cursor = Cursor(statement.columns, turn, holds, early, self._context.masks().filters)
            undos.append(self._cursors.put(statement.declares, cursor))
        if statement.forgets == "*":
            undos += self._forget_all(statement.verb)
        elif statement.forgets is not None:
            names = self._cursors if statement.verb == "close" else self._statements
            undos.append(names.put(statement.forgets, None))
        return undos

    def _forget_all(self, verb: str) -> list[Undo]:
        cursors = [self._cursors.clear()] if verb in ("close", "discard") else []
        return cursors + ([self._statements.clear()] if verb in ("deallocate", "discard") else [])

    def _uncertain(self, statement: Statement) -> None:
        """Whether this statement happened is not known: its names mean nothing from now on."""
        if statement.forgets == "*":
            self._forget_all(statement.verb)
            return
        for name in (statement.prepares, statement.declares, statement.forgets):
            if name is not None:
                self._statements.put(name, None)
                self._cursors.put(name, None)


def other_filters(code: str, what: str) -> SqlFault:
    return SqlFault(code, f"the row filters changed since this {what} was made: make it again")


def _weight(portal: Portal) -> int:
    return portal.compiled.weight + sum(len(value) for _, value in portal.command.parameters if value is not None)


def _holds(text: str, name: str) -> bool:
    """Whether a DECLARE in this text makes that cursor WITH HOLD."""
    return any(one.kind == "DeclareCursorStmt" and one.body.get("portalname") == name and one.body.get("options", 0) & _HOLD
               for one in parse(text)[0])


def _all(undos: list[Undo]) -> Undo:
    def undo() -> None:
        for one in reversed(undos):
            one()

    return undo
