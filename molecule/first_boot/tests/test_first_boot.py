# SPDX-License-Identifier: Apache-2.0
"""A host that is told who it is, or not, or something hostile: booted each time, looked at from outside."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host
from verify import Lab, Playbook

testinfra_hosts = ["lab://gw"]

ADDRESS = "10.88.9.50"
CONTROLLER = "10.88.9.1"
CREDENTIALS = {"orders-db": {"kind": "password", "username": "lockgate", "password": "canary-first-boot"}}
HASH = "$6$lockgatelab$e9/yn5ZuMQkXv40BGgTLV7Nm6P/3ef/bBUYd4iW5ZfUdS6T12xq4iKp6QjcSwYxarEH8dhnXTcnJ0CCcQM7JJ."


def soon(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator's key."""
    key = tmp_path_factory.mktemp("operator") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ops@site", "-f", str(key)], check=True)
    return key


class Machine:
    """The host, told anew for each test."""

    def __init__(self, host: Host, lab: Lab, operator: Path) -> None:
        self.host, self._lab, self._operator = host, lab, operator

    def told(self, **changes: Any) -> dict[str, Any]:
        return {
            "version": 1, "name": "gw-a-1", "segment": "plant-a",
            "interfaces": [{"name": "lan", "mac": self.host.check_output("cat /sys/class/net/host0/address"), "gateway": None, "routes": [],
                            "addresses": [f"{ADDRESS}/24"]}],
            "name_servers": ["10.88.9.53"], "time_servers": [],
            "management": {"networks": [f"{CONTROLLER}/32"], "user_ca": "",
                           "authorized_keys": [self._operator.with_suffix(".pub").read_text().strip()]},
        } | changes

    def boot(self, given: Mapping[str, bytes], *, forget: bool = True) -> None:
        """Restart with these credentials; ``forget`` makes it a first boot."""
        if forget:
            self.host.check_output("systemctl stop lockgate 2>/dev/null; rm -rf /var/lib/lockgate-site /var/lib/lockgate-config/* "
                                   "/var/lib/lockgate-credentials /var/lib/lockgate-tls /etc/ssh/sshd_config.d/10-site.conf "
                                   "/etc/systemd/network/10-site-* /etc/lockgate-appliance/firewall.d/* /etc/ssh/authorized_keys.d/ops")
        self.host.check_output("rm -rf /etc/credstore && mkdir -m 0700 /etc/credstore")
        for name, content in given.items():
            self.host.check_output("printf %%s %s | base64 -d > /etc/credstore/%s", base64.b64encode(content).decode(), name)
        self.host.check_output("sync")
        with suppress(subprocess.CalledProcessError):  # a machine that stays closed is `degraded`: its first boot failed
            self._lab.run("reboot", "gw")
        soon(lambda: self.host.run("systemctl is-system-running").stdout.strip() in ("running", "degraded"))

    def said(self, unit: str = "lockgate-firstboot") -> str:
        return str(self.host.check_output("journalctl --boot --output=cat --unit=%s", unit))

    def ssh(self, command: str, user: str = "ops") -> subprocess.CompletedProcess[str]:
        options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"]
        client = ["ip", "netns", "exec", self._lab.switch(), "ssh", *options, "-i", str(self._operator)]
        return subprocess.run([*client, f"{user}@{ADDRESS}", command], capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def reaches(self, port: int, address: str = ADDRESS) -> bool:
        return self._lab.reaches(self._lab.switch(), address, port)


@pytest.fixture
def machine(host: Host, lab: Lab, operator: Path) -> Machine:
    return Machine(host, lab, operator)


def segment(**changes: str) -> bytes:
    folder = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "segment"
    files = {path.relative_to(folder).as_posix(): path.read_text() for top in ("policy", "trust") for path in (folder / top).rglob("*")
             if path.is_file() and path.name != ".gitkeep"}
    return gzip.compress(json.dumps(files | changes).encode())


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def test_told_nothing_it_stays_closed(machine: Machine) -> None:
    machine.boot({})
    assert "nothing was told" in machine.said()
    assert not machine.reaches(22, "10.88.9.11") and not machine.reaches(15432, "10.88.9.11")
    assert machine.host.run("systemctl is-active lockgate").stdout.strip() == "inactive"
    assert "policy drop" in machine.host.check_output("nft list chain inet lockgate input")


@pytest.mark.parametrize("name", ["{{ 7*7 }}", "$(touch /run/pwned)", "gw;reboot"])
def test_t69_a_hostile_name_is_refused_and_nothing_is_made_of_it(machine: Machine, name: str) -> None:
    before = machine.host.check_output("cat /etc/hostname")
    machine.boot({"lockgate.firstboot": encoded(machine.told(name=name)), "lockgate.segment": segment()})
    assert "STAYS CLOSED: name: expected" in machine.said() and name not in machine.said()
    assert machine.host.check_output("cat /etc/hostname") == before
    assert not machine.host.file("/var/lib/lockgate-site/told.json").exists and not machine.host.file("/run/pwned").exists
    assert not machine.reaches(22, "10.88.9.11")
    assert machine.host.run("systemctl is-failed lockgate-firstboot").rc == 0


def test_it_becomes_what_it_was_told_and_waits_for_credentials(machine: Machine) -> None:
    machine.boot({"lockgate.firstboot": encoded(machine.told()), "lockgate.segment": segment(), "lockgate.break-glass": HASH.encode()})
    assert machine.ssh("hostname").stdout.strip() == "gw-a-1"
    assert machine.ssh("sudo -n id -u").stdout.strip() == "0"
    assert machine.ssh("true", user="root").returncode == 255
    assert "waits for the credentials of policy/" in machine.said("lockgate-firstpolicy")
    assert not machine.host.file("/var/lib/lockgate-config/current").exists
    assert machine.host.run("systemctl is-active lockgate").stdout.strip() == "inactive"
    assert not machine.reaches(15432)
    assert "10.88.9.53" in machine.host.check_output("cat /etc/resolv.conf")
    assert machine.host.check_output("getent shadow breakglass").split(":")[1] == HASH
    assert machine.host.file("/var/lib/lockgate-site/break-glass").mode == 0o600


def test_a_later_boot_does_not_listen_any_more(machine: Machine) -> None:
    machine.boot({"lockgate.firstboot": encoded(machine.told(name="another"))}, forget=False)
    assert machine.ssh("hostname").stdout.strip() == "gw-a-1"
    assert "another" not in machine.said()


def test_what_was_kept_is_checked_again(machine: Machine) -> None:
    machine.host.check_output("sed -i 's/gw-a-1/$(id)/' /var/lib/lockgate-site/told.json && rm -f /etc/ssh/sshd_config.d/10-site.conf "
                              "/etc/lockgate-appliance/firewall.d/*")
    machine.boot({}, forget=False)
    assert "STAYS CLOSED" in machine.said()
    assert not machine.reaches(22)


def test_a_bad_policy_leaves_the_gateway_stopped(machine: Machine) -> None:
    wrong = segment(**{"policy/wrong.yaml": "grants:\n  - {name: x, to: [nobody-i-know], targets: [orders-db]}\n"})
    machine.boot({"lockgate.firstboot": encoded(machine.told()), "lockgate.segment": wrong, "lockgate.credentials": encoded(CREDENTIALS)})
    assert "nobody-i-know" in machine.said("lockgate-firstpolicy") and "STAYS CLOSED" in machine.said("lockgate-firstpolicy")
    assert not machine.host.file("/var/lib/lockgate-config/current").exists
    assert machine.host.run("systemctl is-active lockgate").stdout.strip() == "inactive"
    assert machine.ssh("hostname").stdout.strip() == "gw-a-1"


def test_told_everything_it_serves_without_anybodys_help(machine: Machine) -> None:
    host = machine.host
    machine.boot({"lockgate.firstboot": encoded(machine.told()), "lockgate.segment": segment(),
                  "lockgate.credentials": encoded(CREDENTIALS)})
    assert "in force" in machine.said("lockgate-firstpolicy"), machine.said("lockgate-firstpolicy")
    soon(lambda: host.run("systemctl is-active lockgate").stdout.strip() == "active")
    assert host.run("lockgate ready").rc == 0
    assert host.run("runuser -u lockgate -- lockgate check").rc == 0
    assert soon(lambda: machine.reaches(15432))
    assert host.run("grep -rl canary-first-boot /var/lib /var/log /etc --exclude-dir=credstore").stdout == ""
    assert "canary-first-boot" not in host.check_output("journalctl --boot --output=cat")
    current = host.check_output("readlink /var/lib/lockgate-config/current")
    machine.boot({}, forget=False)
    soon(lambda: host.run("systemctl is-active lockgate").stdout.strip() == "active")
    assert host.check_output("readlink /var/lib/lockgate-config/current") == current


def test_what_a_playbook_changed_lasts(machine: Machine, playbook: Playbook) -> None:
    """Here all of /etc stands for the layer that the image has over its own."""
    host = machine.host
    host.check_output("mkdir -p /run/lockgate-etc && ln -sfn /etc /run/lockgate-etc/upper")
    host.check_output("echo '# kept' >> /etc/ssh/authorized_keys.d/ops")
    run = playbook("keep.yml")
    assert (run.status, run.changed) == (0, {"gw": 1}), run.output
    assert host.file("/var/lib/lockgate-site/etc/ssh/authorized_keys.d/ops").contains("# kept")
    assert not host.file("/var/lib/lockgate-site/etc/passwd").exists
    assert playbook("keep.yml").changed == {"gw": 0}
    host.check_output("rm -r /run/lockgate-etc /var/lib/lockgate-site/etc")


def test_out_of_service_it_stays_out_of_service_over_a_restart(machine: Machine, playbook: Playbook, tmp_path: Path) -> None:
    """What an image's boot would bring back: the first policy, the way in by the console, what the hypervisor still tells."""
    host = machine.host
    host.check_output("umask 077; printf %%s %s > /var/lib/lockgate-site/break-glass; mkdir -p /var/lib/lockgate-site/first-policy", HASH)
    host.check_output("systemctl start lockgate-break-glass-settle lockgate-break-glass.socket")
    meant = {"decommission_confirm": "gw", "decommission_reason": "test", "decommission_drain_seconds": 5,
             "decommission_management_networks": [f"{CONTROLLER}/32"], "collect_destination": str(tmp_path)}
    run = playbook(Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "playbooks/decommission.yml", meant)
    assert run.status == 0, run.output
    for path in ("break-glass", "first-policy"):
        assert not host.file(f"/var/lib/lockgate-site/{path}").exists
    for path in ("/var/lib/lockgate-console/audit_ed25519_key", "/var/lib/lockgate-config/current"):
        assert not host.file(path).exists
    assert host.check_output("readlink /etc/systemd/system/lockgate-firstpolicy.service") == "/dev/null"
    assert json.loads((tmp_path / "gw" / "decommissioned.json").read_text())["audit"]["collected"]
    again = playbook(Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "playbooks/decommission.yml", meant)
    assert (again.status, again.changed) == (0, {"gw": 0}), again.output
    host.check_output("rm /etc/systemd/system/lockgate-firstpolicy.service")
    host.check_output("systemctl enable lockgate-break-glass.socket lockgate lockgate-network")
    machine.boot({"lockgate.firstboot": encoded(machine.told()), "lockgate.segment": segment(),
                  "lockgate.credentials": encoded(CREDENTIALS)}, forget=False)
    for unit in ("lockgate", "lockgate-network", "lockgate-firstpolicy", "lockgate-break-glass.socket"):
        assert host.run("systemctl is-active %s", unit).stdout.strip() == "inactive", unit
    assert host.check_output("getent shadow breakglass").split(":")[1] == "!"
    assert machine.ssh("hostname").stdout.strip() == "gw-a-1"
    assert not machine.reaches(15432) and not machine.reaches(19443)
