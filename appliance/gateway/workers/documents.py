# SPDX-License-Identifier: Apache-2.0
"""What crosses a ``Link`` between a worker and the first process: the gateway's own values as JSON, checked on arrival."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from gateway.approvals.view import ApprovalView
from gateway.errors import GatewayFault
from gateway.live import Caps
from gateway.model import Command, Decision, Session
from gateway.recording.live import Row
from gateway.recording.terminal import listed, unlisted

_T = TypeVar("_T")


class Document(Generic[_T]):
    """One kind of value. ``read`` raises ``GatewayFault`` for anything else."""

    def __init__(self, kind: type[_T]) -> None:
        self._kind = kind
        self._adapter = TypeAdapter(kind)

    def write(self, value: _T) -> Any:
        """As JSON can hold it."""
        return self._adapter.dump_python(value, mode="json")

    def read(self, value: Any) -> _T:
        try:
            return self._adapter.validate_python(value)
        except ValidationError:
            raise GatewayFault(f"not a {self._kind.__name__.lower()} that another process of this gateway would send") from None


SESSION = Document(Session)
CAPS = Document(Caps)
COMMAND = Document(Command)
DECISION = Document(Decision)
VIEW = Document(ApprovalView)


def rows_written(rows: list[Row]) -> Any:
    """What a watched session shows, as JSON can hold it."""
    return [[begin, *listed((event,))] for begin, event in rows]


def rows_read(value: Any) -> list[Row]:
    """Raises ``GatewayFault`` for anything else."""
    try:
        return [(int(begin), unlisted([row])[0]) for begin, row in value]
    except (TypeError, ValueError):
        raise GatewayFault("not what a session of another process of this gateway would show") from None
