# SPDX-License-Identifier: Apache-2.0
"""TLS contexts: TLS 1.2 at least, no renegotiation, no compression; names as libpq's ``sslmode``."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MODES = ("verify-full", "verify-ca", "require", "disable")


def server_context(certificate: Path, key: Path, *, authorities: Iterable[bytes] = (), alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """For a listener. With ``authorities`` (DER) a client certificate is asked for and, when given, has to lead to one of them: each is
    trusted as it is, whoever signed it. Nothing is resumed then, so that every session is verified.

    Raises ``OSError`` or ``ssl.SSLError`` on unusable files.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.load_cert_chain(certificate, key, password=_no_passphrase)
    if trusted := b"".join(authorities):
        context.load_verify_locations(cadata=trusted)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def client_context(mode: str = "verify-full", ca: Path | None = None, *, own: tuple[str, str] | None = None,
                   alpn: tuple[str, ...] = ()) -> ssl.SSLContext | None:
    """Towards a target; ``None`` for ``disable``. Raises ``ValueError`` on an unknown mode.

    ``verify-full`` checks chain and name, ``verify-ca`` the chain, ``require`` nothing (it stops listeners, not impostors).
    Without ``ca`` the system's authorities count. ``own`` is our certificate chain and its key, both PEM, for a target that asks for them.
    """
    if mode not in MODES:
        raise ValueError(f"unknown TLS mode {mode!r}")
    if mode == "disable":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_NONE if mode == "require" else ssl.CERT_REQUIRED
    if ca is not None:
        context.load_verify_locations(ca)
    elif mode != "require":
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if own is not None:
        with _in_memory("\n".join(own)) as pem:
            context.load_cert_chain(pem, password=_no_passphrase)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A path under which ``ssl``, which reads keys from files alone, finds ``text``: no disk ever holds it (memfd_create(2))."""
    with os.fdopen(os.memfd_create("lockgate"), "wb") as file:
        file.write(text.encode())
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def verified_chain(session: ssl.SSLObject) -> tuple[bytes, ...]:
    """The peer's certificate and what leads from it to a trusted one, DER, as TLS verified them; empty where it showed none.

    Raises ``ssl.SSLError`` for a session that was resumed: nothing was verified in it.
    """
    if session.getpeercert(binary_form=True) is None:
        return ()
    if session.session_reused:
        raise ssl.SSLError("a session with a client certificate was resumed")
    if sys.version_info >= (3, 13):
        return tuple(session.get_verified_chain())
    inner = session._sslobj  # type: ignore[attr-defined]
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in inner.get_verified_chain() or ())


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _no_passphrase() -> str:
    raise ssl.SSLError("the key is protected by a passphrase")
