# SPDX-License-Identifier: Apache-2.0
"""What a running gateway tells the machine it runs on: systemd by sd_notify(3), and everybody who asked for a reload by a small file.

The file ``serving.json`` in systemd's RUNTIME_DIRECTORY holds the last *verdict*: which folder is in force since when, and why a reload
was refused. Times are CLOCK_MONOTONIC, which all processes of a machine share, so a verdict that began after a reload was asked for is
that reload's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "serving.json"
DEFAULT_DIRECTORY = Path("/run/lockgate")
_LARGEST = 2**20
_STATUS = 1000
"""Characters of a status line: a notification is one datagram."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``folder`` and ``policy`` are in force, ``started`` is the folder the process started on, ``version`` the program's; ``refused`` is
    why the last reload changed nothing; ``named`` is what it was told to read and reads again at each reload, with links in it."""

    pid: int
    began: float
    started: str
    folder: str
    policy: str
    version: str
    refused: str | None = None
    named: str = ""

    def status(self) -> str:
        """One line for ``systemctl status``."""
        said = f"policy {self.policy} from {self.folder}"
        return said if self.refused is None else f"reload refused, the old policy stays: {said}; {' '.join(self.refused.split())}"[:_STATUS]


def directory(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where systemd lets the service write what is gone with it."""
    first = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


def tell(verdict: Verdict) -> None:
    """Make a verdict known: to systemd, and in the file. Neither is needed to serve, so neither can stop it."""
    notify(f"READY=1\nSTATUS={verdict.status()}")
    if (place := directory()) is None:
        return
    with contextlib.suppress(OSError):
        fresh = place / f".{NAME}"
        fresh.write_text(json.dumps(asdict(verdict)))
        fresh.replace(place / NAME)


def read(place: Path) -> Verdict | None:
    """The last verdict; ``None`` when no gateway has left one. Root reads here what the service wrote: a plain file of bounded size."""
    try:
        handle = os.open(place / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            found = Verdict(**json.loads(file.read(_LARGEST)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    words = (found.started, found.folder, found.policy, found.version, found.named, found.refused or "")
    numbers = type(found.pid) is int and found.pid > 0 and type(found.began) in (int, float)
    return found if numbers and all(isinstance(word, str) for word in words) else None


def notify(state: str, wait: float = 1.0) -> None:
    """Tell systemd (sd_notify(3)) when it asked to be told; a systemd that does not listen holds nobody up for longer than ``wait``."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(wait)
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.send(state.encode())


def watchdog_interval(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds between two signs of life: a third of what systemd waits for; ``None`` where it does not wait for any."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        micros = int(environment.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return micros / 3e6 if micros > 0 else None


async def keep_alive() -> None:
    """Signs of life from the event loop, as long as it turns: a loop that hangs ends with systemd's restart."""
    interval = watchdog_interval(os.environ, os.getpid())
    while interval is not None:
        notify("WATCHDOG=1", wait=0.0)
        await asyncio.sleep(interval)
