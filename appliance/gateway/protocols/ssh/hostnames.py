# SPDX-License-Identifier: Apache-2.0
"""Names and addresses of hosts that callers forward to: the one form they are decided in, and the patterns of it that rules have. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address

import re2

_HOST = re.compile(r"(?!.*\.\.)[a-z0-9_](?:[a-z0-9._-]{0,252})")
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}\.?")
_PART = re.compile(r"25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9]")


def canonical(host: str, *, listening: bool) -> str:
    """A name in lower case, an address in its one form, IPv6 in brackets; ``*`` where all addresses are listened on.

    What could be an address written otherwise (``127.1``, ``0x7f000001``) is refused. Raises ``ValueError``.
    """
    if listening and host in ("", "*"):
        return "*"
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address("" if "%" in bare else bare)   # Python takes any text for the scope of an address
    except ValueError:
        name = bare.lower().removesuffix(".")
        if _NUMBERS.fullmatch(name) or not _HOST.fullmatch(name):
            raise ValueError("expected the name or address of a host") from None
        return name
    mapped = address.ipv4_mapped if address.version == 6 else None
    plain = mapped or address
    return f"[{plain}]" if plain.version == 6 else str(plain)


def pattern(text: str) -> Callable[[str], bool]:
    """Canonical hosts. ``*`` stands for any characters but the dot, ``**`` for any. Raises ``ValueError``, also where none could match."""
    if text == "*":
        return lambda host: True
    if text.startswith("["):
        return _address_in_brackets(text).__eq__
    if not re.fullmatch(r"[A-Za-z0-9._*?-]+", text):
        raise ValueError(f"expected the name or address of a host (IPv6 in brackets: [::1]), not {text!r}")
    written = text.lower()
    _can_match(written)
    one = "[^.]"
    pieces = {"*": one + "*", "?": one, "**": ".*"}
    parts = (pieces.get(part) or re2.escape(part) for part in re.split(r"(\*\*|\*|\?)", written) if part)
    found = re2.compile("(?s)" + "".join(parts))
    return lambda host: not host.startswith("[") and found.fullmatch(host) is not None


def _address_in_brackets(text: str) -> str:
    try:
        form = canonical(text, listening=False)
    except ValueError:
        form = ""
    if form.startswith("["):
        return form
    raise ValueError(f"expected an IPv6 address in brackets, not {text!r}" + (f": write {form}, as it is compared" if _is_v4(form) else ""))


def _can_match(text: str) -> None:
    """Raises ``ValueError`` where it is no spelling that a canonical host has, and says which one is meant where that can be told."""
    labels = text.split(".")
    if _NUMBERS.fullmatch(text):
        if not _is_v4(text):
            meant = _meant(labels)
            raise ValueError(f"no address is ever written {text!r} where it is compared: write {meant or 'all four numbers in decimal'}")
    elif text.endswith(".") and text.strip("."):
        raise ValueError(f"names are compared without a dot at their end: write {text.rstrip('.')!r}")
    elif ".." in text or text.startswith((".", "-")):
        raise ValueError(f"expected the name or address of a host, not {text!r}, which is none")
    elif "**" not in text and len(labels) > 1 and _like_an_address(labels) and not _all_parts(labels):
        raise ValueError(f"expected all four parts of an address, each a decimal number or a glob, such as 10.0.*.*, not {text!r}")


def _is_v4(text: str) -> bool:
    labels = text.split(".")
    return len(labels) == 4 and all(_PART.fullmatch(label) for label in labels)


def _like_an_address(labels: list[str]) -> bool:
    """Numbers and globs, and at least one number: ``10.0.*``."""
    return any(label.isdigit() for label in labels) and all(label.strip("0123456789*?") == "" and label for label in labels)


def _all_parts(labels: list[str]) -> bool:
    return len(labels) == 4 and all(_PART.fullmatch(label) for label in labels if label.isdigit())


def _meant(labels: list[str]) -> str:
    """What inet_aton(3) makes of it: octal after a 0, hexadecimal after 0x, the last number fills what is left."""
    try:
        *first, last = (int(label, 16 if label.startswith("0x") else 8 if label.startswith("0") and label != "0" else 10)
                        for label in labels if label)
    except ValueError:
        return ""
    if any(number > 255 for number in first) or last >= 256 ** (4 - len(first)):
        return ""
    return str(IPv4Address(sum(number << (24 - 8 * at) for at, number in enumerate(first)) + last))
