# SPDX-License-Identifier: Apache-2.0
"""What comes before the caller is known: TLS, a CancelRequest or the StartupMessage, the version of the protocol, the token.

::

    caller -> gateway   SSLRequest, TLS             or TLS at once, with the ALPN protocol `postgresql`
    caller -> gateway   StartupMessage 3.x          or CancelRequest, and nothing more
    gateway -> caller   NegotiateProtocolVersion    only where x or a `_pq_.` option is not known here
    gateway -> caller   AuthenticationCleartextPassword
    caller -> gateway   the token

Manual "Start-up", "Canceling Requests in Progress", "SSL Session Encryption".
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import lru_cache

from gateway.errors import ClientFault, Refused
from gateway.net.stream import ByteStream
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.cancelkeys import CancelKeys
from gateway.protocols.postgres.codec import PASSWORD_LIMIT, startup_length
from gateway.protocols.postgres.login import REPORT_CHARACTERS

_TLS_HANDSHAKE = 0x16
_REQUESTS = 3


async def first_packet(stream: ByteStream, tls: ssl.SSLContext | None, keys: CancelKeys, timeout: float) -> messages.Startup | None:
    """Answer TLS and GSSAPI requests, act on a CancelRequest (then ``None``), give the StartupMessage.

    Raises ``ClientFault``, or ``Refused`` (28000) for direct TLS that cannot be.
    """
    for _ in range(_REQUESTS):
        head = await stream.read_exactly(4)
        if head[0] == _TLS_HANDSHAKE and not stream.tls:
            stream.unread(head)
            await _direct_tls(stream, tls, timeout)
            continue
        packet = messages.parse_startup(await stream.read_exactly(startup_length(head)))
        if isinstance(packet, messages.Startup):
            return packet
        if isinstance(packet, messages.CancelRequest):
            await keys.ask(packet.process, packet.secret)
            return None
        if stream.tls:
            raise ClientFault("encryption was asked for twice", "08P01")
        if isinstance(packet, messages.SslRequest) and tls is not None:
            await stream.start_tls(tls, server_side=True, announce=b"S", timeout=timeout)
        else:
            stream.write(b"N")
    raise ClientFault("too many negotiation requests", "08P01")


async def _direct_tls(stream: ByteStream, tls: ssl.SSLContext | None, timeout: float) -> None:
    """The caller speaks TLS at once. Only who says by ALPN that PostgreSQL is meant goes on (another protocol's traffic is not taken)."""
    if tls is None:
        raise Refused("this listener has no TLS", "28000")
    await stream.start_tls(tls, server_side=True, direct=True, timeout=timeout)
    session = stream.tls_object()
    if session is None or session.selected_alpn_protocol() != messages.ALPN:
        raise Refused(f"direct TLS without the ALPN protocol {messages.ALPN!r} is refused", "28000")


def negotiate(stream: ByteStream, minor: int, unknown: tuple[str, ...]) -> int:
    """The minor version that is spoken from here on, told to the caller where it asked for another one, or for unknown options."""
    spoken = messages.spoken_minor(minor)
    if spoken != minor or unknown:
        stream.write(messages.NegotiateProtocolVersion(messages.PROTOCOL_3_0 + spoken, unknown).encode())
    return spoken


def welcome(reported: Mapping[str, str]) -> bytes:
    """AuthenticationOk, and the settings that the target reported."""
    given = tuple(reported.items())
    return _welcome(given) if sum(len(name) + len(value) for name, value in given) <= REPORT_CHARACTERS else _welcome.__wrapped__(given)


@lru_cache(maxsize=64)
def _welcome(reported: tuple[tuple[str, str], ...]) -> bytes:
    return messages.Authentication(0).encode() + b"".join([messages.ParameterStatus(name, value).encode() for name, value in reported])


async def password(stream: ByteStream) -> str:
    """Ask for the password. Raises ``ClientFault``, or ``Refused`` (28000) for what is no text."""
    stream.write(messages.Authentication(3).encode())
    head = await stream.read_exactly(5)
    length = int.from_bytes(head[1:], "big")
    if head[:1] != b"p" or not 5 <= length <= PASSWORD_LIMIT:
        raise ClientFault("a password message was expected", "08P01")
    body = await stream.read_exactly(length - 4)
    try:
        return messages.Password(body).text()
    except ClientFault:
        raise Refused("the password is not a token", "28000") from None
