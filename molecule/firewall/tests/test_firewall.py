# SPDX-License-Identifier: Apache-2.0
"""What passes the gateway's firewall, seen from both sides: packets are sent, and the running kernel is asked."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from holes import ADDED, FOLDER, counter, elements, entry, reaches, reload, resource, write
from testinfra.host import Host
from verify import Lab, Playbook

testinfra_hosts = ["lab://gw"]

GATEWAY, TARGET = "10.88.3.11", "10.88.3.12"
DROPIN = "/run/systemd/system/lockgate.service.d/50-network.conf"
ECHO = """
import socket, sys
ping = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); ping.settimeout(1.0)
ping.sendto(b"\\x08\\x00\\xf7\\xff\\x00\\x00\\x00\\x00", (sys.argv[1], 0))
try: print("answer from", ping.recvfrom(512)[1])
except TimeoutError: print("silence")
"""
HOLD = """
import socket, sys, time
one = socket.socket(type=socket.SOCK_DGRAM); one.bind(("", 40053)); one.connect((sys.argv[1], 53)); one.send(b"x"); time.sleep(600)
"""
TOO_BIG = """
import socket, struct, sys
here, there, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
def checked(before, after): # RFC 1071
    words = struct.unpack(f"!{len(before + after) // 2}H", before + after); total = sum(words); total = (total & 0xffff) + (total >> 16)
    return before + struct.pack("!H", ~(total + (total >> 16)) & 0xffff) + after
inner = checked(struct.pack("!BBHHHBB", 0x45, 0, 29, 7, 0x4000, 64, 17), socket.inet_aton(there) + socket.inet_aton(here))
inner += struct.pack("!HHHH", port, 53, 9, 0)
told = checked(b"\\x03\\x04", struct.pack("!HH", 0, 1000) + inner)
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).sendto(told, (there, 0))
"""
FLOOD = """
import socket, sys, time
held = []
for _ in range(60):
    one = socket.socket(); one.settimeout(0.3)
    try: one.connect((sys.argv[1], 15432)); held.append(one)
    except OSError: one.close()
print(len(held), flush=True)
time.sleep(120)
"""
CONTROLS: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[3] / "roles/firewall/vars/controls.yml").read_text())["__firewall_controls"]


@pytest.fixture
def policy(host: Host) -> Iterator[None]:
    """The policy as it was, afterwards."""
    yield
    host.check_output("rm -f %s && sed -i /added.lab/d /etc/hosts", ADDED)
    assert reload(host) == 0


def test_the_host_is_well(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"
    for unit in ("nftables", "lockgate-network", "lockgate"):
        assert host.service(unit).is_running, unit
        assert host.service(unit).is_enabled, unit


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: str(control["id"]))
def test_the_evidence_of_every_control_holds(host: Host, control: dict[str, Any]) -> None:
    command = control["evidence"]["command"]
    shown = host.check_output(" ".join(["%s"] * len(command)), *command)
    assert re.search(control["evidence"]["stdout_regex"], shown, re.MULTILINE), shown


def test_a_scan_from_another_host_finds_the_listener_and_nothing_else(host: Host, lab: Lab) -> None:
    listening = {int(line.split()[3].rsplit(":", 1)[1]) for line in host.check_output("ss -Hltn").splitlines()}
    assert {22, 8080, 15432, 19443} <= listening
    ports = sorted(listening | set(range(1, 200)) | {111, 631, 5432, 5355, 10050, 15433, 19443})
    with ThreadPoolExecutor(48) as pool:
        found = list(pool.map(lambda port: lab.reaches(lab.namespace("rogue"), GATEWAY, port, 1.0), ports))
    assert [port for port, is_open in zip(ports, found, strict=True) if is_open] == [15432]
    assert counter(host, "dropped_in") > 100


def test_administrators_come_from_their_network_only(lab: Lab) -> None:
    assert lab.reaches(lab.switch(), GATEWAY, 22)
    assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 22)


def test_a_listener_on_managements_port_lets_nobody_in_there(host: Host, lab: Lab) -> None:
    """The first who gives SSH its usual port would open the host's own sshd to every robot, until the gateway fails to listen."""
    settings = f"{FOLDER}/gateway.yaml"
    host.check_output("cp -p %s /run/gateway.yaml && sed -i s/:15432/:22/ %s", settings, settings)
    try:
        assert reload(host) == 0
        assert 22 in elements(host, "listeners")
        assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 22, 1.0)
        assert lab.reaches(lab.switch(), GATEWAY, 22)
    finally:
        host.check_output("cp -p /run/gateway.yaml %s", settings)
        assert reload(host) == 0
    assert lab.reaches(lab.namespace("rogue"), GATEWAY, 15432)


