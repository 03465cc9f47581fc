# SPDX-License-Identifier: Apache-2.0
"""A program's output for somebody else's terminal: what draws passes, what makes a terminal answer, remember or lie does not (T53). Pure.

Passed: text; tabs, backspaces, returns; colours (SGR); moving and erasing on the screen; lines and characters inserted and deleted; the
alternate buffer, the scrolling region and a hidden cursor, all undone at the end. Everything else is dropped, whatever it is: titles and
clipboard (OSC), reports (DSR, DA, DECRQM), strings (DCS, APC, PM, SOS), mouse and paste modes, character sets, resets, printing.
Bidirectional and 8-bit controls are shown as escapes.
"""

from __future__ import annotations

import codecs
import re

_FINALS = frozenset("ABCDEFGHJKLMPSTXZ@`adefmrsu")
"""CSI sequences (ECMA-48) that move, erase, insert, delete, scroll or colour."""
_MODES = {"7": "h", "25": "h", "47": "l", "1047": "l", "1048": "", "1049": "l"}
"""DEC private modes that may be set, and which letter undoes them."""
_CSI = re.compile(r"\x1b\[([0-?]*)([ -/]*)([@-~])")
_CSI_PART = re.compile(r"\x1b\[[0-?]*[ -/]*\Z")
_OTHER = re.compile(r"\x1b[ -/]+[0-~]|\x1b[0-OQ-WYZ`-~\\]")
_OTHER_PART = re.compile(r"\x1b[ -/]*\Z")
_STRING = re.compile(r"\x1b[PX\]^_]")
_STRING_END = re.compile(r"\x07|\x1b\\|[\x9c\x18\x1a]|\x1b(?=[^\\])")
_PLAIN_ESCAPES = {"\x1b7", "\x1b8", "\x1bD", "\x1bE", "\x1bM"}
_PARAMETERS = re.compile(r"[0-9;:]{0,64}")
_SPECIAL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
                      "\U000e0000-\U000e0fff\ud800-\udfff]")
_LONGEST_STRING = 65536
_LONGEST_SEQUENCE = 256
_LONGEST_TITLE = 256


def visible(text: str, kept: str = "\t\n\r\b") -> str:
    """Text with everything that does not show as itself written as an escape; ``kept`` stays, BEL and NUL go."""
    return _SPECIAL.sub(lambda found: found[0] if found[0] in kept else "" if found[0] in "\x00\x07\x7f"
                        else found[0].encode("unicode_escape", "surrogatepass").decode(), text)


class Screen:
    """One stream of output. ``plain`` passes text alone: no sequence, no cursor movement; but a string that is long, has lines or does not
    end is text, so that nothing a program printed is hidden in one."""

    def __init__(self, *, plain: bool = False) -> None:
        self._plain = plain
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._string = -1               # characters of a string sequence so far; -1 outside of one
        self._hidden: list[str] = []    # what the string was so far, where that may be shown
        self._undo: dict[str, str] = {}

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """What may be shown of it. A character or sequence that is not whole waits for its rest."""
        text = self._held + self._decoder.decode(data, final)
        self._held = ""
        out: list[str] = []
        at = 0
        while at < len(text):
            at = self._in_string(text, at, out) if self._string >= 0 else self._next(text, at, out)
        return "".join(out)

    def close(self) -> str:
        """The end of the stream: what puts the terminal back as it was."""
        rest = self.feed(b"", final=True)
        rest += visible("".join(self._hidden))
        self._held, self._string, self._hidden = "", -1, []
        undo = "".join(self._undo.values())
        self._undo.clear()
        return rest + undo

    def _next(self, text: str, at: int, out: list[str]) -> int:
        escape = text.find("\x1b", at)
        stop = escape if escape >= 0 else len(text)
        if stop > at:
            out.append(visible(text[at:stop]))
            return stop
        if (found := _CSI.match(text, at)) is not None:
            out.append(self._sequence(found))
            return found.end()
        if _STRING.match(text, at) is not None:
            self._string = 0
            self._hidden = [text[at:at + 2]] if self._plain else []
            return at + 2
        if (found := _OTHER.match(text, at)) is not None:
            out.append(found[0] if found[0] in _PLAIN_ESCAPES and not self._plain else "")
            return found.end()
        part = _CSI_PART.match(text, at) or _OTHER_PART.match(text, at)
        if part is not None and len(text) - at <= _LONGEST_SEQUENCE:
            self._held = text[at:]
            return len(text)
        return at + 1               # an escape that begins nothing

    def _in_string(self, text: str, at: int, out: list[str]) -> int:
        found = _STRING_END.search(text, at)
        room = _LONGEST_STRING - self._string
        if found is not None and found.start() - at <= room:
            self._over(text[at:found.start()], out)
            return found.end() if found[0] != "\x1b" else found.start()
        if len(text) - at > room:
            self._over(text[at:at + room], out)     # nobody sends that: show what comes
            return at + room
        last = len(text) - (text[-1] == "\x1b")
        self._held, self._string = text[last:], self._string + last - at
        if self._plain:
            self._hidden.append(text[at:last])
        return len(text)

    def _over(self, rest: str, out: list[str]) -> None:
        """A string has ended."""
        self._string = -1
        if self._plain:
            whole = "".join((*self._hidden, rest))
            if "\n" in whole or len(whole) > _LONGEST_TITLE:
                out.append(visible(whole))
        self._hidden = []

    def _sequence(self, found: re.Match[str]) -> str:
        parameters, between, final = found.groups()
        if self._plain or between or len(found[0]) > _LONGEST_SEQUENCE:
            return ""
        if parameters.startswith("?") and final in "hl":
            return "".join(self._mode(number, final) for number in parameters[1:].split(";"))
        if final not in _FINALS or not _PARAMETERS.fullmatch(parameters):
            return ""
        if final == "m":
            self._undo["m"] = "\x1b[0m"
        elif final == "r":
            self._undo["r"] = "\x1b[r"
        return found[0]

    def _mode(self, number: str, final: str) -> str:
        undo = _MODES.get(number)
        if undo is None:
            return ""
        if undo and final != undo:
            self._undo[number] = f"\x1b[?{number}{undo}"
        else:
            self._undo.pop(number, None)
        return f"\x1b[?{number}{final}"
