# SPDX-License-Identifier: Apache-2.0
"""Puts the console together: an aiohttp application out of the route table."""

from __future__ import annotations

from aiohttp import web

from gateway.console.gateway import Archive, ConsoleGateway
from gateway.console.guard import Guard
from gateway.console.limits import ConsoleLimits
from gateway.console.routes import bound


def make_app(gateway: ConsoleGateway, archive: Archive, limits: ConsoleLimits | None = None) -> web.Application:
    """The application. A body over the limit is refused before it is read."""
    bounds = limits or ConsoleLimits()
    guard = Guard(gateway, bounds)
    app = web.Application(middlewares=[guard.middleware], client_max_size=bounds.body)
    for route, handler in bound(gateway, archive, guard):
        app.router.add_route(route.method, route.path, handler, name=route.name)
    return app
