# SPDX-License-Identifier: Apache-2.0
"""A booted host: up, found again, entered, down."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .base import base_tree
from .command import run
from .names import HERE, Attachment, LabError, Scenario
from .switches import plug_in, remove_switches, unplug

BOOT_SECONDS = 90.0
STOP_SECONDS = 20.0
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Process:
    """A process we started: a pid alone may be somebody else's by now, so its start time is kept with it."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, _started(pid))

    @property
    def alive(self) -> bool:
        return _started(self.pid) == self.started != ""

    def kill(self, number: int) -> None:
        if self.alive:
            os.kill(self.pid, number)


def _started(pid: int) -> str:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if after_name[0] == "Z" else after_name[19]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _supervisor(scenario: Scenario, host: str) -> Process | None:
    path = scenario.host_folder(host) / "host.json"
    if not path.exists():
        return None
    process = Process(**json.loads(path.read_text()))
    return process if process.alive else None


def leader(scenario: Scenario, host: str) -> int:
    """The host's PID 1, as the machine numbers it: supervisor, systemd-nspawn, leader."""
    supervisor = _supervisor(scenario, host)
    nspawn = _children(supervisor.pid)[:1] if supervisor else []
    leaders = _children(nspawn[0])[:1] if nspawn else []
    if not leaders:
        raise LabError(f"{host} of scenario {scenario.name} is not up")
    return leaders[0]


def enter(scenario: Scenario, host: str, argv: list[str]) -> list[str]:
    """The command that runs argv inside the host, with a clean environment."""
    clean = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    return ["nsenter", "--target", str(leader(scenario, host)), "--all", "--wdns=/root", "--", "env", "-i", *clean, *argv]


def up(scenario: Scenario, host: str, legs: list[Attachment], suite: str, variant: str, peers: dict[str, str]) -> None:
    """Boot a host and wait until systemd calls it running. A host that is up already is left alone. `peers` are names by address."""
    if _supervisor(scenario, host):
        return
    base = base_tree(suite, variant)
    plug_in(scenario, host, legs)
    folder = scenario.host_folder(host)
    _lay_out(scenario, host, folder, peers)
    with (folder / "console.log").open("wb") as console:
        child = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", sys.executable, str(HERE / "lab"), "supervise",
             scenario.machine(host), host, scenario.host_namespace(host), str(base), str(folder)],
            stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    process = Process.of(child.pid)
    (folder / "host.json").write_text(json.dumps({"pid": process.pid, "started": process.started}))
    wait_running(scenario, host)


def _lay_out(scenario: Scenario, host: str, folder: Path, peers: dict[str, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    upper = folder / "upper"
    for path in (upper / "etc/ssh", upper / "root/.ssh", folder / "work", folder / "root"):
        path.mkdir(parents=True)
    for path in (upper / "root", upper / "root/.ssh"):
        path.chmod(0o700)
    if not scenario.key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {scenario.name}", "-f", str(scenario.key))
    shutil.copy(scenario.key.with_suffix(".pub"), upper / "root/.ssh/authorized_keys")
    (upper / "etc/hostname").write_text(f"{host}\n")
    names = {"127.0.0.1": "localhost", "127.0.1.1": host, **peers}
    (upper / "etc/hosts").write_text("".join(f"{address} {name}\n" for address, name in names.items()))
    run("ssh-keygen", "-q", "-A", "-f", str(upper))


def wait_running(scenario: Scenario, host: str, seconds: float = BOOT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    state = "not started"
    while time.monotonic() < deadline:
        state = _state(scenario, host)
        if state == "running":
            return
        if state in ("degraded", "maintenance") or not _supervisor(scenario, host):
            break
        time.sleep(0.1)
    failed = _failed_units(scenario, host)
    console = (scenario.host_folder(host) / "console.log").read_text(errors="replace")[-2000:]
    raise LabError(f"{host} is {state}, not running\n{failed}\n{console}")


def _state(scenario: Scenario, host: str) -> str:
    try:
        return run(*enter(scenario, host, ["systemctl", "is-system-running"]), check=False).stdout.strip()
    except LabError:
        return "not started"


def _failed_units(scenario: Scenario, host: str) -> str:
    try:
        return run(*enter(scenario, host, ["systemctl", "--failed", "--no-pager", "--no-legend"]), check=False).stdout
    except LabError:
        return ""


def reboot(scenario: Scenario, host: str) -> None:
    before = leader(scenario, host)
    started = Process.of(before)
    run(*enter(scenario, host, ["systemctl", "--no-block", "reboot"]))
    deadline = time.monotonic() + STOP_SECONDS
    while started.alive and time.monotonic() < deadline:
        time.sleep(0.1)
    wait_running(scenario, host)


def down(scenario: Scenario, host: str) -> None:
    """Stop a host and take its traces away; harmless where it is half there or gone."""
    supervisor = _supervisor(scenario, host)
    if supervisor:
        _stop(scenario, host, supervisor)
    unplug(scenario, host)
    shutil.rmtree(scenario.host_folder(host), ignore_errors=True)


def _stop(scenario: Scenario, host: str, supervisor: Process) -> None:
    below = [Process.of(nspawn) for nspawn in _children(supervisor.pid)]
    try:
        os.kill(leader(scenario, host), signal.SIGRTMIN + 4)  # systemd: poweroff.target
    except LabError:
        supervisor.kill(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while supervisor.alive and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in [*below, supervisor]:  # systemd-nspawn takes its leader with it
        process.kill(signal.SIGKILL)


def down_all(scenario: Scenario) -> None:
    if scenario.folder.exists():
        for path in sorted(scenario.folder.iterdir()):
            if path.is_dir():
                down(scenario, path.name)
    remove_switches(scenario)
    shutil.rmtree(scenario.folder, ignore_errors=True)
