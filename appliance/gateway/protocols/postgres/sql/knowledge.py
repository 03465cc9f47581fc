# SPDX-License-Identifier: Apache-2.0
"""What analysis derives from a catalog once and uses for every statement: which names could mean a user's object, what a
built-in function does, and the lineage of every relation's columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gateway.model import Operation
from gateway.protocols.postgres.catalog import BuiltinCatalog, Catalog, Function, Operator, Relation
from gateway.protocols.postgres.catalog.builtin import effect, reveals
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.parse import ThreadsOwn
from gateway.protocols.postgres.sql.values import BOOL, RECORD, Value

PG_CATALOG = "pg_catalog"


@dataclass(frozen=True, slots=True)
class Shape:
    """A relation's columns with their lineage. ``early``: reading it runs nothing but built-in, non-volatile code on plain
    local tables without row security. ``under`` holds the oids of the relations that a view's definition names;
    ``code``: reading it may run code that is not built in, or change a setting."""

    names: tuple[str, ...]
    values: tuple[Value, ...]
    index: Mapping[str, Value]
    row_type: int
    early: bool = True
    reasons: tuple[str, ...] = ()
    under: tuple[int, ...] = ()
    code: bool = False


@dataclass(frozen=True, slots=True)
class BuiltinFunction:
    """All functions of one name in pg_catalog. ``simple``: none of them is volatile, has an effect, reveals anything or fills a row.
    ``result`` is the type that all of them give, 0 where that differs or depends on the arguments."""

    functions: tuple[Function, ...]
    simple: bool
    result: int


class BuiltinKnowledge:
    """Derived from what initdb made; shared by every catalog over the same built-in objects."""

    def __init__(self, builtin: BuiltinCatalog) -> None:
        self.builtin = builtin

    @cached_property
    def functions(self) -> Mapping[str, BuiltinFunction]:
        """pg_catalog's functions by name."""
        groups: dict[str, list[Function]] = {}
        for function in self.builtin.objects.functions:
            if function.schema == PG_CATALOG:
                groups.setdefault(function.name, []).append(function)
        return {name: _builtin_function(found) for name, found in groups.items()}

    @cached_property
    def operators(self) -> Mapping[str, tuple[Operator, ...]]:
        """pg_catalog's operators by name."""
        groups: dict[str, list[Operator]] = {}
        for operator in self.builtin.objects.operators:
            groups.setdefault(operator.name, []).append(operator)
        return {name: tuple(found) for name, found in groups.items()}

    @cached_property
    def operator_results(self) -> Mapping[tuple[str, int, int], int]:
        return {(op.name, op.left, op.right): op.result for op in self.builtin.objects.operators}

    @cached_property
    def simple(self) -> Simple:
        """Functions that need no rule, mean nothing but their arguments and give no record: (all of the name, their result or 0, the
        key and the value of the operation that a call is)."""
        return {
            name: (found.functions, found.result, ("call", f"{PG_CATALOG}.{name}"), free_call(name))
            for name, found in self.functions.items()
            if found.simple and name not in SPECIAL and all(function.result != RECORD for function in found.functions)
        }

    @cached_property
    def base_types(self) -> Mapping[str, int]:
        """pg_catalog's base types by name."""
        return {entry.name: entry.oid for entry in self.builtin.objects.types if entry.schema == PG_CATALOG and entry.kind == "b"}

    @cached_property
    def predicates(self) -> frozenset[str]:
        """Names of operators that always answer a boolean."""
        return frozenset(name for name, found in self.operators.items() if all(op.result == BOOL for op in found))


POLYMORPHIC = frozenset({2276, 2277, 2283, 2776, 3500, 3831, 4537, 4538, 5077, 5078, 5079, 5080})
"""any, anyarray, anyelement, anynonarray, anyenum, anyrange, anymultirange and the anycompatible family."""


def populates(function: Function) -> bool:
    """Whether it makes a row of the type of its first argument: what that type's domains check runs on the values."""
    return "populate_record" in function.name


def _builtin_function(found: list[Function]) -> BuiltinFunction:
    results = {function.result for function in found}
    simple = not any(f.volatile == "v" or effect(f) or reveals(f) or populates(f) for f in found)
    result = results.pop() if len(results) == 1 else 0
    return BuiltinFunction(tuple(found), simple, 0 if result in POLYMORPHIC else result)


