# SPDX-License-Identifier: Apache-2.0
"""Names, marks, verifiers and SQL of the roles that sessions have for themselves."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.postgres import ephemeral
from gateway.protocols.postgres.ephemeral import Mark
from gateway.protocols.postgres.scram import Challenge, ScramClient

SESSION = "0123456789abcdef0123456789abcdef"
MARK = Mark("plant-a-1", "plant-a", "1122334455667788", SESSION, "orders-db", "orders")
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)


@given(NAMES)
def test_a_name_fits_and_is_known_again(gateway: str) -> None:
    role = ephemeral.role_name(gateway, SESSION)
    assert len(role.encode()) <= 63
    assert ephemeral.is_ours(gateway, role)


@given(NAMES, NAMES)
def test_no_gateway_takes_another_ones_role(one: str, other: str) -> None:
    if one != other:
        assert not ephemeral.is_ours(one, ephemeral.role_name(other, SESSION))


def test_a_gateway_whose_name_begins_as_another_ones() -> None:
    assert not ephemeral.is_ours("a", ephemeral.role_name("a_0123456789abcdef", SESSION))
    assert not ephemeral.is_ours("a", "lockgate_a_0123456789abcde")
    assert not ephemeral.is_ours("a", "lockgate_a_0123456789ABCDEF")
    assert not ephemeral.is_ours("a", "lockgate_a_0123456789abcdef_")


def test_a_mark_is_read_again() -> None:
    assert Mark.parse(MARK.text()) == MARK


@given(st.one_of(st.none(), st.text(), st.sampled_from([
    "{}", "[]", "1", "[" * 2000, MARK.text().replace('"lockgate":1', '"lockgate":2'), MARK.text().replace('"orders"', "7"),
    MARK.text()[:-1] + ',"more":""}', MARK.text() + " " * 3000])))
def test_what_is_no_mark(text: str | None) -> None:
    assert Mark.parse(text) is None


def test_the_target_can_check_the_password_with_the_verifier_alone() -> None:
    """RFC 5802 section 3: StoredKey = H(ClientKey), ClientSignature = HMAC(StoredKey, AuthMessage), ClientProof = ClientKey XOR it."""
    login = ephemeral.one_time_login("r")
    head, _, keys = login.verifier.removeprefix("SCRAM-SHA-256$").rpartition("$")
    iterations, salt = head.split(":")
    stored, server = (base64.b64decode(part) for part in keys.split(":"))
    challenge = Challenge("", base64.b64decode(salt), int(iterations), "")
    cached = login.keys.get(login.password.reveal(), challenge)
    assert cached is not None, "logging in derives nothing again"
    salted = hashlib.pbkdf2_hmac("sha256", login.password.reveal().encode(), challenge.salt, 4096)
    assert hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest() == stored
    assert hmac.digest(salted, b"Server Key", "sha256") == server

    client = ScramClient("nonce")
    first = client.first().decode().removeprefix("n,,")
    answer = client.challenge(f"r=nonceMORE,s={salt},i={iterations}".encode())
    final = client.final(answer, cached).decode()
    bare, proof = final.rsplit(",p=", 1)
    signature = hmac.digest(stored, f"{first},{answer.text},{bare}".encode(), "sha256")
    key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
    assert hashlib.sha256(key).digest() == stored


def test_no_password_is_in_any_statement_or_repr() -> None:
    login = ephemeral.one_time_login("lockgate_a_x")
    text = ephemeral.create(login, MARK, ["reader"], 2_000_000_000, 16)
    assert login.password.reveal() not in text
    assert login.password.reveal() not in repr(login)
    assert login.verifier not in repr(login)


@pytest.mark.parametrize("version", [15, 16, 18])
def test_names_are_quoted(version: int) -> None:
    login = ephemeral.one_time_login('we"ird')
    text = ephemeral.create(login, MARK, ['rea"der', "a'b"], 0, version)
    assert 'create role "we""ird"' in text
    assert 'grant "rea""der", "a\'b" to "we""ird"' in text
    assert ("set false" in text) == (version >= 16)
    for more in (ephemeral.take_over("a'b", "", version), ephemeral.ours("a")):
        assert "a'b'" not in more.replace("'a''b'", "")


@pytest.mark.parametrize(("seconds", "shown"), [(0, "1970-01-01T00:00:00Z"), (1.2, "1970-01-01T00:00:02Z"), (1e18, "9999-12-31T23:59:59Z")])
def test_the_end_is_rounded_up(seconds: float, shown: str) -> None:
    assert ephemeral.moment(seconds) == shown
