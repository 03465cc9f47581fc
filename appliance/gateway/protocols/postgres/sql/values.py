# SPDX-License-Identifier: Apache-2.0
"""What analysis knows of a value while it walks an expression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.statement import ColumnId, Flow

NO_ORIGINS: frozenset[ColumnId] = frozenset()

BOOL, INT4, TEXT, UNKNOWN, RECORD = 16, 23, 25, 705, 2249
"""Type oids from pg_type.dat. ``UNKNOWN`` is the type of a bare string literal or untyped parameter."""


class Value:
    """A value's lineage and type. Never changed once made: values are shared between statements.

    ``origins``, ``plain``, ``unknown`` and ``system`` are those of ``Flow``. ``type`` is a type oid, 0 where analysis does not
    know it. ``fields`` are the columns of a row value whose shape is known. ``literals`` are the constants (character
    offset + 1) and parameters (minus their number) whose content may still be in the value.
    """

    __slots__ = ("fields", "literals", "origins", "plain", "system", "type", "unknown")

    def __init__(
        self,
        origins: frozenset[ColumnId] = NO_ORIGINS,
        plain: bool = False,
        unknown: bool = False,
        system: bool = True,
        type: int = 0,
        fields: tuple[tuple[str, Value], ...] | None = None,
        literals: tuple[int, ...] = (),
    ) -> None:
        self.origins = origins
        self.plain = plain
        self.unknown = unknown
        self.system = system
        self.type = type
        self.fields = fields
        self.literals = literals

    @property
    def flow(self) -> Flow:
        return Flow(self.origins, self.plain, self.unknown, self.system)

    @property
    def carries(self) -> bool:
        """True when something other than constants may be in it."""
        return self.unknown or bool(self.origins)

    def derived(self, type: int = 0, *, keep_literals: bool = True) -> Value:
        """The result of a computation on this value alone."""
        return Value(self.origins, False, self.unknown, self.system, type, None, self.literals if keep_literals else ())

    def as_type(self, type: int) -> Value:
        """The same value, known to have another type."""
        return Value(self.origins, self.plain, self.unknown, self.system, type, self.fields, self.literals)

    def field(self, name: str) -> Value | None:
        """The field of a row value; ``None`` where it has none of that name or its shape is not known."""
        for own, value in self.fields or ():
            if own == name:
                return value
        return None


def constant(type: int) -> Value:
    """A value that carries nothing of the target's tables."""
    return Value(type=type)


def combine(values: Sequence[Value], type: int = 0) -> Value:
    """The result of a computation on several values: it carries everything they carry."""
    if len(values) < 2:
        return values[0].derived(type) if values else Value(type=type)
    unknown, system = False, True
    origins: list[frozenset[ColumnId]] = []
    literals: list[tuple[int, ...]] = []
    for value in values:
        if value.origins and (not origins or origins[-1] is not value.origins):
            origins.append(value.origins)
        unknown = unknown or value.unknown
        system = system and value.system
        if value.literals and (not literals or literals[-1] is not value.literals):
            literals.append(value.literals)
    return Value(_together(origins), False, unknown, system, type, None, _each_once(literals))


def _together(found: list[frozenset[ColumnId]]) -> frozenset[ColumnId]:
    return found[0].union(*found[1:]) if found else NO_ORIGINS


def _each_once(found: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Each literal once: a value that is used twice at each of many steps would hold it 2ⁿ times."""
    if len(found) < 2:
        return found[0] if found else ()
    return tuple(dict.fromkeys(chain.from_iterable(found)))


def union_type(values: Iterable[Value]) -> int:
    """The type of a set operation, CASE or array where that is certain, else 0 (manual 10.5)."""
    types = {value.type for value in values} - {UNKNOWN}
    if not types:
        return TEXT
    return types.pop() if len(types) == 1 else 0


def row(names: Sequence[str], values: Sequence[Value], type: int = RECORD) -> Value:
    """A row value over the given columns."""
    whole = combine(values, type) if len(values) != 1 else values[0].derived(type)
    return Value(whole.origins, False, whole.unknown, whole.system, type, tuple(zip(names, values, strict=True)), whole.literals)


if fast is not None and not TYPE_CHECKING:
    NO_ORIGINS = fast.NO_ORIGINS
    Value, combine, constant, row, union_type = fast.Value, fast.combine, fast.constant, fast.row, fast.union_type
