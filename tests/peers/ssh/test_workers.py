# SPDX-License-Identifier: Apache-2.0
"""With several workers SSH is served as with one: sessions, what is counted over all, approvals, ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.testing.openssh import SshServer
from tests.peers.ssh.way import HELD, Way, running


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, sshd: SshServer) -> Iterator[Way]:
    """A gateway with two workers."""
    def change(way: Way) -> None:
        way.appliance.rewrite("gateway.yaml", {"limits:\n": "workers: 2\nlimits:\n"})

    with running(tmp_path_factory.mktemp("workers"), sshd, change) as made:
        yield made


def test_commands_are_served_by_both(two: Way) -> None:
    def served() -> set[str]:
        assert two.ssh("uptime").returncode == 0
        return {one["origin"] for one in two.records("session.start")}

    two.until(lambda: served() == {"plant-a-1/1", "plant-a-1/2"}, "one of them serves nobody")


def test_what_is_held_is_voted_on_at_the_first_process(two: Way) -> None:
    client = two.start(f"{HELD} by a worker")
    held = two.vote()
    out, errors = client.communicate(timeout=60)
    assert (client.returncode, out) == (0, b"held")
    assert held["id"].encode() in errors


def test_a_session_of_a_worker_is_ended_and_a_policy_followed(two: Way) -> None:
    client = two.start(before=["-T"])
    session = two.last("command.begin", verb="shell")["session"]
    two.appliance.run("sessions", "end", session, "--token-file", str(two.appliance.token_file("ines")))
    assert client.stderr is not None
    assert b"lockgate: session ended: " in client.stderr.read()
    assert client.wait(60) == 255
    client.communicate()
    rules = two.grant("ssh")["rules"]
    two.grant("ssh")["rules"] = [rule for rule in rules if rule["name"] != "commands"]
    two.reload()
    assert two.ssh("uptime").returncode == 126
    two.grant("ssh")["rules"] = rules
    two.reload()
    assert two.ssh("uptime").returncode == 0
