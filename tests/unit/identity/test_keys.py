# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from gateway.identity.keys import SET_BYTES, SET_KEYS, parse_key_set
from gateway.testing import TokenIssuer


def jwk(**more: Any) -> dict[str, Any]:
    return dict(TokenIssuer("i", "a").jwks()["keys"][0]) | more


def parse(*keys: Any) -> Any:
    return parse_key_set(json.dumps({"keys": list(keys)}).encode())


def test_key_type_decides_the_algorithms() -> None:
    p384 = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key()))
    keys = parse(jwk(), p384, TokenIssuer("i", "a", algorithm="EdDSA").jwks()["keys"][0]).keys
    assert [sorted(key.algorithms) for key in keys] == [["ES256"], ["ES384"], ["EdDSA"]]
    assert not keys[1].named
    assert len(keys[1].id) == 64


def test_stated_algorithm_narrows_and_never_widens() -> None:
    issuer = TokenIssuer("i", "a", algorithm="RS256")
    key = issuer.jwks()["keys"][0]
    assert parse(key).keys[0].algorithms == {"RS256"}
    assert "PS512" in parse({name: value for name, value in key.items() if name != "alg"}).keys[0].algorithms
    with pytest.raises(ValueError, match="no usable key"):
        parse(key | {"alg": "HS256"})
    with pytest.raises(ValueError, match="no usable key"):
        parse(jwk(alg="RS256"))


def test_keys_for_something_else_are_passed_over() -> None:
    with pytest.raises(ValueError, match="no usable key"):
        parse(jwk(use="enc"), jwk(key_ops=["encrypt"]), {"kty": "future"})


def test_refused_sets() -> None:
    weak = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()))
    private = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1())))
    twin = jwk()
    for keys, message in (([weak], "1024 bits"), ([private], "private key"), ([{"kty": "oct", "k": "AA"}], "symmetric"),
                          ([jwk(kid="k"), jwk(kid="k")], "two keys"), ([jwk(kid=7)], "kid"), ([jwk(kid="")], "kid"), (["x"], "object"),
                          ([jwk(x="!!")], "readable"), ([], "no usable"), ([twin] * (SET_KEYS + 1), "may have")):
        with pytest.raises(ValueError, match=message):
            parse(*keys)
    for data in (b"", b"[]", b'{"keys":{}}', b'{"keys":[],"keys":[]}', b"x" * (SET_BYTES + 1)):
        with pytest.raises(ValueError, match=r"JWKS|may have"):
            parse_key_set(data)


def test_finding() -> None:
    keys = parse(jwk(kid="a"), jwk(kid="b"), TokenIssuer("i", "a", algorithm="RS256").jwks()["keys"][0] | {"kid": "r"})
    assert keys.find("a", "ES256").id == "a"
    assert keys.find("a", "RS256") is None
    assert keys.find("A", "ES256") is None
    assert keys.find(None, "ES256") is None
    assert keys.find(None, "RS256").id == "r"
