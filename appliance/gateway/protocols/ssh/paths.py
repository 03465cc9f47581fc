# SPDX-License-Identifier: Apache-2.0
"""Paths as rules compare them: made normal by their text alone. Where links lead is asked of the target, by whoever uses the path."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UP = re.compile(r"(?:^|[/=:@,])\.\.(?:/|$)")
_PLAIN = re.compile(r"[^-=:@,][^=:@,]*\Z|\Z")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/]*)(/.*)?\Z", re.DOTALL)
_HERE = re.compile(r"(?:/\.)+(?=/|\Z)")
_SLASHES = re.compile(r"(?<!:)/{2,}")


def normal(path: str) -> str:
    """An absolute path without ``.``, ``..``, doubled slashes and a slash at its end. Empty for what is not absolute, or has a NUL."""
    if not path.startswith("/") or "\0" in path:
        return ""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept)


def argument(word: str) -> str:
    """A command's argument as it is compared: one that looks like a path (it has ``/``, or is ``..``) in its normal form.

    Of an option with a path in it (``--file=/a/../b``, ``host:/a``) nothing can be said in general: what has ``..`` stays as it is, and
    ``climbs`` says so. Of an address (``https://host/a/../b``) the path alone is made normal.
    """
    if "/" not in word:
        return word
    if word.startswith("/"):
        return normal(word) or word
    if address := _URL.match(word):
        return address[1] + (normal(address[2]) if address[2] else "")
    if _PLAIN.match(word.partition("/")[0]):
        return _relative(word)
    return word if climbs(word) else _HERE.sub("", _SLASHES.sub("/", word))


def program(word: str) -> str:
    """A command's name as it is compared. ``./uptime`` is another program than ``uptime``, and so is every other relative path."""
    return argument(word) if word.startswith("/") and not word.endswith("/") else word


def arguments(words: Sequence[str]) -> tuple[str, ...]:
    """All words of a simple command as they are compared."""
    return program(words[0]), *map(argument, words[1:])


def _relative(word: str) -> str:
    kept: list[str] = []
    for part in word.split("/"):
        if part == ".." and kept and kept[-1] != "..":
            del kept[-1]
        elif part not in ("", "."):
            kept.append(part)
    made = "/".join(kept) or "."
    return f"./{made}" if made.startswith("-") else made


def climbs(word: str) -> bool:
    """Whether an argument, as ``argument`` gives it, still leads upwards by ``..``."""
    return ".." in word and _UP.search(word) is not None
