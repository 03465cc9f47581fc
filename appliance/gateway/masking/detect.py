# SPDX-License-Identifier: Apache-2.0
"""Detectors: values that show by themselves what they are (contract section 6). The third net, under masks by origin.

The engine is RE2: linear in the length of the value whatever it holds. ``candidates()`` looks over a whole block of rows at once, so that
blocks without a candidate cost one pass in C and nothing else. Everything works on UTF-8 bytes; patterns are ASCII.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.masking.patterns import Pattern, compile_pattern
from gateway.masking.rules import MaskRule
from gateway.native import compiled

PRIVATE_KEY, AWS_ACCESS_KEY, JWT, PAYMENT_CARD = "private-key", "aws-access-key", "jwt", "payment-card"
NAMES = (PRIVATE_KEY, AWS_ACCESS_KEY, JWT, PAYMENT_CARD)

_BODY = r"[A-Za-z0-9+/=\s\\:,.\-]"
_PATTERNS: Mapping[str, str] = {
    # PEM (RFC 7468, RFC 1421 headers) and OpenSSH; PGP's "PRIVATE KEY BLOCK". Without an end: all that can belong to the key.
    PRIVATE_KEY: rf"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:{_BODY}*?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|{_BODY}*)",
    AWS_ACCESS_KEY: r"A[KS]IA[A-Z0-9]{16}",
    # RFC 7515 compact serialization, RFC 7516's five parts included: '{"' in base64url is "eyJ".
    JWT: r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_.-]*",
    PAYMENT_CARD: r"[0-9](?:[ -]?[0-9]){12,}",
}
_HINTS: Mapping[str, str] = {
    PRIVATE_KEY: r"PRIVATE KEY", AWS_ACCESS_KEY: r"A[KS]IA[A-Z0-9]", JWT: r"eyJ[A-Za-z0-9_-]{6}", PAYMENT_CARD: r"[0-9](?:[ -]?[0-9]){12}",
}
_ESCAPED = r"\\u00"
"""In JSON text any character may hide behind an escape: such a value is looked at decoded."""


_NEEDLES: Mapping[str, tuple[bytes, ...]] = {
    PRIVATE_KEY: (b"PRIVATE KEY",), AWS_ACCESS_KEY: (b"AKIA", b"ASIA"), JWT: (b"eyJ",), PAYMENT_CARD: (),
}
_KINDS: Mapping[str, int] = {PRIVATE_KEY: 1, AWS_ACCESS_KEY: 2, JWT: 4, PAYMENT_CARD: 8}
"""As ``_detect.pyx`` knows them."""
_fast: Any = compiled("gateway.masking._detect")
SHORT = 1024

MAX_GROUPS = 4096
"""Groups of digits in one run that are looked through; a longer run is replaced as a whole."""

Mask = Callable[[bytes, int, int], bytes | None]
"""(value, start, end of the match) to what replaces the match, ``None`` where it is no finding."""


class Detectors:
    """Detectors by name, each with the rule that replaces what it finds. ``patterns`` are those of the policy, by the names they have in
    ``rules``. Raises ``ValueError`` on an unknown name."""

    def __init__(self, rules: Mapping[str, MaskRule], patterns: Mapping[str, str] | None = None) -> None:
        own = {name: pattern for name, pattern in (patterns or {}).items() if name in rules}
        if unknown := set(rules) - set(NAMES) - set(own):
            raise ValueError(f"unknown detector {min(unknown)!r}")
        self._steps: list[tuple[tuple[bytes, ...], Pattern, Mask]] = [
            (_NEEDLES[name], _compiled(_PATTERNS[name]), (_card_mask if name == PAYMENT_CARD else _whole_mask)(rules[name]))
            for name in NAMES if name in rules]
        self._steps += [((), compile_pattern(pattern), _whole_mask(rules[name])) for name, pattern in sorted(own.items())]
        self._number = _card_mask(rules[PAYMENT_CARD]) if PAYMENT_CARD in rules else None
        hint = "|".join([_HINTS[name] for name in NAMES if name in rules] + [_ESCAPED])
        self._hint = _compiled(hint)
        self._short_hint = re.compile(hint.encode())    # quicker to call; every repetition in it is bounded
        self._own = [*(pattern for _, pattern, _ in self._steps[-len(own):]), _BACKSLASH] if own else []
        self._kinds = sum(bit for name, bit in _KINDS.items() if name in rules)

    def candidates(self, block: bytes) -> bool:
        """Whether anything in the block could be a finding; no false negative."""
        found = self._hint.search(block) is not None if _fast is None else _fast.candidate(block, self._kinds)
        return found or bool(self._own) and any(pattern.search(block) is not None for pattern in self._own)

    def places(self, block: bytes) -> list[int]:
        """Offsets at which a candidate begins, ascending. Every finding overlaps or follows one inside its value."""
        found = [match.start() for match in self._hint.finditer(block)] if _fast is None else _fast.places(block, self._kinds)
        return sorted([*found, *(match.start() for pattern in self._own for match in pattern.finditer(block))]) if self._own else found

    def text(self, value: bytes) -> bytes | None:
        """A text value with every finding replaced, ``None`` where there is none."""
        if not self._hinted(value):
            return None
        found = value
        for needles, pattern, mask in self._steps:
            if not needles or any(needle in found for needle in needles):
                found = _replaced(pattern, mask, found)
        return None if found is value or found == value else found

    def json(self, value: bytes) -> bytes | None:
        """A json or jsonb value (binary jsonb begins with its version byte), likewise. What was valid JSON stays valid: strings
        are looked at decoded, a number that is found becomes a string."""
        if not self._hinted(value):
            return None
        out: list[bytes] = []
        at = 0
        for token in _JSON_TOKEN.finditer(value):
            masked = self._json_token(token.group())
            if masked is not None:
                out += (value[at:token.start()], masked)
                at = token.end()
        if not out:
            return None
        out.append(value[at:])
        return b"".join(out)

    def _hinted(self, value: bytes) -> bool:
        if _fast is not None:
            if _fast.candidate(value, self._kinds):
                return True
        elif (self._short_hint if len(value) <= SHORT else self._hint).search(value) is not None:
            return True
        return any(pattern.search(value) is not None for pattern in self._own)

    def _json_token(self, token: bytes) -> bytes | None:
        if token[:1] != b'"':
            return self._json_number(token)
        if b"\\" not in token:
            inner = self.text(token[1:-1])
            return None if inner is None else b'"' + inner + b'"'
        try:
            inner = self.text(json.loads(token).encode())
        except ValueError:
            return self.text(token)
        return None if inner is None else json.dumps(inner.decode(errors="replace"), ensure_ascii=False).encode()

    def _json_number(self, token: bytes) -> bytes | None:
        if self._number is None or len(token) < 13:
            return None
        masked = _replaced(_CARD, self._number, token)
        return None if masked == token else b'"' + masked + b'"'


def prefilter(names: Iterable[str]) -> Callable[[bytes], bool]:
    """Whether anything in a block could be a finding of these detectors, JSON's escapes included; no false negative."""
    wanted = [name for name in NAMES if name in set(names)]
    if _fast is not None:
        kinds, candidate = sum(_KINDS[name] for name in wanted), _fast.candidate
        return lambda block: bool(candidate(block, kinds))
    hint = _compiled("|".join([*(_HINTS[name] for name in wanted), _ESCAPED]))
    return lambda block: hint.search(block) is not None


