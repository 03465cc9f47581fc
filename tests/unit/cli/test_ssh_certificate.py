# SPDX-License-Identifier: Apache-2.0
"""``lockgate ssh-certificate`` and ``ssh-known-hosts`` against a real console on loopback, with real tokens and files."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import stat
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.cli import ssh_certificate, ssh_known_hosts
from gateway.cli.client import ClientProblem
from gateway.errors import ConfigError
from gateway.testing.console import ConsoleRoom


@dataclass
class Answer:
    status: int
    out: str
    err: str


def run_now(module: Any, verb: str, *words: str) -> Answer:
    """The verb as ``main`` runs it."""
    parser = argparse.ArgumentParser()
    module.register(parser.add_subparsers())
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        args = parser.parse_args([verb, *words])
        status: int = args.run(args)
    return Answer(status, out.getvalue(), err.getvalue())


class World:
    """A console, a robot with its token in a file, and a folder for keys."""

    def __init__(self, room: ConsoleRoom, folder: Path) -> None:
        self.room, self.folder = room, folder
        self.out = folder / "ssh" / "id"
        self.certificate = folder / "ssh" / "id-cert.pub"
        self.token = folder / "token"
        self.token.write_text(room.robot() + "\n")
        self.url, self.threads = room.url, ThreadPoolExecutor(8)

    async def get(self, *words: str, out: Path | None = None) -> Answer:
        where = () if "--key" in words else ("--out", str(out or self.out))
        words = ("--token-file", str(self.token), "--url", self.url, *where, *words)
        return await asyncio.get_running_loop().run_in_executor(self.threads, run_now, ssh_certificate, "ssh-certificate", *words)

    @property
    def issued(self) -> int:
        return self.room.audit.kinds("certificate.").count("certificate.issued")


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with ConsoleRoom(tmp_path, ssh=True) as room:
        monkeypatch.setattr(ssh_certificate, "now", room.now)
        yield World(room, tmp_path)


def keygen(*words: str) -> str:
    return subprocess.run(["ssh-keygen", *words], capture_output=True, text=True, check=True).stdout


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_key_and_a_certificate_that_openssh_reads(world: World) -> None:
    answer = await world.get()
    assert answer.status == 0 and answer.out.startswith(f"{world.certificate}: good until ")
    assert (mode(world.out), mode(world.out.parent)) == (0o600, 0o700)
    shown = keygen("-L", "-f", str(world.certificate))
    assert "user certificate" in shown and "deploy@web-1" in shown and "Critical Options: (none)" in shown and "Extensions: (none)" in shown
    public = keygen("-y", "-f", str(world.out))
    assert public.split()[:2] == world.out.with_name("id.pub").read_text().split()[:2]
    assert world.token.read_text().strip() not in answer.out + answer.err


async def test_what_is_good_is_left_alone(world: World) -> None:
    await world.get()
    before = world.certificate.read_bytes(), world.out.read_bytes()
    world.token.unlink()                                                        # nothing of the gateway or the token is needed for that
    answer = await world.get("--quiet")
    assert (answer, world.issued) == (Answer(0, "", ""), 1)
    assert (world.certificate.read_bytes(), world.out.read_bytes()) == before
    assert json.loads((await world.get("--json")).out)["principals"][0] == "web-1"


async def test_what_ends_soon_is_renewed_over_the_same_key(world: World) -> None:
    await world.get()
    before = world.certificate.read_bytes(), world.out.read_bytes()
    await world.get("--renew-before", "10m")
    assert world.issued == 2 and world.out.read_bytes() == before[1] and world.certificate.read_bytes() != before[0]


async def test_another_resource_asks_again(world: World) -> None:
    await world.get("--resource", "web-2")
    await world.get("--resource", "web-2")
    assert world.issued == 1
    await world.get("--resource", "web-1")
    assert world.issued == 2


async def test_ssh_processes_that_begin_together_ask_once(world: World) -> None:
    answers = await asyncio.gather(*(world.get("--quiet") for _ in range(8)))
    assert [one.status for one in answers] == [0] * 8 and world.issued == 1
    assert {path.name for path in world.out.parent.iterdir()} == {"id", "id.pub", "id-cert.pub", "id-cert.pub.lock"}


async def test_over_a_key_of_ones_own(world: World) -> None:
    own = world.folder / "own.pub"
    key = rsa.generate_private_key(65537, 3072)
    own.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" me@here\n")
    for _ in range(2):
        assert (await world.get("--key", str(own))).status == 0
    assert world.issued == 1 and (world.folder / "own-cert.pub").read_text().startswith("ssh-rsa-cert-v01@openssh.com ")
    assert not world.out.exists()


async def test_a_broken_certificate_is_replaced(world: World) -> None:
    await world.get()
    for broken in ("", "x", world.certificate.read_text()[:100]):
        world.certificate.write_text(broken)
        assert (await world.get()).status == 0
    other = world.folder / "ssh" / "other"
    await world.get(out=other)
    world.certificate.write_bytes(other.with_name("other-cert.pub").read_bytes())     # over another key
    assert (await world.get()).status == 0 and world.issued == 6


async def test_a_refusal_is_1_and_leaves_nothing(world: World) -> None:
    answer = await world.get("--resource", "web-3")
    assert (answer.status, answer.err) == (1, "lockgate: no grant gives ci-bot anything on web-3 now\n")
    assert not world.certificate.exists()
    world.token.write_text("x.y.z")
    answer = await world.get()
    assert answer.status == 1 and answer.err.startswith("lockgate: the token is refused") and "x.y.z" not in answer.err
    assert json.loads((await world.get("--json")).out)["problem"]["code"] == "token-refused"


async def test_nobody_there_is_2(world: World) -> None:
    await world.room.__aexit__()
    answer = await world.get()
    assert answer.status == 2 and "cannot be asked" in answer.err and not world.certificate.exists()
    await world.room.__aenter__()


async def test_t65_a_key_that_others_may_read_is_not_used(world: World) -> None:
    await world.get()
    world.out.chmod(0o640)
    with pytest.raises(ConfigError, match="nobody else may read"):
        await world.get()


@pytest.mark.parametrize("pem", [
    b"x", rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
    Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"x"))])
async def test_somebody_elses_key_is_not_overwritten(world: World, pem: bytes) -> None:
    world.out.parent.mkdir()
    world.out.write_bytes(pem)
    world.out.chmod(0o600)
    with pytest.raises(ConfigError, match="use --key FILE"):
        await world.get()
    assert world.out.read_bytes() == pem


async def test_a_lock_that_is_a_link_is_not_followed(world: World) -> None:
    world.out.parent.mkdir()
    world.certificate.with_name("id-cert.pub.lock").symlink_to(world.folder / "elsewhere")
    with pytest.raises(ConfigError):
        await world.get()
    assert not (world.folder / "elsewhere").exists()


async def test_a_key_that_is_no_file_is_not_waited_for(world: World) -> None:
    world.out.parent.mkdir()
    os.mkfifo(world.out, 0o600)
    with pytest.raises(ConfigError, match="a file of one's own"):
        await asyncio.wait_for(world.get(), 20)


async def test_a_key_that_is_exchanged_between_the_look_and_the_reading(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that others may write: what was looked at is what is read, whatever its name leads to by then."""
    await world.get()
    mine, other = world.out.read_bytes(), Ed25519PrivateKey.generate()
    real = os.fstat

    def looked_at(handle: int) -> os.stat_result:
        found = real(handle)
        if found.st_ino == world.out.stat().st_ino:
            world.out.rename(world.folder / "kept")
            world.out.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        return found

    monkeypatch.setattr(os, "fstat", looked_at)
    key = ssh_certificate._key(world.out)
    assert (world.folder / "kept").read_bytes() == mine != world.out.read_bytes()
    assert key.public_key() != other.public_key()


