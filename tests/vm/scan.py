# SPDX-License-Identifier: Apache-2.0
"""Every TCP port of an address, knocked at from where this runs: JSON list of those that answer.

python -m tests.vm.scan ADDRESS [FIRST-LAST]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys

AT_ONCE = 5000
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


async def open_ports(address: str, ports: range) -> list[int]:
    gate = asyncio.Semaphore(AT_ONCE)
    found = await asyncio.gather(*(answers(address, port, gate) for port in ports))
    return [port for port, answered in zip(ports, found, strict=True) if answered]


def main(address: str, between: str = "1-65535") -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, AT_ONCE + 100), hard))
    first, last = map(int, between.split("-"))
    print(json.dumps(asyncio.run(open_ports(address, range(first, last + 1)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
