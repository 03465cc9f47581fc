# SPDX-License-Identifier: Apache-2.0
"""``lockgate serve``: run the gateway in the foreground. SIGTERM drains and exits 0, SIGHUP reloads."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
from typing import Any

import uvloop

from gateway.build import Gateway
from gateway.cli.options import add_config
from gateway.config.load import Folder, load_folder


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("serve", help="run the gateway in the foreground", description=__doc__)
    add_config(parser)
    parser.add_argument("--log-level", choices=("error", "warning", "info", "debug"), default="info", help="what goes to standard error")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 after SIGTERM or SIGINT; 2 when the folder is wrong; 1 when the audit log cannot be written."""
    logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    folder = load_folder(args.config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(folder))


async def _serve(folder: Folder) -> int:
    gateway = Gateway(folder)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    reload = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    try:
        await gateway.start()
        for name, (host, port) in gateway.address.items():
            logging.getLogger("gateway").info("%s listens on %s:%d", name, host, port)
        notify("READY=1")
        gateway.when_warm(_calm_collector)
        await _until(gateway, stop, reload)
    finally:
        notify("STOPPING=1")
        await gateway.stop()
    return 0


def _calm_collector() -> None:
    """The catalogs are hundreds of thousands of objects that stay: the collector need not walk through them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _until(gateway: Gateway, stop: asyncio.Event, reload: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        reloading = group.create_task(_reloads(gateway, reload))
        await stop.wait()
        reloading.cancel()


async def _reloads(gateway: Gateway, asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        notify("RELOADING=1")
        await gateway.reload()
        notify("READY=1")


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)) when it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.send(state.encode())
