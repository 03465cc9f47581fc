# SPDX-License-Identifier: Apache-2.0
"""How sessions end: window, length, idle time, revocation, policy, ``sessions end``, SIGTERM, SIGKILL; with a reason for both sides."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.testing.openssh import SshServer
from tests.peers.ssh.way import Way, running

FOREVER = "exec sleep 60 >/dev/null 2>&1"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, sshd: SshServer) -> Iterator[Way]:
    """A gateway of this module's."""
    with running(tmp_path_factory.mktemp("ends"), sshd) as made:
        made.appliance.token("ci-bot")
        yield made


@pytest.fixture
def own(shared: Way) -> Iterator[Way]:
    """As good as one of the test's own."""
    with shared.kept() as made:
        yield made


def begun(way: Way, *words: str, terminal: str = "-T") -> subprocess.Popen[bytes]:
    """A command that runs, and is recorded as running."""
    before = len(way.records("command.begin"))
    client = way.start(*words, before=[]) if words else way.start(before=[terminal])
    way.until(lambda: len(way.records("command.begin")) > before, "nothing began")
    time.sleep(0.5)                                # it is on record; at the target it begins now
    return client


def ended(way: Way, client: subprocess.Popen[bytes], why: bytes) -> str:
    """The client was told, and ended with 255; gives the reason that was recorded."""
    assert client.stderr is not None
    errors = client.stderr.read()                 # its standard input stays open
    assert client.wait(60) == 255
    client.communicate()
    assert b"lockgate: session ended: " in errors and why in errors, errors
    return str(way.last("session.end")["reason"])


def test_the_longest_duration(own: Way) -> None:
    own.grant("ssh")["session"] = {"max": "3s"}
    own.reload()
    assert ended(own, begun(own, FOREVER), b"longest duration") == "the session has reached its longest duration"
    assert own.last("command.end")["status"] == "cancelled"


@pytest.mark.parametrize("terminal", ["-T", "-tt"])
def test_an_idle_shell(own: Way, terminal: str) -> None:
    own.grant("ssh")["session"] = {"idle": "2s"}
    own.reload()
    assert ended(own, begun(own, terminal=terminal), b"idle for 2 s") == "idle"


def test_a_token_that_is_over_ends_its_session(own: Way) -> None:
    """``session: token`` of the issuer, which is the default; without it the session has a length of its own."""
    own.appliance.rewrite("policy/identities.yaml", {"leeway: 30s": "leeway: 0s", "session: 8h": "session: token"})
    own.reload()
    short = own.appliance.root / "short.token"
    own.appliance.run("token", "mint", "--as", "ci-bot", "--lifetime", "6s", "--out", str(short))
    own.variables()
    (own.appliance.root / "askpass-ci-bot").write_text(f"#!/bin/sh\ncat {short}\n")
    assert "token" in ended(own, begun(own, FOREVER), b"token")


def test_a_command_that_runs_is_not_idle(own: Way) -> None:
    own.grant("ssh")["session"] = {"idle": "1s"}
    own.reload()
    assert own.ssh("sleep 4").returncode == 0


def test_a_window_that_closes(own: Way) -> None:
    end = datetime.now(UTC) + timedelta(seconds=6)
    own.grant("ssh")["when"] = {"from": "2020-01-01T00:00:00Z", "until": end.isoformat(timespec="seconds").replace("+00:00", "Z")}
    own.reload()
    assert "window" in ended(own, begun(own, FOREVER), b"window")


def test_bytes_what_fits_is_delivered_first(own: Way) -> None:
    own.grant("ssh")["session"] = {"bytes": "100KiB"}
    own.reload()
    done = own.ssh("head -c 20000000 /dev/zero | tr '\\0' x", before=[])
    assert (done.returncode, len(done.stdout)) == (255, 102_400)
    assert b"has sent its 102400 bytes" in done.stderr
    assert own.last("session.end")["bytes"] == 102_400


def test_denials(own: Way, tmp_path: Path) -> None:
    own.grant("ssh")["session"] = {"denials": 2}
    own.reload()
    control = ["-o", "ControlMaster=auto", "-o", f"ControlPath={tmp_path}/c", "-o", "ControlPersist=30"]
    assert own.ssh("reboot", before=control).returncode == 126
    assert own.ssh("reboot", before=control).returncode in (126, 255)
    assert own.last("session.end")["reason"] == "2 denied commands"


