# SPDX-License-Identifier: Apache-2.0
"""Durations, sizes, rates, addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.address import is_loopback, same_place, split_address
from gateway.config.quantities import parse_duration, parse_rate, parse_size, show_duration, show_rate, show_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("15m", 900),
        ("8h", 28800),
        ("30d", 2592000),
        ("2w", 1209600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("0s", 0),
        (0, 0),
        (10, 10),
        (0.5, 0.5),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "15", "15 m", "m", "-5s", "5 minutes", "1h 30m", "٣s", -1, True, None, [], float("nan"), float("inf"), "9" * 30 + "s"]
)
def test_not_durations(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("64MiB", 2**26), ("64 MiB", 2**26), ("20GiB", 20 * 2**30), ("1KB", 1000), ("0B", 0), (4096, 4096)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["64mib", "64M", "", "MiB", -1, 1.5, True, "1e3MiB"])
def test_not_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)


@pytest.mark.parametrize(("text", "rate"), [("100000/s", 1e5), ("6000/m", 100), ("10 / s", 10), ("3600/h", 1), (5, 5)])
def test_rates(text: object, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["100", "/s", "100/y", "100/s/s", "-1/s", False])
def test_not_rates(text: object) -> None:
    with pytest.raises(ValueError, match="expected a rate"):
        parse_rate(text)


@given(st.integers(0, 10**8))
def test_shown_durations_are_read_back(milliseconds: int) -> None:
    assert parse_duration(show_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.integers(0, 2**45))
def test_shown_sizes_are_read_back(size: int) -> None:
    assert parse_size(show_size(size)) == size


@given(st.integers(0, 10**9))
def test_shown_rates_are_read_back(rate: int) -> None:
    assert parse_rate(show_rate(float(rate))) == rate


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:5432", ("127.0.0.1", 5432)),
        ("[::1]:80", ("::1", 80)),
        ("db.example:1", ("db.example", 1)),
        ("h:0", ("h", 0)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_addresses(text: str, place: tuple[str, int]) -> None:
    assert split_address(text) == place


@pytest.mark.parametrize(
    "text", ["127.0.0.1", ":5432", "host:", "host:x", "host:70000", "::1:80", "[::1]", "[::g]:1", "a b:1", "host:٣", "-h:1", "/tmp/x:1"]
)
def test_not_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        split_address(text)


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "127.0.0.1.example", "", "::ffff:10.0.0.1")))


def test_same_place() -> None:
    assert same_place("0.0.0.0:80", "127.0.0.1:80")
    assert not same_place("127.0.0.2:80", "127.0.0.1:80")
    assert not same_place("127.0.0.1:0", "127.0.0.1:0")
