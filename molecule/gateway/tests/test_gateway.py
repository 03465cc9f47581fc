# SPDX-License-Identifier: Apache-2.0
"""A gateway that the role set up, looked at from outside: by systemd, over the network, by its own records. Then inputs change."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host
from verify import Lab, Playbook, Run

testinfra_hosts = ["lab://gw"]

ADDRESS = "10.88.5.11"
ROOT = Path(__file__).parents[3]
PLAYBOOKS = ROOT / "playbooks"
SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
CONTROLS: list[dict[str, Any]] = yaml.safe_load((ROOT / "roles/gateway/vars/controls.yml").read_text())["__gateway_controls"]
ASK = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cadata=sys.stdin.read())
try:
    print(urllib.request.urlopen(sys.argv[1], context=context, timeout=3).status)
except urllib.error.HTTPError as answer:
    print(answer.code)
"""
HOSTILE = "{{ 7*7 }} $(touch hostile) `id`; 'q\".yaml"
COMMENT = "# {{ lookup('pipe', 'touch /run/hostile') }} {% raw %} ${HOME} $(touch /run/hostile)\n"
DENIED_CASE = "tests:\n  - {identity: ci-bot, resource: orders-db, sql: 'select id, name from customers', effect: deny}\n"


def from_outside(lab: Lab, host: Host) -> str:
    """What /readyz answers to somebody on the network who trusts the gateway's own authority."""
    authority = host.file("/etc/lockgate/tls/ca.crt").content_string
    argv = ["ip", "netns", "exec", lab.switch(), "python3", "-c", ASK, f"https://{ADDRESS}:19443/readyz"]
    done = subprocess.run(argv, input=authority, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr[-300:]


def host_key(lab: Lab) -> str:
    """What the listener for SSH shows to a caller who has no token, and is sent away. (ssh-keyscan knows no strict key exchange.)"""
    with tempfile.TemporaryDirectory() as scratch:
        options = ("BatchMode=yes", "StrictHostKeyChecking=accept-new", f"UserKnownHostsFile={scratch}/known", "HashKnownHosts=no",
                   "ConnectTimeout=20", "IdentityFile=none", "IdentityAgent=none")  # fmt: skip
        argv = ["ip", "netns", "exec", lab.switch(), "ssh", "-F", "none", *(word for option in options for word in ("-o", option)),
                "-p", "12222", f"web-1@{ADDRESS}", "true"]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 255, done
        return " ".join(Path(f"{scratch}/known").read_text().split()[1:3])


def pid(host: Host) -> int:
    return int(host.check_output("systemctl show --property=MainPID --value lockgate.service"))


def digest(host: Host) -> str:
    """The policy that the running process says it serves, as systemd tells it."""
    said = host.check_output("systemctl show --property=StatusText --value lockgate.service")
    found = re.match(r"policy (sha256:[0-9a-f]{64}) from (\S+)$", said)
    assert found, said
    return found[1]


def folder(host: Host) -> str:
    return host.check_output("readlink -f /etc/lockgate").strip()


def eventually(what: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.3)
    return True


def write(host: Host, path: str, text: str) -> None:
    """A piece of a unit, until the host is gone."""
    host.check_output("mkdir -p $(dirname %s) && printf %%s %s > %s && systemctl daemon-reload", path, text, path)


def failed(run: Run) -> str:
    assert run.status != 0, run.output
    assert run.failed == {"gw": 1}, run.output
    return " ".join(run.output.split())


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """A copy of the segment's folder, for a change that somebody makes."""
    return Path(shutil.copytree(SCENARIO / "segment", tmp_path / "segment"))


# --- as it was set up ---------------------------------------------------------------------------------------------------------------


def test_systemd_is_content(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"
    assert host.service("lockgate").is_running
    assert host.service("lockgate").is_enabled
    assert host.run("systemd-analyze verify /etc/systemd/system/lockgate.service /etc/systemd/system/lockgate-credentials.service").rc == 0


def test_the_process_has_nothing_but_its_own(host: Host) -> None:
    status = dict(line.split(":\t", 1) for line in host.check_output(f"cat /proc/{pid(host)}/status").splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"880"}
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == status["CapAmb"] == "0" * 16
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_workers_serve_within_the_same_bounds(lab: Lab, host: Host) -> None:
    """Two of them (molecule.yml), each with what the unit leaves to the first process; one that is killed is replaced."""
    before = workers(host)
    assert len(before) == 2
    for one in before:
        status = dict(line.split(":\t", 1) for line in host.check_output(f"cat /proc/{one}/status").splitlines() if ":\t" in line)
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"880"}
        assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == status["CapAmb"] == "0" * 16
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    first = pid(host)
    host.check_output(f"kill -KILL {before[0]}")
    assert eventually(lambda: len(workers(host)) == 2 and before[0] not in workers(host), 60)
    assert pid(host) == first and before[1] in workers(host)
    assert eventually(lambda: from_outside(lab, host) == "200", 60)


def workers(host: Host) -> list[int]:
    """The processes that serve the listeners."""
    found = host.run("pgrep -u lockgate -f gateway.workers.worker").stdout.split()
    return sorted(int(one) for one in found)


def test_exposure(host: Host) -> None:
    said = host.check_output("systemd-analyze security --no-pager lockgate.service")
    found = re.search(r"Overall exposure level for lockgate.service: ([0-9.]+)", said)
    assert found, said
    assert float(found[1]) <= 1.5


def test_the_profile_is_one_that_this_suites_parser_takes(host: Host) -> None:
    """With every rule, for a kernel that can all of it; the container's own kernel is never asked."""
    features = (ROOT / "appliance/image/apparmor/kernel-features").read_text()
    host.check_output("printf %%s %s > /run/kernel-features", features)
    parser = "apparmor_parser --skip-kernel-load --skip-cache --Werror=rule-not-enforced --Werror=rule-downgraded"
    assert host.run(f"{parser} --kernel-features /run/kernel-features /etc/apparmor.d/lockgate").rc == 0


@pytest.mark.parametrize("control", [one for one in CONTROLS if one["scope"] != "vm"], ids=lambda control: str(control["id"]))
def test_controls_hold(host: Host, control: dict[str, Any]) -> None:
    evidence = control["evidence"]
    seen = host.run(" ".join(["%s"] * len(evidence["command"])), *evidence["command"])
    if "rc" in evidence:
        assert seen.rc == evidence["rc"], seen
    if "stdout_regex" in evidence:
        assert re.search(evidence["stdout_regex"], seen.stdout), seen


def test_ready_over_the_network(host: Host, lab: Lab) -> None:
    assert from_outside(lab, host) == "200"
    assert lab.reaches(lab.switch(), ADDRESS, 15432)


def test_ssh_callers_find_the_key_that_the_gateway_tells_of(host: Host, lab: Lab) -> None:
    told = host.check_output(f"lockgate ssh-known-hosts --host {ADDRESS}")
    assert told.startswith(f"[{ADDRESS}]:12222 ssh-ed25519 ")
    assert host_key(lab) == " ".join(told.split()[1:3])


def test_an_ssh_target_has_its_hole_and_its_key_in_memory_alone(host: Host) -> None:
    plan = json.loads(host.check_output("lockgate network --json"))
    assert ("10.88.5.60", 22) in {(one["host"], one["port"]) for one in plan["destinations"]}
    assert "12222" in {str(one["port"]) for one in plan["listeners"] if not one["loopback"]}
    for name in ("credentials.web-1.yaml", "tls.ssh_host_ed25519_key", "tls.ssh_user_ca"):
        assert host.check_output(f"stat -c '%U %a' /run/lockgate-credentials/{name}") == "lockgate 400"
        assert host.check_output(f"stat -f -c %T /run/lockgate-credentials/{name}") in ("tmpfs", "ramfs")
    line = (SCENARIO / "web-1.key").read_text().splitlines()[2]
    assert json.loads(host.check_output("cat /etc/lockgate/credentials/web-1.yaml"))["private_key"].splitlines()[2] == line
    assert host.run("find / -xdev -path /proc -prune -o -type f -exec grep -lF -e %s {} +", line).stdout == ""


def test_the_service_can_change_neither_program_nor_configuration(host: Host) -> None:
    service = "setpriv --reuid=lockgate --regid=lockgate --clear-groups"
    writable = f"{service} find -L /opt/lockgate /etc/lockgate /var/lib/lockgate-config -writable"
    assert host.run(f"{writable} -not -path '*/credentials/*' -not -path '*/tls/*'").stdout == ""
    assert host.run(f"{service} touch /etc/lockgate/x").rc != 0


def test_the_program_says_what_runs(host: Host) -> None:
    checked = json.loads(host.check_output("lockgate check --json"))
    assert checked["policy"] == digest(host)
    assert checked["gateway"] == "plant-a-1"
    assert checked["listeners"] == {"postgres": "0.0.0.0:15432", "console": "0.0.0.0:19443", "ssh": "0.0.0.0:12222"}


def test_a_try_on_a_converged_host_reports_nothing(playbook: Playbook) -> None:
    tried = playbook("", {}, ["--check", "--diff"])
    assert tried.status == 0, tried.output
    assert tried.changed == {"gw": 0}


def test_a_try_on_a_fresh_host_does_not_fail_and_changes_nothing(lab: Lab, playbook: Playbook) -> None:
    tried = playbook("fresh.yml", {}, ["--check", "--diff"])
    assert tried.status == 0, tried.output
    assert tried.changed["fresh"] > 5
    assert not lab.host("fresh").file("/opt/lockgate").exists
    assert not lab.host("fresh").file("/var/lib/lockgate-config").exists


# --- it comes back ------------------------------------------------------------------------------------------------------------------


def test_a_killed_gateway_comes_back(host: Host, lab: Lab) -> None:
    before = pid(host)
    host.check_output(f"kill -KILL {before}")
    assert eventually(lambda: pid(host) not in (0, before) and from_outside(lab, host) == "200")


def test_a_hung_gateway_comes_back(host: Host, lab: Lab) -> None:
    """With shorter times than the unit's, so that the test need not wait for them."""
    place = "/run/systemd/system/lockgate.service.d"
    write(host, f"{place}/60-test.conf", "[Service]\nWatchdogSec=5s\nTimeoutAbortSec=1s\n")
    host.check_output("systemctl restart lockgate.service")
    before = pid(host)
    time.sleep(7)
    assert pid(host) == before, "signs of life keep it alive"
    host.check_output(f"kill -STOP {before}")
    assert eventually(lambda: pid(host) not in (0, before) and from_outside(lab, host) == "200")
    host.check_output(f"rm -r {place} && systemctl daemon-reload && systemctl restart lockgate.service")
    assert "watchdog" in host.check_output("journalctl --unit lockgate --no-pager --quiet").lower()


# --- policy -------------------------------------------------------------------------------------------------------------------------


def test_a_policy_reaches_the_running_process_without_a_restart(host: Host, playbook: Playbook, segment: Path) -> None:
    before, process, path = digest(host), pid(host), folder(host)
    (segment / "policy" / HOSTILE).write_text(COMMENT + "revoked: [{identity: reporting}, {identity: ci-bot}]\n")
    (segment / "policy" / "tests" / "held.yaml").write_text(DENIED_CASE)
    run = playbook(PLAYBOOKS / "policy.yml", {"gateway_segment_folder": str(segment)}, ["--diff"])
    assert run.status == 0, run.output
    assert "reporting" in run.output
    said = " ".join(run.output.split())
    assert "REVOKED (does not hold as long as that is so): ci" in said, said
    assert "HELD (no rule denies it, only that does): ci" in said, said
    assert digest(host) != before
    assert pid(host) == process
    assert folder(host) != path
    assert host.file(f"/etc/lockgate/policy/{HOSTILE}").content == (segment / "policy" / HOSTILE).read_bytes()
    assert not host.file("/run/hostile").exists
    recorded = host.check_output("lockgate audit export").splitlines()
    assert json.loads([line for line in recorded if '"policy.loaded"' in line][-1])["policy"] == digest(host)
    again = playbook(PLAYBOOKS / "policy.yml", {"gateway_segment_folder": str(segment)})
    assert again.changed == {"gw": 0}


def test_a_file_that_is_gone_from_the_inventory_is_gone_from_the_gateway(host: Host, playbook: Playbook) -> None:
    run = playbook(PLAYBOOKS / "policy.yml")
    assert run.changed == {"gw": 1}, run.output
    assert not host.file(f"/etc/lockgate/policy/{HOSTILE}").exists
    assert "revoked" not in host.check_output("cat /etc/lockgate/policy/*.yaml")


def test_a_bad_policy_is_refused_and_the_old_one_runs(host: Host, lab: Lab, playbook: Playbook, segment: Path) -> None:
    before, process, path = digest(host), pid(host), folder(host)
    (segment / "policy" / "more.yaml").write_text("grants:\n  - {name: x, to: [nobody-of-that-name], targets: [orders-db], rules: []}\n")
    for options in ([], ["--check", "--diff"]):
        said = failed(playbook(PLAYBOOKS / "policy.yml", {"gateway_segment_folder": str(segment)}, options))
        assert "policy/more.yaml:2" in said, said
    assert (digest(host), pid(host), folder(host)) == (before, process, path)
    assert host.check_output("ls -A /var/lib/lockgate-config | grep -c staging || true") == "0"
    assert from_outside(lab, host) == "200"


def test_what_cannot_be_put_in_force_is_taken_back(host: Host, lab: Lab, playbook: Playbook, segment: Path) -> None:
    """The folder is valid, and the host fails on the way: here the step before the reload that opens the firewall."""
    unit = "/run/systemd/system/lockgate-network.service"
    write(host, unit, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
                      "ExecReload=/bin/sh -c '! grep -rq reporting-is-revoked /etc/lockgate/policy/'\n")
    host.check_output("systemctl start lockgate-network.service")
    before, path = digest(host), folder(host)
    (segment / "policy" / "more.yaml").write_text("# reporting-is-revoked\nrevoked: [{identity: reporting}]\n")
    said = failed(playbook(PLAYBOOKS / "policy.yml", {"gateway_segment_folder": str(segment)}))
    assert "what ran before is in force again" in said, said
    assert (digest(host), folder(host)) == (before, path)
    host.check_output(f"systemctl stop lockgate-network.service; rm {unit}; systemctl daemon-reload")
    assert from_outside(lab, host) == "200"


def test_a_hand_on_the_folder_is_undone(host: Host, playbook: Playbook) -> None:
    before = digest(host)
    host.check_output("printf 'revoked: [{identity: ci-bot}]\\n' > /etc/lockgate/policy/hand.yaml && systemctl reload lockgate")
    assert digest(host) != before
    assert playbook(PLAYBOOKS / "policy.yml").changed == {"gw": 1}
    assert digest(host) == before
    assert not host.file("/etc/lockgate/policy/hand.yaml").exists


# --- settings -----------------------------------------------------------------------------------------------------------------------


def test_settings_that_need_a_restart(host: Host, lab: Lab, playbook: Playbook) -> None:
    """Policy alone refuses them, a deployment restarts, and the port is there for callers."""
    process = pid(host)
    moved = {"gateway_settings": {"listeners": {"postgres": {"address": "0.0.0.0:15433"}, "console": {"address": "0.0.0.0:19443"}}}}
    assert "need a restart" in failed(playbook(PLAYBOOKS / "policy.yml", moved))
    assert pid(host) == process
    known = host_key(lab)
    assert playbook.changes(**moved).changed == {"gw": 1}
    assert pid(host) != process
    assert lab.reaches(lab.switch(), ADDRESS, 15433)
    assert not lab.reaches(lab.switch(), ADDRESS, 15432)
    assert playbook.changes(gateway_tasks_max=200).changed == {"gw": 2}
    assert host.check_output("systemctl show --property=TasksMax --value lockgate.service") == "200"
    assert lab.reaches(lab.switch(), ADDRESS, 15432)
    playbook.changes()
    assert host_key(lab) == known, "a listener that was gone for a while is the same host"


# --- versions -----------------------------------------------------------------------------------------------------------------------


def version(host: Host) -> str:
    """The release that the running process was started from."""
    return host.check_output(f"cat /proc/{pid(host)}/cmdline | tr '\\0' '\\n' | head -1").split("/")[4]


def test_an_upgrade_that_does_not_become_ready_goes_back_by_itself(host: Host, lab: Lab, playbook: Playbook) -> None:
    place = "/run/systemd/system/lockgate.service.d"
    before = version(host)
    write(host, f"{place}/60-test.conf", "[Service]\nExecStartPre=/bin/sh -c '! readlink /opt/lockgate/current | grep later'\n")
    said = failed(playbook(PLAYBOOKS / "upgrade.yml", {"gateway_wheels": str(SCENARIO / "wheels-later")}))
    assert "what ran before is in force again" in said, said
    assert version(host) == before
    assert from_outside(lab, host) == "200"
    host.check_output(f"rm -r {place} && systemctl daemon-reload")


def test_upgrade_and_rollback(host: Host, lab: Lab, playbook: Playbook) -> None:
    before, known = version(host), host_key(lab)
    later = {"gateway_wheels": str(SCENARIO / "wheels-later")}
    run = playbook(PLAYBOOKS / "upgrade.yml", later)
    assert run.status == 0, run.output
    assert version(host) == f"{before}+later"
    assert from_outside(lab, host) == "200"
    assert host_key(lab) == known
    assert playbook(PLAYBOOKS / "upgrade.yml", later).changed == {"gw": 0}
    run = playbook(PLAYBOOKS / "rollback.yml")
    assert run.status == 0, run.output
    assert version(host) == before
    assert from_outside(lab, host) == "200"
    assert playbook.changes().changed == {"gw": 0}
    recorded = [json.loads(line) for line in host.check_output("lockgate audit export").splitlines()]
    assert {one["version"] for one in recorded if one["kind"] == "gateway.start"} == {before, f"{before}+later"}
    assert host.run("lockgate audit verify").rc == 0
