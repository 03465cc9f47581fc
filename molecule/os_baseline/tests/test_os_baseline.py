# SPDX-License-Identifier: Apache-2.0
"""The host as it runs, whatever the role was told. What a container cannot show (kernel.* settings, AppArmor, the clock) is for the VM."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from evidence import unmet
from testinfra.host import Host
from verify import Lab, Playbook

testinfra_hosts = ["lab://gw"]

CONTROL = """Package: {name}
Version: 1
Architecture: all
Maintainer: Lockgate maintainers <nobody@localhost>
Description: made by a test
"""


def as_nobody(host: Host, command: str) -> int:
    return int(host.run("setpriv --reuid=65534 --regid=65534 --clear-groups sh -c %s", command).rc)


def install(host: Host, name: str, mode: str) -> None:
    """A package of one program, built and installed in the host."""
    tree = f"/root/{name}-package"
    host.check_output("mkdir -p %s/DEBIAN %s/usr/bin", tree, tree)
    host.check_output("printf %%s %s > %s/DEBIAN/control", CONTROL.format(name=name), tree)
    host.check_output("cp /usr/bin/true %s/usr/bin/%s && chmod %s %s/usr/bin/%s", tree, name, mode, tree, name)
    host.check_output("dpkg-deb --root-owner-group --build %s /root/%s.deb && dpkg --install /root/%s.deb", tree, name, name)


def is_privileged(host: Host, path: str) -> bool:
    return bool(host.file(path).mode & 0o6000)


def programs(host: Host) -> Iterator[str]:
    yield from host.check_output("ls /usr/bin /usr/sbin /usr/local/bin /usr/local/sbin").split()


def test_the_host_runs(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"


def test_nothing_builds_fetches_or_listens(host: Host) -> None:
    banned = re.compile(
        r"(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|ld|as|make|rustc|go)(-\d+)?|pip3?(\.\d+)?|gdb|strace|telnet|rsh|t?ftp|rpcbind"
    )
    assert [name for name in programs(host) if banned.fullmatch(name)] == []


@pytest.mark.parametrize("folder", ["/tmp", "/var/tmp", "/dev/shm"])
def test_folders_of_all_run_nothing(host: Host, folder: str) -> None:
    options = set(host.check_output("findmnt --noheadings --output OPTIONS --mountpoint %s", folder).split(","))
    assert {"nosuid", "nodev", "noexec"} <= options
    host.check_output("cp /usr/bin/true %s/probe", folder)
    assert host.run("%s/probe", folder).rc == 126
    host.check_output("rm %s/probe", folder)


def test_processes_of_others_are_invisible(host: Host) -> None:
    assert as_nobody(host, "test -d /proc/self") == 0
    assert as_nobody(host, "test -d /proc/1") != 0
    assert host.run("loginctl list-sessions").rc == 0


def test_only_root_could_log_in(host: Host) -> None:
    shells = [line.split(":")[0] for line in host.check_output("cat /etc/passwd").splitlines() if re.search(r"/[a-z]*sh$", line)]
    assert shells == ["root"]
    assert host.check_output("passwd --status root").split()[1] == "L"
    assert host.check_output("passwd --status visitor").split()[1] == "L"


def test_the_network_stack_is_closed(host: Host) -> None:
    values = dict(re.findall(r"^(\S+) = (.*)$", host.check_output("sysctl --all"), re.MULTILINE))
    zero = ("ip_forward", "forwarding", "accept_redirects", "send_redirects", "accept_source_route", "accept_ra")
    ends = {**dict.fromkeys(zero, "0"), "rp_filter": "1"}
    for end, wanted in ends.items():
        found = {name: value for name, value in values.items() if name.startswith("net.ipv") and name.endswith(f".{end}")}
        assert found
        assert found == dict.fromkeys(found, wanted)


def test_what_this_host_may_not_set_is_not_claimed(host: Host, playbook: Playbook) -> None:
    """The container's kernel.* is read-only: written for the next boot, and said."""
    assert "kernel.kptr_restrict = 2" in host.file("/etc/sysctl.d/zz-os-baseline.conf").content_string
    assert host.run("test -w /proc/sys/kernel/kptr_restrict").rc != 0
    run = playbook("", {}, ["--check", "--diff"])
    assert run.status == 0, run.output
    assert run.changed == {"gw": 0}, run.output
    assert "not in force" in run.output
    if host.check_output("sysctl --values kernel.kptr_restrict") != "2":
        assert "kernel.kptr_restrict" in run.output


