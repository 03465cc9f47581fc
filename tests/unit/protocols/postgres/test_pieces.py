# SPDX-License-Identifier: Apache-2.0
"""Which texts may go to the target statement by statement: those that are one transaction whatever happens."""

from __future__ import annotations

import pytest

from gateway.protocols.postgres.pieces import ended_as, pieces
from gateway.protocols.postgres.sql.parse import parse

DIVIDED = [
    ("create table a (i int); select 1", "I"), ("begin; create table a (i int); commit", "I"), ("begin; select 1", "I"),
    ("start transaction; select 1; end", "I"), ("begin; savepoint a; select 1; rollback to a; release a; commit", "I"),
    ("select 1; select 2", "T"), ("savepoint a; select 1", "T"), ("select 1; commit", "T"), ("select 1; rollback to a", "T"),
    ("begin; select 1; rollback", "I"), ("copy a to stdout; select 1", "I"), ("copy a from '/x'; select 1", "I"),
]
WHOLE = [
    ("select 1", "I"), ("", "I"), ("select 1; commit", "I"), ("select 1; begin; select 2", "I"), ("begin; select 1; commit; select 2", "I"),
    ("select 1; savepoint a; select 2", "I"), ("begin; select 1", "T"), ("commit; select 1", "T"), ("select 1; select 2", "E"),
    ("begin; select 1; prepare transaction 'x'", "I"), ("select 1; prepare transaction 'x'", "T"), ("select 1; commit prepared 'x'", "I"),
    ("create table a (i int); copy a from stdin", "I"), ("begin; begin; select 1", "I"), ("commit; begin; select 1", "T"),
    ("commit; select 1", "I"),
]


@pytest.mark.parametrize(("text", "status"), DIVIDED)
def test_what_is_one_transaction_may_be_divided(text: str, status: str) -> None:
    found = pieces(text, *parse(text), status)
    assert [piece.text.strip() for piece in found] == [part.strip() for part in text.split(";")]
    assert [text[piece.start:piece.start + len(piece.text)] for piece in found] == [piece.text for piece in found]


@pytest.mark.parametrize(("text", "status"), WHOLE)
def test_everything_else_stays_whole(text: str, status: str) -> None:
    assert pieces(text, *parse(text), status) == ()


def test_places_are_characters() -> None:
    first, second = pieces("select 'äö;ü'; select 2", *parse("select 'äö;ü'; select 2"), "I")
    assert (first.text, second.text.strip(), second.start) == ("select 'äö;ü'", "select 2", 15)


def test_how_an_end_is_recorded() -> None:
    assert [ended_as(fields) for fields in (None, {}, {"C": "57014"}, {"C": "22012"})] == ["ok", "ok", "cancelled", "error"]
