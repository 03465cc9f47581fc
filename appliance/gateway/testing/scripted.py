# SPDX-License-Identifier: Apache-2.0
"""A target that says what it is told to: the rules of PostgreSQL's message flow (manual 55.2), the answers of a script.

Bytes in, bytes out; no socket. It keeps what it received, what it ran, and what of that was committed, so that a test can say that a
refused statement never came here and that what ran before it was rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.protocols.postgres import messages
from gateway.protocols.postgres.catalog.load import CONTEXT_SQL
from gateway.protocols.postgres.codec import FrameReader
from gateway.protocols.postgres.messages import Field, Message

Answer = Sequence[Message | bytes]
Frame = tuple[str, bytes]

CONTEXT = ("{pg_catalog,public}", "app", "app", "", "none", '"$user", public', "on", "UTF8", "on", "origin")
"""What it says of its settings when the gateway asks."""

PARSE_COMPLETE, BIND_COMPLETE, CLOSE_COMPLETE = messages.PARSE_COMPLETE, messages.BIND_COMPLETE, messages.CLOSE_COMPLETE
INT4, TEXT = 23, 25


def rows(names: Sequence[str | Field], *values: Sequence[str | None], tag: str = "") -> list[Message]:
    """A result: description (text columns unless a ``Field`` says otherwise), rows, CommandComplete."""
    fields = tuple(name if isinstance(name, Field) else Field(name) for name in names)
    data = [messages.DataRow(tuple(None if one is None else one.encode() for one in row)) for row in values]
    return [messages.RowDescription(fields), *data, messages.CommandComplete(tag or f"SELECT {len(values)}")]


def done(tag: str) -> list[Message]:
    return [messages.CommandComplete(tag)]


def failure(code: str, message: str, **more: str) -> list[Message]:
    return [messages.ErrorResponse({"S": "ERROR", "V": "ERROR", "C": code, "M": message, **more})]


def encode(answer: Answer) -> bytes:
    return b"".join(part if isinstance(part, bytes) else part.encode() for part in answer)


@dataclass(slots=True)
class _Portal:
    text: str
    at: int = 0


class _Failed(Exception):
    def __init__(self, error: Message | bytes) -> None:
        super().__init__("the scripted statement fails")
        self.error = error


@dataclass(slots=True)
class ScriptedTarget:
    """``answers`` by statement text; what is not there gets its first word as a tag. A text in ``silent`` is never answered.

    ``received`` are the caller's messages in order, without the gateway's own questions (names that begin with ``lockgate_`` and a number).
    """

    answers: Mapping[str, Answer] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    context: Sequence[str] = CONTEXT
    received: list[Frame] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    committed: list[str] = field(default_factory=list)
    copied: list[bytes] = field(default_factory=list)
    status: str = "I"
    asked: int = 0
    _open: list[str] = field(default_factory=list)
    _savepoints: list[int] = field(default_factory=list)
    _statements: dict[str, str] = field(default_factory=dict)
    _portals: dict[str, _Portal] = field(default_factory=dict)
    _skipping: bool = False
    _stopped: bool = False
    _copying: str = ""
    _copy_simple: bool = False
    _last_own: bool = False
    _reader: FrameReader = field(default_factory=lambda: FrameReader(1 << 28))

    def feed(self, data: bytes) -> bytes:
        """Take what the gateway sent; gives what to answer."""
        self._reader.feed(data)
        return b"".join(self._message(chr(kind), bytes(payload)) for kind, payload in self._reader)

    @property
    def kinds(self) -> str:
        """The kinds of the caller's messages that came, in order."""
        return "".join(kind for kind, _ in self.received)

    def _message(self, kind: str, payload: bytes) -> bytes:
        message = messages.parse_frontend(ord(kind), payload)
        own = _is_own(message)
        if own:
            self.asked += 1
        elif not (kind in "SH" and self._last_own):
            self.received.append((kind, payload))
        self._last_own = own or (kind in "SH" and self._last_own)
        if self._stopped or kind == "X" or (self._skipping and kind != "S"):
            return b""
        try:
            return encode(self._answer(kind, message))
        except _Failed as failed:
            return self._fail(failed.error, simple=kind == "Q")

    def _answer(self, kind: str, message: messages.FrontendMessage) -> Answer:
        match message:
            case messages.Query(text):
                return self._query(text)
            case messages.Parse(name, text):
                if self.answers.get("parse " + text):
                    raise _Failed(self.answers["parse " + text][0])
                self._refuse_when_aborted(text)
                if name and name in self._statements:
                    raise _Failed(failure("42P05", f'prepared statement "{name}" already exists')[0])
                self._statements[name] = text
                return [PARSE_COMPLETE]
            case messages.Bind(portal, name):
                if name not in self._statements:
                    raise _Failed(failure("26000", f'prepared statement "{name}" does not exist')[0])
                if portal and portal in self._portals:
                    raise _Failed(failure("42P03", f'cursor "{portal}" already exists')[0])
                self._refuse_when_aborted(self._statements[name])
                self._portals[portal] = _Portal(self._statements[name])
                return [BIND_COMPLETE]
            case messages.Describe(what, name):
                return self._describe(what, name)
            case messages.Execute(portal, limit):
                return self._execute(portal, limit)
            case messages.Close(what, name):
                (self._statements if what == "S" else self._portals).pop(name, None)
                return [CLOSE_COMPLETE]
            case messages.Sync():
                return self._sync()
            case messages.CopyData(data):
                self.copied.append(data)
                return []
            case messages.CopyDone() | messages.CopyFail():
                return self._copy_over(isinstance(message, messages.CopyFail))
        return []

    # running

    def _query(self, text: str) -> Answer:
        answer = list(self._run(text))
        if text in self.silent:
            self._stopped = True
            return []
        if self._copying:
            self._copy_simple = True
            return answer
        if self.status == "I":
            self._commit()
        return [*answer, messages.ReadyForQuery(self.status)]

    def _run(self, text: str) -> Answer:
        word = text.split(" ", 1)[0].lower().rstrip(";")
        if text == "lockgate_refused":
            raise _Failed(failure("42601", 'syntax error at or near "lockgate_refused"', P="1")[0])
        self._refuse_when_aborted(text)
        answer = self.answers.get(text)
        if answer is not None and (bad := [n for n, part in enumerate(answer) if _is_error(part)]):
            raise _Failed(encode(answer[:bad[0] + 1]))
        self.ran.append(text)
        self._open.append(text)
        tag = self._transaction(word, text)
        if answer is not None and any(isinstance(part, messages.CopyResponse) and part.kind == "G" for part in answer):
            self._copying = text
        return answer if answer is not None else done(tag)

    def _refuse_when_aborted(self, text: str) -> None:
        if self.status == "E" and text.split(" ", 1)[0].lower().rstrip(";") not in ("rollback", "commit", "end", "abort"):
            raise _Failed(failure("25P02", "current transaction is aborted, commands ignored until end of transaction block")[0])

    def _transaction(self, word: str, text: str) -> str:
        """What BEGIN and its kin do; the tag of the statement."""
        if word == "begin":
            self.status, self._savepoints = "T", []
        elif word == "savepoint":
            self._savepoints.append(len(self._open))
        elif text.lower().startswith("rollback to"):
            self._open[self._savepoints[-1]:] = []
            self.status = "T"
        elif word in ("commit", "end", "rollback", "abort"):
            failed = self.status == "E" or word in ("rollback", "abort")
            self.status = "I"
            if failed:
                self._open.clear()
                return "ROLLBACK"
            self._commit()
            return "COMMIT"
        return word.upper()

    def _commit(self) -> None:
        self.committed += self._open
        self._open.clear()

    def _describe(self, what: str, name: str) -> Answer:
        known = self._statements.get(name) if what == "S" else getattr(self._portals.get(name), "text", None)
        if known is None:
            raise _Failed(failure("26000" if what == "S" else "34000", f'"{name}" does not exist')[0])
        first = self._own(known) if known == CONTEXT_SQL else self.answers.get(known, ())
        described = next((part for part in first if isinstance(part, messages.RowDescription)), messages.NO_DATA)
        return [*([messages.ParameterDescription(())] if what == "S" else []), described]

    def _execute(self, name: str, limit: int) -> Answer:
        portal = self._portals.get(name)
        if portal is None:
            raise _Failed(failure("34000", f'portal "{name}" does not exist')[0])
        if portal.text == CONTEXT_SQL:
            return [part for part in self._own(portal.text) if not isinstance(part, messages.RowDescription)]
        answer = self._run(portal.text) if not portal.at else self.answers[portal.text]
        if portal.text in self.silent:
            self._stopped = True
            return []
        data = [part for part in answer if isinstance(part, messages.DataRow)]
        if limit and len(data) - portal.at > limit:
            portal.at += limit
            return [*data[portal.at - limit:portal.at], messages.PORTAL_SUSPENDED]
        rest = [part for part in answer if not isinstance(part, messages.RowDescription | messages.DataRow)]
        return [*data[portal.at:], *rest]

    def _own(self, text: str) -> list[Message]:
        return rows([f"c{n}" for n in range(len(self.context))], tuple(self.context))

    def _sync(self) -> Answer:
        if self._copying:
            return []
        if self._skipping:
            self._skipping = False
        elif self.status == "I":
            self._commit()
        self._open = [] if self.status == "I" else self._open
        if self.status == "I":
            self._portals.clear()
        return [messages.ReadyForQuery(self.status)]

    def _copy_over(self, failed: bool) -> Answer:
        if not self._copying:
            return []
        self._copying = ""
        simple, self._copy_simple = self._copy_simple, False
        if failed:
            return [self._fail(failure("57014", "COPY from stdin failed")[0], simple=simple)]
        if simple and self.status == "I":
            self._commit()
        return [*done(f"COPY {len(self.copied)}"), *([messages.ReadyForQuery(self.status)] if simple else [])]

    def _fail(self, error: Message | bytes, *, simple: bool) -> bytes:
        self._copying = ""
        if self.status == "T":
            self.status = "E"
        elif self.status == "I":
            self._open.clear()
        self._skipping = not simple
        return encode([error, *([messages.ReadyForQuery(self.status)] if simple else [])])


def _is_error(part: Message | bytes) -> bool:
    return isinstance(part, messages.ErrorResponse) and not part.notice


def _is_own(message: messages.FrontendMessage) -> bool:
    """One of the gateway's questions (``lockgate_1``), as opposed to what stands for a refused message (``lockgate_refused``)."""
    name = ""
    match message:
        case messages.Parse(statement=name) | messages.Bind(statement=name):
            pass
        case messages.Execute(portal=name) | messages.Describe(name=name) | messages.Close(name=name):
            pass
    return name.startswith("lockgate_") and name[9:].isdigit()

