# SPDX-License-Identifier: Apache-2.0
"""Somebody on the booted machine whom the gateway tells of held statements, and a firewall that follows what a test changes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from tests.vm.machine import Machine

PORT = 8099
URL = f"http://[::1]:{PORT}/held"
UNIT = "lockgate-test-webhook"
FOLLOW = "sudo systemctl reload-or-restart lockgate-network.service"
TAKES = f"""
import socket
server = socket.create_server(("::1", {PORT}), family=socket.AF_INET6)
while True:
    caller, _ = server.accept()
    said = b""
    while not said.endswith(b"}}"):
        said += caller.recv(65536)
    caller.sendall(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
    caller.close()
    print(said.rpartition(b"\\n")[2].decode(), flush=True)
"""


@contextmanager
def told(machine: Machine) -> Iterator[str]:
    """What is posted to ``URL`` goes to the journal; the command that shows it."""
    machine.says(f"sudo systemd-run --quiet --collect --unit={UNIT} python3 -I -c {shlex.quote(TAKES)}")
    try:
        yield f"sudo journalctl --unit={UNIT} --output=cat --no-pager"
    finally:
        machine.ssh(f"sudo systemctl stop {UNIT}.service")


@contextmanager
def followed(machine: Machine) -> Iterator[None]:
    """When everything inside is taken back, firewall and gateway go by the files as they are then."""
    try:
        yield
    finally:
        machine.ssh(f"{FOLLOW} && sudo systemctl reload lockgate.service")
