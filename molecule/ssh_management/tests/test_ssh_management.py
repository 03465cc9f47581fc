# SPDX-License-Identifier: Apache-2.0
"""Who gets in, tried with ssh from other hosts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from evidence import unmet
from testinfra.backend.base import CommandResult
from testinfra.host import Host
from verify import Lab, Playbook

testinfra_hosts = ["lab://gw"]

GATEWAY = "10.88.2.11"
PLAIN = "-o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=5"


class Person:
    """Somebody with keys, on a host."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def ssh(self, command: str, key: str = "first", account: str = "ops", options: str = "", port: int = 22) -> CommandResult:
        return self.host.run(f"ssh {PLAIN} -p {port} -i /root/.ssh/{key} {options} {account}@{GATEWAY} {command}")

    def gets_in(self, key: str = "first", account: str = "ops", options: str = "", port: int = 22) -> bool:
        done = self.ssh("id -un", key, account, options, port)
        assert done.rc in (0, 255), done
        return bool(done.rc == 0)


@pytest.fixture
def operator(lab: Lab) -> Person:
    return Person(lab.host("operator"))


@pytest.fixture
def rogue(lab: Lab) -> Person:
    """Stands in another network and has stolen the operator's key."""
    host = lab.host("rogue")
    host.check_output("mkdir -p /root/.ssh")
    host.check_output("printf '%%s\\n' %s > /root/.ssh/first", lab.host("operator").file("/root/.ssh/first").content_string.rstrip())
    host.check_output("chmod 600 /root/.ssh/first")
    return Person(host)


