# SPDX-License-Identifier: Apache-2.0
"""Every key of ``gateway.yaml`` and of the policy files: the single truth, from which the reference pages and the JSON Schema
are generated. Values are frozen; durations are seconds, sizes bytes, rates events a second.

What belongs to one protocol alone (its resource, listener and test keys, its credential kinds) stands in that protocol's folder:
``protocols/NAME/settings.py``, found through ``config/speaks.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, WithJsonSchema, model_validator

from gateway.config.address import is_loopback, split_address
from gateway.config.masks import Column, DetectSpec, FunctionName, Mask, Relation, RowSpec
from gateway.config.quantities import Duration, Rate, Size, parse_duration
from gateway.config.values import (
    Address,
    Algorithm,
    Count,
    FilePath,
    Keys,
    Name,
    Source,
    Text,
    Title,
    Url,
    Who,
    Whole,
)
from gateway.config.window import Moment, Window

ABSENT: dict[str, Any] = {"x-absent": True}
"""Marks a key that a kind of listener or resource does not have although others do: no page, schema or hint shows it."""

# --- gateway.yaml -----------------------------------------------------------------------------------------------------------------


class ServerTls(Keys):
    """What a listener shows its callers."""

    certificate: FilePath = Field(description="Certificate chain, PEM, the listener's own certificate first.")
    key: FilePath = Field(description="Its private key, PKCS 8 PEM, not readable by others.")


class Listener(Keys):
    """A place where callers come in. Without `tls` only on loopback."""

    address: Address = Field(description="HOST:PORT to listen on; port 0 takes a free one.")
    tls: ServerTls | None = Field(default=None, description="Certificate and key; required on anything but loopback.")

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        return split_address(self.address)

    @model_validator(mode="after")
    def _plaintext_only_on_loopback(self) -> Listener:
        if self.tls is None and not is_loopback(self.place[0]):
            raise ValueError("expected `tls: {certificate, key}`: a listener without TLS may only be on loopback")
        return self


class Limits(Keys):
    """Bounds of the whole gateway. What goes over one is refused, never queued without end."""

    connections: Count = Field(default=10000, description="Connections open at once, over all listeners.")
    connections_per_identity: Count = Field(default=200, description="Connections of one identity open at once.")
    handshake: Duration = Field(default=10.0, gt=0, description="From accept to the end of authentication.")
    half_open: Count = Field(
        default=2000, description="Connections open at once whose callers are not authenticated yet, in each process. At this bound, and "
        "at `connections`, the oldest of the address that has most of them gives way to one of an address that has fewer.")
    message: Size = Field(default=64 * 2**20, ge=2**10, le=2**30, description="Largest single message of a protocol, either way.")
    operations_per_identity: Rate = Field(default=100000.0, gt=0, description="Operations one identity may start.")
    statement_text: Size = Field(
        default=64 * 2**10, ge=2**10, le=2**20, description="Longest statement text that is parsed; longer is refused.")
    statements: Count = Field(default=10000, description="Prepared statements and portals one session may keep.")
    approvals_pending: Count = Field(default=1000, description="Held operations waiting for votes at once.")
    approvals_pending_per_identity: Count = Field(default=20, description="Held operations of one identity waiting at once.")
    held: Size = Field(default=256 * 2**20, description="Bytes of held operations kept in memory, over all sessions.")
    buffer: Size = Field(
        default=256 * 2**10, ge=4096, description="Bytes kept for a peer that reads slowly before the other side is paused.")
    target_connect: Duration = Field(default=10.0, gt=0, description="For connecting and logging in to a target.")
    drain: Duration = Field(default=30.0, description="On SIGTERM, how long sessions may finish their running operation.")


class ConsoleConfig(Keys):
    """Who may read sessions, replays and the audit log over the console."""

    read: tuple[Who, ...] = Field(
        default=(), description="People (`NAME`) and groups (`group:NAME`) who may read sessions, replay and audit.")
    end: tuple[Who, ...] = Field(default=(), description="Who may end a live session; nobody given means those of `read`.")
    watch: tuple[Who, ...] = Field(
        default=(), description="Who may watch a live session's masked output as it goes; nobody given means those of `read`.")
    metrics: Literal["loopback", "token", "off"] = Field(
        default="loopback", description="Who gets /metrics: callers on loopback, holders of a token that may read, or nobody.")


class Retention(Keys):
    """How long the log stays here. Reaching the size stops operations, it never deletes."""

    local: Duration = Field(default=30 * 86400.0, gt=0, description="Records older than this may be removed here.")
    size: Size = Field(
        default=20 * 2**30, ge=2**20, description="Largest size of `state/audit` and `state/recordings`; at it operations stop.")


class CheckpointConfig(Keys):
    """Signed heads of the log."""

    every: Duration = Field(default=1.0, gt=0, description="Longest time between a record and the checkpoint that covers it.")
    key: FilePath = Field(
        default="tls/audit_ed25519_key", description="OpenSSH Ed25519 private key that signs checkpoints, without passphrase.")


class AuditConfig(Keys):
    """The audit log and the recordings."""

    durability: Literal["effects", "strict"] = Field(
        default="effects", description="effects: an early read may run while its record is synced; strict: nothing leaves before the sync.")
    retention: Retention = Field(default_factory=Retention, description="How long, and how much, is kept here.")
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig, description="How often, and with which key, heads are signed.")
    heartbeat: Duration = Field(default=60.0, gt=0, description="A record at least this often, so that silence is visible.")
    reserve: Size = Field(default=16 * 2**20, ge=2**16, description="Size of the file given up to write the last records on a full disk.")
    database: Size = Field(default=256 * 2**20, ge=2**20, description="Size at which a new database file begins; also one each day.")
    console: FilePath | None = Field(
        default=None, description="Where the break-glass console keeps its own log: exported, verified and watched together with this one.")
    sample: Size = Field(default=64 * 2**10, description="Bytes of a command's masked result kept for replay; 0 keeps none.")


class Webhook(Keys):
    """Tells people that something waits for them."""

    url: Url = Field(description="Where the JSON document is posted.")
    ca: FilePath | None = Field(default=None, description="CA bundle that vouches for it; the system's otherwise.")
    secret: Name | None = Field(default=None, description="Credential of kind bearer; signs the body (HMAC-SHA-256).")
    include_text: StrictBool = Field(default=False, description="Whether the statement's text is sent along.")
    timeout: Duration = Field(default=10.0, gt=0, description="For one attempt.")


class NotifyConfig(Keys):
    """How people hear of held operations."""

    webhook: Webhook | None = Field(default=None, description="Posts id, who, where, approvers and digest.")


class GatewayConfig(Keys):
    """gateway.yaml: this gateway."""

    name: Name = Field(description="This gateway's name: the origin of its records, and part of what an approval binds.")
    segment: Name = Field(description="The network segment; tokens carry the audience `lockgate/SEGMENT`.")
    state: FilePath = Field(description="Folder for audit, recordings and replay caches; outside of this folder.")
    listeners: Mapping[str, Listener] = Field(description="One per protocol, and `console`.")
    workers: int = Field(
        default=1, ge=1, le=64, strict=True,
        description="Processes that serve the listeners side by side, each with a log of its own (origin `NAME/WORKER`); 1 needs no other.")
    limits: Limits = Field(default_factory=Limits, description="Bounds of the whole gateway.")
    console: ConsoleConfig = Field(default_factory=ConsoleConfig, description="Who may read over the console.")
    audit: AuditConfig = Field(default_factory=AuditConfig, description="The audit log.")
    notify: NotifyConfig = Field(default_factory=NotifyConfig, description="How people hear of held operations.")


# --- policy/**/*.yaml -------------------------------------------------------------------------------------------------------------


_SESSION: dict[str, Any] = {"x-kind": "`token` or duration", "type": ["string", "number"]}
_SESSION_OF_CERTIFICATE = _SESSION | {"x-kind": "`certificate` or duration"}


def _session(value: object) -> object:
    return _session_of(value, "token")


def _session_of_certificate(value: object) -> object:
    return _session_of(value, "certificate")


def _session_of(value: object, word: str) -> object:
    if value == word:
        return value
    try:
        return parse_duration(value)
    except ValueError:
        raise ValueError(f"expected `{word}` or a duration such as 8h") from None


SessionOfCertificate = Annotated[
    float | Literal["certificate"], BeforeValidator(_session_of_certificate), WithJsonSchema(_SESSION_OF_CERTIFICATE)]


class Issuer(Keys):
    """Who signs tokens, and what is believed of them."""

    name: Name = Field(description="The name that identities refer to.")
    kind: Literal["token"] = Field(default="token", description="It signs tokens (JWT).")
    issuer: Text = Field(description="The `iss` claim, exactly.")
    audience: Text = Field(description="The `aud` claim that a token for this segment carries.")
    jwks: FilePath | None = Field(default=None, description="Pinned public keys (JWK Set, RFC 7517). Either this or `jwks_url`.")
    jwks_url: Url | None = Field(default=None, description="Where the public keys are fetched from, on a connected site.")
    jwks_ca: FilePath | None = Field(default=None, description="CA bundle that vouches for `jwks_url`; the system's otherwise.")
    jwks_max_age: Duration = Field(
        default=600.0, gt=0, description="Fetched keys older than this are fetched again; if that fails they end.")
    algorithms: tuple[Algorithm, ...] = Field(min_length=1, description="Signature algorithms accepted; there are no others.")
    max_lifetime: Duration = Field(default=3600.0, gt=0, description="Longest time between `iat` and `exp`.")
    leeway: Duration = Field(default=30.0, le=300, description="Clock difference accepted for `exp`, `iat` and `nbf`.")
    session: Annotated[float | Literal["token"], BeforeValidator(_session), WithJsonSchema(_SESSION)] = Field(
        default="token", description="`token` ends a session with its token; a duration lets it run on to that bound.")
    record_claims: tuple[Text, ...] = Field(default=(), description="Claims recorded with `session.start`, such as run id, commit, actor.")
    people: StrictBool = Field(default=False, description="Its subjects are people: they approve and read the console.")
    name_claim: Text = Field(default="sub", description="The claim that names a person.")
    groups_claim: Text | None = Field(default=None, description="The claim that lists groups; without it groups come from identities only.")
    single_use: StrictBool = Field(default=False, description="Each token (`jti`) is accepted once.")

    @model_validator(mode="after")
    def _one_key_source(self) -> Issuer:
        if (self.jwks is None) == (self.jwks_url is None):
            raise ValueError("expected either `jwks: FILE` or `jwks_url: https://…`")
        if self.jwks_url is None and self.jwks_ca is not None:
            raise ValueError("expected `jwks_ca` only beside `jwks_url`")
        return self


class CertificateIssuer(Keys):
    """Who signs client certificates: a robot shows one in TLS in place of a token. Every certificate of the bundle is trusted as it is."""

    name: Name = Field(description="The name that identities refer to.")
    kind: Literal["certificate"] = Field(description="It signs client certificates (X.509).")
    ca: FilePath = Field(description="Pinned bundle of its authorities' certificates, PEM.")
    max_lifetime: Duration = Field(default=7 * 86400.0, gt=0, description="Longest time for which a certificate may be good.")
    session: SessionOfCertificate = Field(
        default="certificate", description="`certificate` ends a session with its certificate; a duration lets it run on to that bound.")


class IdentityEntry(Keys):
    """A robot: which tokens, or certificates, it is."""

    name: Name = Field(description="The name that grants, records and approvals show.")
    issuer: Name = Field(description="The issuer that signs its tokens or certificates.")
    match: Mapping[str, Text] = Field(
        min_length=1, description="Claims and their values as strings; `*` matches any characters. Of a certificate: `subject` and "
        "`issuer` (RFC 4514), `cn`, `dns`, `uri`, `email`, `address`, `serial` (hexadecimal, without leading zeros).")
    groups: tuple[Text, ...] = Field(default=(), description="Groups it belongs to.")
    owner: Text | None = Field(default=None, description="The person who answers for it, and who may not approve for it.")
    sources: tuple[Source, ...] = Field(default=(), description="Networks it may come from; none given means any.")


class TargetTls(Keys):
    """How a target proves itself."""

    mode: Literal["verify-full", "verify-ca", "require", "disable"] = Field(
        default="verify-full", description="verify-full: certificate and name; verify-ca: certificate; require: encrypted only; "
        "disable: loopback only.")
    ca: FilePath | None = Field(default=None, description="CA bundle, PEM; the system's otherwise.")


class Resource(Keys):
    """A target. What else it takes depends on its protocol."""

    name: Name = Field(description="The name by which callers choose it.")
    protocol: str = Field(description="The protocol it speaks.")
    address: str | tuple[str, ...] = Field(description="Where it is.")
    credential: Name = Field(description="The file in credentials/, without .yaml, that the gateway logs in with.")
    tls: TargetTls = Field(default_factory=TargetTls, description="How it proves itself.")


class SessionSpec(Keys):
    """Bounds of a session; of several the smallest counts."""

    max: Duration | None = Field(default=None, gt=0, description="Longest duration of a session.")
    idle: Duration | None = Field(default=None, gt=0, description="Longest time without an operation; waiting for approval is not idle.")
    concurrent: Count | None = Field(default=None, description="Sessions of one identity on one resource at once.")
    rows: Count | None = Field(default=None, description="Rows sent to the caller.")
    bytes: Size | None = Field(default=None, ge=1, description="Bytes sent to the caller.")
    denials: Count | None = Field(default=None, description="Denied commands after which the session ends.")


class StatementSpec(Keys):
    """Bounds of one statement; of several the smallest counts."""

    rows: Count | None = Field(default=None, description="Rows sent to the caller.")
    time: Duration | None = Field(default=None, gt=0, description="Running time on the target.")


Matchers = Annotated[Mapping[str, Mapping[str, Any]], WithJsonSchema({
    "x-kind": "`sql: {…}`", "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": {"type": "object"}})]
"""One protocol's matcher key (``sql``) and its mapping, compiled by ``gateway.protocols``."""


