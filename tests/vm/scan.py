# SPDX-License-Identifier: Apache-2.0
"""Every TCP port of an address, knocked at from where this runs: JSON list of those that answer.

python -m tests.vm.scan ADDRESS [FIRST-LAST [AT-ONCE]]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys

AT_ONCE = "5000"
SECONDS = 4.0
"""A SYN that got lost is sent again after one second and after three."""


async def answers(address: str, port: int, gate: asyncio.Semaphore) -> bool:
    async with gate:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), SECONDS)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True


async def open_ports(address: str, ports: range, at_once: int) -> list[int]:
    gate = asyncio.Semaphore(at_once)
    found = await asyncio.gather(*(answers(address, port, gate) for port in ports))
    return [port for port, answered in zip(ports, found, strict=True) if answered]


def main(address: str, between: str = "1-65535", at_once: str = AT_ONCE) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, int(at_once) + 100), hard))
    first, last = map(int, between.split("-"))
    print(json.dumps(asyncio.run(open_ports(address, range(first, last + 1), int(at_once)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
