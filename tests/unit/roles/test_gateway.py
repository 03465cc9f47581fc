# SPDX-License-Identifier: Apache-2.0
"""The role gateway's own programs: what they write and switch, without a host."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.document import read_document
from tests.unit.cli.demo_folder import make_demo
from tests.unit.roles.playbook import plugin

release: Any = plugin("gateway", "library/lockgate_release.py")
install: Any = plugin("gateway", "library/lockgate_install.py")
action: Any = plugin("gateway", "action_plugins/lockgate_release.py")
wheelhouse: Any = plugin("gateway", "action_plugins/lockgate_install.py")

SETTINGS = {
    "name": "on", "segment": "0o17", "state": "/var/lib/lockgate", "number": 7, "truth": True, "odd": "a: b # c", "date": "2026-01-01",
    "long": "x" * 300, "limits": {"drain": "30s", "operations_per_identity": "100000/s", "message": "64MiB"}, "template": "{{ 7*7 }}",
    "listeners": {name: {"tls": {"key": "tls/gateway.key"}} for name in ("postgres", "console")}, "none": ["null", "~", "yes", "1e3", "é"],
}


def test_settings_are_read_back_as_they_were() -> None:
    """By YAML 1.1 and by the gateway's own reader, which knows no anchors and only the core schema of 1.2."""
    shared = {"certificate": "tls/gateway.crt"}
    settings = {**SETTINGS, "again": [shared, shared]}
    text = action.rendered(settings)
    assert yaml.safe_load(text) == settings
    document = read_document("gateway.yaml", text.encode())
    assert document.value == settings
    assert not document.problems


def test_a_segment_is_copied_byte_by_byte(tmp_path: Path) -> None:
    names = ["policy/a.yaml", "policy/deep/{{ x }} $(y) 'z\".yaml", "policy/tests/t.yaml", "trust/ca.pem", "trust/.gitkeep"]
    for name in [*names, "credentials/x.yaml", "README.md"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() + b"\r\n\xff\x00{{ 7*7 }}")
    assert action.segment_files(tmp_path) == {name: name.encode() + b"\r\n\xff\x00{{ 7*7 }}" for name in names}


@pytest.mark.parametrize("link", ["policy/notes.yaml", "policy/deep", "trust", "trust/ca.pem"])
def test_t69_a_link_brings_nothing_of_the_controller_along(tmp_path: Path, link: str) -> None:
    """A pull request can hold one: what it points to would be in the rendered folder, in a diff, and on the gateway."""
    secret = tmp_path / "home"
    (secret / "keys").mkdir(parents=True)
    (secret / "keys" / "id_ed25519").write_text("secret")
    segment = tmp_path / "segment"
    (segment / "policy").mkdir(parents=True)
    (segment / link).parent.mkdir(exist_ok=True)
    (segment / link).symlink_to(secret / "keys" / ("id_ed25519" if "." in link else ""))
    with pytest.raises(action.AnsibleActionFail, match="not a link"):
        action.segment_files(segment)


def test_a_folder_without_policy_is_no_segment(tmp_path: Path) -> None:
    with pytest.raises(action.AnsibleActionFail, match="gateway_segment_folder"):
        action.segment_files(tmp_path)


def test_another_version_than_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(wheelhouse.AnsibleActionFail, match="is no wheelhouse"):
        wheelhouse.read_manifest(tmp_path, "0.1.0")
    (tmp_path / "manifest.json").write_text('{"version": "0.2.0"}')
    with pytest.raises(wheelhouse.AnsibleActionFail, match=r"holds lockgate 0\.2\.0, and the inventory asks for 0\.1\.0"):
        wheelhouse.read_manifest(tmp_path, "0.1.0")


def content(files: dict[str, bytes], links: dict[str, str]) -> Any:
    return release.Content(files, links)


def test_an_id_follows_names_contents_and_links() -> None:
    base = content({"a": b"1"}, {"l": "/x"})
    assert len(base.id) == 16
    assert base.id == content({"a": b"1"}, {"l": "/x"}).id
    others = [content({"b": b"1"}, {"l": "/x"}), content({"a": b"2"}, {"l": "/x"}), content({"a": b"1"}, {"l": "/y"}),
              content({"a": b"1"}, {"m": "/x"}), content({"a": b"1", "l": b"/x"}, {}), content({"a": b"1"}, {})]
    assert len({base.id, *(other.id for other in others)}) == 7


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    wanted = content({"gateway.yaml": b"x", "policy/deep/a.yaml": b"\xff"}, {"credentials/x.yaml": "/run/x"})
    (tmp_path / "f").mkdir()
    release.write(tmp_path / "f", wanted, os.getgid())
    assert release.read(tmp_path / "f") == wanted
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "f").rglob("*") if path.is_dir()} == {"0o750"}
    assert (tmp_path / "f" / "policy" / "deep" / "a.yaml").stat().st_mode & 0o777 == 0o640
    assert release.read(tmp_path / "missing") == content({}, {})


