# SPDX-License-Identifier: Apache-2.0
"""The catalog of one target database as name resolution needs it: an immutable snapshot with indexed look-ups.

Values mirror pg_class, pg_attribute, pg_proc, pg_operator, pg_type and pg_cast (PostgreSQL manual, chapter "System
Catalogs"). An oid of 0 means "none". Objects with an oid below 16384 were made by initdb and count as built in.

A look-up takes either a written ``schema`` or a search ``path``:

* without ``schema`` the path is searched in order; ``pg_catalog`` comes first where the path does not name it;
* the written or listed name ``pg_temp`` stands for the session's ``temp_schema``; a temp schema that the path does not
  name is searched before everything else, for relations and types;
* functions and operators are never found in the session's temp schema unless it is written (manual, ``search_path``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_Step = Callable[[int], tuple[int, ...]]

FIRST_USER_OID = 16384
"""FirstNormalObjectId in access/transam.h: lower oids belong to initdb."""

CATALOG = "pg_catalog"
TEMP = "pg_temp"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a relation or composite type. ``generated`` and ``default`` are expressions as pg_get_expr prints them,
    or empty where the target could not tell (dropped while it was read): then anything may flow."""

    name: str
    number: int
    type_oid: int
    generated: str | None = None
    default: str | None = None
    not_null: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """A row of pg_class. ``kind`` is relkind: r table, v view, m materialized view, p partitioned table, f foreign table,
    S sequence, c composite type, t TOAST table, i index, I partitioned index.

    ``definition`` is the body of a view or materialized view with every name schema-qualified, or empty where the target
    could not tell: then anything may flow; built-in views have none (None). ``parents`` are the oids of pg_inherits.
    ``rules`` tells of rewrite rules other than a view's own, ``triggers`` of user triggers, ``rewriting`` of those among them that
    may change the row (BEFORE … FOR EACH ROW, INSTEAD OF), ``row_security`` of enabled policies. ``persistence`` is p permanent,
    u unlogged, t temporary.
    """

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...] = ()
    definition: str | None = None
    parents: tuple[int, ...] = ()
    rules: bool = False
    triggers: bool = False
    row_security: bool = False
    persistence: str = "p"
    rewriting: bool = False

    def column_numbered(self, number: int) -> Column | None:
        """The column of this pg_attribute.attnum: at that place, but where columns before it were dropped."""
        if 0 < number <= len(self.columns) and self.columns[number - 1].number == number:
            return self.columns[number - 1]
        return next((column for column in self.columns if column.number == number), None)

    def column(self, name: str) -> Column | None:
        """The live column of that name."""
        return next((column for column in self.columns if column.name == name), None)


_NAMES_OBJECTS = frozenset({24, 26, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191})
"""oid, and the types that name objects of the catalog (regproc … regcollation)."""
_GIVEN_TYPE = frozenset({2276, 2277, 2283, 5077, 5078})
"""any, anyarray, anyelement, anycompatible, anycompatiblearray."""
_STRINGS = frozenset({19, 25, 1042, 1043, 2275})
"""name, text, char, varchar, cstring."""
COMPUTING = frozenset({
    "btree_gin", "btree_gist", "citext", "cube", "earthdistance", "fuzzystrmatch", "hstore", "intarray", "isn", "ltree", "pg_trgm",
    "pgcrypto", "postgis", "seg", "unaccent", "uuid-ossp", "vector",
})
"""Extensions whose compiled immutable functions compute from their arguments alone, as far as their source says. Others have some that call
themselves immutable and run SQL they are given (``_pgr_dijkstra`` of pgrouting, ``ST_MapAlgebra`` of postgis_raster): code of one that is
not known here is unknown code."""


