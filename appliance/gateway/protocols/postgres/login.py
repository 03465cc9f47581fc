# SPDX-License-Identifier: Apache-2.0
"""The conversation with a target from StartupMessage to the first ReadyForQuery. Manual "Start-up", "SASL Authentication".

::

    gateway -> target   StartupMessage 3.x
    target -> gateway   NegotiateProtocolVersion        at most once, before anything else, to a lower version that we speak
    target -> gateway   AuthenticationSASL              SCRAM-SHA-256-PLUS over TLS wherever it is offered, else SCRAM-SHA-256
                        | CleartextPassword             answered over TLS that proved chain and name, and nowhere else
                        | MD5Password                   refused
                        | Ok
    target -> gateway   ParameterStatus*, BackendKeyData, ReadyForQuery

Everything is bounded; what does not fit is a ``TargetFault``. Of an error before AuthenticationOk only the SQLSTATE is told: its text may
quote what we sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from gateway.errors import TargetFault
from gateway.net.stream import ByteStream
from gateway.protocols.postgres import scram
from gateway.protocols.postgres.codec import FrameReader
from gateway.protocols.postgres.messages import (
    MAX_CANCEL_KEY,
    MIN_CANCEL_KEY,
    MINORS,
    PROTOCOL_3_0,
    Authentication,
    BackendKeyData,
    ErrorResponse,
    NegotiateProtocolVersion,
    ParameterStatus,
    Password,
    ReadyForQuery,
    Startup,
    cstring,
    parse_backend,
)
from gateway.protocols.postgres.settings import Binding, Method

if TYPE_CHECKING:
    from gateway.protocols.postgres.target import TargetConnection

PINNED: Mapping[str, str] = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
"""What the gateway's reading of SQL depends on; given at start, whatever the caller asks for."""

MESSAGE_LIMIT = 64 * 1024
MAX_MESSAGES = 256
MAX_PARAMETERS = 128

METHODS: frozenset[Method] = frozenset({"scram-sha-256", "password", "none"})


REPORTS, REPORT_CHARACTERS = 256, 2048
"""Sets of reported settings that are shared, and how long one may be to be shared."""


STATUS, STATUS_BYTES = ord("S"), 128
"""ParameterStatus, of which every login brings a dozen, mostly the same ones; how long one may be to be remembered."""


@lru_cache(maxsize=1024)
def _status(payload: bytes) -> object:
    return parse_backend(STATUS, payload)


