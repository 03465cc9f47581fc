# SPDX-License-Identifier: Apache-2.0
"""``lockgate init DIR [--demo [--ssh]]``: write what is missing, never overwrite, set modes. Safe to run again at any time."""

from __future__ import annotations

import json
import os
import stat
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.cli.options import add_json
from gateway.cli.output import emit
from gateway.config import fresh, modes, speaks
from gateway.config.draft import Draft, read_gateway, read_policy
from gateway.config.load import is_private
from gateway.config.problem import InvalidFolder
from gateway.config.schema import GatewayConfig, Issuer
from gateway.errors import ConfigError

KEY_KINDS = ("ssh-key", "ssh-ca")
_SCHEMA = "orders-db.schema.json"
_SSH = "demo-ssh"
_FLOOR = "clock.floor"
"""What every state folder has, once a gateway ran."""
_PEOPLE = """\
# People of this demo folder: `lockgate token mint --as NAME` signs tokens for them. `serve` never reads this folder.
people:
  - {name: dana, issuer: staff, subject: "user:dana", groups: [dba]}
  - {name: ines, issuer: staff, subject: "user:ines", groups: [dba]}
  - {name: sam, issuer: staff, subject: "user:sam", groups: [security]}
  - {name: omar, issuer: staff, subject: "user:omar", groups: [ops]}
"""


