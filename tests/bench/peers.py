# SPDX-License-Identifier: Apache-2.0
"""Three ways to one PostgreSQL: straight, through pgbouncer in session mode, and through Lockgate with policy, masks and audit."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.testing.appliance import Appliance
from gateway.testing.certificates import Authority, Pair
from gateway.testing.postgres import PostgresServer, free_port, system_binaries

NAMES = ("direct", "pgbouncer", "lockgate")
ROLE, PASSWORD, DATABASE = "bench", "bench-of-a-throwaway-server", "bench"
PEOPLE = 200_000
PEOPLE_SQL = f"""
create table people(id int primary key, name text not null, email text, ssn text, card text, notes text);
insert into people select g, 'Person '||g, 'person'||g||'@example.com', lpad((g%1000)::text,3,'0')||'-11-'||lpad((g%10000)::text,4,'0'),
  '4000'||lpad(g::text,12,'0'), 'a note of some length about person number '||g from generate_series(1,{PEOPLE}) g;
analyze people;
"""
POLICY = """
resources:
  - {{name: bench, protocol: postgres, address: "{address}", database: bench, tls: {{mode: disable}}, credential: bench}}
  - {{name: bench-reuse, protocol: postgres, address: "{address}", database: bench, tls: {{mode: disable}}, credential: bench, reuse: 30s}}
grants:
  - name: bench
    to: [ci-bot]
    targets: [bench, bench-reuse]
    rules:
      - {{name: data, allow: {{sql: {{verbs: [select, insert, update, delete], relations: ["public.*"]}}}}}}
      - {{name: catalog, allow: {{sql: {{verbs: [select], relations: ["pg_catalog.*", "information_schema.*"]}}}}}}
      - {{name: session, allow: {{sql: {{verbs: [begin, commit, rollback, set, reset, show, deallocate, discard, copy-to]}}}}}}
    masks: [bench]
masks:
  - name: bench
    columns: {{public.people.ssn: redact, public.people.card: {{keep_last: 4}}, public.people.email: email}}
    detect: {{private-key: redact, aws-access-key: redact, jwt: redact, payment-card: {{keep_last: 4}}}}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to the server: what libpq clients need, and the process in between (``None`` for a direct connection)."""

    name: str
    environment: Mapping[str, str]
    pid: int | None = None
    tls: Mapping[str, str] = field(default_factory=dict)

    def encrypted(self) -> Peer:
        """The same way with TLS, checked."""
        return Peer(self.name, {**self.environment, **self.tls}, self.pid, self.tls)

    def reusing(self) -> Peer:
        """The same way where sessions take over the target's connections from each other. A direct one cannot; pgbouncer's always do."""
        changed = {"PGDATABASE": "bench-reuse"} if self.name == "lockgate" else {}
        return Peer(self.name, {**self.environment, **changed}, self.pid, self.tls)


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything that runs: the server (for its programs), the peers, and the folder whose disk holds the gateway's state."""

    server: PostgresServer
    peers: tuple[Peer, ...]
    state: Path


@contextmanager
def ground(names: Sequence[str] = NAMES, connections: int = 400) -> Iterator[Ground]:
    """Start all three (or only some). pgbouncer is left out, and said so, where the system has none."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lockgate-bench-", dir="/var/tmp")))
        pair = Authority(root).issue("localhost", "127.0.0.1")
        has_tls = system_binaries() is not None
        server = stack.enter_context(PostgresServer(
            tls=pair if has_tls else None, settings={"max_connections": str(connections), "shared_buffers": "256MB"}))
        _make_tables(server)
        tls = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(pair.ca)}
        base = {"PGHOST": "127.0.0.1", "PGUSER": ROLE, "PGPASSWORD": PASSWORD, "PGDATABASE": DATABASE, "PGSSLMODE": "disable"}
        peers = [Peer("direct", base | {"PGPORT": str(server.port)}, tls=tls if has_tls else {})]
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is not None and "pgbouncer" in names:
            process, port = stack.enter_context(_pgbouncer(program, server, pair))
            peers.append(Peer("pgbouncer", base | {"PGPORT": str(port)}, process, tls))
        elif program is None:
            print("no pgbouncer here: measured against a direct connection alone")
        if "lockgate" in names:
            peers.append(way_through(stack.enter_context(appliance(root / "lockgate", server))))
        yield Ground(server, tuple(peers), root)


def _make_tables(server: PostgresServer) -> None:
    """On the server itself: ``pgbench -i`` and a table of people, owned by the role."""
    server.create_role(ROLE, PASSWORD)
    server.create_database(DATABASE)
    server.execute(f'grant all on schema public to "{ROLE}"', DATABASE)
    straight = {"PATH": os.environ["PATH"], "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": ROLE, "PGPASSWORD": PASSWORD,
                "PGDATABASE": DATABASE}
    subprocess.run([server.program("pgbench"), "-i", "-q", "-s", "5"], env=straight, check=True, capture_output=True)
    server.execute(f'set role "{ROLE}"; {PEOPLE_SQL}', DATABASE)


def appliance(root: Path, server: PostgresServer, kind: type[Appliance] = Appliance) -> Appliance:
    """A gateway on the bench's policy, not started yet."""
    made = kind(root)
    made.prepare(server.address)
    (made.folder / "policy" / "bench.yaml").write_text(POLICY.format(address=server.address))
    secret = made.folder / "credentials" / "bench.yaml"
    secret.touch(mode=0o600)
    secret.write_text(json.dumps({"kind": "password", "username": ROLE, "password": PASSWORD}))
    made.rewrite("gateway.yaml", {"connections_per_identity: 200": "connections_per_identity: 2000"})
    return made


def way_through(made: Appliance, name: str = "lockgate") -> Peer:
    """The way through a running gateway."""
    through = made.client_variables(resource="bench")
    encrypted = {key: through[key] for key in ("PGSSLMODE", "PGSSLROOTCERT")}
    return Peer(name, through | {"PGSSLMODE": "disable"}, made.pid, encrypted)


@contextmanager
def _pgbouncer(program: str, server: PostgresServer, pair: Pair) -> Iterator[tuple[int, int]]:
    """Session mode, SCRAM on both sides, in a folder of its own; gives process id and port. Does not run as root either."""
    port = free_port()
    folder = server.folder / "pgbouncer"
    folder.mkdir(mode=0o700)
    (folder / "users").write_text(f'"{ROLE}" "{PASSWORD}"\n')
    for source, name in ((pair.certificate, "server.crt"), (pair.key, "server.key")):
        shutil.copyfile(source, folder / name)
        (folder / name).chmod(0o600)
    (folder / "ini").write_text(f"""
[databases]
{DATABASE} = host=127.0.0.1 port={server.port} dbname={DATABASE}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = session
default_pool_size = 300
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
client_tls_sslmode = allow
client_tls_cert_file = {folder}/server.crt
client_tls_key_file = {folder}/server.key
log_connections = 0
log_disconnections = 0
""")
    owner = server.folder.stat()
    for path in (folder, *folder.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)
    other = os.geteuid() == 0
    with (folder / "log").open("ab") as sink:
        process = subprocess.Popen([program, str(folder / "ini")], stdout=sink, stderr=sink, stdin=subprocess.DEVNULL,
                                   user=pwd.getpwuid(owner.st_uid).pw_name if other else None, group=owner.st_gid if other else None,
                                   extra_groups=[] if other else None)
    try:
        _wait_for(port, process, folder / "log")
        yield process.pid, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pgbouncer did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
