# SPDX-License-Identifier: Apache-2.0
"""The machine's own apt settings, for another suite: no mirror is named here."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from pathlib import Path

from .command import run
from .names import LabError

APT = Path("/etc/apt")


def sources_for(suite: str) -> str:
    """Debian's stanzas and lines of this machine with their suite replaced."""
    here = platform.freedesktop_os_release()["VERSION_CODENAME"]
    stanzas = [renamed for stanza in _stanzas() if (renamed := _renamed(stanza, here, suite))]
    if not stanzas:
        raise LabError(f"no apt source of this machine speaks of {here}")
    return "\n\n".join(stanzas) + "\n"


def options() -> list[str]:
    """Proxies and date checks as this machine's apt has them."""
    lines = run("apt-config", "dump").stdout.splitlines()
    return [line for line in lines if re.match(r"Acquire::(https?::Proxy|Check-Valid-Until|Check-Date)\b", line)]


def _stanzas() -> Iterator[str]:
    for path in sorted((APT / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            yield "\n".join(line for line in stanza.splitlines() if line and not line.startswith("#"))
    for path in [APT / "sources.list", *sorted((APT / "sources.list.d").glob("*.list"))]:
        if path.exists():
            yield from (_deb822(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("deb "))


def _deb822(line: str) -> str:
    match = re.fullmatch(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)", line.strip())
    if not match:
        return ""
    signed = re.search(r"signed-by=(\S+)", match["options"] or "")
    fields = {"Types": "deb", "URIs": match["uri"], "Suites": match["suite"], "Components": match["components"]}
    if signed:
        fields["Signed-By"] = signed[1]
    return "\n".join(f"{key}: {value}" for key, value in fields.items() if value)


def _renamed(stanza: str, here: str, suite: str) -> str | None:
    suites = re.search(r"^Suites:(.*)$", stanza, re.MULTILINE)
    names = suites[1].split() if suites else []
    kept = [name.replace(here, suite, 1) for name in names if name in (here, f"{here}-updates", f"{here}-security")]
    return re.sub(r"^Suites:.*$", f"Suites: {' '.join(kept)}", stanza, flags=re.MULTILINE) if kept else None
