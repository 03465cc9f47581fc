# SPDX-License-Identifier: Apache-2.0
"""``lockgate sessions list | show | replay | watch | end``: what sessions there were, what they did, looking on and ending one.

Reading asks the state folder as root or the service user, else (or with ``--token-file``) the running gateway; ending always asks it.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from gateway.audit.place import kept
from gateway.cli.client import Client, ClientProblem, add_client, client, part
from gateway.cli.options import DEFAULT_FOLDER, add_json
from gateway.cli.output import emit, table, to_json, write
from gateway.cli.screens import Screens
from gateway.errors import ConfigError
from gateway.recording.read import Archive
from gateway.recording.replay import clock, each_operation, shown
from gateway.recording.terminal import unlisted

_PATH = "/api/v1/sessions"
_MOST = 1000
_HEADS = ("ID", "START", "DURATION", "IDENTITY", "RESOURCE", "COMMANDS", "DENIED", "STATE")
Document = dict[str, Any]


class Source(Protocol):
    """Where sessions are read: the state folder, or a console."""

    def sessions(self, limit: int) -> list[Document]: ...
    def session(self, session_id: str) -> Document: ...
    def events(self, session_id: str) -> list[Document]: ...
    def search(self, text: str, limit: int) -> list[Document]: ...


class Local:
    """The state folder. Raises ``ClientProblem`` for an id that is none, or not one alone."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def sessions(self, limit: int) -> list[Document]:
        return self._archive.sessions(limit)

    def session(self, session_id: str) -> Document:
        return self._archive.session(self._whole(session_id)) or {}

    def events(self, session_id: str) -> list[Document]:
        return self._archive.events(self._whole(session_id))

    def _whole(self, prefix: str) -> str:
        try:
            return self._archive.resolve(prefix)
        except ConfigError as problem:
            raise ClientProblem(str(problem), 1) from None

    def search(self, text: str, limit: int) -> list[Document]:
        return self._archive.search(text, limit)


class Remote:
    """A running gateway's console. Raises ``ClientProblem``."""

    def __init__(self, console: Client) -> None:
        self._console = console

    def sessions(self, limit: int) -> list[Document]:
        return list(self._console.get(_PATH, {"limit": str(limit)})["sessions"])

    def session(self, session_id: str) -> Document:
        return dict(self._console.get(f"{_PATH}/{part(session_id)}"))

    def events(self, session_id: str) -> list[Document]:
        return list(self._console.get(f"{_PATH}/{part(session_id)}/events")["events"])

    def search(self, text: str, limit: int) -> list[Document]:
        return list(self._console.get("/api/v1/search", {"q": text, "limit": str(limit)})["records"])


def source(args: Namespace) -> Source:
    """The state folder where this user may read it and no console was named. Raises ``ConfigError``."""
    if args.token_file is not None or args.url is not None:
        return Remote(client(args))
    state = kept(args.config or DEFAULT_FOLDER).state
    if not os.access(state / "audit", os.R_OK | os.X_OK):
        if (state / "audit").exists() or not os.access(state.parent, os.R_OK | os.X_OK):
            raise ConfigError(f"{state}: only root and the service user may read it; give --token-file to ask the running gateway")
        raise ConfigError(f"{state}: there is no audit log")
    return Local(Archive(state))


def answering(run: Callable[[Namespace], int]) -> Callable[[Namespace], int]:
    """1 where the console says no, 2 where it could not be asked."""
    def answered(args: Namespace) -> int:
        try:
            return run(args)
        except ClientProblem as problem:
            said = {"error": str(problem), **({"problem": problem.document} if problem.document else {})}
            if args.json:
                write(to_json(said))
            else:
                sys.stderr.write(f"lockgate: {problem}\n")
            return problem.status
    return answered


def reading(parser: ArgumentParser, run: Callable[[Namespace], int]) -> ArgumentParser:
    """The options every reading verb has."""
    add_client(parser)
    add_json(parser)
    parser.set_defaults(run=answering(run))
    return parser


def register(subparsers: Any) -> None:
    from gateway.cli.replay import add_replay

    parser: ArgumentParser = subparsers.add_parser("sessions", help="list, show, replay, watch and end sessions", description=__doc__)
    verbs = parser.add_subparsers(metavar="ACTION", required=True)
    listed = reading(verbs.add_parser("list", help="sessions, newest first"), _list)
    listed.add_argument("--identity", metavar="NAME", help="only of this identity")
    listed.add_argument("--resource", metavar="NAME", help="only on this resource")
    listed.add_argument("--open", action="store_true", help="only those that have not ended")
    listed.add_argument("--limit", type=_count, default=100, metavar="N", help="at most so many (default 100)")
    one = reading(verbs.add_parser("show", help="one session and its commands"), _show)
    one.add_argument("id", metavar="ID", help="its id, or a beginning that no other has")
    add_replay(verbs)
    watch = reading(verbs.add_parser("watch", help="see what a live session shows, as it happens; Ctrl-C leaves"), _watch)
    watch.add_argument("id", metavar="ID", help="its id, or a beginning that no other has")
    watch.add_argument("--plain", action="store_true", help="text alone, every line marked (the default unless on a terminal)")
    end = reading(verbs.add_parser("end", help="end an open session; always asks the running gateway"), _end)
    end.add_argument("id", metavar="ID", help="its id, or a beginning that no other has")
    end.add_argument("--reason", metavar="TEXT", help="why; kept in the log")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST:
        raise ArgumentTypeError(f"expected a number from 1 to {_MOST}")
    return int(text)


