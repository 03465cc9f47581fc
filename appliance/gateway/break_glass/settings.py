# SPDX-License-Identifier: Apache-2.0
"""``break-glass.yaml``: the bounds of the console. All of it has defaults, so that the way in works with no file, or a broken one."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from pydantic import Field

from gateway.config.document import Document, read_document
from gateway.config.keyfiles import content
from gateway.config.quantities import Duration, Size
from gateway.config.validate import validate
from gateway.config.values import FilePath, Keys, Name, Text

DEFAULT_FILE = Path("/etc/lockgate-appliance/break-glass.yaml")
STATE = "/var/lib/lockgate-console"


class BreakGlass(Keys):
    """/etc/lockgate-appliance/break-glass.yaml: the break-glass console. It does not read the gateway's own folder."""

    gateway: Name | None = Field(default=None, description="The gateway's name; the console's records are of GATEWAY/console. "
                                                           "Without it the host's name.")
    segment: Name = Field(default="console", description="The segment that its records carry.")
    state: FilePath = Field(default=STATE, description="Folder of the console's log, key, recordings and reserve; root's.")
    account: Name = Field(default="breakglass", description="The account that people log in as.")
    terminals: tuple[Text, ...] = Field(
        default=("tty[0-9]*", "ttyS[0-9]*", "ttyAMA[0-9]*", "hvc[0-9]*", "console"),
        description="Terminals of the machine itself, by their names under /dev; `*` and `[…]` match.")
    max: Duration = Field(default=3600.0, ge=2, le=86400, description="Longest session.")
    idle: Duration = Field(default=900.0, ge=1, description="A session ends after this long without anything typed or shown.")
    output: Size = Field(default=64 * 2**20, ge=2**16, description="Most that one session may show and type: all of it is recorded.")
    reserve: Size = Field(default=16 * 2**20, ge=2**20, description="Size of the file given up for a session's records on a full disk.")
    retention: Duration = Field(default=400 * 86400.0, gt=0, description="Records older than this may be removed here.")

    @property
    def origin(self) -> str:
        """The name under which the console's log keeps its records."""
        return f"{self.gateway or _host()}/console"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63] or "gateway"


def load(path: Path) -> tuple[BreakGlass, str]:
    """The settings, and what is wrong with the file: then the defaults hold, and the session's record says so."""
    if not path.exists():
        return BreakGlass(), ""
    document = Document(path.name)
    found = None
    try:
        document = read_document(path.name, content(path))
        found = None if document.problems else validate(BreakGlass, document.value or {}, document, ())
    except ValueError as wrong:
        document.complain((), str(wrong))
    if found is None:
        return BreakGlass(), "; ".join(map(str, document.problems)) or "cannot be read"
    return found, ""
