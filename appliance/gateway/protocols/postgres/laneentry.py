# SPDX-License-Identifier: Apache-2.0
"""What the lane knows of one group of messages: understood, decided and described by the same functions as anywhere else."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from gateway.errors import AuditUnavailable, Fault, GatewayFault
from gateway.model import Command
from gateway.protocols.postgres import bounded, messages
from gateway.protocols.postgres.answers import typed_parameters
from gateway.protocols.postgres.codec import FrameReader
from gateway.protocols.postgres.lanerun import NONE_HIDDEN, Entry
from gateway.protocols.postgres.lanewire import BIND, PARSE, ROWS, TYPED
from gateway.protocols.postgres.messages import Bind, Describe, Field, Parse
from gateway.protocols.postgres.names import Prepared
from gateway.protocols.postgres.recorder import Sample, plain_columns
from gateway.protocols.postgres.shown import hidden_parameters
from gateway.protocols.postgres.statement import SqlFault, Statement

if TYPE_CHECKING:
    from gateway.protocols.postgres.session import Relay

TRANSACTIONS = frozenset({"", "begin", "commit", "rollback"})
QUERY_KIND = 0x51
SHORT_TAG = 32
"""A command tag that is remembered, in bytes."""


def learn(relay: Relay, data: bytes, now: float) -> Entry | None:
    """Understand and decide a group of the shape that ``lanewire.split`` knows, as ``Frontend`` would, without waiting for anything.

    ``None`` wherever that is not possible, or where more than a plain permitted statement is asked for: the frontend has the word.
    """
    try:
        if data[0] == QUERY_KIND:
            return _entry(relay, data[5:-1].decode(), (), 0, now)
        return _learned(relay, [messages.parse_frontend(kind, payload) for kind, payload in _messages(relay, data)], now)
    except (Fault, SqlFault, UnicodeDecodeError):
        return None


def _messages(relay: Relay, data: bytes) -> FrameReader:
    reader = FrameReader(relay.message_limit)
    reader.feed(data)
    return reader


def _learned(relay: Relay, group: list[messages.FrontendMessage], now: float) -> Entry | None:
    match group:
        case [Parse(name, text, types), Bind() as bind, *rest] if name == bind.statement == "":
            return _bound(relay, Prepared(text, types), bind, rest, PARSE, now)
        case [Bind() as bind, *rest]:
            found = relay.frontend.names.known(bind.statement)
            return None if found is None else _bound(relay, found, bind, rest, 0, now)
    return None


def _bound(relay: Relay, prepared: Prepared, bind: Bind, rest: list[messages.FrontendMessage], shape: int, now: float) -> Entry | None:
    found = _entry(relay, prepared.text, prepared.types, shape | BIND, now)
    if found is None or not shape & PARSE and prepared.held != found.compiled.sent or shape & PARSE and not found.early:
        return None                  # the record of a Parse that has to wait comes first, and has an end of its own
    plan = found.compiled.plans[0]
    described = isinstance(rest[0], Describe)
    found.silent = not described and plan is not None and plan.any
    found.shape |= TYPED if described or found.silent else 0
    found.statement, found.prepared, found.binary, found.results = bind.statement, prepared, any(bind.formats), bind.results
    found.plan = None if found.shape & TYPED else plan
    return found


def _entry(relay: Relay, text: str, types: tuple[int, ...], shape: int, now: float) -> Entry | None:
    compiled = relay.context.compile_now(text, types, relay.lane.known[2])
    if compiled is not None and compiled.sent != text and (shape & PARSE or not shape & BIND):
        return None                  # a row filter: the target gets another text than stands in the group
    if compiled is None or compiled.refusal or len(compiled.statements) != 1 or not _plain(compiled.statements[0]):
        return None
    command = relay.context.command(compiled, wait=relay.wait)
    decision = relay.gate.policy.decide(relay.session.identity, relay.session.resource, command.operations, now)
    if decision.effect != "allow" or decision.limits.rows is not None or decision.limits.time is not None:
        return None
    if decision.max_rows is not None and bounded.bound_of(decision, compiled, relay.context.prepared) is not None:
        return None
    rows = ROWS if compiled.statements[0].returns == "rows" else 0
    template, values = relay.lane.records.once(command, decision, bound=bool(shape & BIND))
    hidden = hidden_parameters(compiled.statements, relay.context.masks()) if shape & BIND else NONE_HIDDEN
    return Entry(compiled, command, decision, template, values, shape | rows, command.early and not relay.gate.audit.strict, hidden=hidden)


def keep(relay: Relay, entry: Entry) -> None:
    """The group comes again: from now on less is filled in."""
    with suppress(AuditUnavailable):
        entry.template, entry.values = relay.lane.records.kept(entry.command, entry.decision, bound=bool(entry.shape & BIND)), ()


def _plain(statement: Statement) -> bool:
    """A statement that changes nothing of what the session knows: no name, no setting, no catalog."""
    return (statement.returns in ("rows", "none") and not statement.settings and not statement.changes_context
            and not statement.changes_catalog and statement.transaction in TRANSACTIONS
            and statement.prepares is None and statement.declares is None and statement.uses_prepared is None
            and statement.uses_cursor is None and statement.forgets is None and statement.inner is None)


def bind_of(relay: Relay, data: bytes) -> Bind:
    """The Bind message in a group."""
    for kind, payload in _messages(relay, data):
        if kind == 0x42 and isinstance(bind := messages.parse_frontend(kind, payload), Bind):
            return bind
    raise GatewayFault("a group without Bind")


def bound_command(relay: Relay, entry: Entry, data: bytes) -> Command:
    """The command of one run, its parameters as they are shown."""
    if entry.prepared is None:
        return entry.command
    parameters = typed_parameters(bind_of(relay, data), entry.prepared.types, entry.prepared.described)
    return relay.context.command(entry.compiled, parameters, wait=relay.wait)


def shown(relay: Relay, entry: Entry, data: bytes) -> bytes:
    """The parameters of one run as JSON."""
    return orjson.dumps(list(bound_command(relay, entry, data).shown_parameters))


def verify(relay: Relay, entry: Entry, payload: bytes) -> None:
    """The second lock. Raises what ``Backend`` raises where the description is not the plan's."""
    entry.fields, entry.plan = relay.backend.lock.verified(entry.compiled.plans[0], entry.results, payload)
    entry.described = payload
    lane = relay.lane
    if lane.head[0] is not entry.fields:                 # other texts may have the same description
        lane.head = (entry.fields, sample_head(entry.fields, relay.secrets))
    entry.head = lane.head[1]


def sample_head(fields: tuple[Field, ...], secrets: tuple[str, ...]) -> bytes | None:
    """What a recording has before its rows; ``None`` where values are not shown as they stand."""
    if not fields or not plain_columns(fields):
        return None
    empty = Sample(secrets)
    empty.columns(fields)
    return (empty.close() or b"").removesuffix(b'],"truncated":false}')


def recording(relay: Relay, entry: Entry, rows: bytes) -> bytes | None:
    """The recording of masked rows, by the recorder itself."""
    sample = relay.frontend.sample()
    if sample is None:
        return None
    if entry.fields:
        sample.columns(entry.fields)
    sample.rows(rows)
    return sample.close()


def affected(tag: bytes) -> int:
    """The rows of a command tag that has no rows of its own to count (``backend._complete``)."""
    return _affected(tag) if len(tag) <= SHORT_TAG else _affected.__wrapped__(tag)


@lru_cache(maxsize=256)
def _affected(tag: bytes) -> int:
    complete = messages.parse_backend(0x43, tag)
    return complete.rows if isinstance(complete, messages.CommandComplete) and not complete.tag.startswith("SELECT") else 0
