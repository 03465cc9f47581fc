# SPDX-License-Identifier: Apache-2.0
"""``masking/stream.py``: one output for every way to cut a stream, and no piece of a secret when time runs out in the middle of it."""

from __future__ import annotations

import base64
import json
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.masking.detect import NAMES
from gateway.masking.literals import forms, stem
from gateway.masking.model import NOTHING, MaskSet
from gateway.masking.prefix import NotUnderstood, beginnings
from gateway.masking.rules import REDACT, MaskRule, fixed, keep_last
from gateway.masking.spotters import LIMIT
from gateway.masking.stream import Plan, StreamMasker, stream_masker
from tests.unit.masking.test_detect import IN_HEX

PASSWORD = b"correct-horse-battery"
TOKEN = b"eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJyb2JvdCJ9.c2lnbmF0dXJlc2lnbmF0dXJl"
AWS = b"AKIAIOSFODNN7EXAMPLE"
CARD = b"4000 0566 5566 5556"
BODY = b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gt\nQyNTUxOQAAACB7XhHrvYWkkEEYu0Zqhl1Zc3r1S9b5y6uQ9aVbqG8w2g==\n"
KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + BODY + b"-----END OPENSSH PRIVATE KEY-----"
EMPLOYEE = "EMP-[0-9]{6}"
WORDY = "[a-f]{2}[0-9]{4}"
DETECT = MaskSet(detect=dict.fromkeys(NAMES, REDACT))
ALL = MaskSet(detect={**dict.fromkeys(NAMES, REDACT), "employee": REDACT, "wordy": REDACT}, patterns={"employee": EMPLOYEE, "wordy": WORDY})
LITERALS = (PASSWORD, b"horsefly", b"battery-staple", b"aaaa")
PLAN = Plan(LITERALS, ALL)


def fed(parts: list[bytes], plan: Plan = PLAN) -> bytes:
    masker = StreamMasker(plan, 0.02)
    return b"".join([*map(masker.feed, parts), masker.end()])


def slowly(data: bytes, plan: Plan = PLAN) -> bytes:
    masker = StreamMasker(plan, 0.02)
    out = []
    for byte in data:
        out += [masker.feed(bytes((byte,))), masker.due()]
    return b"".join([*out, masker.end()])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[first:last] for first, last in pairwise(edges)]


PIECES = st.sampled_from([
    PASSWORD, b"horsefly", b"battery-staple", b"aaaa", b"aaaaaaa", b"correct-horsefly", b"correct-horse-battery-staple",
    AWS, b"ASIA", b"AKIA", b"AAKIAIOSFODNN7EXAMPLE", b"AKIAKIAIOSFODNN7EXAMPLE1234", TOKEN, b"eyJ", b"eyJabc.", b"eyeyJhbGciOiJ9.x.y",
    b"e", b"ey", CARD, b"4111111111111111",
    b"4111-1111-1111-1111 ", b"0.4111111111111111", b"20111111111111111 12", b"d4111111111111111e0123456789abcdef0123456789abcdef",
    b"550e8400-e29b-41d4-a716-446655440000", b"1700000000000", b"12 ", b" ", b"-", b"--", b"5", b"-----BEGIN ", KEY,
    KEY.replace(b"\n", b"\r\n"), KEY[:-20], b"-----BEGIN RSA PRIVATE KEY-----", BODY, b"-----END RSA PRIVATE KEY-----",
    b"EMP-123456", b"EMP-12", b"ab1234",
    b"ab", b"ff00", b"\n", b"\r\n", b"plain text ", b"\xc3", b"\xc3\xa9", b"\xff", b"{", b"\"", b"x", b".", b"_",
])
STREAMS = st.lists(st.one_of(PIECES, st.binary(max_size=3)), max_size=14).map(b"".join)
CUTS = st.lists(st.integers(0, 5000), max_size=12)


@settings(max_examples=600, deadline=None)
@given(STREAMS, CUTS)
@example(b"4111111111111111" * 3 + b" 4111111111111111", [5, 20, 47])
@example(b"xx eyJ" + b"a" * 40 + b"correct-horse-battery.a.b correct", [3, 30, 60])
def test_the_same_bytes_come_out_however_they_are_cut(data: bytes, places: list[int]) -> None:
    whole = fed([data])
    assert fed(cut(data, places)) == whole
    assert fed([bytes((byte,)) for byte in data]) == whole


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"4", b"4 ", b"eyJ" + b"a" * 50, b"A+/b\n", b"eyJa.b.", b"12-"]), st.integers(2, 400), st.integers(0, 60),
       STREAMS, CUTS)
