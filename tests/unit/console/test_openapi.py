# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: valid, complete, and true of what the console answers."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.console import openapi, reference
from gateway.console.app import make_app
from gateway.console.health import METRICS
from gateway.console.routes import ROUTES
from gateway.testing.console import ConsoleRoom
from gateway.testing.desk import session


async def described(room: ConsoleRoom, http: aiohttp.ClientSession) -> dict[str, Any]:
    async with http.get(room.url + "/openapi.json") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def test_the_document_is_valid_and_names_every_route(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path) as room, aiohttp.ClientSession() as http:
        document = await described(room, http)
        OpenAPIV31SpecValidator(document).validate()
        served = {(route.method, route.resource.canonical) for route in make_app(room, room.archive).router.routes() if route.resource}
        named = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
        assert served == named
        open_to_all = {path for path, methods in document["paths"].items() for one in methods.values() if one["security"] == []}
        assert open_to_all == {"/readyz", "/healthz", "/metrics", "/openapi.json", "/api/v1/ssh/host-keys"}


def test_the_reference_pages_name_everything() -> None:
    found = reference.pages()
    assert json.loads(found["openapi.json"]) == openapi.document()
    assert all(f"`{route.method} {route.path}`" in found["console.md"] for route in ROUTES)
    assert all(f"`lockgate_{name}`" in found["console.md"] for name in METRICS)
    assert all(inspect.getdoc(route.handler) for route in ROUTES)


async def test_t68_whatever_needs_a_person_refuses_nobody(tmp_path: Path) -> None:
    """Walks the table: a route added without asking who is there would show here (T68)."""
    async with ConsoleRoom(tmp_path) as room, aiohttp.ClientSession() as http:
        for route in ROUTES:
            if route.who in ("anybody", "watcher"):
                continue
            async with http.request(route.method, room.url + route.path.replace("{id}", "x"), json={}) as answer:
                assert (route.name, answer.status) == (route.name, 401)
            if route.who == "caller":
                continue
            headers = {"Authorization": f"Bearer {room.robot()}"}
            async with http.request(route.method, room.url + route.path.replace("{id}", "x"), json={}, headers=headers) as answer:
                assert (route.name, answer.status) == (route.name, 403)


@pytest.mark.parametrize("state", ["pending", "granted", "denied"])
async def test_answers_fit_their_schemas(tmp_path: Path, state: str) -> None:
    async with ConsoleRoom(tmp_path) as room, aiohttp.ClientSession() as http:
        document = await described(room, http)
        asking, held = await room.room.asked()
        room.live.add(session(), lambda reason: None)
        room.archive.records.append({"kind": "session.start", "session": "ses_1"})
        headers = {"Authorization": f"Bearer {room.person('ines', 'dba', 'security')}"}
        ballot = {"digest": held.request.digest, "reason": "x"}
        if state != "pending":
            path = f"/api/v1/approvals/{held.id}/" + ("approve" if state == "granted" else "deny")
            async with http.post(room.url + path, headers=headers, json=ballot) as answer:
                check(document, "/api/v1/approvals/{id}/approve", "post", answer.status, await answer.json())
        plain = ("/api/v1/approvals", "/api/v1/whoami", "/readyz", "/healthz", "/api/v1/sessions", "/api/v1/audit/head")
        paths = {path: path for path in plain}
        paths |= {f"/api/v1/approvals/{held.id}": "/api/v1/approvals/{id}", "/api/v1/approvals/none": "/api/v1/approvals/{id}",
                  "/api/v1/sessions/ses_1/events": "/api/v1/sessions/{id}/events", "/api/v1/search?q=a": "/api/v1/search"}
        for path, template in paths.items():
            async with http.get(room.url + path, headers=headers) as answer:
                check(document, template, "get", answer.status, json.loads(await answer.read()))
        asking.cancel()


def check(document: dict[str, Any], path: str, method: str, status: int, answer: Any) -> None:
    response = document["paths"][path][method]["responses"][str(status)]
    [media] = response["content"].values()
    schema = {**media["schema"], "components": document["components"]}
    OAS31Validator(schema).validate(answer)
