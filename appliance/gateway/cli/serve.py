# SPDX-License-Identifier: Apache-2.0
"""``lockgate serve``: run the gateway in the foreground. SIGTERM drains and exits 0, SIGHUP reloads."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
import time
from dataclasses import replace
from typing import Any

import uvloop

from gateway import serving, version
from gateway.build import Gateway
from gateway.cli.options import add_config
from gateway.config.load import Folder, load_folder
from gateway.datapath import addresses_are_here, calm_collector
from gateway.protocols.ssh import hosts


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("serve", help="run the gateway in the foreground", description=__doc__)
    add_config(parser)
    parser.add_argument("--log-level", choices=("error", "warning", "info", "debug"), default="info", help="what goes to standard error")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 after SIGTERM or SIGINT; 2 when the folder, or an address in it, is wrong; 1 when the audit log cannot be written."""
    logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    folder = load_folder(args.config)
    addresses_are_here(folder.gateway)
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
    began = time.monotonic()
    try:
        await gateway.start()
        for name, (host, port) in gateway.address.items():
            logging.getLogger("gateway").info("%s listens on %s:%d", name, host, port)
        for key in hosts.of_folder(folder):
            logging.getLogger("gateway").info("ssh host key %s", key.fingerprint)
        here = str(gateway.folder.path)
        started = serving.Verdict(os.getpid(), began, started=here, folder=here, policy=gateway.policy.digest, version=version(),
                                  named=str(gateway.folder.named))
        serving.tell(started)
        gateway.when_warm(calm_collector)
        await _until(gateway, stop, reload, started)
    finally:
        serving.notify("STOPPING=1")
        await gateway.stop()
    return 0


async def _until(gateway: Gateway, stop: asyncio.Event, reload: asyncio.Event, started: serving.Verdict) -> None:
    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(_reloads(gateway, reload, started)), group.create_task(serving.keep_alive())]
        await stop.wait()
        for task in beside:
            task.cancel()


async def _reloads(gateway: Gateway, asked: asyncio.Event, started: serving.Verdict) -> None:
    while True:
        await asked.wait()
        asked.clear()
        began = time.monotonic()
        serving.notify("RELOADING=1")
        refused = await gateway.reload()
        serving.tell(replace(started, began=began, folder=str(gateway.folder.path), policy=gateway.policy.digest, refused=refused))
