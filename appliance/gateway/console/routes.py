# SPDX-License-Identifier: Apache-2.0
"""The table of everything the console answers. ``app`` serves it, ``openapi`` describes it, a test compares the two."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from gateway.approvals.view import STATES, ApprovalView
from gateway.console.approvals import ApprovalRoutes
from gateway.console.certificates import CertificateRoutes
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
    SshCertificate,
    SshHostKeys,
    SshRequest,
    WhoAmI,
)
from gateway.console.gateway import Archive, ConsoleGateway
from gateway.console.guard import Guard, Handler
from gateway.console.health import HealthRoutes
from gateway.console.sessions import SessionRoutes

Who = Literal["anybody", "caller", "person", "reader", "ender", "onlooker", "watcher"]
"""Who may: nobody is asked; any token that opens a listener; a person's; one of console.read; one of console.end;
one of console.watch; as console.metrics
says."""

_STATE = {"type": "array", "items": {"type": "string", "enum": list(STATES)}}
_NAME = {"type": "string"}
_VOTE = (404, 409, 413, 415, 422)
_LIMIT = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``handler`` is a method of one of the areas. ``gives`` is a dataclass, ``dict`` for a free object, or a media
    type; ``query`` holds JSON schemas; ``statuses`` are problems beside those every route of its ``who`` may give."""

    method: str
    path: str
    name: str
    who: Who
    handler: Callable[..., Awaitable[web.StreamResponse]]
    gives: type | str
    takes: type | None = None
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()


ROUTES = (
    Route("GET", "/readyz", "ready", "anybody", HealthRoutes.readyz, Readiness),
    Route("GET", "/healthz", "healthy", "anybody", HealthRoutes.healthz, Health),
    Route("GET", "/metrics", "metrics", "watcher", HealthRoutes.metrics, "text/plain", statuses=(404,)),
    Route("GET", "/openapi.json", "openapi", "anybody", HealthRoutes.openapi, dict),
    Route("GET", "/api/v1/whoami", "whoami", "person", HealthRoutes.whoami, WhoAmI),
    Route("GET", "/api/v1/approvals", "approvals.list", "person", ApprovalRoutes.listed, ApprovalList,
          query={"state": _STATE, "after": _NAME}),
    Route("GET", "/api/v1/approvals/{id}", "approvals.show", "person", ApprovalRoutes.show, ApprovalView, statuses=(404,)),
    Route("POST", "/api/v1/approvals/{id}/approve", "approvals.approve", "person", ApprovalRoutes.approve, ApprovalView, Ballot,
          statuses=_VOTE),
    Route("POST", "/api/v1/approvals/{id}/deny", "approvals.deny", "person", ApprovalRoutes.deny, ApprovalView, Ballot, statuses=_VOTE),
    Route("GET", "/api/v1/sessions", "sessions.list", "reader", SessionRoutes.listed, SessionList,
          query={"limit": _LIMIT, "identity": _NAME, "resource": _NAME, "open": _NAME}),
    Route("GET", "/api/v1/sessions/{id}", "sessions.show", "reader", SessionRoutes.show, dict, statuses=(404,)),
    Route("GET", "/api/v1/sessions/{id}/events", "sessions.events", "reader", SessionRoutes.events, EventList, statuses=(404,)),
    Route("GET", "/api/v1/sessions/{id}/watch", "sessions.watch", "onlooker", SessionRoutes.watch, "application/x-ndjson",
          statuses=(404, 503)),
    Route("POST", "/api/v1/sessions/{id}/end", "sessions.end", "ender", SessionRoutes.end, Ended, dict, statuses=(404, 413, 415)),
    Route("GET", "/api/v1/search", "search", "reader", SessionRoutes.search, SearchResult,
          query={"q": {"type": "string", "minLength": 1, "maxLength": 1024}, "limit": _LIMIT}),
    Route("POST", "/api/v1/ssh/certificate", "ssh.certificate", "caller", CertificateRoutes.mint, SshCertificate, SshRequest,
          statuses=(404, 413, 415)),
    Route("GET", "/api/v1/ssh/host-keys", "ssh.host-keys", "anybody", CertificateRoutes.host_keys, SshHostKeys, statuses=(404,)),
    Route("GET", "/api/v1/audit/head", "audit.head", "reader", SessionRoutes.head, Head),
)
"""Everything there is."""


def bound(gateway: ConsoleGateway, archive: Archive, guard: Guard) -> list[tuple[Route, Handler]]:
    """Each route with what answers it on this gateway."""
    areas = (HealthRoutes(gateway, guard), ApprovalRoutes(gateway, guard), SessionRoutes(gateway, archive, guard),
             CertificateRoutes(gateway, guard))
    return [(route, getattr(area, route.handler.__name__)) for route in ROUTES for area in areas
            if route.handler.__qualname__.startswith(f"{type(area).__name__}.")]
