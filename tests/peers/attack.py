# SPDX-License-Identifier: Apache-2.0
"""What the attack tests share: a database like an application's, a gateway in front of it, and what a leak looks like."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.gateway import Appliance, running
from tests.peers.postgres import SUPERUSER, PostgresServer
from tests.peers.wire import Frame, Wire, codes, rows

DATABASE = "attacks"
SCHEMA = Path(__file__).with_name("attack.sql")
VALUES = ("078-05-1120", "219-09-9999", "alice.secret@example.com", "bob.hidden@corp.test", "4111111111111111", "5500005555555559")


def _forms(value: str) -> Iterator[str]:
    """A value and its usual transforms."""
    raw = value.encode()
    bare = value.replace("-", "")
    yield from (value, value.upper(), value[::-1], bare, bare[::-1], value[1:], value[:-1], raw.hex())
    yield from (base64.b64encode(raw).decode(), hashlib.md5(raw, usedforsecurity=False).hexdigest(), hashlib.sha256(raw).hexdigest())


FORMS = frozenset(form for value in VALUES for form in _forms(value))


def leaked(frames: Iterable[Frame]) -> set[str]:
    """The masked values, or transforms of them, that stand in any message."""
    seen = b"\n".join(payload for _, payload in frames)
    return {form for form in FORMS if form.encode() in seen}


@contextmanager
def attacked(root: Path, server: PostgresServer, options: str = "superuser", max_age: str = "1s") -> Iterator[Appliance]:
    """A gateway in front of a new database made of ``attack.sql``."""
    make_database(server)

    def change(appliance: Appliance) -> None:
        catalog = f"catalog: {{max_age: {max_age}}}\n    credential: orders-db"
        appliance.rewrite("policy/resources.yaml", {"database: orders ": f"database: {DATABASE} ", "credential: orders-db": catalog})

    with running(root, server, options=options, change=change) as appliance:
        yield appliance


def make_database(server: PostgresServer) -> None:
    server.execute(f"drop database if exists {DATABASE} with (force)")
    server.create_database(DATABASE)
    server.execute(SCHEMA.read_text(), DATABASE)


def through(appliance: Appliance, name: str = "ci-bot", **parameters: str) -> Wire:
    """A caller's connection that does not wait for votes."""
    given = {"lockgate.wait": "off"} | parameters
    return Wire.connect(appliance.port, name, appliance.token(name), "orders-db", ca=appliance.ca, parameters=given)


def directly(server: PostgresServer) -> Wire:
    """The same database without the gateway."""
    return Wire.connect(server.port, SUPERUSER, server.password, DATABASE)


def run_all(wire: Wire, texts: Iterable[str]) -> list[Frame]:
    """Every text as a simple query; everything that came back."""
    return [frame for text in texts if not wire.closed for frame in wire.query(text)]


# what happened


def outcome(through_gateway: list[Frame], direct: list[Frame]) -> str:
    """What the gateway made of a text, seen beside the same text on the target: ``allowed`` (byte for byte the same), ``masked``,
    ``NULL``, ``masked, NULL``, ``error CODE`` (the target's own), ``refused CODE``, ``held``."""
    found, own = codes(through_gateway), codes(direct)
    if found:
        return "held" if found[0] == "LG001" else f"error {found[0]}" if found[0] in own else f"refused {found[0]}"
    kinds = {_changed(one, other) for one, other in zip(_cells(through_gateway), _cells(direct), strict=True)}
    return ", ".join(sorted(kinds - {""}, reverse=True)) or "allowed"


def _changed(one: bytes | None, other: bytes | None) -> str:
    return "" if one == other else "NULL" if one is None else "masked"


def _cells(frames: list[Frame]) -> list[bytes | None]:
    """Every value of every row and COPY line, in order."""
    found: list[bytes | None] = [value for row in rows(frames) for value in row]
    for kind, payload in frames:
        if kind == "d":
            found += [None if field == b"\\N" else field for field in payload.rstrip(b"\n").split(b"\t")]
    return found


class Attacked:
    """A gateway and the server behind it. Every call is a transaction that is rolled back."""

    def __init__(self, appliance: Appliance, server: PostgresServer) -> None:
        self.appliance, self.server = appliance, server
        self._wire: Wire | None = None

    def wire(self) -> Wire:
        """A caller's connection, kept from one case to the next."""
        if self._wire is None or self._wire.closed:
            self._wire = through(self.appliance)
        return self._wire

    def send(self, texts: Iterable[str]) -> list[Frame]:
        """The texts through the gateway."""
        wire = self.wire()
        found = _rolled_back(wire, texts)
        assert not wire.closed, "the session ended"
        run_all(wire, ["deallocate all"])
        return found

    def directly(self, texts: Iterable[str]) -> list[Frame]:
        """The texts without the gateway."""
        with directly(self.server) as wire:
            return _rolled_back(wire, texts)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()


def _rolled_back(wire: Wire, texts: Iterable[str]) -> list[Frame]:
    wire.query("begin")
    found = run_all(wire, texts)
    if not wire.closed:
        wire.query("rollback")
    return found
