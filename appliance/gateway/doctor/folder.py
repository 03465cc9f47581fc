# SPDX-License-Identifier: Apache-2.0
"""The configuration folder: keys and how old they are, certificates and when they end, credentials, what ``check`` warns of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from gateway.config import keyfiles
from gateway.config.load import Folder
from gateway.config.problem import file_name
from gateway.doctor.finding import Check, Sign
from gateway.policy.warnings import warnings
from gateway.protocols.ssh import issuing

DAY = 86_400.0
SOON = 30 * DAY
VERY_SOON = 7 * DAY
OLD_KEY = 730 * DAY
OLD_CREDENTIAL = 365 * DAY
OLD_TRUST = 400 * DAY


@dataclass(frozen=True, slots=True)
class Papers:
    """A checked folder, looked at ``now`` (seconds since the epoch)."""

    folder: Folder
    now: float = field(default_factory=time.time)

    def name(self, path: Path) -> str:
        """Relative to the folder where it is inside of it."""
        return file_name(self.folder.path, path) if path.is_relative_to(self.folder.path) else str(path)

    def age(self, path: Path) -> float:
        """Seconds since its content changed."""
        return self.now - path.stat().st_mtime

    def certificates(self) -> Iterator[tuple[str, x509.Certificate]]:
        """Every certificate that callers or the gateway rely on, with what to call it."""
        for path in sorted(self._certificate_files()):
            yield from _numbered(self.name(path), keyfiles.content(path))
        for name, credential in self.folder.credentials.items():
            yield from _numbered(f"credential {name}", credential.certificate.encode())
        for issuer, bundle in self.folder.bundles.items():
            for one in bundle:
                yield f"issuer {issuer}, authority {one.subject.rfc4514_string()}", one

    def _certificate_files(self) -> set[Path]:
        settings, policy = self.folder.gateway, self.folder.policy
        named = [listener.tls.certificate for listener in settings.listeners.values() if listener.tls is not None]
        named += [resource.tls.ca for resource in policy.resources if resource.tls.ca is not None]
        named += [issuer.jwks_ca for issuer in policy.issuers if issuer.jwks_ca is not None]
        if settings.notify.webhook is not None and settings.notify.webhook.ca is not None:
            named.append(settings.notify.webhook.ca)
        return {self.folder.resolve(name) for name in named} | {path for path in self.folder.path.glob("tls/*.crt") if path.is_file()}

    def private_keys(self) -> Iterator[Path]:
        """Private keys of the gateway's own."""
        settings = self.folder.gateway
        yield self.folder.resolve(settings.audit.checkpoint.key)
        yield from sorted({self.folder.resolve(one.tls.key) for one in settings.listeners.values() if one.tls is not None})
        if (ssh := issuing.listener(settings)) is not None:
            yield from (self.folder.resolve(name) for name in (*ssh.host_keys, ssh.user_ca) if name is not None)

    def host_certificates(self) -> Iterator[tuple[str, SSHCertificate]]:
        """Those that the SSH listener shows."""
        ssh = issuing.listener(self.folder.gateway)
        for name in ssh.host_certificates if ssh is not None else ():
            found = load_ssh_public_identity(keyfiles.content(self.folder.resolve(name)))
            if isinstance(found, SSHCertificate):
                yield name, found


