# SPDX-License-Identifier: Apache-2.0
"""The program ``firstboot``; see its own file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import segment, sources
from .policy import CONFIG, FirstPolicy
from .store import Store, encrypt
from .told import Told, Wrong, credentials, parse, password_hash


def main(words: Sequence[str], usage: str) -> int:
    """0 done, 1 something is wrong: then the gateway stays closed."""
    verbs = {"take": take, "policy": policy, "status": status}
    try:
        if len(words) == 2 and words[0] == "pack":
            sys.stdout.buffer.write(segment.pack(Path(words[1])))
            return 0
        if len(words) != 1 or words[0] not in verbs:
            sys.stderr.write(usage)
            return 2
        return verbs[words[0]]()
    except (Wrong, OSError) as wrong:
        say(f"STAYS CLOSED: {wrong}")
        return 1


def say(text: str) -> None:
    """On the console and in the journal; nothing in it moves a cursor."""
    shown = "".join(char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text)
    sys.stdout.write(f"lockgate first boot: {shown}\n")
    sys.stdout.flush()


def take() -> int:
    """Once: listen and keep. At every boot: make /etc from what was kept."""
    store = Store()
    told = store.told()
    if told is None:
        where, given = sources.found(os.environ)
        if not given:
            say("nothing was told (no credential lockgate.firstboot, no config drive); management stays closed")
            store.set_password()  # a playbook may have left one
            return 0
        told = _kept(store, given)
        say(f"{told.name} in segment {told.segment}, told by {where}")
    store.render(told)
    store.set_password()
    return 0


def _kept(store: Store, given: dict[str, bytes]) -> Told:
    """All of it is checked before any of it is kept. Raises ``Wrong``."""
    told = parse(given[sources.FIRSTBOOT])
    files = segment.unpack(given[sources.SEGMENT]) if sources.SEGMENT in given else {}
    secrets = credentials(given[sources.SECRETS]) if sources.SECRETS in given else {}
    secret = password_hash(given[sources.BREAK_GLASS]) if sources.BREAK_GLASS in given else ""
    for name, content in secrets.items():
        encrypt(f"credentials.{name}.yaml", content)
    store.keep(told, files, secret)
    return told


def policy() -> int:
    """Put the first policy in force, where there is one and nothing is in force yet."""
    store = Store()
    told = store.told()
    if told is None or not store.policy.is_dir() or (CONFIG / "current").is_symlink():
        return 0
    files = {path.relative_to(store.policy).as_posix(): path.read_bytes() for path in sorted(store.policy.rglob("*")) if path.is_file()}
    say(FirstPolicy(told, files).put_in_force())
    return 0


def status() -> int:
    store = Store()
    told = store.told()
    if told is None:
        say("nothing was told yet")
        return 1
    say(f"{told.name} in segment {told.segment}; forget it with: rm {store.marker}, then restart")
    return 0
