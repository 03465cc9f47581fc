# SPDX-License-Identifier: Apache-2.0
"""What is kept, as the host keeps it. The kernel's audit log is the machine's and not a container's: the VM shows it live; here
auditctl takes every rule as far as the kernel."""

from __future__ import annotations

import os
import re
from pathlib import Path

from evidence import unmet
from testinfra.host import Host
from verify import Lab, Playbook

testinfra_hosts = ["lab://gw"]

RULES = "/etc/audit/rules.d/50-audit-host.rules"
# How auditctl says that a rule was understood and handed to a kernel that does not take it from a container.
UNDERSTOOD = "Error sending add rule data request (Operation not permitted)"


def journal_says(host: Host) -> str:
    """journald's own words on its limits, since its last start."""
    pid = host.check_output("systemctl show --property MainPID --value systemd-journald")
    return str(host.check_output("journalctl --no-pager --output cat _PID=%s", pid))


def rejected(host: Host, rules: list[str]) -> list[str]:
    host.check_output("printf '%%s\\n' %s > /root/probe.rules", "\n".join(["-c", *rules]))
    told = host.run("auditctl -R /root/probe.rules").stderr
    complaints = [line for line in told.splitlines() if line and line != UNDERSTOOD and not line.startswith("There was an error in line")]
    assert told.count(UNDERSTOOD) + len(complaints) >= len(rules), told
    return complaints


def rules_in(host: Host, path: str) -> list[str]:
    return [line for line in host.file(path).content_string.splitlines() if line.startswith("-a ")]


def test_the_host_runs(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"


def test_the_journal_survives_a_restart(host: Host, lab: Lab) -> None:
    host.check_output("logger --tag probe 'written before'")
    host.check_output("journalctl --sync")
    lab.run("reboot", "gw")
    assert "written before" in host.check_output("journalctl --no-pager --identifier probe --boot=-1")


def test_the_journal_is_bounded(host: Host) -> None:
    assert re.search(r"System Journal \(/var/log/journal/\w+\) is .*, max 200(\.0)?M", journal_says(host))


def test_one_service_cannot_flood_it(host: Host) -> None:
    host.check_output("systemd-run --quiet --wait --unit flood sh -c 'seq 1 15000'")
    host.check_output("journalctl --sync")
    assert int(host.check_output("journalctl --no-pager --output cat --unit flood | grep -cE '^[0-9]+$'")) < 15000


def test_the_journal_is_sealed_with_a_key_that_is_elsewhere(host: Host) -> None:
    kept = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "gw.seal")
    assert kept.stat().st_mode & 0o777 == 0o600
    host.check_output("journalctl --rotate")
    verdict = host.run("journalctl --verify --verify-key=%s", kept.read_text().strip())
    assert verdict.rc == 0, verdict.stderr
    assert "PASS" in verdict.stderr + verdict.stdout
    assert host.run("grep --recursive --files-with-matches %s /etc /var/log /root", kept.read_text().strip()).rc == 1


def test_every_rule_is_understood(host: Host) -> None:
    rules = rules_in(host, RULES)
    assert len(rules) > 25
    assert rejected(host, rules) == []
    assert rejected(host, [rules[0], "-a always,exit -F arch=b64 -S no_such_call -F key=x"]), "the check itself finds an error"


def test_rules_speak_of_folders_that_are_there(host: Host) -> None:
    for folder in re.findall(r"-F dir=(\S+)", "\n".join(rules_in(host, RULES))):
        assert host.file(folder).is_directory, folder
    assert host.file("/var/lib/lockgate-credentials").mode == 0o700


def test_what_matters_is_watched(host: Host) -> None:
    watched = re.findall(r"-F (?:dir|path)=(\S+)", "\n".join(rules_in(host, RULES)))
    for path in (
        "/etc/lockgate", "/var/lib/lockgate-config", "/var/lib/lockgate-credentials", "/opt/lockgate", "/etc/nftables.conf",
        "/etc/systemd/system", "/etc/apparmor.d", "/etc/sudoers.d", "/etc/ssh", "/etc/shadow", "/usr/local/bin/lockgate",
    ):  # fmt: skip
        assert path in watched


def test_rules_assemble_with_the_lock_last(host: Host) -> None:
    """As augenrules puts them together at boot."""
    host.run("augenrules --load")  # its last step, loading, is refused here
    assembled = host.file("/etc/audit/audit.rules").content_string.split("\n")
    lines = [line for line in assembled if line and not line.startswith("#")]
    assert lines[0] == "-D"
    assert lines[-1] == "-e 2"


def test_auditd_waits_for_a_machine(host: Host) -> None:
    assert host.check_output("systemctl is-enabled auditd") == "enabled"
    assert host.check_output("systemctl show --property ConditionResult --value auditd") == "no"
    assert "max_log_file_action = ROTATE" in host.file("/etc/audit/auditd.conf").content_string


def test_a_dry_run_finds_nothing_to_do(host: Host, playbook: Playbook) -> None:
    assert not host.service("auditd").is_running
    run = playbook("", {}, ["--check", "--diff"])
    assert run.status == 0, run.output
    assert run.changed == {"gw": 0}, run.output
    assert "auditd does not run here" in run.output


def test_the_register_of_controls_tells_the_truth(host: Host) -> None:
    assert unmet(host, "audit_host") == {}


def test_changed_inputs_reach_what_runs(host: Host, playbook: Playbook) -> None:
    pid = host.check_output("systemctl show --property MainPID --value systemd-journald")

    run = playbook.changes(
        journal_max_use="300M", audit_host_immutable=False, audit_host_programs=["/usr/local/bin/lockgate", "/usr/bin/true"]
    )

    assert host.check_output("systemctl show --property MainPID --value systemd-journald") != pid
    assert re.search(r"System Journal \(/var/log/journal/\w+\) is .*, max 300(\.0)?M", journal_says(host))
    assert "path=/usr/bin/true" in host.file(RULES).content_string
    assert "\n-e 2" not in host.file(RULES).content_string
    assert Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "gw.seal").read_text().strip() not in run.output


def test_a_disabled_control_that_does_not_exist_is_refused(playbook: Playbook) -> None:
    run = playbook("", {"audit_host_disabled_controls": ["AUD-99"]})
    assert run.status != 0
    assert "AUD-99" in run.output
