# SPDX-License-Identifier: Apache-2.0
"""Masks on PostgreSQL results: what analysis says of a statement and the masks of an identity become a plan per output column.

First lock: ``plan()`` goes by lineage. A plain column carries its rule; what is computed from a masked column, and what is of unknown
origin, is hidden as a whole. Second lock: ``check_row_description()`` compares the table and column that the target itself names
for each field with that plan, before any row passes. Third: detectors look at text that neither replaced.

What a rule shows of which type in which format is ``typed``'s. Writing a masked value where less of it would be
hidden, or handing it to a setting, a notification or a new table, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from gateway.errors import GatewayFault, Refused
from gateway.masking.detect import Detectors
from gateway.masking.model import MaskSet
from gateway.masking.rules import REDACT, MaskRule
from gateway.protocols.postgres import rows
from gateway.protocols.postgres.catalog.builtin import sensitive
from gateway.protocols.postgres.catalog.model import FIRST_USER_OID, Catalog, Relation
from gateway.protocols.postgres.copyout import CopyMasker, copy_masker
from gateway.protocols.postgres.messages import Field
from gateway.protocols.postgres.rows import Change, Column
from gateway.protocols.postgres.scrub import scrub_error
from gateway.protocols.postgres.shown import shown_parameters, shown_text
from gateway.protocols.postgres.statement import ColumnId, CopyStyle, Flow, Output, Statement, Write
from gateway.protocols.postgres.typed import BINARY, TEXT, TEXT_TYPES, column_of, is_text

if TYPE_CHECKING:
    from gateway.protocols.postgres.strict import Uses

DENIED = "42501"

JSON_TYPES = frozenset({114, 3802})
LOOKED_AT = TEXT_TYPES | JSON_TYPES | {142}
"""Types whose values detectors look at: text types, json, jsonb, xml."""
SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "pg_toast"})


@dataclass(frozen=True, slots=True)
class ColumnMask:
    """How one output column is hidden. ``full``: computed or unknown, so that no part of it may be kept."""

    rule: MaskRule
    full: bool = False


@dataclass(frozen=True, slots=True)
class RowPlan:
    """A verified plan, ready for the loop: columns to replace, columns to look into when a candidate turns up."""

    width: int
    masked: tuple[tuple[int, Column], ...]
    detected: tuple[tuple[int, Column], ...]


@dataclass(frozen=True, slots=True)
class MaskPlan:
    """What happens to a statement's answer.

    ``columns``: a mask or ``None`` (clear) per output; ``None`` as a whole where analysis does not know the outputs. ``detect``: which of
    them detectors may look into. ``scrub``: errors and notices may quote masked values. ``any``: rows may not pass as they
    are; before ``check_row_description`` it also says that they may not pass without it. ``hidden`` counts masked outputs.
    ``filtered``: the relations whose row filters are in what runs; ``None`` where that was settled when a cursor was opened.
    """

    columns: tuple[ColumnMask | None, ...] | None = ()
    flows: tuple[Flow, ...] = ()
    detect: tuple[bool, ...] = ()
    scrub: bool = False
    any: bool = False
    detectors: Detectors | None = None
    rows: RowPlan | None = None
    copy: tuple[tuple[int, Column], ...] = ()
    copy_detect: tuple[tuple[int, Column], ...] = ()
    copy_format: str = "text"
    copy_header: bool = False
    copy_style: CopyStyle | None = None
    filtered: tuple[str, ...] | None = None

    @property
    def hidden(self) -> int:
        return sum(column is not None for column in self.columns or ())


CLEAR = MaskPlan()
_SCRUBBED = MaskPlan(scrub=True)


def plan(statement: Statement, masks: MaskSet, catalog: Catalog, uses: Uses | None = None) -> MaskPlan:
    """The plan of one statement for one identity. ``uses`` is asked where masks are strict; without it every read is a use.

    Raises ``Refused`` (42501): laundering, a masked value into a sink, a COPY format that cannot be masked, a use of a strictly masked
    column.
    """
    hides = bool(masks)
    if not hides and not masks.detect and not masks.filters:
        return CLEAR
    if statement.writes or statement.sinks or statement.inner is not None:
        refuse_laundering(statement, masks, catalog)
    if statement.dml and (hides or masks.filters):
        refuse_catalog_writes(statement)
    if masks.strict:
        refuse_use(statement, masks, uses)
    scrub = hides and not speaks_of_system_only(statement)
    if statement.returns not in ("rows", "copy-out"):
        return _SCRUBBED if scrub else CLEAR
    outputs = statement.columns
    if outputs is None:
        return MaskPlan(columns=None, scrub=scrub, any=True, detectors=masks.detectors)
    if statement.returns == "copy-out":
        return _copy_plan(_answered(outputs, masks, scrub), statement, outputs, catalog)
    return _remembered(outputs, masks, scrub)


def _answered(outputs: Sequence[Output], masks: MaskSet, scrub: bool) -> MaskPlan:
    """What happens to rows of these columns."""
    kept = _OUTPUTS.get(masks)
    if kept is None:
        kept = _OUTPUTS[masks] = {}
    each = [kept.get(id(output)) or _looked_up(output, masks, kept) for output in outputs]
    flows = tuple([output.flow for output in outputs])
    detect = tuple([found[1] for found in each])
    columns = tuple([found[2] for found in each])
    looked_at = bool(masks) or any(detect) or any(column is not None for column in columns)
    return MaskPlan(columns, flows, detect, scrub, looked_at, masks.detectors)


OfOutput = tuple[Output, bool, ColumnMask | None]
"""An output, whether detectors may look into it, and its mask."""
_OUTPUTS: WeakKeyDictionary[MaskSet, dict[int, OfOutput]] = WeakKeyDictionary()
_KEPT_OUTPUTS = 16_384


def _looked_up(output: Output, masks: MaskSet, kept: dict[int, OfOutput]) -> OfOutput:
    """Of a plain column: once, as analysis gives the same ``Output`` again; it is kept, so that its id stays its own."""
    found = output, may_detect(output, masks), column_mask(output.flow, masks)
    if output.flow.plain:
        if len(kept) >= _KEPT_OUTPUTS:
            kept.clear()
        kept[id(output)] = found
    return found


_PLANS: WeakKeyDictionary[MaskSet, dict[tuple[object, ...], tuple[Sequence[Output], MaskPlan]]] = WeakKeyDictionary()
_KEPT_PLANS = 1024


def _remembered(outputs: Sequence[Output], masks: MaskSet, scrub: bool) -> MaskPlan:
    """The plan of these outputs. Analysis gives the same ``Output`` for a relation's own column as long as the catalog is the same, and
    they are kept here, so that their ids stay theirs; a computed one goes by all that its plan depends on."""
    kept = _PLANS.get(masks)
    if kept is None:
        kept = _PLANS[masks] = {}
    key: tuple[object, ...] = (scrub, *map(id, outputs))
    found = kept.get(key)
    if found is None:
        key = (scrub, *[id(one) if one.flow.plain else (one.flow, one.type_oid) for one in outputs])
        found = kept.get(key)
    if found is None:
        found = (outputs, _answered(outputs, masks, scrub))
        if len(kept) >= _KEPT_PLANS:
            kept.clear()
        kept[key] = found
    return found[1]


def column_mask(flow: Flow, masks: MaskSet) -> ColumnMask | None:
    """The mask of a value that flows from ``flow``, ``None`` where it is clear. Statistics tell of rows that a filter hides, too."""
    if not masks and not masks.filters:
        return None
    if masks and flow.unknown or any(_sensitive(origin) for origin in flow.origins):
        return ColumnMask(REDACT, full=True)
    rule = masks.rule_of(flow.origins)
    return None if rule is None else ColumnMask(rule, full=not flow.plain)


def _sensitive(column: ColumnId) -> bool:
    return (column[0] in SYSTEM_SCHEMAS or column[0].startswith("pg_toast_temp_")) and sensitive(*column) is not None


def may_detect(output: Output, masks: MaskSet) -> bool:
    """Whether detectors look into this output: not where the type says that it holds no text, not in columns of the system's relations,
    not in columns under ``clear``."""
    if not masks.detect or output.type_oid and output.type_oid < 16384 and output.type_oid not in LOOKED_AT:
        return False
    origins = output.flow.origins
    if not origins or output.flow.unknown:
        return True
    if all(origin[0] in SYSTEM_SCHEMAS for origin in origins):
        return False
    clear = [masks.is_clear(origin) for origin in origins]
    return not (any(clear) if output.flow.plain else all(clear))


def speaks_of_system_only(statement: Statement) -> bool:
    """True when no error of this statement can hold a value of a user's table: it names built-in relations and functions at most."""
    if statement.verb not in _QUIET or statement.writes or statement.dml or statement.inner is not None:
        return False
    for _, oid in statement.relations:                   # once a statement
        if oid >= 16384:
            return False
    return (not any(output.flow.unknown for output in statement.columns or ())
            and not any(op.verb == "call" or "constraints" in op.objects for op in statement.operations)
            and all(column[0] in SYSTEM_SCHEMAS and not _sensitive(column) for column in statement.reads))


