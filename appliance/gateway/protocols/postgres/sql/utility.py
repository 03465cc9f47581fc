# SPDX-License-Identifier: Apache-2.0
"""Statements that are not queries: their operations, the names they carry, and what they change for later statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gateway.protocols.postgres.catalog import Relation
from gateway.protocols.postgres.sql.calls import call
from gateway.protocols.postgres.sql.dml import modify, write
from gateway.protocols.postgres.sql.expressions import expression
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.renames import renames
from gateway.protocols.postgres.sql.scope import Scope
from gateway.protocols.postgres.sql.select import Columns, query
from gateway.protocols.postgres.sql.tables import relation_item
from gateway.protocols.postgres.sql.values import Value
from gateway.protocols.postgres.sql.verbs import verb_of
from gateway.protocols.postgres.sql.walk import SEPARATELY, Walk, qualified, split_name, strings
from gateway.protocols.postgres.statement import SqlFault

_NEW = {
    "CreateStmt": "relation", "CreateForeignTableStmt": "relation", "ViewStmt": "view", "CreateSeqStmt": "sequence",
    "CompositeTypeStmt": "typevar",
}  # fmt: skip
"""Statement kinds that make a relation, and the field that names it."""

_RELATION_OBJECTS = frozenset(
    ["OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_SEQUENCE", "OBJECT_FOREIGN_TABLE", "OBJECT_INDEX"]
)
_OF_RELATION = frozenset(["OBJECT_COLUMN", "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY", "OBJECT_TABCONSTRAINT"])
_DATA = frozenset({"truncate", "lock", "vacuum", "analyze", "cluster", "reindex", "refresh", "comment", "security-label"})


def utility(walk: Walk, kind: str, body: Node) -> str:
    """One utility statement. Gives its verb. Raises ``SqlFault``."""
    walk.early = False
    verb = verb_of(kind, body)
    if body.get("schemaElts"):
        raise SqlFault("0A000", "CREATE SCHEMA with the objects in it is not supported", hint="send the statements one by one")
    if kind == "AlterTableStmt":
        _retyped_columns(walk, body)
    renames(walk, kind, body)
    inner = _inner_queries(walk, kind, body)
    relations = tuple(dict.fromkeys(_relations(walk, kind, body)))
    _used_functions(walk, body)
    objects = relations or tuple(dict.fromkeys(_object_names(kind, body)))
    operations, walk.operations = walk.operations, {}
    for name in relations:
        walk.operation(verb, name, relations=(name,))
    if not relations:
        walk.operation(verb, "", objects)
    for found in _referred(body):
        if kind not in _NEW or new_relation_name(walk, found) not in relations:  # a foreign key to the new table itself
            walk.on_relation("select", walk.relation(found["relname"], found.get("schemaname")))
    walk.operations.update(operations)
    for columns in inner:
        for value in columns.values:
            walk.sink(objects[0] if objects else verb, value)
    if verb not in _DATA:
        walk.changes_catalog = True
    if verb in ("truncate", "cluster", "reindex", "refresh", "create-extension", "alter-extension"):
        walk.user_code = True
    return verb


def new_relation_name(walk: Walk, body: Node) -> str:
    """The name a statement gives to a relation it makes: in the temp schema, the written one, or the first of the path."""
    name = body["relname"]
    if body.get("relpersistence") == "t":
        return f"pg_temp.{name}"
    if "schemaname" in body:
        return f"{body['schemaname']}.{name}"
    if walk.names.path is None:
        raise SqlFault("42501", f'"{name}" cannot be placed within this text', hint=SEPARATELY)
    places = [place for place in walk.names.path if place != "pg_catalog" and not place.startswith("pg_temp")]
    return f"{places[0] if places else 'pg_catalog'}.{name}"


def _relations(walk: Walk, kind: str, body: Node) -> Iterator[str]:
    """Every relation that the statement names, resolved; new ones by the name they will have."""
    if kind in _NEW:
        yield new_relation_name(walk, body[_NEW[kind]])
    if kind == "DropStmt" and body.get("removeType") in _RELATION_OBJECTS:
        for entry in body["objects"]:
            yield _existing(walk, strings(entry["List"]["items"]), bool(body.get("missing_ok")))
        return
    objtype = body.get("removeType") or body.get("objtype") if kind in ("DropStmt", "CommentStmt", "SecLabelStmt") else None
    if objtype in _RELATION_OBJECTS | _OF_RELATION:
        entries = body.get("objects") or [body["object"]]
        for entry in entries:
            names = strings(entry["List"]["items"])
            yield _existing(walk, names if objtype in _RELATION_OBJECTS else names[:-1], bool(body.get("missing_ok")))
        return
    skip = body.get(_NEW.get(kind, ""))
    referred = {id(found) for found in _referred(body)}
    missing_ok = bool(body.get("missing_ok"))
    for found in _range_vars(body, skip):
        if id(found) not in referred:
            yield _existing(walk, [*([found["schemaname"]] if "schemaname" in found else []), found["relname"]], missing_ok)


def _referred(node: Any) -> Iterator[Node]:
    """RangeVars that are only looked at: of a foreign key and of LIKE."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "pktable":
                yield value
            elif key == "TableLikeClause":
                yield value["relation"]
            elif key not in _QUERIES:
                yield from _referred(value)
    elif isinstance(node, list):
        for entry in node:
            yield from _referred(entry)