@dataclass(frozen=True, slots=True)
class Function:
    """A row of pg_proc. ``kind``: f function, a aggregate, w window, p procedure. ``arg_types`` are the input arguments,
    ``defaults`` counts the trailing ones that may be left out, ``variadic`` is the element type of the last one or 0.
    ``volatile``: i immutable, s stable, v volatile. ``arg_names`` is empty or names the input arguments (for ``f(a => 1)``);
    ``outputs`` are the OUT and TABLE columns (name, type oid) where the result is a record. ``language`` is pg_language's name,
    ``extension`` that of the extension it belongs to.
    """

    oid: int
    schema: str
    name: str
    kind: str
    arg_types: tuple[int, ...]
    defaults: int = 0
    variadic: int = 0
    result: int = 0
    returns_set: bool = False
    volatile: str = "v"
    strict: bool = False
    arg_names: tuple[str, ...] = ()
    outputs: tuple[tuple[str, int], ...] = ()
    language: str = ""
    extension: str = ""

    @property
    def compiled(self) -> bool:
        """Whether it is the compiled code of an extension that is known."""
        return self.extension in COMPUTING and self.language in ("c", "internal") and self.kind == "f"

    @property
    def computes(self) -> bool:
        """Whether its result is computed from its arguments and nothing else, and nothing of them is kept: compiled code of an extension
        that calls itself immutable, and is not given the name of something to look at, nor SQL to run as far as is known: a text that
        becomes rows could be some. What makes a value of the caller's own type runs what that type checks."""
        return (self.compiled and self.volatile == "i" and _NAMES_OBJECTS.isdisjoint(self.arg_types)
                and self.result not in _GIVEN_TYPE and "mapalgebra" not in self.name
                and not (self.returns_set and not _STRINGS.isdisjoint(self.arg_types)))


@dataclass(frozen=True, slots=True)
class Operator:
    """A row of pg_operator; ``left`` is 0 for a prefix operator."""

    oid: int
    schema: str
    name: str
    left: int
    right: int
    result: int
    function_oid: int


@dataclass(frozen=True, slots=True)
class Type:
    """A row of pg_type. ``kind``: b base, c composite, d domain, e enum, p pseudo, r range, m multirange.

    ``element`` is the element of an array type, ``array`` the array over this type, ``relation_oid`` the relation of a
    composite, ``base`` the type under a domain, ``checks`` the functions that the domain's constraints and default call,
    ``subtype`` the type under a range or multirange, ``preferred`` is typispreferred. ``functions`` are the input, output,
    receive, send, typmod, subscript and analyze functions that are not built in (a base type of an extension).
    """

    oid: int
    schema: str
    name: str
    kind: str
    category: str
    element: int = 0
    array: int = 0
    relation_oid: int = 0
    base: int = 0
    checks: tuple[int, ...] = ()
    subtype: int = 0
    preferred: bool = False
    functions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Cast:
    """A row of pg_cast. ``function_oid`` is 0 for binary-coercible and I/O casts; ``context``: e explicit, a assignment,
    i implicit; ``method``: f function, i input and output functions, b binary coercible."""

    source: int
    target: int
    function_oid: int
    context: str
    oid: int = 0
    method: str = "f"


@dataclass(frozen=True)
class Objects:
    """A set of catalog objects with its indexes, which are built at first use."""

    schemas: frozenset[str] = frozenset()
    relations: tuple[Relation, ...] = ()
    functions: tuple[Function, ...] = ()
    operators: tuple[Operator, ...] = ()
    types: tuple[Type, ...] = ()
    casts: tuple[Cast, ...] = ()

    @cached_property
    def relations_by_name(self) -> Mapping[tuple[str, str], Relation]:
        return {(relation.schema, relation.name): relation for relation in self.relations}

    @cached_property
    def relations_by_oid(self) -> Mapping[int, Relation]:
        return {relation.oid: relation for relation in self.relations}

    @cached_property
    def functions_by_name(self) -> Mapping[tuple[str, str], tuple[Function, ...]]:
        return _grouped(((function.schema, function.name), function) for function in self.functions)

    @cached_property
    def functions_by_oid(self) -> Mapping[int, Function]:
        return {function.oid: function for function in self.functions}

    @cached_property
    def operators_by_name(self) -> Mapping[tuple[str, str], tuple[Operator, ...]]:
        return _grouped(((operator.schema, operator.name), operator) for operator in self.operators)

    @cached_property
    def types_by_name(self) -> Mapping[tuple[str, str], Type]:
        return {(entry.schema, entry.name): entry for entry in self.types}

    @cached_property
    def types_by_oid(self) -> Mapping[int, Type]:
        return {entry.oid: entry for entry in self.types}

    @cached_property
    def casts_by_pair(self) -> Mapping[tuple[int, int], Cast]:
        return {(cast.source, cast.target): cast for cast in self.casts}

    @cached_property
    def casts_by_source(self) -> Mapping[int, tuple[Cast, ...]]:
        return _grouped((cast.source, cast) for cast in self.casts)

    @cached_property
    def casts_by_target(self) -> Mapping[int, tuple[Cast, ...]]:
        return _grouped((cast.target, cast) for cast in self.casts)

    @cached_property
    def children_by_parent(self) -> Mapping[int, tuple[int, ...]]:
        return _grouped((parent, relation.oid) for relation in self.relations for parent in relation.parents)


