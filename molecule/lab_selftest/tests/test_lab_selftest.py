# SPDX-License-Identifier: Apache-2.0
"""The lab itself: hosts boot clean, networks are apart, the machine's own network has none of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from nspawn.base import overlaid, packages, prune
from testinfra.host import Host
from verify import Lab, Playbook

testinfra_hosts = ["lab://alpha", "lab://beta"]


def test_hosts_run_without_a_failed_unit(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"
    assert host.check_output("stat -f -c %T /sys/fs/cgroup") == "cgroup2fs"


def test_hosts_know_each_other(host: Host) -> None:
    assert "10.88.40.12" in host.check_output("getent ahostsv4 beta")


def test_a_host_in_two_networks_does_not_join_them(lab: Lab) -> None:
    assert lab.reaches(lab.switch("left"), "10.88.0.11", 22)
    assert lab.reaches(lab.namespace("alpha"), "10.88.40.12", 22)
    assert not lab.reaches(lab.switch("left"), "10.88.40.12", 22, seconds=0.5)
    assert not lab.reaches(lab.namespace("beta"), "10.88.0.11", 22, seconds=0.5)


def test_ip_address_deny_is_enforced(lab: Lab) -> None:
    closed = "systemd-run --wait --quiet -p IPAddressDeny=any -p IPAddressAllow=10.88.40.1 nc -zw1 10.88.40.12 22"
    alpha = lab.host("alpha")
    assert alpha.run("nc -zw1 10.88.40.12 22").rc == 0
    assert alpha.run(closed).rc != 0
    assert alpha.run(closed.replace("10.88.40.1 ", "10.88.40.12 ")).rc == 0


def test_the_machine_itself_gets_nothing(lab: Lab) -> None:
    addresses = subprocess.run(["ip", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    assert "10.88." not in addresses
    assert lab.run("pid", "alpha").stdout.strip().isdigit()


def test_a_changed_input_arrives(lab: Lab, playbook: Playbook) -> None:
    run = playbook.changes(lab_selftest_word="another")
    assert run.changed == {"alpha": 1, "beta": 1}
    assert lab.host("beta").file("/etc/lab-selftest").content_string == "another\n"


def test_a_host_comes_back_from_a_reboot(lab: Lab) -> None:
    lab.run("reboot", "beta")
    assert lab.host("beta").check_output("systemctl is-system-running") == "running"
    assert lab.reaches(lab.namespace("alpha"), "10.88.40.12", 22)


def test_older_trees_of_a_list_go_but_none_that_a_host_lies_over(tmp_path: Path) -> None:
    names = ["trixie-aaaaaaaaaaaa", "trixie-bbbbbbbbbbbb", "trixie-cccccccccccc", "trixie-db-aaaaaaaaaaaa", "bookworm-aaaaaaaaaaaa", "x"]
    for name in names:
        (tmp_path / name / "etc").mkdir(parents=True)
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / "trixie-cccccccccccc")
    prune(tmp_path, "trixie", "", tmp_path / "trixie-bbbbbbbbbbbb")
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])
    assert any(Path(tree).name.startswith(("trixie-", "bookworm-")) for tree in overlaid())


def test_a_variant_may_leave_a_package_out() -> None:
    assert "systemd-timesyncd" in packages("trixie", "")
    assert {"chrony", "openssh-server"} <= set(packages("trixie", "time"))
    assert "systemd-timesyncd" not in packages("trixie", "time")
