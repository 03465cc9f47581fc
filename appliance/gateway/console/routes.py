# SPDX-License-Identifier: Apache-2.0
"""The table of everything the console answers. ``app`` serves it, ``openapi`` describes it, a test compares the two."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from gateway.approvals.view import STATES, ApprovalView
from gateway.console.approvals import ApprovalRoutes
from gateway.console.documents import (
    ApprovalList,
    Ballot,
    Ended,
    EventList,
    Head,
    Health,
    Readiness,
    SearchResult,
    SessionList,
    WhoAmI,
)
from gateway.console.gateway import Archive, ConsoleGateway
from gateway.console.guard import Guard
from gateway.console.health import HealthRoutes
from gateway.console.sessions import SessionRoutes

Who = Literal["anybody", "person", "reader", "ender", "watcher"]
"""Who may: nobody is asked; a person's token; one of console.read; one of console.end; as console.metrics says."""

_STATE = {"type": "array", "items": {"type": "string", "enum": list(STATES)}}
_NAME = {"type": "string"}
_LIMIT = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``gives`` is a dataclass, ``dict`` for a free object, or a media type; ``query`` holds JSON schemas."""

    method: str
    path: str
    name: str
    who: Who
    handler: Callable[[web.Request], Awaitable[web.Response]]
    gives: type | str
    takes: type | None = None
    query: dict[str, dict[str, Any]] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()
    """Problem statuses beside those every route of its ``who`` may give."""


def table(gateway: ConsoleGateway, archive: Archive, guard: Guard) -> tuple[tuple[Route, ...], HealthRoutes]:
    """Every route, bound to this gateway; and the handlers that show the OpenAPI document, to be given it."""
    health, approvals = HealthRoutes(gateway, guard), ApprovalRoutes(gateway, guard)
    sessions = SessionRoutes(gateway, archive, guard)
    vote = (404, 409, 413, 415, 422)
    return (
        Route("GET", "/readyz", "ready", "anybody", health.readyz, Readiness),
        Route("GET", "/healthz", "healthy", "anybody", health.healthz, Health),
        Route("GET", "/metrics", "metrics", "watcher", health.metrics, "text/plain", statuses=(404,)),
        Route("GET", "/openapi.json", "openapi", "anybody", health.openapi, dict),
        Route("GET", "/api/v1/whoami", "whoami", "person", health.whoami, WhoAmI),
        Route("GET", "/api/v1/approvals", "approvals.list", "person", approvals.listed, ApprovalList,
              query={"state": _STATE, "after": {"type": "string"}}),
        Route("GET", "/api/v1/approvals/{id}", "approvals.show", "person", approvals.show, ApprovalView, statuses=(404,)),
        Route("POST", "/api/v1/approvals/{id}/approve", "approvals.approve", "person", approvals.approve, ApprovalView, Ballot,
              statuses=vote),
        Route("POST", "/api/v1/approvals/{id}/deny", "approvals.deny", "person", approvals.deny, ApprovalView, Ballot, statuses=vote),
        Route("GET", "/api/v1/sessions", "sessions.list", "reader", sessions.listed, SessionList,
              query={"limit": _LIMIT, "identity": _NAME, "resource": _NAME, "open": _NAME}),
        Route("GET", "/api/v1/sessions/{id}", "sessions.show", "reader", sessions.show, dict, statuses=(404,)),
        Route("GET", "/api/v1/sessions/{id}/events", "sessions.events", "reader", sessions.events, EventList, statuses=(404,)),
        Route("POST", "/api/v1/sessions/{id}/end", "sessions.end", "ender", sessions.end, Ended, dict, statuses=(404, 413, 415)),
        Route("GET", "/api/v1/search", "search", "reader", sessions.search, SearchResult,
              query={"q": {"type": "string", "minLength": 1, "maxLength": 1024}, "limit": _LIMIT}),
        Route("GET", "/api/v1/audit/head", "audit.head", "reader", sessions.head, Head),
    ), health
