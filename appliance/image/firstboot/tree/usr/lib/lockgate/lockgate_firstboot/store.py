# SPDX-License-Identifier: Apache-2.0
"""What was told, kept on /var as checked data; it is checked again at every boot, and only files made from it get to /etc."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from . import etc
from .told import Told, Wrong, parse, password_hash

SITE = Path("/var/lib/lockgate-site")
BLOBS = Path("/var/lib/lockgate-credentials")
_CHPASSWD = "/usr/sbin/chpasswd"
BREAK_GLASS_ACCOUNT = "breakglass"


def put(path: Path, content: bytes, mode: int) -> None:
    """Replace a file in one step, on disk when this returns."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        os.fchmod(handle, mode)
        file.flush()
        os.fsync(handle)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Store:
    """``site`` is /var/lib/lockgate-site. ``told.json`` is the marker: as long as it is there, nothing more is listened to."""

    def __init__(self, site: Path = SITE) -> None:
        self._site = site
        self.marker = site / "told.json"
        self.policy = site / "first-policy"
        self._hash = site / "break-glass"

    def told(self) -> Told | None:
        """Raises ``Wrong`` where what was kept is not what this program keeps."""
        try:
            return parse(self.marker.read_bytes())
        except FileNotFoundError:
            return None

    def keep(self, told: Told, policy: Mapping[str, bytes], secret: str) -> None:
        """The marker last, so that a boot that is cut short is a first boot again; nothing of what was told before stays."""
        self._site.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._forget_saved()
        if self.policy.exists():
            shutil.rmtree(self.policy)
        for path, content in policy.items():
            put(self.policy / path, content, 0o644)
        if secret:
            put(self._hash, secret.encode() + b"\n", 0o600)
        put(self.marker, told.to_json(), 0o644)

    def _forget_saved(self) -> None:
        """What was saved of /etc (``site-files save``) would win over what is told now. The SSH host key stays this machine's."""
        for path in sorted((self._site / "etc").rglob("*")):
            if not path.is_dir() and not path.name.startswith("ssh_host_"):
                path.unlink()

    def render(self, told: Told, root: Path = Path("/etc")) -> list[str]:
        """Write what follows from it under ``root``. Gives the paths."""
        made = etc.files(told)
        for path, content in made.items():
            put(root / path, content.encode(), 0o644)
        return sorted(made)

    def set_password(self) -> None:
        """The break-glass account's, where one was given. Raises ``Wrong``."""
        try:
            secret = password_hash(self._hash.read_bytes())
        except FileNotFoundError:
            return
        line = f"{BREAK_GLASS_ACCOUNT}:{secret}\n".encode()
        done = subprocess.run([_CHPASSWD, "--encrypted"], input=line, capture_output=True, check=False)
        if done.returncode:
            raise Wrong(f"break-glass: the account {BREAK_GLASS_ACCOUNT} takes no password")


def encrypt(name: str, content: bytes, blobs: Path = BLOBS) -> None:
    """``blobs/NAME.cred``, bound to the TPM where there is one, else to this host's key. Raises ``Wrong``."""
    command = ["/usr/bin/systemd-creds", "encrypt", "--with-key=auto", f"--name=lockgate_{name}.cred", "-", "-"]
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    if done.returncode:
        raise Wrong(f"{name}: cannot be encrypted: {done.stderr.decode(errors='replace').strip()[:200]}")
    blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
    put(blobs / f"{name}.cred", done.stdout, 0o600)


def decrypt(path: Path) -> bytes:
    """Raises ``Wrong``."""
    command = ["/usr/bin/systemd-creds", "decrypt", f"--name=lockgate_{path.name}", str(path), "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise Wrong(f"{path.name}: cannot be decrypted: {done.stderr.decode(errors='replace').strip()[:200]}")
    return done.stdout
