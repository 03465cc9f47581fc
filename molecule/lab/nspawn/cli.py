# SPDX-License-Identifier: Apache-2.0
"""The commands of `lab`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import host
from .base import base_tree
from .names import Attachment, LabError, Scenario, safe
from .platforms import neighbours, read_platforms
from .supervisor import supervise


def main(argv: list[str]) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="Booted Debian hosts on networks of their own.")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    base = verbs.add_parser("base", help="build the tree of a suite where it is not there yet, print its path")
    base.add_argument("suite", nargs="?", default="trixie")
    base.add_argument("--variant", default="", help="a further package list: db")
    base.set_defaults(run=_base)

    up = _of_scenario(verbs.add_parser("up", help="boot a host and wait until it runs"))
    up.add_argument("name")
    up.add_argument("address", nargs="?", help="its IPv4 address on --switch, /24 unless written")
    up.add_argument("--suite", default="trixie")
    up.add_argument("--variant", default="")
    up.add_argument("--switch", default="lan")
    up.add_argument("--network", action="append", default=[], metavar="SWITCH=ADDRESS", help="one leg; may be given again")
    up.add_argument("--peer", action="append", default=[], metavar="NAME=ADDRESS", help="a line of the host's /etc/hosts")
    up.set_defaults(run=_up)

    create = _of_scenario(verbs.add_parser("create", help="boot the hosts that standard input lists, as molecule's platforms (JSON)"))
    create.add_argument("--suite", default="trixie", help="of platforms that name none")
    create.set_defaults(run=_create)

    for verb, text, action in (
        ("pid", "the host's PID 1, as this machine numbers it", _pid),
        ("reboot", "reboot a host and wait until it runs", _reboot),
    ):
        one = _of_scenario(verbs.add_parser(verb, help=text))
        one.add_argument("name")
        one.set_defaults(run=action)

    execute = _of_scenario(verbs.add_parser("exec", help="run a command inside a host, as root"))
    execute.add_argument("name")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    execute.set_defaults(run=_exec)

    down = _of_scenario(verbs.add_parser("down", help="stop one host, or all of a scenario with their networks"))
    down.add_argument("name", nargs="?")
    down.set_defaults(run=_down)

    inside = verbs.add_parser("supervise")  # what `up` starts in a mount namespace of its own
    inside.add_argument("machine")
    inside.add_argument("hostname")
    inside.add_argument("namespace")
    inside.add_argument("base", type=Path)
    inside.add_argument("folder", type=Path)
    inside.set_defaults(run=lambda given: supervise(given.machine, given.hostname, given.namespace, given.base, given.folder))
    return parser


def _of_scenario(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--scenario", required=True, help="prefix of every name; scenarios run side by side")
    return parser


def _scenario(arguments: argparse.Namespace) -> Scenario:
    return Scenario(safe("scenario", arguments.scenario))


def _base(arguments: argparse.Namespace) -> None:
    sys.stdout.write(f"{base_tree(arguments.suite, arguments.variant)}\n")


def _up(arguments: argparse.Namespace) -> None:
    legs = [Attachment.parse(*_pair(network)) for network in arguments.network]
    if arguments.address:
        legs.insert(0, Attachment.parse(arguments.switch, arguments.address))
    if not legs:
        raise LabError("say where the host stands: an ADDRESS, or --network SWITCH=ADDRESS")
    peers = {address: name for name, address in map(_pair, arguments.peer)}
    host.up(_scenario(arguments), safe("host", arguments.name), legs, arguments.suite, arguments.variant, peers)


def _create(arguments: argparse.Namespace) -> None:
    scenario, platforms = _scenario(arguments), read_platforms(sys.stdin.read(), arguments.suite)
    for platform in platforms:
        host.up(scenario, platform.name, platform.legs, platform.suite, platform.variant, neighbours(platform, platforms))


def _pair(text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise LabError(f"{text!r}: expected NAME=ADDRESS")
    return left, right


def _pid(arguments: argparse.Namespace) -> None:
    sys.stdout.write(f"{host.leader(_scenario(arguments), arguments.name)}\n")


def _reboot(arguments: argparse.Namespace) -> None:
    host.reboot(_scenario(arguments), arguments.name)


def _exec(arguments: argparse.Namespace) -> None:
    if not arguments.command:
        raise LabError("exec: which command?")
    argv = host.enter(_scenario(arguments), arguments.name, arguments.command)
    sys.stdout.flush()
    os.execvp(argv[0], argv)


def _down(arguments: argparse.Namespace) -> None:
    scenario = _scenario(arguments)
    if arguments.name:
        host.down(scenario, safe("host", arguments.name))
    else:
        host.down_all(scenario)
