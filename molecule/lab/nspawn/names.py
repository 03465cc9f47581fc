# SPDX-License-Identifier: Apache-2.0
"""Where things are and what they are called."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


class LabError(Exception):
    """Said to the person at the terminal as it is."""


def cache_folder() -> Path:
    folder = Path(os.environ.get("LOCKGATE_LAB_CACHE", "/var/tmp/lockgate-lab"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seen = folder.lstat()
    if folder.is_symlink() or seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
        raise LabError(f"{folder}: must be a folder of this user with mode 0700")
    return folder


def safe(kind: str, name: str) -> str:
    """Names become namespaces, control groups and folders: letters, digits, - and _ only."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,30}", name):
        raise LabError(f"{kind} {name!r}: use up to 31 of a-z, 0-9, - and _")
    return name


@dataclass(frozen=True)
class Scenario:
    name: str

    @property
    def folder(self) -> Path:
        return cache_folder() / "run" / self.name

    @property
    def key(self) -> Path:
        return self.folder / "id"

    def switch_namespace(self, switch: str) -> str:
        return f"lg-{self.name}-sw-{switch}"

    def host_namespace(self, host: str) -> str:
        return f"lg-{self.name}-{host}"

    def machine(self, host: str) -> str:
        return f"lg-{self.name}-{host}".replace("_", "-")[:64]

    def host_folder(self, host: str) -> Path:
        return self.folder / host

    def hosts(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("*/host.json"))


@dataclass(frozen=True)
class Attachment:
    """One leg of a host: a switch and the host's address on it (/24)."""

    switch: str
    address: IPv4Interface

    @classmethod
    def parse(cls, switch: str, address: str) -> Attachment:
        try:
            return cls(safe("switch", switch), IPv4Interface(address if "/" in address else f"{address}/24"))
        except ValueError as error:
            raise LabError(f"address {address!r}: {error}") from None

    @property
    def controller(self) -> IPv4Interface:
        """Where the controller stands on this network: its first address."""
        return IPv4Interface(f"{self.address.network.network_address + 1}/{self.address.network.prefixlen}")
