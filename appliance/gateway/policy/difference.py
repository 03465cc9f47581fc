# SPDX-License-Identifier: Apache-2.0
"""``policy diff``: which decisions change between two folders.

Both policies are asked the same questions (``gathering``). Masks, limits, and the definitions of issuers, identities, resources,
approvals and the revoked list are compared as they are. A change *widens* when something passes, shows or lasts that did not before,
or when that cannot be ruled out. What nobody recorded, tested or wrote a rule about is not asked.

Decisions are those of the rules, as if nobody were revoked: a grant that is widened for somebody who is revoked until tomorrow is wider
(docs/decisions/0033).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway.masking.model import MaskSet
from gateway.masking.rules import MaskRule
from gateway.policy.access import identity_for
from gateway.policy.gathering import Question, Side, pairs, questions
from gateway.policy.question import Answer, answer, rule_text

LABEL = 200
_RANK = {"allow": 2, "approve": 1, "deny": 0, "unknown": 0}
_LIMITS = ("max", "idle", "concurrent", "rows", "bytes", "denials", "until")
_KINDS = (("issuer", "issuers"), ("identity", "identities"), ("resource", "resources"), ("approval", "approvals"))


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs. ``what``: decision, masks, rows, limits, issuer, identity, resource, approval or revoked; ``source``: test,
    probe, recorded or definition."""

    what: str
    identity: str
    resource: str
    question: str
    before: str
    after: str
    widens: bool
    source: str = "definition"

    def as_document(self) -> dict[str, Any]:
        return asdict(self)


def differences(old: Side, new: Side, records: Iterable[Mapping[str, Any]], now: float) -> Iterator[Change]:
    """Every change, each once."""
    seen: set[Change] = set()
    for change in _all(old, new, records, now):
        if change not in seen:
            seen.add(change)
            yield change


def _all(old: Side, new: Side, records: Iterable[Mapping[str, Any]], now: float) -> Iterator[Change]:
    yield from _definitions(old, new)
    yield from _revoked(old, new)
    for subject, resource in pairs(old, new):
        yield from _standing(old, new, subject, resource, now)
    for question in questions(old, new, records):
        yield from _compare(question, _answer(old, question, now), _answer(new, question, now))


# --- decisions ---


def _answer(side: Side, question: Question, now: float) -> Answer:
    identity = side.identity(question.subject, question.groups)
    if question.resource not in side.policy.resources or identity is None:
        return Answer("deny", reason="not there")
    meaning = question.meaning(side, side.policy.masks(identity, question.resource, now))
    if meaning is None:
        return Answer("unknown", reason="nothing can say what it means")
    return answer(side.policy, identity, question.resource, meaning, now)


def _compare(question: Question, before: Answer, after: Answer) -> Iterator[Change]:
    label = question.label if len(question.label) <= LABEL else question.label[:LABEL - 3] + "..."
    place = (question.subject, question.resource)
    if (before.effect, before.approvals) != (after.effect, after.approvals):
        yield Change("decision", *place, label, _effect(before), _effect(after), _passes_more(before, after), question.source)
    elif before.effect in ("allow", "approve") and before.max_rows != after.max_rows:
        rows = [f"max_rows {_number(one.max_rows)}" for one in (before, after)]
        yield Change("decision", *place, label, rows[0], rows[1], _larger(before.max_rows, after.max_rows), question.source)
    if before.effect in ("allow", "approve") and after.effect in ("allow", "approve"):
        for column in sorted(before.masks.keys() | after.masks.keys()):
            was, becomes = (one.masks.get(column, "clear") for one in (before, after))
            if was != becomes:
                yield Change("masks", *place, f"{label} -> {column}", was, becomes, becomes != "redact", question.source)
        for relation in sorted(before.filtered.keys() | after.filtered.keys()):
            was, becomes = (one.filtered.get(relation, "every row") for one in (before, after))
            if was != becomes:
                yield Change("rows", *place, f"{label} -> {relation}", was, becomes, was != "every row", question.source)


def _effect(one: Answer) -> str:
    return f"approve by {', '.join(one.approvals)}" if one.effect == "approve" else one.effect


def _passes_more(before: Answer, after: Answer) -> bool:
    if _RANK[after.effect] != _RANK[before.effect]:
        return _RANK[after.effect] > _RANK[before.effect]
    return not set(after.approvals) >= set(before.approvals)


def _larger(before: float | None, after: float | None) -> bool:
    return before is not None and (after is None or after > before)


