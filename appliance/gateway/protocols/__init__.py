# SPDX-License-Identifier: Apache-2.0
"""The protocols the gateway speaks. A new one is a folder of the same shape and one line in ``PROTOCOLS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from gateway.model import Operation

Matcher = Callable[[Operation], bool]


@dataclass(frozen=True, slots=True)
class Protocol:
    """What the rest of the gateway needs to know of a protocol without speaking it.

    ``matcher`` is the key under ``allow:``, ``approve:`` and ``deny:`` (``sql``, ``ssh``). ``compile_matcher(spec, effect)``
    turns its mapping into a predicate on one operation and raises ``ValueError`` (message for the operator) on an
    unknown key, verb or pattern.
    """

    name: str
    matcher: str
    compile_matcher: Callable[[Mapping[str, Any], str], Matcher]


_MODULES = {"postgres": "gateway.protocols.postgres.operations", "ssh": "gateway.protocols.ssh.operations"}


def protocol(name: str) -> Protocol:
    """The protocol of that name. Raises ``KeyError`` for one this gateway does not speak."""
    found: Protocol = import_module(_MODULES[name]).PROTOCOL
    return found


def names() -> tuple[str, ...]:
    return tuple(_MODULES)


def by_matcher(key: str) -> Protocol | None:
    """The protocol whose rules are written under ``key``."""
    return next((p for p in map(protocol, names()) if p.matcher == key), None)
