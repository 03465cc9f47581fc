# SPDX-License-Identifier: Apache-2.0
"""One number at a time. Rates come from PostgreSQL's own pgbench and psql, CPU and memory from /proc."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psycopg

from gateway.testing.postgres import PostgresServer
from tests.bench.peers import PEOPLE, Peer

_TICKS = os.sysconf("SC_CLK_TCK")
BULK_TIMES = 10
"""How often the table is fetched in one session: CPU is counted in ticks of 10 ms."""


class BenchFailed(RuntimeError):
    """A client of the benchmark failed; the message has what it said."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one pgbench run gave: transactions a second, median latency (µs) where asked for, CPU of the process in between (µs/tx)."""

    tps: float
    latency: float | None
    cpu: float | None


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its workers so far (proc(5), fields 14 and 15)."""
    return sum(int(field) for one in _family(pid) for field in _stat(one)[11:13]) / _TICKS


def resident_bytes(pid: int) -> int:
    """VmRSS of a process and its workers: what they share counts for each."""
    return sum(_status(one, "VmRSS") for one in _family(pid))


def peak_bytes(pid: int) -> int:
    """VmHWM: the most each ever had."""
    return sum(_status(one, "VmHWM") for one in _family(pid))


def _family(pid: int) -> list[int]:
    """A process and those it started (proc(5), /proc/PID/task/TID/children)."""
    children = [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]
    return [pid, *(member for child in children for member in _family(child))]


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _status(pid: int, name: str) -> int:
    return int(_number(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())) * 1024


def pgbench(server: PostgresServer, peer: Peer, *arguments: str, clients: int, seconds: float, latency: bool = False) -> Run:
    """``pgbench -n`` with ``arguments`` for about ``seconds``. Raises ``BenchFailed``.

    CPU is that of whole seconds after the first: what connecting costs is not in it.
    """
    with tempfile.TemporaryDirectory(prefix="pgbench-") as folder:
        command = [server.program("pgbench"), "-n", "-c", str(clients), "-j", str(min(clients, 2)), "-T", str(max(1, round(seconds))),
                   *arguments, *(["-l", "--log-prefix", f"{folder}/log"] if latency else [])]
        done, cpu = _watched([*command, "-P", "1"], peer) if peer.pid else (_run(command, peer), None)
        times = [int(line.split()[2]) for path in Path(folder).glob("log*") for line in path.read_text().splitlines()]
    tps = _number(r"tps = ([\d.]+) \((?:without initial|including reconnection)", done)
    return Run(tps, statistics.median(times) if times else None, cpu)


def _watched(command: list[str], peer: Peer) -> tuple[str, float | None]:
    """What pgbench says in the end; and the CPU of the process in between (µs/tx), from the first report of progress to the last."""
    seen: list[tuple[float, float, float]] = []             # seconds, transactions a second since the last, CPU seconds
    said: list[str] = []
    with subprocess.Popen(command, env=_environment(peer), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stderr is not None and process.stdout is not None
        for line in process.stderr:
            said.append(line)
            if (found := re.match(r"progress: ([\d.]+) s, ([\d.]+) tps", line)) is not None:
                seen.append((float(found[1]), float(found[2]), cpu_seconds(peer.pid or 0)))
        done = process.stdout.read()
    if process.returncode or "aborted" in "".join(said):
        raise BenchFailed(f"{peer.name}: {' '.join(command)}\n{done[-2000:]}{''.join(said)[-2000:]}")
    count = sum((here[0] - before[0]) * here[1] for before, here in pairwise(seen))
    return done, (seen[-1][2] - seen[0][2]) / count * 1e6 if count else None


def set_up(server: PostgresServer, peer: Peer, clients: int, seconds: float) -> Run:
    """``pgbench -C``: a connection for each SELECT. CPU is that of the process in between from the run's beginning to its end."""
    before = cpu_seconds(peer.pid) if peer.pid else 0.0
    load = ["-c", str(clients), "-j", str(min(clients, 2)), "-T", str(max(1, round(seconds)))]
    done = _run([server.program("pgbench"), "-n", "-S", "-C", *load], peer)
    count = _number(r"actually processed: (\d+)", done)
    cpu = (cpu_seconds(peer.pid) - before) / count * 1e6 if peer.pid and count else None
    return Run(_number(r"tps = ([\d.]+) \(including reconnection", done), None, cpu)


