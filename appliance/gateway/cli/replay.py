# SPDX-License-Identifier: Apache-2.0
"""``lockgate replay ID`` (also ``sessions replay``): play a session back, statements, decisions, approvals and masked results in time."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway.audit.record import time_value
from gateway.cli.output import emit
from gateway.cli.screens import Screens
from gateway.cli.sessions import reading, source
from gateway.config.quantities import parse_duration
from gateway.errors import ConfigError
from gateway.recording.asciicast import asciicast
from gateway.recording.replay import Frame, Record, clock, frames, pauses, recorded, starting
from gateway.recording.terminal import Event

FORMATS = {"asciicast-v2": 2, "asciicast-v3": 3}
_WIDTH = 30
_STEP = 0.1


def register(subparsers: Any) -> None:
    add_replay(subparsers)


def add_replay(subparsers: Any) -> None:
    """The verb, at the top and under ``sessions``."""
    parser: ArgumentParser = subparsers.add_parser("replay", help="play a session back", description=__doc__)
    parser.add_argument("id", metavar="ID", help="its id, or a beginning that no other has")
    parser.add_argument("--at", metavar="WHERE", help="begin at a record's number, or MM:SS after the start")
    add_pace(parser)
    parser.add_argument("--plain", action="store_true",
                        help="what programs showed as text, every line marked (the default unless on a terminal)")
    parser.add_argument("--export", nargs=2, metavar=("FORMAT", "FILE"),
                        help=f"write what one program showed to FILE instead (- for standard output): {' or '.join(FORMATS)}")
    parser.add_argument("--command", type=int, metavar="N", help="with --export: the number of its command, where there are several")
    reading(parser, run)


def add_pace(parser: ArgumentParser) -> None:
    """How fast a replay goes."""
    parser.add_argument("--speed", type=_speed, metavar="N", help="times as fast as it happened; 0 shows all at once "
                        "(default: as it happened on a terminal, all at once elsewhere)")
    parser.add_argument("--idle", type=_duration, metavar="TIME", help="no pause longer than this, such as 1s")


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 <= speed <= 1e6:
        raise ArgumentTypeError("expected a number such as 4, or 0")
    return speed


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as wrong:
        raise ArgumentTypeError(str(wrong)) from None


def run(args: Namespace) -> int:
    """Exit status 0 when all was shown."""
    records = source(args).events(args.id)
    if args.json:
        emit(args, records, str)
        return 0
    if args.export is not None:
        return export(records, args.export[0], args.export[1], args.command)
    made = frames(records)
    if args.at is not None:
        made = _from(made, args.at)
    terminal = sys.stdout.isatty()
    speed = (1.0 if terminal else 0.0) if args.speed is None else args.speed
    draws = any(frame.event is not None for frame in made)
    screens = Screens(plain=args.plain or not terminal)
    Player(sys.stdout.write, sys.stdout.flush, time.sleep, screens, bar=terminal and not draws).play(made, speed, args.idle)
    return 0


def export(records: Sequence[Record], form: str, file: str, command: int | None) -> int:
    """One program as asciicast. Raises ``ConfigError`` where there is none, or several and ``command`` does not say which."""
    if form not in FORMATS:
        raise ConfigError(f"--export {form}: expected {' or '.join(FORMATS)}")
    begins = {record["seq"]: record for record in records if record.get("kind") == "command.begin"}
    shows: dict[int, list[Event]] = {}
    for record in records:
        if (events := recorded(record)) and record.get("begin") in begins:
            shows.setdefault(record["begin"], []).extend(events)
    if command is None and len(shows) == 1:
        command, = shows
    if command not in shows:
        some = ", ".join(map(str, sorted(shows))) or "none"
        raise ConfigError(f"--command: expected the number of one whose output was recorded: {some}")
    begin = begins[command]
    lines = asciicast(shows[command], FORMATS[form], timestamp=time_value(str(begin.get("time"))) // 1_000_000,
                      command=str(begin.get("text") or ""), title=f"{begin.get('identity')} on {begin.get('resource')}")
    if file == "-":
        sys.stdout.writelines(lines)
        return 0
    try:
        with Path(file).open("w", encoding="utf-8", newline="\n") as out:
            out.writelines(lines)
    except OSError as fault:
        raise ConfigError(f"--export: {file}: {fault.strerror}") from None
    return 0


def _from(made: Sequence[Frame], at: str) -> list[Frame]:
    try:
        return starting(made, at)
    except ValueError:
        raise ConfigError(f"--at {at}: expected a record's number, or MM:SS after the start") from None


class Player:
    """Writes frames in time; with ``bar`` a progress line stays below them."""

    def __init__(self, out: Callable[[str], object], flush: Callable[[], object], sleep: Callable[[float], object],
                 screens: Screens | None = None, *, bar: bool) -> None:
        self._out, self._flush, self._sleep, self._bar = out, flush, sleep, bar
        self._screens = screens or Screens(plain=True)

    def play(self, made: Sequence[Frame], speed: float, idle: float | None) -> None:
        """``speed`` 0 shows all at once."""
        if not speed:
            for frame in made:
                self._show(frame)
            self._out(self._screens.close())
            return
        last = made[-1].at if made else 0.0
        try:
            for wait, frame in pauses(made, speed, idle):
                self._wait(wait, frame.at, last, speed)
                self._show(frame)
        finally:
            self._clear()
            self._out(self._screens.close())

    def _show(self, frame: Frame) -> None:
        self._clear()
        if frame.event is not None:
            self._out(self._screens.show(frame.begin, frame.event))
            return
        self._out(self._screens.aside())
        self._out("".join(f"{line}\n" for line in frame.lines))

    def _wait(self, wait: float, at: float, last: float, speed: float) -> None:
        while wait > 0:
            step = min(wait, _STEP) if self._bar else wait
            if self._bar:
                self._draw(max(0.0, at - wait * speed), last)
            self._flush()
            self._sleep(step)
            wait -= step

    def _draw(self, now: float, last: float) -> None:
        filled = int(_WIDTH * min(1.0, now / last)) if last else _WIDTH
        self._out(f"\r\x1b[K[{'=' * filled}{' ' * (_WIDTH - filled)}] {clock(now)} of {clock(last)}")

    def _clear(self) -> None:
        if self._bar:
            self._out("\r\x1b[K")
