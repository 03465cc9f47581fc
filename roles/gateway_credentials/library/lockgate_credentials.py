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
  ssh: {description: Whether the gateway listens for SSH and has keys for that., type: bool, default: false}
  ssh_host_key: {description: Its host key (OpenSSH Ed25519); without it one is made on the host., type: str, default: ''}
  ssh_user_ca: {description: The key that signs callers' certificates; without it one is made on the host., type: str, default: ''}
  hosts: {description: What a certificate made here names beside localhost and the host name., type: list, elements: str, default: []}
  renew:
    description: What is made anew although it is there.
    type: list
    elements: str
    choices: [tls, audit, ssh-host, ssh-ca]
    default: []
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
SSH_HOST, SSH_CA = "tls.ssh_host_ed25519_key", "tls.ssh_user_ca"
LABELS = {TLS_KEY: "tls", AUDIT_KEY: "audit", SSH_HOST: "ssh-host", SSH_CA: "ssh-ca"}
"""The gateway's own keys, and how ``renew`` calls them."""
KEPT = {AUDIT_KEY: "another one would sign the log", SSH_HOST: "callers would be warned of another host"}
"""Keys that are not replaced in silence, and why."""
FRAME = ("-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----")
UNLOCKED = b"openssh-key-v1\0\0\0\0\4none\0\0\0\4none\0\0\0\0\0\0\0\1"
"""Neither cipher nor kdf, one key (OpenSSH, PROTOCOL.key)."""
ED25519, LONGEST_HEAD = b"\0\0\0\x0bssh-ed25519\0\0\0\x20", 64
RELEASES, MARK = Path("/opt/lockgate/releases"), "installed.json"
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


def program() -> str:
    """The release that was installed last: the one that is to serve may know a listener that the one before it does not."""
    found = sorted((mark.stat().st_mtime, str(mark.parent / "bin" / "lockgate")) for mark in RELEASES.glob(f"*/{MARK}"))
    return found[-1][1] if found else "/usr/local/bin/lockgate"


def generate(hosts: list[str], *, ssh: bool) -> dict[str, bytes]:
    """Fresh keys and certificates as ``lockgate init`` makes them, by name. The authority's key signs once and is gone."""
    scratch = Path(tempfile.mkdtemp(dir="/run", prefix=".lockgate-init-"))
    try:
        folder = scratch / "folder"
        if ssh:
            folder.mkdir()
            (folder / "gateway.yaml").write_text(json.dumps(listening()))
        run([program(), "init", str(folder), "--json", *(word for host in hosts for word in ("--host", host))])
        return {f"tls.{path.name}": path.read_bytes() for path in (folder / "tls").iterdir() if path.name != "ca.key"}
    finally:
        shutil.rmtree(scratch)


def listening() -> dict[str, Any]:
    """A gateway.yaml with every listener, for ``init`` to see what keys there have to be."""
    tls = {"certificate": "tls/gateway.crt", "key": "tls/gateway.key"}
    ssh = {"address": "127.0.0.1:12222", "host_keys": ["tls/ssh_host_ed25519_key"], "user_ca": "tls/ssh_user_ca"}
    return {"name": "scratch", "segment": "scratch", "state": "../state", "audit": {"checkpoint": {"key": "tls/audit_ed25519_key"}},
            "listeners": {"postgres": {"address": "127.0.0.1:15432", "tls": tls}, "ssh": ssh}}


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
    """The gateway's own keys, and the certificate of one: as given, else as they are, else made."""
    brought = handed(given)
    for name, text in brought.items():
        store.keep(name, text.encode())
    if TLS_KEY in brought:
        public(certificates / "gateway.crt", given["tls_certificate"].encode(), store)
    own = [name for name in LABELS if name not in brought and (given["ssh"] or name not in (SSH_HOST, SSH_CA))]
    missing = [name for name in own if LABELS[name] in given["renew"] or store.read(name) is None
               or name == TLS_KEY and not (certificates / "gateway.crt").exists()]
    if store.check:
        store.written += missing
        return
    made = generate(given["hosts"], ssh=given["ssh"]) if missing else {}
    for name in missing:
        store.keep(name, made[name])
    if TLS_KEY in missing:
        for name in ("gateway.crt", "ca.crt"):
            public(certificates / name, made[f"tls.{name}"], store)


def handed(given: Mapping[str, Any]) -> dict[str, str]:
    """The keys that the inventory has, by name. Raises ``Wrong`` where one for SSH is none: the one that callers know would be gone."""
    found = {TLS_KEY: given["tls_key"]}
    if given["ssh"]:
        found |= {name: openssh(key, given[key]) for name, key in ((SSH_HOST, "ssh_host_key"), (SSH_CA, "ssh_user_ca")) if given[key]}
    return {name: text for name, text in found.items() if text}


def openssh(key: str, text: str) -> str:
    """An OpenSSH private key (PROTOCOL.key), its end as YAML may have left it made good. Raises ``Wrong``, which never holds any of it."""
    first, *lines, last = text.strip().splitlines() if "\n" in text.strip() else ("", "", "")
    try:
        body = base64.b64decode("".join(line.strip() for line in lines), validate=True)
    except ValueError:
        body = b""
    if (first, last) != FRAME or not body.startswith(UNLOCKED) or ED25519 not in body[:LONGEST_HEAD]:
        raise Wrong(f"gateway_credentials_ssh.{key.removeprefix('ssh_')}: expected an OpenSSH Ed25519 private key without a passphrase, "
                    "with all its lines")
    return text.strip() + "\n"


def lost(store: Store, given: Mapping[str, Any]) -> None:
    """A key of ``KEPT`` that is there and cannot be opened is not replaced in silence."""
    for name, why in KEPT.items():
        if name not in handed(given) and store.path(name).exists() and store.read(name) is None:
            raise Wrong(f"{store.path(name)} cannot be decrypted on this host (another TPM, or the host's key was lost); restore it, or "
                        f"take the file away to begin with a new one: {why}")


ARGUMENTS: dict[str, Any] = {
    "credentials": {"type": "dict", "required": True, "no_log": True}, "tls_key": {"type": "str", "default": "", "no_log": True},
    "tls_certificate": {"type": "str", "default": ""}, "hosts": {"type": "list", "elements": "str", "default": []},
    "ssh": {"type": "bool", "default": False}, "ssh_host_key": {"type": "str", "default": "", "no_log": True},
    "ssh_user_ca": {"type": "str", "default": "", "no_log": True},
    "renew": {"type": "list", "elements": "str", "choices": list(LABELS.values()), "default": []},
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
            lost(store, given)
            for name, content in secrets.items():
                store.keep(name, content)
            keys(store, Path(given["certificates"]), given)
    except Wrong as wrong:
        module.fail_json(msg=str(wrong))
    module.exit_json(changed=bool(store.written), names=store.written, key=store.key, stale=bool(store.written) or store.stale())


if __name__ == "__main__":
    main()
