# SPDX-License-Identifier: Apache-2.0
"""What the gateway logs in with, by kind. One file ``credentials/NAME.yaml`` holds one credential."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.credentials.secret import Secret


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential. ``username`` and ``password`` belong to kind ``password``, ``token`` to kind ``bearer``."""

    name: str
    kind: str
    username: str = ""
    password: Secret = field(default=Secret(""))
    token: Secret = field(default=Secret(""))

    def secrets(self) -> Iterator[Secret]:
        """What must never appear in a record, log line or answer."""
        yield from (secret for secret in (self.password, self.token) if secret)


KINDS: Mapping[str, tuple[str, ...]] = {"password": ("username", "password"), "bearer": ("token",)}
"""The kinds there are, and the keys each of them takes; all of them are required."""
SECRET_KEYS = frozenset({"password", "token"})
LATER = frozenset({"certificate", "ephemeral-role", "ssh-key", "ssh-ca", "service-account", "basic", "header", "signed-token"})
"""Kinds that are named but not supported yet."""


def credential(name: str, values: Mapping[str, str]) -> Credential:
    """From the checked mapping of a credential file: ``kind`` and the keys of that kind."""
    shown = {key: value for key, value in values.items() if key not in SECRET_KEYS}
    hidden = {key: Secret(value) for key, value in values.items() if key in SECRET_KEYS}
    return Credential(name=name, kind=shown["kind"], username=shown.get("username", ""), **hidden)
