# SPDX-License-Identifier: Apache-2.0
"""Keys, certificates and credentials of a folder, and what the table of checks promises."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import protocols
from gateway.config.load import load_folder
from gateway.doctor import folder
from gateway.doctor.examine import tables
from gateway.doctor.finding import SEVERITIES, examined
from gateway.doctor.folder import DAY, Papers
from gateway.testing.certificates import Authority
from tests.unit.cli.demo_folder import make_demo

YEAR = 365 * DAY


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("doctor"))


def found(demo: Path, later: float = 0.0) -> dict[str, list[str]]:
    """Places by id, as they are ``later`` seconds from now."""
    signs: dict[str, list[str]] = {}
    for finding in examined(folder.CHECKS, Papers(load_folder(demo), time.time() + later)):
        signs.setdefault(finding.id, []).append(finding.where)
    return signs


def lasts(demo: Path) -> float:
    """Seconds that the demo's first certificate still lives."""
    certificate = next(one for name, one in Papers(load_folder(demo)).certificates() if "gateway" in name)
    return certificate.not_valid_after_utc.timestamp() - time.time()


def test_a_fresh_folder(demo: Path) -> None:
    assert found(demo) == {"issuer.one-key": ["issuer ci", "issuer staff"], "key.needless": ["tls/ca.key"]}


@pytest.mark.parametrize(("before", "wanted"), [
    (-DAY, "certificate.expired"), (DAY, "certificate.ends-now"), (20 * DAY, "certificate.ends-soon")])
def test_certificates_end(demo: Path, before: float, wanted: str) -> None:
    ids = found(demo, lasts(demo) - before)
    assert any("gateway" in name for name in ids[wanted])
    others = {"certificate.expired", "certificate.ends-now", "certificate.ends-soon"} - {wanted}
    assert not any("gateway" in name for other in others for name in ids.get(other, []))


def test_certificates_that_are_credentials_and_issuers_authorities_end(tmp_path: Path) -> None:
    demo = make_demo(tmp_path)
    (tmp_path / "ca").mkdir()
    pair = Authority(tmp_path / "ca").issue("robots", "localhost")
    held = {"kind": "certificate", "username": "app", "certificate": pair.certificate.read_text(), "private_key": pair.key.read_text()}
    path = demo / "credentials" / "shown.yaml"
    path.touch(mode=0o600)
    path.write_text(json.dumps(held))
    (demo / "trust" / "robots.pem").write_text(pair.ca.read_text())
    more = {"issuers": [{"name": "robots", "kind": "certificate", "ca": "trust/robots.pem"}]}
    (demo / "policy" / "robots.yaml").write_text(json.dumps(more))
    ids = found(demo, 20 * YEAR)
    assert "credential shown" in ids["certificate.expired"]
    assert any(where.startswith("issuer robots, authority ") for where in ids["certificate.expired"])


def test_a_certificate_of_tomorrow(demo: Path) -> None:
    assert "certificate.early" in found(demo, -400 * DAY)


def old(path: Path, seconds: float) -> Callable[[], None]:
    before = path.stat()
    os.utime(path, (time.time() - seconds,) * 2)
    return lambda: os.utime(path, (before.st_atime, before.st_mtime))


@pytest.mark.parametrize(("name", "age", "wanted"), [
    ("tls/audit_ed25519_key", 3 * YEAR, "key.old"), ("tls/gateway.key", 3 * YEAR, "key.old"),
    ("credentials/orders-db.yaml", 2 * YEAR, "credential.old"), ("trust/ci.jwks.json", 2 * YEAR, "issuer.old-keys")])
def test_what_is_old(demo: Path, name: str, age: float, wanted: str) -> None:
    undo = old(demo / name, age)
    try:
        assert found(demo)[wanted] == [name]
    finally:
        undo()


def test_two_pinned_keys_are_enough(demo: Path) -> None:
    path, other = demo / "trust" / "ci.jwks.json", json.loads((demo / "trust" / "staff.jwks.json").read_text())
    before = path.read_text()
    both = json.loads(before)
    both["keys"] += [key | {"kid": "next"} for key in other["keys"]]
    path.write_text(json.dumps(both))
    try:
        assert found(demo)["issuer.one-key"] == ["issuer staff"]
    finally:
        path.write_text(before)


def test_warnings_of_check_and_targets_that_prove_nothing(demo: Path) -> None:
    path = demo / "policy" / "resources.yaml"
    before = path.read_text()
    path.write_text(before.replace("{mode: disable}", "{mode: require}") + "  - {name: unused, protocol: postgres, address: '127.0.0.1:1', "
                    "database: x, tls: {mode: disable}, credential: orders-db}\n")
    try:
        ids = found(demo)
        assert ids["tls.unverified"] == ["resource orders-db"]
        assert len(ids["policy.warning"]) == 1
    finally:
        path.write_text(before)


def test_every_check_has_an_id_of_its_own_and_says_what_to_do() -> None:
    checks = [check for _, table in tables(protocols.names()) for check in table]
    assert len({check.id for check in checks}) == len(checks)
    for check in checks:
        assert check.severity in SEVERITIES
        assert check.what.endswith(".")
        assert check.todo.endswith(".")
        assert "." in check.id
