# SPDX-License-Identifier: Apache-2.0
"""Statements over 64 KiB are parsed by a process of their own, under everything the unit forbids."""

from __future__ import annotations

import pytest
from segment import Segment, Session
from testinfra.host import Host

testinfra_hosts = ["lab://gw"]

LONG = "select name, ssn, email from customers where id in (1, " + ", ".join(map(str, range(1000, 21_000))) + ")"
DEEP = "select " + "1+" * 500_000 + "1"
KILOBYTE, MEGABYTE = 2**10, 2**20


@pytest.fixture
def parser(host: Host, segment: Segment) -> dict[str, str]:
    """What the kernel says of the process, once a long text has come."""
    with Session("client") as session:
        assert session.ask(LONG).code == "00000"
    pid = host.check_output(f"pgrep --parent {segment.gateway_pid()} --full gateway.protocols.postgres.sandboxed")
    return dict(line.split(":\t", 1) for line in host.check_output(f"cat /proc/{pid}/status").splitlines() if ":\t" in line)


def test_a_long_text_is_answered_and_masked() -> None:
    assert 64 * KILOBYTE < len(LONG) < MEGABYTE
    with Session("client") as session:
        answer = session.ask(LONG)
    assert (answer.code, answer.rows) == ("00000", ["Alice Archer|****|a***@example.com"])


def test_its_process_has_no_more_than_the_gateway(parser: dict[str, str]) -> None:
    assert set(parser["Uid"].split()) == set(parser["Gid"].split()) == {"880"}
    assert parser["CapEff"] == parser["CapPrm"] == parser["CapBnd"] == parser["CapAmb"] == "0" * 16
    assert (parser["NoNewPrivs"], parser["Seccomp"]) == ("1", "2")


def test_a_text_that_kills_it_is_refused_and_the_next_one_answered(host: Host, segment: Segment) -> None:
    gateway = segment.gateway_pid()
    with Session("client") as session:
        assert len(DEEP) < MEGABYTE
        assert session.ask(DEEP).code == "54001"
        assert session.ask("select count(*) from customers").rows == ["3"]
        assert session.ask(LONG).rows == ["Alice Archer|****|a***@example.com"]
    assert segment.gateway_pid() == gateway
    assert host.check_output("systemctl is-system-running") == "running"


def test_over_the_configured_length_there_is_no_answer(segment: Segment) -> None:
    with Session("client") as session:
        refused = session.ask("select '" + "x" * MEGABYTE + "'")
        assert refused.code == "54000", refused.rows
        assert session.ask("select count(*) from customers").rows == ["3"]
