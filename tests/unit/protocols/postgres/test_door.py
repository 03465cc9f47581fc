# SPDX-License-Identifier: Apache-2.0
"""Startup parameters: T19 of the attack list (search_path and SQL by startup packet, CVE-2025-12819 class)."""

from __future__ import annotations

import pytest

from gateway.errors import Refused
from gateway.protocols.postgres import door, messages


def check(**values: str) -> door.Startup:
    return door.check(messages.Startup({"user": "ci", "database": "orders-db"} | values))


def test_resource_and_database() -> None:
    assert (check().resource, check().database) == ("orders-db", None)
    assert (check(database="orders-db/stats").resource, check(database="orders-db/stats").database) == ("orders-db", "stats")


def test_harmless_parameters_go_on_in_any_case_of_letters() -> None:
    assert check(DateStyle="ISO", application_name="x").settings == {"datestyle": "ISO", "application_name": "x"}
    assert check(options="-c statement_timeout=5s --search-path=a").settings == {"statement_timeout": "5s", "search_path": "a"}


@pytest.mark.parametrize("value", ["UTF8", "utf-8", "'UTF8'", "unicode"])
def test_pinned_encoding_in_every_spelling(value: str) -> None:
    assert check(client_encoding=value).settings == {}


@pytest.mark.parametrize("values", [
    {"replication": "database"}, {"replication": "true"}, {"session_authorization": "postgres"}, {"role": "postgres"}, {"ROLE": "postgres"},
    {"client_encoding": "SJIS"}, {"standard_conforming_strings": "off"}, {"options": "-c role=postgres"},
    {"options": "-c standard_conforming_strings=off"},
    {"options": "-r"}, {"options": "-c"}, {"options": "'unclosed"}, {"local_preload_libraries": "x"}, {"row_security": "off"},
    {"options": "-c session_replication_role=replica"}, {"lockgate.wait": "maybe"},
])
def test_t19_everything_else_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(Refused) as no:
        check(**values)
    assert no.value.code == "28000"


def test_wait_off() -> None:
    assert check().wait
    assert not check(options="-c lockgate.wait=off").wait
    assert not check(**{"lockgate.wait": "off"}).wait
    assert "lockgate.wait" not in check(options="-c lockgate.wait=off").settings


def test_a_user_is_needed() -> None:
    with pytest.raises(Refused):
        door.check(messages.Startup({"database": "orders-db"}))


TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


def test_t65_a_token_in_the_wrong_place_is_not_kept() -> None:
    startup = check(user=TOKEN, application_name=f"job {TOKEN}")
    assert dict(startup.claimed) == {"user": "****", "application_name": "job ****"}
    for values in ({"database": TOKEN}, {"database": "", "user": TOKEN}):
        with pytest.raises(Refused) as no:
            check(**values)
        assert no.value.code == "28000" and "eyJ" not in str(no.value)
