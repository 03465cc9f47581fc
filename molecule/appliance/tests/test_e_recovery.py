# SPDX-License-Identifier: Apache-2.0
"""A gateway that was killed comes back; so does its host."""

from __future__ import annotations

import time

from segment import Segment, Session
from testinfra.host import Host
from verify import Lab

testinfra_hosts = ["lab://gw"]


def comes_back(segment: Segment, seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if segment.works():
            return True
        time.sleep(0.2)
    return False


def test_a_killed_gateway_comes_back(host: Host, segment: Segment) -> None:
    before = segment.gateway_pid()
    with Session("client") as session:
        assert session.ask("select 1").rows == ["1"]
        host.check_output(f"kill -9 {before}")
        assert comes_back(segment)
    assert segment.gateway_pid() != before
    assert host.run("lockgate audit verify").rc == 0
    assert host.check_output("systemctl is-system-running") == "running"


def test_a_stopped_target_is_said_and_its_return_is_enough(lab: Lab, segment: Segment) -> None:
    lab.host("db").check_output("systemctl stop 'postgresql@*'")
    assert not segment.works()
    lab.host("db").check_output("systemctl start postgresql")
    assert comes_back(segment)


def test_a_rebooted_host_comes_back_with_everything(host: Host, lab: Lab, segment: Segment) -> None:
    release = segment.config_release()
    lab.run("reboot", "gw")
    assert comes_back(segment)
    assert segment.config_release() == release
    assert "policy drop" in host.check_output("nft list ruleset")
    assert host.run("lockgate audit verify").rc == 0
