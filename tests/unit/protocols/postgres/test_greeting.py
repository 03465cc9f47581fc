# SPDX-License-Identifier: Apache-2.0
"""What callers say before they are known: versions, options, cancel keys, without a socket (T17, T19)."""

from __future__ import annotations

import pytest

from gateway.errors import ClientFault, Refused
from gateway.protocols.postgres import greeting
from gateway.protocols.postgres import messages as m
from gateway.protocols.postgres.cancelkeys import LONG, SHORT, CancelKeys
from gateway.testing.memory import joined

V3 = m.PROTOCOL_3_0


@pytest.mark.parametrize(("asked", "options", "spoken", "told"), [
    (0, (), 0, None),
    (2, (), 2, None),
    (1, (), 0, m.NegotiateProtocolVersion(V3)),
    (3, (), 2, m.NegotiateProtocolVersion(V3 + 2)),
    (9999, ("_pq_.test_protocol_negotiation",), 2, m.NegotiateProtocolVersion(V3 + 2, ("_pq_.test_protocol_negotiation",))),
    (0, ("_pq_.x", "_pq_.y"), 0, m.NegotiateProtocolVersion(V3, ("_pq_.x", "_pq_.y"))),
    (2, ("_pq_.x",), 2, m.NegotiateProtocolVersion(V3 + 2, ("_pq_.x",))),
])
async def test_versions(asked: int, options: tuple[str, ...], spoken: int, told: m.NegotiateProtocolVersion | None) -> None:
    """The newest version that both know; 3.1 is reserved and nobody speaks it; what is as asked for is not answered."""
    near, far = joined()
    assert greeting.negotiate(near, asked, options) == spoken
    near.close()
    assert await far.read() == (told.encode() if told is not None else b"")


@pytest.mark.parametrize("minor", [0, 2, 9999])
async def test_a_startup_message(minor: int) -> None:
    near, far = joined()
    far.write(m.Startup({"user": "ci"}, minor).encode())
    assert await greeting.first_packet(near, None, CancelKeys(), 5) == m.Startup({"user": "ci"}, minor)


async def test_cancel_keys_of_both_lengths() -> None:
    keys, cancelled = CancelKeys(), list[str]()
    short = keys.issue(lambda: cancelled.append("short"))
    long = keys.issue(lambda: cancelled.append("long"), long=True)
    assert (len(short[1]), len(long[1])) == (SHORT, LONG)
    for process, secret in (short, long):
        near, far = joined()
        far.write(m.CancelRequest(process, secret).encode())
        assert await greeting.first_packet(near, None, keys, 5) is None
    assert cancelled == ["short", "long"]
    keys.revoke(long[0])
    assert not keys.use(*long)


@pytest.mark.parametrize("change", [
    lambda secret: secret[:4], lambda secret: secret + b"\0", lambda secret: secret[:-1] + bytes([secret[-1] ^ 1]),
    lambda secret: bytes(256),
])
def test_t23_a_part_of_a_cancel_key_cancels_nothing(change: object) -> None:
    keys, cancelled = CancelKeys(), list[int]()
    process, secret = keys.issue(lambda: cancelled.append(1), long=True)
    assert callable(change)
    assert not keys.use(process, change(secret))
    assert not keys.use(process + 1, secret)
    assert cancelled == [] and secret.hex() not in repr(keys)


@pytest.mark.parametrize("length", [0, 3, 257, 2000])
async def test_a_cancel_key_of_another_length_ends_the_connection(length: int) -> None:
    near, far = joined()
    far.write(m.CancelRequest(1, b"x" * length).encode())
    with pytest.raises(ClientFault):
        await greeting.first_packet(near, None, CancelKeys(), 5)


async def test_direct_tls_where_there_is_none() -> None:
    near, far = joined()
    far.write(b"\x16\x03\x01\x02\x00\x01")
    with pytest.raises(Refused, match="no TLS"):
        await greeting.first_packet(near, None, CancelKeys(), 5)


async def test_an_old_protocol() -> None:
    near, far = joined()
    far.write((8).to_bytes(4, "big") + (2 << 16).to_bytes(4, "big"))
    with pytest.raises(ClientFault, match=r"3\.0 and 3\.2"):
        await greeting.first_packet(near, None, CancelKeys(), 5)