def register(subparsers: Any) -> None:
    """The verb ``init``."""
    parser: ArgumentParser = subparsers.add_parser(
        "init", help="a working folder with right modes and fresh keys", description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder that holds, or will hold, gateway.yaml")
    parser.add_argument("--demo", action="store_true", help="start from the example, with an issuer that signs tokens")
    parser.add_argument("--ssh", action="store_true", help="with --demo: the example's SSH host and a listener for it, too")
    parser.add_argument("--host", metavar="NAME", action="append", default=[], type=_host,
                        help="a further host name or address that a new certificate names; may be repeated")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """0 when the folder is complete. Raises ``ConfigError`` where it cannot be made, or what is in it cannot be read."""
    try:
        made = Made(args.folder.absolute(), hosts=tuple(args.host))
        make(made, demo=args.demo, ssh=args.ssh)
    except OSError as wrong:
        raise ConfigError(f"{wrong.filename or args.folder}: {wrong.strerror}") from None
    emit(args, {"folder": str(made.folder), "state": str(made.state), "written": made.written, "modes": made.changed}, _human)
    return 0


def _host(text: str) -> str:
    if not fresh.is_host(text):
        raise ArgumentTypeError("expected a host name or an address")
    return text


def _human(document: dict[str, Any]) -> Iterator[str]:
    yield from (f"wrote    {name}" for name in document["written"])
    yield from (f"mode     {name}" for name in document["modes"])
    if not document["written"] and not document["modes"]:
        yield f"{document['folder']} was complete"
    yield f"check it with: lockgate check --config {document['folder']}"


@dataclass(slots=True)
class Made:
    """What was done to a folder so far; names are relative to it."""

    folder: Path
    hosts: tuple[str, ...] = ()
    state: Path | None = None
    written: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def write(self, path: Path, content: bytes | str, mode: int = 0o644) -> bool:
        """Write a file unless something is there already; says whether it did."""
        if os.path.lexists(path):
            return False
        make_folder(path.parent, 0o700 if path.parent.name in ("credentials", "demo") else 0o755)
        fresh.write_new(path, content, mode)
        self.written.append(os.path.relpath(path, self.folder))
        return True


def make(made: Made, *, demo: bool, ssh: bool = False) -> None:
    """Everything ``init`` does. Raises ``OSError`` or ``ConfigError``."""
    if ssh and not demo:
        raise ConfigError("--ssh goes with --demo; a folder of your own gets a listener in gateway.yaml and a resource in policy/")
    if ssh:
        _can_join(made.folder / "gateway.yaml")
    make_folder(made.folder, 0o755)
    if not (made.folder / "gateway.yaml").exists():
        _copy_shipped(made, "demo" if demo else "starter", _listener() if ssh else "")
    if ssh:
        _copy_shipped(made, _SSH)
    draft = Draft(made.folder)
    read_gateway(draft)
    read_policy(draft)
    if draft.gateway is None:
        raise InvalidFolder(draft.main.problems)
    if demo:
        _demo_keys(made, draft)
    _tls(made, draft, draft.gateway)
    _audit_key(made, draft, draft.gateway)
    _mask_keys(made, draft)
    _listener_keys(made, draft, draft.gateway)
    _credential_keys(made, draft)
    _pinned(made, draft)
    for name in ("credentials", "trust", "policy"):
        make_folder(made.folder / name, 0o700 if name == "credentials" else 0o755)
    made.state = draft.resolve(draft.gateway.state)
    make_folder(made.state, 0o700)
    _set_modes(made)


def _mask_keys(made: Made, draft: Draft) -> None:
    """A key for every hash whose credential is not there. Gateways that shall show the same hashes need the same file."""
    for item in draft.lists["masks"]:
        for spec in (*item.value.columns.values(), *item.value.detect.masks()):
            for name in spec.hash_keys():
                if Path(name).name == name:
                    made.write(made.folder / "credentials" / f"{name}.yaml", f"kind: mask-key\nkey: {fresh.mask_key()}\n", 0o600)


def _listener_keys(made: Made, draft: Draft, gateway: GatewayConfig) -> None:
    """A key for everything a listener needs one for that is no TLS, and its public half beside it."""
    for name, listener in gateway.listeners.items():
        for used in speaks.of_listener(name, listener):
            if used.fresh:
                _openssh_key(made, draft.resolve(used.path), f"{gateway.name} {Path(used.path).name}")


def _credential_keys(made: Made, draft: Draft) -> None:
    """The key of each credential of kind ssh-key or ssh-ca that names a file which is not there; its public half goes to the target."""
    for path in sorted((made.folder / "credentials").glob("*.yaml")):
        values = draft.read(path).value
        if isinstance(values, dict) and values.get("kind") in KEY_KINDS and isinstance(file := values.get("private_key"), str):
            key = draft.resolve(file) if file.isprintable() else made.folder
            if key.parent == made.folder / "credentials":
                _openssh_key(made, key, f"lockgate {path.stem}")


def _openssh_key(made: Made, path: Path, comment: str) -> None:
    if _inside(made, path) and made.write(path, fresh.audit_key(), 0o600):
        made.write(path.with_name(f"{path.name}.pub"), fresh.public_line(path.read_bytes(), comment))


def _pinned(made: Made, draft: Draft) -> None:
    """What targets are known by, as far as it can be written without asking them: it lets nobody through until their own keys are there."""
    for found in speaks.every():
        resources = [item.value for item in draft.lists["resources"] if item.value.protocol == found.protocol]
        for name, text in found.missing(resources).items():
            if _inside(made, draft.resolve(name)):
                made.write(draft.resolve(name), text)


def make_folder(path: Path, mode: int) -> None:
    """Make a folder and those above it; ``mode`` holds for it alone, and only if it is new."""
    if path.is_dir():
        return
    make_folder(path.parent, 0o755)
    path.mkdir()
    path.chmod(mode)


# --- what the wheel ships ---


def _listener() -> str:
    """What the README of the SSH example adds to gateway.yaml."""
    page = (resources.files("gateway.config") / _SSH / "README.md").read_text()
    return page.split("```yaml\n")[1].split("```")[0]


def _can_join(main: Path) -> None:
    """Raises ``ConfigError``: nothing is ever overwritten, so a gateway.yaml that is there has to have the listener already."""
    if main.exists() and "\n  ssh:" not in main.read_text():
        raise ConfigError(f"{main}: is there already, and is not changed; add to it, then run this again:\n{_listener().rstrip()}")


def _copy_shipped(made: Made, name: str, listeners: str = "") -> None:
    top = resources.files("gateway.config") / name
    for path, source in _shipped(top, Path()):
        if str(path) == _SCHEMA:
            made.write(made.folder / "policy" / "schemas" / "orders-db.json", source.read_bytes())
        elif (name, str(path)) != (_SSH, "README.md"):
            text = source.read_bytes().replace(b"state: STATE ", f"state: {_state(made.folder)} ".encode(), 1)
            text = text.replace(b"listeners:\n", listeners.encode(), 1) if listeners else text
            made.write(made.folder / path, text, 0o600 if path.parts[0] == "credentials" else 0o644)


def _shipped(folder: Traversable, at: Path) -> Iterator[tuple[Path, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _shipped(entry, at / entry.name)
        else:
            yield at / entry.name, entry


def _state(folder: Path) -> str:
    return "/var/lib/lockgate" if folder.is_relative_to("/etc") else "../state"


# --- fresh keys ---


def _tls(made: Made, draft: Draft, gateway: GatewayConfig) -> None:
    """Certificate and key of each listener that has neither, signed by tls/ca.key."""
    for listener in gateway.listeners.values():
        if listener.tls is None:
            continue
        certificate, key = draft.resolve(listener.tls.certificate), draft.resolve(listener.tls.key)
        if certificate.exists() or not (_inside(made, certificate) and _inside(made, key)):
            continue
        made.write(key, fresh.key_pem(fresh.new_key()), 0o600)
        issuer, signer = _authority(made)
        try:
            signed = fresh.certificate(fresh.load_key(key), issuer, signer, (*fresh.names(), *made.hosts))
        except ValueError as wrong:
            raise ConfigError(f"{key}: no certificate can be made for this key: {wrong}") from None
        made.write(certificate, signed.public_bytes(Encoding.PEM))


def _authority(made: Made) -> tuple[x509.Certificate, Any]:
    certificate, key = made.folder / "tls" / "ca.crt", made.folder / "tls" / "ca.key"
    if not certificate.exists():
        made.write(key, fresh.key_pem(fresh.new_key()), 0o600)
        made.write(certificate, fresh.authority(fresh.load_key(key)).public_bytes(Encoding.PEM))
    if not key.exists():
        raise ConfigError(f"{key} is missing: put the listeners' certificates in place yourself, or remove {certificate}")
    return x509.load_pem_x509_certificate(certificate.read_bytes()), fresh.load_key(key)


def _audit_key(made: Made, draft: Draft, gateway: GatewayConfig) -> None:
    key = draft.resolve(gateway.audit.checkpoint.key)
    if _inside(made, key):
        made.write(key, fresh.audit_key(), 0o600)


def _inside(made: Made, path: Path) -> bool:
    return path.is_relative_to(made.folder)


def _demo_keys(made: Made, draft: Draft) -> None:
    """A signing key for every issuer whose pinned key set is missing, and the people."""
    issuers: list[Issuer] = [item.value for item in draft.lists["issuers"]]
    for issuer in issuers:
        if issuer.jwks is None or draft.resolve(issuer.jwks).exists() or not _inside(made, draft.resolve(issuer.jwks)):
            continue
        private = made.folder / "demo" / f"{issuer.name}.jwk.json"
        made.write(private, json.dumps(fresh.signing_key(), indent=2) + "\n", 0o600)
        made.write(draft.resolve(issuer.jwks), fresh.public_set(json.loads(private.read_bytes())))
    made.write(made.folder / "demo" / "people.yaml", _PEOPLE)


# --- modes ---


def _set_modes(made: Made) -> None:
    """Take away what others may do: writing everywhere, reading of what is secret. Nothing is ever added."""
    trusted = modes.trusted()
    _restrict(made, made.folder, trusted)
    for path in modes.files(made.folder):
        _restrict(made, path, trusted)
    if made.state is not None and _own(made.state) and (found := stat.S_IMODE(made.state.stat().st_mode)) & 0o077:
        made.state.chmod(found & ~0o077)
        made.changed.append(os.path.relpath(made.state, made.folder))


def _own(state: Path) -> bool:
    """Whether it is a gateway's, or nobody's yet: `state: /var/lib` shall not close that folder to everybody else."""
    names = [path.name for path in state.iterdir()]
    return not names or _FLOOR in names


def _restrict(made: Made, path: Path, trusted: modes.Trusted) -> None:
    if path.is_symlink():
        return
    info = path.stat()
    name = os.path.relpath(path, made.folder)
    forbidden = 0o022
    if is_private(path, name):
        shared = info.st_uid == 0 and info.st_gid in trusted.groups
        forbidden = 0o027 if shared else 0o077
    mode = stat.S_IMODE(info.st_mode)
    if mode & forbidden:
        path.chmod(mode & ~forbidden)
        made.changed.append(f"{name} {mode & ~forbidden:04o}")
