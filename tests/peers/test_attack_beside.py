# SPDX-License-Identifier: Apache-2.0
"""Texts made to cost much: the caller has an answer, and other sessions go on meanwhile as if nothing were there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.peers.attack import Attacked, through
from tests.peers.wire import texts

LIST = "select id from customers where ssn in (" + ",".join(["'a'"] * 15_000) + ")"
TEXTS = {
    "a list of masked values": LIST,
    "a list of masked values, not ASCII": LIST.replace("select id", "select 'é', id"),
    "branches": "select case " + " ".join(f"when id={number} then ssn" for number in range(2900)) + " end from customers",
    "statements": ";".join(["select 1"] * 7000),
    "parameters": "select 1 where 1 in (" + ",".join(f"${number}" for number in range(1, 9000)) + ")",
    "rows": "explain insert into customers (id, ssn) values " + ",".join(f"({number},'x')" for number in range(90_000, 94_500)),
    "a union of 300 KB": "select 1" + " union all select ssn from customers" * 9000,
    "deep": "select " + "(select " * 7000 + "1" + ")" * 7000,
    "a long identifier": f"select {'x' * 60_000} from customers",
    "long quoted identifiers": "select " + ",".join(f'"{"é" * 90}{number}"' for number in range(200)) + " from customers",
    "numbers without an end": "select " + "1 + " * 2_000_000 + "1",
}


@contextmanager
def busy(attacks: Attacked, text: str) -> Iterator[list[int]]:
    """A session that says this text again and again; how often, so far."""
    done: list[int] = []
    stop = threading.Event()
    with through(attacks.appliance) as wire:
        wire.sock.settimeout(120)

        def say() -> None:
            while not (stop.is_set() or wire.closed):
                found = wire.query(text)
                assert found and found[-1][0] == "Z" or wire.closed
                done.append(len(found))

        saying = threading.Thread(target=say)
        saying.start()
        try:
            yield done
        finally:
            stop.set()
            saying.join(120)
            assert not saying.is_alive()


@pytest.mark.parametrize("name", TEXTS)
def test_others_go_on_meanwhile(name: str, attacks: Attacked) -> None:
    """For every text of the one there are many of the other: a session that waited for each of them could say one or two."""
    with through(attacks.appliance) as other:
        assert texts(other.query("select 1")) == [("1",)]
        with busy(attacks, TEXTS[name]) as done:
            said = 0
            while len(done) < 3:
                assert texts(other.query(f"select {said}")) == [(str(said),)]
                said += 1
        assert said > 3
    assert done
