# SPDX-License-Identifier: Apache-2.0
"""Logging in to a target, the gateway's own small queries, and cancelling.

::

    gateway -> target   SSLRequest            ('N' where TLS is wanted: TargetFault)
    gateway -> target   StartupMessage        user, database, the session's parameters, the pinned ones
    target -> gateway   AuthenticationSASL | MD5Password | Ok      (cleartext passwords are refused)
    target -> gateway   ParameterStatus*, BackendKeyData, ReadyForQuery

Everything the target sends is bounded and checked; what does not fit is a ``TargetFault``. Its words are repeated only after
authentication; a failed login tells its SQLSTATE alone.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from gateway.errors import TargetFault
from gateway.net.server import parse_address
from gateway.net.stream import ByteStream
from gateway.protocols.postgres import scram
from gateway.protocols.postgres.codec import FrameReader
from gateway.protocols.postgres.messages import (
    Authentication,
    BackendKeyData,
    CancelRequest,
    DataRow,
    ErrorResponse,
    NegotiateProtocolVersion,
    ParameterStatus,
    Password,
    Query,
    ReadyForQuery,
    SslRequest,
    Startup,
    cstring,
    parse_backend,
)

log = logging.getLogger("gateway.postgres")

CLOSE_TIMEOUT = 2.0

PINNED: Mapping[str, str] = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
"""What the gateway's reading of SQL depends on; given at start, whatever the caller asks for."""

MESSAGE_LIMIT = 64 * 1024
MAX_MESSAGES = 256
MAX_PARAMETERS = 128
QUERY_ROWS = 200_000
QUERY_BYTES = 64 * 1024 * 1024


class Secret(Protocol):
    def reveal(self) -> str: ...


class Credential(Protocol):
    """What ``credentials.Credential`` gives: the role and its password, empty for a role that needs none."""

    @property
    def username(self) -> str: ...

    @property
    def password(self) -> Secret: ...


@dataclass(frozen=True, slots=True)
class Address:
    """``host:port`` of a resource, or the path of a Unix socket."""

    host: str
    port: int = 5432

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises ``ValueError``."""
        return cls(text, 0) if text.startswith("/") else cls(*parse_address(text))


@dataclass(slots=True)
class TargetConnection:
    """A logged-in connection, idle, with nothing buffered. ``key`` is what a CancelRequest needs."""

    stream: ByteStream
    address: Address
    tls: ssl.SSLContext | None
    parameters: dict[str, str] = field(default_factory=dict)
    key: BackendKeyData | None = None
    status: str = "I"

    async def query(self, sql: str, *, max_rows: int = QUERY_ROWS, max_bytes: int = QUERY_BYTES,
                    timeout: float | None = 30.0) -> list[tuple[str | None, ...]]:
        """Run one text by the simple protocol, for the gateway's own use while nobody else uses the connection: its text rows.

        Raises ``TargetFault`` with the SQLSTATE of an error, or over the limits. A connection that broke its protocol or a limit is
        aborted.
        """
        try:
            async with asyncio.timeout(timeout):
                return await _query(self, sql, max_rows, max_bytes)
        except TimeoutError:
            self.stream.abort()
            raise TargetFault("the target did not answer in time", "57014") from None
        except asyncio.CancelledError:
            self.stream.abort()
            raise

    async def cancel(self) -> None:
        """Cancel what runs on this connection; a target that cannot be reached, or gave no key, is no fault of the caller's."""
        if self.key is None:
            return
        try:
            await cancel(self.address, self.key, self.tls)
        except TargetFault as fault:
            log.warning("a statement could not be cancelled: %s", fault)

    async def close(self) -> None:
        """Say goodbye and close; a target that does not take it in time is cut off."""
        self.stream.write(b"X\0\0\0\4")
        self.stream.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.stream.closed()
        except TimeoutError:
            self.stream.abort()


async def connect(address: Address, database: str, credential: Credential, tls: ssl.SSLContext | None, *,
                  parameters: Mapping[str, str] | None = None, keys: scram.KeyCache | None = None,
                  timeout: float = 10.0) -> TargetConnection:
    """Log in. ``tls`` is ``net.tls.client_context(...)``, ``None`` only where the resource says ``disable``. ``parameters`` are startup
    parameters (pinned ones win). Raises ``TargetFault``: 08006 not reachable or protocol broken, 28000 authentication."""
    stream = None
    try:
        async with asyncio.timeout(timeout):
            stream = await _open(address)
            return await login(TargetConnection(stream, address, tls), database, credential, parameters or {}, keys or scram.KeyCache())
    except TimeoutError:
        _abort(stream)
        raise TargetFault("the target did not answer in time", "08006") from None
    except BaseException:
        _abort(stream)
        raise


