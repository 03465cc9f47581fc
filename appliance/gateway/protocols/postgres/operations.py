# SPDX-License-Identifier: Apache-2.0
"""The ``sql:`` matcher: keys ``verbs``, ``relations``, ``functions``, ``parameters``, ``where`` (contract section 2).

Attributes of an operation that it looks at: ``relations`` and ``functions`` (``schema.name``), ``parameters`` (lower case),
``where`` (``missing``), ``container`` (the COPY, EXPLAIN, PREPARE or DECLARE around a query), ``pinned`` (a pinned setting set to its
pinned value), ``free`` (needs no allow rule: a built-in function without effects, EXECUTE and MERGE themselves).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from gateway.model import Operation
from gateway.protocols import Matcher, Protocol
from gateway.protocols.postgres.sql.settings import NAMED_ONLY, harmless
from gateway.protocols.postgres.sql.settings import VERBS as SETTING_VERBS
from gateway.protocols.postgres.sql.verbs import GENERIC, VERBS

KEYS = ("verbs", "relations", "functions", "parameters", "where")

_SETTINGS = frozenset({"set", "reset", *SETTING_VERBS.values()})
_Test = Callable[[Operation], bool]


def compile_matcher(spec: Mapping[str, Any], effect: str) -> Matcher:
    """A predicate on one operation. ``effect`` is allow, approve or deny. Raises ``ValueError`` saying what is wrong."""
    for key in spec:
        if key not in KEYS:
            raise ValueError(f"unknown key {key!r}: expected one of {', '.join(KEYS)}")
    allowing = effect == "allow"
    tests: list[_Test] = [_free(spec)]
    if "verbs" in spec:
        tests.append(_verbs(_entries(spec, "verbs"), "parameters" in spec, allowing))
    if "relations" in spec:
        tests.append(_relations(_entries(spec, "relations"), allowing))
    if "functions" in spec:
        tests.append(_functions(_entries(spec, "functions")))
    if "where" in spec:
        tests.append(_where(spec["where"]))
    if "parameters" in spec:
        tests.append(_parameters(_entries(spec, "parameters"), allowing))
    elif allowing:
        tests.append(_harmless(frozenset(_entries(spec, "verbs")) if "verbs" in spec else frozenset()))
    return lambda operation: all(test(operation) for test in tests)


def _entries(spec: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = spec[key]
    entries = (value,) if isinstance(value, str) else value
    if not isinstance(entries, Sequence) or not entries or not all(isinstance(entry, str) and entry for entry in entries):
        raise ValueError(f"{key}: expected a list of names, not empty")
    return tuple(entries)


def _free(spec: Mapping[str, Any]) -> _Test:
    """What needs no rule is matched only by rules that speak of it: ``functions`` for built-in functions, else the verb."""
    functions, verbs = "functions" in spec, "verbs" in spec

    def test(operation: Operation) -> bool:
        if not operation.attributes.get("free"):
            return True
        return functions if operation.verb == "call" else verbs

    return test


def _verbs(entries: tuple[str, ...], parameters_named: bool, allowing: bool) -> _Test:
    for entry in entries:
        if entry not in VERBS:
            close = difflib.get_close_matches(entry, VERBS, n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"verbs: expected verbs of the published table; there is no {entry!r}{hint}")
    exact = frozenset(entries)
    generic = tuple(f"{entry}-" for entry in entries if entry in GENERIC)
    settings = "set" in exact and (parameters_named or not allowing)

    def test(operation: Operation) -> bool:
        verb = operation.verb
        if verb in exact or (generic and verb.startswith(generic)):
            return True
        return settings and verb in SETTING_VERBS.values()

    return test


def _relations(entries: tuple[str, ...], allowing: bool) -> _Test:
    patterns = patterns_of(entries, "relations")

    def test(operation: Operation) -> bool:
        named = operation.attributes.get("relations")
        if allowing and (operation.attributes.get("container") or (not named and operation.verb == "select")):
            return True
        if not isinstance(named, tuple) or not named:
            return False
        matched = (any(pattern(name) for pattern in patterns) for name in named)
        return all(matched) if allowing else any(matched)

    return test


def _functions(entries: tuple[str, ...]) -> _Test:
    patterns = patterns_of([entry if "." in entry else f"*.{entry}" for entry in entries], "functions")

    def test(operation: Operation) -> bool:
        named = operation.attributes.get("functions")
        if operation.verb != "call" or not isinstance(named, tuple):
            return False
        return any(pattern(name) for name in named for pattern in patterns)

    return test


def _where(value: Any) -> _Test:
    if value != "missing":
        raise ValueError("where: expected missing")
    return lambda operation: operation.attributes.get("where") == "missing"


def _parameters(entries: tuple[str, ...], allowing: bool) -> _Test:
    """``role`` and the like match only where they are spelled out, not by a pattern that happens to cover them."""
    lower = [entry.lower() for entry in entries]
    exact = frozenset(lower)
    patterns = patterns_of(lower, "parameters", separator="")

    def test(operation: Operation) -> bool:
        named = operation.attributes.get("parameters")
        if operation.verb not in _SETTINGS or not isinstance(named, tuple):
            return False
        return all(name in exact or (_may_glob(name, allowing) and any(p(name) for p in patterns)) for name in named)

    return test


def _may_glob(name: str, allowing: bool) -> bool:
    return not allowing or name not in NAMED_ONLY


def _harmless(verbs: frozenset[str]) -> _Test:
    """An allow rule without ``parameters`` covers the shipped list, pinned settings at their value, and RESET ALL. The verbs ``set-role``
    and ``set-session-authorization`` name their parameter themselves."""

    def test(operation: Operation) -> bool:
        if operation.verb not in _SETTINGS:
            return True
        if operation.verb in SETTING_VERBS.values():
            return operation.verb in verbs
        named = operation.attributes.get("parameters")
        if operation.attributes.get("pinned") or not isinstance(named, tuple):
            return True
        return all(harmless(name) for name in named)

    return test


# patterns


def patterns_of(entries: Sequence[str], key: str, separator: str = ".") -> list[Callable[[str], bool]]:
    """Predicates on names. ``*`` stands for any characters but the dot, ``?`` for one. Raises ``ValueError``."""
    if key == "relations":
        for entry in entries:
            if entry.count(".") != 1:
                raise ValueError(f"relations: expected schema.relation, not {entry!r}")
    return [_pattern(entry, separator) for entry in entries]


@lru_cache(maxsize=4096)
def _pattern(entry: str, separator: str) -> Callable[[str], bool]:
    if "*" not in entry and "?" not in entry:
        return entry.__eq__
    one = f"[^{separator}]" if separator else "."
    special = {"*": one + "*", "?": one}
    parts = (special.get(part) or re.escape(part) for part in re.split(r"([*?])", entry))
    compiled = re.compile("".join(parts), re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None


def expand(pattern: str, names: Sequence[str]) -> list[str]:
    """The names that a pattern covers."""
    test = _pattern(pattern, ".")
    return [name for name in names if test(name)]


PROTOCOL = Protocol(name="postgres", matcher="sql", compile_matcher=compile_matcher)
