# SPDX-License-Identifier: Apache-2.0
"""The messages of PostgreSQL protocol 3.0 as values, with ``encode()`` to whole wire messages and parsers for both directions.

Manual: "Message Formats", "Error and Notice Message Fields". Text is UTF-8 (the gateway pins ``client_encoding``). A parser
takes the payload (what follows type and length), reads all of it and raises the fault of the side that sent it (08P01, 22021 on text
that is not UTF-8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Protocol

from gateway.errors import ClientFault, TargetFault
from gateway.protocols.postgres.codec import Fault, frame, kind_name

_INT16 = Struct("!H")
_INT32 = Struct("!i")

PROTOCOL_3_0 = 196608
SSL_REQUEST_CODE = 80877103
GSSENC_REQUEST_CODE = 80877104
CANCEL_REQUEST_CODE = 80877102
MAX_COLUMNS = 1664
"""MaxTupleAttributeNumber: no target can send a wider row."""


class Message(Protocol):
    def encode(self) -> bytes: ...


class Cursor:
    """Reads a payload from its start; every step is bounds-checked and raises the sender's fault."""

    __slots__ = ("_at", "_data", "_fault")

    def __init__(self, data: bytes, fault: Fault) -> None:
        self._data = data
        self._at = 0
        self._fault = fault

    def broken(self) -> Exception:
        return self._fault("malformed message", "08P01")

    def take(self, count: int) -> bytes:
        at, end = self._at, self._at + count
        if count < 0 or end > len(self._data):
            raise self.broken()
        self._at = end
        return self._data[at:end]

    def int8(self) -> int:
        return self.take(1)[0]

    def int16(self) -> int:
        """Unsigned, as PostgreSQL reads counts."""
        return int.from_bytes(self.take(2), "big")

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def oid(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def cstring(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise self.broken()
        raw = self._data[self._at:end]
        self._at = end + 1
        return self.text(raw)

    def text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self._fault("text is not valid UTF-8", "22021") from None

    def value(self) -> bytes | None:
        """An int32 length (-1 is NULL) and its bytes."""
        length = self.int32()
        return None if length == -1 else self.take(length)

    def int16s(self) -> tuple[int, ...]:
        return tuple([self.int16() for _ in range(self.int16())])

    def oids(self) -> tuple[int, ...]:
        return tuple([self.oid() for _ in range(self.int16())])

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def finish(self) -> None:
        if self.more:
            raise self.broken()


def cstring(text: str) -> bytes:
    """NUL-terminated UTF-8. Raises ``ValueError`` on a NUL inside."""
    raw = text.encode()
    if b"\0" in raw:
        raise ValueError("text with a NUL byte")
    return raw + b"\0"


def _int16s(values: tuple[int, ...]) -> bytes:
    return _INT16.pack(len(values)) + b"".join([_INT16.pack(value) for value in values])


def _value(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else _INT32.pack(len(value)) + value


# Startup packets: no type byte.


@dataclass(frozen=True, slots=True)
class Startup:
    """StartupMessage: ``parameters`` in the order sent. ``minor`` and ``_pq_.`` options are answered by NegotiateProtocolVersion."""

    parameters: Mapping[str, str]
    minor: int = 0

    def encode(self) -> bytes:
        body = _INT32.pack(PROTOCOL_3_0 + self.minor) + b"".join(cstring(k) + cstring(v) for k, v in self.parameters.items()) + b"\0"
        return _INT32.pack(len(body) + 4) + body


@dataclass(frozen=True, slots=True)
class SslRequest:
    def encode(self) -> bytes:
        return _INT32.pack(8) + _INT32.pack(SSL_REQUEST_CODE)


@dataclass(frozen=True, slots=True)
class GssEncRequest:
    def encode(self) -> bytes:
        return _INT32.pack(8) + _INT32.pack(GSSENC_REQUEST_CODE)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    process: int
    secret: bytes = field(repr=False)

    def encode(self) -> bytes:
        body = _INT32.pack(CANCEL_REQUEST_CODE) + _INT32.pack(self.process) + self.secret
        return _INT32.pack(len(body) + 4) + body


StartupPacket = Startup | SslRequest | GssEncRequest | CancelRequest
MAX_STARTUP_PARAMETERS = 64


def parse_startup(packet: bytes) -> StartupPacket:
    """A startup packet without its length. Raises ``ClientFault``: 08P01, 0A000 on a protocol other than 3.x."""
    cursor = Cursor(packet, ClientFault)
    code = cursor.int32()
    if code in (SSL_REQUEST_CODE, GSSENC_REQUEST_CODE):
        cursor.finish()
        return SslRequest() if code == SSL_REQUEST_CODE else GssEncRequest()
    if code == CANCEL_REQUEST_CODE:
        process, secret = cursor.int32(), cursor.rest()
        if len(secret) != 4:
            raise cursor.broken()
        return CancelRequest(process, secret)
    if code >> 16 != 3:
        raise ClientFault("unsupported frontend protocol: only 3.0 is spoken here", "0A000")
    return Startup(_startup_parameters(cursor), code & 0xFFFF)


def _startup_parameters(cursor: Cursor) -> dict[str, str]:
    parameters: dict[str, str] = {}
    while name := cursor.cstring():
        if name in parameters or len(parameters) >= MAX_STARTUP_PARAMETERS:
            raise ClientFault("a startup parameter is given twice, or there are too many", "08P01")
        parameters[name] = cursor.cstring()
    cursor.finish()
    return parameters


# Frontend messages.


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
        types = _INT16.pack(len(self.types)) + b"".join([oid.to_bytes(4, "big") for oid in self.types])
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
        values = _INT16.pack(len(self.parameters)) + b"".join([_value(value) for value in self.parameters])
        return frame(b"B", cstring(self.portal) + cstring(self.statement) + _int16s(self.formats) + values + _int16s(self.results))

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
        return frame(b"E", cstring(self.portal) + _INT32.pack(self.rows))


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


# Backend messages.


@dataclass(frozen=True, slots=True)
class Authentication:
    """``code`` 0 Ok, 3 cleartext, 5 md5, 10 SASL, 11 SASLContinue, 12 SASLFinal; ``data`` is what follows it."""

    code: int
    data: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        return frame(b"R", _INT32.pack(self.code) + self.data)


@dataclass(frozen=True, slots=True)
class ParameterStatus:
    name: str
    value: str

    def encode(self) -> bytes:
        return frame(b"S", cstring(self.name) + cstring(self.value))


@dataclass(frozen=True, slots=True)
class BackendKeyData:
    process: int
    secret: bytes = field(repr=False)

    def encode(self) -> bytes:
        return frame(b"K", _INT32.pack(self.process) + self.secret)


@dataclass(frozen=True, slots=True)
class NegotiateProtocolVersion:
    minor: int
    options: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return frame(b"v", _INT32.pack(self.minor) + _INT32.pack(len(self.options)) + b"".join(map(cstring, self.options)))


@dataclass(frozen=True, slots=True)
class ReadyForQuery:
    """``status``: ``I`` idle, ``T`` in a transaction block, ``E`` in a failed one."""

    status: str

    def encode(self) -> bytes:
        return frame(b"Z", self.status.encode())


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a RowDescription. ``table_oid`` and ``attnum`` are 0 where the value is no plain column; ``attnum`` 0 with a table is a
    whole row. ``format``: 0 text, 1 binary."""

    name: str
    table_oid: int = 0
    attnum: int = 0
    type_oid: int = 25
    size: int = -1
    modifier: int = -1
    format: int = 0


_FIELD = Struct("!IhIhih")


@dataclass(frozen=True, slots=True)
class RowDescription:
    fields: tuple[Field, ...]

    def encode(self) -> bytes:
        return frame(b"T", _INT16.pack(len(self.fields)) + b"".join(
            [cstring(f.name) + _FIELD.pack(f.table_oid, f.attnum, f.type_oid, f.size, f.modifier, f.format) for f in self.fields]))


@dataclass(frozen=True, slots=True)
class DataRow:
    values: tuple[bytes | None, ...]

    def encode(self) -> bytes:
        return frame(b"D", _INT16.pack(len(self.values)) + b"".join([_value(value) for value in self.values]))


@dataclass(frozen=True, slots=True)
class CommandComplete:
    tag: str

    def encode(self) -> bytes:
        return frame(b"C", cstring(self.tag))

    @property
    def rows(self) -> int:
        """The count at the end of the tag (``INSERT 0 5``, ``SELECT 3``), 0 where there is none."""
        last = self.tag.rsplit(" ", 1)[-1]
        return int(last) if last.isascii() and last.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Empty:
    """A message without a payload: see the constants below."""

    kind: str

    def encode(self) -> bytes:
        return frame(self.kind.encode(), b"")


PARSE_COMPLETE = Empty("1")
BIND_COMPLETE = Empty("2")
CLOSE_COMPLETE = Empty("3")
NO_DATA = Empty("n")
PORTAL_SUSPENDED = Empty("s")
EMPTY_QUERY_RESPONSE = Empty("I")
COPY_DONE = Empty("c")


@dataclass(frozen=True, slots=True)
class ParameterDescription:
    types: tuple[int, ...]

    def encode(self) -> bytes:
        return frame(b"t", _INT16.pack(len(self.types)) + b"".join([oid.to_bytes(4, "big") for oid in self.types]))


@dataclass(frozen=True, slots=True)
class CopyResponse:
    """CopyInResponse (``G``) or CopyOutResponse (``H``): overall format (0 text, 1 binary) and the formats of the columns."""

    kind: str
    format: int
    columns: tuple[int, ...]

    def encode(self) -> bytes:
        return frame(self.kind.encode(), bytes([self.format]) + _int16s(self.columns))


@dataclass(frozen=True, slots=True)
class Notification:
    process: int
    channel: str
    payload: str

    def encode(self) -> bytes:
        return frame(b"A", _INT32.pack(self.process) + cstring(self.channel) + cstring(self.payload))


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """Fields by their one-letter codes, in the order sent; ``notice`` makes it a NoticeResponse."""

    fields: Mapping[str, str]
    notice: bool = False

    def encode(self) -> bytes:
        body = b"".join([code.encode() + cstring(value) for code, value in self.fields.items()])
        return frame(b"N" if self.notice else b"E", body + b"\0")

    @property
    def code(self) -> str:
        return self.fields.get("C", "")

    @property
    def fatal(self) -> bool:
        """The target closes the connection after it."""
        return self.fields.get("V", self.fields.get("S", "")) in ("FATAL", "PANIC")


BackendMessage = (Authentication | ParameterStatus | BackendKeyData | NegotiateProtocolVersion | ReadyForQuery | RowDescription | DataRow
                  | CommandComplete | Empty | ParameterDescription | CopyResponse | Notification | ErrorResponse | CopyData)


def error(message: str, code: str, *, severity: str = "ERROR", detail: str = "", hint: str = "", position: int = 0) -> ErrorResponse:
    """An ErrorResponse of the gateway's own. NUL bytes cannot be sent and become U+FFFD."""
    fields = {"S": severity, "V": severity, "C": code or "XX000", "M": message, "D": detail, "H": hint, "P": str(position or "")}
    return ErrorResponse({key: value.replace("\0", "\ufffd") for key, value in fields.items() if value})


def notice(message: str, code: str = "00000", *, detail: str = "", hint: str = "") -> ErrorResponse:
    """A NoticeResponse of the gateway's own."""
    return ErrorResponse(error(message, code, severity="NOTICE", detail=detail, hint=hint).fields, notice=True)


def parse_backend(kind: int, payload: bytes) -> BackendMessage:
    """A target's message. Raises ``TargetFault``: unknown type or wrong shape."""
    reader = _BACKEND.get(kind)
    if reader is None:
        raise TargetFault(f"the target sent a message of unknown type {kind_name(kind)}", "08P01")
    cursor = Cursor(payload, TargetFault)
    message = reader(cursor)
    cursor.finish()
    return message


def parse_row_description(payload: bytes) -> RowDescription:
    """The fields of a ``T`` payload. Raises ``TargetFault``."""
    cursor = Cursor(payload, TargetFault)
    description = _row_description(cursor)
    cursor.finish()
    return description


def parse_error(payload: bytes, notice: bool = False) -> ErrorResponse:
    """An ``E`` or ``N`` payload. Raises ``TargetFault`` when fields repeat, or severity, SQLSTATE or message are missing."""
    cursor = Cursor(payload, TargetFault)
    fields: dict[str, str] = {}
    while code := cursor.int8():
        name = chr(code)
        if name in fields:
            raise cursor.broken()
        fields[name] = cursor.cstring()
    cursor.finish()
    state = fields.get("C", "")
    if len(state) != 5 or not state.isascii() or not state.isalnum() or not state.isupper() and not state.isdigit():
        raise TargetFault("the target sent an error without a valid SQLSTATE", "08P01")
    if "M" not in fields or not (fields.get("V") or fields.get("S")):
        raise TargetFault("the target sent an error without severity or message", "08P01")
    return ErrorResponse(fields, notice)


def _row_description(cursor: Cursor) -> RowDescription:
    count = cursor.int16()
    if count > MAX_COLUMNS:
        raise TargetFault("the target describes more columns than PostgreSQL can have", "08P01")
    return RowDescription(tuple([Field(cursor.cstring(), *_FIELD.unpack(cursor.take(_FIELD.size))) for _ in range(count)]))


def _data_row(cursor: Cursor) -> DataRow:
    return DataRow(tuple([cursor.value() for _ in range(cursor.int16())]))


def _ready(cursor: Cursor) -> ReadyForQuery:
    status = chr(cursor.int8())
    if status not in "ITE":
        raise TargetFault("the target sent an unknown transaction status", "08P01")
    return ReadyForQuery(status)


def _copy_response(kind: str) -> Callable[[Cursor], CopyResponse]:
    def read(cursor: Cursor) -> CopyResponse:
        response = CopyResponse(kind, cursor.int8(), cursor.int16s())
        if any(code > 1 for code in (response.format, *response.columns)) or len(response.columns) > MAX_COLUMNS:
            raise cursor.broken()
        return response
    return read


def _negotiate(cursor: Cursor) -> NegotiateProtocolVersion:
    minor, count = cursor.int32(), cursor.int32()
    if not 0 <= count <= MAX_STARTUP_PARAMETERS:
        raise cursor.broken()
    return NegotiateProtocolVersion(minor, tuple([cursor.cstring() for _ in range(count)]))


def _empty(kind: str) -> Callable[[Cursor], Empty]:
    value = Empty(kind)
    return lambda cursor: value


_BACKEND: dict[int, Callable[[Cursor], BackendMessage]] = {
    ord("R"): lambda c: Authentication(c.int32(), c.rest()),
    ord("S"): lambda c: ParameterStatus(c.cstring(), c.cstring()),
    ord("K"): lambda c: BackendKeyData(c.int32(), c.rest()),
    ord("v"): _negotiate,
    ord("Z"): _ready,
    ord("T"): _row_description,
    ord("D"): _data_row,
    ord("C"): lambda c: CommandComplete(c.cstring()),
    ord("t"): lambda c: ParameterDescription(c.oids()),
    ord("G"): _copy_response("G"),
    ord("H"): _copy_response("H"),
    ord("d"): lambda c: CopyData(c.rest()),
    ord("A"): lambda c: Notification(c.int32(), c.cstring(), c.cstring()),
    ord("E"): lambda c: parse_error(c.rest()),
    ord("N"): lambda c: parse_error(c.rest(), notice=True),
    **{ord(kind): _empty(kind) for kind in "123nsIc"},
}
BACKEND_TYPES = frozenset(_BACKEND)
