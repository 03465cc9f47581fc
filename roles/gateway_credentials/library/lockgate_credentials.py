# SPDX-License-Identifier: Apache-2.0
"""The gateway's secrets on this host, encrypted at rest by systemd-creds and bound to the TPM where there is one.

Plain text is only ever in the memory of this module and on the standard input of ``systemd-creds``: not in an argument, a fact, a
result, a diff or a file. Whether a secret changed is found by decrypting what is there, so nothing derived from it is kept either.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: lockgate_credentials
short_description: Keep the gateway's credentials and keys encrypted on the host
options:
  credentials: {description: 'Target credentials by name, each what credentials/NAME.yaml is to hold.', type: dict, required: true}
  tls_key: {description: The listeners' private key (PKCS 8 PEM); without it one is made on the host., type: str, default: ''}
  tls_certificate: {description: Its certificate chain in PEM., type: str, default: ''}
  hosts: {description: What a certificate made here names beside localhost and the host name., type: list, elements: str, default: []}
  renew: {description: What is made anew although it is there., type: list, elements: str, choices: [tls, audit], default: []}
  key:
    description: What encrypts; C(auto) is the TPM where it can be used and else the host's key.
    type: str
    choices: [auto, tpm2, host]
    default: auto
  prune: {description: Only take away credentials that are not named., type: bool, default: false}
author: Lockgate maintainers
"""

EXAMPLES = """
- name: Credentials
  lockgate_credentials:
    credentials: {orders-db: {kind: password, username: lockgate, password: "{{ vault_orders_db_password }}"}}
  no_log: true
  diff: false
"""

RETURN = """
names: {description: 'Names of what was written or taken away, never what is in it.', type: list, returned: always}
key: {description: What the host's secrets are encrypted with., type: str, returned: always}
stale: {description: Whether the gateway still reads something older., type: bool, returned: always}
"""

SUFFIX = ".cred"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
PREFIX = "lockgate_"
"""systemd loads a folder as ID_FILE for each file; ID is ``lockgate``. The name is sealed into the blob."""
DECRYPTED = Path("/run/lockgate-credentials")
TLS_KEY, AUDIT_KEY = "tls.gateway.key", "tls.audit_ed25519_key"
HOST_KEY = bytes.fromhex("5a1c6a86df9d4096b1d5a65e0862f19a")
"""How a blob begins that the host's key alone encrypts (systemd, creds-util.h)."""
QUIET = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class Wrong(Exception):
    """Why a secret could not be kept. Never holds one."""


