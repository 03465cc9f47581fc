# SPDX-License-Identifier: Apache-2.0
"""Collecting from a gateway that serves: killed half-way and run again, nothing is lost or doubled."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.independent_verify import check, read_note
from tests.peers.gateway import Appliance
from tests.unit.roles.playbook import LOCKGATE, play, variables, written


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Appliance]:
    appliance = Appliance(tmp_path / "gw")
    appliance.prepare("127.0.0.1:1")
    with appliance:
        yield appliance


def settings(appliance: Appliance, root: Path, piece: int) -> dict[str, object]:
    return {"audit_collect_destination": str(root / "held"), "audit_collect_command": [LOCKGATE],
            "audit_collect_config": str(appliance.folder), "audit_collect_piece_bytes": piece,
            "audit_collect_key_files": [str(appliance.folder / "tls" / "audit_ed25519_key")]}


def make_records(appliance: Appliance, count: int) -> None:
    """Each good reload is a ``policy.loaded`` and a checkpoint."""
    for _ in range(count):
        appliance.reload()
        time.sleep(0.02)
    time.sleep(1.2)


def kill_all(pid: int) -> None:
    """A process and all that came from it, at once as a power cut would: Ansible's workers have sessions of their own."""
    os.kill(pid, signal.SIGSTOP)
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    for child in children:
        kill_all(child)
    os.kill(pid, signal.SIGKILL)


def test_a_collection_killed_half_way_goes_on(serving: Appliance, tmp_path: Path) -> None:
    make_records(serving, 60)
    held = tmp_path / "held" / "gw-1"
    command = written(tmp_path, "audit_collect", {"gw-1": {}}, settings(serving, tmp_path, 200))
    with subprocess.Popen(command, env=variables(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as run:
        deadline = time.monotonic() + 60
        while not (held / "records-000003.jsonl").exists() and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        kill_all(run.pid)
    taken = sum(len(path.read_bytes().splitlines()) for path in held.glob("records-*.jsonl"))
    size = json.loads(serving.run("audit", "head", "--json"))["note"].split("\n")[1]
    assert 0 < taken < int(size)
    make_records(serving, 3)
    done = play(tmp_path, "audit_collect", settings(serving, tmp_path, 8_000_000))
    assert (done.status, done.changed) == (0, {"gw-1": 1}), done.text
    content = b"".join(path.read_bytes() for path in sorted(held.glob("records-*.jsonl")))
    assert serving.run("audit", "export").encode().startswith(content)
    public = base64.b64decode((held / "audit.pub").read_text().split()[1])[-32:]
    anchor = read_note((held / "head").read_text(), public)
    last, vouched = check(content.splitlines(), public, [anchor])[anchor[0]]
    assert last >= vouched > taken
    serving.run("audit", "verify", "--anchor", str(held / "head"))
