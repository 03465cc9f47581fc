# SPDX-License-Identifier: Apache-2.0
"""How large everything is and what is in it, as text for a person who decides whether to let it in."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from image.release import Release

_FOLDERS = (
    "usr/bin",
    "usr/sbin",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/systemd",
    "usr/lib/modules",
    "usr/lib/python3.13",
    "usr/lib",
    "usr/share",
    "opt",
    "etc",
    ".",
)


def text(release: Release, tree: Path, artefacts: Iterable[Path], sbom: Mapping[str, Any], root_hash: str) -> str:
    """The whole report. Same image, same text."""
    head = [f"Lockgate image {release.version}", f"commit    {release.commit}", f"root hash {root_hash}", ""]
    parts = [head, _artefacts(artefacts), _sizes(tree), _set_id(tree), _listening(tree), _packages(sbom)]
    return "\n".join(line for part in parts for line in part)


def _artefacts(files: Iterable[Path]) -> list[str]:
    return ["Files", *(f"  {_mib(file.stat().st_size)}  {file.name}" for file in files), ""]


def _sizes(tree: Path) -> list[str]:
    return [
        "Size of the root, unpacked",
        *(f"  {_mib(_below(tree / folder))}  /{folder if folder != '.' else ''}" for folder in _FOLDERS),
        "",
    ]


def _below(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _set_id(tree: Path) -> list[str]:
    found = [
        path
        for path in sorted(tree.rglob("*"))
        if not path.is_symlink() and path.is_file() and path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    ]
    return [
        "Set-user-ID and set-group-ID programs",
        *(f"  {stat.filemode(path.stat().st_mode)} /{path.relative_to(tree)}" for path in found),
        "",
    ]


def _listening(tree: Path) -> list[str]:
    wanted = sorted(
        path.name for folder in ("etc/systemd/system", "usr/lib/systemd/system") for path in (tree / folder).glob("*.target.wants/*")
    )
    return ["Units that are started", *(f"  {name}" for name in dict.fromkeys(wanted)), ""]


def _packages(sbom: Mapping[str, Any]) -> list[str]:
    rows = [f"  {component['name']} {component['version']}" for component in sbom["components"]]
    return [f"Packages ({len(rows)})", *rows, ""]


def _mib(size: int) -> str:
    return f"{size / (1 << 20):8.1f} MiB"
