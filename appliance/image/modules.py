# SPDX-License-Identifier: Apache-2.0
"""The kernel and its closed list of modules, from the tools tree into the root."""

from __future__ import annotations

import shutil
from pathlib import Path

from image.chroot import inside

_INDEX = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


def listed(name: str) -> list[str]:
    """The modules in ``modules/NAME.list``."""
    lines = (Path(__file__).parent / "modules" / f"{name}.list").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def kernel_version(tools: Path) -> str:
    (folder,) = (tools / "usr/lib/modules").iterdir()
    return folder.name


def install(tools: Path, root: Path) -> None:
    """Copy the listed modules and those that they need; index them anew."""
    version = kernel_version(tools)
    folder = Path("usr/lib/modules") / version
    shutil.rmtree(root / "usr/lib/modules", ignore_errors=True)
    (root / folder).mkdir(parents=True)
    for name in _INDEX:
        shutil.copy(tools / folder / name, root / folder / name)
    for module in sorted(_closure(tools, version, [*listed("initrd"), *listed("root")])):
        target = root / module.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tools / module.lstrip("/"), target)
    inside(tools, ["depmod", "--basedir", "/mnt", version], binds={"/mnt": root})


def _closure(tools: Path, version: str, names: list[str]) -> set[str]:
    said = inside(tools, ["modprobe", "--set-version", version, "--show-depends", "--all", *names])
    words = (line.split() for line in said.splitlines())
    return {
        line[1].replace("/lib/modules", "/usr/lib/modules", 1) if line[1].startswith("/lib/") else line[1]
        for line in words
        if line[0] == "insmod"
    }
