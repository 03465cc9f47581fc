# SPDX-License-Identifier: Apache-2.0
"""A folder while it is being read: what is known so far, where it stands, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.x509 import Certificate

from gateway.config import keyfiles, speaks
from gateway.config.document import Document, read_document
from gateway.config.document import Path as KeyPath
from gateway.config.modes import files, walk
from gateway.config.problem import Problem, file_name
from gateway.config.schema import (
    ApprovalRule,
    CertificateIssuer,
    GatewayConfig,
    Grant,
    IdentityEntry,
    Issuer,
    Listener,
    MaskSetEntry,
    Resource,
    RevokedEntry,
    TestCase,
)
from gateway.config.validate import unknown_key, validate
from gateway.config.values import Keys
from gateway.credentials import Credential
from gateway.credentials.credential import KINDS, LATER, Key, credential, wrong_together, wrong_value

MODELS: Mapping[str, type[Keys]] = {
    "issuers": Issuer, "identities": IdentityEntry, "resources": Resource, "grants": Grant, "approvals": ApprovalRule,
    "masks": MaskSetEntry, "revoked": RevokedEntry,
}
"""The lists a policy file may have."""
AUTHORITIES = "authorities"
"""Where the issuers of kind ``certificate`` are kept: nothing that is said of tokens holds for them."""


@dataclass(frozen=True, slots=True)
class Item:
    """One checked entry, and where it stands."""

    value: Any
    document: Document
    path: KeyPath

    def complain(self, message: str, *inside: str | int) -> None:
        self.document.complain((*self.path, *inside), message)


@dataclass(slots=True)
class Draft:
    """Everything read so far. ``problems`` gathers what is wrong outside of any document."""

    folder: Path
    gateway: GatewayConfig | None = None
    main: Document = field(default_factory=lambda: Document("gateway.yaml"))
    lists: dict[str, list[Item]] = field(default_factory=lambda: {kind: [] for kind in (*MODELS, AUTHORITIES)})
    cases: list[Item] = field(default_factory=list)
    credentials: dict[str, Credential] = field(default_factory=dict)
    bundles: dict[str, tuple[Certificate, ...]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    documents: list[Document] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def resolve(self, path: str) -> Path:
        return Path(os.path.normpath(self.folder / path))

    def read(self, path: Path) -> Document:
        """One YAML file; what is wrong with it is kept."""
        name = file_name(self.folder, path)
        document = Document(name)
        try:
            self.contents[name] = keyfiles.content(path)
            document = read_document(name, self.contents[name])
        except ValueError as wrong:
            document.complain((), str(wrong))
        self.documents.append(document)
        return document

    def all_problems(self) -> list[Problem]:
        return [*self.problems, *(problem for document in self.documents for problem in document.problems)]


def read_gateway(draft: Draft) -> None:
    """gateway.yaml. Each listener has the keys its protocol gives it."""
    document = draft.main = draft.read(draft.folder / "gateway.yaml")
    if document.problems:
        return
    value = document.value if isinstance(document.value, dict) else {}
    raw = value.get("listeners")
    listeners = dict(_listeners(document, raw)) if isinstance(raw, dict) else {}
    bare = validate(GatewayConfig, value | ({"listeners": {}} if isinstance(raw, dict) else {}), document, ())
    if isinstance(raw, dict) and not raw:
        document.complain(("listeners",), "expected at least one listener")
    draft.gateway = bare.model_copy(update={"listeners": listeners}) if bare else None


def _listeners(document: Document, raw: Mapping[str, Any]) -> Iterator[tuple[str, Listener]]:
    models = {"console": Listener} | {found.protocol: found.listener for found in speaks.every()}
    for name, value in raw.items():
        path = ("listeners", name)
        if name not in models:
            document.complain(path, f"{unknown_key(name, models)}: this gateway does not speak {name!r}")
        elif listener := validate(models[name], value, document, path):
            yield name, listener


def policy_files(draft: Draft) -> list[Path]:
    """policy/**/*.yaml without policy/tests and policy/schemas. A ``.yml`` would be silently without effect: refused."""
    top = draft.folder / "policy"
    found: list[Path] = []
    for here, folders, names in walk(top):
        if here == top:
            folders[:] = [name for name in folders if name not in ("tests", "schemas")]
        for name in folders:
            if (here / name).is_symlink():
                draft.problems.append(Problem(file_name(draft.folder, here / name), 0, "", "expected a folder, not a link"))
        _refuse_yml(draft, here, names)
        found += [here / name for name in names if name.endswith(".yaml")]
    return sorted(found)


def _refuse_yml(draft: Draft, folder: Path, names: list[str]) -> None:
    for name in names:
        if name.endswith(".yml"):
            file = file_name(draft.folder, folder / name)
            draft.problems.append(Problem(file, 0, "", "expected a name that ends in .yaml: a .yml file has no effect"))


def read_policy(draft: Draft) -> None:
    """All policy files into the draft's lists."""
    for path in policy_files(draft):
        document = draft.read(path)
        if document.problems or document.value is None:
            continue
        if not isinstance(document.value, dict):
            document.complain((), "expected a mapping with " + ", ".join(MODELS))
            continue
        for key, entries in document.value.items():
            _read_list(draft, document, key, entries)


def _read_list(draft: Draft, document: Document, key: str, entries: object) -> None:
    if key not in MODELS:
        document.complain((key,), unknown_key(key, MODELS))
    elif entries is not None and not isinstance(entries, list):
        document.complain((key,), "expected a list")
    else:
        for number, entry in enumerate(entries or ()):
            value = _entry(key, entry, document, (key, number))
            if value is not None:
                kind = AUTHORITIES if isinstance(value, CertificateIssuer) else key
                draft.lists[kind].append(Item(value, document, (key, number)))
            elif isinstance(entry, dict):
                draft.broken.add(f"{key}:{entry.get('name')}")


