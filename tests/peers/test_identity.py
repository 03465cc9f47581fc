# SPDX-License-Identifier: Apache-2.0
"""The door and its consequences on a real gateway: attacks T1 to T9, and the offline commands without a schema file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.testing.client import Client, ProtocolError, ServerError
from gateway.testing.postgres import PostgresServer
from tests.peers.clients import small_client
from tests.peers.gateway import Appliance, running


def refused(gateway: Appliance, password: str, resource: str = "orders-db") -> ServerError:
    with pytest.raises(ServerError) as caught:
        small_client(gateway.client_variables(resource=resource) | {"PGPASSWORD": password})
    assert password == "" or password not in f"{caught.value} {caught.value.detail} {caught.value.hint}"
    return caught.value


def until(what: Callable[[], Any]) -> Any:
    """The first true answer within a bounded time."""
    deadline = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def records(gateway: Appliance, kind: str) -> list[dict[str, Any]]:
    return [record for record in gateway.lines("audit", "export") if record["kind"] == kind]


def mint(gateway: Appliance, *words: str) -> str:
    return gateway.run("token", "mint", "--as", *words).strip()


def key(gateway: Appliance, issuer: str = "ci") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((gateway.folder / "demo" / f"{issuer}.jwk.json").read_bytes())
    return found


def test_tokens_that_open_nothing(gateway: Appliance) -> None:
    good = gateway.token()
    header, body, signature = good.split(".")
    claims = jwt.decode(good, options={"verify_signature": False})
    private = jwt.PyJWK(key(gateway)).key
    kid = {"kid": key(gateway)["kid"]}
    tokens = {
        "t01 alg none": jwt.encode(claims, "", algorithm="none", headers=kid), "t01 no signature": f"{header}.{body}.",
        "t02 hmac": jwt.encode(claims, "x" * 64, algorithm="HS256", headers=kid),
        "t03 kid": jwt.encode(claims, private, algorithm="ES256", headers={"kid": "../../../etc/passwd"}),
        "t03 jku": jwt.encode(claims, private, algorithm="ES256", headers=kid | {"jku": "https://evil.example"}),
        "t04 audience": mint(gateway, "ci-bot", "--claim", "aud=lockgate/plant-b"),
        "t05 issuer": mint(gateway, "ci-bot", "--claim", "iss=https://ci.plant-a.example/"),
        "t06 lifetime": mint(gateway, "ci-bot", "--lifetime", "2d"),
        "t06 expired": jwt.encode(claims | {"iat": 1, "exp": 2}, private, algorithm="ES256", headers=kid),
        "t07 unprotected ref": mint(gateway, "ci-bot", "--claim", "ref_protected=false"),
        "t07 fork": mint(gateway, "ci-bot", "--claim", "sub=project:evil/x:ref:main"),
        "tampered": f"{header}.{body[:-4]}AAAA.{signature}", "empty": "", "no token": "hunter2", "long": "x" * 20_000,
    }
    found = {name: refused(gateway, token).code for name, token in tokens.items()}
    assert found == dict.fromkeys(tokens, "28000")
    exported = gateway.run("audit", "export")
    assert [name for name, token in tokens.items() if len(token) > 10 and token in exported] == []
    reasons = {str(record.get("reason")) for record in records(gateway, "session.refused")}
    assert any("ref_protected" in reason for reason in reasons)
    assert any("lockgate/plant-b" in reason for reason in reasons)


def test_resources_the_identity_has_no_grant_for(gateway: Appliance) -> None:
    assert refused(gateway, gateway.token(), "nothing").code == "28000"


def test_t07_single_use_over_a_restart(tmp_path: Path, postgres: PostgresServer) -> None:
    def once(appliance: Appliance) -> None:
        appliance.rewrite("policy/identities.yaml", {"    session: 8h ": "    single_use: true\n    session: 8h "})

    with running(tmp_path, postgres, change=once) as gateway:
        with small_client(gateway.client_variables()) as client:
            assert client.query("select 1")[0].rows == [("1",)]
        assert refused(gateway, gateway.token()).code == "28000"
        gateway.stop()
        gateway.start()
        assert refused(gateway, gateway.token()).code == "28000"


def test_t09_a_reload_reaches_live_sessions(tmp_path: Path, postgres: PostgresServer) -> None:
    """Revoked, no longer matched, without a grant: each ends a live session at its next operation, and a good policy lets in again."""
    with running(tmp_path, postgres) as gateway:
        changes: list[tuple[str, str, str]] = [
            ("policy/masks.yaml", "masks:", "revoked: [{identity: ci-bot}]\nmasks:"),
            ("policy/identities.yaml", "project:payments/*:ref:main", "project:other/*:ref:main"),
            ("policy/grants/ci-bot.yaml", "to: [ci-bot]", "to: [reporting]")]
        for name, before, after in changes:
            client = until(lambda: _entered(gateway))
            gateway.rewrite(name, {before: after})
            gateway.reload()
            fault = until(partial(_fault, client))
            assert not isinstance(fault, ServerError) or fault.code == "57P01"
            client.close()
            assert refused(gateway, gateway.token()).code == "28000"
            gateway.rewrite(name, {after: before})
            gateway.reload()
        ends = [record["reason"] for record in records(gateway, "session.end")]
        assert len(ends) == 3
        assert all(ends)


def _entered(gateway: Appliance) -> Client | None:
    """A client, as soon as the policy lets it in."""
    try:
        return small_client(gateway.client_variables())
    except ServerError:
        return None


def _fault(client: Client) -> Exception | None:
    """How a live session ends, ``None`` while it goes on."""
    try:
        client.query("select 1")
    except (ServerError, ProtocolError, OSError) as fault:
        return fault
    return None


def test_explain_policy_test_and_policy_diff_on_a_real_target(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres) as gateway:
        schema = gateway.folder / "policy" / "schemas" / "orders-db.json"
        schema.unlink()
        asked = ("explain", "--identity", "ci-bot", "--resource", "orders-db", "select ssn as x, id from customers")
        assert gateway.json(*asked)["masks"] == {"x": "redact"}
        assert gateway.json("policy", "test")["failed"] == 0
        gateway.run("schema", "pull", "orders-db")
        assert schema.exists()
        assert gateway.json(*asked)["masks"] == {"x": "redact"}
        assert gateway.json("policy", "test")["failed"] == 0
        _recorded_commands_can_be_asked_again(gateway)


def _recorded_commands_can_be_asked_again(gateway: Appliance) -> None:
    with small_client(gateway.client_variables()) as client:
        client.query("select name from customers where ssn = '123-45-6789'")
        with pytest.raises(ServerError):
            client.query("drop database orders")
    export = gateway.root / "export.jsonl"
    export.write_text(gateway.run("audit", "export"))
    assert "123-45-6789" not in export.read_text()
    other = gateway.root / "new"
    gateway.run("init", str(other), "--demo", config=False)
    for name in ("policy/resources.yaml", "policy/schemas/orders-db.json"):
        (other / name).write_bytes((gateway.folder / name).read_bytes())
    grants = other / "policy" / "grants" / "ci-bot.yaml"
    grants.write_text(grants.read_text().replace("verbs: [drop-database,", "relations: [public.customers], verbs: [select,"))
    changes = [json.loads(line) for line in gateway.run(
        "policy", "diff", "--json", "--recorded", str(export), str(gateway.folder), str(other), expect=1, config=False).splitlines()]
    recorded = [(one["before"], one["after"]) for one in changes if one["source"] == "recorded"]
    assert ("allow", "deny") in recorded
