# SPDX-License-Identifier: Apache-2.0
"""Decisions: contract section 2. Rules match verbs and objects of a protocol made up here."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.schema import SessionSpec
from gateway.config.window import Window
from gateway.model import Decision, Effect, Operation, StatementLimits
from gateway.policy.rules import CompiledRule
from gateway.policy.scope import CompiledGrant, Scope

NOW = 1_790_000_000.0


def window(**keys: Any) -> Window:
    return Window.model_validate(keys)


LATER = window(**{"from": "2027-01-01T00:00:00Z"})


def rule(name: str, effect: Effect, verbs: Iterable[str] = (), objects: Iterable[str] = (), **more: Any) -> CompiledRule:
    wanted, named = frozenset(verbs), frozenset(objects)

    def matcher(operation: Operation) -> bool:
        return (not wanted or operation.verb in wanted) and (not named or bool(named & set(operation.objects)))

    return CompiledRule(name, effect, "toy", matcher, **more)


def grant(name: str, *rules: CompiledRule, to: Iterable[str] = ("bot",), when: Window | None = None, session: SessionSpec | None = None,
          statement: StatementLimits | None = None) -> CompiledGrant:
    return CompiledGrant(name, frozenset(to), frozenset({"db"}), when, session or SessionSpec(), statement or StatementLimits(), rules, ())


def scope(*grants: CompiledGrant, names: Iterable[str] = ("bot",)) -> Scope:
    return Scope("bot", "db", "toy", names, grants)


def op(verb: str, *objects: str, **attributes: Any) -> Operation:
    return Operation("toy", verb, objects, attributes)


def decide(what: Scope, *operations: Operation, now: float = NOW) -> Decision:
    return what.decide(operations, now)


READ = rule("g/read", "allow", ["select"])
WRITE = rule("g/write", "allow", ["delete", "update"])
ASK = rule("g/ask", "approve", ["delete"], by="one-dba")
NEVER = rule("g/never", "deny", ["drop", "delete"], ["secrets"])


def test_deny_beats_approve_beats_allow_and_silence_denies() -> None:
    what = scope(grant("g", READ, WRITE, ASK, NEVER))
    assert decide(what, op("select", "t")).effect == "allow"
    assert decide(what, op("select", "t")).rules == ("g/read",)
    held = decide(what, op("delete", "t"))
    assert (held.effect, held.rules, held.approvals) == ("approve", ("g/ask",), ("one-dba",))
    denied = decide(what, op("delete", "secrets"))
    assert (denied.effect, denied.rules, denied.reason) == ("deny", ("g/never",), "denied by g/never")
    silent = decide(what, op("merge", "t"))
    assert (silent.effect, silent.rules) == ("deny", ())
    assert silent.reason == "no rule allows merge of t; ask: lockgate explain --identity bot --resource db TEXT"


def test_a_refusal_says_how_to_ask_about_it() -> None:
    what = scope(grant("g", READ))

    def asked(operation: Operation) -> str:
        return decide(what, operation).reason.partition("--resource db ")[2]

    assert asked(Operation("ssh", "exec", ("rm",))) == "TEXT"
    assert asked(Operation("ssh", "rename", ("/srv/a", "/srv/b"))) == "--action rename /srv/a /srv/b"
    assert asked(Operation("ssh", "shell")) == "--action shell"
    for name in ("/srv/a b", "/srv/it's", "/" + "x" * 256):
        assert asked(Operation("ssh", "read", (name,))) == "--action read ABOUT"


def test_a_refusal_names_the_terminal_only_where_it_is_the_reason() -> None:
    plain = CompiledRule("plain", "allow", "toy", lambda one: one.objects == ("ls",) and one.attributes["pty"] is False)
    what = scope(grant("g", plain))
    assert decide(what, op("exec", "ls", pty=True)).reason.startswith("no rule allows exec of ls with a terminal;")
    assert decide(what, op("exec", "rm", pty=True)).reason.startswith("no rule allows exec of rm;")


def test_every_operation_has_to_be_allowed() -> None:
    what = scope(grant("g", READ, WRITE, ASK, NEVER))
    assert decide(what, op("select", "t"), op("merge", "t")).effect == "deny"
    assert decide(what, op("select", "t"), op("drop", "secrets")).rules == ("g/never",)
    both = decide(what, op("select", "t"), op("delete", "t"), op("update", "t"))
    assert (both.effect, both.rules) == ("approve", ("g/ask",))


def test_an_approve_rule_needs_no_allow_beside_it() -> None:
    assert decide(scope(grant("g", ASK)), op("delete", "t")).effect == "approve"


def test_several_approve_rules_all_count() -> None:
    other = rule("h/two", "approve", ["update"], by="security")
    held = decide(scope(grant("g", ASK), grant("h", other)), op("delete", "t"), op("update", "t"))
    assert held.approvals == ("one-dba", "security")
    assert held.rules == ("g/ask", "h/two")


def test_free_operations_need_no_allow_but_are_denied_and_approved() -> None:
    free = op("call", "pg_catalog.lower", free=True)
    assert decide(scope(grant("g", READ)), free).effect == "allow"
    assert decide(scope(grant("g", READ, rule("g/no", "deny", ["call"]))), free).rules == ("g/no",)
    assert decide(scope(grant("g", READ, rule("g/ask", "approve", ["call"], by="a"))), free).approvals == ("a",)
    assert decide(scope(grant("g", READ)), op("call", "f", free="yes")).effect == "deny"


def test_nothing_to_do_passes_where_something_is_granted() -> None:
    assert decide(scope(grant("g", READ))).effect == "allow"
    assert decide(scope()).effect == "deny"
    assert decide(scope(grant("g", NEVER))).effect == "deny"
    assert decide(scope(grant("g", READ, when=LATER))).effect == "deny"


def test_groups_and_names() -> None:
    by_group = grant("g", READ, to=["group:robots"])
    assert decide(scope(by_group, names=["bot", "group:robots"]), op("select")).effect == "allow"
    assert decide(scope(by_group, names=["bot", "robots"]), op("select")).effect == "deny"
    assert scope(by_group, names=["bot"]).grants == ()


def test_rules_of_another_protocol_never_match() -> None:
    assert decide(scope(grant("g", READ)), Operation("ssh", "select", ("t",))).effect == "deny"


def test_outside_its_window_a_grant_only_denies() -> None:
    what = scope(grant("closed", rule("closed/read", "allow"), rule("closed/ask", "approve", by="a"), NEVER, when=LATER), grant("g", READ))
    assert decide(what, op("select", "t")).effect == "allow"
    assert decide(what, op("delete", "secrets")).rules == ("g/never",)
    late = decide(what, op("update", "t"))
    assert "(closed/ask, closed/read would, but its window is closed)" in late.reason
    assert decide(what, op("select", "t"), now=1_830_000_000.0).effect == "approve"


def test_a_window_that_opens_and_closes_is_seen() -> None:
    hour = window(**{"from": "2026-09-21T14:00:00Z", "until": "2026-09-21T15:00:00Z"})
    what, asked = scope(grant("g", READ, when=hour)), (op("select"),)
    opens = 1_789_999_200.0
    assert [what.decide(asked, opens + offset).effect for offset in (-1, 0, 3599, 3600)] == ["deny", "allow", "allow", "deny"]
    assert what.decide(asked, opens).effect == "allow"


def test_daily_hours_are_seen() -> None:
    what, asked = scope(grant("g", READ, when=window(hours="08:00-09:00"))), (op("select"),)
    midnight = 1_790_035_200.0
    found = [what.decide(asked, midnight + hour * 3600 - 0.5).effect for hour in (8, 8.001, 9, 9.001, 32.001)]
    assert found == ["deny", "allow", "allow", "deny", "allow"]


def test_the_smallest_limit_counts() -> None:
    tight = rule("g/few", "allow", ["delete"], max_rows=5, statement=StatementLimits(rows=9, time=2.0))
    loose = rule("g/many", "allow", ["delete"], max_rows=50)
    reading = rule("g/read", "allow", ["select"], max_rows=1)
    what = scope(grant("g", tight, loose, reading, statement=StatementLimits(rows=100, time=1.0)), grant("h", loose))
    decision = decide(what, op("delete", "t"), op("select", "t"))
    assert decision.max_rows == 5
    assert decision.limits == StatementLimits(9, 1.0)
    assert decide(what, op("select", "t")).max_rows is None


def test_session_limits_are_the_smallest_of_all_grants() -> None:
    what = scope(grant("g", READ, session=SessionSpec(max=28_800.0, idle=1800.0, concurrent=50)),
                 grant("h", NEVER, session=SessionSpec(max=3600.0, rows=10), when=LATER))
    limits = what.limits(NOW)
    assert (limits.max, limits.idle, limits.concurrent, limits.rows, limits.until) == (3600.0, 1800.0, 50, 10, None)
    assert scope(grant("h", READ, when=LATER)).limits(NOW).until == NOW


def test_a_changed_operation_is_not_the_remembered_one() -> None:
    what = scope(grant("g", READ, NEVER))
    for _ in range(2):
        assert decide(what, op("select", "t")).effect == "allow"
        assert decide(what, op("drop", "secrets")).effect == "deny"
        assert decide(what, op("select", "t", where="missing")).effect == "allow"
        assert what.decide([op("select", "t")], NOW).effect == "allow"


def test_ten_thousand_rules_are_tried_once() -> None:
    tried: list[Operation] = []

    def never(operation: Operation) -> bool:
        tried.append(operation)
        return False

    many = [CompiledRule(f"g/{n}", "allow", "toy", never) for n in range(10_000)]
    what = scope(grant("g", *many, READ))
    for _ in range(50):
        assert decide(what, op("select", "t")).effect == "allow"
    assert len(tried) == 10_000


VERBS = ["select", "delete", "drop"]


@st.composite
def rules(draw: st.DrawFn) -> CompiledRule:
    effect: Effect = draw(st.sampled_from(["allow", "approve", "deny"]))
    return rule(f"g/{draw(st.integers(0, 99))}", effect, draw(st.sets(st.sampled_from(VERBS), max_size=2)),
                draw(st.sets(st.sampled_from(["t", "u"]), max_size=1)), by=draw(st.sampled_from("ab")) if effect == "approve" else None,
                max_rows=draw(st.none() | st.integers(0, 9)) if effect == "allow" else None)


@st.composite
def grants_of_rules(draw: st.DrawFn) -> CompiledGrant:
    return grant("g", *draw(st.lists(rules(), max_size=5)), when=LATER if draw(st.booleans()) else None)


GRANTS = st.lists(grants_of_rules(), max_size=4)
OPERATIONS = st.lists(st.builds(op, st.sampled_from([*VERBS, "merge"]), st.sampled_from(["t", "u", "v"])), max_size=4)


def reference(grants: list[CompiledGrant], operations: list[Operation]) -> str:
    """Contract section 2, said once more in as few words as possible."""
    live = [r for g in grants for r in g.rules if g.when is None]
    if any(r.effect == "deny" and r.matches(o) for g in grants for r in g.rules for o in operations):
        return "deny"
    if not any(r.effect != "deny" for r in live):
        return "deny"
    if any(not any(r.effect != "deny" and r.matches(o) for r in live) for o in operations):
        return "deny"
    return "approve" if any(r.effect == "approve" and r.matches(o) for r in live for o in operations) else "allow"


@given(GRANTS, OPERATIONS, st.randoms())
def test_order_has_no_meaning(grants: list[CompiledGrant], operations: list[Operation], chance: random.Random) -> None:
    expected = decide(scope(*grants), *operations)
    shuffled = [CompiledGrant(g.name, g.to, g.targets, g.when, g.session, g.statement, tuple(chance.sample(g.rules, len(g.rules))), g.masks)
                for g in chance.sample(grants, len(grants))]
    found = decide(scope(*shuffled), *chance.sample(operations, len(operations)))
    if expected.reason.startswith("no rule"):
        assert found.reason.startswith("no rule")
    else:
        assert found == expected
    assert expected.effect == reference(grants, operations)


@given(GRANTS, OPERATIONS, rules())
def test_another_deny_never_widens(grants: list[CompiledGrant], operations: list[Operation], more: CompiledRule) -> None:
    before = decide(scope(*grants), *operations).effect
    deny = CompiledRule("z/deny", "deny", "toy", more.matcher)
    after = decide(scope(*grants, grant("z", deny)), *operations).effect
    assert after in ("deny", before)


def test_long_texts_are_decided_and_not_remembered() -> None:
    """What one caller can make the gateway keep is bounded in bytes: 4,096 texts of 64 KiB would be 256 MiB."""
    what = scope(grant("g", rule("all", "allow")))
    short, long = op("exec", "a", text="a"), op("exec", "a", text="a" * 65536)
    for _ in range(2):
        assert decide(what, short).effect == decide(what, long).effect == "allow"
    assert (len(what._found), len(what._equal)) == (1, 1)
    assert all(operations == (short,) for operations, _ in what._same.values())