def bulk_select(server: PostgresServer, peer: Peer, size: int) -> tuple[float, float | None]:
    """SELECTs of all people by pgbench (libpq, rows dropped): MB a second, and CPU seconds a GB in between."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql", prefix="bulk-") as script:
        script.write("select * from people;\n")
        script.flush()
        return _timed([server.program("pgbench"), "-n", "-t", str(BULK_TIMES), "-f", script.name], peer, size * BULK_TIMES)


def bulk_copy(server: PostgresServer, peer: Peer, size: int) -> tuple[float, float | None]:
    """``COPY people TO STDOUT`` by psql into /dev/null, likewise: the same two numbers."""
    return _timed([server.program("psql"), "-X", "-q", "-o", "/dev/null", *["-c", "copy people to stdout"] * BULK_TIMES], peer,
                  size * BULK_TIMES)


def bulk_bytes(peer: Peer) -> tuple[int, int]:
    """Bytes of DataRow messages of the SELECT, and of lines of the COPY, as a direct connection carries them."""
    with _connect(peer) as connection, connection.cursor() as cursor, cursor.copy("copy people to stdout") as lines:
        copied = sum(len(block) for block in lines)
    # Where COPY has a tab or newline of one byte a value, DataRow has a length of four; and a frame of seven a row.
    return copied + PEOPLE * (7 + 6 * 3), copied


def idle_bytes(peer: Peer, connections: int) -> float | None:
    """Growth of the process in between by a connection that logged in and does nothing."""
    if peer.pid is None:
        return None
    before = resident_bytes(peer.pid)
    with ExitStack() as stack:
        for _ in range(connections):
            stack.enter_context(_connect(peer))
        return (resident_bytes(peer.pid) - before) / connections


def sync_seconds(folder: Path, rounds: int = 200) -> float:
    """Median time of appending 4 KiB to a file in ``folder`` and making it durable."""
    times = []
    path = folder / "sync-probe"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(rounds):
            os.write(handle, b"\xa5" * 4096)
            start = time.perf_counter()
            os.fdatasync(handle)
            times.append(time.perf_counter() - start)
    finally:
        os.close(handle)
        path.unlink()
    return statistics.median(times)


def _connect(peer: Peer) -> psycopg.Connection[tuple[object, ...]]:
    where = peer.environment
    return psycopg.connect(host=where["PGHOST"], port=where["PGPORT"], user=where["PGUSER"], password=where["PGPASSWORD"],
                           dbname=where["PGDATABASE"], sslmode=where["PGSSLMODE"], autocommit=True)


def _timed(command: list[str], peer: Peer, size: int) -> tuple[float, float | None]:
    before = cpu_seconds(peer.pid) if peer.pid else 0.0
    start = time.perf_counter()
    _run(command, peer)
    took = time.perf_counter() - start
    spent = cpu_seconds(peer.pid) - before if peer.pid else None
    return size / took / 1e6, spent / size * 1e9 if spent is not None else None


def _run(command: list[str], peer: Peer) -> str:
    done = subprocess.run(command, env=_environment(peer), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600,
                          check=False)
    if done.returncode or "aborted" in done.stderr:
        raise BenchFailed(f"{peer.name}: {' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _environment(peer: Peer) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/nonexistent", **peer.environment}


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise BenchFailed(f"there is nothing like {pattern!r} in:\n{text[-2000:]}")
    return float(found[1])
