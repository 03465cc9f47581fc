# SPDX-License-Identifier: Apache-2.0
"""Who may say what, and when: two tables (manual, "Message Flow"). What is not in them is refused; the docs' diagrams are made from them.

``CALLER`` is about what the caller sends: by phase of its session and message, what becomes of the message and the phase that follows.
``TARGET`` is about what the target answers: by kind of the message it owes an answer to (the kinds of ``expect.Expect``), how far that
answer has come, and its next message. The target answers strictly in order, so the head of the queue is always the one answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from gateway.errors import ClientFault, TargetFault
from gateway.protocols.postgres.codec import kind_name


class Action(Enum):
    """What becomes of a message."""

    HANDLE = "handled"
    DISCARD = "discarded"
    END = "ends the session"


# The caller

STARTING, AUTHENTICATING, READY, EXTENDED, COPY_IN, SKIPPING, CLOSED = (
    "starting", "authenticating", "ready", "extended", "copy-in", "skipping", "closed")
PHASES = (STARTING, AUTHENTICATING, READY, EXTENDED, COPY_IN, SKIPPING, CLOSED)

PACKETS: Mapping[str, tuple[tuple[str, str], ...]] = {
    STARTING: (("SSLRequest", STARTING), ("GSSENCRequest", STARTING), ("CancelRequest", CLOSED), ("StartupMessage", AUTHENTICATING)),
}
"""Startup packets have no type byte; ``messages.parse_startup`` names them."""

_NAMES: Mapping[str, str] = {
    "p": "Password", "Q": "Query", "P": "Parse", "B": "Bind", "D": "Describe", "E": "Execute", "C": "Close", "S": "Sync", "H": "Flush",
    "X": "Terminate", "d": "CopyData", "c": "CopyDone", "f": "CopyFail", "F": "FunctionCall",
}
"""Every frontend message there is. FunctionCall is in no row of the table."""


def _caller() -> Iterator[tuple[tuple[str, str], tuple[Action, str]]]:
    yield (AUTHENTICATING, "p"), (Action.HANDLE, READY)
    for phase in (AUTHENTICATING, READY, EXTENDED, COPY_IN, SKIPPING):
        yield (phase, "X"), (Action.END, CLOSED)
    for phase in (READY, EXTENDED):            # a Query may end a pipeline as Sync does (exec_simple_query in postgres.c; asyncpg's COPY)
        yield (phase, "Q"), (Action.HANDLE, READY)
        for kind in "PBDEC":
            yield (phase, kind), (Action.HANDLE, EXTENDED)
        yield (phase, "S"), (Action.HANDLE, READY)
        yield (phase, "H"), (Action.HANDLE, phase)
        for kind in "dcf":                    # left over from a COPY that failed: PostgreSQL drops them too
            yield (phase, kind), (Action.DISCARD, phase)
    yield (COPY_IN, "d"), (Action.HANDLE, COPY_IN)
    for kind in "cf":                         # back to READY or EXTENDED, whichever the COPY came from
        yield (COPY_IN, kind), (Action.HANDLE, EXTENDED)
    for kind in "SH":                         # "Flush and Sync messages are ignored" during COPY FROM STDIN
        yield (COPY_IN, kind), (Action.DISCARD, COPY_IN)
    for kind in "QPBDECHdcf":
        yield (SKIPPING, kind), (Action.DISCARD, SKIPPING)
    yield (SKIPPING, "S"), (Action.HANDLE, READY)


CALLER: Mapping[tuple[str, str], tuple[Action, str]] = dict(_caller())
"""(phase, message) -> (what becomes of it, the phase after it)."""


def caller(phase: str, kind: int) -> Action:
    """What to do with a caller's message of this type byte. Raises ``ClientFault``: 0A000 for FunctionCall, 08P01 for all else that is
    not in the table."""
    found = CALLER.get((phase, chr(kind)))
    if found is None:
        name = _NAMES.get(chr(kind))
        what = f"message {name}" if name else f"message type {kind_name(kind)}"
        raise ClientFault(f"{what} is not supported here", "0A000" if name == "FunctionCall" else "08P01")
    return found[0]


# The target

PARSE, BIND, DESCRIBE_STATEMENT, DESCRIBE_PORTAL, EXECUTE, CLOSE, SYNC, QUERY = (
    "parse", "bind", "describe-statement", "describe-portal", "execute", "close", "sync", "query")
KINDS = (PARSE, BIND, DESCRIBE_STATEMENT, DESCRIBE_PORTAL, EXECUTE, CLOSE, SYNC, QUERY)

BEGUN, TYPED, ROWS, COPYING_IN, COPYING_OUT, COPIED, FAILED, DONE = (
    "", "typed", "rows", "copy-in", "copy-out", "copied", "failed", "done")
STATES = (BEGUN, TYPED, ROWS, COPYING_IN, COPYING_OUT, COPIED, FAILED, DONE)

BACKEND_NAMES: Mapping[str, str] = {
    "1": "ParseComplete", "2": "BindComplete", "3": "CloseComplete", "t": "ParameterDescription", "T": "RowDescription", "n": "NoData",
    "D": "DataRow", "C": "CommandComplete", "I": "EmptyQueryResponse", "s": "PortalSuspended", "G": "CopyInResponse",
    "H": "CopyOutResponse", "d": "CopyData", "c": "CopyDone", "Z": "ReadyForQuery", "E": "ErrorResponse", "N": "NoticeResponse",
    "S": "ParameterStatus", "A": "NotificationResponse", "R": "Authentication", "K": "BackendKeyData", "V": "FunctionCallResponse",
    "W": "CopyBothResponse", "v": "NegotiateProtocolVersion",
}
ANY_TIME = frozenset("NSA")
"""May come between any two messages, also while nothing is asked."""


def _target() -> Iterator[tuple[tuple[str, str, str], str]]:
    yield (PARSE, BEGUN, "1"), DONE
    yield (BIND, BEGUN, "2"), DONE
    yield (CLOSE, BEGUN, "3"), DONE
    yield (DESCRIBE_STATEMENT, BEGUN, "t"), TYPED
    for kind in "Tn":
        yield (DESCRIBE_STATEMENT, TYPED, kind), DONE
        yield (DESCRIBE_PORTAL, BEGUN, kind), DONE
    yield from _results(EXECUTE, DONE)
    for kind, state in (("D", ROWS), ("s", DONE)):
        yield (EXECUTE, BEGUN, kind), state
    yield (EXECUTE, ROWS, "s"), DONE
    yield from _results(QUERY, BEGUN)
    yield (QUERY, BEGUN, "T"), ROWS
    for asked in (SYNC, QUERY):
        yield (asked, BEGUN, "Z"), DONE
        yield (asked, FAILED, "Z"), DONE
    yield from _errors()


def _results(asked: str, after: str) -> Iterator[tuple[tuple[str, str, str], str]]:
    """What one statement brings once it runs."""
    for state in (BEGUN, ROWS, COPYING_IN, COPIED):
        yield (asked, state, "C"), after
    yield (asked, ROWS, "D"), ROWS
    yield (asked, BEGUN, "I"), after
    yield (asked, BEGUN, "G"), COPYING_IN
    yield (asked, BEGUN, "H"), COPYING_OUT
    yield (asked, COPYING_OUT, "d"), COPYING_OUT
    yield (asked, COPYING_OUT, "c"), COPIED


def _errors() -> Iterator[tuple[tuple[str, str, str], str]]:
    """An error ends any answer; of Query and Sync the ReadyForQuery is still owed."""
    for asked in KINDS:
        states = {PARSE: (BEGUN,), DESCRIBE_STATEMENT: (BEGUN, TYPED), EXECUTE: (BEGUN, ROWS, COPYING_IN, COPYING_OUT, COPIED),
                  QUERY: (BEGUN, ROWS, COPYING_IN, COPYING_OUT, COPIED)}.get(asked, (BEGUN,))
        for state in states:
            yield (asked, state, "E"), FAILED if asked in (QUERY, SYNC) else DONE


TARGET: Mapping[tuple[str, str, str], str] = dict(_target())
"""(kind of the message answered, how far the answer has come, the target's message) -> how far it is then."""


def target(asked: str | None, state: str, kind: int) -> str:
    """How far the answer is after the target's message of this type byte; ``DONE`` when it is complete. ``asked`` is ``None`` while
    nothing is owed. Raises ``TargetFault`` (08P01) for what is not in the table."""
    letter = chr(kind)
    if letter in ANY_TIME:
        return state
    found = TARGET.get((asked, state, letter)) if asked is not None else None
    if found is None:
        name = BACKEND_NAMES.get(letter, f"a message of unknown type {kind_name(kind)}")
        raise TargetFault(f"the target sent {name} out of order", "08P01")
    return found


MAX_NAME = 256
MAX_VALUE = 8192


def check_parameter_status(name: str, value: str) -> None:
    """Raises ``TargetFault`` for a setting that no PostgreSQL would report."""
    if not 1 <= len(name) <= MAX_NAME or len(value) > MAX_VALUE or not name.replace("_", "").replace(".", "").isalnum():
        raise TargetFault("the target reports a setting that cannot be", "08P01")


# Diagrams


def mermaid_caller() -> str:
    """The caller's phases as a Mermaid state diagram."""
    arrows: dict[tuple[str, str, str], list[str]] = {}
    for before, packets in PACKETS.items():
        for name, after in packets:
            arrows.setdefault((before, after, ""), []).append(name)
    for (before, kind), (action, after) in CALLER.items():
        arrows.setdefault((before, after, " (discarded)" if action is Action.DISCARD else ""), []).append(_NAMES[kind])
    extra = [f"    {_id(READY)} --> {_id(COPY_IN)}: CopyInResponse", f"    {_id(EXTENDED)} --> {_id(COPY_IN)}: CopyInResponse",
             f"    {_id(EXTENDED)} --> {_id(SKIPPING)}: refused, or an error of the target",
             f"    {_id(COPY_IN)} --> {_id(READY)}: end of a simple COPY"]
    lines = [f"    {_id(before)} --> {_id(after)}: {', '.join(names)}{how}" for (before, after, how), names in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {_id(STARTING)}", *lines, *extra, f"    {_id(CLOSED)} --> [*]"]) + "\n"


def mermaid_target() -> str:
    """The answers of Query and Execute, which have more than one step, as a Mermaid state diagram."""
    lines = []
    for asked in (QUERY, EXECUTE):
        arrows: dict[tuple[str, str], list[str]] = {}
        for (kind, before, letter), after in TARGET.items():
            if kind == asked:
                arrows.setdefault((before, after), []).append(BACKEND_NAMES[letter])
        lines.append(f"    state {asked} {{")
        lines += [f"        {asked}_{_id(before or 'begun')} --> {asked}_{_id(after or 'begun')}: {', '.join(names)}"
                  for (before, after), names in arrows.items()]
        lines.append("    }")
    return "\n".join(["stateDiagram-v2", *lines]) + "\n"


def _id(name: str) -> str:
    return name.replace("-", "_")
