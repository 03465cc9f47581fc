# SPDX-License-Identifier: Apache-2.0
"""What is typed in the restricted shell becomes lines: what is run was on the screen."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.ssh.lineedit import LONGEST_PLAIN, LineEditor, PlainLines, Step, columns

PROMPT = "me@web-1$ "
UP, DOWN, RIGHT, LEFT = b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D"
PASTE = b"\x1b[200~%b\x1b[201~"
CONTROL = [bytes([key]) for key in b"\x01\x02\x03\x05\x06\x08\x0b\x0e\x10\x15\x17\x7f\t"]
PRESSED = st.sampled_from([*CONTROL, UP, DOWN, RIGHT, LEFT, b"\x1bOH", b"\x1b[F", b"\x1b[3~", b"\x1b[200~", b"\x1b[201~", b"\x1b]0;",
                           b"\x07", b"\x1b", b"\r"])
TEXT = st.text(alphabet="ab \u00e4\u4e2d\u0301\U0001f600", min_size=1, max_size=6).map(str.encode)
KEYS = st.lists(st.one_of(PRESSED, TEXT, st.binary(max_size=4)), max_size=40).map(b"".join)


class Row:
    """The row of a terminal that the editor draws on, as wide as it takes; ``cells`` are columns."""

    def __init__(self, width: int) -> None:
        self.width, self.cells, self.at = width, [], 0
        self.widest = 0

    cells: list[str]

    def draw(self, screen: bytes) -> None:
        for one in re.findall(r"\x1b\[\?2004[hl]|.", screen.decode(), re.DOTALL):
            if one == "\n":
                self.cells, self.at = [], 0
            elif one == "\r":
                self.at = 0
            elif one == "\b":
                assert self.at > 0, "left of the row"
                self.at -= 1
            elif one == "\a" or one.startswith("\x1b"):
                continue
            else:
                assert one.isprintable()
                self._put(one)

    def _put(self, one: str) -> None:
        wide = columns(one)
        if not wide:
            return
        self.cells += [" "] * (self.at + wide - len(self.cells))
        self.cells[self.at:self.at + wide] = [one, *[""] * (wide - 1)]
        self.at += wide
        self.widest = max(self.widest, self.at)

    @property
    def text(self) -> str:
        return "".join(self.cells)


def steps(data: bytes, editor: LineEditor | PlainLines | None = None) -> list[Step]:
    """All that these keys come to, a prompt before each line."""
    made = editor or LineEditor(PROMPT, 80)
    found = [Step(made.begin())]
    made.feed(data)
    while True:
        step = made.step()
        found.append(step)
        if step.end or (step.line is None and (isinstance(made, PlainLines) or not made.waiting)):
            return found
        if step.line is not None:
            found.append(Step(made.begin()))


def lines(data: bytes, editor: LineEditor | PlainLines | None = None) -> list[str]:
    return [step.line for step in steps(data, editor) if step.line is not None]


@pytest.mark.parametrize(("data", "text"), [
    (b"uptime\r", "uptime"), (b"uptime\n", "uptime"), (b"uptxx\x7f\x08ime\r", "uptime"), (b"rm -rf /\x15uptime\r", "uptime"),
    (b"ls /tmp  \x17/srv\r", "ls /srv"), (b"up\ttime\r", "uptime"), (b"\xc3\xa4\x7fuptime\r", "uptime"), (b"\x7f\x7fuptime\r", "uptime"),
    (b"up\x00\x1atime\r", "uptime"), (b"time\x01up\r", "uptime"), (b"uptmie" + LEFT * 3 + b"i\x1b[C\x04\x05\r", "uptime"),
    (b"uptime -p" + LEFT * 3 + b"\x0b\r", "uptime"), (b"ptim\x1b[Hu\x1bOFe\r", "uptime"), (b"xuptime\x1b[1~\x1b[3~\r", "uptime"),
    (b"up\x1b[1;5Ptime\r", "uptime"), (b"up\x1b[[Atime\r", "uptime"), (b"up\x1b[M !!time\r", "uptime"), (b"up\x1bxtime\r", "uptime"),
    (b"caf\xc3\xa9 \xe4\xb8\xad\r", "caf\u00e9 \u4e2d"), (b"up\xff\xc3time\r", "uptime"), (b"up\xef\xbb\xbf\xe2\x80\xaetime\r", "uptime"),
    (b"up\x1b]0;reboot\x1b\\time\r", "uptime"), (b"up\x1bPreboot\r\x07time\r", "uptime"), (b"up\x1b_x\x03uptime\r", "uptime"),
    (PASTE % b"uptime\n" + b"\r", "uptime"), (PASTE % b"up\ttime" + b"\r", "up time"), (b"uptime\x1bOM", "uptime")])
def test_keys(data: bytes, text: str) -> None:
    assert lines(data) == [text]


@pytest.mark.parametrize("pasted", [b"a\nb", b"a\rb\r", b"a\x1b[Ab", b"a\x15b", b"\xe2\x80\xaea", b"x" * 9000, b"a\x03"])
def test_a_paste_that_is_not_one_line_of_text_is_not_taken_t49(pasted: bytes) -> None:
    found = steps(b"up" + PASTE % pasted + b"time\r")
    assert [step.line for step in found if step.line is not None] == ["uptime"]
    assert b"this one is not taken" in b"".join(step.screen for step in found)


def test_the_history_is_copies_and_bounded_t49() -> None:
    editor = LineEditor(PROMPT, 80, history=10)
    assert lines(b"one\rtwo\r" + UP * 2 + b"x\r" + UP * 2 + b"\r", editor) == ["one", "two", "onex", "two"]
    assert lines(b"three\r" + UP * 9 + b"\r", editor) == ["three", "two"]
    assert lines(b"draft" + UP + DOWN + DOWN + b"!\r", editor) == ["draft!"]


def test_ctrl_c_forgets_the_line_and_ctrl_d_ends_an_empty_one() -> None:
    found = steps(b"reboot\x03uptime\ra\x04\r\x04reboot\r")
    assert [step.line for step in found if step.line is not None] == ["uptime", "a"]
    assert found[-1].end


def test_a_line_of_which_something_did_not_fit_is_refused() -> None:
    editor = LineEditor(PROMPT, 80, longest=10)
    found = steps(b"rm -rf /srv/old\r", editor)[1]
    assert (found.line, bool(found.refusal)) == ("rm -rf /sr", True)
    for undo in (b"\x15", b"\x03"):
        again = steps(b"rm -rf /srv/old" + undo + b"uptime\r", editor)
        assert [(step.line, step.refusal) for step in again if step.line] == [("uptime", "")]
    assert steps(b"rm -rf /srv/old\x7f\r", editor)[1].refusal


def test_a_line_that_did_not_fit_on_the_screen_is_shown_whole_once_it_is_submitted() -> None:
    found = steps(b"echo " + b"x" * 200 + b"; reboot\r", LineEditor(PROMPT, 40))
    shown = next(step.screen for step in found if step.line)
    assert ("\r" + PROMPT + "echo " + "x" * 200 + "; reboot\x1b[?2004l\r\n").encode() in shown


def test_a_terminal_that_knows_nothing_is_sent_no_sequences() -> None:
    found = steps(b"one\r" + UP + b"\r\x04", LineEditor(PROMPT, 80, dumb=True))
    assert b"\x1b" not in b"".join(step.screen for step in found)
    assert b"\x1b[?2004h" in LineEditor(PROMPT, 80).begin()


def test_keys_that_come_no_more() -> None:
    editor = LineEditor(PROMPT, 80)
    editor.end()
    assert lines(b"one\rtwo", editor) == ["one"]
    assert editor.step().end


@given(KEYS, st.integers(0, 400), st.sampled_from([8, 20, 33, 80]))
def test_the_same_lines_however_the_keys_come(data: bytes, cut: int, width: int) -> None:
    parts = LineEditor(PROMPT, width)
    assert lines(data, LineEditor(PROMPT, width)) == lines(data[:cut], parts) + lines(data[cut:], parts)


@given(KEYS, st.sampled_from([8, 20, 33, 80]))
def test_the_row_shows_the_line_and_the_cursor_is_in_it(data: bytes, width: int) -> None:
    """Key by key, on a terminal that is only a row of cells: the row is the prompt and a part of the line."""
    editor, row = LineEditor(PROMPT, width), Row(width)
    row.draw(editor.begin())
    for place in range(len(data)):
        editor.feed(data[place:place + 1])
        step = editor.step()
        row.widest = 0
        row.draw(step.screen)
        if step.end:
            return
        if step.line is not None:
            assert step.screen.endswith(b"\x1b[?2004l\r\n")
            row.draw(editor.begin())
            continue
        prompt = editor._prompt
        shown = "".join(one for one in editor._text[editor._left:] if columns(one))
        assert row.text.startswith(prompt)
        drawn = row.text[len(prompt):]
        assert shown.startswith(drawn.rstrip(" "))
        assert len(shown) <= len(drawn) or columns(shown) > width - 1 - columns(prompt)
        assert row.at == columns(prompt) + columns(editor._text[editor._left:editor._cursor])
        assert row.at < width


@given(st.binary(max_size=400))
def test_whatever_is_sent_what_is_drawn_is_text_and_what_is_run_was_drawn(data: bytes) -> None:
    editor = LineEditor(PROMPT, 40, longest=60)
    for step in steps(data, editor):
        plain = re.sub(r"\x1b\[\?2004[hl]", "", step.screen.decode())
        assert all(one.isprintable() or one in "\r\n\b\a" for one in plain)
        if step.line is not None:
            assert step.line.isprintable()
            assert len(step.line.encode()) <= 100


def test_without_a_terminal_lines_are_as_they_come() -> None:
    plain = PlainLines()
    assert lines(b"one\ntw", plain) == ["one"]
    assert lines(b"o\r\n\x03\x1b[A\n\nlast\xff", plain) == ["two\r", "\x03\x1b[A", ""]
    plain.end()
    assert lines(b"", plain) == ["last\udcff"]
    assert plain.step().end


def test_a_long_line_is_refused_whole_and_takes_no_memory() -> None:
    plain = PlainLines()
    for _ in range(100):
        plain.feed(b"x" * 10_000)
        assert plain.step() == Step()
        assert plain.waiting <= LONGEST_PLAIN
    found = steps(b"\nuptime\n" + b"y" * (LONGEST_PLAIN + 1) + b"\n", plain)
    assert [(one.line or "")[:6] + one.refusal[:6] for one in found if one.line is not None] == ["xxxxxxa line", "uptime", "yyyyyya line"]


@given(st.binary(max_size=100), st.integers(0, 100))
def test_the_same_plain_lines_however_they_come(data: bytes, cut: int) -> None:
    def all_of(*parts: bytes) -> list[tuple[str, str]]:
        plain = PlainLines(longest=8)
        found = []
        for part in parts:
            plain.feed(part)
            while (step := plain.step()).line is not None:
                found.append((step.line[:2], step.refusal))
        return found

    assert all_of(data) == all_of(data[:cut], data[cut:])
