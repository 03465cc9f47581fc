# SPDX-License-Identifier: Apache-2.0
"""Where a configured gateway keeps its log, and which key signs it: from gateway.yaml alone, so that it works when the rest is broken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.audit.note import load_public_key
from gateway.config.draft import Draft, read_gateway
from gateway.config.problem import InvalidFolder
from gateway.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Kept:
    """``state`` and the private key that signs checkpoints."""

    state: Path
    key: Path

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
    return Kept(draft.resolve(draft.gateway.state), draft.resolve(draft.gateway.audit.checkpoint.key))
