# SPDX-License-Identifier: Apache-2.0
"""Apply, boot, inventory, Ansible, psql: the image on a machine that Terraform made. Only with --image; minutes under emulation."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.terraform.programs import REPOSITORY, Program, Workspace, copy_tree
from tests.terraform.site import GATEWAY, POSTGRES, Site, database, make_site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.terraform.libvirt_host import LibvirtHost

pytestmark = pytest.mark.image
NAME = "gw-lab-1"
BOOT_SECONDS = 2400
"""Under emulation on a busy machine; some 200 where nothing else runs."""

PLAY_SECONDS = 3600


class Booted:
    """A gateway that answers on SSH."""

    def __init__(self, site: Site, lab: Workspace, hypervisor: LibvirtHost, console: Path) -> None:
        self.site, self.lab, self.hypervisor, self.console = site, lab, hypervisor, console

    def ssh(self, command: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        argv = ["ssh", "-i", str(self.site.key), *self.site.ssh_options(self.hypervisor.namespace), f"ops@{GATEWAY}", command]
        return subprocess.run(argv, check=False, text=True, capture_output=True, timeout=timeout)

    def says(self, command: str) -> str:
        done = self.ssh(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def wait(self) -> None:
        until = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.ssh("true").returncode == 0 and self.ssh("systemctl is-system-running").stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(5)
        shown = self.console.read_text(errors="replace")[-4000:]
        raise AssertionError(f"no login and no end of the boot after {BOOT_SECONDS} s; the console:\n{shown}")

    def play(self, playbook: str) -> None:
        inventory = self.site.inventory(self.lab.output("inventory"), self.hypervisor.namespace)
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(REPOSITORY / "playbooks" / playbook)]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "ANSIBLE_TIMEOUT": "180"}  # sudo takes long under emulation
        done = subprocess.run(argv, cwd=REPOSITORY, env=env, check=False, text=True, capture_output=True, timeout=PLAY_SECONDS)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

    def psql(self, sql: str) -> subprocess.CompletedProcess[str]:
        """As a CI job on the hypervisor's side of the network, with a token and the gateway's certificate checked."""
        ca = self.site.folder / "gateway-ca.crt"
        ca.write_text(self.says("sudo cat /etc/lockgate/tls/ca.crt") + "\n")
        connection = f"host={GATEWAY} port={POSTGRES} user=ci dbname=orders-db connect_timeout=150 sslmode=verify-full sslrootcert={ca}"
        return subprocess.run(
            ["ip", "netns", "exec", self.hypervisor.namespace, "psql", "--no-psqlrc", "-qAt", connection, "-c", sql],
            env={**os.environ, "PGPASSWORD": self.site.token("ci-bot")},
            check=False,
            text=True,
            capture_output=True,
            timeout=180,
        )


@pytest.fixture(scope="module")
def booted(
    request: pytest.FixtureRequest, built: Path, hypervisor: LibvirtHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Booted]:
    folder = tmp_path_factory.mktemp("boot")
    site = make_site(folder, Path(request.config.getoption("--wheels")).resolve())
    disks = folder / "lab"
    disks.mkdir()
    variables = {
        "libvirt_uri": hypervisor.uri,
        "folder": str(disks),
        "image": str(Path(request.config.getoption("--image")).resolve()),
        "authorized_keys": [site.public_key],
        "segment_folder": str(site.segment),
    }
    program = Program("opentofu", str(built / "bin/tofu"), built / "cli.tfrc")
    lab = Workspace(program, copy_tree(folder / "tree") / "environments/lab", variables).init()
    lab.apply(timeout=900)
    try:
        gateway = Booted(site, lab, hypervisor, disks / f"{NAME}.log")
        gateway.wait()
        yield gateway
    finally:
        lab.destroy()


def test_the_machine_is_who_it_was_told_to_be(booted: Booted) -> None:
    assert booted.says("hostname") == NAME
    assert booted.says("cat /sys/class/dmi/id/chassis_type /proc/sys/kernel/osrelease").splitlines()[1].startswith("6.")
    assert booted.says("systemd-analyze has-tpm2").splitlines()[0] == "yes"
    assert f"{GATEWAY}/24" in booted.says("ip -br address")


def test_nobody_gets_in_by_another_key(booted: Booted, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    argv = ["ssh", "-i", str(tmp_path / "other"), *booted.site.ssh_options(booted.hypervisor.namespace), f"ops@{GATEWAY}", "true"]
    assert "Permission denied" in subprocess.run(argv, check=False, text=True, capture_output=True, timeout=180).stderr


def test_psql_answers_through_the_gateway(booted: Booted) -> None:
    with database(booted.site, booted.hypervisor.namespace):
        booted.play("deploy.yml")
        assert booted.psql("select count(*) from customers").stdout == "3\n"
        assert booted.psql("select ssn from customers limit 1").stdout == "****\n"
        refused = booted.psql("create table mine (id int)")
        assert refused.returncode != 0
        assert "denied by ci works on orders/never" in refused.stderr