def run(command: list[str], given: bytes = b"") -> bytes:
    """A program fed by standard input. Raises ``Wrong`` with what it said on standard error, which for systemd-creds is no secret."""
    done = subprocess.run(command, input=given, capture_output=True, check=False, env=QUIET, cwd="/")
    if done.returncode:
        raise Wrong(f"{' '.join(command[:2])} failed: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout


def choose(key: str) -> str:
    """``tpm2`` or ``host``."""
    if key != "auto":
        return key
    usable = subprocess.run(["systemd-creds", "has-tpm2", "--quiet"], capture_output=True, check=False, env=QUIET).returncode == 0
    return "tpm2" if usable else "host"


class Store:
    """The folder of blobs."""

    def __init__(self, folder: Path, key: str, *, check: bool) -> None:
        self.folder, self.key, self.check = folder, key, check
        self.written: list[str] = []

    def path(self, name: str) -> Path:
        return self.folder / (name + SUFFIX)

    def read(self, name: str) -> bytes | None:
        """What a blob holds; nothing where there is none, or none that this host can open."""
        path = self.path(name)
        if not path.exists():
            return None
        try:
            return run(["systemd-creds", "decrypt", f"--name={PREFIX}{path.name}", str(path), "-"])
        except Wrong:
            return None

    def bound(self, name: str) -> bool:
        """Whether the blob is encrypted with what is wanted now: one of the host's key is written anew where there is a TPM."""
        try:
            head = base64.b64decode(self.path(name).read_bytes()[:24])
        except (OSError, ValueError):
            return False
        return (head[:16] == HOST_KEY) == (self.key == "host")

    def keep(self, name: str, content: bytes) -> None:
        """Encrypt, unless the same is there already."""
        if not NAME.fullmatch(name):
            raise Wrong(f"a credential's name is letters, digits, dots, dashes and underscores, not {name!r}")
        there = self.read(name)
        if there is not None and hmac.compare_digest(there, content) and self.bound(name):
            return
        self.written.append(name)
        if self.check:
            return
        path = self.path(name)
        blob = run(["systemd-creds", "encrypt", f"--with-key={self.key}", f"--name={PREFIX}{path.name}", "-", "-"], content)
        handle, fresh = tempfile.mkstemp(dir=self.folder.parent, prefix=".lockgate-credential-")
        with os.fdopen(handle, "wb") as file:
            file.write(blob)
            os.fsync(handle)
        Path(fresh).replace(path)

    def prune(self, wanted: set[str]) -> None:
        """Take away the target credentials that are not wanted."""
        for path in sorted(self.folder.glob("credentials.*" + SUFFIX)):
            if path.name.removesuffix(SUFFIX) not in wanted:
                self.written.append(path.name.removesuffix(SUFFIX))
                if not self.check:
                    path.unlink()
                    (DECRYPTED / self.written[-1]).unlink(missing_ok=True)

    def stale(self) -> bool:
        """Whether what the gateway reads is older than what is kept."""
        if not DECRYPTED.is_dir():
            return True
        return any(path.stat().st_mtime_ns > DECRYPTED.stat().st_mtime_ns for path in self.folder.glob("*" + SUFFIX))


def wanted(credentials: Mapping[str, Any]) -> dict[str, bytes]:
    """By name, what credentials/NAME.yaml is to hold: JSON, which YAML 1.2 reads the same."""
    return {f"credentials.{name}.yaml": (json.dumps(value, sort_keys=True) + "\n").encode() for name, value in credentials.items()}


def generate(hosts: list[str]) -> dict[str, bytes]:
    """Fresh keys and certificates as ``lockgate init`` makes them, by path. The authority's key signs once and is gone."""
    scratch = Path(tempfile.mkdtemp(dir="/run", prefix=".lockgate-init-"))
    try:
        folder = scratch / "folder"
        run(["/usr/local/bin/lockgate", "init", str(folder), "--json", *(word for host in hosts for word in ("--host", host))])
        return {path.name: path.read_bytes() for path in (folder / "tls").iterdir() if path.name != "ca.key"}
    finally:
        shutil.rmtree(scratch)


def public(path: Path, content: bytes, store: Store) -> None:
    """A certificate, for anybody to read."""
    if path.exists() and path.read_bytes() == content:
        return
    store.written.append(path.name)
    if store.check:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(0o644)
    fresh.replace(path)


def keys(store: Store, certificates: Path, given: Mapping[str, Any]) -> None:
    """The listeners' key with its certificate, and the audit key: as given, else as they are, else made."""
    if given["tls_key"]:
        store.keep(TLS_KEY, given["tls_key"].encode())
        public(certificates / "gateway.crt", given["tls_certificate"].encode(), store)
    unopened = {name: label in given["renew"] or store.read(name) is None
                for name, label in ((TLS_KEY, "tls"), (AUDIT_KEY, "audit"))}
    if given["tls_key"]:
        unopened[TLS_KEY] = False
    elif not (certificates / "gateway.crt").exists():
        unopened[TLS_KEY] = True
    if not any(unopened.values()):
        return
    if store.check:
        store.written += [name for name, missing in unopened.items() if missing]
        return
    made = generate(given["hosts"])
    if unopened[TLS_KEY]:
        store.keep(TLS_KEY, made["gateway.key"])
        public(certificates / "gateway.crt", made["gateway.crt"], store)
        public(certificates / "ca.crt", made["ca.crt"], store)
    if unopened[AUDIT_KEY]:
        store.keep(AUDIT_KEY, made["audit_ed25519_key"])


def lost(store: Store) -> None:
    """An audit key that is there and cannot be opened is not replaced in silence: the log would change its signer."""
    if store.path(AUDIT_KEY).exists() and store.read(AUDIT_KEY) is None:
        raise Wrong(f"{store.path(AUDIT_KEY)} cannot be decrypted on this host (another TPM, or the host's key was lost); restore it, or "
                    "take the file away to begin with a new audit key")


ARGUMENTS: dict[str, Any] = {
    "credentials": {"type": "dict", "required": True, "no_log": True}, "tls_key": {"type": "str", "default": "", "no_log": True},
    "tls_certificate": {"type": "str", "default": ""}, "hosts": {"type": "list", "elements": "str", "default": []},
    "renew": {"type": "list", "elements": "str", "choices": ["tls", "audit"], "default": []},
    "key": {"type": "str", "choices": ["auto", "tpm2", "host"], "default": "auto", "no_log": False},
    "prune": {"type": "bool", "default": False}, "folder": {"type": "path", "default": "/var/lib/lockgate-credentials"},
    "certificates": {"type": "path", "default": "/var/lib/lockgate-tls"},
}


def main() -> None:
    module = AnsibleModule(supports_check_mode=True, argument_spec=ARGUMENTS)
    given = module.params
    store = Store(Path(given["folder"]), choose(given["key"]), check=module.check_mode)
    secrets = wanted(given["credentials"])
    try:
        if given["prune"]:
            store.prune(set(secrets))
        else:
            lost(store)
            for name, content in secrets.items():
                store.keep(name, content)
            keys(store, Path(given["certificates"]), given)
    except Wrong as wrong:
        module.fail_json(msg=str(wrong))
    module.exit_json(changed=bool(store.written), names=store.written, key=store.key, stale=bool(store.written) or store.stale())


if __name__ == "__main__":
    main()
