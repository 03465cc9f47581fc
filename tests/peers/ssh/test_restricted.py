# SPDX-License-Identifier: Apache-2.0
"""The restricted shell as OpenSSH's client has it, on a terminal and without: each line is decided and run by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.testing.openssh import SshServer
from tests.peers.ssh.test_openssh import Terminal
from tests.peers.ssh.way import QUIET, Document, Way, running

TYPED = b"\x1b[?2004h"
NOISY = "head -c 300000 /dev/zero | tr '\\0' x"
READY, CAT = "echo ready; exec sleep 55", "echo ready; cat"
"""What has begun says so: what is typed before is a line of its own."""
RAW = "stty raw -echo; echo raw; head -c 3 | od -An -tx1; stty sane"
"""A program that takes the terminal, and what is pressed, for itself."""
RULES: list[Document] = [
    {"name": "lines", "allow": {"ssh": {"actions": ["restricted-shell"]}}},
    {"name": "commands", "allow": {"ssh": {"actions": ["exec"], "command": [
        "echo *", "printf *", "tty", "cat *", "sleep *", "stty size", "true", "false", "env", "pwd", "cd *", "sh -c 'kill -TERM $$'"]}}},
    {"name": "texts", "allow": {"ssh": {"actions": ["exec"], "text": [NOISY, RAW, READY, CAT]}}},
    {"name": "zone", "allow": {"ssh": {"actions": ["env"]}}},
    {"name": "held", "approve": {"ssh": {"actions": ["exec"], "command": ["printf held *"]}}, "by": "one-dba"},
    {"name": "never", "deny": {"ssh": {"actions": ["shell", "exec"], "command": ["reboot *"]} | {"actions": ["exec"]}}},
    {"name": "no shell", "deny": {"ssh": {"actions": ["shell"]}}},
]


def change(way: Way) -> None:
    grant = way.grant("lines")
    grant.pop("statement")
    grant["rules"] = [dict(rule) for rule in RULES]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory, sshd: SshServer) -> Iterator[Way]:
    """web-2 gives a restricted shell."""
    with running(tmp_path_factory.mktemp("restricted"), sshd, change) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path, sshd: SshServer) -> Iterator[Way]:
    with running(tmp_path / "gateway", sshd, change) as made:
        yield made


@contextmanager
def shell(way: Way, *, status: int = 0) -> Iterator[Terminal]:
    """At its prompt; left by Ctrl-D at the end."""
    terminal = Terminal(way, to="web-2")
    terminal.until(TYPED)
    yield terminal
    terminal.type("\x04")
    assert terminal.wait() == status


def texts(way: Way) -> list[str]:
    """What was asked for in the newest session, in turn."""
    newest = way.records("session.start")[-1]["session"]
    way.last("session.end", session=newest)
    return [one["text"] for one in way.records("command.begin") if one["session"] == newest]


def answer(terminal: Terminal, keys: str) -> str:
    """What is on the screen from these keys to the next prompt."""
    terminal.type(keys)
    return terminal.until(TYPED).decode()


# --- without a terminal


def test_lines_of_a_stream(lines: Way) -> None:
    """Each is decided by itself, a denied one does not end it, no program takes the lines behind it as its input."""
    given = b"echo one\nreboot\n\necho two > /tmp/x\ncat\necho three\nexit 7\necho never\n"
    done = lines.ssh(to="web-2", given=given, before=[*QUIET, "-T"])
    assert (done.returncode, done.stdout) == (7, b"one\nthree\n")
    assert done.stderr.count(b"lockgate: denied: ") == 2
    assert texts(lines) == ["restricted-shell", "echo one", "reboot", "echo two > /tmp/x", "cat", "echo three"]
    begun = lines.records("command.begin")[-6:]
    assert [one["verb"] for one in begun] == ["restricted-shell", *["exec"] * 5]
    end = lines.last("command.end", begin=begun[0]["seq"])
    assert end["exit_status"] == 7


@pytest.mark.parametrize(("given", "status"), [
    (b"", 0), (b"true\nfalse\n", 1), (b"false\ntrue", 0), (b"reboot\n", 126), (b"sh -c 'kill -TERM $$'\n", 143), (b"false\nlogout\n", 1),
    (b"\n \n", 0), (b"false\nhelp\n", 0)])
def test_the_status_is_that_of_the_last_line(lines: Way, given: bytes, status: int) -> None:
    assert lines.ssh(to="web-2", given=given, before=[*QUIET, "-T"]).returncode == status


def test_a_large_output_and_what_is_refused_whole(lines: Way) -> None:
    given = NOISY.encode() + b"\n" + b"echo " + b"x" * 70_000 + b"\nscp -t /tmp/x\necho \xff\necho a\0b\necho last\n"
    done = lines.ssh(to="web-2", given=given, before=[*QUIET, "-T"])
    assert done.stdout == b"x" * 300_000 + b"last\n"
    assert done.stderr.count(b"lockgate: denied: ") == 4
    assert b"a line has at most 65536 bytes" in done.stderr


def test_nothing_lasts_from_one_line_to_the_next(lines: Way) -> None:
    done = lines.ssh(to="web-2", given=b"pwd\ncd /tmp\npwd\nexport A=1\nenv\n", before=[*QUIET, "-T", "-o", "SetEnv=TZ=UTC"])
    first, second, *rest = done.stdout.split(b"\n")
    assert first == second
    assert b"TZ=UTC" in rest
    assert not [one for one in rest if one.startswith(b"A=")]


# --- on a terminal


def test_a_program_has_the_terminal_while_it_runs(lines: Way) -> None:
    with shell(lines) as terminal:
        assert "/dev/pts/" in answer(terminal, "tty\r")
        assert "24 80" in answer(terminal, "stty size\r")
        terminal.resize(40, 132)
        assert "40 132" in answer(terminal, "stty size\r")
        terminal.type(RAW + "\r")
        terminal.until(b"\nraw")
        assert "03 1b 04" in answer(terminal, "\x03\x1b\x04")
        terminal.type(CAT + "\r")
        terminal.until(b"\nready")
        terminal.type("reboot\r")
        terminal.until(b"reboot\r\nreboot\r\n")
        answer(terminal, "\x04")
    assert texts(lines) == ["restricted-shell", "tty", "stty size", "stty size", RAW, CAT]


def test_output_without_a_line_end_stays_on_the_screen(lines: Way) -> None:
    with shell(lines) as terminal:
        assert answer(terminal, "printf abc\r").endswith("abc\r\n" + TYPED.decode())


def test_what_is_denied_is_said_and_the_prompt_comes_back(lines: Way) -> None:
    with shell(lines, status=126) as terminal:
        said = answer(terminal, "reboot\r")
        assert "lockgate: denied: " in said
        assert "lines/never" in said
    with shell(lines) as terminal:
        assert "no history expansion" in answer(terminal, "help\r")
    assert texts(lines) == ["restricted-shell"]


def test_a_held_line_waits_and_is_told_of(lines: Way) -> None:
    with shell(lines) as terminal:
        terminal.type("printf held one\r")
        held = lines.vote()
        assert held["text"] == "printf held one"
        said = answer(terminal, "")
        assert held["id"] in said
        assert "held\r\n" in said


def test_ctrl_c_takes_a_held_line_back_and_what_was_typed_behind_it_t49(lines: Way) -> None:
    with shell(lines, status=126) as terminal:
        terminal.type("printf held two\r")
        terminal.until(b"lockgate: held: ")
        held = lines.pending()[0]
        terminal.type("echo typed ahead\r")
        said = answer(terminal, "\x03")
        assert "withdrawn" in said
        assert "typed ahead" not in said
    assert lines.last("approval.withdrawn", id=held["id"])
    assert texts(lines) == ["restricted-shell", "printf held two"]


def test_ctrl_c_forgets_a_line_and_interrupts_a_program_t49(lines: Way) -> None:
    with shell(lines, status=0) as terminal:
        terminal.type("echo never")
        terminal.type("\x03")
        terminal.until(b"^C\r\n")
        assert "\r\nright\r\n" in answer(terminal, "echo right\r")
        terminal.type(READY + "\r")
        terminal.until(b"\nready")
        answer(terminal, "\x03")
        assert "\r\nafter\r\n" in answer(terminal, "echo after\r")
    assert texts(lines) == ["restricted-shell", "echo right", READY, "echo after"]
    assert lines.last("command.end", error="signal INT")


def test_a_paste_is_decided_as_it_stands_on_the_screen_t49(lines: Way) -> None:
    """Marked as a paste: one line, which waits for Enter; not marked: lines, each of them decided."""
    with shell(lines) as terminal:
        terminal.type("\x1b[200~echo pasted\rreboot\r\x1b[201~")
        terminal.until(b"this one is not taken\r\n")
        terminal.type("\x1b[200~\x15echo \x1b[A\x03\x1b[201~")
        terminal.until(b"this one is not taken\r\n")
        terminal.type("\x1b[200~echo one line\n\x1b[201~")
        terminal.until(b"echo one line")
        assert "\r\none line.\r\n" in answer(terminal, ".\r")
        terminal.type("echo first\rreboot\recho second\r")
        terminal.until(b"\r\nfirst\r\n")
        terminal.until(b"lockgate: denied: ")
        terminal.until(b"\r\nsecond\r\n")
        terminal.until(TYPED)                   # a program that runs has the keys
    assert texts(lines) == ["restricted-shell", "echo one line.", "echo first", "reboot", "echo second"]


def test_a_line_out_of_the_history_is_decided_as_it_was_edited_t49(lines: Way) -> None:
    with shell(lines, status=126) as terminal:
        assert "\r\none\r\n" in answer(terminal, "echo one\r")
        assert "\r\ntwo\r\n" in answer(terminal, "\x1b[A\x17two\r")
        assert "\r\none\r\n" in answer(terminal, "\x1b[A\x1bOA\r")
        assert "lockgate: denied: " in answer(terminal, "\x1b[A\x01\x0breboot\r")
        assert "\r\nthree\r\n" in answer(terminal, "reboot\x15ecxho\x1b[D\x1b[D\x7f\x05 three\r")
        assert "exclamation mark" in answer(terminal, "echo !!\r")
    assert texts(lines) == ["restricted-shell", "echo one", "echo two", "echo one", "reboot", "echo three", "echo !!"]


def test_an_answer_of_the_terminals_types_nothing_t53(lines: Way) -> None:
    """A program asks the terminal for its title, its colours, its state: what comes back is no text."""
    with shell(lines) as terminal:
        terminal.type("\x1b]lreboot\x1b\\\x1b]11;rgb:0/0/0\x07\x1bP1$r0m\x1b\\\x1b[?1;2c\x1b[24;80R\x1b[<0;1;1M")
        assert "\r\nright\r\n" in answer(terminal, "echo right\r")
    assert texts(lines) == ["restricted-shell", "echo right"]


def test_what_the_shell_shows_is_masked_and_replayed(own: Way) -> None:
    own.document["masks"] = [{"name": "keys", "detect": {"aws-access-key": "redact"}}]
    own.grant("lines")["masks"] = ["keys"]
    own.reload()
    with shell(own) as terminal:
        said = answer(terminal, "echo AKIAIOSFODNN7EXAMPLE\r")
        assert "IOSFODNN7" not in said
    newest = own.records("session.start")[-1]["session"]
    shown = [line for line in own.appliance.run("replay", newest, "--speed", "0").splitlines() if line.lstrip().startswith("|")]
    assert any("$ echo ****" in line for line in shown)
    assert {line.strip() for line in shown if "IOSFODNN7EXAMPLE" in line} <= {"| echo AKIAIOSFODNN7EXAMPLE"}      # what was asked for


# --- limits


@pytest.mark.parametrize(("limits", "why"), [
    ({"idle": "2s"}, b"idle for 2 s"), ({"max": "3s"}, b"longest duration"), ({"denials": 2}, b"2 denied commands")])
def test_limits_hold_inside(own: Way, limits: Document, why: bytes) -> None:
    own.grant("lines")["session"] = limits
    own.reload()
    terminal = Terminal(own, to="web-2")
    terminal.until(b"@web-2$ ")
    if "denials" in limits:
        terminal.type("reboot\rreboot\r")
    terminal.until(why)
    assert terminal.wait() == 255


def test_a_program_that_runs_is_not_idle_and_a_prompt_is(own: Way) -> None:
    own.grant("lines")["session"] = {"idle": "2s"}
    own.reload()
    terminal = Terminal(own, to="web-2")
    terminal.until(b"@web-2$ ")
    terminal.type("sleep 4\r")
    terminal.until(b"@web-2$ ")
    terminal.until(b"idle for 2 s")
    assert terminal.wait() == 255


def test_sessions_end_while_a_line_runs_and_while_one_is_held(own: Way) -> None:
    for keys in ("sleep 50\r", "printf held three\r", ""):
        terminal = Terminal(own, to="web-2")
        terminal.until(b"@web-2$ ")
        before = len(own.records("command.begin"))
        terminal.type(keys)
        if "held" in keys:
            terminal.until(b"lockgate: held: ")
        elif keys:
            own.until(lambda known=before: len(own.records("command.begin")) > known, "it did not begin")     # type: ignore[misc]
        newest = own.records("session.start")[-1]["session"]
        own.appliance.run("sessions", "end", newest, "--reason", "tested", "--token-file", str(own.appliance.token_file("ines")))
        terminal.until(b"session ended: ")
        assert terminal.wait() == 255
        assert own.last("session.end", session=newest)
    assert not own.pending()


def test_a_grant_that_is_gone_ends_the_shell(own: Way) -> None:
    terminal = Terminal(own, to="web-2")
    terminal.until(b"@web-2$ ")
    own.grant("lines")["rules"] = [rule for rule in RULES if rule["name"] != "lines"]
    own.reload()
    terminal.until(b"lockgate: denied: ")
    assert terminal.wait() == 126


def test_the_whole_shell_is_given_where_both_are_allowed(own: Way) -> None:
    own.grant("lines")["rules"] = [{"name": "all", "allow": {"ssh": {"actions": ["shell", "restricted-shell"]}}}]
    own.reload()
    done = own.ssh(to="web-2", given=b"A=1; echo a$A\n", before=[*QUIET, "-T"])
    assert done.stdout == b"a1\n"
    assert texts(own) == ["shell"]
