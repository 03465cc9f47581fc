# SPDX-License-Identifier: Apache-2.0
"""How one value is shown: contract section 6, "Masks". Lengths count characters, not bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

HIDDEN = "****"

Kind = Literal["redact", "keep_last", "keep_first", "email"]


@dataclass(frozen=True, slots=True)
class MaskRule:
    """``redact``; ``keep_last`` and ``keep_first`` with ``keep`` characters; ``email``."""

    kind: Kind = "redact"
    keep: int = 0

    def apply(self, value: str) -> str:
        """The masked text. The empty string stays empty under ``keep_last`` and ``keep_first``, whose length is kept."""
        if self.kind == "keep_last":
            return stars(len(value), self.keep) + value[len(value) - self.keep:] if 0 < self.keep < len(value) else "*" * len(value)
        if self.kind == "keep_first":
            return value[:self.keep] + stars(len(value), self.keep) if 0 < self.keep < len(value) else "*" * len(value)
        return masked_email(value) if self.kind == "email" else HIDDEN

    def hides_all_that(self, other: MaskRule) -> bool:
        """True when nothing can be read through this rule that ``other`` hides."""
        return self.kind == "redact" or self.kind == other.kind and self.keep <= other.keep

    def also(self, other: MaskRule) -> MaskRule:
        """Both rules on one column: the one that hides all that the other hides, else ``redact``, because masks add up."""
        if self.hides_all_that(other):
            return self
        return other if other.hides_all_that(self) else REDACT


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
    """``rule.apply`` on UTF-8 bytes, quick on ASCII. What is not UTF-8 is hidden as a whole."""
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

    return {"keep_last": last, "keep_first": first, "email": email}.get(kind, lambda value: hidden)


REDACT = MaskRule()
EMAIL = MaskRule("email")


def keep_last(count: int) -> MaskRule:
    return MaskRule("keep_last", count)


def keep_first(count: int) -> MaskRule:
    return MaskRule("keep_first", count)
