# SPDX-License-Identifier: Apache-2.0
"""What is looked for in a stream of bytes: each kind of secret says which bytes are one, and from where on it cannot tell yet.

A *span* is ``(start, end, shown)``: bytes to be replaced, by ``****`` where ``shown`` is ``None``. A *spotter* looks at the bytes from
``begin`` on (what stands before is context, looked at already) and gives the spans in them and the first byte that may yet become part
of one. What it says of the same bytes does not depend on how they arrived. Something that grows longer than ``LIMIT`` before it is
decided is masked as it comes, until it cannot go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol, cast

import re2

from gateway.masking.detect import HEX_REACH, card_spans, hexadecimal
from gateway.masking.patterns import Pattern, compile_pattern
from gateway.masking.prefix import NotUnderstood, beginnings
from gateway.masking.rules import MaskRule

LIMIT = 8192
"""Bytes that are held, at most, until something is decided."""
CONTEXT = 64
"""Bytes that stay visible to spotters after they went out."""
_MEMORY = 32 << 20

Span = tuple[int, int, bytes | None]
Seen = tuple[list[Span], int]
"""The spans, and the first byte that is not decided; the length of the text where all are."""


class Spotter(Protocol):
    open: bool
    """Within something that has grown too long: masked until it cannot go on."""

    def look(self, text: bytes, begin: int, *, final: bool) -> Seen:
        """``final``: nothing comes after ``text``."""

    def known(self, text: bytes, start: int) -> int:
        """Up to where what may begin at ``start`` (undecided) may be seen although it could be a secret: its stem, which tells nothing."""


def masked(rule: MaskRule, text: bytes) -> bytes | None:
    """What a rule shows of a finding; ``None`` for ``****``."""
    if rule.kind == "redact" or len(text) > LIMIT:
        return None
    return rule.apply(text.decode(errors="replace")).encode()


def _partial(pattern: str) -> Pattern:
    return compile_pattern(beginnings(pattern).pattern, _MEMORY)


def _begins(pattern: Pattern, text: bytes, begin: int, reach: int) -> int:
    """Where the longest beginning at the end of the text starts, of the last ``reach`` bytes."""
    first = max(begin, len(text) - reach)
    found = pattern.search(text[first:])
    return first + found.start() if found is not None else len(text)


class AccessKeys:
    """``AKIA…`` and ``ASIA…``, twenty characters; the first four tell nothing."""

    open = False

    def __init__(self, rule: MaskRule) -> None:
        self._rule = rule
        self._stem, self._rest = compile_pattern("[KS]IA"), re.compile(rb"[A-Z0-9]{0,16}")
        self._tail = _partial("A[KS]IA")

    def look(self, text: bytes, begin: int, *, final: bool) -> Seen:
        spans: list[Span] = []
        live = len(text)
        for found in _from(self._stem, text, begin):
            start, stem = found[0] - 1, found[1]
            if start < begin or text[start] != 0x41:
                continue
            end = _matched(self._rest, text, stem)
            if end - start == 20:
                spans.append((start, end, masked(self._rule, text[start:end])))
            elif end == len(text) and not final:
                live = min(live, start)
        return spans, live if final else min(live, _begins(self._tail, text, begin, 3))

    def known(self, text: bytes, start: int) -> int:
        return start + 4


class Tokens:
    """JWT: from ``eyJ`` to the end of the run of letters a token is made of."""

    def __init__(self, rule: MaskRule) -> None:
        self._rule = rule
        self._run, self._end = compile_pattern(r"eyJ[A-Za-z0-9_-]{6}[A-Za-z0-9_.-]*"), re.compile(rb"[^A-Za-z0-9_.-]")
        self._whole = compile_pattern(r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*\.")
        self._tail = _partial("eyJ[A-Za-z0-9_-]{6}")
        self.open = False

    def look(self, text: bytes, begin: int, *, final: bool) -> Seen:
        size, spans = len(text), list[Span]()
        at = begin
        if self.open:
            at = _until(self._end, text, begin)
            spans.append((begin - 1, at, None))
            if at == size:
                return spans, size
            self.open = False
        for start, end in _from(self._run, text, at):
            if end - start > LIMIT:
                self.open = end == size and not final
                spans.append((start, end, None))
            elif end == size and not final:
                return spans, start
            elif (found := self._whole.search(text[start:end])) is not None:
                spans.append((start + found.start(), end, masked(self._rule, text[start + found.start():end])))
        return spans, size if final or self.open else _begins(self._tail, text, at, 8)

    def known(self, text: bytes, start: int) -> int:
        return start + 3


_HEADER = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_FOOTER = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_MARKER = 128
"""Longer than any of the two lines."""


class PrivateKeys:
    """PEM and OpenSSH keys: from the header to the footer, or as far as the bytes can belong to a key. The header tells nothing."""

    def __init__(self, rule: MaskRule) -> None:
        self._rule = rule
        self._header, self._tail = compile_pattern(_HEADER), _partial(_HEADER)
        self._footer = re.compile(_FOOTER.encode() + rb"|[^A-Za-z0-9+/=\s\\:,.\-]")
        self.open = False

    def look(self, text: bytes, begin: int, *, final: bool) -> Seen:
        size, spans, at = len(text), list[Span](), begin
        while True:
            start = begin - 1
            if self.open:
                body = begin
            elif (found := _first(self._header, text, at)) is not None:
                start, body = found
            else:
                return spans, size if final else _begins(self._tail, text, at, _MARKER)
            end = self._end(text, body)
            if end < 0 and not final:
                return self._unfinished(spans, text, start)
            at = end if end >= 0 else size
            spans.append((start, at, None if self.open else masked(self._rule, text[start:at])))
            self.open = False

    def _end(self, text: bytes, body: int) -> int:
        found = _first(self._footer, text, body)
        return -1 if found is None else found[1] if found[1] - found[0] > 1 and text[found[0]] == 0x2D else found[0]

    def _unfinished(self, spans: list[Span], text: bytes, start: int) -> Seen:
        size = len(text)
        if not self.open and size - start <= LIMIT:
            return spans, start
        self.open = True
        spans.append((start, size, None))
        return spans, max(start, size - _MARKER)

    def known(self, text: bytes, start: int) -> int:
        found = _first(self._header, text, start)
        return len(text) if found is None else found[1]


class Cards:
    """Payment cards in runs of digits, blanks and dashes; the first six digits name the bank and tell nothing of the card."""

    def __init__(self, rule: MaskRule) -> None:
        self._rule = rule
        self._run = compile_pattern(r"[0-9](?:[ -]?[0-9]){12,}[ -]?")
        self._tail = compile_pattern(r"[0-9](?:[ -]?[0-9])*[ -]?\z")
        self._end = re.compile(rb"[ -]?[^0-9 -]|[ -][ -]")
        self.open = False

    def look(self, text: bytes, begin: int, *, final: bool) -> Seen:
        size, spans, at = len(text), list[Span](), begin
        if self.open:
            at = _until(self._end, text, begin)
            if at == size:
                behind = size - (text[size - 1] in b" -" and size > begin)      # a blank belongs to the run if a digit follows
                spans.append((begin - 1, behind, None))
                return spans, size if final else behind
            spans.append((begin - 1, at, None))
            self.open = False
        for start, end in _from(self._run, text, at):
            digits = end - (text[end - 1] in b" -")
            if digits - start > LIMIT:
                spans.append((start, digits, None))
                if end == size and not final:
                    self.open = True
                    return spans, digits
                continue
            found = None if end == size and not final else self._cards(text, start, digits, final)
            if found is None:
                return spans, start
            spans += found
        return spans, size if final else _begins(self._tail, text, at, CONTEXT)

    def _cards(self, text: bytes, start: int, end: int, final: bool) -> list[Span] | None:
        """``None`` where what comes next decides."""
        if start >= 2 and text[start - 1] == 0x2E and 0x30 <= text[start - 2] <= 0x39:
            return []
        found: list[Span] = []
        run = text[start:end].decode()
        for first, last in card_spans(run):
            digest = _hexadecimal(text, start + first, start + last, final)
            if digest is None:
                return None
            if digest:
                continue
            shown = self._rule.apply(run[first:last]).encode() if self._rule.kind != "redact" else None
            found.append((start + first, start + last, shown))
        return found

    def known(self, text: bytes, start: int) -> int:
        run = text[start:]
        groups = [found.span() for found in _GROUP.finditer(run)]
        seen = card_spans(run.rstrip(b" -").decode(errors="replace"))
        if seen:
            return start + _sixth(run, seen[0][0])
        for index, (first, _) in enumerate(groups):
            if run[first] in b"23456" and sum(end - begin for begin, end in groups[index:]) <= 19:
                return start + _sixth(run, first)
        return len(text)


_GROUP = re.compile(rb"[0-9]+")
_HEX = re.compile(rb"[0-9a-fA-F-]*")


def _sixth(run: bytes, first: int) -> int:
    """Behind the sixth digit from ``first`` on."""
    count = 0
    for index in range(first, len(run)):
        count += 0x30 <= run[index] <= 0x39
        if count == 6:
            return index + 1
    return len(run)


def _hexadecimal(text: bytes, start: int, end: int, final: bool) -> bool | None:
    """The digits are a piece of a digest or UUID (``detect``); ``None`` where the next bytes decide."""
    if not final and len(text) - end < HEX_REACH and _matched(_HEX, text, end) == len(text):
        return None
    return hexadecimal(text, start, end)


class Lines:
    """A pattern of the policy, line by line. Where every match begins with the same bytes these tell nothing; otherwise an unfinished word
    is held until it is decided. Raises ``ValueError`` for a pattern that names a line break."""

    def __init__(self, pattern: str, rule: MaskRule) -> None:
        self._rule, self._pattern = rule, compile_pattern(pattern)
        self._filter = None if "\\A" in pattern or "\\z" in pattern else compile_pattern(f"(?m:{pattern})")
        self.open = False
        self.stem, self._tail = 0, cast("Pattern | None", None)
        try:
            found = beginnings(pattern)
            self.stem, self._tail = found.fixed, compile_pattern(found.pattern, _MEMORY)
        except NotUnderstood:
            return                                      # the whole line is held

    def look(self, text: bytes, begin: int, *, final: bool) -> Seen:
        size, spans = len(text), list[Span]()
        if self.open:
            stop = text.find(b"\n", begin)
            spans.append((begin - 1, size if stop < 0 else stop, None))
            if stop < 0:
                return spans, size
            self.open, begin = False, stop
        last = max(text.rfind(b"\n", begin) + 1, begin)
        if self._filter is None or self._filter.search(text[max(0, begin - 1):]) is not None:
            for stop in _stops(text, begin, last):
                spans += self._matches(text, begin, stop, stop)
                begin = stop + 1
        return self._unfinished(spans, text, last, final)

    def _unfinished(self, spans: list[Span], text: bytes, begin: int, final: bool) -> Seen:
        size = len(text)
        if final:
            return spans + self._matches(text, begin, size, size), size
        while True:
            live = self._live(text, begin)
            if size - live > LIMIT:
                self.open = True
                spans.append((live, size, None))
                return spans, size
            found = self._matches(text, begin, size, live)
            spans += found
            if not found or found[-1][1] <= live:
                return spans, live
            begin = found[-1][1]

    def _live(self, text: bytes, begin: int) -> int:
        """A character that is not whole yet decides nothing."""
        if self._tail is None:
            return begin
        first = _line_context(text, begin)
        cut = _torn(text[first:])
        found = cast("re2._Regexp", self._tail).search(text[first:len(text) - cut], begin - first)
        return first + found.start() if found is not None else len(text) - cut

    def _matches(self, text: bytes, begin: int, stop: int, live: int) -> list[Span]:
        """Matches in the line that ends at ``stop`` which begin before ``live``."""
        spans: list[Span] = []
        first = _line_context(text, begin)
        line, at = text[first:stop], begin - first
        pattern = cast("re2._Regexp", self._pattern)
        while (found := pattern.search(line, at)) is not None and first + found.start() < live:
            if found.end() == found.start():
                at = found.end() + 1
                continue
            at = found.end()
            spans.append((first + found.start(), first + at, masked(self._rule, found.group())))
        return spans

    def known(self, text: bytes, start: int) -> int:
        return start + self.stem


def _line_context(text: bytes, begin: int) -> int:
    """``begin``, or the byte before it where that is one of the same line: assertions look at it."""
    return begin if begin == 0 or text[begin - 1] == 0x0A else begin - 1


def _stops(text: bytes, begin: int, last: int) -> Iterable[int]:
    """Where the lines from ``begin`` on that are whole end."""
    while begin < last:
        stop = text.index(b"\n", begin)
        yield stop
        begin = stop + 1


def _torn(text: bytes) -> int:
    """Bytes at the end that are the beginning of a UTF-8 character."""
    for back in range(1, min(3, len(text)) + 1):
        byte = text[-back]
        if byte >= 0xC0:
            return back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            return 0
    return 0


def _from(pattern: Pattern, text: bytes, begin: int) -> list[tuple[int, int]]:
    """Matches that begin at ``begin`` or later."""
    rest = text[begin:] if begin else text
    return [(begin + found.start(), begin + found.end()) for found in pattern.finditer(rest)]


def _first(pattern: Pattern | re.Pattern[bytes], text: bytes, begin: int) -> tuple[int, int] | None:
    found = pattern.search(text[begin:] if begin else text)
    return (begin + found.start(), begin + found.end()) if found is not None else None


def _until(pattern: re.Pattern[bytes], text: bytes, begin: int) -> int:
    found = _first(pattern, text, begin)
    return found[0] if found is not None else len(text)


def _matched(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found is not None else at
