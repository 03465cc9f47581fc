# SPDX-License-Identifier: Apache-2.0
"""Four ways to one sshd: straight, through another sshd as jump host, through Lockgate, and through Lockgate with detectors and recording.

All with OpenSSH's own client, AES-GCM, and what the client proposes as key exchange otherwise. Interleaved within a round.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from gateway.testing.appliance import Appliance
from gateway.testing.openssh import SshServer
from gateway.testing.postgres import free_port
from tests.bench import measure
from tests.bench.measure import BenchFailed
from tests.bench.plan import Sample

WAYS = ("direct", "jump", "plain", "shared", "watched")
"""``plain``: a connection to the target for each session, nothing recorded but the log; ``shared``: kept between sessions; ``watched``:
detectors, and all output recorded."""
TYPED = b"systemctl status billing; ls -l /srv/billing/releases/current | tail -n 20; cd /srv/billing "
"""Typed twice for one figure of the echo."""
IDLE = 100
"""Connections that do nothing."""
POLICY = """
resources:
  - {{name: plain, protocol: ssh, address: "{address}", logins: [{login}], host_keys: trust/bench_hosts, credential: bench-ssh,
     share: 0s, recording: {{output: 0}}}}
  - {{name: watched, protocol: ssh, address: "{address}", logins: [{login}], host_keys: trust/bench_hosts, credential: bench-ssh,
     share: 0s, recording: {{output: 1GiB}}}}
  - {{name: shared, protocol: ssh, address: "{address}", logins: [{login}], host_keys: trust/bench_hosts, credential: bench-ssh,
     recording: {{output: 0}}}}
grants:
  - name: bench ssh
    to: [ci-bot]
    targets: [plain, watched, shared]
    rules: [{rules}]
  - name: bench ssh masks
    to: [ci-bot]
    targets: [watched]
    rules: [{rules}]
    masks: [bench-ssh]
masks:
  - name: bench-ssh
    detect: {{private-key: redact, aws-access-key: redact, jwt: redact, payment-card: {{keep_last: 4}}}}
"""
RULES = ('{name: commands, allow: {ssh: {actions: [exec], command: ["true", "cat *"]}}}, '
         '{name: files, allow: {ssh: {actions: [read, write, stat, list, setattr, remove], paths: ["/**"]}}}')


@dataclass(frozen=True, slots=True)
class Way:
    """One way: the host of the client's configuration file, and the process in between (``None``: none, or not ours to count)."""

    name: str
    config: Path
    pid: int | None = None

    def command(self, *words: str, options: Sequence[str] = (), program: str = "ssh") -> list[str]:
        return [program, "-F", str(self.config), *options, self.name, *words]


