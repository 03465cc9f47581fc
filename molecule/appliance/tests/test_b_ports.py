# SPDX-License-Identifier: Apache-2.0
"""Ports open are the listeners, seen from each network; what the gateway may send to is the target, seen by trying."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from reach import connects, datagram_arrives, open_ports, reached
from segment import CONSOLE, DATABASE, GATEWAY, MANAGEMENT, PORT, Segment
from verify import Lab

SSH = 22


def test_callers_see_the_listener_and_nothing_else(lab: Lab) -> None:
    assert open_ports(lab.namespace("client"), GATEWAY) == [PORT]


def test_a_rogue_sees_no_more(lab: Lab) -> None:
    assert open_ports(lab.namespace("rogue"), GATEWAY) == [PORT]


def test_the_targets_network_sees_nothing(lab: Lab) -> None:
    assert open_ports(lab.namespace("rogue"), "10.88.12.11") == []


def test_management_sees_ssh_and_the_console(lab: Lab) -> None:
    assert open_ports(lab.switch("management"), MANAGEMENT) == [SSH, CONSOLE]


def test_one_networks_listener_is_not_reached_by_another_address(lab: Lab) -> None:
    """The gateway answers for its other legs' addresses to nobody."""
    for address, port in ((MANAGEMENT, SSH), (MANAGEMENT, CONSOLE), ("10.88.12.11", PORT)):
        lab.host("rogue").check_output(f"ip route replace {address}/32 via {GATEWAY}")
        try:
            assert not lab.reaches(lab.namespace("rogue"), address, port, 1)
        finally:
            lab.host("rogue").check_output(f"ip route del {address}/32")


def test_listening_sockets_are_what_lockgate_network_says(lab: Lab) -> None:
    gateway = lab.host("gw")
    said = json.loads(gateway.check_output("lockgate network --json"))
    assert {listener["port"] for listener in said["listeners"]} == {PORT, CONSOLE}
    sockets = gateway.check_output("ss --no-header --numeric --listening --tcp").splitlines()
    outside = {line.split()[3] for line in sockets if not line.split()[3].startswith(("127.", "[::1]"))}
    assert {int(socket.rpartition(":")[2]) for socket in outside} == {SSH, PORT, CONSOLE}
    assert not gateway.check_output("ss --no-header --numeric --listening --udp")


# --- out ---


@pytest.fixture(scope="module")
def listeners(lab: Lab) -> Iterator[None]:
    """Something that would answer, so that silence means the firewall."""
    lab.host("rogue").check_output("systemd-run --quiet --unit=lab-listener --collect nc -lk 8443")
    give_up = time.monotonic() + 60
    while not lab.reaches(lab.namespace("db"), "10.88.12.66", 8443):
        assert time.monotonic() < give_up, "the listener does not answer"
        time.sleep(0.5)
    yield
    lab.host("rogue").check_output("systemctl stop lab-listener")


@pytest.mark.usefixtures("listeners")
@pytest.mark.parametrize("user", ["lockgate", "root", "ops", "nobody"])
def test_nothing_on_the_gateway_connects_to_anything_but_the_target(user: str) -> None:
    elsewhere = [(DATABASE, SSH), ("10.88.12.66", 8443), ("10.88.12.66", SSH), ("10.88.11.66", 8443), ("10.88.11.13", SSH),
                 ("10.88.10.1", 5432), ("192.0.2.1", 443)]  # fmt: skip
    assert reached("db", "postgres", elsewhere) == elsewhere[:3]
    assert reached("gw", user, elsewhere) == []


@pytest.mark.parametrize(("user", "may"), [("lockgate", True), ("root", False), ("ops", False), ("nobody", False)])
def test_only_the_service_account_connects_to_the_target(user: str, may: bool) -> None:
    assert connects("gw", user, DATABASE, 5432) is may


@pytest.mark.parametrize("user", ["lockgate", "root"])
def test_datagrams_do_not_leave(lab: Lab, user: str) -> None:
    assert datagram_arrives(("db", "postgres"), lab.namespace("rogue"), "10.88.12.66", 5300)
    assert not datagram_arrives(("gw", user), lab.namespace("rogue"), "10.88.12.66", 5300)
    assert not datagram_arrives(("gw", user), lab.switch("management"), "10.88.10.1", 53)


def test_the_units_own_list_holds_where_the_firewall_is_open(lab: Lab) -> None:
    """The second lock: without nftables a process in the service's control group still reaches the target alone."""
    gateway = lab.host("gw")
    enter = "echo $$ > /sys/fs/cgroup/system.slice/lockgate.service/cgroup.procs; exec nc -zw1 {} {}"
    gateway.check_output("nft flush ruleset")
    try:
        assert gateway.run("nc -zw1 10.88.12.66 8443 || nc -zw1 10.88.12.66 22").rc == 0
        assert gateway.run(enter.format(DATABASE, 5432)).rc == 0
        assert gateway.run(enter.format("10.88.12.66", SSH)).rc != 0
    finally:
        gateway.check_output("systemctl restart nftables lockgate-network")
    assert not connects("gw", "root", DATABASE, 5432)


def test_a_new_target_opens_its_own_hole_and_no_other(segment: Segment) -> None:
    with segment.edited() as folder:
        (folder / "policy" / "second.yaml").write_text(
            "resources:\n"
            "  - {name: second, protocol: postgres, address: '10.88.12.66:8443', database: x, credential: orders-db,\n"
            "     tls: {mode: verify-full, ca: trust/targets-ca.pem}}\n"
        )
        run = segment.play("policy.yml")
        assert run.status == 0, run.output
        segment.lab.host("rogue").check_output("systemd-run --quiet --unit=lab-second --collect nc -lk 8443")
        assert connects("gw", "lockgate", "10.88.12.66", 8443)
        assert not connects("gw", "lockgate", "10.88.12.66", SSH)
        assert not connects("gw", "root", "10.88.12.66", 8443)
    assert segment.play("policy.yml").status == 0
    assert not connects("gw", "lockgate", "10.88.12.66", 8443)
    segment.lab.host("rogue").check_output("systemctl stop lab-second")
