# SPDX-License-Identifier: Apache-2.0
"""Who gives way to whom among connections whose callers are not known (T66)."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.net.halfopen import HalfOpen, Place

MOST = 4


class Room:
    """Places of some addresses; ``ended`` are those that gave way, by the number of their arrival."""

    def __init__(self) -> None:
        self.half_open, self.ended, self.places = HalfOpen(lambda: 0.0), list[int](), dict[int, Place]()

    def arrives(self, peer: str, *, full: bool = False) -> bool:
        number = len(self.places)
        place = self.half_open.enter(peer, lambda: self.ended.append(number), MOST, full=full)
        if place is None:
            return False
        self.places[number] = place
        return True


def test_an_address_that_has_all_places_gives_way_t66() -> None:
    room = Room()
    assert [room.arrives("10.0.0.1") for _ in range(5)] == [True] * 4 + [False]
    assert room.arrives("10.0.0.2") and room.arrives("10.0.0.2")
    assert room.ended == [0, 1] and len(room.half_open) == MOST
    assert not room.arrives("10.0.0.2")                      # both have two now
    assert not room.arrives("10.0.0.1")
    assert room.arrives("10.0.0.3") and len(room.ended) == 3


def test_of_many_addresses_with_one_each_the_oldest_gives_way_t66() -> None:
    room = Room()
    assert all(room.arrives(f"10.0.0.{number}") for number in range(9))
    assert room.ended == [0, 1, 2, 3, 4]


def test_an_ipv6_network_is_one_address_t66() -> None:
    room = Room()
    assert [room.arrives(f"2001:db8::{number}") for number in range(5)] == [True] * 4 + [False]
    assert room.arrives("2001:db8:0:1::1")


def test_where_the_gateway_is_full_one_gives_way_or_nobody_comes_in() -> None:
    room = Room()
    assert not room.arrives("10.0.0.1", full=True)
    assert room.arrives("10.0.0.1") and not room.arrives("10.0.0.1", full=True)
    assert room.arrives("10.0.0.2", full=True) and room.ended == [0]


def test_who_is_known_does_not_give_way() -> None:
    room = Room()
    for _ in range(MOST):
        room.arrives("10.0.0.1")
    room.half_open.leave(room.places[0])
    room.half_open.leave(room.places[0])
    assert len(room.half_open) == 3 and room.arrives("10.0.0.1")
    assert room.arrives("10.0.0.2") and room.ended == [1]


def test_it_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    half_open = HalfOpen(lambda: now[0])
    with caplog.at_level(logging.WARNING, "gateway.net"):
        for _ in range(4):
            half_open.enter("10.0.0.1", lambda: None, 4)
        for number in range(2, 4):
            assert half_open.enter(f"10.0.0.{number}", lambda: None, 4)
        assert ["4 of 10.0.0.1" in line for line in caplog.messages] == [True]
        now[0] += 60
        assert half_open.enter("10.0.0.9", lambda: None, 4)
        assert len(caplog.messages) == 2


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 20)), max_size=60))
def test_nobody_has_more_than_its_share_while_others_are_kept_out(steps: list[tuple[int, bool, int]]) -> None:
    """Never more than there may be; who is refused has as many as anybody."""
    room, inside = Room(), dict[int, int]()
    for who, leaves, which in steps:
        if leaves and inside:
            number = list(inside)[which % len(inside)]
            room.half_open.leave(room.places[number])
            del inside[number]
        before = len(room.places)
        came_in = room.arrives(f"10.0.0.{who}")
        for number in room.ended:
            inside.pop(number, None)
        have = Counter(inside.values())
        if came_in:
            inside[before] = who
        else:
            assert have[who] == max(have.values())
        assert len(room.half_open) == len(inside) <= MOST
