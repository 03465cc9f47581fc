# SPDX-License-Identifier: Apache-2.0
"""What a running gateway takes as its next image (T67). Writing the slot is in tests/image, restarting into it in tests/vm."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from image import signing, verify_bundle
from image.commands import run
from image.guest.programs import update
from image.verify_bundle import OLDER, SAY_NO, UNREADABLE

RUNNING = {"version": "0.1.0", "image_id": "lockgate", "image_version": "0.1.0.5", "number": 5, "signer": signing.RELEASE}


class Gateway:
    """A gateway that runs number 5, and who signs for it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"])
        self.signer = signing.Signer(folder / "key", signing.RELEASE)
        (folder / "signers").write_text(self.signer.allowed)
        (folder / "release.json").write_text(json.dumps(RUNNING))
        self.called: list[tuple[str, ...]] = []
        self.written: dict[str, bytes] = {}
        for name, value in {"SIGNERS": folder / "signers", "RELEASE": folder / "release.json", "STATE": folder / "state"}.items():
            monkeypatch.setattr(update, name, value)
        monkeypatch.setattr(update, "entries", lambda: ["0.1.0.5"])
        monkeypatch.setattr(update, "call", self.call)

    def call(self, *command: str) -> None:
        self.called.append(command)
        if command[0] == update.SYSUPDATE:
            self.written = {path.name: path.read_bytes() for path in (self.folder / "state/verified").iterdir()}

    def image(self, number: int, **change: Any) -> Path:
        folder = self.folder / f"image-{number}"
        folder.mkdir()
        version = f"0.1.0.{number}"
        files = {f"lockgate_{version}.{kind}": f"{kind} {number}".encode() for kind in update.NEEDED}
        for name, data in files.items():
            (folder / name).write_bytes(data)
        hashes = {name: {"sha256": sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()}
        manifest = {"version": version, "number": number, "root_uuid": "r" * 8, "verity_uuid": "v" * 8, "files": hashes, **change}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        signing.sign(self.signer, folder / "manifest.json")
        return folder

    def install(self, folder: Path, *options: str) -> int:
        return update.main(["install", str(folder), *options])


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    return Gateway(tmp_path, monkeypatch)


def test_a_newer_image_is_written_under_the_names_of_the_transfers(gateway: Gateway) -> None:
    assert gateway.install(gateway.image(6)) == 0
    assert gateway.called == [(update.SYSUPDATE, "--verify=no", "update", "0.1.0.6"), ("/usr/bin/bootctl", "set-default", "")]
    slot = {"lockgate_0.1.0.6_rrrrrrrr.root": b"root 6", "lockgate_0.1.0.6_vvvvvvvv.verity": b"verity 6"}
    assert gateway.written == {**slot, "lockgate_0.1.0.6.efi": b"efi 6"}
    assert (gateway.folder / "state/last-number").read_text() == "6\n"
    assert not (gateway.folder / "state/verified").exists()


def test_t67_an_older_image_is_refused_unless_asked_for(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    older = gateway.image(4)
    assert gateway.install(older) == OLDER
    assert "number 4 is older than 5" in capsys.readouterr().err
    assert gateway.called == []
    assert gateway.install(older, "--allow-older") == 0
    assert gateway.called[-1] == ("/usr/bin/bootctl", "set-default", "lockgate_0.1.0.4*"), "systemd-boot would take the newest"


def test_t67_what_was_installed_counts_even_if_it_was_not_kept(gateway: Gateway) -> None:
    assert gateway.install(gateway.image(9)) == 0
    assert gateway.install(gateway.image(7)) == OLDER


def test_t67_an_unsigned_image_is_refused(gateway: Gateway) -> None:
    folder = gateway.image(6)
    (folder / "manifest.json.sig").unlink()
    assert gateway.install(folder) == UNREADABLE
    assert gateway.called == []


def test_t67_another_signer_is_refused(gateway: Gateway) -> None:
    folder = gateway.image(6)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", gateway.folder / "other"])
    signing.sign(signing.Signer(gateway.folder / "other", signing.RELEASE), folder / "manifest.json")
    assert gateway.install(folder) == SAY_NO


@pytest.mark.parametrize("kind", update.NEEDED)
def test_t67_a_changed_file_is_not_written(gateway: Gateway, kind: str) -> None:
    folder = gateway.image(6)
    (folder / f"lockgate_0.1.0.6.{kind}").write_bytes(b"changed")
    assert gateway.install(folder) == SAY_NO
    assert gateway.called == []
    assert not (gateway.folder / "state/last-number").exists()


@pytest.mark.parametrize("version", ["../../x", "0.1.0.6 --root=/", "x", ""])
def test_a_version_is_digits_and_dots(gateway: Gateway, version: str) -> None:
    assert gateway.install(gateway.image(6, version=version)) == SAY_NO


def test_what_runs_is_not_written_again(gateway: Gateway) -> None:
    assert gateway.install(gateway.image(5)) == 0
    assert gateway.called == []


def test_the_other_slot_is_booted_by_name(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert update.main(["other-slot"]) == SAY_NO
    monkeypatch.setattr(update, "entries", lambda: ["0.1.0.4", "0.1.0.5"])
    assert update.main(["other-slot"]) == 0
    assert gateway.called[-1] == ("/usr/bin/bootctl", "set-default", "lockgate_0.1.0.4*")


def test_t67_another_document_of_the_same_signer_is_no_image(gateway: Gateway) -> None:
    """A bundle's manifest is signed by the same key, and its number may be larger: it does not shut out the next image."""
    folder = gateway.folder / "taken"
    folder.mkdir()
    manifest = {"bundle": 1, "number": 99, "version": "0.1.0.5", "files": {"install": {"sha256": "0" * 64, "size": 1}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    signing.sign(gateway.signer, folder / "manifest.json")
    assert gateway.install(folder) == SAY_NO
    assert gateway.install(gateway.image(6)) == 0


@pytest.mark.parametrize("change", [
    {"number": True}, {"number": "7"}, {"number": 7.5}, {"root_uuid": "../../etc"}, {"verity_uuid": 5}, {"files": []},
])  # fmt: skip
def test_t67_a_manifest_of_another_form_is_refused(gateway: Gateway, change: dict[str, Any]) -> None:
    folder = gateway.image(7)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **change}))
    signing.sign(gateway.signer, folder / "manifest.json")
    assert gateway.install(folder) == SAY_NO
    assert gateway.called == []


def test_t67_a_file_that_grew_is_not_copied(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = gateway.image(6)
    (folder / "lockgate_0.1.0.6.root").write_bytes(bytes(1 << 20))
    monkeypatch.setattr(verify_bundle, "copy", lambda *_: pytest.fail("copied"))
    assert gateway.install(folder) == SAY_NO
