# SPDX-License-Identifier: Apache-2.0
"""The console's reference pages, from the route table: ``console.md`` for people, ``openapi.json`` for programs."""

from __future__ import annotations

import inspect
import json

from gateway.approvals import notify
from gateway.console import openapi
from gateway.console.guard import HEADERS
from gateway.console.health import METRICS
from gateway.console.limits import ConsoleLimits
from gateway.console.routes import ROUTES, Route

_WHO = {
    "anybody": "anybody", "caller": "whoever may connect, a robot too", "person": "a person", "reader": "a person of `console.read`",
    "ender": "a person of `console.end`, or of `console.read` where that is empty",
    "onlooker": "a person of `console.watch`, or of `console.read` where that is empty", "watcher": "as `console.metrics` says",
}
_HEAD = """# The console's HTTP API

Generated from the route table by `lockgate docs`. The same as an OpenAPI 3.1 document: [openapi.json](openapi.json), and
`GET /openapi.json` of every gateway.

A caller shows a person's token as `Authorization: Bearer TOKEN`; robots' tokens get 403, except where they are exchanged for an SSH
certificate. Cookies are not looked at, a GET changes
nothing, a POST has to be `application/json`, and there is no CORS: a page in a browser cannot vote. Errors are problem details
(RFC 9457) with a stable `code`. Reading sessions, recordings or the log's head is itself recorded (`console.read`) before the answer
leaves, ending a session is (`console.end`), and so are refused tokens and refused votes (`console.refused`). What a reader searched for
is not recorded: it may be the very value that was masked.

Somebody who is in none of an approval's groups, and no reader, cannot tell it from one that does not exist. The exact text is for those
who may vote on it while it is open; readers and the owner see what the log shows (`exact: false`). A denied request that does not wait
stays denied until it would have expired, so that a robot cannot ask people again and again.
"""


def pages() -> dict[str, str]:
    """Both pages by name."""
    return {"console.md": _page(), "openapi.json": json.dumps(openapi.document(), indent=2, sort_keys=True) + "\n"}


def _page() -> str:
    return "\n".join([_HEAD, "| request | who | what |", "|---|---|---|", *map(_row, ROUTES), "", *_bounds(), *_metrics(), *_webhook()])


def _row(route: Route) -> str:
    return f"| `{route.method} {route.path}` | {_WHO[route.who]} | {' '.join((inspect.getdoc(route.handler) or '').split())} |"


def _bounds() -> list[str]:
    found = ConsoleLimits()
    return [
        "## Bounds", "",
        f"{found.connections} connections, {found.per_source} of one source (an IPv4 address, or the /64 of an IPv6 address); "
        f"{found.in_flight} requests at once; `limits.handshake` seconds for a whole request head; {found.request:g} s for an answer; "
        f"{found.stall:g} s in which a caller does not read; bodies of {found.body // 1024} KiB; {found.failures} refused tokens a minute "
        "and source, then 429.", "",
        "Every answer carries " + ", ".join(f"`{name}: {value}`" for name, value in HEADERS.items()) + ".", ""]


def _metrics() -> list[str]:
    return ["## Metrics", "", "Prometheus text, no labels, so that no identity can get in:", "",
            *(f"* `lockgate_{name}`: {what}" for name, what in METRICS.items()), ""]


def _webhook() -> list[str]:
    return ["## The webhook", "", inspect.getdoc(notify) or "", "",
            f"At most {notify.ATTEMPTS} attempts, the pause doubling from one second; {notify.QUEUE} documents wait at most.", ""]
