# SPDX-License-Identifier: Apache-2.0
"""The image in build/image (or LOCKGATE_IMAGE), a site around it, and one machine at a time."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from image.release import ROOT
from tests.terraform.site import Site, make_site
from tests.vm import image as images
from tests.vm.machine import MAC, Machine, progress, watched_by
from tests.vm.network import GATEWAY, HYPERVISOR, Network, network

NAME = "gw-vm-1"
PASSWORD = "sealed in the envelope"
NEEDED = ("qemu-system-x86_64", "qemu-img", "swtpm", "ip", "ssh", "mkfs.erofs")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "short: one boot of the image, and everything that it can show")
    config.addinivalue_line("markers", "full: update, going back, another TPM, a changed root: many boots")
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    capture: Any = config.pluginmanager.getplugin("capturemanager")

    def show(line: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(line)
            reporter.flush()

    watched_by(show)


@pytest.fixture(scope="session")
def image() -> images.Image:
    folder = Path(os.environ.get("LOCKGATE_IMAGE", ROOT / "build/image"))
    if not (folder / "manifest.json").is_file():
        pytest.exit(f"there is no image in {folder}: run `make image` first", returncode=2)
    return images.read(folder)


@pytest.fixture(scope="session")
def wire() -> Iterator[Network]:
    with network(f"lockgate-vm-{os.getpid()}") as made:
        yield made


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("site"), Path("wheels are not needed"))


def told(site: Site, name: str = NAME) -> dict[str, bytes]:
    """What this machine is told at its first boot, by the names of docs/first-boot.md."""
    interface = {"name": "plant", "mac": MAC, "addresses": [f"{GATEWAY}/24"], "gateway": None, "routes": []}
    management = {"networks": [f"{HYPERVISOR}/32"], "authorized_keys": [site.public_key], "user_ca": ""}
    servers: dict[str, list[str]] = {"name_servers": [], "time_servers": []}
    about = {"version": 1, "name": name, "segment": "lab", "interfaces": [interface], **servers, "management": management}
    login = {"kind": "password", "username": "lockgate", "password": (site.folder / "orders-db.password").read_text()}
    hashed = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, check=True, text=True, capture_output=True).stdout
    return {
        "lockgate.firstboot": json.dumps(about).encode(),
        "lockgate.segment": _packed(site.segment),
        "lockgate.credentials": json.dumps({"orders-db": login}).encode(),
        "lockgate.break-glass": hashed.encode(),
    }


def _packed(segment: Path) -> bytes:
    files = {path.relative_to(segment).as_posix(): path.read_text() for path in sorted(segment.rglob("*")) if path.is_file()}
    return gzip.compress(json.dumps(files).encode(), mtime=0)


@contextmanager
def first_boot(folder: Path, wire: Network, site: Site, disk: Path, memory: str = "1536") -> Iterator[Machine]:
    """A new machine, told who it is and waited for. Its console is shown where something fails."""
    machine = Machine(folder, wire, disk, site.key, told(site), memory)
    machine.start()
    try:
        machine.wait_for_ssh()
        yield machine
    finally:
        machine.stop()
        progress("stopped")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    machine = getattr(item, "funcargs", {}).get("machine")
    if report.failed and isinstance(machine, Machine):  # type: ignore[attr-defined]
        report.sections.append(("the machine's console", machine.shown()[-4000:]))  # type: ignore[attr-defined]
    return report
