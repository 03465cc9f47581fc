# SPDX-License-Identifier: Apache-2.0
"""Health: what is read, and that the digest of a folder in the inventory is the gateway's own."""

from __future__ import annotations

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
