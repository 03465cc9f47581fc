# SPDX-License-Identifier: Apache-2.0
"""What the gateway logs in with, by kind. One file ``credentials/NAME.yaml`` holds one credential."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.config.quantities import parse_duration
from gateway.credentials.secret import Secret

Shape = Literal["text", "names", "pem", "duration"]
MAX_NAMES = 64
LONGEST = 86400.0
LEAST_KEY = 32


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a kind. ``text`` is text that is not empty, ``names`` a list of role names, each once, ``pem`` PEM text or the path of a
    file under credentials/ that holds it, ``duration`` more than nothing and at most a day."""

    description: str
    shape: Shape = "text"
    required: bool = True
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential. ``username`` and ``password`` belong to the kinds ``password``, ``certificate`` and ``ephemeral-role`` (there they
    are the administrative login), ``token`` to ``bearer``, ``certificate`` and ``private_key`` (PEM) to ``certificate``; ``member_of`` and
    ``owner`` say what a session's own role is a member of, and who gets what it leaves behind (``""``: nobody, it is dropped); ``key``
    belongs to ``mask-key``. ``private_key`` (OpenSSH) is that of ``ssh-key`` and ``ssh-ca`` too; ``principals`` (none: the session's login)
    ``lifetime`` (seconds) and ``source`` (networks; none: the gateway's own address) are what ``ssh-ca`` signs."""

    name: str
    kind: str
    username: str = ""
    password: Secret = field(default=Secret(""))
    token: Secret = field(default=Secret(""))
    certificate: str = ""
    private_key: Secret = field(default=Secret(""))
    member_of: tuple[str, ...] = ()
    owner: str = ""
    key: Secret = field(default=Secret(""))
    principals: tuple[str, ...] = ()
    lifetime: float = 300.0
    source: tuple[str, ...] = ()

    def secrets(self) -> Iterator[Secret]:
        """What must never appear in a record, log line or answer."""
        yield from (secret for secret in (self.password, self.private_key, self.token, self.key) if secret)


_USERNAME = Key("The role it logs in as.")
_PASSWORD = Key("That role's password.", secret=True)

KINDS: Mapping[str, Mapping[str, Key]] = {
    "password": {"username": _USERNAME, "password": _PASSWORD},
    "certificate": {
        "username": _USERNAME,
        "certificate": Key("What is shown in TLS: the client's certificate and what leads to its authority, in PEM, or the path of a file "
                           "under credentials/ that holds it.", shape="pem"),
        "private_key": Key("Its key, PKCS 8 PEM without passphrase, or the path of a file under credentials/ that holds it.",
                           shape="pem", secret=True),
        "password": Key("The role's password, where the target asks for one too.", required=False, secret=True),
    },
    "ephemeral-role": {
        "username": Key("An administrative login that may create roles; it makes a role for each session and drops it afterwards."),
        "password": _PASSWORD,
        "member_of": Key("The roles whose rights a session's role has, and no others.", shape="names"),
        "owner": Key("Who gets the objects that a session leaves behind: one of `member_of`. Without it they are dropped.", required=False),
    },
    "ssh-key": {"private_key": Key("The key it logs in with: OpenSSH, without passphrase, or the path of a file under credentials/ that "
                                   "holds it; `lockgate init` makes one.", shape="pem", secret=True)},
    "ssh-ca": {
        "private_key": Key("The key that signs a user certificate for each session: OpenSSH, without passphrase, or the path of a file "
                           "under credentials/ that holds it; `lockgate init` makes one.", shape="pem", secret=True),
        "principals": Key("The names a certificate is for; without them the session's login.", shape="names", required=False),
        "lifetime": Key("How long a certificate is good for logging in, 5m without it.", shape="duration", required=False),
        "source": Key("The addresses and networks that targets see the gateway come from, where that is not its own address (NAT): a "
                      "certificate is good from there alone.", shape="names", required=False),
    },
    "bearer": {"token": Key("The token.", secret=True)},
    "mask-key": {"key": Key("What `hash` masks are made with, at least 32 characters by chance; `lockgate init` makes one. Gateways that "
                            "have the same key show the same hash for the same value.", secret=True)},
}
"""The kinds there are, and the keys each of them takes."""
LATER = frozenset({"service-account", "basic", "header", "signed-token"})
"""Kinds that are named but not supported yet."""


def credential(name: str, values: Mapping[str, Any]) -> Credential:
    """From the checked mapping of a credential file: ``kind`` and the keys of that kind."""
    keys = KINDS[values["kind"]]
    made = {key: _value(keys[key], value) for key, value in values.items() if key != "kind"}
    return Credential(name=name, kind=values["kind"], **made)


def _value(key: Key, value: Any) -> Any:
    if key.shape == "names":
        return tuple(value)
    if key.shape == "duration":
        return parse_duration(value)
    return Secret(value) if key.secret else value


def wrong_value(key: Key, value: object) -> str | None:
    """What is wrong with a key's value; the value itself is never told."""
    if key.shape == "duration":
        return _wrong_duration(value)
    if key.shape != "names":
        return None if _is_text(value) else "expected text that is not empty (numbers in quotes)"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_NAMES or not all(_is_name(one) for one in value):
        return f"expected a list of 1 to {MAX_NAMES} names, each of 1 to 63 bytes"
    return None if len(set(value)) == len(value) else "expected each name once"


def _wrong_duration(value: object) -> str | None:
    try:
        return None if 0 < parse_duration(value) <= LONGEST else "expected a duration of at most a day"
    except ValueError as wrong:
        return str(wrong)


def wrong_together(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """(key, what is wrong) where keys that are right by themselves do not fit together."""
    if values["kind"] == "mask-key" and len(values["key"]) < LEAST_KEY:
        return "key", f"expected at least {LEAST_KEY} characters: who can guess the key can find out what was hashed"
    if other := [one for one in values.get("source", ()) if not _is_network(one)]:
        return "source", f"expected addresses and networks; {other[0]!r} is none"
    owner = values.get("owner")
    if values["kind"] == "ephemeral-role" and owner is not None and owner not in values["member_of"]:
        return "owner", "expected one of `member_of`: what a session made may not come to have more rights than the session had"
    return None


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value and len(value) <= 65536


def _is_name(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value and 1 <= len(value.encode(errors="surrogatepass")) <= 63
