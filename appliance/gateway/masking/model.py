# SPDX-License-Identifier: Apache-2.0
"""``MaskSet``: everything that is hidden from one identity on one resource."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Literal

from gateway.masking.detect import Detectors
from gateway.masking.rules import MaskRule

Strictness = Literal["lookups", "all"]
ColumnName = tuple[str, str, str]
"""(schema, relation, column)."""
Filters = Mapping[str, frozenset[str]]
"""Relations by pattern ``SCHEMA.RELATION``, and every condition that a row of them has to meet, as the policy writes it."""


class MaskSet:
    """Columns by pattern ``SCHEMA.RELATION.COLUMN`` (``*`` does not cross a dot), columns in which nothing is looked for, and
    detectors by name; ``patterns`` are the texts of those that are patterns of the policy. ``strict`` says in which of the columns no
    predicate may look (``all``), or none but equality with a parameter (``lookups``). ``filters`` are conditions on rows: what they mean is
    the protocol's own; ``functions`` may be called although they hide some. Immutable.

    ``bool(masks)`` says whether any column is masked: only then is a value of unknown origin hidden and are errors scrubbed.
    Patterns of columns have three parts, those of relations two: ``ValueError`` otherwise.
    """

    def __init__(self, columns: Mapping[str, MaskRule] | None = None, clear: Iterable[str] = (),
                 detect: Mapping[str, MaskRule] | None = None, patterns: Mapping[str, str] | None = None,
                 strict: Mapping[str, Strictness] | None = None, filters: Filters | None = None,
                 functions: Iterable[str] = ()) -> None:
        self.columns: Mapping[str, MaskRule] = dict(columns or {})
        self.clear = frozenset(clear)
        self.detect: Mapping[str, MaskRule] = dict(detect or {})
        self.patterns: Mapping[str, str] = dict(patterns or {})
        self.strict: Mapping[str, Strictness] = dict(strict or {})
        self.filters: Filters = dict(filters or {})
        self.functions = frozenset(functions)
        for pattern in (*self.columns, *self.clear):
            if pattern.count(".") != 2 or not all(pattern.split(".")):
                raise ValueError(f"expected SCHEMA.RELATION.COLUMN, not {pattern!r}")
        for pattern in self.filters:
            if pattern.count(".") != 1 or not all(pattern.split(".")):
                raise ValueError(f"expected SCHEMA.RELATION, not {pattern!r}")
        self._exact = {tuple(name.split(".")): rule for name, rule in self.columns.items() if not _GLOB.search(name)}
        self._patterns = [(_compiled(name), rule) for name, rule in self.columns.items() if _GLOB.search(name)]
        self._clear = [_compiled(name) for name in self.clear]
        self._strict = [(_compiled(name), level) for name, level in self.strict.items()]
        self._rules: dict[ColumnName, MaskRule | None] = {}
        self._sums: dict[frozenset[ColumnName], MaskRule | None] = {}

    def __bool__(self) -> bool:
        return bool(self.columns)

    def __repr__(self) -> str:
        return f"MaskSet({len(self.columns)} columns, {len(self.detect)} detectors)"

    @cached_property
    def detectors(self) -> Detectors | None:
        """The compiled detectors, ``None`` where there are none."""
        return Detectors(self.detect, self.patterns) if self.detect else None

    def rule_for(self, column: ColumnName) -> MaskRule | None:
        """The rule of a column, several of them added up. Looked up once per column."""
        try:
            return self._rules[column]
        except KeyError:
            pass
        found = self._exact.get(column)
        for pattern, rule in self._patterns:
            if pattern.fullmatch("\0".join(column)):
                found = rule if found is None else found.also(rule)
        if len(self._rules) < _REMEMBERED:
            self._rules[column] = found
        return found

    def rule_of(self, columns: frozenset[ColumnName]) -> MaskRule | None:
        """The rules of several columns added up. Looked up once for each set of them."""
        try:
            return self._sums[columns]
        except KeyError:
            pass
        found = None
        for column in columns:
            rule = self.rule_for(column)
            if rule is not None:
                found = rule if found is None else found.also(rule)
        if len(self._sums) >= _SUMS:
            self._sums.clear()
        self._sums[columns] = found
        return found

    def filters_of(self, schema: str, relation: str) -> tuple[str, ...]:
        """Every condition that the rows of a relation have to meet, in an order of its own."""
        if not self.filters:
            return ()
        name = f"{schema}\0{relation}"
        return tuple(sorted({text for pattern, texts in self.filters.items() if _compiled(pattern).fullmatch(name) for text in texts}))

    def strictness(self, column: ColumnName) -> Strictness | None:
        """What predicates may do with this column, ``None`` where anything is allowed."""
        if not self._strict:
            return None
        name = "\0".join(column)
        found = {level for pattern, level in self._strict if pattern.fullmatch(name)}
        return "all" if "all" in found else "lookups" if found else None

    def is_clear(self, column: ColumnName) -> bool:
        """Nothing is looked for in this column."""
        name = "\0".join(column)
        return any(pattern.fullmatch(name) for pattern in self._clear)


NOTHING = MaskSet()


def add_up(sets: Iterable[MaskSet]) -> MaskSet:
    """Masks, detectors and conditions on rows of all; a column is clear of detectors only where every set with detectors says so."""
    several = list(sets)
    columns: dict[str, MaskRule] = {}
    detect: dict[str, MaskRule] = {}
    patterns: dict[str, str] = {}
    strict: dict[str, Strictness] = {}
    filters: dict[str, frozenset[str]] = {}
    for one in several:
        filters.update({name: filters.get(name, frozenset()) | texts for name, texts in one.filters.items()})
        patterns.update(one.patterns)
        strict.update({name: level for name, level in one.strict.items() if strict.get(name) != "all"})
        for into, rules in ((columns, one.columns), (detect, one.detect)):
            for name, rule in rules.items():
                into[name] = into[name].also(rule) if name in into else rule
    trusting = [one.functions for one in several if one.filters]
    looking = [one.clear for one in several if one.detect]
    return MaskSet(columns, frozenset.intersection(*looking) if looking else (), detect, patterns, strict, filters,
                   frozenset.intersection(*trusting) if trusting else ())


_REMEMBERED = 100_000
_SUMS = 4_096
_GLOB = re.compile(r"[*?]")


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    """``*`` any characters, ``?`` one, within one of the parts. The name is matched with NUL in place of the dots."""
    return re.compile("\0".join("".join(_glob(c) for c in part) for part in pattern.split(".")), re.DOTALL)


def _glob(character: str) -> str:
    return {"*": "[^\0]*", "?": "[^\0]"}.get(character, re.escape(character))
