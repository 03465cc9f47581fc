# SPDX-License-Identifier: Apache-2.0
"""JSON Web Key Sets (RFC 7517): public keys only, each good for the algorithms that its type fits and for no other.

A set holds the issuer's previous, current and next key. Keys are found by ``kid``, compared as a string and used for
nothing else (no path, no address, no query is ever made of it).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.identity.strict_json import StrictJsonError, loads

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

SET_BYTES = 262_144
SET_KEYS = 64
RSA_BITS = 2048
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
ALGORITHMS = _RSA | frozenset(_CURVES.values()) | {"EdDSA"}
"""Every signature algorithm the gateway can check. ``none`` and the HMAC family are not among them, whatever a policy says."""

_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "k")
_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "RSA": RSAAlgorithm.from_jwk, "EC": ECAlgorithm.from_jwk, "OKP": OKPAlgorithm.from_jwk}
_THUMBPRINT = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}


@dataclass(frozen=True, slots=True)
class Key:
    """One public key. ``id`` is its ``kid``, or the RFC 7638 thumbprint where it has none (then ``named`` is false)."""

    id: str
    named: bool
    algorithms: frozenset[str]
    public: PublicKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one issuer; ``find`` never falls back to a key that merely might fit."""

    keys: tuple[Key, ...]

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The key of that ``kid`` if it fits the algorithm; without a ``kid``, the only fitting key of the set."""
        fitting = [key for key in self.keys if algorithm in key.algorithms and (kid is None or (key.named and key.id == kid))]
        return fitting[0] if len(fitting) == 1 else None

    def knows(self, kid: str) -> bool:
        return any(key.named and key.id == kid for key in self.keys)


def parse_key_set(data: bytes) -> KeySet:
    """A key set from the bytes of a JWKS document.

    Keys for encryption or of types the gateway does not use are passed over. Raises ``ValueError`` (for the operator) on a
    private or symmetric key, a weak RSA key, two keys of one ``kid`` for one algorithm, or a set without a usable key.
    """
    if len(data) > SET_BYTES:
        raise ValueError(f"a key set may have {SET_BYTES} bytes, this one has {len(data)}")
    try:
        document = loads(data)
    except StrictJsonError as error:
        raise ValueError(f"not a JWKS: {error}") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JWKS: expected an object with a list `keys`")
    if len(entries) > SET_KEYS:
        raise ValueError(f"a key set may have {SET_KEYS} keys, this one has {len(entries)}")
    keys = tuple(key for number, entry in enumerate(entries) if (key := _key(number, entry)) is not None)
    if not keys:
        raise ValueError("the key set has no usable key")
    _refuse_twins(keys)
    return KeySet(keys)


def _refuse_twins(keys: tuple[Key, ...]) -> None:
    seen: set[tuple[str, str]] = set()
    for key in keys:
        for algorithm in key.algorithms:
            if (key.id, algorithm) in seen:
                raise ValueError(f"two keys have the kid {key.id[:80]!r}")
            seen.add((key.id, algorithm))


def _key(number: int, entry: Any) -> Key | None:
    where = f"key {number + 1}"
    if not isinstance(entry, dict) or not isinstance(entry.get("kty"), str):
        raise ValueError(f"{where}: expected an object with a string `kty`")
    if entry["kty"] == "oct":
        raise ValueError(f"{where}: a symmetric key does not belong into a JWKS")
    if any(name in entry for name in _PRIVATE):
        raise ValueError(f"{where}: this is a private key; only public keys belong into a JWKS")
    kid = entry.get("kid")
    if kid is not None and (not isinstance(kid, str) or not kid):
        raise ValueError(f"{where}: kid must be a string that is not empty")
    if not _for_signatures(entry):
        return None
    public = _public(where, entry)
    algorithms = _algorithms(where, entry, public) if public is not None else frozenset()
    if public is None or not algorithms:
        return None
    return Key(kid or thumbprint(entry), kid is not None, algorithms, public)


def _for_signatures(entry: Mapping[str, Any]) -> bool:
    operations = entry.get("key_ops")
    return entry.get("use", "sig") == "sig" and (operations is None or (isinstance(operations, list) and "verify" in operations))


def _public(where: str, entry: dict[str, Any]) -> PublicKey | None:
    if entry["kty"] not in _READERS:
        return None
    try:
        key = _READERS[entry["kty"]](entry)
    except (jwt.InvalidKeyError, UnsupportedAlgorithm, KeyError, TypeError, ValueError):
        raise ValueError(f"{where}: not a readable {entry['kty'][:8]} key") from None
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return key
    return None


def _algorithms(where: str, entry: Mapping[str, Any], public: PublicKey) -> frozenset[str]:
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < RSA_BITS:
            raise ValueError(f"{where}: RSA key of {public.key_size} bits; at least {RSA_BITS} are needed")
        fitting = _RSA
    elif isinstance(public, ec.EllipticCurvePublicKey):
        fitting = frozenset({_CURVES[public.curve.name]} if public.curve.name in _CURVES else ())
    else:
        fitting = frozenset({"EdDSA"})
    return fitting if entry.get("alg") is None else fitting & {entry["alg"]} if isinstance(entry["alg"], str) else frozenset()


def thumbprint(entry: Mapping[str, Any]) -> str:
    """RFC 7638, SHA-256, hexadecimal."""
    members = {name: entry.get(name) for name in _THUMBPRINT.get(str(entry.get("kty")), ("kty",))}
    return hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
