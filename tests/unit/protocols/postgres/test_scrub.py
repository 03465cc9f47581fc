# SPDX-License-Identifier: Apache-2.0
"""Errors that print values: captured from PostgreSQL 15, with a seeded secret in every place it could be (T31)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Column, Objects, Relation
from gateway.protocols.postgres.scrub import MEANINGS, harmless, meaning, scrub_error

SECRET = "078-05-1120"
CATALOG = Catalog(
    "1",
    150000,
    "orders",
    BuiltinCatalog(150000, Objects()),
    Objects(
        relations=(
            Relation(16385, "public", "customers", "r", (Column("id", 1, 23), Column("name", 2, 25))),
            Relation(16390, "public", "customers_pkey", "i"),
        )
    ),
)


def error(code: str, message: str, **more: str) -> dict[str, str]:
    return {"S": "ERROR", "V": "ERROR", "C": code, "M": message, **more, "F": "int.c", "L": "1", "R": "routine"}


LEAKS = [
    error("22P02", f'invalid input syntax for type integer: "{SECRET}"'),
    error("22P02", "invalid input syntax for type json", D=f'Token "{SECRET}" is invalid.', W=f"JSON data, line 1: {SECRET}"),
    error("22003", f'value "{SECRET}" is out of range for type integer'),
    error("22007", f'invalid input syntax for type date: "{SECRET}"'),
    error(
        "23502",
        'null value in column "name" of relation "customers" violates not-null constraint',
        s="public",
        t="customers",
        c="name",
        D=f"Failing row contains (1, null, {SECRET}).",
    ),
    error(
        "23505",
        'duplicate key value violates unique constraint "customers_ssn_key"',
        D=f"Key (ssn)=({SECRET}) already exists.",
        s="public",
        t="customers",
        n=f"{SECRET}",
    ),
    error("23514", f'new row for relation "customers" violates check constraint "{SECRET}"', n=SECRET, c=SECRET, d=SECRET),
    error("P0001", f"raised {SECRET}", W=f"PL/pgSQL function f() {SECRET}"),
    error("P0001", SECRET),
    error("42P01", f'relation "{SECRET}" does not exist'),
    error("42704", f'role "{SECRET}" does not exist'),
    error("42704", f'unrecognized configuration parameter "{SECRET}"'),
    error("42883", f"operator does not exist: {SECRET}"),
    error("42601", f'syntax error at or near "{SECRET}"', p="8", q=f"select {SECRET}", W="PL/pgSQL function f()"),
    error("42703", f'column "{SECRET}" does not exist', P="8", q=f"select {SECRET}", p="8"),
    error("42601", f'syntax error at or near "{SECRET}"', P="0", W=f'invalid type name "{SECRET}"'),
    error("2201B", f"invalid regular expression: {SECRET}"),
    error("XX000", f"cache lookup failed for {SECRET}"),
    error("22023", f'string is not a valid identifier: "{SECRET}"'),
    error("0A000", "unimplemented", H=f"try {SECRET}"),
    error("00000", f"the number is {SECRET}"),
    error("01000", SECRET, H=SECRET),
    error("ZZ999", SECRET),
    error("HV000", f"remote {SECRET}"),
    error("40001", f"could not serialize access due to {SECRET}", D=SECRET),
    error("57014", SECRET),
    error("22P02", SECRET, P="8", W="x"),
]


@pytest.mark.parametrize("fields", LEAKS, ids=lambda fields: f"{fields['C']} {fields['M'][:30]}")
def test_the_secret_is_gone(fields: dict[str, str]) -> None:
    shown = scrub_error(fields, True, catalog=CATALOG)
    assert SECRET not in repr(shown)
    assert {"S", "V", "C", "M"} <= shown.keys() and shown["C"] == fields["C"] and shown["M"]
    assert not shown.keys() & set("DWqpFLRd")


@pytest.mark.parametrize("fields", LEAKS, ids=lambda fields: fields["C"])
def test_without_masks_nothing_changes_but_secrets_of_the_gateway(fields: dict[str, str]) -> None:
    assert scrub_error(fields, False) == fields
    assert SECRET not in repr(scrub_error(fields, False, secrets=(SECRET, "x")))


@pytest.mark.parametrize(
    "fields",
    [
        error("42P01", 'relation "nope" does not exist', P="15"),
        error("42703", 'column "nope" does not exist', P="8"),
        error("42601", 'syntax error at or near "selec"', P="1"),
        error("22P02", 'invalid input syntax for type integer: "abc"', P="8"),
        error("22012", "division by zero"),
        error("40001", "could not serialize access due to concurrent update"),
        error("40P01", "deadlock detected"),
        error("25P02", "current transaction is aborted, commands ignored until end of transaction block"),
        error("57014", "canceling statement due to user request"),
        error("57014", "canceling statement due to statement timeout"),
        error("57P01", "terminating connection due to administrator command"),
        error("55P03", "canceling statement due to lock timeout"),
        error("22003", "integer out of range"),
        error("25006", "cannot execute INSERT in a read-only transaction"),
        error("53200", "out of memory"),
    ],
)
def test_messages_that_hold_no_value_stay(fields: dict[str, str]) -> None:
    shown = scrub_error(fields, True)
    assert (shown["M"], shown.get("P")) == (fields["M"], fields.get("P"))


def test_a_hint_of_parse_analysis_stays() -> None:
    fields = error("42703", 'column "nam" does not exist', P="8", H='Perhaps you meant to reference the column "customers.name".')
    assert scrub_error(fields, True)["H"] == fields["H"]


def test_names_stay_where_the_catalog_has_them() -> None:
    fields = error("23505", "x", s="public", t="customers", n="customers_pkey", c="name", D=SECRET)
    shown = scrub_error(fields, True, catalog=CATALOG)
    assert shown == {
        "S": "ERROR",
        "V": "ERROR",
        "C": "23505",
        "M": "duplicate key value violates unique constraint",
        "s": "public",
        "t": "customers",
        "n": "customers_pkey",
        "c": "name",
    }
    assert not scrub_error(error("P0001", "x", s="public", t="customers"), True, catalog=CATALOG).keys() & set("stcn")
    assert not scrub_error(error("23505", "x", s="public", t=SECRET), True, catalog=CATALOG).keys() & set("stcn")


def test_every_class_has_a_meaning() -> None:
    assert meaning("23999") == "integrity constraint violation" and meaning("99999") == "error of the target"
    assert all(harmless({"C": "57000", "M": text}) or text for text in MEANINGS.values())


TOKENS = st.lists(
    st.sampled_from(["relation", "does", "not", "exist", '"', SECRET, SECRET[:6], ":", "(", "value", "=", "\n", "null"]), max_size=8
)
FIELDS = st.dictionaries(st.sampled_from("MDHWqpnstcdFLR"), TOKENS.map(" ".join), max_size=8)


@given(FIELDS, st.sampled_from([*MEANINGS, "00000", "01000", "42000", "99000"]))
def test_no_field_ever_shows_the_secret(fields: dict[str, str], code: str) -> None:
    """Whatever is in the fields of an error that was not found by parse analysis."""
    shown = scrub_error({"S": "ERROR", "C": code, **fields}, True, catalog=CATALOG)
    assert SECRET[:6] not in repr(shown)