def test_modules_nobody_uses_are_refused(host: Host) -> None:
    config = host.check_output("modprobe --showconfig")
    for module in ("sctp", "dccp", "cramfs", "udf", "bluetooth", "usb_storage", "firewire_core"):
        assert re.search(rf"^install {module.replace('_', '[-_]')} /bin/false$", config, re.MULTILINE)
    assert host.run("modprobe sctp").rc != 0


def test_nothing_dumps_core(host: Host) -> None:
    assert host.check_output("systemd-run --quiet --pipe --wait sh -c 'ulimit -Hc'") == "0"
    assert host.check_output("su --shell /bin/sh --login daemon --command 'ulimit -Hc'") == "0"


def test_a_session_closes_its_files_to_others(host: Host) -> None:
    assert host.check_output("su --shell /bin/sh --login daemon --command umask") == "0027"


def test_only_sudo_is_setuid(host: Host) -> None:
    found = host.check_output("find / -xdev -type f -perm /6000").split()
    assert found == ["/usr/bin/sudo"]


def test_no_pool_is_asked_for_the_time(host: Host) -> None:
    settings = host.check_output("systemd-analyze cat-config systemd/timesyncd.conf")
    lines = [line for line in settings.splitlines() if re.match(r"(Fallback)?NTP=", line)]
    assert lines[-2:] == ["NTP=10.88.1.1", "FallbackNTP="]
    assert host.check_output("systemctl is-enabled systemd-timesyncd") == "enabled"


def test_nothing_reaches_out_by_itself(host: Host) -> None:
    assert host.run("systemctl start apt-daily.timer").rc != 0
    assert "apt" not in host.check_output("systemctl list-timers --no-legend")
    assert host.run("systemctl start ctrl-alt-del.target").rc != 0


def test_the_register_of_controls_tells_the_truth(host: Host) -> None:
    assert unmet(host, "os_baseline") == {}


def test_what_drifted_comes_back_and_stays(host: Host, playbook: Playbook) -> None:
    install(host, "gdb", "0755")
    install(host, "su-probe", "4755")
    host.check_output("sysctl --write net.ipv4.ip_forward=1 net.ipv4.conf.host0.rp_filter=0")
    assert is_privileged(host, "/usr/bin/su-probe")

    playbook.changes()

    assert not host.exists("gdb")
    assert host.check_output("sysctl --values net.ipv4.ip_forward net.ipv4.conf.host0.rp_filter") == "0\n1"
    assert not is_privileged(host, "/usr/bin/su-probe")
    host.check_output("dpkg --install /root/su-probe.deb")
    assert not is_privileged(host, "/usr/bin/su-probe"), "an upgrade brought the bit back"


def test_changed_inputs_reach_what_runs(host: Host, playbook: Playbook) -> None:
    def groups_of_the_session_service() -> list[str]:
        pid = host.check_output("systemctl show --property MainPID --value systemd-logind")
        return re.findall(r"^Groups:(.*)$", host.check_output("cat /proc/%s/status", pid), re.MULTILINE)[0].split()

    assert "881" in groups_of_the_session_service()
    before = host.check_output("systemctl show --property MainPID --value systemd-logind")

    playbook.changes(
        os_baseline_proc_group="proc-readers", os_baseline_proc_gid=882, os_baseline_sysctl_overrides={"net.ipv4.conf.*.log_martians": 0}
    )

    assert groups_of_the_session_service() == ["882"]
    assert host.check_output("systemctl show --property MainPID --value systemd-logind") != before
    assert "gid=882" in host.check_output("findmnt --noheadings --output OPTIONS /proc")
    assert host.check_output("sysctl --values net.ipv4.conf.host0.log_martians") == "0"


def test_a_disabled_control_that_does_not_exist_is_refused(playbook: Playbook) -> None:
    run = playbook("", {"os_baseline_disabled_controls": ["OSB-99"]})
    assert run.status != 0
    assert "OSB-99" in run.output


def test_all_of_it_is_there_after_a_restart(host: Host, lab: Lab) -> None:
    lab.run("reboot", "gw")
    assert host.check_output("systemctl is-system-running") == "running"
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        assert "noexec" in host.check_output("findmnt --noheadings --output OPTIONS --mountpoint %s", folder)
    assert "hidepid=invisible" in host.check_output("findmnt --noheadings --output OPTIONS /proc")
    assert host.check_output("sysctl --values net.ipv4.conf.host0.rp_filter net.ipv4.conf.host0.send_redirects") == "1\n0"
    assert host.check_output("find / -xdev -type f -perm /6000").split() == ["/usr/bin/sudo"]
