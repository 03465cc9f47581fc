# SPDX-License-Identifier: Apache-2.0
"""Asking without running: readers, probes, records."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.masking.model import MaskSet
from gateway.protocols.ssh import explain
from gateway.protocols.ssh.operations import ACTIONS, compile_matcher
from gateway.protocols.ssh.settings import BARE, PAIRS, SshResource

RESOURCE = SshResource(name="web", protocol="ssh", address="h:22", logins=("deploy", "backup"), credential="c", host_keys="k")
READER = explain.SshReader(RESOURCE)


def about(action: str) -> Any:
    given = {"subsystem": "netconf", "exec": "uptime", "env": "A=b", "forward-local": "h:1", "forward-remote": "h:1",
        "forward-socket": "unix:/x"}
    return True if action in BARE else ["/a", "/b"] if action in PAIRS else given.get(action, "/a")


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_can_be_asked_about(action: str) -> None:
    meaning = READER.read({action: about(action)}, MaskSet())
    assert meaning.refusal == ""
    assert action in {one.verb for one in meaning.operations}


def test_what_is_asked() -> None:
    assert READER.read("uptime; id", MaskSet()).operations == READER.read({"exec": "uptime; id"}, MaskSet()).operations
    assert READER.read({"exec": "uptime", "pty": True}, MaskSet()).operations[0].attributes["pty"] is True
    assert READER.read({"read": "a/b"}, MaskSet()).refusal.startswith("expected an absolute path")
    assert "does not offer the login 'root'" in READER.read({"exec": "uptime", "login": "root"}, MaskSet()).refusal
    assert READER.read({"exec": "uptime", "login": "backup"}, MaskSet()).refusal == ""
    [variable] = READER.read({"env": "A=b", "exec": "deploy 7"}, MaskSet()).operations
    assert (variable.verb, variable.attributes["name"], variable.attributes["words"]) == ("env", "A", ("deploy", "7"))


def test_a_command_line() -> None:
    assert explain.asked(None, ["uptime"], login=None, pty=False) == {"exec": "uptime"}
    assert explain.asked("read", ["/a"], login="backup", pty=False) == {"read": "/a", "login": "backup"}
    assert explain.asked("rename", ["/a", "/b"], login=None, pty=False) == {"rename": ["/a", "/b"]}
    assert explain.asked("shell", [], login=None, pty=True) == {"shell": True, "pty": True}
    assert explain.asked("env", ["A=b"], login=None, pty=False) == {"env": "A=b"}
    assert explain.asked("env", ["A=b", "deploy 7"], login="backup", pty=True) == {
        "env": "A=b", "exec": "deploy 7", "login": "backup", "pty": True}
    for action, texts in (("run", ["a"]), ("read", []), ("rename", ["/a"]), ("shell", ["a"]), (None, ["a", "b"])):
        with pytest.raises(ConfigError):
            explain.asked(action, texts, login=None, pty=False)


@pytest.mark.parametrize(("record", "wanted"), [
    ({"verb": "exec", "text": "uptime", "objects": ["uptime"]}, {"exec": "uptime"}), ({"verb": "read", "objects": ["/a"]}, {"read": "/a"}),
    ({"verb": "shell"}, {"shell": True}), ({"verb": "rename", "objects": ["/a", "/b"]}, None),
    ({"verb": "select", "text": "select 1"}, None),
    ({"verb": "read"}, None), ({"verb": "forward-local", "objects": ["h:1"]}, {"forward-local": "h:1"})])
def test_a_record(record: dict[str, Any], wanted: Any) -> None:
    assert explain.recorded(record) == wanted


def test_hidden_values_of_a_record_are_filled() -> None:
    assert READER.filled({"exec": "login --password ****"}) == {"exec": "login --password x"}


@pytest.mark.parametrize("verb", ACTIONS)
def test_an_operation_as_a_record_shows_it(verb: str) -> None:
    made = explain.operation(verb, ("/a",))
    assert made.verb == verb
    assert explain.operation(verb, ()).verb == verb


@pytest.mark.parametrize("body", [
    {}, {"actions": ["exec"]}, {"command": ["systemctl status *", "cat /srv/**"]}, {"text": "a > b"}, {"actions": ["exec"], "pty": True},
    {"actions": ["exec"], "pty": False, "command": "a"}, {"actions": ["shell"]}, {"actions": ["subsystem"], "command": ["netconf"]},
    {"actions": ["subsystem"]}, {"actions": ["exec"], "command": ["a *"], "env": ["DEPLOY_*"]}, {"actions": ["env"], "env": ["PATH"]},
    {"env": ["A"]},
    {"paths": ["/srv/**"]}, {"actions": ["read"], "paths": ["/srv/*/?.log"]}, {"actions": ["write"]},
    {"to": ["*.example:443", "unix:/run/*.sock"]},
    {"actions": ["forward-local"], "to": ["10.0.0.*:8000-8999"]}, {"actions": ["forward-local"], "to": ["*:*"]},
    {"actions": ["agent", "x11"]},
    {"actions": ["forward-socket"], "to": ["unix:/run/**"]}, {"text": ["uptime"], "pty": True}, {"command": ["'*' \"a b\" ?"]}])
@pytest.mark.parametrize("effect", ["allow", "approve", "deny"])
def test_every_rule_has_a_probe_that_it_matches(body: dict[str, Any], effect: str) -> None:
    matcher = compile_matcher(body, effect)
    probes = list(explain.probes([body]))
    assert any(map(matcher, probes))
    assert len(probes) < 400
