# SPDX-License-Identifier: Apache-2.0
"""A CI job reaches the database through the gateway, as itself and masked, and not around it."""

from __future__ import annotations

import json

import pytest
from segment import DATABASE, GATEWAY, JOB, PORT, Segment
from testinfra.host import Host
from verify import Lab

testinfra_hosts = ["lab://gw"]


def test_the_host_runs(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"
    assert host.service("lockgate").is_running
    assert host.service("lockgate").is_enabled


def test_a_jobs_psql_works_and_sees_masked_values(segment: Segment) -> None:
    answer = segment.psql("client", "select name, ssn, email from customers order by id limit 1")
    assert answer.stdout == "Alice Archer|****|a***@example.com\n", answer.stderr


def test_what_no_rule_allows_is_refused(segment: Segment) -> None:
    assert "42501" in segment.psql("client", "drop database orders").stderr


def test_the_gateway_logs_in_with_its_own_account_over_tls(lab: Lab, segment: Segment) -> None:
    assert segment.psql("client", "select current_user").stdout == "lockgate\n"
    activity = lab.host("db").check_output(
        "runuser -u postgres -- psql -XAtc \"select distinct s.ssl, a.client_addr from pg_stat_ssl s join pg_stat_activity a using (pid) "
        "where a.usename = 'lockgate'\""
    )
    assert activity in ("", "t|10.88.12.11")


def test_a_token_carried_off_is_refused_elsewhere(segment: Segment) -> None:
    stolen = segment.psql("rogue", "select 1")
    assert stolen.returncode != 0
    assert "28000" in stolen.stderr or "FATAL" in stolen.stderr


def test_without_tls_there_is_no_answer(segment: Segment) -> None:
    assert segment.psql("client", "select 1", JOB.replace("sslmode=verify-full", "sslmode=disable")).returncode != 0


def test_a_job_cannot_reach_the_database_around_the_gateway(lab: Lab) -> None:
    """Not directly, and not with the gateway as its router."""
    assert not lab.reaches(lab.namespace("client"), DATABASE, 5432, 1)
    client = lab.host("client")
    client.check_output(f"ip route add 10.88.12.0/24 via {GATEWAY}")
    try:
        assert lab.reaches(lab.namespace("client"), GATEWAY, PORT, 2)
        assert not lab.reaches(lab.namespace("client"), DATABASE, 5432, 2)
    finally:
        client.check_output("ip route del 10.88.12.0/24")


def test_a_host_beside_the_database_is_turned_away_with_the_right_password(lab: Lab, segment: Segment) -> None:
    password = (segment.world / "orders-db.password").read_text()
    segment.write("rogue", "/root/job/pgpass", f"{DATABASE}:5432:orders:lockgate:{password}\n")
    login = "host=10.88.12.12 user=lockgate dbname=orders sslmode=require"
    tried = lab.host("rogue").run("PGPASSFILE=/root/job/pgpass psql -c 'select 1' %s", login)
    assert tried.rc != 0
    assert "no pg_hba.conf entry" in tried.stderr


@pytest.mark.parametrize("command", ["lockgate check", "lockgate policy test"])
def test_the_programs_own_checks_pass_on_the_host(host: Host, command: str) -> None:
    assert host.run(command).rc == 0


def test_records_say_who_and_from_where(segment: Segment) -> None:
    start = segment.audit("session.start")[-1]
    assert (start["identity"], start["owner"], start["segment"]) == ("ci-bot", "dana", "lab")
    assert start["source"].startswith("10.88.11.13")
    assert "ssn" not in json.dumps(segment.audit("session.end"))


def test_the_log_verifies(host: Host) -> None:
    assert host.run("lockgate audit verify").rc == 0
