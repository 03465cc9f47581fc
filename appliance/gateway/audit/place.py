# SPDX-License-Identifier: Apache-2.0
"""Where a configured gateway keeps its log, and which key signs it: from gateway.yaml alone, so that it works when the rest is broken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.audit.note import load_public_key
from gateway.config.draft import Draft, read_gateway
from gateway.config.problem import InvalidFolder
from gateway.errors import ConfigError

CONSOLE_KEY = "audit_ed25519_key.pub"
"""The public key of the break-glass console's log, in its folder."""


@dataclass(frozen=True, slots=True)
class Kept:
    """``state`` and the private key that signs checkpoints; ``console`` is where the break-glass console keeps a log of its own."""

    state: Path
    key: Path
    console: Path | None = None

    @property
    def logs(self) -> list[Path]:
        """Every folder with a log; the console's once there is one."""
        console = self.console / "audit" if self.console is not None else None
        return [self.state / "audit", *([console] if console is not None and _exists(console) else [])]

    def public_keys(self) -> tuple[bytes, ...]:
        """Those that may sign here: the gateway's, and the console's once it has one. Raises ``ConfigError``."""
        console = self.console / CONSOLE_KEY if self.console is not None else None
        return (self.public_key(), *([load_public_key(console)] if console is not None and _exists(console) else []))

    def public_key(self) -> bytes:
        """The 32 bytes of the public key: of the file ``KEY.pub`` where the private one may not be read. Raises ``ConfigError``."""
        public = self.key.with_name(self.key.name + ".pub")
        try:
            return load_public_key(self.key)
        except ConfigError:
            if not public.is_file():
                raise
            return load_public_key(public)


def kept(config: Path) -> Kept:
    """Read gateway.yaml. Raises ``InvalidFolder`` (a ``ConfigError``)."""
    draft = Draft(config.absolute())
    read_gateway(draft)
    if draft.gateway is None:
        raise InvalidFolder(draft.all_problems())
    audit = draft.gateway.audit
    console = draft.resolve(audit.console) if audit.console is not None else None
    return Kept(draft.resolve(draft.gateway.state), draft.resolve(audit.checkpoint.key), console)


def _exists(path: Path) -> bool:
    """What may not be looked at counts as there: whoever reads it will say so."""
    try:
        return path.exists()
    except PermissionError:
        return True
