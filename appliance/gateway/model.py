# SPDX-License-Identifier: Apache-2.0
"""The values every part of the gateway speaks about. All are frozen; none does I/O.

An *identity* (a robot, from its token) opens a *session* on a *resource*. What it sends
becomes *operations*; the policy gives one *decision* for all operations of a command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Effect = Literal["allow", "approve", "deny"]
Value = str | int | float | bool | None | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the caller is: one matched identity, or a person of a ``people`` issuer.

    ``expires`` and ``session_until`` are seconds since the epoch: when the token ends, and when a
    session begun with it must end at the latest (issuer key ``session``). ``entry`` is the digest of the identity entry
    and issuer that admitted it: a reload that changes them ends the session. ``certificate`` is the serial number (hexadecimal) of a
    caller that showed a client certificate in place of a token; ``key_id`` is then its authority's fingerprint.
    """

    name: str
    issuer: str
    subject: str
    groups: frozenset[str] = frozenset()
    owner: str | None = None
    person: bool = False
    token_id: str | None = None
    key_id: str | None = None
    certificate: str | None = None
    expires: float = 0.0
    session_until: float = 0.0
    claims: Mapping[str, str] = field(default_factory=dict)
    entry: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a command would do: contract section 2.

    ``objects`` are the names the audit record shows (``public.orders``, a function, a parameter, a path).
    ``attributes`` carry what the protocol's matchers look at; their keys are the protocol's own.
    """

    protocol: str
    verb: str
    objects: tuple[str, ...] = ()
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatementLimits:
    """Per command: rows sent to the caller, seconds of running time; ``None`` is unlimited."""

    rows: int | None = None
    time: float | None = None


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Per session (``concurrent``: per identity and resource). Seconds, counts and bytes; ``None`` is unlimited.

    ``until`` is the end of the last window that still gives this identity anything here.
    """

    max: float | None = None
    idle: float | None = None
    concurrent: int | None = None
    rows: int | None = None
    bytes: int | None = None
    denials: int | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one command. ``rules`` (``GRANT/RULE``) are those of the winning effect.

    ``approvals`` names every approval definition that has to be met; ``max_rows`` is the smallest
    bound an allow rule set on the affected rows.
    """

    effect: Effect
    rules: tuple[str, ...] = ()
    reason: str = ""
    approvals: tuple[str, ...] = ()
    max_rows: int | None = None
    limits: StatementLimits = StatementLimits()


@dataclass(frozen=True, slots=True)
class Session:
    """One caller on one resource, as the audit log names it. ``started`` is seconds since the epoch."""

    id: str
    identity: Identity
    resource: str
    protocol: str
    source: str
    started: float
    login: str = ""
    database: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """What an approval is bound to besides the command itself: contract section 3.

    ``context`` holds the settings that change meaning (search_path, role …), ``objects`` the resolved
    object ids. Both take part in the digest that a vote carries.
    """

    login: str = ""
    database: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    objects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """One command on its way through ``govern()``: what it would do, and how the log may show it.

    ``text`` and ``parameters`` are exactly what would run (``parameters`` as ``(type name, text or None)``, in order);
    ``shown_text`` and ``shown_parameters`` are what may be kept, secrets and masked values replaced by ``****``.
    ``early`` says that the command is an early read (contract section 5). ``filtered`` names what only some rows of are there for it: the
    target gets the text with those conditions, the log keeps the caller's. ``apart``: people are shown each operation by itself; where that
    is not so, its verbs and its objects.
    """

    operations: tuple[Operation, ...]
    text: str
    shown_text: str
    parameters: tuple[tuple[str, str | None], ...] = ()
    shown_parameters: tuple[str | None, ...] = ()
    binding: Binding = Binding()
    early: bool = False
    wait: bool = True
    phase: str = ""
    filtered: tuple[str, ...] = ()
    apart: bool = False

    @property
    def each(self) -> tuple[tuple[str, ...], ...]:
        """Verb and objects of every operation, where people are shown them and there are several."""
        if not self.apart or len(self.operations) < 2:
            return ()
        return tuple(dict.fromkeys((one.verb, *one.objects) for one in self.operations))
