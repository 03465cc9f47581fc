# SPDX-License-Identifier: Apache-2.0
"""The contract's SSH example joins the demo: its files copied over, the listener added, `init` once more for what git cannot keep."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main

EXAMPLE = Path(__file__).parents[2] / "appliance" / "gateway" / "config" / "demo-ssh"


def listener() -> str:
    """What the example's README says to add to gateway.yaml."""
    return (EXAMPLE / "README.md").read_text().split("```yaml\n")[1].split("```")[0]


def lockgate(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, Any]:
    capsys.readouterr()
    status = main([*map(str, args), "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture
def etc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "etc"
    assert lockgate(capsys, "init", folder, "--demo")[0] == 0
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    text = (folder / "gateway.yaml").read_text()
    (folder / "gateway.yaml").write_text(text.replace("listeners:\n", listener(), 1))
    return folder


def test_init_makes_what_git_cannot_keep(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = lockgate(capsys, "check", "--config", etc)
    assert status == 2
    assert {problem["file"] for problem in found["problems"]} >= {"gateway.yaml", "policy/web.yaml", "credentials/web-1.yaml"}
    status, made = lockgate(capsys, "init", etc)
    assert status == 0
    assert set(made["written"]) == {
        "tls/ssh_host_ed25519_key", "tls/ssh_host_ed25519_key.pub", "tls/ssh_user_ca", "tls/ssh_user_ca.pub", "credentials/web-1.key",
        "credentials/web-1.key.pub", "trust/known_hosts"}
    for name in ("tls/ssh_host_ed25519_key", "tls/ssh_user_ca", "credentials/web-1.key", "credentials/web-1.yaml"):
        assert stat.S_IMODE((etc / name).stat().st_mode) & 0o077 == 0, name
    again = lockgate(capsys, "init", etc)
    assert again == (0, made | {"written": [], "modes": []})


def test_it_is_valid_and_its_cases_hold(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lockgate(capsys, "init", etc)
    status, found = lockgate(capsys, "check", "--config", etc)
    assert status == 0
    [warning] = found["warnings"]
    assert warning["message"].startswith("nobody has the key that stands there for this target")
    status, tested = lockgate(capsys, "policy", "test", "--config", etc)
    assert (status, tested["failed"], tested["failures"]) == (0, 0, [])


@pytest.mark.parametrize(("text", "effect"), [
    (["uptime; rm -rf /"], "deny"), (["uptime"], "allow"), (["reboot"], "approve"), (["--action", "read", "/srv/billing/a/b"], "allow"),
    (["--action", "read", "/srv/billing/../x"], "deny"), (["--action", "shell"], "deny"), (["--login", "root", "uptime"], "deny"),
    (["--action", "rename", "/srv/billing/a", "/srv/billing/b"], "allow"), (["--action", "forward-local", "127.0.0.1:22"], "deny"),
])
def test_explain(etc: Path, capsys: pytest.CaptureFixture[str], text: list[str], effect: str) -> None:
    lockgate(capsys, "init", etc)
    status, found = lockgate(capsys, "explain", "--config", etc, "--identity", "ci-bot", "--resource", "web-1", *text)
    assert (found["effect"], status) == (effect, 0 if effect != "deny" else 1)


def test_access_and_the_firewall_know_it(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lockgate(capsys, "init", etc)
    assert main(["access", "--config", str(etc), "--identity", "ci-bot", "--resource", "web-1"]) == 0
    assert "no-tunnels" in capsys.readouterr().out
    assert main(["network", "--config", str(etc)]) == 0
    assert "2222" in capsys.readouterr().out


def test_policy_diff_tells_commands_apart(etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lockgate(capsys, "init", etc)
    new = tmp_path / "new"
    shutil.copytree(etc, new)
    assert main(["policy", "diff", str(etc), str(new)]) == 0
    text = (new / "policy" / "web.yaml").read_text()
    (new / "policy" / "web.yaml").write_text(text.replace('"uptime"', '"uptime", "systemctl stop *"').replace(", x11, shell]", ", x11]"))
    capsys.readouterr()
    assert main(["policy", "diff", str(etc), str(new)]) == 1
    found = capsys.readouterr().out
    assert "WIDER  decision  ci-bot on web-1: exec systemctl stop: deny -> allow" in found
    assert "systemctl status" not in found


def test_policy_diff_asks_about_what_was_recorded(etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lockgate(capsys, "init", etc)
    new = tmp_path / "new"
    shutil.copytree(etc, new)
    text = (new / "policy" / "web.yaml").read_text()
    (new / "policy" / "web.yaml").write_text(text.replace('"cat /srv/billing/**"', '"cat /srv/billing/*"').replace("[read, write",
        "[write"))
    common = {"kind": "command.begin", "identity": "ci-bot", "resource": "web-1", "protocol": "ssh"}
    records = [{"verb": "exec", "objects": ["cat"], "text": "cat /srv/billing/a/b"},
        {"verb": "exec", "objects": ["cat"], "text": "cat /srv/billing/a"},
               {"verb": "read", "objects": ["/srv/billing/x/y"], "text": "read /srv/billing/x/y"}]
    export = tmp_path / "export.jsonl"
    export.write_text("".join(json.dumps(common | record) + "\n" for record in records))
    capsys.readouterr()
    assert main(["policy", "diff", str(etc), str(new), "--recorded", str(export), "--json"]) == 1
    changes = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    recorded = {change["question"]: (change["before"], change["after"]) for change in changes if change["source"] == "recorded"}
    assert recorded == {"cat /srv/billing/a/b": ("allow", "deny"), "read /srv/billing/x/y": ("allow", "deny")}
