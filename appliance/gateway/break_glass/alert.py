# SPDX-License-Identifier: Apache-2.0
"""Telling everybody that can be told, now: the journal with priority *alert*, and every terminal somebody is logged in at. Best effort,
never in the way: what is certain is the record."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress

_log = logging.getLogger(__name__)
JOURNAL = "/run/systemd/journal/socket"
_ALERT = 1
_PATIENCE = 3.0
Alert = Callable[[str, Mapping[str, str]], None]


def alert(text: str, fields: Mapping[str, str]) -> None:
    """``fields`` go along as journal fields: upper case names, values on one line."""
    _journal(text, fields)
    _wall(text)


def _journal(text: str, fields: Mapping[str, str]) -> None:
    lines = {"PRIORITY": str(_ALERT), "SYSLOG_IDENTIFIER": "lockgate-break-glass", "MESSAGE": text} | dict(fields)
    data = "".join(f"{name}={_one_line(value)}\n" for name, value in lines.items()).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as journal:
            journal.connect(JOURNAL)
            journal.send(data)
    except OSError as error:
        _log.warning("the journal does not take the alert: %s", error.strerror)


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _wall(text: str) -> None:
    program = shutil.which("wall", path="/usr/bin:/bin")
    if program is None:
        return
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run([program, _one_line(text)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,  # noqa: S603 - no shell, and text alone
                       stderr=subprocess.DEVNULL, timeout=_PATIENCE, check=False)
