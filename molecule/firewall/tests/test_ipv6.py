# SPDX-License-Identifier: Apache-2.0
"""The same firewall over IPv6: packets are sent, both ways."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from holes import ADDED, CONNECT, FOLDER, counter, elements, reaches, reload, resource
from testinfra.host import Host
from verify import Lab, Playbook

SIX, CONTROLLER6 = {"gw": "fd00:88:3::11", "target": "fd00:88:3::12", "rogue": "fd00:88:3::13"}, "fd00:88:3::1"
ECHO6 = """
import socket, sys
ping = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6); ping.settimeout(1.0)
try:
    ping.sendto(b"\\x80\\x00\\x00\\x00\\x00\\x07\\x00\\x01", (sys.argv[1], 0))
    while ping.recvfrom(512)[0][0] != 129: pass
    print("answer")
except (TimeoutError, PermissionError): print("silence")
"""

QUERY = """
import socket, struct
ask = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
ask.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, b"\\0\\0\\5\\2\\0\\0\\1\\0") # router alert, RFC 2711
ask.sendto(struct.pack("!BBHHH16sBBH", 130, 0, 0, 1, 0, b"", 2, 125, 0), ("ff02::1", 0, 0, socket.if_nametoindex("br0")))
"""


@pytest.fixture(scope="module")
def ipv6(lab: Lab, playbook: Playbook) -> Iterator[Host]:
    """Everybody has an address more, and something listens on it; the gateway's listener too. It gives the gateway's host."""
    gateway = lab.host("gw")
    places = {lab.switch(): (CONTROLLER6, "br0"), **{lab.namespace(name): (address, "host0") for name, address in SIX.items()}}
    for namespace, (address, device) in places.items():
        subprocess.run(["ip", "-n", namespace, "address", "replace", f"{address}/64", "dev", device, "nodad"], check=True)
    for name in SIX:
        for port in (5434, 5435):
            serve = f"python3 -m http.server --bind :: --directory /usr/share/zoneinfo {port}"
            lab.host(name).check_output(f"systemd-run --quiet --unit=six{port} {serve}")
    listens = f"sed -i s/%s:15432/%s:15432/ {FOLDER}/gateway.yaml && systemctl restart lockgate && systemctl reload lockgate-network"
    playbook.changes(firewall_management_networks=["10.88.3.1/32", f"{CONTROLLER6}/128"])
    gateway.check_output(listens, r"0\.0\.0\.0", "[::]")
    yield gateway
    gateway.check_output(listens, r"\[::\]", "0.0.0.0")
    playbook.changes()
    for name in SIX:
        lab.host(name).check_output("systemctl stop six5434 six5435")
    for namespace, (address, device) in places.items():
        subprocess.run(["ip", "-n", namespace, "address", "delete", f"{address}/64", "dev", device], check=True)


def test_over_ipv6_callers_reach_the_listener_and_nothing_else(ipv6: Host, lab: Lab) -> None:
    ports = (22, 5434, 5435, 8080, 15432, 19443)
    before = counter(ipv6, "dropped_in")
    assert lab.reaches(lab.namespace("rogue"), SIX["target"], 5434)
    assert [port for port in ports if lab.reaches(lab.namespace("rogue"), SIX["gw"], port, 1.0)] == [15432]
    assert [port for port in ports if lab.reaches(lab.switch(), SIX["gw"], port, 1.0)] == [22, 15432]
    assert counter(ipv6, "dropped_in") > before


def test_over_ipv6_nothing_goes_out_but_to_the_resource_in_policy(ipv6: Host, lab: Lab) -> None:
    places = [(SIX["target"], 5434), (SIX["target"], 5435), (SIX["target"], 22), (SIX["rogue"], 5434), (CONTROLLER6, 80)]
    before = counter(ipv6, "dropped_out")
    assert lab.host("rogue").run("python3 -c %s %s 5434", CONNECT, SIX["target"]).rc == 0
    for user in ("lockgate", "nobody", "root"):
        assert [place for place in places if reaches(ipv6, user, *place)] == [], user
    assert counter(ipv6, "dropped_out") >= before + 3 * len(places)
    resource(ipv6, f"[{SIX['target']}]:5434")
    try:
        assert reload(ipv6) == 0
        assert elements(ipv6, "targets6") == [{"concat": [SIX["target"], 5434]}]
        assert [place for place in places if reaches(ipv6, "lockgate", *place)] == places[:1]
        assert [place for place in places if reaches(ipv6, "root", *place)] == []
    finally:
        ipv6.check_output("rm %s", ADDED)
        assert reload(ipv6) == 0


def test_over_ipv6_neither_echo_nor_datagrams_pass(ipv6: Host, lab: Lab) -> None:
    assert lab.host("rogue").run("python3 -c %s %s", ECHO6, SIX["target"]).stdout.strip() == "answer"
    assert lab.host("rogue").run("python3 -c %s %s", ECHO6, SIX["gw"]).stdout.strip() == "silence"
    before = counter(ipv6, "dropped_out")
    assert ipv6.run("python3 -c %s %s", ECHO6, SIX["target"]).stdout.strip() == "silence"
    send = "import socket, sys; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'x', (sys.argv[1], 53))"
    ipv6.run("python3 -c %s %s", send, SIX["rogue"])
    assert counter(ipv6, "dropped_out") >= before + 2


def test_switches_that_ask_who_listens_get_an_answer(ipv6: Host, lab: Lab) -> None:
    """MLD (RFC 3810, RFC 4890 4.4.1): a switch that snoops cuts a silent host off from neighbour discovery, and so from IPv6."""
    asked, answered = heard(ipv6, "Icmp6InGroupMembQueries"), heard(ipv6, "Icmp6OutMLDv2Reports")
    subprocess.run(["ip", "netns", "exec", lab.switch(), "python3", "-c", QUERY], check=True)
    end = time.monotonic() + 60
    while heard(ipv6, "Icmp6OutMLDv2Reports") == answered and time.monotonic() < end:
        time.sleep(0.3)
    assert heard(ipv6, "Icmp6InGroupMembQueries") > asked
    assert heard(ipv6, "Icmp6OutMLDv2Reports") > answered


def heard(host: Host, what: str) -> int:
    """A count of the kernel's, of what the firewall's rules let pass."""
    return int(host.check_output("awk -v what=%s '$1 == what {print $2}' /proc/net/snmp6", what))
