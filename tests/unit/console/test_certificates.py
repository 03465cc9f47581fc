# SPDX-License-Identifier: Apache-2.0
"""A token is exchanged for an SSH certificate over the console: for whom, for which user names, and what is on record of it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.audit.note import load_private_key
from gateway.identity.certificate import CertificateRefused
from gateway.protocols.ssh import authority
from gateway.testing import FailingAudit
from gateway.testing.console import ConsoleRoom

KEY = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
PATH = "/api/v1/ssh/certificate"


class World:
    def __init__(self, room: ConsoleRoom, http: aiohttp.ClientSession) -> None:
        self.room, self.http = room, http

    async def ask(self, token: str | None = None, **wanted: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.room.robot() if token is None else token}"}
        document = {"public_key": KEY} | wanted
        async with self.http.post(self.room.url + PATH, json=document, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    def read(self, line: str, user: str, source: str = "127.0.0.1") -> Any:
        ca = load_private_key(self.room.folder.resolve("tls/user_ca")).public_key()
        return authority.read(base64.b64decode(line.split()[1]), ca, user, source, self.room.now())

    @property
    def kinds(self) -> list[str]:
        return self.room.audit.kinds("certificate.")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with ConsoleRoom(tmp_path, ssh=True) as room, aiohttp.ClientSession() as http:
        yield World(room, http)


async def test_for_all_that_may_be_entered_now(world: World) -> None:
    status, said = await world.ask()
    assert (status, said["principals"]) == (200, ["web-1", "deploy@web-1", "root@web-1", "web-2", "deploy@web-2"])
    assert said["port"] == 12222 and said["key"].startswith("SHA256:")
    identity = world.read(said["certificate"], "root@web-1")
    assert world.room.authenticator.admit_ssh_certificate(identity, "127.0.0.1", world.room.now()) == identity
    assert (identity.name, identity.owner, identity.certificate) == ("ci-bot", "dana", said["serial"])
    issued = world.room.audit.of("certificate.issued")[0]
    assert {key: issued[key] for key in ("identity", "owner", "certificate", "principals", "key", "source", "subject", "protocol")} == {
        "identity": "ci-bot", "owner": "dana", "certificate": said["serial"], "principals": said["principals"], "key": said["key"],
        "source": "127.0.0.1", "subject": "project:payments/api", "protocol": "ssh"}
    assert issued["until"] == said["until"] and issued["token_id"] == identity.token_id


async def test_for_those_that_are_named(world: World) -> None:
    status, said = await world.ask(resources=["web-2", "web-2"])
    assert (status, said["principals"]) == (200, ["web-2", "deploy@web-2"])
    with pytest.raises(CertificateRefused, match="another user name"):
        world.read(said["certificate"], "web-1")


async def test_bound_to_where_the_caller_is(world: World) -> None:
    _, said = await world.ask(bound=True)
    assert world.read(said["certificate"], "web-1").name == "ci-bot"
    with pytest.raises(CertificateRefused, match="not from here"):
        world.read(said["certificate"], "web-1", "192.0.2.1")


@pytest.mark.parametrize(("resource", "reason"), [
    ("web-3", "no grant gives ci-bot anything on web-3 now"), ("orders-db", "'orders-db' is not reached over SSH"),
    ("nowhere", "ci-bot has no grant for a resource 'nowhere'")])
async def test_what_may_not_be_entered(world: World, resource: str, reason: str) -> None:
    status, said = await world.ask(resources=["web-1", resource])
    assert (status, said["code"], said["detail"]) == (403, "refused", reason)
    assert world.kinds == ["certificate.refused"]
    refused = world.room.audit.of("certificate.refused")[0]
    assert (refused["identity"], refused["reason"], refused["resources"]) == ("ci-bot", reason, ["web-1", resource])


async def test_who_has_no_grant_at_all(world: World) -> None:
    status, said = await world.ask(world.room.person("sam", "security"))
    assert (status, said["detail"]) == (403, "sam has no grant for a resource of SSH")
    assert world.kinds == ["certificate.refused"]


async def test_t01_a_token_that_is_none(world: World) -> None:
    for token in ("x.y.z", world.room.staff.person("gone", [], now=world.room.now()), world.room.ci.mint("somebody", now=world.room.now())):
        status, said = await world.ask(token)
        assert (status, said["code"]) == (401, "token-refused")
    async with world.http.post(world.room.url + PATH, json={"public_key": KEY}) as answer:
        assert answer.status == 401
    assert world.kinds == [] and len(world.room.audit.of("console.refused")) == 3
    for _ in range(20):
        status, _ = await world.ask("x.y.z")
    assert status == 429


WEAK = rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.mark.parametrize("wanted", [
    {"public_key": "x"}, {"public_key": 7}, {"public_key": WEAK}, {"resources": "web-1"}, {"resources": [7]}, {"resources": [""]},
    {"resources": ["x"] * 257}, {"bound": "yes"}, {"more": 1}, {"public_key": KEY + "\n" + KEY}])
async def test_a_request_that_is_none_uses_no_token_up(world: World, wanted: dict[str, Any]) -> None:
    status, _ = await world.ask(**wanted)
    assert status == 400
    assert world.room.audit.kinds("") == []


async def test_over_the_rate_of_the_identity(world: World) -> None:
    world.room.over_rate.add("ci-bot")
    assert (await world.ask())[0] == 429


async def test_without_its_record_there_is_no_certificate(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path, ssh=True, audit=FailingAudit()) as room, aiohttp.ClientSession() as http:
        status, said = await World(room, http).ask()
        assert (status, said["code"]) == (503, "audit-unavailable")


async def test_a_ca_that_cannot_be_read_signs_nothing(world: World) -> None:
    world.room.folder.resolve("tls/user_ca").write_text("x")
    status, said = await world.ask()
    assert (status, said["code"]) == (503, "no-authority") and "user_ca" not in said["detail"]


async def test_host_keys_are_for_everybody(world: World) -> None:
    async with world.http.get(world.room.url + "/api/v1/ssh/host-keys") as answer:
        said = await answer.json()
    mine = load_private_key(world.room.folder.resolve("tls/host_key")).public_key()
    assert said == {"port": 12222, "keys": [mine.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()],
                    "fingerprints": [authority.fingerprint(mine)]}


async def test_a_gateway_without_ssh(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path) as room, aiohttp.ClientSession() as http:
        assert (await World(room, http).ask())[0] == 404
        async with http.get(room.url + "/api/v1/ssh/host-keys") as answer:
            assert answer.status == 404
