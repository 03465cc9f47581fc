# SPDX-License-Identifier: Apache-2.0
"""For machines that watch the gateway: ready, alive, numbers, the API's description; and who a token is."""

from __future__ import annotations

from aiohttp import web

from gateway.approvals.binding import timestamp
from gateway.approvals.view import STATES
from gateway.approvals.voters import is_reader
from gateway.console.documents import Health, Readiness, WhoAmI
from gateway.console.gateway import ConsoleGateway
from gateway.console.guard import Guard
from gateway.console.problem import answer

_COUNTED = ("requested", *STATES[1:])
_ANSWERS = ("answers_2xx", "answers_4xx", "answers_5xx", "refused_tokens")
_SENT = ("sent", "failed", "dropped")
_BROKEN = {"begin": "begun", "end": "ended", "refused": "refused"}
_WORKERS = {"workers": "configured", "workers_serving": "serving", "workers_replaced_total": "replaced"}
METRICS = {
    "ready": "1 while the gateway serves",
    "audit_available": "1 while records can be written",
    "sessions_live": "sessions open now",
    "approvals_pending": "approvals that wait for votes now",
    "workers": "processes that should serve the listeners",
    "workers_serving": "of these, how many do now",
    "workers_replaced_total": "workers that ended by themselves since the start",
    "console_requests_in_flight": "requests the console answers now",
    **{f"approvals_{state}_total": f"approvals {state} since the start" for state in _COUNTED},
    **{f"console_{name}_total": f"{name.replace('_', ' ')} of the console since the start" for name in _ANSWERS},
    "break_glass_open": "break-glass sessions open on the machine's console",
    **{f"break_glass_{name}_total": f"break-glass sessions {what} since the start" for name, what in _BROKEN.items()},
    **{f"webhook_{name}_total": f"webhook documents {name} since the start" for name in _SENT},
}
"""Every number of ``/metrics``, by name without ``lockgate_``, and what it says."""


class HealthRoutes:
    """Handlers."""

    def __init__(self, gateway: ConsoleGateway, guard: Guard) -> None:
        self._gateway = gateway
        self._guard = guard

    async def readyz(self, request: web.Request) -> web.Response:
        """200 while the gateway serves, else 503 with the reason."""
        reason = self._gateway.not_ready
        return answer(Readiness(not reason, reason), 503 if reason else 200)

    async def healthz(self, request: web.Request) -> web.Response:
        """200 while the process answers."""
        return answer(Health(True))

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus text format 0.0.4."""
        await self._guard.watcher(request)
        text = "".join(_line(name, value) for name, value in sorted(self._numbers().items()))
        return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def openapi(self, request: web.Request) -> web.Response:
        """This document."""
        from gateway.console import openapi  # it describes this handler too

        return answer(openapi.document())

    async def whoami(self, request: web.Request) -> web.Response:
        """The person the token is."""
        who = await self._guard.person(request)
        settings = self._gateway.folder.gateway.console
        return answer(WhoAmI(who.name, who.issuer, who.subject, tuple(sorted(who.groups)), timestamp(who.expires),
                             is_reader(who, settings.read), is_reader(who, settings.end or settings.read)))

    def _numbers(self) -> dict[str, float]:
        """By name, every one of ``METRICS``."""
        desk, guard = self._gateway.approvals, self._guard
        numbers: dict[str, float] = {
            "ready": float(self._gateway.ready), "audit_available": float(self._gateway.audit_available),
            "sessions_live": len(self._gateway.live), "approvals_pending": desk.pending(),
            "console_requests_in_flight": guard.in_flight,
        }
        numbers |= {f"approvals_{state}_total": desk.counts[state] for state in _COUNTED}
        numbers |= {f"console_{name}_total": guard.counts[name] for name in _ANSWERS}
        glass = self._gateway.break_glass
        numbers |= {"break_glass_open": glass.get("open", 0), **{f"break_glass_{name}_total": glass.get(name, 0) for name in _BROKEN}}
        numbers |= {name: self._gateway.workers[key] for name, key in _WORKERS.items()}
        return numbers | {f"webhook_{name}_total": self._gateway.notifier.counts.get(name, 0) for name in _SENT}


def _line(name: str, value: float) -> str:
    kind = "counter" if name.endswith("_total") else "gauge"
    return f"# TYPE lockgate_{name} {kind}\nlockgate_{name} {value:.15g}\n"