def _entry(key: str, entry: object, document: Document, path: KeyPath) -> Keys | None:
    if key == "issuers" and isinstance(entry, dict) and entry.get("kind") == "certificate":
        return validate(CertificateIssuer, entry, document, path)
    if key != "resources" or not isinstance(entry, dict) or not isinstance(entry.get("protocol"), str):
        return validate(MODELS[key], entry, document, path)
    try:
        model = speaks.settings(entry["protocol"]).resource
    except KeyError:
        known = ", ".join(found.protocol for found in speaks.every())
        document.complain((*path, "protocol"), f"expected one of {known}: this gateway does not speak {entry['protocol']!r}")
        return None
    return validate(model, entry, document, path)


def read_credentials(draft: Draft) -> None:
    """credentials/*.yaml. No message shows a value."""
    for path in sorted(path for path in files(draft.folder / "credentials") if path.suffix in (".yaml", ".yml")):
        _refuse_yml(draft, path.parent, [path.name])
        document = draft.read(path)
        values = _credential(document)
        if values is not None:
            values = _with_files(draft, document, values)
        if values is not None and path.suffix == ".yaml" and path.parent.name == "credentials":
            draft.credentials[path.stem] = credential(path.stem, values)
        else:
            draft.broken.add(f"credentials:{path.stem}")
        draft.contents.pop(document.file, None)
        document.value = None


def _credential(document: Document) -> dict[str, Any] | None:
    values = document.value
    if document.problems:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        document.complain(("kind",), f"expected kind: one of {', '.join(KINDS)}")
    elif values["kind"] in LATER:
        document.complain(("kind",), f"expected one of {', '.join(KINDS)}: kind {values['kind']!r} is not supported yet")
    elif values["kind"] not in KINDS:
        document.complain(("kind",), f"expected one of {', '.join(KINDS)}")
    else:
        _credential_keys(document, values, KINDS[values["kind"]])
    return None if document.problems else values


def _with_files(draft: Draft, document: Document, values: dict[str, Any]) -> dict[str, Any] | None:
    """The values with the content of the PEM files that they name."""
    pem = [key for key, about in KINDS[values["kind"]].items() if about.shape == "pem" and key in values]
    found = dict(values)
    for key in pem:
        try:
            found[key] = _pem(draft, values[key])
        except ValueError as wrong:
            document.complain((key,), str(wrong))
    if pem and not document.problems:
        (_pair if "certificate" in pem else _ssh_key)(document, found)
    return None if document.problems else found


def _pem(draft: Draft, value: str) -> str:
    if "-----BEGIN " in value:
        return value
    path = draft.resolve(value) if value.isprintable() else draft.folder
    if path.parent != draft.folder / "credentials":
        raise ValueError("expected PEM text, or the path of a file in credentials/")
    try:
        return keyfiles.content(path).decode("ascii")
    except UnicodeDecodeError:
        raise ValueError(f"expected PEM text in {path}") from None


def _pair(document: Document, values: Mapping[str, str]) -> None:
    key, file = "certificate", document.file
    try:
        certificate = keyfiles.first_certificate(values["certificate"].encode(), file)
        key = "private_key"
        keyfiles.check_pair(values[key].encode(), file, certificate, "above")
    except ValueError as wrong:
        document.complain((key,), str(wrong))


def _ssh_key(document: Document, values: Mapping[str, str]) -> None:
    try:
        keyfiles.check_ssh_key(values["private_key"].encode(), document.file)
    except ValueError as wrong:
        document.complain(("private_key",), str(wrong))


def _credential_keys(document: Document, values: Mapping[str, Any], known: Mapping[str, Key]) -> None:
    for key, value in values.items():
        if key not in known and key != "kind":
            document.complain((key,), f"expected one of kind, {', '.join(known)}; there is no such key for this kind")
        elif key != "kind" and (wrong := wrong_value(known[key], value)):
            document.complain((key,), wrong)
    for key, about in known.items():
        if about.required and key not in values:
            document.complain((key,), "expected this key, which is missing")
    if not document.problems and (found := wrong_together(values)):
        document.complain((found[0],), found[1])


def read_cases(draft: Draft) -> None:
    """policy/tests/**/*.yaml."""
    for path in sorted(path for path in files(draft.folder / "policy" / "tests") if path.suffix == ".yaml"):
        document = draft.read(path)
        if document.problems or document.value is None:
            continue
        entries = document.value.get("tests") if isinstance(document.value, dict) else None
        if not isinstance(entries, list) or len(document.value) != 1:
            document.complain((), "expected `tests:` and a list of cases, and nothing else")
            continue
        for number, entry in enumerate(entries):
            _read_case(draft, document, entry, ("tests", number))


def _read_case(draft: Draft, document: Document, entry: object, path: KeyPath) -> None:
    model: type[TestCase] = TestCase
    if isinstance(entry, dict):
        protocols = {item.value.name: item.value.protocol for item in draft.lists["resources"]}
        name = entry.get("resource")
        if isinstance(name, str) and name in protocols:
            model = speaks.settings(protocols[name]).case
        elif isinstance(name, str):
            if f"resources:{name}" not in draft.broken:
                document.complain((*path, "resource"), f"expected the name of a resource; there is no {name!r}")
            return
    if (value := validate(model, entry, document, path)) is not None:
        draft.cases.append(Item(value, document, path))
