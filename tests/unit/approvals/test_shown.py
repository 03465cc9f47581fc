# SPDX-License-Identifier: Apache-2.0
"""What may hide in a text (T53, T60)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.approvals.shown import clean_reason, escaped, line, text_flags


@pytest.mark.parametrize(("text", "flags"), [
    ("delete from orders\n  where id = 1\t-- fine", ()),
    ("select 1 -- \u202edrop", ("bidi",)),
    ("\x1b]52;c;ZXZpbA==\x07select 1", ("control",)),
    ("select 1\rdelete from x", ("control",)),
    ("select\u200b1", ("invisible",)),
    ("select\u00a01", ("invisible",)),
    ("select 1" + " " * 200 + "; drop table x", ("whitespace",)),
    ("select 1" + "\n" * 50 + "; drop table x", ("whitespace",)),
    ("select * from оrders", ("non-ascii-letters",)),
    ("select 1\x85\u2066", ("bidi", "control")),
])
def test_flags(text: str, flags: tuple[str, ...]) -> None:
    assert text_flags(text) == flags


def test_printed_so_that_nothing_hides() -> None:
    assert escaped("a\x1b[31m\u202eb\r\u200bc\td") == "a\\x1b[31m\\u{202e}b\\x0d\\u{200b}c    d"
    assert escaped("a" + " " * 50 + "b") == "a\\{50 spaces}b"
    assert line("a\nb") == "a\\nb"


@given(st.text())
def test_nothing_printed_moves_the_cursor_or_the_reader(text: str) -> None:
    for ch in escaped(text):
        assert ch == "\n" or unicodedata.category(ch)[0] != "C"
        assert unicodedata.category(ch) not in ("Zl", "Zp", "Mn", "Me")


@given(st.text(max_size=500))
def test_a_cleaned_reason_is_one_harmless_line(text: str) -> None:
    try:
        reason = clean_reason(text)
    except ValueError:
        return
    assert reason and all(unicodedata.category(ch)[0] != "C" for ch in reason) and clean_reason(reason) == reason
