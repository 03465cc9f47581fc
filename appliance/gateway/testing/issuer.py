# SPDX-License-Identifier: Apache-2.0
"""An issuer with real keys: signs JSON Web Tokens (RFC 7519) and publishes its key set (RFC 7517).

    ci = TokenIssuer("https://ci.example", "lockgate/plant-a")
    path.write_text(ci.jwks_json())
    token = ci.mint("service:reporting", now=clock())
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class TokenIssuer:
    """``issuer`` is the ``iss`` claim, ``audience`` the ``aud`` of minted tokens; ``algorithm`` ES256, RS256 or EdDSA."""

    def __init__(self, issuer: str, audience: str, *, algorithm: str = "ES256") -> None:
        self.issuer = issuer
        self.audience = audience
        self.algorithm = algorithm
        self._keys: list[tuple[str, PrivateKey]] = []
        self.rotate()

    @property
    def key_id(self) -> str:
        """``kid`` of the key that signs now."""
        return self._keys[-1][0]

    def rotate(self) -> str:
        """Sign with a new key from now on; the older ones stay in the key set."""
        self._keys.append((secrets.token_hex(6), _new_key(self.algorithm)))
        return self.key_id

    def jwks(self) -> dict[str, Any]:
        """The public keys, newest last."""
        return {"keys": [_public_jwk(kid, key, self.algorithm) for kid, key in self._keys]}

    def jwks_json(self) -> str:
        return json.dumps(self.jwks())

    def mint(self, subject: str, *, now: float | None = None, lifetime: float = 600.0, key_id: str | None = None,
             headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A signed token. ``claims`` add to or replace ``iss sub aud iat exp jti``; a claim given as ``None`` is left out."""
        issued = time.time() if now is None else now
        body: dict[str, Any] = {
            "iss": self.issuer, "sub": subject, "aud": self.audience, "iat": int(issued), "exp": int(issued + lifetime),
            "jti": secrets.token_hex(8),
        }
        body.update(claims)
        kid = key_id or self.key_id
        return jwt.encode({name: value for name, value in body.items() if value is not None}, self._key(kid),
                          algorithm=self.algorithm, headers={"kid": kid} | (headers or {}))

    def person(self, name: str, groups: list[str], **more: Any) -> str:
        """A token of a person, with the claims the example's ``staff`` issuer reads."""
        return self.mint(more.pop("subject", f"user:{name}"), preferred_username=name, groups=groups, **more)

    def _key(self, kid: str) -> PrivateKey:
        return next(key for known, key in self._keys if known == kid)


def _new_key(algorithm: str) -> PrivateKey:
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _public_jwk(kid: str, key: PrivateKey, algorithm: str) -> dict[str, Any]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        public = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return dict(public) | {"kid": kid, "alg": algorithm, "use": "sig"}
