# SPDX-License-Identifier: Apache-2.0
"""Settings: SET, RESET, set_config(), UPDATE of pg_settings and startup parameters in the terms of the contract, section 2."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.protocols.postgres.sql.parse import Node
from gateway.protocols.postgres.sql.walk import Walk
from gateway.protocols.postgres.statement import SqlFault

HARMLESS: frozenset[str] = frozenset(
    {
        "application_name", "bytea_output", "client_min_messages", "constraints", "datestyle", "extra_float_digits",
        "idle_in_transaction_session_timeout", "intervalstyle", "jit", "lock_timeout", "plan_cache_mode",
        "quote_all_identifiers", "restrict_nonsystem_relation_kind", "search_path", "statement_timeout",
        "synchronize_seqscans", "timezone",
    }
)
"""Parameters that ``set`` and ``reset`` may change where an allow rule names none (lower case), besides ``HARMLESS_PREFIXES``.
``constraints`` stands for SET CONSTRAINTS."""

HARMLESS_PREFIXES = ("transaction_", "default_transaction_")


def harmless(name: str) -> bool:
    """Whether a parameter is on the shipped list, without regard to case."""
    lower = name.lower()
    return lower in HARMLESS or lower.startswith(HARMLESS_PREFIXES)


NAMED_ONLY: frozenset[str] = frozenset(
    {"role", "session_authorization", "row_security", "session_replication_role", "standard_conforming_strings", "client_encoding"}
)
"""Parameters that an allow rule must spell out."""

VERBS = {"role": "set-role", "session_authorization": "set-session-authorization"}

MEANING: frozenset[str] = NAMED_ONLY | {"search_path"}
"""Parameters that change what names mean; ``changes_context`` is set for them."""

_UTF8 = frozenset({"utf8", "unicode"})
_ON = frozenset({"on", "true", "yes", "1", "t", "tr", "tru", "y", "ye"})


def pinned(name: str, value: str | None) -> bool:
    """Whether this sets a pinned parameter to the value it is pinned to."""
    if value is None:
        return False
    plain = value.strip("'\" ").lower()
    if name == "client_encoding":
        return "".join(c for c in plain if c.isalnum()) in _UTF8
    return name == "standard_conforming_strings" and plain in _ON


def note(walk: Walk, name: str, value: str | None, *, verb: str = "set", known: bool = True) -> None:
    """One operation for one parameter. ``value`` is ``None`` for DEFAULT and RESET; ``known`` is false where it is computed."""
    name = name.lower()
    own = VERBS.get(name, verb)
    attributes: dict[str, str | bool | tuple[str, ...]] = {"parameters": (name,)}
    if known and pinned(name, value):
        attributes["pinned"] = True
    walk.operation(own, name, (name,), **attributes)
    walk.early = False
    if known:
        walk.settings[name] = value
    if name in MEANING:
        walk.changes_context = True


def value_text(args: Sequence[Node]) -> str | None:
    """The value of SET as one text, list elements joined as the server does; ``None`` where it is not made of literals."""
    found = [_argument(node) for node in args]
    return None if any(entry is None for entry in found) else ", ".join(entry or "" for entry in found)


def list_items(args: Sequence[Node]) -> list[str] | None:
    """The items of a list value, such as search_path's."""
    found = [_argument(node) for node in args]
    return None if any(entry is None for entry in found) else [entry or "" for entry in found]


def _argument(node: Node) -> str | None:
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    body = node.get("A_Const")
    if body is None:
        return None
    if "sval" in body:
        return str(body["sval"].get("sval", ""))
    if "ival" in body:
        return str(body["ival"].get("ival", 0))
    if "fval" in body:
        return str(body["fval"].get("fval", ""))
    if "boolval" in body:
        return "on" if body["boolval"].get("boolval") else "off"
    return None


def set_statement(walk: Walk, body: Node) -> str:
    """VariableSetStmt. Gives the verb."""
    kind = body.get("kind", "VAR_SET_VALUE")
    name = str(body.get("name", "")).lower()
    if kind == "VAR_RESET_ALL":
        walk.operation("reset", "", ())
        walk.changes_context = True
        return "reset"
    if kind == "VAR_SET_MULTI":
        return _set_transaction(walk, body, name)
    if kind == "VAR_SET_CURRENT":
        note(walk, name, None, known=False)
    elif kind in ("VAR_RESET", "VAR_SET_DEFAULT"):
        note(walk, name, None, verb="reset" if kind == "VAR_RESET" else "set")
    else:
        value = value_text(body.get("args", ()))
        if value is None and name != "timezone":
            raise SqlFault("42501", f'SET "{name}" needs literal values')
        note(walk, name, value, known=value is not None)
    return VERBS.get(name, "reset" if kind == "VAR_RESET" else "set")


def _set_transaction(walk: Walk, body: Node, name: str) -> str:
    """SET TRANSACTION, SET SESSION CHARACTERISTICS and SET TRANSACTION SNAPSHOT."""
    if name == "transaction snapshot":
        note(walk, "transaction_snapshot", None, known=False)
        return "set"
    prefix = "default_" if name == "session characteristics" else ""
    for entry in body.get("args", ()):
        option = entry["DefElem"]
        note(walk, prefix + option["defname"], value_text([option["arg"]]) if "arg" in option else None)
    return "set"
