# SPDX-License-Identifier: Apache-2.0
"""Literal tokens in SQL text, by PostgreSQL's own lexical rules (manual 4.1; standard_conforming_strings is on)."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SPACE = re.compile(r"(?:[ \t\n\r\f\v]+|--[^\n\r]*)+")
_NUMBER = re.compile(
    r"0[xX](?:_?[0-9A-Fa-f])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+"
    r"|(?:(?:[0-9](?:_?[0-9])*)?\.[0-9](?:_?[0-9])*|[0-9](?:_?[0-9])*\.?)(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)
_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")
_DOLLAR = re.compile(r"\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$")
_PARAMETER = re.compile(r"\$[0-9]+")
_CONTINUED = re.compile(r"(?:[ \t\f\v]++|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]++|--[^\n\r]*+[\n\r])*+'")
"""Possessive: ``--`` may stand within a comment, and there are 2ⁿ ways to read n of them."""
_COMMENT_MARK = re.compile(r"/\*|\*/")
_SHOWN = "****"


def skip_space(text: str, at: int) -> int:
    """The offset after white space and comments (which nest)."""
    while True:
        found = _SPACE.match(text, at)
        if found:
            at = found.end()
        elif text.startswith("/*", at):
            at = _after_comment(text, at)
        else:
            return at


def _after_comment(text: str, at: int) -> int:
    depth = 0
    for found in _COMMENT_MARK.finditer(text, at):
        depth += 1 if found.group() == "/*" else -1
        if not depth:
            return found.end()
    return len(text)


def _after_quotes(text: str, at: int, *, escapes: bool) -> int:
    """The offset after a string whose opening quote is at ``at``, its continuation lines included."""
    at += 1
    while at < len(text):
        character = text[at]
        if character == "'" and text.startswith("''", at):
            at += 2
        elif character == "'":
            more = _CONTINUED.match(text, at + 1)
            if not more:
                return at + 1
            at = more.end()
        else:
            at += 2 if escapes and character == "\\" else 1
    return len(text)


def _after_identifier(text: str, at: int) -> int:
    while True:
        end = text.find('"', at + 1)
        if end < 0:
            return len(text)
        if not text.startswith('""', end):
            return end + 1
        at = end + 1


class Token:
    """``kind``: string, number, word, identifier, parameter or symbol; ``start`` and ``end`` are character offsets."""

    __slots__ = ("end", "kind", "start")

    def __init__(self, kind: str, start: int, end: int) -> None:
        self.kind = kind
        self.start = start
        self.end = end


def token_at(text: str, at: int) -> Token:
    """The token that starts at ``at``; never empty before the end of the text."""
    character = text[at : at + 1]
    if character == "'":
        return Token("string", at, _after_quotes(text, at, escapes=False))
    if character == '"':
        return Token("identifier", at, _after_identifier(text, at))
    if character == "$":
        return _dollar(text, at)
    if character.isdigit() or (character == "." and text[at + 1 : at + 2].isdigit()):
        found = _NUMBER.match(text, at)
        return Token("number", at, found.end() if found else at + 1)
    if character in "eEbBxXnNuU" and character:
        prefixed = _prefixed(text, at, character)
        if prefixed:
            return prefixed
    word = _WORD.match(text, at)
    return Token("word", at, word.end()) if word else Token("symbol", at, min(at + 1, len(text)))


def _prefixed(text: str, at: int, character: str) -> Token | None:
    if character in "uU":
        if text.startswith("&'", at + 1):
            return Token("string", at, _after_quotes(text, at + 2, escapes=False))
        return Token("identifier", at, _after_identifier(text, at + 2)) if text.startswith('&"', at + 1) else None
    if text.startswith("'", at + 1):
        return Token("string", at, _after_quotes(text, at + 1, escapes=character in "eE"))
    return None


def _dollar(text: str, at: int) -> Token:
    opening = _DOLLAR.match(text, at)
    if opening:
        end = text.find(opening.group(), opening.end())
        return Token("string", at, len(text) if end < 0 else end + len(opening.group()))
    parameter = _PARAMETER.match(text, at)
    return Token("parameter", at, parameter.end()) if parameter else Token("symbol", at, at + 1)


def tokens(text: str, start: int = 0, end: int | None = None) -> Iterator[Token]:
    """Every token from ``start`` on, white space and comments left out."""
    end = len(text) if end is None else end
    at = skip_space(text, start)
    while at < end:
        found = token_at(text, at)
        yield found
        at = skip_space(text, max(found.end, at + 1))


def literal_span(text: str, at: int) -> tuple[int, int]:
    """The literal token at, or after a sign at, this offset: (start, end)."""
    at = skip_space(text, at)
    while text[at : at + 1] in ("-", "+") and text[at : at + 1]:
        at = skip_space(text, at + 1)
    found = token_at(text, at)
    return found.start, found.end


def string_after(text: str, at: int, end: int) -> tuple[int, int] | None:
    """The first string literal from ``at`` on and before ``end``."""
    return next(((t.start, t.end) for t in tokens(text, at, end) if t.kind == "string"), None)


def hide_all_literals(text: str) -> str:
    """The text with every quoted literal and every number of four or more digits replaced, for what cannot be parsed.

    Comments go too: a comment of a text that does not parse may be half a string.
    """
    parts: list[str] = []
    last = 0
    for found in tokens(text):
        gap = text[last : found.start]
        parts.append(gap if gap.isspace() or not gap else " ")
        hidden = found.kind == "string" or (found.kind == "number" and sum(c.isdigit() for c in text[found.start : found.end]) >= 4)
        unfinished = found.kind == "identifier" and not text.endswith('"', found.start, found.end)
        long_word = found.kind == "word" and sum(c.isdigit() for c in text[found.start : found.end]) >= 4
        parts.append(_SHOWN if hidden or unfinished or long_word else text[found.start : found.end])
        last = found.end
    return "".join(parts)
