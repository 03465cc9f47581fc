# SPDX-License-Identifier: Apache-2.0
"""Logging in at targets that are right, wrong and hostile, without a socket (T18, T20, T23, T34)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import pytest

from gateway.errors import TargetFault
from gateway.net.stream import ByteStream
from gateway.net.tls import client_context
from gateway.protocols.postgres import messages as m
from gateway.protocols.postgres import scram
from gateway.protocols.postgres.codec import frame
from gateway.protocols.postgres.login import Rules
from gateway.protocols.postgres.target import DEFAULT_RULES, Address, TargetConnection, login
from gateway.testing.memory import joined


@dataclass(frozen=True)
class Secret:
    value: str

    def reveal(self) -> str:
        return self.value


@dataclass(frozen=True)
class Credential:
    username: str = "app"
    password: Secret = Secret("hunter2-hunter2")


V3 = m.PROTOCOL_3_0
OK, READY = m.Authentication(0).encode(), m.ReadyForQuery("I").encode()
SETTINGS = m.ParameterStatus("client_encoding", "UTF8").encode() + m.ParameterStatus("standard_conforming_strings", "on").encode()
KEY = m.BackendKeyData(42, b"abcd").encode()
Script = Callable[[ByteStream], Coroutine[None, None, None]]


def says(*answers: bytes) -> Script:
    """A target that reads once before each of its answers."""

    async def script(stream: ByteStream) -> None:
        for answer in answers:
            await stream.read()
            stream.write(answer)

    return script


async def log_in(script: Script, *, tls: bool = False, credential: Credential = Credential(),
                 rules: Rules = DEFAULT_RULES) -> TargetConnection:
    near, far = joined()
    connection = TargetConnection(near, Address("db.example", 5432), client_context("require") if tls else None)
    target = asyncio.create_task(script(far))
    try:
        async with asyncio.timeout(5):
            return await login(
                connection, "orders", credential, {"TimeZone": "UTC", "CLIENT_ENCODING": "SJIS", "user": "root"}, scram.KeyCache(), rules
            )
    finally:
        if target.done():
            target.result()


async def test_trust() -> None:
    seen: list[bytes] = []

    async def script(stream: ByteStream) -> None:
        seen.append(await stream.read())
        stream.write(OK + SETTINGS + KEY + READY)

    connection = await log_in(script)
    assert connection.key == m.BackendKeyData(42, b"abcd")
    assert connection.parameters == {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
    assert m.parse_startup(seen[0][4:]) == m.Startup(
        {"user": "app", "database": "orders", "TimeZone": "UTC", "client_encoding": "UTF8", "standard_conforming_strings": "on"}, 2
    )


async def test_md5() -> None:
    """Whoever sees the answer can log in with it, and it can be guessed at leisure: it is never given."""
    with pytest.raises(TargetFault, match="md5 password, which is refused"):
        await log_in(says(m.Authentication(5, b"salt").encode()))


@pytest.mark.parametrize("length", [4, 32, 256])
async def test_long_cancel_keys(length: int) -> None:
    """Protocol 3.2: from 4 to 256 bytes, kept as they came."""
    connection = await log_in(says(OK + m.BackendKeyData(7, b"k" * length).encode() + READY))
    assert connection.key == m.BackendKeyData(7, b"k" * length)


@pytest.mark.parametrize(("rules", "said"), [
    (Rules(max_minor=0), m.NegotiateProtocolVersion(V3)), (Rules(max_minor=0), m.NegotiateProtocolVersion(V3 + 2)),
    (Rules(min_minor=2), m.NegotiateProtocolVersion(V3)),
])
async def test_versions_that_are_not_wanted(rules: Rules, said: m.NegotiateProtocolVersion) -> None:
    with pytest.raises(TargetFault):
        await log_in(says(said.encode() + OK + READY), rules=rules)


async def test_the_version_that_is_asked_for() -> None:
    seen: list[bytes] = []

    async def script(stream: ByteStream) -> None:
        seen.append(await stream.read())
        stream.write(OK + SETTINGS + KEY + READY)

    for rules in (Rules(max_minor=0), Rules()):
        assert (await log_in(script, rules=rules)).key is not None
    assert [m.parse_startup(one[4:]).minor for one in seen] == [0, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize(("rules", "answer", "wanted"), [
    (Rules(methods=frozenset({"scram-sha-256"})), OK, "require_auth does not have 'none'"),
    (Rules(channel_binding="require"), OK, "channel_binding is require"),
    (Rules(methods=frozenset({"none"})), m.Authentication(10, b"SCRAM-SHA-256\0\0").encode(), "require_auth does not have 'scram-sha-256'"),
    (Rules(), m.Authentication(3).encode(), "in clear: refused without TLS"),
])
async def test_ways_that_are_not_allowed(rules: Rules, answer: bytes, wanted: str) -> None:
    with pytest.raises(TargetFault, match=wanted):
        await log_in(says(answer), rules=rules)


FATAL = m.error("password authentication failed for hunter2-hunter2", "28P01", severity="FATAL").encode()
SASL = m.Authentication(10, b"SCRAM-SHA-256\0\0").encode()
SASL_PLUS = m.Authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0").encode()
HOSTILE = {
    "cleartext": m.Authentication(3).encode(),
    "kerberos": m.Authentication(7).encode(),
    "only channel binding": m.Authentication(10, b"SCRAM-SHA-256-PLUS\0\0").encode(),
    "mechanisms without end": m.Authentication(10, b"SCRAM-SHA-256").encode(),
    "md5 salt": m.Authentication(5, b"toolong").encode(),
    "ready at once": READY,
    "row": m.DataRow((b"x",)).encode(),
    "error": FATAL,
    "length 0": b"R\0\0\0\0",
    "length 3": b"R\0\0\0\3",
    "length 2^31-1": b"R\x7f\xff\xff\xff",
    "negative": b"R\xff\xff\xff\xff",
    "unknown type": frame(b"?", b""),
    "cut": frame(b"R", b"\0\0"),
    "protocol 3.1": m.NegotiateProtocolVersion(V3 + 1).encode() + OK,
    "protocol 3.2, as asked": m.NegotiateProtocolVersion(V3 + 2).encode() + OK,
    "protocol 3.3": m.NegotiateProtocolVersion(V3 + 3).encode() + OK,
    "protocol 2.0": m.NegotiateProtocolVersion(2 << 16).encode() + OK,
    "a minor version alone": m.NegotiateProtocolVersion(0).encode() + OK,
    "options": m.NegotiateProtocolVersion(V3, ("client_encoding",)).encode() + OK,
    "options never asked for": m.NegotiateProtocolVersion(V3, ("_pq_.x",)).encode() + OK,
    "negotiation twice": m.NegotiateProtocolVersion(V3).encode() * 2 + OK,
    "endless negotiation": m.NegotiateProtocolVersion(V3).encode() * 300,
    "negotiation after the login": OK + m.NegotiateProtocolVersion(V3).encode() + READY,
    "negotiation without a login": m.NegotiateProtocolVersion(V3).encode() + READY,
    "error without SQLSTATE": frame(b"E", b"SFATAL\0Mx\0\0"),
    "a long key in 3.0": m.NegotiateProtocolVersion(V3).encode() + OK + m.BackendKeyData(1, b"x" * 32).encode() + READY,
    "a key of 257 bytes": OK + m.BackendKeyData(1, b"x" * 257).encode() + READY,
    "a key of 3 bytes": OK + m.BackendKeyData(1, b"x" * 3).encode() + READY,
    "channel binding in clear": SASL_PLUS,
    "two keys": OK + KEY + KEY + READY,
    "no key": OK + frame(b"K", b"\0\0\0\1") + READY,
    "in a transaction": OK + m.ReadyForQuery("T").encode(),
    "status": OK + frame(b"Z", b"X"),
    "bytes behind": OK + READY + READY,
    "a row behind": OK + READY + m.DataRow((b"x",)).encode(),
    "encoding": OK + m.ParameterStatus("client_encoding", "SJIS").encode() + READY,
    "strings": OK + m.ParameterStatus("standard_conforming_strings", "off").encode() + READY,
    "Ok twice": OK + OK + READY,
    "endless settings": OK + b"".join(m.ParameterStatus(f"p{i}", "x").encode() for i in range(129)) + READY,
    "endless notices": OK + m.notice("x").encode() * 300,
    "a setting without end": OK + frame(b"S", b"a\0b"),
    "a copy": OK + m.CopyResponse("G", 0, ()).encode(),
    "sasl out of nowhere": m.Authentication(11, b"r=x").encode(),
    "final out of nowhere": m.Authentication(12, b"v=x").encode(),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_targets(answer: bytes) -> None:
    with pytest.raises(TargetFault) as caught:
        await log_in(says(answer))
    assert "hunter2" not in str(caught.value)


CHALLENGES = {
    "error": FATAL,
    "ok at once": OK,
    "final at once": m.Authentication(12, b"v=AAAA").encode(),
    "another nonce": m.Authentication(11, b"r=x,s=QUJD,i=4096").encode(),
    "a giant nonce": m.Authentication(11, b"r=" + b"x" * 60_000 + b",s=QUJD,i=4096").encode(),
    "over the limit": b"R" + (1 << 20).to_bytes(4, "big"),
    "continue twice": m.Authentication(11, b"r=x").encode() * 2,
    "md5 instead": m.Authentication(5, b"salt").encode(),
}


@pytest.mark.parametrize("answer", CHALLENGES.values(), ids=CHALLENGES)
async def test_hostile_challenges(answer: bytes) -> None:
    with pytest.raises(TargetFault):
        await log_in(says(SASL, answer))


async def test_scram_without_the_targets_proof() -> None:
    """A target that says Ok without proving that it knows the credential is not believed."""

    async def script(stream: ByteStream) -> None:
        await stream.read()
        stream.write(SASL)
        first = (await stream.read()).split(b"n=,r=")[1]
        stream.write(m.Authentication(11, b"r=" + first + b"x,s=QUJD,i=4096").encode())
        await stream.read()
        stream.write(OK + READY)

    with pytest.raises(TargetFault, match="out of order"):
        await log_in(script)


async def test_a_target_that_goes_away() -> None:
    async def script(stream: ByteStream) -> None:
        await stream.read()
        stream.close()

    with pytest.raises(TargetFault) as caught:
        await log_in(script)
    assert caught.value.code == "08006"


@pytest.mark.parametrize("answer", [b"N", b"E", FATAL, b"S" + OK, b"\0"])
async def test_no_tls_no_login(answer: bytes) -> None:
    """A stripped TLS, an error that anybody could have sent, bytes in clear behind the S."""
    sent: list[bytes] = []

    async def script(stream: ByteStream) -> None:
        sent.append(await stream.read())
        stream.write(answer)

    with pytest.raises(TargetFault) as caught:
        await log_in(script, tls=True)
    assert sent == [m.SslRequest().encode()]
    assert caught.value.code in ("08006", "08P01") and "hunter2" not in str(caught.value)


async def scripted_challenge(stream: ByteStream) -> None:
    await stream.read()
    stream.write(SASL)
    nonce = (await stream.read()).split(b",r=")[1]
    stream.write(m.Authentication(11, b"r=" + nonce + b"x,s=QUJD,i=4096").encode())


async def test_a_password_that_is_missing() -> None:
    with pytest.raises(TargetFault, match="has none"):
        await log_in(scripted_challenge, credential=Credential(password=Secret("")))


# queries of the gateway's own

DESCRIPTION, DONE = m.RowDescription((m.Field("a"), m.Field("b"))).encode(), m.CommandComplete("SELECT 1").encode()


async def ask(answer: bytes, **limits: int) -> tuple[list[tuple[str | None, ...]], TargetConnection]:
    near, far = joined()
    connection = TargetConnection(near, Address("db", 1), None)
    far.write(answer)
    return await connection.query("select 1", **limits), connection


async def test_rows() -> None:
    answer = m.notice("x").encode() + DESCRIPTION + m.DataRow((b"1", None)).encode() + DONE + m.ParameterStatus("TimeZone", "UTC").encode()
    rows, connection = await ask(answer + m.ReadyForQuery("T").encode())
    assert (rows, connection.status, connection.parameters) == ([("1", None)], "T", {"TimeZone": "UTC"})


@pytest.mark.parametrize(
    ("answer", "limits"),
    [
        (m.DataRow((b"1", None)).encode() + READY, {}),
        (DESCRIPTION + m.DataRow((b"1",)).encode() + READY, {}),
        (DESCRIPTION + m.DataRow((b"1", b"\xff")).encode() + READY, {}),
        (DESCRIPTION + m.DataRow((b"1", b"2")).encode() * 3 + READY, {"max_rows": 2}),
        (DESCRIPTION + m.DataRow((b"1" * 500, b"2")).encode() * 3 + READY, {"max_bytes": 1000}),
        (b"D" + (2000).to_bytes(4, "big"), {"max_bytes": 1000}),
        (m.CopyResponse("G", 0, ()).encode(), {}),
        (m.Authentication(3).encode(), {}),
        (READY + READY, {}),
        (FATAL, {}),
        (b"", {}),
    ],
)
async def test_answers_that_end_the_connection(answer: bytes, limits: dict[str, int]) -> None:
    near, far = joined()
    far.write(answer)
    if not answer:
        far.close()
    with pytest.raises(TargetFault):
        await TargetConnection(near, Address("db", 1), None).query("select 1", **limits)
    await asyncio.wait_for(near.closed(), 5)


async def test_an_error_leaves_the_connection_usable() -> None:
    near, far = joined()
    connection = TargetConnection(near, Address("db", 1), None)
    far.write(m.error("no table hunter2", "42P01").encode() + READY)
    with pytest.raises(TargetFault, match="42P01") as caught:
        await connection.query("select 1")
    assert caught.value.code == "42P01" and "hunter2" not in str(caught.value)
    await far.read()
    far.write(DESCRIPTION + DONE + READY)
    assert await connection.query("select 2") == []


async def test_an_answer_that_does_not_come() -> None:
    near, _ = joined()
    with pytest.raises(TargetFault, match="in time"):
        await TargetConnection(near, Address("db", 1), None).query("select 1", timeout=0.01)
    await near.closed()


def test_addresses() -> None:
    assert Address.parse("db.example:5432") == Address("db.example", 5432)
    assert Address.parse("/run/postgresql/.s.PGSQL.5432") == Address("/run/postgresql/.s.PGSQL.5432", 0)