@pytest.mark.parametrize("answer", [{}, [], None, {"certificate": 7}, {"certificate": "x"}, {"certificate": "ssh-ed25519 AAAA\nHost *"}])
def test_an_answer_that_is_no_certificate(answer: Any) -> None:
    with pytest.raises(ClientProblem):
        ssh_certificate._answered(answer, "ssh-ed25519 AAAA")


# ssh-known-hosts


async def hosts(*words: str) -> Answer:
    return await asyncio.to_thread(run_now, ssh_known_hosts, "ssh-known-hosts", *words)


async def test_host_keys_as_known_hosts(world: World, tmp_path: Path) -> None:
    asked = await hosts("--url", world.room.url)
    read = await hosts("--config", str(world.room.folder.path))
    assert asked == read and asked.out.startswith("[127.0.0.1]:12222 ssh-ed25519 AAAA")
    named = await hosts("--url", world.room.url, "--host", "gate.example", "--host", "2001:db8::1")
    assert named.out.startswith("[gate.example]:12222,[2001:db8::1]:12222 ssh-ed25519 ")
    (tmp_path / "known").write_text(named.out)
    found = keygen("-l", "-F", "[gate.example]:12222", "-f", str(tmp_path / "known"))
    assert json.loads((await hosts("--url", world.room.url, "--json")).out)["fingerprint"] in found


async def test_a_gateway_without_ssh_has_none(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path) as room:
        with pytest.raises(ConfigError, match="expected an address and host_keys"):
            await hosts("--config", str(room.folder.path))
        with pytest.raises(ClientProblem, match="this gateway has no"):
            await hosts("--url", room.url)
