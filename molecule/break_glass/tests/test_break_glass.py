# SPDX-License-Identifier: Apache-2.0
"""Somebody before the machine logs in for real: agetty, login, PAM, the recorder, a root shell."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from terminal import PASSWORD, PATIENCE, terminal
from testinfra.host import Host
from verify import Lab, Playbook

testinfra_hosts = ["lab://gw"]

GATEWAY = "10.88.8.11"
CONSOLE = "plant-a-1/console"
STATE = "/var/lib/lockgate-console"


def records(host: Host, *kinds: str) -> list[dict[str, Any]]:
    lines = host.check_output("lockgate audit export").splitlines()
    return [record for record in map(json.loads, lines) if not kinds or record["kind"] in kinds]


def soon(what: Callable[[], Any]) -> Any:
    """Its first true answer."""
    until = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.3)
    return found


def verified(host: Host) -> dict[str, Any]:
    done = host.run("lockgate audit verify --json")
    assert done.rc == 0, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)["origins"]
    return found


def alerts(host: Host) -> list[dict[str, str]]:
    said = host.check_output("journalctl --output=json --identifier=lockgate-break-glass --priority=alert --boot")
    return [json.loads(line) for line in said.splitlines()]


def recorders(host: Host) -> list[str]:
    units = host.check_output("systemctl list-units --plain --no-legend --state=running 'lockgate-break-glass@*'").splitlines()
    return [str(host.check_output("systemctl show --property=MainPID --value %s", line.split()[0])) for line in units]


@contextmanager
def without_network(host: Host) -> Iterator[None]:
    host.check_output("ip link set host0 down")
    try:
        yield
    finally:
        host.check_output("ip link set host0 up")


def test_t61_without_network_and_gateway(host: Host, lab: Lab) -> None:
    host.check_output("systemctl stop lockgate")
    with without_network(host), terminal() as person:
        assert not lab.reaches(lab.switch(), GATEWAY, 22)
        person.shell()
        person.run("id -u > /run/who-i-was; echo shown-$((6 * 7))")
        assert host.file("/run/who-i-was").content_string == "0\n"
        assert "shown-42" in person.seen
        begin = records(host, "break-glass.begin")[-1]
        person.type("exit\n")
        person.expect("session over: the shell ended with status 0")
        person.expect("login: ")
    assert (begin["origin"], begin["person"], begin["reason"]) == (CONSOLE, "Ines Example", "ticket 4711, the gateway hangs")
    assert (begin["tty"], begin["login"]) == ("pts/7", "breakglass")
    assert records(host, "break-glass.end")[-1]["status"] == "ok"
    assert verified(host)[CONSOLE]["recordings"] > 3
    assert [fields["LOCKGATE_EVENT"] for fields in alerts(host)][-2:] == ["break-glass.begin", "break-glass.end"]
    replayed = host.check_output("lockgate break-glass replay %s", begin["session"][:8])
    assert "shown-42" in replayed and "ticket 4711" in replayed

    host.check_output("systemctl start lockgate")
    seen = soon(lambda: [one for one in records(host, "break-glass.seen") if one["console_session"] == begin["session"]])
    assert {one["what"] for one in seen} >= {"break-glass.begin"} and seen[0]["origin"] == "plant-a-1"
    assert "lockgate_break_glass_begin_total" in host.check_output("curl --silent --insecure https://127.0.0.1:19443/metrics")


def test_t61_while_the_gateway_hangs(host: Host) -> None:
    """It holds its own log's lock and answers nothing."""
    main = host.check_output("systemctl show --property=MainPID --value lockgate")
    host.check_output("kill -STOP %s", main)
    try:
        with terminal() as person:
            person.shell(person="Sam Example", reason="the gateway answers nothing")
            person.run(f"kill -CONT {main}")
            person.type("exit\n")
            person.expect("session over")
    finally:
        host.run("kill -CONT %s", main)
    assert records(host, "break-glass.begin")[-1]["person"] == "Sam Example"
    soon(lambda: [one for one in records(host, "break-glass.seen") if one.get("person") == "Sam Example"])
    assert host.service("lockgate").is_running


def test_what_is_typed_and_shown_is_not_for_the_gateway(host: Host) -> None:
    assert host.run("runuser -u lockgate -- cat %s/recordings/*/*", STATE).rc != 0
    assert host.run("runuser -u lockgate -- cat %s/audit_ed25519_key", STATE).rc != 0
    assert host.run("runuser -u lockgate -- touch %s/audit/here", STATE).rc != 0
    assert host.run("runuser -u lockgate -- head -c1 %s/audit/000001.db", STATE).rc == 0
    done = host.run("runuser -u lockgate -- lockgate audit verify")
    assert done.rc == 0 and "not for this user to read" in done.stdout


def test_t61_not_over_ssh(host: Host, lab: Lab, tmp_path: Path) -> None:
    """With the right password."""
    script = tmp_path / "askpass"
    script.write_text(f"#!/bin/sh\necho '{PASSWORD}'\n")
    script.chmod(0o700)
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "NumberOfPasswordPrompts=1",
               "PreferredAuthentications=password,keyboard-interactive"]
    command = ["ip", "netns", "exec", lab.switch(), "ssh", "-tt", *(word for option in options for word in ("-o", option))]
    tried = subprocess.run([*command, f"breakglass@{GATEWAY}"], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                           env={**os.environ, "SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force"})
    assert tried.returncode == 255 and "Permission denied" in tried.stderr, tried
    assert "breakglass" in host.check_output("journalctl --boot --unit=ssh --grep='not allowed because'")