def _lift_max_rows(value: object) -> object:
    """``max_rows`` may also be written inside the matcher of an allow; it is kept on the rule."""
    if not isinstance(value, dict) or not isinstance(value.get("allow"), dict):
        return value
    bodies = value["allow"]
    found = [body["max_rows"] for body in bodies.values() if isinstance(body, dict) and "max_rows" in body]
    if not found or "max_rows" in value:
        return value
    bare = {key: {k: v for k, v in body.items() if k != "max_rows"} if isinstance(body, dict) else body for key, body in bodies.items()}
    return value | {"allow": bare, "max_rows": found[0]}


class Rule(Keys):
    """One of `allow`, `approve` and `deny`, with what it speaks about."""

    name: Title = Field(description="Shown as GRANT/NAME in decisions and records.")
    allow: Matchers | None = Field(default=None, description="What runs.")
    approve: Matchers | None = Field(default=None, description="What runs once the approval named by `by` is granted.")
    deny: Matchers | None = Field(default=None, description="What never runs.")
    by: Name | None = Field(default=None, description="The approval that has to be met; with `approve` only.")
    max_rows: Whole | None = Field(default=None, description="Most rows an insert, update, delete or merge may affect; with `allow` only.")
    statement: StatementSpec | None = Field(default=None, description="Bounds of the statements it matches; not with `deny`.")

    @model_validator(mode="before")
    @classmethod
    def _max_rows(cls, value: object) -> object:
        return _lift_max_rows(value)

    @model_validator(mode="after")
    def _one_effect(self) -> Rule:
        if sum(body is not None for body in (self.allow, self.approve, self.deny)) != 1:
            raise ValueError("expected exactly one of `allow`, `approve` and `deny`")
        if any(len(body) != 1 for body in (self.allow, self.approve, self.deny) if body is not None):
            raise ValueError("expected the matcher of one protocol, such as `sql: {…}`")
        if (self.approve is not None) != (self.by is not None):
            raise ValueError("expected `by: APPROVAL` with `approve`, and only there")
        if self.max_rows is not None and self.allow is None:
            raise ValueError("expected `max_rows` only with `allow`")
        if self.statement is not None and self.deny is not None:
            raise ValueError("expected `statement` only with `allow` or `approve`")
        return self

    @property
    def effect(self) -> Literal["allow", "approve", "deny"]:
        return "deny" if self.deny is not None else "approve" if self.approve is not None else "allow"

    @property
    def matcher(self) -> tuple[str, Mapping[str, Any]]:
        """The matcher's key (``sql``) and its mapping."""
        body = self.deny if self.deny is not None else self.approve if self.approve is not None else self.allow
        return next(iter((body or {}).items()))


