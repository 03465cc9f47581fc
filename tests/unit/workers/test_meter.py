# SPDX-License-Identifier: Apache-2.0
"""Counts over several workers, each with its own view of the same memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayFault
from gateway.workers.meter import CONNECTIONS, Meter, Rows, SharedConnections, SharedRates


@pytest.fixture
def meter() -> Iterator[Meter]:
    made = Meter.make(8, 3)
    yield made
    made.close()


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_connections_are_those_of_all_and_a_dead_worker_has_none(meter: Meter) -> None:
    first, second = SharedConnections(meter, 0), SharedConnections(meter, 1)
    assert [first.opened(), second.opened(), first.opened()] == [1, 2, 3]
    first.closed()
    assert second.opened() == 3 and (first.here, second.here) == (1, 2)
    meter.clear(CONNECTIONS, 1)
    assert meter.total(CONNECTIONS) == 1


def test_a_bucket_is_one_for_all(meter: Meter) -> None:
    time = Time()
    workers = [SharedRates(10, meter, column, time) for column in range(3)]
    for worker in workers:
        worker.count_in("ci-bot", 1)
        assert worker.take("ci-bot")
    assert sum(workers[turn % 3].take("ci-bot") for turn in range(60)) == 9     # the last to look for the first time had a full bucket
    time.now += 0.5
    assert sum(workers[turn % 3].take("ci-bot") for turn in range(60)) == 5


def test_identities_have_buckets_of_their_own_and_a_stranger_none(meter: Meter) -> None:
    rates = SharedRates(2, meter, 0, Time())
    rates.count_in("ci-bot", 1)
    rates.count_in("reporting", 2)
    assert [rates.take("ci-bot"), rates.take("ci-bot"), rates.take("ci-bot")] == [True, True, False]
    assert rates.take("reporting") and not rates.take("nobody")


def test_a_slow_rate_lets_one_through_now_and_then(meter: Meter) -> None:
    time = Time()
    rates = SharedRates(0.5, meter, 0, time)
    rates.count_in("ci-bot", 1)
    assert rates.take("ci-bot") and not rates.take("ci-bot")
    time.now += 2
    assert rates.take("ci-bot") and not rates.take("ci-bot")


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 2)), max_size=200))
def test_over_any_time_no_more_pass_than_the_rate_and_a_bucket_for_each_worker(asked: list[tuple[int, float]]) -> None:
    meter, time = Meter.make(4, 3), Time()
    try:
        workers = [SharedRates(5, meter, column, time) for column in range(3)]
        for worker in workers:
            worker.count_in("ci-bot", 1)
        passed = 0
        for column, pause in asked:
            time.now += pause
            passed += workers[column].take("ci-bot")
        assert passed == meter.total(1) <= 3 * 5 + 5 * (time.now - 100.0) + 1e-6
    finally:
        meter.close()


def test_a_row_passes_on_only_when_nobody_is_left_of_whom_it_had() -> None:
    rows, here = Rows(3), {"a": 1, "b": 1, "c": 0}
    assert [rows.row_of(name, lambda name: here[name]) for name in ("a", "b", "a")] == [1, 2, 1]
    with pytest.raises(GatewayFault):
        rows.row_of("c", lambda name: here[name])
    here["a"] = 0
    assert rows.row_of("c", lambda name: here[name]) == 1
