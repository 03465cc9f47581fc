# SPDX-License-Identifier: Apache-2.0
"""Durations, sizes and rates as operators write them, parsed to plain numbers.

``15m`` becomes 900.0 seconds, ``64MiB`` 67108864 bytes, ``100000/s`` 100000.0 a second. A bare number is seconds, bytes or
events a second.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,6})?"
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|[smhdw])")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|[smhdw]))+")
_SIZE = re.compile(rf"({_NUMBER})\s?([KMGT]i?B|B)")
_RATE = re.compile(rf"({_NUMBER})\s?/\s?([smhd])")
_LARGEST = 2**53

DURATION_WANTED = "expected a duration such as 500ms, 30s, 15m, 8h or 30d"
SIZE_WANTED = "expected a size such as 64KiB, 64MiB or 20GiB"
RATE_WANTED = "expected a rate such as 100/s or 6000/m"


def parse_duration(value: object) -> float:
    """Seconds. ``1h30m`` adds up. Raises ``ValueError``."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    return float(_bare(value, DURATION_WANTED))


def parse_size(value: object) -> int:
    """Bytes. Raises ``ValueError``."""
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        return round(float(found[1]) * _BYTES[found[2]])
    number = _bare(value, SIZE_WANTED)
    if number != int(number):
        raise ValueError(SIZE_WANTED)
    return int(number)


def parse_rate(value: object) -> float:
    """Events a second. Raises ``ValueError``."""
    if isinstance(value, str) and (found := _RATE.fullmatch(value)):
        return float(found[1]) / _PER[found[2]]
    return float(_bare(value, RATE_WANTED))


def _bare(value: object, wanted: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        raise ValueError(wanted)
    return value


def show_duration(seconds: float) -> str:
    """The shortest way to write it: ``900.0`` is ``15m``."""
    for unit in ("w", "d", "h", "m", "s"):
        if seconds and seconds % _SECONDS[unit] == 0 and (unit != "w"):
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    return f"{round(seconds * 1000)}ms" if seconds else "0s"


def show_size(size: int) -> str:
    """The shortest way to write it: ``67108864`` is ``64MiB``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def show_rate(rate: float) -> str:
    """``100000.0`` is ``100000/s``."""
    return f"{rate:g}/s" if rate < 1e6 else f"{round(rate)}/s"


def _json(kind: str, pattern: str) -> dict[str, Any]:
    return {"x-kind": kind, "oneOf": [{"type": "string", "pattern": f"^{pattern}$"}, {"type": "number", "minimum": 0}]}


Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_json("duration", _DURATION.pattern))]
"""Seconds."""
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(_json("size", _SIZE.pattern))]
"""Bytes."""
Rate = Annotated[float, BeforeValidator(parse_rate), WithJsonSchema(_json("rate", _RATE.pattern))]
"""Events a second."""
