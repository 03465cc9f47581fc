# SPDX-License-Identifier: Apache-2.0
"""What the gateway itself says to a caller: errors in the target's own shape. Pure values."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.protocols.postgres import messages
from gateway.protocols.postgres.expect import Expect, Fields
from gateway.protocols.postgres.recorder import binary_text
from gateway.protocols.postgres.statement import OWN, own_name

CODES = {"denied": "42501", "expired": "42501", "withdrawn": "57014", "held": "LG001"}
"""What the approvals desk says, as SQLSTATE."""

__all__ = ["CODES", "IDLE", "NOT_WRITTEN", "OWN", "command_complete_of", "error", "own_name", "too_many", "typed_parameters"]

IDLE = messages.ReadyForQuery("I").encode()


def error(code: str, message: str, *, detail: str = "", hint: str = "", position: int = 0) -> Fields:
    """Fields of an ERROR response (manual 55.8)."""
    return dict(messages.error(message, code, detail=detail, hint=hint, position=position).fields)


NOT_WRITTEN = error("58030", "the audit log cannot be written; nothing runs until it can")


def too_many(affected: int, most: int) -> Fields:
    """The refusal of ``max_rows``."""
    return error("42501", f"refused: {affected} rows affected, at most {most} are allowed; rolled back")


def typed_parameters(bind: messages.Bind, types: Sequence[int], described: Sequence[int] = ()) -> tuple[tuple[str, str | None], ...]:
    """Bound values as ``(type oid and format, text)``; binary ones of types that are not known as ``\\x`` and hexadecimal digits.

    ``types`` are those the caller gave, ``described`` those the target told. An approval is bound to what this gives: the same characters
    in another format are another value.
    """
    found: list[tuple[str, str | None]] = []
    for index, value in enumerate(bind.parameters):
        oid = types[index] if index < len(types) else 0
        kind = f"{oid} binary" if bind.format_of(index) else str(oid)
        if value is None:
            shown = None
        elif bind.format_of(index):
            shown = binary_text(oid or (described[index] if index < len(described) else 0), value)
        else:
            shown = value.decode("utf-8", "backslashreplace")
        found.append((kind, shown))
    return tuple(found)


def command_complete_of(expect: Expect) -> bytes:
    """The CommandComplete that was held back, without the ReadyForQuery behind it."""
    held = bytes(expect.hold or b"")
    size = int.from_bytes(held[1:5], "big") + 1 if held else 0
    return held[:size]
