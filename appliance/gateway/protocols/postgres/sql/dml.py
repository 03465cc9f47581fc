# SPDX-License-Identifier: Apache-2.0
"""INSERT, UPDATE, DELETE and MERGE: what is written where, what comes back, and whether a condition bounds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.protocols.postgres.catalog import Column, Relation
from gateway.protocols.postgres.sql import settings
from gateway.protocols.postgres.sql.casts import assigned
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.expressions import expanded, expression, indirect
from gateway.protocols.postgres.sql.functions import equated, literal_text
from gateway.protocols.postgres.sql.lineage import runs_user_code
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.scope import Item, Scope
from gateway.protocols.postgres.sql.select import MODIFYING, Columns, query, targets, value_rows, with_scope
from gateway.protocols.postgres.sql.tables import from_clause, relation_item
from gateway.protocols.postgres.sql.values import TEXT, Value, combine
from gateway.protocols.postgres.sql.walk import Walk, qualified
from gateway.protocols.postgres.sql.where import DEPENDS, holds, missing
from gateway.protocols.postgres.statement import ColumnId, SqlFault

_WRITABLE = frozenset("rpfv")


def modify(walk: Walk, kind: str, body: Node, outer: Scope | None) -> Columns:
    """One data-modifying statement, at the top or in WITH. Gives its RETURNING columns. Raises ``SqlFault``."""
    walk.step()
    walk.early = False
    if "withClause" in body:
        outer = with_scope(walk, body["withClause"], outer)
    columns: Columns = _STATEMENTS[kind](walk, body, outer)
    return columns


def target_item(walk: Walk, body: Node) -> tuple[Relation, Item]:
    """The relation written to, and its item. Raises ``SqlFault`` 42501 where a rewrite rule would change the statement."""
    relation = walk.relation(body["relname"], body.get("schemaname"), max(body.get("location", 0), 0))
    if relation.kind not in _WRITABLE:
        raise SqlFault("42809", f'"{relation.name}" cannot be changed')
    _refuse_rules(walk, relation)
    item = relation_item(walk, relation)
    item.target = True
    return relation, item.renamed(body["alias"]) if "alias" in body else item


def below(walk: Walk, relation: Relation) -> tuple[Relation, ...]:
    """The relation, its children, and for a view everything under it. Found once for each catalog."""
    known = walk.knowledge.below.get(relation.oid)
    if known is None:
        known = walk.knowledge.below[relation.oid] = _below(walk, relation)
    return known


def _below(walk: Walk, relation: Relation) -> tuple[Relation, ...]:
    found: dict[int, Relation] = {}
    waiting = [relation]
    while waiting:
        at = waiting.pop()
        if at.oid not in found:
            found[at.oid] = at
            waiting.extend(walk.catalog.children(at.oid))
            if at.kind == "v":
                waiting.extend(r for oid in walk.shape(at).under if (r := walk.catalog.relation_by_oid(oid)))
    return tuple(found.values())


def _refuse_rules(walk: Walk, relation: Relation) -> None:
    for entry in below(walk, relation):
        if entry.rules and not (entry.oid < 16384 and entry.name == "pg_settings"):
            raise SqlFault("42501", f"{qualified(entry)} has a rewrite rule: what writing to it would do cannot be known")


def _column(relation: Relation, name: str, location: int = -1) -> Column:
    found = relation.column(name)
    if found is None:
        raise SqlFault("42703", f'column "{name}" of relation "{relation.name}" does not exist', location + 1)
    return found


def write(walk: Walk, relation: Relation, column: Column, value: Value) -> None:
    """Note an assignment; through a view also to the columns under it."""
    value = assigned(walk, value, column.type_oid)
    own: ColumnId = (relation.schema, relation.name, column.name)
    walk.write(own, value)
    under = walk.shape(relation).index.get(column.name)
    if under is not None:
        walk.bind(value, under.origins)
    if relation.kind == "v":
        for origin in under.origins if under is not None and under.plain else ():
            if origin != own:
                walk.write(origin, value)


# what comes back


def returning(walk: Walk, body: Node, verb: str, item: Item, others: Sequence[Item], outer: Scope | None) -> Columns:
    """The RETURNING columns. Values that triggers or defaults with code of their own may have made are unknown."""
    clause = body.get("returningClause")
    if any(entry.triggers for entry in below(walk, item.relation)) if item.relation else False:
        walk.changes_context = True
    if not clause:
        return Columns([], [])
    if clause.get("options") and walk.version < 180000:
        raise SqlFault("42601", "syntax error in RETURNING")
    seen = _seen(walk, verb, item)
    visible = [*others, seen] if verb == "merge" else [seen, *others]  # the order in which a star expands
    scope = Scope(outer, [*visible, *_versions(walk, clause, seen)])
    return targets(walk, clause["exprs"], scope)


def _seen(walk: Walk, verb: str, item: Item) -> Item:
    relation = item.relation
    if relation is None or verb == "delete":
        return item
    entries = below(walk, relation)
    if any(entry.rewriting for entry in entries):
        walk.uncertain(f"{qualified(relation)} has triggers that may change the row")
        return _opaque(item, set(item.names))
    computed = {c.name for entry in entries for c in entry.columns if c.default and _computed(walk, c.default)}
    if not computed:
        return item
    walk.uncertain(f"a default of {qualified(relation)} runs a function that is not built in")
    return _opaque(item, computed)


def _computed(walk: Walk, default: str) -> bool:
    known = walk.knowledge.defaults.get(default)
    if known is None:
        known = walk.knowledge.defaults[default] = runs_user_code(walk.knowledge, default)
    return known


def _opaque(item: Item, hidden: set[str]) -> Item:
    values = [
        Value(v.origins, False, True, False, v.type) if name in hidden else v
        for name, v in zip(item.names, item.values, strict=True)
    ]
    made = Item(item.name, item.names, values, relation=item.relation, aliased=item.aliased, row_type=item.row_type)
    made.target = item.target
    return made


def _versions(walk: Walk, clause: Node, item: Item) -> list[Item]:
    """OLD and NEW of RETURNING (PostgreSQL 18)."""
    if walk.version < 180000:
        return []
    names = {"RETURNING_OPTION_OLD": "old", "RETURNING_OPTION_NEW": "new"}
    for entry in clause.get("options", ()):
        option = entry["ReturningOption"]
        names[option.get("option", "RETURNING_OPTION_OLD")] = option["value"]
    found = []
    for name in names.values():
        made = Item(name, item.names, item.values, relation=item.relation, aliased=True, row_type=item.row_type)
        made.open_columns = False
        found.append(made)
    return found


# INSERT


def _insert(walk: Walk, body: Node, outer: Scope | None) -> Columns:
    relation, item = target_item(walk, body["relation"])
    walk.on_relation("insert", relation)
    walk.dml.add("insert")
    if any(column.default and _computed(walk, column.default) for column in relation.columns):
        walk.changes_context = True
    columns = _insert_columns(walk, relation, body.get("cols", ()), outer)
    if "selectStmt" in body:
        _insert_source(walk, relation, columns, body["selectStmt"]["SelectStmt"], outer)
    if "onConflictClause" in body:
        _on_conflict(walk, relation, item, body["onConflictClause"], outer)
    return returning(walk, body, "insert", item, (), outer)


Place = tuple[Column, list[Value]]
"""A column that is assigned to, and the subscripts within it: ``doc[key] = value`` keeps the key too."""


def _place(walk: Walk, relation: Relation, target: Node, scope: Scope) -> Place:
    if "indirection" not in target:
        return _column(relation, target["name"], target.get("location", -1)), []
    steps = [step for step in target.get("indirection", ()) if "A_Indices" in step]
    return _column(relation, target["name"], target.get("location", -1)), [indirect(walk, Value(), step, scope) for step in steps]


def _put(walk: Walk, relation: Relation, place: Place, value: Value) -> None:
    column, subscripts = place
    write(walk, relation, column, combine([value, *subscripts], value.type) if subscripts else value)


def _insert_columns(walk: Walk, relation: Relation, nodes: Sequence[Node], outer: Scope | None) -> list[Place]:
    if not nodes:
        return [(column, []) for column in relation.columns]
    return [_place(walk, relation, node["ResTarget"], Scope(outer)) for node in nodes]


def _insert_source(walk: Walk, relation: Relation, columns: list[Place], select: Node, outer: Scope | None) -> None:
    rows = value_rows(walk, select, outer)
    if rows is None:
        rows = [query(walk, select, outer).values]
    for found in rows:
        if len(found) > len(columns):
            raise SqlFault("42601", "INSERT has more expressions than target columns")
        for place, value in zip(columns, found, strict=False):
            _put(walk, relation, place, value)


def _on_conflict(walk: Walk, relation: Relation, item: Item, body: Node, outer: Scope | None) -> None:
    excluded = Item("excluded", item.names, item.values, index=item.index, relation=relation, aliased=True, row_type=item.row_type)
    infer = body.get("infer", {})
    own = Scope(outer, [item])
    for entry in infer.get("indexElems", ()):
        element = entry["IndexElem"]
        expression(walk, element["expr"], own) if "expr" in element else _column(relation, element["name"])
    if "whereClause" in infer:
        expression(walk, infer["whereClause"], own)
    if body.get("action") != "ONCONFLICT_UPDATE":
        return
    walk.on_relation("update", relation)
    walk.dml.add("update")
    scope = Scope(outer, [item, excluded])
    _assign(walk, relation, body.get("targetList", ()), scope)
    if "whereClause" in body:
        expression(walk, body["whereClause"], scope)


# UPDATE and DELETE


def _assign(walk: Walk, relation: Relation, nodes: Sequence[Node], scope: Scope) -> None:
    """SET: each assignment, with ``(a, b) = …`` taken apart."""
    together: list[Value] = []
    for node in nodes:
        target = node["ResTarget"]
        place = _place(walk, relation, target, scope)
        several = target["val"].get("MultiAssignRef")
        if several is None:
            _put(walk, relation, place, expression(walk, target["val"], scope))
            continue
        if several["colno"] == 1:
            together = _row_assigned(walk, several, scope)
        _put(walk, relation, place, together[several["colno"] - 1])


def _row_assigned(walk: Walk, body: Node, scope: Scope) -> list[Value]:
    """The values of ``(a, b, …) = source``, one for each column. Raises ``SqlFault`` 42601 where there are not as many."""
    source, count = body["source"], body["ncolumns"]
    if "RowExpr" in source:
        values = expanded(walk, source["RowExpr"].get("args", ()), scope)
    else:
        value = expression(walk, source, scope)
        values = [own for _, own in value.fields or ()] if count > 1 else [value]
    if len(values) != count:
        raise SqlFault("42601", "number of columns does not match number of values")
    return values


def _update(walk: Walk, body: Node, outer: Scope | None) -> Columns:
    relation, item = target_item(walk, body["relation"])
    scope = Scope(outer, [item])
    _others(walk, body.get("fromClause", ()), scope)
    _assign(walk, relation, body["targetList"], scope)
    where = _where(walk, body.get("whereClause"), scope)
    if relation.oid < 16384 and relation.name == "pg_settings":
        return _update_settings(walk, body)
    _write_operation(walk, "update", relation, where)
    return returning(walk, body, "update", item, scope.items[1:], outer)


def _delete(walk: Walk, body: Node, outer: Scope | None) -> Columns:
    relation, item = target_item(walk, body["relation"])
    scope = Scope(outer, [item])
    _others(walk, body.get("usingClause", ()), scope)
    where = _where(walk, body.get("whereClause"), scope)
    _write_operation(walk, "delete", relation, where)
    return returning(walk, body, "delete", item, scope.items[1:], outer)


def _others(walk: Walk, nodes: Sequence[Node], scope: Scope) -> None:
    """FROM of UPDATE and USING of DELETE: LATERAL entries see one another, but not the target."""
    others = Scope(scope.outer)
    from_clause(walk, nodes, others)
    scope.items.extend(others.items)


def _write_operation(walk: Walk, verb: str, relation: Relation, unbounded: bool) -> None:
    walk.dml.add(verb)
    known = walk.operations.get((verb, qualified(relation)))
    if unbounded or (known is not None and known.attributes.get("where") == "missing"):
        walk.on_relation(verb, relation, where="missing")
    else:
        walk.on_relation(verb, relation)


def _where(walk: Walk, node: Node | None, scope: Scope) -> bool:
    """Walk a WHERE clause; true when it is missing in the contract's sense."""
    if node is None:
        return True
    if "CurrentOfExpr" in node:
        walk.uses_cursor = node["CurrentOfExpr"].get("cursor_name")
        return False
    expression(walk, node, scope)
    return missing(node, walk.target_refs)


