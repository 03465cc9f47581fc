# SPDX-License-Identifier: Apache-2.0
"""``lockgate break-glass``: the appliance's own console. ``login`` is what people get when they log in as `breakglass`; ``record`` and
``settle`` are run by systemd, as root; ``list`` and ``replay`` read sessions back, as root."""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from gateway.break_glass import front, transcript
from gateway.break_glass.request import SOCKET
from gateway.break_glass.settings import DEFAULT_FILE, load
from gateway.cli.options import add_json
from gateway.cli.output import emit, table, write
from gateway.cli.replay import Player, add_pace
from gateway.errors import ConfigError
from gateway.recording.replay import shown

_LISTEN_FDS_START = 3


def register(subparsers: Any) -> None:
    parser: ArgumentParser = subparsers.add_parser("break-glass", help="the way in on the machine's own console", description=__doc__)
    parser.set_defaults(run=run_login, socket=Path(SOCKET))
    verbs = parser.add_subparsers(metavar="ACTION")
    login = verbs.add_parser("login", help="state who you are and why, get a recorded root shell for a bounded time; the default")
    login.add_argument("--socket", metavar="FILE", type=Path, default=Path(SOCKET), help=f"where the recorder listens (default {SOCKET})")
    login.set_defaults(run=run_login)
    _settings(verbs.add_parser("record", help="serve one session on the connection that systemd hands over")).set_defaults(run=run_record)
    settle = _settings(verbs.add_parser("settle", help="make folder, key and reserve; close what a killed recorder left open"))
    settle.set_defaults(run=run_settle)
    listed = _settings(verbs.add_parser("list", help="sessions of the console, oldest first"))
    add_json(listed)
    listed.set_defaults(run=run_list)
    replay = _settings(verbs.add_parser("replay", help="what was typed and shown in one session, escaped"))
    replay.add_argument("id", metavar="ID", help="its id, or a beginning that no other has")
    add_pace(replay)
    replay.set_defaults(run=run_replay)


def _settings(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("--settings", metavar="FILE", type=Path, default=DEFAULT_FILE,
                        help=f"the console's settings (default {DEFAULT_FILE}; defaults hold where it is missing or broken)")
    return parser


def run_login(args: Namespace) -> int:
    """0 after a session, 1 where there was none."""
    return front.run(args.socket)


def run_record(args: Namespace) -> int:
    """0 after a session, 1 where there was none. Raises ``ConfigError`` without a connection."""
    from gateway.break_glass.recorder import Recorder

    _careful()
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise ConfigError("no connection was handed over: systemd starts this (lockgate-break-glass@.service)")
    with socket.socket(fileno=_LISTEN_FDS_START) as connection:
        connection.set_inheritable(False)
        return Recorder(*load(args.settings)).serve(connection)


def run_settle(args: Namespace) -> int:
    """0, also where something was left open: it is closed now."""
    from gateway.break_glass.recorder import Recorder

    _careful()
    if orphaned := Recorder(*load(args.settings)).settle():
        write(f"{orphaned} sessions had lost their recorder")
    return 0


def _careful() -> None:
    logging.basicConfig(level="INFO", format="%(levelname)s %(name)s: %(message)s")
    os.umask(0o027)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _state(args: Namespace) -> Path:
    return Path(load(args.settings)[0].state)


def run_list(args: Namespace) -> int:
    found = transcript.sessions(_state(args))
    if args.json:
        emit(args, found, str)
        return 0
    rows = [[shown(one["session"]), shown(one["start"])[:19] + "Z", shown(one["tty"]), shown(one["person"]), shown(one["status"]),
             shown(one["reason"], 60)] for one in found]
    for line in table(rows, ("ID", "START", "TTY", "PERSON", "STATUS", "REASON")) if rows else ["no sessions"]:
        write(line)
    return 0


def run_replay(args: Namespace) -> int:
    """Raises ``ConfigError`` for an id that is none, or not one alone."""
    terminal = sys.stdout.isatty()
    speed = (1.0 if terminal else 0.0) if args.speed is None else args.speed
    Player(sys.stdout.write, sys.stdout.flush, time.sleep, bar=terminal).play(transcript.frames(_state(args), args.id), speed, args.idle)
    return 0
