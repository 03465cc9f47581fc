# SPDX-License-Identifier: Apache-2.0
"""``lockgate explain --identity NAME --resource NAME TEXT``: the decision without running it.

Offline with ``policy/schemas/RESOURCE.json``, else the target is asked for its catalog. Where neither can say what the text means the
effect is ``unknown``, never ``allow``. Exit status 0 for allow and approve, 1 for deny and unknown.

On an SSH resource TEXT is a command; ``--action read /srv/app/log`` asks about a file, ``--action rename OLD NEW`` about two, ``--action
forward-local db.example:5432`` about a tunnel, ``--action shell`` about a shell.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from gateway.cli.options import add_config, add_json
from gateway.cli.output import emit, printable
from gateway.config.load import load_folder
from gateway.config.window import parse_moment
from gateway.errors import ConfigError
from gateway.policy.policy import compile_policy
from gateway.policy.question import Answer, answer, asked_by, identity_of, reader_of, resource_of


def register(subparsers: Any) -> None:
    """The verb ``explain``."""
    parser: ArgumentParser = subparsers.add_parser("explain", help="the decision on a text, without running it", description=__doc__)
    parser.add_argument("text", metavar="TEXT", nargs="*",
                        help="what would be sent; with --action a path or two, HOST:PORT, a name, NAME=VALUE and a command")
    parser.add_argument("--identity", metavar="NAME", required=True, help="who asks; with --group also a person")
    parser.add_argument("--group", metavar="NAME", action="append", default=[], help="a further group of theirs; repeatable")
    parser.add_argument("--resource", metavar="NAME", required=True, help="where")
    parser.add_argument("--database", metavar="NAME", help="one of the resource's databases (default: its first)")
    parser.add_argument("--action", metavar="NAME", help="SSH: what is asked for, such as read, shell, forward-local (default: exec)")
    parser.add_argument("--login", metavar="NAME", help="SSH: one of the resource's logins (default: its first)")
    parser.add_argument("--pty", action="store_true", help="SSH: with a terminal")
    parser.add_argument("--at", metavar="TIME", help="the moment at which it is asked, such as 2026-01-01T00:00:00Z (default: now)")
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """0 for allow and approve, 1 for deny and unknown. Raises ``ConfigError``."""
    got = explained(args)
    document = {
        "effect": got.effect, "rules": list(got.rules), "masks": dict(got.masks), "reason": got.reason, "approvals": list(got.approvals),
        "max_rows": got.max_rows, "notes": list(got.notes), "identity": args.identity, "resource": args.resource,
        "filtered": dict(got.filtered), "sent": got.sent}
    emit(args, document, _human)
    return 0 if got.effect in ("allow", "approve") else 1


def explained(args: Namespace) -> Answer:
    """The answer to the command line."""
    folder = load_folder(args.config)
    policy = compile_policy(folder)
    identity = identity_of(folder, args.identity, args.group)
    resource = resource_of(folder, args.resource)
    now = _moment(args.at)
    asked = asked_by(resource, args.text, action=args.action, login=args.login, pty=args.pty)
    reader = reader_of(folder, resource, args.database)
    if reader is None:
        return Answer("unknown", reason=f"there is no policy/schemas/{resource.name}.json of this database, the target does not answer, "
                                        f"so names and columns are not known (lockgate schema pull {resource.name})")
    meaning = reader.read(asked, policy.masks(identity, resource.name, now))
    return answer(policy, identity, resource.name, meaning, now)


def _moment(text: str | None) -> float:
    try:
        return time.time() if text is None else parse_moment(text).timestamp()
    except ValueError as wrong:
        raise ConfigError(f"--at: {wrong}") from None


def _human(document: dict[str, Any]) -> Iterator[str]:
    yield f"effect    {document['effect']}"
    for key in ("rules", "approvals"):
        if document[key]:
            yield f"{key:9} {printable(', '.join(document[key]))}"
    if document["reason"]:
        yield f"reason    {printable(document['reason'])}"
    for column, rule in document["masks"].items():
        yield f"mask      {printable(column)}: {rule}"
    for relation, condition in document["filtered"].items():
        yield f"rows      {printable(relation)}: {printable(condition)}"
    if document["sent"]:
        yield f"sent      {printable(document['sent'])}"
    if document["max_rows"] is not None:
        yield f"max_rows  {document['max_rows']}"
    yield from (f"note      {printable(note)}" for note in document["notes"])