def _update_settings(walk: Walk, body: Node) -> Columns:
    """UPDATE of pg_settings is SET. Raises ``SqlFault`` 42501 where the name is not a literal in WHERE."""
    name = _named_setting(walk, body.get("whereClause"))
    targeted = [node["ResTarget"] for node in body["targetList"]]
    others = body.keys() & {"fromClause", "returningClause", "withClause"} or "alias" in body["relation"]
    if name is None or len(targeted) != 1 or targeted[0]["name"] != "setting" or others:
        raise SqlFault("42501", "UPDATE of pg_settings needs SET setting and WHERE name = a literal; use SET")
    value = literal_text(targeted[0]["val"])
    for entry in walk.writes:
        if entry.flow.origins or entry.flow.unknown:
            walk.sink(f"setting {name}", Value(entry.flow.origins, False, entry.flow.unknown, False))
    settings.note(walk, name, value, known=value is not None)
    return Columns(["set_config"], [Value(type=TEXT)])


def _named_setting(walk: Walk, condition: Node | None) -> str | None:
    """The setting that ``WHERE name = 'literal'`` means."""
    if "=" in walk.knowledge.user_operators:
        return None
    columns = ({"ColumnRef": {"fields": [{"String": {"sval": part}} for part in path]}} for path in (("name",), ("pg_settings", "name")))
    return next((found for column in columns if (found := equated(condition, column)) is not None), None)