class Grant(Keys):
    """Who may do what where, and when."""

    name: Title = Field(description="Shown in decisions and records.")
    to: tuple[Who, ...] = Field(min_length=1, description="Identities (`NAME`) and groups (`group:NAME`).")
    targets: tuple[Name, ...] = Field(min_length=1, description="Resources.")
    when: Window | None = Field(default=None, description="Outside of it the grant gives nothing; its denies and masks still count.")
    session: SessionSpec = Field(default_factory=SessionSpec, description="Bounds of a session.")
    statement: StatementSpec = Field(default_factory=StatementSpec, description="Bounds of every statement.")
    rules: tuple[Rule, ...] = Field(default=(), description="What it allows, what needs approval, what it denies. Order has no meaning.")
    masks: tuple[Name, ...] = Field(default=(), description="Masks that apply to whoever it is for.")

    @model_validator(mode="after")
    def _rule_names_differ(self) -> Grant:
        names = [rule.name for rule in self.rules]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"expected each rule of a grant to have a name of its own, but {', '.join(doubled)} occurs twice")
        return self


class Quorum(Keys):
    """So many people of one group."""

    group: Text = Field(description="The group they belong to.")
    count: Count = Field(default=1, description="How many; at least one.")


class ApprovalRule(Keys):
    """Who has to agree."""

    name: Name = Field(description="The name that rules refer to.")
    all_of: tuple[Quorum, ...] = Field(min_length=1, description="Every one of them has to be met; a person counts once.")
    expires: Duration = Field(default=900.0, gt=0, description="From the request to the last moment at which it can be granted and used.")


