# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.demo_folder import run
from tests.unit.cli.log_folder import make

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    return make(tmp_path)


def exported(etc: Path, capfdbinary: pytest.CaptureFixture[bytes], *words: str) -> bytes:
    assert run("audit", "export", "--config", str(etc), *words) == 0
    return capfdbinary.readouterr().out


def test_export_is_json_lines_and_goes_on_where_it_stopped(etc: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    whole = exported(etc, capfdbinary)
    lines = whole.splitlines(keepends=True)
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert exported(etc, capfdbinary, "--since", "plant-a-1:5") == b"".join(lines[5:])
    assert exported(etc, capfdbinary, "--since", "plant-a-1:100000") == b""
    assert exported(etc, capfdbinary, "--since", "another:5", "--json") == whole
    assert run("audit", "export", "--config", str(etc), "--since", "5") == 2


def test_verify_says_how_far_it_can_vouch(etc: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run("audit", "verify", "--config", str(etc)) == 0
    said = capsys.readouterr().out
    assert said.endswith("intact\n")
    assert "vouched for up to record" in said
    assert "no anchor given" in said
    assert run("audit", "head", "--config", str(etc)) == 0
    anchor = tmp_path / "anchor"
    anchor.write_text(capsys.readouterr().out)
    assert run("audit", "verify", "--config", str(etc), "--anchor", str(anchor), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "intact"
    assert document["origins"]["plant-a-1"]["anchored"] == document["origins"]["plant-a-1"]["vouched"]


def test_verify_a_file_elsewhere_needs_only_the_public_key(
        etc: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path, key = tmp_path / "log.jsonl", str(tmp_path / "key.pub")
    whole = exported(etc, capfdbinary)
    path.write_bytes(whole)
    assert run("audit", "verify", str(path), "--key", key, "--config", "/nowhere") == 0
    assert run("audit", "verify", str(path), "--config", "/nowhere") == 2
    assert b"--key" in capfdbinary.readouterr().out
    assert run("audit", "verify", str(tmp_path / "none"), "--key", key) == 2
    assert run("audit", "verify", str(tmp_path / "state"), "--key", key) == 0
    path.write_bytes(whole.replace(b"DROP DATABASE", b"SELECT NOTHING"))
    assert run("audit", "verify", str(path), "--key", key) == 1
    said = capfdbinary.readouterr().out.decode()
    assert "TAMPERED plant-a-1:" in said
    assert "(log.jsonl:" in said
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[3:]))
    assert run("audit", "verify", str(path), "--key", key) == 2


def test_an_anchor_that_nobody_signed_is_no_anchor(etc: Path, tmp_path: Path, capsys: Capture) -> None:
    anchor = tmp_path / "anchor"
    for text in ("", "not a note\n", "plant-a-1\n3\n"):
        anchor.write_text(text)
        assert run("audit", "verify", "--config", str(etc), "--anchor", str(anchor)) == 2
    anchor.write_bytes(b"\xff" * 100)
    assert run("audit", "verify", "--config", str(etc), "--anchor", str(anchor)) == 2
    assert run("audit", "verify", "--config", str(etc), "--anchor", str(tmp_path / "none")) == 2


def test_names_in_findings_do_not_reach_the_terminal(etc: Path, tmp_path: Path, capsys: Capture) -> None:
    """T53: the log under suspicion is written by whoever changed it."""
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"origin": "x\x1b[2J\u202e", "seq": 1, "kind": "\x1b]0;"}) + "\n")
    assert run("audit", "verify", str(path), "--key", str(tmp_path / "key.pub")) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_without_a_log(tmp_path: Path, etc: Path) -> None:
    import shutil

    from gateway.errors import GatewayFault
    shutil.rmtree(tmp_path / "state")
    assert run("audit", "verify", "--config", str(etc)) == 2
    for verb in ("head", "export"):
        with pytest.raises(GatewayFault):
            run("audit", verb, "--config", str(etc))
