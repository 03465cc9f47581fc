# SPDX-License-Identifier: Apache-2.0
"""What a gateway tells systemd and those who asked for a reload."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway import serving
from gateway.cli import reload
from gateway.errors import ConfigError

SERVING = serving.Verdict(1, 2.0, "/releases/a", "/releases/b", "sha256:00", "0.1.0")


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The other end of sd_notify, and a runtime directory."""
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.settimeout(5)
    heard.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/elsewhere")
    return heard


def test_a_status_is_one_short_line() -> None:
    assert SERVING.status() == "policy sha256:00 from /releases/b"
    long = replace(SERVING, refused="a.yaml:1: x: expected y\nb.yaml:2: " + "z" * 5000).status()
    assert long.startswith("reload refused, the old policy stays: policy sha256:00 from /releases/b; a.yaml:1: x: expected y b.yaml:2:")
    assert len(long) == 1000


def test_a_verdict_is_told_twice(systemd: socket.socket, tmp_path: Path) -> None:
    with systemd:
        serving.tell(SERVING)
        assert systemd.recv(4096).decode() == f"READY=1\nSTATUS={SERVING.status()}"
    assert serving.read(tmp_path) == SERVING
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notify", "serving.json"]


def test_a_verdict_needs_nobody_to_hear_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "missing"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    serving.tell(SERVING)
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.delenv("NOTIFY_SOCKET")
    serving.tell(SERVING)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 1}', "{", "[" * 100_000, *(
    json.dumps(asdict(SERVING) | wrong) for wrong in ({"pid": -1}, {"pid": 0}, {"pid": "7"}, {"pid": True}, {"began": "now"},
                                                      {"refused": 7}, {"folder": ["/"]}, {"policy": "x" * 2**20}))])
def test_what_is_no_verdict_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / serving.NAME).write_text(text)
    assert serving.read(tmp_path) is None
    assert serving.read(tmp_path / "missing") is None


def test_only_a_plain_file_is_read(tmp_path: Path) -> None:
    """Root reads it in a folder that the service writes: a pipe would hold it up, a link would lead anywhere."""
    _write(tmp_path, SERVING)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / serving.NAME).symlink_to(tmp_path / serving.NAME)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / serving.NAME)
    assert serving.read(tmp_path) == SERVING
    assert serving.read(tmp_path / "there") is serving.read(tmp_path / "pipe") is None


def test_signs_of_life_are_three_times_as_often_as_asked_for() -> None:
    assert serving.watchdog_interval({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7) == 10.0
    assert serving.watchdog_interval({"WATCHDOG_USEC": "3000000"}, 7) == 1.0
    for without in ({}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}):
        assert serving.watchdog_interval(without, 7) is None


async def test_the_event_loop_gives_them(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    with systemd:
        systemd.setblocking(False)
        giving = asyncio.create_task(serving.keep_alive())
        loop = asyncio.get_running_loop()
        assert [await loop.sock_recv(systemd, 64) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        giving.cancel()
        await asyncio.wait([giving])


def test_a_systemd_that_does_not_listen_holds_nobody_up(systemd: socket.socket) -> None:
    with systemd:
        for _ in range(1000):
            serving.notify("WATCHDOG=1", wait=0.0)


def test_nobody_to_ask(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is it running.*SIGHUP"):
        reload.ask(tmp_path, 1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "gone").mkdir()
    _write(tmp_path / "gone", replace(SERVING, pid=ended.pid))
    with pytest.raises(ConfigError, match="cannot be asked: No such process"):
        reload.ask(tmp_path / "gone", 1)


def test_a_gateway_of_another_folder_is_not_asked(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "current").symlink_to("mine")
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: heard.append(number))
    try:
        _write(tmp_path, replace(SERVING, pid=os.getpid(), began=time.monotonic(), named=str(tmp_path / "current")))
        with pytest.raises(ConfigError, match=r"other: expected the folder of the gateway that runs .* reads .*/current; nobody was asked"):
            reload.ask(tmp_path, 0.2, tmp_path / "other")
        assert heard == []
        for same in ("current", "mine"):
            with pytest.raises(ConfigError, match="did not answer"):
                reload.ask(tmp_path, 0.1, tmp_path / same)
        assert heard == [signal.SIGHUP] * 2
    finally:
        signal.signal(signal.SIGHUP, before)


def test_root_signals_no_process_of_another_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service writes that file: a gateway that was taken over would choose what an administrator signals."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: sent.append(pid))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    _write(tmp_path, replace(SERVING, pid=os.getpid(), began=time.monotonic()))
    with pytest.raises(ConfigError, match="did not answer"):
        reload.ask(tmp_path, 0.1)
    mine = (tmp_path / serving.NAME).lstat().st_uid
    monkeypatch.setattr(Path, "lstat", lambda _: SimpleNamespace(st_uid=mine + 1))
    with pytest.raises(ConfigError, match=r"not of the account that wrote this; nobody was asked"):
        reload.ask(tmp_path, 0.1)
    assert sent == [os.getpid()]


def test_a_verdict_from_before_is_no_answer(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        _write(tmp_path, replace(SERVING, pid=os.getpid(), began=time.monotonic()))
        with pytest.raises(ConfigError, match=r"did not answer within 0\.2 s"):
            reload.ask(tmp_path, 0.2)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("refused", [None, "policy/a.yaml:1: expected a list"])
def test_the_verdict_after_the_signal_is_the_answer(tmp_path: Path, refused: str | None) -> None:
    first = replace(SERVING, pid=os.getpid(), began=time.monotonic())
    answer = replace(first, refused=refused)

    def hear(*_: object) -> None:
        late = replace(answer, began=time.monotonic())
        threading.Timer(0.1, _write, (tmp_path, late)).start()

    before = signal.signal(signal.SIGHUP, hear)
    try:
        _write(tmp_path, first)
        said = reload.ask(tmp_path, 5)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert said.refused == refused
    assert said.began > first.began


def _write(place: Path, verdict: serving.Verdict) -> None:
    os.environ["RUNTIME_DIRECTORY"] = str(place)
    try:
        serving.tell(verdict)
    finally:
        del os.environ["RUNTIME_DIRECTORY"]
