# SPDX-License-Identifier: Apache-2.0
"""Files under a policy that holds, changes and masks, through a real gateway to a real sshd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from gateway.testing.openssh import SshServer
from tests.peers.ssh.way import Way, running

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=\n" * 9 + "-----END OPENSSH PRIVATE KEY-----\n"


def _change(way: Way) -> None:
    document = way.document
    document["resources"][0]["recording"] = {"files": "32B"}
    document["masks"] = [{"name": "host-secrets", "detect": {"private-key": "redact", "jwt": "redact"}}]
    grant = way.grant("ssh")
    grant["masks"] = ["host-secrets"]
    grant["rules"].append({"name": "held-file", "approve": {"ssh": {"actions": ["write"], "paths": ["/tmp/**/held/**"]}}, "by": "one-dba"})


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, sshd: SshServer) -> Iterator[Way]:
    with running(tmp_path_factory.mktemp("ssh-files"), sshd, _change) as made:
        yield made


@pytest.fixture
def files(strict: Way) -> Iterator[paramiko.SFTPClient]:
    transport = paramiko.Transport(("127.0.0.1", strict.port))
    transport.connect(username="web-1", password=strict.appliance.token_file("ci-bot").read_text().strip())
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    yield client
    client.close()
    transport.close()


def scp(way: Way, *words: str) -> subprocess.CompletedProcess[bytes]:
    return way.client("scp", "-O", *way.options(port="-P"), "-o", "LogLevel=ERROR", *words)


def test_a_file_with_a_key_is_not_read(strict: Way, files: paramiko.SFTPClient, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x" * 40_000 + "\n" + KEY)
    (tmp_path / "harmless").write_text("BEGIN nothing\n" * 9000)
    with files.open(f"{tmp_path}/harmless") as handle:
        assert handle.read() == b"BEGIN nothing\n" * 9000
    with files.open(f"{tmp_path}/secret") as handle, pytest.raises(OSError, match="masked"):
        handle.read()
    with files.open(f"{tmp_path}/secret") as handle:
        handle.seek(40_100)
        with pytest.raises(OSError, match="masked"):
            handle.read(1)
    assert strict.last("command.end", path=f"{tmp_path}/secret")["error"] == "masked"
    done = scp(strict, f"web-1@127.0.0.1:{tmp_path}/secret", str(tmp_path / "got"))
    assert done.returncode != 0
    assert "masked" in done.stderr.decode()
    got = (tmp_path / "got").read_text() if (tmp_path / "got").exists() else ""
    assert "QUJD" not in got


def test_rsync_does_not_read_where_something_is_masked(strict: Way, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    shell = "ssh " + " ".join([*strict.options(), "-o", "LogLevel=ERROR"])
    done = strict.client("rsync", "-a", "-e", shell, f"web-1@127.0.0.1:{tmp_path}/a", f"{tmp_path}/b")
    assert b"cannot be masked" in done.stderr
    assert strict.client("rsync", "-a", "-e", shell, f"{tmp_path}/a", f"web-1@127.0.0.1:{tmp_path}/b").returncode == 0
    assert (tmp_path / "b").read_text() == "a"


def test_what_is_kept_of_a_file_is_masked(strict: Way, files: paramiko.SFTPClient, tmp_path: Path) -> None:
    token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    with files.open(f"{tmp_path}/new", "w") as handle:
        handle.write(f"a {token}\n" * 3)
    record = strict.last("command.end", path=f"{tmp_path}/new")
    assert (record["direction"], record["size"]) == ("sent", 3 * (len(token) + 3))
    assert "recording" in str(record)


def test_a_write_is_held_until_it_is_approved(strict: Way, tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.mkdir()
    (tmp_path / "local").write_text("content")
    for mode, place in (("-s", "one"), ("-O", "two")):
        command = ["scp", mode, *strict.options(port="-P"), "-o", "LogLevel=ERROR", str(tmp_path / "local")]
        process = subprocess.Popen([*command, f"web-1@127.0.0.1:{held}/{place}"], stderr=subprocess.PIPE, env=strict.variables())
        asked: dict[str, Any] = strict.vote()
        assert f"{held}/{place}" in asked["text"]
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
        assert b"held:" in told
        assert (held / place).read_text() == "content"
    process = subprocess.Popen([*command, f"web-1@127.0.0.1:{held}/three"], stderr=subprocess.PIPE, env=strict.variables())
    strict.vote("deny")
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not (held / "three").exists()


def test_an_open_file_dies_with_its_rule_t50(strict: Way, files: paramiko.SFTPClient, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    reading, writing = files.open(f"{tmp_path}/a", "r", 0), files.open(f"{tmp_path}/b", "w")
    assert reading.read(2) == b"01"
    rules = strict.grant("ssh")["rules"]
    strict.grant("ssh")["rules"] = [rule for rule in rules if rule["name"] != "files"]
    try:
        strict.reload()
        for attempt in (lambda: reading.read(2), reading.stat, lambda: reading.read(2), lambda: files.stat(str(tmp_path)), writing.stat):
            with pytest.raises(OSError, match="no rule"):
                attempt()
        reading.close()
    finally:
        strict.grant("ssh")["rules"] = rules
        strict.reload()
    assert strict.last("command.end", path=f"{tmp_path}/a")["status"] == "refused"
    assert (tmp_path / "b").read_bytes() == b""
    with files.open(f"{tmp_path}/a") as again:
        assert again.read() == b"0123456789"
