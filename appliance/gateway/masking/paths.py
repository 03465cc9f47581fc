# SPDX-License-Identifier: Apache-2.0
"""Paths into JSON documents, a part of RFC 9535: ``$.name``, ``$["any name"]``, ``[3]``, ``[*]``, ``.*`` and ``..name`` at any depth.

``Places`` follows several paths at once while a document is walked from its root.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

LONGEST = 512
STEPS = 32
PATHS = 64

_STEP = re.compile(r"""(\.\.|\.)(?:([A-Za-z_\u0080-\U0010ffff][\w\u0080-\U0010ffff-]*)|(\*))
                       |(\.\.)?\[(?:("(?:[^"\\]|\\.)*")|(\*)|(0|[1-9][0-9]{0,8}))\]""", re.VERBOSE)
WANTED = 'expected a path such as $.name, $["a name"], $.list[*].name, $.list[0] or $..name'


@dataclass(frozen=True, slots=True)
class Step:
    """One step down: ``key`` is the name of a member or the place in an array, ``None`` for any; ``deep``: at any depth below."""

    key: str | int | None
    deep: bool = False

    def takes(self, key: str | int) -> bool:
        return self.key is None or self.key == key and type(self.key) is type(key)


@lru_cache(maxsize=4096)
def parsed(path: str) -> tuple[Step, ...]:
    """The steps of a path. Raises ``ValueError`` on one that is none, ends at the root, or is too long."""
    if not path.startswith("$") or len(path) > LONGEST:
        raise ValueError(WANTED)
    steps: list[Step] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise ValueError(WANTED)
        dots, name, _, before, quoted, _, place = found.groups()
        key = name if name is not None else _name(quoted) if quoted is not None else int(place) if place is not None else None
        steps.append(Step(key, (dots or before) == ".."))
        at = found.end()
    if not 1 <= len(steps) <= STEPS:
        raise ValueError(WANTED)
    return tuple(steps)


def _name(quoted: str) -> str:
    try:
        return str(json.loads(quoted))
    except ValueError:
        raise ValueError(WANTED) from None


Place = tuple[int, int]
"""(which path, how many of its steps have been taken)."""


class Places:
    """The paths of a rule. ``start()`` gives where they stand at the root, ``below()`` where they stand one step further down, and which of
    them end there."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = [parsed(path) for path in paths]

    def start(self) -> frozenset[Place]:
        return frozenset((number, 0) for number in range(len(self._paths)))

    def below(self, places: frozenset[Place], key: str | int) -> tuple[frozenset[Place], list[int]]:
        """(places below the member ``key``, the numbers of the paths that lead to it)."""
        found: set[Place] = set()
        ended: list[int] = []
        for number, taken in places:
            steps = self._paths[number]
            step = steps[taken]
            if step.deep:
                found.add((number, taken))
            if step.takes(key):
                if taken + 1 == len(steps):
                    ended.append(number)
                else:
                    found.add((number, taken + 1))
        return frozenset(found), ended
