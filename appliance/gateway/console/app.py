# SPDX-License-Identifier: Apache-2.0
"""Puts the console together: an aiohttp application out of the route table."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from aiohttp import web

from gateway.console import openapi
from gateway.console.gateway import Archive, ConsoleGateway
from gateway.console.guard import Guard
from gateway.console.limits import ConsoleLimits
from gateway.console.routes import table


def make_app(gateway: ConsoleGateway, archive: Archive, limits: ConsoleLimits | None = None) -> web.Application:
    """The application. A body over the limit is refused before it is read."""
    bounds = limits or ConsoleLimits()
    guard = Guard(gateway, bounds)
    routes, health = table(gateway, archive, guard)
    app = web.Application(middlewares=[guard.middleware], client_max_size=bounds.body)
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler, name=route.name)
    health.document = openapi.document(routes, _version())
    return app


def _version() -> str:
    try:
        return version("lockgate")
    except PackageNotFoundError:
        return "0"
