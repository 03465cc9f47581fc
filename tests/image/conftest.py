# SPDX-License-Identifier: Apache-2.0
"""The image in build/image (or LOCKGATE_IMAGE), looked at without booting it: its root is mounted as it is. Needs root."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from image.commands import run
from image.release import ROOT
from image.tree import debian_tree


@dataclass(frozen=True, slots=True)
class Image:
    """``root`` is the mounted root; ``tools`` is the tree that built it."""

    folder: Path
    manifest: dict[str, Any]
    root: Path
    tools: Path

    def file(self, kind: str) -> Path:
        return self.folder / f"lockgate_{self.manifest['version']}.{kind}"

    def files(self) -> list[Path]:
        """Every regular file of the root."""
        return [path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = Path(os.environ.get("LOCKGATE_IMAGE", ROOT / "build/image"))
    if not (folder / "manifest.json").exists():
        run([ROOT / "appliance/image/build", "--out", folder])
    manifest = json.loads((folder / "manifest.json").read_text())
    mounted = tmp_path_factory.mktemp("root")
    run(["mount", "-t", "erofs", "-o", "loop,ro", folder / f"lockgate_{manifest['version']}.root", mounted])
    try:
        yield Image(folder, manifest, mounted, debian_tree("tools", 0).path)
    finally:
        run(["umount", mounted])
