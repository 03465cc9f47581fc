# SPDX-License-Identifier: Apache-2.0
"""JSON as two parsers cannot disagree about it: no duplicate names, no NaN or Infinity, UTF-8 only (RFC 8259, RFC 7493)."""

from __future__ import annotations

import json
from typing import Any


class StrictJsonError(ValueError):
    """Says what is wrong without quoting the text."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise StrictJsonError("a name is given twice")
    return found


def _constant(name: str) -> Any:
    raise StrictJsonError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def loads(data: bytes) -> Any:
    """The value of a JSON text. Raises ``StrictJsonError``, never shows the text. The caller limits its size."""
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except StrictJsonError:
        raise
    except RecursionError:
        raise StrictJsonError("nested too deeply") from None
    except ValueError:
        raise StrictJsonError("not valid JSON in UTF-8") from None