def _compiled(pattern: str) -> Pattern:
    return compile_pattern(pattern, memory=32 << 20)


_BACKSLASH = _compiled(r"\\")
"""In JSON text what a pattern of the policy looks for may hide behind any escape."""
_CARD = _compiled(_PATTERNS[PAYMENT_CARD])
_JSON_TOKEN = _compiled(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*')


def _replaced(pattern: Pattern, mask: Mask, value: bytes) -> bytes:
    out: list[bytes] = []
    at = 0
    for match in pattern.finditer(value):
        masked = mask(value, match.start(), match.end())
        if masked is not None:
            out += (value[at:match.start()], masked)
            at = match.end()
    if not out:
        return value
    out.append(value[at:])
    return b"".join(out)


def _whole_mask(rule: MaskRule) -> Mask:
    return lambda value, start, end: rule.apply(value[start:end].decode()).encode()


def _card_mask(rule: MaskRule) -> Mask:
    """Card numbers within a run of digits: 13 to 19 digits that pass Luhn, from the start of a group to the end of a group."""
    def mask(value: bytes, start: int, end: int) -> bytes | None:
        if _fraction(value, start):
            return None
        run = value[start:end].decode()
        spans = [(first, last) for first, last in card_spans(run) if not hexadecimal(value, start + first, start + last)]
        if not spans:
            return None
        out: list[str] = []
        at = 0
        for first, last in spans:
            out += (run[at:first], rule.apply(run[first:last]))
            at = last
        return "".join((*out, run[at:])).encode()
    return mask


def card_spans(run: str) -> list[tuple[int, int]]:
    """Where card numbers stand in a run of digits, blanks and dashes; longest first, from left to right."""
    if run.isdigit():
        return [(0, len(run))] if is_card(run) else []
    groups = _groups(run)
    if len(groups) > MAX_GROUPS:
        return [(0, len(run))]
    spans: list[tuple[int, int]] = []
    first = 0
    while first < len(groups):
        last = next((last for last in range(min(len(groups), first + 19), first, -1)
                     if is_card("".join(run[a:b] for a, b in groups[first:last]))), None)
        if last is None:
            first += 1
        else:
            spans.append((groups[first][0], groups[last - 1][1]))
            first = last
    return spans


def _groups(run: str) -> list[tuple[int, int]]:
    groups: list[tuple[int, int]] = []
    at = 0
    for index, character in enumerate(run + " "):
        if character in " -":
            if index > at:
                groups.append((at, index))
            at = index + 1
    return groups


def is_card(digits: str) -> bool:
    """13 to 19 digits with a valid Luhn check digit, led as cards of that length are (ISO/IEC 7812): times in milli-, micro- or
    nanoseconds, which one in ten would pass Luhn, begin with 1."""
    if digits[0] not in _LEADING.get(len(digits), ""):
        return False
    raw = digits.encode()
    return (sum(raw[-1::-2].translate(_PLAIN)) + sum(raw[-2::-2].translate(_DOUBLED))) % 10 == 0


_LEADING: Mapping[int, str] = {13: "456", 14: "356", 15: "2356", 16: "2345689", 17: "456", 18: "456", 19: "456"}
_PLAIN = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_HEX_WORD = re.compile(rb"[0-9a-fA-F]{32,}")
_UUID = re.compile(rb"(?<![0-9a-fA-F])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9a-fA-F])")
_HEX_LETTER = re.compile(rb"[a-fA-F]")
HEX_REACH = 40
"""Bytes around a number that decide whether it is a piece of a digest: a UUID has 36 characters."""


def _fraction(value: bytes, start: int) -> bool:
    """The digits stand behind a decimal point: 0.30000000000000004 is no card."""
    return start >= 2 and value[start - 1] == 0x2E and 0x30 <= value[start - 2] <= 0x39


def hexadecimal(value: bytes, start: int, end: int) -> bool:
    """The number is a piece of a digest or UUID: it stands whole in one unbroken hexadecimal word of 32 characters or more, or in a word of
    8-4-4-4-12, with a letter in it. Looks at ``HEX_REACH`` bytes on each side."""
    first = max(0, start - HEX_REACH)
    around, start, end = value[first:end + HEX_REACH], start - first, end - first
    return any(found.start() <= start and end <= found.end() and _HEX_LETTER.search(found.group()) is not None
               for kind in (_HEX_WORD, _UUID) for found in kind.finditer(around))
