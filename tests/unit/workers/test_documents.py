# SPDX-License-Identifier: Apache-2.0
"""What crosses a link arrives as it was, or not at all."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayFault
from gateway.live import Caps
from gateway.model import Binding, Command, Decision, Identity, Operation, Session, StatementLimits
from gateway.workers.documents import CAPS, COMMAND, DECISION, SESSION

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.tuples(TEXT, TEXT)
VALUES = st.one_of(TEXT, st.integers(-2**53, 2**53), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), NAMES)


OPERATION = st.builds(Operation, TEXT, TEXT, NAMES, st.dictionaries(TEXT, VALUES, max_size=3))
BINDING = st.builds(Binding, TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=3), NAMES)


@given(st.builds(
    Command, operations=st.tuples(OPERATION), text=TEXT, shown_text=TEXT, parameters=st.tuples(st.tuples(TEXT, st.none() | TEXT)),
    shown_parameters=st.tuples(st.none() | TEXT), binding=BINDING, early=st.booleans(), wait=st.booleans(), phase=TEXT))
def test_a_command(command: Command) -> None:
    assert COMMAND.read(orjson.loads(orjson.dumps(COMMAND.write(command)))) == command


@given(st.builds(
    Session, id=TEXT, identity=st.builds(
        Identity, TEXT, TEXT, TEXT, st.frozensets(TEXT), st.none() | TEXT, st.booleans(), st.none() | TEXT,
        expires=st.floats(0, 2**40), claims=st.dictionaries(TEXT, TEXT, max_size=3)),
    resource=TEXT, protocol=TEXT, source=TEXT, started=st.floats(0, 2**40), login=TEXT, database=TEXT))
def test_a_session(session: Session) -> None:
    assert SESSION.read(orjson.loads(orjson.dumps(SESSION.write(session)))) == session


def test_a_decision_and_caps() -> None:
    decision = Decision("approve", ("a/b",), "held", ("one-dba",), 5, StatementLimits(10, 1.5))
    assert DECISION.read(orjson.loads(orjson.dumps(DECISION.write(decision)))) == decision
    assert CAPS.read(orjson.loads(orjson.dumps(CAPS.write(Caps(None, 3))))) == Caps(None, 3)


@pytest.mark.parametrize("said", [None, [], {}, {"concurrent": 1}, {"concurrent": "many", "in_all": 1}, {"concurrent": 1, "in_all": None}])
def test_anything_else_is_refused(said: object) -> None:
    with pytest.raises(GatewayFault, match="caps"):
        CAPS.read(said)
