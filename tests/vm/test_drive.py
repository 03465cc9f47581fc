# SPDX-License-Identifier: Apache-2.0
"""A machine that is told who it is by a config drive: a disc first, then, as it begins again, a small disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.terraform.site import Site
from tests.vm import image as images
from tests.vm.conftest import NAME, told
from tests.vm.machine import Machine, progress
from tests.vm.network import Network

pytestmark = pytest.mark.full

OTHER_NAME = "gw-vm-2"
READY = "systemctl is-active lockgate-firstboot lockgate-firstpolicy lockgate-credentials lockgate"


def files(folder: Path, site: Site, name: str) -> Path:
    folder.mkdir()
    for file, content in told(site, name).items():
        (folder / file).write_bytes(content)
    return folder


def disc(files: Path, made: Path) -> Path:
    """As docs/operating.md says it is made."""
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-V", "LOCKGATE-CONFIG", "-J", "-r", "-o", str(made), f"{files}/"], check=True)
    return made


def small_disk(files: Path, made: Path) -> Path:
    """As docs/operating.md says it is made."""
    subprocess.run(["mkfs.vfat", "-n", "LOCKGATE", "-C", str(made), "4096"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mcopy", "-i", str(made), *(str(path) for path in sorted(files.iterdir())), "::"], check=True)
    return made


@pytest.fixture(scope="module")
def machine(image: images.Image, wire: Network, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Nothing comes by SMBIOS."""
    folder = tmp_path_factory.mktemp("drive")
    drive = disc(files(folder / "config", site, NAME), folder / "config.iso")
    machine = Machine(folder / "machine", wire, image.disk, site.key, drive=("ide-cd", drive))
    machine.start()
    try:
        machine.wait_for_ssh()
        yield machine
    finally:
        machine.stop()
        progress("stopped")


def test_a_disc_tells_it_everything(machine: Machine, site: Site) -> None:
    assert machine.says("hostname") == NAME
    said = machine.says("sudo journalctl -b --no-pager -o cat -u lockgate-firstboot")
    assert f"{NAME} in segment lab, told by the config drive LOCKGATE-CONFIG" in said
    assert machine.says(READY).split() == ["active"] * 4
    assert machine.state() == "running"
    assert "breakglass:$6$" in machine.says("sudo grep ^breakglass: /etc/shadow")


def test_nothing_of_the_disc_stays_in_reach(machine: Machine, site: Site) -> None:
    mounted = [line.split()[1:3] for line in machine.says("cat /proc/mounts").splitlines()]
    assert [kind for _, kind in mounted if kind == "iso9660"] == []
    assert "credentials.orders-db.yaml.cred" in machine.says("sudo ls /var/lib/lockgate-credentials")
    password = (site.folder / "orders-db.password").read_text()
    kept = "/var/lib/lockgate-credentials /var/lib/lockgate-site /var/lib/lockgate-config"
    found = machine.ssh(f"sudo grep -rlF -f - {kept}", stdin=password.encode())
    assert (found.returncode, found.stdout) == (1, "")


def test_it_begins_again_from_a_small_disk(machine: Machine, site: Site) -> None:
    drive = small_disk(files(machine.folder / "again", site, OTHER_NAME), machine.folder / "config.fat")
    machine.says("sudo rm -r /var/lib/lockgate-site/told.json /var/lib/lockgate-site/first-policy")
    machine.power_off()
    machine.drive = ("virtio-blk-pci", drive)
    machine.start()
    machine.wait_for_ssh()
    assert machine.says("hostname") == OTHER_NAME
    said = machine.says("sudo journalctl -b --no-pager -o cat -u lockgate-firstboot")
    assert f"{OTHER_NAME} in segment lab, told by the config drive LOCKGATE" in said
    assert machine.says("systemctl is-active lockgate-credentials lockgate").split() == ["active"] * 2
