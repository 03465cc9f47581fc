# SPDX-License-Identifier: Apache-2.0
"""What the API takes and gives, beside ``approvals.view.ApprovalView``: the OpenAPI document is made from these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.approvals.view import ApprovalView


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote: the digest that was shown, and why (at most 2048 bytes; control characters are taken out)."""

    digest: str
    reason: str


@dataclass(frozen=True, slots=True)
class ApprovalList:
    """Approvals, oldest first. ``next`` is what to give as ``after`` for those that did not fit."""

    approvals: tuple[ApprovalView, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """The person the token is, and what they may do here besides voting. ``expires`` is RFC 3339."""

    name: str
    issuer: str
    subject: str
    groups: tuple[str, ...]
    expires: str
    reads: bool
    ends: bool


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the gateway serves: its listeners are up and records can be written."""

    ready: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Health:
    """The process answers."""

    alive: bool


@dataclass(frozen=True, slots=True)
class SessionList:
    """Sessions as ``lockgate sessions list`` shows them."""

    sessions: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class EventList:
    """Everything recorded of one session, in order: what a replay is made of."""

    events: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Records that contain the text."""

    records: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The session was told to end."""

    session: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Head:
    """The newest checkpoint: the signed note that ``audit verify --anchor`` takes."""

    note: str


@dataclass(frozen=True, slots=True)
class SshRequest:
    """What a certificate is wanted for: the caller's public key (a line as in `id_ed25519.pub`), the resources (absent or empty: all that
    it may enter now), and whether the certificate is to be good from the caller's present address alone."""

    public_key: str
    resources: tuple[str, ...] | None = None
    bound: bool | None = None


@dataclass(frozen=True, slots=True)
class SshCertificate:
    """A certificate as it belongs into `id_ed25519-cert.pub`, its serial number (hexadecimal, as revoked.yaml takes it), the user names it
    is good for, the fingerprint of the key, when it ends (RFC 3339), and the port of the SSH listener."""

    certificate: str
    serial: str
    principals: tuple[str, ...]
    key: str
    until: str
    port: int


@dataclass(frozen=True, slots=True)
class SshHostKeys:
    """The SSH listener's port, its public keys (type and base64), and their fingerprints in the same order."""

    port: int
    keys: tuple[str, ...]
    fingerprints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """RFC 9457. ``code`` is stable, ``detail`` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
