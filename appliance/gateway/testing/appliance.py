# SPDX-License-Identifier: Apache-2.0
"""A whole gateway on a demo folder: ``lockgate init --demo``, pointed at a real server, served by a process of its own.

The demo, the tests and the benchmark share it. Everything goes through the program's own commands, as an operator would.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import gateway
from gateway.testing.postgres import PostgresServer, free_port

ORDERS_SQL = Path(__file__).with_name("orders.sql")
_READY_SECONDS = 60.0
_STOP_SECONDS = 60.0


class ApplianceFailed(RuntimeError):
    """The gateway did not start, did not stop cleanly, or a command ended otherwise than it had to."""


def make_orders(server: PostgresServer, role: str, password: str, database: str = "orders") -> None:
    """The demo's database with its tables, owned by ``role``."""
    server.create_role(role, password)
    server.create_database(database)
    owned = f'alter database "{database}" owner to "{role}"; grant all on schema public to "{role}"; set role "{role}";'
    server.execute(owned + ORDERS_SQL.read_text(), database)


@dataclass(slots=True)
class Appliance:
    """A gateway under ``root``: its folder is ``root/etc``, its state ``root/state``, its log ``root/gateway.log``.

    ``prepare()`` makes the folder, ``start()`` serves it until ``stop()``; as a context manager both. ``environment`` is added to that
    of every command.
    """

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    console_port: int = 0
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    _tokens: dict[str, str] = field(default_factory=dict, repr=False)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        return self.root / "etc"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def ca(self) -> Path:
        """What clients give as PGSSLROOTCERT."""
        for name in ("ca.crt", "gateway-ca.crt", "gateway.crt"):
            if (self.folder / "tls" / name).exists():
                return self.folder / "tls" / name
        raise ApplianceFailed(f"no certificate under {self.folder / 'tls'}")

    # --- making the folder ---

    def prepare(self, address: str, username: str = "orders_app", *more: str) -> None:
        """``init --demo`` (with ``more`` options), then: free ports, the target's address, a new password for the credential."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.run("init", str(self.folder), "--demo", *more, config=False)
        self.port, self.console_port = self.port or free_port(), self.console_port or free_port()
        self.rewrite("gateway.yaml", {"127.0.0.1:15432": f"127.0.0.1:{self.port}", "127.0.0.1:19443": f"127.0.0.1:{self.console_port}"})
        self.rewrite("policy/resources.yaml", {"127.0.0.1:5432": address})
        credential = {"kind": "password", "username": username, "password": self.password}
        (self.folder / "credentials" / "orders-db.yaml").write_text(json.dumps(credential) + "\n")

    def rewrite(self, name: str, changes: Mapping[str, str]) -> None:
        """Replace texts in one file of the folder. Raises ``ApplianceFailed`` where a text is not in it."""
        path = self.folder / name
        text = path.read_text()
        for old, new in changes.items():
            if old not in text:
                raise ApplianceFailed(f"{name} has no {old!r}")
            text = text.replace(old, new)
        path.write_text(text)

    # --- commands ---

    def command(self, *words: str, config: bool = True) -> list[str]:
        """The program's command line; ``--config`` goes after the verb."""
        verb = 2 if words[0] in _TWO_WORDS and len(words) > 1 else 1
        given = ["--config", str(self.folder)] if config else []
        return [sys.executable, "-m", "gateway.cli", *words[:verb], *given, *words[verb:]]

    def run(self, *words: str, expect: int | Sequence[int] = 0, config: bool = True) -> str:
        """Run a command and give what it printed. Raises ``ApplianceFailed`` at another exit status than ``expect``."""
        done = subprocess.run(self.command(*words, config=config), capture_output=True, text=True, env=self.variables(), check=False,
                              stdin=subprocess.DEVNULL, timeout=120)
        if done.returncode not in ([expect] if isinstance(expect, int) else expect):
            said = f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
            raise ApplianceFailed(f"lockgate {' '.join(words)}: exit status {done.returncode}, not {expect}\n{said}")
        return done.stdout

    def json(self, *words: str, expect: int | Sequence[int] = 0) -> Any:
        """A command's one JSON document."""
        return json.loads(self.run(*words, "--json", expect=expect))

    def lines(self, *words: str, expect: int | Sequence[int] = 0) -> list[dict[str, Any]]:
        """A command's JSON lines."""
        return [json.loads(line) for line in self.run(*words, "--json", expect=expect).splitlines() if line.strip()]

    def variables(self) -> dict[str, str]:
        """Ours, without the PG* ones, and with the package found where it is now."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return kept | {"PYTHONPATH": str(Path(gateway.__file__).parent.parent), "PYTHONUNBUFFERED": "1"} | dict(self.environment)

    # --- tokens and ways in ---

    def token(self, name: str = "ci-bot") -> str:
        """A token of an identity or a person, minted once."""
        if name not in self._tokens:
            self._tokens[name] = self.run("token", "mint", "--as", name).strip()
        return self._tokens[name]

    def token_file(self, name: str) -> Path:
        path = self.root / f"{name}.token"
        path.touch(mode=0o600)
        path.write_text(self.token(name) + "\n")
        return path

    def dsn(self, name: str = "ci-bot", resource: str = "orders-db", **options: str) -> str:
        """A libpq URI through the gateway, with TLS checked."""
        settings = {"sslmode": "verify-full", "sslrootcert": str(self.ca)} | options
        query = "&".join(f"{key}={quote(value)}" for key, value in settings.items())
        return f"postgresql://{quote(name)}:{self.token(name)}@127.0.0.1:{self.port}/{quote(resource, safe='')}?{query}"

    def client_variables(self, name: str = "ci-bot", resource: str = "orders-db") -> dict[str, str]:
        """The same for psql, pgbench and their like."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": name, "PGPASSWORD": self.token(name), "PGDATABASE": resource,
                "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(self.ca)}

    # --- the process ---

    def __enter__(self) -> Appliance:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.stop()
        else:
            with contextlib.suppress(ApplianceFailed):
                self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        path = self.root / "gateway.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """``lockgate serve``; back when ``/readyz`` says so."""
        with (self.root / "gateway.log").open("ab") as sink:
            self._process = subprocess.Popen(self.command("serve"), stdout=sink, stderr=sink, stdin=subprocess.DEVNULL,
                                             env=self.variables(), start_new_session=True)
        deadline = time.monotonic() + _READY_SECONDS
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ApplianceFailed(f"lockgate serve did not become ready:\n{self.log[-4000:]}")
            time.sleep(0.05)

    def ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str, token: str | None = None) -> tuple[int, bytes]:
        """One GET from the console: status and body."""
        request = urllib.request.Request(f"https://127.0.0.1:{self.console_port}{path}")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10, context=ssl.create_default_context(cafile=str(self.ca))) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def reload(self) -> None:
        """SIGHUP; what became of it is in the audit log (``policy.loaded`` or ``policy.rejected``)."""
        os.kill(self.pid, signal.SIGHUP)

    def stop(self) -> None:
        """SIGTERM. Raises ``ApplianceFailed`` unless it drains and exits 0."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ApplianceFailed(f"lockgate serve did not stop on SIGTERM:\n{self.log[-4000:]}") from None
        if status != 0:
            raise ApplianceFailed(f"lockgate serve ended with {status}:\n{self.log[-4000:]}")

    def detach(self) -> None:
        """Leave the gateway running after this process; who calls it says how to end it."""
        self._process = None

    def kill(self) -> None:
        """SIGKILL: what a power cut would leave."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    # --- what must not be found ---

    def secrets(self) -> Iterator[tuple[str, str]]:
        """Every secret this gateway saw, with what to call it: tokens (and their signatures alone), the target's password."""
        yield "the target's password", self.password
        for name, token in self._tokens.items():
            yield f"the token of {name}", token
            yield f"the signature in the token of {name}", token.rsplit(".", 1)[-1]

    def leaked(self) -> list[str]:
        """Where a secret is found: files under state, the log, and the exported audit records. Empty is what it must be."""
        places = {str(path.relative_to(self.root)): path.read_bytes() for path in self.state.rglob("*") if path.is_file()}
        places["gateway.log"] = self.log.encode()
        if any(self.state.rglob("*.db")):
            places["audit export"] = self.run("audit", "export").encode()
        return [f"{what} in {place}" for place, content in places.items() for what, secret in self.secrets() if secret.encode() in content]


_TWO_WORDS = frozenset({"audit", "approvals", "sessions", "policy", "schema", "token"})
