# SPDX-License-Identifier: Apache-2.0
"""One statement's tree with its guards: which form each relation under a condition gets, and which statements get none.

* A relation that is read becomes a guard. ``OFFSET 0`` makes it a fence: nothing of the caller's runs on a row that the condition
  removes. Only where everything the statement compares is quiet the fence is left out.
* UPDATE, DELETE and plain SELECTs get the condition into their WHERE, so that everything else of them means what it did; a WHERE that is
  not quiet goes behind a CASE, which PostgreSQL does not evaluate out of order (manual, 4.2.14).
* INSERT, MERGE and COPY FROM into such a relation, TRUNCATE, TABLESAMPLE, EXPLAIN, WHERE CURRENT OF: refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.errors import Refused
from gateway.protocols.postgres.catalog.model import Relation
from gateway.protocols.postgres.filters.expression import quoted
from gateway.protocols.postgres.filters.quiet import Quiet, nodes_of, uses_of
from gateway.protocols.postgres.filters.reach import DENIED, Reach
from gateway.protocols.postgres.filters.splice import ROW, Splice, joined, unclear
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.scope import SYSTEM_COLUMNS
from gateway.protocols.postgres.sql.walk import Walk

_WRITES = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_LEVELS = frozenset({"SelectStmt", "SubLink", "RangeSubselect", "CommonTableExpr", *_WRITES})
_PLAIN = frozenset({"SelectStmt", "UpdateStmt", "DeleteStmt"})
_AROUND = frozenset({"PrepareStmt", "DeclareCursorStmt", "CreateTableAsStmt", "CopyStmt"})
HANDLED = frozenset({"SelectStmt", *_AROUND, *_WRITES})
"""Statement kinds that may name a relation under a condition."""
_COMPUTED = 0
MOST_PLACES = 128
"""Times that one statement may name such relations: each costs a look along the text."""


class Forms:
    """The guards of one statement. ``walk`` resolves names as analysis does; ``types`` are those the caller gave to parameters, ``None``
    where that is not known."""

    def __init__(self, splice: Splice, reach: Reach, walk: Walk, types: Sequence[int] | None) -> None:
        self._splice, self._reach, self._walk, self._types = splice, reach, walk, types
        self.filtered: dict[int, Relation] = {}
        self.seen: dict[int, Relation] = {}
        self._fences = self._guards = self._locks = False
        self._places = 0
        self._ctes: frozenset[str] = frozenset()
        self._types_by_column: Mapping[str, set[int]] = {}
        self._quiet = Quiet(lambda name: (), (), ())
        self._plain = False

    def apply(self, kind: str, body: Node) -> None:
        """Put every guard of a statement into its tree and into the text. Raises ``Refused``."""
        self._ctes = frozenset(str(one["ctename"]) for _, one in nodes_of(body, frozenset({"CommonTableExpr"})))
        self._columns({kind: body})
        self._plain = self._is_plain(kind, body)
        self._statement(kind, body)
        if self._guards:
            self._refuse_system_columns({kind: body})
        if self._fences and self._locks:
            raise Refused("FOR UPDATE and FOR SHARE would lock more rows than the statement names: compare columns with constants and "
                          "parameters alone, without sub-queries", DENIED)

    # names

    def relation(self, body: Node) -> Relation | None:
        """The relation under a condition that a RangeVar means; ``None`` for any other. Raises ``Refused`` for one that is barred."""
        schema = body.get("schemaname")
        found = self._walk.find_relation(body["relname"], schema)
        if found is None:
            return None
        why = self._reach.barred(found, only=not body.get("inh"))
        texts = self._reach.texts(found)
        namesake = schema is None and self._reach.is_namesake(found)
        if namesake and body["relname"] not in self._ctes:
            self._splice.qualify(body, found.schema)
        if texts or self._reach.barred(found):
            self.seen[found.oid] = found
        if (why or texts or namesake) and schema is None and body["relname"] in self._ctes:
            raise Refused(f'the WITH query "{body["relname"]}" has the name of a relation with a row filter: name it otherwise', DENIED)
        if why:
            raise Refused(why, DENIED)
        if not texts:
            return None
        self.filtered[found.oid] = found
        self._places += 1
        if self._places > MOST_PLACES:
            raise Refused(f"relations with a row filter are named more than {MOST_PLACES} times", DENIED)
        return found

    def _columns(self, tree: Node) -> None:
        """The types that each column name could have here: those of the relations named; a WITH query or function makes them uncertain. A
        computed column has none that is quiet: from PostgreSQL 18 on it may be computed as it is read, and fail."""
        found: dict[str, set[int]] = {}
        for body in _range_vars(tree):
            relation = self._walk.find_relation(body["relname"], body.get("schemaname"))
            renamed = body.get("alias", {}).get("colnames")
            for column in relation.columns if relation is not None and not renamed else ():
                found.setdefault(column.name, set()).add(column.type_oid if column.generated is None else _COMPUTED)
        self._types_by_column = found
        self._quiet = Quiet(lambda name: tuple(found.get(name, ())), self._types, self._walk.knowledge.user_operators,
                            uses_of(tree))

    # what is quiet

    def _is_plain(self, kind: str, body: Node) -> bool:
        """Whether a statement of one query level compares nothing but quietly."""
        while kind in _AROUND and "query" in body:
            ((kind, body),) = body["query"].items()
        one_level = sum(1 for _ in nodes_of({kind: body}, _LEVELS)) == 1 and "larg" not in body
        return kind in _PLAIN and one_level and self._quietly_joined(body) and self._quiet_where(body)

    def _quietly_joined(self, body: Node) -> bool:
        """FROM of relations alone, joined quietly: nothing but WHERE is tried on their rows. HAVING may become a part of WHERE, and an
        index may compute what rows are ordered by."""
        ordered = all(_usual(one) for entry in body.get("sortClause", ()) for _, one in nodes_of(entry, frozenset({"A_Expr"})))
        return ordered and all(map(self._quiet_entry, _from_of(body))) and "havingClause" not in body

    def _quiet_where(self, body: Node) -> bool:
        return "whereClause" not in body or self._quiet.is_quiet(body["whereClause"])

    def _quiet_entry(self, node: Node) -> bool:
        """An entry of FROM that is a relation, or a join of such entries on quiet conditions."""
        ((kind, body),) = node.items()
        if kind == "RangeVar":
            return body["relname"] not in self._ctes and not body.get("alias", {}).get("colnames")
        if kind != "JoinExpr" or body.get("isNatural") or body.get("alias", {}).get("colnames"):
            return False
        on = "quals" not in body or self._quiet.is_quiet(body["quals"])
        using = self._quiet.shared([one["String"]["sval"] for one in body.get("usingClause", ())])
        return on and using and self._quiet_entry(body["larg"]) and self._quiet_entry(body["rarg"])

    # statements

    def _statement(self, kind: str, body: Node) -> None:
        if kind in _AROUND and "query" in body:
            ((inside, inner),) = body["query"].items()
            self._statement(inside, inner)
        elif kind == "CopyStmt":
            self._copy(body)
        elif kind == "SelectStmt":
            self._select(body, top=True)
        elif kind in _WRITES:
            self._write(kind, body)
        elif any(self.relation(found) is not None for found in _range_vars(body)):
            raise unclear()

    def _copy(self, body: Node) -> None:
        relation = self.relation(body["relation"])
        if relation is None:
            return
        if body.get("is_from"):
            raise Refused(f"COPY into {_name(relation)} is refused: its row filter cannot be shown to hold for what comes in", DENIED)
        listed = [entry["String"]["sval"] for entry in body.get("attlist", ())]
        names = listed or [column.name for column in relation.columns if not column.generated]
        columns = ", ".join(f"{ROW}.{quoted(name)}" for name in names)
        only = relation.kind != "p"      # COPY of a table takes its own rows alone
        self._splice.copied(body, _query(columns, relation, self._condition(relation, ROW), only=only))

    def _write(self, kind: str, body: Node) -> None:
        relation = self.relation(body["relation"])
        if relation is not None:
            if kind in ("InsertStmt", "MergeStmt"):
                verb = "INSERT" if kind == "InsertStmt" else "MERGE"
                raise Refused(f"{verb} into {_name(relation)} is refused: its row filter cannot be shown to hold for the new row", DENIED)
            self._changed(kind, body, relation)
        calm = self._quiet_where(body) and self._quietly_joined(body)
        self._reads({key: value for key, value in body.items() if key != "relation"})
        if relation is not None:
            target = body["relation"]
            name = quoted(target["alias"]["aliasname"] if "alias" in target else target["relname"])
            self._splice.narrow(body, self._splice.at(target["location"]), self._condition(relation, name), fenced=not calm)

    def _changed(self, kind: str, body: Node, relation: Relation) -> None:
        """The rows after an UPDATE meet the condition as they did before: what it looks at may not be assigned."""
        if "CurrentOfExpr" in body.get("whereClause", {}):
            raise Refused(f"WHERE CURRENT OF cannot be given the row filter of {_name(relation)}: name the row by its key", DENIED)
        if kind != "UpdateStmt":
            return
        looked_at = {name for one in self._reach.conditions(relation) for name in one.columns}
        assigned = {entry["ResTarget"]["name"] for entry in body.get("targetList", ())}
        if found := sorted(looked_at & assigned):
            raise Refused(f"{_name(relation)}.{found[0]} may not be changed: its row filter looks at it", DENIED)
        if found := sorted(column.name for column in relation.columns if column.name in looked_at and column.generated is not None):
            raise Refused(f"{_name(relation)} may not be changed: its row filter looks at {found[0]}, which is computed", DENIED)

    # reading

    def _select(self, body: Node, *, top: bool = False) -> None:
        """One query level that is read; of a plain one the condition goes into WHERE."""
        if top and "fromClause" in body and not {"larg", "withClause", "intoClause"} & body.keys() and self._quietly_joined(body):
            self._narrowed(body)
        else:
            self._reads(body)

    def _narrowed(self, body: Node) -> None:
        inner = {id(node) for entry in _from_of(body) for node in _never_missing(entry)}
        wide: list[tuple[Node, Relation]] = []
        for node in [node for entry in _from_of(body) for node in _wrapped(entry)]:
            relation = self.relation(node["RangeVar"])
            if relation is None:
                continue
            if id(node) in inner and self._splice.stands_in_from(self._splice.at(node["RangeVar"]["location"])):
                wide.append((node, relation))
            else:
                self._guard(node, relation)
        quiet = self._quiet_where(body)
        self._reads({key: value for key, value in body.items() if key != "fromClause"})
        if not wide:
            return
        named = [(quoted(node["RangeVar"].get("alias", {}).get("aliasname") or node["RangeVar"]["relname"]), one) for node, one in wide]
        condition = joined(self._condition(relation, name) for name, relation in named)
        near = self._splice.at(wide[0][0]["RangeVar"]["location"])
        self._splice.narrow(body, near, condition, fenced=not quiet)

    def _reads(self, node: Any) -> None:
        """Every relation that is named anywhere below is read; statements in WITH are statements."""
        if isinstance(node, list):
            for entry in node:
                self._reads(entry)
        elif isinstance(node, dict):
            if "RangeVar" in node and len(node) == 1:
                relation = self.relation(node["RangeVar"])
                if relation is not None:
                    self._guard(node, relation)
                return
            for key, value in node.items():
                if key in _WRITES:
                    self._write(key, value)
                elif key == "RangeTableSample":
                    self._refuse_sample(value)
                elif key == "lockingClause":
                    self._locks = True
                else:
                    self._reads(value)

    def _refuse_sample(self, body: Node) -> None:
        relation = self.relation(body["relation"]["RangeVar"])
        if relation is not None:
            raise Refused(f"TABLESAMPLE of {_name(relation)} is refused: it would count rows that its row filter hides", DENIED)
        self._reads(body.get("args"))
        self._reads(body.get("repeatable"))

    def _guard(self, node: Node, relation: Relation) -> None:
        self._guards = True
        self._fences = self._fences or not self._plain
        guard = _query("*", relation, self._condition(relation, ROW), only=not node["RangeVar"].get("inh"))
        self._splice.guard(node, guard if self._plain else f"{guard} OFFSET 0")

    def _condition(self, relation: Relation, name: str) -> str:
        return joined(one.sql(name) for one in self._reach.conditions(relation))

    def _refuse_system_columns(self, tree: Node) -> None:
        for _, body in nodes_of(tree, frozenset({"ColumnRef"})):
            last = body["fields"][-1]
            if last.get("String", {}).get("sval") in SYSTEM_COLUMNS:
                raise Refused(f"{last['String']['sval']} cannot be read here: a relation has a row filter", DENIED)


_USUAL = frozenset({"+", "-", "*", "/", "%", "||", "=", "<>", "<", ">", "<=", ">="})
"""Operators that no index orders rows by (pg_amop.amoppurpose)."""


def _usual(body: Node) -> bool:
    return [part.get("String", {}).get("sval") in _USUAL for part in body["name"]] == [True]


def _from_of(body: Node) -> Sequence[Node]:
    found: Sequence[Node] = body.get("fromClause") or body.get("usingClause") or ()
    return found


def _wrapped(entry: Node) -> Iterator[Node]:
    """Every ``{"RangeVar": …}`` of an entry of FROM made of relations and joins."""
    if "RangeVar" in entry:
        yield entry
    elif "JoinExpr" in entry:
        yield from _wrapped(entry["JoinExpr"]["larg"])
        yield from _wrapped(entry["JoinExpr"]["rarg"])


def _never_missing(entry: Node) -> Iterator[Node]:
    """Those of them that no outer join fills with NULL, and that can be named from outside."""
    if "RangeVar" in entry:
        yield entry
    elif "JoinExpr" in entry and "alias" not in entry["JoinExpr"]:
        body = entry["JoinExpr"]
        kind = body.get("jointype", "JOIN_INNER")
        if kind in ("JOIN_INNER", "JOIN_LEFT"):
            yield from _never_missing(body["larg"])
        if kind in ("JOIN_INNER", "JOIN_RIGHT"):
            yield from _never_missing(body["rarg"])


def _range_vars(node: Any) -> Iterator[Node]:
    """Everything in a tree that names a relation, wherever it stands; what FOR UPDATE OF names are aliases."""
    if isinstance(node, dict):
        if "relname" in node:
            yield node
        for key, value in node.items():
            if key not in ("lockingClause", "into", "intoClause"):
                yield from _range_vars(value)
    elif isinstance(node, list):
        for entry in node:
            yield from _range_vars(entry)


def short_names(body: Node) -> set[str]:
    """What a statement names without a schema, or drops."""
    found = {str(one["relname"]) for one in _range_vars(body) if "schemaname" not in one}
    lists = [entry["List"]["items"] for entry in body.get("objects", ()) if "List" in entry]
    return found | {str(items[0]["String"]["sval"]) for items in lists if len(items) == 1 and "String" in items[0]}


def _query(columns: str, relation: Relation, condition: str, *, only: bool) -> str:
    """The rows of a relation that meet the condition, which speaks of it as ``ROW``."""
    name = f"{quoted(relation.schema)}.{quoted(relation.name)}"
    return " ".join(("SELECT", columns, "FROM ONLY" if only else "FROM", name, "AS", ROW, "WHERE", condition))


def _name(relation: Relation) -> str:
    return f"{relation.schema}.{relation.name}"
