# SPDX-License-Identifier: Apache-2.0
"""Requests to operations: commands, scp and rsync, links, names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.ssh.transfers import RSYNC_LETTERS, RSYNC_LONG
from gateway.protocols.ssh.understand import (
    LONGEST,
    env_request,
    exec_request,
    file_request,
    rename_request,
    restricted_request,
    shell_request,
    subsystem_request,
    symlink_request,
)


def verbs(text: str) -> list[str]:
    return [one.verb for one in exec_request(text, pty=False).operations]


def test_a_command_is_an_operation_for_each_of_its_simple_commands() -> None:
    found = exec_request("a /x/../y; b; a /x/../y", pty=True)
    assert [(one.verb, one.objects, one.attributes["words"]) for one in found.operations] == [
        ("exec", ("a",), ("a", "/y")), ("exec", ("b",), ("b",))]
    assert all(one.attributes["text"] == "a /x/../y; b; a /x/../y" and one.attributes["pty"] is True for one in found.operations)


def test_what_is_not_simple_has_its_reason() -> None:
    [one] = exec_request("a > b", pty=False).operations
    assert one.objects == ("a text with a redirection",)
    assert (one.attributes["words"], one.attributes["text"], one.attributes["complex"]) == ((), "a > b", "a redirection")


@pytest.mark.parametrize("text", ["a\0b", "a \udcff", "\ud800", "x" * (LONGEST + 1)])
def test_what_cannot_run_whatever_rules_say_t49(text: str) -> None:
    found = exec_request(text, pty=False)
    assert found.refusal
    assert found.operations[0].attributes["complex"]
    for one in found.operations:
        str(one).encode()       # fit for a record


def test_others() -> None:
    assert [one.verb for one in shell_request(pty=True).operations] == ["shell"]
    assert [one.verb for one in restricted_request(pty=True).operations] == ["restricted-shell"]
    assert subsystem_request("sftp").operations[0].attributes["name"] == "sftp"
    assert subsystem_request("a b").refusal
    assert subsystem_request("\udcff").refusal


def test_files() -> None:
    assert [(one.verb, one.objects) for one in rename_request("/a/./b", "/c")] == [("rename", ("/a/b",)), ("rename", ("/c",))]
    assert [(one.verb, one.objects) for one in symlink_request("/a/link", "../etc/x")] == [
        ("symlink", ("/a/link",)), ("read", ("/etc/x",)), ("write", ("/etc/x",))]
    [one] = file_request("read", "relative")
    assert (one.objects, one.attributes["path"]) == (("relative",), "")


# --- scp ---


@pytest.mark.parametrize(("text", "sends", "paths", "recursive"), [
    ("scp -t /x", True, ("/x",), False), ("scp -r -p -d -t -- /x", True, ("/x",), True), ("scp -rpdt /x", True, ("/x",), True),
    ("scp -f /x /y", False, ("/x", "/y"), False), ("scp -v -f '/a b'", False, ("/a b",), False),
    ("/usr/bin/scp -t /x", True, ("/x",), False),
    ("scp -t -- -x", True, ("-x",), False), ("scp -t x/../y", True, ("x/../y",), False)])
def test_scp(text: str, sends: bool, paths: tuple[str, ...], recursive: bool) -> None:
    found = exec_request(text, pty=False)
    assert found.files is not None
    assert (found.files.kind, found.files.sends, found.files.paths, found.files.recursive) == ("scp", sends, paths, recursive)
    assert {one.verb for one in found.operations} == {"write" if sends else "read"}
    assert not any(one.attributes.get("tree") for one in found.operations)


@pytest.mark.parametrize("text", ["scp a b:c", "scp -r a b:", "scp -i key -F t a b:", "scp -S t x y", "scp", "/tmp/scp -t /x",
    "scpx -t /x", "scp a -t",
                                  "echo scp -t /x"])
def test_what_is_no_server_half_is_a_command_t49(text: str) -> None:
    found = exec_request(text, pty=False)
    assert (found.files, found.refusal) == (None, "")
    assert verbs(text) == ["exec"]


@pytest.mark.parametrize("text", ["scp -t -S x /x", "scp -oA=b -t /x", "scp -tF x /x", "scp -3 -t /x", "scp -tf /x", "scp -t",
    "scp -t /x /y", "scp -t ''",
                                  "scp -t -X a=b /x", "scp -tD x /x", "scp -Tt /x"])
def test_options_that_run_or_write_elsewhere_are_refused_t49(text: str) -> None:
    found = exec_request(text, pty=False)
    assert found.refusal
    assert found.files is None
    assert verbs(text) == ["exec"]


def test_scp_in_a_list_is_a_command_t49() -> None:
    found = exec_request("scp -t /x; id", pty=False)
    assert found.files is None
    assert verbs("scp -t /x; id") == ["exec", "exec"]


# --- rsync ---


@pytest.mark.parametrize(("options", "wanted"), [
    ("-e.LsfxC", "write stat"), ("-te.LsfxC", "write stat setattr"), ("-re.LsfxC", "write stat list mkdir"),
    ("-logDtpre.iLsfxCIvu", "write stat list mkdir setattr symlink"), ("-re.L --delete", "write stat list mkdir remove"),
    ("-re.L --delete-after --force", "write stat list mkdir remove"), ("-e.L --remove-source-files", "write stat remove"),
    ("-e.L --mkpath", "write stat list mkdir"), ("-e.L --chown=a:b", "write stat setattr"),
    ("--sender -logDtpre.iLsfxCIvu", "read list stat"), ("--sender -re.L --remove-source-files", "read list stat remove")])
def test_rsync(options: str, wanted: str) -> None:
    found = exec_request(f"rsync --server {options} . /x/y/", pty=False)
    assert found.refusal == ""
    assert found.files is not None
    assert (found.files.kind, found.files.sends, found.files.paths) == ("rsync", "--sender" not in options, ("/x/y/",))
    assert sorted(one.verb for one in found.operations) == sorted(wanted.split())
    assert all(one.objects == ("/x/y",) for one in found.operations)


def test_rsync_is_decided_for_all_that_is_below() -> None:
    assert all(one.attributes["tree"] for one in exec_request("rsync --server -re.L . /x", pty=False).operations)
    assert all(one.attributes["tree"] for one in exec_request("rsync --server -e.L . /x", pty=False).operations)
    assert not any(one.attributes.get("tree") for one in exec_request("rsync --server --sender -e.L . /x", pty=False).operations)


@pytest.mark.parametrize("options", [
    "-L", "-k", "-K", "-R", "-s", "-T", "-M", "-f", "-F", "--copy-links", "--copy-unsafe-links", "--keep-dirlinks", "--copy-dirlinks",
    "--relative",
    "--protect-args", "--secluded-args", "--temp-dir=/e", "--partial-dir=x", "--backup-dir=/e", "--link-dest=/e", "--copy-dest=/e",
    "--compare-dest=/e",
    "--files-from=/e", "--exclude-from=/e", "--log-file=/e", "--rsh=id", "--rsync-path=id", "--write-devices", "--copy-devices", "--daemon",
    "--config=/e", "--suffix=/e", "--suffix=..", "--timeout", "-e id", "-eid", "-e.'a b'", "--unknown", "--trust-sender",
    "--remote-option=-x",
    "--iconv=x", "--early-input=/e", "--password-file=/e", "--dparam=x", "--sockopts=x", "--munge-links", "--fake-super", "--old-args",
    "-- --delete"])
def test_options_of_rsync_that_leave_the_paths_are_refused_t50(options: str) -> None:
    found = exec_request(f"rsync --server -re.L {options} . /x", pty=False)
    assert found.refusal
    assert found.files is None


@pytest.mark.parametrize("text", ["rsync --server -r /x", "rsync --server -r .", "rsync --server -r . /x /y", "rsync --server -r . ''",
                                  "rsync --server -r . /x --delete", "rsync -r --server --sender . /x", "rsync --server"])
def test_odd_forms_are_refused(text: str) -> None:
    assert exec_request(text, pty=False).refusal


def test_no_letter_or_option_is_served_that_follows_links_or_hides_paths_t50() -> None:
    assert not set("LkKRsTMfF") & RSYNC_LETTERS
    assert not {"--copy-links", "--copy-unsafe-links", "--keep-dirlinks", "--copy-dirlinks", "--relative", "--secluded-args",
        "--daemon"} & RSYNC_LONG


@given(st.text(max_size=60), st.booleans())
def test_there_is_always_something_to_decide(text: str, pty: bool) -> None:
    found = exec_request(text, pty=pty)
    assert found.operations
    assert found.files is None or not found.refusal


@given(st.lists(st.sampled_from(["-t", "-f", "-r", "--", "-", "/x", "-S", "--server", "--sender", "-re.L", ".", "--delete", "-L", "''",
    "-x"]), max_size=7),
       st.sampled_from(["scp", "rsync"]))
def test_a_transfer_has_paths_of_its_own_words(words: list[str], program: str) -> None:
    found = exec_request(" ".join([program, *words]), pty=False)
    if found.files is not None:
        assert set(found.files.paths) <= {word for word in words if word != "''"}
        assert {one.verb for one in found.operations} & ({"write"} if found.files.sends else {"read"})
        assert not {"-S", "-L"} & set(words[:words.index(found.files.paths[0])]) - ({"-L"} if program == "scp" and "--" in words else set())


@pytest.mark.parametrize("value", ["\udcff", "a\0", "x" * (LONGEST + 1)])
def test_a_variable_whose_value_is_no_text_is_nobodys_t57(value: str) -> None:
    """Bytes that are no UTF-8 would be shown to an approver like the text that spells them."""
    assert [one.attributes["name"] for one in env_request("RELEASE", value, exec_request("a", pty=False))] == [""]
    assert [one.attributes["name"] for one in env_request("RELEASE", "\\xff", exec_request("a", pty=False))] == ["RELEASE"]
