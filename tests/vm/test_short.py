# SPDX-License-Identifier: Apache-2.0
"""One boot of the image with TPM and a first policy: what only a kernel of its own can show."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from image.release import ROOT
from tests.terraform.site import CONSOLE, DATABASE_NAME, POSTGRES, Site, database
from tests.vm import image as images
from tests.vm.caller import Caller, changed, policy_file, settings
from tests.vm.conftest import NAME, PASSWORD, first_boot
from tests.vm.machine import Machine
from tests.vm.network import GATEWAY, HYPERVISOR, Network
from tests.vm.webhook import FOLLOW, URL, followed, told

pytestmark = pytest.mark.short

DATABASE = 5432
SET_ID = ["/usr/bin/sudo"]
KERNEL = {
    "dev.tty.ldisc_autoload": "0", "dev.tty.legacy_tiocsti": "0", "fs.protected_fifos": "2", "fs.protected_hardlinks": "1",
    "fs.protected_regular": "2", "fs.protected_symlinks": "1", "fs.suid_dumpable": "0", "kernel.core_pattern": "|/bin/false",
    "kernel.dmesg_restrict": "1", "kernel.io_uring_disabled": "2", "kernel.kexec_load_disabled": "1", "kernel.kptr_restrict": "2",
    "kernel.modules_disabled": "1", "kernel.panic": "10", "kernel.panic_on_oops": "1", "kernel.perf_event_paranoid": "3",
    "kernel.randomize_va_space": "2", "kernel.sysrq": "0", "kernel.unprivileged_bpf_disabled": "1",
    "kernel.unprivileged_userns_clone": "0", "kernel.yama.ptrace_scope": "2", "net.core.bpf_jit_harden": "2",
    "net.ipv4.conf.all.accept_redirects": "0", "net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.ip_forward": "0", "net.ipv4.tcp_syncookies": "1", "net.ipv6.conf.all.accept_ra": "0", "net.ipv6.conf.all.forwarding": "0",
    "vm.mmap_min_addr": "65536", "vm.unprivileged_userfaultfd": "0",
}  # fmt: skip
HOG = "import mmap; mmap.mmap(-1, {bytes}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE); print('had it')"
FORKS = """
import os, time
for number in range({tries}):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except BlockingIOError:
        break
