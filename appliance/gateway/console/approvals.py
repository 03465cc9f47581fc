# SPDX-License-Identifier: Apache-2.0
"""Approvals over HTTP: see what waits for one's groups, and vote on what was shown."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from gateway.approvals.desk import VoteRefused
from gateway.approvals.view import STATES, ApprovalView, State
from gateway.console.documents import ApprovalList
from gateway.console.gateway import ConsoleGateway
from gateway.console.guard import Guard, json_object
from gateway.console.problem import Answered, answer
from gateway.model import Identity

_PAGE = 4 * 2**20
"""Characters of statement text in one page of a list."""
_STATUS = {"not-found": 404, "not-allowed": 403, "conflict": 409, "reason": 422}
_BALLOT = frozenset({"digest", "reason"})


class ApprovalRoutes:
    """Handlers; each one asks the guard first."""

    def __init__(self, gateway: ConsoleGateway, guard: Guard) -> None:
        self._gateway = gateway
        self._guard = guard

    async def listed(self, request: web.Request) -> web.Response:
        """Approvals that wait for one of the caller's groups, or all for readers; ``state`` may be given several times."""
        person = await self._guard.person(request)
        after = request.query.get("after", "")
        shown, last = _page(self._visible(person, _states(request), after))
        return answer(ApprovalList(tuple(shown), last))

    async def show(self, request: web.Request) -> web.Response:
        """One approval; the exact text for those who may vote on it while it is open."""
        return answer(self._seen(await self._guard.person(request), request))

    async def approve(self, request: web.Request) -> web.Response:
        """Vote for it."""
        return await self._vote(request, True)

    async def deny(self, request: web.Request) -> web.Response:
        """Vote against it: one such vote is enough."""
        return await self._vote(request, False)

    async def _vote(self, request: web.Request, grant: bool) -> web.Response:
        person = await self._guard.person(request)
        ballot = await json_object(request, _BALLOT)
        view = self._seen(person, request)
        try:
            return answer(await self._gateway.approvals.vote(
                view.id, person, grant, ballot["reason"], ballot["digest"], source=request.remote or ""))
        except VoteRefused as fault:
            await self._record_refused(request, person, view, str(fault))
            raise Answered(_STATUS[fault.code], fault.code, str(fault)) from None

    def _seen(self, person: Identity, request: web.Request) -> ApprovalView:
        """An approval that is nobody's business of theirs is one that does not exist."""
        desk = self._gateway.approvals
        held = desk.show(request.match_info["id"])
        view = desk.seen_by(held, person, self._gateway.folder.gateway.console.read) if held is not None else None
        if view is None:
            raise Answered(404, "not-found", "there is no such approval, or none that waits for you")
        return view

    def _visible(self, person: Identity, states: tuple[State, ...], after: str) -> Iterable[ApprovalView]:
        desk, skipping = self._gateway.approvals, bool(after)
        for held in desk.listed(states):
            if not skipping and (view := desk.seen_by(held, person, self._gateway.folder.gateway.console.read)) is not None:
                yield view
            skipping = skipping and held.id != after

    async def _record_refused(self, request: web.Request, person: Identity, view: ApprovalView, reason: str) -> None:
        """Somebody voted who may not, or on something else: worth knowing."""
        await self._gateway.audit.record("console.refused", {
            "source": request.remote or "", "action": request.match_info.route.name or "", "identity": person.name,
            "issuer": person.issuer, "groups": sorted(person.groups), "about": view.id, "reason": reason})


def _page(views: Iterable[ApprovalView]) -> tuple[list[ApprovalView], str | None]:
    """As many as fit a page (one at least), and the id to go on after where there are more."""
    shown: list[ApprovalView] = []
    size = 0
    for view in views:
        size += len(view.text) + sum(len(value or "") for value in view.parameters)
        if shown and size > _PAGE:
            return shown, shown[-1].id
        shown.append(view)
    return shown, None


def _states(request: web.Request) -> tuple[State, ...]:
    asked = request.query.getall("state", [])
    if any(state not in STATES for state in asked):
        raise Answered(400, "wrong-state", f"expected state to be one of {', '.join(STATES)}")
    return tuple(state for state in STATES if state in asked)
