# SPDX-License-Identifier: Apache-2.0
"""Looking on: no cost where nobody does, nobody slows a session down."""

from __future__ import annotations

import pytest

from gateway.errors import Refused
from gateway.recording.live import MOST, ROOM, Hub
from gateway.recording.terminal import Event


async def test_who_watches_gets_what_comes_from_then_on() -> None:
    hub, told = Hub(), list[tuple[str, bool]]()
    hub.asked = lambda session, on: told.append((session, on))
    hub.publish("s-1", [(2, Event(0, "o", b"before"))])
    assert not hub.watched("s-1")
    one, two = hub.watch("s-1"), hub.watch("s-1")
    hub.publish("s-1", [(2, Event(1, "o", b"text"))])
    hub.publish("s-2", [(9, Event(1, "o", b"other"))])
    assert await one.take(60) == await two.take(60) == [(2, Event(1, "o", b"text"))]
    assert await one.take(0.001) == []
    for watcher in (one, one, two):
        hub.leave(watcher)
    assert not hub.watched("s-1")
    assert told == [("s-1", True), ("s-1", False)]


async def test_who_is_too_slow_is_dropped_and_alone() -> None:
    hub = Hub()
    slow, quick = hub.watch("s-1"), hub.watch("s-1")
    for _ in range(3):
        hub.publish("s-1", [(2, Event(0, "o", b"x" * (ROOM // 3)))])
        assert len(await quick.take(60)) == 1
    assert slow.dropped
    assert await slow.take(60) == []
    assert not quick.dropped
    hub.shown("s-1", None)
    assert quick.dropped


async def test_watchers_are_bounded() -> None:
    hub = Hub()
    watchers = [hub.watch(f"s-{number}") for number in range(MOST)]
    with pytest.raises(Refused, match="too many"):
        hub.watch("s-x")
    hub.leave(watchers[0])
    hub.shown("s-1", [(1, Event(0, "o", b"x"))])
    assert await watchers[1].take(60) == [(1, Event(0, "o", b"x"))]
    hub.watch("s-x")
