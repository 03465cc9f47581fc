# SPDX-License-Identifier: Apache-2.0
"""What a gateway that was taken over might try. Run on the booted machine, once under the gateway's AppArmor profile and once without."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path


def tried(what: str, act: Callable[[], object]) -> None:
    try:
        act()
    except (PermissionError, FileNotFoundError):  # hidepid hides whom it may not look at
        print(what, "refused")
    else:
        print(what, "done")


def mount() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"none", b"/mnt", b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


tried("a file it needs", Path("/etc/hosts").read_bytes)
tried("another file", Path("/etc/shadow").read_bytes)
tried("sealed credentials", lambda: list(Path("/var/lib/lockgate-credentials").iterdir()))
tried("its policy, to write", lambda: os.close(os.open("/var/lib/lockgate-config/current/gateway.yaml", os.O_WRONLY)))
tried("a program", lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0))
tried("a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
tried("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
tried("a mount", mount)
tried("init's environment", Path("/proc/1/environ").read_bytes)
tried("another account", lambda: os.setuid(1000))
