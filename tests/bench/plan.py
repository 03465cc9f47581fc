# SPDX-License-Identifier: Apache-2.0
"""Which numbers, in which order: every peer in turn within a round, so that a busy moment of the machine hits all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench import measure
from tests.bench.peers import Ground, Peer

MODES = ("simple", "extended", "prepared")
CLIENTS = (1, 8, 32)
IDLE_CONNECTIONS = 100


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured value. ``higher`` says whether more is better."""

    name: str
    value: float
    unit: str
    peer: str
    higher: bool = True


def samples(ground: Ground, seconds: float, rounds: int) -> Iterator[Sample]:
    """Everything, interleaved: ``rounds`` times."""
    sizes = measure.bulk_bytes(ground.peers[0])
    for peer in ground.peers:  # first: later connections would find the memory of earlier ones free
        grown = measure.idle_bytes(peer, IDLE_CONNECTIONS)
        if grown is not None:
            yield Sample("idle connection", grown / 1024, "KiB", peer.name, higher=False)
    for _ in range(rounds):
        yield Sample("disk sync", measure.sync_seconds(ground.state) * 1e6, "µs", "disk", higher=False)
        for mode in MODES:
            for clients in CLIENTS:
                for peer in ground.peers:
                    yield from _select(ground, peer, mode, clients, seconds)
        for peer in ground.peers:
            if peer.tls:
                yield from _select(ground, peer.encrypted(), "prepared", 8, seconds, suffix=" tls")
        for peer in ground.peers:
            yield from _update(ground, peer, seconds)
        for peer in ground.peers:
            yield from _set_up(ground, peer, seconds)
        for peer in ground.peers:
            yield from _bulk(ground, peer, sizes)
    for peer in ground.peers:
        if peer.pid is not None:
            yield Sample("peak memory", measure.peak_bytes(peer.pid) / 2**20, "MiB", peer.name, higher=False)


def _select(ground: Ground, peer: Peer, mode: str, clients: int, seconds: float, suffix: str = "") -> Iterator[Sample]:
    got = measure.pgbench(ground.server, peer, "-S", "-M", mode, clients=clients, seconds=seconds, latency=clients == 1)
    name = f"select {mode} {clients}{suffix}"
    yield Sample(f"{name} tps", got.tps, "tx/s", peer.name)
    if got.latency is not None:
        yield Sample(f"{name} p50", got.latency, "µs", peer.name, higher=False)
    if got.cpu is not None:
        yield Sample(f"{name} cpu", got.cpu, "µs/tx", peer.name, higher=False)


def _update(ground: Ground, peer: Peer, seconds: float) -> Iterator[Sample]:
    """pgbench's simple-update: a transaction of two writes and a read, each recorded before it runs."""
    got = measure.pgbench(ground.server, peer, "-N", "-M", "prepared", clients=8, seconds=seconds)
    yield Sample("update prepared 8 tps", got.tps, "tx/s", peer.name)
    if got.cpu is not None:
        yield Sample("update prepared 8 cpu", got.cpu, "µs/tx", peer.name, higher=False)


def _set_up(ground: Ground, peer: Peer, seconds: float) -> Iterator[Sample]:
    """With a login at the target each, and with connections of the target that are used again (as pgbouncer always does)."""
    for name, way in (("connections set up", peer), ("connections set up, reuse", peer.reusing())):
        got = measure.set_up(ground.server, way, 4, seconds)
        yield Sample(name, got.tps, "1/s", peer.name)
        if got.cpu is not None:
            yield Sample(f"{name} cpu", got.cpu, "µs/tx", peer.name, higher=False)


def _bulk(ground: Ground, peer: Peer, sizes: tuple[int, int]) -> Iterator[Sample]:
    for name, run, size in (("bulk select", measure.bulk_select, sizes[0]), ("bulk copy", measure.bulk_copy, sizes[1])):
        rate, cpu = run(ground.server, peer, size)
        yield Sample(f"{name} rate", rate, "MB/s", peer.name)
        if cpu is not None:
            yield Sample(f"{name} cpu", cpu, "s/GB", peer.name, higher=False)
