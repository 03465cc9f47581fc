# SPDX-License-Identifier: Apache-2.0
"""The build of the compiled parts: real compiler, a small module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.native import compiled
from tools import native

PROBE = "# SPDX-License-Identifier: Apache-2.0\ncpdef int longer(int value):\n    return value + 1\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / native.PACKAGE).mkdir(parents=True)
    (tmp_path / native.PACKAGE / "__init__.py").write_text("")
    (tmp_path / native.PACKAGE / "_probe.pyx").write_text(PROBE)
    return tmp_path


def test_builds_what_is_imported_and_leaves_it_alone_until_its_source_changes(root: Path) -> None:
    library, = native.build(root)
    program = "import gateway._probe as probe; print(probe.longer(4))"
    where = {"PYTHONPATH": str(root / "appliance")}
    said = subprocess.run([sys.executable, "-c", program], env=where, check=True, capture_output=True, text=True)
    assert said.stdout == "5\n"
    first = library.read_bytes()
    before = library.stat().st_ino
    native.build(root)
    assert library.stat().st_ino == before
    native.build(root, force=True)
    assert library.read_bytes() == first, "the same sources give the same bytes"
    (root / native.PACKAGE / "_probe.pyx").write_text(PROBE.replace("+ 1", "+ 2"))
    native.build(root)
    assert library.read_bytes() != first


def test_a_source_that_does_not_compile_says_so(root: Path) -> None:
    (root / native.PACKAGE / "_probe.pyx").write_text("cdef int broken(:\n")
    with pytest.raises(native.Unbuildable, match=r"_probe\.pyx"):
        native.build(root)
    assert not native.target(root / native.PACKAGE / "_probe.pyx").exists()


def test_a_missing_compiler_says_what_to_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(native.Unbuildable, match="install gcc, or set LOCKGATE_PURE=1"):
        native.build(root)


def test_what_was_not_built_is_none_and_what_is_broken_is_an_error() -> None:
    assert compiled("gateway._never_built") is None
    with pytest.raises(ModuleNotFoundError):
        compiled("gateway_of_another_name._never_built")
