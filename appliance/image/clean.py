# SPDX-License-Identifier: Apache-2.0
"""Take out of the tree what a build leaves behind, what is unique to a host, and what nobody needs there."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from image.chroot import inside

_GONE = (
    # what programs wrote while the tree was made
    *("boot/*", "dev/*", "proc/*", "run/*", "sys/*", "tmp/*", "var/tmp/*", "var/backups/*", "var/mail/*"),
    *("var/cache/apt", "var/cache/debconf", "var/cache/ldconfig", "var/cache/man", "var/log/apt", "var/log/runit"),
    *("var/lib/apt/*", "var/lib/dpkg/*-old", "var/lib/dpkg/lock*", "var/lib/dpkg/triggers/Lock", "var/lib/ucf", "var/lib/systemd/catalog"),
    *("var/lib/systemd/deb-systemd-*", "var/lib/pam", "var/lib/python", "var/lib/shells.state", "var/lib/misc", "var/lib/portables"),
    *("etc/*-", "etc/.pwd.lock", "etc/.resolv.conf*", "root/.ansible", "root/.cache", "root/.ssh", "home/*/.ansible", "home/*/.cache"),
    # what is unique to a host
    *("etc/ssh/ssh_host_*", "var/lib/systemd/random-seed"),
    # where packages come from: not from here
    *("etc/apt/sources.list*", "etc/apt/apt.conf.d/*mmdebstrap*", "etc/dpkg/dpkg.cfg.d/*mmdebstrap*"),
    # for other init systems, boot loaders, firewalls, and for reading
    *("etc/cron.*", "etc/init.d", "etc/rc?.d", "etc/sv", "etc/runit", "etc/ufw", "etc/dhcp", "etc/kernel/post*.d"),
    *("usr/share/doc-base", "usr/share/lintian", "usr/share/bug", "usr/share/man", "usr/share/info", "usr/share/locale"),
    "usr/include",
)
"""Patterns below the tree's root."""

_PIP = re.compile(r"^(pip|setuptools|wheel)(-[0-9][^/]*)?$")


def clean(tree: Path, epoch: int) -> None:
    """Run after the roles, before the factory copies are taken."""
    for pattern in _GONE:
        for path in sorted(tree.glob(pattern)):
            _remove(path)
    for folder in ("var/log", "var/cache"):
        _without_files(tree / folder)
    _identity(tree)
    _password_ages(tree, epoch)
    _stamps(tree)
    _installers(tree)
    _bytecode(tree)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _without_files(folder: Path) -> None:
    """Programs look for their folders; what they wrote there goes."""
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() or path.is_symlink():
            path.unlink()


def _identity(tree: Path) -> None:
    """Empty, not missing: an empty machine-id is filled at boot without being taken for a first boot that asks questions."""
    for name, text in {"machine-id": "", "hostname": "lockgate\n", "hosts": "127.0.0.1 localhost\n::1 localhost\n"}.items():
        file = tree / "etc" / name
        file.unlink(missing_ok=True)
        file.write_text(text)
        file.chmod(0o644)


def _password_ages(tree: Path, epoch: int) -> None:
    """The third field of shadow is the day of the last change: the day of the release, whenever the build ran."""
    file = tree / "etc/shadow"
    rows = [line.split(":") for line in file.read_text().splitlines()]
    file.write_text("".join(":".join([row[0], row[1], str(epoch // 86400), *row[3:]]) + "\n" for row in rows))


def _stamps(tree: Path) -> None:
    """community.general.pamd writes down when it did."""
    for file in sorted((tree / "etc/pam.d").iterdir()):
        file.write_text(re.sub(r"(?m)^# Updated by Ansible - .*$", "# Updated by Ansible", file.read_text()))


def _installers(tree: Path) -> None:
    """pip came along to install the gateway and is of no use on a read-only root."""
    for folder in (*tree.glob("opt/lockgate/releases/*/lib/python3*/site-packages"), *tree.glob("usr/lib/python3*/ensurepip")):
        for path in folder.iterdir() if folder.name != "ensurepip" else [folder]:
            if folder.name == "ensurepip" or _PIP.match(path.name.removesuffix(".dist-info")):
                _remove(path)
    for program in (*tree.glob("opt/lockgate/releases/*/bin/pip*"), *tree.glob("opt/lockgate/releases/*/bin/[Aa]ctivate*")):
        program.unlink()


def _bytecode(tree: Path) -> None:
    """Compiled anew, valid whatever the source's time is: all times in the image are the same."""
    for cache in sorted(tree.rglob("__pycache__")):
        shutil.rmtree(cache)
    folders = ["/usr/lib/python3", *(f"/{path.relative_to(tree)}" for path in sorted(tree.glob("usr/lib/python3.*")))]
    folders += [f"/{path.relative_to(tree)}" for path in sorted(tree.glob("opt/lockgate/releases/*/lib"))]
    command = ["python3", "-m", "compileall", "-q", "-f", "-j", str(os.cpu_count() or 1), "--invalidation-mode", "unchecked-hash", *folders]
    inside(tree, command, env={"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"})