def test_the_same_bytes_come_out_beyond_the_bound_too(unit: bytes, times: int, more: int, tail: bytes, places: list[int]) -> None:
    begin = b"-----BEGIN RSA PRIVATE KEY-----\n" if b"\n" in unit else b""
    data = begin + unit * (times * 40 // len(unit)) + unit * more + tail
    whole = fed([data])
    assert fed(cut(data, [place * 7 for place in places])) == whole
    assert fed([data[at:at + 61] for at in range(0, len(data), 61)]) == whole


SECRETS = {"password": PASSWORD, "aws": AWS, "jwt": TOKEN, "card": b"4000056655665556", "grouped": CARD,
           "employee": b"EMP-123456", "wordy": b"ab1234"}
STEMS = {"password": stem(PASSWORD), "aws": 4, "jwt": 3, "card": 6, "grouped": 7, "employee": 4, "wordy": 0}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("around", [(b"value: ", b"\nnext"), (b"", b"\n"), (b"(", b")\r\n$ ")])
def test_a_secret_that_arrives_byte_by_byte_is_masked_behind_its_stem(name: str, around: tuple[bytes, bytes]) -> None:
    before, after = around
    assert slowly(before + SECRETS[name] + after) == before + SECRETS[name][:STEMS[name]] + b"****" + after


def test_a_private_key_that_arrives_byte_by_byte_shows_its_header_alone() -> None:
    header = KEY[:KEY.index(b"-----\n") + 5]
    assert slowly(b"$ cat key\r\n" + KEY.replace(b"\n", b"\r\n") + b"\r\n$ ") == b"$ cat key\r\n" + header + b"****\r\n$ "


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(sorted(SECRETS)), min_size=1, max_size=4),
       st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=60), st.sampled_from([b"\n", b" ; ", b"\r\n"]))
def test_time_may_run_out_anywhere_and_no_piece_behind_a_stem_is_seen(
        names: list[str], steps: list[tuple[int, bool]], between: bytes) -> None:
    data = between.join(SECRETS[name] for name in names) + b"\n"
    masker, out, at, turn = StreamMasker(PLAN, 0.02), [], 0, 0
    while at < len(data):
        size, due = steps[turn % len(steps)]
        out.append(masker.feed(data[at:at + size]))
        at, turn = at + size, turn + 1
        if due:
            out.append(masker.due())
    shown = b"".join([*out, masker.end()])
    for name in names:
        secret, begin = SECRETS[name], STEMS[name]
        pieces = [secret[first:first + 4] for first in range(begin, len(secret) - 3)]
        assert not any(piece in shown for piece in pieces if piece not in b"****"), (name, shown)


@settings(max_examples=300, deadline=None)
@given(STREAMS, st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=40))
def test_due_only_masks_more(data: bytes, steps: list[tuple[int, bool]]) -> None:
    masker, out, at, turn = StreamMasker(PLAN, 0.02), [], 0, 0
    while at < len(data):
        size, due = steps[turn % len(steps)]
        out += [masker.feed(data[at:at + size])]
        at, turn = at + size, turn + 1
        out += [masker.due()] if due else []
    shown = b"".join([*out, masker.end()])
    assert PASSWORD not in shown
    assert AWS not in shown
    assert b"EMP-123456" not in shown


def test_text_without_a_candidate_passes_as_it_is_and_at_once() -> None:
    masker = StreamMasker(PLAN, 0.02)
    data = b"total 12\r\ndrwxr-xr-x 2 root root 4096 Nov 22 14:00 .\r\n$ l"
    assert masker.feed(data) == data
    assert masker.holding is None
    assert masker.feed(b"s") == b"s"
    assert masker.masked == 0


def test_a_tail_that_may_begin_a_secret_is_held_and_let_go() -> None:
    masker = StreamMasker(Plan([PASSWORD], NOTHING), 0.02)
    assert (masker.feed(b"x cor"), masker.holding) == (b"x ", 0.02)
    assert (masker.due(), masker.holding) == (b"cor", None)
    assert masker.feed(b"rect-") == b""
    assert masker.due() == b"r****"
    assert masker.feed(b"ly.") == b"ly."
    assert masker.masked == 1


def test_what_follows_a_stem_is_masked_even_where_no_secret_comes_of_it() -> None:
    masker = StreamMasker(PLAN, 0.02)
    assert masker.feed(b"AKIA") + masker.due() + masker.feed(b"NA") + masker.due() + masker.feed(b"s!") == b"AKIA****s!"


def test_the_unfinished_word_of_a_pattern_without_a_fixed_beginning_is_held_until_it_is_decided() -> None:
    masker = StreamMasker(PLAN, 0.02)
    assert masker.feed(b"$ ab12") == b"$ "
    assert (masker.due(), masker.holding) == (b"", None)
    assert masker.feed(b"!") == b"ab12!"


def test_secrets_that_overlap_are_masked_as_one() -> None:
    assert fed([b"<correct-horse-battery-staple>"]) == b"<****>"
    assert fed([b"<aaaaaaa>"]) == b"<****>"
    assert fed([b"AKIAKIAIOSFODNN7EXAMPLE "]) == b"**** "


