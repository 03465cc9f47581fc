# SPDX-License-Identifier: Apache-2.0
"""Secrets that are known word for word, in a stream: every occurrence, also where two overlap, and the tail that may become one.

A secret is looked for as it is, as JSON writes it, percent-encoded and in base64; of one with several lines also each line. Wrapped
base64, hexadecimal digits and whatever a program makes of it otherwise pass.
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote_from_bytes

import re2

from gateway.masking.spotters import Seen, Span
from gateway.native import compiled

LONGEST = 1024
"""A longer one is looked for in pieces."""
SHORTEST_LINE = 8
SHORTEST_ENCODED = 6
_MARKER = re.compile(rb"-----(?:BEGIN|END) [A-Z0-9 ]+-----")
_AROUND = re.compile(rb"\A-----BEGIN [A-Z0-9 ]+-----\s*|\s*-----END [A-Z0-9 ]+-----\Z")
_fast: Any = compiled("gateway.masking._stream")


def forms(secret: bytes) -> set[bytes]:
    """What is looked for to find one secret."""
    plain = secret.strip(b"\r\n")
    if not plain:
        return set()
    lines = [line.strip() for line in plain.splitlines()]
    found = {line for line in lines if len(line) >= SHORTEST_LINE and not _MARKER.fullmatch(line)} if len(lines) > 1 else set()
    found |= {body for body in (_AROUND.sub(b"", plain),) if body}
    if len(plain) >= SHORTEST_ENCODED:
        found |= _encoded(plain) | _encoded(secret)
    return {piece for form in found for piece in _pieces(form)}


def _encoded(plain: bytes) -> set[bytes]:
    """As JSON, in a URL, in base64 by itself: as far as its groups are whole, and to its end."""
    bare = _AROUND.sub(b"", plain)
    text = json.dumps(bare.decode(errors="surrogateescape"))[1:-1].encode()
    found = {text, quote_from_bytes(bare, safe="").encode()} - {b""}
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        found |= {encode(plain).rstrip(b"="), encode(plain[:len(plain) // 3 * 3])}
    return found


def _pieces(form: bytes) -> Iterable[bytes]:
    return [form[at:at + LONGEST] for at in range(0, len(form), LONGEST)]


def stem(literal: bytes) -> int:
    """How many bytes of it may be seen while what follows is not known: a quarter, four at most."""
    return min(4, len(literal) // 4)


class Literals:
    """A spotter. ``secrets`` as the gateway holds them; raises ``ValueError`` where they are too many to be looked for."""

    open = False

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._sorted = sorted({form for secret in secrets for form in forms(secret)})
        self._longest = max(map(len, self._sorted), default=0)
        self._any = _alternatives(self._sorted)
        self._filter = _fast.Needles(self._sorted) if _fast is not None else None
        heads = sorted({one[:2] for one in self._sorted if len(one) > 1})
        self._heads = re.compile(b"|".join(map(re.escape, heads)) or b"(?!)")
        self._firsts = frozenset(one[0] for one in self._sorted if len(one) > 1)

    def __bool__(self) -> bool:
        return bool(self._sorted)

    def look(self, text: bytes, begin: int, *, final: bool) -> Seen:
        spans: list[Span] = []
        if self._filter is None or self._filter.maybe(text, begin):
            at = begin
            while (found := self._any.search(text, at)) is not None:
                spans.append((found.start(), found.end(), None))
                at = found.start() + 1
        live = next(iter(self._tails(text, begin)), len(text))
        if final and live < len(text):
            seen = self.known(text, live)
            return [*spans, *([(seen, len(text), None)] if seen < len(text) else [])], len(text)
        return spans, live

    def _tails(self, text: bytes, begin: int) -> Iterable[int]:
        """Where a tail begins that a secret begins with, ascending."""
        size = len(text)
        first = max(begin, size - self._longest + 1)
        if self._filter is not None:
            starts: Iterable[int] = self._filter.starts(text, first)
        else:
            starts = _overlapping(self._heads, text, first)
        for start in starts:
            if self._some(text[start:]):
                yield start
        if first < size and text[size - 1] in self._firsts:
            yield size - 1

    def _some(self, tail: bytes) -> bool:
        at = bisect_left(self._sorted, tail)
        if at < len(self._sorted) and self._sorted[at] == tail:
            at += 1
        return at < len(self._sorted) and self._sorted[at].startswith(tail)

    def known(self, text: bytes, start: int) -> int:
        seen = len(text)
        for at in self._tails(text, start):
            tail = text[at:]
            place = bisect_left(self._sorted, tail)
            while place < len(self._sorted) and self._sorted[place].startswith(tail):
                seen = min(seen, at + stem(self._sorted[place]))
                place += 1
        return seen


def _overlapping(pattern: re.Pattern[bytes], text: bytes, at: int) -> Iterable[int]:
    while (found := pattern.search(text, at)) is not None:
        yield found.start()
        at = found.start() + 1


def _alternatives(literals: list[bytes]) -> Any:
    """The longest first: of those that begin at one place it is found."""
    engine: Any = re2
    options = engine.Options()
    options.max_mem, options.log_errors, options.encoding = 128 << 20, False, engine.Options.Encoding.LATIN1
    wanted = sorted(literals, key=lambda one: (-len(one), one))
    try:
        return engine.compile(b"|".join(b"".join(b"\\x%02x" % byte for byte in one) for one in wanted) or b"[^\\x00-\\xff]", options)
    except engine.error:
        raise ValueError("too many secrets to look for in a stream") from None
