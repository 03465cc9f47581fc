# SPDX-License-Identifier: Apache-2.0
"""``lockgate check``: 0 or 2, and what it says."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from gateway.cli import check, init


@pytest.fixture
def demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    init.run(Namespace(folder=tmp_path / "etc", demo=True, ssh=False, json=False, host=[]))
    capsys.readouterr()
    return tmp_path / "etc"


def test_the_demo_folder_is_valid(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(Namespace(config=demo, json=False)) == 0
    answer = capsys.readouterr()
    assert "postgres 127.0.0.1:15432" in answer.out
    assert "orders-db" in answer.out
    assert "is valid" in answer.out
    assert answer.err == ""


def test_json_of_a_valid_folder(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(Namespace(config=demo, json=True)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is True
    assert answer["problems"] == answer["warnings"] == []
    assert answer["resources"] == ["orders-db"]
    assert answer["policy"].startswith("sha256:")


def test_problems(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (demo / "policy/masks.yaml").write_text("mask: []\n")
    assert check.run(Namespace(config=demo, json=False)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("policy/grants/ci-bot.yaml:17: grants[0].masks[0]: expected the name of a mask set")
    assert lines[-1] == f"{demo}: {len(lines) - 1} problems"


def test_json_of_problems(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (demo / "gateway.yaml").write_text((demo / "gateway.yaml").read_text().replace("segment:", "segmnt:"))
    assert check.run(Namespace(config=demo, json=True)) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    assert {"file": "gateway.yaml", "line": 2, "key": "segmnt"}.items() <= answer["problems"][1].items()
    assert "did you mean 'segment'" in answer["error"]


def test_broken_tests_are_a_problem_too(demo: Path) -> None:
    (demo / "policy/tests/x.yaml").write_text("tests: [{identity: nobody}]\n")
    assert check.run(Namespace(config=demo, json=True)) == 2


def test_modes_are_checked(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (demo / "credentials/orders-db.yaml").chmod(0o644)
    assert check.run(Namespace(config=demo, json=False)) == 2
    assert "not to be readable by others" in capsys.readouterr().err


def test_no_folder(tmp_path: Path) -> None:
    assert check.run(Namespace(config=tmp_path / "none", json=False)) == 2


def test_warnings_are_no_problems(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (demo / "policy/more.yaml").write_text("masks: [{name: spare}]\n")
    assert check.run(Namespace(config=demo, json=False)) == 0
    assert "warning: policy/more.yaml:1: masks[0].name: no grant names 'spare'" in capsys.readouterr().out