@pytest.mark.parametrize(("value", "shown"), IN_HEX)
def test_streams_know_digests_as_values_do(value: str, shown: str) -> None:
    plan = Plan((), MaskSet(detect={"payment-card": keep_last(4)}))
    for tail in ("", "\n", " x"):
        data = (value + tail).encode()
        assert fed([data], plan).decode() == shown + tail
        assert fed([data[at:at + 1] for at in range(len(data))], plan).decode() == shown + tail


def test_rules_show_what_they_keep() -> None:
    masks = MaskSet(detect={
        "payment-card": keep_last(4), "jwt": fixed("[token]"), "aws-access-key": MaskRule("hash", text="k", key=b"k" * 32)})
    out = fed([b"card 4111 11", b"11 1111 1111, ", TOKEN, b"\n", AWS, b"\n"], Plan((), masks))
    assert out.startswith(b"card ***************1111, [token]\n")
    assert len(out.splitlines()[1]) == 32


def test_forms_of_a_secret_are_found() -> None:
    plan = Plan([b'pa"ss\\word/1?'], NOTHING)
    encoded = json.dumps('pa"ss\\word/1?').encode()
    for form in (encoded, base64.b64encode(b'pa"ss\\word/1?'), b"pa%22ss%5Cword%2F1%3F", base64.b64encode(b'pa"ss\\word/1?\n')):
        assert b"****" in fed([b"x ", form, b" y"], plan), form
    assert forms(b"") == set()


def test_every_line_of_a_key_the_gateway_holds_is_masked_alone() -> None:
    plan = Plan([KEY], NOTHING)
    for line in BODY.splitlines():
        assert fed([b"1: ", line, b"\n$ "], plan) == b"1: ****\n$ "
    assert fed([b"-----BEGIN OPENSSH PRIVATE KEY-----\n"], plan) == b"-----BEGIN OPENSSH PRIVATE KEY-----\n"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 64, 4096])
def test_a_private_key_over_several_pieces(newline: bytes, size: int) -> None:
    data = b"before\n" + KEY.replace(b"\n", newline) + newline + b"(after)\n"
    out = fed([data[at:at + size] for at in range(0, len(data), size)], Plan((), DETECT))
    assert out == b"before\n****" + newline + b"(after)\n"


def test_a_key_without_an_end_is_masked_as_far_as_it_goes_and_holds_no_more_than_the_bound() -> None:
    masker = StreamMasker(Plan((), DETECT), 0.02)
    out = [masker.feed(b"-----BEGIN RSA PRIVATE KEY-----\n")]
    for _ in range(1000):
        out.append(masker.feed(b"QUJD" * 16 + b"\n"))
        assert len(masker._text) < 2 * LIMIT
    out.append(masker.feed(b"$(done)"))
    assert b"".join(out) == b"****$(done)"


def test_a_line_of_the_policys_pattern_is_bounded() -> None:
    plan = Plan((), MaskSet(detect={"long": REDACT}, patterns={"long": "key=.*"}))
    masker = StreamMasker(plan, 0.02)
    out = [masker.feed(b"key=")]
    for _ in range(1000):
        out.append(masker.feed(b"x" * 64))
        assert len(masker._text) < 2 * LIMIT
    assert b"".join([*out, masker.feed(b"\nnext\n")]) == b"****\nnext\n"


def test_a_stream_that_ends_within_a_secret_of_the_gateway_keeps_the_rest_back() -> None:
    assert fed([b"x correct-horse-batt"]) == b"x corr****"
    assert fed([b"count 4111111"]) == b"count 4111111"


def test_patterns_that_name_a_line_break_are_refused() -> None:
    for pattern in ("a\\nb", "a\nb"):
        with pytest.raises(ValueError, match="line break"):
            Plan((), MaskSet(detect={"two": REDACT}, patterns={"two": pattern}))


def test_patterns_beyond_the_known_forms_hold_the_line() -> None:
    with pytest.raises(NotUnderstood):
        beginnings(r"\Qa+b\E")
    masker = StreamMasker(Plan((), MaskSet(detect={"quoted": REDACT}, patterns={"quoted": r"\Qa+b\E"})), 0.02)
    assert masker.feed(b"x\nab a+") == b"x\n"
    assert masker.feed(b"b c\n") == b"ab **** c\n"


def test_anchors_are_those_of_lines() -> None:
    plan = Plan((), MaskSet(detect={"anchored": REDACT, "bounded": REDACT}, patterns={
        "anchored": "^pin [0-9]+$", "bounded": r"\bid[0-9]{3}\b"}))
    data = b"pin 1\nx pin 2\npin 3 \nid123 xid123 id1234\npin 44"
    want = b"****\nx pin 2\npin 3 \n**** xid123 id1234\n****"
    assert fed([data], plan) == want
    assert fed([bytes((byte,)) for byte in data], plan) == want


def test_nothing_to_look_for_is_no_masker() -> None:
    assert stream_masker((), NOTHING, 0.02) is None
    assert stream_masker([b"\n"], NOTHING, 0.02) is None
    assert stream_masker([PASSWORD], NOTHING, 0.02) is not None
