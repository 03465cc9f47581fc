# SPDX-License-Identifier: Apache-2.0
"""The hash tree vouches for every block, and for nothing else; the same tree gives the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from image import root
from image.build import digest
from image.chroot import inside
from image.commands import CommandFailed, run
from image.release import ROOT, Release
from tests.image.conftest import Image


def verify(image: Image, data: Path) -> str:
    command = ["veritysetup", "verify", f"/srv/{data.name}", f"/mnt/{image.file('verity').name}", image.manifest["root_hash"]]
    return inside(image.tools, command, binds={"/srv": data.parent, "/mnt": image.folder})


def test_the_root_is_what_its_hash_says(image: Image) -> None:
    verify(image, image.file("root"))


@pytest.mark.parametrize("where", [0, 0.37, 0.999])
def test_one_changed_byte_is_seen(image: Image, tmp_path: Path, where: float) -> None:
    changed = tmp_path / "root"
    run(["cp", "--reflink=auto", image.file("root"), changed])
    with changed.open("r+b") as data:
        data.seek(int(changed.stat().st_size * where))
        byte = data.read(1)
        data.seek(-1, os.SEEK_CUR)
        data.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CommandFailed, match="Verification"):
        verify(image, changed)


def test_the_kernel_is_told_this_hash_and_no_other(image: Image) -> None:
    line = _section(image.file("efi"), b".cmdline").decode()
    assert line.split("roothash=")[1].split()[0] == image.manifest["root_hash"]
    assert line.count("roothash=") == 1
    words = line.split()
    assert {"lockdown=integrity", "module.sig_enforce=1", "ro", "rd.shell=0", "audit=1", "apparmor=1"} <= set(words)
    assert not {word for word in words if word.startswith(("init=", "systemd.debug", "rd.break", "rw", "single"))}


def _section(file: Path, name: bytes) -> bytes:
    """A section of a PE file: the header's table says where it is."""
    data = file.read_bytes()
    header = int.from_bytes(data[0x3C:0x40], "little")
    count, optional = int.from_bytes(data[header + 6 : header + 8], "little"), int.from_bytes(data[header + 20 : header + 22], "little")
    for number in range(count):
        row = data[header + 24 + optional + 40 * number :][:40]
        if row[:8].rstrip(b"\0") == name:
            size, start = int.from_bytes(row[8:12], "little"), int.from_bytes(row[20:24], "little")
            return data[start : start + size].rstrip(b"\0")
    raise AssertionError(f"{file} has no section {name!r}")


def release(image: Image) -> Release:
    return Release(image.manifest["package"], int((image.root / "etc/machine-id").stat().st_mtime), image.manifest["commit"])


def test_the_same_tree_gives_the_same_root_and_hash(image: Image, tmp_path: Path) -> None:
    again = root.make(image.tools, image.root, tmp_path, release(image))
    assert (digest(again.root), again.root_hash) == (digest(image.file("root")), image.manifest["root_hash"])


@pytest.mark.slow
def test_two_whole_builds_are_the_same(tmp_path: Path) -> None:
    """From nothing, packages fetched anew, from one commit: every file and every signature."""
    checkout, key = tmp_path / "checkout", tmp_path / "key"
    run(["git", "clone", "--quiet", "--shared", ROOT, checkout])
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    found = []
    for name in ("one", "two"):
        env = {**os.environ, "LOCKGATE_IMAGE_CACHE": str(tmp_path / name), "VENV": os.environ.get("VENV", str(ROOT / ".venv"))}
        run([checkout / "appliance/image/build", "--out", tmp_path / f"out-{name}", "--key", key], env=env)
        files = [path for path in sorted((tmp_path / f"out-{name}").iterdir()) if path.name != "timings.json"]
        found.append({path.name: digest(path) for path in files})
    assert found[0] == found[1]
