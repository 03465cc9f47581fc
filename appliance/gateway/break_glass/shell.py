# SPDX-License-Identifier: Apache-2.0
"""The shell: root on a pseudo terminal whose other end the recorder holds. It does not outlive the recorder."""

from __future__ import annotations

import ctypes
import os
import pty
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

SHELL = ("/bin/bash", "--noprofile", "--norc", "-i")
_PR_SET_PDEATHSIG = 1
_PATIENCE = 2.0


class Shell:
    """``master`` is the recorder's end of its terminal."""

    def __init__(self, pid: int, master: int) -> None:
        self.pid, self.master = pid, master
        self._status: int | None = None

    @classmethod
    def start(cls, term: str, owner: int, argv: Sequence[str] = SHELL) -> Shell:
        """``owner`` is the account that the kernel's audit records show (``auid``), where it keeps any. Raises ``OSError``."""
        recorder = os.getpid()
        libc = ctypes.CDLL(None, use_errno=True)
        pid, master = pty.fork()
        if pid == 0:
            _become(libc, recorder, owner, argv, {
                "TERM": term, "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": argv[0], "LANG": "C.UTF-8",
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PS1": r"break-glass:\w# "})
        os.set_inheritable(master, False)
        os.set_blocking(master, False)
        return cls(pid, master)

    def status(self) -> int | None:
        """The exit status once it has ended (128 and the signal's number where one ended it)."""
        if self._status is None:
            with suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    code = os.waitstatus_to_exitcode(status)
                    self._status = code if code >= 0 else 128 - code
        return self._status

    def end(self) -> None:
        """Hang up, then kill what does not go; what left its session is the service manager's to end."""
        with suppress(OSError):
            os.close(self.master)
        for number in (signal.SIGHUP, signal.SIGKILL):
            if self.status() is not None:
                break
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
            until = time.monotonic() + _PATIENCE
            while self.status() is None and time.monotonic() < until:
                time.sleep(0.02)


def _become(libc: ctypes.CDLL, recorder: int, owner: int, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """In the child: never returns."""
    try:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != recorder:
            os._exit(1)
        with suppress(OSError):
            Path("/proc/self/loginuid").write_text(str(owner), encoding="ascii")
        for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        os.chdir("/root" if os.access("/root", os.X_OK) else "/")
        os.execve(argv[0], list(argv), dict(environment))  # noqa: S606 - the shell is what this is for
    finally:
        os._exit(127)
