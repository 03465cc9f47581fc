# SPDX-License-Identifier: Apache-2.0
"""The demo folder, made once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.config.folder import Demo, make


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "etc")


@pytest.fixture
def demo(made: Path, tmp_path: Path) -> Demo:
    shutil.copytree(made, tmp_path / "etc")
    return Demo(tmp_path / "etc")
