# SPDX-License-Identifier: Apache-2.0
"""``lockgate ssh-certificate``: exchange a token for an SSH certificate of a few minutes, so that plain ``ssh`` can present it.

Without ``--key`` a fresh Ed25519 key is made at ``--out`` when there is none, and kept: without a certificate it opens nothing. What is
good for longer than ``--renew-before`` is left alone and the gateway is not asked, so that this can stand in ``Match exec`` of ssh_config;
ssh processes that begin together ask once. Exit status 0: there is a good certificate, 1: the gateway refuses one, 2: it could not be asked
or a file is wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    load_ssh_private_key,
    load_ssh_public_identity,
)

from gateway.cli.client import ClientProblem, add_console, client
from gateway.cli.options import add_json, duration
from gateway.cli.output import emit, printable, to_json
from gateway.errors import ConfigError

LARGEST = 65_536
now = time.time
_OUT = Path("~/.ssh/id_lockgate")
_PARSING = (ValueError, TypeError, UnsupportedAlgorithm)


def register(subparsers: Any) -> None:
    """The verb ``ssh-certificate``."""
    parser: ArgumentParser = subparsers.add_parser(
        "ssh-certificate", help="exchange a token for an SSH certificate of a few minutes", description=__doc__)
    parser.add_argument("--token-file", metavar="FILE", type=Path, required=True, help="file that holds the token (- for standard input)")
    add_console(parser)
    parser.add_argument("--resource", metavar="NAME", action="append", default=[],
                        help="for this resource only; again for more (default: all that the token's holder may enter now)")
    parser.add_argument("--out", metavar="PATH", type=Path, default=None,
                        help=f"the private key; PATH.pub and PATH-cert.pub stand beside it (default {_OUT})")
    parser.add_argument("--key", metavar="FILE", type=Path, help="an existing public key instead; with it --out is the certificate "
                        "(default: FILE with -cert.pub for .pub)")
    parser.add_argument("--renew-before", metavar="DURATION", type=duration, default=60.0,
                        help="a certificate that is good for longer than this is left alone (default 1m)")
    parser.add_argument("--bound", action="store_true", help="good only from the address that the gateway sees this request come from")
    parser.add_argument("--quiet", action="store_true", help="say nothing but what is wrong")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """0, 1 or 2; see above. Raises ``ConfigError``."""
    try:
        return _run(args)
    except ClientProblem as problem:
        if args.json:
            sys.stdout.write(to_json({"error": str(problem), **({"problem": problem.document} if problem.document else {})}) + "\n")
        else:
            sys.stderr.write(f"lockgate: {problem}\n")
        return problem.status
    except OSError as wrong:
        raise ConfigError(f"{wrong.filename or args.out}: {wrong.strerror}") from None


def _run(args: Namespace) -> int:
    private, certificate = _places(args)
    if (kept := _good(args, private, certificate)) is None:
        certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(certificate):
            if (kept := _good(args, private, certificate)) is None:
                _fetch(args, private, certificate)
                kept = _read_certificate(certificate)
                if kept is None:
                    raise ConfigError(f"{certificate}: the gateway's answer is no certificate")
    if args.json or not args.quiet:
        emit(args, {"certificate": str(certificate), "serial": f"{kept.serial:x}", "until": _moment(kept.valid_before),
                    "principals": [name.decode("utf-8", "replace") for name in kept.valid_principals]}, _human)
    return 0


def _human(said: dict[str, Any]) -> str:
    return printable(f"{said['certificate']}: good until {said['until']} for {', '.join(said['principals'])}")


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _places(args: Namespace) -> tuple[Path | None, Path]:
    """The private key that is the gateway's holder's own here (``None`` with ``--key``), and the certificate."""
    if args.key is None:
        private = (args.out or _OUT).expanduser()
        return private, private.with_name(private.name + "-cert.pub")
    name = args.key.expanduser()
    return None, args.out.expanduser() if args.out is not None else name.with_name(name.name.removesuffix(".pub") + "-cert.pub")


# what is there already


def _good(args: Namespace, private: Path | None, certificate: Path) -> SSHCertificate | None:
    """The certificate that is there, if it will do: in time, over the right key, for the resources asked for."""
    found = _read_certificate(certificate)
    if found is None or not found.valid_after <= now() or found.valid_before - now() <= args.renew_before:
        return None
    try:
        line = _public_line(_key(private)) if private is not None else _given(args.key)
    except FileNotFoundError:
        return None
    mine = _public_line(found)
    names = {name.decode("utf-8", "replace") for name in found.valid_principals}
    return found if line.split()[:2] == mine.split()[:2] and names.issuperset(args.resource) else None


def _read_certificate(path: Path) -> SSHCertificate | None:
    try:
        found = load_ssh_public_identity(_content(path))
    except (FileNotFoundError, *_PARSING):
        return None
    return found if isinstance(found, SSHCertificate) else None


def _public_line(key: Ed25519PrivateKey | SSHCertificate) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _key(path: Path) -> Ed25519PrivateKey:
    """The key made earlier. Raises ``FileNotFoundError``, or ``ConfigError`` for anything that it should not be."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:       # what is looked at is what is read
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o077:
            raise ConfigError(f"{path}: expected a file of one's own that nobody else may read (chmod 600)")
        content = file.read(LARGEST)
    try:
        found = load_ssh_private_key(content, None)
    except _PARSING:
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise ConfigError(f"{path}: expected an Ed25519 key without passphrase, as this program makes it; use --key FILE for another one")
    return found


def _given(path: Path) -> str:
    words = _content(path.expanduser()).decode("utf-8", "replace").split()
    if len(words) < 2:
        raise ConfigError(f"{path}: expected a public key as in id_ed25519.pub")
    return " ".join(words[:2])


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST)


# a new one


def _fetch(args: Namespace, private: Path | None, certificate: Path) -> None:
    line = _given(args.key) if private is None else _public_line(_made(private))
    answer = client(args).post("/api/v1/ssh/certificate", {"public_key": line, "resources": args.resource, "bound": args.bound})
    _replace(certificate, _answered(answer, line), 0o644)


def _answered(document: Any, line: str) -> bytes:
    """The certificate of an answer: one line, over this key. Raises ``ClientProblem``."""
    text = document.get("certificate") if isinstance(document, dict) else None
    try:
        found = load_ssh_public_identity(str(text).encode())
    except _PARSING:
        found = None
    if not isinstance(text, str) or not text.isprintable() or not isinstance(found, SSHCertificate) or _public_line(found) != line:
        raise ClientProblem("the gateway's answer is no certificate over this key", 2)
    return f"{text} lockgate\n".encode()


def _made(path: Path) -> Ed25519PrivateKey:
    """The key at ``path``, made now if there is none."""
    try:
        key = _key(path)
    except FileNotFoundError:
        key = Ed25519PrivateKey.generate()
        _replace(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), 0o600)
    _replace(path.with_name(path.name + ".pub"), f"{_public_line(key)} lockgate\n".encode(), 0o644)
    return key


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all: who reads it meanwhile sees the old one or the new one."""
    from gateway.config.fresh import write_new  # what is left alone, mostly, needs none of it

    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_new(draft, content, mode)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


@contextlib.contextmanager
def _alone(certificate: Path) -> Iterator[None]:
    """One of several that run at once; the others wait and then find what it made."""
    lock = certificate.with_name(certificate.name + ".lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
