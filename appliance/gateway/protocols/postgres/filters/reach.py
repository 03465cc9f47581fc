# SPDX-License-Identifier: Apache-2.0
"""Which relations are under conditions, and what may not be said while there are any.

A relation is under the conditions of its own name and of every relation it inherits from or is a partition of. What shows rows of such a
relation by another way than its name is *barred*: a view over it, a parent without its condition, its TOAST table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from gateway.errors import Refused
from gateway.masking.model import MaskSet
from gateway.protocols.postgres.catalog.builtin import effect
from gateway.protocols.postgres.catalog.model import FIRST_USER_OID, Catalog, Relation
from gateway.protocols.postgres.filters.expression import ENUM, Condition, condition
from gateway.protocols.postgres.sql.knowledge import knowledge_of
from gateway.protocols.postgres.sql.lineage import shape_of
from gateway.protocols.postgres.statement import Statement

DENIED = "42501"

QUERIES = frozenset({"select", "insert", "update", "delete", "merge", "copy-to", "prepare", "execute", "declare", "create-table"})
"""Verbs that may name a relation under a condition; ``create-table`` as CREATE TABLE AS and SELECT INTO alone."""
LEAVES_ROWS = frozenset({"lock", "vacuum", "analyze", "comment"})
"""Verbs that may name one because they neither show nor change a row."""
ORDINARY = QUERIES | LEAVES_ROWS | frozenset({
    "empty", "begin", "commit", "rollback", "savepoint", "prepare-transaction", "set", "reset", "show", "set-role",
    "set-session-authorization", "listen", "unlisten", "notify", "discard", "deallocate", "checkpoint", "close", "fetch", "explain",
    "copy-from", "truncate", "create-table", "create-index", "create-sequence", "create-schema", "create-statistics", "alter-table",
    "alter-index", "alter-sequence", "drop-table", "drop-index", "drop-sequence", "drop-view", "drop-materialized-view", "drop-statistics",
    "reindex", "cluster",
})
"""Verbs that may be said at all while a condition applies. The others make something that runs or shows rows later, by a name that no
condition is for, or move names: functions, views, rules, triggers, procedures, schemas, servers, roles."""

_READS_NOTHING = (
    "changes a setting of the session", "changes the session's random sequence", "sends a notification", "changes a sequence",
    "allocates a transaction id", "keeps data in, or reads it from, a large object", "takes, holds or frees a lock",
    "keeps the connection and its snapshot busy", "signals other sessions",
)
"""Reasons of ``builtin.EFFECTFUL`` that have nothing to do with rows of tables."""


class Reach:
    """The conditions of one identity on one catalog."""

    def __init__(self, masks: MaskSet, catalog: Catalog) -> None:
        self.masks, self.catalog = masks, catalog
        self._own: dict[int, frozenset[str]] = {}
        self._barred: dict[tuple[int, bool], str] = {}

    def texts(self, relation: Relation) -> frozenset[str]:
        """The conditions that rows of a relation have to meet: its own and those of what it inherits from."""
        found = self._own.get(relation.oid)
        if found is None:
            kin = (relation, *self.catalog.ancestors(relation.oid)) if relation.oid >= FIRST_USER_OID else ()
            found = frozenset(text for one in kin for text in self.masks.filters_of(one.schema, one.name))
            self._own[relation.oid] = found
        return found

    def conditions(self, relation: Relation) -> list[Condition]:
        """The same, understood. Raises ``Refused`` where one says nothing certain about this relation."""
        types = {column.name: self._plain_type(column.type_oid) for column in relation.columns}
        found = []
        for text in sorted(self.texts(relation)):
            try:
                made = condition(text)
            except ValueError:
                raise Refused(f"the row filter of {_name(relation)} cannot be understood", DENIED) from None
            if why := made.fault(types):
                raise Refused(f"the row filter of {_name(relation)} does not fit: {why}", DENIED)
            found.append(made)
        return found

    def _plain_type(self, oid: int) -> int:
        """The type under a domain; ``ENUM`` for an enumeration."""
        kind = self.catalog.type_by_oid(oid) if oid >= FIRST_USER_OID else None
        while kind is not None and kind.kind == "d":
            oid = kind.base
            kind = self.catalog.type_by_oid(oid) if oid >= FIRST_USER_OID else None
        return ENUM if kind is not None and kind.kind == "e" else oid

    def barred(self, relation: Relation, *, only: bool = False) -> str:
        """Why a relation may not be named, or ``""``. ``only``: without what inherits from it."""
        key = (relation.oid, only)
        if key not in self._barred:
            self._barred[key] = self._why_barred(relation, only)
        return self._barred[key]

    def _why_barred(self, relation: Relation, only: bool) -> str:
        if relation.oid < FIRST_USER_OID:
            return ""
        if relation.schema.startswith("pg_toast"):
            return f"{_name(relation)} holds parts of rows, and row filters apply here"
        if relation.kind in "vm":
            return self._why_view(relation, {relation.oid})
        if only and relation.kind != "p":
            return ""
        own = self.texts(relation)
        more = next((child for child in self.catalog.children(relation.oid) if self.texts(child) - own), None)
        return "" if more is None else f"{_name(relation)} shows rows of {_name(more)}, which has a row filter of its own: name that one"

    def _why_view(self, view: Relation, seen: set[int]) -> str:
        """A view runs as it is stored: nothing can be put into it."""
        if self.texts(view):
            return f"{_name(view)} is a view: a row filter can be for tables alone"
        shape = knowledge_of(self.catalog, shape_of).shape(view)
        if shape.code or not view.definition:
            return f"what {_name(view)} reads cannot be known, and row filters apply here"
        for oid in shape.under:
            under = self.catalog.relation_by_oid(oid)
            if under is None:
                return f"what {_name(view)} reads cannot be known, and row filters apply here"
            if oid in seen or oid < FIRST_USER_OID:
                continue
            seen.add(oid)
            why = self._why_view(under, seen) if under.kind in "vm" else self._why_under(view, under)
            if why:
                return why
        return ""

    def _why_under(self, view: Relation, table: Relation) -> str:
        family = (table, *self.catalog.children(table.oid))
        found = next((one for one in family if self.texts(one)), None)
        return "" if found is None else f"{_name(view)} shows rows of {_name(found)}, which has a row filter: name the table itself"

    @cached_property
    def by_name(self) -> Mapping[str, Relation]:
        """Every relation of the users by ``schema.name``, as operations spell it."""
        return {_name(relation): relation for relation in self.catalog.user.relations}

    def touched(self, statement: Statement) -> dict[str, Relation]:
        """The relations a statement names that are under a condition, or barred; what is there under that name."""
        names = {name for name, _ in statement.relations}
        for operation in statement.operations:
            listed = operation.attributes.get("relations")
            names.update(listed if isinstance(listed, tuple) else ())
            names.update(operation.objects if operation.verb not in ("call", "prepare", "execute", "declare") else ())
        found = {name: self.by_name[name] for name in names if name in self.by_name}
        return {name: one for name, one in found.items() if self.texts(one) or self.barred(one)}

    @cached_property
    def short_names(self) -> frozenset[str]:
        """The last parts of the names of relations that are under a condition, or barred."""
        return frozenset(one.name for one in self.catalog.user.relations if self.texts(one) or self.barred(one))

    def is_namesake(self, relation: Relation) -> bool:
        """Whether another relation, of another schema, is under a condition and has the same name: dropped or made meanwhile, one could be
        taken for the other."""
        return relation.name in self.short_names and not self.texts(relation) and not self.barred(relation)

    def has_namesakes(self, statement: Statement) -> bool:
        """Whether a statement names such a relation."""
        names = self.short_names
        found = (self.by_name.get(name) for name, _ in statement.relations if name.rpartition(".")[2] in names)
        return any(one is not None and self.is_namesake(one) for one in found)

    def refuse_ways_around(self, statement: Statement) -> None:
        """Raises ``Refused`` for what could show or change rows without naming their relation."""
        for part in _parts(statement):
            verbs = {part.verb} | {operation.verb for operation in part.operations if operation.verb != "call"}
            for verb in sorted(verbs - ORDINARY):
                raise Refused(f"{verb} is refused while row filters apply: what it makes or changes could show rows that they hide", DENIED)
        for operation in statement.operations:
            names = operation.attributes.get("functions")
            if operation.verb == "call" and isinstance(names, tuple) and not operation.attributes.get("free"):
                for name in names:
                    self._refuse_function(name)

    def _refuse_function(self, name: str) -> None:
        if name in self.masks.functions:
            return
        schema, _, short = name.partition(".")
        known = self.catalog.builtin.objects.functions_by_name.get((schema, short), ())
        if not known or schema != "pg_catalog":
            raise Refused(f"{name} is refused while row filters apply: what it reads cannot be known (`functions` of a "
                          "mask set names those that may be called)", DENIED)
        reasons = [reason for one in known if (reason := effect(one)) is not None]
        if not all(reason.startswith(_READS_NOTHING) for reason in reasons):
            raise Refused(f"{name} is refused while row filters apply: it may read what its arguments name", DENIED)


def _parts(statement: Statement) -> Iterator[Statement]:
    yield statement
    if statement.inner is not None:
        yield from _parts(statement.inner)


def _name(relation: Relation) -> str:
    return f"{relation.schema}.{relation.name}"


def named(relations: Iterable[Relation]) -> tuple[str, ...]:
    return tuple(sorted({_name(relation) for relation in relations}))
