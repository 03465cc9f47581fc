# SPDX-License-Identifier: Apache-2.0
"""Texts and messages made to cost much: the gateway answers or closes that connection, and serves the next caller."""

from __future__ import annotations

import random
import struct

import pytest

from gateway.protocols.postgres.messages import Parse
from tests.peers.attack import Attacked, through
from tests.peers.wire import codes, texts


def chain(count: int, first: str, step: str) -> str:
    ctes = [f"a0 as ({first})", *(f"a{i + 1} as materialized ({step.format(i)})" for i in range(count))]
    return f"with {', '.join(ctes)} select count(*) from a{count}"


def nested(text: str, depth: int) -> str:
    for _ in range(depth):
        text = f"((with u as (update orders set (id, total) = {text} returning 1) select 1))"
    return f"update orders set (id, total) = {text}"


COLUMNS = ",".join(["total"] * 4000)
NAMES, TURNED = (",".join(f"a{(i - shift) % 60}" for i in range(60)) for shift in (0, 1))
FIRST = ",".join(["ssn"] + ["'x'"] * 59)
ROUND = f"with recursive r({NAMES}) as (select {FIRST} from customers union all select {TURNED} from r where false) select count(*) from r"
BOMBS = {
    "assignments that unfold": f"update orders set ({COLUMNS}) = ({COLUMNS})",
    "assignments that unfold within each other": nested("1", 60),
    "comments behind a literal": "select 'a' " + "--" * 30000,
    "comments behind a literal, unparsable": "selec 'a' " + "--" * 30000,
    "open comments": "selec " + "/* " * 20000 + "*/",
    "literals that double": chain(500, "select 'x' as c", "select c || c as c from a{} where false"),
    "columns that double": chain(30, "select 1 as x", "select * from a{0} p, a{0} q"),
    "literals that go round": ROUND,
    "conditions in pairs": "delete from orders where " + " or ".join(["id is null", "total is not null", "not id = 1"] * 1200),
    "wide rows": "select 1 from (select * from pg_class, pg_proc p) w where " + " and ".join(["w is null"] * 4000),
    "parentheses": "select " + "(" * 30000 + "1" + ")" * 30000,
    "negations": "select " + "not " * 15000 + "true",
    "unions": "select 1" + " union select 1" * 4000,
    "joins": "select 1 from orders a0" + "".join(f" cross join orders a{i}" for i in range(1, 2500)),
    "sub-selects": "select " + "(select " * 7000 + "1" + ")" * 7000,
    "casts": "select 1" + "::int" * 12000,
    "arrays": "select " + "array[" * 9000 + "1" + "]" * 9000,
    "functions": "select " + "lower(" * 9000 + "'a'" + ")" * 9000,
    "a list": "select 1 where 1 in (" + ",".join(["1"] * 32000) + ")",
    "a list of masked values": "select 1 from customers where ssn in (" + ",".join(["'a'"] * 15000) + ")",
    "statements": ";".join(["select 1"] * 7000),
    "too long": "select '" + "a" * 70000 + "'",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_text_costs_no_more_than_it_should(name: str, attacks: Attacked) -> None:
    with through(attacks.appliance) as wire:
        wire.sock.settimeout(60)
        wire.query("begin")             # what a text may change is gone with its session
        found = wire.query(BOMBS[name])
        assert found and found[-1][0] == "Z" or wire.closed
    with through(attacks.appliance) as wire:
        assert texts(wire.query("select 1")) == [("1",)]


def test_many_names_with_long_texts_do_no_harm(attacks: Attacked) -> None:
    with through(attacks.appliance) as wire:
        wire.sock.settimeout(60)
        filler = "-- " + "x" * 60_000
        found = wire.run(*[Parse(f"n{number}", f"select {number} {filler}") for number in range(200)])
        assert codes(found) in ([], ["53400"])
        assert texts(wire.query("select 1")) == [("1",)]


BODIES = (
    b"", b"\0", b"select 1\0", b"select \xff\xfe\0", b"a\0b\0" + struct.pack("!h", -1), b"\0\0" + struct.pack("!hhi", 0, 1, -5),
    b"\0\0" + struct.pack("!hhi", 0, 32767, 2**31 - 1), b"\0select $1\0" + struct.pack("!H", 65535), b"S\xff\0", b"P\0", b"X" * 300,
)


@pytest.mark.parametrize("seed", range(8))
def test_malformed_messages_end_at_most_their_own_session(seed: int, attacks: Attacked) -> None:
    chosen = random.Random(seed)
    for _ in range(5):
        with through(attacks.appliance) as wire:
            wire.sock.settimeout(0.2)
            try:
                for _ in range(6):
                    body = chosen.choice(BODIES)
                    length = chosen.choice([len(body) + 4] * 6 + [0, 3, 2**31 - 1, 2**32 - 1, len(body) + 5])
                    wire.sock.sendall(bytes([chosen.choice(b"QPBDECSHdcfFpZ1TA\x00\xff")]) + struct.pack("!I", length) + body)
                while wire.sock.recv(65536):
                    pass
            except OSError:
                pass
    with through(attacks.appliance) as wire:
        assert texts(wire.query("select 1")) == [("1",)]
