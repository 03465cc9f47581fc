# SPDX-License-Identifier: Apache-2.0
"""``lockgate policy test``: run the cases under policy/tests. ``lockgate policy diff OLD NEW``: which decisions change."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.cli.options import add_config, add_json
from gateway.cli.output import emit, printable, write
from gateway.config.load import load_folder
from gateway.errors import ConfigError
from gateway.policy.cases import Outcome, never_hit, run_cases
from gateway.policy.difference import Change, differences
from gateway.policy.gathering import Side
from gateway.policy.policy import compile_policy

LINE_BYTES = 16 * 2**20
_TEST = ("Run the cases under policy/tests. Exit status 1 when one does not hold. A case that does not hold only because of the revoked "
         "list is REVOKED, and no failure, unless it says `effect: deny`. One that says so and holds by that list alone is HELD.")


def register(subparsers: Any) -> None:
    """The verbs ``policy test`` and ``policy diff``."""
    parser: ArgumentParser = subparsers.add_parser("policy", help="test the policy, compare two", description=__doc__)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    cases = verbs.add_parser("test", help="run the cases under policy/tests: 0 or 1", description=_TEST)
    add_config(cases)
    add_json(cases)
    cases.set_defaults(run=test)
    compare = verbs.add_parser("diff", help="which decisions change between two folders")
    compare.add_argument("old", metavar="OLD", type=Path, help="the folder as it is")
    compare.add_argument("new", metavar="NEW", type=Path, help="the folder as it shall be")
    compare.add_argument("--recorded", metavar="FILE", type=Path, help="what `audit export` printed: ask about these commands too")
    add_json(compare)
    compare.set_defaults(run=diff)


# --- test ---


def test(args: Namespace) -> int:
    """0 when every case holds but for those of who is revoked, 1 when one does not. Raises ``ConfigError``."""
    folder = load_folder(args.config, need_tests=True)
    policy = compile_policy(folder)
    outcomes = list(run_cases(folder, policy, time.time()))
    unhit = never_hit(policy, outcomes)
    failed, revoked = ([one for one in outcomes if one.state == state] for state in ("failed", "revoked"))
    document = {"passed": len(outcomes) - len(failed) - len(revoked), "failed": len(failed), "revoked": len(revoked),
                "failures": [_case(one) | {"differs": _differs(one)} for one in failed], "revoked_cases": [_case(one) for one in revoked],
                "held_cases": [_case(one) for one in outcomes if one.held],
                "rules_never_hit": unhit, "policy": policy.digest}
    emit(args, document, _results)
    return 1 if failed else 0


def _case(outcome: Outcome) -> dict[str, Any]:
    return {"identity": outcome.case.identity, "resource": outcome.case.resource, "asked": outcome.asked, "reason": outcome.answer.reason}


def _differs(outcome: Outcome) -> dict[str, Any]:
    return {key: {"expected": expected, "got": got} for key, (expected, got) in outcome.wrong.items()}


def _results(document: dict[str, Any]) -> Iterator[str]:
    for failure in document["failures"]:
        yield f"FAILED  {failure['identity']} on {failure['resource']}: {printable(str(failure['asked']))}"
        for key, both in failure["differs"].items():
            yield f"        {key}: expected {_plain(both['expected'])}, got {printable(_plain(both['got']))}"
        if failure["reason"]:
            yield f"        {printable(failure['reason'])}"
    for one in document["revoked_cases"]:
        yield f"REVOKED {one['identity']} on {one['resource']}: {printable(str(one['asked']))}: {printable(one['reason'])}"
    for one in document["held_cases"]:
        where = f"{one['identity']} on {one['resource']}: {printable(str(one['asked']))}"
        yield f"HELD    {where}: no rule denies it, {printable(one['reason'])}"
    yield from (f"no case touches rule {printable(name)}" for name in document["rules_never_hit"])
    yield f"{document['passed']} passed, {document['failed']} failed" + (f", {document['revoked']} revoked" if document["revoked"] else "")


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


# --- diff ---


def diff(args: Namespace) -> int:
    """0 when nothing changes, 1 when something does. Raises ``ConfigError``."""
    old, new = (Side.of(load_folder(folder, need_tests=True)) for folder in (args.old, args.new))
    records = _records(args.recorded) if args.recorded is not None else ()
    changes = list(differences(old, new, records, time.time()))
    emit(args, (change.as_document() for change in changes), _change)
    if not args.json:
        write(_summary(changes))
    return 1 if changes else 0


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES):
                number += 1
                yield _record(path, number, line)
    except OSError as wrong:
        raise ConfigError(f"{path}: {wrong.strerror}") from None


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise ConfigError(f"{path}:{number}: expected a JSON object, as `lockgate audit export` prints them")
    return record


def _change(document: dict[str, Any]) -> str:
    place = " on ".join(name for name in (document["identity"], document["resource"]) if name)
    mark = "WIDER" if document["widens"] else "     "
    where = f"{place}: " if place else ""
    return printable(f"{mark}  {document['what']:8}  {where}{document['question']}: {document['before']} -> {document['after']}")


def _summary(changes: list[Change]) -> str:
    if not changes:
        return "no decision changes"
    wider = sum(change.widens for change in changes)
    return f"{len(changes)} change{'s' * (len(changes) != 1)}, of which {wider} widen{'s' * (wider == 1)} what is possible"
