# SPDX-License-Identifier: Apache-2.0
"""The lines of the restricted shell: keys in, what to draw and the lines out, with a terminal (``LineEditor``) and without. Pure.

One row of the screen is used and long lines scroll sideways, so that carriage return, backspace and text are all it draws with: that holds
on every terminal and at every width. A line that did not fit is shown whole once it is submitted: what is run was on the screen.

Keys are read as UTF-8. Sequences of the terminal's that are no key here (reports, answers to queries, mouse) are swallowed, so that what a
program printed cannot make the terminal type. Where the terminal marks pastes (bracketed paste), a paste is one line of text or is not
taken: nothing in it is a key, and nothing runs before Enter is pressed.
"""

from __future__ import annotations

import codecs
from collections import deque
from dataclasses import dataclass
from unicodedata import category, east_asian_width

LONGEST = 8192
"""Bytes of a line that is typed, as UTF-8."""
LONGEST_PLAIN = 65536
"""Bytes of a line that comes without a terminal."""
HISTORY = 64 * 1024
"""Characters of earlier lines that are kept."""
WIDEST = 1000
_NARROWEST = 8
_AT_ONCE = 4096
_SEQUENCE = 32
_BEGINNING = 100
_PASTED = "\x1b[201~"
_PASTES, _NO_PASTES = "\x1b[?2004h", "\x1b[?2004l"

_CONTROL = {"\r": "enter", "\n": "enter", "\x01": "home", "\x02": "left", "\x03": "interrupt", "\x04": "end_or_delete", "\x05": "end",
            "\x06": "right", "\x08": "backspace", "\x0b": "kill_right", "\x0e": "down", "\x10": "up", "\x15": "kill_left",
            "\x17": "kill_word", "\x7f": "backspace"}
_LETTERS = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}
_NUMBERS = {"1": "home", "7": "home", "4": "end", "8": "end", "3": "delete"}
_STRINGS = frozenset("]P^_X")


@dataclass(frozen=True, slots=True)
class Step:
    """``screen`` is drawn; then ``line`` was submitted, or the input is at its ``end``. Neither: more is needed. ``refusal``: why the line
    cannot run, and ``line`` is how it begins."""

    screen: bytes = b""
    line: str | None = None
    refusal: str = ""
    end: bool = False


class PlainLines:
    """Lines without a terminal: whatever is between line feeds. Bytes that are no UTF-8 as with ``surrogateescape``."""

    def __init__(self, longest: int = LONGEST_PLAIN) -> None:
        self._longest = longest
        self._data = bytearray()
        self._looked = 0
        self._dropped = self._ended = False

    @property
    def waiting(self) -> int:
        """Bytes not looked at yet."""
        return len(self._data)

    def resize(self, width: int) -> None:
        """There is no terminal."""

    def begin(self) -> bytes:
        """There is no prompt."""
        return b""

    def feed(self, data: bytes) -> None:
        self._data += data

    def forget(self) -> None:
        """There is no key for it."""

    def end(self) -> None:
        """Nothing comes any more: a last line without its line feed is one."""
        self._ended = True

    def step(self) -> Step:
        place = self._data.find(b"\n", self._looked)
        if place < 0 and not (self._ended and (self._data or self._dropped)):
            self._looked = len(self._data)
            if self._looked > self._longest:
                self._dropped = True
                del self._data[_BEGINNING:]
                self._looked = len(self._data)
            return Step(end=self._ended)
        line = bytes(self._data[:place] if place >= 0 else self._data)
        del self._data[:place + 1 if place >= 0 else len(self._data)]
        self._looked = 0
        dropped, self._dropped = self._dropped or len(line) > self._longest, False
        if dropped:
            return Step(line=line[:_BEGINNING].decode("utf-8", "replace"), refusal=f"a line has at most {self._longest} bytes")
        return Step(line=line.decode("utf-8", "surrogateescape"))


def columns(text: str) -> int:
    """How many a terminal takes for it."""
    return len(text) if text.isascii() else sum(map(_column, text))


def _column(character: str) -> int:
    if category(character) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


