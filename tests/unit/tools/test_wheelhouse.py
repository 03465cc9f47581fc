# SPDX-License-Identifier: Apache-2.0
"""What a wheelhouse says about itself, without building or downloading one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import wheelhouse

INPUTS = {"source": "s", "pins": "p"}


def test_a_label_makes_a_local_version() -> None:
    assert wheelhouse.with_local("0.1.0", "") == "0.1.0"
    assert wheelhouse.with_local("0.1.0", "site2.b") == "0.1.0+site2.b"


@pytest.mark.parametrize("label", ["Site", "a b", "a..b", "$(x)", "a+b", "."])
def test_other_labels_are_refused(label: str) -> None:
    with pytest.raises(SystemExit, match="a label is"):
        wheelhouse.with_local("0.1.0", label)


@pytest.mark.parametrize(("wheel", "expected"), [
    ("lockgate-0.1.0-py3-none-any.whl", ("lockgate", "0.1.0")),
    ("lockgate-0.1.0+site2-py3-none-any.whl", ("lockgate", "0.1.0+site2")),
    ("google_re2-1.1.20251105-1-cp313-cp313-manylinux_2_27_x86_64.whl", ("google-re2", "1.1.20251105")),
    ("PyYAML-6.0.3-cp313-cp313-manylinux2014_x86_64.whl", ("pyyaml", "6.0.3")),
])
def test_a_wheel_is_named_by_its_file(wheel: str, expected: tuple[str, str]) -> None:
    assert wheelhouse.name_and_version(wheel) == expected


def test_every_file_is_pinned_to_its_hash() -> None:
    lines = wheelhouse.requirements({"b_c-2-py3-none-any.whl": "22", "a-1-py3-none-any.whl": "11"}).splitlines()
    assert lines[-2:] == ["a==1 --hash=sha256:11", "b-c==2 --hash=sha256:22"]


def test_no_platform_is_newer_than_debian_12() -> None:
    named = wheelhouse.platforms()
    assert "manylinux_2_36_x86_64" in named
    assert "manylinux_2_37_x86_64" not in named


def test_a_manifest_that_its_folder_contradicts_counts_as_none(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    files = wheelhouse.hashes(tmp_path)
    written = wheelhouse.manifest("1", "cp313", INPUTS, files)
    (tmp_path / "manifest.json").write_text(json.dumps(written))
    assert wheelhouse.read_manifest(tmp_path) is None
    (tmp_path / "requirements.txt").write_text(wheelhouse.requirements(files))
    assert wheelhouse.read_manifest(tmp_path) == written
    wheel.write_bytes(b"another")
    assert wheelhouse.read_manifest(tmp_path) != wheelhouse.manifest("1", "cp313", INPUTS, wheelhouse.hashes(tmp_path))
    (tmp_path / "manifest.json").write_text("[")
    assert wheelhouse.read_manifest(tmp_path) is None


def test_only_sources_go_into_the_wheel() -> None:
    names = {path.relative_to(wheelhouse.ROOT).as_posix() for path in wheelhouse.source_files(wheelhouse.ROOT)}
    assert {"pyproject.toml", "LICENSE", "README.md", "appliance/gateway/py.typed", "appliance/gateway/cli/serve.py"} <= names
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in names)


def test_the_digest_follows_names_and_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    first = wheelhouse.digest_of_tree([path], tmp_path)
    path.write_text("2")
    second = wheelhouse.digest_of_tree([path], tmp_path)
    path.rename(tmp_path / "b")
    assert len({first, second, wheelhouse.digest_of_tree([tmp_path / "b"], tmp_path)}) == 3