def _number(value: float | None) -> str:
    return "unlimited" if value is None else f"{value:.15g}"


# --- masks and limits ---


def _standing(old: Side, new: Side, subject: str, resource: str, now: float) -> Iterator[Change]:
    """Masks and session limits of one identity on one resource, where both sides have both."""
    if not all(resource in side.policy.resources and side.has(subject) for side in (old, new)):
        return
    who = [identity_for(side.folder, subject) for side in (old, new)]
    masks = [side.policy.masks(one, resource, now) for side, one in zip((old, new), who, strict=True)]
    for name, was, becomes, widens in _mask_changes(masks[0], masks[1]):
        yield Change("masks", subject, resource, name, was, becomes, widens)
    for relation in sorted(masks[0].filters.keys() | masks[1].filters.keys()):
        left, right = (one.filters.get(relation, frozenset()) for one in masks)
        if left != right:       # one condition more hides more; whether another one does is not known
            yield Change("rows", subject, resource, relation, _rows(left), _rows(right), not left <= right)
    for name in sorted(masks[0].functions ^ masks[1].functions):
        texts = ["may be called" if name in one.functions else "refused while rows are hidden" for one in masks]
        yield Change("rows", subject, resource, f"function {name}", texts[0], texts[1], name in masks[1].functions)
    limits = [side.policy.session_limits(one, resource, now) for side, one in zip((old, new), who, strict=True)]
    for key in _LIMITS:
        bounds = [getattr(one, key) for one in limits]
        if bounds[0] != bounds[1]:
            was, becomes = map(_number, bounds)
            yield Change("limits", subject, resource, f"session {key}", was, becomes, _larger(bounds[0], bounds[1]))


def _rows(texts: frozenset[str]) -> str:
    return " and ".join(f"({text})" for text in sorted(texts)) or "every row"


def _mask_changes(before: MaskSet, after: MaskSet) -> Iterator[tuple[str, str, str, bool]]:
    for kind, left, right in (("column", before.columns, after.columns), ("detect", before.detect, after.detect)):
        for name in sorted(left.keys() | right.keys()):
            was, becomes = left.get(name), right.get(name)
            if was != becomes:
                yield f"{kind} {name}", _rule(was), _rule(becomes), _shows_more(was, becomes)
    for name in sorted(before.clear ^ after.clear):
        texts = ["not looked into" if name in one.clear else "looked into" for one in (before, after)]
        yield f"clear {name}", texts[0], texts[1], name in after.clear


def _rule(rule: MaskRule | None) -> str:
    return "clear" if rule is None else rule_text(rule)


def _shows_more(was: MaskRule | None, becomes: MaskRule | None) -> bool:
    return was is not None and (becomes is None or not becomes.hides_all_that(was))


# --- definitions ---


def _definitions(old: Side, new: Side) -> Iterator[Change]:
    """Who is let in, which targets there are, how many people have to agree."""
    for what, kind in _KINDS:
        left = {one.name: one for one in getattr(old.folder.policy, kind)}
        right = {one.name: one for one in getattr(new.folder.policy, kind)}
        for name in sorted(left.keys() | right.keys()):
            if left.get(name) != right.get(name):
                place = (name if what == "identity" else "", name if what == "resource" else "", name)
                yield Change(what, *place, *_only_what_differs(left.get(name), right.get(name)), name in right)


def _only_what_differs(was: Any, becomes: Any) -> tuple[str, str]:
    if was is None or becomes is None:
        return ("absent", "present") if was is None else ("present", "absent")
    documents = [one.model_dump(mode="json") for one in (was, becomes)]
    keys = sorted(key for key in documents[0].keys() | documents[1].keys() if documents[0].get(key) != documents[1].get(key))
    before, after = (", ".join(f"{key}: {one.get(key)}" for key in keys) for one in documents)
    return before, after


def _revoked(old: Side, new: Side) -> Iterator[Change]:
    left, right = ([entry.model_dump(mode="json", exclude_none=True) for entry in side.folder.policy.revoked] for side in (old, new))
    for entry in left:
        if entry not in right:
            yield Change("revoked", str(entry.get("identity", "")), "", _entry(entry), "revoked", "not revoked", True)
    for entry in right:
        if entry not in left:
            yield Change("revoked", str(entry.get("identity", "")), "", _entry(entry), "not revoked", "revoked", False)


def _entry(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in entry.items())
