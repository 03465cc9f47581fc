# SPDX-License-Identifier: Apache-2.0
"""A primary and its physical standby, made by pg_basebackup (manual "Log-Shipping Standby Servers"), on loopback."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.testing.client import ServerError
from gateway.testing.postgres import SUPERUSER, PostgresServer


@dataclass(slots=True)
class Standby(PostgresServer):
    """Follows ``primary`` over streaming replication until it is promoted."""

    primary: PostgresServer = field(default_factory=PostgresServer)

    def promote(self) -> None:
        """Back when it takes writes."""
        assert self.value("select pg_promote(true, 60)") == "t"

    def catch_up(self) -> None:
        """Back when everything that the primary has written so far can be seen here."""
        written = self.primary.execute("select pg_current_wal_lsn()")[0].rows[0][0]
        deadline = time.monotonic() + 60
        while self.value(f"select pg_last_wal_replay_lsn() >= '{written}'::pg_lsn") != "t":
            assert time.monotonic() < deadline, self.log[-2000:]
            time.sleep(0.05)

    def value(self, sql: str) -> str | None:
        """The one value of a query; ``None`` where it fails, as it does while replay has not come that far."""
        try:
            return self.execute(sql)[0].rows[0][0]
        except ServerError:
            return None

    def _initdb(self) -> None:
        self._run(self.program("pg_basebackup"), "--pgdata", str(self.folder / "d"), "--dbname", self._source, "--write-recovery-conf",
                  "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")

    def _configure(self) -> None:
        PostgresServer._configure(self)
        with (self.folder / "d" / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{self._source}'\n")

    @property
    def _source(self) -> str:
        return f"host=127.0.0.1 port={self.primary.port} user={SUPERUSER}"


def let_replicate(server: PostgresServer) -> None:
    """Standbys on this machine may follow it."""
    with (server.folder / "d" / "pg_hba.conf").open("a") as rules:
        rules.write("host replication all 127.0.0.1/32 trust\n")
    server.execute("select pg_reload_conf()")


@contextmanager
def pair(**options: object) -> Iterator[tuple[PostgresServer, Standby]]:
    """Both running, the standby caught up."""
    with PostgresServer(**options) as primary:  # type: ignore[arg-type]
        let_replicate(primary)
        standby = Standby(primary=primary, **options)  # type: ignore[arg-type]
        with standby:
            standby.catch_up()
            yield primary, standby


def stop_at_once(server: PostgresServer) -> None:
    """SIGQUIT: as if its machine were gone, but for the answer of the kernel. The folder stays until the server is left."""
    process = server._process
    assert process is not None
    process.send_signal(signal.SIGQUIT)
    process.wait(30)
