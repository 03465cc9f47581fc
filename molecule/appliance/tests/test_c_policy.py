# SPDX-License-Identifier: Apache-2.0
"""Policy by playbook: it reaches a session that is under way, a bad one changes nothing."""

from __future__ import annotations

from segment import Segment, Session
from testinfra.host import Host

testinfra_hosts = ["lab://gw"]
# The view is in no case of the segment: a rule against a case is refused.
CLOSED = "{name: closed today, deny: {sql: {verbs: [select], relations: [public.customer_v]}}}"


def test_a_policy_change_reaches_a_live_session_without_dropping_it(segment: Segment) -> None:
    before = segment.gateway_pid()
    with Session("client") as session:
        backend = session.ask("select pg_backend_pid()").rows
        assert session.ask("select count(*) from customer_v").rows == ["3"]
        with segment.edited():
            segment.add_rule(CLOSED)
            run = segment.play("policy.yml")
            assert run.status == 0, run.output
            assert session.ask("select count(*) from customer_v").code == "42501"
            assert session.ask("select count(*) from orders").rows == ["20"]
        assert segment.play("policy.yml").status == 0
        assert session.ask("select count(*) from customer_v").rows == ["3"]
        assert session.ask("select pg_backend_pid()").rows == backend
    assert segment.gateway_pid() == before


def test_the_same_policy_again_changes_nothing(segment: Segment) -> None:
    run = segment.play("policy.yml")
    assert run.status == 0, run.output
    assert run.changed == {"gw": 0}, run.output


def test_check_mode_shows_a_change_and_makes_none(segment: Segment) -> None:
    release = segment.config_release()
    with segment.edited():
        segment.add_rule(CLOSED)
        run = segment.play("policy.yml", None, "--check", "--diff")
        assert run.status == 0, run.output
        assert run.changed["gw"] > 0
        assert "closed today" in run.output
    assert segment.config_release() == release
    assert segment.works()


def test_a_bad_policy_is_refused_and_the_old_one_stays(host: Host, segment: Segment) -> None:
    release, pid, loaded = segment.config_release(), segment.gateway_pid(), len(segment.audit("policy.loaded"))
    with Session("client") as session, segment.edited():
        segment.add_rule("{name: wrong, allow: {sql: {verbs: [no-such-verb]}}}")
        run = segment.play("policy.yml")
        assert run.status != 0
        assert "no-such-verb" in run.output
        assert segment.config_release() == release
        assert session.ask("select count(*) from customers").rows == ["3"]
    assert segment.gateway_pid() == pid
    assert len(segment.audit("policy.loaded")) == loaded
    assert segment.works()
    assert host.run("lockgate check").rc == 0


def test_a_policy_against_its_own_cases_is_refused(segment: Segment) -> None:
    release = segment.config_release()
    with segment.edited():
        segment.add_rule("{name: wrong, deny: {sql: {verbs: [select], relations: [public.customers]}}}")
        run = segment.play("policy.yml")
        assert run.status != 0
        assert "lockgate policy test refuses the folder, nothing was changed" in " ".join(run.output.split())
    assert segment.config_release() == release
    assert segment.works()


def test_a_revoked_identity_loses_its_live_session(segment: Segment) -> None:
    """At once, whatever the segment's cases say that it may do."""
    with Session("client") as session, segment.edited() as folder:
        assert session.ask("select 1").rows == ["1"]
        (folder / "policy" / "revoked.yaml").write_text("revoked: [{identity: ci-bot}]\n")
        run = segment.play("policy.yml")
        assert run.status == 0, run.output
        try:
            assert session.ask("select 1").code == "57P01"
        except EOFError as gone:
            assert "57P01" in str(gone) or "terminat" in str(gone)
        assert not segment.works()
    assert segment.play("policy.yml").status == 0
    assert segment.works()
