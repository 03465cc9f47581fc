# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from gateway.network.plan import Reach
from gateway.network.resolve import MOST, resolve, system
from tests.unit.network.made import resource


def reach(host: str, *answers: str, port: int = 5432) -> Reach:
    [found] = resolve([resource(host, port)], lambda name, port: answers)
    return found


def texts(found: Reach) -> list[str]:
    return [str(address) for address in found.addresses]


@pytest.mark.parametrize(("host", "addresses"), [
    ("10.0.0.5", ["10.0.0.5"]), ("fd00::5", ["fd00::5"]), ("localhost", ["127.0.0.1", "::1"]), ("LOCALHOST.", ["127.0.0.1", "::1"]),
    ("::ffff:10.0.0.5", ["10.0.0.5"]), ("fe80::1%eth0", ["fe80::1"]), ("169.254.10.1", ["169.254.10.1"]),
])
def test_an_address_needs_no_name_server(host: str, addresses: list[str]) -> None:
    [found] = resolve([resource(host)], None)
    assert (texts(found), found.problem) == (addresses, None)


def test_a_name_is_looked_up_only_when_asked_for() -> None:
    [found] = resolve([resource("db.example")], None)
    assert found.problem == "has a name and no address: --resolve looks names up"
    assert texts(reach("db.example", "10.0.0.7", "10.0.0.5", "fd00::5", "10.0.0.5")) == ["10.0.0.5", "10.0.0.7", "fd00::5"]


def _raises(error: Exception) -> Callable[[str, int], list[str]]:
    def look_up(name: str, port: int) -> list[str]:
        raise error
    return look_up


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long"), TimeoutError()])
def test_a_name_that_fails_takes_no_other_with_it(error: Exception) -> None:
    failed, other = resolve([resource("nowhere.example"), resource("10.0.0.5")], _raises(error))
    assert failed.addresses == ()
    assert failed.problem is not None
    assert failed.problem.startswith("the name does not resolve (")
    assert texts(other) == ["10.0.0.5"]


@pytest.mark.parametrize("answer", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "169.254.169.254", "fe80::1"])
def test_a_name_server_cannot_point_where_no_target_is(answer: str) -> None:
    found = reach("db.example", "10.0.0.5", answer)
    assert found.addresses == ()
    assert answer in (found.problem or "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "224.0.0.1"])
def test_an_address_that_is_nobodys(host: str) -> None:
    assert reach(host).problem == f"expected the address of a host, not {host}"


@pytest.mark.parametrize("answers", [(), tuple(f"10.0.0.{n}" for n in range(MOST + 1)), ("no address",)])
def test_a_name_has_some_addresses_and_not_too_many(answers: tuple[str, ...]) -> None:
    assert "expected a name of 1 to 32 addresses" in (reach("db.example", *answers).problem or "")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_is_one(port: int) -> None:
    assert reach("10.0.0.5", port=port).problem == "expected a port from 1 to 65535"


def test_the_system_knows_this_machine() -> None:
    assert "127.0.0.1" in system("127.0.0.1", 5432)
    with pytest.raises((OSError, UnicodeError)):
        system("a" * 64 + ".invalid", 5432)
