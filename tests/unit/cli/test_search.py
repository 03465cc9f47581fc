# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli.search import excerpt
from tests.unit.cli.demo_folder import run
from tests.unit.cli.log_folder import make

Capture = pytest.CaptureFixture[str]


def test_search(tmp_path: Path, capsys: Capture) -> None:
    etc = str(make(tmp_path))
    assert run("search", "drop data", "--config", etc) == 0
    said = capsys.readouterr().out
    assert "s-0001" in said
    assert "DROP DATABASE orders" in said
    assert run("search", "drop data", "--config", etc, "--json") == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["DROP DATABASE orders"]
    assert run("search", "customers", "--config", etc) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert run("search", "nowhere to be found", "--config", etc) == 1
    assert run("search", "", "--config", etc) == 2
    assert run("search", "x", "--limit", "0", "--config", etc) == 2


def test_the_excerpt_is_around_what_was_found() -> None:
    text = "SELECT " + "a, " * 200 + "needle FROM haystack" + ", b" * 200
    shown = excerpt({"text": text}, "NEEDLE")
    assert "needle FROM haystack" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) <= 82
    assert excerpt({"text": "SELECT 1", "reason": "denied by ci/never"}, "never") == "denied by ci/never"
    assert excerpt({}, "x") == ""