def test_echo_is_not_answered(host: Host, lab: Lab) -> None:
    before = counter(host, "dropped_in")
    assert lab.host("rogue").run("python3 -c %s %s", ECHO, GATEWAY).stdout.strip() == "silence"
    assert counter(host, "dropped_in") > before


def test_the_path_tells_of_its_mtu_and_nobody_else_does(host: Host, lab: Lab) -> None:
    """Path MTU discovery (RFC 1191) belongs to a connection; without it large answers would be lost on the way without a word."""
    host.check_output("systemd-run --quiet --unit=held-open --uid=880 python3 -c %s %s", HOLD, TARGET)
    try:
        assert eventually(lambda: f"{TARGET}:53" in host.check_output("ss --udp --numeric --no-header"))
        invalid = counter(host, "invalid")
        lab.host("target").check_output("python3 -c %s %s %s 40054", TOO_BIG, TARGET, GATEWAY)
        assert eventually(lambda: counter(host, "invalid") > invalid), "of a connection that there is not"
        assert "mtu" not in host.check_output(f"ip route get {TARGET}")
        lab.host("target").check_output("python3 -c %s %s %s 40053", TOO_BIG, TARGET, GATEWAY)
        assert eventually(lambda: " mtu 1000" in host.check_output(f"ip route get {TARGET}"))
    finally:
        host.check_output("systemctl stop held-open.service; ip route flush cache")


def eventually(what: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.3)
    return True


def test_a_resource_in_policy_opens_exactly_its_own_hole(host: Host, policy: None) -> None:
    assert not reaches(host, "lockgate", TARGET, 5432)
    resource(host, f"{TARGET}:5432")
    assert reload(host) == 0
    assert reaches(host, "lockgate", TARGET, 5432)
    assert not reaches(host, "lockgate", TARGET, 5433)
    for other in ("nobody", "root"):
        assert not reaches(host, other, TARGET, 5432), other
    host.check_output("rm %s", ADDED)
    assert reload(host) == 0
    assert not reaches(host, "lockgate", TARGET, 5432)


def test_nothing_else_goes_out(host: Host) -> None:
    before = counter(host, "dropped_out")
    for user in ("lockgate", "nobody", "root"):
        for address, port in ((TARGET, 5433), (TARGET, 22), ("10.88.3.13", 8080), ("10.88.3.1", 80)):
            assert not reaches(host, user, address, port), (user, address, port)
    assert counter(host, "dropped_out") >= before + 12
    assert reaches(host, "root", TARGET, 6514)
    assert not reaches(host, "lockgate", TARGET, 6514)
    assert reaches(host, "lockgate", TARGET, 53)


def test_the_gateways_account_reaches_its_own_doors_on_loopback_and_no_other_service(host: Host) -> None:
    assert reaches(host, "nobody", "127.0.0.1", 8080)
    assert not reaches(host, "lockgate", "127.0.0.1", 8080)
    assert not reaches(host, "lockgate", "127.0.0.1", 22)
    assert reaches(host, "lockgate", "127.0.0.1", 19443)
    assert reaches(host, "lockgate", GATEWAY, 15432)


def test_a_bad_policy_leaves_the_holes_as_they_were(host: Host, policy: None) -> None:
    resource(host, f"{TARGET}:5432")
    assert reload(host) == 0
    resource(host, f"{TARGET}:5433")
    host.check_output("printf 'resources: [{name: \\n' > %s/policy/bad.yaml", FOLDER)
    try:
        assert reload(host) != 0
        assert reaches(host, "lockgate", TARGET, 5432)
        assert not reaches(host, "lockgate", TARGET, 5433)
        # Not even where the rules are loaded anew meanwhile.
        host.run("systemctl reload nftables.service")
        assert reaches(host, "lockgate", TARGET, 5432)
        assert not reaches(host, "lockgate", TARGET, 5433)
    finally:
        host.check_output("rm %s/policy/bad.yaml", FOLDER)
    assert reload(host) == 0
    assert reaches(host, "lockgate", TARGET, 5433)
    assert not reaches(host, "lockgate", TARGET, 5432)


@pytest.mark.parametrize("hostile", [
    "x } ; flush ruleset", "[fe80::1%x } ; flush ruleset ; #]:5432", "$(touch /run/owned):5432", "{{ 1 }}:5432"])
