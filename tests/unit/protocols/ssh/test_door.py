# SPDX-License-Identifier: Apache-2.0
"""What a user name asks for, what an environment is, how faults end a channel."""

from __future__ import annotations

import pytest

from gateway.errors import AuditUnavailable, ClientFault, GatewayFault, Refused, SessionOver, TargetFault
from gateway.model import Operation
from gateway.protocols.ssh import door
from gateway.protocols.ssh.ending import BROKEN, DENIED, HELD, verdict
from gateway.protocols.ssh.program import environment, program


@pytest.mark.parametrize(("user", "login", "resource"), [
    ("web-1", "", "web-1"), ("deploy@web-1", "deploy", "web-1"), ("a@b@web-1", "a@b", "web-1")])
def test_user_names(user: str, login: str, resource: str) -> None:
    assert door.asked(user) == door.Asked(login, resource)


@pytest.mark.parametrize("user", ["", "@", "@web-1", "deploy@", "x" * 300, "web\n1", "web-1\x1b[2J",
                                  "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"])
def test_user_names_that_are_none(user: str) -> None:
    with pytest.raises(Refused) as refused:
        door.asked(user)
    assert "c2lnbmF0dXJl" not in str(refused.value)


def test_the_login_is_one_that_is_offered() -> None:
    assert door.login_of(door.Asked("", "web-1"), ("deploy", "root")) == "deploy"
    assert door.login_of(door.Asked("root", "web-1"), ("deploy", "root")) == "root"
    with pytest.raises(Refused, match="has no login"):
        door.login_of(door.Asked("admin", "web-1"), ("deploy", "root"))


def test_variables_that_policy_does_not_let_through_are_dropped_t47() -> None:
    def allowed(operations: tuple[Operation, ...]) -> bool:
        return all(operation.attributes.get("free") or operation.attributes["name"] == "APP" for operation in operations)

    wanted = program("exec", "uptime", pty=False)
    asked = {b"LC_ALL": b"C.UTF-8", b"LD_PRELOAD": b"/tmp/x.so", b"APP": b"1", b"LOCKGATE_WAIT": b"off", b"\xff": b"x"}
    found = environment(asked, wanted.understood, allowed)
    assert dict(found.given) == {b"LC_ALL": b"C.UTF-8", b"APP": b"1"}
    assert found.dropped == ("LD_PRELOAD", "\udcff")
    assert not found.wait
    assert {operation.attributes["name"] for operation in found.operations} == {"LC_ALL", "APP"}


@pytest.mark.parametrize(("problem", "status", "record"), [
    (Refused("no"), DENIED, "refused"), (Refused("not yet", "held", "id"), HELD, "refused"),
    (Refused("gone", "withdrawn"), DENIED, "withdrawn"), (Refused("late", "cancelled"), BROKEN, "cancelled"),
    (AuditUnavailable("x"), DENIED, "error"), (SessionOver("over"), BROKEN, "cancelled"),
    (TargetFault("x"), BROKEN, "error"), (ClientFault("x"), BROKEN, "error"), (GatewayFault("x"), BROKEN, "error")])
def test_how_faults_end_a_channel(problem: Exception, status: int, record: str) -> None:
    said = verdict(problem)
    assert (said.status, said.record) == (status, record)


def test_an_unknown_fault_tells_nothing_of_itself() -> None:
    try:
        raise KeyError("a secret value")
    except KeyError as problem:
        assert "secret" not in verdict(problem).line
