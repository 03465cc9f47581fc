# SPDX-License-Identifier: Apache-2.0
"""The kinds of credentials, and what their keys take."""

from __future__ import annotations

import pytest

from gateway.credentials.credential import KINDS, LATER, credential, wrong_together, wrong_value

FILE = {"kind": "ephemeral-role", "username": "lockgate_admin", "password": "hunter2-secret", "member_of": ["reader", "writer"]}


def test_an_ephemeral_role() -> None:
    found = credential("orders-db", FILE)
    assert (found.username, found.member_of, found.owner) == ("lockgate_admin", ("reader", "writer"), "")
    assert [secret.reveal() for secret in found.secrets()] == ["hunter2-secret"]
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (["reader"], None),
        ([], "a list of 1 to 64 names"),
        ("reader", "a list of 1 to 64 names"),
        (["reader", "reader"], "each name once"),
        (["reader", ""], "names, each of 1 to 63 bytes"),
        (["x" * 64], "names, each of 1 to 63 bytes"),
        (["é" * 32], "names, each of 1 to 63 bytes"),
        (["a\0b"], "names, each of 1 to 63 bytes"),
        ([7], "names, each of 1 to 63 bytes"),
        ([["a"]], "names, each of 1 to 63 bytes"),
        ([f"r{n}" for n in range(65)], "a list of 1 to 64 names"),
    ],
)
def test_names(value: object, wanted: str | None) -> None:
    found = wrong_value(KINDS["ephemeral-role"]["member_of"], value)
    assert found is None if wanted is None else wanted in (found or "")


def test_what_is_left_goes_to_nobody_with_more_rights() -> None:
    assert wrong_together(FILE) is None
    assert wrong_together(FILE | {"owner": "writer"}) is None
    assert (wrong_together(FILE | {"owner": "postgres"}) or ("", ""))[0] == "owner"


def test_no_kind_is_both_supported_and_later() -> None:
    assert not KINDS.keys() & LATER


def test_where_targets_see_the_gateway_come_from() -> None:
    signed = {"kind": "ssh-ca", "private_key": "x", "source": ["192.0.2.0/24", "2001:db8::1"]}
    assert wrong_together(signed) is None
    assert credential("web", signed).source == ("192.0.2.0/24", "2001:db8::1")
    for other in ("gate.example", "192.0.2.1/24", "*", "192.0.2.1,192.0.2.2"):
        assert (wrong_together(signed | {"source": [other]}) or ("", ""))[0] == "source"