async def login(connection: TargetConnection, database: str, credential: Credential, parameters: Mapping[str, str],
                keys: scram.KeyCache) -> TargetConnection:
    """Log in on a connection just opened. Startup parameters that are pinned, in any spelling, are ours."""
    if connection.tls is not None:
        await _request_tls(connection.stream, connection.tls, connection.address.host)
    given = {name: value for name, value in parameters.items() if name.lower() not in PINNED and name not in ("user", "database")}
    start = {"user": credential.username, "database": database, **given, **PINNED}
    return await _Login(connection.stream, credential, keys).run(Startup(start), connection)


async def cancel(address: Address, key: BackendKeyData, tls: ssl.SSLContext | None, *, timeout: float = 10.0) -> None:
    """Send a CancelRequest on a connection of its own and wait until the target closes it. Raises ``TargetFault``."""
    stream = None
    try:
        async with asyncio.timeout(timeout):
            stream = await _open(address)
            if tls is not None:
                await _request_tls(stream, tls, address.host)
            stream.write(CancelRequest(key.process, key.secret).encode())
            while await stream.read():
                raise TargetFault("the target answered a CancelRequest", "08P01")
    except TimeoutError:
        raise TargetFault("the target did not take the cancel request in time", "08006") from None
    finally:
        _abort(stream)


def _abort(stream: ByteStream | None) -> None:
    if stream is not None:
        stream.abort()


async def _open(address: Address) -> ByteStream:
    loop = asyncio.get_running_loop()
    factory = partial(ByteStream, TargetFault)
    try:
        if address.port == 0:
            return (await loop.create_unix_connection(factory, address.host))[1]
        return (await loop.create_connection(factory, address.host, address.port))[1]
    except OSError as error:
        raise TargetFault(f"the target cannot be reached ({type(error).__name__})", "08006") from None


async def _request_tls(stream: ByteStream, context: ssl.SSLContext, host: str) -> None:
    """SSLRequest. Only the one byte ``S`` goes on: an error message before TLS is nobody's word (CVE-2024-10977)."""
    stream.write(SslRequest().encode())
    answer = await stream.read_exactly(1)
    if answer != b"S":
        raise TargetFault("the target does not offer TLS", "08006")
    await stream.start_tls(context, server_side=False, server_hostname=host)


class _Login:
    """The conversation from StartupMessage to the first ReadyForQuery."""

    def __init__(self, stream: ByteStream, credential: Credential, keys: scram.KeyCache) -> None:
        self._stream = stream
        self._credential = credential
        self._keys = keys
        self._frames = FrameReader(MESSAGE_LIMIT, TargetFault)
        self._seen = 0

    async def run(self, startup: Startup, connection: TargetConnection) -> TargetConnection:
        self._stream.write(startup.encode())
        await self._authenticate()
        while not isinstance(message := await self._message(), ReadyForQuery):
            self._keep(connection, message)
        if message.status != "I" or self._frames.pending or self._stream.buffered:
            raise TargetFault("the target spoke after the login was over", "08P01")
        connection.status = message.status
        for name, value in PINNED.items():
            if connection.parameters.get(name, value) != value:
                raise TargetFault(f"the target does not keep {name} at {value}", "08006")
        return connection

    @staticmethod
    def _keep(connection: TargetConnection, message: object) -> None:
        match message:
            case ParameterStatus(name, value) if len(connection.parameters) < MAX_PARAMETERS:
                connection.parameters[name] = value
            case BackendKeyData(secret=secret) if connection.key is None and len(secret) == 4:
                connection.key = message
            case ErrorResponse(notice=True):
                pass
            case _:
                raise TargetFault("the target's login is out of order", "08P01")

    async def _authenticate(self) -> None:
        """Until AuthenticationOk."""
        request = await self._authentication()
        match request.code:
            case 0:
                return
            case 5:
                await self._md5(request.data)
            case 10:
                await self._sasl(request.data)
            case 3:
                raise TargetFault("the target asks for the password in clear: refused", scram.CODE)
            case _:
                raise TargetFault("the target asks for an authentication this gateway does not speak", scram.CODE)
        if (await self._authentication()).code != 0:
            raise TargetFault("the target's login is out of order", "08P01")

    async def _md5(self, salt: bytes) -> None:
        if len(salt) != 4:
            raise TargetFault("the target sent a malformed md5 salt", "08P01")
        self._stream.write(Password(scram.md5_password(self._credential.username, self._password(), salt)).encode())

    async def _sasl(self, mechanisms: bytes) -> None:
        """SCRAM-SHA-256 (without channel binding; ``SCRAM-SHA-256-PLUS`` alone is not enough)."""
        offered = mechanisms.split(b"\0")
        if not mechanisms.endswith(b"\0\0") or scram.MECHANISM.encode() not in offered[:-2]:
            raise TargetFault("the target offers no SCRAM-SHA-256", scram.CODE)
        client = scram.ScramClient()
        first = client.first()
        self._stream.write(Password(cstring(scram.MECHANISM) + len(first).to_bytes(4, "big") + first).encode())
        challenge = client.challenge((await self._authentication(11)).data)
        self._stream.write(Password(client.final(challenge, await self._derived(challenge))).encode())
        client.verify((await self._authentication(12)).data)

    async def _derived(self, challenge: scram.Challenge) -> scram.Keys:
        password = self._password()
        found = self._keys.get(password, challenge)
        if found is None:
            found = await asyncio.to_thread(scram.derive, password, challenge)
            self._keys.put(password, challenge, found)
        return found

    def _password(self) -> str:
        password = self._credential.password.reveal()
        if not password:
            raise TargetFault("the target asks for a password and the credential has none", scram.CODE)
        return password

    async def _authentication(self, code: int | None = None) -> Authentication:
        while True:
            message = await self._message()
            if isinstance(message, NegotiateProtocolVersion):
                if message.minor != 0 or message.options:
                    raise TargetFault("the target does not speak protocol 3.0", "08P01")
                continue
            if not isinstance(message, Authentication) or code not in (None, message.code):
                raise TargetFault("the target's login is out of order", "08P01")
            return message

    async def _message(self) -> object:
        """The next message; an ErrorResponse ends the login. Its text may quote what we sent: only the SQLSTATE is told."""
        self._seen += 1
        if self._seen > MAX_MESSAGES:
            raise TargetFault("the target's login does not end", "08P01")
        message = parse_backend(*await _next(self._stream, self._frames))
        if isinstance(message, ErrorResponse) and not message.notice:
            raise TargetFault(f"the target refused the gateway's login (SQLSTATE {message.code})", message.code)
        return message