@contextmanager
def ways(state: Path) -> Iterator[tuple[Way, ...]]:
    """Start everything. ``state`` is on the disk that the gateway's log shall be on."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lockgate-bench-ssh-", dir=state)))
        target, jump = stack.enter_context(SshServer()), stack.enter_context(SshServer())
        made = Appliance(root / "lockgate")
        port = _prepare(made, target)
        stack.enter_context(made)
        certificate = root / "robot"
        made.run("ssh-certificate", "--token-file", str(made.token_file("ci-bot")), "--out", str(certificate))
        config = root / "ssh_config"
        config.write_text(_config(root, target, jump, port, certificate))
        yield tuple(Way(name, config, None if name in ("direct", "jump") else made.pid) for name in WAYS)


def _prepare(made: Appliance, target: SshServer) -> int:
    """A gateway with an SSH listener; its port."""
    made.prepare("127.0.0.1:5432")
    port = free_port()
    rules = POLICY.format(address=target.address, login=target.login, rules=RULES)
    (made.folder / "policy" / "bench.yaml").write_text(rules)
    (made.folder / "trust" / "bench_hosts").write_text(target.known_hosts)
    secret = made.folder / "credentials" / "bench-ssh.yaml"
    secret.touch(mode=0o600)
    secret.write_text(json.dumps({"kind": "ssh-key", "private_key": target.key.read_text()}))
    listener = f'  ssh: {{address: "127.0.0.1:{port}", host_keys: [tls/ssh_host_ed25519_key], user_ca: tls/ssh_user_ca}}\n  console:'
    made.rewrite("gateway.yaml", {"  console:": listener, "connections_per_identity: 200": "connections_per_identity: 2000"})
    made.run("init", str(made.folder), config=False)
    return port


def _config(root: Path, target: SshServer, jump: SshServer, port: int, certificate: Path) -> str:
    """What OpenSSH's client reads: a host for each way."""
    hosts = root / "known_hosts"
    key = " ".join((root / "lockgate" / "etc" / "tls" / "ssh_host_ed25519_key.pub").read_text().split()[:2])
    hosts.write_text(f"{target.known_hosts}{jump.known_hosts}[127.0.0.1]:{port} {key}\n")
    through = "".join(f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User {name}\n  IdentityFile {certificate}\n"
                      f"  CertificateFile {certificate}-cert.pub\n" for name in WAYS[2:])
    straight = (f"  HostName 127.0.0.1\n  Port {target.port}\n  User {target.login}\n  IdentityFile {target.key}\n")
    return (f"Host direct\n{straight}Host jump\n{straight}  ProxyJump hop\n"
            f"Host hop\n  HostName 127.0.0.1\n  Port {jump.port}\n  User {jump.login}\n  IdentityFile {jump.key}\n{through}"
            f"Host *\n  UserKnownHostsFile {hosts}\n  GlobalKnownHostsFile /dev/null\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            "  StrictHostKeyChecking yes\n  Ciphers aes128-gcm@openssh.com\n  LogLevel ERROR\n  ControlPath none\n")


def samples(state: Path, seconds: float, rounds: int) -> Iterator[Sample]:
    """Everything, interleaved: ``rounds`` times."""
    with ways(state) as found, tempfile.TemporaryDirectory(prefix="bench-ssh-") as folder:
        file = Path(folder) / "text"
        lines = b"".join(b"%08d a line of a log file with nothing in it that anybody would hide\n" % number for number in range(16384))
        size = max(1, round(seconds)) * 32 * 2**20
        file.write_bytes((lines * (size // len(lines) + 1))[:size])
        for way in found:                   # first: later connections would find the memory of earlier ones free
            if way.name == "plain":
                yield Sample("ssh idle connection", asyncio.run(_idle_bytes(way)) / 1024, "KiB", way.name, higher=False)
        for _ in range(rounds):
            for way in found:
                yield from _connections(way, max(3, round(seconds) * 2))
            for way in found:
                yield from _multiplexed(way, Path(folder), max(5, round(seconds) * 10))
            for way in found:
                yield Sample("ssh echo p50", _echo(way), "ms", way.name, higher=False)
            for way in found:
                yield from _moved("ssh cat", way, way.command(f"cat {file}"), size)
            for way in found:
                yield from _moved("sftp get", way, _sftp(way, f"get {file} /dev/null", Path(folder)), size)
            for way in found:
                yield from _moved("sftp put", way, _sftp(way, f"put {file} {folder}/put-{way.name}", Path(folder)), size)


async def _idle_bytes(way: Way) -> float:
    """Growth of the gateway by a connection that was let in and does nothing."""
    options = dict(line.split(maxsplit=1) for line in way.config.read_text().split(f"Host {way.name}\n")[1].splitlines()[:5])
    open_now = []
    try:
        for number in range(IDLE + 5):
            if number == 5:
                before = measure.resident_bytes(way.pid or 0)
            keys = [(options["IdentityFile"], options["CertificateFile"])]
            open_now.append(await asyncssh.connect(options["HostName"], int(options["Port"]), username=options["User"], client_keys=keys,
                                                   known_hosts=None, config=None, agent_path=None))
        return (measure.resident_bytes(way.pid or 0) - before) / IDLE
    finally:
        for connection in open_now:
            connection.close()


def _connections(way: Way, count: int) -> Iterator[Sample]:
    """A connection for each command, one after the other."""
    yield from _repeated("ssh new connection", way, way.command("true"), count)


def _multiplexed(way: Way, folder: Path, count: int) -> Iterator[Sample]:
    """Commands over a connection that stands already."""
    control = folder / f"control-{way.name}"
    _run(way.command(options=["-f", "-N", "-M", "-S", str(control)]), heard=False)    # what it leaves behind keeps its stderr open
    try:
        yield from _repeated("ssh multiplexed exec", way, way.command("true", options=["-S", str(control)]), count)
    finally:
        _run(way.command(options=["-S", str(control), "-O", "exit"]))


def _repeated(name: str, way: Way, command: list[str], count: int) -> Iterator[Sample]:
    times, before = [], measure.cpu_seconds(way.pid) if way.pid else 0.0
    for _ in range(count):
        began = time.perf_counter()
        _run(command)
        times.append(time.perf_counter() - began)
    yield Sample(f"{name} p50", sorted(times)[len(times) // 2] * 1e3, "ms", way.name, higher=False)
    if way.pid:
        yield Sample(f"{name} cpu", (measure.cpu_seconds(way.pid) - before) / count * 1e3, "ms", way.name, higher=False)


def _echo(way: Way) -> float:
    """Milliseconds from a key to what the target's terminal shows of it, the median."""
    with subprocess.Popen(way.command("cat", options=["-tt", "-e", "none"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, bufsize=0) as client:
        assert client.stdin is not None and client.stdout is not None
        times: list[float] = []
        for key in TYPED * 2:
            began = time.perf_counter()
            client.stdin.write(bytes([key]))
            if client.stdout.read(1) != bytes([key]):
                client.kill()
                raise BenchFailed(f"{way.name}: another echo than what was typed")
            times.append(time.perf_counter() - began)
        client.stdin.write(b"\x04\x04")
        client.stdin.close()
        client.wait(20)
    return sorted(times)[len(times) // 2] * 1e3


def _sftp(way: Way, line: str, folder: Path) -> list[str]:
    script = folder / "batch"
    script.write_text(line + "\n")
    return way.command(options=["-q", "-b", str(script)], program="sftp")


def _moved(name: str, way: Way, command: list[str], size: int) -> Iterator[Sample]:
    before, began = measure.cpu_seconds(way.pid) if way.pid else 0.0, time.perf_counter()
    _run(command)
    took = time.perf_counter() - began
    yield Sample(f"{name} rate", size / took / 1e6, "MB/s", way.name)
    if way.pid:
        yield Sample(f"{name} cpu", (measure.cpu_seconds(way.pid) - before) / size * 1e9, "s/GB", way.name, higher=False)


def _run(command: list[str], *, heard: bool = True) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False, timeout=120,
                          stderr=subprocess.PIPE if heard else subprocess.DEVNULL)
    if done.returncode:
        raise BenchFailed(f"{' '.join(command)}: {done.returncode}\n{(done.stderr or b'').decode(errors='replace')[-2000:]}")
