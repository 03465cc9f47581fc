# SPDX-License-Identifier: Apache-2.0
"""The ``ssh:`` matcher, key by key, and what deny and approve see that allow does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Operation
from gateway.protocols import by_matcher
from gateway.protocols.ssh import hostnames
from gateway.protocols.ssh.operations import ACTIONS, DANGEROUS, PROTOCOL, SPEAKS, compile_matcher
from gateway.protocols.ssh.understand import (
    env_request,
    exec_request,
    file_request,
    forward_request,
    restricted_request,
    shell_request,
    subsystem_request,
)


def allowed(spec: dict[str, Any], operations: tuple[Operation, ...], effect: str = "allow") -> bool:
    matcher = compile_matcher(spec, effect)
    return all(map(matcher, operations))


def runs(pattern: str, text: str, effect: str = "allow", **more: Any) -> bool:
    return allowed({"actions": ["exec"], "command": [pattern], **more}, exec_request(text, pty=False).operations, effect)


def test_the_protocol_is_found_by_its_key() -> None:
    assert by_matcher("ssh") is PROTOCOL


def test_every_key_speaks_of_actions_that_exist() -> None:
    assert set().union(*SPEAKS.values()) <= set(ACTIONS)


# --- commands ---


@pytest.mark.parametrize(("pattern", "text"), [
    ("uptime", "uptime"), ("uptime", "'upt'ime"), ("a *", "a"), ("a *", "a b /c '' -d"), ("a * *", "a b"), ("a * c", "a b c"),
    ("a /x/*", "a /x/y"),
    ("a /x/**", "a /x"), ("a /x/**", "a /x/y/z"), ("a /x/**", "a /x/./y//z/"), ("a /**", "a /"), ("a /**", "a /x/y"),
    ("a /x/**/z", "a /x/z"),
    ("a /x/**/z", "a /x/1/2/z"), ("a b?", "a bc"), ("a '*'", "a '*'"), ("a '*'", "a \\*"), ("a \"b c\"", "a b\\ c"), ("a --x=*", "a --x=1"),
    ("a **", "a ../../x"), ("a **", "a x/y"), ("/bin/a", "/bin/a"), ("/bin/a", "/bin//a"), ("* *", "a b"), ("** *", "/bin/a b"),
    ("a https://h/**", "a https://h/x/y"), ("a ../x", "a ../x"), ("a é*", "a éx"), ("/bin/sh -c *", "/bin/sh -c 'rm -rf / > x'"),
    ("/bin/sh -c *", "/bin/sh -c")])
def test_a_pattern_matches(pattern: str, text: str) -> None:
    assert runs(pattern, text)


@pytest.mark.parametrize(("pattern", "text"), [
    ("uptime", "uptime -p"), ("uptime", "Uptime"), ("uptime", "/usr/bin/uptime"), ("uptime", "./uptime"), ("a *", "ab"), ("a * c", "a c"),
    ("a /x/*", "a /x/y/z"), ("a /x/*", "a /x"), ("a /x/**", "a /xy"), ("a /x/**", "a /x/../y"), ("a /x/**", "a x"), ("a /x/**", "a /x /y"),
    ("a b?", "a b"), ("a '*'", "a b"), ("a *", "a > b"), ("a --f=/x/**", "a --f=/x/../y"), ("a -I/x/**", "a -I/x/../y"),
    ("a h:/x/**", "a h:/x/../y"),
    ("a x/**", "a x/../../y"), ("a */y", "a ../y"), ("* *", "/bin/a b"), ("a https://h/x/**", "a https://h/x/../y"), ("a", "a; b"),
    ("a b", "a 'b '")])
def test_a_pattern_does_not_match(pattern: str, text: str) -> None:
    assert not runs(pattern, text)


def test_every_command_of_a_list_is_matched_by_itself() -> None:
    spec = {"actions": ["exec"], "command": ["a", "b *"]}
    assert allowed(spec, exec_request("a; b 1 && b | a", pty=False).operations)
    assert not allowed(spec, exec_request("a; c", pty=False).operations)


def test_a_rule_without_command_matches_what_is_simple() -> None:
    assert allowed({"actions": ["exec"]}, exec_request("anything at all; this too", pty=False).operations)
    assert allowed({}, exec_request("anything", pty=False).operations)
    for effect in ("allow", "approve"):
        assert not allowed({"actions": ["exec"]}, exec_request("a > b", pty=False).operations, effect)
    assert allowed({"actions": ["exec"]}, exec_request("a > b", pty=False).operations, "deny")


def test_text_is_exact_and_the_one_way_for_what_is_not_simple() -> None:
    spec = {"text": ["a > b", "a; b"]}
    assert allowed(spec, exec_request("a > b", pty=False).operations)
    assert allowed(spec, exec_request("a; b", pty=False).operations)
    for text in ("a  > b", "a > b ", "a > b\n", "a;b", "a"):
        assert not allowed(spec, exec_request(text, pty=False).operations), text
    assert allowed({"text": "uptime\n"}, exec_request("uptime\n", pty=False).operations)


def test_a_deny_is_wider_than_an_allow() -> None:
    for text in ("rm -rf x", "/bin/rm x", "/tmp/../bin/rm x", "sudo rm x", "sudo -u root /bin/rm x", "env A=b rm x", "busybox rm x",
        "xargs rm",
                 "rm x > y", "echo $(rm x)", "r'm' x > y", "echo a; rm x"):
        found = exec_request(text, pty=False).operations
        assert any(map(compile_matcher({"command": ["rm *"]}, "deny"), found)), text
    for text in ("rmdir x", "echo rm", "format > x", "my-rm > x"):
        assert not any(map(compile_matcher({"command": ["rm *"]}, "deny"), exec_request(text, pty=False).operations)), text


def test_a_deny_of_a_path_meets_what_climbs_in_ways_that_cannot_be_followed() -> None:
    spec = {"command": ["cat /etc/**", "cat --file=/etc/**"]}
    for text in ("cat /etc/shadow", "cat //etc/shadow", "cat /srv/../etc/shadow", "cat --file=/srv/../etc/shadow",
        "cat --file=//etc/shadow"):
        assert any(map(compile_matcher(spec, "deny"), exec_request(text, pty=False).operations)), text


def test_an_approve_covers_the_programs_of_the_system() -> None:
    assert runs("reboot *", "/sbin/reboot -f", "approve")
    assert runs("reboot *", "/usr/sbin/reboot", "approve")
    assert not runs("reboot *", "/tmp/reboot", "approve")
    assert not runs("reboot *", "/sbin/reboot", "allow")


def test_pty() -> None:
    for effect in ("allow", "deny"):
        matcher = compile_matcher({"actions": ["exec", "shell"], "pty": False}, effect)
        assert matcher(exec_request("a", pty=False).operations[0])
        assert not matcher(exec_request("a", pty=True).operations[0])
        assert not matcher(shell_request(pty=True).operations[0])
    assert allowed({"actions": ["exec"]}, exec_request("a", pty=True).operations)


def test_shells_and_subsystems() -> None:
    assert allowed({"actions": ["shell"]}, shell_request(pty=True).operations)
    assert not allowed({"actions": ["shell"]}, restricted_request(pty=True).operations)
    assert not allowed({"actions": ["restricted-shell"]}, shell_request(pty=True).operations)
    assert not allowed({"command": ["*"]}, shell_request(pty=False).operations)
    assert allowed({"actions": ["subsystem"], "command": ["netconf"]}, subsystem_request("netconf").operations)
    assert not allowed({"actions": ["subsystem"], "command": ["netconf"]}, subsystem_request("other").operations)
    assert subsystem_request("sftp").operations[0].attributes["free"] is True
    assert not allowed({}, subsystem_request("sftp").operations, "deny")
    assert allowed({"actions": ["subsystem"]}, subsystem_request("sftp").operations, "deny")


# --- environment ---


def test_variables_belong_to_programs() -> None:
    spec = {"actions": ["exec"], "command": ["deploy *"], "env": ["RELEASE", "DEPLOY_*"]}
    program = exec_request("deploy 7", pty=False)
    assert allowed(spec, program.operations)
    assert allowed(spec, env_request("RELEASE", "7", program))
    assert allowed(spec, env_request("DEPLOY_X", "7", program))
    assert not allowed(spec, env_request("OTHER", "7", program))
    assert not allowed(spec, env_request("RELEASE", "7", exec_request("other", pty=False)))
    assert not allowed(spec, env_request("RELEASE", "7", shell_request(pty=False)))
    assert not allowed({"actions": ["exec"]}, env_request("RELEASE", "7", program))
    assert not allowed({}, env_request("RELEASE", "7", program))
    assert allowed({"actions": ["env"], "env": ["RELEASE"]}, env_request("RELEASE", "7", exec_request("a > b", pty=False)))
    assert not allowed({"env": ["*"]}, env_request("bad name", "7", program))
    assert not allowed(spec, env_request("RELEASE", "7", exec_request("deploy 7; id", pty=False)))


@pytest.mark.parametrize("name", [entry.replace("*", "X") for entry in DANGEROUS])
def test_a_glob_does_not_cover_what_loads_or_runs_something_else_t47(name: str) -> None:
    variable = env_request(name, "/tmp/x.so", exec_request("a", pty=False))
    assert not allowed({"actions": ["exec"], "env": ["*"]}, variable)
    assert allowed({"actions": ["exec"], "env": [name]}, variable)
    assert allowed({"actions": ["exec"], "env": ["*"]}, variable, "deny")


@pytest.mark.parametrize(("name", "value", "free"), [
    ("LANG", "de_DE.UTF-8", True), ("LC_ALL", "C", True), ("LC_PAPER", "", True), ("TZ", "Europe/Berlin", True), ("TZ", "<+01>-1", True),
    ("TZ", ":/etc/shadow", False), ("TZ", "/etc/shadow", False), ("TZ", "../../etc/x", False), ("LANG", "../../tmp/x", False),
    ("LANG", "a b", False),
    ("LANGUAGE", "de", False), ("lang", "C", False), ("LC_ALL", "$(id)", False), ("PATH", "C", False)])
def test_what_needs_no_rule(name: str, value: str, free: bool) -> None:
    [variable] = env_request(name, value, exec_request("a", pty=False))
    assert (variable.attributes.get("free") is True) is free
    assert not allowed({"actions": ["exec"]}, (variable,), "deny")
    assert allowed({"env": ["*"]}, (variable,), "deny")


# --- files ---


@pytest.mark.parametrize(("pattern", "path", "wanted"), [
    ("/x/**", "/x", True), ("/x/**", "/x/a/b", True), ("/x/**", "/xy", False), ("/x/**", "/x/../y", False), ("/x/*", "/x/a", True),
    ("/x/*", "/x/a/b", False),
    ("/x/*", "/x", False), ("/x/?.log", "/x/a.log", True), ("/x", "/x/", True), ("/x", "/x/a", False), ("/**", "/", True),
    ("/**", "/a", True),
    ("/x/**/y", "/x/y", True), ("/x/**/y", "/x/a/b/y", True), ("/x/**.log", "/x/a/b.log", True), ("/X/**", "/x/a", False),
    ("/x/[a]", "/x/[a]", True)])
def test_paths(pattern: str, path: str, wanted: bool) -> None:
    assert allowed({"actions": ["read"], "paths": [pattern]}, file_request("read", path)) is wanted


def test_paths_speak_of_files_alone() -> None:
    spec = {"paths": ["/x/**"]}
    assert allowed(spec, file_request("write", "/x/a"))
    assert not allowed(spec, exec_request("cat /x/a", pty=False).operations)
    assert not allowed(spec, file_request("read", "x/a"))
    assert allowed(spec, file_request("read", "x/a"), "deny")
    assert not allowed({"actions": ["read"], "paths": ["/x/**"]}, file_request("write", "/x/a"))


def test_where_links_lead_is_decided_too_t50() -> None:
    spec = {"actions": ["read"], "paths": ["/x/**"]}
    assert allowed(spec, file_request("read", "/x/a", resolved="/x/b"))
    assert not allowed(spec, file_request("read", "/x/a", resolved="/etc/shadow"))
    assert len(file_request("read", "/x/./a", resolved="/x/a")) == 1


def test_names_that_are_no_utf_8_are_compared_too() -> None:
    name = b"/x/\xff".decode("utf-8", "surrogateescape")
    [operation] = file_request("read", name)
    assert operation.objects == ("/x/\\udcff",)
    assert allowed({"paths": ["/x/?"]}, (operation,))
    assert not allowed({"paths": ["/x/a"]}, (operation,))


def test_a_whole_folder_needs_all_of_it_and_is_denied_by_any_part() -> None:
    found = exec_request("rsync --server -r . /srv/www", pty=False).operations
    for pattern, wanted in (("/srv/www/**", True), ("/srv/**", True), ("/**", True), ("/srv/www", False), ("/srv/*", False),
        ("/srv/www/*", False),
                            ("/srv/www/a/**", False), ("/srv/other/**", False)):
        assert allowed({"paths": [pattern]}, found) is wanted, pattern
    for pattern, wanted in (("/srv/www/secret", True), ("/srv/www/a/b/**", True), ("/srv/*/secret", True), ("/srv/**", True),
        ("/srv/www", True),
                            ("/**/secret", True), ("/srv/other", False), ("/srv/other/**", False), ("/srv", False), ("/etc/*", False)):
        assert allowed({"paths": [pattern]}, found, "deny") is wanted, pattern


# --- forwards ---


@pytest.mark.parametrize(("pattern", "to", "wanted"), [
    ("db.example:5432", "db.example:5432", True), ("db.example:5432", "DB.Example.:5432", True),
    ("db.example:5432", "db.example:5433", False),
    ("*.example:443", "a.example:443", True), ("*.example:443", "a.b.example:443", False), ("**.example:443", "a.b.example:443", True),
    ("*.example:443", "example:443", False), ("10.0.0.*:80", "10.0.0.7:80", True), ("10.0.0.*:80", "10.0.0.7.evil:80", False),
    ("*:80", "[::1]:80", True),
    ("[::1]:80", "0:0:0:0:0:0:0:1:80", True), ("[::1]:80", "[0:0::1]:80", True), ("127.0.0.1:80", "::ffff:127.0.0.1:80", True),
    ("localhost:8000-8999", "localhost:8080", True), ("localhost:8000-8999", "localhost:9000", False), ("localhost:*", "localhost:1", True),
    ("*:80", "unix:/run/x:80", False)])
def test_destinations_t47(pattern: str, to: str, wanted: bool) -> None:
    assert allowed({"actions": ["forward-local"], "to": [pattern]}, forward_request("forward-local", to).operations) is wanted


@pytest.mark.parametrize("to", ["127.1:80", "0x7f000001:80", "2130706433:80", "0177.0.0.1:80", "h:0", "h:65536", "h:", ":80", "h",
    "a b:80", "h\0:80", "*:80",
                                "h:８０", "-h:80", "a..b:80", "[fe80::1%eth0]:80", "::1%x y:80"])
def test_an_odd_destination_is_refused(to: str) -> None:
    found = forward_request("forward-local", to)
    assert found.refusal
    assert not allowed({"to": ["*:*"]}, found.operations)
    assert allowed({"to": ["x:1"]}, found.operations, "deny")


@pytest.mark.parametrize(("to", "wanted"), [
    ("127.1:80", "write 127.0.0.1"), ("0x7f000001:80", "write 127.0.0.1"), ("2130706433:80", "write 127.0.0.1"),
    ("0177.0.0.1:80", "write 127.0.0.1"), ("010.0.0.1:80", "write 8.0.0.1"), ("127.0.0.1.:80", "write 127.0.0.1"),
    ("1.2.3.256:80", "write all four"),
    ("999.1:80", "write all four"), ("09.0.0.1:80", "write all four"), ("0:80", "write 0.0.0.0"),
    ("[127.0.0.1]:80", "write 127.0.0.1"), ("[::ffff:10.0.0.1]:80", "write 10.0.0.1"), ("[fe80::1%eth0]:80", "an IPv6 address"),
    ("db.example.:80", "write 'db.example'"), ("*.example.:80", "write '*.example'"), ("a..b:80", "which is none"),
    (".example:80", "which is none"),
    ("-db:80", "which is none"), ("10.0.*:80", "all four parts"), ("127.*:80", "all four parts"), ("010.*.*.*:80", "all four parts"),
    ("10.0.0.300*.1:80", "all four parts"), ("::1:80", "[::1]")])
def test_a_destination_that_could_never_match_is_refused(to: str, wanted: str) -> None:
    for effect in ("allow", "approve", "deny"):
        with pytest.raises(ValueError, match=r"^to: ") as wrong:
            compile_matcher({"actions": ["forward-local"], "to": [to]}, effect)
        assert wanted in str(wrong.value)


@pytest.mark.parametrize(("to", "there"), [
    ("10.*.*.*", "10.1.2.3"), ("10.**", "10.1.2.3"), ("1?.0.0.1", "10.0.0.1"), ("*.0.0.1", "10.0.0.1"), ("web-1*", "web-12"),
    ("1.web", "1.web"),
    ("*-1.example", "web-1.example"), ("_srv.example", "_srv.example"), ("[0:0::1]", "::1"), ("**", "a.b"), ("*.*", "a.b"), ("1*", "1a"),
    ("**.example", "a.b.example"), ("[2001:DB8::1]", "2001:db8:0::1"), ("0.0.0.0", "0.0.0.0"), ("DB.Example", "db.example")])
def test_a_destination_that_can_match_does(to: str, there: str) -> None:
    assert allowed({"actions": ["forward-local"], "to": [f"{to}:80"]}, forward_request("forward-local", f"{there}:80").operations)


@given(st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-z0-9_.?*:%x-]{1,20}", fullmatch=True)))
def test_every_host_can_be_named_as_it_is_decided(host: str) -> None:
    """The canonical form of whatever is served is a pattern that matches it."""
    try:
        form = hostnames.canonical(host, listening=False)
    except ValueError:
        return
    assert hostnames.pattern(form)(form)


def test_each_kind_of_forward_is_its_own_t47() -> None:
    assert allowed({"actions": ["forward-remote"], "to": ["*:8080"]}, forward_request("forward-remote", ":8080").operations)
    assert not allowed({"actions": ["forward-remote"], "to": ["localhost:8080"]}, forward_request("forward-remote", "*:8080").operations)
    assert not allowed({"actions": ["forward-local"]}, forward_request("forward-remote", "localhost:8080").operations)
    assert allowed({"actions": ["forward-socket"], "to": ["unix:/run/*.sock"]},
        forward_request("forward-socket", "unix:/run/./a.sock").operations)
    assert not allowed({"actions": ["forward-socket"], "to": ["unix:/run/*"]},
        forward_request("forward-socket", "unix:/run/../etc/a").operations)
    assert forward_request("forward-socket", "run/a").refusal
    for kind in ("agent", "x11"):
        assert not allowed({"actions": ["forward-local"]}, forward_request(kind, "").operations)
        assert allowed({"actions": [kind]}, forward_request(kind, "").operations)


def test_ssh_inside_of_ssh_is_marked_t47() -> None:
    assert forward_request("forward-local", "localhost:22").operations[0].attributes["nested"] is True
    assert "nested" not in forward_request("forward-local", "localhost:2200").operations[0].attributes


# --- what is wrong ---


@pytest.mark.parametrize(("spec", "wanted"), [
    ({"action": ["exec"]}, "unknown key 'action': expected one of"), ({"actions": ["run"]}, "actions: expected actions"),
    ({"actions": ["exce"]}, "did you mean 'exec'"), ({"actions": []}, "actions: expected text"),
    ({"command": [1]}, "command: expected text"),
    ({"command": ["a > b"]}, "command: expected the pattern of a simple command"),
    ({"command": ["a; b"]}, "command: expected one simple command"),
    ({"command": ["a [b]"]}, "glob"), ({"command": ["a h:/x/../*"]}, "without `..`"),
    ({"paths": ["x/**"]}, "paths: expected an absolute path"), ({"paths": ["/x/../y"]}, "paths: expected an absolute path"),
    ({"to": ["h"]}, "to: expected HOST:PORT"), ({"to": ["h:99999"]}, "to: expected HOST:PORT"), ({"to": ["[x]:1"]}, "to: expected an IPv6"),
    ({"env": ["A", "GIT_*"]}, "env: expected such variables named in full: 'GIT_*'"), ({"env": ["LD_?"]}, "env: expected such variables"),
    ({"env": ["A B"]}, "env: expected names"), ({"pty": "no"}, "pty: expected true or false"),
    ({"actions": ["exec"], "paths": ["/x"]}, "actions: expected a rule of its own for exec"),
    ({"actions": ["read"], "command": ["a"]}, "actions: expected a rule of its own for read"),
    ({"actions": ["agent"], "to": ["h:1"]}, "actions: expected a rule of its own for agent"),
    ({"command": ["x" * 5000 + "*"]}, "at most 4096")])
def test_what_cannot_be_meant(spec: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValueError, match="expected") as wrong:
        compile_matcher(spec, "allow")
    assert wanted in str(wrong.value)
