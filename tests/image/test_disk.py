# SPDX-License-Identifier: Apache-2.0
"""The disk: its partitions, what is in slot A and in the boot partition, and the transfers that fill slot B."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from image import disk, root
from image.build import digest
from image.chroot import inside
from image.commands import run
from image.disk import ROOT_SLOT, VERITY_SLOT
from image.release import Release
from tests.image.conftest import Image

TYPES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "esp",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "root",
    "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5": "verity",
    "4d21b016-b534-45c2-a9fb-5c16e091fd2d": "var",
}


@dataclass(frozen=True, slots=True)
class Partition:
    kind: str
    uuid: str
    label: str
    start: int
    size: int

    def read(self, disk: Path, size: int) -> bytes:
        with disk.open("rb") as data:
            data.seek(self.start)
            return data.read(size)


def partitions(disk: Path) -> list[Partition]:
    """A GPT, read by the specification: 512-byte blocks, header in the second, entries where it says."""
    with disk.open("rb") as data:
        data.seek(512)
        header = data.read(92)
        assert header[:8] == b"EFI PART"
        data.seek(int.from_bytes(header[72:80], "little") * 512)
        rows = [data.read(128) for _ in range(16)]
    return [_partition(row) for row in rows if any(row[:16])]


def _partition(row: bytes) -> Partition:
    first, last = int.from_bytes(row[32:40], "little"), int.from_bytes(row[40:48], "little")
    kind = TYPES[str(uuid.UUID(bytes_le=row[:16]))]
    label = row[56:].decode("utf-16-le").rstrip("\0")
    return Partition(kind, str(uuid.UUID(bytes_le=row[16:32])), label, first * 512, (last - first + 1) * 512)


def test_two_slots_and_room_for_state(image: Image) -> None:
    label = f"lockgate_{image.manifest['version']}"
    found = partitions(image.file("raw"))
    assert [(one.kind, one.label) for one in found] == [
        ("esp", "lockgate-esp"), ("root", label), ("verity", label), ("root", "_empty"), ("verity", "_empty"), ("var", "lockgate-var"),
    ]  # fmt: skip
    assert {one.size for one in found if one.kind == "root"} == {ROOT_SLOT}
    assert {one.size for one in found if one.kind == "verity"} == {VERITY_SLOT}


def test_slot_a_is_found_by_the_root_hash(image: Image) -> None:
    _, root_a, verity_a, *_ = partitions(image.file("raw"))
    assert (root_a.uuid, verity_a.uuid) == (image.manifest["root_uuid"], image.manifest["verity_uuid"])
    assert root_a.uuid.replace("-", "") + verity_a.uuid.replace("-", "") == image.manifest["root_hash"]
    for partition, kind in ((root_a, "root"), (verity_a, "verity")):
        size = image.file(kind).stat().st_size
        assert sha256(partition.read(image.file("raw"), size)).hexdigest() == image.manifest["files"][image.file(kind).name]["sha256"]


def test_slot_b_is_empty(image: Image) -> None:
    root_b = partitions(image.file("raw"))[3]
    assert not any(root_b.read(image.file("raw"), 1 << 20))


def test_the_root_leaves_room_to_grow(image: Image) -> None:
    assert image.file("root").stat().st_size < ROOT_SLOT * 0.6
    assert image.file("verity").stat().st_size < VERITY_SLOT * 0.6


def test_the_boot_partition_holds_loader_and_one_entry_with_three_tries(image: Image) -> None:
    esp = partitions(image.file("raw"))[0]
    device, shown = f"/srv/{image.file('raw').name}@@{esp.start}", {"/srv": image.folder}
    said = inside(image.tools, ["mdir", "-b", "-/", "-i", device, "::"], binds=shown)
    files = {line.removeprefix("::/") for line in said.splitlines() if not line.endswith("/")}
    assert files == {
        "EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi", f"EFI/Linux/lockgate_{image.manifest['version']}+3.efi",
        "loader/loader.conf", "loader/entries.srel",
    }  # fmt: skip
    assert "editor no\n" in inside(image.tools, ["mtype", "-i", device, "::/loader/loader.conf"], binds=shown)


@pytest.fixture
def loop(image: Image, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A copy of the disk as a block device."""
    copy = tmp_path / "disk.raw"
    run(["cp", "--sparse=always", "--reflink=auto", image.file("raw"), copy])
    device = run(["losetup", "--find", "--show", copy]).strip()
    try:
        yield copy, device
    finally:
        run(["losetup", "--detach", device])


