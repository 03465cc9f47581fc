# SPDX-License-Identifier: Apache-2.0
"""Health: what is read, and that the digest of a folder in the inventory is the gateway's own."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load_folder
from tests.unit.cli.demo_folder import make_demo
from tests.unit.roles.playbook import plugin

health: Any = plugin("appliance_verify", "library/gateway_health.py")
segment: Any = plugin("appliance_verify", "filter_plugins/segment.py")

SS = """\
udp   UNCONN 0      0          127.0.0.53%lo:53         0.0.0.0:*
tcp   LISTEN 0      128              0.0.0.0:22         0.0.0.0:*
tcp   LISTEN 0      100            127.0.0.1:19443      0.0.0.0:*
tcp   LISTEN 0      100                [::1]:631           [::]:*
tcp   LISTEN 0      100         *:15432                  *:*
"""


def test_the_digest_of_a_segment_is_the_gateway_s(tmp_path: Path) -> None:
    etc = make_demo(tmp_path)
    assert segment.digest(str(etc)) == load_folder(etc).digest
    before = segment.digest(str(etc))
    (etc / "policy" / "tests" / "another.yaml").write_text("tests: []\n")
    assert segment.digest(str(etc)) == before == load_folder(etc).digest
    (etc / "trust" / "another.pem").write_text("x\n")
    assert before != segment.digest(str(etc)) == load_folder(etc).digest


def test_sockets_beyond_loopback_are_told_apart() -> None:
    found = list(health.sockets(SS))
    assert found[0] == ("udp", "127.0.0.53", "53")
    assert [port for _, address, port in found if not health.loopback(address)] == ["22", "15432"]


@pytest.mark.parametrize(("address", "reached"), [
    ("0.0.0.0:9443", ("127.0.0.1", 9443)), ("[::]:9443", ("::1", 9443)), ("192.0.2.1:1", ("192.0.2.1", 1)),
    ("[2001:db8::1]:2", ("2001:db8::1", 2))])
def test_a_listener_is_reached_from_its_own_host(address: str, reached: tuple[str, int]) -> None:
    assert health.local(address) == reached


def time_server(answer: Callable[[bytes], bytes]) -> int:
    """Answers one question on loopback, in a thread of its own; its port."""
    ear = socket.socket(type=socket.SOCK_DGRAM)
    ear.bind(("127.0.0.1", 0))

    def serve() -> None:
        with ear:
            question, asker = ear.recvfrom(512)
            ear.sendto(answer(question), asker)

    threading.Thread(target=serve, daemon=True).start()
    return int(ear.getsockname()[1])


def ntp(question: bytes, first: int = 0x24, stratum: int = 3, ahead: float = 0.0, nonce: bytes = b"") -> bytes:
    moment = struct.pack("!II", int(time.time() + ahead) + 2_208_988_800, 0)
    return struct.pack("!BB22x8s8s8s", first, stratum, nonce or question[40:48], moment, moment)


def test_a_time_server_says_how_far_ahead_it_is() -> None:
    for ahead in (0.0, 100.0, -100.0):
        told = health.told("127.0.0.1", time_server(lambda asked, ahead=ahead: ntp(asked, ahead=ahead)))  # type: ignore[misc]
        assert ahead - 1.5 < told < ahead + 0.5


@pytest.mark.parametrize(("answer", "why"), [
    (lambda asked: ntp(asked, stratum=0), "not synchronised"), (lambda asked: ntp(asked, stratum=16), "not synchronised"),
    (lambda asked: ntp(asked, first=0xE4), "not synchronised"), (lambda asked: ntp(asked, first=0x23), "no answer to this"),
    (lambda asked: ntp(asked, nonce=b"another!"), "no answer to this"), (lambda asked: b"", "no answer to this")])
def test_an_answer_that_says_nothing_of_the_time_is_none(answer: Callable[[bytes], bytes], why: str) -> None:
    assert why in health.told("127.0.0.1", time_server(answer))


def test_a_server_that_is_not_there_is_said() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert "timed out" in health.told("127.0.0.1", nobody.getsockname()[1], 0.2)