def _numbered(name: str, pem: bytes) -> Iterator[tuple[str, x509.Certificate]]:
    """The certificates of a file; none where it has none (the system's own authorities are not looked at)."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        return
    for number, one in enumerate(found):
        yield name + (f" ({number + 1})" if len(found) > 1 else ""), one


def _days(seconds: float) -> str:
    return f"{seconds / DAY:.0f} days"


def _ends(papers: Papers, least: float, most: float) -> Iterator[Sign]:
    """Certificates whose rest of life lies between the two, in seconds."""
    for name, certificate in papers.certificates():
        left = certificate.not_valid_after_utc.timestamp() - papers.now
        if least < left <= most:
            when = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            yield Sign(name, f"ended {when}" if left <= 0 else f"ends {when}, in {_days(left)}")


def _not_yet(papers: Papers) -> Iterator[Sign]:
    for name, certificate in papers.certificates():
        if certificate.not_valid_before_utc.timestamp() > papers.now:
            yield Sign(name, f"begins {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")


def _host_ends(papers: Papers) -> Iterator[Sign]:
    for name, certificate in papers.host_certificates():
        left = certificate.valid_before - papers.now
        if left <= VERY_SOON:
            yield Sign(name, "has ended" if left <= 0 else f"ends in {_days(left)}")


def _old_keys(papers: Papers) -> Iterator[Sign]:
    for path in papers.private_keys():
        if papers.age(path) > OLD_KEY:
            yield Sign(papers.name(path), f"written {_days(papers.age(path))} ago")


def _single_keys(papers: Papers) -> Iterator[Sign]:
    for issuer, keys in papers.folder.key_sets.items():
        if len(keys.keys) == 1:
            yield Sign(f"issuer {issuer}", "one key is pinned: the day the issuer signs with the next one, nobody comes in")


def _old_trust(papers: Papers) -> Iterator[Sign]:
    for issuer in papers.folder.policy.issuers:
        if issuer.jwks is not None and papers.age(path := papers.folder.resolve(issuer.jwks)) > OLD_TRUST:
            yield Sign(papers.name(path), f"written {_days(papers.age(path))} ago")


def _old_credentials(papers: Papers) -> Iterator[Sign]:
    for name in papers.folder.credentials:
        path = papers.folder.path / "credentials" / f"{name}.yaml"
        if path.is_file() and papers.age(path) > OLD_CREDENTIAL:
            yield Sign(papers.name(path), f"written {_days(papers.age(path))} ago")


def _unverified(papers: Papers) -> Iterator[Sign]:
    for resource in papers.folder.policy.resources:
        if resource.tls.mode == "require":
            yield Sign(f"resource {resource.name}", "tls.mode is require: whoever answers at that address is believed and given the login")


def _warned(papers: Papers) -> Iterator[Sign]:
    for problem in (*papers.folder.warnings, *warnings(papers.folder)):
        where = f"{problem.file}:{problem.line}" if problem.line else problem.file
        yield Sign(where, f"{problem.key}: {problem.message}" if problem.key else problem.message)


def _left_keys(papers: Papers) -> Iterator[Sign]:
    """A key that signs certificates is not needed to serve; neither are the demo's keys."""
    for path in (papers.folder.path / "tls" / "ca.key", *sorted((papers.folder.path / "demo").glob("*"))):
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes()[:4096]:
            yield Sign(papers.name(path), "a private key that serving does not need")


CHECKS: tuple[Check[Papers], ...] = (
    Check("certificate.expired", "high", "A certificate has ended.",
          "Renew it; `lockgate reload` is not enough for a listener's own: restart.", lambda papers: _ends(papers, float("-inf"), 0)),
    Check("certificate.early", "high", "A certificate is not valid yet.",
          "Look at the clock of this machine, and of the one that made it.", _not_yet),
    Check("certificate.ends-now", "high", "A certificate ends within 7 days.", "Renew it now.",
          lambda papers: _ends(papers, 0, VERY_SOON)),
    Check("certificate.ends-soon", "medium", "A certificate ends within 30 days.", "Renew it.",
          lambda papers: _ends(papers, VERY_SOON, SOON)),
    Check("ssh.host-certificate", "high", "A host certificate of the SSH listener has ended, or ends within 7 days.",
          "Have it signed anew by your host CA and reload: without it, callers who trust the CA alone are asked about an unknown key.",
          _host_ends),
    Check("tls.unverified", "medium", "A target's certificate is not checked.", "Give `tls: {mode: verify-full, ca: FILE}`.", _unverified),
    Check("issuer.one-key", "low", "An issuer has one pinned key.",
          "Pin the next key beside it before the issuer changes over; keep the previous one until its tokens have ended.", _single_keys),
    Check("issuer.old-keys", "low", "An issuer's pinned keys have not changed for 400 days.",
          "Compare them with what the issuer publishes.", _old_trust),
    Check("key.old", "low", "A private key of this gateway is older than two years.",
          "Make a new one; keep the public half of the audit key, which old records are verified with.", _old_keys),
    Check("key.needless", "low", "A private key lies here that serving does not need.", "Take it off this machine.", _left_keys),
    Check("credential.old", "low", "A credential has not changed for a year.", "Change it on the target and here.", _old_credentials),
    Check("policy.warning", "low", "`lockgate check` warns of it.", "Mend it, or leave it if it is meant.", _warned),
)
"""What is looked at in the configuration folder. That it is valid, and its modes, `check` and `serve` insist on."""
