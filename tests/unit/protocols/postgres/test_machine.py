# SPDX-License-Identifier: Apache-2.0
"""Every (state, message) pair: either it is in the table and does what the manual says, or it is refused (T23, T26, T34)."""

from __future__ import annotations

import pytest

from gateway.errors import ClientFault, TargetFault
from gateway.protocols.postgres import machine, messages
from gateway.protocols.postgres.machine import Action

EXTENDED_MESSAGES = frozenset("PBDECH")
# Written from the manual's "Message Flow", independently of how the table is built.
HANDLED = {
    machine.STARTING: "",
    machine.CLOSED: "",
    machine.AUTHENTICATING: "p",
    machine.READY: "QPBDECSH",
    machine.EXTENDED: "QPBDECSH",
    machine.COPY_IN: "dcf",
    machine.SKIPPING: "S",
}
DISCARDED = {machine.READY: "dcf", machine.EXTENDED: "dcf", machine.COPY_IN: "SH", machine.SKIPPING: "QPBDECHdcf"}
ENDING = (machine.AUTHENTICATING, machine.READY, machine.EXTENDED, machine.COPY_IN, machine.SKIPPING)


@pytest.mark.parametrize("phase", machine.PHASES)
def test_every_byte_from_a_caller(phase: str) -> None:
    for kind in range(256):
        letter = chr(kind)
        expected = (
            Action.HANDLE
            if letter in HANDLED[phase]
            else Action.DISCARD
            if letter in DISCARDED.get(phase, "")
            else Action.END
            if letter == "X" and phase in ENDING
            else None
        )
        if expected is None:
            with pytest.raises(ClientFault):
                machine.caller(phase, kind)
        else:
            assert machine.caller(phase, kind) is expected


def test_function_calls_are_refused_by_name() -> None:
    for phase in machine.PHASES:
        with pytest.raises(ClientFault, match="FunctionCall") as caught:
            machine.caller(phase, ord("F"))
        assert caught.value.code == "0A000"


def test_the_tables_name_every_message_there_is() -> None:
    assert {ord(kind) for _, kind in machine.CALLER} | {ord("F")} == messages.FRONTEND_TYPES
    assert {ord(kind) for _, _, kind in machine.TARGET} | {ord(k) for k in machine.ANY_TIME} | set(b"RKv") == messages.BACKEND_TYPES
    assert {phase for phase, _ in machine.CALLER} | {machine.STARTING, machine.CLOSED} == set(machine.PHASES)


ANSWERS = {
    machine.PARSE: ["1"],
    machine.BIND: ["2"],
    machine.CLOSE: ["3"],
    machine.DESCRIBE_STATEMENT: ["tT", "tn"],
    machine.DESCRIBE_PORTAL: ["T", "n"],
    machine.SYNC: ["Z", "EZ"],
    machine.EXECUTE: ["C", "DC", "DDDs", "s", "I", "GC", "Hdddc" + "C", "HcC", "E", "DE", "GE", "HdE"],
    machine.QUERY: ["IZ", "CZ", "TDDCZ", "TCZ", "TDCCTCZ", "GCZ", "HddcCZ", "EZ", "TDEZ", "CEZ", "GEZ", "TDCGCHdcCZ"],
}


@pytest.mark.parametrize(("asked", "answer"), [(asked, answer) for asked, answers in ANSWERS.items() for answer in answers])
def test_whole_answers(asked: str, answer: str) -> None:
    state = machine.BEGUN
    for position, letter in enumerate(answer):
        for aside in "NSA":
            assert machine.target(asked, state, ord(aside)) == state
        state = machine.target(asked, state, ord(letter))
        assert (state == machine.DONE) == (position == len(answer) - 1)


@pytest.mark.parametrize("asked", machine.KINDS)
def test_every_byte_from_a_target(asked: str) -> None:
    """What no prefix of a right answer allows is refused, in every state."""
    allowed: dict[str, set[str]] = {}
    for answer in ANSWERS[asked]:
        state = machine.BEGUN
        for letter in answer:
            allowed.setdefault(state, set()).add(letter)
            state = machine.target(asked, state, ord(letter))
    for state in machine.STATES:
        for kind in range(256):
            letter = chr(kind)
            if letter in "NSA":
                assert machine.target(asked, state, kind) == state
            elif letter in allowed.get(state, set()) or (letter == "E" and state in allowed and state != machine.FAILED):
                machine.target(asked, state, kind)
            else:
                with pytest.raises(TargetFault):
                    machine.target(asked, state, kind)


def test_nothing_but_asides_while_nothing_is_owed() -> None:
    for kind in range(256):
        if chr(kind) in "NSA":
            assert machine.target(None, machine.BEGUN, kind) == machine.BEGUN
        else:
            with pytest.raises(TargetFault):
                machine.target(None, machine.BEGUN, kind)


@pytest.mark.parametrize(
    ("asked", "state", "kind"),
    [
        (machine.QUERY, machine.BEGUN, "D"),
        (machine.QUERY, machine.ROWS, "T"),
        (machine.QUERY, machine.BEGUN, "d"),
        (machine.QUERY, machine.FAILED, "C"),
        (machine.EXECUTE, machine.BEGUN, "T"),
        (machine.EXECUTE, machine.BEGUN, "Z"),
        (machine.SYNC, machine.BEGUN, "C"),
        (machine.BIND, machine.BEGUN, "D"),
        (machine.QUERY, machine.BEGUN, "R"),
        (machine.QUERY, machine.BEGUN, "K"),
        (machine.QUERY, machine.BEGUN, "W"),
        (machine.QUERY, machine.BEGUN, "V"),
        (machine.QUERY, machine.COPYING_OUT, "C"),
        (machine.QUERY, machine.COPIED, "d"),
        (machine.PARSE, machine.BEGUN, "2"),
    ],
)
def test_a_hostile_order(asked: str, state: str, kind: str) -> None:
    with pytest.raises(TargetFault, match="out of order"):
        machine.target(asked, state, ord(kind))


@pytest.mark.parametrize(("name", "value"), [("", "x"), ("a b", "x"), ("x" * 257, "x"), ("TimeZone", "x" * 8193), ("a\n", "")])
def test_settings_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(TargetFault):
        machine.check_parameter_status(name, value)


def test_settings_that_can_be() -> None:
    for name in ("TimeZone", "in_hot_standby", "pgaudit.log", "search_path"):
        machine.check_parameter_status(name, "")


def test_the_diagrams_show_the_tables() -> None:
    caller, target = machine.mermaid_caller(), machine.mermaid_target()
    for (before, _), (_, after) in machine.CALLER.items():
        assert f"{before.replace('-', '_')} --> {after.replace('-', '_')}: " in caller
    assert "query_rows --> query_rows: DataRow" in target
    assert "execute_begun --> execute_copy_in: CopyInResponse" in target