def test_an_update_fills_the_other_slot_and_leaves_the_running_one(image: Image, loop: tuple[Path, str], tmp_path: Path) -> None:
    """The image's own transfers and systemd-sysupdate, into a copy of its own disk."""
    copy, device = loop
    version = "9.9.9.20991231235959"
    ids = (str(uuid.uuid4()), str(uuid.uuid4()))
    source, boot, transfers = (tmp_path / name for name in ("source", "boot", "transfers"))
    for folder in (source, boot / "EFI/Linux", transfers):
        folder.mkdir(parents=True)
    (source / f"lockgate_{version}_{ids[0]}.root").write_bytes(b"root" * 1024 * 256)
    (source / f"lockgate_{version}_{ids[1]}.verity").write_bytes(b"hash" * 1024 * 64)
    (source / f"lockgate_{version}.efi").write_bytes(b"uki")
    running = f"lockgate_{image.manifest['version']}"
    shutil.copyfile(image.file("efi"), boot / f"EFI/Linux/{running}.efi")
    for transfer in sorted((image.root / "usr/lib/sysupdate.d").iterdir()):
        text = transfer.read_text().replace("/var/lib/lockgate-update/verified", "/srv/source").replace("Path=auto", f"Path={device}")
        text = text.replace("PathRelativeTo=esp", "PathRelativeTo=root").replace("Path=/EFI/Linux", "Path=/srv/boot/EFI/Linux")
        (transfers / transfer.name).write_text(re.sub("%A", image.manifest["version"], text))
    binds = {"/srv": tmp_path, "/dev": Path("/dev"), "/sys": Path("/sys")}
    program = ["/usr/lib/systemd/systemd-sysupdate", "--definitions=/srv/transfers", "--verify=no"]
    inside(image.root, [*program, "update", version], binds=binds)
    _, root_a, verity_a, root_b, verity_b, _ = partitions(copy)
    assert (root_a.label, root_a.uuid) == (running, image.manifest["root_uuid"])
    assert (verity_a.label, verity_a.uuid) == (running, image.manifest["verity_uuid"])
    assert (root_b.label, root_b.uuid) == (f"lockgate_{version}", ids[0])
    assert (verity_b.label, verity_b.uuid) == (f"lockgate_{version}", ids[1])
    assert root_b.read(copy, 4 * 1024 * 256) == b"root" * 1024 * 256
    assert root_a.read(copy, 1 << 20) == image.file("root").read_bytes()[: 1 << 20]
    assert sorted(path.name for path in (boot / "EFI/Linux").iterdir()) == [f"{running}.efi", f"lockgate_{version}+3-0.efi"]


def test_the_same_parts_give_the_same_disk(image: Image, tmp_path: Path) -> None:
    release = Release(image.manifest["package"], int((image.root / "etc/machine-id").stat().st_mtime), image.manifest["commit"])
    made = root.VerifiedRoot(image.file("root"), image.file("verity"), image.manifest["root_hash"])
    out = tmp_path / "out"
    out.mkdir()
    for kind in ("root", "verity"):
        shutil.copyfile(image.file(kind), out / image.file(kind).name)
    work = tmp_path / "work"
    work.mkdir()
    again = disk.make(image.tools, work, out, release, made, image.file("efi"))
    assert digest(again) == image.manifest["files"][image.file("raw").name]["sha256"]
    assert digest(disk.small(image.tools, out, release)) == image.manifest["files"][image.file("qcow2").name]["sha256"]


def test_the_small_disk_does_not_hang_on_where_the_holes_are(image: Image, tmp_path: Path) -> None:
    """A copy whose holes were filled with zeros: another file system, the same disk."""
    release = Release(image.manifest["package"], int((image.root / "etc/machine-id").stat().st_mtime), image.manifest["commit"])
    run(["cp", "--sparse=never", image.file("raw"), tmp_path / image.file("raw").name])
    assert digest(disk.small(image.tools, tmp_path, release)) == image.manifest["files"][image.file("qcow2").name]["sha256"]


def test_the_small_disk_is_small(image: Image) -> None:
    assert image.file("qcow2").stat().st_size < 0.1 * image.file("raw").stat().st_size
