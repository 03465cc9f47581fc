# SPDX-License-Identifier: Apache-2.0
"""A small PostgreSQL client for places without psql: protocol 3.0, simple queries, TLS, trust and cleartext passwords.

Blocking sockets, no dependencies. ``python -m gateway.testing.client -c SQL`` reads the same environment as psql (PGHOST, PGPORT, PGUSER,
PGPASSWORD, PGDATABASE, PGSSLMODE, PGSSLROOTCERT, PGOPTIONS) and prints much the same. It is a client of gateways and test servers: what it
does not know it reports as an error. PostgreSQL manual, chapter "Frontend/Backend Protocol".
"""

from __future__ import annotations

import argparse
import os
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

_PROTOCOL_3_0 = 196608
_SSL_REQUEST = 80877103
_LARGEST_MESSAGE = 1 << 30


class ServerError(Exception):
    """An ErrorResponse. ``code`` is the SQLSTATE, ``detail`` and ``hint`` may be empty."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(f"{fields.get('C', '')}: {fields.get('M', '')}")
        self.code = fields.get("C", "")
        self.message = fields.get("M", "")
        self.detail = fields.get("D", "")
        self.hint = fields.get("H", "")


class ProtocolError(Exception):
    """The server sent what this client does not understand, or went away."""


class Result(NamedTuple):
    """One statement's answer: column names, text rows, command tag."""

    columns: tuple[str, ...]
    rows: list[tuple[str | None, ...]]
    tag: str


@dataclass(slots=True)
class Client:
    """One connection. ``notices`` collects NoticeResponses as their fields; ``on_notice`` sees each as it comes."""

    _socket: socket.socket
    parameters: dict[str, str] = field(default_factory=dict)
    notices: list[dict[str, str]] = field(default_factory=list)
    on_notice: Callable[[dict[str, str]], None] | None = None
    backend: tuple[int, int] = (0, 0)
    status: str = ""

    # --- connecting ---

    @classmethod
    def connect(cls, host: str, port: int, *, user: str, database: str, password: str = "", tls: ssl.SSLContext | None = None,
                options: str = "", timeout: float = 60.0) -> Client:
        """Over TCP. Raises ``OSError``, ``ssl.SSLError``, ``ServerError``, ``ProtocolError``."""
        raw = socket.create_connection((host, port), timeout)
        try:
            if tls is not None:
                raw.sendall(struct.pack("!II", 8, _SSL_REQUEST))
                if raw.recv(1) != b"S":
                    raise ProtocolError("the server does not offer TLS")
                raw = tls.wrap_socket(raw, server_hostname=host)
            return cls._start(raw, user, database, password, options)
        except BaseException:
            raw.close()
            raise

    @classmethod
    def connect_unix(cls, path: Path, *, user: str, database: str, timeout: float = 60.0) -> Client:
        """Over a Unix socket."""
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(timeout)
        try:
            raw.connect(str(path))
            return cls._start(raw, user, database, "", "")
        except BaseException:
            raw.close()
            raise

    @classmethod
    def _start(cls, raw: socket.socket, user: str, database: str, password: str, options: str) -> Client:
        self = cls(raw)
        settings = {"user": user, "database": database, "client_encoding": "UTF8", "application_name": "lockgate-client"}
        if options:
            settings["options"] = options
        body = b"".join(f"{key}\0{value}\0".encode() for key, value in settings.items()) + b"\0"
        raw.sendall(struct.pack("!II", len(body) + 8, _PROTOCOL_3_0) + body)
        for kind, payload in iter(self._receive, None):
            if kind == b"R":
                self._authenticate(payload, password)
            elif kind == b"K":
                pid, key = struct.unpack("!Ii", payload)
                self.backend = (pid, key)
            elif kind == b"Z":
                return self
        raise ProtocolError("unreachable")

    def _authenticate(self, payload: bytes, password: str) -> None:
        method = int.from_bytes(payload[:4])
        if method == 3:
            self._send(b"p", password.encode() + b"\0")
        elif method != 0:
            raise ProtocolError(f"this client does not know authentication method {method}")

    # --- statements ---

    def query(self, sql: str) -> list[Result]:
        """A simple query: one ``Result`` per statement. Raises ``ServerError`` after the server is ready again."""
        self._send(b"Q", sql.encode() + b"\0")
        results: list[Result] = []
        columns: tuple[str, ...] = ()
        rows: list[tuple[str | None, ...]] = []
        error: ServerError | None = None
        while True:
            try:
                kind, payload = self._receive()
            except ServerError as fault:
                if fault.code.startswith("57P0"):  # the server ends the session: no ReadyForQuery follows
                    raise
                error = fault
                continue
            if kind == b"T":
                columns, rows = _column_names(payload), []
            elif kind == b"D":
                rows.append(_row(payload))
            elif kind == b"d":
                rows.append((payload.decode().rstrip("\n"),))
            elif kind in (b"C", b"I"):
                results.append(Result(columns, rows, payload.rstrip(b"\0").decode()))
                columns, rows = (), []
            elif kind == b"G":
                self._send(b"f", b"this client does not send COPY data\0")
            elif kind == b"Z":
                if error is not None:
                    raise error
                return results

    def close(self) -> None:
        try:
            self._send(b"X", b"")
        except OSError:
            pass
        finally:
            self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- messages ---

    def _send(self, kind: bytes, payload: bytes) -> None:
        self._socket.sendall(kind + struct.pack("!I", len(payload) + 4) + payload)

    def _receive(self) -> tuple[bytes, bytes]:
        """The next message that is not a notice, a parameter or an error (which is raised)."""
        while True:
            head = self._exactly(5)
            size = int.from_bytes(head[1:]) - 4
            if not 0 <= size <= _LARGEST_MESSAGE:
                raise ProtocolError(f"a message of length {size}")
            kind, payload = head[:1], self._exactly(size)
            if kind == b"E":
                raise ServerError(_error_fields(payload))
            if kind == b"N":
                self._noticed(_error_fields(payload))
            elif kind == b"S":
                name, value = payload.rstrip(b"\0").split(b"\0", 1) if payload.count(b"\0") > 1 else (payload, b"")
                self.parameters[name.decode()] = value.decode()
            elif kind == b"Z":
                self.status = payload.decode()
                return kind, payload
            elif kind != b"A":
                return kind, payload

    def _noticed(self, fields: dict[str, str]) -> None:
        self.notices.append(fields)
        if self.on_notice is not None:
            self.on_notice(fields)

    def _exactly(self, size: int) -> bytes:
        buffer = bytearray()
        while len(buffer) < size:
            chunk = self._socket.recv(min(size - len(buffer), 1 << 18))
            if not chunk:
                raise ProtocolError("the server closed the connection")
            buffer += chunk
        return bytes(buffer)


