# SPDX-License-Identifier: Apache-2.0
"""Startup packets: they have no type byte, and come before the session has a protocol state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.errors import ClientFault
from gateway.protocols.postgres.messages.cursor import INT32, Cursor, cstring

PROTOCOL_3_0 = 196608
MINORS = frozenset({0, 2})
"""Minor versions of protocol 3 that are spoken: 3.1 is reserved and was never used (manual "Protocol Versions")."""
SSL_REQUEST_CODE = 80877103
GSSENC_REQUEST_CODE = 80877104
CANCEL_REQUEST_CODE = 80877102
ALPN = "postgresql"
"""The protocol's name in TLS (RFC 7301); without it nothing is said over TLS that began without an SSLRequest."""
MIN_CANCEL_KEY, MAX_CANCEL_KEY = 4, 256
"""Bytes of the secret in BackendKeyData and CancelRequest (manual "Message Formats"). Before 3.2 it has exactly four."""


@dataclass(frozen=True, slots=True)
class Startup:
    """StartupMessage: ``parameters`` in the order sent. ``minor`` and ``_pq_.`` options are answered by NegotiateProtocolVersion."""

    parameters: Mapping[str, str]
    minor: int = 0

    def encode(self) -> bytes:
        body = INT32.pack(PROTOCOL_3_0 + self.minor) + b"".join(cstring(k) + cstring(v) for k, v in self.parameters.items()) + b"\0"
        return INT32.pack(len(body) + 4) + body


@dataclass(frozen=True, slots=True)
class SslRequest:
    def encode(self) -> bytes:
        return INT32.pack(8) + INT32.pack(SSL_REQUEST_CODE)


@dataclass(frozen=True, slots=True)
class GssEncRequest:
    def encode(self) -> bytes:
        return INT32.pack(8) + INT32.pack(GSSENC_REQUEST_CODE)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    process: int
    secret: bytes = field(repr=False)

    def encode(self) -> bytes:
        body = INT32.pack(CANCEL_REQUEST_CODE) + INT32.pack(self.process) + self.secret
        return INT32.pack(len(body) + 4) + body


def spoken_minor(asked: int) -> int:
    """The newest minor version spoken here that is not newer than what was asked for."""
    return max(minor for minor in MINORS if minor <= asked)


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
        if not MIN_CANCEL_KEY <= len(secret) <= MAX_CANCEL_KEY:
            raise cursor.broken()
        return CancelRequest(process, secret)
    if code >> 16 != 3:
        raise ClientFault("unsupported frontend protocol: only 3.0 and 3.2 are spoken here", "0A000")
    return Startup(_startup_parameters(cursor), code & 0xFFFF)


def _startup_parameters(cursor: Cursor) -> dict[str, str]:
    parameters: dict[str, str] = {}
    while name := cursor.cstring():
        if name in parameters or len(parameters) >= MAX_STARTUP_PARAMETERS:
            raise ClientFault("a startup parameter is given twice, or there are too many", "08P01")
        parameters[name] = cursor.cstring()
    cursor.finish()
    return parameters
