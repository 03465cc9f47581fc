# SPDX-License-Identifier: Apache-2.0
"""A terminal of the host with agetty and login on it, and somebody who sits before it."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from verify import LAB, scenario_name

PATIENCE = 30.0
PASSWORD = "sealed in the envelope"
_HOLDER = """
import os, select, subprocess, sys
wanted, kept = sys.argv[1], []
while True:
    master, slave = os.openpty()
    kept.append((master, slave))
    if os.ttyname(slave) == "/dev/" + wanted:
        break
os.close(slave)
unit = "getty-" + wanted.replace("/", "")
getty = ["/sbin/agetty", "--noclear", "--noissue", "--keep-baud", wanted, "vt100"]
subprocess.run(["systemctl", "stop", unit], capture_output=True)
properties = ["Restart=always", "RestartSec=1", "SendSIGHUP=yes", "UtmpIdentifier=pts7"]
subprocess.run(["systemd-run", "--quiet", "--unit", unit, *("--property=" + one for one in properties), *getty], check=True)
try:
    while True:
        ready, _, _ = select.select([0, master], [], [])
        if 0 in ready:
            typed = os.read(0, 4096)
            if not typed:
                break
            os.write(master, typed)
        if master in ready:
            try:
                shown = os.read(master, 65536)
            except OSError:
                continue
            os.write(1, shown)
finally:
    subprocess.run(["systemctl", "stop", unit], capture_output=True)
"""


class Terminal:
    """``seen`` is everything it showed."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._in, self._out = process.stdin.fileno(), process.stdout.fileno()
        self.seen = ""
        self._read = 0

    def type(self, text: str) -> None:
        os.write(self._in, text.encode())

    def expect(self, *texts: str) -> str:
        """Wait until one of them is shown that was not yet waited for; says which."""
        until = time.monotonic() + PATIENCE
        while True:
            found = [(self.seen.index(text, self._read), text) for text in texts if text in self.seen[self._read:]]
            if found:
                at, text = min(found)
                self._read = at + len(text)
                return text
            assert time.monotonic() < until, f"none of {texts} after {self.seen[self._read:]!r}"
            ready, _, _ = select.select([self._out], [], [], 0.2)
            if ready:
                self.seen += os.read(self._out, 65536).decode(errors="replace")

    def log_in(self, password: str = PASSWORD) -> None:
        self.expect("login: ")
        self.type("breakglass\n")
        self.expect("Password: ")
        self.type(f"{password}\n")

    def break_glass(self, person: str = "Ines Example", reason: str = "ticket 4711, the gateway hangs") -> None:
        """From the login prompt to the shell's."""
        self.log_in()
        self.expect("Your name: ")
        self.type(f"{person}\n")
        self.expect("Reason: ")
        self.type(f"{reason}\n")

    def shell(self, **stated: str) -> None:
        self.break_glass(**stated)
        self.expect("break-glass:")

    def run(self, command: str) -> None:
        """Its output is shown, then a mark."""
        self.type(f"{command}; echo do''ne\n")
        self.expect("done\r\n")


@contextmanager
def terminal(name: str = "pts/7") -> Iterator[Terminal]:
    command = [str(LAB), "exec", "--scenario", scenario_name(), "gw", "python3", "-u", "-c", _HOLDER, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Terminal(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE)
