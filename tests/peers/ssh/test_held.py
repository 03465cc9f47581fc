# SPDX-License-Identifier: Apache-2.0
"""Approvals as a native client sees them: held, approved, denied, withdrawn, not waited for."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from gateway.testing.postgres import free_port
from tests.peers.ssh.test_openssh import Echo, ask
from tests.peers.ssh.way import HELD, QUIET, Way


def test_a_held_command_is_told_of_and_runs_once_it_is_approved(way: Way) -> None:
    client = way.start(f"{HELD} first")
    held = way.vote()
    assert (held["text"], held["protocol"], held["resource"], held["identity"]) == (f"{HELD} first", "ssh", "web-1", "ci-bot")
    out, errors = client.communicate(timeout=60)
    assert (client.returncode, out) == (0, b"held")
    assert errors.startswith(b"lockgate: held: ") and held["id"].encode() in errors and b"dba" in errors
    assert way.last("command.begin", approval=held["id"])["decision"]["effect"] == "approve"


def test_a_command_that_is_not_approved(way: Way) -> None:
    client = way.start(f"{HELD} second")
    way.vote("deny")
    out, errors = client.communicate(timeout=60)
    assert (client.returncode, out) == (126, b"") and b"lockgate: denied: " in errors


def test_a_caller_that_goes_away_withdraws(way: Way) -> None:
    client = way.start(f"{HELD} third")
    way.until(lambda: bool(way.pending()), "nothing is held")
    held = way.pending()[0]
    client.send_signal(signal.SIGKILL)
    client.communicate()
    assert way.last("approval.withdrawn", id=held["id"])
    assert way.last("command.end", status="withdrawn")


def test_nothing_the_caller_types_reaches_the_target_before_the_vote(way: Way, tmp_path: Path) -> None:
    client = way.start(f"{HELD} fourth", before=[*QUIET, "-tt"])
    assert client.stdin is not None
    client.stdin.write(b"echo typed too early > /tmp/lockgate-test-early\n")
    client.stdin.flush()
    way.vote("deny")
    client.communicate(timeout=60)
    assert client.returncode == 126
    assert not Path("/tmp/lockgate-test-early").exists()


def test_a_caller_that_does_not_wait(way: Way) -> None:
    """Exit status 75; the identical command again, once it is approved, runs; another environment is another command."""
    before = [*QUIET, "-o", "SetEnv=LOCKGATE_WAIT=off"]
    first = way.ssh(f"{HELD} fifth", before=before)
    assert first.returncode == 75
    held = way.pending()[0]
    assert held["id"].encode() in first.stderr
    assert way.ssh(f"{HELD} fifth", before=before).returncode == 75
    way.vote()
    assert way.ssh(f"{HELD} fifth", before=[*before, "-t", "-t"]).returncode == 75
    again = way.ssh(f"{HELD} fifth", before=before)
    assert (again.returncode, again.stdout) == (0, b"held")
    assert way.ssh(f"{HELD} fifth", before=before).returncode == 75
    way.vote("deny")
    for one in way.pending():
        way.appliance.run("approvals", "deny", one["id"], "--reason", "tested", "--token-file", str(way.appliance.token_file("ines")))


def test_a_held_shell_takes_nothing_before_the_vote(way: Way) -> None:
    """What is typed meanwhile waits in the caller's window, and comes afterwards."""
    rules = way.grant("ssh")["rules"]
    rules.append({"name": "held-shell", "approve": {"ssh": {"actions": ["shell"]}}, "by": "one-dba"})
    way.reload()
    try:
        client = way.start(before=[*QUIET, "-T"])
        assert client.stdin is not None
        client.stdin.write(b"echo typed early; exit 4\n")
        client.stdin.flush()
        held = way.vote()
        assert (held["text"], held["protocol"]) == ("shell", "ssh")
        out, errors = client.communicate(timeout=60)
        assert (client.returncode, out) == (4, b"typed early\n")
        assert errors.startswith(b"lockgate: held: ")
    finally:
        rules.pop()
        way.reload()


def test_of_two_held_channels_each_is_told_of_its_own(way: Way, tmp_path: Path) -> None:
    control = [*QUIET, "-o", "ControlMaster=auto", "-o", f"ControlPath={tmp_path}/c", "-o", "ControlPersist=30"]
    assert way.ssh("uptime", before=control).returncode == 0
    clients = {name: way.start(f"{HELD} {name}", before=control) for name in ("one", "two")}
    way.until(lambda: len(way.pending()) == 2, "two should be held")
    ids = {one["text"].rpartition(" ")[2]: one["id"] for one in way.pending()}
    for one in ids.values():
        way.appliance.run("approvals", "approve", one, "--reason", "tested", "--token-file", str(way.appliance.token_file("ines")))
    for name, client in clients.items():
        out, errors = client.communicate(timeout=60)
        assert (client.returncode, out) == (0, b"held")
        assert ids[name].encode() in errors
    way.client("ssh", *way.options(), *control, "-O", "exit", "web-1@127.0.0.1")


def test_a_held_forward_opens_once_it_is_approved(way: Way) -> None:
    """The client's connection waits; refused, it is closed."""
    echo, port = Echo(), free_port()
    rule = next(one for one in way.grant("ssh")["rules"] if one["name"] == "held-tunnel")
    rule["approve"]["ssh"]["to"] = [f"127.0.0.1:{echo.port}"]
    way.reload()
    try:
        tunnel = way.start("-N", "-L", f"{port}:127.0.0.1:{echo.port}")
        voting = threading.Thread(target=way.vote)
        voting.start()
        assert ask(("127.0.0.1", port)) == b"HELLO"
        voting.join(60)
        tunnel.terminate()
        tunnel.communicate(timeout=60)
    finally:
        rule["approve"]["ssh"]["to"] = ["127.0.0.1:9"]
        way.reload()
        echo.close()
