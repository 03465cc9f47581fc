# SPDX-License-Identifier: Apache-2.0
"""The first policy: checked by the gateway's own program before anything serves it, put in force by renaming one link.

Where nothing but target credentials are missing it waits: Ansible brings them (and its own copy of the policy). Anything else that is wrong
leaves the gateway stopped, and the console says why.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .store import BLOBS, decrypt, encrypt, put
from .told import Told, Wrong

CONFIG = Path("/var/lib/lockgate-config")
CERTIFICATES = Path("/var/lib/lockgate-tls")
SECRETS = "/run/lockgate-credentials"
_SCRATCH = Path("/run/lockgate-firstboot/policy")
_PROGRAM = "/opt/lockgate/current/bin/lockgate"
_KEYS = ("tls/gateway.key", "tls/audit_ed25519_key", "tls/ssh_host_ed25519_key", "tls/ssh_user_ca")
"""The last two where the first policy brings a gateway.yaml with a listener for SSH."""
_CERTIFICATES = ("tls/gateway.crt", "tls/ca.crt")


def settings(told: Told) -> bytes:
    """gateway.yaml where the first policy brings none (JSON is YAML): what the roles give by default, open to callers."""
    tls = {"certificate": "tls/gateway.crt", "key": "tls/gateway.key"}
    listeners = {name: {"address": f"0.0.0.0:{port}", "tls": tls} for name, port in (("postgres", 15432), ("console", 19443))}
    audit = {"checkpoint": {"key": "tls/audit_ed25519_key"}, "console": "/var/lib/lockgate-console"}
    found = {"name": told.name, "segment": told.segment, "state": "/var/lib/lockgate", "listeners": listeners, "audit": audit}
    return json.dumps(found, indent=1).encode() + b"\n"


def folder_id(files: Mapping[str, bytes], links: Mapping[str, str]) -> str:
    """The first 16 hex digits of a hash over names and contents, as the roles name their folders."""
    seen = hashlib.sha256()
    for kind, entries in ((b"file", files), (b"link", {path: to.encode() for path, to in links.items()})):
        for path in sorted(entries):
            seen.update(kind + b"\0" + path.encode() + b"\0" + hashlib.sha256(entries[path]).digest())
    return seen.hexdigest()[:16]


def waits_for(problems: list[dict[str, object]]) -> list[str] | None:
    """The resources, and masks, that only lack their credential; ``None`` where something else is wrong."""
    def lacks_credential(one: dict[str, object]) -> bool:
        return str(one.get("message")).startswith("expected a credential") and "; there is no credentials/" in str(one.get("message"))

    if not all(map(lacks_credential, problems)):
        return None
    return [f"{one.get('file')}: {one.get('key')}" for one in problems]


class FirstPolicy:
    """``files`` by path, as they were told."""

    def __init__(self, told: Told, files: Mapping[str, bytes], config: Path = CONFIG) -> None:
        self._files = {"gateway.yaml": settings(told), **files}
        self._config = config

    def put_in_force(self) -> str:
        """Gives what was done, in words. Raises ``Wrong``."""
        shutil.rmtree(_SCRATCH, ignore_errors=True)
        _SCRATCH.parent.mkdir(mode=0o755, exist_ok=True)
        _SCRATCH.mkdir(mode=0o700)  # in memory, and with every secret in it
        try:
            return self._tried(_SCRATCH)
        finally:
            shutil.rmtree(_SCRATCH, ignore_errors=True)

    def _tried(self, scratch: Path) -> str:
        secrets = {path.name.removesuffix(".cred"): decrypt(path) for path in sorted(BLOBS.glob("*.cred"))}
        for path, content in (self._files | {f"credentials/{name.removeprefix('credentials.')}": content
                                             for name, content in secrets.items() if name.startswith("credentials.")}).items():
            put(scratch / path, content, 0o600)
        for path in _KEYS:
            if (given := secrets.get(path.replace("/", "."))) is not None:
                put(scratch / path, given, 0o600)
        for path in _CERTIFICATES:
            if (kept := CERTIFICATES / Path(path).name).is_file():
                put(scratch / path, kept.read_bytes(), 0o644)
        self._run("init", str(scratch))
        had = {*self._files, *_KEYS, *_CERTIFICATES, *(f"credentials/{name.removeprefix('credentials.')}" for name in secrets)}
        for made in scratch.rglob("*"):  # what else init makes up, no gateway would have: pins of targets, keys of masks
            if not made.is_dir() and made.relative_to(scratch).as_posix() not in had:
                made.unlink()
        said = self._run("check", "--config", str(scratch), "--json", may=2)
        problems: list[dict[str, object]] = json.loads(said)["problems"] if said.startswith("{") else [{"message": said}]
        if problems:
            return self._not_yet(problems)
        links = self._kept_secrets(scratch, secrets)
        copies = {path: (CERTIFICATES / Path(path).name).read_bytes() for path in _CERTIFICATES}
        return f"the first policy is in force: {self._switch(self._files | copies, links)}"

    def _not_yet(self, problems: list[dict[str, object]]) -> str:
        waiting = waits_for(problems)
        if waiting is None:
            raise Wrong("the first policy is refused; the gateway stays stopped:\n" + "\n".join(
                f"  {one.get('file')}:{one.get('line')}: {one.get('key')}: {one.get('message')}" for one in problems))
        return "the first policy is good; the gateway waits for the credentials of " + ", ".join(waiting)

    def _kept_secrets(self, scratch: Path, secrets: Mapping[str, bytes]) -> dict[str, str]:
        """Keys encrypted and certificates kept where the roles keep theirs; gives the links into memory."""
        links = {f"credentials/{name.removeprefix('credentials.')}": f"{SECRETS}/{name}"
                 for name in secrets if name.startswith("credentials.")}
        for path in (path for path in _KEYS if (scratch / path).exists()):
            name = path.replace("/", ".")
            if name not in secrets:
                encrypt(name, (scratch / path).read_bytes())
            links[path] = f"{SECRETS}/{name}"
        for path in _CERTIFICATES:
            put(CERTIFICATES / Path(path).name, (scratch / path).read_bytes(), 0o644)
        return links

    def _switch(self, files: Mapping[str, bytes], links: Mapping[str, str]) -> str:
        name = folder_id(files, links)
        folder = self._config / "releases" / name
        shutil.rmtree(folder, ignore_errors=True)
        for above in (self._config, folder.parent):  # whatever made them: the service has to get through
            above.mkdir(mode=0o755, exist_ok=True)
            above.chmod(0o755)
        for path, content in files.items():
            put(folder / path, content, 0o640)
        for path, target in links.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(target)
        group = grp.getgrnam("lockgate").gr_gid
        for inside in (folder, *folder.rglob("*")):
            os.chown(inside, 0, group, follow_symlinks=False)
            if inside.is_dir() and not inside.is_symlink():
                inside.chmod(0o750)
        fresh = self._config / ".current.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(f"releases/{name}")
        fresh.replace(self._config / "current")
        return name

    @staticmethod
    def _run(*words: str, may: int = 0) -> str:
        done = subprocess.run([_PROGRAM, *words], capture_output=True, text=True, check=False, cwd="/",
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"})
        if done.returncode not in (0, may):
            raise Wrong(f"lockgate {words[0]}: {(done.stderr or done.stdout).strip()[:2000]}")
        return done.stdout
