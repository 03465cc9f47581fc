# SPDX-License-Identifier: Apache-2.0
"""A real OpenSSH server of one's own, for tests, the demo and the benchmark.

``SshServer`` makes keys and a configuration in a folder of its own, runs ``sshd`` on a free port of 127.0.0.1 as the user we are, and
ends it and what it started when it is left. Its sessions are ours too: there is no other login than our own, except for root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.testing.postgres import free_port

_START_SECONDS = 60.0
_PLACES = "/usr/sbin:/usr/local/sbin:/usr/lib/openssh"


class SshUnavailable(RuntimeError):
    """There is no sshd here, or it did not start; the message ends with its own log."""


def program(name: str = "sshd") -> str:
    """The full path of ``sshd`` or of what comes with it (``sftp-server``). Raises ``SshUnavailable``."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PLACES}")
    if found is None:
        raise SshUnavailable(f"found no {name}: install the system's OpenSSH server (openssh-server)")
    return found


def write_key(path: Path, comment: str = "") -> str:
    """A new Ed25519 key pair at ``path`` and ``path.pub``, as OpenSSH keeps them; gives the public line."""
    key = Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()))
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    path.with_name(f"{path.name}.pub").write_text(f"{line} {comment}".strip() + "\n")
    return line


@dataclass(slots=True)
class SshServer:
    """``settings`` are lines of sshd_config that are added, or put in place of ours (``MaxSessions``: ``"100"``)."""

    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    folder: Path = field(default_factory=Path)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def login(self) -> str:
        """The user it lets in: who we are."""
        return pwd.getpwuid(os.geteuid()).pw_name

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def key(self) -> Path:
        """The private key that it lets in."""
        return self.folder / "client_key"

    @property
    def host_key(self) -> str:
        """Its own public key: type and base64."""
        return (self.folder / "host_key.pub").read_text().strip()

    @property
    def known_hosts(self) -> str:
        """Its line for a known_hosts file."""
        return f"[127.0.0.1]:{self.port} {self.host_key}\n"

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> SshServer:
        self.folder = Path(tempfile.mkdtemp(prefix="lockgate-sshd-"))
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _prepare(self) -> None:
        self.port = self.port or free_port()
        write_key(self.folder / "host_key")
        allowed = write_key(self.key)
        (self.folder / "authorized_keys").write_text(allowed + "\n")
        (self.folder / "known_hosts").write_text(self.known_hosts)
        self.configure({})

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write the configuration with further settings; in force for connections after a new start."""
        ours = {
            "ListenAddress": f"127.0.0.1:{self.port}", "HostKey": str(self.folder / "host_key"), "PidFile": "none", "UsePAM": "no",
            "AuthorizedKeysFile": str(self.folder / "authorized_keys"), "StrictModes": "no", "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no", "PermitRootLogin": "yes", "PermitUserEnvironment": "no", "AcceptEnv": "*",
            "MaxStartups": "1000", "MaxSessions": "100", "Subsystem": "sftp internal-sftp", "PrintMotd": "no", "PrintLastLog": "no",
            "AllowStreamLocalForwarding": "yes", "LogLevel": "VERBOSE",
            "SetEnv": "SHLVL=2",              # bash reads no ~/.bashrc then: what is there is not ours
        }
        lines = "".join(f"{name} {value}\n" for name, value in {**ours, **self.settings, **settings}.items())
        (self.folder / "sshd_config").write_text(lines)

    def start(self) -> None:
        """Run it; back when it answers. Raises ``SshUnavailable``."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [program(), "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.folder / "log")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                         env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")}, start_new_session=True)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SshUnavailable(f"sshd did not start:\n{self.log[-4000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                return probe.recv(4) == b"SSH-"
        except OSError:
            return False

    def stop(self) -> None:
        """End it, and the sessions that it has."""
        if self._process is None:
            return
        process, self._process = self._process, None
        ours = list(_below(process.pid))
        process.send_signal(signal.SIGTERM)
        process.wait(_START_SECONDS)
        for pid in ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _below(pid: int) -> Iterator[int]:
    """What a process started, and what that started (proc(5), /proc/PID/task/TID/children)."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _below(child)
