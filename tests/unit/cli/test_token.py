# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.cli.demo_folder import make_demo, run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def etc(tmp_path: Path, capsys: Capture) -> Path:
    made = make_demo(tmp_path)
    capsys.readouterr()
    return made


def minted(etc: Path, capsys: Capture, *words: str) -> str:
    assert run("token", "mint", "--config", str(etc), "--as", *words) == 0
    return capsys.readouterr().out.strip()


def inspected(etc: Path, capsys: Capture, token: str, *words: str) -> tuple[int, dict[str, Any]]:
    path = etc.parent / "token"
    path.write_text(token + "\n")
    status = run("token", "inspect", "--config", str(etc), "--json", *words, str(path))
    shown = capsys.readouterr().out
    assert token not in shown
    assert token.rpartition(".")[2] not in shown
    return status, json.loads(shown)


def test_identities_and_people(etc: Path, capsys: Capture) -> None:
    status, robot = inspected(etc, capsys, minted(etc, capsys, "ci-bot"))
    assert (status, robot["identity"], robot["owner"], robot["groups"], robot["person"]) == (0, "ci-bot", "dana", ["robots"], False)
    assert robot["subject"] == "project:payments/demo:ref:main"
    for name, groups in (("dana", ["dba"]), ("ines", ["dba"]), ("sam", ["security"]), ("omar", ["ops"])):
        status, person = inspected(etc, capsys, minted(etc, capsys, name))
        assert (status, person["identity"], person["groups"], person["person"]) == (0, name, groups, True)
    status, robot = inspected(etc, capsys, minted(etc, capsys, "reporting"))
    assert (status, robot["identity"], robot["owner"]) == (0, "reporting", "sam")


def test_claims_and_lifetime(etc: Path, capsys: Capture) -> None:
    token = minted(etc, capsys, "ci-bot", "--claim", "run_id=77", "--claim", "commit=abc=d", "--lifetime", "5m")
    assert inspected(etc, capsys, token)[1]["claims"] == {"run_id": "77", "commit": "abc=d"}
    status, said = inspected(etc, capsys, minted(etc, capsys, "ci-bot", "--claim", "ref_protected=false"))
    assert (status, said["accepted"]) == (1, False)
    assert said["reason"].endswith("ci-bot needs ref_protected 'true', it has 'false'")
    assert "may live 1 hour" in inspected(etc, capsys, minted(etc, capsys, "ci-bot", "--lifetime", "2h"))[1]["reason"]


def test_sources(etc: Path, capsys: Capture) -> None:
    token = minted(etc, capsys, "ci-bot")
    assert inspected(etc, capsys, token, "--source", "127.0.0.1")[0] == 0
    assert inspected(etc, capsys, token, "--source", "192.0.2.9")[0] == 1


def test_out_is_private(etc: Path, capsys: Capture) -> None:
    out = etc.parent / "x.token"
    out.write_text("old and longer than what comes" * 100)
    out.chmod(0o644)
    assert run("token", "mint", "--config", str(etc), "--as", "ci-bot", "--out", str(out)) == 0
    assert out.stat().st_mode & 0o777 == 0o600
    token = out.read_text().strip()
    assert token not in capsys.readouterr().out
    assert run("token", "inspect", "--config", str(etc), str(out)) == 0
    assert "identity       ci-bot" in capsys.readouterr().out


def test_standard_input(etc: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    token = minted(etc, capsys, "ines")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(token.encode())))
    assert run("token", "inspect", "--config", str(etc), "-") == 0


def test_refused_text_is_not_shown(etc: Path, capsys: Capture) -> None:
    for text in ("hunter2-hunter2", "", "x" * 40_000, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJoaSJ9."):
        path = etc.parent / "token"
        path.write_text(text)
        assert run("token", "inspect", "--config", str(etc), str(path)) == 1
        shown = capsys.readouterr().out
        assert shown.startswith("refused: ")
        assert len(text) < 8 or text not in shown


def test_wrong_requests(etc: Path, capsys: Capture) -> None:
    assert run("token", "inspect", "--config", str(etc), str(etc / "nothing")) == 2
    assert run("token", "mint", "--config", str(etc), "--as", "nobody") == 2
    assert "dana" in capsys.readouterr().out
    (etc / "demo" / "ci.jwk.json").unlink()
    assert run("token", "mint", "--config", str(etc), "--as", "ci-bot") == 2
    assert "only demo folders" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("token", "mint", "--config", str(etc), "--as", "ci-bot", "--claim", "novalue")
    with pytest.raises(SystemExit):
        run("token", "mint", "--config", str(etc), "--as", "ci-bot", "--lifetime", "soon")
