# SPDX-License-Identifier: Apache-2.0
"""How one value is shown: contract section 6, "Masks". Lengths count characters, not bytes."""

from __future__ import annotations

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
    if not at or not local or not _is_domain(domain) or any(c.isspace() or not c.isprintable() for c in local):
        return HIDDEN
    return f"{local[0]}***@{domain}"


def _is_domain(domain: str) -> bool:
    return 0 < len(domain) <= 253 and all(
        label and len(label) <= 63 and all(c.isalnum() or c == "-" for c in label) for label in domain.split("."))


REDACT = MaskRule()
EMAIL = MaskRule("email")


def keep_last(count: int) -> MaskRule:
    return MaskRule("keep_last", count)


def keep_first(count: int) -> MaskRule:
    return MaskRule("keep_first", count)
