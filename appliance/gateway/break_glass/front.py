# SPDX-License-Identifier: Apache-2.0
"""The login program of the account ``breakglass``: asks who and why, hands the terminal to the recorder, and waits. It has no rights."""

from __future__ import annotations

import os
import signal
import socket
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.break_glass.request import Request, receive_answer, send_request, stated
from gateway.errors import Refused

_TRIES = 3
_BANNER = """
BREAK GLASS. This gives a root shell on this machine for a bounded time.
It is recorded, key by key, and others are told now. State who you are and why.
"""


def run(place: Path, terminal: int = 0, ask: Callable[[str], str] = input) -> int:
    """0 after a session, 1 where there was none."""
    if not os.isatty(terminal):
        sys.stderr.write("break glass: only on a terminal of this machine\n")
        return 1
    sys.stdout.write(_BANNER)
    try:
        person, reason = _asked("name", "Your name: ", ask), _asked("reason", "Reason: ", ask)
    except (Refused, EOFError, KeyboardInterrupt) as problem:
        sys.stderr.write(f"\nno session: {str(problem) or 'nothing stated'}\n")
        return 1
    try:
        return _session(place, Request(person, reason, os.environ.get("TERM", "linux")), terminal)
    except (OSError, ValueError) as problem:
        sys.stderr.write(f"\nno session: the recorder cannot be reached ({type(problem).__name__})\n")
        return 1


def _asked(what: str, prompt: str, ask: Callable[[str], str]) -> str:
    for left in reversed(range(_TRIES)):
        try:
            return stated(what, ask(prompt))
        except Refused as problem:
            if not left:
                raise
            sys.stdout.write(f"{problem}\n")
    raise Refused(f"no {what}")


def _session(place: Path, request: Request, terminal: int) -> int:
    before = termios.tcgetattr(terminal)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.connect(os.fspath(place))
        send_request(connection, request, terminal)
        answer = receive_answer(connection)
        if "session" not in answer:
            sys.stderr.write(f"\nno session: {answer.get('refused', 'the recorder went away')}\n")
            return 1
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
            signal.signal(number, signal.SIG_IGN)
        try:
            answer = receive_answer(connection)
        finally:
            with suppress(termios.error):
                termios.tcsetattr(terminal, termios.TCSANOW, before)
    sys.stdout.write(f"\r\nsession over: {answer.get('ended', 'its recorder is gone')}\r\n")
    return 0
