# SPDX-License-Identifier: Apache-2.0
"""The revoked list: looked at when a session begins and again at every operation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.config.schema import RevokedEntry
from gateway.model import Identity

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Revocations:
    """Compiled list: one lookup per kind, however long the list is. Values are the end of the revocation, or infinity."""

    token_ids: dict[str, float] = field(default_factory=dict)
    subjects: dict[tuple[str, str], float] = field(default_factory=dict)
    identities: dict[str, float] = field(default_factory=dict)
    people: dict[str, float] = field(default_factory=dict)
    key_ids: dict[str, float] = field(default_factory=dict)
    certificates: dict[int, float] = field(default_factory=dict)

    def reason(self, who: Identity, now: float) -> str | None:
        """Why this identity is revoked, or ``None``. An issuer is named by its name in the policy."""
        checks: tuple[tuple[str, float | None], ...] = (
            ("the token is revoked", self.token_ids.get(who.token_id) if who.token_id is not None else None),
            ("the subject is revoked", self.subjects.get((who.issuer, who.subject))),
            ("the person is revoked" if who.person else "the identity is revoked",
             (self.people if who.person else self.identities).get(who.name)),
            ("the key that signed for it is revoked", self.key_ids.get(who.key_id) if who.key_id is not None else None),
            ("the certificate is revoked", self.certificates.get(int(who.certificate, 16)) if who.certificate is not None else None),
        )
        return next((text for text, until in checks if until is not None and now < until), None)


def compile_revocations(entries: Iterable[RevokedEntry], issuers: Mapping[str, str]) -> Revocations:
    """Compile the list. ``issuers`` maps each issuer's name to its ``iss``: an entry may give either."""
    found = Revocations()
    for entry in entries:
        last = float("inf") if entry.until is None else entry.until.timestamp()
        _add(found.token_ids, entry.token_id, last)
        _add(found.identities, entry.identity, last)
        _add(found.people, entry.person, last)
        _add(found.key_ids, entry.key_id, last)
        for serial in serials(entry.certificate or ""):
            _add(found.certificates, serial, last)
        if entry.issuer is not None and entry.subject is not None:
            for name in _named(entry.issuer, issuers):
                _add(found.subjects, (name, entry.subject), last)
    return found


def serials(text: str) -> set[int]:
    """The serial numbers that a text may mean. Programs print them in decimal and in hexadecimal, many without saying which: digits
    alone are both, so that none slips through."""
    digits = text.replace(":", "").removeprefix("0x")
    if not digits:
        return set()
    plain = digits == text and digits.isdecimal()
    return {int(digits, 16)} | ({int(digits)} if plain else set())


def _named(issuer: str, issuers: Mapping[str, str]) -> list[str]:
    return [name for name, iss in issuers.items() if issuer in (name, iss)] or [issuer]


def _add(found: dict[K, float], key: K | None, until: float) -> None:
    if key is not None:
        found[key] = max(until, found.get(key, until))
