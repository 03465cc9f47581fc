# SPDX-License-Identifier: Apache-2.0
"""Whole sessions: a pseudo terminal, a real recorder process, a real shell."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.break_glass import transcript
from gateway.break_glass.log import ConsoleLog
from gateway.break_glass.recorder import Recorder
from gateway.break_glass.request import receive_answer
from gateway.break_glass.settings import load
from tests.unit.break_glass.console import PATIENCE, Console, gone, shell_of


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    found = Console(tmp_path)
    yield found
    found.close()


def test_t61_break_glass_works_alone_and_is_recorded_and_told(console: Console) -> None:
    """No gateway, no network, no identity provider: a log folder and a terminal are all there is."""
    with console.recorder() as (process, login):
        answer = console.ask(login)
        assert answer["seconds"] == 3600
        begin, = console.records("break-glass.begin")       # on disk before anything was shown
        console.type("echo one-$((40 + 2))\n")
        console.expect("one-42")
        console.type("exit 3\n")
        assert receive_answer(login) == {"ended": "the shell ended with status 3"}
        assert process.wait(PATIENCE) == 0
    end, = console.records("break-glass.end")
    assert (begin["person"], begin["reason"], begin["origin"]) == ("Dana Example", "gateway hangs", "plant-a-1/console")
    assert begin["tty"] == console.settings["terminals"][0] and begin["host"]
    assert (end["begin"], end["status"], end["session"]) == (begin["seq"], "ok", answer["session"])
    assert "echo one-$((40 + 2))\n" in "".join(event.data for event in console.events() if event.type == "i").replace("\r", "\n")
    assert "one-42" in "".join(event.data for event in console.events() if event.type == "o")
    report = console.verify()
    assert report.status == 0 and report.origins["plant-a-1/console"]["recordings"] == len(console.records("break-glass.data"))
    assert [fields["LOCKGATE_EVENT"] for _, fields in console.alerts()] == ["break-glass.begin", "break-glass.end"]
    assert "Dana Example" in console.alerts()[0][0]


def test_t61_a_killed_recorder_ends_the_shell_and_is_seen(console: Console) -> None:
    with console.recorder() as (process, login):
        console.ask(login)
        console.type("echo re''ady; sleep 1000\n")
        console.expect("ready")
        shell = shell_of(process.pid)
        process.kill()
        assert gone(shell)
        assert receive_answer(login) == {}      # the login program sees that the recorder is gone
    assert console.records("break-glass.end") == []
    told: list[str] = []
    assert Recorder(*load(console.file), tell=lambda text, fields: told.append(text)).settle() == 1
    end, = console.records("break-glass.end")
    assert (end["status"], end["person"]) == ("orphaned", "Dana Example")
    assert "lost its recorder" in told[0]
    assert console.verify().status == 0


@pytest.mark.parametrize(("person", "reason", "why"), [
    ("", "the gateway hangs", "the name needs"), ("Dana", "", "the reason needs"), ("Dana", "x\x1b[2Jyyyy", "cannot be shown"),
    ("Dana\u202egnp", "the gateway hangs", "cannot be shown"), ("D" * 81, "the gateway hangs", "the name needs"),
])
def test_t61_nothing_stated_no_shell(console: Console, person: str, reason: str, why: str) -> None:
    with console.recorder() as (process, login):
        assert why in console.ask(login, person, reason)["refused"]
        assert process.wait(PATIENCE) == 1
    assert console.records("break-glass.begin") == []
    refused, = console.records("break-glass.refused")
    assert why in refused["reason"]
    assert console.alerts()[0][1]["LOCKGATE_EVENT"] == "break-glass.refused"


def test_t61_no_terminal_of_the_machine_no_shell(tmp_path: Path) -> None:
    """A login over SSH has a pseudo terminal, which is none of these."""
    console = Console(tmp_path, terminals=["tty[0-9]*", "ttyS[0-9]*"])
    with console.recorder() as (process, login):
        assert "not a terminal of this machine" in console.ask(login)["refused"]
        assert process.wait(PATIENCE) == 1
    assert console.records("break-glass.begin") == [] and console.records("break-glass.refused")
    console.close()


def test_t61_no_record_no_shell(console: Console, tmp_path: Path) -> None:
    console.state.mkdir(mode=0o700)
    (console.state / "audit").write_text("a file where the log has to be")
    with console.recorder() as (process, login):
        assert "refused" in console.ask(login)
        assert process.wait(PATIENCE) == 1
    assert console.alerts()[0][1]["LOCKGATE_EVENT"] == "break-glass.refused"


def test_one_session_at_a_time(console: Console) -> None:
    with console.recorder() as (_, login), console.recorder() as (other, second):
        assert "session" in console.ask(login)
        assert console.ask(second) == {"refused": "another break-glass session is open"}
        assert other.wait(PATIENCE) == 1


def test_the_login_that_goes_away_ends_the_session(console: Console) -> None:
    with console.recorder() as (process, login):
        console.ask(login)
        shell = shell_of(process.pid)
        login.close()
        assert process.wait(PATIENCE) == 0
        assert gone(shell)
    assert console.records("break-glass.end")[0]["reason"] == "the login on the terminal ended"


def test_the_recorder_that_is_told_to_stop_says_so(console: Console) -> None:
    with console.recorder() as (process, login):
        console.ask(login)
        console.type("\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert console.records("break-glass.end")[0]["status"] == "stopped"


@pytest.mark.parametrize(("settings", "status"), [({"idle": "1s"}, "idle"), ({"max": "3s"}, "expired")])
def test_a_session_is_bounded(tmp_path: Path, settings: dict[str, str], status: str) -> None:
    console = Console(tmp_path, **settings)
    with console.recorder() as (process, login):
        console.ask(login)
        if status == "expired":
            console.expect("this session ends in")
        assert process.wait(PATIENCE) == 0
    assert console.records("break-glass.end")[0]["status"] == status
    console.close()


def test_what_may_not_be_recorded_is_not_shown(tmp_path: Path) -> None:
    console = Console(tmp_path, output="64KiB")
    with console.recorder() as (process, login):
        console.ask(login)
        console.type("while :; do echo 0123456789012345678901234567890123456789; done\n")
        while process.poll() is None:
            console.look()
        assert process.wait(PATIENCE) == 0
    assert console.records("break-glass.end")[0]["status"] == "full"
    assert len(console.seen) < 2 * 2**16 + 65536
    console.close()


def test_passwords_typed_at_a_prompt_are_not_recorded(console: Console) -> None:
    with console.recorder() as (_, login):
        console.ask(login)
        console.type("stty -echo; echo pas''sword:; read x; stty echo; echo th''anks\n")
        console.expect("password:")
        console.type("hunter2-secret\n")
        console.expect("thanks")
        console.type("exit\n")
        receive_answer(login)
    assert "h" in [event.type for event in console.events()]
    kept = b"".join(path.read_bytes() for path in console.state.rglob("*") if path.is_file())
    assert b"hunter2" not in kept
    assert "hunter2" not in str(console.events())


def test_broken_settings_do_not_lock_anybody_out(tmp_path: Path) -> None:
    file = tmp_path / "break-glass.yaml"
    file.write_text("max: [1\n")
    settings, problem = load(file)
    assert settings.max == 3600 and "break-glass.yaml" in problem
    file.write_text("unknown: 1\n")
    assert "unknown" in load(file)[1]
    assert load(tmp_path / "missing.yaml")[1] == ""


def test_a_damaged_log_is_kept_and_a_new_one_begins(console: Console) -> None:
    settings, _ = load(console.file)
    with ConsoleLog.open(settings) as log:
        log.record("break-glass.refused", {"reason": "first"})
    database = console.state / "audit" / "000001.db"
    with sqlite3.connect(database) as changed:
        changed.execute("UPDATE batch SET body = x'00' WHERE first = (SELECT max(first) FROM batch)")
    changed.close()
    with ConsoleLog.open(settings) as log:
        log.record("break-glass.refused", {"reason": "second"})
    opened, = console.records("audit.opened")
    assert (console.state / opened["damaged"] / "audit" / "000001.db").is_file()
    assert console.verify().status == 0


def test_list_and_replay_show_it_escaped(console: Console) -> None:
    with console.recorder() as (process, login):
        session = console.ask(login)["session"]
        console.type("printf '\\033]52;c;eA\\007be''ll\\n'\n")
        console.expect("bell")
        console.type("exit\n")
        assert process.wait(PATIENCE) == 0
    one, = transcript.sessions(console.state)
    assert (one["session"], one["person"], one["status"]) == (session, "Dana Example", "ok")
    text = "\n".join(line for frame in transcript.frames(console.state, session[:6]) for line in frame.lines)
    assert "\\x1b]52" in text and "bell" in text and "gateway hangs" in text
    assert "\x1b" not in text and "\x07" not in text
