# SPDX-License-Identifier: Apache-2.0
"""Certificates as docs/ssh.md says: OpenSSH's clients with ``Match exec``, and what a certificate does not open (T9, T11, T13, T14)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from gateway.testing.openssh import SshServer, write_key
from tests.peers.ssh.way import WAIT, Way, running

LOCKGATE = str(Path(sys.executable).with_name("lockgate"))


class Recipe:
    """A home with the ssh_config of docs/ssh.md for one gateway; ``ssh web-1`` is all a caller types."""

    def __init__(self, way: Way, home: Path, *more: str, name: str = "ci-bot") -> None:
        self.way, self.home, self.key = way, home, home / "lockgate"
        self.address = next(line for line in (way.appliance.folder / "gateway.yaml").read_text().splitlines() if "console:" in line)
        self.console = ["--url", f"https://{self.address.split(chr(34))[1]}", "--ca", str(way.appliance.folder / "tls" / "ca.crt")]
        self.fetch = [LOCKGATE, "ssh-certificate", "--quiet", "--token-file", str(way.appliance.token_file(name)), *self.console,
                      "--out", str(self.key), *more]
        home.mkdir(mode=0o700)
        (home / "config").write_text(
            f'Host web-1\n  User web-1\n  HostName 127.0.0.1\n\nMatch host 127.0.0.1 exec "{" ".join(self.fetch)}"\n  Port {way.port}\n'
            f"  IdentityFile {self.key}\n  CertificateFile {self.key}-cert.pub\n  IdentitiesOnly yes\n"
            f"  PreferredAuthentications publickey\n  UserKnownHostsFile {home / 'known_hosts'}\n  LogLevel ERROR\n")
        known = subprocess.run([LOCKGATE, "ssh-known-hosts", *self.console], capture_output=True, check=True).stdout
        (home / "known_hosts").write_bytes(known)

    def run(self, *command: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, input=given, capture_output=True, timeout=WAIT, check=False)

    def ssh(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return self.run("ssh", "-F", str(self.home / "config"), *words)

    def issued(self) -> list[dict[str, Any]]:
        return self.way.records("certificate.issued")

    def certificate(self) -> Path:
        return self.key.with_name("lockgate-cert.pub")


@pytest.fixture
def recipe(way: Way, tmp_path: Path) -> Recipe:
    return Recipe(way, tmp_path / "home")


def test_plain_ssh(recipe: Recipe) -> None:
    done = recipe.ssh("web-1", "printf in")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"in", b"")
    issued = recipe.issued()[-1]
    start = recipe.way.last("session.start", certificate=issued["certificate"])
    assert (start["identity"], start["token_id"], start["subject"]) == ("ci-bot", issued["token_id"], issued["subject"])
    assert issued["principals"][:2] == ["web-1", f"{recipe.way.server.login}@web-1"]


def test_ssh_processes_that_begin_together_ask_once(recipe: Recipe) -> None:
    before = len(recipe.issued())
    with ThreadPoolExecutor(6) as threads:
        assert [done.stdout for done in threads.map(lambda _: recipe.ssh("web-1", "printf in"), range(6))] == [b"in"] * 6
    assert len(recipe.issued()) == before + 1


def test_scp_sftp_and_git(recipe: Recipe, tmp_path: Path) -> None:
    config = ["-F", str(recipe.home / "config")]
    (tmp_path / "file").write_bytes(b"content")
    assert recipe.run("scp", *config, str(tmp_path / "file"), f"web-1:{tmp_path}/there").returncode == 0
    assert (tmp_path / "there").read_bytes() == b"content"
    assert recipe.run("sftp", *config, "-b", "-", "web-1", given=f"get {tmp_path}/there {tmp_path}/back\n".encode()).returncode == 0
    assert (tmp_path / "back").read_bytes() == b"content"
    assert recipe.run("git", "init", "-q", "--bare", str(tmp_path / "r.git")).returncode == 0
    shell = f"core.sshCommand=ssh -F {recipe.home / 'config'}"
    assert recipe.run("git", "-c", shell, "ls-remote", f"web-1:{tmp_path}/r.git").returncode == 0


def test_who_is_refused_gets_no_certificate_and_no_prompt(way: Way, tmp_path: Path) -> None:
    recipe = Recipe(way, tmp_path / "home", "--resource", "orders-db")
    done = recipe.ssh("web-1", "uptime")
    assert done.returncode == 255 and b"not reached over SSH" in done.stderr
    assert not recipe.certificate().exists()
    assert way.last("certificate.refused")["reason"] == "'orders-db' is not reached over SSH"


def test_another_key_is_no_way_in(recipe: Recipe, tmp_path: Path) -> None:
    write_key(tmp_path / "other")
    done = recipe.way.ssh("uptime", before=["-o", f"IdentityFile={tmp_path / 'other'}", "-o", "PreferredAuthentications=publickey"])
    assert done.returncode == 255


def test_a_certificate_of_another_ca_is_no_way_in(recipe: Recipe, tmp_path: Path) -> None:
    write_key(tmp_path / "ca")
    write_key(tmp_path / "key")
    made = recipe.run("ssh-keygen", "-q", "-s", str(tmp_path / "ca"), "-I", "x", "-n", "web-1", str(tmp_path / "key.pub"))
    assert made.returncode == 0
    with pytest.raises(asyncssh.PermissionDenied):
        connect(recipe, key=tmp_path / "key", certificate=tmp_path / "key-cert.pub")


def connect(recipe: Recipe, user: str = "web-1", *, key: Path | None = None, certificate: Path | None = None,
            pair: Any = None) -> str:
    """asyncssh with a certificate alone: what it says of ``uptime``."""
    shown = pair or (str(key or recipe.key), str(certificate or recipe.certificate()))

    async def inside() -> str:
        async with asyncssh.connect("127.0.0.1", recipe.way.port, username=user, client_keys=[shown], agent_path=None, config=None,
                                    known_hosts=str(recipe.home / "known_hosts"), preferred_auth="publickey") as connection:
            return str((await connection.run("printf in")).stdout)
    return asyncio.run(inside())


def test_t14_for_no_other_user_name(way: Way, tmp_path: Path) -> None:
    """A certificate for web-1 alone, of somebody who may enter web-2 as well."""
    recipe = Recipe(way, tmp_path / "home", "--resource", "web-1")
    assert recipe.ssh("web-1", "true").returncode == 0
    assert connect(recipe) == "in"
    for user in ("web-2", "nobody@web-1", "root@web-1@web-1"):
        with pytest.raises(asyncssh.PermissionDenied):
            connect(recipe, user)


def test_t13_a_certificate_without_its_key(recipe: Recipe) -> None:
    """Whoever saw a certificate can offer it. The signature is by another key; the offer alone opens nothing (CVE-2023-43660)."""
    assert recipe.ssh("web-1", "true").returncode == 0
    before = len(recipe.way.records("session.start"))
    thief = asyncssh.generate_private_key("ssh-ed25519")
    certificate = asyncssh.read_certificate(str(recipe.certificate()))
    certificate.key = thief.convert_to_public()
    with pytest.raises(asyncssh.PermissionDenied):
        connect(recipe, pair=(thief, certificate))
    assert len(recipe.way.records("session.start")) == before
    assert recipe.way.last("session.refused", reason="its holder did not sign")


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory, sshd: SshServer) -> Iterator[Callable[[Callable[[Way], None] | None], Way]]:
    """Gateways whose folder a test may change."""
    with ExitStack() as stack:
        def made(change: Callable[[Way], None] | None = None) -> Way:
            return stack.enter_context(running(tmp_path_factory.mktemp("own"), sshd, change))
        yield made


def test_t09_a_revoked_certificate_ends_its_session_and_opens_nothing(own: Any, tmp_path: Path) -> None:
    way = own()
    recipe = Recipe(way, tmp_path / "home")
    command = ["ssh", "-F", str(recipe.home / "config"), "web-1", "sleep 50"]
    live = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    way.last("command.begin", text="sleep 50")
    way.document["revoked"] = [{"certificate": recipe.issued()[-1]["certificate"]}]
    way.reload()
    assert live.wait(WAIT) != 0
    assert way.last("session.end")["reason"] == "the certificate is revoked"
    with pytest.raises(asyncssh.PermissionDenied):
        connect(recipe)


def _once(way: Way) -> None:
    path = way.appliance.folder / "policy" / "identities.yaml"
    path.write_text(path.read_text().replace("- name: ci\n", "- name: ci\n    single_use: true\n"))


def test_t07_of_a_token_that_counts_once_the_certificate_counts_once(own: Any, tmp_path: Path) -> None:
    recipe = Recipe(own(_once), tmp_path / "home")
    assert recipe.ssh("web-1", "printf in").stdout == b"in"
    with pytest.raises(asyncssh.PermissionDenied):
        connect(recipe)
    assert recipe.way.last("session.refused")["reason"] == "it was used before, and its issuer is single_use"
    again = recipe.run(*recipe.fetch, "--renew-before", "10m")
    assert again.returncode == 1 and b"used before" in again.stderr


def test_the_start_log_and_doctor_say_the_fingerprint(recipe: Recipe) -> None:
    said = recipe.run(LOCKGATE, "ssh-known-hosts", *recipe.console, "--json").stdout
    fingerprint = json.loads(said)["fingerprint"]
    assert f"ssh host key {fingerprint}" in recipe.way.appliance.log
    doctor = recipe.run(LOCKGATE, "doctor", "--offline", "--config", str(recipe.way.appliance.folder))
    assert fingerprint.encode() in doctor.stdout