def test_no_word_of_the_policy_becomes_a_word_of_the_firewall_t69(host: Host, policy: None, hostile: str) -> None:
    resource(host, hostile)
    assert reload(host) != 0
    assert "policy drop" in host.check_output("nft list chain inet lockgate input")
    assert not host.file("/run/owned").exists


def test_a_name_is_followed_and_one_that_does_not_resolve_takes_no_other_with_it(host: Host, policy: None) -> None:
    write(host, ADDED, yaml.safe_dump({"resources": [entry("added", "added.lab:5432"), entry("nowhere", "nowhere.lab:5433")]}))
    host.check_output("echo '%s added.lab' >> /etc/hosts", TARGET)
    assert reload(host) == 0
    assert sorted(map(str, elements(host, "targets4"))) == [str({"concat": [address, 5432]}) for address in (TARGET, "127.0.0.1")]
    host.check_output("sed -i 's/.* added.lab/10.88.3.13 added.lab/' /etc/hosts")
    host.check_output("systemctl start lockgate-network-refresh.service")
    assert {"concat": ["10.88.3.13", 5432]} in elements(host, "targets4")
    assert {"concat": [TARGET, 5432]} not in elements(host, "targets4")


def test_stopping_the_firewall_opens_nothing_and_restarting_it_brings_everything_back(host: Host, lab: Lab) -> None:
    before = {name: elements(host, name) for name in ("listeners", "loopback_listeners", "targets4")}
    host.check_output("systemctl stop nftables.service")
    assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 8080, 1.0)
    host.check_output("systemctl start nftables.service")
    assert {name: elements(host, name) for name in before} == before
    host.check_output("systemctl restart nftables.service && systemctl start lockgate-network.service")
    assert {name: elements(host, name) for name in before} == before
    assert lab.reaches(lab.namespace("rogue"), GATEWAY, 15432)
    assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 8080, 1.0)


def test_rules_that_cannot_be_loaded_at_start_leave_nothing_open(host: Host, lab: Lab) -> None:
    host.check_output("cp /etc/nftables.conf /run/good.conf && echo 'no rule' >> /etc/nftables.conf && nft delete table inet lockgate")
    try:
        assert lab.reaches(lab.namespace("rogue"), GATEWAY, 8080)
        assert host.run("systemctl restart nftables.service").rc != 0
        assert "type filter hook input" in host.check_output("nft list ruleset")
        assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 8080, 1.0)
        assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 15432, 1.0)
    finally:
        host.check_output("cp /run/good.conf /etc/nftables.conf && systemctl restart nftables.service lockgate-network.service")
    assert lab.reaches(lab.namespace("rogue"), GATEWAY, 15432)


def test_without_nft_no_network_comes_up(host: Host) -> None:
    shown = host.check_output("systemctl show --property=Requires --property=After systemd-networkd.service")
    assert shown.count("lockgate-firewall-closed.service") == 2, shown
    for unit in ("networking.service", "ifup@.service", "NetworkManager.service"):
        dropin = host.file(f"/etc/systemd/system/{unit}.d/40-lockgate-firewall.conf")
        assert "\nRequires=lockgate-firewall-closed.service\n" in dropin.content_string, unit
    host.check_output("systemctl start lockgate-firewall-closed.service")
    assert "chain admit" in host.check_output("nft list table inet lockgate"), "rules that are loaded stay as they are"
    host.check_output("systemctl stop systemd-networkd.socket systemd-networkd.service")
    host.check_output("mount --bind /bin/false /usr/sbin/nft")
    try:
        assert host.run("systemctl start systemd-networkd.service").rc != 0
        assert host.run("systemctl is-active systemd-networkd.service").stdout.strip() == "inactive"
    finally:
        host.check_output("umount /usr/sbin/nft && systemctl reset-failed")
        # Its socket would start it at the next change of an address, and it would take away those that the lab gave.
        host.check_output("systemctl stop systemd-networkd.socket")


def test_no_gateway_without_its_firewall(host: Host) -> None:
    host.check_output("nft delete table inet lockgate")
    try:
        assert host.run("systemctl restart lockgate.service").rc != 0
    finally:
        host.check_output("systemctl restart nftables.service lockgate-network.service && systemctl reset-failed lockgate.service")
        host.check_output("systemctl restart lockgate.service")
    assert host.service("lockgate").is_running


