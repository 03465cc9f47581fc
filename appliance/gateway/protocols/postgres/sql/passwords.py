# SPDX-License-Identifier: Apache-2.0
"""Password literals: where a statement's text holds a secret by its kind (contract section 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gateway.protocols.postgres.sql.literals import string_after, tokens
from gateway.protocols.postgres.sql.parse import Node, Offsets

_NAMED = re.compile(r"passw|secret|passphrase|token|conninfo|credential|api_?key|private_?key", re.IGNORECASE)
_BODY = re.compile(r"\b(?:password|passwd|conninfo|dblink)", re.IGNORECASE)
_CALLED = re.compile(r"dblink|crypt|u&\"", re.IGNORECASE)
_EVERY_STRING = frozenset(
    {"CreateUserMappingStmt", "AlterUserMappingStmt", "CreateSubscriptionStmt", "AlterSubscriptionStmt"}
)
_OPTIONS = frozenset(
    {"CreateRoleStmt", "AlterRoleStmt", "CreateForeignServerStmt", "AlterForeignServerStmt", "CreateFdwStmt", "AlterFdwStmt"}
)
_SETTINGS = frozenset({"VariableSetStmt", "AlterSystemStmt", "AlterRoleSetStmt", "AlterDatabaseSetStmt"})
_BODIES = frozenset({"DoStmt", "CreateFunctionStmt"})
SECRETIVE = _EVERY_STRING | _OPTIONS | _SETTINGS | _BODIES
"""Statement kinds in which a literal may be a secret, whatever they call."""


def secret_spans(kind: str, body: Node, text: str, start: int, end: int, offsets: Offsets) -> Iterator[tuple[int, int]]:
    """Character spans of the literals that are secrets, in the whole text. ``start`` and ``end`` bound the statement."""
    if kind in _EVERY_STRING:
        yield from _strings(text, start, end)
    elif kind in _OPTIONS:
        yield from _options(body, text, end, offsets)
    elif kind in _SETTINGS:
        setting = body.get("setstmt", body)
        if _NAMED.search(str(setting.get("name", ""))):
            yield from _strings(text, start, end)
    elif kind in _BODIES:
        yield from ((at, to) for at, to in _strings(text, start, end) if _BODY.search(text, at, to))
    if _CALLED.search(text, start, end):
        yield from _connection_strings(body, text, end, offsets)


def _strings(text: str, start: int, end: int) -> list[tuple[int, int]]:
    return [(token.start, token.end) for token in tokens(text, start, end) if token.kind == "string"]


def _options(body: Node, text: str, end: int, offsets: Offsets) -> Iterator[tuple[int, int]]:
    for entry in body.get("options", ()):
        option = entry.get("DefElem", {})
        if _NAMED.search(str(option.get("defname", ""))) and "arg" in option:
            found = string_after(text, offsets.character(option.get("location", 0)), end)
            if found:
                yield found


def _connection_strings(node: Any, text: str, end: int, offsets: Offsets) -> Iterator[tuple[int, int]]:
    """Every string given to a dblink function, and to crypt()."""
    for call in _calls(node):
        name = call["funcname"][-1].get("String", {}).get("sval", "")
        if name.startswith("dblink") or name in ("crypt", "pgp_sym_encrypt", "pgp_sym_decrypt"):
            for arg in call.get("args", ()):
                const = arg.get("A_Const", {})
                if "sval" in const and const.get("location", 0) >= 0:
                    found = string_after(text, offsets.character(const.get("location", 0)), end)
                    if found:
                        yield found


def _calls(node: Any) -> Iterator[Node]:
    waiting = [node]
    while waiting:
        at = waiting.pop()
        if isinstance(at, dict):
            for key, value in at.items():
                if key in ("FuncCall", "funccall") and isinstance(value, dict):
                    yield value
                waiting.append(value)
        elif isinstance(at, list):
            waiting.extend(at)
