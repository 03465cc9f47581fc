# SPDX-License-Identifier: Apache-2.0
"""``lockgate network``: what this gateway listens on and where it must connect, from the folder that ``serve`` reads.

``--format nft`` fills the sets of ``table inet lockgate`` in one transaction; ``--format systemd`` is a drop-in for lockgate.service.
Both hold numbers only. A destination without an address is left out, named on standard error, and the exit status is 1.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from gateway.cli.options import add_config, add_json
from gateway.cli.output import emit, printable, table
from gateway.config.load import Folder, load_folder
from gateway.errors import ConfigError
from gateway.network import nft, service
from gateway.network.plan import Address, Network, Plan, callers, destinations, doors
from gateway.network.resolve import resolve, system
from gateway.policy.policy import compile_policy


def register(subparsers: Any) -> None:
    """The verb ``network``."""
    parser: ArgumentParser = subparsers.add_parser(
        "network", help="what this gateway listens on and where it must connect", description=__doc__)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--format", choices=("text", "nft", "systemd"), default="text",
                       help="for people, for nftables or for systemd (default text)")
    shape.add_argument("--write", metavar="DIR", type=Path,
                       help="write both into DIR, from one look at the names: holes.nft, service.conf; and the names")
    parser.add_argument("--resolve", action="store_true", help="look names up; without it a name is a destination without an address")
    parser.add_argument("--client", metavar="NETWORK", type=_network, action="append", default=[],
                        help="callers come from this network; again for more (default: the sources of all identities, where all have some)")
    parser.add_argument("--name-server", metavar="ADDRESS", type=_address, action="append", default=[],
                        help="the gateway asks this server for names; again for more")
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """0, or 1 where a listener or a destination had to be left out. Raises ``ConfigError`` for a folder that ``serve`` would refuse."""
    folder = load_folder(args.config)
    compile_policy(folder)
    plan = _plan(args, folder)
    if args.write is not None:
        _write(args.write, plan)
    if args.json or (args.format == "text" and args.write is None):
        emit(args, _document(folder, plan), _human)
    elif args.write is None:
        sys.stdout.write({"nft": nft.render, "systemd": service.render}[args.format](plan))
    for problem in plan.problems:
        sys.stderr.write(printable(f"lockgate: {problem}") + "\n")
    return 1 if plan.problems else 0


def _plan(args: Namespace, folder: Folder) -> Plan:
    reaches = resolve(destinations(folder), system if args.resolve else None)
    return Plan(doors(folder), reaches, callers(folder, args.client), tuple(args.name_server))


def _write(where: Path, plan: Plan) -> None:
    """Each file appears whole."""
    try:
        for name, render in FILES.items():
            fresh = where / f".{name}.new"
            fresh.write_text(render(plan), encoding="ascii")
            fresh.replace(where / name)
    except OSError as wrong:
        raise ConfigError(f"{wrong.filename}: {wrong.strerror}") from None


def _names(plan: Plan) -> str:
    return "".join(f"{printable(name)}\n" for name in plan.names)


FILES: Mapping[str, Callable[[Plan], str]] = {"holes.nft": nft.render, "service.conf": service.render, "names": _names}
"""What ``--write`` makes: the texts of ``--format nft`` and ``--format systemd``, and every name that may have another address later."""


def _document(folder: Folder, plan: Plan) -> dict[str, Any]:
    networks = plan.callers.networks
    return {
        "gateway": folder.gateway.name, "segment": folder.gateway.segment,
        "listeners": [door.as_document() for door in plan.doors], "destinations": [reach.as_document() for reach in plan.reaches],
        "clients": None if networks is None else [str(network) for network in networks], "clients_unknown": plan.callers.why or None,
        "problems": list(plan.problems),
    }


def _human(document: dict[str, Any]) -> Iterator[str]:
    inward = [["in", _place(door), door["name"], "loopback only" if door["loopback"] else ""] for door in document["listeners"]]
    outward = [["out", _place(reach), f"{reach['purpose']} {reach['name']}" if reach["name"] != reach["purpose"] else reach["purpose"],
                _addresses(reach)] for reach in document["destinations"]]
    yield from map(printable, table([*inward, *outward]))
    if document["clients"] is None:
        yield printable(f"callers may come from anywhere ({document['clients_unknown']}): "
                        "no IPAddressAllow for the service, nftables alone holds outgoing connections")
    else:
        yield "callers come from " + ", ".join(document["clients"])


def _place(end: Mapping[str, Any]) -> str:
    return f"[{end['host']}]:{end['port']}" if ":" in end["host"] else f"{end['host']}:{end['port']}"


def _addresses(reach: Mapping[str, Any]) -> str:
    return ", ".join(reach["addresses"]) if reach["problem"] is None else f"no address: {reach['problem']}"


def _network(text: str) -> Network:
    try:
        network = ip_network(text)
    except ValueError:
        raise ArgumentTypeError("expected a network such as 10.0.0.0/8 or fd00::/8, without bits set beyond its length") from None
    if "%" in text:
        raise ArgumentTypeError("expected a network without a scope")
    return network


def _address(text: str) -> Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise ArgumentTypeError("expected an address such as 10.0.0.53 or fd00::53") from None
    if "%" in text:
        raise ArgumentTypeError("expected an address without a scope")
    return address
