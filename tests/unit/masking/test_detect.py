# SPDX-License-Identifier: Apache-2.0
"""Detectors: what they find, what they leave, and that JSON stays JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.masking.detect import NAMES, Detectors, card_spans, is_card
from gateway.masking.rules import REDACT, keep_last

ALL = Detectors({"private-key": REDACT, "aws-access-key": REDACT, "jwt": REDACT, "payment-card": keep_last(4)})
CARDS = [
    "4111111111111111",
    "5500005555555559",
    "378282246310005",
    "30569309025904",
    "6011111111111117",
    "4222222222222",
    "6304000000000000",
]
KEY = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEpAIBAAKCAQEA+/x==\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("4111111111111111", "************1111"),
        ("pay 4111 1111 1111 1111 now", "pay ***************1111 now"),
        ("4111-1111-1111-1111 12/27", "***************1111 12/27"),
        ("id 77 4111111111111111", "id 77 ************1111"),
        ("é 378282246310005 €", "é ***********0005 €"),
        (KEY + "\nrest", "****\nrest"),
        (KEY[:60], "****"),
        (KEY + KEY, "********"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n-----END OPENSSH PRIVATE KEY-----", "****"),
        ("-----BEGIN PRIVATE KEY-----\r\nMII\r\n-----END PRIVATE KEY-----\r\n", "****\r\n"),
        ("key=AKIAIOSFODNN7EXAMPLE;", "key=****;"),
        ("ASIAIOSFODNN7EXAMPLE", "****"),
        (f"Bearer {JWT} x", "Bearer **** x"),
    ],
)
def test_found(value: str, shown: str) -> None:
    raw = value.encode()
    assert ALL.candidates(raw)
    found = ALL.text(raw)
    assert found is not None and found.decode() == shown


IN_HEX = [
    ("a4111 1111 1111 1111 0000 0000 0000 0000", "a***************1111 0000 0000 0000 0000"),
    ("4111-1111-1111-1111-0000-0000-0000-0000f", "***************1111-0000-0000-0000-0000f"),
    ("deadbeef-4111111111111111-deadbeef00", "deadbeef-************1111-deadbeef00"),
    ("face4111-1111-1111-1111-facefacefaceface", "face***************1111-facefacefaceface"),
    ("aabb4111111111111111aabbccddeeff", "aabb4111111111111111aabbccddeeff"),
    ("aabb4111111111111111aabbccddeef", "aabb************1111aabbccddeef"),
    ("41111111-1111-1111-aaaa-bbbbccccdddd", "41111111-1111-1111-aaaa-bbbbccccdddd"),
    ("pvc-41111111-1111-1111-aaaa-bbbbccccdddd", "pvc-41111111-1111-1111-aaaa-bbbbccccdddd"),
    ("41111111-1111-1111-aaaa-bbbbccccddddd", "**************1111-aaaa-bbbbccccddddd"),
    ("1" * 40 + " 4111111111111111 " + "a" * 40, "1" * 40 + " ************1111 " + "a" * 40),
]
"""Cards beside hexadecimal letters: a piece of one unbroken word of 32, or of a UUID, is none; everything else is."""


@pytest.mark.parametrize(("value", "shown"), IN_HEX)
def test_a_card_beside_hexadecimal_letters_is_a_card(value: str, shown: str) -> None:
    raw = value.encode()
    found = ALL.text(raw)
    assert (raw if found is None else found).decode() == shown


@pytest.mark.parametrize(
    "value",
    [
        "",
        "4111111111111112",
        "411111111111",
        "0000000000000000",
        "12345678901234567890123",
        "0.4111111111111111",
        "078-05-1120",
        "aabb4111111111111111aabbccddeeff00112233",
        "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
        "AKIA",
        "akiaiosfodnn7example",
        "eyJhbGciOiJIUzI1NiJ9",
        "2024-01-15 10:30:00",
        "PRIVATE KEY",
        "4111.1111.1111.1111",
        "1700000000004",
        "1700000000000001",
        "1730000000000000001",
    ],
)
def test_left_alone(value: str) -> None:
    assert ALL.text(value.encode()) is None


@pytest.mark.parametrize("card", CARDS)
def test_cards_in_every_grouping(card: str) -> None:
    assert is_card(card)
    for text in (
        card,
        " ".join(card[i : i + 4] for i in range(0, len(card), 4)),
        "-".join(card[i : i + 4] for i in range(0, len(card), 4)),
    ):
        assert card_spans(text) == [(0, len(text))]
    assert not is_card(card[:-1] + str((int(card[-1]) + 1) % 10))


def test_a_card_among_other_numbers_is_found() -> None:
    found = ALL.text(b"2024 12 4111111111111111 05 5500005555555559 9")
    assert found is not None and b"411111" not in found and b"550000" not in found


def test_a_run_with_too_many_groups_is_hidden_as_a_whole() -> None:
    found = ALL.text(b"4 " * 5000 + b"x")
    assert found is not None and found.count(b"*") > 9000


def test_only_what_is_asked_for() -> None:
    only = Detectors({"jwt": REDACT})
    assert only.text(b"4111111111111111 AKIAIOSFODNN7EXAMPLE") is None
    assert only.text(JWT.encode()) == b"****"
    assert only.json(b'{"card":4111111111111111}') is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"card": "4111111111111111", "n": 1}, {"card": "************1111", "n": 1}),
        ({"card": 4111111111111111}, {"card": "************1111"}),
        ([[4111111111111111], -4111111111111111], [["************1111"], "-************1111"]),
        ({JWT: JWT}, {"****": "****"}),
        ({"key": KEY, "x": 'say "hi"'}, {"key": "****", "x": 'say "hi"'}),
        ("4111111111111111", "************1111"),
        (
            {"a": "-----BEGIN RSA PRIVATE KEY-----", "b": "-----END RSA PRIVATE KEY-----"},
            {"a": "****", "b": "-----END RSA PRIVATE KEY-----"},
        ),
    ],
)
def test_json(value: Any, shown: Any) -> None:
    raw = json.dumps(value).encode()
    found = ALL.json(raw)
    assert found is not None and json.loads(found) == shown
    binary = ALL.json(b"\x01" + raw)
    assert binary is not None and binary[:1] == b"\x01" and json.loads(binary[1:]) == shown


def test_json_escapes_hide_nothing() -> None:
    found = ALL.json(b'{"k":"\\u0041KIAIOSFODNN7EXAMPLE","c":"\\u0034111111111111111"}')
    assert found is not None and json.loads(found) == {"k": "****", "c": "************1111"}


def test_json_numbers_that_are_no_cards() -> None:
    for raw in (b"0.30000000000000004", b"[1e300,12,-7]", b'{"t":1700000000000}'):
        assert ALL.json(raw) is None


SCRAPS = st.sampled_from([*CARDS, KEY, JWT, "AKIAIOSFODNN7EXAMPLE", "1234", " ", "-", "\\", '"', "é", "x", "eyJ", "-----BEGIN", "\n", "0"])
TEXTS = st.lists(SCRAPS | st.text(max_size=8), max_size=8).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS | st.integers(10**12, 10**19),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


@given(VALUES, st.booleans())
def test_json_stays_json(value: Any, escaped: bool) -> None:
    raw = json.dumps(value, ensure_ascii=escaped).encode(errors="surrogatepass")
    found = ALL.json(raw)
    if found is not None:
        json.loads(found)
        assert ALL.candidates(raw)


@given(TEXTS)
def test_nothing_is_found_where_there_is_no_candidate(text: str) -> None:
    raw = text.encode(errors="surrogatepass")
    found = ALL.text(raw)
    if found is not None:
        assert ALL.candidates(raw) and ALL.places(raw)
        assert all(card.encode() not in found or len(card) < 13 for card in ["AKIAIOSFODNN7EXAMPLE", JWT])


def test_names() -> None:
    assert NAMES == ("private-key", "aws-access-key", "jwt", "payment-card")
