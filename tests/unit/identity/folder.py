# SPDX-License-Identifier: Apache-2.0
"""Small configuration folders on disk, loaded as the gateway loads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.config.load import Folder, load_folder
from gateway.testing import TokenIssuer

NOW = 1_790_000_000.0
CI = "https://ci.plant-a.example"
STAFF = "https://login.plant-a.example"

ISSUERS: list[dict[str, Any]] = [
    {"name": "ci", "issuer": CI, "audience": "lockgate/plant-a", "jwks": "trust/ci.jwks.json", "algorithms": ["ES256", "RS256"],
     "max_lifetime": "1h", "leeway": "30s", "session": "8h", "record_claims": ["run_id", "commit"]},
    {"name": "staff", "issuer": STAFF, "audience": "lockgate/plant-a/people", "jwks": "trust/staff.jwks.json", "algorithms": ["ES256"],
     "max_lifetime": "12h", "people": True, "name_claim": "preferred_username", "groups_claim": "groups"},
]
IDENTITIES: list[dict[str, Any]] = [
    {"name": "ci-bot", "issuer": "ci", "match": {"sub": "project:payments/*:ref:main", "ref_protected": "true"}, "groups": ["robots"],
     "owner": "dana", "sources": ["127.0.0.0/8", "::1/128"]},
    {"name": "reporting", "issuer": "ci", "match": {"sub": "service:reporting"}, "groups": ["robots"], "owner": "sam"},
]
RESOURCES: list[dict[str, Any]] = [
    {"name": "orders-db", "protocol": "postgres", "address": "127.0.0.1:5432", "database": "orders", "tls": {"mode": "disable"},
     "credential": "orders-db"}]


def new_issuers() -> dict[str, TokenIssuer]:
    return {"ci": TokenIssuer(CI, "lockgate/plant-a"), "staff": TokenIssuer(STAFF, "lockgate/plant-a/people")}


def make_folder(root: Path, policy: Mapping[str, Any], key_sets: Mapping[str, Mapping[str, Any]], *, now: float = NOW) -> Folder:
    """A checked folder under ``root``. ``policy`` holds the lists that differ from the ones above; ``key_sets`` go to ``trust/``."""
    etc = root / "etc"
    for name in ("policy", "trust", "credentials", "tls"):
        (etc / name).mkdir(parents=True, exist_ok=True)
    lists = {"issuers": ISSUERS, "identities": IDENTITIES, "resources": RESOURCES, **policy}
    (etc / "policy" / "all.yaml").write_text(json.dumps(lists))
    (etc / "credentials" / "orders-db.yaml").write_text(json.dumps({"kind": "password", "username": "app", "password": "x" * 20}))
    for name, keys in key_sets.items():
        (etc / "trust" / f"{name}.jwks.json").write_text(json.dumps(keys))
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (etc / "tls" / "audit_ed25519_key").write_bytes(key)
    (etc / "gateway.yaml").write_text(json.dumps({
        "name": "plant-a-1", "segment": "plant-a", "state": "../state", "listeners": {"postgres": {"address": "127.0.0.1:15432"}}}))
    (root / "state").mkdir(exist_ok=True)
    return load_folder(etc, check_modes=False, now=now)