def _retyped_columns(walk: Walk, body: Node) -> None:
    """``ALTER COLUMN … TYPE … USING expression`` writes the expression into the column."""
    relation = walk.find_relation(body["relation"]["relname"], body["relation"].get("schemaname"))
    for entry in body.get("cmds", ()) if relation is not None else ():
        command = entry["AlterTableCmd"]
        made = command.get("def", {}).get("ColumnDef", {})
        column = relation.column(command.get("name", "")) if relation is not None else None
        if command.get("subtype") == "AT_AlterColumnType" and "raw_default" in made and relation is not None and column is not None:
            write(walk, relation, column, expression(walk, made["raw_default"], Scope(None, [relation_item(walk, relation)])))


def _existing(walk: Walk, names: Sequence[str], missing_ok: bool) -> str:
    schema, name = (names[-2], names[-1]) if len(names) > 1 else (None, names[-1])
    found: Relation | None = walk.find_relation(name, schema)
    if found is not None:
        walk.relations[qualified(found)] = found.oid
        return qualified(found)
    if not missing_ok:
        walk.relation(name, schema)
    return f"{schema}.{name}" if schema else new_relation_name(walk, {"relname": name})


_QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def _range_vars(node: Any, skip: Any = None) -> Iterator[Node]:
    """RangeVars outside of queries; queries are analysed as such."""
    if isinstance(node, dict):
        if node is skip:
            return
        if "relname" in node and "relpersistence" in node:
            yield node
            return
        for key, value in node.items():
            if key not in _QUERIES:
                yield from _range_vars(value, skip)
    elif isinstance(node, list):
        for entry in node:
            yield from _range_vars(entry, skip)


def _inner_queries(walk: Walk, kind: str, body: Node) -> list[Columns]:
    """The queries inside (a view's body, a rule's actions), analysed; those of a rule see OLD and NEW and are not."""
    if kind == "ViewStmt":
        return [query(walk, body["query"]["SelectStmt"], None)]
    if kind == "RuleStmt" or kind == "CreateFunctionStmt":
        return []
    found = []
    for inner_kind, inner in _queries(body):
        found.append(query(walk, inner, None) if inner_kind == "SelectStmt" else modify(walk, inner_kind, inner, None))
    return found


def _queries(node: Any) -> Iterator[tuple[str, Node]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _QUERIES and isinstance(value, dict):
                yield key, value
            else:
                yield from _queries(value)
    elif isinstance(node, list):
        for entry in node:
            yield from _queries(entry)


def _used_functions(walk: Walk, node: Any) -> None:
    """Functions in defaults, checks, index and partition expressions: by name and number of arguments."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "FuncCall" or key == "funccall":
                schema, name = split_name(value["funcname"], walk.catalog.database)
                call(walk, schema, name, [Value() for _ in value.get("args", ())], variadic=value.get("func_variadic", False))
            if key not in _QUERIES:
                _used_functions(walk, value)
    elif isinstance(node, list):
        for entry in node:
            _used_functions(walk, entry)


_NAMES = ("dbname", "role", "extname", "servername", "server_name", "fdwname", "subname", "pubname", "schemaname", "plname", "trigname",
          "policy_name", "tablespacename", "indexname", "idxname", "conditionname", "name", "filename", "amname", "rulename")  # fmt: skip
_LISTS = ("funcname", "domainname", "typeName", "opclassname", "opfamilyname", "conversion_name", "defnames", "dictname", "cfgname",
          "collname", "name")  # fmt: skip


def _object_names(kind: str, body: Node) -> Iterator[str]:
    """The names of what is not a relation, for the record."""
    for key in _NAMES:
        if isinstance(body.get(key), str):
            yield body[key]
    for key in _LISTS:
        if isinstance(body.get(key), list):
            yield ".".join(strings(entry for entry in body[key] if "String" in entry))
    for key in ("role", "user"):
        if isinstance(body.get(key), dict):
            yield str(body[key].get("rolename", body[key].get("roletype", "")))
    for entry in (*body.get("objects", ()), *([body["object"]] if isinstance(body.get("object"), dict) else ())):
        yield from _named(entry)
    for entry in body.get("roles", ()):
        yield str(entry.get("RoleSpec", {}).get("rolename", ""))


def _named(node: Node) -> Iterator[str]:
    if "String" in node:
        yield node["String"].get("sval", "")
    elif "List" in node:
        parts = [entry for entry in node["List"].get("items", ()) if "String" in entry]
        yield ".".join(strings(parts))
    elif "ObjectWithArgs" in node:
        yield ".".join(strings(node["ObjectWithArgs"].get("objname", ())))
    elif "TypeName" in node:
        yield ".".join(strings(node["TypeName"].get("names", ())))