_QUIET = frozenset({"select", "show", "set", "reset", "begin", "rollback", "savepoint", "empty", "listen", "unlisten", "discard",
                    "deallocate"})


# Laundering


def refuse_laundering(statement: Statement, masks: MaskSet, catalog: Catalog) -> None:
    """Raises ``Refused`` when a masked value, or one of unknown origin, would be written where less of it is hidden."""
    if statement.inner is not None:
        refuse_laundering(statement.inner, masks, catalog)
    for write in statement.writes:
        flow = write.flow
        mask = column_mask(flow, masks) if flow.origins or flow.unknown else None
        if mask is not None and not _covers(masks.rule_for(write.column), mask, write, catalog):
            name = ".".join(write.column)
            raise Refused(f"a masked value may only be written to a column with the same or a stronger mask, not to {name}", DENIED)
    for sink in statement.sinks:
        if column_mask(sink.flow, masks) is not None:
            raise Refused(f"a masked value may not be given to {sink.what}", DENIED)


_WRITES = frozenset({"insert", "update", "delete", "merge"})


def refuse_catalog_writes(statement: Statement) -> None:
    """Raises ``Refused`` for a change of the system catalogs themselves: by it any column gets another name, and any table other rows."""
    for operation in statement.operations:
        if operation.verb in _WRITES and any(name.startswith("pg_catalog.") for name in operation.objects):
            raise Refused(f"{operation.objects[0]} may not be written to where columns or rows are hidden: masks go by names", DENIED)


