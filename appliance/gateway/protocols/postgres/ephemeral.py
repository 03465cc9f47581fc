# SPDX-License-Identifier: Apache-2.0
"""A role of its own for each session: its name, its SCRAM verifier, the mark that says whose it is, and the SQL that makes and drops it.
No I/O; ``roles.py`` runs it (docs/decisions/0024-a-role-for-each-session.md).

The password is random, lives in this process alone and is never sent: the target is told a verifier (RFC 5802, RFC 7677; manual 53.8
"pg_authid"), so its statement log holds nothing that anybody can log in with. A role is dropped only if its comment is our mark.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil

from gateway.credentials import Secret
from gateway.protocols.postgres import scram

KIND = "ephemeral-role"
NAME_LIMIT = 63
DIGITS = 16
ITERATIONS = 4096
"""What PostgreSQL itself takes; the password has 256 random bits, so more of them would protect nothing."""
SALT_BYTES = 16
MARK_LIMIT = 2048
FAR = 253402300799.0
"""The last second of the year 9999."""

_START = "lockgate_"
_ROOM = NAME_LIMIT - len(_START) - 1 - DIGITS
_SESSION = re.compile(rf"[0-9a-f]{{{DIGITS}}}")


def prefix(gateway: str) -> str:
    """What the names of all roles of this gateway begin with. A long name of a gateway is cut and told apart by its digest."""
    if len(gateway) > _ROOM:
        gateway = f"{gateway[:_ROOM - 9]}.{hashlib.sha256(gateway.encode()).hexdigest()[:8]}"
    return f"{_START}{gateway}_"


def role_name(gateway: str, session: str) -> str:
    """The role of a session, at most 63 bytes. ``session`` is its id: 32 hexadecimal digits, of which the first 16 are shown."""
    return prefix(gateway) + session[:DIGITS]


def is_ours(gateway: str, role: str) -> bool:
    """Whether the name is one that this gateway gives; the mark has to agree before anything is done to the role."""
    start = prefix(gateway)
    return role.startswith(start) and _SESSION.fullmatch(role[len(start):]) is not None


@dataclass(frozen=True, slots=True)
class Mark:
    """Kept as the role's comment. ``instance`` is the state folder's own number: gateways of one name do not drop each other's roles."""

    gateway: str
    segment: str
    instance: str
    session: str
    resource: str
    database: str

    def text(self) -> str:
        return json.dumps({"lockgate": 1} | {name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str | None) -> Mark | None:
        """``None`` for what is no mark of ours."""
        if text is None or len(text) > MARK_LIMIT:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or found.pop("lockgate", None) != 1 or found.keys() != set(cls.__slots__):
            return None
        return cls(**found) if all(isinstance(value, str) for value in found.values()) else None


@dataclass(frozen=True, slots=True)
class OneTimeLogin:
    """A password that nobody has seen, with what was derived from it. Is a ``target.Credential``."""

    username: str
    password: Secret
    verifier: str = field(repr=False)
    keys: scram.KeyCache = field(repr=False)
    """Holds the keys already, so that logging in derives nothing a second time."""


def one_time_login(role: str) -> OneTimeLogin:
    """A fresh one. Costs milliseconds: call it off the event loop."""
    password = secrets.token_urlsafe(32)
    challenge = scram.Challenge("", secrets.token_bytes(SALT_BYTES), ITERATIONS, "")
    derived = scram.derive(password, challenge)
    cache = scram.KeyCache(1)
    cache.put(password, challenge, derived)
    return OneTimeLogin(role, Secret(password), verifier(challenge.salt, derived), cache)


def verifier(salt: bytes, keys: scram.Keys) -> str:
    """``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>``, as ``pg_authid.rolpassword`` keeps it."""
    stored = hashlib.sha256(keys.client).digest()
    return f"SCRAM-SHA-256${ITERATIONS}:{_base64(salt)}${_base64(stored)}:{_base64(keys.server)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def moment(seconds: float) -> str:
    """Seconds since the epoch, rounded up, as RFC 3339 in UTC."""
    return f"{datetime.fromtimestamp(min(ceil(seconds), FAR), UTC):%Y-%m-%dT%H:%M:%SZ}"


# --- SQL --------------------------------------------------------------------------------------------------------------------------


def identifier(name: str) -> str:
    """As SQL writes any name."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """As SQL writes any text; ``standard_conforming_strings`` is pinned to on."""
    return "'" + text.replace("'", "''") + "'"


def create(login: OneTimeLogin, mark: Mark, member_of: Sequence[str], until: float, version: int) -> str:
    """One text, so one transaction: all of it or nothing. From PostgreSQL 16 on the role may use the rights of ``member_of`` but not become
    one of them (SET FALSE); before, every member may ``SET ROLE``. ``version`` is the major one."""
    role = identifier(login.username)
    granted = ", ".join(map(identifier, member_of))
    options = " with inherit true, set false" if version >= 16 else ""
    return (f"create role {role} login inherit nosuperuser nocreatedb nocreaterole noreplication nobypassrls connection limit 1 "
            f"valid until {literal(moment(until))} password {literal(login.verifier)}; "
            f"comment on role {role} is {literal(mark.text())}; grant {granted} to {role}{options}")


OURS = """select r.rolname::pg_catalog.text, pg_catalog.shobj_description(r.oid, 'pg_authid'),
  coalesce(r.rolvaliduntil <= pg_catalog.now(), false)::pg_catalog.text, r.rolcanlogin::pg_catalog.text
from pg_catalog.pg_roles r where pg_catalog.starts_with(r.rolname::pg_catalog.text, {start}) order by 1"""
"""Name, comment, whether its time is over, whether it may still log in."""


def ours(gateway: str) -> str:
    """The roles that bear this gateway's prefix."""
    return OURS.format(start=literal(prefix(gateway)))


def lock(role: str) -> str:
    """Nobody logs in as it any more. A transaction of its own, so that it holds where the dropping fails."""
    return f"alter role {identifier(role)} nologin"


TERMINATE = """select pg_catalog.pg_terminate_backend(a.pid, 5000) from pg_catalog.pg_stat_activity a where a.usename = {role}
union all select false from pg_catalog.pg_prepared_xacts p where p.owner = {role}"""
"""Waits up to 5 s for each. A prepared transaction cannot be ended by anybody but its owner."""


def take_over(role: str, owner: str, version: int) -> str:
    """Begin the transaction that drops it: what that needs of its rights, and the end of every connection that still is logged in as it.
    One row for each, with ``t`` once it is gone."""
    member = identifier(role)
    options = " with inherit true, set true" if version >= 16 else ""
    heir = f"grant {identifier(owner)} to current_user{options}; " if owner and version >= 16 else ""
    return f"begin; grant {member} to current_user{options}; {heir}{TERMINATE.format(role=literal(role))}"


def drop(role: str, owner: str, version: int) -> str:
    """The rest of that transaction. Nothing goes with CASCADE: an object that others depend on keeps the role."""
    member = identifier(role)
    handed = f"reassign owned by {member} to {identifier(owner)}; " if owner else ""
    back = f"revoke {identifier(owner)} from current_user granted by current_user; " if owner and version >= 16 else ""
    return f"{handed}drop owned by {member} restrict; drop role {member}; {back}commit"
