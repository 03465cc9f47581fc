# SPDX-License-Identifier: Apache-2.0
"""What a match of a pattern may begin with: from a pattern in RE2 syntax to one that finds the beginning of a match at the end of a text.

RE2 does not say whether a text that ends could go on to match. ``beginnings()`` writes the pattern that does: of a sequence ``abc`` it is
``(?:a(?:b)?)?``, of ``x{2,9}`` it is ``x{0,8}`` and then a beginning of ``x``. A whole match that could not grow is no beginning, unless it
ends with an assertion, which the next byte decides. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CLASSES = "dDsSwW"
_ASSERTIONS = "bBAz"
_REPEAT = re.compile(r"(?:[*+?]|\{(\d+)(?:(,)(\d*))?\})\??")
_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*\]", re.DOTALL)
_OPENED = re.compile(r"\((?:\?(?:P?<[A-Za-z0-9_]+>|([imsU]*(?:-[imsU]+)?):))?")
_FLAGS = re.compile(r"\(\?([imsU]+)\)")
_ESCAPE = re.compile(r"\\(?:p(?:\{\^?\w+\}|\w)|P(?:\{\^?\w+\}|\w)|x(?:\{[0-9A-Fa-f]+\}|[0-9A-Fa-f]{2})|[dDsSwWbBAzafnrtv]|[^A-Za-z0-9])")


class NotUnderstood(ValueError):
    """A construct whose beginnings are not known here."""


@dataclass(frozen=True, slots=True)
class _Part:
    """``full`` as it was written, ``start`` what finds a beginning; ``literal`` bytes that it is made of, -1 for anything else."""

    full: str
    start: str
    literal: int = -1


@dataclass(frozen=True, slots=True)
class Beginnings:
    """``pattern`` matches any beginning of a match at the end of a text (and the empty text there). ``fixed``: bytes that every match
    begins with, 0 where the pattern is nothing else."""

    pattern: str
    fixed: int


def beginnings(pattern: str) -> Beginnings:
    """Raises ``NotUnderstood``, or ``ValueError`` for a pattern that names a line break: streams are looked at line by line."""
    flags = _FLAGS.match(pattern)
    head = flags.group() if flags else ""
    reader = _Reader(pattern, len(head))
    part = reader.alternatives()
    if reader.at != len(pattern):
        raise NotUnderstood("a bracket too many")
    return Beginnings(f"{head}(?:{part.start})\\z", reader.fixed)


class _Reader:
    """A recursive descent over what RE2 takes; what it has no rule for raises ``NotUnderstood``."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at, self.fixed = text, at, 0

    def alternatives(self, depth: int = 0) -> _Part:
        if depth > 8:
            raise NotUnderstood("too deep")
        found = [self._sequence(depth)]
        while self._peek() == "|":
            self.at += 1
            found.append(self._sequence(depth))
        if len(found) > 1 and not depth:
            self.fixed = 0
        return _Part("|".join(part.full for part in found), "|".join(f"(?:{part.start})" for part in found))

    def _sequence(self, depth: int) -> _Part:
        parts: list[_Part] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(depth))
        if not depth and not self.fixed:
            leading = next((index for index, part in enumerate(parts) if part.literal < 0), -1)
            self.fixed = sum(part.literal for part in parts[:leading]) if leading > 0 else 0
        start = ""
        for index in range(len(parts) - 1, -1, -1):
            part = parts[index]
            start = part.start if index == len(parts) - 1 else f"(?:{part.start})|(?:{part.full})(?:{start})"
        return _Part("".join(part.full for part in parts), start)

    def _repeated(self, depth: int) -> _Part:
        part = self._atom(depth)
        found = _REPEAT.match(self.text, self.at)
        if found is None:
            return part
        self.at = found.end()
        if _REPEAT.match(self.text, self.at):
            raise NotUnderstood("a repetition of a repetition")
        before = _before_last(found)
        return _Part(f"(?:{part.full}){found.group()}", f"(?:{part.full}){before}(?:{part.start})" if before else part.start)

    def _atom(self, depth: int) -> _Part:
        sign = self._peek()
        if sign == "(":
            return self._group(depth)
        if sign == "[":
            return self._taken(_CLASS)
        if sign == "\\":
            return self._escape()
        if sign in "*+?":
            raise NotUnderstood("nothing to repeat")
        self.at += 1
        if sign == "\n":
            raise ValueError("expected a pattern without a line break: output is looked at line by line")
        return _Part(sign, "", -1 if sign in ".^$" else len(sign.encode()))

    def _group(self, depth: int) -> _Part:
        found = _OPENED.match(self.text, self.at)
        if found is None or self.text.startswith("(?", self.at) and found.end() - self.at < 3:
            raise NotUnderstood("a kind of group")
        self.at = found.end()
        inner = self.alternatives(depth + 1)
        if self._peek() != ")":
            raise NotUnderstood("a bracket that is not closed")
        self.at += 1
        opened = f"(?{found.group(1)}:" if found.group(1) else "(?:"
        return _Part(f"{opened}{inner.full})", f"{opened}{inner.start})")

    def _escape(self) -> _Part:
        part = self._taken(_ESCAPE)
        if part.full == "\\n":
            raise ValueError("expected a pattern without a line break: output is looked at line by line")
        one = len(part.full) == 2 and part.full[1] not in _CLASSES + _ASSERTIONS
        return _Part(part.full, "", len(part.full[1].encode()) if one else -1)

    def _taken(self, kind: re.Pattern[str]) -> _Part:
        found = kind.match(self.text, self.at)
        if found is None:
            raise NotUnderstood("an escape or a class")
        self.at = found.end()
        return _Part(found.group(), "")

    def _peek(self) -> str:
        return self.text[self.at:self.at + 1]


def _before_last(found: re.Match[str]) -> str:
    """How often the repeated part may stand whole before one that is not: a repetition, empty for never."""
    sign = found.group()[0]
    if sign in "*+":
        return "*"
    if sign == "?":
        return ""
    least, comma, most = found.groups()
    if comma and not most:
        return "*"
    last = int(most or least) - 1
    return f"{{0,{last}}}" if last > 0 else ""
