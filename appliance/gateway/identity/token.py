# SPDX-License-Identifier: Apache-2.0
"""A compact JWS (RFC 7515) taken apart, and the registered claims of RFC 7519 checked. Pure: the time is an argument.

``open_token`` reads, ``verify`` proves the signature, ``check_times`` the claims about time. Nothing that was read counts before
``verify``. Reasons name claims and their values (shortened, escaped), never the token or a part of its encoding.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from gateway.errors import Refused
from gateway.identity.keys import Key
from gateway.identity.strict_json import StrictJsonError, loads

TOKEN_BYTES = 16_384
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_FOREIGN = ("jku", "x5u", "jwk", "x5c", "crit", "b64", "zip")
_TIME_BOUND = 2.0 ** 40


class TokenRefused(Refused):
    """A token that opens nothing. ``reason`` is for the audit log and ``token inspect``; ``str()`` is for the caller."""

    def __init__(self, public: str, reason: str) -> None:
        super().__init__(f"the token is refused: {public}", code="28000", hint="lockgate token inspect says why")
        self.reason = reason


def shown(value: object) -> str:
    """A claim's value for a reason: escaped, at most 80 characters of it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says of itself. Nothing of it is proven until ``verify`` returned."""

    text: str = field(repr=False)
    algorithm: str
    kid: str | None
    claims: Mapping[str, Any] = field(repr=False)
    signed: bool


@dataclass(frozen=True, slots=True)
class Times:
    """``exp`` and ``iat`` in seconds since the epoch."""

    expires: float
    issued: float


def open_token(text: str) -> Token:
    """Take a token apart. Raises ``TokenRefused`` on size, form, encoding, or a header that would pull in keys from elsewhere."""
    if len(text) > TOKEN_BYTES:
        raise TokenRefused("too long", f"the token has more than {TOKEN_BYTES} bytes")
    form = _COMPACT.fullmatch(text)
    if form is None:
        raise TokenRefused("not a JWT", "not a JWT in compact form (three parts of base64url)")
    header, claims = (_part(name, form[number]) for number, name in ((1, "header"), (2, "payload")))
    for name in _FOREIGN:
        if name in header:
            raise TokenRefused("header not accepted", f"its header has {name!r}, which is never accepted")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise TokenRefused("header not accepted", "its header has no `alg`")
    if kid is not None and not isinstance(kid, str):
        raise TokenRefused("header not accepted", "the `kid` in its header is not a string")
    return Token(text, algorithm, kid, claims, bool(form[3]))


def _part(name: str, encoded: str) -> dict[str, Any]:
    try:
        value = loads(base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True))
    except StrictJsonError as error:
        raise TokenRefused("not a JWT", f"its {name}: {error}") from None
    except binascii.Error:
        raise TokenRefused("not a JWT", f"its {name} is not base64url") from None
    if not isinstance(value, dict):
        raise TokenRefused("not a JWT", f"its {name} is not a JSON object")
    return value


def verify(token: Token, key: Key) -> None:
    """Prove the signature. The key's type has already decided which algorithms can be asked of it."""
    if token.algorithm not in key.algorithms or not token.signed:
        raise TokenRefused("signature not valid", f"algorithm {shown(token.algorithm)} does not fit the key {shown(key.id)}")
    try:
        jwt.api_jws.PyJWS(algorithms=[token.algorithm]).decode_complete(token.text, key=key.public, algorithms=[token.algorithm])
    except jwt.PyJWTError:
        raise TokenRefused("signature not valid", f"its signature was not made with the key {shown(key.id)}") from None


def check_times(claims: Mapping[str, Any], now: float, leeway: float, max_lifetime: float) -> Times:
    """``exp`` and ``iat`` are required, ``nbf`` is honoured, and ``exp - iat`` is capped. ``leeway`` (seconds) covers skewed clocks."""
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    starts = _time(claims, "nbf") if claims.get("nbf") is not None else None
    if now >= expires + leeway:
        raise TokenRefused("expired", f"expired {duration(now - expires)} ago")
    if issued > now + leeway:
        raise TokenRefused("not valid yet", f"issued (iat) {duration(issued - now)} in the future")
    if starts is not None and starts > now + leeway:
        raise TokenRefused("not valid yet", f"not valid (nbf) for another {duration(starts - now)}")
    if expires <= issued:
        raise TokenRefused("lifetime not accepted", "it ends (exp) before it begins (iat)")
    if expires - issued > max_lifetime:
        raise TokenRefused("lifetime not accepted",
                           f"it lives {duration(expires - issued)}; this issuer's tokens may live {duration(max_lifetime)}")
    return Times(expires, issued)


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if value is None:
        raise TokenRefused(f"no {name}", f"it has no `{name}`")
    if isinstance(value, bool) or not isinstance(value, int | float) or not (abs(value) <= _TIME_BOUND) or not math.isfinite(value):
        raise TokenRefused(f"{name} not accepted", f"its `{name}` is not a time in seconds")
    return float(value)


def duration(seconds: float) -> str:
    """``3 minutes`` and the like, rounded down to the largest unit."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return f"{int(seconds)} second{'s' if int(seconds) != 1 else ''}"


def audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The ``aud`` claim as a tuple (RFC 7519 section 4.1.3: one string or several)."""
    value = claims.get("aud")
    if isinstance(value, str) and value:
        return (value,)
    if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    raise TokenRefused("no audience" if value is None else "audience not accepted",
           "it has no `aud`" if value is None else "its `aud` is neither a string nor a list of strings")
