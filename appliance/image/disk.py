# SPDX-License-Identifier: Apache-2.0
"""The disk: EFI system partition with systemd-boot and the UKI, slot A filled, slot B empty, and /var."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from image.chroot import inside
from image.release import Release
from image.root import VerifiedRoot

MIB = 1 << 20
ROOT_SLOT, VERITY_SLOT = 640 * MIB, 16 * MIB
TRIES = 3
"""How often systemd-boot tries an image that has not yet called itself healthy."""

_ESP = """[Partition]
Type=esp
Label=lockgate-esp
Format=vfat
CopyFiles=/srv/esp:/
SizeMinBytes=256M
SizeMaxBytes=256M
"""
_FILLED = """[Partition]
Type={type}
Label=lockgate_{version}
UUID={uuid}
CopyBlocks=/mnt/{file}
SizeMinBytes={size}
SizeMaxBytes={size}
ReadOnly=on
"""
_EMPTY = """[Partition]
Type={type}
Label=_empty
SizeMinBytes={size}
SizeMaxBytes={size}
ReadOnly=on
"""
_VAR = """[Partition]
Type=var
Label=lockgate-var
Format=ext4
SizeMinBytes=1G
SizeMaxBytes=1G
"""
_LOADER = "timeout 0\neditor no\nauto-entries no\nauto-firmware no\n"


def make(tools: Path, work: Path, out: Path, release: Release, root: VerifiedRoot, uki: Path) -> Path:
    """A raw GPT disk of about 2.5 GiB, sparse; the first boot grows /var to what is there."""
    disk = out / release.file("raw")
    disk.unlink(missing_ok=True)
    _system_partition(tools, work / "esp", uki, release.epoch)
    _definitions(work / "repart.d", release, root)
    command = ["systemd-repart", "--offline=yes", "--dry-run=no", "--empty=create", "--size=auto", "--sector-size=512", "--no-pager",
               f"--seed={release.uuid('disk')}", "--definitions=/srv/repart.d", f"/mnt/{disk.name}"]  # fmt: skip
    # Without this one ext4 hashes the names in its folders with a seed of its own, another one in every build.
    env = {"SOURCE_DATE_EPOCH": str(release.epoch), "SYSTEMD_REPART_MKFS_OPTIONS_EXT4": f"-E hash_seed={release.uuid('ext4')}"}
    inside(tools, command, binds={"/srv": work, "/mnt": out}, env=env)
    return disk


def small(tools: Path, out: Path, release: Release) -> Path:
    """The same disk without its empty space, as QEMU and libvirt take it: an upload of the raw one carries every hole. One worker, in
    order: the same disk gives the same bytes."""
    made = out / release.file("qcow2")
    made.unlink(missing_ok=True)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-m", "1", "-S", "4k", f"/mnt/{release.file('raw')}", f"/mnt/{made.name}"]
    inside(tools, command, binds={"/mnt": out})
    return made


def _system_partition(tools: Path, folder: Path, uki: Path, epoch: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("EFI/BOOT", "EFI/systemd", "EFI/Linux", "loader"):
        (folder / name).mkdir(parents=True)
    loader = tools / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    shutil.copyfile(loader, folder / "EFI/BOOT/BOOTX64.EFI")
    shutil.copyfile(loader, folder / "EFI/systemd/systemd-bootx64.efi")
    shutil.copyfile(uki, folder / f"EFI/Linux/{uki.stem}+{TRIES}.efi")
    (folder / "loader/loader.conf").write_text(_LOADER)
    (folder / "loader/entries.srel").write_text("type1\n")
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (epoch, epoch))


def _definitions(folder: Path, release: Release, root: VerifiedRoot) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    root_a = _FILLED.format(type="root", version=release.version, uuid=root.root_uuid, file=root.root.name, size=ROOT_SLOT)
    verity_a = _FILLED.format(type="root-verity", version=release.version, uuid=root.verity_uuid, file=root.verity.name, size=VERITY_SLOT)
    root_b, verity_b = _EMPTY.format(type="root", size=ROOT_SLOT), _EMPTY.format(type="root-verity", size=VERITY_SLOT)
    parts = {"10-esp": _ESP, "20-root-a": root_a, "21-verity-a": verity_a, "30-root-b": root_b, "31-verity-b": verity_b, "40-var": _VAR}
    for name, text in parts.items():
        (folder / f"{name}.conf").write_text(text)
