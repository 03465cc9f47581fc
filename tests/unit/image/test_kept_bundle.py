# SPDX-License-Identifier: Apache-2.0
"""A bundle that was made and signed before today's verifier was written: what a site has in its cupboard stays good, and stays older."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from image import verify_bundle
from image.verify_bundle import MANIFEST, OLDER, SAY_NO, SIGNATURE

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPEm3aRmVbFxEY6sXjQ3BFw7inbO2LPgA+qSWXLOmVbM"
ALLOWED = f'lockgate-release namespaces="lockgate-release" {KEY}\n'
FILES = {"docs/operating.md": b"bundle 3\n", "install": b"#!/bin/sh\n"}
SAID = """{
 "bundle": 1,
 "commit": "0000000000000000000000000000000000000000",
 "files": {
  "docs/operating.md": {
   "sha256": "34b6b242bb62e89e5d810dfd1cf003ae2f0c2c6fd0145f5bed7c0a2890e30df0",
   "size": 9
  },
  "install": {
   "executable": true,
   "sha256": "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf",
   "size": 10
  }
 },
 "number": 3,
 "version": "0.1.0.3"
}
"""
"""Byte by byte as it was signed. The key that did it is gone: what is here can be read, and not made anew to fit."""
SIGNED = """-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg8SbdpGZVsXERjqxeNDcEXDuKds
7Ys+AD6pJZcs6ZVswAAAAQbG9ja2dhdGUtcmVsZWFzZQAAAAAAAAAGc2hhNTEyAAAAUwAA
AAtzc2gtZWQyNTUxOQAAAECpgOLofYMuXvZVppCZ/hY4X6OuuYrxhteX3W98Gno75bId5v
6l/vQEeR6uXyIl8vsbA9QyPBOGHakCeS7T/U0M
-----END SSH SIGNATURE-----
"""


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder with the bundle, and with the list of who may sign."""
    (tmp_path / "allowed_signers").write_text(ALLOWED)
    pack(tmp_path, SAID)
    return tmp_path


def pack(folder: Path, said: str) -> None:
    with tarfile.open(folder / "bundle.tar", "w", format=tarfile.USTAR_FORMAT) as out:
        for name, data in {MANIFEST: said.encode(), SIGNATURE: SIGNED.encode(), **FILES}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))


def take(folder: Path, *options: str) -> int:
    given = {"--signers": folder / "allowed_signers", "--into": folder / "kept"}
    return verify_bundle.main([str(folder / "bundle.tar"), *(str(word) for pair in given.items() for word in pair), *options])


def test_it_is_taken_by_todays_verifier(kept: Path) -> None:
    assert take(kept) == 0
    assert {name: (kept / "kept/current" / name).read_bytes() for name in FILES} == FILES
    assert (kept / "kept/current/install").stat().st_mode & 0o777 == 0o755


def test_it_is_older_than_what_came_since(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (kept / "kept").mkdir()
    (kept / "kept/last-number").write_text("4\n")
    assert take(kept) == OLDER
    assert "number 3 is older than 4" in capsys.readouterr().err
    assert sorted(path.name for path in (kept / "kept").iterdir()) == ["last-number"]
    assert take(kept, "--allow-older") == 0


def test_t67_it_is_refused_once_its_key_is_no_longer_believed(kept: Path) -> None:
    (kept / "allowed_signers").write_text(ALLOWED.replace("namespaces", 'valid-before="20260101",namespaces'))
    assert take(kept) == SAY_NO


@pytest.mark.parametrize("change", [{"number": 9}, {"bundle": 0}, {"version": "9"}])
def test_t67_nothing_of_it_can_be_made_newer(kept: Path, change: dict[str, object]) -> None:
    pack(kept, json.dumps({**json.loads(SAID), **change}, indent=1, sort_keys=True) + "\n")
    assert take(kept) == SAY_NO
    assert not (kept / "kept/current").exists()
