# SPDX-License-Identifier: Apache-2.0
"""The role gateway_credentials' own program, as far as it needs no host key; the rest is in its scenario."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.document import read_document
from gateway.config.fresh import audit_key
from tests.unit.roles.playbook import plugin

module: Any = plugin("gateway_credentials", "library/lockgate_credentials.py")
CANARY = b"canary-Hq8zV2nB"
NOTHING = {"tls_key": "", "tls_certificate": "", "ssh": False, "ssh_host_key": "", "ssh_user_ca": "", "hosts": [], "renew": []}
MADE = {name: f"made {name}".encode() for name in ("tls.gateway.key", "tls.gateway.crt", "tls.ca.crt", "tls.audit_ed25519_key")}
SSH = {name: f"made {name}".encode() for name in ("tls.ssh_host_ed25519_key", "tls.ssh_user_ca")}


class Plain(module.Store):  # type: ignore[misc]  # loaded by its path
    """Without systemd-creds: a blob holds what is in it. ``unopened`` are those of another host."""

    unopened: tuple[str, ...] = ()

    def read(self, name: str) -> bytes | None:
        return self.path(name).read_bytes() if self.path(name).exists() and name not in self.unopened else None

    def keep(self, name: str, content: bytes) -> None:
        if self.read(name) != content:
            self.written.append(name)
            if not self.check:
                self.path(name).write_bytes(content)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plain:
    for name in ("plain", "tls"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(module, "generate", lambda hosts, *, ssh: MADE | (SSH if ssh else {}))
    return Plain(tmp_path / "plain", "host", check=False)


def kept(store: Plain, **given: Any) -> list[str]:
    """What one run writes."""
    store.written = []
    asked = NOTHING | given
    module.lost(store, asked)
    module.keys(store, store.folder.parent / "tls", asked)
    return sorted(store.written)


def test_the_gateway_s_own_keys_are_made_once(plain: Plain) -> None:
    assert kept(plain) == ["ca.crt", "gateway.crt", "tls.audit_ed25519_key", "tls.gateway.key"]
    assert kept(plain) == []
    assert kept(plain, ssh=True) == sorted(SSH), "the listener came later"
    assert kept(plain, ssh=True) == kept(plain) == [], "and what it had stays when it goes"


def test_each_key_is_renewed_by_its_name(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(plain, ssh=True)
    monkeypatch.setattr(module, "generate", lambda hosts, *, ssh: {name: b"new " + made for name, made in (MADE | SSH).items()})
    assert kept(plain, ssh=True, renew=["ssh-host"]) == ["tls.ssh_host_ed25519_key"]
    assert kept(plain, ssh=True, renew=["ssh-ca", "audit"]) == ["tls.audit_ed25519_key", "tls.ssh_user_ca"]
    assert kept(plain, renew=["ssh-host", "ssh-ca"]) == [], "nobody listens for SSH"


def test_ssh_keys_of_the_inventory_win_and_end_as_openssh_writes_them(plain: Plain) -> None:
    host, ca = (audit_key() for _ in range(2))
    given = {"ssh": True, "ssh_host_key": host.decode().rstrip(), "ssh_user_ca": f"\n{ca.decode()}\n"}
    kept(plain, **given)
    assert plain.read("tls.ssh_host_ed25519_key") == host
    assert plain.read("tls.ssh_user_ca") == ca
    assert kept(plain, **given, renew=["ssh-host", "ssh-ca"]) == []


def spoiled(folder: Path) -> Iterator[str]:
    """What is none, or is none that a gateway could open."""
    for kind, phrase in (("ed25519", "canary-Hq8zV2nB"), ("ecdsa", ""), ("rsa", "")):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", phrase, "-f", str(folder / kind)], check=True)
        yield (folder / kind).read_text()
    good = audit_key().decode()
    lines = good.splitlines()
    yield from ((folder / "ed25519.pub").read_text(), " ".join(lines), "\n".join(lines[:1] + lines[2:]), "\n".join(lines[:-1]), good + good,
                "canary-Hq8zV2nB")


def test_a_key_that_is_none_does_not_take_the_place_of_the_one_that_callers_know(plain: Plain, tmp_path: Path) -> None:
    kept(plain, ssh=True)
    for text in spoiled(tmp_path):
        for key in ("ssh_host_key", "ssh_user_ca"):
            with pytest.raises(module.Wrong, match=r"gateway_credentials_ssh\.(host_key|user_ca): expected an OpenSSH Ed25519") as refused:
                kept(plain, ssh=True, **{key: text})
            assert not any(line in str(refused.value) for line in text.splitlines())
    assert plain.read("tls.ssh_host_ed25519_key") == SSH["tls.ssh_host_ed25519_key"]


@pytest.mark.parametrize(("name", "label", "why"), [("tls.audit_ed25519_key", "audit", "sign the log"),
                                                    ("tls.ssh_host_ed25519_key", "ssh-host", "callers would be warned")])
def test_a_key_that_others_know_is_not_replaced_in_silence(plain: Plain, name: str, label: str, why: str) -> None:
    kept(plain, ssh=True)
    plain.unopened = (name,)
    for renew in ([], [label]):
        with pytest.raises(module.Wrong, match=f"cannot be decrypted on this host.*{why}"):
            kept(plain, ssh=True, renew=renew)
    plain.unopened = ("tls.ssh_user_ca", "tls.gateway.key")
    assert kept(plain, ssh=True) == ["tls.gateway.key", "tls.ssh_user_ca"], "these nobody else has to know"


def test_a_try_says_which_keys_would_be_made(plain: Plain) -> None:
    plain.check = True
    assert kept(plain, ssh=True) == sorted([*SSH, "tls.audit_ed25519_key", "tls.gateway.key"])
    assert list(plain.folder.iterdir()) == []


def test_the_program_installed_last_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELEASES", tmp_path)
    assert module.program() == "/usr/local/bin/lockgate"
    for age, name in enumerate(("0.2.0", "0.1.0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / module.MARK).touch()
        os.utime(tmp_path / name / module.MARK, (age, age))
    (tmp_path / "0.3.0").mkdir()
    assert module.program() == str(tmp_path / "0.1.0/bin/lockgate"), "0.3.0 is not whole"


def test_a_key_of_several_lines_is_in_its_file_as_it_was() -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\n"
    found = module.wanted({"web-1": {"kind": "ssh-key", "private_key": key}})["credentials.web-1.yaml"]
    assert read_document("credentials/web-1.yaml", found).value == {"kind": "ssh-key", "private_key": key}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    (tmp_path / "blobs").mkdir()
    return module.Store(tmp_path / "blobs", "host", check=True)


def test_a_credential_is_json_under_its_file_s_name() -> None:
    assert module.wanted({"orders-db": {"username": "lockgate", "kind": "password"}}) == {
        "credentials.orders-db.yaml": b'{"kind": "password", "username": "lockgate"}\n'}


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x", "a b", "a\n", "x" * 200])
def test_a_name_that_could_be_a_path_is_refused(store: Any, name: str) -> None:
    with pytest.raises(module.Wrong, match="a credential's name") as refused:
        store.keep(name, CANARY)
    assert CANARY.decode() not in str(refused.value)
    assert store.written == []


def test_a_try_writes_nothing_and_says_the_name(store: Any) -> None:
    store.keep("credentials.x.yaml", CANARY)
    assert store.written == ["credentials.x.yaml"]
    assert list(store.folder.iterdir()) == []


def test_a_blob_of_the_host_s_key_is_written_anew_where_a_tpm_is_wanted(store: Any) -> None:
    store.path("x").write_bytes(base64.b64encode(module.HOST_KEY + b"\x20\x00\x00\x00" + b"\x00" * 32))
    assert store.bound("x")
    assert not module.Store(store.folder, "tpm2", check=True).bound("x")
    assert not store.bound("missing")


def test_only_credentials_are_pruned(store: Any) -> None:
    for name in ("credentials.a.yaml", "credentials.b.yaml", "tls.gateway.key"):
        store.path(name).write_bytes(b"blob")
    pruning = module.Store(store.folder, "host", check=False)
    pruning.prune({"credentials.a.yaml"})
    assert pruning.written == ["credentials.b.yaml"]
    assert sorted(path.name for path in store.folder.iterdir()) == ["credentials.a.yaml.cred", "tls.gateway.key.cred"]


def test_a_program_that_fails_is_quoted_without_what_it_was_given() -> None:
    with pytest.raises(module.Wrong, match="failed: ") as wrong:
        module.run(["sh", "-c", "cat >/dev/null; echo no >&2; exit 3"], CANARY)
    assert CANARY.decode() not in str(wrong.value)
