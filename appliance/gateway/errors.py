# SPDX-License-Identifier: Apache-2.0
"""Four kinds of failure, named after the guilty side. Each protocol answers them in its own words."""

from __future__ import annotations


class Fault(Exception):
    """Base of all; ``str()`` is safe to show to the caller: it never holds a secret or an unmasked value."""


class ClientFault(Fault):
    """The caller broke its protocol or sent what cannot be understood. ``code`` is the protocol's own error code."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class TargetFault(Fault):
    """The target could not be reached, refused the gateway's credential, or broke its protocol."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Refused(Fault):
    """Policy, identity or an approver said no. ``code`` is the protocol's error code, ``detail`` and ``hint`` are shown."""

    def __init__(self, message: str, code: str = "", detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail
        self.hint = hint


class GatewayFault(Fault):
    """The gateway itself cannot do its duty (audit not writable, configuration broken): the operation stops."""


class AuditUnavailable(GatewayFault):
    """A record could not be made durable. Nothing may run until records can be written again."""


class ConfigError(GatewayFault):
    """The configuration folder is wrong: names file, line and key and says what was expected. Exit status 2."""


class SessionOver(Fault):
    """The session outlived its scope (window, length, token, policy, revocation, ``sessions end``, shutdown) and ends now."""


def place_of(error: BaseException) -> str:
    """``FILE:LINE`` where it was raised: what a log may say of an error whose message could hold a value."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