print("stopped after", number)
"""
READY = """
import ssl, urllib.request
unverified = ssl._create_unverified_context()
print(urllib.request.urlopen("https://127.0.0.1:{port}/readyz", context=unverified).status)
"""
KNOCK = "import socket; socket.create_connection(('{address}', {port}), 8).close(); print('through')"


@pytest.fixture(scope="module")
def machine(image: images.Image, wire: Network, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with first_boot(tmp_path_factory.mktemp("machine"), wire, site, image.disk, memory="3072") as booted:
        yield booted


def python(program: str) -> str:
    return f"python3 -I -c {shlex.quote(program)}"


# ---- the boot


def test_the_boot_is_good_and_nothing_failed(machine: Machine) -> None:
    assert machine.ssh("systemctl --failed --no-legend --plain").stdout == ""
    assert machine.state() == "running"
    assert machine.says("systemctl is-active boot-complete.target lockgate-health.service") == "active\nactive"


def test_it_is_the_image_that_was_built(machine: Machine, image: images.Image) -> None:
    assert json.loads(machine.says("cat /etc/lockgate-appliance/release.json"))["image_version"] == image.version
    assert machine.says("hostname") == NAME
    assert f"roothash={image.manifest['root_hash']} " in machine.says("cat /proc/cmdline")


def test_the_root_is_verified_and_cannot_be_written(machine: Machine) -> None:
    mounts = [line.split() for line in machine.says("cat /proc/mounts").splitlines()]
    (root,) = [row for row in mounts if row[1] == "/"]
    assert (root[0], root[2], root[3].split(",")[0]) == ("/dev/mapper/root", "erofs", "ro")
    assert machine.says("cat /sys/block/dm-0/dm/name /sys/block/dm-0/dm/uuid /sys/block/dm-0/ro").splitlines()[0] == "root"
    assert "CRYPT-VERITY-" in machine.says("cat /sys/block/dm-0/dm/uuid")
    assert "Read-only file system" in machine.ssh("sudo touch /usr/bin/mine").stderr
    assert machine.ssh("sudo mount -o remount,rw /").returncode != 0
    assert "Read-only file system" in machine.ssh("sudo touch /opt/lockgate/mine").stderr


def test_what_can_be_written_holds_no_programs(machine: Machine) -> None:
    rows = [line.split() for line in machine.says("cat /proc/mounts").splitlines()]
    writable = {row[1]: set(row[3].split(",")) for row in rows if row[2] in ("ext4", "tmpfs") and row[3].startswith("rw")}
    assert "/var" in writable
    exempt = {path for path in writable if path == "/run" or path.startswith(("/run/credentials", "/run/user"))}
    assert {path: flags for path, flags in writable.items() if path not in exempt and not {"nosuid", "nodev"} <= flags} == {}
    assert "noexec" in writable["/var"] and "noexec" in writable["/tmp"]


def test_var_has_the_whole_disk(machine: Machine) -> None:
    assert int(machine.says("df --output=size -B1 /var").split()[-1]) > 5 * 2**30


# ---- the kernel


def test_the_kernel_is_closed(machine: Machine) -> None:
    assert "[integrity]" in machine.says("cat /sys/kernel/security/lockdown")
    refused = machine.ssh("sudo modprobe nf_conntrack_ftp; sudo modprobe dummy; sudo modprobe crc-itu-t")
    assert refused.returncode != 0
    assert machine.ssh("sudo dd if=/dev/mem of=/dev/null bs=4096 count=1 skip=1048576").returncode != 0
    assert machine.says("cat /sys/kernel/security/lsm").count("apparmor") == 1


def test_kernel_settings_are_live(machine: Machine) -> None:
    paths = [f"/proc/sys/{name.replace('.', '/')}" for name in KERNEL]
    found = machine.says(f"sudo grep -H '' {' '.join(paths)}").splitlines()
    values = {path.removeprefix("/proc/sys/").replace("/", "."): value for path, _, value in (line.partition(":") for line in found)}
    assert {name: value for name, value in values.items() if KERNEL[name] != value} == {}
    assert set(values) == set(KERNEL)


def _controls() -> list[Any]:
    found = [yaml.safe_load(path.read_text()) for path in sorted(ROOT.glob("roles/*/vars/controls.yml"))]
    controls = [control for document in found for listed in document.values() for control in listed]
    return [pytest.param(control["evidence"], id=control["id"]) for control in controls if control["scope"] in ("vm", "image")]


@pytest.mark.parametrize("evidence", _controls())
def test_controls_that_containers_cannot_show(machine: Machine, evidence: dict[str, Any]) -> None:
    said = machine.ssh("sudo " + " ".join(map(shlex.quote, evidence["command"])))
    assert re.search(evidence["stdout_regex"], said.stdout), said.stdout + said.stderr


# ---- limits


def gateway_limits(machine: Machine) -> dict[str, str]:
    shown = machine.says("systemctl show lockgate.service --property=MemoryMax --property=MemorySwapMax --property=TasksMax")
    return dict(line.split("=", 1) for line in shown.splitlines())


def test_the_kernel_holds_the_gateway_to_its_limits(machine: Machine) -> None:
    limits = gateway_limits(machine)
    group = "/sys/fs/cgroup" + machine.says("systemctl show lockgate.service --property=ControlGroup --value")
    kernel = machine.says(f"cat {group}/memory.max {group}/memory.swap.max {group}/pids.max").split()
    assert kernel == [limits["MemoryMax"], limits["MemorySwapMax"], limits["TasksMax"]]
    assert 2**28 <= int(limits["MemoryMax"]) <= 2**31
    assert int(limits["TasksMax"]) <= 512


def run_as_unit(machine: Machine, program: str, limits: dict[str, str]) -> subprocess.CompletedProcess[str]:
    properties = " ".join(f"--property={name}={value}" for name, value in limits.items())
    return machine.ssh(f"sudo systemd-run --wait --pipe --collect --quiet {properties} {python(program)}; echo status $?")


def test_memory_beyond_the_limit_ends_the_program(machine: Machine) -> None:
    limits = gateway_limits(machine)
    most = int(limits["MemoryMax"])
    assert "had it" in run_as_unit(machine, HOG.format(bytes=most // 2), limits).stdout
    beyond = run_as_unit(machine, HOG.format(bytes=most + (64 << 20)), limits)
    assert "had it" not in beyond.stdout and "status 0" not in beyond.stdout
    assert re.search(r"oom-kill:constraint=CONSTRAINT_MEMCG", machine.says("sudo journalctl -k -b --no-pager -o cat --since=-10min"))
    assert machine.says("systemctl is-active lockgate.service") == "active", "the gateway beside it is not harmed"


def test_processes_beyond_the_limit_are_not_made(machine: Machine) -> None:
    limits = gateway_limits(machine)
    said = run_as_unit(machine, FORKS.format(tries=int(limits["TasksMax"]) + 100), limits).stdout
    assert f"stopped after {int(limits['TasksMax']) - 1}" in said


# ---- AppArmor, audit


def test_apparmor_profiles_are_loaded_from_the_cache_of_the_image(machine: Machine, image: images.Image) -> None:
    loaded = machine.says("sudo cat /sys/kernel/security/apparmor/profiles").splitlines()
    assert any(line.startswith("unprivileged_userns ") for line in loaded), loaded
    cached = machine.says("sudo find /usr/lib/lockgate/apparmor-cache -type f -not -name .features -printf '%f\\n'").splitlines()
    assert cached
    for profile in cached:
        said = machine.ssh(f"sudo apparmor_parser --show-cache --replace /etc/apparmor.d/{profile}")
        assert said.returncode == 0, said.stderr
        assert "Cache hit: /usr/lib/lockgate/apparmor-cache/" in said.stdout + said.stderr, said.stderr


def labels(machine: Machine) -> list[str]:
    return [line.strip() for line in machine.says("sudo ps -u lockgate -o label=").splitlines()]


def denied(machine: Machine) -> list[str]:
    """What AppArmor refused to the gateway since the boot; auditd's record of this command is another type."""
    pattern = "^(node=[^ ]+ )?type=AVC .*apparmor=.DENIED.*profile=.lockgate"
    found = machine.ssh(f"sudo sh -c {shlex.quote(f'grep -Eah {shlex.quote(pattern)} /var/log/audit/audit.log*')}")
    assert found.returncode in (0, 1), found.stderr
    return found.stdout.splitlines()