def test_t61_a_terminal_that_is_none_of_the_machines(host: Host) -> None:
    before = len(records(host, "break-glass.begin"))
    said = host.run("printf 'Sam Example\\nlet me in please\\n' | "
                    "runuser -u breakglass -- script -qc /usr/local/libexec/lockgate-break-glass /dev/null")
    assert "is not a terminal of this machine" in said.stdout
    assert len(records(host, "break-glass.begin")) == before
    assert records(host, "break-glass.refused")[-1]["user"] == int(host.check_output("id -u breakglass"))


def test_others_do_not_reach_the_recorder(host: Host) -> None:
    socket = "/run/lockgate-break-glass.sock"
    assert oct(host.file(socket).mode) == oct(0o660) and host.file(socket).group == "breakglass"
    ask = f"import socket; socket.socket(socket.AF_UNIX).connect('{socket}')"
    assert "PermissionError" in host.run("runuser -u lockgate -- python3 -c %s", ask).stderr


def test_a_wrong_password_is_on_record(host: Host) -> None:
    with terminal() as person:
        person.log_in("not in the envelope")
        person.expect("Login incorrect")
    said = host.check_output("journalctl --boot --output=cat --grep='breakglass' --case-sensitive=no --lines=40")
    assert "authentication failure" in said or "FAILED LOGIN" in said


def test_nothing_stated_no_shell(host: Host) -> None:
    before = len(records(host, "break-glass.begin"))
    with terminal() as person:
        person.log_in()
        person.expect("Your name: ")
        person.type("\n")
        person.expect("the name needs")
        person.type("\x03")
        person.expect("no session")
        person.expect("login: ")
    assert len(records(host, "break-glass.begin")) == before


def test_t61_a_killed_recorder_ends_the_shell_and_all_it_started(host: Host) -> None:
    with terminal() as person:
        person.shell(reason="killing the recorder")
        person.run("setsid sleep 54321 & sleep 12345 & disown -a")
        recorder, = recorders(host)
        host.check_output("kill -KILL %s", recorder)
        person.expect("session over: its recorder is gone")
        person.expect("login: ")
        end = soon(lambda: [one for one in records(host, "break-glass.end") if one["status"] == "orphaned"])[-1]
    assert end["begin"] == records(host, "break-glass.begin")[-1]["seq"]
    soon(lambda: host.run("pgrep -f 'sleep (54321|12345)'").rc == 1)
    assert alerts(host)[-1]["LOCKGATE_EVENT"] == "break-glass.orphaned"
    assert verified(host)[CONSOLE]


@contextmanager
def small_disk(host: Host) -> Iterator[None]:
    """The console's folder on a file system of 24 MiB, the reserve in it."""
    host.check_output("systemctl stop lockgate-break-glass.socket")
    host.check_output("mount -t tmpfs -o size=24m,mode=0755 small %s", STATE)
    try:
        host.check_output("systemctl restart lockgate-break-glass-settle")
        host.check_output("systemctl start lockgate-break-glass.socket")
        yield
    finally:
        host.check_output("umount --lazy %s", STATE)
        host.check_output("systemctl restart lockgate-break-glass-settle")


def fill(host: Host) -> None:
    host.run("cat /dev/zero > %s/filling", STATE)
    assert host.run("cp /etc/passwd %s/another", STATE).rc != 0
    host.run("rm -f %s/another", STATE)


def test_t61_a_full_disk(host: Host) -> None:
    with small_disk(host):
        reserve = host.file(f"{STATE}/reserve")
        assert reserve.size == 16 * 2**20
        fill(host)
        with terminal() as person:
            person.shell(reason="the disk is full")
            assert not reserve.exists
            begin = records(host, "break-glass.begin")[-1]
            person.run("echo still-recorded")
            person.type("exit\n")
            person.expect("session over")
            assert begin["reason"] == "the disk is full" and records(host, "break-glass.end")[-1]["begin"] == begin["seq"]
            host.check_output("rm -f %s/reserve", STATE)
            fill(host)
            count = len(records(host, "break-glass.begin"))
            person.break_glass(reason="no room at all")
            assert person.expect("no session", "break-glass:") == "no session"
            person.expect("login: ")
            assert len(records(host, "break-glass.begin")) == count
            assert alerts(host)[-1]["LOCKGATE_EVENT"] == "break-glass.refused"
            host.check_output("rm %s/filling", STATE)
            person.type("\n")
            person.shell(reason="there is room again")
            person.type("exit\n")
            person.expect("session over")
    assert verified(host)[CONSOLE]


def test_a_changed_bound_holds_for_the_next_session(host: Host, playbook: Playbook) -> None:
    assert playbook.changes(break_glass_max=60, break_glass_idle=5).changed["gw"] > 0
    with terminal() as person:
        person.shell(reason="does it end by itself")
        person.expect("session over: nothing was typed or shown for too long")
    begin, end = records(host, "break-glass.begin")[-1], records(host, "break-glass.end")[-1]
    assert end["status"] == "idle" and begin["until"][:16] <= time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 61))


def test_without_a_hash_there_is_no_break_glass(host: Host, playbook: Playbook) -> None:
    assert playbook.changes(break_glass_password_hash="").changed["gw"] > 0
    assert not host.service("lockgate-break-glass.socket").is_running
    assert host.check_output("passwd --status breakglass").split()[1] == "L"
    with terminal() as person:
        person.log_in()
        person.expect("Login incorrect")
    assert playbook("converge.yml", {}, []).changed["gw"] > 0
    assert host.service("lockgate-break-glass.socket").is_running


@pytest.mark.parametrize("unit", ["lockgate-break-glass.socket", "lockgate-break-glass-settle.service"])
def test_units_are_whole(host: Host, unit: str) -> None:
    assert host.run("systemd-analyze verify %s", f"/etc/systemd/system/{unit}").rc == 0
    assert host.service(unit).is_enabled
