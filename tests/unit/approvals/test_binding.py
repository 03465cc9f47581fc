# SPDX-License-Identifier: Apache-2.0
"""The digest a vote carries (T57): it changes with everything an approval is bound to."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from gateway.approvals import binding
from gateway.model import Binding
from gateway.testing.desk import command, session

SESSION, COMMAND = session(), command(parameters=(("int4", "1"), ("text", None)))


def key(**changed: object) -> str:
    what = replace(COMMAND, **{name: value for name, value in changed.items() if name not in ("gateway", "policy")})  # type: ignore[arg-type]
    return binding.digest(binding.document(str(changed.get("gateway", "g")), SESSION, what, str(changed.get("policy", "p"))))


@pytest.mark.parametrize("changed", [
    {"gateway": "other"}, {"policy": "other"}, {"text": "delete from orders;"}, {"parameters": (("int8", "1"), ("text", None))},
    {"parameters": (("int4", "2"), ("text", None))}, {"parameters": (("int4", "1"), ("text", ""))},
    {"parameters": (("text", None), ("int4", "1"))},
    {"binding": replace(COMMAND.binding, login="postgres")}, {"binding": replace(COMMAND.binding, database="stats")},
    {"binding": replace(COMMAND.binding, context={"search_path": "evil"})}, {"binding": replace(COMMAND.binding, objects=("1",))},
])
def test_everything_it_is_bound_to_changes_the_digest(changed: dict[str, object]) -> None:
    assert key(**changed) != key()


def test_what_the_log_may_show_does_not() -> None:
    assert key(shown_text="****", early=True, wait=False, phase="x") == key()


@pytest.mark.parametrize("other", [
    replace(SESSION, identity=replace(SESSION.identity, name="other")),
    replace(SESSION, identity=replace(SESSION.identity, issuer="other")),
    replace(SESSION, resource="other"), replace(SESSION, protocol="other"),
])
def test_who_and_where_change_it(other: object) -> None:
    assert binding.document("g", other, COMMAND, "p") != binding.document("g", SESSION, COMMAND, "p")  # type: ignore[arg-type]


def test_login_and_database_of_the_session_hold_where_the_command_names_none() -> None:
    shown = binding.document("g", SESSION, replace(COMMAND, binding=Binding()), "p")
    assert (shown["login"], shown["database"]) == ("orders_app", "orders")


def test_expiry_and_nonce_are_bound_too() -> None:
    of = binding.document("g", SESSION, COMMAND, "p")
    digests = {binding.digest(binding.bind(of, expires, nonce)) for expires in (1.0, 2.0) for nonce in ("a", "b")}
    assert len(digests) == 4


def test_the_canonical_form() -> None:
    text = '{"a":[1,null],"b":"ä\\n\\u0000"}'
    assert binding.digest({"b": "ä\n\0", "a": [1, None]}) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_times_are_rfc_3339() -> None:
    assert binding.timestamp(1_790_000_000.25) == "2026-09-21T14:13:20.250000Z"
