# SPDX-License-Identifier: Apache-2.0
"""``lockgate ssh-known-hosts``: the gateway's SSH host keys as lines of ``known_hosts``, one a key.

On the gateway they are read from the folder; elsewhere the console is asked (``--url``, ``--ca``), whose certificate vouches for them.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from gateway.cli.client import ClientProblem, add_console, anonymous
from gateway.cli.options import DEFAULT_FOLDER, add_json
from gateway.cli.output import emit
from gateway.config.fresh import is_host
from gateway.config.load import load_folder
from gateway.errors import ConfigError
from gateway.protocols.ssh import hosts, issuing

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared, never listened on


def register(subparsers: Any) -> None:
    """The verb ``ssh-known-hosts``."""
    parser: ArgumentParser = subparsers.add_parser(
        "ssh-known-hosts", help="the gateway's SSH host keys as lines of known_hosts", description=__doc__)
    parser.add_argument("--host", metavar="NAME", action="append", default=[], type=_host,
                        help="a name or address that callers use; again for more (default: the listener's address, or that of --url)")
    add_console(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def _host(text: str) -> str:
    if not is_host(text):
        raise ArgumentTypeError("expected a host name or an address")
    return text


def run(args: Namespace) -> int:
    """0. Raises ``ConfigError``, or ``ClientProblem`` where the console cannot be asked."""
    names, port, keys = _asked(args) if args.url is not None else _read(args)
    if not names:
        raise ConfigError("--host: expected the name that callers use: the listener is on every address")
    lines = hosts.known_hosts(names, port, (key.line for key in keys))
    found = [{"line": line, "fingerprint": key.fingerprint} for line, key in zip(lines, keys, strict=True)]
    emit(args, found, lambda said: str(said["line"]))
    return 0


def _read(args: Namespace) -> tuple[list[str], int, tuple[hosts.HostKey, ...]]:
    folder = load_folder(args.config or DEFAULT_FOLDER, check_modes=False)
    settings = issuing.listener(folder.gateway)
    if settings is None:
        raise ConfigError(f"{folder.path / 'gateway.yaml'}: listeners.ssh: expected an address and host_keys")
    address, port = settings.place
    return args.host or [address for address in (address,) if address not in _WILDCARDS], port, hosts.published(folder, settings)


def _asked(args: Namespace) -> tuple[list[str], int, tuple[hosts.HostKey, ...]]:
    said = anonymous(args).get("/api/v1/ssh/host-keys")
    try:
        keys = tuple(_checked(said))
        port = said["port"]
        if not keys or not isinstance(port, int) or not 0 < port < 65536:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ClientProblem("the console's answer has no host keys", 2) from None
    return args.host or [urlsplit(args.url).hostname or ""], port, keys


def _checked(said: Any) -> Iterator[hosts.HostKey]:
    """Only what is a key goes into a file that ssh trusts; the fingerprint is computed here."""
    for line in said["keys"]:
        yield hosts.host_key(line)
