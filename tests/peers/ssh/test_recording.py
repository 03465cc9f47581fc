# SPDX-License-Identifier: Apache-2.0
"""What a real session leaves behind: masked, typed, replayed, exported, watched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.testing.openssh import SshServer
from tests.peers import foreign
from tests.peers.ssh.way import QUIET, Way, running

SECRETS = "printf 'AKIA%s\\n' IOSFODNN7EXAMPLE; printf 'eyJhbGciOiJFZERTQSJ9.eyJz'; sleep 0.2; printf 'dWIiOiJyb2JvdCJ9.c2ln\\n'; exit 4"
SLOW = "for c in A K I A I O S F O D N N 7 E X A M P L E; do printf $c; sleep 0.05; done; echo"
BIG = "head -c 300000 /dev/zero | tr '\\0' y"
ATTACK = "printf '\\033]52;c;cm0=\\007\\033[31mred\\033[0m\\033[6n done\\n'"


def change(way: Way) -> None:
    """Detectors for ci-bot, and texts of these tests."""
    way.document["masks"] = [{"name": "keys", "detect": {"aws-access-key": "redact", "jwt": "redact"}}]
    grant = way.grant("ssh")
    grant["masks"] = ["keys"]
    texts = [SECRETS, SLOW, BIG, ATTACK, "echo ready; cat"]
    grant["rules"].append({"name": "more", "allow": {"ssh": {"actions": ["exec"], "text": texts}}})
    way.document["resources"][0]["recording"] = {"output": "256KiB"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, sshd: SshServer) -> Iterator[Way]:
    with running(tmp_path_factory.mktemp("recorded"), sshd, change) as made:
        yield made


def newest(way: Way) -> str:
    """The session that ran the newest command: what was masked in its text cannot be looked for."""
    return str(way.records("command.begin")[-1]["session"])


def test_output_is_masked_on_the_way_and_in_the_recording(recorded: Way) -> None:
    done = recorded.ssh(SECRETS)
    assert (done.returncode, done.stdout) == (4, b"****\neyJ****\n")
    found = newest(recorded)
    ended = recorded.last("command.end", session=found)
    assert ended["masked"] == 2
    shown = recorded.appliance.run("replay", found, "--speed", "0")
    assert "| ****" in shown
    assert "AKIAIOSFODNN7EXAMPLE" not in shown


def test_a_secret_that_arrives_byte_by_byte_on_a_terminal_is_masked(recorded: Way) -> None:
    done = recorded.ssh(SLOW, before=("-o", "LogLevel=ERROR", "-tt"))
    assert done.stdout == b"AKIA****\r\n"


def test_beyond_the_limit_sizes_and_a_digest_go_on(recorded: Way) -> None:
    done = recorded.ssh(BIG)
    assert done.stdout == b"y" * 300000
    found = newest(recorded)
    assert recorded.records("command.output")
    recorded.last("command.end", session=found)
    listed = [json.loads(line) for line in recorded.appliance.run("replay", found, "--json").splitlines()]
    rows = [row for one in listed if isinstance(one.get("sample"), dict) for row in one["sample"]["terminal"]]
    assert sum(len(row[2]) for row in rows if row[1] == "o") == 256 * 1024
    assert [row[1] for row in rows][-3:] == ["z", "h", "x"]


def test_a_replay_and_its_exports_cannot_attack_the_viewer_t53(recorded: Way, tmp_path: Path) -> None:
    recorded.ssh(ATTACK)
    found = newest(recorded)
    assert "\x1b" not in recorded.appliance.run("replay", found)
    for form, version in (("asciicast-v2", 2), ("asciicast-v3", 3)):
        file = tmp_path / f"{form}.cast"
        recorded.appliance.run("replay", found, "--export", form, str(file))
        head, *rows = map(json.loads, file.read_text().splitlines())
        assert head["version"] == version
        drawn = "".join(row[2] for row in rows if row[1] == "o")
        assert drawn.startswith("\x1b[31mred\x1b[0m done")
        if version == 2:            # what asciinema 2 knows
            played = subprocess.run([sys.executable, "-m", "asciinema", "cat", str(file)], capture_output=True, timeout=60, check=True)
            assert played.stdout == drawn.encode()
        shown = json.loads(foreign.run(foreign.player(), str(file), environment={}))          # knows both
        assert shown["output"] == drawn
        assert shown["duration"] >= 0


def test_variables_are_of_the_recording_and_masked_like_the_rest(recorded: Way) -> None:
    """What was asked for and is no matter of policy, or allowed by it."""
    given = "SetEnv=LC_SHOWN=AKIAIOSFODNN7EXAMPLE LC_OTHER=plain"
    assert recorded.ssh("uptime", before=(*QUIET, "-tt", "-o", given)).returncode == 0
    found = newest(recorded)
    recorded.last("command.end", session=found)
    listed = [json.loads(line) for line in recorded.appliance.run("replay", found, "--json").splitlines()]
    rows = [row for one in listed if isinstance(one.get("sample"), dict) for row in one["sample"]["terminal"]]
    assert [row[2] for row in rows if row[1] == "v"] == ["LC_SHOWN=****", "LC_OTHER=plain"]
    assert json.loads(rows[0][2]).keys() == {"term", "cols", "rows"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_person_watches_a_live_session(tmp_path: Path, sshd: SshServer, workers: int) -> None:
    def several(way: Way) -> None:
        change(way)
        path = way.appliance.folder / "gateway.yaml"
        path.write_text(path.read_text() + f"workers: {workers}\n")

    with running(tmp_path, sshd, several) as way:
        with way.start("echo ready; cat") as running_session:
            assert running_session.stdin is not None
            assert running_session.stdout is not None
            assert running_session.stdout.readline() == b"ready\n"
            found = newest(way)
            with watching(way, found) as watcher:
                assert watcher.stdout is not None
                way.last("session.watched", session=found)
                assert "session" in read(watcher)
                running_session.stdin.write(b"AKIAIOSFODNN7EXAMPLE shown\n")
                running_session.stdin.flush()
                row = read(watcher)
                assert row["event"][1:] == ["o", "**** shown\n"]
                running_session.stdin.close()
                assert running_session.wait(60) == 0
                while "end" not in (row := read(watcher)):
                    assert row["event"][1] == "x"
                assert row["end"] == "the session is over"
                assert watcher.wait(60) == 0
        assert way.last("session.watched")["identity"] == "ines"


def watching(way: Way, session: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gateway.cli", "sessions", "watch", session[:12], "--json", "--config", str(way.appliance.folder),
               "--token-file", str(way.appliance.token_file("ines"))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def read(watcher: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line that says something."""
    assert watcher.stdout is not None
    while True:
        line = watcher.stdout.readline()
        assert line, "the watcher ended"
        if (row := json.loads(line)) != {}:
            return dict(row)
