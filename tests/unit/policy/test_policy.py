# SPDX-License-Identifier: Apache-2.0
"""A folder's policy: which grants apply, masks, limits, and when a session is over (attack T9)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.identity.authenticate import Authenticator
from gateway.model import Identity, Operation, Session, Value
from gateway.policy.policy import Policy, compile_policy
from gateway.policy.rules import families, family
from gateway.protocols.postgres.operations import compile_matcher
from gateway.protocols.postgres.sql.verbs import VERBS
from tests.unit.identity.folder import IDENTITIES, ISSUERS, NOW, RESOURCES, make_folder, new_issuers

ISSUED = new_issuers()
READ = {"name": "read", "allow": {"sql": {"verbs": ["select"], "relations": ["public.*"]}}}
ORDERS = Operation("postgres", "select", ("public.orders",), {"relations": ("public.orders",)})


def grant(name: str = "g", to: tuple[str, ...] = ("ci-bot",), **more: Any) -> dict[str, Any]:
    return {"name": name, "to": list(to), "targets": ["orders-db"], "rules": [READ]} | more


def policy_of(root: Path, *grants: dict[str, Any], **lists: Any) -> Policy:
    keys = {name: issuer.jwks() for name, issuer in ISSUED.items()}
    return compile_policy(make_folder(root, {"grants": list(grants), **lists}, keys))


def admitted(root: Path, policy: dict[str, Any]) -> Identity:
    """ci-bot, let in through the door of this policy."""
    folder = make_folder(root, policy, {name: issuer.jwks() for name, issuer in ISSUED.items()})
    token = ISSUED["ci"].mint("project:payments/api:ref:main", now=NOW, ref_protected="true", jti="j")
    return Authenticator(folder).authenticate(token, "127.0.0.1", NOW)


BOT = Identity("ci-bot", "ci", "project:x", frozenset({"robots"}), "dana", session_until=math.inf)
INES = Identity("ines", "staff", "user:ines", frozenset({"dba"}), person=True, session_until=math.inf)


def session(identity: Identity, started: float = NOW, resource: str = "orders-db", name: str = "s") -> Session:
    return Session(name, identity, resource, "postgres", "127.0.0.1", started)


def effect(policy: Policy, identity: Identity, resource: str = "orders-db") -> str:
    return policy.decide(identity, resource, (ORDERS,), NOW).effect


def test_grants_by_name_and_group(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, grant("a"), grant("b", ("group:dba",)))
    assert effect(policy, BOT) == "allow"
    assert effect(policy, INES) == "allow"
    assert effect(policy, Identity("omar", "staff", "user:omar", frozenset({"ops"}), person=True)) == "deny"
    assert effect(policy, Identity("reporting", "ci", "s", frozenset({"robots"}))) == "deny"
    assert effect(policy, BOT, "other-db") == "deny"


def test_a_person_with_the_name_of_a_robot_gets_nothing_of_it(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, grant("a"))
    assert effect(policy, Identity("ci-bot", "staff", "user:x", frozenset(), person=True)) == "deny"


def test_may_enter(tmp_path: Path) -> None:
    late = grant("late", ("reporting",), when={"from": "2027-01-01T00:00:00Z"})
    policy = policy_of(tmp_path, grant("a"), late, revoked=[{"person": "ines"}])
    assert policy.may_enter(BOT, "orders-db", NOW) is None
    assert "no grant" in str(policy.may_enter(BOT, "nothing", NOW))
    assert "no grant" in str(policy.may_enter(INES, "orders-db", NOW))
    assert "anything on orders-db now" in str(policy.may_enter(Identity("reporting", "ci", "s"), "orders-db", NOW))


def test_masks_of_all_grants_add_up_also_outside_of_their_windows(tmp_path: Path) -> None:
    masks = [{"name": "one", "columns": {"public.customers.ssn": {"keep_last": 4}, "public.customers.card": {"keep_last": 4}},
              "clear": ["public.t.a", "public.t.b"], "detect": {"jwt": "redact"}},
             {"name": "two", "columns": {"public.customers.ssn": "email"}, "clear": ["public.t.b"], "detect": {"private-key": "redact"}}]
    policy = policy_of(tmp_path, grant("a", masks=["one"]), grant("b", masks=["two"], when={"from": "2027-01-01T00:00:00Z"}), masks=masks)
    found = policy.masks(BOT, "orders-db", NOW)
    assert {name: (rule.kind, rule.keep) for name, rule in found.columns.items()} == {
        "public.customers.ssn": ("redact", 0), "public.customers.card": ("keep_last", 4)}
    assert set(found.detect) == {"jwt", "private-key"}
    assert found.clear == {"public.t.b"}
    assert not policy.masks(INES, "orders-db", NOW)
    assert policy.masks(BOT, "orders-db", NOW) is found


def test_t09_session_ends_with_its_token_its_length_and_its_window(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, grant("a", session={"max": "1h"}, when={"until": "2026-09-21T15:00:00Z"}))
    window_closes = 1_790_002_800.0
    assert policy.ended(session(BOT, window_closes - 60), window_closes - 1) is None
    assert policy.ended(session(BOT, window_closes - 60), window_closes) == "no grant is in its window any more"
    assert policy.ended(session(BOT, window_closes - 4000, name="t"), window_closes - 400) == "the session has reached its longest duration"
    short = Identity("ci-bot", "ci", "s", session_until=window_closes - 100)
    assert policy.ended(session(short, window_closes - 200, name="u"), window_closes - 101) is None
    assert policy.ended(session(short, window_closes - 200, name="u"), window_closes - 100) == "the token has ended"


@pytest.mark.parametrize("entry", [{"identity": "ci-bot"}, {"token_id": "j"}, {"issuer": "ci", "subject": "project:payments/api:ref:main"},
                                   {"key_id": ISSUED["ci"].key_id}])
def test_t09_revocation_reaches_a_live_session(tmp_path: Path, entry: dict[str, Any]) -> None:
    live = session(admitted(tmp_path / "door", {"grants": [grant()]}))
    assert policy_of(tmp_path / "a", grant()).ended(live, NOW) is None
    assert "revoked" in str(policy_of(tmp_path / "b", grant(), revoked=[entry]).ended(live, NOW))
    over = {**entry, "until": "2026-09-21T00:00:00Z"}
    assert policy_of(tmp_path / "c", grant(), revoked=[over]).ended(live, NOW) is None


def test_t09_a_reload_that_changes_who_is_let_in_ends_the_session(tmp_path: Path) -> None:
    live = session(admitted(tmp_path / "door", {"grants": [grant()]}))
    entry = IDENTITIES[0]
    changes: list[dict[str, Any]] = [{"match": {"sub": "project:other/*"}}, {"groups": []}, {"owner": "sam"}, {"sources": ["10.0.0.0/8"]}]
    for number, change in enumerate(changes):
        policy = policy_of(tmp_path / str(number), grant(), identities=[entry | change, IDENTITIES[1]])
        assert policy.ended(live, NOW) == "the policy changed what admitted this caller"
    gone = policy_of(tmp_path / "gone", grant(to=("reporting",)), identities=[IDENTITIES[1]])
    assert gone.ended(live, NOW) == "the identity is no longer there"
    audience = [ISSUERS[0] | {"audience": "lockgate/plant-b"}, ISSUERS[1]]
    assert policy_of(tmp_path / "aud", grant(), issuers=audience).ended(live, NOW) == "the policy changed what admitted this caller"


def test_t09_a_reload_that_takes_grants_or_the_resource_away_ends_the_session(tmp_path: Path) -> None:
    live = session(admitted(tmp_path / "door", {"grants": [grant()]}))
    assert "no grant" in str(policy_of(tmp_path / "a", grant(to=("reporting",))).ended(live, NOW))
    other = RESOURCES[0] | {"name": "orders-two"}
    policy = policy_of(tmp_path / "b", grant(targets=["orders-two"]), resources=[other])
    assert policy.ended(live, NOW) == "the resource is no longer there"


def test_a_key_that_rotates_does_not_end_sessions(tmp_path: Path) -> None:
    live = session(admitted(tmp_path / "door", {"grants": [grant()]}))
    folder = make_folder(tmp_path / "next", {"grants": [grant()]}, {name: issuer.jwks() for name, issuer in new_issuers().items()})
    assert compile_policy(folder).ended(live, NOW) is None


def test_people_need_their_issuer(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, grant("b", ("group:dba",)))
    assert policy.ended(session(INES), NOW) is None
    stranger = Identity("ines", "elsewhere", "user:ines", frozenset({"dba"}), person=True, session_until=math.inf)
    assert policy.ended(session(stranger, name="x"), NOW) == "the issuer is no longer there"


def test_an_entry_for_a_person_adds_groups(tmp_path: Path) -> None:
    entry = {"name": "ines", "issuer": "staff", "match": {"sub": "user:ines"}, "groups": ["oncall"]}
    lists = {"identities": [*IDENTITIES, entry], "grants": [grant("n", ("ines",))]}
    folder = make_folder(tmp_path, lists, {name: issuer.jwks() for name, issuer in ISSUED.items()})
    gate, policy = Authenticator(folder), compile_policy(folder)
    ines = gate.authenticate(ISSUED["staff"].person("ines", ["dba"], now=NOW), "127.0.0.1", NOW)
    assert (ines.name, ines.person, ines.groups) == ("ines", True, frozenset({"dba", "oncall"}))
    assert effect(policy, ines) == "allow"
    assert policy.may_enter(ines, "orders-db", NOW) is None


def test_rules_their_protocol_does_not_understand_are_refused(tmp_path: Path) -> None:
    for sql in ({"verbs": ["selekt"]}, {"verbs": ["select"], "tables": ["x"]}):
        with pytest.raises(ConfigError):
            policy_of(tmp_path, grant(rules=[{"name": "r", "allow": {"sql": sql}}]))


def test_the_index_by_verb_never_hides_a_match() -> None:
    several: list[dict[str, Value]] = [
        {}, {"relations": ("public.t",)}, {"functions": ("public.t",)}, {"parameters": ("role",)}, {"parameters": ("timezone",)},
        {"container": True}, {"free": True, "functions": ("pg_catalog.t",)}, {"where": "missing", "relations": ("public.t",)}]
    operations = [Operation("postgres", verb, ("public.t",), attributes) for verb in sorted(VERBS) for attributes in several]
    for effect_ in ("allow", "approve", "deny"):
        for verb in sorted(VERBS):
            for body in ({"verbs": [verb]}, {"verbs": verb, "parameters": ["role", "*"]}):
                matcher, indexed = compile_matcher(body, effect_), families(body)
                assert indexed is not None
                assert all(family(operation.verb) in indexed for operation in operations if matcher(operation))
    assert families({}) is None
    assert families({"verbs": ["*"]}) is None
