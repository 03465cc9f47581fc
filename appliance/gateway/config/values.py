# SPDX-License-Identifier: Apache-2.0
"""The kinds of values that keys take: names, paths, addresses, networks, masks. Each refuses with ``expected …``."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from gateway.config.address import is_loopback, split_address

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
MOST_ADDRESSES = 16
NAME_WANTED = "expected a name of letters, digits, '.', '_' and '-', at most 63 characters, beginning with a letter or digit"
Algorithm = Literal["ES256", "ES384", "ES512", "ES256K", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
"""The signature algorithms a token may carry: no ``none``, nothing with a shared secret (RFC 8725 section 3.1)."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(NAME_WANTED)
    return value


def _title(value: str) -> str:
    if not 1 <= len(value) <= 128 or "/" in value or _UNPRINTABLE.search(value) or value != value.strip():
        raise ValueError("expected a name of 1 to 128 printable characters without '/'")
    return value


def _text(value: str) -> str:
    if not 1 <= len(value) <= 1024 or _UNPRINTABLE.search(value):
        raise ValueError("expected 1 to 1024 printable characters")
    return value


def _path(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError("expected the path of a file")
    return value


def _address(value: str) -> str:
    split_address(value)
    return value


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value):
        raise ValueError("expected each address once")
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not (parts.scheme == "https" or plain) or not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("expected an https:// address (http:// only towards loopback) without user name and fragment")
    return value


def _network(value: object) -> Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    try:
        if isinstance(value, str) and "%" not in value:  # Python takes any text for the scope of an IPv6 network
            return ipaddress.ip_network(value)
    except ValueError:
        pass
    raise ValueError("expected a network such as 10.0.0.0/8 or ::1/128, without bits set beyond its length")


def _who(value: str) -> str:
    kind, colon, group = value.partition(":")
    if not colon:
        return _name(value)
    if kind != "group":
        raise ValueError("expected NAME or group:NAME")
    return "group:" + _text(group)


Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "x-kind": "name", "pattern": f"^{_NAME.pattern}$"})]
"""Names that callers, file names and addresses carry."""
Title = Annotated[str, AfterValidator(_title), WithJsonSchema({"type": "string", "x-kind": "name"})]
"""Names of grants and rules, shown as GRANT/RULE."""
Text = Annotated[str, AfterValidator(_text), WithJsonSchema({"type": "string", "x-kind": "text"})]
FilePath = Annotated[str, AfterValidator(_path), WithJsonSchema({"type": "string", "x-kind": "path"})]
"""Relative to the folder that holds gateway.yaml, or absolute."""
Address = Annotated[str, AfterValidator(_address), WithJsonSchema({"type": "string", "x-kind": "HOST:PORT"})]
Addresses = Annotated[
    tuple[Address, ...], BeforeValidator(_listed), AfterValidator(_each_once), Field(min_length=1, max_length=MOST_ADDRESSES),
    WithJsonSchema({"x-kind": "HOST:PORT, or a list of them", "oneOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_ADDRESSES, "uniqueItems": True}]})]
"""One address is a list of one."""
Url = Annotated[str, AfterValidator(_url), WithJsonSchema({"type": "string", "x-kind": "https address"})]
Source = Annotated[Network, BeforeValidator(_network), WithJsonSchema({"type": "string", "x-kind": "network"})]
Who = Annotated[str, AfterValidator(_who), WithJsonSchema({"type": "string", "x-kind": "`NAME` or `group:NAME`"})]
Count = Annotated[int, Field(strict=True, ge=1, le=2**53)]
Whole = Annotated[int, Field(strict=True, ge=0, le=2**53)]


class Keys(BaseModel):
    """A mapping with known keys. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, arbitrary_types_allowed=True, hide_input_in_errors=True)


def column_name(value: str) -> str:
    parts = value.split(".")
    if len(parts) != 3 or not all(parts) or _UNPRINTABLE.search(value):
        raise ValueError("expected SCHEMA.RELATION.COLUMN, exactly as the target spells them")
    return value


def function_name(value: str) -> str:
    parts = value.split(".")
    if len(parts) != 2 or not all(parts) or _UNPRINTABLE.search(value) or set("*?") & set(value):
        raise ValueError("expected SCHEMA.FUNCTION, exactly as the target spells it")
    return value


def relation_name(value: str) -> str:
    parts = value.split(".")
    if len(parts) != 2 or not all(parts) or _UNPRINTABLE.search(value):
        raise ValueError("expected SCHEMA.RELATION, exactly as the target spells them")
    return value