def test_too_many_at_once(own: Way) -> None:
    own.grant("ssh")["session"] = {"concurrent": 1}
    own.reload()
    client = begun(own, FOREVER)
    refused = own.ssh("uptime", before=[])
    assert refused.returncode == 255
    assert b"ci-bot has 1 sessions on web-1 already" in refused.stderr
    client.kill()
    client.communicate()
    own.until(lambda: own.ssh("uptime").returncode == 0, "it is still counted")


@pytest.mark.parametrize("entry", ["identity", "subject"])
def test_an_identity_that_is_revoked_in_the_middle_t09(own: Way, entry: str) -> None:
    client = begun(own, FOREVER)
    start = own.last("session.start")
    revoked = {"identity": "ci-bot"} if entry == "identity" else {"issuer": "ci", "subject": start["subject"]}
    own.document["revoked"] = [revoked]
    own.reload()
    assert "revoked" in ended(own, client, b"revoked")
    assert own.ssh("uptime").returncode == 255


def test_an_identity_that_is_gone_t09(own: Way) -> None:
    client = begun(own)
    tunnel = own.start("-N", "-L", f"{own.appliance.root}/never:127.0.0.1:9", before=[])
    own.until(lambda: len(own.records("session.start")) == 2, "the tunnel did not begin")
    path = own.appliance.folder / "policy" / "identities.yaml"
    path.write_text(path.read_text().replace("project:payments/*:ref:main", "project:other/*:ref:main"))
    own.reload()
    assert "changed what admitted" in ended(own, client, b"changed what admitted")
    tunnel.communicate(timeout=60)
    assert tunnel.returncode == 255


def test_a_rule_that_is_gone_ends_what_it_let_run(own: Way) -> None:
    """The session goes on: other commands still may."""
    client = begun(own)
    grant = own.grant("ssh")
    grant["rules"] = [rule for rule in grant["rules"] if rule["name"] != "shells"]
    own.reload()
    assert client.stderr is not None
    errors = client.stderr.read()                 # its standard input stays open
    assert client.wait(60) == 126 and b"lockgate: denied: " in errors
    client.communicate()
    assert own.last("command.end")["status"] == "refused"
    assert own.ssh("uptime").returncode == 0


def test_sessions_end(own: Way) -> None:
    client = begun(own, FOREVER)
    session = own.last("session.start")["session"]
    own.appliance.run("sessions", "end", session, "--token-file", str(own.appliance.token_file("ines")))
    ended(own, client, b"ended by")


def test_sigterm_lets_a_command_finish(own: Way) -> None:
    client = begun(own, "sleep 3")
    stopping = own.appliance.pid
    own.appliance.stop()
    out, errors = client.communicate(timeout=60)
    assert (client.returncode, out) == (0, b""), errors
    own.appliance.start()
    assert own.appliance.pid != stopping
    assert own.last("command.end")["status"] == "ok"
    assert own.last("session.end")["reason"] == "the gateway is stopping"


def test_sigterm_ends_a_shell_once_its_time_is_over(tmp_path: Path, sshd: SshServer) -> None:
    def change(way: Way) -> None:
        way.appliance.rewrite("gateway.yaml", {"handshake: 10s": "handshake: 10s\n  drain: 2s"})

    with running(tmp_path / "gateway", sshd, change) as way:
        client = begun(way)
        way.appliance.stop()
        _, errors = client.communicate(timeout=60)
        assert client.returncode == 255 and b"lockgate: session ended: the gateway is stopping" in errors
        way.appliance.start()


def test_sigkill_leaves_commands_that_are_closed_as_orphaned(own: Way) -> None:
    client = begun(own, FOREVER)
    own.appliance.kill()
    client.communicate(timeout=60)
    assert client.returncode == 255
    own.appliance.start()
    assert own.ssh("uptime").returncode == 0
    own.last("command.end", status="ok")
    begins = {(one["session"], one["seq"]) for one in own.records("command.begin")}
    ends = {(one["session"], one["begin"]): one["status"] for one in own.records("command.end")}
    assert begins == set(ends)
    assert "orphaned" in ends.values()


def test_a_client_that_is_killed_ends_its_command(own: Way) -> None:
    client = begun(own, FOREVER)
    client.send_signal(signal.SIGKILL)
    client.communicate()
    assert own.last("command.end")["status"] == "cancelled"
    assert own.last("session.end")["reason"] == "the caller disconnected"
