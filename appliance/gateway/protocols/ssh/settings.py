# SPDX-License-Identifier: Apache-2.0
"""The configuration keys that SSH brings: its listener, its resource, its test cases, its credential kinds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, WithJsonSchema, model_validator

from gateway.config.address import split_address
from gateway.config.quantities import Duration, Size
from gateway.config.schema import ABSENT, Listener, Resource, Rule, ServerTls, TargetTls, TestCase
from gateway.config.speaks import Place, Settings, Used
from gateway.config.values import Address, FilePath, Keys, Name
from gateway.credentials import Credential
from gateway.protocols.ssh import trust
from gateway.protocols.ssh.operations import ACTIONS

_LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,62}\$?")
BARE = frozenset({"shell", "restricted-shell", "agent", "x11"})
"""Actions of which nothing else is said."""
PAIRS: Mapping[str, str] = {"rename": "[OLD, NEW]", "symlink": "[LINK, TARGET]"}
PROGRAMS = ("exec", "shell", "restricted-shell", "subsystem")


def _login(value: str) -> str:
    if not _LOGIN.fullmatch(value):
        raise ValueError("expected the name of a login: letters, digits, '_', '.', '-', at most 64 characters")
    return value


Login = Annotated[str, AfterValidator(_login), WithJsonSchema({"type": "string", "x-kind": "name"})]


class SshListener(Listener):
    """Where SSH clients come in. SSH encrypts itself: there is no `tls` here, and the address need not be on loopback."""

    tls: ServerTls | None = Field(default=None, description="Not here: SSH encrypts itself.", json_schema_extra=ABSENT)
    host_keys: tuple[FilePath, ...] = Field(
        min_length=1, max_length=4, description="This gateway's host keys: OpenSSH Ed25519 private keys without passphrase, not readable "
        "by others. `lockgate init` makes them.")
    host_certificates: tuple[FilePath, ...] = Field(
        default=(), description="Host certificates (OpenSSH, `-cert.pub`), each for one of `host_keys`.")
    user_ca: FilePath | None = Field(
        default=None, description="OpenSSH Ed25519 private key that signs callers' certificates (`lockgate ssh-certificate`); without it "
        "callers show a token alone.")
    certificate_lifetime: Duration = Field(
        default=300.0, gt=0, le=3600, description="How long a caller's certificate is good; never longer than the token it is given for.")

    @model_validator(mode="after")
    def _plaintext_only_on_loopback(self) -> SshListener:
        """In place of the check of other listeners."""
        if self.tls is not None:
            raise ValueError("expected no `tls`: SSH encrypts itself")
        return self

    @model_validator(mode="after")
    def _each_file_once(self) -> SshListener:
        if len(set(self.host_keys)) != len(self.host_keys):
            raise ValueError("expected each of `host_keys` once")
        if self.user_ca is not None and self.user_ca in self.host_keys:
            raise ValueError("expected `user_ca` to be another key than a host key")
        return self


class SshRecording(Keys):
    """What of a session is kept for replay."""

    output: Size = Field(
        default=16 * 2**20, description="Bytes of a command's masked output; what comes after is kept as sizes and a digest.")
    input: StrictBool = Field(default=False, description="Whether what is typed is kept too: passwords that are typed are input.")
    files: Size = Field(
        default=0, description="Bytes of the content of each file that is transferred; its path, size and digest are always kept.")


class SshResource(Resource):
    """A host that SSH leads to, and the logins on it that are offered."""

    address: Address = Field(description="HOST:PORT.")
    tls: TargetTls = Field(
        default_factory=TargetTls, description="Not here: a target proves itself by its host key.", json_schema_extra=ABSENT)
    logins: tuple[Login, ...] = Field(
        min_length=1, max_length=64, description="The logins offered; a caller chooses one by `LOGIN@RESOURCE`, the first one otherwise.")
    host_keys: FilePath | None = Field(
        default=None, description="known_hosts file with the target's host keys, or a line `@cert-authority`. Either this or `host_ca`.")
    host_ca: FilePath | None = Field(
        default=None, description="Public keys of the authorities that sign host certificates, one a line.")
    credentials: Mapping[Login, Name] = Field(
        default_factory=dict, description="Another credential than `credential` for some of the logins.")
    share: Duration = Field(
        default=15.0, le=3600, description="How long a connection to the target is kept for the next command of the same identity and "
        "login; 0: each session has its own.")
    hold: Duration = Field(
        default=0.02, le=1, description="Longest time that output which may yet become a secret is held back; more is slower to echo, and "
        "never less masked.")
    recording: SshRecording = Field(default_factory=SshRecording, description="What of a session is kept for replay.")

    @property
    def place(self) -> Place:
        """Host and port."""
        return split_address(self.address)

    def credential_for(self, login: str) -> str:
        """The name of the credential that a login uses."""
        return self.credentials.get(login, self.credential)

    @model_validator(mode="before")
    @classmethod
    def _no_tls(cls, value: object) -> object:
        if isinstance(value, dict) and "tls" in value:
            raise ValueError("expected no `tls`: a target of SSH proves itself by its host key")
        return value

    @model_validator(mode="after")
    def _known_by_something(self) -> SshResource:
        if (self.host_keys is None) == (self.host_ca is None):
            raise ValueError("expected either `host_keys: FILE` (known_hosts) or `host_ca: FILE`: what is not known is not trusted")
        if len(set(self.logins)) != len(self.logins):
            raise ValueError("expected each of `logins` once")
        if other := sorted(set(self.credentials) - set(self.logins)):
            raise ValueError(f"expected `credentials` of logins that `logins` offers; {other[0]!r} is none")
        return self


# --- test cases ---


def _asked(value: object) -> object:
    """``ssh:`` of a case: one action and what it is about; ``env`` may say beside it which program the variable is for."""
    if not isinstance(value, dict) or not value:
        raise ValueError("expected one action and what it is about, such as {exec: uptime}")
    for key, inner in value.items():
        if key not in ACTIONS and key not in ("login", "pty"):
            raise ValueError(f"expected one of {', '.join(ACTIONS)}, with login and pty; there is no {key!r}")
        if wrong := _wrong(key, inner):
            raise ValueError(f"{key}: {wrong}")
    actions = [key for key in value if key in ACTIONS]
    if len(actions) != 1 and not (len(actions) == 2 and "env" in actions and set(actions) & set(PROGRAMS)):
        raise ValueError("expected exactly one action; beside `env` the program that gets the variable")
    return value


def _wrong(key: str, value: object) -> str:
    if key == "pty":
        return "" if isinstance(value, bool) else "expected true or false"
    if key in BARE:
        return "" if value is True else "expected true"
    if key in PAIRS:
        pair = isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) and one for one in value)
        return "" if pair else f"expected {PAIRS[key]}"
    return "" if isinstance(value, str) and (value or key == "exec") else "expected text (numbers in quotes)"


Asked = Annotated[Mapping[str, Any], BeforeValidator(_asked), WithJsonSchema({
    "x-kind": "`{ACTION: …}`", "type": "object", "additionalProperties": False, "minProperties": 1, "maxProperties": 4,
    "properties": {action: {"const": True} if action in BARE else
                   {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2} if action in PAIRS else {"type": "string"}
                   for action in ACTIONS} | {"login": {"type": "string"}, "pty": {"type": "boolean"}}})]


class SshCase(TestCase):
    """What a request would meet."""

    ssh: Asked = Field(
        description="One action and what it is about: `exec: TEXT`, `read: PATH` (and every other action on files), `rename: [OLD, NEW]`, "
        "`symlink: [LINK, TARGET]`, `subsystem: NAME`, `forward-local: HOST:PORT`, `forward-socket: unix:/PATH`, `shell: true`, "
        "`agent: true`, `x11: true`, `env: NAME=VALUE` (for the `exec` beside it, else for a shell). With it `login`, out of the "
        "resource's `logins`, and `pty`.")


# --- what is checked beyond one entry ---


def destinations(resource: SshResource) -> tuple[Place, ...]:
    """One place: what callers forward to, the target itself connects to."""
    return (resource.place,)


def resource_problem(resource: SshResource, credential: Credential) -> tuple[str, str] | None:
    """A password's own login has to be one that is offered."""
    mine = [login for login in resource.logins if resource.credential_for(login) == credential.name]
    if credential.kind == "password" and credential.username and (other := [login for login in mine if login != credential.username]):
        return ("credentials" if credential.name in resource.credentials.values() else "credential",
                f"expected a credential of login {other[0]!r}; {credential.name!r} is of {credential.username!r}")
    return None


