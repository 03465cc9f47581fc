# SPDX-License-Identifier: Apache-2.0
"""The program as a service manager runs it: told when it is ready and what it serves, asked to reload, its folder behind a link."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway import serving
from gateway.config.load import load_folder

PROGRAM = str(Path(sys.executable).with_name("lockgate"))


@dataclass
class Service:
    """A gateway on ``current``, a link to one of its folders."""

    root: Path
    process: subprocess.Popen[bytes]
    heard: socket.socket

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False)

    def reload(self) -> subprocess.CompletedProcess[str]:
        return self.run("reload", "--directory", str(self.root / "run"))

    def switch(self, name: str) -> None:
        (self.root / "new").symlink_to(name)
        (self.root / "new").rename(self.root / "current")

    def hear(self, beginning: str) -> str:
        """The next notification that begins so."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if (said := self.heard.recv(4096).decode()).startswith(beginning):
                return said
        raise AssertionError(beginning)


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    tmp_path.chmod(0o700)
    subprocess.run([PROGRAM, "init", str(tmp_path / "a"), "--demo"], check=True, capture_output=True)
    postgres, console = free_ports()
    settings = (tmp_path / "a" / "gateway.yaml").read_text().replace("15432", str(postgres)).replace("19443", str(console))
    (tmp_path / "a" / "gateway.yaml").write_text(settings)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "policy" / "more.yaml").write_text("revoked: [{identity: reporting}]\n")
    shutil.copytree(tmp_path / "a", tmp_path / "wrong")
    (tmp_path / "wrong" / "policy" / "more.yaml").write_text("grants: 1\n")
    (tmp_path / "current").symlink_to("a")
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "RUNTIME_DIRECTORY": str(tmp_path / "run"), "WATCHDOG_USEC": "300000"}
        with subprocess.Popen([PROGRAM, "serve", "--config", str(tmp_path / "current")], env={**os.environ, **told},
                              stderr=subprocess.DEVNULL) as process:
            try:
                yield Service(tmp_path, process, heard)
            finally:
                process.terminate()
                process.wait(30)


def test_it_says_what_it_serves_and_lives(service: Service) -> None:
    digest = load_folder(service.root / "a").digest
    assert service.hear("READY=1") == f"READY=1\nSTATUS=policy {digest} from {service.root / 'a'}"
    assert [service.hear("WATCHDOG=1") for _ in range(3)] == ["WATCHDOG=1"] * 3
    said = serving.read(service.root / "run")
    assert said is not None
    assert (said.pid, said.policy, said.refused) == (service.process.pid, digest, None)
    ready = service.run("ready", "--config", str(service.root / "current"), "--wait", "10s")
    assert (ready.returncode, ready.stdout) == (0, "ready\n")


def test_a_reload_follows_the_link_and_a_refused_one_says_why(service: Service) -> None:
    service.hear("READY=1")
    before = load_folder(service.root / "b").digest
    service.switch("b")
    good = service.reload()
    assert (good.returncode, good.stdout) == (0, f"policy {before} from {service.root / 'b'}\n")
    service.switch("wrong")
    bad = service.reload()
    assert bad.returncode == 1
    assert bad.stdout.startswith(f"reload refused, the old policy stays: policy {before} from {service.root / 'b'}; policy/more.yaml:1")
    service.switch("b")
    assert service.reload().returncode == 0


def test_a_gateway_that_is_not_there_is_not_ready(service: Service) -> None:
    service.hear("READY=1")
    service.process.terminate()
    assert service.hear("STOPPING=1") == "STOPPING=1"
    assert service.process.wait(30) == 0
    ready = service.run("ready", "--config", str(service.root / "current"))
    assert ready.returncode == 2
    assert service.reload().returncode == 2


def test_a_gateway_whose_address_is_not_here_is_tried_again_and_records_nothing(tmp_path: Path) -> None:
    """systemd starts it every two seconds until the address comes, for days if need be: that must not fill the log."""
    tmp_path.chmod(0o700)
    subprocess.run([PROGRAM, "init", str(tmp_path / "a"), "--demo"], check=True, capture_output=True)
    settings = tmp_path / "a" / "gateway.yaml"
    here, away = f"127.0.0.1:{free_ports()[0]}", "192.0.2.1:15432"
    settings.write_text(settings.read_text().replace("127.0.0.1:15432", away).replace("19443", "0"))
    serve = [PROGRAM, "serve", "--config", str(tmp_path / "a")]
    for _ in range(3):
        tried = subprocess.run(serve, capture_output=True, text=True, timeout=120, check=False)
        assert tried.returncode == 2
        assert "listeners.postgres.address: cannot listen on 192.0.2.1:15432: Cannot assign requested address" in tried.stderr
    assert not list(tmp_path.glob("state*/**/*.db"))
    settings.write_text(settings.read_text().replace(away, here))
    with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("postgres listens on" in line for line in process.stderr)
        process.terminate()
        process.stderr.read()
        assert process.wait(60) == 0
    exported = subprocess.run([PROGRAM, "audit", "export", "--config", str(tmp_path / "a")], capture_output=True, text=True, check=True)
    kinds = [json.loads(line)["kind"] for line in exported.stdout.splitlines()]
    assert (kinds.count("gateway.start"), kinds.count("gateway.stop")) == (1, 1)
    assert list(tmp_path.glob("state*/**/*.db"))