class MaskSetEntry(Keys):
    """What is hidden from whoever a grant with this set is for."""

    name: Name = Field(description="The name that grants refer to.")
    columns: Mapping[Column, Mask] = Field(
        default_factory=dict, description="SQL: columns by SCHEMA.RELATION.COLUMN, and how they are shown.")
    rows: Mapping[Relation, RowSpec] = Field(
        default_factory=dict, description="SQL: relations by SCHEMA.RELATION of which only some rows are there.")
    functions: tuple[FunctionName, ...] = Field(
        default=(), description="SQL: functions of users by SCHEMA.FUNCTION that may be called although `rows` hides some: they read no "
        "relation with a row filter and tell nobody what they are given. Every set with `rows` that applies has to name them.")
    clear: tuple[Column, ...] = Field(default=(), description="SQL: columns in which nothing is looked for.")
    detect: DetectSpec = Field(default_factory=DetectSpec, description="What is looked for in values that no column mask replaced.")
    strict: StrictBool | Literal["lookups"] = Field(
        default=False, description="true: a statement that does anything with these columns but return them as they are is refused "
        "(WHERE, JOIN, ORDER BY, GROUP BY, DISTINCT, functions, casts …); `lookups`: but for `column = $1` as a condition of WHERE.")


_SERIAL = re.compile(r"(?:0x)?[0-9A-Fa-f]{1,64}|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){1,31}")


