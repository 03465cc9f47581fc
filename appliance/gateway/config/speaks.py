# SPDX-License-Identifier: Apache-2.0
"""What the folder may say of each protocol the gateway speaks. The protocol's own ``settings.py`` holds it as ``SETTINGS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from gateway import protocols
from gateway.config.masks import MaskSpec
from gateway.config.schema import Listener, Resource, Rule, TestCase
from gateway.credentials import Credential

Place = tuple[str, int]
"""Host, without brackets, and port."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The keys one protocol brings.

    ``credentials`` are the credential kinds its resources accept, ``later`` those that are named but not supported yet.
    ``test`` is the key of a test case that holds what is asked. ``columns`` gives every SCHEMA.RELATION.COLUMN that a file
    ``policy/schemas/NAME.json`` knows, with the number of its type, and raises ``ConfigError`` for what is no such file; ``None`` where
    there are no columns. ``mask_problem`` says what a mask will not do on a type. ``filter_problem`` says
    what is wrong with a condition on rows (``None``: there are no rows), ``filtered_problem`` why it does not fit columns of these types.
    ``rule_problem`` says what is wrong with a rule beyond its matcher, ``resource_problem`` which key of a resource does not go with its
    credential, and why. ``destinations`` gives every place that the gateway connects to for
    one of its resources: a firewall opens those and no others.
    """

    protocol: str
    listener: type[Listener]
    resource: type[Resource]
    case: type[TestCase]
    test: str
    credentials: frozenset[str]
    destinations: Callable[[Any], tuple[Place, ...]]
    later: frozenset[str] = frozenset()
    columns: Callable[[bytes], Mapping[str, int]] | None = None
    mask_problem: Callable[[int, MaskSpec], str | None] = lambda type_number, spec: None
    filter_problem: Callable[[str], str | None] | None = None
    filtered_problem: Callable[[str, Mapping[str, int]], str | None] = lambda text, columns: None
    rule_problem: Callable[[Rule], str | None] = lambda rule: None
    resource_problem: Callable[[Any, Credential], tuple[str, str] | None] = lambda resource, credential: None


def settings(protocol: str) -> Settings:
    """Raises ``KeyError`` for a protocol this gateway does not speak."""
    if protocol not in protocols.names():
        raise KeyError(protocol)
    found: Settings = import_module(f"gateway.protocols.{protocol}.settings").SETTINGS
    return found


def every() -> tuple[Settings, ...]:
    """The settings of all protocols, in the order of ``gateway.protocols``."""
    return tuple(settings(name) for name in protocols.names())


def by_test_key(key: str) -> Settings | None:
    """The protocol whose test cases are written under ``key``."""
    return next((found for found in every() if found.test == key), None)
