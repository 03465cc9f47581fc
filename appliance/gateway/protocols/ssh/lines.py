# SPDX-License-Identifier: Apache-2.0
"""Lines as a person types them, for the restricted shell: what is typed becomes lines and an echo. Pure.

Understood: printable text in UTF-8, Enter, Backspace, Ctrl-U (forget the line), Ctrl-W (forget a word), Ctrl-C, Ctrl-D. Everything else,
escape sequences included, is dropped: what is not shown is not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LONGEST = 4096
"""Bytes of a line."""
_ESCAPE = 0x1B


@dataclass(frozen=True, slots=True)
class Typed:
    """``line``: submitted, its text; ``interrupt``: Ctrl-C; ``end``: Ctrl-D on an empty line, or the end of the stream."""

    kind: Literal["line", "interrupt", "end"]
    text: str = ""


class Lines:
    """``echo``: there is a terminal, and its user sees what is typed."""

    def __init__(self, *, echo: bool) -> None:
        self._echo = echo
        self._line = bytearray()
        self._escape = ""
        self._shown = bytearray()
        self._after_return = False

    def shown(self) -> bytes:
        """What the terminal should show of what was fed since."""
        shown, self._shown = bytes(self._shown), bytearray()
        return shown if self._echo else b""

    def feed(self, data: bytes) -> list[Typed]:
        found: list[Typed] = []
        for byte in data:
            typed = self._byte(byte)
            if typed is not None:
                found.append(typed)
        return found

    def end(self) -> list[Typed]:
        """Nothing comes any more. A last line without its end is a line where there is no terminal."""
        last = [self._submit()] if self._line and not self._echo else []
        return [*last, Typed("end")]

    def _byte(self, byte: int) -> Typed | None:
        if not self._echo:
            if byte == 0x0A:
                return self._submit()
            self._take(byte)
            return None
        if self._escape or byte == _ESCAPE:
            self._skip(byte)
            return None
        after, self._after_return = self._after_return, byte == 0x0D
        if byte == 0x0A and after:
            return None
        return self._key(byte)

    def _key(self, byte: int) -> Typed | None:
        match byte:
            case 0x0D | 0x0A:
                self._shown += b"\r\n"
                return self._submit()
            case 0x03:
                self._line.clear()
                self._shown += b"^C\r\n"
                return Typed("interrupt")
            case 0x04:
                return None if self._line else Typed("end")
            case 0x7F | 0x08:
                self._rub(1)
            case 0x15:
                self._rub(len(self._line))
            case 0x17:
                text = self._line.decode("utf-8", "replace")
                self._rub(len(text) - text.rstrip().rfind(" ") - 1)
            case _ if byte >= 0x20:
                if self._take(byte):
                    self._shown.append(byte)
        return None

    def _take(self, byte: int) -> bool:
        """A line that is too long loses its end, and with it is refused: see ``_submit``."""
        if len(self._line) > LONGEST:
            return False
        self._line.append(byte)
        return True

    def _rub(self, characters: int) -> None:
        text = self._line.decode("utf-8", "replace")
        kept = text[:max(len(text) - characters, 0)]
        self._line = bytearray(kept.encode())
        self._shown += b"\b \b" * (len(text) - len(kept))

    def _skip(self, byte: int) -> None:
        """An escape sequence: ``ESC [ … final`` or ``ESC O final``, or ESC and one more (ECMA-48)."""
        if not self._escape:
            self._escape = "esc"
        elif self._escape == "esc" and byte in (0x5B, 0x4F):
            self._escape = "final"
        elif self._escape == "esc" or 0x40 <= byte <= 0x7E:
            self._escape = ""

    def _submit(self) -> Typed:
        line, self._line = bytes(self._line), bytearray()
        if len(line) > LONGEST:
            return Typed("line", "\0")                 # longer than a line may be: refused where all commands are
        return Typed("line", line.decode("utf-8", "surrogateescape"))
