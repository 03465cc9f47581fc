# SPDX-License-Identifier: Apache-2.0
"""The configuration keys that PostgreSQL brings: its resource, its listener, its test cases, its credential kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.config.address import is_loopback, split_address
from gateway.config.masks import MaskSpec
from gateway.config.quantities import Duration
from gateway.config.schema import Listener, Resource, Rule, TargetTls, TestCase
from gateway.config.speaks import Place, Settings
from gateway.config.values import Addresses, Keys
from gateway.credentials import Credential
from gateway.errors import ConfigError
from gateway.masking.rules import MaskRule


def _database(value: str) -> str:
    if not 1 <= len(value.encode()) <= 63 or "\0" in value:
        raise ValueError("expected the name of a database: 1 to 63 bytes")
    return value


Database = Annotated[str, AfterValidator(_database)]


def _version(value: object) -> object:
    return str(value) if isinstance(value, float) else value


_VERSION = WithJsonSchema({"enum": ["3.0", "3.2", 3.0, 3.2], "x-kind": "`3.0`, `3.2`"})
Version = Annotated[Literal["3.0", "3.2"], BeforeValidator(_version), _VERSION]
Attributes = Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]
Binding = Literal["prefer", "require", "disable"]
Method = Literal["scram-sha-256", "password", "none"]


class CatalogSpec(Keys):
    """How fresh the gateway's picture of the target's catalog has to be."""

    max_age: Duration = Field(default=1.0, description="Longest time between two looks at it; 0 looks before every statement.")


class PostgresTls(TargetTls):
    """How it proves itself, and how TLS begins."""

    negotiation: Literal["postgres", "direct"] = Field(
        default="postgres", description="postgres: asked for by an SSLRequest; direct: TLS at once, which PostgreSQL 17 and newer take.")


class PostgresResource(Resource):
    """A PostgreSQL server, or the servers of one cluster, and the databases of it that are offered."""

    address: Addresses = Field(
        description="HOST:PORT, or a list of them: servers of one cluster, tried in this order until one can be reached and is wanted.")
    target_session_attrs: Attributes = Field(
        default="any", description="What a session's server has to be, as libpq decides it. prefer-standby: any if there is no standby.")
    load_balance: Literal["order", "random"] = Field(
        default="order", description="random: the servers, and the addresses of a name, in another order for each session.")
    connect_timeout: Duration | None = Field(
        default=None, gt=0, description="For reaching one server and logging in to it; `limits.target_connect` otherwise.")
    tls: PostgresTls = Field(default_factory=PostgresTls, description="How it proves itself, and how TLS begins.")
    channel_binding: Binding = Field(
        default="prefer", description="prefer: SCRAM is bound to the TLS channel wherever that is offered; require: no login that is not; "
        "disable: never, for a target whose certificate names no hash (Ed25519).")
    require_auth: tuple[Method, ...] = Field(
        default=(), description="Ways in which the target may ask who we are; none given means all of them. password (in clear) "
        "is answered only where `tls.mode` is verify-full; none is what a target does that trusts, or that a client "
        "certificate was enough for.")
    min_protocol_version: Version = Field(default="3.0", description="Oldest protocol spoken with it.")
    max_protocol_version: Version = Field(
        default="3.2", description="Newest protocol asked for; 3.0 for a pooler in between that cannot negotiate.")
    reuse: Duration = Field(
        default=0.0, le=600, description="How long a connection that a session left clean is kept for the next session of the same "
        "identity, database and startup parameters; 0: each session logs in.")
    database: Database | None = Field(default=None, description="The one database offered. Either this or `databases`.")
    databases: tuple[Database, ...] = Field(
        default=(), description="Several; `dbname` is then RESOURCE/DATABASE, and RESOURCE alone the first.")
    catalog: CatalogSpec = Field(default_factory=CatalogSpec, description="How fresh the picture of its catalog has to be.")

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of the first server."""
        return self.places[0]

    @property
    def places(self) -> tuple[Place, ...]:
        """Host and port of every server, in the order of the file."""
        return tuple(split_address(address) for address in self.address)

    @property
    def minors(self) -> tuple[int, int]:
        """Oldest and newest minor version of protocol 3."""
        return int(self.min_protocol_version[2:]), int(self.max_protocol_version[2:])

    @property
    def offered(self) -> tuple[str, ...]:
        """The databases a caller may choose from; the first is the default."""
        return self.databases or (self.database or self.name,)

    @model_validator(mode="after")
    def _databases(self) -> PostgresResource:
        if (self.database is None) == (not self.databases):
            raise ValueError("expected either `database: NAME` or `databases: [NAME, …]`")
        if len(set(self.databases)) != len(self.databases):
            raise ValueError("expected each of `databases` once")
        return self

    @model_validator(mode="after")
    def _plaintext_only_to_loopback(self) -> PostgresResource:
        if self.tls.mode == "disable" and not all(is_loopback(host) for host, _ in self.places):
            raise ValueError("expected `tls: {mode: verify-full}`: `disable` is for targets on loopback only")
        return self

    @model_validator(mode="after")
    def _what_tls_is_for(self) -> PostgresResource:
        if self.tls.mode == "disable" and (self.tls.negotiation == "direct" or self.channel_binding == "require"):
            raise ValueError("expected TLS: `negotiation: direct` and `channel_binding: require` mean nothing without it")
        if "password" in self.require_auth and self.tls.mode != "verify-full":
            raise ValueError("expected `tls: {mode: verify-full}`: without it no password is sent in clear, whoever asks")
        if self.channel_binding == "require" and self.require_auth and "scram-sha-256" not in self.require_auth:
            raise ValueError("expected scram-sha-256 in `require_auth`: nothing else can be bound to the channel")
        if self.minors[0] > self.minors[1]:
            raise ValueError("expected `min_protocol_version` not to be newer than `max_protocol_version`")
        return self


