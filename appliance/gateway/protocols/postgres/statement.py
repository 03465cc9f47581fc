# SPDX-License-Identifier: Apache-2.0
"""What analysis says of one SQL statement: values only. It does not know any policy or identity.

``sql/`` produces these from text, catalog and session context; ``masking.py`` turns them and the masks of an identity
into a plan; ``session.py`` follows the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.model import Operation

ColumnId = tuple[str, str, str]
"""(schema, relation, column) as the catalog spells them."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Where a value may come from.

    ``origins`` holds every column that may flow in, after view expansion, inheritance (both directions) and generated
    columns; the view's own column is in it too. ``plain`` is true when the value is the unchanged value of one column.
    ``unknown`` means: could carry anything (a user function, a record, a foreign value). ``system`` means: only from
    pg_catalog or information_schema, or constants.
    """

    origins: frozenset[ColumnId] = frozenset()
    plain: bool = False
    unknown: bool = False
    system: bool = True


@dataclass(frozen=True, slots=True)
class Output:
    """One result column: name, flow, and the type's oid where analysis knows it (0 = not known)."""

    name: str
    flow: Flow
    type_oid: int = 0


@dataclass(frozen=True, slots=True)
class Write:
    """A value assigned to a column of a relation (INSERT, UPDATE, MERGE, COPY query): for laundering."""

    column: ColumnId
    flow: Flow


@dataclass(frozen=True, slots=True)
class Sink:
    """A value handed to something that keeps or shows it outside of tables: a setting, a notification, a large object,
    a sequence, a temporary table, a new table. ``what`` names it for the refusal."""

    what: str
    flow: Flow


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant or parameter that feeds, or is compared with, the columns in ``origins``.

    ``start`` and ``end`` are character offsets of the literal token in the statement's text (0, 0 for a parameter); ``parameter`` is the
    number of ``$n`` or 0. ``secret`` marks password literals, always hidden.
    """

    origins: frozenset[ColumnId]
    start: int = 0
    end: int = 0
    parameter: int = 0
    secret: bool = False


@dataclass(frozen=True, slots=True)
class CopyStyle:
    """How a COPY in text or csv format is written where its options say more than the format: single characters, but ``null``."""

    delimiter: str
    null: str
    quote: str = '"'
    escape: str = '"'


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a text.

    ``verb`` is the published verb. ``returns`` says what the target answers with. ``columns`` are the result columns in
    order (also of COPY … TO; for DECLARE and PREPARE those of the inner query), ``None`` where nothing is returned.
    ``start``/``end`` are character offsets in the whole text.
    """

    verb: str
    operations: tuple[Operation, ...]
    start: int = 0
    end: int = 0
    returns: str = "none"                      # none | rows | copy-out | copy-in
    columns: tuple[Output, ...] | None = None
    reads: frozenset[ColumnId] = frozenset()   # every column named anywhere, origins expanded
    writes: tuple[Write, ...] = ()
    sinks: tuple[Sink, ...] = ()
    literals: tuple[Literal, ...] = ()
    early: bool = False                        # an early read, contract section 5
    dml: frozenset[str] = frozenset()          # of insert, update, delete, merge: what max_rows counts
    transaction: str = ""                      # begin | commit | rollback | savepoint | release | rollback-to | prepare …
    prepares: str | None = None                # PREPARE name: its inner statement is ``inner``
    declares: str | None = None                # DECLARE name: likewise
    uses_prepared: str | None = None           # EXECUTE name
    uses_cursor: str | None = None             # FETCH, MOVE, CLOSE, WHERE CURRENT OF name
    forgets: str | None = None                 # DEALLOCATE/CLOSE name; "*" for all; DISCARD ALL sets it to "*"
    inner: Statement | None = None
    inner_text: str = ""                       # PREPARE: the text after AS, as EXECUTE will be analysed
    inner_sent: str | None = None              # the same as the target gets it, where a row filter changed it
    settings: Mapping[str, str | None] = field(default_factory=dict)   # SET/set_config with literal value; None = DEFAULT/RESET
    changes_context: bool = False              # search_path, role or pinned settings may differ afterwards
    changes_catalog: bool = False              # DDL or anything that may change names or types
    relations: tuple[tuple[str, int], ...] = ()   # (schema.name, oid) resolved, for approval bindings
    copy_text: bool = False                    # COPY in text format with default options (maskable)
    copy_header: bool = False
    copy_format: str = ""                      # text | csv | binary: COPY in that format with default options (maskable)
    copy_style: CopyStyle | None = None        # in ``copy_format`` with other options than the default ones (maskable)
    hidden_reasons: tuple[str, ...] = ()       # what made a flow unknown, for ``explain``


@dataclass(frozen=True, slots=True)
class Context:
    """The session as name resolution sees it. ``path`` is the effective search_path: schema names in order, including the
    implicit ``pg_temp_N`` and ``pg_catalog`` exactly where the target would look (``current_schemas(true)``)."""

    path: tuple[str, ...]
    user: str = ""
    switched: bool = False                                         # to another role than the gateway reads the catalog with
    temp_schema: str | None = None
    prepared: Mapping[str, str] = field(default_factory=dict)      # SQL and protocol prepared statements: name -> text
    cursors: Mapping[str, tuple[Output, ...] | None] = field(default_factory=dict)
    parameter_types: tuple[int, ...] = ()
    early_cursors: frozenset[str] = frozenset()     # cursors over an early read (``inner.early`` of their DECLARE)


OWN = "lockgate_"
"""Prefix of the gateway's own statements, portals and cursors; callers may not use it."""


class SqlFault(Exception):
    """Text that cannot be parsed or resolved. ``code`` is the SQLSTATE the target itself would give (42601, 42P01, 42703,
    42883, 3F000, 42704, 34000, 26000), or 42501 / 54001 / 0A000 for what the gateway refuses to understand. ``position`` is 1-based,
    0 if none.
    The message names identifiers only, never a value."""

    def __init__(self, code: str, message: str, position: int = 0, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.position = position
        self.hint = hint


def own_name(name: str) -> None:
    """Raises ``SqlFault`` for a name that is the gateway's own, by message or by SQL."""
    if name.startswith(OWN):
        raise SqlFault("42602", f"names that begin with {OWN} are the gateway's own")
