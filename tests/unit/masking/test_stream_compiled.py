# SPDX-License-Identifier: Apache-2.0
"""``_stream.pyx`` and what ``literals.py`` does without it see the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.masking import literals
from gateway.masking._stream import Needles

SMALL = st.text("abc", min_size=1, max_size=6).map(str.encode)
TEXT = st.text("abcd", max_size=60).map(str.encode)


@settings(max_examples=500, deadline=None)
@given(st.lists(SMALL, min_size=1, max_size=5), TEXT, st.integers(0, 60), st.booleans())
def test_both_see_the_same(words: list[bytes], text: bytes, begin: int, final: bool) -> None:
    begin = min(begin, len(text))
    fast = literals.Literals(words)
    assert fast._filter is not None
    pure = literals.Literals(words)
    pure._filter = None
    assert fast.look(text, begin, final=final) == pure.look(text, begin, final=final)
    assert fast.known(text, begin) == pure.known(text, begin)


@settings(max_examples=500, deadline=None)
@given(st.lists(SMALL, min_size=1, max_size=5), TEXT, st.integers(0, 60))
def test_the_prefilter_never_says_no_where_there_is_one(words: list[bytes], text: bytes, begin: int) -> None:
    begin = min(begin, len(text))
    assert Needles(words).maybe(text, begin) or not any(word in text[begin:] for word in words)


def test_places_outside_of_the_text_are_refused() -> None:
    needles = Needles([b"word"])
    for begin in (-1, 5):
        with pytest.raises(ValueError, match="place"):
            needles.maybe(b"text", begin)
    with pytest.raises(ValueError, match="place"):
        needles.starts(b"text", -1)
    with pytest.raises(TypeError):
        Needles(["text"])  # type: ignore[list-item]
