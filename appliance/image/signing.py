# SPDX-License-Identifier: Apache-2.0
"""OpenSSH signatures (``ssh-keygen -Y``): every Debian can check them, a key may live in an agent or on a token, and keys can be exchanged
by editing a file of allowed signers. docs/decisions/0016-image.md says why not another form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from image.commands import run

NAMESPACE = "lockgate-release"
"""A signature made for another purpose with the same key is none of ours."""

RELEASE, DEVELOPMENT = "lockgate-release", "lockgate-DEVELOPMENT-ONLY"


@dataclass(frozen=True, slots=True)
class Signer:
    """``key`` is a private key file, or the public key file of a key that the SSH agent holds."""

    key: Path
    name: str

    @property
    def public(self) -> str:
        """Type and base64 of the public key."""
        file = self.key if self.key.suffix == ".pub" else self.key.with_name(self.key.name + ".pub")
        text = file.read_text() if file.exists() else run(["ssh-keygen", "-y", "-P", "", "-f", self.key])
        return " ".join(text.split()[:2])

    @property
    def allowed(self) -> str:
        """A line for a file of allowed signers."""
        return f'{self.name} namespaces="{NAMESPACE}" {self.public}\n'

    @property
    def for_development(self) -> bool:
        return self.name == DEVELOPMENT


def signer(key: Path | None, keep: Path) -> Signer:
    """The signer with ``key``; without one, a throw-away key in ``keep`` whose name says what it is worth."""
    if key is not None:
        return Signer(key, RELEASE)
    made = keep / "DEVELOPMENT-ONLY-signing-key"
    if not made.exists():
        keep.mkdir(parents=True, exist_ok=True, mode=0o700)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", DEVELOPMENT, "-f", made])
    return Signer(made, DEVELOPMENT)


def sign(by: Signer, file: Path) -> Path:
    """``FILE.sig`` beside ``file``."""
    signature = file.with_name(file.name + ".sig")
    signature.unlink(missing_ok=True)
    run(["ssh-keygen", "-Y", "sign", "-q", "-n", NAMESPACE, "-f", by.key, file])
    return signature
