# SPDX-License-Identifier: Apache-2.0
"""Text as people see it: what may hide in it, how to print it so that nothing can, and reasons cut to size. Pure.

An approver must see the exact text, and it comes from the one who wants it approved: direction overrides, escape
sequences and a thousand blanks before the real statement are the ways to make it look like another (Unicode TR 36).
"""

from __future__ import annotations

import re
import unicodedata

REASON_LIMIT = 2048
"""Bytes of UTF-8 a vote's reason may have."""

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANKS = re.compile(r" {40,}")
_LONG_RUN = re.compile(r"[^\S\n]{40,}|(?:[^\S\n]*\n){6,}")


def text_flags(text: str) -> tuple[str, ...]:
    """What an approver should be warned of: ``bidi``, ``control``, ``invisible``, ``whitespace``, ``non-ascii-letters``.

    Newline and tab are not controls here; a carriage return is (it moves the cursor back over what was printed).
    """
    found: set[str] = set()
    if not text.isascii():
        found.update(_wide_flags(text))
    if any((ch < " " and ch not in "\n\t") or ch == "\x7f" for ch in text):
        found.add("control")
    if _LONG_RUN.search(text):
        found.add("whitespace")
    return tuple(sorted(found))


def _wide_flags(text: str) -> set[str]:
    found = set()
    for ch in set(text) - {"\n", "\t"}:
        kind = unicodedata.category(ch)
        if ch in _BIDI:
            found.add("bidi")
        elif kind == "Cc":
            found.add("control")
        elif kind in _HIDDEN or (kind == "Zs" and ch != " ") or kind in ("Mn", "Me"):
            found.add("invisible")
        elif kind.startswith("L") and not ch.isascii():
            found.add("non-ascii-letters")
    return found


def escaped(text: str) -> str:
    """The text for a terminal: every character that does not show as itself is written out, long runs of blanks counted."""
    return _BLANKS.sub(lambda run: f"\\{{{len(run[0])} spaces}}", "".join(map(_escape, text)))


def _escape(ch: str) -> str:
    if ch == "\n" or " " <= ch <= "~":
        return ch
    if ch == "\t":
        return "    "
    kind = unicodedata.category(ch)
    if kind in _HIDDEN or kind in ("Zs", "Mn", "Me"):
        return f"\\x{ord(ch):02x}" if ord(ch) < 256 else f"\\u{{{ord(ch):x}}}"
    return ch


def line(text: str) -> str:
    """``escaped``, on one line."""
    return escaped(text).replace("\n", "\\n")


def clean_reason(reason: str) -> str:
    """A vote's reason: one line without control, direction and other hidden characters.

    Raises ``ValueError`` where nothing is left or it is longer than ``REASON_LIMIT``.
    """
    if len(reason) > 2 * REASON_LIMIT:
        raise ValueError(f"a reason has at most {REASON_LIMIT} bytes")
    shown = "".join(" " if ch in "\r\n\t" else ch for ch in reason)
    shown = " ".join("".join(ch for ch in shown if unicodedata.category(ch) not in _HIDDEN).split())
    if not shown:
        raise ValueError("a vote needs a reason")
    if len(shown.encode("utf-8", "replace")) > REASON_LIMIT:
        raise ValueError(f"a reason has at most {REASON_LIMIT} bytes")
    return shown
