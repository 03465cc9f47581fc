# SPDX-License-Identifier: Apache-2.0
"""What stands above one host: it runs in a mount namespace of its own (`unshare --mount`), gives the host a pure cgroup2 view and its
overlay, and starts systemd-nspawn again each time the host reboots. The mounts go when it ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .command import run

CGROUPS = Path("/sys/fs/cgroup")
REBOOT = 133  # systemd-nspawn --keep-unit: "start me again"


def supervise(machine: str, hostname: str, namespace: str, base: Path, folder: Path) -> int:
    own = _enter_own_cgroup(machine)
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={base},upperdir={folder}/upper,workdir={folder}/work", str(folder / "root"))
    try:
        while (status := _nspawn(machine, hostname, namespace, folder / "root")) == REBOOT:
            pass
        return status
    finally:
        _leave(own)


def _enter_own_cgroup(machine: str) -> Path:
    """Without a group of its own, two --keep-unit containers would share the machine's root group."""
    run("umount", "--recursive", str(CGROUPS))
    run("mount", "-t", "cgroup2", "none", str(CGROUPS))
    own = CGROUPS / machine
    (own / "payload").mkdir(parents=True, exist_ok=True)
    (own / "payload" / "cgroup.procs").write_text(str(os.getpid()))
    return own


def _nspawn(machine: str, hostname: str, namespace: str, root: Path) -> int:
    return subprocess.call(
        [
            "systemd-nspawn", f"--directory={root}", f"--machine={machine}", f"--hostname={hostname}", "--boot", "--keep-unit",
            "--register=no", "--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
            f"--network-namespace-path=/run/netns/{namespace}",
            # Without these two IPAddressDeny= is silently not enforced inside.
            "--capability=all", "--system-call-filter=bpf",
        ],
        stdin=subprocess.DEVNULL,
        # net.* sysctls of its own network namespace only; /tmp as the host itself mounts it, from fstab or a unit
        env={**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network", "SYSTEMD_NSPAWN_TMPFS_TMP": "0"},
    )  # fmt: skip


def _leave(own: Path) -> None:
    (CGROUPS / "cgroup.procs").write_text(str(os.getpid()))
    for folder in sorted((path for path in own.rglob("*") if path.is_dir()), key=lambda path: len(path.parts), reverse=True):
        folder.rmdir()
    own.rmdir()
