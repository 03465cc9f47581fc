# SPDX-License-Identifier: Apache-2.0
"""Where a gateway is told: systemd credentials (SMBIOS, the hypervisor's firmware settings, a container manager), else a config drive.

A config drive is a disc or stick with the label LOCKGATE-CONFIG (ISO 9660) or LOCKGATE (FAT, whose labels are short) that has the
same files in its top folder. It is mounted read-only, without devices and programs, for as long as it is read.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .told import Wrong

FIRSTBOOT, SEGMENT, SECRETS, BREAK_GLASS = "lockgate.firstboot", "lockgate.segment", "lockgate.credentials", "lockgate.break-glass"
NAMES = (FIRSTBOOT, SEGMENT, SECRETS, BREAK_GLASS)
LARGEST = 2**20
_LABELS = ("LOCKGATE-CONFIG", "LOCKGATE")
_LABELLED = Path("/dev/disk/by-label")
_MOUNTED = Path("/run/lockgate-firstboot/drive")


def found(environment: Mapping[str, str]) -> tuple[str, dict[str, bytes]]:
    """Where it was told, and the files; nothing where nobody told it anything. Raises ``Wrong`` or ``OSError``."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder and (given := read(Path(folder))):
        return "systemd credentials", given
    subprocess.run(["/usr/bin/udevadm", "settle", "--timeout=120"], check=False)
    for label in _LABELS:
        device = _LABELLED / label
        if device.exists():
            with mounted(device) as drive:
                return f"the config drive {label}", read(drive)
    return "nowhere", {}


def read(folder: Path) -> dict[str, bytes]:
    """The files of first boot in ``folder``: regular ones, of bounded size, no links followed. Raises ``Wrong`` or ``OSError``."""
    given: dict[str, bytes] = {}
    for name in NAMES:
        try:
            handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Wrong(f"{name}: expected a plain file")
            given[name] = file.read(LARGEST + 1)
        if len(given[name]) > LARGEST:
            raise Wrong(f"{name}: expected at most {LARGEST} bytes")
    if given and FIRSTBOOT not in given:
        raise Wrong(f"expected {FIRSTBOOT} beside {', '.join(sorted(given))}")
    return given


@contextmanager
def mounted(device: Path) -> Iterator[Path]:
    _MOUNTED.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = ["/usr/bin/mount", "--types", "iso9660,vfat", "--options", "ro,nosuid,nodev,noexec", str(device), str(_MOUNTED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(f"the config drive cannot be mounted: {done.stderr.strip()[:200]}")
    try:
        yield _MOUNTED
    finally:
        subprocess.run(["/usr/bin/umount", str(_MOUNTED)], check=False)
