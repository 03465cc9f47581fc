# SPDX-License-Identifier: Apache-2.0
"""A text as the target gets it, where row filters apply: see the package's page for how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.errors import Refused
from gateway.masking.model import MaskSet
from gateway.protocols.postgres.catalog.model import Catalog
from gateway.protocols.postgres.filters.forms import HANDLED, Forms, short_names
from gateway.protocols.postgres.filters.reach import DENIED, LEAVES_ROWS, QUERIES, Reach, named
from gateway.protocols.postgres.filters.splice import Splice, unclear
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.sql.knowledge import knowledge_of
from gateway.protocols.postgres.sql.lineage import shape_of
from gateway.protocols.postgres.sql.parse import DEFAULT_LIMIT, Parsed, parse
from gateway.protocols.postgres.sql.walk import Names, Walk
from gateway.protocols.postgres.statement import Context, SqlFault, Statement

_ENDS = ("commit", "rollback", "rollback-to")
_NAMING = frozenset({
    "explain", "truncate", "create-index", "create-statistics", "alter-table", "alter-index", "alter-sequence", "drop-table", "drop-view",
    "drop-materialized-view", "reindex", "cluster"})
"""Statements that name relations, and that no guard is for."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """What became of a text. ``text`` is what the target gets. ``statements`` are the caller's, with the result columns of what runs.
    ``relations`` are those of which only some rows are there. ``executes``: by the name of a statement that EXECUTE runs, the text that the
    target must have been given for it."""

    text: str
    statements: tuple[Statement, ...]
    relations: tuple[str, ...] = ()
    executes: Mapping[str, str] = field(default_factory=dict)


_RECENT: list[Reach] = []
_KEPT = 8


def filtered(text: str, statements: tuple[Statement, ...], masks: MaskSet, context: Context, catalog: Catalog) -> Filtered:
    """A text with every relation's filter in it; ``statements`` is what analysis says of it.

    Raises ``Refused`` (42501) wherever that cannot be shown to be right.
    """
    return Rewriting(_reach(masks, catalog), context).filtered(text, statements)


def _reach(masks: MaskSet, catalog: Catalog) -> Reach:
    """What the masks reach in this very catalog."""
    for known in _RECENT:
        if known.masks is masks and known.catalog is catalog:
            return known
    made = Reach(masks, catalog)
    _RECENT.insert(0, made)
    del _RECENT[_KEPT:]
    return made


class Rewriting:
    """The row filters of one identity, put into the texts of one session as it stands. ``inside``: a text that PREPARE had, so that the
    types of its parameters are not known."""

    def __init__(self, reach: Reach, context: Context, *, inside: bool = False) -> None:
        self._reach, self._context, self._catalog, self._inside = reach, context, reach.catalog, inside

    def filtered(self, text: str, statements: tuple[Statement, ...]) -> Filtered:
        """The same text with every relation's filter in it; ``statements`` is what analysis says of it.

        Raises ``Refused`` (42501) wherever that cannot be shown to be right.
        """
        reach = self._reach
        touched = []
        for number, statement in enumerate(statements):
            reach.refuse_ways_around(statement)
            here = reach.touched(statement)
            touched.append(here)
            if (here or reach.has_namesakes(statement)) and any(_moves_names(before) for before in statements[:number]):
                raise Refused("a relation has a row filter, and what its name means here cannot be known: send the statements one by one",
                              DENIED)
        try:
            self._refuse_cascade(text, statements)
            self._refuse_unsure_names(text, statements, touched)
            if not any(touched) and not any(one.uses_prepared or reach.has_namesakes(one) for one in statements):
                return Filtered(text, statements)
            return self._with_guards(text, statements, touched)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError, SqlFault):
            raise unclear() from None

    def _refuse_cascade(self, text: str, statements: Sequence[Statement]) -> None:
        """TRUNCATE … CASCADE empties relations that it does not name. Raises ``Refused``."""
        if any(statement.verb == "truncate" for statement in statements):
            for parsed in Splice.of(text).parsed:
                if parsed.kind == "TruncateStmt" and parsed.body.get("behavior") == "DROP_CASCADE":
                    raise Refused("TRUNCATE CASCADE is refused while row filters apply: it empties relations that it does not name", DENIED)

    def _with_guards(self, text: str, statements: tuple[Statement, ...], touched: Sequence[Mapping[str, object]]) -> Filtered:
        if len(text.encode()) > DEFAULT_LIMIT:
            raise Refused("the statement is too long to be given a row filter", DENIED)
        splice = Splice.of(text)
        if len(splice.parsed) != len(statements):
            raise unclear()
        relations: set[str] = set()
        executes: dict[str, str] = {}
        inner: dict[int, Statement] = {}
        for number, (entry, statement) in enumerate(zip(splice.parsed, statements, strict=True)):
            if statement.uses_prepared is not None:
                found = self._executed(statement, statements[:number])
                if found is not None:
                    relations.update(found.relations)
                    executes[statement.uses_prepared] = found.text
                    inner[number] = found.statements[0]
                self._refuse_kind(statement, found is not None and bool(found.relations))
            elif touched[number] or entry.kind in HANDLED and self._reach.has_namesakes(statement):
                self._refuse_kind(statement, bool(touched[number]))
                relations.update(self._guarded(splice, entry, statement))
        new = splice.spliced() if splice.changes else text
        again = self._again(new, statements) if new != text else statements
        done = tuple(_answering(own, inner.get(number, seen)) for number, (own, seen) in enumerate(zip(statements, again, strict=True)))
        return Filtered(new, done, tuple(sorted(relations)), executes)

    def _refuse_unsure_names(self, text: str, statements: Sequence[Statement], touched: Sequence[Mapping[str, object]]) -> None:
        """A statement that cannot be given the schema of what it names, where a relation of the same name has a filter: dropped meanwhile,
        the one could be taken for the other. Raises ``Refused``."""
        unsure = [number for number, one in enumerate(statements) if one.verb in _NAMING and not touched[number]]
        parsed = parse(text)[0] if unsure else []
        for number in unsure:
            if found := sorted(short_names(parsed[number].body) & self._reach.short_names):
                raise Refused(f"{statements[number].verb} of {found[0]}: a relation of that name has a row filter, name this one with its "
                              "schema", DENIED)

    def _refuse_kind(self, statement: Statement, filtered: bool) -> None:
        if not filtered:
            return
        if statement.verb == "explain":
            raise Refused("EXPLAIN is refused where a row filter applies: its plan tells about rows that are hidden", DENIED)
        if statement.verb not in QUERIES | LEAVES_ROWS:
            raise Refused(f"{statement.verb} is refused where a row filter applies: it would change or show rows that are hidden", DENIED)

    def _executed(self, statement: Statement, before: Sequence[Statement]) -> Filtered | None:
        """What EXECUTE runs, filtered as it had to be when it was prepared; ``None`` where this very text prepares it."""
        name = statement.uses_prepared or ""
        if any(one.prepares == name for one in before):
            return None
        text = self._context.prepared[name]
        without = {key: value for key, value in self._context.prepared.items() if key != name}
        context = replace(self._context, prepared=without, parameter_types=())
        return Rewriting(self._reach, context, inside=True).filtered(text, analyze(text, context, self._catalog))

    def _guarded(self, splice: Splice, entry: Parsed, statement: Statement) -> tuple[str, ...]:
        """Put the guards of one statement into the splice; the relations they are for."""
        if statement.verb in LEAVES_ROWS:
            return ()
        if entry.kind not in HANDLED:
            raise Refused(f"{statement.verb} is refused where a row filter applies: it would change or show rows that are hidden", DENIED)
        names = Names(self._context.path, self._context.temp_schema, self._context.user)
        walk = Walk(knowledge_of(self._catalog, shape_of), names, self._context)
        forms = Forms(splice, self._reach, walk, None if self._inside or entry.kind == "PrepareStmt" else self._context.parameter_types)
        forms.apply(entry.kind, entry.body)
        if named(forms.seen.values()) != tuple(sorted(self._reach.touched(statement))):
            raise unclear()         # analysis took the names for others
        return named(forms.filtered.values())

    def _again(self, text: str, statements: Sequence[Statement]) -> tuple[Statement, ...]:
        """What the new text means: it has to do what the caller's does, and answer with the same columns."""
        try:
            again = analyze(text, self._context, self._catalog, DEFAULT_LIMIT)
        except SqlFault as fault:
            raise Refused(f"a row filter applies, and with it the statement cannot be resolved ({fault}): give the relation an alias and "
                          "name its columns by it", DENIED) from None
        if [_does(one) for one in again] != [_does(one) for one in statements]:
            raise unclear()
        return again


def _does(statement: Statement) -> tuple[object, ...]:
    """What a statement does, as far as a guard may not change it. A WHERE is no longer missing."""
    operations = sorted((operation.verb, operation.objects) for operation in statement.operations)
    columns = None if statement.columns is None else tuple(column.name for column in statement.columns)
    return statement.verb, operations, columns, statement.returns, statement.prepares, statement.declares, sorted(statement.relations)


def _moves_names(statement: Statement) -> bool:
    return statement.changes_context or statement.changes_catalog or statement.transaction in _ENDS


def _answering(own: Statement, seen: Statement) -> Statement:
    """The caller's statement with the columns of what runs."""
    if own is seen:
        return own
    inner = own.inner
    if inner is not None and seen.inner is not None and own.uses_prepared is None:
        inner = _answering(inner, seen.inner)
    sent = seen.inner_text if own.prepares is not None and seen.inner_text != own.inner_text else None
    return replace(own, columns=seen.columns if own.columns is not None else None, early=own.early and seen.early, inner=inner,
                   inner_sent=sent)