def test_a_difference_names_every_path_that_changes() -> None:
    before, after = content({"a": b"1", "b": b"2"}, {"l": "/x"}), content({"b": b"3", "c": b"4"}, {"l": "/x"})
    assert [(one["before_header"], one["before"], one["after"]) for one in release.difference(before, after)] == [
        ("a", "1", ""), ("b", "2", "3"), ("c", "", "4")]


def test_a_link_is_switched_and_taken_away(tmp_path: Path) -> None:
    link = tmp_path / "current"
    for name in ("one", "two"):
        (tmp_path / "releases" / name).mkdir(parents=True)
        release.switch(link, tmp_path / "releases" / name)
        assert str(link.readlink()) == f"releases/{name}"
        assert release.pointed(link) == tmp_path / "releases" / name
    release.switch(link, None)
    assert release.pointed(link) is None
    assert [path.name for path in tmp_path.iterdir()] == ["releases"]


def archive(path: Path, files: dict[str, bytes]) -> dict[str, str]:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_only_wheels_that_the_manifest_names_are_unpacked(tmp_path: Path) -> None:
    named = archive(tmp_path / "wheels.tar", {"a.whl": b"1", "b.whl": b"2"})
    (tmp_path / "out").mkdir()
    install.unpack(tmp_path / "wheels.tar", tmp_path / "out", named)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {"a.whl": b"1", "b.whl": b"2"}
    for wrong, why in (({**named, "c.whl": "0"}, "lacks c.whl"), ({"a.whl": named["a.whl"]}, "does not name"),
                       ({**named, "b.whl": named["a.whl"]}, "not what the manifest says")):
        with pytest.raises(install.Wrong, match=why):
            install.unpack(tmp_path / "wheels.tar", tmp_path / "out", wrong)
    archive(tmp_path / "hostile.tar", {"../escape": b"1"})
    with pytest.raises(install.Wrong, match="does not name"):
        install.unpack(tmp_path / "hostile.tar", tmp_path / "out", named)
    assert not (tmp_path / "escape").exists()


def test_pip_is_not_among_what_stays() -> None:
    assert install.pins("aiohttp==1 --hash=sha256:1\npip==2 --hash=sha256:2\npipdeptree==3 --hash=sha256:3\n") == (
        "aiohttp==1 --hash=sha256:1\npipdeptree==3 --hash=sha256:3\n")


def test_old_releases_go_but_never_what_somebody_would_go_back_to(tmp_path: Path) -> None:
    for age, name in enumerate(("1", "2", "3", "4", "5")):
        (tmp_path / "releases" / name).mkdir(parents=True)
        os.utime(tmp_path / "releases" / name, (age, age))
    (tmp_path / "current").symlink_to("releases/2")
    (tmp_path / "previous").symlink_to("releases/1")
    assert [path.name for path in install.old(tmp_path, tmp_path / "releases" / "5", 1)] == ["3"]
    assert install.first(tmp_path, tmp_path / "releases" / "5") is False


def test_a_release_without_its_mark_is_not_installed(tmp_path: Path) -> None:
    assert install.installed(tmp_path) is None
    (tmp_path / install.MARK).write_text('{"wheels": "abc"}')
    assert install.installed(tmp_path) == "abc"


def asked_here(program: Path, folder: Path, *verb: str) -> subprocess.CompletedProcess[str]:
    """The program of this checkout, as whoever runs the tests."""
    return subprocess.run([sys.executable, "-m", "gateway.cli", *verb, "--config", str(folder), "--json"], capture_output=True, text=True)


def test_a_revoked_identity_waits_for_no_case_and_any_other_case_still_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "asked", asked_here)
    etc = make_demo(tmp_path)
    (etc / "policy" / "revoked.yaml").write_text("revoked: [{identity: ci-bot}]\n")
    said = release.tested(tmp_path, etc)
    assert 'REVOKED (does not hold as long as that is so): ci-bot on orders-db: "delete from orders": the identity is revoked' in said
    assert all(": ci-bot on orders-db: " in line for line in said)
    case = '{identity: reporting, resource: orders-db, sql: "delete from orders", effect: allow}'
    (etc / "policy" / "tests" / "more.yaml").write_text(f"tests:\n  - {case}\n")
    with pytest.raises(release.Wrong) as refused:
        release.tested(tmp_path, etc)
    assert str(refused.value).endswith('changed: reporting on orders-db: "delete from orders": effect: expected allow, got deny')