def soon(what: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not (seen := what()) and time.monotonic() < end:
        time.sleep(0.2)
    return seen


def main_pid(host: Host) -> str:
    return str(host.check_output("systemctl show --property MainPID --value ssh"))


def test_an_operator_gets_in_and_becomes_root(operator: Person) -> None:
    assert operator.ssh("id -un").stdout.strip() == "ops"
    assert operator.ssh("sudo -n id -un").stdout.strip() == "root"


def test_the_same_key_from_another_network_does_not(rogue: Person) -> None:
    assert not rogue.gets_in()
    assert "Permission denied" in rogue.ssh("true").stderr


def test_a_strangers_key_does_not(operator: Person) -> None:
    assert not operator.gets_in(key="stranger")


def test_root_does_not(host: Host, operator: Person) -> None:
    public = operator.host.file("/root/.ssh/first.pub").content_string.strip()
    host.check_output("printf '%%s\\n' %s >> /root/.ssh/authorized_keys", public)
    assert not operator.gets_in(account="root")


def test_a_password_does_not(host: Host, operator: Person) -> None:
    host.check_output("echo ops:a-good-password | chpasswd")
    tried = operator.ssh("true", key="stranger", options="-v -o PreferredAuthentications=password,keyboard-interactive")
    assert tried.rc == 255
    assert set(re.findall(r"Authentications that can continue: (\S+)", tried.stderr)) == {"publickey"}
    host.check_output("usermod --password ! ops")


def test_a_key_left_behind_in_the_account_does_not(host: Host, operator: Person) -> None:
    public = operator.host.file("/root/.ssh/stranger.pub").content_string.strip()
    host.check_output("install -d -m 700 -o ops -g ops /home/ops/.ssh")
    host.check_output("printf '%%s\\n' %s > /home/ops/.ssh/authorized_keys && chown ops:ops /home/ops/.ssh/authorized_keys", public)
    assert not operator.gets_in(key="stranger")


def test_a_file_that_a_package_drops_opens_nothing(host: Host, operator: Person) -> None:
    host.check_output(
        "printf 'PasswordAuthentication yes\\nPermitRootLogin yes\\nAllowUsers *\\n' > /etc/ssh/sshd_config.d/50-cloud-init.conf"
    )
    host.check_output("systemctl reload ssh")
    assert operator.gets_in()
    assert not operator.gets_in(account="root")
    host.check_output("rm /etc/ssh/sshd_config.d/50-cloud-init.conf")


def test_a_certificate_gets_in_for_its_principal_and_time(operator: Person) -> None:
    def sign(principal: str, validity: str) -> None:
        operator.host.check_output("cp /root/.ssh/stranger /root/.ssh/carded && cp /root/.ssh/stranger.pub /root/.ssh/carded.pub")
        operator.host.check_output(f"ssh-keygen -q -s /root/.ssh/ca -I test -n {principal} -V {validity} /root/.ssh/carded.pub")

    sign("ops", "-1m:+5m")
    assert operator.gets_in(key="carded")
    sign("somebody-else", "-1m:+5m")
    assert not operator.gets_in(key="carded")
    sign("ops", "-10m:-5m")
    assert not operator.gets_in(key="carded")


def test_nothing_is_forwarded(operator: Person) -> None:
    assert operator.ssh("", options=f"-W {GATEWAY}:22").rc != 0
    assert operator.ssh("true", options=f"-o ExitOnForwardFailure=yes -R 9999:{GATEWAY}:22").rc != 0
    assert "prohibited" in operator.ssh("", options="-W 127.0.0.1:22").stderr
    agent = operator.host.run(
        f"eval $(ssh-agent) >/dev/null; ssh-add -q /root/.ssh/first; ssh {PLAIN} -A -i /root/.ssh/first ops@{GATEWAY} "
        "'test -z \"$SSH_AUTH_SOCK\"'; status=$?; kill $SSH_AGENT_PID; exit $status"
    )
    assert agent.rc == 0


def test_key_exchange_holds_against_a_quantum_computer(operator: Person) -> None:
    talk = operator.ssh("true", options="-v").stderr
    agreed = re.findall(r"kex: algorithm: (\S+)", talk)[0].strip()
    assert agreed.startswith(("mlkem768x25519", "sntrup761x25519"))
    assert "aes256-gcm@openssh.com" in talk or "chacha20-poly1305@openssh.com" in talk
    for old in (
        "KexAlgorithms=ecdh-sha2-nistp256",
        "KexAlgorithms=diffie-hellman-group14-sha256",
        "Ciphers=aes128-ctr",
        "Ciphers=aes256-ctr",
    ):
        assert "no matching" in operator.ssh("true", options=f"-o {old}").stderr.lower()


def test_the_host_has_one_kind_of_key(operator: Person) -> None:
    found = operator.host.run(f"ssh-keyscan -t rsa,ecdsa,ed25519 {GATEWAY} 2>/dev/null").stdout.splitlines()
    assert [line.split()[1] for line in found if not line.startswith("#")] == ["ssh-ed25519"]


def test_files_reach_the_host(operator: Person) -> None:
    """As Ansible sends them."""
    operator.host.check_output(f"echo put /etc/hostname arrived | sftp -q -b - {PLAIN} -i /root/.ssh/first ops@{GATEWAY}")


def test_there_is_no_other_way_in(host: Host) -> None:
    listening = host.check_output("ss --listening --tcp --numeric --processes --no-header")
    assert [line.split()[3].rpartition(":")[2] for line in listening.splitlines() if "sshd" in line or "systemd" in line] == ["22", "22"]
    assert host.check_output("systemctl list-sockets --all --no-legend | grep -c ssh || true") == "0"


def test_the_register_of_controls_tells_the_truth(host: Host) -> None:
    assert unmet(host, "ssh_management") == {}


def test_changed_inputs_reach_what_runs_and_open_sessions_stay(host: Host, operator: Person, playbook: Playbook) -> None:
    pid = main_pid(host)
    operator.host.check_output(f"(ssh {PLAIN} -i /root/.ssh/first ops@{GATEWAY} 'sleep 600' >/dev/null 2>&1 &)")
    assert soon(lambda: bool(host.run("pgrep -u ops -x sleep").rc == 0))
    assert not operator.gets_in(key="second")

    playbook.changes(people=2, ssh_management_port=2222, revoke_first=True)

    assert main_pid(host) == pid
    assert host.run("pgrep -u ops -x sleep").rc == 0
    assert not operator.gets_in(key="second", port=22)
    assert operator.gets_in(key="second", port=2222)
    assert not operator.gets_in(key="first", port=2222), "revoked"
    host.check_output("pkill -u ops -x sleep")
    playbook.changes()
    assert operator.gets_in()


def test_an_address_that_comes_late_is_listened_on_once_it_is_there(host: Host, operator: Person, playbook: Playbook) -> None:
    """As after a power cut, when the switch is slower than the host."""
    playbook.changes(ssh_management_listen_addresses=[GATEWAY])
    assert operator.gets_in()
    route = host.check_output("ip route show default")
    host.check_output(f"ip address del {GATEWAY}/24 dev host0")
    try:
        assert host.run("systemctl restart ssh").rc != 0
        assert soon(lambda: int(host.check_output("systemctl show --property NRestarts --value ssh")) > 1), "it is tried again, and again"
    finally:
        host.check_output(f"ip address add {GATEWAY}/24 dev host0 && ip route add {route}")
    assert soon(operator.gets_in)
    playbook.changes()
    assert operator.gets_in()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ssh_management_authorized_keys": [], "ssh_management_user_ca": ""}, "ssh_management_authorized_keys"),
        ({"ssh_management_authorized_keys": ["not a key"]}, "is not the one line of a public key"),
        ({"ssh_management_networks": []}, "ssh_management_networks"),
        ({"ssh_management_sudo_passwordless": False}, "ssh_management_password_hash"),
        ({"came_by": {"SSH_CONNECTION": "10.88.2.50 4000 10.88.2.11 22"}}, "10.88.2.50"),
        ({"ssh_management_disabled_controls": ["SSH-99"]}, "SSH-99"),
    ],
)
def test_it_does_not_lock_operators_out(host: Host, operator: Person, playbook: Playbook, variables: dict[str, object], said: str) -> None:
    before = host.check_output("cat /etc/ssh/sshd_config /etc/ssh/authorized_keys.d/ops /etc/sudoers.d/ssh-management | sha256sum")
    run = playbook("", variables)
    assert run.status != 0
    assert said in run.output
    assert host.check_output("cat /etc/ssh/sshd_config /etc/ssh/authorized_keys.d/ops /etc/sudoers.d/ssh-management | sha256sum") == before
    assert operator.gets_in()


def test_a_dry_run_finds_nothing_to_do(playbook: Playbook) -> None:
    run = playbook("", {}, ["--check", "--diff"])
    assert run.status == 0, run.output
    assert run.changed["gw"] == 0, run.output


def test_a_host_without_keys_makes_one_at_boot(host: Host, operator: Person, lab: Lab) -> None:
    host.check_output("rm /etc/ssh/ssh_host_*")
    lab.run("reboot", "gw")
    assert soon(lambda: lab.reaches(lab.namespace("operator"), GATEWAY, 22))
    assert host.check_output("ls /etc/ssh | grep ssh_host_").split() == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
    assert operator.gets_in()