async def _next(stream: ByteStream, frames: FrameReader) -> tuple[int, bytes]:
    while (message := frames.next()) is None:
        data = await stream.read()
        if not data:
            raise TargetFault("the target closed the connection", "08006")
        frames.feed(data)
    return message


async def _query(connection: TargetConnection, sql: str, max_rows: int, max_bytes: int) -> list[tuple[str | None, ...]]:
    stream, frames = connection.stream, FrameReader(max_bytes, TargetFault)
    stream.write(Query(sql).encode())
    answer = _Answer(connection, max_rows, max_bytes)
    try:
        while not answer.take(*await _next(stream, frames)):
            pass
        if frames.pending:
            raise TargetFault("the target spoke without being asked", "08P01")
    except TargetFault:
        stream.abort()
        raise
    if answer.error is not None:
        raise TargetFault(f"the target refused the gateway's own query (SQLSTATE {answer.error.code})", answer.error.code)
    return answer.rows


class _Answer:
    """What a simple query of ours brings: ``T D* C`` per statement, then ``Z``."""

    def __init__(self, connection: TargetConnection, max_rows: int, max_bytes: int) -> None:
        self.rows: list[tuple[str | None, ...]] = []
        self.error: ErrorResponse | None = None
        self._connection = connection
        self._max_rows = max_rows
        self._left = max_bytes
        self._width: int | None = None
        self._kinds: Mapping[int, Callable[[int, bytes], None]] = {
            ord("T"): self._describe, ord("D"): self._row, ord("C"): self._complete, ord("I"): self._complete,
            ord("E"): self._failed, ord("S"): self._parameter, ord("N"): self._ignore, ord("A"): self._ignore,
        }

    def take(self, kind: int, payload: bytes) -> bool:
        """True at ReadyForQuery."""
        self._left -= len(payload) + 5
        if self._left < 0:
            raise TargetFault("the target's answer to the gateway's own query is too large", "54000")
        if kind == ord("Z"):
            message = parse_backend(kind, payload)
            self._connection.status = message.status if isinstance(message, ReadyForQuery) else "E"
            return True
        step = self._kinds.get(kind)
        if step is None:
            raise TargetFault("the target's answer is out of order", "08P01")
        step(kind, payload)
        return False

    def _describe(self, kind: int, payload: bytes) -> None:
        self._width = int.from_bytes(payload[:2], "big")
        parse_backend(kind, payload)

    def _row(self, kind: int, payload: bytes) -> None:
        message = parse_backend(kind, payload)
        if not isinstance(message, DataRow) or len(message.values) != self._width or len(self.rows) >= self._max_rows:
            raise TargetFault("the target's answer is out of order or too long", "08P01")
        try:
            self.rows.append(tuple([None if value is None else value.decode() for value in message.values]))
        except UnicodeDecodeError:
            raise TargetFault("the target sent text that is not UTF-8", "22021") from None

    def _complete(self, kind: int, payload: bytes) -> None:
        self._width = None

    def _failed(self, kind: int, payload: bytes) -> None:
        message = parse_backend(kind, payload)
        self.error = message if isinstance(message, ErrorResponse) else None
        self._width = None
        if self.error is not None and self.error.fatal:
            raise TargetFault(f"the target ended the connection (SQLSTATE {self.error.code})", self.error.code)

    def _parameter(self, kind: int, payload: bytes) -> None:
        message = parse_backend(kind, payload)
        if isinstance(message, ParameterStatus) and len(self._connection.parameters) < MAX_PARAMETERS:
            self._connection.parameters[message.name] = message.value

    def _ignore(self, kind: int, payload: bytes) -> None:
        parse_backend(kind, payload)
