# SPDX-License-Identifier: Apache-2.0
"""``lockgate ready``: does the gateway serve, and can it record? Asks ``/readyz`` over TLS, as a monitoring system would.

Exit status 0 when it does, 1 when it says why not, 2 when it cannot be asked. ``--wait`` asks again until it does.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import Any

from gateway.cli.client import Client, ClientProblem, add_console, anonymous
from gateway.cli.options import add_json, duration
from gateway.cli.output import emit

_POLL = 0.2


def register(subparsers: Any) -> None:
    """The verb ``ready``."""
    parser: ArgumentParser = subparsers.add_parser("ready", help="does the gateway serve: 0 or 1", description=__doc__)
    add_console(parser)
    parser.add_argument("--wait", metavar="TIME", type=duration, default=0.0, help="how long to ask again (default: once)")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """0 ready, 1 not, 2 not to be asked."""
    document, status = ask(anonymous(args), args.wait)
    emit(args, document, lambda said: "ready" if said["ready"] else f"not ready: {said['reason']}")
    return status


def ask(console: Client, wait: float) -> tuple[dict[str, Any], int]:
    """The answer, or the last one when the time is over, with the exit status it makes."""
    end = time.monotonic() + wait
    while True:
        try:
            console.get("/readyz")
            return {"ready": True, "reason": ""}, 0
        except ClientProblem as problem:
            reason = (problem.document or {}).get("reason") or str(problem)
            if time.monotonic() >= end:
                return {"ready": False, "reason": reason}, problem.status
        time.sleep(_POLL)