def test_the_gateways_profile_is_compiled_and_in_force(machine: Machine) -> None:
    assert "lockgate" in machine.says("ls $(sudo find /usr/lib/lockgate/apparmor-cache -mindepth 1 -type d)").split()
    loaded = machine.says("sudo cat /sys/kernel/security/apparmor/profiles").splitlines()
    assert {"lockgate (enforce)", "lockgate//sandboxed (enforce)"} <= set(loaded)
    main = machine.says("systemctl show lockgate.service --property=MainPID --value")
    assert machine.says(f"sudo cat /proc/{main}/attr/current") == "lockgate (enforce)"


def test_confined_the_gateway_does_all_its_work(machine: Machine, wire: Network, site: Site) -> None:
    """Workers, a masked answer, a refusal, a reload, a text so long that a process of its own parses it: with less than the gateway has."""
    job = Caller(machine, wire, site)
    longer = {"workers": 2, "limits": {"statement_text": "1MiB"}}
    with database(site, wire.controller), settings(machine, longer):
        assert labels(machine) == ["lockgate (enforce)"] * 3
        assert job.psql("select count(*) from customers; select ssn from customers limit 1").stdout == "3\n****\n"
        assert "denied by ci works on orders/never" in job.psql("create table mine (id int)").stderr
        machine.says("sudo systemctl reload lockgate.service")
        said = job.psql(f"select count(*) from customers where id in ({','.join(map(str, range(20000)))})")
        assert said.stdout == "3\n", said.stderr
        assert sorted(labels(machine)) == ["lockgate (enforce)"] * 3 + ["lockgate//&lockgate//sandboxed (enforce)"]


def test_confined_it_finds_a_target_by_name_and_tells_people_over_ipv6(machine: Machine, wire: Network, site: Site) -> None:
    """getaddrinfo(3) with all that it opens, a socket of the other family, a held statement and the webhook's client."""
    job = Caller(machine, wire, site)
    first = machine.says("head -n 1 /etc/hosts")
    with (
        database(site, wire.controller), told(machine) as shown, followed(machine),
        changed(machine, "/etc/hosts", first, f"{first}\n{HYPERVISOR} {DATABASE_NAME}"),
        changed(machine, policy_file("resources.yaml"), f"{HYPERVISOR}:{DATABASE}", f"{DATABASE_NAME}:{DATABASE}"),
        settings(machine, {"notify": {"webhook": {"url": URL}}}),
    ):  # fmt: skip
        machine.says(FOLLOW)
        assert f"resource orders-db  {HYPERVISOR}" in machine.says("sudo lockgate network --resolve")
        assert labels(machine) == ["lockgate (enforce)"]
        assert job.psql("select count(*) from customers").stdout == "3\n"
        held = job.psql("delete from orders", options="-c lockgate.wait=off").stderr
        (approval,) = set(re.findall(r"\bapr_\w+", held)) or {held}
        machine.wait("the webhook's post", lambda: approval in machine.says(shown), 120)