def _covers(target: MaskRule | None, mask: ColumnMask, write: Write, catalog: Catalog) -> bool:
    """A computed value needs a column that is hidden as a whole: half of a reversed card number is the other half. So does a value that
    becomes one of another type: what a rule shows goes by the type."""
    if target is None or not target.hides_all_that(mask.rule):
        return False
    return target.whole or not mask.full and _same_type(write, catalog)


def _same_type(write: Write, catalog: Catalog) -> bool:
    schema, name, column = write.column
    relation = catalog.relation(name, schema)
    known = relation.column(column) if relation is not None else None
    source = _column_type(write.flow, catalog)
    return known is not None and source != 0 and (known.type_oid == source or {known.type_oid, source} <= _ALIKE)


_ALIKE = frozenset({25, 1043})
"""text and varchar: the same bytes under every rule."""


# Strict masks


def refuse_use(statement: Statement, masks: MaskSet, uses: Uses | None) -> None:
    """Raises ``Refused`` when a column under a strict mask is used for anything but being returned as it is."""
    for lookups in (False, True):
        strict = [column for column in statement.reads if masks.strictness(column) == ("lookups" if lookups else "all")]
        used = statement.reads if uses is None else uses.of(statement, lookups=lookups) if strict else ()
        if found := sorted(used_here for used_here in strict if used_here in used):
            unless = " or compared with a parameter as a condition of WHERE" if lookups else ""
            raise Refused(f"{'.'.join(found[0])} is under a strict mask: it may only be returned as it is{unless}", DENIED)


# The second lock


