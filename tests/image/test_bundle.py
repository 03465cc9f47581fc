# SPDX-License-Identifier: Apache-2.0
"""The real bundle: verified and unpacked with a bare interpreter, and its playbooks run from it without a network."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from image import bundle, signing
from image.build import digest
from image.chroot import inside
from image.commands import CommandFailed, run
from image.tree import cache_folder
from image.verify_bundle import OLDER, SAY_NO
from tests.image.conftest import Image

PYTHON = "/usr/bin/python3"
BARE = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="module")
def made(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle.bundle(image.folder, tmp_path_factory.mktemp("bundle"), signing.signer(None, cache_folder()), None)


def verify(made: Path, *options: str | Path) -> str:
    program: list[str | Path] = [PYTHON, "-I", made.with_name("verify-bundle")]
    command = [*program, made, "--signers", made.with_name("allowed_signers"), "--allow-development"]
    return run([*command, *options], env=BARE)


@pytest.fixture(scope="module")
def unpacked(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    said = verify(made, "--into", site)
    assert said.startswith("good: number ")
    return site / "current"


def test_it_holds_what_a_site_needs(unpacked: Path, image: Image) -> None:
    version = image.manifest["version"]
    for name in (
        "install", "verify-bundle", "image/manifest.json", "image/manifest.json.sig",
        f"image/lockgate_{version}.root", f"image/lockgate_{version}.qcow2", f"image/lockgate_{version}.qcow2.sig",
        f"image/lockgate_{version}.sbom.cdx.json",
        "wheels/cp311/requirements.txt", "wheels/cp313/requirements.txt", "wheels/controller/cp313/requirements.txt",
        "roles/gateway/tasks/main.yml", "playbooks/install_bundle.yml", "inventories/example/hosts.yml", "docs/operating.md",
        "collections/ansible_collections/ansible/posix/MANIFEST.json", "collections/ansible_collections/community/general/MANIFEST.json",
    ):  # fmt: skip
        assert (unpacked / name).is_file(), name
    assert not [path for path in unpacked.rglob("*") if path.is_symlink() or path.name == "__pycache__"]


def test_t67_one_changed_byte_in_the_real_bundle_is_seen(made: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.tar"
    shutil.copyfile(made, changed)
    for name in ("verify-bundle", "allowed_signers"):
        shutil.copyfile(made.with_name(name), tmp_path / name)
    with changed.open("r+b") as data:
        data.seek(changed.stat().st_size // 2)
        byte = data.read(1)
        data.seek(-1, os.SEEK_CUR)
        data.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CommandFailed, match=f"exit status {SAY_NO}\n.*changed after it was signed"):
        verify(changed)


def test_t67_the_site_refuses_an_older_one(made: Path, unpacked: Path) -> None:
    last = unpacked.parent / "last-number"
    number = int(last.read_text())
    last.write_text(f"{number + 1}\n")
    with pytest.raises(CommandFailed, match=f"exit status {OLDER}\n.*is older than"):
        verify(made, "--into", unpacked.parent)
    last.write_text(f"{number}\n")


def test_the_disk_comes_out_as_it_was(unpacked: Path, image: Image, tmp_path: Path) -> None:
    listed = image.manifest["files"][image.file("raw").name]
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", f"/srv/{image.file('qcow2').name}", "/mnt/disk.raw"]
    inside(image.tools, command, binds={"/srv": unpacked / "image", "/mnt": tmp_path})
    assert digest(tmp_path / "disk.raw") == listed["sha256"]


def test_a_controller_is_set_up_from_it_without_a_network(unpacked: Path, tmp_path: Path) -> None:
    offline = ["unshare", "--net"]
    run([*offline, unpacked / "install", tmp_path / "venv"], env=BARE)
    env = {**BARE, "ANSIBLE_COLLECTIONS_PATH": str(unpacked / "collections"), "HOME": str(tmp_path)}
    playbooks = sorted(str(path) for path in (unpacked / "playbooks").glob("*.yml") if path.name != "build_image.yml")
    inventory = unpacked / "inventories/example/hosts.yml"
    said = run([*offline, tmp_path / "venv/bin/ansible-playbook", "--syntax-check", "-i", inventory, *playbooks], env=env, cwd=unpacked)
    assert "install_bundle.yml" in said


def test_it_says_nothing_about_who_packed_it(made: Path) -> None:
    with tarfile.open(made) as found:
        members = found.getmembers()
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert len({member.mtime for member in members}) == 1
    assert [member.name for member in members[:2]] == ["bundle.json", "bundle.json.sig"]
    assert members[0].size < 2 << 20
