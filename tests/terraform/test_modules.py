# SPDX-License-Identifier: Apache-2.0
"""Format, schema, and the modules' own tests, under both programs. No hypervisor is needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.terraform.programs import REPOSITORY, Program, Workspace

ROOT = REPOSITORY / "terraform"
CONFIGURATIONS = sorted({str(file.parent.relative_to(ROOT)) for file in ROOT.rglob("main.tf") if ".terraform" not in file.parts})
TESTED = sorted({str(file.parents[1].relative_to(ROOT)) for file in ROOT.rglob("*.tftest.hcl") if ".terraform" not in file.parts})
FOUR_FILES = {"main.tf", "variables.tf", "outputs.tf", "versions.tf"}


def test_format(program: Program, tree: Path) -> None:
    assert Workspace(program, tree).run("fmt", "-recursive", "-check", "-diff") == ""


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_valid(program: Program, tree: Path, configuration: str) -> None:
    Workspace(program, tree / configuration).init().run("validate", "-no-color")


def test_init_needs_no_network(program: Program, tree: Path) -> None:
    Workspace(program, tree / "environments/example", under=("unshare", "--net")).init().run("validate", "-no-color")


@pytest.mark.parametrize("configuration", TESTED)
def test_own_tests(program: Program, tree: Path, configuration: str) -> None:
    said = Workspace(program, tree / configuration).init().run("test", "-no-color")
    assert re.search(r"Success! [1-9]\d* passed, 0 failed\.", said)


@pytest.mark.parametrize("configuration", [c for c in CONFIGURATIONS if "examples" not in c])
def test_four_files(configuration: str) -> None:
    assert {file.name for file in (ROOT / configuration).glob("*.tf")} == FOUR_FILES


@pytest.mark.parametrize("file", sorted(ROOT.rglob("variables.tf")), ids=lambda file: str(file.relative_to(ROOT)))
def test_variables_are_typed_and_described(file: Path) -> None:
    blocks = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', file.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for name, block in blocks:
        assert re.search(r"^  type +=", block, re.MULTILINE), name
        assert re.search(r'^  description +=  *"[^"]{10,}', block, re.MULTILINE), name
