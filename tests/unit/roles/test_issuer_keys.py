# SPDX-License-Identifier: Apache-2.0
"""Issuers' keys over real TLS on loopback: compared, refused, written for review."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from gateway.identity import keys as gateways
from gateway.testing.certificates import Authority
from tests.unit.roles.playbook import play, plugin

module: Any = plugin("issuer_keys", "library/issuer_keys.py")

PRIVATE = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
EC = [{**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": f"k{number}", "use": "sig", "alg": "ES256"}
      for number, key in enumerate(PRIVATE)]
RSA = {**RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True), "kid": "r", "use": "sig"}
WEAK = {**RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True), "kid": "w"}


class Issuer:
    """An HTTPS server: ``answers`` are bodies by path, or a place to redirect to; text in a list comes letter by letter."""

    def __init__(self, authority: Authority) -> None:
        self.answers: dict[str, Any] = {}
        pair = authority.issue("localhost", "127.0.0.1")
        answers = self.answers

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = answers.get(self.path)
                self.send_response(404 if found is None else 302 if isinstance(found, str) else 200)
                if isinstance(found, str):
                    self.send_header("Location", found)
                self.end_headers()
                if isinstance(found, dict):
                    self.wfile.write(json.dumps(found).encode())
                if isinstance(found, list):
                    self.drip("".join(found).encode())

            def drip(self, text: bytes) -> None:
                for letter in text:
                    try:
                        self.wfile.write(bytes([letter]))
                    except OSError:
                        return
                    time.sleep(0.1)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_port}"

    def publish(self, *keys: dict[str, Any]) -> None:
        self.answers["/.well-known/openid-configuration"] = {"issuer": self.url, "jwks_uri": self.url + "/keys"}
        self.answers["/keys"] = {"keys": list(keys)}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "ca").mkdir()
    return Authority(tmp_path / "ca")


@pytest.fixture
def issuer(authority: Authority) -> Iterator[Issuer]:
    issuer = Issuer(authority)
    thread = threading.Thread(target=issuer.server.serve_forever)
    thread.start()
    yield issuer
    issuer.server.shutdown()
    thread.join()
    issuer.server.server_close()


def segment(root: Path, url: str, *keys: dict[str, Any]) -> Path:
    folder = root / "segments" / "plant-a"
    (folder / "policy").mkdir(parents=True, exist_ok=True)
    (folder / "trust").mkdir(exist_ok=True)
    (folder / "policy" / "issuers.yaml").write_text(json.dumps({"issuers": [{"name": "ci", "issuer": url, "jwks": "trust/ci.jwks.json"}]}))
    if keys:
        (folder / "trust" / "ci.jwks.json").write_text(json.dumps({"keys": keys}))
    return folder


def given(folder: Path, ca: Path | str, **changes: Any) -> dict[str, Any]:
    return {"folder": str(folder), "sources": {}, "ca": str(ca), "today": "2026-11-22", "previous_days": 1, "seconds": 5, **changes}


def compare(folder: Path, ca: Path | str, **changes: Any) -> dict[str, Any]:
    entry = module.issuers_in(folder)[0]
    return dict(module.compared(entry, given(folder, ca, **changes), True))


def test_an_answer_that_never_ends_takes_so_many_seconds_in_all(tmp_path: Path, issuer: Issuer, authority: Authority) -> None:
    folder = segment(tmp_path, issuer.url, EC[0])
    issuer.publish(EC[1])
    issuer.answers["/keys"] = [json.dumps({"keys": [EC[1]]}) + " " * 1000]
    with pytest.raises(module.Unreachable, match="no whole answer in 1 s"):
        compare(folder, authority.ca, seconds=1)
    assert json.loads((folder / "trust" / "ci.jwks.json").read_text()) == {"keys": [EC[0]]}


def test_a_new_key_comes_and_the_previous_one_stays_for_a_day(tmp_path: Path, issuer: Issuer, authority: Authority) -> None:
    folder = segment(tmp_path, issuer.url, EC[0], EC[1])
    pinned = folder / "trust" / "ci.jwks.json"
    issuer.publish(EC[1], {**EC[2], "x5c": ["long"]}, RSA, {**EC[0], "kid": "enc", "use": "enc"})
    said = compare(folder, authority.ca)
    assert said["status"] == "changed"
    assert said["came"] == sorted(gateways.thumbprint(key) for key in (EC[2], RSA))
    assert said["went"] == []
    kept = gateways.parse_key_set(pinned.read_bytes())
    assert [key.id for key in kept.keys] == ["k1", "k2", "r", "k0"]
    assert json.loads(pinned.read_text())["keys"][3]["retired"] == "2026-11-22"
    assert compare(folder, authority.ca)["status"] == "same"
    later = compare(folder, authority.ca, today="2026-11-23")
    assert later["went"] == [gateways.thumbprint(EC[0])]
    assert [key.id for key in gateways.parse_key_set(pinned.read_bytes()).keys] == ["k1", "k2", "r"]


def test_nothing_stays_when_asked_and_a_kid_names_one_key() -> None:
    assert module.merged([EC[1]], [EC[0]], "2026-11-22", 0) == [EC[1]]
    assert module.merged([{**EC[1], "kid": "k0"}], [EC[0]], "2026-11-22", 9) == [{**EC[1], "kid": "k0"}]
    assert module.merged([EC[0]], [{**EC[0], "retired": "2026-11-21"}], "2026-11-22", 9) == [EC[0]]


@pytest.mark.parametrize("key", [
    {"kty": "oct", "k": "c2VjcmV0"}, WEAK, {**EC[0], "x": EC[0]["x"][:-4]}, {**EC[0], "kid": ""}, {**RSA, "e": "AA"},
    {**EC[0], "kid": "k1"}, "x", ECAlgorithm.to_jwk(PRIVATE[0], as_dict=True)],
    ids=["symmetric", "weak", "short", "nameless", "exponent", "twin", "text", "private"])
def test_what_a_gateway_would_refuse_is_not_written(tmp_path: Path, issuer: Issuer, authority: Authority, key: Any) -> None:
    folder = segment(tmp_path, issuer.url, EC[0])
    before = (folder / "trust" / "ci.jwks.json").read_bytes()
    issuer.publish(EC[1], key)
    with pytest.raises(module.Refused):
        compare(folder, authority.ca)
    assert (folder / "trust" / "ci.jwks.json").read_bytes() == before


def test_who_answers_is_verified(tmp_path: Path, issuer: Issuer, authority: Authority) -> None:
    folder = segment(tmp_path, issuer.url, EC[0])
    issuer.publish(EC[1])
    with pytest.raises(module.Refused, match="certificate verify failed"):
        compare(folder, "")
    issuer.answers["/.well-known/openid-configuration"]["issuer"] = "https://another.example"
    with pytest.raises(module.Refused, match="not 'https://localhost"):
        compare(folder, authority.ca)
    issuer.answers["/.well-known/openid-configuration"] = issuer.url + "/elsewhere"
    with pytest.raises(module.Refused, match="status 302"):
        compare(folder, authority.ca)
    with pytest.raises(module.Refused, match="https only"):
        compare(folder, authority.ca, sources={"ci": {"url": issuer.url.replace("https", "http")}})
    with pytest.raises(module.Unreachable):
        compare(folder, authority.ca, sources={"ci": {"url": "https://127.0.0.1:1/keys"}})


@pytest.mark.parametrize("name", ["alg", "crv", "use"])
def test_t69_a_key_cannot_write_other_lines_into_the_comparison(name: str) -> None:
    with pytest.raises(module.Refused, match="no word"):
        module.keys_in(json.dumps({"keys": [{**RSA, name: "RS256\n\x1b[2Kgood  RSA  kid \"two\""}]}).encode(), "an issuer")


def test_only_files_under_trust_are_written(tmp_path: Path) -> None:
    folder = segment(tmp_path, "https://localhost", EC[0])
    (folder / "trust" / "link").symlink_to(tmp_path / "outside")
    for name in ("../x", "/etc/passwd", "policy/issuers.yaml", "trust/../policy/issuers.yaml", "trust/link"):
        with pytest.raises(module.Refused):
            module.pinned_file(folder, name)


def test_the_role_shows_writes_and_is_done(tmp_path: Path, issuer: Issuer, authority: Authority) -> None:
    """Two gateways of a segment and one of another whose issuer cannot be reached: each folder is looked at once."""
    folder = segment(tmp_path, issuer.url, EC[0])
    other = tmp_path / "segments" / "plant-b"
    for name in ("policy", "trust"):
        (other / name).mkdir(parents=True)
    (other / "policy" / "i.yaml").write_text('issuers: [{name: x, issuer: "https://127.0.0.1:1", jwks: trust/x.json}]\n')
    hosts = {"gw-1": {"gateway_segment": "plant-a"}, "gw-2": {"gateway_segment": "plant-a"}, "gw-3": {"gateway_segment": "plant-b"}}
    values = {"issuer_keys_ca": str(authority.ca)}
    issuer.publish(EC[0], EC[1])
    before = (folder / "trust" / "ci.jwks.json").read_bytes()
    shown = play(tmp_path, "issuer_keys", values, hosts, "--check")
    assert (shown.status, shown.changed) == (0, {"gw-1": 1, "gw-2": 0, "gw-3": 0}), shown.text
    assert f"+{gateways.thumbprint(EC[1])}  EC P-256 ES256  kid \"k1\"" in shown.text
    assert (folder / "trust" / "ci.jwks.json").read_bytes() == before
    assert play(tmp_path, "issuer_keys", values, hosts).changed == {"gw-1": 1, "gw-2": 0, "gw-3": 0}
    assert play(tmp_path, "issuer_keys", values, hosts).changed == {"gw-1": 0, "gw-2": 0, "gw-3": 0}
    required = play(tmp_path, "issuer_keys", {**values, "issuer_keys_require": True}, hosts)
    assert (required.status, required.failed) == (2, {"gw-1": 0, "gw-2": 0, "gw-3": 1})
