# SPDX-License-Identifier: Apache-2.0
"""What an approval is bound to (contract section 3): canonical JSON and its SHA-256.

The document names gateway, identity, resource, login, database, exact text, parameters with their types, the settings
that change meaning, resolved object ids, policy digest, expiry and a nonce. The nonce is secret to those who see the
exact text: it keeps the digest, which is in the log, from being a check value for guessed texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.model import Command, Session

VERSION = "lockgate-approval/1"


def document(gateway: str, session: Session, command: Command, policy: str) -> dict[str, Any]:
    """The part of a binding that is the same each time the identical command is asked for: its *key* document."""
    bound = command.binding
    return {
        "v": VERSION, "gateway": gateway, "identity": session.identity.name, "issuer": session.identity.issuer,
        "resource": session.resource, "protocol": session.protocol,
        "login": bound.login or session.login, "database": bound.database or session.database,
        "text": command.text, "parameters": [[kind, value] for kind, value in command.parameters],
        "context": dict(bound.context), "objects": list(bound.objects), "policy": policy,
    }


def bind(key: Mapping[str, Any], expires: float, nonce: str) -> dict[str, Any]:
    """The whole binding: the key document, until when (seconds since the epoch), and a nonce nobody can guess."""
    return {**key, "expires": timestamp(expires), "nonce": nonce}


def digest(binding: Mapping[str, Any]) -> str:
    """``sha256:<hex>`` over sorted keys, no white space, UTF-8."""
    text = json.dumps(binding, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
