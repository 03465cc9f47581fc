# SPDX-License-Identifier: Apache-2.0
"""The configuration folder, read once and checked completely before anything is served."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cryptography.x509 import Certificate

from gateway.config import modes, references, speaks
from gateway.config.advice import advise
from gateway.config.draft import AUTHORITIES, Draft, read_cases, read_credentials, read_gateway, read_policy
from gateway.config.problem import InvalidFolder, Problem, file_name, printable
from gateway.config.schema import CertificateIssuer, GatewayConfig, PolicyFile, TestCase
from gateway.credentials import Credential
from gateway.identity.keys import KeySet


@dataclass(frozen=True, slots=True)
class Folder:
    """A checked folder. ``digest`` (``sha256:…``) covers the policy files and ``trust/``; ``key_sets`` are the pinned key sets by issuer
    name as they were checked; ``authorities`` are the issuers of kind ``certificate``, ``bundles`` their pinned certificates; ``warnings``
    is what an operator should look at but may be meant. ``path`` is the folder that was read, links to it followed; ``named`` is how it was
    asked for, and what the next reload reads."""

    path: Path
    named: Path
    gateway: GatewayConfig
    policy: PolicyFile
    credentials: Mapping[str, Credential]
    tests: tuple[TestCase, ...]
    digest: str
    key_sets: Mapping[str, KeySet] = field(default_factory=dict)
    authorities: tuple[CertificateIssuer, ...] = ()
    bundles: Mapping[str, tuple[Certificate, ...]] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    places: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def where(self, kind: str, name: str) -> str:
        """``FILE:LINE`` of a named entry (``where("grants", "ci works on orders")``); empty when there is none."""
        return self.places.get((kind, name), "")

    def resolve(self, path: str) -> Path:
        """A path as the files write it: relative to the folder that holds gateway.yaml."""
        return Path(os.path.normpath(self.path / path))

    @property
    def state(self) -> Path:
        """Where audit, recordings and replay caches live."""
        return self.resolve(self.gateway.state)


def load_folder(path: Path, *, check_modes: bool = True, need_tests: bool = False, now: float | None = None) -> Folder:
    """Read and check everything. ``need_tests`` also reads policy/tests, which serving ignores.

    Raises ``InvalidFolder`` (a ``ConfigError``) with every problem found.
    """
    named = path.absolute()
    _expect_folder(named)
    folder = named.resolve()  # all of it is read from one place, even if a link to it is switched meanwhile
    moment = time.time() if now is None else now
    draft = Draft(folder)
    try:
        return _load(draft, named, moment, check_modes=check_modes, need_tests=need_tests)
    except OSError as wrong:
        unread = Problem(printable(str(wrong.filename)), 0, "", f"expected what can be read: {wrong.strerror}")
        raise InvalidFolder([*draft.all_problems(), unread]) from None


def _expect_folder(named: Path) -> None:
    """Raises ``InvalidFolder`` where there is no gateway.yaml, or nobody lets us look."""
    try:
        missing = "" if (named / "gateway.yaml").is_file() else f"expected a configuration folder; there is no gateway.yaml in {named}"
    except OSError as wrong:
        missing = f"expected a folder that can be read: {named}: {wrong.strerror}"
    if missing:
        raise InvalidFolder([Problem("gateway.yaml", 0, "", missing)])


def _load(draft: Draft, named: Path, now: float, *, check_modes: bool, need_tests: bool) -> Folder:
    if check_modes:
        _check_modes(draft, named)
    read_gateway(draft)
    read_policy(draft)
    read_credentials(draft)
    if need_tests:
        read_cases(draft)
    key_sets = references.check(draft, now)
    if check_modes and not any(problem.file == "." for problem in draft.problems):
        _check_used(draft)
    advise(draft, now)
    problems = draft.all_problems()
    if problems or draft.gateway is None:
        raise InvalidFolder(problems)
    return _finish(draft, named, draft.gateway, key_sets)


def _finish(draft: Draft, named: Path, gateway: GatewayConfig, key_sets: Mapping[str, KeySet]) -> Folder:
    lists: dict[str, Any] = {kind: tuple(item.value for item in items) for kind, items in draft.lists.items()}
    authorities = lists.pop(AUTHORITIES)
    places = {
        (kind, item.value.name): f"{item.document.file}:{item.document.line(item.path)}"
        for kind, items in draft.lists.items() if kind != "revoked" for item in items
    }
    return Folder(
        path=draft.folder, named=named, gateway=gateway, policy=PolicyFile(**lists), credentials=MappingProxyType(draft.credentials),
        tests=tuple(item.value for item in draft.cases), digest=_digest(draft), key_sets=MappingProxyType(dict(key_sets)),
        authorities=authorities, bundles=MappingProxyType(draft.bundles), warnings=tuple(sorted(draft.warnings)),
        places=MappingProxyType(places),
    )


def _digest(draft: Draft) -> str:
    """Over name and content of every policy file (as it was parsed) and every file in trust/; tests and schemas do not take part."""
    contents = {
        name: hashlib.sha256(content).digest() for name, content in draft.contents.items()
        if name.startswith("policy/") and not name.startswith("policy/tests/")
    }
    for path in modes.files(draft.folder / "trust"):
        if path.is_file():
            with path.open("rb") as file:
                contents[file_name(draft.folder, path)] = hashlib.file_digest(file, "sha256").digest()
    whole = hashlib.sha256()
    for name, digest in sorted(contents.items()):
        whole.update(hashlib.sha256(name.encode()).digest() + digest)
    return f"sha256:{whole.hexdigest()}"


def _check_modes(draft: Draft, named: Path) -> None:
    """Ownership and modes of everything in the folder, and of the folders above it."""
    guard = modes.Guard()
    if found := guard.complaint(named):
        draft.problems.append(Problem(".", 0, "", found))
        return
    for path in modes.files(draft.folder):
        name = file_name(draft.folder, path)
        found = guard.complaint(path)
        if found is None and is_private(path, name):
            found = guard.readable(path)
        if found is not None:
            draft.problems.append(Problem(name, 0, "", found))


def is_private(path: Path, name: str) -> bool:
    """Whether nobody else may read that file or folder (``name`` is relative to the configuration folder)."""
    top = name.split("/", 1)[0]
    if top == "credentials":
        return path.name != ".gitkeep"
    return top in ("tls", "demo") and path.is_file() and _holds_key(path)


def _holds_key(path: Path) -> bool:
    """Whether the file looks like a private key, in PEM or as a JWK."""
    try:
        with path.open("rb") as file:
            start = file.read(2**16)
    except OSError:
        return True
    return b"PRIVATE KEY" in start or (path.suffix == ".json" and b'"d"' in start)


def _check_used(draft: Draft) -> None:
    """Files that the configuration names may lie elsewhere: the same holds for them, and for the state folder."""
    if draft.gateway is None:
        return
    guard = modes.Guard()
    private: dict[Path, tuple[str, ...]] = {draft.resolve(draft.gateway.audit.checkpoint.key): ("audit", "checkpoint", "key")}
    for name, listener in draft.gateway.listeners.items():
        if listener.tls is not None:
            private[draft.resolve(listener.tls.key)] = ("listeners", name, "tls", "key")
        for used in speaks.of_listener(name, listener):
            if used.private:
                private[draft.resolve(used.path)] = ("listeners", name, *map(str, used.inside))
    for path, key in private.items():
        if path.exists() and (found := guard.complaint(path) or guard.readable(path)):
            draft.main.complain(key, found)
    state = draft.resolve(draft.gateway.state)
    existing = next(place for place in (state, *state.parents) if place.exists())
    if found := guard.complaint(existing):
        draft.main.complain(("state",), found)
