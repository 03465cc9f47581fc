# SPDX-License-Identifier: Apache-2.0
"""Hosts of ifupdown and of NetworkManager: no network without rules, and a network with them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from testinfra.host import Host
from verify import Lab, Playbook


@dataclass(frozen=True)
class Way:
    """How a host gets its addresses."""

    name: str
    unit: str
    last: int
    plug_in: str

    @property
    def address(self) -> str:
        return f"10.88.15.{self.last}"

    @property
    def late(self) -> str:
        return f"10.88.16.{self.last}"

    def bare(self, host: Host) -> None:
        """As the kernel gives the interfaces: nothing set up, and nobody who would."""
        host.check_output(f"systemctl stop {self.unit}")
        for device in ("host0", "host1"):
            host.check_output(f"ip address flush dev {device} && ip link set {device} down")
        host.check_output("rm -rf /run/NetworkManager")  # what it would take up again had it only been restarted


WAYS = {"classic": Way("classic", "networking.service", 11, "ifup --allow=hotplug host1"),
        "manager": Way("manager", "NetworkManager.service", 12, "nmcli connection up host1")}  # fmt: skip


@pytest.fixture(params=sorted(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.fixture
def host(way: Way, lab: Lab) -> Host:
    return lab.host(way.name)


@pytest.fixture
def only_late(way: Way, host: Host) -> Iterator[None]:
    """sshd listens on the second interface's address alone, as `ssh_management_listen_addresses` has it."""
    host.check_output(f"cp -p /etc/ssh/sshd_config /root/as-it-was && echo 'ListenAddress {way.late}' > /etc/ssh/sshd_config")
    host.check_output("cat /root/as-it-was >> /etc/ssh/sshd_config")
    yield
    host.check_output("cp -p /root/as-it-was /etc/ssh/sshd_config && systemctl restart ssh.service")


def soon(what: Callable[[], bool], seconds: float = 90.0) -> bool:
    end = time.monotonic() + seconds
    while not (seen := what()) and time.monotonic() < end:
        time.sleep(0.3)
    return seen


def began(host: Host, unit: str, when: str) -> int:
    """When that happened to the unit, in microseconds since the boot."""
    return int(host.check_output(f"systemctl show --property {when}TimestampMonotonic --value {unit}"))


def test_the_network_comes_up_at_a_boot_behind_the_rules(way: Way, host: Host, lab: Lab) -> None:
    way.bare(host)
    assert not lab.reaches(lab.switch("management"), way.address, 22)
    lab.run("reboot", way.name)
    assert soon(lambda: lab.reaches(lab.switch("management"), way.address, 22))
    assert f"inet {way.address}/24" in host.check_output("ip -4 address show dev host0")
    assert "default via 10.88.15.1 dev host0" in host.check_output("ip route")
    assert "policy drop" in host.check_output("nft list chain inet lockgate input")
    assert 0 < began(host, "nftables.service", "ActiveEnter") <= began(host, way.unit, "InactiveExit")
    assert "ordering cycle" not in host.check_output("journalctl --boot --quiet --no-pager --output=cat _PID=1")
    assert host.check_output("grep ^nameserver /etc/resolv.conf") == "nameserver 10.88.15.1"
    assert soon(lambda: host.check_output("sysctl -n net.ipv4.conf.host0.rp_filter") == "1")
    assert host.check_output("systemctl is-enabled systemd-networkd.service || true") == "disabled"


def test_without_rules_there_is_no_network(way: Way, host: Host, lab: Lab) -> None:
    way.bare(host)
    host.check_output("nft delete table inet lockgate")
    host.check_output("mount --bind /bin/false /usr/sbin/nft")
    try:
        assert host.run(f"systemctl start {way.unit}").rc != 0
        assert "inet " not in host.check_output("ip -4 address show dev host0")
    finally:
        host.check_output("umount /usr/sbin/nft && systemctl reset-failed")
    host.check_output(f"systemctl restart nftables.service && systemctl start {way.unit}")
    assert soon(lambda: lab.reaches(lab.switch("management"), way.address, 22))


@pytest.mark.usefixtures("only_late")
def test_sshd_waits_for_an_address_that_comes_after_the_boot(way: Way, host: Host, lab: Lab) -> None:
    way.bare(host)
    lab.run("reboot", way.name)
    assert soon(lambda: int(host.check_output("systemctl show --property NRestarts --value ssh.service")) > 1)
    assert not lab.reaches(lab.switch("management"), way.address, 22)
    host.check_output(way.plug_in)
    assert soon(lambda: lab.reaches(lab.switch("late"), way.late, 22))


@pytest.fixture
def leases(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A DHCP server on the second network, whose addresses are renewed after ten seconds, by broadcast not before 50 minutes; its log."""
    log = tmp_path / "dhcp.log"
    argv = ["ip", "netns", "exec", lab.switch("late"), "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root",
            "--pid-file=", "--port=0", "--interface=br0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping",
            "--dhcp-option-force=option:T1,10s", "--dhcp-option-force=option:T2,50m", f"--dhcp-leasefile={tmp_path}/leases",
            "--dhcp-range=10.88.16.100,10.88.16.110,255.255.255.0,1h", "--log-facility=-"]  # fmt: skip
    with log.open("w") as file, subprocess.Popen(argv, stderr=file) as server:
        yield log
        server.terminate()


@pytest.fixture
def leased(lab: Lab, leases: Path) -> Iterator[Host]:
    """The host of NetworkManager, with a leased address on its second interface. The server gives it by packets that no firewall sees."""
    host = lab.host("manager")
    host.check_output("nmcli connection add type ethernet ifname host1 con-name leased autoconnect no ipv4.method auto"
                      " ipv4.never-default yes ipv6.method disabled && nmcli connection up leased")
    assert soon(lambda: "DHCPACK" in leases.read_text())
    yield host
    host.check_output("nmcli connection delete leased")


def renewals(host: Host) -> str:
    """What the rules say of DHCP, on their way out."""
    lines = host.check_output("nft list chain inet lockgate output").splitlines()
    return "\n".join(line.strip() for line in lines if "udp dport 67 " in line)


def test_a_leased_address_is_renewed_through_the_firewall_without_a_word_in_the_inventory(
        lab: Lab, playbook: Playbook, leased: Host, leases: Path) -> None:
    """A gateway whose lease cannot be renewed is gone when it ends. Renewals are plain datagrams to the server, which the rules do see."""
    assert renewals(leased) == ""
    assert playbook.changes().changed["manager"] > 0
    assert renewals(leased) == "udp sport 68 udp dport 67 accept"
    assert renewals(lab.host("classic")) == "", "whose addresses are its own"
    assert playbook.changes().changed == {"classic": 0, "manager": 0}
    leased.check_output("nft insert rule inet lockgate output udp sport 68 udp dport 67 counter && nmcli connection up leased")
    before = leases.read_text().count("DHCPACK")
    assert soon(lambda: leases.read_text().count("DHCPACK") > before, 120)
    assert "counter packets 0 " not in renewals(leased)


def test_what_the_inventory_says_of_dhcp_holds(playbook: Playbook, leased: Host) -> None:
    playbook.changes(firewall_dhcp_client=False)
    assert renewals(leased) == ""
