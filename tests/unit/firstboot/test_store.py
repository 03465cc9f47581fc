# SPDX-License-Identifier: Apache-2.0
"""What is kept of what was told, and what goes when a machine is told anew."""

from __future__ import annotations

from pathlib import Path

from image.firstboot.tree.usr.lib.lockgate.lockgate_firstboot.store import Store
from image.firstboot.tree.usr.lib.lockgate.lockgate_firstboot.told import parse
from tests.unit.firstboot.messages import encoded, good


def test_who_is_told_anew_keeps_nothing_of_before_but_its_host_key(tmp_path: Path) -> None:
    for name in ("etc/hostname", "etc/ssh/authorized_keys.d/ops", "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    (tmp_path / "first-policy/policy").mkdir(parents=True)
    (tmp_path / "first-policy/policy/old.yaml").write_text("before")
    store = Store(tmp_path)
    store.keep(parse(encoded(good())), {"policy/new.yaml": b"new"}, "")
    kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {"told.json", "first-policy/policy/new.yaml", "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub"}
    assert store.told() == parse(encoded(good()))
