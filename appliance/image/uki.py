# SPDX-License-Identifier: Apache-2.0
"""Initrd and kernel command line, joined with the kernel into one EFI program."""

from __future__ import annotations

import shutil
from pathlib import Path

from image import modules
from image.chroot import inside
from image.release import Release

_DRACUT_MODULES = (
    "base",
    "dracut-systemd",
    "fs-lib",
    "kernel-modules",
    "rootfs-block",
    "systemd",
    "systemd-initrd",
    "systemd-veritysetup",
    "udev-rules",
)

COMMAND_LINE = (
    "ro rootfstype=erofs",  # the root is what the hash says, or nothing
    "systemd.verity_root_options=panic-on-corruption",  # else whoever can write the disk chooses which program cannot be read
    "rd.shell=0 rd.emergency=reboot panic=30 systemd.crash_action=reboot",  # no shell for whoever has the console; the next try
    "lockdown=integrity module.sig_enforce=1",
    "slab_nomerge init_on_alloc=1 page_alloc.shuffle=1 randomize_kstack_offset=on vsyscall=none debugfs=off",
    "apparmor=1 audit=1 audit_backlog_limit=8192",
    "systemd.default_device_timeout_sec=300",  # a disk of an overloaded host is late, not absent
    "console=tty0 console=ttyS0,115200 quiet systemd.show_status=auto",
)
"""Each line is argued for in docs/decisions/0016-image.md."""


def initrd(tools: Path, work: Path, release: Release) -> Path:
    """A small initrd that knows one way to boot. Cached by nothing: it is made in seconds."""
    out = work / "initrd"
    out.unlink(missing_ok=True)
    command = ["dracut", "--force", "--quiet", "--no-hostonly", "--no-hostonly-cmdline", "--no-early-microcode", "--reproducible"]
    command += ["--modules", " ".join(_DRACUT_MODULES), "--drivers", " ".join(modules.listed("initrd")), "--compress", "zstd -15 -T1"]
    command += ["--include", "/srv/initrd-files", "/", "--kver", modules.kernel_version(tools), "/srv/initrd"]
    shutil.rmtree(work / "initrd-files", ignore_errors=True)
    shutil.copytree(Path(__file__).parent / "initrd", work / "initrd-files", symlinks=True)
    inside(tools, command, binds={"/srv": work}, env={"SOURCE_DATE_EPOCH": str(release.epoch)})
    return out


def make(tools: Path, work: Path, out: Path, release: Release, root_hash: str) -> Path:
    """The UKI. The stub takes kernel, initrd and command line from here and from nowhere else."""
    made = out / release.file("efi")
    kernel = modules.kernel_version(tools)
    line = f"roothash={root_hash} " + " ".join(COMMAND_LINE)
    (work / "os-release").write_text(os_release(tools, release))
    command = [
        "ukify",
        "build",
        f"--linux=/boot/vmlinuz-{kernel}",
        "--initrd=/srv/initrd",
        f"--cmdline={line}",
        "--os-release=@/srv/os-release",
    ]
    command += [f"--uname={kernel}", "--stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub", f"--output=/mnt/{made.name}"]
    inside(tools, command, binds={"/srv": work, "/mnt": out}, env={"SOURCE_DATE_EPOCH": str(release.epoch)})
    return made


def os_release(tree: Path, release: Release) -> str:
    """Debian's own, and which image it is."""
    kept = [line for line in (tree / "usr/lib/os-release").read_text().splitlines() if not line.startswith(("IMAGE_", "PRETTY_NAME="))]
    return "\n".join([f'PRETTY_NAME="Lockgate {release.version}"', *kept, "IMAGE_ID=lockgate", f"IMAGE_VERSION={release.version}", ""])
