# SPDX-License-Identifier: Apache-2.0
"""Targets that break their protocol, at login and in the middle of an answer. Each ends the one session it was said in, with an error in
the caller's own protocol and a record of why; the gateway goes on serving."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.protocols.postgres import messages
from gateway.testing.postgres import PostgresServer
from tests.peers.gateway import Appliance, running
from tests.peers.hostile import ANSWERS, LOGIN, SCRAM, HostileTarget
from tests.peers.resources import peak, resident
from tests.peers.wire import Wire, codes, texts

SECRET = "078-05-1120"
FLOODS = ("notices_without_end",)


@pytest.fixture(scope="module")
def hostile(postgres: PostgresServer) -> Iterator[HostileTarget]:
    with HostileTarget(postgres.port) as target:
        yield target


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, hostile: HostileTarget) -> Iterator[Appliance]:
    """A gateway in front of the hostile target; the resource ``tls-db`` asks it for TLS with a certificate that it does not have."""
    def change(appliance: Appliance) -> None:
        appliance.rewrite("policy/resources.yaml", {postgres.address: f"127.0.0.1:{hostile.port}"})
        (appliance.folder / "policy" / "tls.yaml").write_text(
            f"resources:\n  - {{name: tls-db, protocol: postgres, address: 127.0.0.1:{hostile.port}, database: orders,\n"
            "     tls: {mode: verify-full, ca: tls/gateway.crt}, credential: orders-db}\n")
        appliance.rewrite("policy/grants/ci-bot.yaml", {"targets: [orders-db]": "targets: [orders-db, tls-db]"})
        appliance.rewrite("gateway.yaml", {"handshake: 10s": "handshake: 10s\n  target_connect: 2s"})

    with running(tmp_path_factory.mktemp("guarded"), postgres, change=change) as appliance:
        yield appliance


def enter(appliance: Appliance, resource: str = "orders-db", name: str = "honest") -> Wire:
    return Wire.connect(appliance.port, "ci-bot", appliance.token(), resource, ca=appliance.ca, parameters={"application_name": name})


def serves(appliance: Appliance) -> None:
    """The next caller is served as if nothing had been."""
    with enter(appliance) as wire:
        assert texts(wire.query("select count(*) from orders")) == [("20",)]


@pytest.mark.parametrize("name", sorted(set(ANSWERS) - set(FLOODS)))
def test_t34_an_answer_that_no_server_gives(guarded: Appliance, name: str) -> None:
    """T23, T34: lengths, fields, kinds and orders that cannot be."""
    with enter(guarded, name=f"answer-{name}") as wire:
        answer = wire.query(f"select id, ssn from customers /* evil {name} */")
        if not wire.closed:                       # the answer was whole; what is wrong with it came behind
            answer += wire.until("")
        assert wire.closed
        assert len(codes(answer)) == 1
        assert SECRET not in repr(answer)
    serves(guarded)


def test_t21_a_role_that_may_not_log_in_any_more(guarded: Appliance, postgres: PostgresServer) -> None:
    """VALID UNTIL over, or NOLOGIN: the target's refusal is the caller's, and nothing of the credential is told."""
    role = str(json.loads((guarded.folder / "credentials" / "orders-db.yaml").read_text())["username"])
    for no, yes in (("valid until '2020-01-01'", "valid until 'infinity'"), ("nologin", "login")):
        postgres.execute(f'alter role "{role}" {no}')
        with enter(guarded) as wire:
            assert wire.closed
            assert codes(wire.seen) in (["28P01"], ["28000"])
            assert role not in repr(wire.seen[-1])
        postgres.execute(f'alter role "{role}" {yes}')
        serves(guarded)


@pytest.mark.parametrize("name", sorted([*LOGIN, *SCRAM, "silent"]))
def test_t20_a_login_that_no_server_asks_for(guarded: Appliance, name: str) -> None:
    """T20, T21: the password never leaves for cleartext; nothing unbounded is read or computed; failures look like failures."""
    with enter(guarded, name=f"evil-{name}") as wire:
        assert wire.closed
        assert len(codes(wire.seen)) == 1
        assert guarded.password not in repr(wire.seen)
    serves(guarded)


@pytest.mark.parametrize("before", [
    b"N", b"", b"SS", b"S\x16\x03\x01", b"S" + b"E\0\0\0\4", b"G", b"E\0\0\0\x1fSFATAL\0C28000\0Mgo away\0\0", b"\x15\x03\x01\0\2\2\x28"])
def test_t18_no_way_around_tls(guarded: Appliance, hostile: HostileTarget, before: bytes) -> None:
    """T17, T18: 'N', bytes behind 'S', an error or an alert before TLS: never a login in clear, never that error's words."""
    hostile.before_tls = before
    with enter(guarded, "tls-db") as wire:
        assert codes(wire.seen) in (["08006"], ["08P01"])
        assert "go away" not in repr(wire.seen)


@pytest.mark.parametrize("name", FLOODS)
def test_t34_a_flood_is_held_back_by_the_caller_that_does_not_read(guarded: Appliance, name: str) -> None:
    """It passes as fast as the caller reads and fills nobody's memory; other sessions are served meanwhile."""
    before = resident(guarded.pid)
    with enter(guarded) as wire:
        wire.send(messages.Query(f"select id, ssn from customers /* evil {name} */"))
        for _ in range(2000):
            assert wire.next()[0] == "N"
        for _ in range(3):
            serves(guarded)
    assert peak(guarded.pid) - before < 64 * 2**20
    serves(guarded)


def test_many_at_once(guarded: Appliance) -> None:
    """Twenty sessions that all end badly, and one that does not."""
    with enter(guarded) as honest:
        def one(name: str) -> None:
            with enter(guarded) as wire:
                wire.query(f"select id, ssn from customers /* evil {name} */")

        threads = [threading.Thread(target=one, args=(name,)) for name in sorted(set(ANSWERS) - set(FLOODS))[:20]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert texts(honest.query("select count(*) from orders")) == [("20",)]
    assert Path(f"/proc/{guarded.pid}").exists()


def test_every_one_of_them_is_on_record(guarded: Appliance) -> None:
    """Each session has one end, with a reason; those that met a fault of the target name it."""
    records = guarded.lines("audit", "export")
    names = {one["session"]: one["claimed"]["application_name"] for one in records if one["kind"] == "session.start"}
    ends = [(one["session"], str(one["reason"])) for one in records if one["kind"] == "session.end"]
    assert sorted(names) == sorted(session for session, _ in ends)
    blamed = [(names[session], reason) for session, reason in ends if names[session].startswith(("evil-", "answer-"))]
    assert [one for one in blamed if not one[1].startswith(("target: ", "gateway: "))] == []
    begun = [one["seq"] for one in records if one["kind"] == "command.begin"]
    assert sorted(begun) == sorted(one["begin"] for one in records if one["kind"] == "command.end")
