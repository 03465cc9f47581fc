# SPDX-License-Identifier: Apache-2.0
"""``lockgate approvals``: see what waits for a vote, and vote on exactly what was shown."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from typing import Any

from gateway.approvals import binding
from gateway.approvals.shown import escaped, line
from gateway.approvals.view import STATES
from gateway.cli.client import Client, ClientProblem, add_client, client, part
from gateway.cli.options import add_json
from gateway.cli.output import emit, table, to_json

_PATH = "/api/v1/approvals"
_WARNINGS = {
    "bidi": "the text holds characters that change the direction of reading",
    "control": "the text holds control characters (an escape sequence, a carriage return)",
    "invisible": "the text holds characters that do not show",
    "whitespace": "the text holds long runs of blanks or empty lines: read all of it",
    "non-ascii-letters": "the text holds letters outside of ASCII, which may look like others",
}


def register(subparsers: Any) -> None:
    """The verb ``approvals`` with ``list``, ``show``, ``approve`` and ``deny``."""
    parser: ArgumentParser = subparsers.add_parser("approvals", help="see and vote on held commands", description=__doc__)
    verbs = parser.add_subparsers(metavar="ACTION", required=True)
    listed = _verb(verbs, "list", "what waits for one of your groups, oldest first", _list)
    listed.add_argument("--state", choices=STATES, action="append", help="only those in this state; may be repeated (default pending)")
    listed.add_argument("--all", action="store_true", help="in every state")
    shown = _verb(verbs, "show", "one approval with the exact text", _show)
    shown.add_argument("id", metavar="ID")
    for name, what in (("approve", "vote for it"), ("deny", "vote against it; one such vote is enough")):
        vote = _verb(verbs, name, what, _vote)
        vote.set_defaults(vote=name)
        vote.add_argument("id", metavar="ID")
        vote.add_argument("--reason", required=True, metavar="TEXT", help="why; kept in the log (at most 2048 bytes)")
        vote.add_argument("--digest", metavar="sha256:…", help="vote only if this is its digest; otherwise on what is shown now")


def _verb(verbs: Any, name: str, what: str, run: Callable[[Client, Namespace], int]) -> ArgumentParser:
    parser: ArgumentParser = verbs.add_parser(name, help=what, description=what)
    add_client(parser)
    add_json(parser)
    parser.set_defaults(run=lambda args: _asked(run, args))
    return parser


def _asked(run: Callable[[Client, Namespace], int], args: Namespace) -> int:
    """1 where the console says no, 2 where it could not be asked."""
    try:
        return run(client(args), args)
    except ClientProblem as problem:
        if args.json:
            sys.stdout.write(to_json({"error": str(problem), **({"problem": problem.document} if problem.document else {})}) + "\n")
        else:
            sys.stderr.write(f"lockgate: {problem}\n")
        return problem.status


def _list(console: Client, args: Namespace) -> int:
    states = [] if args.all else args.state or ["pending"]
    found = console.pages(_PATH, "approvals", {"state": states} if states else {})
    if args.json:
        emit(args, found, str)
        return 0
    rows = [_row(one) for one in found]
    lines = table(rows, ("ID", "STATE", "IDENTITY", "RESOURCE", "NEEDS", "EXPIRES", "TEXT")) if rows else ["nothing waits"]
    sys.stdout.writelines(f"{text}\n" for text in lines)
    return 0


def _show(console: Client, args: Namespace) -> int:
    emit(args, _checked(console.get(f"{_PATH}/{part(args.id)}")), _human)
    return 0


def _vote(console: Client, args: Namespace) -> int:
    """Show it, then vote with the digest of what was shown."""
    shown = _checked(console.get(f"{_PATH}/{part(args.id)}"))
    if not args.json:
        sys.stdout.writelines(f"{text}\n" for text in _human(shown))
        sys.stdout.flush()
    if args.digest is not None and args.digest != shown["digest"]:
        raise ClientProblem(f"the digest of {args.id} is {line(shown['digest'])}, not the one given: no vote was sent", 1)
    after = console.post(f"{_PATH}/{part(args.id)}/{args.vote}", {"digest": shown["digest"], "reason": args.reason})
    emit(args, after, lambda view: f"voted to {args.vote}: {view['id']} is {view['state']} now")
    return 0


def _checked(view: dict[str, Any]) -> dict[str, Any]:
    """Where the binding is shown, the digest must be its own and the text must be the one that is bound."""
    bound = view.get("binding")
    if bound is not None and (binding.digest(bound) != view["digest"] or bound.get("text") != view["text"]):
        raise ClientProblem(f"what the console shows of {line(str(view.get('id')))} does not fit its digest: do not vote", 1)
    return view


def _row(view: dict[str, Any]) -> list[str]:
    text = " ".join(line(view["text"]).split())
    return [line(str(cell)) for cell in (view["id"], view["state"], view["identity"], view["resource"], _needs(view), view["expires"])] + [
        text if len(text) <= 60 else text[:57] + "..."]


def _needs(view: dict[str, Any]) -> str:
    return ", ".join(f"{need['group']} {need['have']}/{need['count']}" for need in view["needs"])


def _does(view: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """One line for each operation where they are told apart."""
    if each := view.get("operations"):
        yield from (("does", " ".join(map(str, one))) for one in each)
    else:
        yield "does", f"{', '.join(view['verbs'])} {', '.join(view['objects'])}"


def _human(view: dict[str, Any]) -> Iterator[str]:
    who = f"{view['identity']} (owner {view['owner']})" if view["owner"] else view["identity"]
    where = ", ".join([view["resource"], *(f"{name} {view[name]}" for name in ("database", "login") if view[name])])
    facts = (("approval", f"{view['id']} ({view['state']})"), ("who", who), ("where", f"{where} through {view['gateway']}"),
             *_does(view), ("rules", ", ".join(view["rules"])),
             ("needs", _needs(view)), ("requested", view["requested"]), ("expires", view["expires"]), ("digest", view["digest"]))
    yield from (f"{name + ':':<11}{line(str(value))}" for name, value in facts)
    for setting, value in (view.get("binding") or {}).get("context", {}).items():
        yield f"{'setting:':<11}{line(setting)} = {line(str(value))}"
    for vote in view["votes"]:
        yield f"{'vote:':<11}{line(vote['voter'])} {line(vote['vote'])}, {line(vote['time'])}: {line(vote['reason'])}"
    if view["outcome"]:
        yield f"{'outcome:':<11}{line(view['outcome'])}"
    yield f"{'text:':<11}" + ("" if view["exact"] else "(as the log shows it; the exact text is for those who may vote while it is open)")
    yield from (f"    | {row}" for row in escaped(view["text"]).split("\n"))
    types = [kind for kind, _ in (view.get("binding") or {}).get("parameters", [])]
    for number, value in enumerate(view["parameters"], 1):
        kind = f" ({line(str(types[number - 1]))})" if number <= len(types) else ""
        yield f"    ${number}{kind} = {'NULL' if value is None else line(value)}"
    yield from (f"WARNING: {_WARNINGS.get(flag, line(flag))}" for flag in view["text_flags"])
