# SPDX-License-Identifier: Apache-2.0
"""Upgrade and the way back, with callers at work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from segment import Segment
from testinfra.host import Host

testinfra_hosts = ["lab://gw"]


@pytest.fixture
def next_wheels(segment: Segment) -> tuple[str, str]:
    """The folder and the version of the next release."""
    project = Path(__file__).resolve().parents[3]
    suite = segment.lab.host("gw").check_output(". /etc/os-release; echo $VERSION_CODENAME")
    folder = project / "build" / f"wheelhouse-{'cp311' if suite == 'bookworm' else 'cp313'}-next"
    return str(folder), json.loads((folder / "manifest.json").read_text())["version"]


def test_upgrade_then_rollback(host: Host, segment: Segment, next_wheels: tuple[str, str]) -> None:
    wheels, version = next_wheels
    first = host.check_output("readlink -f /opt/lockgate/current")
    pid = segment.gateway_pid()
    tried = segment.play("upgrade.yml", {"gateway_wheels": wheels, "gateway_version": version}, "--check", "--diff")
    assert (tried.status, tried.changed["gw"] > 0) == (0, True), tried.output
    assert (host.check_output("readlink -f /opt/lockgate/current"), segment.gateway_pid()) == (first, pid)
    run = segment.play("upgrade.yml", {"gateway_wheels": wheels, "gateway_version": version})
    assert run.status == 0, run.output
    assert host.check_output("readlink -f /opt/lockgate/current").endswith(f"/{version}")
    assert host.check_output("readlink -f /opt/lockgate/previous") == first
    assert version in host.check_output("lockgate --version")
    assert segment.gateway_pid() != pid
    assert segment.works()

    pid, later = segment.gateway_pid(), host.check_output("readlink -f /opt/lockgate/current")
    tried = segment.play("rollback.yml", None, "--check", "--diff")
    assert (tried.status, tried.changed["gw"] > 0) == (0, True), tried.output
    assert (host.check_output("readlink -f /opt/lockgate/current"), segment.gateway_pid()) == (later, pid)
    run = segment.play("rollback.yml")
    assert run.status == 0, run.output
    assert host.check_output("readlink -f /opt/lockgate/current") == first
    assert segment.works()
    assert host.run("lockgate audit verify").rc == 0


def test_a_version_that_does_not_start_is_taken_back(host: Host, segment: Segment, next_wheels: tuple[str, str]) -> None:
    """The new release is there and cannot serve: the play fails, the old one serves."""
    wheels, version = next_wheels
    first = host.check_output("readlink -f /opt/lockgate/current")
    program = host.check_output(f"ls -d /opt/lockgate/releases/{version}/lib/python3*/site-packages/gateway/cli")
    host.check_output(f"cp -a {program} /root/cli.kept && rm -rf {program}/__pycache__ && echo 'raise SystemExit(3)' > {program}/serve.py")
    try:
        run = segment.play("upgrade.yml", {"gateway_wheels": wheels, "gateway_version": version})
        assert run.status != 0, run.output
        assert host.check_output("readlink -f /opt/lockgate/current") == first
        assert segment.works()
    finally:
        host.check_output(f"rm -rf {program} && mv /root/cli.kept {program}")


def test_afterwards_site_yml_has_nothing_to_do(segment: Segment) -> None:
    run = segment.play("site.yml", None, "--check", "--diff")
    assert run.status == 0, run.output
    assert run.changed == {"gw": 0}, run.output
