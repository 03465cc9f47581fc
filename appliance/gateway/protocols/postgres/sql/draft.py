# SPDX-License-Identifier: Apache-2.0
"""From a finished walk to a ``Statement``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.model import Operation
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.knowledge import Knowledge
from gateway.protocols.postgres.sql.literals import literal_span
from gateway.protocols.postgres.sql.parse import Node, Offsets, Parsed
from gateway.protocols.postgres.sql.passwords import SECRETIVE, secret_spans
from gateway.protocols.postgres.sql.select import Columns
from gateway.protocols.postgres.sql.walk import Names, Walk, outputs
from gateway.protocols.postgres.statement import ColumnId, Context, Literal, Statement


@dataclass(slots=True)
class Job:
    """What one statement is analysed with: the whole text, where the statement stands in it, and what names mean there."""

    text: str
    offsets: Offsets
    knowledge: Knowledge
    names: Names
    context: Context
    kind: str
    body: Node
    start: int
    end: int

    def walk(self) -> Walk:
        return Walk(self.knowledge, self.names, self.context)

    def inner(self, node: Node, context: Context | None = None) -> Job:
        """The job of the statement inside a container."""
        ((kind, body),) = node.items()
        return Job(self.text, self.offsets, self.knowledge, self.names, context or self.context, kind, body, self.start, self.end)


def job_of(text: str, offsets: Offsets, knowledge: Knowledge, names: Names, context: Context, parsed: Parsed) -> Job:
    start, end = offsets.character(parsed.start), offsets.character(parsed.end)
    return Job(text, offsets, knowledge, names, context, parsed.kind, parsed.body, start, end)


def finish(job: Job, walk: Walk, verb: str, **fields: Any) -> Statement:
    """The statement of a walk; ``fields`` are those of ``Statement`` that the walk does not know."""
    fields.setdefault("early", walk.early)
    fields.setdefault("uses_cursor", walk.uses_cursor)
    return Statement(
        verb=verb,
        operations=_ordered(verb, tuple(walk.operations.values())),
        start=job.start,
        end=job.end,
        reads=frozenset(walk.reads | walk.named) if walk.named else frozenset(walk.reads),
        writes=tuple(walk.writes),
        sinks=tuple(walk.sinks),
        literals=_literals(job, walk),
        dml=frozenset(walk.dml),
        settings=walk.settings,
        changes_context=walk.changes_context or walk.user_code,
        changes_catalog=walk.changes_catalog or walk.volatile_code,
        relations=tuple(walk.relations.items()),
        hidden_reasons=tuple(walk.reasons),
        **fields,
    )


def _ordered(verb: str, operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """The statement's own verb first: the audit record names a command by it."""
    if not operations or operations[0].verb == verb:
        return operations
    return (*(op for op in operations if op.verb == verb), *(op for op in operations if op.verb != verb))


def rows(walk: Walk, columns: Columns) -> dict[str, Any]:
    """The fields of a statement that answers with rows."""
    return {"returns": "rows", "columns": outputs(walk, columns.names, columns.values)}


def _literals(job: Job, walk: Walk) -> tuple[Literal, ...]:
    found: list[Literal] = []
    shared: dict[frozenset[ColumnId], frozenset[ColumnId]] = {}
    for place, columns in walk.bound.items():
        origins = frozenset(columns)
        origins = shared.setdefault(origins, origins)
        if place < 0:
            found.append(Literal(origins, parameter=-place))
        else:
            start, end = literal_span(job.text, job.offsets.character(place - 1))
            found.append(Literal(origins, start, end))
    for start, end in secret_spans(job.kind, job.body, job.text, job.start, job.end, job.offsets):
        found.append(Literal(frozenset(), start, end, secret=True))
    return tuple(found)


PURE: dict[str, Any] = {"literal_span": literal_span, "secret_spans": secret_spans}

if fast is not None and not TYPE_CHECKING:
    finish = fast.finish
    fast.bind_secretive(SECRETIVE)
