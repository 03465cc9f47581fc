# SPDX-License-Identifier: Apache-2.0
"""What stands around the lab's gateway, made anew for each run, with the program's own means.

    world.py DIR

segment/             a copy of inventories/lab/segments/lab with fresh keys in trust/: what is rolled out
issuer/              the same with the private keys of both issuers: `lockgate token mint --config DIR/issuer --as NAME` signs
ca.crt, server.*     the targets' authority and the database's certificate
orders-db.password   what the gateway logs in with
ops, ops.pub         the management key
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from gateway.cli import main as lockgate
from gateway.testing.certificates import Authority

SEGMENT = Path(__file__).resolve().parents[2] / "inventories" / "lab" / "segments" / "lab"
DATABASE = ("10.88.12.12", "db")
GATEWAY_YAML = """\
name: issuer
segment: lab
state: ../issuer-state
listeners:
  console: {address: "127.0.0.1:19443", tls: {certificate: tls/gateway.crt, key: tls/gateway.key}}
audit:
  checkpoint: {every: 1s, key: tls/audit_ed25519_key}
"""


def make(world: Path) -> None:
    world.mkdir(mode=0o700)
    authority = Authority(world, "Lab targets")
    authority.issue(*DATABASE)
    issuer = world / "issuer"
    shutil.copytree(SEGMENT, issuer)
    _make_issuer(issuer, authority.ca)
    for name in ("policy", "trust"):
        shutil.copytree(issuer / name, world / "segment" / name)
    _secret(world / "orders-db.password", secrets.token_urlsafe(24))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ops", "-f", str(world / "ops")], check=True)


def _make_issuer(folder: Path, ca: Path) -> None:
    for pinned in folder.glob("trust/*.jwks.json"):
        pinned.unlink()
    shutil.copy(ca, folder / "trust" / "targets-ca.pem")
    (folder / "gateway.yaml").write_text(GATEWAY_YAML)
    _secret(folder / "credentials" / "orders-db.yaml", "{kind: password, username: lockgate, password: not-used-here}\n")
    status = lockgate(["init", str(folder), "--demo"])
    if status != 0:
        raise SystemExit(status)


def _secret(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
