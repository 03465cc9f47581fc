# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from gateway.network import nft, service
from gateway.network.plan import Destination, Door
from tests.unit.network.made import CONSOLE, POSTGRES, plan, resource

FLUSHED = "".join(f"flush set inet lockgate {name}\n" for name in nft.SETS)


def test_sets_are_emptied_and_filled_in_one_text() -> None:
    made = plan(resource("10.0.0.9"), resource("10.0.0.5"), resource("fd00::5", 5433), resource("10.0.0.5", name="again"))
    assert nft.render(made) == FLUSHED + (
        "add element inet lockgate listeners { 15432 }\n"
        "add element inet lockgate loopback_listeners { 19443 }\n"
        "add element inet lockgate targets4 { 10.0.0.5 . 5432, 10.0.0.9 . 5432 }\n"
        "add element inet lockgate targets6 { fd00::5 . 5433 }\n")


def test_no_policy_no_holes() -> None:
    assert nft.render(plan(doors=())) == FLUSHED


def test_the_console_is_no_listener_of_the_data_network() -> None:
    text = nft.render(plan(doors=(POSTGRES, Door("console", "10.0.0.1", 19443))))
    assert "add element inet lockgate consoles { 19443 }" in text
    assert "listeners { 15432 }" in text


def test_a_port_that_the_system_chooses_opens_nothing() -> None:
    made = plan(doors=(Door("postgres", "0.0.0.0", 0), CONSOLE))
    assert "0" not in nft.render(made).replace("19443", "")
    assert made.problems == ("listener postgres: expected a fixed port, not 0",)


_NUMBERS = re.compile(r"add element inet lockgate (?:[a-z]+|loopback_listeners|targets[46]) \{ [0-9a-f:. ,]+ \}")
_SERVICE = re.compile(r"\[Service\]|#.*|IPAddressDeny=any|IPAddressAllow=([0-9a-f:.]+/\d+)?|SocketBindDeny=any|SocketBindAllow=(tcp:\d+)?")
_HOSTILE = ("} ; flush ruleset", "10.0.0.5 }\nflush ruleset", "10.0.0.5\nExecStartPre=+/bin/sh", "{{ lookup('pipe', 'id') }}")
_HOSTS = st.one_of(st.ip_addresses().map(str), st.text(), st.builds("fe80::1%{}".format, st.text(min_size=1)), st.sampled_from(_HOSTILE))


@given(st.lists(st.builds(Destination, st.just("resource"), st.text(), _HOSTS, st.integers(-10, 70000)), max_size=5),
       st.lists(_HOSTS, max_size=3))
def test_whatever_the_policy_or_a_name_server_says_only_numbers_are_written_t69(given_to: list[Destination], answers: list[str]) -> None:
    """T69: neither names of the policy nor answers of a name server become nftables or systemd words."""
    made = plan(*given_to, clients=("10.0.0.0/8",), look_up=lambda name, port: answers)
    lines = nft.render(made).removeprefix(FLUSHED).splitlines()
    assert all(_NUMBERS.fullmatch(line) for line in lines), lines
    elements = [element for line in lines if "targets" in line for element in line.partition("{ ")[2].removesuffix(" }").split(", ")]
    for address, port in (element.split(" . ") for element in elements):
        assert str(ip_address(address)) == address
        assert 1 <= int(port) <= 65535
    assert all(_SERVICE.fullmatch(line) for line in service.render(made).splitlines())