def _list(args: Namespace) -> int:
    narrowed = bool(args.identity or args.resource or args.open)
    found = [one for one in source(args).sessions(_MOST if narrowed else args.limit) if _wanted(one, args)][:args.limit]
    if args.json:
        emit(args, found, str)
        return 0
    for line in table([_row(one) for one in found], _HEADS) if found else ["no sessions"]:
        write(line)
    return 0


def _wanted(one: Document, args: Namespace) -> bool:
    named = args.identity in (None, one.get("identity")) and args.resource in (None, one.get("resource"))
    return named and not (args.open and one.get("end"))


def _row(one: Document) -> list[str]:
    duration = one.get("duration")
    taken = clock(duration) if isinstance(duration, int | float) else "-"
    return [shown(one.get("id")), shown(one.get("start"))[:19] + "Z", taken,
            *(shown(one.get(key)) for key in ("identity", "resource", "commands", "denied", "state"))]


def _show(args: Namespace) -> int:
    emit(args, source(args).session(args.id), _human)
    return 0


def _human(one: Document) -> Iterator[str]:
    for key in ("id", "state", "live", "start", "end", "reason", "identity", "owner", "issuer", "subject", "token_id", "groups", "resource",
                "database", "protocol", "source", "policy", "commands", "denied", "rows", "bytes", "masked"):
        if one.get(key) not in (None, "", []):
            value = " ".join(shown(item) for item in one[key]) if isinstance(one[key], list) else shown(one[key])
            yield f"{key + ':':<10}{value}"
    for name, claims in (("claims", one.get("claims")), ("claimed", one.get("claimed"))):
        if isinstance(claims, dict) and claims:
            yield f"{name + ':':<10}{', '.join(f'{shown(key)}={shown(value)}' for key, value in claims.items())}"
    rows = [_command(command) for command in one.get("list") or []]
    if rows:
        yield ""
        yield from table(rows, ("SEQ", "TIME", "VERB", "EFFECT", "STATUS", "ROWS", "MASKED", "TEXT"))


def _command(command: Document) -> list[str]:
    text = " ".join(shown(command.get("text")).replace("\\n", " ").split())
    verbs = dict.fromkeys(one.partition(" ")[0] for one in each_operation(command))
    return [shown(command.get("seq")), shown(command.get("time"))[11:23], ", ".join(verbs) or shown(command.get("verb")),
            shown(command.get("effect")), shown(command.get("status")) or "running", shown(command.get("rows")),
            shown(command.get("masked")),
            text if len(text) <= 80 else text[:79] + "…"]


def _end(args: Namespace) -> int:
    console = client(args)
    asked = {"reason": args.reason} if args.reason else {}
    try:
        said = console.post(f"{_PATH}/{part(args.id)}/end", asked)
    except ClientProblem as problem:
        if (problem.document or {}).get("status") != 404:
            raise
        said = console.post(f"{_PATH}/{part(_whole(console, args.id))}/end", asked)
    emit(args, said, lambda answer: f"{shown(answer.get('session'))}: told to end")
    return 0 if said.get("ended", True) else 1


def _watch(args: Namespace) -> int:
    """0 when the session ended or the watcher left, 1 where the gateway broke off."""
    console = client(args)
    screens = Screens(plain=args.plain or not sys.stdout.isatty())
    why = "the connection was lost"
    try:
        for row in console.lines(f"{_PATH}/{part(_whole(console, args.id))}/watch"):
            why = str(row.get("end") or why)
            if args.json:
                write(to_json(row))
            elif "event" in row:
                event, = unlisted([row["event"]])
                sys.stdout.write(screens.show(int(row["begin"]), event))
                sys.stdout.flush()
    except KeyboardInterrupt:
        why = "left"
    if not args.json:
        sys.stdout.write(screens.close())
        sys.stderr.write(f"lockgate: {shown(why)}\n")
    return 0 if why in ("left", "the session is over") else 1


def _whole(console: Client, prefix: str) -> str:
    """The one open session that begins so. Raises ``ClientProblem``."""
    found = [str(one["id"]) for one in Remote(console).sessions(_MOST) if str(one.get("id")).startswith(prefix) and one.get("end") is None]
    if len(found) != 1:
        raise ClientProblem(f"{len(found)} open sessions begin with {shown(prefix)!r}: expected one", 1)
    return found[0]
