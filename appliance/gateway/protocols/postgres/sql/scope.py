# SPDX-License-Identifier: Apache-2.0
"""What names mean inside one query level (parse_relation.c): the FROM items, the CTEs, and the level outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.protocols.postgres.catalog import Relation
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.values import RECORD, Value, constant, row
from gateway.protocols.postgres.statement import SqlFault

SYSTEM_COLUMNS: Mapping[str, Value] = {
    "tableoid": constant(26),
    "xmin": constant(28),
    "cmin": constant(29),
    "xmax": constant(28),
    "cmax": constant(29),
    "ctid": constant(27),
}
"""Columns of pg_attribute with a negative number: they tell where a row is, not what is in it."""

_HAVE_SYSTEM = frozenset("rpmft")
AMBIGUOUS = Value(unknown=True)


def indexed(names: Sequence[str], values: Sequence[Value]) -> dict[str, Value]:
    """Columns by name; a name that occurs twice maps to ``AMBIGUOUS``."""
    found: dict[str, Value] = {}
    for name, value in zip(names, values, strict=True):
        found[name] = AMBIGUOUS if name in found else value
    return found


class Item:
    """One entry of a FROM clause.

    ``named``: it can be named as ``name.column``; ``open_columns``: its columns can be named alone. ``relation`` is set for a catalog
    relation, ``aliased`` when it has another name here. ``any_column`` stands for every column where the shape is not known.
    """

    __slots__ = ("_whole", "aliased", "any_column", "index", "name", "named", "names", "open_columns", "relation", "row_type", "target",
                 "values")

    def __init__(
        self,
        name: str | None,
        names: Sequence[str],
        values: Sequence[Value],
        *,
        index: Mapping[str, Value] | None = None,
        relation: Relation | None = None,
        aliased: bool = False,
        row_type: int = 2249,
        any_column: Value | None = None,
    ) -> None:
        self.name = name
        self.names = names
        self.values = values
        self.index = indexed(names, values) if index is None else index
        self.relation = relation
        self.aliased = aliased
        self.row_type = row_type
        self.any_column = any_column
        self.named = name is not None
        self.open_columns = True
        self.target = False
        self._whole: Value | None = None

    def column(self, name: str) -> Value | None:
        """Its column of that name, a system column included. Raises ``SqlFault`` 42702."""
        found = self.index.get(name)
        if found is AMBIGUOUS:
            raise SqlFault("42702", f'column reference "{name}" is ambiguous')
        if found is None and self.relation is not None and name in SYSTEM_COLUMNS and self.relation.kind in _HAVE_SYSTEM:
            return SYSTEM_COLUMNS[name]
        return self.any_column if found is None else found

    def whole(self) -> Value:
        """The row as one value. A named row type keeps its own field names, whatever the alias calls the columns."""
        if self._whole is None:
            if self.any_column is not None:
                self._whole = self.any_column.as_type(self.row_type)
            else:
                self._whole = row(self.names, self.values, self.row_type)
                if self.row_type != RECORD and self.relation is not None and not self._own_names():
                    self._whole = self._whole.derived(self.row_type)
        return self._whole

    def _own_names(self) -> bool:
        return self.relation is not None and list(self.names) == [column.name for column in self.relation.columns]

    def renamed(self, alias: Node) -> Item:
        """The same under an alias, its first columns named anew if the alias has a column list."""
        new = [entry["String"]["sval"] for entry in alias.get("colnames", ())]
        if len(new) > len(self.names) and self.any_column is None:
            raise SqlFault("42P10", f'table "{alias["aliasname"]}" has fewer columns than its alias names')
        names = [*new, *self.names[len(new) :]] if new else self.names
        values = self.values
        if len(names) > len(values) and self.any_column is not None:
            values = [*values, *[self.any_column] * (len(names) - len(values))]
        made = Item(
            alias["aliasname"],
            names,
            values,
            index=None if new else self.index,
            relation=self.relation,
            aliased=True,
            row_type=self.row_type,
            any_column=self.any_column,
        )
        made.target = self.target
        return made


class Scope:
    """One query level. ``outer`` is the level it may refer to; ``ctes`` the WITH queries that it brings in."""

    __slots__ = ("ctes", "items", "outer")

    def __init__(self, outer: Scope | None = None, items: list[Item] | None = None, ctes: dict[str, Any] | None = None) -> None:
        self.outer = outer
        self.items: list[Item] = [] if items is None else items
        self.ctes = ctes

    def cte(self, name: str) -> Any:
        """The WITH query of that name that is in scope, or ``None``."""
        level: Scope | None = self
        while level is not None:
            if level.ctes is not None and name in level.ctes:
                return level.ctes[name]
            level = level.outer
        return None

    def column(self, name: str, position: int = 0) -> tuple[Value, Item] | None:
        """The innermost column of that name and its item. Raises ``SqlFault`` 42702 at ``position`` where two items have one."""
        level: Scope | None = self
        while level is not None:
            found: tuple[Value, Item] | None = None
            for item in level.items:
                if item.open_columns:
                    value = item.column(name)
                    if value is not None:
                        if found is not None and (found[1].any_column is None and item.any_column is None):
                            raise SqlFault("42702", f'column reference "{name}" is ambiguous', position)
                        if found is None or found[1].any_column is not None:
                            found = (value, item)
            if found is not None:
                return found
            level = level.outer
        return None

    def item(self, name: str) -> Item | None:
        """The innermost item of that name. Raises ``SqlFault`` 42P09 where there are two."""
        level: Scope | None = self
        while level is not None:
            found = [item for item in level.items if item.named and item.name == name]
            if len(found) > 1:
                raise SqlFault("42P09", f'table reference "{name}" is ambiguous')
            if found:
                return found[0]
            level = level.outer
        return None

    def relation_item(self, relation: Relation) -> Item | None:
        """The innermost item that is this relation under its own name (``schema.table.column``)."""
        level: Scope | None = self
        while level is not None:
            for item in level.items:
                if item.named and not item.aliased and item.relation is not None and item.relation.oid == relation.oid:
                    return item
            level = level.outer
        return None


if fast is not None and not TYPE_CHECKING:
    AMBIGUOUS, SYSTEM_COLUMNS = fast.AMBIGUOUS, fast.SYSTEM_COLUMNS
    Item, Scope, indexed = fast.Item, fast.Scope, fast.indexed
