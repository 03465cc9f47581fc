# SPDX-License-Identifier: Apache-2.0
"""What a client says before it is known: the startup packet. Pure; ``listener.py`` holds the conversation.

Source: manual 55.2.1 (start-up).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.errors import Refused
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.sql.settings import harmless, pinned

_OWN = frozenset({"user", "database", "options", "replication"})


@dataclass(frozen=True, slots=True)
class Startup:
    """A checked startup packet. ``settings`` is what goes on to the target; ``claimed`` what the client said of itself.
    ``minor`` is the minor version of the protocol."""

    resource: str
    database: str | None
    settings: Mapping[str, str]
    claimed: Mapping[str, str]
    wait: bool = True
    unknown_extensions: tuple[str, ...] = ()
    minor: int = 0


@dataclass(slots=True)
class _Draft:
    settings: dict[str, str] = field(default_factory=dict)
    wait: bool = True


def check(packet: messages.Startup) -> Startup:
    """What a StartupMessage asks for. Raises ``Refused`` (28000) naming the parameter."""
    values = packet.parameters
    if values.get("replication", "false").lower() not in ("false", "off", "no", "0"):
        raise Refused("replication connections are not allowed", "28000")
    if not values.get("user"):
        raise Refused("no user name in the startup packet", "28000")
    draft = _Draft()
    for name, value in values.items():
        if name not in _OWN and not name.startswith("_pq_."):
            _setting(draft, name, value)
    for name, value in _options(values["options"]) if values.get("options") else ():
        _setting(draft, name, value)
    resource, _, database = (values.get("database") or values["user"]).partition("/")
    if without_tokens(resource) != resource:
        raise Refused("the name of the resource is a token: it belongs into the password", "28000")
    claimed = {"user": without_tokens(values["user"]), "application_name": without_tokens(values.get("application_name", ""))}
    extensions = tuple(name for name in values if name.startswith("_pq_."))
    return Startup(resource, database or None, draft.settings, claimed, draft.wait, extensions, packet.minor)


_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*)?")


def without_tokens(text: str) -> str:
    """What a caller says of itself, for the record: a JWT that was typed where a name belongs is not kept."""
    return _TOKEN.sub("****", text)


def _options(text: str) -> list[tuple[str, str]]:
    """``-c name=value`` and ``--name=value`` (manual 20.1.4); anything else is refused."""
    found: list[tuple[str, str]] = []
    try:
        words = shlex.split(text, posix=True)
    except ValueError:
        raise Refused("the startup parameter options cannot be understood", "28000") from None
    while words:
        word = words.pop(0)
        if word == "-c":
            word = words.pop(0) if words else ""
        elif word.startswith(("-c", "--")):
            word = word[2:]
        else:
            raise Refused("in options only -c name=value and --name=value are allowed", "28000")
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise Refused("in options only -c name=value and --name=value are allowed", "28000")
        found.append((name.replace("-", "_"), value))
    return found


def _setting(draft: _Draft, name: str, value: str) -> None:
    key = name.lower()
    if key == "lockgate.wait":
        if value not in ("on", "off"):
            raise Refused("lockgate.wait is on or off", "28000")
        draft.wait = value == "on"
    elif pinned(key, value):
        return
    elif harmless(key) and key not in ("role", "session_authorization"):
        draft.settings[key] = value
    elif key == "client_encoding":
        raise Refused("the startup parameter 'client_encoding' is not allowed to be anything but UTF8 (PGCLIENTENCODING=UTF8)", "28000")
    else:
        raise Refused(f"the startup parameter {key[:64]!r} is not allowed: SET it afterwards, where a rule names it", "28000")