def check_row_description(made: MaskPlan, fields: Sequence[Field], formats: Sequence[int], catalog: Catalog, masks: MaskSet) -> MaskPlan:
    """Compare what the target says of its columns with the plan; gives the plan that ``mask_rows`` follows.

    The format is that of each field: a portal's description tells it, a statement's says text, and no row follows that. ``formats`` is not
    needed. Raises ``GatewayFault`` when the number of columns differs, or a field comes from a masked column that the plan holds to be
    clear.
    """
    if not masks and not masks.detect and not masks.filters:
        return replace(made, any=False, rows=RowPlan(len(fields), (), ()))
    columns = made.columns
    if columns is None:
        made = _all_unknown(made, len(fields), masks)
        columns = made.columns or ()
    if len(fields) != len(columns):
        raise GatewayFault("the target's answer has another number of columns than the statement")
    if masks.filters and made.filtered is not None:
        _filtered(made.filtered, fields, catalog, masks)
    if masks or masks.filters:
        for field, column, flow in zip(fields, columns, made.flows, strict=True):
            if column is None:
                _explain(field, flow, catalog, masks)
    masked = tuple([(i, row_column(column, fields[i].type_oid, catalog, fields[i].format))
                    for i, column in enumerate(columns) if column is not None])
    detected = tuple([(i, Column(change=_look(fields[i].type_oid, made.detectors))) for i, column in enumerate(columns)
                      if column is None and _looked_at(fields[i], made.detect[i], catalog)])
    return replace(made, any=bool(masked or detected), rows=RowPlan(len(fields), masked, detected))


def _filtered(names: Sequence[str], fields: Sequence[Field], catalog: Catalog, masks: MaskSet) -> None:
    """A field may only come from a relation with a row filter where that filter is in what runs."""
    for oid in {field.table_oid for field in fields if field.table_oid >= FIRST_USER_OID}:
        relation = catalog.relation_by_oid(oid)
        kin = () if relation is None else (relation, *catalog.ancestors(oid))
        under = any(masks.filters_of(one.schema, one.name) for one in kin)
        if under and relation is not None and f"{relation.schema}.{relation.name}" not in names:
            raise GatewayFault("the target's answer comes from a relation whose row filter is not in the statement")


def _all_unknown(made: MaskPlan, count: int, masks: MaskSet) -> MaskPlan:
    flow = Flow(unknown=True, system=False)
    return replace(made, columns=(column_mask(flow, masks),) * count, flows=(flow,) * count, detect=(bool(masks.detect),) * count)


def _explain(field: Field, flow: Flow, catalog: Catalog, masks: MaskSet) -> None:
    """A field that the plan holds to be clear must not come from a masked column."""
    if not field.table_oid or field.attnum < 0:
        return
    relation = catalog.relation_by_oid(field.table_oid)
    if relation is None:
        raise GatewayFault("the target's answer comes from a relation that the catalog does not have")
    if field.attnum == 0:
        named = [(one.schema, one.name, column.name) for one in _kin(relation, catalog) for column in one.columns]
    else:
        column = relation.column_numbered(field.attnum)
        if column is None:
            raise GatewayFault("the target's answer comes from a column that the catalog does not have")
        named = [(one.schema, one.name, column.name) for one in _kin(relation, catalog)]
        if relation.kind in "vm" and not catalog.is_builtin(relation.oid) and named[0] not in flow.origins:
            raise GatewayFault("the target's answer comes from another column of a view than the statement says")
    if any(masks.rule_for(name) is not None or _sensitive(name) for name in named):
        raise GatewayFault("the target's answer comes from a masked column that the plan has not masked")


def _kin(relation: Relation, catalog: Catalog) -> list[Relation]:
    """The relation itself, its inheritance parents and children."""
    if catalog.is_builtin(relation.oid):
        return [relation]
    return [relation, *catalog.ancestors(relation.oid), *catalog.children(relation.oid)]


def _looked_at(field: Field, wanted: bool, catalog: Catalog) -> bool:
    if not wanted or 0 < field.table_oid < 16384:
        return False
    return field.type_oid in LOOKED_AT or is_text(field.type_oid, catalog)