@lru_cache(maxsize=REPORTS)
def _kept(reported: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return dict(reported)


def _shared(reported: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """What a target reports at the login, one and the same for all connections that are told the same: nobody may change it."""
    small = sum(len(name) + len(value) for name, value in reported) <= REPORT_CHARACTERS
    return _kept(reported) if small else dict(reported)


class Unreachable(TargetFault):
    """Nobody answers there, or not in time: another server of the resource may."""


class Secret(Protocol):
    def reveal(self) -> str: ...


class Credential(Protocol):
    """What ``credentials.Credential`` gives: the role and its password, empty for a role that needs none."""

    @property
    def username(self) -> str: ...

    @property
    def password(self) -> Secret: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What a resource says of logging in; the names are libpq's. ``min_minor`` and ``max_minor`` are minor versions of protocol 3."""

    min_minor: int = 0
    max_minor: int = 2
    channel_binding: Binding = "prefer"
    methods: frozenset[Method] = METHODS


class Login:
    """One login on a connection that was just opened, in TLS already where there is TLS."""

    def __init__(self, stream: ByteStream, credential: Credential, keys: scram.KeyCache, rules: Rules, tls: ssl.SSLContext | None) -> None:
        self._stream = stream
        self._credential = credential
        self._keys = keys
        self._rules = rules
        self._verified = tls is not None and tls.check_hostname and tls.verify_mode is ssl.CERT_REQUIRED
        self._tls = tls is not None
        self._frames = FrameReader(MESSAGE_LIMIT, TargetFault)
        self._minor = rules.max_minor
        self._seen = 0

    async def run(self, parameters: Mapping[str, str], connection: TargetConnection) -> TargetConnection:
        """``parameters`` are those of the StartupMessage. Raises ``TargetFault``."""
        self._stream.write(Startup(parameters, self._minor).encode())
        await self._authenticate(await self._first_request())
        reported: dict[str, str] = {}
        while not isinstance(message := await self._message(), ReadyForQuery):
            self._keep(connection, reported, message)
        connection.parameters = _shared(tuple(reported.items()))
        if message.status != "I" or self._frames.pending or self._stream.buffered:
            raise TargetFault("the target spoke after the login was over", "08P01")
        connection.status = message.status
        for name, value in PINNED.items():
            if connection.parameters.get(name, value) != value:
                raise TargetFault(f"the target does not keep {name} at {value}", "08006")
        return connection

    def _keep(self, connection: TargetConnection, reported: dict[str, str], message: object) -> None:
        match message:
            case ParameterStatus(name, value) if len(reported) < MAX_PARAMETERS:
                reported[name] = value
            case BackendKeyData(secret=secret) if connection.key is None and self._fitting(secret):
                connection.key = message
            case ErrorResponse(notice=True):
                pass
            case _:
                raise TargetFault("the target's login is out of order", "08P01")

    def _fitting(self, secret: bytes) -> bool:
        """Whether a cancel key may have this length in the version that is spoken."""
        return MIN_CANCEL_KEY <= len(secret) <= (MAX_CANCEL_KEY if self._minor >= 2 else MIN_CANCEL_KEY)

    # the version

    async def _first_request(self) -> Authentication:
        """The first authentication request, after at most one NegotiateProtocolVersion."""
        message = await self._message()
        if isinstance(message, NegotiateProtocolVersion):
            self._negotiated(message)
            message = await self._message()
        if not isinstance(message, Authentication):
            raise TargetFault("the target's login is out of order", "08P01")
        return message

    def _negotiated(self, message: NegotiateProtocolVersion) -> None:
        """Only down, only to a version that exists; options are never asked for, so none can be unknown."""
        minor = message.version - PROTOCOL_3_0
        if message.options or minor not in MINORS or minor >= self._minor:
            raise TargetFault("the target's NegotiateProtocolVersion answers nothing that was asked", "08P01")
        if minor < self._rules.min_minor:
            raise TargetFault(f"the target speaks protocol 3.{minor}, and min_protocol_version is 3.{self._rules.min_minor}", "08P01")
        self._minor = minor

    # who we are

    async def _authenticate(self, request: Authentication) -> None:
        """Until AuthenticationOk."""
        match request.code:
            case 0:
                self._allow("none", "asks for no authentication")
                return
            case 3:
                self._cleartext()
            case 5:
                raise TargetFault("the target asks for an md5 password, which is refused: give the role a SCRAM-SHA-256 one", scram.CODE)
            case 10:
                await self._sasl(request.data)
            case _:
                raise TargetFault("the target asks for an authentication this gateway does not speak", scram.CODE)
        if (await self._authentication()).code != 0:
            raise TargetFault("the target's login is out of order", "08P01")

    def _allow(self, method: Method, what: str, *, bound: bool = False) -> None:
        """Raises ``TargetFault`` where the resource does not allow the method, or wants it bound to the TLS channel and it is not."""
        if method not in self._rules.methods:
            raise TargetFault(f"the target {what}, and require_auth does not have {method!r}", scram.CODE)
        if self._rules.channel_binding == "require" and not bound:
            raise TargetFault(f"the target {what}, and channel_binding is require", scram.CODE)

    def _cleartext(self) -> None:
        self._allow("password", "asks for the password in clear")
        if not self._verified or not self._stream.tls:
            raise TargetFault("the target asks for the password in clear: refused without TLS in mode verify-full", scram.CODE)
        self._stream.write(Password(cstring(self._password())).encode())

    async def _sasl(self, mechanisms: bytes) -> None:
        client, name = self._scram(mechanisms)
        first = client.first()
        self._stream.write(Password(cstring(name) + len(first).to_bytes(4, "big") + first).encode())
        challenge = client.challenge((await self._authentication(11)).data)
        self._stream.write(Password(client.final(challenge, await self._derived(challenge))).encode())
        client.verify((await self._authentication(12)).data)

    def _scram(self, mechanisms: bytes) -> tuple[scram.ScramClient, str]:
        """The exchange that fits what is offered: bound to the channel wherever that is offered over TLS (RFC 5802 section 6)."""
        offered = mechanisms.split(b"\0")
        if not mechanisms.endswith(b"\0\0"):
            raise TargetFault("the target's login is out of order", "08P01")
        plain, plus = (name.encode() in offered[:-2] for name in (scram.MECHANISM, scram.MECHANISM_PLUS))
        if plus and not self._tls:
            raise TargetFault("the target offers channel binding without TLS", scram.CODE)
        binds = self._tls and self._rules.channel_binding != "disable"
        if plus and binds:
            self._allow("scram-sha-256", "asks for SCRAM-SHA-256", bound=True)
            return scram.ScramClient(binding=scram.tls_server_end_point(self._certificate())), scram.MECHANISM_PLUS
        if not plain:
            raise TargetFault("the target offers no SCRAM-SHA-256", scram.CODE)
        self._allow("scram-sha-256", "offers no SCRAM-SHA-256-PLUS")
        return scram.ScramClient(could_bind=binds), scram.MECHANISM

    def _certificate(self) -> bytes:
        session = self._stream.tls_object()
        found = session.getpeercert(binary_form=True) if session is not None else None
        if not found:
            raise TargetFault("the target offers channel binding without a certificate", scram.CODE)
        return found

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
        message = await self._message()
        if not isinstance(message, Authentication) or code not in (None, message.code):
            raise TargetFault("the target's login is out of order", "08P01")
        return message

    async def _message(self) -> object:
        """The next message; an ErrorResponse ends the login."""
        self._seen += 1
        if self._seen > MAX_MESSAGES:
            raise TargetFault("the target's login does not end", "08P01")
        kind, payload = await next_message(self._stream, self._frames)
        message = _status(payload) if kind == STATUS and len(payload) <= STATUS_BYTES else parse_backend(kind, payload)
        if isinstance(message, ErrorResponse) and not message.notice:
            raise TargetFault(f"the target refused the gateway's login (SQLSTATE {message.code})", message.code)
        return message


async def next_message(stream: ByteStream, frames: FrameReader) -> tuple[int, bytes]:
    """Type and payload. Raises ``Unreachable`` at the end of the stream."""
    while (message := frames.next()) is None:
        data = await stream.read()
        if not data:
            raise Unreachable("the target closed the connection", "08006")
        frames.feed(data)
    return message
