# SPDX-License-Identifier: Apache-2.0
"""``lockgate reload``: ask the running gateway on this machine to read its folder again, and wait for what it says.

Exit status 0 when the folder is in force, 1 when the gateway refused it and the old policy stays, 2 when there is no gateway to ask.
The unit's ``ExecReload=``, so that ``systemctl reload lockgate`` fails when the policy was refused.
"""

from __future__ import annotations

import os
import signal
import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway import serving
from gateway.cli.options import add_json, duration
from gateway.cli.output import emit, printable
from gateway.errors import ConfigError

_POLL = 0.05


def register(subparsers: Any) -> None:
    """The verb ``reload``."""
    parser: ArgumentParser = subparsers.add_parser(
        "reload", help="let the running gateway read its folder again: 0 or 1", description=__doc__)
    parser.add_argument("--config", metavar="DIR", type=Path, help="ask only a gateway that reads this folder (default: whatever it reads)")
    parser.add_argument("--directory", metavar="DIR", type=Path,
                        help=f"where the gateway's verdicts are (default $RUNTIME_DIRECTORY, else {serving.DEFAULT_DIRECTORY})")
    parser.add_argument("--wait", metavar="TIME", type=duration, default=60.0, help="how long to wait for the verdict (default 60s)")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """0 in force, 1 refused. Raises ``ConfigError`` where nobody answers."""
    verdict = ask(args.directory or serving.directory() or serving.DEFAULT_DIRECTORY, args.wait, args.config)
    emit(args, asdict(verdict), lambda _: printable(verdict.status()))
    return 0 if verdict.refused is None else 1


def ask(place: Path, wait: float, config: Path | None = None) -> serving.Verdict:
    """Send SIGHUP and wait for the verdict on what was read after it. Raises ``ConfigError``: nobody answers, or whoever would reads
    another folder than ``config``."""
    running = serving.read(place)
    if running is None:
        raise ConfigError(f"{place / serving.NAME}: expected what a running gateway leaves there; is it running? "
                          "One started without RUNTIME_DIRECTORY leaves nothing: send it SIGHUP, its log has the verdict")
    if config is not None and config.resolve() != Path(running.named or running.folder).resolve():
        raise ConfigError(f"{config}: expected the folder of the gateway that runs (pid {running.pid}), which reads "
                          f"{running.named or running.folder}; nobody was asked")
    asked = time.monotonic()
    if os.geteuid() == 0 and not theirs(running.pid, place / serving.NAME):
        raise ConfigError(f"{place / serving.NAME}: names process {running.pid}, which is not of the account that wrote this; "
                          "nobody was asked")
    try:
        os.kill(running.pid, signal.SIGHUP)
    except OSError as wrong:
        raise ConfigError(f"the gateway (pid {running.pid}) cannot be asked: {wrong.strerror}") from None
    while time.monotonic() < asked + wait:
        verdict = serving.read(place)
        if verdict is not None and verdict.began >= asked:
            return verdict
        time.sleep(_POLL)
    raise ConfigError(f"the gateway (pid {running.pid}) did not answer within {wait:g} s")


def theirs(pid: int, told: Path) -> bool:
    """Whether the process is one of whoever wrote the file. Root may signal every process: a gateway that was taken over shall not choose
    which. Others are held to their own by the kernel, and under ``ProtectProc=`` do not see them here. One that is gone is everybody's."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(set(line.split()[1:]) for line in lines if line.startswith("Uid:")) == {str(told.lstat().st_uid)}
    except FileNotFoundError:
        return True
    except (OSError, StopIteration):
        return False
