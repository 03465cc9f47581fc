# SPDX-License-Identifier: Apache-2.0
"""Who reaches what: a connect scan of every TCP port out of a namespace, and single attempts as a user of a host."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

from segment import in_host

SCAN = """
import json, resource, socket, sys, time

AT_ONCE, SECONDS = 4000, 0.7

def opened(address, ports):
    # The kernel shakes hands by itself: how busy this machine is does not matter, only how long the answer is waited for.
    tried = []
    for port in ports:
        tried.append((port, socket.socket()))
        tried[-1][1].setblocking(False)
        tried[-1][1].connect_ex((address, port))
    time.sleep(SECONDS)
    for port, client in tried:
        try:
            client.getpeername()
        except OSError:
            continue
        finally:
            client.close()
        yield port

resource.setrlimit(resource.RLIMIT_NOFILE, (AT_ONCE + 100,) * 2)
ports = range(1, 65536)
batches = [ports[begin:begin + AT_ONCE] for begin in range(0, len(ports), AT_ONCE)]
print(json.dumps([port for batch in batches for port in opened(sys.argv[1], batch)]))
"""
TRY = """
import concurrent.futures, json, socket, sys

def reached(place):
    try:
        socket.create_connection(place, 1.5).close()
    except OSError:
        return False
    return True

places = [tuple(place) for place in json.loads(sys.argv[1])]
with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
    print(json.dumps([place for place, there in zip(places, pool.map(reached, places)) if there]))
"""
SEND = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(b'lab', (sys.argv[1], int(sys.argv[2])))"
HEAR = """
import socket, sys
hear = socket.socket(type=socket.SOCK_DGRAM)
hear.bind((sys.argv[1], int(sys.argv[2])))
hear.settimeout(float(sys.argv[3]))
print("listening", flush=True)
try:
    print(hear.recv(64).decode())
except TimeoutError:
    print("nothing")
"""


def open_ports(namespace: str, address: str) -> list[int]:
    """Every TCP port of the address that takes a connection out of the namespace: about a quarter of a minute."""
    argv = ["ip", "netns", "exec", namespace, "python3", "-c", SCAN, address]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=180)
    found: list[int] = json.loads(done.stdout)
    return found


def reached(host: str, user: str, places: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Where a process of that user on that host gets a TCP connection to, out of these (address, port)."""
    argv = in_host(host, "runuser", "--user", user, "--", "python3", "-c", TRY, json.dumps(places))
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return [(address, port) for address, port in json.loads(done.stdout)]


def connects(host: str, user: str, address: str, port: int) -> bool:
    """Whether a process of that user on that host gets a TCP connection."""
    return bool(reached(host, user, [(address, port)]))


def datagram_arrives(sender: tuple[str, str], listener: str, address: str, port: int) -> bool:
    """Whether a datagram that a (host, user) sends arrives where `listener` (a namespace) listens."""
    argv = ["ip", "netns", "exec", listener, "python3", "-c", HEAR, address, str(port), "1.5"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as ear:
        assert ear.stdout
        assert ear.stdout.readline() == "listening\n"
        host, user = sender
        send = in_host(host, "runuser", "--user", user, "--", "python3", "-c", SEND, address, str(port))
        subprocess.run(send, capture_output=True, check=False)
        return ear.stdout.readline() == "lab\n"
