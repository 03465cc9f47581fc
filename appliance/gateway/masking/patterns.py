# SPDX-License-Identifier: Apache-2.0
"""Patterns in RE2 syntax: linear in the length of the value whatever it holds, and bounded in memory when they are compiled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, cast

import re2

LONGEST = 512
MEMORY = 4 << 20
"""Bytes one pattern of a policy may take, program and automata."""


class Match(Protocol):
    def start(self) -> int: ...
    def end(self) -> int: ...
    def group(self) -> bytes: ...


class Pattern(Protocol):
    """What is used of re2's compiled pattern, which has no types of its own."""

    def search(self, text: bytes) -> Match | None: ...
    def finditer(self, text: bytes) -> Iterator[Match]: ...


def compile_pattern(pattern: str, memory: int = MEMORY) -> Pattern:
    """Raises ``ValueError`` for what is no RE2 pattern or takes more memory."""
    engine: Any = re2
    options = engine.Options()
    options.max_mem = memory
    options.log_errors = False
    try:
        return cast(Pattern, engine.compile(pattern.encode(), options))
    except engine.error as wrong:
        reason = wrong.args[0] if wrong.args else "not understood"
        raise ValueError(f"expected a pattern in RE2 syntax: {reason.decode() if isinstance(reason, bytes) else reason}") from None


def check_pattern(pattern: str) -> str:
    """A pattern as it is. Raises ``ValueError`` on one that is none, is too long or too large, or matches the empty text."""
    if len(pattern) > LONGEST:
        raise ValueError(f"expected a pattern of at most {LONGEST} characters")
    if compile_pattern(pattern).search(b"") is not None:
        raise ValueError("expected a pattern that does not match the empty text: it would match everywhere")
    return pattern
