# SPDX-License-Identifier: Apache-2.0
"""What is typed in the restricted shell becomes lines: what is not shown is not run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.ssh.lines import LONGEST, Lines, Typed


def typed(data: bytes, *, echo: bool = True) -> list[Typed]:
    return Lines(echo=echo).feed(data)


@pytest.mark.parametrize(("data", "text"), [
    (b"uptime\r", "uptime"), (b"uptime\n", "uptime"), (b"uptxx\x7f\x7fime\r", "uptime"), (b"rm -rf /\x15uptime\r", "uptime"),
    (b"ls /tmp\x17/srv\r", "ls /srv"), (b"up\x1b[Atime\r", "uptime"), (b"up\x1bOPtime\r", "uptime"), (b"up\ttime\r", "uptime"),
    (b"\xc3\xa4\x7fuptime\r", "uptime"), (b"\x7f\x7fuptime\r", "uptime"), (b"up\x00\x01time\r", "uptime")])
def test_keys(data: bytes, text: str) -> None:
    assert typed(data) == [Typed("line", text)]


def test_return_and_line_feed_are_one_end() -> None:
    assert typed(b"a\r\nb\r\n") == [Typed("line", "a"), Typed("line", "b")]


def test_interrupt_forgets_the_line() -> None:
    assert typed(b"reboot\x03uptime\r") == [Typed("interrupt"), Typed("line", "uptime")]


def test_the_end_on_an_empty_line_only() -> None:
    assert typed(b"a\x04\r\x04") == [Typed("line", "a"), Typed("end")]


def test_without_a_terminal_lines_are_as_they_come() -> None:
    lines = Lines(echo=False)
    assert lines.feed(b"one\ntwo") == [Typed("line", "one")]
    assert lines.end() == [Typed("line", "two"), Typed("end")]
    assert lines.shown() == b""


def test_a_line_that_is_too_long_is_one_that_cannot_run() -> None:
    for echo in (True, False):
        assert typed(b"x" * (LONGEST + 1) + b"\n", echo=echo) == [Typed("line", "\0")]


@given(st.binary(max_size=200), st.integers(0, 200))
def test_what_is_shown_does_not_depend_on_how_it_comes(data: bytes, cut: int) -> None:
    whole, parts = Lines(echo=True), Lines(echo=True)
    assert whole.feed(data) == parts.feed(data[:cut]) + parts.feed(data[cut:])
    assert whole.shown() == parts.shown()


@given(st.binary(max_size=200))
def test_nothing_but_text_and_rubbing_out_is_shown(data: bytes) -> None:
    """No byte of the caller's that moves the cursor comes back to the terminal."""
    lines = Lines(echo=True)
    lines.feed(data)
    assert all(byte >= 0x20 or byte in b"\b\r\n" for byte in lines.shown())