class PostgresCase(TestCase):
    """What a statement would meet."""

    sql: str = Field(description="The statement's text.")
    database: Database | None = Field(default=None, description="Out of the resource's `databases`; the first otherwise.")


def known_columns(schema: bytes) -> Mapping[str, int]:
    """Every column of a pulled catalog, as masks write it, with its type's oid. Raises ``ConfigError``."""
    from gateway.protocols.postgres.catalog.offline import from_json

    try:
        catalog = from_json(json.loads(schema))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ConfigError("not a pulled catalog") from None
    relations = catalog.user.relations
    return {f"{relation.schema}.{relation.name}.{column.name}": column.type_oid for relation in relations for column in relation.columns}


TYPED = frozenset({"value", "round", "date", "json", "hash", "each"})
"""Masks that speak of some types alone."""


def mask_problem(type_oid: int, spec: MaskSpec) -> str | None:
    """What a mask will not do on a built-in type."""
    from gateway.protocols.postgres.typed import shows

    inner = tuple((path, MaskRule(one.kind, one.keep, one.text, b"any")) for path, one in spec.inner)
    rule = MaskRule(spec.kind, spec.keep, spec.text, b"any", inner)
    seen = shows(rule, type_oid) if spec.kind in TYPED and type_oid < 16384 else "parts"
    return None if seen == "parts" else f"{spec.kind} does not speak of this column's type: every value will be {seen}"


def filter_problem(text: str) -> str | None:
    """What is wrong with a condition on rows."""
    from gateway.protocols.postgres.filters.expression import condition

    try:
        condition(text)
    except ValueError as wrong:
        return str(wrong)
    return None


def filtered_problem(text: str, columns: Mapping[str, int]) -> str | None:
    """Why every statement on a relation with these columns (name, type's oid) would be refused. Users' types are not known here."""
    from gateway.protocols.postgres.filters.expression import ENUM, condition

    try:
        found = condition(text)
    except ValueError:
        return None
    return found.fault({name: ENUM if oid >= 16384 else oid for name, oid in columns.items()})


COUNTED = frozenset({"insert", "update", "delete", "merge"})
"""Verbs whose affected rows ``max_rows`` bounds."""


def rule_problem(rule: Rule) -> str | None:
    """A ``max_rows`` that would bound nothing."""
    named = rule.matcher[1].get("verbs")
    if rule.max_rows is not None and isinstance(named, list) and not COUNTED & set(map(str, named)):
        return f"expected `max_rows` only where `verbs` has one of {', '.join(sorted(COUNTED))}"
    return None


def destinations(resource: PostgresResource) -> tuple[Place, ...]:
    """Sessions, the catalog's reader and cancel requests all go to these servers."""
    return resource.places


WRITABLE: frozenset[Attributes] = frozenset({"primary", "read-write"})


def resource_problem(resource: PostgresResource, credential: Credential) -> tuple[str, str] | None:
    """Roles are made on the primary alone; a certificate is shown in TLS alone."""
    if credential.kind == "certificate" and resource.tls.mode == "disable":
        return "credential", f"expected TLS to a target that is shown a certificate: {credential.name!r} is of kind certificate"
    if credential.kind == "ephemeral-role" and len(resource.address) > 1 and resource.target_session_attrs not in WRITABLE:
        return "target_session_attrs", "expected primary or read-write: a role for each session is made on the primary, and used there"
    return None


SETTINGS = Settings(
    protocol="postgres", listener=Listener, resource=PostgresResource, case=PostgresCase, test="sql",
    credentials=frozenset({"password", "certificate", "ephemeral-role"}),
    destinations=destinations, columns=known_columns, mask_problem=mask_problem,
    filter_problem=filter_problem, filtered_problem=filtered_problem,
    rule_problem=rule_problem, resource_problem=resource_problem,
)