class Keys:
    """Bytes of a terminal as keys: names as in ``_CONTROL``, ``("text", c)``, ``("paste", text)`` or ``("paste", None)`` for one that is
    not taken."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._at = self._ground
        self._sequence = ""
        self._skip = 0
        self._pasted: list[str] = []
        self._too_long = False

    def key(self, character: str) -> tuple[str, str | None] | None:
        """The key that this character completes, if it does."""
        return self._at(character)

    def _ground(self, character: str) -> tuple[str, str | None] | None:
        if character == "\x1b":
            self._at = self._escape
            return None
        self._at = self._ground
        if character in _CONTROL:
            return _CONTROL[character], None
        return ("text", character) if character.isprintable() else None

    def _escape(self, character: str) -> tuple[str, str | None] | None:
        if character < " ":
            return self._ground(character)
        self._at = self._ground
        if character == "[":
            self._at, self._sequence = self._csi, ""
        elif character == "O":
            self._at = self._ss3
        elif character in _STRINGS:
            self._at = self._string
        return None

    def _ss3(self, character: str) -> tuple[str, str | None] | None:
        if character < " ":
            return self._ground(character)
        self._at = self._ground
        name = "enter" if character == "M" else _LETTERS.get(character)
        return (name, None) if name is not None else None

    def _csi(self, character: str) -> tuple[str, str | None] | None:
        if character < " ":
            return self._ground(character)
        if "0" <= character <= "?" or " " <= character <= "/":
            self._sequence = (self._sequence + character)[:_SEQUENCE]
            return None
        self._at = self._ground
        if character in "[M" and not self._sequence:
            self._at, self._skip = self._skipped, 1 if character == "[" else 3      # a function key of the console; a click, in bytes
            return None
        if character != "~":
            name = _LETTERS.get(character)
        elif self._sequence == "200":
            self._at, self._pasted, self._too_long = self._paste, [], False
            return None
        else:
            name = _NUMBERS.get(self._sequence.partition(";")[0])
        return (name, None) if name is not None else None

    def _skipped(self, character: str) -> tuple[str, str | None] | None:
        self._skip -= 1
        if not self._skip:
            self._at = self._ground
        return None

    def _string(self, character: str) -> tuple[str, str | None] | None:
        """To its end: BEL, ST, or a key that ends anything."""
        if character in "\x1b\x03":
            return self._ground(character)
        if character in "\x07\x18\x1a":
            self._at = self._ground
        return None

    def _paste(self, character: str) -> tuple[str, str | None] | None:
        if character == "\x03":
            self._at = self._ground
            return "paste", None
        self._pasted.append(character)
        if character == "~" and "".join(self._pasted[-len(_PASTED):]) == _PASTED:
            self._at = self._ground
            text = "".join(self._pasted[:-len(_PASTED)]).rstrip("\r\n").replace("\t", " ")
            return "paste", None if self._too_long or not text.isprintable() else text
        if len(self._pasted) > self._longest + len(_PASTED):
            self._too_long = True
            del self._pasted[:-len(_PASTED)]
        return None


class LineEditor:
    """``prompt`` is one row of text. ``dumb``: the terminal knows no sequences, so it is not asked to mark pastes."""

    def __init__(self, prompt: str, width: int, *, dumb: bool = False, longest: int = LONGEST, history: int = HISTORY) -> None:
        self._whole_prompt, self._dumb, self._longest, self._most = prompt, dumb, longest, history
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._keys = Keys(longest)
        self._waiting: deque[str] = deque()
        self._history: deque[str] = deque()
        self._kept = 0
        self._place = 0
        self._draft = self._text = ""
        self._size = self._cursor = self._left = 0
        self._drawn, self._drawn_cursor = "", 0
        self._full = self._ended = False
        self._out: list[str] = []
        self.resize(width)

    # --- from outside

    @property
    def waiting(self) -> int:
        """Characters not looked at yet."""
        return len(self._waiting)

    def resize(self, width: int) -> None:
        """Holds for what is drawn next."""
        self._width = min(max(width or 80, _NARROWEST), WIDEST)
        self._prompt = self._whole_prompt
        while columns(self._prompt) > self._width // 2:
            self._prompt = self._prompt[1:]

    def begin(self) -> bytes:
        """Draw the prompt, with what has been typed of its line."""
        if not self._dumb:
            self._out.append(_PASTES)
        self._draw(anew=True)
        return self._taken()

    def feed(self, data: bytes) -> None:
        """Keys; ``step`` looks at them. Bytes that are no UTF-8 are dropped."""
        self._waiting.extend(self._decoder.decode(data))

    def forget(self) -> None:
        """What was typed and not looked at."""
        self._waiting.clear()

    def end(self) -> None:
        """No keys come any more: what was not submitted is no line."""
        self._ended = True

    def step(self) -> Step:
        """Up to the next line, or as far as there are keys; a few thousand at once."""
        for _ in range(min(len(self._waiting), _AT_ONCE)):
            key = self._keys.key(self._waiting.popleft())
            if key is not None and (step := self._pressed(*key)) is not None:
                return step
        self._draw()
        return Step(self._taken(), end=self._ended and not self._waiting)

    # --- keys

    def _pressed(self, name: str, text: str | None) -> Step | None:
        if name == "enter":
            return self._entered()
        if name == "end_or_delete" and not self._text:
            self._out.append(("" if self._dumb else _NO_PASTES) + "\r\n")
            return Step(self._taken(), end=True)
        if name == "text" and text is not None:
            self._insert(text)
        elif name == "paste":
            self._paste(text)
        else:
            _PRESSED[name](self)
        return None

    def _entered(self) -> Step:
        """A line of which something did not fit is another one than was meant: it does not run."""
        line, full = self._text, self._full
        self._draw()
        if self._drawn != line:
            self._out.append(f"\r{self._prompt}{line}")
        self._out.append(("" if self._dumb else _NO_PASTES) + "\r\n")
        self._remember(line)
        self._set("", 0)
        self._drawn = ""
        if full:
            return Step(self._taken(), line=line[:_BEGINNING], refusal=f"a line has at most {self._longest} bytes")
        return Step(self._taken(), line=line)

    def _insert(self, text: str) -> None:
        size = len(text.encode())
        if self._size + size > self._longest:
            if not self._full:
                self._out.append("\a")
            self._full = True
            return
        self._text = self._text[:self._cursor] + text + self._text[self._cursor:]
        self._size += size
        self._cursor += len(text)

    def _paste(self, text: str | None) -> None:
        if text is None or self._size + len(text.encode()) > self._longest:
            self._note("a paste is one line of text: this one is not taken")
        else:
            self._insert(text)

    def _set(self, text: str, cursor: int) -> None:
        """Another line. What did not fit is forgotten with all of it."""
        self._text, self._cursor, self._size = text, cursor, len(text.encode())
        self._full = self._full and bool(text)

    def _interrupt(self) -> None:
        self._draw()
        self._set("", 0)
        self._place, self._draft, self._drawn = len(self._history), "", ""
        self._out.append("^C\r\n")
        self._draw(anew=True)

    def _note(self, text: str) -> None:
        self._out.append(f"\a\r\nlockgate: {text}\r\n")
        self._draw(anew=True)

    def _home(self) -> None:
        self._cursor = 0

    def _end(self) -> None:
        self._cursor = len(self._text)

    def _go_left(self) -> None:
        self._cursor = max(0, self._cursor - 1)

    def _go_right(self) -> None:
        self._cursor = min(len(self._text), self._cursor + 1)

    def _cut(self, start: int, end: int) -> None:
        self._set(self._text[:start] + self._text[end:], start)

    def _backspace(self) -> None:
        self._cut(max(0, self._cursor - 1), self._cursor)

    def _delete(self) -> None:
        self._cut(self._cursor, self._cursor + 1)

    def _kill_left(self) -> None:
        self._cut(0, self._cursor)

    def _kill_right(self) -> None:
        self._cut(self._cursor, len(self._text))

    def _kill_word(self) -> None:
        kept = self._text[:self._cursor].rstrip(" ").rpartition(" ")
        self._cut(len(kept[0] + kept[1]), self._cursor)

    # --- earlier lines

    def _remember(self, line: str) -> None:
        if line.strip() and (not self._history or self._history[-1] != line):
            self._history.append(line)
            self._kept += len(line)
            while self._kept > self._most:
                self._kept -= len(self._history.popleft())
        self._place, self._draft = len(self._history), ""

    def _up(self) -> None:
        self._recall(self._place - 1)

    def _down(self) -> None:
        self._recall(self._place + 1)

    def _recall(self, place: int) -> None:
        """A copy: what is changed in it does not change the line it was."""
        if not 0 <= place <= len(self._history):
            return
        if self._place == len(self._history):
            self._draft = self._text
        self._place = place
        text = self._history[place] if place < len(self._history) else self._draft
        self._full = False
        self._set(text, len(text))

    # --- the screen

    def _taken(self) -> bytes:
        drawn = "".join(self._out).encode()
        self._out.clear()
        return drawn

    def _draw(self, *, anew: bool = False) -> None:
        """Bring the row up to date: by what was added at its end where that is all, else the whole of it."""
        before = self._left
        shown = self._visible()
        cursor = columns(self._text[self._left:self._cursor])
        if not anew and shown == self._drawn and cursor == self._drawn_cursor and before == self._left:
            return
        ends = cursor == columns(shown)
        at_end = self._drawn_cursor == columns(self._drawn)
        if not anew and ends and at_end and before == self._left and shown.startswith(self._drawn):
            self._out.append(shown[len(self._drawn):])
        else:
            gone = 0 if anew else max(0, columns(self._drawn) - columns(shown))
            self._out.append(f"\r{self._prompt}{shown}{' ' * gone}" + "\b" * (gone + columns(shown) - cursor))
        self._drawn, self._drawn_cursor = shown, cursor

    def _visible(self) -> str:
        """The part of the line that fits, with the cursor in it."""
        room = self._width - 1 - columns(self._prompt)
        if columns(self._text) <= room:
            self._left = 0
            return self._text
        self._left = min(self._left, self._cursor)
        if columns(self._text[self._left:self._cursor]) > room:
            start, used = self._cursor, 0
            while start and used + _column(self._text[start - 1]) <= room * 2 // 3:
                start -= 1
                used += _column(self._text[start])
            self._left = start
        end, used = self._left, 0
        while end < len(self._text) and used + _column(self._text[end]) <= room:
            used += _column(self._text[end])
            end += 1
        return self._text[self._left:end]


_PRESSED = {"home": LineEditor._home, "end": LineEditor._end, "left": LineEditor._go_left, "right": LineEditor._go_right,
            "interrupt": LineEditor._interrupt, "end_or_delete": LineEditor._delete, "delete": LineEditor._delete,
            "backspace": LineEditor._backspace, "kill_left": LineEditor._kill_left, "kill_right": LineEditor._kill_right,
            "kill_word": LineEditor._kill_word, "up": LineEditor._up, "down": LineEditor._down}
