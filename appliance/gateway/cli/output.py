# SPDX-License-Identifier: Apache-2.0
"""How every verb answers: text for people, JSON with ``--json`` (one document, or one a line for lists)."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

Document = Mapping[str, Any]


def to_json(document: object) -> str:
    """One line of JSON."""
    return orjson.dumps(document, default=_other, option=orjson.OPT_UTC_Z).decode()


def _other(value: object) -> object:
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | list):
        return list(value)
    return str(value)


def emit(args: Namespace, answer: Document | Iterable[Document], human: Callable[[Any], str | Iterable[str]]) -> None:
    """Print one document, or each of a list.

    ``human`` gets one document (for a list: each in turn) and gives the line or lines shown without ``--json``.
    """
    for document in [answer] if isinstance(answer, Mapping) else answer:
        if getattr(args, "json", False):
            write(to_json(document))
            continue
        shown = human(document)
        for line in [shown] if isinstance(shown, str) else shown:
            write(line)


def write(line: str) -> None:
    """One line on standard output."""
    sys.stdout.write(line + "\n")


def table(rows: Iterable[Iterable[object]], heads: Iterable[str] = ()) -> list[str]:
    """Columns side by side, for people."""
    cells = [[str(cell) for cell in row] for row in ([heads] if heads else [])] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in cells if n < len(row)) for n in range(max(map(len, cells), default=0))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in cells]


def printable(text: str) -> str:
    """Text from elsewhere, safe to show on a terminal: control characters become ``\\xNN`` escapes, newline and tab stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text)
