# SPDX-License-Identifier: Apache-2.0
"""Somebody else's output on one's own terminal: it draws, and can do nothing else (T53)."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.recording.screen import Screen

ATTACKS = {
    "clipboard": b"\x1b]52;c;cm0gLXJmIH4=\x07", "clipboard-st": b"\x1b]52;c;cm0gLXJmIH4=\x1b\\",
    "clipboard-8bit": b"\xc2\x9d52;c;cm0=\xc2\x9c", "bell": b"\x07",
    "title": b"\x1b]0;root@prod\x07", "title-report": b"\x1b[21t", "hyperlink": b"\x1b]8;;http://evil\x1b\\",
    "colour-query": b"\x1b]4;1;?\x07",
    "status-report": b"\x1b[6n", "private-report": b"\x1b[?6n", "attributes": b"\x1b[c", "secondary-attributes": b"\x1b[>c",
    "request-mode": b"\x1b[?2026$p", "answerback": b"\x05", "dcs": b"\x1bP+q544e\x1b\\", "dcs-8bit": b"\xc2\x90+q544e\xc2\x9c",
    "decrqss": b"\x1bP$q\"p\x1b\\", "apc": b"\x1b_Gf=100;AAAA\x1b\\", "pm": b"\x1b^private\x1b\\", "sos": b"\x1bXstring\x1b\\",
    "mouse": b"\x1b[?1000h", "mouse-sgr": b"\x1b[?1003;1006h", "focus": b"\x1b[?1004h", "paste": b"\x1b[?2004h", "reset": b"\x1bc",
    "soft-reset": b"\x1b[!p", "charset": b"\x1b(0", "locking-shift": b"\x0e", "media-copy": b"\x1b[5i", "keyboard": b"\x1b[>1u",
    "device-leds": b"\x1b[1q", "window": b"\x1b[8;1;1t", "iconify": b"\x1b[2t", "csi-8bit": b"\xc2\x9b6n"
}
SAFE = re.compile(r"\x1b\[[0-9;:]{0,64}[ABCDEFGHJKLMPSTXZ@`adefmrsu]|\x1b\[\?(?:7|25|47|1047|1048|1049)[hl]|\x1b[78DEM]")


@pytest.mark.parametrize("name", ATTACKS)
def test_what_attacks_a_viewer_never_reaches_the_terminal_t53(name: str) -> None:
    for plain in (False, True):
        shown = whole(b"before " + ATTACKS[name] + b" after", plain=plain)
        assert not SAFE.sub("", shown).count("\x1b"), shown
        assert shown.startswith("before "), shown
        assert shown.endswith(" after"), shown
        assert "\x07" not in shown
        assert not re.search("[\x80-\x9f]", shown)


def whole(data: bytes, *, plain: bool = False) -> str:
    screen = Screen(plain=plain)
    return screen.feed(data) + screen.close()


def test_bidirectional_controls_are_shown_as_escapes_t53() -> None:
    assert whole("rm \u202ecod.txt\u2066 \u200b".encode()) == "rm \\u202ecod.txt\\u2066 \\u200b"


def test_what_draws_passes_and_is_undone() -> None:
    data = b"\x1b[1;31mred\x1b[0m\x1b[2J\x1b[3;4Hx\x1b[K\x1b[?25l\x1b[?1049hvim\x1b[2;20r"
    assert whole(data) == data.decode() + "\x1b[0m\x1b[?25h\x1b[?1049l\x1b[r"
    assert whole(b"\x1b[?1049h\x1b[?1049l") == "\x1b[?1049h\x1b[?1049l"


def test_the_alternate_buffer_is_never_left_on_t53() -> None:
    for mode in ("47", "1047", "1049"):
        assert whole(f"\x1b[?{mode}h".encode()).endswith(f"\x1b[?{mode}l")


def test_plain_is_text_alone() -> None:
    assert whole(b"\x1b[31mred\x1b[0m \x1b[5Aup\r\n", plain=True) == "red up\r\n"


def test_a_string_that_nobody_ends_does_not_hide_everything_t53() -> None:
    assert whole(b"\x1b]0;" + b"x" * 100_000 + b"rm -rf").endswith("rm -rf")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([*ATTACKS.values(), b"\x1b", b"\x1b[", b"\x1b]", b"\x1b[3", b"\x1bP",
                                          b"\xe2\x82", b"text\r\n",
                                          b"\x1b[31m", b"\x1b\\", b"\x18", b"\x1b[?25", "\u20ac".encode()]), st.binary(max_size=4)),
                max_size=12).map(b"".join),
       st.lists(st.integers(0, 200), max_size=6))
@example(b"\x1b]0;a\x1b\\b", [5])
def test_one_result_however_it_is_cut_and_nothing_but_what_is_safe_t53(data: bytes, places: list[int]) -> None:
    screen = Screen()
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    parts = [data[first:last] for first, last in pairwise(edges)]
    shown = "".join([*map(screen.feed, parts), screen.close()])
    assert shown == whole(data)
    assert "\x1b" not in SAFE.sub("", shown)
    assert not re.search("[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)


@pytest.mark.parametrize("string", ["\x1b]", "\x1bP", "\x1b_", "\x1b^", "\x1bX"])
@pytest.mark.parametrize("end", ["\x07", "\x1b\\", "", "\x1b[m"])
@pytest.mark.parametrize("step", [1, 1000])
def test_plain_hides_no_output_in_a_string_t53(string: str, end: str, step: int) -> None:
    """A program without a terminal has its bytes read, whatever a terminal would make of them."""
    screen = Screen(plain=True)
    data = f"a{string}stolen\nlines{end}b".encode()
    shown = "".join(screen.feed(data[at:at + step]) for at in range(0, len(data), step)) + screen.close()
    assert "stolen\nlines" in shown
    assert "\x1b" not in shown
    titled = Screen(plain=True)
    assert titled.feed(f"a{string}title\x07b".encode()) + titled.close() == "ab"
    drawn = Screen()
    assert "stolen" not in drawn.feed(data) + drawn.close()
