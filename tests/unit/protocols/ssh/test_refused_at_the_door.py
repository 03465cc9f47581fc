# SPDX-License-Identifier: Apache-2.0
"""What is said, and recorded, of who is not let in: certificates that are only offered, tokens that a client cut off (T11, T13, T46)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from gateway.audit.note import load_private_key
from gateway.identity.mint import bearer, mint
from gateway.protocols.ssh import authority, door, trust
from gateway.testing import MemoryAudit
from gateway.testing.openssh import write_key
from tests.unit.protocols.ssh.talk import Rules, Talk, talking
from tests.unit.protocols.ssh.test_abuse import until

RULES: Rules = [{"name": "all", "allow": {"ssh": {"actions": ["exec"]}}}]


async def minted(talk: Talk, key: asyncssh.SSHKey, user: str = "web-1") -> asyncssh.SSHCertificate:
    folder = talk.gateway.folder
    identity = await talk.gateway.authenticator.admit(mint(folder, bearer(folder, "ci-bot"), time.time()), "127.0.0.1", time.time())
    ca = load_private_key(folder.resolve("tls/ssh_user_ca"))
    public = authority.public_key(key.export_public_key().decode().strip())
    return asyncssh.import_certificate(authority.mint(ca, identity, public, [user], time.time(), 300).line)


async def come(talk: Talk, **given: Any) -> str:
    """What the client hears."""
    heard: list[str] = []

    class Client(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:
            heard.append(msg)

    port = talk.caller.get_extra_info("peername")[1]
    try:
        async with asyncssh.connect("127.0.0.1", port, client_factory=Client, username="web-1", known_hosts=None, agent_path=None,
                                    config=None, gss_host=None, **({"client_keys": None} | given)):
            heard.append("in")
    except asyncssh.Error:
        heard.append("refused")
    return " ".join(heard)


async def test_an_offered_certificate_that_will_not_do_is_recorded_once_t11(tmp_path: Path) -> None:
    """Keys beside it are not; one of the gateway's own says more than a stranger's."""
    async with talking(tmp_path, RULES, audit := MemoryAudit()) as talk:
        key, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        foreign = asyncssh.generate_private_key("ssh-ed25519").generate_user_certificate(other, "x", principals=["web-1"])
        mine = await minted(talk, key, user="web-2")
        assert await come(talk, client_keys=[other, (other, foreign), (key, mine)], preferred_auth="publickey") == "refused"
        assert await until(lambda: audit.of("session.refused"))
        assert [one["reason"] for one in audit.of("session.refused")] == [
            "a certificate was offered: it is not for the user name 'web-1'"]
        assert audit.of("session.refused")[0]["user"] == "web-1"


async def test_keys_without_a_certificate_say_nothing_t13(tmp_path: Path) -> None:
    async with talking(tmp_path, RULES, audit := MemoryAudit()) as talk:
        assert await come(talk, client_keys=[asyncssh.generate_private_key("ssh-ed25519")], preferred_auth="publickey") == "refused"
        await asyncio.sleep(0.3)
        assert audit.of("session.refused") == []


async def test_a_refused_offer_before_a_good_one_is_no_refusal_t11(tmp_path: Path) -> None:
    async with talking(tmp_path, RULES, audit := MemoryAudit()) as talk:
        key, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        pairs = [(other, await minted(talk, other, user="web-2")), (key, await minted(talk, key))]
        assert await come(talk, client_keys=pairs, preferred_auth="publickey") == "in"
        assert audit.of("session.refused") == []


async def test_a_signature_with_sha1_t46(tmp_path: Path) -> None:
    """A certificate over an RSA key, signed for with SHA-1: nobody is let in with that."""
    async with talking(tmp_path, RULES, MemoryAudit()) as talk:
        key = asyncssh.generate_private_key("ssh-rsa", key_size=3072)
        pair = key, await minted(talk, key)
        assert await come(talk, client_keys=[pair], preferred_auth="publickey", signature_algs=["rsa-sha2-256"]) == "in"
        keypair: Any = asyncssh.load_keypairs([pair])[0]
        keypair.sig_algorithms = (b"ssh-rsa",)
        keypair.set_sig_algorithm(b"ssh-rsa")
        assert b"ssh-rsa" in keypair.sign(b"x")[:16]
        assert await come(talk, client_keys=[keypair], preferred_auth="publickey", signature_algs=["ssh-rsa"]) == "refused"


@pytest.mark.parametrize("length", [0, 1022, 1023, 1024])
async def test_a_token_that_the_client_cut_off(tmp_path: Path, length: int) -> None:
    """Its caller, and the record, are told what to do; any other wrong token is only wrong."""
    async with talking(tmp_path, RULES, audit := MemoryAudit()) as talk:
        heard = await come(talk, password=("x" * length), preferred_auth="password")
        said = "lockgate ssh-certificate"
        assert (said in heard) == (said in audit.of("session.refused")[0]["reason"]) == (length != 1024)
        assert heard.endswith("refused")


def test_which_tokens_are_cut_off() -> None:
    assert [length for length in range(2000) if door.cut_off("x" * length)] == [0, 1022, 1023]


def test_a_host_certificate_for_another_key(tmp_path: Path) -> None:
    """`check` says so: OpenSSH's clients would not be shown it."""
    write_key(tmp_path / "mine")
    write_key(tmp_path / "other")
    ca = asyncssh.generate_private_key("ssh-ed25519")
    for name in ("mine", "other"):
        made = ca.generate_host_certificate(asyncssh.read_public_key(str(tmp_path / f"{name}.pub")), "host", principals=["gate.example"])
        made.write_certificate(str(tmp_path / f"{name}-cert.pub"))
    keys = [trust.public_half(tmp_path / "mine")]
    trust.check_host_certificate(tmp_path / "mine-cert.pub", keys)
    with pytest.raises(ValueError, match="for one of `host_keys`"):
        trust.check_host_certificate(tmp_path / "other-cert.pub", keys)


async def test_who_is_gone_before_the_token_was_looked_at_has_no_session_t14(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing would ever end it: it counted for ever."""
    async with talking(tmp_path, RULES, audit := MemoryAudit()) as talk:
        asked, go_on = asyncio.Event(), asyncio.Event()
        admit = talk.gateway.authenticator.admit

        async def slow(*given: Any) -> Any:
            found = await admit(*given)
            asked.set()
            await go_on.wait()
            return found

        monkeypatch.setattr(talk.gateway.authenticator, "admit", slow)
        folder = talk.gateway.folder
        coming = asyncio.ensure_future(come(talk, password=mint(folder, bearer(folder, "ci-bot"), time.time())))
        await asked.wait()
        before = len(talk.gateway.live)
        coming.cancel()
        await asyncio.wait([coming])
        await asyncio.sleep(0.2)
        go_on.set()
        await asyncio.sleep(0.2)
        assert len(talk.gateway.live) == before
        assert len(audit.of("session.start")) == len(audit.of("session.end"))
