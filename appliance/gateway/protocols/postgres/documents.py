# SPDX-License-Identifier: Apache-2.0
"""Parts of json and jsonb values hidden by path. A value that cannot be read strictly (RFC 8259) becomes NULL as a whole.

A member that occurs twice is hidden twice; numbers stay as they were written. Binary jsonb begins with its version, 1 (jsonb_send).
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from gateway.masking.paths import Place, Places
from gateway.masking.rules import GONE, MaskRule
from gateway.protocols.postgres.numbers import decimal_of, nearest
from gateway.protocols.postgres.rows import Change

JSON, JSONB = 114, 3802
LONGEST = 16 * 2**20
"""Bytes of a document that is taken apart; a longer one becomes NULL."""


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


class _Members(list[tuple[str, Any]]):
    """An object, every member of it."""


def hiding(rule: MaskRule, type_oid: int, binary: bool) -> Change:
    """What hides the parts that the rule names in documents of that type and format."""
    places = Places(path for path, _ in rule.inner)
    rules = [inner for _, inner in rule.inner]
    versioned = binary and type_oid == JSONB

    def change(value: bytes) -> bytes | None:
        if versioned and value[:1] != b"\x01" or len(value) > LONGEST:
            return GONE
        try:
            document = _read(value[1:] if versioned else value)
            writer = _Writer(places, rules)
            writer.value(document, places.start())
            if not writer.hidden:
                return None
            return (b"\x01" if versioned else b"") + "".join(writer.out).encode()
        except (ValueError, RecursionError):
            return GONE

    return change


def is_document(text: str) -> bool:
    """Whether a text is JSON."""
    try:
        _read(text.encode())
    except (ValueError, RecursionError):
        return False
    return True


def _read(value: bytes) -> Any:
    return json.loads(value.decode(), object_pairs_hook=_Members, parse_int=_Number, parse_float=_Number, parse_constant=_no_number)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


class _Writer:
    """Writes a document again, without what the paths lead to."""

    def __init__(self, places: Places, rules: list[MaskRule]) -> None:
        self._places, self._rules = places, rules
        self.out: list[str] = []
        self.hidden = 0

    def value(self, value: Any, at: frozenset[Place]) -> None:
        if isinstance(value, _Members):
            self._several("{}", ((name, f"{_string(name)}: ", inner) for name, inner in value), at)
        elif isinstance(value, list):
            self._several("[]", ((place, "", inner) for place, inner in enumerate(value)), at)
        else:
            self.out.append(_scalar(value))

    def _several(self, brackets: str, entries: Any, at: frozenset[Place]) -> None:
        self.out.append(brackets[0])
        for number, (key, before, inner) in enumerate(entries):
            below, ended = self._places.below(at, key) if at else (at, [])
            self.out.append((", " if number else "") + before)
            if ended:
                self.out.append(_hidden(inner, self._rule(ended)))
                self.hidden += 1
            else:
                self.value(inner, below)
        self.out.append(brackets[1])

    def _rule(self, ended: list[int]) -> MaskRule:
        found = self._rules[ended[0]]
        for number in ended[1:]:
            found = found.also(self._rules[number])
        return found


def _hidden(value: Any, rule: MaskRule) -> str:
    """A text carries the masked text; a number may be rounded, hashed or replaced; everything else becomes null."""
    if value is None or rule.kind == "null":
        return "null"
    if isinstance(value, _Number):
        if rule.kind == "round":
            number = decimal_of(value.encode())
            return "null" if number is None else str(nearest(number, rule.keep))
        return _shown(rule, str(value)) if rule.kind in ("hash", "value") else "null"
    if isinstance(value, str):
        return _shown(rule, value)
    return _fixed(rule.text) if rule.kind == "value" else "null"


def _shown(rule: MaskRule, text: str) -> str:
    return _fixed(rule.text) if rule.kind == "value" else _string(rule.apply(text))


def _fixed(text: str) -> str:
    return _string(text)


def _scalar(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    return _string(value) if isinstance(value, str) else {True: "true", False: "false", None: "null"}[value]


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
