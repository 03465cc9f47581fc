# SPDX-License-Identifier: Apache-2.0
"""A console for the tests: a pseudo terminal in the place of tty1, and a real recorder in a process of its own."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml

from gateway.audit.note import load_public_key
from gateway.audit.reader import LogReader, export
from gateway.audit.verify import Report, Trust, verify_folder
from gateway.break_glass.events import Event, decode
from gateway.break_glass.request import receive_answer
from gateway.recording.store import read_recording

ROOT = Path(__file__).parents[3]
PATIENCE = 20.0
_RECORDER = """
import json, pathlib, socket, sys
from gateway.break_glass.recorder import Recorder
from gateway.break_glass.settings import load
def tell(text, fields):
    with pathlib.Path(sys.argv[2]).open("a") as file:
        file.write(json.dumps([text, dict(fields)]) + "\\n")
with socket.socket(fileno=int(sys.argv[3])) as connection:
    sys.exit(Recorder(*load(pathlib.Path(sys.argv[1])), tell=tell, shell=("/bin/sh", "-i")).serve(connection))
"""


class Console:
    """``state`` is the console's, ``screen`` the person's end of the terminal, ``line`` the one that the login program has."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.state = folder / "console"
        self.screen, self.line = os.openpty()
        name = os.ttyname(self.line).removeprefix("/dev/")
        self.file, self.alerts_file = folder / "break-glass.yaml", folder / "alerts"
        self.settings = {"gateway": "plant-a-1", "segment": "plant-a", "state": str(self.state), "terminals": [name],
                         "reserve": "1MiB", **settings}
        self.file.write_text(yaml.safe_dump(self.settings))
        self.seen = b""

    @contextmanager
    def recorder(self) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
        """The recorder's process and the login program's end of the connection."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = [sys.executable, "-c", _RECORDER, str(self.file), str(self.alerts_file), str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env={**os.environ, "PYTHONPATH": str(ROOT / "appliance")},
                                       start_new_session=True)
            theirs.close()
            ours.settimeout(PATIENCE)
            try:
                yield process, ours
            finally:
                process.kill()
                process.wait()

    def ask(self, connection: socket.socket, person: str = "Dana Example", reason: str = "gateway hangs", **more: str) -> Mapping[str, Any]:
        """The recorder's answer."""
        request = {"person": person, "reason": reason, "term": "vt100", **more}
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [self.line])
        return receive_answer(connection)

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def expect(self, text: str) -> None:
        """Wait until the screen has shown it."""
        until = time.monotonic() + PATIENCE
        while text.encode() not in self.seen:
            self.look()
            assert time.monotonic() < until, f"{text!r} was not shown, but {self.seen!r}"

    def look(self) -> None:
        """Read what the screen shows now, if anything comes within a moment."""
        ready, _, _ = select.select([self.screen], [], [], 0.1)
        if ready:
            self.seen += os.read(self.screen, 65536)

    def records(self, *kinds: str) -> list[dict[str, Any]]:
        found = [orjson.loads(line) for line in export(LogReader(self.state / "audit"), {})]
        return [record for record in found if not kinds or record["kind"] in kinds]

    def events(self) -> list[Event]:
        """Everything recorded."""
        return [event for record in self.records("break-glass.data")
                for event in decode(read_recording(self.state / "recordings", record["recording"]))]

    def alerts(self) -> list[tuple[str, dict[str, str]]]:
        return [(text, fields) for text, fields in map(json.loads, self.alerts_file.read_text().splitlines())] \
            if self.alerts_file.exists() else []

    def verify(self) -> Report:
        return verify_folder(self.state / "audit", Trust((load_public_key(self.state / "audit_ed25519_key.pub"),)))

    def close(self) -> None:
        os.close(self.screen)
        os.close(self.line)


def gone(pid: int) -> bool:
    """Whether a process has ended, within some seconds."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def shell_of(recorder: int) -> int:
    """The recorder's child."""
    return int(Path(f"/proc/{recorder}/task/{recorder}/children").read_text().split()[0])
