# SPDX-License-Identifier: Apache-2.0
"""A command's text to the words of its simple commands, as a POSIX shell would split it (IEEE 1003.1, Shell Command Language 2.2, 2.3).

Only what every shell reads alike is *simple*: words of plain or quoted characters, and lists of such commands joined by ``;``, ``&&``,
``||``, ``|`` and ``&``. Everything else is ``complex``, with the reason: whatever a shell expands, redirects, defines or decides, and
characters that a reader cannot see. Decision 0029 says why.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MOST_WORDS = 4096
MOST_COMMANDS = 256
STAR, ONE = "\ue000", "\ue001"
"""Stand for ``*`` and ``?`` that are globs, in a pattern's words. They are for private use: no text that is simple has them."""

RESERVED = frozenset({
    "if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "in", "select", "function", "time", "coproc",
    "{", "}", "!", "[[", "]]", "repeat", "foreach", "end", "nocorrect", "noglob", "-", "begin", "switch", "not", "and", "or"})
"""Words that are no command where a command is expected: of POSIX, bash, ksh, zsh and fish."""

UNSURE: Mapping[str, str] = {
    "$": "a substitution ($)", "`": "a substitution (`)", "<": "a redirection", ">": "a redirection",
    "(": "a parenthesis", ")": "a parenthesis",
    "[": "an unquoted glob", "]": "an unquoted glob", "*": "an unquoted glob", "?": "an unquoted glob",
    "!": "an exclamation mark outside of '…'", "^": "an unquoted ^", "#": "a comment", "~": "an unquoted tilde", "{": "an unquoted brace",
    "}": "an unquoted brace",
}
"""Unquoted characters that make a text complex. ``#``, ``~``, ``{`` and ``}`` only where a shell could see more in them than themselves."""

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
_SELECTORS = (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(map(chr, _SELECTORS))
"""Characters of other categories that show nothing (Unicode: Default_Ignorable_Code_Point, and the empty Braille pattern)."""


@dataclass(frozen=True, slots=True)
class Line:
    """The words of each simple command, in order; or, in ``complex``, why there are none."""

    commands: tuple[tuple[str, ...], ...]
    complex: str = ""


class _Unsure(Exception):
    """Not surely a list of simple commands; the message is the reason."""


def split(text: str, *, globs: bool = False) -> Line:
    """The simple commands of a text. ``globs``: for a pattern, whose unquoted ``*`` and ``?`` become ``STAR`` and ``ONE``."""
    try:
        return Line(tuple(_Splitter(text, globs).run()))
    except _Unsure as why:
        return Line((), str(why))


def hidden(text: str) -> str:
    """What a reader of the text could not see, in words; empty where all of it shows."""
    if text.isascii() and text.isprintable():
        return ""
    for character in text:
        if character != " " and (character in _BLANK or unicodedata.category(character) in _INVISIBLE):
            kind = "a control character" if unicodedata.category(character) == "Cc" else "an invisible character"
            return f"{kind} (U+{ord(character):04X})"
    return ""


class _Splitter:
    """One walk over one text."""

    def __init__(self, text: str, globs: bool) -> None:
        self._text, self._globs = text, globs
        self._at = 0
        self._word: list[str] | None = None
        self._words: list[str] = []
        self._commands: list[tuple[str, ...]] = []
        self._count = 0
        self._more = False          # an operator that wants a command after it

    def run(self) -> list[tuple[str, ...]]:
        if found := hidden(self._text):
            raise _Unsure(found)
        while self._at < len(self._text):
            character = self._text[self._at]
            _STEPS.get(character, _Splitter._plain)(self, character)
        self._end_word()
        if self._words:
            self._end_command()
        elif self._more or not self._commands:
            raise _Unsure("a command that is missing" if self._commands else "no command")
        return self._commands

    # --- characters

    def _plain(self, character: str) -> None:
        self._add(character)
        self._at += 1

    def _space(self, character: str) -> None:
        self._end_word()
        self._at += 1

    def _unsure(self, character: str) -> None:
        raise _Unsure(UNSURE[character])

    def _glob(self, character: str) -> None:
        if not self._globs:
            raise _Unsure(UNSURE[character])
        self._add(STAR if character == "*" else ONE)
        self._at += 1

    def _at_start(self, character: str) -> None:
        """``#`` begins a comment, ``=`` the path of a command (zsh), only where a word begins."""
        if self._word is None:
            raise _Unsure(UNSURE.get(character, f"a word that begins with {character}"))
        self._plain(character)

    def _tilde(self, character: str) -> None:
        """Nothing but itself after a letter or digit of the same word, as in ``main~1``."""
        before = self._text[self._at - 1] if self._at else ""
        if self._word is None or not (before.isascii() and before.isalnum()):
            raise _Unsure(UNSURE[character])
        self._plain(character)

    def _brace(self, character: str) -> None:
        """``{}`` is itself; a word of it alone is what find and xargs fill in."""
        if not self._text.startswith("{}", self._at) or self._text[self._at + 2:self._at + 3] not in ("", " ", ";", "&", "|"):
            raise _Unsure(UNSURE[character])
        if self._word is not None:
            raise _Unsure(UNSURE[character])
        self._add("{}")
        self._at += 2

    # --- quotes

    def _single(self, character: str) -> None:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise _Unsure("a quote that does not end")
        self._add(self._text[self._at + 1:end])
        self._at = end + 1

    def _escape(self, character: str) -> None:
        self._not_swallowed()
        if self._at + 1 >= len(self._text):
            raise _Unsure("a backslash with nothing after it")
        self._add(self._text[self._at + 1])
        self._at += 2

    def _double(self, character: str) -> None:
        self._add("")
        self._at += 1
        while (inside := self._text[self._at:self._at + 1]) != '"':
            if not inside:
                raise _Unsure("a quote that does not end")
            if inside in "$`!":
                raise _Unsure(UNSURE[inside])
            if inside == "\\":
                self._not_swallowed()
                self._at += self._text[self._at + 1:self._at + 2] in ("$", "`", '"', "\\")
            self._add(self._text[self._at:self._at + 1])
            self._at += 1
        self._at += 1

    def _not_swallowed(self) -> None:
        """In some encodings of East Asia a byte of the character before could take ``\\`` or ``|`` for its second half."""
        if self._at and not self._text[self._at - 1].isascii():
            raise _Unsure("a character that may be read together with the next one")

    # --- operators

    def _operator(self, character: str) -> None:
        if character == "|":
            self._not_swallowed()
        self._end_word()
        self._end_command()
        double = character != ";" and self._text.startswith(character * 2, self._at)
        self._at += 1 + double
        self._more = double or character == "|"

    def _add(self, text: str) -> None:
        if self._word is None:
            self._word = []
        self._word.append(text)

    def _end_word(self) -> None:
        if self._word is not None:
            self._count += 1
            if self._count > MOST_WORDS:
                raise _Unsure(f"more than {MOST_WORDS} words")
            self._words.append("".join(self._word))
            self._word = None

    def _end_command(self) -> None:
        if not self._words:
            raise _Unsure("a command that is missing")
        if len(self._commands) >= MOST_COMMANDS:
            raise _Unsure(f"more than {MOST_COMMANDS} commands")
        if found := _no_command(self._words[0]):
            raise _Unsure(found)
        self._commands.append(tuple(self._words))
        self._words = []


def _no_command(name: str) -> str:
    """Why a first word is none of a simple command, or not surely."""
    if name in RESERVED:
        return f"the reserved word {name}"
    if "=" in name:
        return "an assignment"
    if name.startswith("%"):
        return "the name of a job"
    return "" if name else "a command without a name"


_STEPS: Mapping[str, Callable[[_Splitter, str], None]] = {
    **dict.fromkeys("$`<>()[]!^", _Splitter._unsure), **dict.fromkeys("*?", _Splitter._glob), **dict.fromkeys("#=", _Splitter._at_start),
    **dict.fromkeys("{}", _Splitter._brace), **dict.fromkeys(";&|", _Splitter._operator),
    " ": _Splitter._space, "~": _Splitter._tilde, "'": _Splitter._single, '"': _Splitter._double, "\\": _Splitter._escape,
}
