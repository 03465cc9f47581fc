# SPDX-License-Identifier: Apache-2.0
"""The first policy, with the gateway's own program and without a host's keys."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from image.firstboot.tree.usr.lib.lockgate.lockgate_firstboot import policy
from image.firstboot.tree.usr.lib.lockgate.lockgate_firstboot.told import Wrong, parse
from tests.unit.firstboot.messages import encoded, good

TARGET = """resources:
  - {name: web-1, protocol: ssh, address: "192.0.2.60:22", logins: [deploy], host_keys: trust/known_hosts, credential: web-1}
"""


def told_settings() -> bytes:
    """gateway.yaml as the image makes it, with a listener for SSH."""
    made = json.loads(policy.settings(parse(encoded(good()))))
    made["listeners"]["ssh"] = {"address": "0.0.0.0:2222", "host_keys": ["tls/ssh_host_ed25519_key"], "user_ca": "tls/ssh_user_ca"}
    del made["audit"]["console"]
    return json.dumps(made | {"state": "../state"}).encode()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What was encrypted, by name; one credential was told."""
    found: dict[str, bytes] = {}
    shim = tmp_path / "lockgate"
    shim.write_text(f"#!/bin/sh\nexec {sys.executable} -m gateway.cli \"$@\"\n")
    shim.chmod(0o755)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/credentials.web-1.yaml.cred").touch()
    for name, value in {"_PROGRAM": str(shim), "_SCRATCH": tmp_path / "run" / "policy", "BLOBS": tmp_path / "blobs",
                        "CERTIFICATES": tmp_path / "certificates"}.items():
        monkeypatch.setattr(policy, name, value)
    key = subprocess.run([sys.executable, "-c", "from gateway.config import fresh; print(fresh.audit_key().decode())"],
                         check=True, capture_output=True, text=True).stdout
    monkeypatch.setattr(policy, "decrypt", lambda path: json.dumps({"kind": "ssh-key", "private_key": key}).encode())
    monkeypatch.setattr(policy, "encrypt", found.__setitem__)
    return found


def files(**more: bytes) -> dict[str, bytes]:
    return {"gateway.yaml": told_settings(), "policy/web.yaml": TARGET.encode(), **more}


def test_a_listener_for_ssh_has_its_keys(tmp_path: Path, kept: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    links: dict[str, str] = {}

    def switch(_: policy.FirstPolicy, files: Mapping[str, bytes], made: Mapping[str, str]) -> str:
        links.update(made)
        return "0123"

    monkeypatch.setattr(policy.FirstPolicy, "_switch", switch)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "host")], check=True)
    known = f"192.0.2.60 {(tmp_path / 'host.pub').read_text()}".encode()
    first = policy.FirstPolicy(parse(encoded(good())), files(**{"trust/known_hosts": known}))
    assert first.put_in_force() == "the first policy is in force: 0123"
    own = {"tls/gateway.key", "tls/audit_ed25519_key", "tls/ssh_host_ed25519_key", "tls/ssh_user_ca"}
    assert set(kept) == {path.replace("/", ".") for path in own}
    assert links == {path: f"/run/lockgate-credentials/{path.replace('/', '.')}" for path in (*own, "credentials/web-1.yaml")}
    assert kept["tls.ssh_user_ca"].startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")


@pytest.mark.parametrize("place", ["trust", "trust/deep/er", "policy"])
def test_what_a_target_is_known_by_is_not_made_up(kept: dict[str, bytes], place: str) -> None:
    target = TARGET.replace("trust/known_hosts", f"{place}/known_hosts").encode()
    with pytest.raises(Wrong, match="known_hosts"):
        policy.FirstPolicy(parse(encoded(good())), files(**{"policy/web.yaml": target})).put_in_force()
    assert kept == {}


def test_a_key_of_a_mask_is_waited_for_and_not_made_up(kept: dict[str, bytes]) -> None:
    """Of its own, each gateway would show other hashes; and it would be gone with the place where it was made."""
    masks = b"masks: [{name: people, columns: {public.people.id: {hash: join-key}}}]"
    rest = {"policy/web.yaml": b"resources: []", "policy/masks.yaml": masks}
    said = policy.FirstPolicy(parse(encoded(good())), files(**rest)).put_in_force()
    assert "waits for the credentials of" in said and "masks.yaml" in said and kept == {}
