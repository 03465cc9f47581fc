# SPDX-License-Identifier: Apache-2.0
"""What of the tree can be written on a running gateway, and how it comes to be there.

``/var`` is a partition of its own, ``/home`` and ``/root`` are in memory. What the packages and roles left in them becomes a factory copy
in the root and a list for ``systemd-tmpfiles``: directories and files that are missing are made at every boot, those that are there stay.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

FACTORY = Path("usr/share/factory")
LIST = Path("usr/lib/tmpfiles.d/lockgate-state.conf")
PACKAGES = Path("usr/lib/sysimage/dpkg")
"""The package database describes the root, so it is part of the root."""

WRITABLE = ("var", "home", "root")


def separate(tree: Path) -> None:
    """Turn the writable folders of ``tree`` into mount points, a factory copy and a list."""
    _package_database(tree)
    names = _Names(tree)
    lines = [line for folder in WRITABLE for line in _lines(tree, tree / folder, names)]
    for folder in WRITABLE:
        _to_factory(tree, folder)
    (tree / LIST).write_text(
        "# SPDX-License-Identifier: Apache-2.0\n# Made by the image build from what packages and roles left behind.\n"
        + "\n".join(lines)
        + "\n"
    )


def _package_database(tree: Path) -> None:
    target = tree / PACKAGES
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    (tree / "var/lib/dpkg").rename(target)
    (tree / "var/lib/dpkg").symlink_to(f"/{PACKAGES}")


class _Names:
    """The tree's own names of users and groups; numbers where it has none."""

    def __init__(self, tree: Path) -> None:
        self.users = _names_by_number(tree / "etc/passwd")
        self.groups = _names_by_number(tree / "etc/group")

    def owner(self, found: os.stat_result) -> str:
        return f"{self.users.get(found.st_uid, str(found.st_uid))} {self.groups.get(found.st_gid, str(found.st_gid))}"


def _names_by_number(file: Path) -> dict[int, str]:
    rows = (line.split(":") for line in file.read_text().splitlines())
    return {int(row[2]): row[0] for row in rows}


def _lines(tree: Path, folder: Path, names: _Names) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if any(parent.is_symlink() for parent in path.relative_to(tree).parents):
            continue
        target = "/" + str(path.relative_to(tree)).replace(" ", "\\x20").replace("%", "%%")
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            yield f"L {target} - - - - {str(path.readlink()).replace('%', '%%')}"
        elif stat.S_ISDIR(found.st_mode):
            yield f"d {target} {stat.S_IMODE(found.st_mode):04o} {names.owner(found)} -"
        elif stat.S_ISREG(found.st_mode):
            yield f"C {target} {stat.S_IMODE(found.st_mode):04o} {names.owner(found)} -"


def _to_factory(tree: Path, folder: str) -> None:
    source, target = tree / folder, tree / FACTORY / folder
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(source.stat().st_mode)
    source.rename(target)
    source.mkdir(mode=mode)
    source.chmod(mode)
    for path in sorted(target.rglob("*"), reverse=True):
        if path.is_symlink():
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