def test_one_source_has_so_many_connections_and_others_still_come_in_t66(host: Host, lab: Lab) -> None:
    before = counter(host, "limited")
    rogue = lab.host("rogue")
    rogue.check_output("systemd-run --quiet --unit=flood --property=StandardOutput=file:/run/flood python3 -c %s %s", FLOOD, GATEWAY)
    try:
        for _ in range(60):
            if rogue.run("test -s /run/flood").rc == 0:
                break
            time.sleep(0.5)
        assert 30 <= int(rogue.file("/run/flood").content_string) <= 40
        assert counter(host, "limited") > before
        assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 15432, 1.0)
        assert lab.reaches(lab.switch(), GATEWAY, 15432)
    finally:
        rogue.run("systemctl stop flood.service")


def test_the_units_have_no_more_than_they_need(host: Host) -> None:
    shown = host.check_output("systemctl show -p CapabilityBoundingSet -p ProtectSystem -p NoNewPrivileges lockgate-network.service")
    assert "CapabilityBoundingSet=cap_dac_read_search cap_net_admin" in shown
    assert "ProtectSystem=strict" in shown
    rated = host.run("systemd-analyze security --no-pager lockgate-network.service")
    assert float(re.findall(r"exposure level for .*: ([0-9.]+)", rated.stdout)[0]) < 3.0


def test_a_changed_input_reaches_the_running_kernel(host: Host, lab: Lab, playbook: Playbook) -> None:
    pid = host.check_output("systemctl show -p MainPID --value lockgate.service")
    assert not host.file(DROPIN).contains("IPAddressDeny")
    try:
        playbook.changes(firewall_client_networks=["10.88.3.1/32"], firewall_disabled_controls=["FW-06"])
        assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 15432, 1.0)
        assert lab.reaches(lab.switch(), GATEWAY, 15432)
        assert "@management_rate4" not in host.check_output("nft list chain inet lockgate management")
        assert host.file(DROPIN).contains("^IPAddressAllow=10.88.3.1/32$")
        # The second lock alone: without nftables' rules the running gateway's control group still refuses the rogue.
        host.check_output("nft insert rule inet lockgate input accept && nft insert rule inet lockgate output accept")
        assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 15432, 1.0)
        assert lab.reaches(lab.namespace("rogue"), GATEWAY, 8080)
        assert host.check_output("systemctl show -p MainPID --value lockgate.service") == pid
    finally:
        playbook.changes()
        host.check_output("systemctl reload nftables.service")
    assert lab.reaches(lab.namespace("rogue"), GATEWAY, 15432)
    assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 22, 1.0)


@pytest.mark.parametrize("off", [["FW-06"], ["FW-01"], ["FW-01", "FW-06"]])
def test_no_switch_opens_ssh_to_everybody(lab: Lab, playbook: Playbook, off: list[str]) -> None:
    try:
        playbook.changes(firewall_disabled_controls=off)
        assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 22, 1.0)
        assert lab.reaches(lab.switch(), GATEWAY, 22)
        assert lab.reaches(lab.namespace("rogue"), GATEWAY, 8080, 1.0) is ("FW-01" in off)
    finally:
        playbook.changes()


def test_nothing_to_do_says_so(playbook: Playbook) -> None:
    again = playbook("converge.yml", {}, ["--check", "--diff"])
    assert again.status == 0
    assert again.changed == {"gw": 0}


@pytest.mark.parametrize("wrong", [
    {"firewall_management_networks": ["10.0.0.0/8 } accept; tcp dport { 1-65535"]}, {"firewall_management_networks": []},
    {"firewall_name_servers": ["dns.example"]}, {"firewall_client_rate": "1/second accept"}, {"firewall_management_port": 0},
    {"firewall_disabled_controls": ["FW-99"]}])
def test_inputs_that_are_no_numbers_are_refused_before_anything_changes(host: Host, playbook: Playbook, wrong: dict[str, Any]) -> None:
    before = host.file("/etc/nftables.conf").sha256sum
    assert playbook("", wrong).status != 0
    assert host.file("/etc/nftables.conf").sha256sum == before


def test_after_a_restart_of_the_host_everything_is_back(host: Host, lab: Lab) -> None:
    lab.run("reboot", "gw")
    for _ in range(60):
        if host.run("systemctl is-system-running").stdout.strip() in ("running", "degraded"):
            break
        time.sleep(0.5)
    assert lab.reaches(lab.namespace("rogue"), GATEWAY, 15432)
    assert not lab.reaches(lab.namespace("rogue"), GATEWAY, 8080, 1.0)
    assert {"concat": ["127.0.0.1", 5432]} in elements(host, "targets4")
