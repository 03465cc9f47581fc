# SPDX-License-Identifier: Apache-2.0
"""The compiled reader of the parser's JSON gives what orjson gives, of whatever bytes; and what it looks over before."""

from __future__ import annotations

import json
import re

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres.sql import _walk
from gateway.protocols.postgres.sql.parse import answer_of
from gateway.protocols.postgres.statement import SqlFault
from tests.unit.protocols.postgres.sql.test_twin import TEXTS, corpus

KEYS = st.one_of(st.sampled_from(["fields", "names", "name", "String", "sval", "location", "A_Const", "val", "é", 'q"', "x" * 70]),
                 st.text(max_size=6))
STRINGS = st.one_of(st.text(max_size=8), st.sampled_from(["id", "a\\b", 'a"b', "a\nb", "\x7f", "é", "x" * 64, "x" * 63]))
NAMES = st.lists(STRINGS.map(lambda text: {"String": {"sval": text}}), max_size=3)
TREES = st.recursive(
    st.one_of(STRINGS, st.integers(-2**70, 2**64 - 1), st.integers(-3, 3), st.booleans(), st.none(), st.floats(allow_nan=False), NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, st.one_of(inner, NAMES), max_size=4)), max_leaves=12)


def either(data: bytes) -> tuple[object, object]:
    """What both make of it, with the types of everything."""
    found = []
    for form in (_walk.decoded, orjson.loads):
        try:
            found.append(repr(form(data)))
        except orjson.JSONDecodeError:
            found.append("no JSON")
    return found[0], found[1]


@settings(max_examples=600)
@given(TREES, st.booleans())
def test_any_tree(tree: object, escaped: bool) -> None:
    written = json.dumps(tree, separators=(",", ":"), ensure_ascii=escaped).encode(errors="surrogatepass")
    compiled, plain = either(written)
    assert compiled == plain


@settings(max_examples=1500)
@given(TREES, st.integers(0, 400), st.integers(0, 255), st.integers(0, 3))
def test_spoilt_trees(tree: object, at: int, byte: int, how: int) -> None:
    data = json.dumps(tree, separators=(",", ":")).encode()
    at %= len(data)
    spoilt = (data[:at], data + bytes([byte]), data[:at] + bytes([byte]) + data[at + 1:], data[:at] + bytes([byte]) + data[at:])[how]
    compiled, plain = either(spoilt)
    assert compiled == plain


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    compiled, plain = either(data)
    assert compiled == plain


@pytest.mark.parametrize("depth", [10, 500, 511, 512, 513, 900, 1025, 100_000])
def test_depth(depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        compiled, plain = either(opening * depth + b"1" + closing * depth)
        assert compiled == plain


@pytest.mark.parametrize("data", [
    b"", b"-", b"-0", b"00", b"01", b"1.5", b"1e3", b"-12", b"9" * 17, b"9" * 18, b"9" * 40, b"tru", b"true", b"false", b"null", b"nan",
    b'"', b'"\\', b'"\\"', b'"\\u0041"', b'"\\ud800"', b'"\x01"', b'"\xff"', b'{"a":1,"a":2}', b"{,}", b"[1,]", b"[1 ,2]", b'{"a" :1}',
    b'{"fields":[{"String":{"sval":"a"}},{"String":{"sval":"a"}}]}', b'{"fields":[{"String":{"sval":""}}]}',
    b'{"fields":[{"String":{"sval":"a"},"x":1}]}', b'{"fields":[{"String":{"sval":"a","b":1}}]}', b'{"fields":[{"String":{"sval":"a"}',
])
def test_edges(data: bytes) -> None:
    compiled, plain = either(data)
    assert compiled == plain


def test_more_keys_than_have_a_place() -> None:
    for start in range(0, 6000, 100):
        data = orjson.dumps({f"key{number}": number for number in range(start, start + 100)})
        compiled, plain = either(data)
        assert compiled == plain


def test_names_are_shared_and_nothing_else() -> None:
    text = b'{"fields":[{"String":{"sval":"shared"}}],"args":[{"String":{"sval":"shared"}}]}'
    one, other = _walk.decoded(text), _walk.decoded(text)
    assert one["fields"][0] is other["fields"][0] and one["args"][0] is not other["args"][0]


def agrees(text: str) -> None:
    try:
        answer = answer_of(text.replace("\0", "").encode(errors="ignore"))
    except SqlFault:
        return
    compiled, plain = either(answer)
    assert compiled == plain


def test_every_answer_of_the_corpus() -> None:
    for text in corpus():
        agrees(text)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_answers_to_texts_made_at_random(text: str) -> None:
    agrees(text)


# what is looked over before

SIGNS = "-+*/<>=~!@#%^&|`?"


@given(st.lists(st.one_of(
    st.sampled_from([") =", ")--", ")\t/", ")", "=", " ", "a", "\0", "é", "\x7f", "\x1c="]),
    st.tuples(st.sampled_from(SIGNS), st.sampled_from([1, 2, 255, 256, 510, 511, 512, 513, 1030])).map(lambda pair: pair[0] * pair[1])),
    max_size=8).map("".join))
def test_ordinary_texts(text: str) -> None:
    plain = text.isascii() and "\0" not in text and not re.search(rf"[{re.escape(SIGNS)}]{{512,}}", text)
    assert _walk.ordinary(text.encode()) == (plain and not re.search(r"\)[\s\x1c-\x1f]*[=/-]", text))
