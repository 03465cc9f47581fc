# SPDX-License-Identifier: Apache-2.0
"""Connections to a target: opening one, the gateway's own small queries, cancelling.

::

    gateway -> target   SSLRequest            ('N' where TLS is wanted: TargetFault), or TLS at once with the ALPN protocol `postgresql`
    gateway -> target   the login             login.py
    gateway -> target   CancelRequest         on a connection of its own, to the same server

Everything the target sends is bounded and checked; what does not fit is a ``TargetFault``.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial

from gateway.errors import TargetFault
from gateway.net.server import parse_address
from gateway.net.stream import ByteStream
from gateway.protocols.postgres import scram
from gateway.protocols.postgres.codec import FrameReader
from gateway.protocols.postgres.login import MAX_PARAMETERS as MAX_PARAMETERS
from gateway.protocols.postgres.login import PINNED, Credential, Login, Rules, Unreachable, next_message
from gateway.protocols.postgres.messages import (
    ALPN,
    BackendKeyData,
    CancelRequest,
    DataRow,
    ErrorResponse,
    ParameterStatus,
    Query,
    ReadyForQuery,
    SslRequest,
    parse_backend,
)

log = logging.getLogger("gateway.postgres")

CLOSE_TIMEOUT = 2.0
DEFAULT_RULES = Rules()
DESCRIPTION_BYTES = 2048
QUERY_ROWS = 200_000
QUERY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Address:
    """``host:port`` of a resource, or the path of a Unix socket (port 0). ``ip`` is the host's address where it was looked up: a name
    may stand for several servers. ``direct`` says that TLS begins without an SSLRequest."""

    host: str
    port: int = 5432
    ip: str = ""
    direct: bool = False

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
    parameters: Mapping[str, str] = field(default_factory=dict)      # as reported; shared by connections that report the same
    key: BackendKeyData | None = None
    status: str = "I"

    def report(self, name: str, value: str) -> None:
        """The target says that a setting is another now."""
        if self.parameters.get(name) != value:
            self.parameters = {**self.parameters, name: value}

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
                  parameters: Mapping[str, str] | None = None, keys: scram.KeyCache | None = None, rules: Rules = DEFAULT_RULES,
                  timeout: float = 10.0) -> TargetConnection:
    """Log in. ``tls`` is ``net.tls.client_context(...)``, ``None`` only where the resource says ``disable``. ``parameters`` are startup
    parameters (pinned ones win). Raises ``TargetFault``: 08006 not reachable (``Unreachable``) or protocol broken, 28000 authentication."""
    stream = None
    try:
        async with asyncio.timeout(timeout):
            stream = await _open(address)
            return await login(TargetConnection(stream, address, tls), database, credential, parameters or {},
                               keys or scram.KeyCache(), rules)
    except TimeoutError:
        _abort(stream)
        raise Unreachable("the target did not answer in time", "08006") from None
    except BaseException:
        _abort(stream)
        raise


async def login(connection: TargetConnection, database: str, credential: Credential, parameters: Mapping[str, str],
                keys: scram.KeyCache, rules: Rules = DEFAULT_RULES) -> TargetConnection:
    """Log in on a connection just opened. Startup parameters that are pinned, in any spelling, are ours."""
    if connection.tls is not None:
        await _start_tls(connection.stream, connection.tls, connection.address)
    given = {name: value for name, value in parameters.items() if name.lower() not in PINNED and name not in ("user", "database")}
    start = {"user": credential.username, "database": database, **given, **PINNED}
    return await Login(connection.stream, credential, keys, rules, connection.tls).run(start, connection)


async def cancel(address: Address, key: BackendKeyData, tls: ssl.SSLContext | None, *, timeout: float = 10.0) -> None:
    """Send a CancelRequest on a connection of its own and wait until the target closes it. Raises ``TargetFault``."""
    stream = None
    try:
        async with asyncio.timeout(timeout):
            stream = await _open(address)
            if tls is not None:
                await _start_tls(stream, tls, address)
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
        return (await loop.create_connection(factory, address.ip or address.host, address.port))[1]
    except OSError as error:
        raise Unreachable(f"the target cannot be reached ({type(error).__name__})", "08006") from None


async def _start_tls(stream: ByteStream, context: ssl.SSLContext, address: Address) -> None:
    """SSLRequest, or TLS at once. Only the one byte ``S`` goes on: an error message before TLS is nobody's word (CVE-2024-10977).
    A server that answers for another protocol than PostgreSQL, or at once for none, is not spoken to."""
    if not address.direct:
        stream.write(SslRequest().encode())
        if await _answer(stream) != b"S":
            raise TargetFault("the target does not offer TLS", "08006")
    await stream.start_tls(context, server_side=False, server_hostname=address.host)
    session = stream.tls_object()
    chosen = session.selected_alpn_protocol() if session is not None else None
    if chosen != ALPN and (chosen is not None or address.direct):
        raise TargetFault(f"the target does not say by ALPN that it speaks {ALPN}", "08006")


async def _answer(stream: ByteStream) -> bytes:
    try:
        return await stream.read_exactly(1)
    except TargetFault as gone:
        raise Unreachable(str(gone), gone.code) from None


async def _query(connection: TargetConnection, sql: str, max_rows: int, max_bytes: int) -> list[tuple[str | None, ...]]:
    stream, frames = connection.stream, FrameReader(max_bytes, TargetFault)
    stream.write(Query(sql).encode())
    answer = _Answer(connection, max_rows, max_bytes)
    try:
        while not answer.take(*await next_message(stream, frames)):
            pass
        if frames.pending:
            raise TargetFault("the target spoke without being asked", "08P01")
    except TargetFault:
        stream.abort()
        raise
    if answer.error is not None:
        raise TargetFault(f"the target refused the gateway's own query (SQLSTATE {answer.error.code})", answer.error.code)
    return answer.rows


@lru_cache(maxsize=64)
def _checked(kind: int, payload: bytes) -> None:
    """Our own queries are few, and so are the descriptions of their rows."""
    parse_backend(kind, payload)


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
        if len(payload) <= DESCRIPTION_BYTES:
            _checked(kind, payload)
        else:
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
            self._connection.report(message.name, message.value)

    def _ignore(self, kind: int, payload: bytes) -> None:
        parse_backend(kind, payload)
