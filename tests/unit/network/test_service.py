# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from gateway.network import service
from gateway.network.plan import Door
from tests.unit.network.made import CONSOLE, plan, resource


def test_both_locks() -> None:
    made = replace(plan(resource("10.0.0.5"), resource("fd00::5"), clients=("10.1.0.0/16",)), name_servers=(ip_address("10.0.0.53"),))
    assert service.render(made).splitlines() == [
        "# Made by `lockgate network` from the policy.", "[Service]", "IPAddressDeny=any", "IPAddressAllow=",
        "IPAddressAllow=127.0.0.0/8", "IPAddressAllow=::1/128", "IPAddressAllow=10.1.0.0/16", "IPAddressAllow=10.0.0.5/32",
        "IPAddressAllow=fd00::5/128", "IPAddressAllow=10.0.0.53/32",
        "SocketBindDeny=any", "SocketBindAllow=", "SocketBindAllow=tcp:15432", "SocketBindAllow=tcp:19443"]


def test_callers_from_anywhere_leave_outgoing_connections_to_nftables() -> None:
    text = service.render(plan(resource("10.0.0.5")))
    assert "IPAddressDeny" not in text
    assert "# No IPAddressAllow=: callers may come from anywhere. nftables alone holds outgoing connections." in text
    assert "SocketBindAllow=tcp:15432" in text


def test_a_port_that_the_system_chooses_is_not_bound_to_a_list() -> None:
    assert "SocketBindDeny" not in service.render(plan(doors=(Door("postgres", "127.0.0.1", 0), CONSOLE)))


def test_t69_text_behind_a_network_gets_into_no_unit() -> None:
    """As a line of the unit this would run as root."""
    hostile = "fe80::%x\nUser=root\nExecStartPre=+nft flush ruleset\n#/64"
    lines = service.render(plan(resource("10.0.0.5"), clients=(hostile,))).splitlines()
    assert "IPAddressAllow=fe80::/64" in lines
    assert all(line.startswith(("#", "[Service]", "IPAddress", "SocketBind")) for line in lines) and "#/64" not in lines
