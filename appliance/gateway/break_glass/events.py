# SPDX-License-Identifier: Apache-2.0
"""What happened on a session's terminal, typed and timed. Pure.

A recording is JSON lines ``[AT, TYPE, DATA]``: seconds since the session began, and ``i`` typed, ``o`` shown (text), ``I``, ``O`` the same
where it is no UTF-8 (each character one byte), ``h`` typed where a program asks for a password (kept without the text), ``r`` the size of
the screen (``ROWSxCOLUMNS``), ``n`` a notice of the recorder's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Type = Literal["i", "o", "I", "O", "h", "r", "n"]
TYPES: Mapping[str, Type] = {"i": "i", "o": "o", "I": "I", "O": "O", "h": "h", "r": "r", "n": "n"}


@dataclass(frozen=True, slots=True)
class Event:
    """``at`` is seconds since the session began."""

    at: float
    type: Type
    data: str = ""


def typed(at: float, data: bytes) -> Event:
    text = _text(data)
    return Event(at, "I", data.decode("latin-1")) if text is None else Event(at, "i", text)


def shown(at: float, data: bytes) -> Event:
    text = _text(data)
    return Event(at, "O", data.decode("latin-1")) if text is None else Event(at, "o", text)


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def encode(events: Iterable[Event]) -> bytes:
    return b"".join(json.dumps([round(event.at, 6), event.type, event.data]).encode() + b"\n" for event in events)


def decode(data: bytes) -> list[Event]:
    """Raises ``ValueError`` for anything that ``encode`` does not write."""
    found = []
    for line in data.splitlines():
        match json.loads(line):
            case [int() | float() as at, str() as kind, str() as text] if kind in TYPES:
                found.append(Event(float(at), TYPES[kind], text))
            case _:
                raise ValueError("not an event")
    return found