@dataclass(frozen=True)
class BuiltinCatalog:
    """What initdb made (oid below 16384) for one ``server_version`` (150008 is 15.8). ``objects`` holds pg_catalog and
    information_schema; shared by every database and every epoch."""

    server_version: int
    objects: Objects = field(repr=False)


@dataclass(frozen=True)
class Catalog:
    """Built-in and user objects of one database at one ``epoch``.

    ``loaded_temp_schema`` is the temp schema of the connection that read it, if it had one: definitions and expressions
    leave it out of names, and are resolved with the path ``("pg_catalog",)`` and this temp schema. ``versions`` belongs to loading:
    (relation, column or 0) -> version of the definition.
    """

    epoch: str
    server_version: int
    database: str
    builtin: BuiltinCatalog = field(repr=False)
    user: Objects = field(repr=False, default_factory=Objects)
    loaded_temp_schema: str | None = None
    versions: Mapping[tuple[int, int], str] = field(repr=False, compare=False, default_factory=dict)

    @staticmethod
    def is_builtin(oid: int) -> bool:
        """True for what initdb made; 0 (no object) is not built in."""
        return 0 < oid < FIRST_USER_OID

    @cached_property
    def schemas(self) -> frozenset[str]:
        """Every schema of the database."""
        return self.builtin.objects.schemas | self.user.schemas

    def replace_user_objects(self, user: Objects, epoch: str, loaded_temp_schema: str | None = None) -> Catalog:
        """The same database with other user objects: what a session sees that created objects in its open transaction."""
        return Catalog(epoch, self.server_version, self.database, self.builtin, user, loaded_temp_schema)

    def relation(self, name: str, schema: str | None = None, path: Sequence[str] = (), temp_schema: str | None = None) -> Relation | None:
        """The relation that the name means, of any kind."""
        for place in _places(schema, path, temp_schema, temporary=True):
            found = self.user.relations_by_name.get((place, name)) or self.builtin.objects.relations_by_name.get((place, name))
            if found:
                return found
        return None

    def type(
        self, name: str, schema: str | None = None, path: Sequence[str] = (), temp_schema: str | None = None, *, temporary: bool = True
    ) -> Type | None:
        """The type that the internal name (``int4``, ``_text``) means. ``temporary=False`` is for function notation
        (``text(x)``), which never finds a type of the temp schema."""
        for place in _places(schema, path, temp_schema, temporary=temporary):
            found = self.user.types_by_name.get((place, name)) or self.builtin.objects.types_by_name.get((place, name))
            if found:
                return found
        return None

    def functions(
        self, name: str, schema: str | None = None, path: Sequence[str] = (), temp_schema: str | None = None
    ) -> tuple[Function, ...]:
        """All candidates in path order; of equal argument types only the first, as the target would."""
        seen: dict[tuple[int, ...], Function] = {}
        for place in _places(schema, path, temp_schema, temporary=False):
            for found in self._functions_in(place, name):
                seen.setdefault(found.arg_types, found)
        return tuple(seen.values())

    def operators(
        self, name: str, schema: str | None = None, path: Sequence[str] = (), temp_schema: str | None = None
    ) -> tuple[Operator, ...]:
        """All candidates in path order; of equal operand types only the first, as the target would."""
        seen: dict[tuple[int, int], Operator] = {}
        for place in _places(schema, path, temp_schema, temporary=False):
            for found in self._operators_in(place, name):
                seen.setdefault((found.left, found.right), found)
        return tuple(seen.values())

    def relation_by_oid(self, oid: int) -> Relation | None:
        return self._side(oid).relations_by_oid.get(oid)

    def function_by_oid(self, oid: int) -> Function | None:
        return self._side(oid).functions_by_oid.get(oid)

    def type_by_oid(self, oid: int) -> Type | None:
        return self._side(oid).types_by_oid.get(oid)

    def cast(self, source: int, target: int) -> Cast | None:
        """The pg_cast entry of exactly this pair, built in or not."""
        pair = (source, target)
        return self.user.casts_by_pair.get(pair) or self.builtin.objects.casts_by_pair.get(pair)

    def casts_to(self, oid: int) -> tuple[Cast, ...]:
        """The casts into this type that are not built in."""
        return self.user.casts_by_target.get(oid, ())

    def casts_from(self, oid: int) -> tuple[Cast, ...]:
        """The casts out of this type that are not built in."""
        return self.user.casts_by_source.get(oid, ())

    def children(self, oid: int) -> tuple[Relation, ...]:
        """Every inheritance child and partition below, at any depth, each once."""
        return self._closure(oid, lambda at: self.user.children_by_parent.get(at, ()))

    def ancestors(self, oid: int) -> tuple[Relation, ...]:
        """Every inheritance parent above, at any depth, each once."""
        return self._closure(oid, self._parents)

    def _parents(self, oid: int) -> tuple[int, ...]:
        relation = self.relation_by_oid(oid)
        return relation.parents if relation else ()

    def _closure(self, start: int, step: _Step) -> tuple[Relation, ...]:
        found: dict[int, Relation] = {}
        waiting = list(step(start))
        while waiting:
            oid = waiting.pop(0)
            relation = self.relation_by_oid(oid)
            if relation and oid not in found and oid != start:
                found[oid] = relation
                waiting.extend(step(oid))
        return tuple(found.values())

    def _side(self, oid: int) -> Objects:
        return self.builtin.objects if oid < FIRST_USER_OID else self.user

    def _functions_in(self, schema: str, name: str) -> Iterator[Function]:
        yield from self.user.functions_by_name.get((schema, name), ())
        yield from self.builtin.objects.functions_by_name.get((schema, name), ())

    def _operators_in(self, schema: str, name: str) -> Iterator[Operator]:
        yield from self.user.operators_by_name.get((schema, name), ())
        yield from self.builtin.objects.operators_by_name.get((schema, name), ())


def _places(schema: str | None, path: Sequence[str], temp_schema: str | None, *, temporary: bool) -> Iterator[str]:
    """The schemas to look into, in order (recomputeNamespacePath in catalog/namespace.c)."""
    if schema is not None:
        written = temp_schema if schema == TEMP else schema
        return iter(() if written is None else (written,))
    listed = [temp_schema if place == TEMP else place for place in path]
    if CATALOG not in listed:
        listed.insert(0, CATALOG)
    if temp_schema and temp_schema not in listed:
        listed.insert(0, temp_schema)
    return (place for place in listed if place and (temporary or not _is_temp(place, temp_schema)))


def _is_temp(place: str, temp_schema: str | None) -> bool:
    """Whether the place is the session's temp schema; where that is not known, any temp schema counts."""
    return place == temp_schema if temp_schema else place.startswith("pg_temp_")


def _grouped(pairs: Iterable[tuple[_Key, _Value]]) -> Mapping[_Key, tuple[_Value, ...]]:
    groups: dict[_Key, list[_Value]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in groups.items()}
