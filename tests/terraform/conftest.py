# SPDX-License-Identifier: Apache-2.0
"""Both programs, a libvirtd of one's own, and folders to work in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.terraform.libvirt_host import LibvirtHost, libvirt_host
from tests.terraform.programs import REPOSITORY, Program, copy_tree

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    wheels = str(Path(os.environ.get("LOCKGATE_IMAGE_CACHE", "/var/tmp/lockgate-image")) / "wheels-cp313")
    parser.addoption("--image", help="disk image of the appliance: boots it, too")
    parser.addoption("--wheels", default=wheels, help="wheelhouse that the image was made of (default: %(default)s)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "image: boots the appliance's image, given as --image")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without an image there is nothing to boot, and nobody asked for it."""
    booting = [item for item in items if item.get_closest_marker("image")]
    if booting and not config.getoption("--image"):
        config.hook.pytest_deselected(items=booting)
        items[:] = [item for item in items if item not in booting]


@pytest.fixture(scope="session")
def built() -> Path:
    """OpenTofu and the provider, built once and kept."""
    done = subprocess.run([REPOSITORY / "tools/build-tofu"], check=True, text=True, stdout=subprocess.PIPE)
    return Path(done.stdout.strip())


@pytest.fixture(scope="session", params=["opentofu", "terraform"])
def program(request: pytest.FixtureRequest, built: Path) -> Program:
    name: str = request.param
    executable = str(built / "bin/tofu") if name == "opentofu" else shutil.which("terraform")
    if executable is None:
        pytest.fail("expected Terraform 1.9 or newer in PATH: both programs are tested, (-k opentofu for one)")
    return Program(name, executable, built / "cli.tfrc")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """terraform/, copied."""
    return copy_tree(tmp_path)


@pytest.fixture(scope="session")
def hypervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibvirtHost]:
    with libvirt_host(tmp_path_factory.mktemp("libvirt"), f"lockgate-terraform-{os.getpid()}") as host:
        yield host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a lab's disks and logs go."""
    made = tmp_path / "lab"
    made.mkdir()
    return made


@pytest.fixture
def empty_image(tmp_path: Path) -> Path:
    """A disk with nothing on it: a machine on it starts, finds nothing to boot, and stays."""
    image = tmp_path / "empty.raw"
    with image.open("wb") as disk:
        disk.truncate(16 << 20)
    return image