def test_apparmor_refused_nothing_of_that(machine: Machine) -> None:
    assert denied(machine) == []


def test_what_the_profile_does_not_name_is_refused(machine: Machine) -> None:
    """Even to root, and without any other bound of the unit."""
    tries = (ROOT / "tests/vm/tries.py").read_text()
    program = f"/opt/lockgate/current/bin/python -I -c {shlex.quote(tries)}"
    run = "sudo systemd-run --wait --pipe --collect --quiet --property=PrivateMounts=yes"
    free = dict(line.rsplit(" ", 1) for line in machine.says(f"{run} {program}").splitlines())
    confined = dict(line.rsplit(" ", 1) for line in machine.says(f"{run} --property=AppArmorProfile=lockgate {program}").splitlines())
    assert set(free.values()) == {"done"}, free
    assert confined == {"a file it needs": "done", **dict.fromkeys(list(free)[1:], "refused")}
    assert len(denied(machine)) >= len(confined) - 1, "and each is on record"


def test_the_kernel_audits_from_its_first_process(machine: Machine) -> None:
    assert {"audit=1", "audit_backlog_limit=8192"} <= set(machine.says("cat /proc/cmdline").split())
    status = dict(line.split()[:2] for line in machine.says("sudo auditctl -s").splitlines())
    assert (status["enabled"], status["backlog_limit"], status["lost"]) == ("2", "8192", "0")


def test_a_write_to_the_gateways_files_is_on_record(machine: Machine) -> None:
    machine.says("sudo sh -c 'echo changed > /var/lib/lockgate-config/by-hand'")
    until = time.monotonic() + 60
    while "by-hand" not in (said := machine.ssh("sudo ausearch --input-logs --interpret --key lockgate-config --start recent").stdout):
        assert time.monotonic() < until, said
        time.sleep(2)
    machine.says("sudo rm /var/lib/lockgate-config/by-hand")
    (event, *_) = [part for part in said.split("----") if "by-hand" in part]
    assert re.search(r"\bauid=ops\b", event) and re.search(r"\buid=root\b", event), "who it was, not only that root did it"


def test_audit_rules_cannot_be_taken_away(machine: Machine) -> None:
    before = machine.says("sudo auditctl -l")
    assert machine.ssh("sudo auditctl -D").returncode != 0
    assert machine.ssh("sudo auditctl -e 0").returncode != 0
    assert machine.says("sudo auditctl -l") == before


# ---- what is not there


def test_no_set_id_program_beyond_the_list(machine: Machine) -> None:
    found = machine.ssh("sudo find / /var /home /root /tmp /dev/shm -xdev -type f -perm /6000", seconds=600).stdout.splitlines()
    assert sorted(set(found)) == SET_ID


def test_nothing_to_build_or_fetch_with(machine: Machine) -> None:
    there = "for name in cc gcc g++ clang ld as make pip pip3 git curl wget nc gdb strace tcpdump; do command -v $name; done; true"
    assert machine.says(there) == ""
    assert machine.ssh(python("import pip")).returncode != 0
    assert machine.ssh("/opt/lockgate/current/bin/python -c 'import pip'").returncode != 0


# ---- the network, from both sides


def test_the_firewall_drops_what_it_does_not_know(machine: Machine) -> None:
    rules = machine.says("sudo nft list ruleset")
    assert re.findall(r"hook (\w+) priority \w+; policy (\w+);", rules) == [("input", "drop"), ("forward", "drop"), ("output", "drop")]


def scan(namespace: str, beacon: int) -> list[int]:
    """What is open from there. A scan that does not see the one port known to be open lost its knocks on a busy machine, and says nothing:
    then with fewer at a time."""
    for at_once in (5000, 2000, 500):
        command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "tests.vm.scan", GATEWAY, "1-65535", str(at_once)]
        done = subprocess.run(command, cwd=ROOT, check=True, text=True, capture_output=True, timeout=1800)
        found = list(json.loads(done.stdout))
        if beacon in found:
            return found
    raise AssertionError(f"no scan sees port {beacon}")


def listening(machine: Machine) -> set[int]:
    rows = [line.split()[3] for line in machine.says("sudo ss -Hltn").splitlines()]
    return {int(address.rsplit(":", 1)[1]) for address in rows if not address.startswith(("127.", "[::1]"))}