# MERGE

_ACTIONS = {"CMD_INSERT": "insert", "CMD_UPDATE": "update", "CMD_DELETE": "delete"}


def _merge(walk: Walk, body: Node, outer: Scope | None) -> Columns:
    """MERGE is its actions; the operation ``merge`` itself needs no allow, but deny and approve rules may name it."""
    relation, item = target_item(walk, body["relation"])
    source = Scope(outer)
    from_clause(walk, [body["sourceRelation"]], source)
    scope = Scope(outer, [item, *source.items])
    expression(walk, body["joinCondition"], scope)
    joined = holds(body["joinCondition"], walk.target_refs)
    walk.dml.add("merge")
    walk.on_relation("merge", relation, free=True)
    for entry in body.get("mergeWhenClauses", ()):
        _merge_action(walk, relation, entry["MergeWhenClause"], scope, source, joined is not DEPENDS)
    done = [walk.operations.get((verb, qualified(relation))) for verb in ("insert", "update", "delete")]
    if any(operation is not None and operation.attributes.get("where") == "missing" for operation in done):
        walk.on_relation("merge", relation, where="missing")
    if not any(done):
        walk.on_relation("select", relation)
    return returning(walk, body, "merge", item, source.items, outer)


def _merge_action(walk: Walk, relation: Relation, body: Node, scope: Scope, source: Scope, unjoined: bool) -> None:
    inserting = body.get("commandType") == "CMD_INSERT"
    inside = source if inserting else scope
    unbounded = unjoined
    if "condition" in body:
        expression(walk, body["condition"], scope)
        unbounded = unjoined and missing(body["condition"], walk.target_refs)
    verb = _ACTIONS.get(body.get("commandType", ""))
    if verb is None:
        return
    if inserting:
        walk.on_relation("insert", relation)
        walk.dml.add("insert")
        columns = _insert_columns(walk, relation, body.get("targetList", ()), None)
        for place, value in zip(columns, expanded(walk, body.get("values", ()), inside), strict=False):
            _put(walk, relation, place, value)
        return
    _write_operation(walk, verb, relation, unbounded)
    _assign(walk, relation, body.get("targetList", ()), scope)


_STATEMENTS = {"InsertStmt": _insert, "UpdateStmt": _update, "DeleteStmt": _delete, "MergeStmt": _merge}
MODIFYING.update(dict.fromkeys(_STATEMENTS, modify))


PURE: dict[str, Any] = {
    "write": write, "modify": modify, "modified": _STATEMENTS, "below": below, "written_column": _column, "computed": _computed,
    "assign": _assign, "write_operation": _write_operation, "missing": missing, "on_conflict": _on_conflict, "returning": returning,
}  # fmt: skip

if fast is not None and not TYPE_CHECKING:
    write, modify = fast.write, fast.modify
    MODIFYING.update(dict.fromkeys(_STATEMENTS, modify))
