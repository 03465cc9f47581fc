# SPDX-License-Identifier: Apache-2.0
"""Tokens of demo folders, signed with the keys that ``lockgate init --demo`` wrote to ``demo/``. Serving never looks there."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import yaml

from gateway.config.load import Folder
from gateway.config.schema import IdentityEntry, Issuer
from gateway.errors import ConfigError

LIFETIME = 3_600.0
FILL = "demo"
"""What stands for a ``*`` of a match."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Someone a demo token can be made for: the issuer that signs, and the claims that make the token theirs."""

    issuer: Issuer
    claims: Mapping[str, Any]


def bearer(folder: Folder, name: str) -> Bearer:
    """An identity or a person of the demo. Raises ``ConfigError``."""
    people = read_people(folder.path / "demo" / "people.yaml")
    issuers = {issuer.name: issuer for issuer in folder.policy.issuers}
    for entry in folder.policy.identities:
        if entry.name == name and entry.issuer not in issuers:
            raise ConfigError(f"identity {name!r} has no tokens: its issuer {entry.issuer!r} signs certificates")
        if entry.name == name:
            return Bearer(issuers[entry.issuer], _robot(entry))
    if name in people:
        return _person(issuers, name, people[name])
    known = ", ".join([*(entry.name for entry in folder.policy.identities), *people])
    raise ConfigError(f"there is neither an identity nor a person {name!r}; there are: {known}")


def _robot(entry: IdentityEntry) -> dict[str, str]:
    claims = {claim: pattern.replace("*", FILL) for claim, pattern in entry.match.items()}
    return {"sub": f"demo:{entry.name}"} | claims


def _person(issuers: Mapping[str, Issuer], name: str, person: Mapping[str, Any]) -> Bearer:
    issuer = issuers.get(str(person.get("issuer")))
    if issuer is None or not issuer.people:
        raise ConfigError(f"demo/people.yaml: {name}: issuer: expected the name of an issuer with `people: true`")
    claims = {"sub": person.get("subject", f"user:{name}"), issuer.name_claim: name}
    return Bearer(issuer, claims | ({issuer.groups_claim: person.get("groups", [])} if issuer.groups_claim else {}))


def read_people(path: Path) -> dict[str, Mapping[str, Any]]:
    """The people of a demo folder by name; none without the file. Raises ``ConfigError``."""
    try:
        document = yaml.safe_load(path.read_bytes())
        return {str(person["name"]): person for person in document["people"]}
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError, TypeError, KeyError):
        raise ConfigError(f"{path}: expected `people: [{{name, issuer, subject, groups}}, …]`") from None


def mint(folder: Folder, who: Bearer, now: float, *, lifetime: float | None = None, claims: Mapping[str, Any] | None = None) -> str:
    """A signed token. ``lifetime`` in seconds, an hour or what the issuer accepts otherwise; ``claims`` add to or replace what it says.

    Raises ``ConfigError`` where the folder has no signing key for the issuer: it is not a demo folder, or the issuer is a real one.
    """
    issuer = who.issuer
    document = _signing_key(folder.path / "demo" / f"{issuer.name}.jwk.json", issuer.name)
    key = jwt.PyJWK(document)
    until = now + (lifetime if lifetime is not None else min(LIFETIME, issuer.max_lifetime))
    body = {"iss": issuer.issuer, "aud": issuer.audience, "iat": int(now), "exp": int(until), "jti": secrets.token_hex(16)}
    body |= {**who.claims, **(claims or {})}
    headers = {"kid": document["kid"]} if "kid" in document else {}
    return jwt.encode(body, key.key, algorithm=key.algorithm_name, headers=headers)


def _signing_key(path: Path, issuer: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
        jwt.PyJWK(document)
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}: only demo folders (lockgate init --demo) can sign tokens of issuer {issuer!r}") from None
    except (OSError, ValueError, jwt.PyJWTError):
        raise ConfigError(f"{path}: expected a private JWK") from None
    if not isinstance(document, dict) or "d" not in document:
        raise ConfigError(f"{path}: expected a private JWK")
    return document
