# SPDX-License-Identifier: Apache-2.0
"""The role gateway_credentials' own program, as far as it needs no host key; the rest is in its scenario."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.unit.roles.playbook import plugin

module: Any = plugin("gateway_credentials", "library/lockgate_credentials.py")
CANARY = b"canary-Hq8zV2nB"


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
