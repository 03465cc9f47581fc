# SPDX-License-Identifier: Apache-2.0
"""What makes an image of a tree: units and programs of the guest, the roles, the names of the release."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from image.chroot import ENTER, inside
from image.commands import run_visibly
from image.release import IMAGE_ID, ROOT, Release
from image.signing import Signer
from image.uki import os_release

HERE = Path(__file__).parent
_OVERLAYS = (HERE / "guest/tree", HERE / "firstboot/tree")
_PROGRAMS = (HERE / "guest/programs", HERE / "firstboot/programs")
_UNITS = ("systemd-networkd.service", "nftables.service", "ssh.service", "auditd.service", "apparmor.service", "systemd-timesyncd.service")
_MASKED = (
    *("systemd-boot-update.service", "systemd-bootctl.socket", "systemd-importd.socket", "systemd-machined.service", "machines.target"),
    *("systemd-sysupdate.timer", "systemd-sysupdate-reboot.timer", "ldconfig.service", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-hibernate-clear.service", "sshd-keygen.service"),
    *("proc-sys-fs-binfmt_misc.automount", "sys-fs-fuse-connections.mount"),
)
"""Would write where nothing can be written, or start what a gateway has no use for."""


def guest(tree: Path) -> None:
    """Copy the image's own files into the tree and switch its units on."""
    for overlay in filter(Path.is_dir, _OVERLAYS):
        shutil.copytree(overlay, tree, symlinks=True, dirs_exist_ok=True)
    programs = tree / "usr/lib/lockgate"
    programs.mkdir(parents=True, exist_ok=True)
    for folder in filter(Path.is_dir, _PROGRAMS):
        for source in sorted(folder.glob("*.py")):
            _program(source, programs / source.stem.replace("_", "-"))
    (programs / "image").mkdir(exist_ok=True)
    shutil.copyfile(HERE / "verify_bundle.py", programs / "image/verify_bundle.py")
    (tree / "etc/sysusers.d").mkdir(exist_ok=True)
    own = [
        path.name
        for overlay in _OVERLAYS
        for path in sorted((overlay / "usr/lib/systemd/system").glob("*.*"))
        if path.is_file() and "[Install]" in path.read_text()
    ]
    inside(tree, ["systemctl", "enable", *_UNITS, *own])
    inside(tree, ["systemctl", "mask", *_MASKED])


def _program(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o755)


def roles(tree: Path, variables: Mapping[str, object]) -> None:
    """Apply ``playbooks/build_image.yml`` to the tree: no network, and the kernel's settings are not within reach."""
    extra = {**variables, "image_tree": str(tree)}
    env = {**os.environ, "ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_REMOTE_TMP": "/tmp/.ansible", "ANSIBLE_NOCOLOR": "1",  # noqa: S108 (in memory, in the tree)
           "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"}  # fmt: skip
    playbook: list[str | Path] = [
        Path(sys.executable).parent / "ansible-playbook",
        "--inventory",
        HERE / "inventory/hosts.yml",
        "--extra-vars",
        json.dumps(extra),
    ]
    run_visibly([ENTER, tree, "--", *playbook, ROOT / "playbooks/build_image.yml"], env=env, cwd=ROOT)


def names(tree: Path, release: Release, signer: Signer) -> None:
    """Which release this is, and whose signature it takes for the next one."""
    (tree / "usr/lib/os-release").write_text(os_release(tree, release))
    share = tree / "usr/share/lockgate"
    (share / "allowed_signers").write_text(signer.allowed)
    folder = tree / "etc/lockgate-appliance"
    folder.mkdir(exist_ok=True)
    facts = {
        "version": release.package,
        "image_id": IMAGE_ID,
        "image_version": release.version,
        "number": release.number,
        "signer": signer.name,
    }
    (folder / "release.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    stamp = f"# Times in the image are the release's.\nTIMESTAMP_NSEC={release.epoch}000000000\n"
    (tree / "etc/.updated").write_text(stamp)
