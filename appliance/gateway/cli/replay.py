# SPDX-License-Identifier: Apache-2.0
"""``lockgate replay ID`` (also ``sessions replay``): play a session back, statements, decisions, approvals and masked results in time."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from typing import Any

from gateway.cli.output import emit
from gateway.cli.sessions import reading, source
from gateway.config.quantities import parse_duration
from gateway.errors import ConfigError
from gateway.recording.replay import Frame, clock, frames, pauses, starting

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
    made = frames(records)
    if args.at is not None:
        made = _from(made, args.at)
    terminal = sys.stdout.isatty()
    speed = (1.0 if terminal else 0.0) if args.speed is None else args.speed
    Player(sys.stdout.write, sys.stdout.flush, time.sleep, bar=terminal).play(made, speed, args.idle)
    return 0


def _from(made: Sequence[Frame], at: str) -> list[Frame]:
    try:
        return starting(made, at)
    except ValueError:
        raise ConfigError(f"--at {at}: expected a record's number, or MM:SS after the start") from None


class Player:
    """Writes frames in time; with ``bar`` a progress line stays below them."""

    def __init__(self, out: Callable[[str], object], flush: Callable[[], object], sleep: Callable[[float], object], *, bar: bool) -> None:
        self._out, self._flush, self._sleep, self._bar = out, flush, sleep, bar

    def play(self, made: Sequence[Frame], speed: float, idle: float | None) -> None:
        """``speed`` 0 shows all at once."""
        if not speed:
            for frame in made:
                self._show(frame)
            return
        last = made[-1].at if made else 0.0
        try:
            for wait, frame in pauses(made, speed, idle):
                self._wait(wait, frame.at, last, speed)
                self._show(frame)
        finally:
            self._clear()

    def _show(self, frame: Frame) -> None:
        self._clear()
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
