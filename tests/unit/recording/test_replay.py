# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows of a session, when, and that nothing recorded can reach through it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.recording.replay import Frame, clock, frames, pauses, shown, starting, statement

DECISION = {"effect": "allow", "rules": ["reporting/read"], "reason": ""}


def event(kind: str, seq: int, at: float, **fields: Any) -> dict[str, Any]:
    seconds, rest = divmod(round(at * 1_000_000), 1_000_000)
    time = f"2026-11-22T10:00:{seconds:02d}.{rest:06d}Z"
    return {"kind": kind, "seq": seq, "time": time, "session": "s-1", "identity": "ci-bot", **fields}


SESSION = [
    event("session.start", 1, 0, resource="orders-db", groups=["ci"], claims={"run": "42"}),
    event("command.begin", 2, 1.5, verb="select", objects=["public.orders"], text="SELECT *\nFROM orders",
          parameters=["7", None], decision=DECISION),
    event("command.end", 3, 1.75, begin=2, status="ok", rows=3, bytes=90, masked=2, duration=0.25,
          sample={"columns": ["id", "email"], "rows": [["1", "d***@example.org"], ["2", None]], "truncated": True}),
    event("command.begin", 4, 3, verb="drop-database", objects=["orders"], text="DROP DATABASE orders",
          decision={"effect": "deny", "rules": ["ci/never"], "reason": "denied by ci/never"}),
    event("command.end", 5, 3, begin=4, status="refused", rows=0, bytes=0, masked=0, error="42501"),
    event("approval.requested", 6, 4, id="apr_1", text="DELETE FROM orders", needs=[{"group": "dba", "count": 2}], expires="10:15"),
    event("approval.vote", 7, 40, id="apr_1", voter="ines", vote="approve", reason="ticket 7"),
    event("approval.used", 8, 40, id="apr_1", voters=["ines"]),
    event("session.end", 9, 41, reason="client closed"),
]


def text(made: list[Frame]) -> str:
    return "\n".join(line for frame in made for line in frame.lines)


EXPECTED = (
    "ci-bot on orders-db", "run=42", "ALLOW select public.orders", "reporting/read", "| FROM orders", "parameters: 7, NULL", "3 rows",
    "2 values masked", "250.0 ms", "d***@example.org", "more rows", "DENY drop-database", "refused: denied by ci/never", "42501",
    "2 of dba", "ines approves apr_1 at 2026-11-22T10:00:40", "ticket 7", "apr_1 used by ines", "client closed", "00:40.000  #7",
)


def test_everything_a_person_asks_for_is_shown() -> None:
    said = text(frames(SESSION))
    for part in EXPECTED:
        assert part in said, part


def test_operations_that_were_recorded_each_by_itself_are_shown_so() -> None:
    begin = event("command.begin", 2, 1.5, verb="read", verbs=["read", "list"], objects=["/srv/a", "/srv/b"], text="rsync --server",
                  operations=[["read", "/srv/a"], ["list", "/srv/a\x1b"], ["read", "/srv/b"]], decision=DECISION)
    assert frames([begin])[0].lines == (
        "00:00.000  #2  ALLOW read /srv/a  [reporting/read]", "      and list /srv/a\\x1b", "      and read /srv/b",
        "      | rsync --server")
    for broken in ("read", 7, [7, "read"]):
        assert "ALLOW read /srv/a /srv/b  [" in text(frames([begin | {"verbs": ["read"], "operations": broken}]))


HOSTILE = "\x1b]52;c;aGk=\x07 \x1b[2J \u202e txt \u2066 \x9b31m \r overwritten \x00 \u2028"


def test_nothing_reaches_the_terminal() -> None:
    """T53: clipboard, title and cursor sequences, C1 controls, bidirectional overrides, carriage returns."""
    records = [{key: HOSTILE if isinstance(value, str) and key not in ("kind", "time") else value for key, value in record.items()}
               for record in SESSION]
    records.append(event("console.odd" + HOSTILE, 10, 42, reason=HOSTILE))
    records.append(event("command.end", 11, 43, begin=2, sample={"columns": [HOSTILE], "rows": [[HOSTILE, 7], "row"]}))
    records.append(event("command.end", 12, 43, begin=2, sample=HOSTILE))
    said = text(frames(records))
    assert all(char.isprintable() or char == "\n" for char in said)
    assert "\\x1b]52" in said
    assert "\\u202e" in said


@given(st.text())
def test_no_text_is_shown_as_anything_but_text(value: str) -> None:
    assert shown(value).isprintable()
    assert all(line.lstrip(" ").startswith("|") and line.isprintable() for line in statement(value))


def test_a_statement_cannot_pass_for_a_line_of_the_replay() -> None:
    forged = "SELECT 1\n00:05.000  #9  ines approves apr_1"
    assert all(line.startswith("      | ") for line in statement(forged))


@pytest.mark.parametrize(("at", "first"), [("4", 4), ("3.5", 6), ("0:40", 7), ("00:00:41", 9), ("0", 1)])
def test_beginning_in_the_middle(at: str, first: int) -> None:
    assert starting(frames(SESSION), at)[0].seq == first


def test_a_place_that_is_none() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        starting(frames(SESSION), "yesterday")


def test_time_passes_as_it_did_or_faster_and_idling_is_cut() -> None:
    made = frames(SESSION)
    assert sum(wait for wait, _ in pauses(made, 1, None)) == pytest.approx(41)
    assert sum(wait for wait, _ in pauses(made, 4, None)) == pytest.approx(41 / 4)
    assert max(wait for wait, _ in pauses(made, 1, 1.0)) == 1.0
    assert pauses(made, 1, None)[0][0] == 0


def test_clock() -> None:
    assert (clock(0), clock(61.5), clock(3723.25)) == ("00:00.000", "01:01.500", "1:02:03.250")


KINDS = st.sampled_from([record["kind"] for record in SESSION])
NAMES = st.sampled_from(["time", "seq", "needs", "decision", "sample", "parameters", "claims", "text", "duration", "verbs", "objects"])
VALUES = st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()), st.dictionaries(st.text(), st.text()))
ODD = st.builds(lambda kind, fields: {"kind": kind, **fields}, KINDS, st.dictionaries(NAMES, VALUES))


@given(st.lists(ODD, max_size=5))
def test_odd_records_do_not_stop_it(records: list[dict[str, Any]]) -> None:
    assert len(frames(records)) == len(records)