def _serial(value: str) -> str:
    if not _SERIAL.fullmatch(value):
        raise ValueError("expected a serial number, such as 4711, 0x0a1b or 0A:1B")
    return value


class RevokedEntry(Keys):
    """What is no longer believed. `issuer` and `subject` go together; every other key stands alone."""

    token_id: Text | None = Field(default=None, description="One token, by its `jti`.")
    issuer: Text | None = Field(default=None, description="With `subject`: the name of the issuer, or its `iss`.")
    subject: Text | None = Field(default=None, description="With `issuer`: the `sub` claim.")
    identity: Name | None = Field(default=None, description="An identity.")
    person: Text | None = Field(default=None, description="A person.")
    key_id: Text | None = Field(default=None, description="A signing key, by its `kid`.")
    certificate: Annotated[Text, AfterValidator(_serial)] | None = Field(
        default=None, description="A certificate, by its serial number, decimal or hexadecimal; digits alone are taken for both.")
    until: Moment | None = Field(default=None, description="When the entry ends; without it never.")

    @model_validator(mode="after")
    def _one_kind(self) -> RevokedEntry:
        alone = [self.token_id, self.identity, self.person, self.key_id, self.certificate]
        given = sum(value is not None for value in alone) + (self.issuer is not None or self.subject is not None)
        if given != 1 or (self.issuer is None) != (self.subject is None):
            raise ValueError("expected one of token_id, issuer with subject, identity, person, key_id, certificate")
        return self


class PolicyFile(Keys):
    """policy/**/*.yaml: the lists of all files are merged; order never matters."""

    issuers: tuple[Issuer, ...] = Field(default=(), description="Who signs tokens.")
    identities: tuple[IdentityEntry, ...] = Field(default=(), description="Robots.")
    resources: tuple[Resource, ...] = Field(default=(), description="Targets.")
    grants: tuple[Grant, ...] = Field(default=(), description="Who may do what where.")
    approvals: tuple[ApprovalRule, ...] = Field(default=(), description="Who has to agree.")
    masks: tuple[MaskSetEntry, ...] = Field(default=(), description="What is hidden.")
    revoked: tuple[RevokedEntry, ...] = Field(default=(), description="What is no longer believed.")


class TestCase(Keys):
    """policy/tests/*.yaml: one case. What is asked stands under a key of the resource's protocol (`sql`). A key that is absent
    is not compared."""

    __test__ = False

    identity: Name = Field(description="Who asks.")
    resource: Name = Field(description="Where.")
    effect: Literal["allow", "approve", "deny"] | None = Field(default=None, description="What the policy has to say.")
    rules: frozenset[Text] | None = Field(default=None, description="The rules of the winning effect, RULE or GRANT/RULE; a set.")
    by: frozenset[Name] | None = Field(default=None, description="The approvals that have to be met; a set.")
    masked: frozenset[Text] | None = Field(default=None, description="The result columns that are masked; a set.")
    filtered: frozenset[Text] | None = Field(default=None, description="The relations of which only some rows are there; a set.")
    at: Moment | None = Field(default=None, description="The moment at which it is asked; now otherwise.")
