# SPDX-License-Identifier: Apache-2.0
"""Where the columns of a relation come from: views expanded, generated columns, inheritance in both directions."""

from __future__ import annotations

from dataclasses import replace

from gateway.protocols.postgres.catalog import FIRST_USER_OID, Catalog, Column, Relation
from gateway.protocols.postgres.catalog.builtin import sensitive
from gateway.protocols.postgres.sql.expressions import expression
from gateway.protocols.postgres.sql.knowledge import Knowledge, Shape
from gateway.protocols.postgres.sql.parse import DEFAULT_LIMIT, Node, parse
from gateway.protocols.postgres.sql.scope import Item, Scope, indexed
from gateway.protocols.postgres.sql.select import query
from gateway.protocols.postgres.sql.values import RECORD, Value
from gateway.protocols.postgres.sql.walk import Names, Walk
from gateway.protocols.postgres.statement import ColumnId, Context, SqlFault

MAX_DEPTH = 32
VIEW_LIMIT = DEFAULT_LIMIT


def shape_of(knowledge: Knowledge, relation: Relation) -> Shape:
    """The lineage of a relation's columns; what cannot be followed is unknown. A caller already too deep gets ``RecursionError``,
    so that nothing is remembered of the attempt."""
    if relation.oid < FIRST_USER_OID or relation.schema.startswith("pg_toast"):
        return _system(relation)
    if relation.definition is not None:
        return _view(knowledge, relation)
    return _table(knowledge, relation)


def _shape(catalog: Catalog, relation: Relation, values: list[Value], *, early: bool, reasons: tuple[str, ...] = ()) -> Shape:
    names = tuple(column.name for column in relation.columns)
    return Shape(names, tuple(values), indexed(names, values), _row_type(catalog, relation), early, reasons)


def _row_type(catalog: Catalog, relation: Relation) -> int:
    found = catalog.type(relation.name, relation.schema)
    return found.oid if found is not None and found.relation_oid == relation.oid else RECORD


def _system(relation: Relation) -> Shape:
    """pg_catalog and information_schema: clear, but for the columns that are known to hold data or secrets."""
    values = []
    for column in relation.columns:
        hidden = sensitive(relation.schema, relation.name, column.name) is not None
        origins = frozenset(((relation.schema, relation.name, column.name),))
        values.append(Value(origins, not hidden, hidden, not hidden, column.type_oid))
    names = tuple(column.name for column in relation.columns)
    return Shape(names, tuple(values), indexed(names, values), RECORD, early=relation.kind == "r")


# tables


def _table(knowledge: Knowledge, relation: Relation) -> Shape:
    catalog = knowledge.catalog
    family = (relation, *catalog.ancestors(relation.oid), *catalog.children(relation.oid))
    plain = {member.oid: _plain_columns(member) for member in family}
    generated = {(member.oid, c.name): _generated(knowledge, member, c) for member in family for c in member.columns if c.generated}
    values = []
    for column in relation.columns:
        own = plain[relation.oid][column.name]
        origins = set(own.origins)
        unknown = False
        for member in family:
            if column.name in plain[member.oid]:
                origins |= plain[member.oid][column.name].origins
            more = generated.get((member.oid, column.name))
            if more is not None:
                origins |= more.origins
                unknown = unknown or more.unknown
        values.append(Value(frozenset(origins), not column.generated, unknown, False, column.type_oid))
    early = all(m.kind in "rp" and not m.row_security for m in (relation, *catalog.children(relation.oid)))
    return _shape(catalog, relation, values, early=early)


def _plain_columns(relation: Relation) -> dict[str, Value]:
    return {
        column.name: Value(frozenset({(relation.schema, relation.name, column.name)}), True, False, False, column.type_oid)
        for column in relation.columns
    }


def _generated(knowledge: Knowledge, relation: Relation, column: Column) -> Value:
    """What a generated column is computed from."""
    index = _plain_columns(relation)
    item = Item(relation.name, list(index), list(index.values()), index=index, relation=relation)
    return stored_expression(knowledge, column.generated or "", Scope(items=[item]))


def stored_expression(knowledge: Knowledge, text: str, scope: Scope) -> Value:
    """The lineage of an expression as pg_get_expr prints it; unknown where it cannot be followed."""
    try:
        (statement,), _ = parse(f"SELECT {text}", VIEW_LIMIT)
        (target,) = statement.body["targetList"]
        return expression(quiet_walk(knowledge), target["ResTarget"]["val"], scope)
    except (SqlFault, ValueError, KeyError, TypeError):
        return Value(unknown=True, system=False)


def runs_user_code(knowledge: Knowledge, text: str) -> bool:
    """Whether a stored expression (a default) runs anything that is not built in, or cannot be followed."""
    try:
        (statement,), _ = parse(f"SELECT {text}", VIEW_LIMIT)
        walk = quiet_walk(knowledge)
        found = expression(walk, statement.body["targetList"][0]["ResTarget"]["val"], Scope())
        return walk.user_code or found.unknown
    except (SqlFault, ValueError, KeyError, TypeError):
        return True


def quiet_walk(knowledge: Knowledge, depth: int = 0) -> Walk:
    """A walk over stored SQL: its names are qualified, and it makes no operations."""
    names = Names(("pg_catalog",), knowledge.catalog.loaded_temp_schema, "")
    return Walk(knowledge, names, Context(("pg_catalog",)), quiet=True, depth=depth)


# views


def _view(knowledge: Knowledge, relation: Relation) -> Shape:
    if relation.oid in knowledge.making or len(knowledge.making) > MAX_DEPTH:
        return _opaque(knowledge.catalog, relation, "is nested too deeply")
    knowledge.making.add(relation.oid)
    try:
        return _expanded(knowledge, relation)
    except (SqlFault, ValueError, KeyError, TypeError):
        return _opaque(knowledge.catalog, relation, "cannot be followed")
    finally:
        knowledge.making.discard(relation.oid)


def _expanded(knowledge: Knowledge, relation: Relation) -> Shape:
    walk = quiet_walk(knowledge)
    columns = query(walk, _select(relation.definition or ""), None)
    if len(columns.values) != len(relation.columns):
        raise ValueError("the definition has another number of columns")
    values = [_through(relation, column, value) for column, value in zip(relation.columns, columns.values, strict=True)]
    early = walk.early and relation.kind == "v" and not relation.row_security
    shape = _shape(knowledge.catalog, relation, values, early=early, reasons=tuple(walk.reasons))
    return replace(shape, under=tuple(walk.relations.values()), code=walk.user_code or walk.changes_context)


def _select(definition: str) -> Node:
    (statement,), _ = parse(definition, VIEW_LIMIT)
    if statement.kind != "SelectStmt":
        raise ValueError("not a query")
    return statement.body


def _through(relation: Relation, column: Column, value: Value) -> Value:
    own: ColumnId = (relation.schema, relation.name, column.name)
    return Value(value.origins | {own}, value.plain, value.unknown, value.system, column.type_oid, value.fields)


def _opaque(catalog: Catalog, relation: Relation, why: str) -> Shape:
    values = [
        Value(frozenset({(relation.schema, relation.name, column.name)}), False, True, False, column.type_oid)
        for column in relation.columns
    ]
    shape = _shape(catalog, relation, values, early=False, reasons=(f"{relation.schema}.{relation.name} {why}",))
    return replace(shape, code=True)
