# SPDX-License-Identifier: Apache-2.0
"""An ``Identity`` as the key id of an SSH certificate, and back again: what the gateway has to know to treat whoever shows the
certificate as it treats whoever shows the token. Pure.

The text is compact JSON in ASCII. It is written in one way only: what is not exactly as ``write`` would write it is refused, so that no
two readers can see different things in it. Nothing in it is secret: the claims are those that ``record_claims`` names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from gateway.identity.certificate import CertificateRefused
from gateway.identity.strict_json import StrictJsonError, loads
from gateway.model import Identity

VERSION = 1
LONGEST = 8_192
"""Bytes of a key id."""
_TIME_BOUND = 2.0 ** 40
_TEXTS = ("name", "issuer", "subject", "entry")
_OPTIONAL = ("owner", "token_id", "key_id")
_KEYS = frozenset({"v", *_TEXTS, *_OPTIONAL, "groups", "person", "expires", "session_until", "claims"})


def write(identity: Identity) -> bytes:
    """The key id. Raises ``CertificateRefused`` where the identity does not fit into ``LONGEST`` bytes."""
    document = {
        "v": VERSION, **{name: getattr(identity, name) for name in (*_TEXTS, *_OPTIONAL)}, "groups": sorted(identity.groups),
        "person": identity.person, "expires": float(identity.expires), "session_until": float(identity.session_until),
        "claims": dict(identity.claims)}
    text = json.dumps(document, separators=(",", ":"), sort_keys=True).encode("ascii")
    if len(text) > LONGEST:
        raise CertificateRefused("too much to say", f"the groups and recorded claims of {identity.name} take {len(text)} bytes, "
                                 f"a certificate holds {LONGEST}")
    return text


def read(key_id: bytes, serial: int) -> Identity:
    """The identity of a key id that ``write`` wrote; ``serial`` is the certificate's. Raises ``CertificateRefused``."""
    if len(key_id) > LONGEST:
        raise _unreadable(f"more than {LONGEST} bytes")
    try:
        document = loads(key_id)
    except StrictJsonError as error:
        raise _unreadable(str(error)) from None
    identity = _identity(document, serial)
    if write(identity) != key_id:
        raise _unreadable("not written as the gateway writes it")
    return identity


def _identity(document: Any, serial: int) -> Identity:
    if not isinstance(document, dict) or set(document) != _KEYS or document["v"] != VERSION:
        raise _unreadable("other keys than expected")
    if not all(_is_text(document[name]) for name in _TEXTS) or not all(document[name] is None or _is_text(document[name])
                                                                      for name in _OPTIONAL):
        raise _unreadable("a name that is not text")
    groups, claims = document["groups"], document["claims"]
    if not isinstance(groups, list) or not all(map(_is_text, groups)) or not _is_texts(claims) or not isinstance(document["person"], bool):
        raise _unreadable("groups or claims of another shape")
    return Identity(
        **{name: document[name] for name in (*_TEXTS, *_OPTIONAL)}, groups=frozenset(groups), person=document["person"],
        certificate=f"{serial:x}", expires=_time(document["expires"]), session_until=_time(document["session_until"]), claims=claims)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())


def _time(value: object) -> float:
    if not isinstance(value, float) or not math.isfinite(value) or not 0 < value <= _TIME_BOUND:
        raise _unreadable("a time that is none")
    return value


def _unreadable(why: str) -> CertificateRefused:
    return CertificateRefused("not one of this gateway's", f"its key id is not one that the gateway wrote: {why}")
