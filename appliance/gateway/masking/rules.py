# SPDX-License-Identifier: Apache-2.0
"""How one value is shown: contract section 6, "Masks", and the kinds beyond it. Lengths count characters, not bytes.

A rule that speaks of another type than the value has hides it as a whole: ``****`` for text, NULL for everything else.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

HIDDEN = "****"
HASHED = 16
"""Bytes of the HMAC-SHA-256 (RFC 2104, RFC 6234) that are shown: 128 bits, as 32 hexadecimal digits."""

Kind = Literal["redact", "null", "value", "keep_last", "keep_first", "email", "hash", "round", "date", "json", "each"]
UNITS = ("hour", "day", "month", "year")
"""What a moment may be cut to, weakest first."""

class _Null(bytes):
    """Of a type of its own, so that no other bytes are this object."""


GONE: bytes = _Null()
"""What a rule gives for a value that becomes NULL: compared with ``is``."""


@dataclass(frozen=True, slots=True)
class MaskRule:
    """One rule. ``keep``: characters of ``keep_last`` and ``keep_first``, the step of ``round``. ``text``: what ``value`` shows, the unit
    of ``date``, the name of the key of ``hash``. ``inner``: path and rule of each part that ``json`` hides; the rule of ``each``."""

    kind: Kind = "redact"
    keep: int = 0
    text: str = ""
    key: bytes = field(default=b"", repr=False)
    inner: tuple[tuple[str, MaskRule], ...] = ()

    def apply(self, value: str) -> str:
        """The masked text. The empty string stays empty under ``keep_last`` and ``keep_first``, whose length is kept. ``null`` has none:
        who can write NULL does not ask."""
        match self.kind:
            case "keep_last":
                return stars(len(value), self.keep) + value[len(value) - self.keep:] if 0 < self.keep < len(value) else "*" * len(value)
            case "keep_first":
                return value[:self.keep] + stars(len(value), self.keep) if 0 < self.keep < len(value) else "*" * len(value)
            case "email":
                return masked_email(value)
            case "value":
                return self.text
            case "hash":
                return self.digest(value.encode(errors="surrogatepass")).hex()
        return HIDDEN

    def digest(self, value: bytes) -> bytes:
        """The keyed hash of a value: the same for the same bytes wherever the key is the same."""
        return hmac.digest(self.key, value, "sha256")[:HASHED]

    @property
    def whole(self) -> bool:
        """Nothing of the value can be seen, not even whether two are the same."""
        return self.kind in _WHOLE

    def hides_all_that(self, other: MaskRule) -> bool:
        """True when nothing can be read through this rule that ``other`` hides. ``null`` hides even which values are NULL."""
        if self == other or self.kind == "null":
            return True
        if self.whole:
            return other.kind != "null"
        if self.kind != other.kind:
            return False
        match self.kind:
            case "keep_last" | "keep_first":
                return self.keep <= other.keep
            case "round":       # the borders of odd multiples are borders of what they are multiples of; those of even ones are not
                return self.keep % other.keep == 0 and self.keep // other.keep % 2 == 1
            case "date":
                return UNITS.index(self.text) >= UNITS.index(other.text)
            case "json":
                mine = dict(self.inner)
                return all(path in mine and mine[path].hides_all_that(rule) for path, rule in other.inner)
            case "each":
                return self.inner[0][1].hides_all_that(other.inner[0][1])
        return self.kind == "email"

    def also(self, other: MaskRule) -> MaskRule:
        """Both rules on one column: the one that hides all that the other hides, else ``redact``, because masks add up. Order has no
        meaning: a fixed value beside any other rule is ``redact`` too. ``json`` and ``each`` rules hide, inside, what any of them hides."""
        if self == other:
            return self
        if "null" in (self.kind, other.kind):
            return NULLED
        if self.whole or other.whole:
            return REDACT
        if self.kind == other.kind and self.kind in _INSIDE:
            return _joined(self, other)
        if self.hides_all_that(other):
            return self
        if other.hides_all_that(self):
            return other
        return REDACT

    def described(self) -> str:
        """As policy files write it."""
        match self.kind:
            case "keep_last" | "keep_first" | "round":
                return f"{self.kind}: {self.keep}"
            case "value" | "date" | "hash":
                return f"{self.kind}: {self.text}"
            case "json":
                return "json: {" + ", ".join(f"{path}: {rule.described()}" for path, rule in self.inner) + "}"
            case "each":
                return f"each: {self.inner[0][1].described()}"
        return self.kind


_WHOLE = frozenset({"redact", "null", "value"})
_INSIDE = frozenset({"json", "each"})


def _joined(one: MaskRule, other: MaskRule) -> MaskRule:
    paths = dict(one.inner)
    for path, rule in other.inner:
        paths[path] = paths[path].also(rule) if path in paths else rule
    return replace(one, inner=tuple(sorted(paths.items(), key=lambda entry: entry[0])))


def stars(length: int, keep: int) -> str:
    return "*" * (length - keep)


def masked_email(value: str) -> str:
    """First letter, ``***``, ``@`` and the domain; what is no e-mail address is hidden."""
    local, at, domain = value.rpartition("@")
    if not at or not local or " " in local or not local.isprintable() or len(domain) > 253 or not _DOMAIN.fullmatch(domain):
        return HIDDEN
    return f"{local[0]}***@{domain}"


_DOMAIN = re.compile(r"[^\W_](?:[^\W_]|-){0,62}(?:\.(?:[^\W_]|-){1,63})*")
"""Labels of letters, digits and dashes, internationalised ones too."""

_ASCII_EMAIL = re.compile(rb"([!-~])[!-~]*@([A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63})*)")


def on_bytes(rule: MaskRule) -> Callable[[bytes], bytes]:
    """``rule.apply`` on UTF-8 bytes, quick on ASCII; ``GONE`` for NULL. What is not UTF-8 is hidden as a whole."""
    kind, keep, hidden = rule.kind, rule.keep, HIDDEN.encode()

    def slow(value: bytes) -> bytes:
        try:
            return rule.apply(value.decode()).encode()
        except UnicodeDecodeError:
            return hidden

    def last(value: bytes) -> bytes:
        rest = len(value) - keep
        return (b"*" * rest + value[rest:] if rest > 0 else b"*" * len(value)) if value.isascii() else slow(value)

    def first(value: bytes) -> bytes:
        rest = len(value) - keep
        return (value[:keep] + b"*" * rest if rest > 0 else b"*" * len(value)) if value.isascii() else slow(value)

    def email(value: bytes) -> bytes:
        found = _ASCII_EMAIL.fullmatch(value) if len(value) <= 253 else None
        return found[1] + b"***@" + found[2] if found is not None else slow(value)

    def hashed(value: bytes) -> bytes:
        return rule.digest(value).hex().encode()

    def constant(value: bytes) -> bytes:
        return GONE if kind == "null" else rule.text.encode() if kind == "value" else hidden

    return {"keep_last": last, "keep_first": first, "email": email, "hash": hashed}.get(kind, constant)


REDACT = MaskRule()
NULLED = MaskRule("null")
EMAIL = MaskRule("email")


def keep_last(count: int) -> MaskRule:
    return MaskRule("keep_last", count)


def keep_first(count: int) -> MaskRule:
    return MaskRule("keep_first", count)


def hashed(name: str, key: bytes) -> MaskRule:
    """Raises ``ValueError`` without a key: a hash that anybody can make hides nothing."""
    if not key:
        raise ValueError("expected a key")
    return MaskRule("hash", text=name, key=key)


def fixed(text: str) -> MaskRule:
    return MaskRule("value", text=text)


def rounded(step: int) -> MaskRule:
    return MaskRule("round", step)


def cut_to(unit: str) -> MaskRule:
    return MaskRule("date", text=unit)


def json_paths(paths: dict[str, MaskRule]) -> MaskRule:
    """``paths`` in the spelling of ``gateway.masking.paths``."""
    return MaskRule("json", inner=tuple(sorted(paths.items(), key=lambda entry: entry[0])))


def each(rule: MaskRule) -> MaskRule:
    return MaskRule("each", inner=(("", rule),))
