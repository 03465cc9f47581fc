# SPDX-License-Identifier: Apache-2.0
"""What a caller asks for before it is known: the user name ``[LOGIN@]RESOURCE``. Pure; ``listener.py`` holds the conversation."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import Refused

PROMPT = "Token as password: "
"""Programs that type a password wait for ``password:``."""
_NAMES = 256
_CUT = {0: "empty, as OpenSSH sends it by SSH_ASKPASS for more than 1,023 characters", 1022: "cut off by the client at 1,022 characters",
        1023: "cut off by the client at 1,023 characters"}
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*)?")


@dataclass(frozen=True, slots=True)
class Asked:
    """``login`` is ``""`` where the caller leaves it to the resource."""

    login: str
    resource: str


def without_tokens(text: str) -> str:
    """What a caller says of itself, for the record: a JWT that was typed where a name belongs is not kept."""
    return _TOKEN.sub("****", text)


def cut_off(token: str) -> str:
    """What is to be done about a token that a client shortened; ``""`` for one of any other length."""
    why = _CUT.get(len(token), "")
    return why and f"the token is {why}: exchange it for a certificate (lockgate ssh-certificate)"


def asked(user: str) -> Asked:
    """What a user name asks for. Raises ``Refused``."""
    if without_tokens(user) != user:
        raise Refused("the user name is a token: it belongs into the password; the user name is [LOGIN@]RESOURCE")
    login, at, resource = user.rpartition("@")
    if not resource or (at and not login) or len(user) > _NAMES or not user.isprintable():
        raise Refused("the user name is [LOGIN@]RESOURCE")
    return Asked(login, resource)


def login_of(wanted: Asked, logins: tuple[str, ...]) -> str:
    """The login at the target: the resource's first unless the caller names one of its own. Raises ``Refused``."""
    if not wanted.login:
        return logins[0]
    if wanted.login not in logins:
        raise Refused(f"{wanted.resource} has no login {wanted.login[:64]!r}; it has {', '.join(logins)}")
    return wanted.login
