# SPDX-License-Identifier: Apache-2.0
"""What the folder may say of each protocol the gateway speaks. The protocol's own ``settings.py`` holds it as ``SETTINGS``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from gateway import protocols
from gateway.config.masks import MaskSpec
from gateway.config.schema import Listener, Resource, Rule, TestCase
from gateway.credentials import Credential

Place = tuple[str, int]
"""Host, without brackets, and port."""


@dataclass(frozen=True, slots=True)
class Used:
    """A file that a listener or resource names. ``inside``: its key; ``look`` raises ``ValueError`` with what was expected. ``private``:
    nobody else may read it. ``fresh``: ``init`` makes an OpenSSH Ed25519 key where it is missing."""

    path: str
    inside: tuple[str | int, ...]
    look: Callable[[Path], object]
    private: bool = False
    fresh: bool = False


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
    one of its resources: a firewall opens those and no others. ``more_credentials`` names those of a resource beside its ``credential``, by
    the key inside of ``credentials``. ``listener_files`` and ``resource_files`` are the files they name beyond those of TLS, ``missing``
    gives the text of files that ``init`` writes where they are not there (by path, as resources name it), ``advice`` says what an
    operator should look at in a resource's files (key, and what; the function given resolves a path).
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
    more_credentials: Callable[[Any], Mapping[str, str]] = lambda resource: {}
    listener_files: Callable[[Any], Iterable[Used]] = lambda listener: ()
    resource_files: Callable[[Any], Iterable[Used]] = lambda resource: ()
    missing: Callable[[Iterable[Any]], Mapping[str, str]] = lambda resources: {}
    advice: Callable[[Any, Callable[[str], Path]], Iterable[tuple[str, str]]] = lambda resource, resolve: ()


def settings(protocol: str) -> Settings:
    """Raises ``KeyError`` for a protocol this gateway does not speak."""
    if protocol not in protocols.names():
        raise KeyError(protocol)
    found: Settings = import_module(f"gateway.protocols.{protocol}.settings").SETTINGS
    return found


def of_listener(name: str, listener: Listener) -> Iterable[Used]:
    """The files that a listener of that name uses beyond those of TLS."""
    return settings(name).listener_files(listener) if name in protocols.names() else ()


def every() -> tuple[Settings, ...]:
    """The settings of all protocols, in the order of ``gateway.protocols``."""
    return tuple(settings(name) for name in protocols.names())


def by_test_key(key: str) -> Settings | None:
    """The protocol whose test cases are written under ``key``."""
    return next((found for found in every() if found.test == key), None)
