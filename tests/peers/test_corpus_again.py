# SPDX-License-Identifier: Apache-2.0
"""The corpus's reading cases said again and again in one session: what is understood and permitted once goes the short way from then on
(``lane.py``), and hides what it hid the first time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.protocols.postgres.messages import Bind, Describe, Execute, Message, Parse, Sync
from tests.peers.gateway import Appliance, running
from tests.peers.postgres import Case, PostgresServer, corpus
from tests.peers.test_corpus import SECRETS, fresh, shown, texts, through
from tests.peers.wire import Frame, Wire

TIMES = 4


@pytest.fixture(scope="module")
def kept_catalog(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Appliance]:
    """The catalog is read once: nothing has to be looked at between two statements."""
    fresh(postgres)
    postgres.execute("update customers set notes = null", "orders")     # whole rows hold a copy of the number there

    def change(appliance: Appliance) -> None:
        appliance.rewrite("policy/resources.yaml", {"credential: orders-db": "catalog: {max_age: 1h}\n    credential: orders-db"})

    with running(tmp_path_factory.mktemp("again"), postgres, role="corpus_again_app", change=change) as appliance:
        yield appliance
    fresh(postgres)


def reads(case: Case) -> bool:
    """One SELECT on the tables as they are."""
    words = texts(case)
    return (case.tier == "core" and case.kind == "mask" and not any(case.extra.get(key) for key in ("setup", "extended", "startup_params"))
            and len(words) == 1 and words[0].split(None, 1)[0].lower() in ("select", "with", "table"))


def ways(wire: Wire, text: str) -> Iterator[list[Frame]]:
    """Simple, unnamed, described or not, and named: each as often as it takes to go the short way."""
    yield from (wire.query(text) for _ in range(TIMES))
    run: list[Message] = [Bind("", ""), Describe("P", ""), Execute(""), Sync()]
    for _ in range(TIMES):
        wire.send(Parse("", text), *run)
        yield wire.until("Z")
    wire.send(Parse("again", text), Sync())
    yield wire.until("Z")
    described: list[Message] = [Bind("", "again"), Describe("P", ""), Execute(""), Sync()]
    undescribed: list[Message] = [Bind("", "again"), Execute(""), Sync()]
    for parts in (described, undescribed):
        for _ in range(TIMES):
            wire.send(*parts)
            yield wire.until("Z")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in corpus() if reads(case)])
def test_a_leak_is_stopped_as_often_as_it_is_tried(case: Case, kept_catalog: Appliance) -> None:
    with through(kept_catalog, case) as wire:
        for frames in ways(wire, texts(case)[0]):
            assert not any(secret in shown(frames, "DdENASVT") for secret in SECRETS)


@pytest.mark.parametrize("text", [
    "select id, ssn, email from customers order by id", "select id, ssn from customers where ssn = '078-05-1120'"])
def test_the_answer_is_the_same_every_time(text: str, kept_catalog: Appliance) -> None:
    case = next(case for case in corpus() if reads(case))
    with through(kept_catalog, case) as wire:
        answers = [[payload for kind, payload in frames if kind == "D"] for frames in ways(wire, text)]
    rows = [answer for answer in answers if answer]
    assert len(rows) == 4 * TIMES
    assert all(answer == rows[0] for answer in rows)
    assert b"****" in rows[0][0]
