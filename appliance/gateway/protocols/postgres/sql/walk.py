# SPDX-License-Identifier: Apache-2.0
"""The state of one statement's analysis: where names are looked up, and what was found so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.model import Operation
from gateway.model import Value as Attribute
from gateway.protocols.postgres.catalog import Catalog, Function, Operator, Relation, Type
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.knowledge import Knowledge, Shape
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.scope import Item
from gateway.protocols.postgres.sql.values import NO_ORIGINS, Value
from gateway.protocols.postgres.statement import ColumnId, Context, Output, Sink, SqlFault, Write

MAX_STEPS = 200_000
"""Nodes one statement may take to analyse, views and recursion included."""

SEPARATELY = "send the statements one by one: what the earlier ones change cannot be known here"


class Names:
    """Where unqualified names are looked up. ``path`` is ``None`` where an earlier statement of the same text changed it to
    something that cannot be known; ``stale`` tells which kinds of objects it may have changed."""

    __slots__ = ("path", "stale", "temp", "user")

    def __init__(self, path: tuple[str, ...] | None, temp: str | None, user: str, stale: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.temp = temp
        self.user = user
        self.stale = stale


class State:
    """What was found of one statement so far. ``Walk`` adds where its names are looked up."""

    def __init__(self, knowledge: Knowledge, names: Names, context: Context, *, quiet: bool = False, depth: int = 0) -> None:
        self.knowledge = knowledge
        self.catalog: Catalog = knowledge.catalog
        self.names = names
        self.context = context
        self.quiet = quiet
        self.depth = depth
        self.steps = 0
        self.reads: set[ColumnId] = set()
        self.named: set[ColumnId] = set()
        self.unseen: Node | None = None
        self.condition: Node | None = None
        self.relations: dict[str, int] = {}
        self.operations: dict[tuple[str, str], Operation] = {}
        self.sinks: list[Sink] = []
        self.writes: list[Write] = []
        self.bound: dict[int, set[ColumnId]] = {}
        self.reasons: dict[str, None] = {}
        self.early = True
        self.user_code = False
        self.volatile_code = False
        self.target_refs: set[int] = set()
        self.settings: dict[str, str | None] = {}
        self.changes_context = False
        self.changes_catalog = False
        self.dml: set[str] = set()
        self.uses_cursor: str | None = None
        self.version = self.catalog.server_version

    def step(self, count: int = 1) -> None:
        """Note work done. Raises ``SqlFault`` 54001 when it is too much for one statement."""
        self.steps += count
        if self.steps > MAX_STEPS:
            raise SqlFault("54001", "the statement is too complex")

    def operation(self, verb: str, name: str = "", objects: tuple[str, ...] | None = None, **attributes: Attribute) -> None:
        """Note an operation; a second one of the same verb and name adds its attributes."""
        if self.quiet:
            return
        key = (verb, name)
        known = self.operations.get(key)
        merged = {**known.attributes, **attributes} if known is not None else attributes
        shown = objects if objects is not None else (name,) if name else ()
        self.operations[key] = Operation("postgres", verb, shown, merged)

    def on_relation(self, verb: str, relation: Relation, **attributes: Attribute) -> None:
        """One operation per verb and relation: contract section 2."""
        name = qualified(relation)
        self.relations[name] = relation.oid
        self.operation(verb, name, None, relations=(name,), **attributes)

    def uncertain(self, reason: str) -> None:
        """Note why a flow is unknown."""
        self.reasons[reason] = None

    def read(self, value: Value) -> Value:
        """Note that a column is named."""
        if value.origins:
            self.reads.update(value.origins)
        if value.type >= 16384:
            self.early = False
        return value

    def sink(self, what: str, value: Value) -> None:
        if value.carries and not self.quiet:
            self.sinks.append(Sink(what, value.flow))

    def write(self, column: ColumnId, value: Value) -> None:
        self.writes.append(Write(column, value.flow))
        self.bind(value, frozenset((column,)))

    def bind(self, value: Value, origins: frozenset[ColumnId]) -> None:
        """Note that the literals in ``value`` feed, or are compared with, these columns."""
        if origins and value.literals and not self.quiet:
            self.step(len(value.literals))
            for literal in value.literals:
                known = self.bound.get(literal)
                if known is None:
                    self.bound[literal] = set(origins)
                else:
                    known.update(origins)

    def compare(self, values: Sequence[Value]) -> None:
        """Bind the literals in any of the values to the origins of all."""
        origins = NO_ORIGINS
        literals = False
        for value in values:
            if value.origins:
                origins = origins | value.origins
            literals = literals or bool(value.literals)
        if literals and origins:
            for value in values:
                self.bind(value, origins)

    def mark_target(self, item: Item, node: Node) -> None:
        if item.target:
            self.target_refs.add(id(node))


if fast is not None and not TYPE_CHECKING:
    State = fast.State


class Walk(State):
    """One statement (or, ``quiet``, the body of one view) on its way through analysis."""

    __slots__ = ()

    def relation(self, name: str, schema: str | None, location: int | None = None) -> Relation:
        """The relation a name means. ``location`` (0-based) is where a query names it; DDL has none.

        Raises ``SqlFault`` 42P01; 3F000 too where DDL names a schema that is not there (RangeVarGetRelid in namespace.c).
        """
        found = self.find_relation(name, schema)
        if found is None:
            if location is None:
                self._need_schema(schema)
            raise SqlFault("42P01", f'relation "{dotted(schema, name)}" does not exist', 0 if location is None else location + 1)
        return found

    def find_relation(self, name: str, schema: str | None) -> Relation | None:
        if "relations" in self.names.stale:
            raise SqlFault("42501", f'"{dotted(schema, name)}" cannot be resolved within this text', hint=SEPARATELY)
        path, temp = self.names.path, self.names.temp
        if path is not None or schema is not None:
            return self.catalog.relation(name, schema, path or (), temp)
        found = [r for place in self._everywhere() if (r := self.catalog.relation(name, place, (), temp))]
        if len(found) > 1:
            raise SqlFault("42501", f'"{name}" cannot be resolved within this text', hint=SEPARATELY)
        return found[0] if found else None

    def functions(self, name: str, schema: str | None) -> tuple[Function, ...]:
        """All candidates. Raises ``SqlFault`` 3F000."""
        self._need_fresh("functions", schema, name)
        if schema is not None:
            self._need_schema(schema)
        path = self._everywhere() if self.names.path is None else self.names.path
        return self.catalog.functions(name, schema, path, self.names.temp)

    def operators(self, name: str, schema: str | None) -> tuple[Operator, ...]:
        self._need_fresh("functions", schema, name)
        if schema is not None:
            self._need_schema(schema)
        path = self._everywhere() if self.names.path is None else self.names.path
        return self.catalog.operators(name, schema, path, self.names.temp)

    def type(self, name: str, schema: str | None, *, temporary: bool = True) -> Type | None:
        if schema != "pg_catalog" and ("pg_catalog", name) not in self.catalog.builtin.objects.types_by_name:
            self._need_fresh("types", schema, name)
        path = self._everywhere() if self.names.path is None else self.names.path
        return self.catalog.type(name, schema, path, self.names.temp, temporary=temporary)

    def shape(self, relation: Relation) -> Shape:
        return self.knowledge.shape(relation)

    def _everywhere(self) -> tuple[str, ...]:
        """Every schema that could be on the path."""
        return tuple(s for s in sorted(self.catalog.schemas) if not s.startswith(("pg_temp_", "pg_toast")) or s == self.names.temp)

    def _need_fresh(self, kind: str, schema: str | None, name: str) -> None:
        if kind in self.names.stale:
            raise SqlFault("42501", f'"{dotted(schema, name)}" cannot be resolved within this text', hint=SEPARATELY)

    def _need_schema(self, schema: str | None) -> None:
        if schema is not None and schema != "pg_temp" and schema not in self.catalog.schemas:
            raise SqlFault("3F000", f'schema "{schema}" does not exist')


def outputs(walk: Walk, names: Iterable[str], values: Iterable[Value]) -> tuple[Output, ...]:
    """Result columns; a domain is answered as its base type (RowDescription)."""
    return tuple(Output(name, value.flow, base_type(walk, value.type)) for name, value in zip(names, values, strict=True))


def base_type(walk: Walk, type: int) -> int:
    """The type under a domain, any other type itself."""
    found = walk.catalog.type_by_oid(type) if type > 10000 else None
    while found is not None and found.kind == "d" and found.base:
        type = found.base
        found = walk.catalog.type_by_oid(type)
    return type


def qualified(relation: Relation) -> str:
    return f"{relation.schema}.{relation.name}"


def dotted(schema: str | None, name: str) -> str:
    return f"{schema}.{name}" if schema else name


def strings(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The texts of a list of String nodes; an asterisk becomes ``*``."""
    return [node["String"].get("sval", "") if "String" in node else "*" for node in nodes]


def split_name(nodes: Iterable[Mapping[str, Any]], database: str) -> tuple[str | None, str]:
    """(schema, name) of a possibly qualified name. Raises ``SqlFault`` 42601, 0A000."""
    parts = strings(nodes)
    if len(parts) == 3 and parts[0] == database:
        parts = parts[1:]
    if len(parts) > 2:
        raise SqlFault("0A000", "cross-database references are not implemented")
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


PURE: dict[str, Any] = {"base_type": base_type, "split_name": split_name}

if fast is not None and not TYPE_CHECKING:
    outputs = fast.outputs
