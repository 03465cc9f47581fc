# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ssl

import pytest

from gateway.testing.client import Result, table, tls_from_environment


def test_table_looks_like_psql() -> None:
    shown = table(Result(("id", "name"), [("1", "Alice Archer"), ("2", None)], "SELECT 2"))
    assert shown.splitlines() == [" id |     name", "----+--------------", " 1  | Alice Archer", " 2  |", "(2 rows)"]


def test_a_command_without_rows_shows_its_tag() -> None:
    assert table(Result((), [], "DELETE 3")) == "DELETE 3"


@pytest.mark.parametrize(("mode", "verified", "named"), [
    ("verify-full", ssl.CERT_REQUIRED, True), ("verify-ca", ssl.CERT_REQUIRED, False), ("require", ssl.CERT_NONE, False),
])
def test_tls_follows_the_mode(mode: str, verified: ssl.VerifyMode, named: bool) -> None:
    context = tls_from_environment({"PGSSLMODE": mode})
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (verified, named)


def test_no_tls_where_nothing_asks_for_it() -> None:
    assert tls_from_environment({}) is None
    assert tls_from_environment({"PGSSLMODE": "disable", "PGSSLROOTCERT": "x"}) is None
