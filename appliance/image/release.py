# SPDX-License-Identifier: Apache-2.0
"""Which image this is. Everything follows from the commit, so that one commit gives one image."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid5

from image.commands import run

ROOT = Path(__file__).resolve().parents[2]
IMAGE_ID = "lockgate"
_NAMES = UUID("6f1f6f0e-5d0b-4d0e-9b5c-6a3a1d1f2f11")
"""Name space of the identifiers derived here; any fixed value does."""


@dataclass(frozen=True, slots=True)
class Release:
    """``epoch`` is the commit's time: every time stamp in the image. ``number`` grows with it and orders releases."""

    package: str
    epoch: int
    commit: str

    @property
    def number(self) -> int:
        return int(datetime.fromtimestamp(self.epoch, UTC).strftime("%Y%m%d%H%M%S"))

    @property
    def version(self) -> str:
        """``0.1.0.20261122043400``; with ``lockgate_`` before it within the 36 characters of a partition's label."""
        return f"{self.package}.{self.number}"

    def uuid(self, purpose: str) -> UUID:
        return uuid5(_NAMES, f"{self.version}/{purpose}")

    def file(self, kind: str) -> str:
        """The name of an artefact, such as ``lockgate_VERSION.root``."""
        return f"{IMAGE_ID}_{self.version}.{kind}"


def of_checkout() -> Release:
    """The release of this checkout's commit; ``SOURCE_DATE_EPOCH`` overrides its time."""
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    commit, seconds = run(["git", "-C", ROOT, "log", "-1", "--format=%H %ct"]).split()
    return Release(package, int(os.environ.get("SOURCE_DATE_EPOCH", seconds)), commit)