def more_credentials(resource: SshResource) -> Mapping[str, str]:
    """Logins and the credentials they have of their own."""
    return resource.credentials


def listener_files(listener: SshListener) -> Iterator[Used]:
    """Keys of the gateway, and certificates of its host keys. They are looked at in this order."""
    shown: list[bytes] = []
    for number, key in enumerate(listener.host_keys):
        yield Used(key, ("host_keys", number), lambda path: shown.append(trust.public_half(path)), private=True, fresh=True)
    if listener.user_ca is not None:
        yield Used(listener.user_ca, ("user_ca",), trust.check_private_key, private=True, fresh=True)
    for number, certificate in enumerate(listener.host_certificates):
        yield Used(certificate, ("host_certificates", number), lambda path: trust.check_host_certificate(
            path, shown if len(shown) >= len(listener.host_keys) else None))


def resource_files(resource: SshResource) -> Iterator[Used]:
    """What the target is known by."""
    host, port = resource.place
    if resource.host_keys is not None:
        yield Used(resource.host_keys, ("host_keys",), lambda path: trust.check_known_hosts(path, host, port))
    if resource.host_ca is not None:
        yield Used(resource.host_ca, ("host_ca",), trust.check_authorities)


def missing(resources: Iterable[SshResource]) -> Mapping[str, str]:
    """known_hosts files as they can be made without asking the hosts: with keys that nobody has."""
    places: dict[str, list[Place]] = {}
    for resource in resources:
        if resource.host_keys is not None:
            places.setdefault(resource.host_keys, []).append(resource.place)
    return {path: trust.placeholder(dict.fromkeys(found)) for path, found in places.items()}


def advice(resource: SshResource, resolve: Callable[[str], Path]) -> Iterator[tuple[str, str]]:
    """A target that cannot be reached yet."""
    try:
        if resource.host_keys is not None and trust.is_placeholder(resolve(resource.host_keys), *resource.place):
            yield "host_keys", "nobody has the key that stands there for this target: put its own there, until then nothing reaches it"
    except ValueError:
        return      # what is wrong with the file is a problem of its own


def rule_problem(rule: Rule) -> str | None:
    """``max_rows`` speaks of rows."""
    return "expected no `max_rows`: SSH has no rows" if rule.max_rows is not None else None


SETTINGS = Settings(
    protocol="ssh", listener=SshListener, resource=SshResource, case=SshCase, test="ssh",
    credentials=frozenset({"ssh-key", "ssh-ca", "password"}),
    destinations=destinations, resource_problem=resource_problem, rule_problem=rule_problem, more_credentials=more_credentials,
    listener_files=listener_files, resource_files=resource_files, missing=missing, advice=advice,
)
