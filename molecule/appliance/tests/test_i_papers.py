# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/operating.md that are for a gateway, as they are written there (tests/contract/operating.yaml lists them)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from segment import MANAGEMENT, Segment, Session
from testinfra.host import Host
from verify import Lab

testinfra_hosts = ["lab://gw"]
REGISTERED: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "tests/contract/operating.yaml").read_text())
PRINTS = {
    "lockgate network": "resource orders-db", "nft list set": "10.88.12.12 . 5432", "nft list counters": "counter dropped_in",
    "systemctl status": "active (exited)", "cat ": "IPAddressAllow=10.88.12.12", "lockgate sessions list": "ci-bot",
    "lockgate sessions show": "ci-bot", "lockgate search": "customers", "lockgate audit head": "gw",
    "lockgate audit export --since": '"seq":', "lockgate audit export |": '"reason"',
}  # fmt: skip
DONE = {"sudo -u lockgate lockgate doctor": (0, 1)}
"""1: it found something of severity high. That it looked is what is asked here."""


@pytest.fixture(scope="module")
def caller() -> Iterator[Session]:
    """Somebody at work."""
    with Session("client") as session:
        assert session.ask("select count(*) from customers").rows == ["3"]
        yield session


@pytest.fixture(scope="module")
def words(lab: Lab, segment: Segment, caller: Session) -> dict[str, str]:
    """What stands for what on the page."""
    gateway = lab.host("gw")
    gateway.check_output("mkdir -p /root/papers && cd /root/papers && lockgate audit head > head-of-yesterday")
    for person in ("ines", "dana"):
        segment.write("gw", f"/root/papers/{person}.token", segment.token(person))
    segment.psql("client", "select 1", "host=gw hostaddr=10.88.11.11 port=15432 user=ci dbname=no-such-db sslmode=require")
    open_ones = [json.loads(line) for line in gateway.check_output("lockgate sessions list --open --json").splitlines()]
    flat = [one for document in open_ones for one in (document if isinstance(document, list) else [document])]
    return {" ID": f" {flat[-1]['id']}", "ORIGIN:SEQ": "gw:1"}


def filled(command: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        command = command.replace(word, value)
    return command


@pytest.mark.parametrize("command", REGISTERED["on_the_gateway"])
def test_on_the_gateway(host: Host, words: dict[str, str], command: str) -> None:
    done = host.run("sh -c %s", f"cd /root/papers && {{ {filled(command, words)}\n}}")
    assert done.rc in DONE.get(command, (0,)), (done.stdout, done.stderr)
    for beginning, printed in PRINTS.items():
        if command.startswith(beginning) and ">" not in command:
            assert printed in done.stdout, done.stdout


def test_the_last_command_ended_somebodys_work(caller: Session) -> None:
    try:
        assert caller.ask("select 1").code == "57P01"
    except EOFError as gone:
        assert "57P01" in str(gone) or "terminat" in str(gone) or "leaked token" in str(gone)


def test_what_an_auditor_gets_is_enough(host: Host) -> None:
    """The public key that the page extracts vouches for the export, against the head that was kept."""
    host.check_output("cd /root/papers && lockgate audit export > log.jsonl")
    console = "/var/lib/lockgate-console/audit_ed25519_key.pub"
    verified = host.run(f"cd /root/papers && lockgate audit verify log.jsonl --key audit.pub --key {console} --anchor head-of-today")
    assert verified.rc == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize("command", REGISTERED["over_ssh"])
def test_over_ssh(segment: Segment, tmp_path: Path, command: str) -> None:
    """Catalogs come by way of the gateway's account: nobody else there reaches a target."""
    schemas = tmp_path / "inventories/plants/segments/plant-a/policy/schemas"
    schemas.mkdir(parents=True)
    proxy = f"ip netns exec {segment.lab.switch('management')} socat - TCP:%h:%p"
    (tmp_path / "config").write_text(
        f"Host gw-a-1\n  HostName {MANAGEMENT}\n  ProxyCommand {proxy}\n  IdentityFile {segment.world}/ops\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {tmp_path}/known_hosts\n  StrictHostKeyChecking accept-new\n")
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path}/config "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    written = command.replace("stock-db", "orders-db")
    done = subprocess.run(["bash", "-c", written], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "customers" in (schemas / "orders-db.json").read_text()
