# SPDX-License-Identifier: Apache-2.0
"""What the console needs of the gateway: ``build.Gateway`` has all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gateway.approvals.desk import ApprovalsDesk
from gateway.config.load import Folder
from gateway.config.schema import GatewayConfig
from gateway.govern import AuditLog
from gateway.live import LiveSessions
from gateway.model import Identity
from gateway.policy.policy import Policy
from gateway.recording.live import Hub


class Authenticator(Protocol):
    """The part of ``identity.authenticate.Authenticator`` used here."""

    async def admit(self, text: str, source: str, now: float, *, people: bool = False) -> Identity:
        """Who presents the token. Raises ``Refused``."""


class Audit(AuditLog, Protocol):
    """The audit log, and whether records can be written now."""

    @property
    def available(self) -> bool: ...


class Archive(Protocol):
    """``recording.read.Archive``: reads the log and the recordings. Every call may block on the disk: it is made in a thread."""

    def sessions(self, limit: int = 100, *, identity: str | None = None, resource: str | None = None,
                 open_only: bool = False) -> list[dict[str, Any]]:
        """The newest sessions first, as ``lockgate sessions list --json`` prints them."""

    def session(self, session_id: str) -> dict[str, Any] | None: ...

    def events(self, session_id: str) -> list[dict[str, Any]]:
        """Its records in order; those with a sample of the masked result carry it as ``sample``."""

    def search(self, text: str, limit: int = 100) -> list[dict[str, Any]]: ...

    def head(self) -> str:
        """The newest signed note. Raises ``GatewayFault`` where there is none."""


class Told(Protocol):
    """``approvals.notify.Notifier``."""

    @property
    def counts(self) -> Mapping[str, int]:
        """sent, failed, dropped."""


class ConsoleGateway(Protocol):
    """The gateway as the console sees it (``build.Gateway``). Attributes are looked at with each request: a reload is seen at once."""

    @property
    def folder(self) -> Folder: ...
    @property
    def started(self) -> GatewayConfig:
        """What the process began with: the listeners it has."""
    @property
    def policy(self) -> Policy: ...
    @property
    def approvals(self) -> ApprovalsDesk: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def live(self) -> LiveSessions: ...
    @property
    def watching(self) -> Hub: ...
    @property
    def authenticator(self) -> Authenticator: ...
    @property
    def notifier(self) -> Told: ...
    @property
    def break_glass(self) -> Mapping[str, int]:
        """open, begin, end, refused."""
    @property
    def workers(self) -> Mapping[str, int]:
        """configured, serving, replaced."""
    @property
    def ready(self) -> bool: ...
    @property
    def not_ready(self) -> str:
        """Why it does not serve; empty where it does."""
    @property
    def audit_available(self) -> bool:
        """Whether records can be written now, by every worker."""
    def now(self) -> float: ...
    def may_start(self, identity: str) -> bool:
        """Whether one more operation of this identity is within its rate."""
