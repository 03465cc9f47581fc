# SPDX-License-Identifier: Apache-2.0
"""One machine through its life: another image by the playbook, back on purpose, an image that is ill, and the disk in another board.

The tests go on from each other, in this order: every boot takes minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image.release import ROOT
from image.verify_bundle import OLDER
from tests.terraform.site import Site
from tests.vm import image as images
from tests.vm.conftest import NAME, first_boot
from tests.vm.machine import BOOT_SECONDS, Machine, progress
from tests.vm.network import GATEWAY, Network

pytestmark = pytest.mark.full

PLAY_SECONDS = 3600


def without_firewall(tree: Path) -> None:
    """An image whose firewall does not come up."""
    (tree / "usr/sbin/nft").unlink()
    (tree / "usr/sbin/nft").write_text("#!/bin/sh\nexit 1\n")
    (tree / "usr/sbin/nft").chmod(0o755)


@pytest.fixture(scope="module")
def newer(image: images.Image, tmp_path_factory: pytest.TempPathFactory) -> images.Image:
    progress("making the next image")
    return images.newer(image, tmp_path_factory.mktemp("newer"), hours=1)


@pytest.fixture(scope="module")
def ill(image: images.Image, tmp_path_factory: pytest.TempPathFactory) -> images.Image:
    progress("making an image that is ill")
    return images.newer(image, tmp_path_factory.mktemp("ill"), hours=2, change=without_firewall)


@pytest.fixture(scope="module")
def machine(image: images.Image, wire: Network, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with first_boot(tmp_path_factory.mktemp("machine"), wire, site, image.disk) as booted:
        yield booted


def status(machine: Machine) -> dict[str, Any]:
    return dict(json.loads(machine.says("sudo /usr/lib/lockgate/update status")))


def running(machine: Machine) -> str:
    return str(status(machine)["running"]["image_version"])


def entries(machine: Machine) -> list[str]:
    return machine.says("sudo ls /boot/EFI/Linux").split()


def play(machine: Machine, site: Site, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """``playbooks/update_image.yml`` as an operator runs it."""
    inventory = folder / "hosts.json"
    connection = {
        "ansible_host": GATEWAY, "ansible_user": "ops", "ansible_become": True, "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(site.key),
        "image_update_reboot_timeout": BOOT_SECONDS, "image_update_health_timeout": BOOT_SECONDS,
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={machine.folder}/known_hosts -o ServerAliveInterval=30 -o ServerAliveCountMax=8",
    }  # fmt: skip
    inventory.write_text(json.dumps({"gateways": {"hosts": {NAME: connection}}}))
    program = Path(sys.executable).with_name("ansible-playbook")
    argv = ["ip", "netns", "exec", machine.network.controller, str(program), "-i", str(inventory), str(ROOT / "playbooks/update_image.yml")]
    argv += ["--extra-vars", json.dumps(variables)]
    env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "ANSIBLE_TIMEOUT": "180"}  # sudo takes long under emulation
    progress(f"update_image.yml {variables}, at most {PLAY_SECONDS} s")
    done = subprocess.run(argv, cwd=ROOT, env=env, check=False, text=True, capture_output=True, timeout=PLAY_SECONDS)
    progress(f"update_image.yml: exit status {done.returncode}")
    machine.wait_for_ssh()
    return done


def test_there_is_no_way_back_from_the_only_image(machine: Machine, site: Site, image: images.Image, tmp_path: Path) -> None:
    done = play(machine, site, tmp_path, image_update_to="other-slot")
    assert done.returncode != 0
    assert f"The other slot of {NAME} is empty" in done.stdout
    assert running(machine) == image.version


def test_another_image_is_installed_booted_found_healthy_and_kept(
    machine: Machine, site: Site, image: images.Image, newer: images.Image, tmp_path: Path
) -> None:
    assert running(machine) == image.version
    assert entries(machine) == [f"lockgate_{image.version}.efi"], "the first boot was kept, too"
    before = machine.says("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
    done = play(machine, site, tmp_path, image_update_folder=str(newer.folder))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert running(machine) == newer.version
    assert f"roothash={newer.manifest['root_hash']} " in machine.says("cat /proc/cmdline")
    assert entries(machine) == sorted([f"lockgate_{image.version}.efi", f"lockgate_{newer.version}.efi"]), "no counter: it is kept"
    assert machine.says("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub") == before


def test_the_gateway_serves_from_the_new_image_with_its_credentials(machine: Machine) -> None:
    assert machine.says("systemctl is-active boot-complete.target lockgate-credentials.service lockgate.service").split() == ["active"] * 3
    assert machine.state() == "running"


def test_an_older_image_is_refused_though_its_signature_is_good(machine: Machine, image: images.Image) -> None:
    files = [image.folder / "manifest.json", image.folder / "manifest.json.sig"]
    folder = "/var/lib/lockgate-update/older"
    machine.says(f"sudo mkdir -p {folder}")
    for file in files:
        machine.ssh(f"sudo dd of={folder}/{file.name} status=none", stdin=file.read_bytes())
    refused = machine.ssh(f"sudo /usr/lib/lockgate/update install {folder}")
    assert refused.returncode == OLDER, refused.stdout + refused.stderr
    assert "older" in refused.stderr
    asked = machine.ssh(f"sudo /usr/lib/lockgate/update install {folder} --allow-older")
    assert asked.returncode == 0, asked.stderr
    assert "is in the other slot" in asked.stdout


def test_a_manifest_that_was_changed_is_refused(machine: Machine) -> None:
    machine.says("cd /tmp && sudo cp -r /var/lib/lockgate-update/older changed && sudo sed -i s/root_hash/root_hasH/ changed/manifest.json")
    refused = machine.ssh("sudo /usr/lib/lockgate/update install /tmp/changed --allow-older")
    assert refused.returncode != 0 and "REFUSED" in refused.stderr


def test_back_on_purpose(machine: Machine, site: Site, image: images.Image, tmp_path: Path) -> None:
    done = play(machine, site, tmp_path, image_update_to="other-slot")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert running(machine) == image.version
    assert machine.says("systemctl is-active lockgate.service") == "active"


def test_an_image_that_is_ill_goes_back_by_itself(machine: Machine, image: images.Image, newer: images.Image, ill: images.Image) -> None:
    """Its three tries are one here: each takes minutes, and they are alike."""
    folder = "/var/lib/lockgate-update/incoming"
    machine.says(f"sudo mkdir -p {folder}")
    for file in ill.update_files():
        progress(f"carrying over {file.name}")
        carried = machine.ssh(f"sudo dd of={folder}/{file.name} bs=1M status=none", stdin=file.read_bytes(), seconds=1200)
        assert carried.returncode == 0, carried.stderr
    machine.says(f"sudo /usr/lib/lockgate/update install {folder}", seconds=1200)
    machine.says(f"sudo rm -r {folder}")
    assert sorted(status(machine)["other"]) == [ill.version], "it took the slot of the image that did not run"
    machine.says(f"sudo sh -c 'cd /boot/EFI/Linux && mv lockgate_{ill.version}+3*.efi lockgate_{ill.version}+1.efi'")
    before = machine.boot_id()
    machine.ssh("sudo systemctl reboot")
    machine.wait_for_another_boot(before, 3 * BOOT_SECONDS)
    assert running(machine) == image.version
    assert f"lockgate_{ill.version}+0-1.efi" in entries(machine), "tried, not kept"
    trial = machine.says("sudo journalctl -b -1 --no-pager -o cat -u lockgate-health -u lockgate-go-back")
    assert "nftables.service is not running" in trial
    assert f"is not healthy: restarting; lockgate_{image.version}.efi is there to go back to" in trial
    network = machine.says("sudo journalctl -b -1 --no-pager -o cat -u systemd-networkd -u ssh")
    assert "Dependency failed for systemd-networkd.service" in network, "without nft no network"
    assert "Accepted " not in network
    assert machine.says("systemctl is-active lockgate-health.service lockgate.service").split() == ["active"] * 2


def test_the_disk_in_another_board_gives_no_credential_away(machine: Machine, site: Site) -> None:
    """Same disk, another TPM: management gets in, the gateway's secrets stay closed."""
    name = "credentials.orders-db.yaml.cred"
    decrypt = f"sudo systemd-creds decrypt --name=lockgate_{name} /var/lib/lockgate-credentials/{name} -"
    password = (site.folder / "orders-db.password").read_text()
    assert password in machine.says(decrypt)
    machine.power_off()
    machine.forget_tpm()
    machine.start()
    machine.wait_for_ssh()
    refused = machine.ssh(decrypt)
    assert refused.returncode != 0 and password not in refused.stdout
    assert machine.ssh("systemctl is-active lockgate-credentials.service").stdout.strip() != "active"
    assert machine.ssh("systemctl is-active lockgate.service").stdout.strip() != "active"
    assert machine.ssh("sudo ls -A /run/lockgate-credentials").stdout.strip() == ""
