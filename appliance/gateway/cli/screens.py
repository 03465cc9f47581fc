# SPDX-License-Identifier: Apache-2.0
"""What programs showed, on this terminal: drawn as they drew it, or as text whose every line is marked."""

from __future__ import annotations

from gateway.recording.replay import shown
from gateway.recording.screen import Screen, visible
from gateway.recording.terminal import Event

_MARK = "      "
_LONGEST = 4096


class Screens:
    """The programs of one session, by the number of their ``command.begin``. Gives text to write; ``plain`` marks every line."""

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain
        self._streams: dict[tuple[int, str], Screen] = {}
        self._lines: dict[tuple[int, str], str] = {}
        self._now = 0                   # whose output was written last
        self._open = False              # the cursor may be anywhere

    def show(self, begin: int, event: Event) -> str:
        """One event of a program."""
        if event.kind in "oe":
            key = (begin, event.kind)
            text = self._streams.setdefault(key, Screen(plain=self._plain)).feed(event.data)
            return self._marked(key, text) if self._plain else self._drawn(begin, text)
        if event.kind == "x":
            return self.ends(begin)
        note = _note(event)
        return self.aside() + f"{_MARK}({note})\n" if note else ""

    def aside(self) -> str:
        """Before a line of the replay's own: the cursor at the beginning of a line, in no colour."""
        if not self._open:
            return ""
        self._open, self._now = False, 0
        return "\x1b[0m\r\n"

    def ends(self, begin: int) -> str:
        """A program is over: what it had not finished, and its screen undone."""
        out = []
        for key in [key for key in self._streams if key[0] == begin]:
            rest = self._streams.pop(key).close()
            if self._plain:
                out.append(self._marked(key, rest))
                left = self._lines.pop(key, "")
                out.append(_line(key, left) if left else "")
            else:
                out.append(self._drawn(begin, rest))
        return "".join(out)

    def close(self) -> str:
        """Everything is over."""
        return "".join(self.ends(begin) for begin in sorted({key[0] for key in self._streams})) + self.aside()

    def _drawn(self, begin: int, text: str) -> str:
        if not text:
            return ""
        switch = f"{self.aside()}{_MARK}(#{begin} goes on)\n" if self._open and self._now != begin else ""
        self._now, self._open = begin, True
        return switch + text

    def _marked(self, key: tuple[int, str], text: str) -> str:
        *whole, rest = (self._lines.get(key, "") + text).split("\n")
        if len(rest) > _LONGEST:
            whole, rest = [*whole, rest], ""
        self._lines[key] = rest
        return "".join(_line(key, line) for line in whole)


def _line(key: tuple[int, str], text: str) -> str:
    return f"{_MARK}{'!' if key[1] == 'e' else '|'} {shown(text.rstrip(chr(13)).expandtabs(8))}\n"


def _note(event: Event) -> str:
    text = visible(event.data.decode("utf-8", "replace"), "")
    match event.kind:
        case "r":
            return f"screen {text}"
        case "s":
            return f"signal {text}"
        case "v":
            return f"environment {text}"
        case "c":
            return "from here on output was not kept"
        case "h":
            return f"not kept: {text.replace(' ', ' bytes, sha256 ')}"
        case "i":
            return f"typed {shown(text)}"
    return ""
