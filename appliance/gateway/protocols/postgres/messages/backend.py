# SPDX-License-Identifier: Apache-2.0
"""What a target answers: values, ``encode()``, ``parse_backend``; and the errors and notices of the gateway's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct

from gateway.errors import TargetFault
from gateway.protocols.postgres.codec import frame, kind_name
from gateway.protocols.postgres.messages.cursor import INT16, INT32, Cursor, cstring, int16s_of, value_of
from gateway.protocols.postgres.messages.frontend import CopyData
from gateway.protocols.postgres.messages.startup import MAX_STARTUP_PARAMETERS

MAX_COLUMNS = 1664
"""MaxTupleAttributeNumber: no target can send a wider row."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """``code`` 0 Ok, 3 cleartext, 5 md5, 10 SASL, 11 SASLContinue, 12 SASLFinal; ``data`` is what follows it."""

    code: int
    data: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        return frame(b"R", INT32.pack(self.code) + self.data)


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
        return frame(b"K", INT32.pack(self.process) + self.secret)


@dataclass(frozen=True, slots=True)
class NegotiateProtocolVersion:
    """``version`` is the whole number, as servers send it (196608 for 3.0), ``options`` the ``_pq_.`` names that are not known."""

    version: int
    options: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return frame(b"v", INT32.pack(self.version) + INT32.pack(len(self.options)) + b"".join(map(cstring, self.options)))


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
        return frame(b"T", INT16.pack(len(self.fields)) + b"".join(
            [cstring(f.name) + _FIELD.pack(f.table_oid, f.attnum, f.type_oid, f.size, f.modifier, f.format) for f in self.fields]))


@dataclass(frozen=True, slots=True)
class DataRow:
    values: tuple[bytes | None, ...]

    def encode(self) -> bytes:
        return frame(b"D", INT16.pack(len(self.values)) + b"".join([value_of(value) for value in self.values]))


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
        return frame(b"t", INT16.pack(len(self.types)) + b"".join([oid.to_bytes(4, "big") for oid in self.types]))


@dataclass(frozen=True, slots=True)
class CopyResponse:
    """CopyInResponse (``G``) or CopyOutResponse (``H``): overall format (0 text, 1 binary) and the formats of the columns."""

    kind: str
    format: int
    columns: tuple[int, ...]

    def encode(self) -> bytes:
        return frame(self.kind.encode(), bytes([self.format]) + int16s_of(self.columns))


@dataclass(frozen=True, slots=True)
class Notification:
    process: int
    channel: str
    payload: str

    def encode(self) -> bytes:
        return frame(b"A", INT32.pack(self.process) + cstring(self.channel) + cstring(self.payload))


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
    if kind == PARAMETER and len(payload) <= SHORT and (found := _parameter(payload)) is not None:
        return found
    reader = _BACKEND.get(kind)
    if reader is None:
        raise TargetFault(f"the target sent a message of unknown type {kind_name(kind)}", "08P01")
    cursor = Cursor(payload, TargetFault)
    message = reader(cursor)
    cursor.finish()
    return message


@lru_cache(maxsize=256)
def _parameter(payload: bytes) -> ParameterStatus | None:
    """One of a dozen ParameterStatus in every login, mostly the same ones, which sessions then share. ``None`` where it is none: the
    reader says why."""
    parts = payload.split(b"\0")
    if len(parts) != 3 or parts[2]:
        return None
    try:
        return ParameterStatus(parts[0].decode(), parts[1].decode())
    except UnicodeDecodeError:
        return None


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
    version, count = cursor.int32(), cursor.int32()
    if not 0 <= count <= MAX_STARTUP_PARAMETERS:
        raise cursor.broken()
    return NegotiateProtocolVersion(version, tuple([cursor.cstring() for _ in range(count)]))


def _empty(kind: str) -> Callable[[Cursor], Empty]:
    value = Empty(kind)
    return lambda cursor: value


PARAMETER = ord("S")
SHORT = 128
"""Bytes of a ParameterStatus that is remembered."""
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