def _error_fields(payload: bytes) -> dict[str, str]:
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in payload.split(b"\0") if part}


def _column_names(payload: bytes) -> tuple[str, ...]:
    names, position = [], 2
    for _ in range(int.from_bytes(payload[:2])):
        end = payload.index(b"\0", position)
        names.append(payload[position:end].decode())
        position = end + 1 + 18
    return tuple(names)


def _row(payload: bytes) -> tuple[str | None, ...]:
    values: list[str | None] = []
    position = 2
    for _ in range(int.from_bytes(payload[:2])):
        size = int.from_bytes(payload[position:position + 4], signed=True)
        position += 4
        if size < 0:
            values.append(None)
            continue
        values.append(payload[position:position + size].decode(errors="replace"))
        position += size
    return tuple(values)


# --- the program ---

def tls_from_environment(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """A context for PGSSLMODE and PGSSLROOTCERT; ``None`` for ``disable`` and where neither is set."""
    mode = environment.get("PGSSLMODE", "disable" if "PGSSLROOTCERT" not in environment else "verify-full")
    if mode == "disable":
        return None
    context = ssl.create_default_context(cafile=environment.get("PGSSLROOTCERT"))
    if mode != "verify-full":
        context.check_hostname = False
    if mode not in ("verify-full", "verify-ca"):
        context.verify_mode = ssl.CERT_NONE
    return context


def table(result: Result) -> str:
    """Rows as psql's aligned output shows them."""
    if not result.columns:
        return "\n".join([*(row[0] or "" for row in result.rows), *([] if result.rows else [result.tag])])
    cells = [tuple("" if value is None else value for value in row) for row in result.rows]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(result.columns)]
    lines = [" | ".join(name.center(width) for name, width in zip(result.columns, widths, strict=True)).join("  ").rstrip()]
    lines.append("+".join("-" * (width + 2) for width in widths))
    lines += [f" {' | '.join(value.ljust(width) for value, width in zip(row, widths, strict=True))}".rstrip() for row in cells]
    return "\n".join([*lines, f"({len(cells)} row{'' if len(cells) == 1 else 's'})"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status as psql's: 0, 1 for an SQL error, 2 when there is no connection."""
    parser = argparse.ArgumentParser(prog="lockgate-client", description="a small PostgreSQL client")
    parser.add_argument("-c", dest="sql", action="append", required=True, help="a statement; may be repeated")
    options = parser.parse_args(arguments)
    env = os.environ
    try:
        client = Client.connect(
            env.get("PGHOST", "127.0.0.1"), int(env.get("PGPORT", "5432")), user=env.get("PGUSER", "postgres"),
            database=env.get("PGDATABASE", env.get("PGUSER", "postgres")), password=env.get("PGPASSWORD", ""),
            options=env.get("PGOPTIONS", ""), tls=tls_from_environment(env), timeout=3600.0)
    except (OSError, ServerError, ProtocolError) as error:
        print(f"lockgate-client: {error}", file=sys.stderr)
        return 2
    with client:
        client.on_notice = lambda notice: print(f"NOTICE:  {notice.get('M', '')}{_more(notice)}", file=sys.stderr, flush=True)
        return _run(client, options.sql)


def _run(client: Client, statements: Sequence[str]) -> int:
    for sql in statements:
        try:
            for result in client.query(sql):
                print(table(result), flush=True)
        except ServerError as error:
            print(f"ERROR:  {error.code}: {error.message}{_more({'D': error.detail, 'H': error.hint})}", file=sys.stderr)
            return 1
        except (OSError, ProtocolError) as error:
            print(f"lockgate-client: {error}", file=sys.stderr)
            return 2
    return 0


def _more(fields: Mapping[str, str]) -> str:
    return "".join(f"\n{label}:  {fields[key]}" for key, label in (("D", "DETAIL"), ("H", "HINT")) if fields.get(key))


if __name__ == "__main__":
    sys.exit(main())
