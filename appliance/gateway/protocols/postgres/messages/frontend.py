# SPDX-License-Identifier: Apache-2.0
"""What a caller sends once it is known: values, ``encode()``, ``parse_frontend``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.errors import ClientFault
from gateway.protocols.postgres.codec import frame, kind_name
from gateway.protocols.postgres.messages.cursor import INT16, INT32, Cursor, cstring, int16s_of, value_of


@dataclass(frozen=True, slots=True)
class Password:
    """PasswordMessage, SASLInitialResponse, SASLResponse: what they mean depends on what was asked."""

    data: bytes = field(repr=False)

    def encode(self) -> bytes:
        return frame(b"p", self.data)

    def text(self) -> str:
        """The password of a PasswordMessage. Raises ``ClientFault``."""
        cursor = Cursor(self.data, ClientFault)
        password = cursor.cstring()
        cursor.finish()
        return password


@dataclass(frozen=True, slots=True)
class Query:
    text: str

    def encode(self) -> bytes:
        return frame(b"Q", cstring(self.text))


@dataclass(frozen=True, slots=True)
class Parse:
    statement: str
    text: str
    types: tuple[int, ...] = ()

    def encode(self) -> bytes:
        types = INT16.pack(len(self.types)) + b"".join([oid.to_bytes(4, "big") for oid in self.types])
        return frame(b"P", cstring(self.statement) + cstring(self.text) + types)


@dataclass(frozen=True, slots=True)
class Bind:
    """``formats`` and ``results``: none, one for all, or one each; 0 text, 1 binary."""

    portal: str
    statement: str
    formats: tuple[int, ...] = ()
    parameters: tuple[bytes | None, ...] = ()
    results: tuple[int, ...] = ()

    def encode(self) -> bytes:
        values = INT16.pack(len(self.parameters)) + b"".join([value_of(value) for value in self.parameters])
        return frame(b"B", cstring(self.portal) + cstring(self.statement) + int16s_of(self.formats) + values + int16s_of(self.results))

    def format_of(self, index: int) -> int:
        """The format of parameter ``index`` (from 0)."""
        return 0 if not self.formats else self.formats[0] if len(self.formats) == 1 else self.formats[index]


@dataclass(frozen=True, slots=True)
class Describe:
    """``kind`` is ``S`` (statement) or ``P`` (portal)."""

    kind: str
    name: str

    def encode(self) -> bytes:
        return frame(b"D", self.kind.encode() + cstring(self.name))


@dataclass(frozen=True, slots=True)
class Execute:
    """``rows``: 0 is no limit."""

    portal: str
    rows: int = 0

    def encode(self) -> bytes:
        return frame(b"E", cstring(self.portal) + INT32.pack(self.rows))


@dataclass(frozen=True, slots=True)
class Close:
    """``kind`` is ``S`` (statement) or ``P`` (portal)."""

    kind: str
    name: str

    def encode(self) -> bytes:
        return frame(b"C", self.kind.encode() + cstring(self.name))


@dataclass(frozen=True, slots=True)
class Sync:
    def encode(self) -> bytes:
        return b"S\0\0\0\4"


@dataclass(frozen=True, slots=True)
class Flush:
    def encode(self) -> bytes:
        return b"H\0\0\0\4"


@dataclass(frozen=True, slots=True)
class Terminate:
    def encode(self) -> bytes:
        return b"X\0\0\0\4"


@dataclass(frozen=True, slots=True)
class CopyData:
    data: bytes

    def encode(self) -> bytes:
        return frame(b"d", self.data)


@dataclass(frozen=True, slots=True)
class CopyDone:
    def encode(self) -> bytes:
        return b"c\0\0\0\4"


@dataclass(frozen=True, slots=True)
class CopyFail:
    reason: str

    def encode(self) -> bytes:
        return frame(b"f", cstring(self.reason))


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """Known so that it can be refused by name; its arguments are not read."""

    data: bytes = field(repr=False)

    def encode(self) -> bytes:
        return frame(b"F", self.data)


FrontendMessage = (Password | Query | Parse | Bind | Describe | Execute | Close | Sync | Flush | Terminate | CopyData | CopyDone
                   | CopyFail | FunctionCall)


def parse_frontend(kind: int, payload: bytes) -> FrontendMessage:
    """A caller's message. Raises ``ClientFault``: unknown type, wrong shape, text that is not UTF-8."""
    reader = _FRONTEND.get(kind)
    if reader is None:
        raise ClientFault(f"invalid frontend message type {kind_name(kind)}", "08P01")
    cursor = Cursor(payload, ClientFault)
    message = reader(cursor)
    cursor.finish()
    return message


def _parse(cursor: Cursor) -> Parse:
    return Parse(cursor.cstring(), cursor.cstring(), cursor.oids())


def _bind(cursor: Cursor) -> Bind:
    portal, statement, formats = cursor.cstring(), cursor.cstring(), cursor.int16s()
    parameters = tuple([cursor.value() for _ in range(cursor.int16())])
    bind = Bind(portal, statement, formats, parameters, cursor.int16s())
    if len(formats) > 1 and len(formats) != len(parameters) or any(code > 1 for code in formats + bind.results):
        raise cursor.broken()
    return bind


def _target_of(cursor: Cursor) -> tuple[str, str]:
    kind = chr(cursor.int8())
    if kind not in "SP":
        raise cursor.broken()
    return kind, cursor.cstring()


_FRONTEND: dict[int, Callable[[Cursor], FrontendMessage]] = {
    ord("p"): lambda c: Password(c.rest()),
    ord("Q"): lambda c: Query(c.cstring()),
    ord("P"): _parse,
    ord("B"): _bind,
    ord("D"): lambda c: Describe(*_target_of(c)),
    ord("E"): lambda c: Execute(c.cstring(), c.int32()),
    ord("C"): lambda c: Close(*_target_of(c)),
    ord("S"): lambda c: Sync(),
    ord("H"): lambda c: Flush(),
    ord("X"): lambda c: Terminate(),
    ord("d"): lambda c: CopyData(c.rest()),
    ord("c"): lambda c: CopyDone(),
    ord("f"): lambda c: CopyFail(c.cstring()),
    ord("F"): lambda c: FunctionCall(c.rest()),
}
FRONTEND_TYPES = frozenset(_FRONTEND)
