# SPDX-License-Identifier: Apache-2.0
"""Names without a schema that could come to mean a relation with other masks, or other rules, while a statement waits.

The target looks a name up again when it gets the lock it waited for: where the first relation of that name on the search path was dropped
or renamed meanwhile, the statement runs on the next one, and what was understood of it is not what runs. A column's origin in the answer is
compared with what was understood; a computed column has none, and what is written has none. So such a name has to be given with its
schema. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from gateway.errors import Refused
from gateway.masking.model import MaskSet
from gateway.model import Operation
from gateway.protocols.postgres.catalog.model import FIRST_USER_OID, Catalog, Relation
from gateway.protocols.postgres.filters.forms import short_names
from gateway.protocols.postgres.sql.parse import parse
from gateway.protocols.postgres.statement import SqlFault

DENIED = "42501"
_TEMPORARY = ("pg_temp_", "pg_toast_temp_")
Namesakes = Mapping[str, tuple[str, tuple[str, ...]]]
_KEPT, _OTHERS = 64, 8
_RECENT: list[tuple[MaskSet, Catalog, tuple[str, ...], frozenset[str]]] = []
_DOUBLED: list[tuple[Catalog, tuple[str, ...], Namesakes]] = []
"""What was told lately; of other catalogs with the same database name few, so that former ones do not add up here."""


def refuse_unsure_names(texts: Sequence[str], masks: MaskSet, catalog: Catalog, path: Sequence[str]) -> None:
    """Raises ``Refused`` (42501) where one of the texts names without its schema what ``unsure`` tells."""
    if names := unsure(masks, catalog, tuple(path)):
        _refuse_short(texts, names, "masks")


def others_temporary(operations: Sequence[Operation], own: str | None) -> str:
    """Why one of them is refused that is on a temporary relation, or schema, of another session (``own``: this one's schema); empty where
    none is. Only a superuser's login may reach it, and to drop it turns the other session's names into others."""
    for operation in operations:
        for name in (*operation.objects, *_relations(operation)):
            if name.startswith(_TEMPORARY) and name.partition(".")[0].replace("pg_toast_temp_", "pg_temp_") != own:
                return "temporary relations of another session are not reached through the gateway"
    return ""


def refuse_unlike_names(texts: Sequence[str], operations: Sequence[Operation], alike: Callable[[Operation, Operation], bool],
                        catalog: Catalog, path: Sequence[str]) -> None:
    """Raises ``Refused`` (42501) where one of the texts names without its schema a relation that has a namesake on the path of which other
    rules speak. ``operations`` are those of the texts; ``alike`` tells whether the same rules speak of two."""
    namesakes = doubled(catalog, tuple(path))
    if not namesakes:
        return
    names: set[str] = set()
    for operation in operations:
        for relation in namesakes.keys() & _relations(operation):
            name, others = namesakes[relation]
            if not all(alike(operation, _instead(operation, relation, other)) for other in others):
                names.add(name)
    if names:
        _refuse_short(texts, names, "rules")


def _relations(operation: Operation) -> tuple[str, ...]:
    named = operation.attributes.get("relations")
    return named if isinstance(named, tuple) else ()


def _instead(operation: Operation, relation: str, other: str) -> Operation:
    named = tuple(other if name == relation else name for name in _relations(operation))
    return replace(operation, attributes={**operation.attributes, "relations": named})


def _refuse_short(texts: Sequence[str], names: AbstractSet[str], what: str) -> None:
    for text in texts:
        try:
            parsed = parse(text)[0]
        except SqlFault:
            raise Refused(f"names stand for several relations on the search path whose {what} differ, and the text is too long to be "
                          "looked through: set search_path to one schema", DENIED) from None
        for one in parsed:
            if found := sorted(short_names(one.body) & names):
                raise Refused(f"several {found[0]} are on the search path, and their {what} differ: name it with its schema", DENIED)


def unsure(masks: MaskSet, catalog: Catalog, path: tuple[str, ...]) -> frozenset[str]:
    """The names that several relations on the path have, unless all are plain tables whose columns have the same masks."""
    for known_masks, known_catalog, known_path, found in _RECENT:
        if known_masks is masks and known_catalog is catalog and known_path == path:
            return found
    found = frozenset(_unsure(masks, catalog, path))
    former = [one for one in _RECENT if one[1] is not catalog and one[1].database == catalog.database]
    others = [one for one in _RECENT if all(one is not dropped for dropped in former[_OTHERS:])]
    _RECENT[:] = [(masks, catalog, path, found), *others][:_KEPT]
    return found


def _unsure(masks: MaskSet, catalog: Catalog, path: tuple[str, ...]) -> set[str]:
    return {name for name, found in _several(catalog, path, "rvmpf").items() if _differ(found, masks)}


def _several(catalog: Catalog, path: tuple[str, ...], kinds: str) -> dict[str, list[Relation]]:
    """Names that more than one relation on the path has."""
    schemas = {schema for schema in path if not schema.startswith("pg_")}
    if len(schemas) < 2:
        return {}
    by_name: dict[str, list[Relation]] = {}
    for relation in catalog.user.relations:
        if relation.oid >= FIRST_USER_OID and relation.schema in schemas and relation.kind in kinds:
            by_name.setdefault(relation.name, []).append(relation)
    return {name: found for name, found in by_name.items() if len(found) > 1}


def doubled(catalog: Catalog, path: tuple[str, ...]) -> Namesakes:
    """``schema.relation`` of each relation that has namesakes on the path -> its name, and the others with their schemas."""
    for known_catalog, known_path, found in _DOUBLED:
        if known_catalog is catalog and known_path == path:
            return found
    found = {}
    for name, several in _several(catalog, path, "rvmpfSiIc").items():
        full = [f"{one.schema}.{one.name}" for one in several]
        found |= {one: (name, tuple(other for other in full if other != one)) for one in full}
    former = [one for one in _DOUBLED if one[0] is not catalog and one[0].database == catalog.database]
    others = [one for one in _DOUBLED if all(one is not dropped for dropped in former[_OTHERS:])]
    _DOUBLED[:] = [(catalog, path, found), *others][:_KEPT]
    return found


def _differ(relations: Sequence[Relation], masks: MaskSet) -> bool:
    if any(one.kind != "r" or one.parents for one in relations):
        return True
    columns = {column.name for one in relations for column in one.columns}
    first = relations[0]
    return any(masks.rule_for((one.schema, one.name, column)) != masks.rule_for((first.schema, first.name, column))
               for one in relations[1:] for column in columns)
