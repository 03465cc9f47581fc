# SPDX-License-Identifier: Apache-2.0
"""``lockgate access [--identity NAME] [--resource NAME]``: who may do what where, and through which rule.

Robots are listed by name; ``group:NAME`` stands for the people whose tokens carry that group.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from gateway.cli.options import add_config, add_json
from gateway.cli.output import emit, printable
from gateway.config.load import load_folder
from gateway.config.quantities import show_duration
from gateway.errors import ConfigError
from gateway.policy.access import access, subjects
from gateway.policy.policy import compile_policy
from gateway.policy.question import resource_of


def register(subparsers: Any) -> None:
    """The verb ``access``."""
    parser: ArgumentParser = subparsers.add_parser("access", help="who may do what where, and through which rule", description=__doc__)
    parser.add_argument("--identity", metavar="NAME", help="only this identity, or group:NAME")
    parser.add_argument("--resource", metavar="NAME", help="only this resource")
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """0. Raises ``ConfigError`` for a name that is not there."""
    folder = load_folder(args.config)
    policy = compile_policy(folder)
    known = list(subjects(folder))
    if args.identity is not None and args.identity not in known:
        raise ConfigError(f"there is no identity {args.identity!r}; there are: {', '.join(known)}")
    resources = [resource_of(folder, args.resource).name] if args.resource else list(policy.resources)
    wanted = [args.identity] if args.identity else known
    now = time.time()
    found = (access(folder, policy, who, resource, now) for who in wanted for resource in resources)
    emit(args, (one.as_document() for one in found if one is not None), _human)
    return 0


def _human(document: dict[str, Any]) -> Iterator[str]:
    denied = f"  ({document['denied']})" if document["denied"] else ""
    yield f"{printable(document['identity'])} on {document['resource']}{printable(denied)}"
    for grant in document["grants"]:
        yield f"  {printable(grant['grant'])}{_when(grant)}"
        for rule in grant["rules"]:
            body = {key: value for key, value in rule.items() if key not in ("rule", "effect")}
            yield f"    {rule['effect']:7} {printable(rule['rule'])}  {printable(json.dumps(body, ensure_ascii=False))}"
    for kind in ("masks", "rows", "detect"):
        yield from (f"  {kind:6} {printable(name)}: {rule}" for name, rule in document[kind].items())
    if document["limits"]:
        yield "  limits " + ", ".join(f"{key} {_limit(key, value)}" for key, value in document["limits"].items())


def _limit(key: str, value: float) -> str:
    if key == "until":
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return show_duration(value) if key in ("max", "idle") else str(round(value))


def _when(grant: dict[str, Any]) -> str:
    if "when" not in grant:
        return ""
    bounds = ", ".join(f"{key} {value}" for key, value in grant["when"].items())
    return f"  ({bounds}; {'open' if grant['open'] else 'closed'} now)"
