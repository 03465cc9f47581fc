# SPDX-License-Identifier: Apache-2.0
"""Machines that nobody may get into: a root with one bit changed, and one that was told nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from image.release import ROOT
from tests.terraform.site import Site
from tests.vm import image as images
from tests.vm.conftest import told
from tests.vm.machine import BOOT_SECONDS, MAC, Machine, progress
from tests.vm.network import GATEWAY, Network

pytestmark = pytest.mark.full

CHANGED = "/usr/sbin/nft"
"""Whoever could make this one unreadable would have a gateway without its firewall."""


@contextmanager
def ended(machine: Machine) -> Iterator[Machine]:
    try:
        yield machine
    finally:
        machine.stop()
        progress("stopped")


def change_one_bit(machine: Machine, image: images.Image, program: str) -> None:
    """In the machine's own layer, where ``program`` lies in slot A."""
    said = _says("dump.erofs", f"--path={program}", "-e", str(image.file("root")))
    found = re.search(r"^\s*0:.*\|.*:\s*(\d+)\.\.\s*\d+ \|", said, re.MULTILINE)
    assert found, said
    parts = _says("partx", "-g", "-o", "START,NAME", str(image.disk)).splitlines()
    start = min(int(line.split()[0]) for line in parts if line.split()[1] == f"lockgate_{image.version}")
    at = start * 512 + int(found[1]) // 512 * 512
    with image.disk.open("rb") as disk:
        disk.seek(at)
        sector = bytearray(disk.read(512))
    sector[100] ^= 1
    changed = machine.folder / "sector"
    changed.write_bytes(sector)
    _says("qemu-io", "-f", "qcow2", "-c", f"write -q -s {changed} {at} 512", str(machine.layer))


def _says(*command: str) -> str:
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


@contextmanager
def addresses_given_out(network: str) -> Iterator[None]:
    """A DHCP server: without an address nothing would answer anyhow."""
    options = ["--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=switch", "--leasefile-ro", "--user=root"]
    command = ["ip", "netns", "exec", network, "dnsmasq", *options, f"--dhcp-range={GATEWAY},{GATEWAY},255.255.255.0,1h"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.kill()


def test_a_root_with_one_bit_changed_does_not_run(image: images.Image, wire: Network, site: Site, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", wire, image.disk, site.key, told(site))
    machine.prepare()
    change_one_bit(machine, image, CHANGED)
    with ended(machine):
        machine.start()
        machine.wait("the kernel's refusal", lambda: "dm-verity device corrupted" in machine.shown(), BOOT_SECONDS)
        assert "is corrupted" in machine.shown()
        assert "Kernel panic" in machine.shown()
        until = time.monotonic() + 20
        while time.monotonic() < until:
            assert machine.ssh("true", seconds=60).returncode != 0


def has_address(namespace: str) -> bool:
    """Whether it answers who has it, which no firewall hides."""
    knock = ["ip", "netns", "exec", namespace, sys.executable, "-m", "tests.vm.scan", GATEWAY, "22-22"]
    subprocess.run(knock, cwd=ROOT, check=True, capture_output=True)
    return MAC in _says("ip", "-n", namespace, "neighbour", "show", GATEWAY)


def test_a_machine_that_was_told_nothing_lets_nobody_in(image: images.Image, wire: Network, site: Site, tmp_path: Path) -> None:
    with addresses_given_out(wire.controller), ended(Machine(tmp_path / "machine", wire, image.disk, site.key)) as machine:
        machine.start()
        machine.wait("a login prompt on the console", lambda: "login:" in machine.shown(), BOOT_SECONDS)
        assert "management stays closed" in machine.shown()
        machine.wait("its address", lambda: has_address(wire.controller), 300)
        command = ["ip", "netns", "exec", wire.controller, sys.executable, "-m", "tests.vm.scan", GATEWAY, "1-65535", "2000"]
        assert json.loads(subprocess.run(command, cwd=ROOT, check=True, text=True, capture_output=True, timeout=1800).stdout) == []