@dataclass
class Knowledge:
    """Derived from one catalog snapshot. ``shaper`` gives the lineage of a relation (``lineage.shape_of``)."""

    catalog: Catalog
    builtin: BuiltinKnowledge
    shaper: Callable[[Knowledge, Relation], Shape] = field(repr=False)
    shapes: dict[int, Shape] = field(default_factory=dict, repr=False)
    making: set[int] = field(default_factory=set, repr=False)
    defaults: dict[str, bool] = field(default_factory=dict, repr=False)
    below: dict[int, tuple[Relation, ...]] = field(default_factory=dict, repr=False)

    def shape(self, relation: Relation) -> Shape:
        found = self.shapes.get(relation.oid)
        if found is None:
            found = self.shapes[relation.oid] = self.shaper(self, relation)
        return found

    @cached_property
    def user_functions(self) -> frozenset[str]:
        """Names that a function outside pg_catalog has."""
        own = {function.name for function in self.catalog.user.functions}
        return frozenset(own | {f.name for f in self.catalog.builtin.objects.functions if f.schema != PG_CATALOG})

    @cached_property
    def user_operators(self) -> frozenset[str]:
        return frozenset(operator.name for operator in self.catalog.user.operators)

    @cached_property
    def casting(self) -> bool:
        """Whether some user cast with code of its own can run without being written."""
        return any(cast.method != "b" and cast.context != "e" for cast in self.catalog.user.casts)

    @cached_property
    def facts(self) -> Any:
        """What the compiled walk looks up; ``None`` without it."""
        return None if fast is None else facts_of(self, fast.Facts)


SPECIAL = frozenset({"set_config", "current_setting", "json_object"})
"""Built-in functions whose calls mean more than their arguments: ``functions.function_call`` looks at them."""


Simple = Mapping[str, tuple[tuple[Function, ...], int, tuple[str, str], Operation]]


def facts_of(known: Knowledge, made: Callable[..., Any]) -> Any:
    """Built-in names that no user object has too, so that they can mean one thing alone."""
    user, builtin = known.catalog.user, known.builtin
    functions = {name: found for name, found in builtin.simple.items() if name not in known.user_functions}
    converted = {cast.target for cast in user.casts if cast.method != "b"}
    unclear = {name for schema, name in user.types_by_name if schema == PG_CATALOG}
    if known.catalog.server_version < 170000:
        unclear |= {"json", "jsonb"}        # older grammars read them as ordinary names
    by_oid = builtin.builtin.objects.types_by_oid
    types = {name: oid for name, oid in builtin.base_types.items()
             if name not in unclear and oid not in converted and by_oid[oid].element not in converted}
    return made(
        frozenset(builtin.operators) - known.user_operators, builtin.predicates, builtin.operator_results, functions, types, known.shapes,
        frozenset(cast.source for cast in user.casts if cast.context == "i" and cast.method != "b"))


def free_call(name: str) -> Operation:
    """The operation of a built-in function that needs no rule of its own."""
    qualified = f"{PG_CATALOG}.{name}"
    return Operation("postgres", "call", (qualified,), {"functions": (qualified,), "free": True})


_RECENT: ThreadsOwn[Knowledge] = ThreadsOwn()
"""The last few of each thread: what is derived grows while statements are walked, and is not to be seen half made."""
_BUILTIN: list[BuiltinKnowledge] = []
_KEEP = 8


def knowledge_of(catalog: Catalog, shaper: Callable[[Knowledge, Relation], Shape]) -> Knowledge:
    """The knowledge of this very snapshot, made at first use; the last few are kept."""
    recent = _RECENT.kept
    for known in recent:
        if known.catalog is catalog:
            return known
    made = Knowledge(catalog, _builtin_of(catalog.builtin), shaper)
    recent.insert(0, made)
    del recent[_KEEP:]
    return made


def _builtin_of(builtin: BuiltinCatalog) -> BuiltinKnowledge:
    for known in _BUILTIN:
        if known.builtin is builtin:
            return known
    made = BuiltinKnowledge(builtin)
    _BUILTIN.insert(0, made)
    del _BUILTIN[_KEEP:]
    return made
