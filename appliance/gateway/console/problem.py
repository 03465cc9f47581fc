# SPDX-License-Identifier: Apache-2.0
"""Answers: JSON, and problems as RFC 9457 says. Nothing of a request is repeated in either but names that were checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway.approvals.view import ApprovalView


class Answered(Exception):
    """Ends a request with a problem. ``retry`` are seconds after which asking again makes sense."""

    def __init__(self, status: int, code: str, detail: str, *, retry: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry = retry


def problem(fault: Answered) -> web.Response:
    document = {"type": "about:blank", "title": HTTPStatus(fault.status).phrase, "status": fault.status, "detail": fault.detail,
                "code": fault.code}
    headers = {"Retry-After": str(fault.retry)} if fault.retry is not None else {}
    if fault.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="lockgate"'
    return web.Response(status=fault.status, body=json.dumps(document).encode(), content_type="application/problem+json", headers=headers)


def answer(document: Any, status: int = 200) -> web.Response:
    """A dataclass of ``documents`` as JSON."""
    return web.Response(status=status, body=json.dumps(plain(document)).encode(), content_type="application/json")


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as JSON has them."""
    if isinstance(value, ApprovalView):
        return value.document()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value
