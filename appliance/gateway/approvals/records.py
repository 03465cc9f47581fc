# SPDX-License-Identifier: Apache-2.0
"""The fields of the ``approval.*`` records, and what a caller is told: pure. The exact text is in neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.approvals.binding import timestamp
from gateway.approvals.book import Held, Vote
from gateway.approvals.view import State
from gateway.errors import Refused
from gateway.model import Session
from gateway.policy.votes import quorum

_SAID: Mapping[State, str] = {
    "granted": "is being used already", "denied": "was denied", "expired": "expired", "withdrawn": "was withdrawn",
    "used": "was used already",
}


def fields_of(held: Held) -> dict[str, Any]:
    """What every record of an approval carries."""
    request = held.request
    needs = [{"group": group, "count": count} for group, count in quorum(request.definitions).items()]
    return {**request.base, "id": held.id, "digest": request.digest, "needs": needs}


def requested_fields(held: Held) -> dict[str, Any]:
    """``text_secret`` only becomes the keyed ``text_digest``, the same as that of the ``command.begin`` it may lead to."""
    request = held.request
    return fields_of(held) | {
        "verb": request.verbs[0] if request.verbs else "empty", "verbs": list(request.verbs), "objects": list(request.objects),
        "text": request.shown_text, "text_secret": request.command.text if request.command else "",
        "parameters": list(request.shown_parameters), "rules": list(request.rules), "expires": timestamp(request.expires),
        "waits": request.waits,
    } | ({"operations": [list(one) for one in request.operations]} if request.operations else {})


def vote_fields(held: Held, vote: Vote, source: str) -> dict[str, Any]:
    """``source`` is the voter's peer address; the record's own ``source`` stays the requester's."""
    return fields_of(held) | {
        "voter": vote.voter.name, "voter_issuer": vote.voter.issuer, "voter_subject": vote.voter.subject,
        "voter_source": source, "vote": "approve" if vote.grant else "deny", "reason": vote.reason,
    }


def used_fields(held: Held, user: Session) -> dict[str, Any]:
    """``user`` is the session that uses the grant: not always the one that asked for it."""
    voters = [vote.voter.name for vote in held.votes if vote.grant]
    return fields_of(held) | {"session": user.id, "source": user.source, "voters": voters}


def refusal(held: Held) -> Refused:
    """What the caller is told of an approval that does not let its command run now. ``detail`` is the id."""
    if held.state == "pending":
        return Refused("this command needs an approval that is not given yet", "held", held.id,
                       f"{held.view(exact=False).notice()}; then send the identical command again")
    code = held.state if held.state in ("denied", "expired", "withdrawn") else "denied"
    why = f": {held.outcome}" if held.outcome else ""
    said = f"was {held.outcome}" if held.state == "denied" and held.outcome else f"{_SAID[held.state]}{why}"
    return Refused(f"approval {held.id} {said}", code, held.id)
