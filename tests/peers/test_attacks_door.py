# SPDX-License-Identifier: Apache-2.0
"""Ways to be taken for somebody else that are not the token: cookies, client certificates, proxy headers."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path

from gateway.protocols.postgres import messages
from gateway.testing.certificates import Authority
from tests.peers.gateway import Appliance
from tests.peers.wire import Wire, codes


def ask(gateway: Appliance, headers: dict[str, str]) -> tuple[int, dict[str, object]]:
    context = ssl.create_default_context(cafile=str(gateway.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", gateway.console_port, context=context, timeout=60)
    connection.request("GET", "/api/v1/whoami", headers=headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_t10_a_cookie_is_nobody(gateway: Appliance) -> None:
    """A bearer token decides alone; a cookie with another person's token changes nothing and is nothing by itself."""
    dana, ines = gateway.token("dana"), gateway.token("ines")
    status, said = ask(gateway, {"Authorization": f"Bearer {ines}", "Cookie": f"token={dana}; session={dana}"})
    assert (status, said["name"]) == (200, "ines")
    assert ask(gateway, {"Cookie": f"token={dana}; Authorization=Bearer {dana}"})[0] == 401


def test_t12_a_client_certificate_is_no_identity(gateway: Appliance, tmp_path: Path) -> None:
    """Where no issuer signs certificates none is asked for: one that names an identity does not spare its token."""
    pair = Authority(tmp_path).issue("ci-bot")
    context = ssl.create_default_context(cafile=str(gateway.ca))
    context.load_cert_chain(pair.certificate, pair.key)
    raw = socket.create_connection(("127.0.0.1", gateway.port), 30)
    raw.sendall(messages.SslRequest().encode())
    assert raw.recv(1) == b"S"
    with Wire(context.wrap_socket(raw, server_hostname="127.0.0.1")) as wire:
        wire.send(messages.Startup({"user": "ci-bot", "database": "orders-db"}))
        assert wire.next() == ("R", (3).to_bytes(4, "big")), "the token is still asked for"
        wire.send(messages.Password(b"\0"))
        assert codes(wire.until("E")) == ["28000"]


def test_t16_a_proxy_header_changes_no_address(gateway: Appliance) -> None:
    """Nothing in front of the gateway is believed: a PROXY line is no startup packet, a forwarded address is not the caller's."""
    raw = socket.create_connection(("127.0.0.1", gateway.port), 30)
    raw.sendall(b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 5432\r\n" + messages.Startup({"user": "ci-bot", "database": "orders-db"}).encode())
    with Wire(raw) as wire:
        assert codes(wire.until("ER")) == ["08P01"]
    headers = {"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1", "X-Real-IP": "10.0.0.1"}
    assert ask(gateway, headers | {"Authorization": f"Bearer {gateway.token('sam')}"})[0] == 200
    assert "10.0.0.1" not in gateway.run("audit", "export", "--json")
