# SPDX-License-Identifier: Apache-2.0
"""Which files of /etc outlive a reboot, and which do not."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from image.guest.programs import site_files


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list, a store, /etc and the layer above it; here /etc is the layer."""
    (tmp_path / "list").write_text("# what a site decides\nhostname\nssh/*.pub\nsystemd/network/*.network\n")
    for name in ("store", "etc/ssh"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(site_files, "LIST", tmp_path / "list")
    monkeypatch.setattr(site_files, "STORE", tmp_path / "store")
    monkeypatch.setattr(site_files, "ETC", tmp_path / "etc")
    monkeypatch.setattr(site_files, "LAYER", tmp_path / "etc")
    monkeypatch.setattr("socket.sethostname", lambda name: None)
    (tmp_path / "etc/hostname").write_text("lockgate\n")
    (tmp_path / "etc/ssh/ssh_host_ed25519_key").write_text("key")
    return tmp_path


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root's files are made here")


@pytest.mark.parametrize(("name", "expected"), [
    ("hostname", True), ("ssh/host.pub", True), ("systemd/network/10-lan.network", True),
    ("ssh/deep/host.pub", False), ("systemd/system/evil.service", False),
    ("hostname/x", False), ("sudoers.d/x", False), ("../hostname", False),
])  # fmt: skip
def test_the_list_is_closed(host: Path, name: str, expected: bool) -> None:
    assert site_files.decided_by_site(PurePosixPath(name), site_files.patterns()) is expected


@needs_root
def test_saved_files_come_back_and_others_do_not(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "etc/hostname").write_text("gw-1\n")
    (host / "etc/sudoers").write_text("ALL\n")
    assert site_files.save() == 0
    assert capsys.readouterr().out == "saved hostname\n"
    assert site_files.save() == 0
    assert capsys.readouterr().out == "", "a second time changes nothing"
    (host / "etc/hostname").write_text("lockgate\n")
    (host / "store/sudoers").write_text("ALL\n")
    assert site_files.load() == 0
    assert (host / "etc/hostname").read_text() == "gw-1\n"
    assert "not in" in capsys.readouterr().err


@needs_root
def test_a_file_that_went_is_forgotten(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "store/ssh").mkdir()
    (host / "store/ssh/old.pub").write_text("old")
    site_files.save()
    assert "removed ssh/old.pub" in capsys.readouterr().out
    assert not (host / "store/ssh/old.pub").exists()


@needs_root
@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_what_others_can_write_is_left_alone(host: Path, mode: int) -> None:
    (host / "store/hostname").write_text("evil\n")
    (host / "store/hostname").chmod(mode)
    site_files.load()
    assert (host / "etc/hostname").read_text() == "lockgate\n"


@needs_root
def test_links_in_the_store_lead_nowhere(host: Path) -> None:
    (host / "store/hostname").symlink_to("/etc/passwd")
    site_files.load()
    assert (host / "etc/hostname").read_text() == "lockgate\n"


@needs_root
def test_status_names_what_a_reboot_will_take(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "etc/ssh/ssh_host_ed25519_key").unlink()
    site_files.save()
    assert site_files.status() == 0
    (host / "etc/passwd").write_text("x")
    (host / "etc/hostname").write_text("gw-2\n")
    capsys.readouterr()
    assert site_files.status() == 1
    assert capsys.readouterr().out == "gone after a reboot: passwd\nnot saved yet: hostname\n"


@needs_root
def test_mode_and_group_are_kept(host: Path) -> None:
    (host / "etc/hostname").chmod(0o640)
    site_files.save()
    assert (host / "store/hostname").stat().st_mode & 0o7777 == 0o640
