# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/operating.md; operating.yaml beside this file says what runs each of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operating.md"
REGISTER = Path(__file__).with_suffix(".yaml")
SAID = re.compile(r"(^|\s+)# .*")


def blocks(text: str) -> Iterator[list[str]]:
    """The lines of each block that names no language."""
    fences = re.compile(r" *```(\w*)$")
    found: list[str] | None = None
    for line in text.splitlines():
        fence = fences.match(line)
        if fence is None:
            if found is not None:
                found.append(line.strip())
        elif found is None:
            found, plain = [], not fence[1]
        else:
            if plain:
                yield found
            found = None


def commands(text: str) -> Iterator[str]:
    """Each command in one line, without what is said about it after a #."""
    for block in blocks(text):
        shown = [line.removeprefix("$ ") for line in block if line.startswith("$ ")] or block  # with what it prints
        whole = ""
        for line in shown:
            whole = f"{whole} {SAID.sub('', line)}".strip()
            if whole.endswith("\\"):
                whole = whole[:-1].rstrip()
            elif whole and _closed(whole):
                yield whole
                whole = ""


def _closed(line: str) -> bool:
    try:
        shlex.split(line)
    except ValueError:
        return False
    return True
