# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from gateway.live import LiveSessions
from gateway.model import Identity, Session


def session(number: int, identity: str = "ci-bot", resource: str = "orders-db") -> Session:
    return Session(str(number), Identity(identity, "ci", "s"), resource, "postgres", "127.0.0.1", 0.0)


def test_counts_per_identity_and_resource() -> None:
    live = LiveSessions()
    for number, resource in enumerate(("a", "a", "b")):
        live.add(session(number, resource=resource), lambda reason: None)
    assert live.concurrent("ci-bot", "a") == 2
    assert live.of_identity("ci-bot") == 3
    live.remove("0")
    live.remove("0")
    assert live.concurrent("ci-bot", "a") == 1
    assert live.of_identity("ci-bot") == 2
    assert len(live) == 2


def test_end_reaches_only_the_named_session() -> None:
    live = LiveSessions()
    told: list[str] = []
    live.add(session(1), lambda reason: told.append("1 " + reason))
    live.add(session(2), lambda reason: told.append("2 " + reason))
    assert live.end("2", "enough")
    assert not live.end("3", "enough")
    assert told == ["2 enough"]
    live.end_all("stopping")
    assert told[1:] == ["1 stopping", "2 stopping"]
