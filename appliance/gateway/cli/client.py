# SPDX-License-Identifier: Apache-2.0
"""Asks a running gateway's console: HTTPS with verified certificate, a person's token from a file, JSON both ways.

Where the console is comes from ``--url`` and ``--ca``, or from the folder's ``gateway.yaml`` and its own certificate.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from gateway.cli.options import DEFAULT_FOLDER
from gateway.cli.output import printable
from gateway.credentials.secret import Secret
from gateway.errors import ConfigError, Fault

TIMEOUT = 60.0
_LARGEST = 256 * 2**20
_LONGEST_LINE = 2**20
_TOKEN_LIMIT = 64 * 1024


class ClientProblem(Fault):
    """The gateway said no, or could not be asked. ``status`` is the program's exit status, ``document`` the problem as sent."""

    def __init__(self, message: str, status: int, document: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.document = document


def add_console(parser: ArgumentParser) -> None:
    """``--config``, ``--url``, ``--ca``. ``args.config`` is ``None`` unless it was given."""
    parser.add_argument("--config", metavar="DIR", type=Path, default=None,
                        help=f"folder that says where the console is (default {DEFAULT_FOLDER})")
    parser.add_argument("--url", metavar="URL", help="the console's address instead, such as https://gateway.example:19443")
    parser.add_argument("--ca", metavar="FILE", type=Path, help="with --url: what vouches for its certificate (default: the system's CAs)")


def add_client(parser: ArgumentParser) -> None:
    """``add_console`` and ``--token-file``."""
    add_console(parser)
    parser.add_argument("--token-file", metavar="FILE", type=Path, help="file that holds a person's token (- for standard input)")


@dataclass(frozen=True, slots=True)
class Client:
    """One console. ``get`` and ``post`` give the JSON answer or raise ``ClientProblem``."""

    url: str
    context: ssl.SSLContext | None
    token: Secret | None = field(repr=False)

    def get(self, path: str, query: Mapping[str, str | list[str]] | None = None) -> Any:
        """GET of a path below the console's root."""
        return self._ask("GET", path + ("?" + urlencode(query, doseq=True) if query else ""), None)

    def post(self, path: str, document: Mapping[str, Any]) -> Any:
        """POST of a JSON document."""
        return self._ask("POST", path, json.dumps(document).encode())

    def pages(self, path: str, name: str, query: Mapping[str, str | list[str]]) -> Iterator[Any]:
        """Every entry of a list the console gives in pages (``{name: [...], "next": …}``)."""
        after = ""
        while True:
            page = self.get(path, {**query, **({"after": after} if after else {})})
            yield from page[name]
            after = page.get("next") or ""
            if not after:
                return

    def lines(self, path: str) -> Iterator[Any]:
        """A GET whose answer is JSON lines, as they come. Closed with the generator."""
        connection = self._connection()
        try:
            connection.request("GET", path, headers=self._headers())
            response = connection.getresponse()
            if response.status != 200:
                _answer(response.status, response.read(_LARGEST))
            while line := response.readline(_LONGEST_LINE):
                yield json.loads(line)
        except ssl.SSLCertVerificationError as fault:
            raise ClientProblem(f"{self.url}: its certificate is not trusted: {fault.verify_message}", 2) from None
        except (OSError, http.client.HTTPException, ValueError) as fault:
            raise ClientProblem(f"{self.url} cannot be asked: {type(fault).__name__}", 2) from None
        finally:
            connection.close()

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token.reveal()}"
        return headers

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        connection = self._connection()
        headers = self._headers()
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return _answer(response.status, response.read(_LARGEST))
        except ssl.SSLCertVerificationError as fault:
            raise ClientProblem(f"{self.url}: its certificate is not trusted: {fault.verify_message}", 2) from None
        except (OSError, http.client.HTTPException) as fault:
            raise ClientProblem(f"{self.url} cannot be asked: {fault if isinstance(fault, OSError) else type(fault).__name__}", 2) from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if self.context is None:
            return http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT)
        return http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT, context=self.context)


def part(text: str) -> str:
    """An id as a part of a path."""
    return quote(text, safe="")


def client(args: Namespace) -> Client:
    """The console the options name, asked as a person. Raises ``ConfigError``."""
    return _console(args, _token(args.token_file))


def anonymous(args: Namespace) -> Client:
    """The console the options name, asked without a token. Raises ``ConfigError``."""
    return _console(args, None)


def _console(args: Namespace, token: Secret | None) -> Client:
    if args.url is None:
        return _of_folder(args.config or DEFAULT_FOLDER, token)
    parts = urlsplit(args.url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigError("--url: expected https://HOST:PORT")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError("--url: expected https: a token is not sent in the clear")
    return Client(args.url.rstrip("/"), None if parts.scheme == "http" else _context(args.ca), token)


def _of_folder(path: Path, token: Secret | None) -> Client:
    from gateway.config.load import load_folder  # much to import, and not needed with --url

    folder = load_folder(path, check_modes=False)
    console = folder.gateway.listeners.get("console")
    if console is None:
        raise ConfigError(f"{path / 'gateway.yaml'}: listeners.console: expected an address, or give --url")
    host, port = console.place
    shown = f"[{_reachable(host)}]" if ":" in host else _reachable(host)
    if console.tls is None:
        return Client(f"http://{shown}:{port}", None, token)
    return Client(f"https://{shown}:{port}", _pinned(folder.resolve(console.tls.certificate)), token)


def _pinned(certificate: Path) -> ssl.SSLContext:
    """Trusts this one certificate, the listener's own, and nothing that others vouch for; so its names do not matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        first, end, _ = certificate.read_text("ascii").partition("-----END CERTIFICATE-----")
        context.load_verify_locations(cadata=first + end)
    except (OSError, UnicodeDecodeError, ValueError) as fault:
        raise ConfigError(f"{certificate}: expected the console's certificate in PEM ({type(fault).__name__})") from None
    return context


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a listener on every address is asked on loopback


def _context(ca: Path | None) -> ssl.SSLContext | None:
    from gateway.net.tls import client_context

    try:
        return client_context("verify-full", ca)
    except OSError as fault:
        raise ConfigError(f"--ca: {ca}: expected certificates in PEM ({type(fault).__name__})") from None


def _token(path: Path | None) -> Secret:
    if path is None:
        raise ConfigError("--token-file: expected a file that holds a person's token")
    try:
        raw = os.read(0, _TOKEN_LIMIT + 1) if str(path) == "-" else _read(path)
        text = raw.decode("ascii").strip()
    except OSError as fault:
        raise ConfigError(f"--token-file: {path}: {fault.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if not text or len(raw) > _TOKEN_LIMIT or any(ch <= " " or ch == "\x7f" for ch in text):
        raise ConfigError(f"--token-file: {path}: expected one token")
    return Secret(text)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_TOKEN_LIMIT + 1)


def _answer(status: int, body: bytes) -> Any:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if status == 200 and document is not None:
        return document
    said = document if isinstance(document, dict) else {}
    detail = printable(str(said.get("detail") or f"the console answered with status {status}"))
    raise ClientProblem(detail, 1 if status in (401, 403, 404, 409, 422, 429, 503) else 2, said)