def test_a_case_that_only_the_revoked_list_denies_is_told_as_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "asked", asked_here)
    etc = make_demo(tmp_path)
    case = '{identity: ci-bot, resource: orders-db, sql: "select id from orders", effect: deny}'
    (etc / "policy" / "tests" / "more.yaml").write_text(f"tests:\n  - {case}\n")
    with pytest.raises(release.Wrong, match="effect: expected deny, got allow"):
        release.tested(tmp_path, etc)
    (etc / "policy" / "revoked.yaml").write_text("revoked: [{identity: ci-bot}]\n")
    held = [line for line in release.tested(tmp_path, etc) if line.startswith("HELD")]
    assert held == ['HELD (no rule denies it, only that does): ci-bot on orders-db: "select id from orders": the identity is revoked']


def test_what_check_warns_of_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "asked", asked_here)
    etc = make_demo(tmp_path)
    assert release.checked(tmp_path, etc) == []
    (etc / "policy" / "revoked.yaml").write_text('revoked: [{identity: ci-bot, until: "2020-01-01T00:00:00Z"}]\n')
    assert release.checked(tmp_path, etc) == ["policy/revoked.yaml:1: revoked[0]: this entry has ended and revokes nothing any more"]
    (etc / "policy" / "revoked.yaml").write_text("revoked: [{identity: nobody-here, until: never}]\n")
    with pytest.raises(release.Wrong, match="lockgate check refuses the folder, nothing was changed: policy/revoked"):
        release.checked(tmp_path, etc)


class Warned:
    """A module that only warns."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warn = self.said.append


@pytest.mark.parametrize(("files", "told"), [({}, 41), (None, 0)])
def test_warnings_are_told_of_what_comes_from_the_inventory_and_not_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str] | None, told: int
) -> None:
    monkeypatch.setattr(release, "checked", lambda *_: ["one"] * 30)
    monkeypatch.setattr(release, "tested", lambda *_: ["other"] * 30)
    work = release.Work.__new__(release.Work)
    work.given, work.module = {"files": files}, Warned()
    work.accepted(tmp_path, tmp_path)
    assert len(work.module.said) == told
    assert [line.partition(":")[0] for line in work.module.said[40:]] == ["20 more"] * (told > 40)


def test_a_program_that_names_no_revoked_cases_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is to serve the folder may be older than the role."""
    (tmp_path / "policy" / "tests").mkdir(parents=True)
    (tmp_path / "policy" / "tests" / "a.yaml").touch()
    monkeypatch.setattr(release, "asked", lambda *asked: subprocess.CompletedProcess(asked, 0, '{"failures": []}'))
    assert release.tested(tmp_path, tmp_path) == []


@pytest.mark.parametrize("said", ["", "Traceback", "[]", '{"failures": []}', '{"failures": [{}]}', '{"failures": [7]}'])
def test_a_program_that_fails_without_a_case_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    (tmp_path / "policy" / "tests").mkdir(parents=True)
    (tmp_path / "policy" / "tests" / "a.yaml").touch()
    monkeypatch.setattr(release, "asked", lambda *asked: subprocess.CompletedProcess(asked, 1, said))
    with pytest.raises(release.Wrong, match="lockgate policy test refuses the folder"):
        release.tested(tmp_path, tmp_path)


@pytest.mark.parametrize("text", ["[]", "7", '{"began": null}', "[" * 100_000, "{", None])
def test_a_verdict_that_the_service_spoiled_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """The module runs as root, and the file is the service's: a pipe in its place holds nobody up."""
    told = tmp_path / "serving.json"
    told.write_text(text) if text is not None else os.mkfifo(told)
    monkeypatch.setattr(release, "VERDICT", told)
    host = release.Host(tmp_path, tmp_path)
    host.active = True
    assert host.verdict() == release.Verdict()
    told.unlink()
    told.write_text('{"began": 7, "folder": "/a"}')
    assert host.verdict() == release.Verdict(began=7.0, folder="/a")
    told.rename(tmp_path / "away")
    told.symlink_to(tmp_path / "away")
    assert host.verdict() == release.Verdict()
