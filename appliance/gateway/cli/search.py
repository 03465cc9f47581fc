# SPDX-License-Identifier: Apache-2.0
"""``lockgate search TEXT``: records that contain a text, in statements, parameters, objects, reasons or names."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from gateway.cli.output import emit, table, write
from gateway.cli.sessions import reading, source
from gateway.errors import ConfigError
from gateway.recording.replay import shown

_MOST = 1000
_EXCERPT = 80


def register(subparsers: Any) -> None:
    parser: ArgumentParser = subparsers.add_parser("search", help="find records by what they say", description=__doc__)
    parser.add_argument("text", metavar="TEXT", help="any part of it, no matter the case")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many, newest first (default 100)")
    reading(parser, run)


def run(args: Namespace) -> int:
    """Exit status 0 when something was found, 1 when nothing was."""
    if not args.text or not 1 <= args.limit <= _MOST:
        raise ConfigError(f"expected a text and --limit of 1 to {_MOST}")
    found = source(args).search(args.text, args.limit)
    if args.json:
        emit(args, found, str)
    elif found:
        for line in table([_row(record, args.text) for record in found], ("TIME", "SESSION", "IDENTITY", "RESOURCE", "RECORD", "TEXT")):
            write(line)
    else:
        write("nothing found")
    return 0 if found else 1


def _row(record: dict[str, Any], text: str) -> list[str]:
    place = f"{shown(record.get('kind'))} #{shown(record.get('seq'))}"
    names = [shown(record.get(key)) for key in ("session", "identity", "resource")]
    return [shown(record.get("time"))[:19] + "Z", *names, place, excerpt(record, text)]


def excerpt(record: dict[str, Any], text: str) -> str:
    """The part of the record's text, or else of its reason, around what was looked for."""
    values = [value for key in ("text", "reason", "error") if isinstance(value := record.get(key), str) and value]
    whole = next((value for value in values if text.lower() in value.lower()), values[0] if values else "")
    whole = " ".join(whole.split())
    at = max(0, whole.lower().find(text.lower()) - _EXCERPT // 3)
    cut = whole[at:at + _EXCERPT]
    return ("…" if at else "") + shown(cut) + ("…" if at + _EXCERPT < len(whole) else "")