def row_column(mask: ColumnMask, type_oid: int, catalog: Catalog, code: int = TEXT) -> Column:
    """The mask of a column of that type and format (0 text, 1 binary), as the row loop applies it."""
    return column_of(mask.rule, type_oid, code, catalog, full=mask.full)


def _look(type_oid: int, detectors: Detectors | None) -> Change:
    if detectors is None:
        raise GatewayFault("a plan with detection and no detectors")
    return detectors.json if type_oid in JSON_TYPES else detectors.text


# Rows


def mask_rows(made: MaskPlan, data: bytes) -> tuple[bytes, int]:
    """Apply a verified plan to whole DataRow messages: the new bytes, and how many values were replaced. Raises ``TargetFault`` on a
    malformed row, ``GatewayFault`` on a plan that was not verified."""
    row_plan = made.rows
    if row_plan is None:
        raise GatewayFault("rows came before their description was compared with the plan")
    count = 0
    if row_plan.masked:
        data, count = rows.mask_rows(data, row_plan.width, row_plan.masked)
    data, found = look_into(row_plan, made.detectors, data)
    return data, count + found


def look_into(row_plan: RowPlan, detectors: Detectors | None, data: bytes) -> tuple[bytes, int]:
    """Detectors on whole DataRow messages whose columns are masked: the new bytes, and how many values were replaced."""
    if not row_plan.detected or detectors is None or not detectors.candidates(data):
        return data, 0
    return _detect_rows(row_plan, detectors.places(data), data)


def _detect_rows(row_plan: RowPlan, places: list[int], data: bytes) -> tuple[bytes, int]:
    """Look into the rows that hold a candidate; the others are not taken apart."""
    out: list[bytes] = []
    copied = count = at = next_place = 0
    end = len(data)
    while at < end and next_place < len(places):
        row_end = at + 1 + int(rows.INT32(data, at + 1)[0])
        if places[next_place] < row_end:
            row, found = rows.mask_rows(data[at:row_end], row_plan.width, row_plan.detected)
            if found:
                out += (data[copied:at], row)
                copied = row_end
                count += found
            while next_place < len(places) and places[next_place] < row_end:
                next_place += 1
        at = row_end
    out.append(data[copied:])
    return b"".join(out), count


# COPY … TO STDOUT


def _copy_plan(made: MaskPlan, statement: Statement, outputs: Sequence[Output], catalog: Catalog) -> MaskPlan:
    hidden = any(column is not None for column in made.columns or ())
    form = statement.copy_format or ("text" if statement.copy_text else "")
    if (hidden or any(made.detect)) and not form:
        raise Refused("this COPY cannot be masked: use csv for a NULL of your own, delimiters and quotes of one byte, UTF8", DENIED)
    code = BINARY if form == "binary" else TEXT
    types = [output.type_oid or _column_type(output.flow, catalog) for output in outputs]
    masked = tuple([(i, row_column(column, types[i], catalog, code)) for i, column in enumerate(made.columns or ()) if column is not None])
    detected = tuple([(i, Column(change=_look(types[i], made.detectors))) for i, column in enumerate(made.columns or ())
                      if column is None and made.detect[i] and (types[i] in LOOKED_AT or not types[i] or is_text(types[i], catalog))])
    return replace(made, any=bool(masked or detected), copy=masked, copy_detect=detected, copy_format=form,
                   copy_header=statement.copy_header, copy_style=statement.copy_style)


def _column_type(flow: Flow, catalog: Catalog) -> int:
    """The type of a plain column by its origins, 0 where they do not agree."""
    if not flow.plain:
        return 0
    found = set()
    for schema, name, column in flow.origins:
        relation = catalog.relation(name, schema)
        known = relation.column(column) if relation is not None else None
        found.add(known.type_oid if known is not None else 0)
    return found.pop() if len(found) == 1 else 0


__all__ = [
    "CLEAR", "ColumnMask", "CopyMasker", "MaskPlan", "RowPlan", "check_row_description", "column_mask",
    "copy_masker", "mask_rows", "plan", "refuse_laundering", "scrub_error", "shown_parameters", "shown_text",
]
