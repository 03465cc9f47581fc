# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin of the verify step.

`lab://NAME` is a testinfra host that needs neither the host's network nor its sshd. A module says which hosts its `host` is:

    testinfra_hosts = ["lab://gw"]

Fixtures: `lab` gives any host by name and looks from the networks; `playbook` runs a playbook on the scenario's inventory again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import testinfra
import testinfra.backend
from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

LAB = Path(__file__).resolve().parent / "lab"
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()
except OSError as error:
    sys.exit(str(error))
"""


def scenario_name() -> str:
    return os.environ["MOLECULE_SCENARIO_NAME"]


class LabBackend(BaseBackend):  # type: ignore[misc]  # testinfra ships no types
    """Commands in a booted lab host, as root."""

    NAME = "lab"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.name = name
        super().__init__(name, *args, **kwargs)

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        inside = self.get_command(command, *args)
        done = self.run_local("%s exec --scenario %s %s /bin/sh -c %s", str(LAB), scenario_name(), self.name, inside)
        done.command = self.encode(inside)
        return done


testinfra.backend.BACKENDS["lab"] = f"{__name__}.{LabBackend.__name__}"


class Lab:
    """The scenario's hosts, and its networks as somebody on them sees them."""

    def host(self, name: str) -> Host:
        return testinfra.get_host(f"lab://{name}")

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A command of the `lab` program."""
        verb, *rest = argv
        return subprocess.run([str(LAB), verb, "--scenario", scenario_name(), *rest], capture_output=True, text=True, check=True)

    def switch(self, name: str = "lan") -> str:
        """The network namespace of a switch, where the controller stands."""
        return f"lg-{scenario_name()}-sw-{name}"

    def reaches(self, namespace: str, address: str, port: int, seconds: float = 2.0) -> bool:
        """Whether a TCP connection out of that namespace is taken: `lab.switch()` or `lab.namespace(HOST)`."""
        argv = ["ip", "netns", "exec", namespace, "python3", "-c", CONNECT, address, str(port), str(seconds)]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def namespace(self, host: str) -> str:
        return f"lg-{scenario_name()}-{host}"


@dataclass(frozen=True)
class Run:
    """How a playbook went."""

    status: int
    output: str
    changed: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, output: str) -> Run:
        recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", output, re.MULTILINE)
        changed = {host: int(count) for host, count, _, _ in recap}
        return cls(status, output, changed, {host: int(down) + int(failed) for host, _, down, failed in recap})


class Playbook:
    """Runs playbooks on the scenario's inventory, as `molecule converge` does."""

    def __call__(self, path: str | Path = "", variables: Mapping[str, Any] | None = None, options: Sequence[str] = ()) -> Run:
        """`path` is relative to the scenario; without one it is converge.yml. `variables` are extra variables and win over all others."""
        scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
        inventory = str(Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent)
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as extra:  # 0600, and no secret in the list of processes
            json.dump(dict(variables or {}), extra)
            extra.flush()
            argv = ["ansible-playbook", "--inventory", inventory, "--extra-vars", f"@{extra.name}", *options]
            argv.append(str(scenario / (path or "converge.yml")))
            done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment)
        return Run.of(done.returncode, done.stdout + done.stderr)

    def changes(self, **variables: Any) -> Run:
        """Converge with these variables changed; it must succeed."""
        run = self("", variables)
        assert run.status == 0, run.output
        return run


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()


@pytest.fixture(scope="session")
def playbook() -> Playbook:
    return Playbook()
