# SPDX-License-Identifier: Apache-2.0
"""``lockgate token inspect FILE``: which identity a token is, or why it is refused.
``lockgate token mint --as NAME``: a token of a demo folder."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.cli.options import add_config, add_json
from gateway.cli.output import emit, printable, write
from gateway.config.load import load_folder
from gateway.config.quantities import parse_duration
from gateway.errors import ConfigError
from gateway.identity.authenticate import Authenticator
from gateway.identity.mint import bearer, mint
from gateway.identity.token import TOKEN_BYTES, TokenRefused
from gateway.model import Identity


def register(subparsers: Any) -> None:
    """The verbs ``token inspect`` and ``token mint``."""
    parser: ArgumentParser = subparsers.add_parser("token", help="look at a token, or make one of a demo folder", description=__doc__)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    look = verbs.add_parser("inspect", help="which identity a token is, or why it is refused; never prints the token")
    look.add_argument("file", metavar="FILE", help="file that holds the token, - for standard input")
    look.add_argument("--source", metavar="ADDRESS", help="as if it came from there (default: from anywhere)")
    add_config(look)
    add_json(look)
    look.set_defaults(run=inspect)
    make = verbs.add_parser("mint", help="sign a token with a key of a demo folder")
    make.add_argument("--as", dest="name", metavar="NAME", required=True, help="an identity, or a person of demo/people.yaml")
    make.add_argument("--claim", metavar="NAME=VALUE", action="append", default=[], type=_claim, help="add or replace a claim; repeatable")
    make.add_argument("--lifetime", metavar="DURATION", type=_duration, help="such as 10m (default: 1h, or what the issuer accepts)")
    make.add_argument("--out", metavar="FILE", type=Path, help="write to this file, mode 0600, instead of printing")
    add_config(make)
    add_json(make)
    make.set_defaults(run=sign)


def _claim(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError("expected NAME=VALUE")
    return name, value


def _duration(text: str) -> float:
    try:
        return parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as wrong:
        raise ArgumentTypeError(str(wrong)) from None


def inspect(args: Namespace) -> int:
    """0 when the token would be accepted now, 1 when it is refused."""
    folder = load_folder(args.config)
    authenticator = Authenticator(folder)
    try:
        who = authenticator.look_at(_read(args.file), time.time(), args.source)
    except TokenRefused as refused:
        emit(args, {"accepted": False, "reason": refused.reason}, lambda said: f"refused: {printable(said['reason'])}")
        return 1
    finally:
        authenticator.close()
    emit(args, _document(who), _human)
    return 0


def _read(name: str) -> str:
    try:
        with (sys.stdin.buffer if name == "-" else Path(name).open("rb")) as file:
            data = file.read(TOKEN_BYTES + 4096)
    except OSError as wrong:
        raise ConfigError(f"{name}: {wrong.strerror}") from None
    return data.decode("ascii", errors="replace").strip()


def _document(who: Identity) -> dict[str, Any]:
    return {
        "accepted": True, "identity": who.name, "person": who.person, "issuer": who.issuer, "subject": who.subject, "owner": who.owner,
        "groups": sorted(who.groups), "token_id": who.token_id, "key_id": who.key_id, "expires": _moment(who.expires),
        "session_until": _moment(who.session_until), "claims": dict(who.claims)}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _human(document: dict[str, Any]) -> Iterator[str]:
    yield f"{'person' if document['person'] else 'identity'}       {printable(document['identity'])}"
    for key in ("issuer", "subject", "owner", "token_id", "key_id", "expires", "session_until"):
        if document[key] is not None:
            yield f"{key:14} {printable(document[key])}"
    yield f"groups         {printable(', '.join(document['groups'])) or 'none'}"
    yield from (f"claim {printable(name)} = {printable(value)}" for name, value in document["claims"].items())


def sign(args: Namespace) -> int:
    """0 when a token is printed or written. Raises ``ConfigError`` in a folder without signing keys."""
    folder = load_folder(args.config)
    token = mint(folder, bearer(folder, args.name), time.time(), lifetime=args.lifetime, claims=dict(args.claim))
    if args.out is None:
        emit(args, {"token": token}, lambda said: said["token"])
        return 0
    try:
        handle = os.open(args.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            os.fchmod(handle, 0o600)
            file.write(token + "\n")
    except OSError as wrong:
        raise ConfigError(f"{args.out}: {wrong.strerror}") from None
    if args.json:
        emit(args, {"file": str(args.out)}, str)
    else:
        write(f"{args.name}: token written to {args.out}")
    return 0