def test_open_ports_are_the_listeners(machine: Machine, wire: Network) -> None:
    assert listening(machine) == {22, POSTGRES, CONSOLE}
    assert scan(wire.stranger, POSTGRES) == [POSTGRES], "callers reach the gateway and nothing else; who they are it asks them"
    assert set(scan(wire.controller, 22)) == {22, POSTGRES}, "the console is opened by the roles, for the networks that an inventory names"


@contextmanager
def listener(namespace: str, port: int) -> Iterator[None]:
    """Something on this side that would answer."""
    program = f"import socket, time; s = socket.create_server(('{HYPERVISOR}', {port})); print('ready', flush=True); time.sleep(1200)"
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            process.kill()


def test_the_gateway_reaches_its_target_and_nobody_reaches_anything_else(machine: Machine, wire: Network) -> None:
    with listener(wire.controller, DATABASE), listener(wire.controller, DATABASE + 1):
        knock, elsewhere = (python(KNOCK.format(address=HYPERVISOR, port=port)) for port in (DATABASE, DATABASE + 1))
        assert machine.ssh(f"sudo -u lockgate {knock}").stdout == "through\n"
        assert machine.ssh(f"sudo -u lockgate {elsewhere}").returncode != 0
        assert machine.ssh(knock).returncode != 0
        assert machine.ssh(f"sudo {elsewhere}").returncode != 0


# ---- first boot


def test_the_first_policy_is_in_force(machine: Machine) -> None:
    assert machine.says("systemctl is-active lockgate.service lockgate-credentials.service") == "active\nactive"
    assert machine.says(python(READY.format(port=CONSOLE))) == "200"
    assert machine.says("sudo lockgate check --config /etc/lockgate > /dev/null; echo $?") == "0"


def test_a_caller_without_a_token_is_sent_away(machine: Machine, wire: Network) -> None:
    connection = f"host={GATEWAY} port={POSTGRES} user=ci dbname=orders-db connect_timeout=90 sslmode=require"
    command = ["ip", "netns", "exec", wire.stranger, "psql", "--no-psqlrc", "--no-password", "-qAt", connection, "-c", "select 1"]
    env = {"PATH": "/usr/bin:/bin", "PGPASSWORD": "not.a.token"}
    done = subprocess.run(command, env=env, check=False, text=True, capture_output=True, timeout=180)
    assert done.returncode == 2 and "failed: FATAL" in done.stderr, done.stderr


def test_credentials_are_bound_to_the_tpm(machine: Machine) -> None:
    assert machine.says("systemd-analyze has-tpm2").splitlines()[0] == "yes"
    assert "credentials.orders-db.yaml.cred" in machine.says("sudo ls /var/lib/lockgate-credentials")
    login = "sudo grep -rl lockgate-orders /var/lib/lockgate-credentials /var/lib/lockgate-site /var/lib/lockgate-config"
    assert machine.ssh(login).stdout == ""


# ---- the console, last: it breaks the glass


def test_break_glass_on_the_serial_console(machine: Machine) -> None:
    with machine.console() as person:
        person.type("\n")
        person.expect("login: ")
        person.type("breakglass\n")
        person.expect("Password: ")
        person.type(f"{PASSWORD}\n")
        person.expect("Your name: ")
        person.type("Ines Example\n")
        person.expect("Reason: ")
        person.type("ticket 4711, nobody answers\n")
        person.expect("break-glass:")
        person.type("id -u; echo shown-$((6 * 7))\n")
        person.expect("shown-42")
        person.type("exit\n")
        person.expect("session over: the shell ended with status 0")
    records = [json.loads(line) for line in machine.says("sudo lockgate audit export", seconds=600).splitlines()]
    (begin,) = [record for record in records if record["kind"] == "break-glass.begin"]
    assert (begin["origin"], begin["person"], begin["tty"]) == (f"{NAME}/console", "Ines Example", "ttyS0")
    assert machine.says("sudo lockgate audit verify > /dev/null; echo $?", seconds=600) == "0"


def test_nobody_breaks_the_glass_over_the_network(machine: Machine, wire: Network) -> None:
    argv = ["ip", "netns", "exec", wire.controller, "ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "BatchMode=yes", "-o", "ConnectTimeout=60", f"breakglass@{GATEWAY}", "true"]  # fmt: skip
    done = subprocess.run(argv, check=False, text=True, capture_output=True, timeout=180)
    assert done.returncode == 255 and "Permission denied" in done.stderr, done.stderr
