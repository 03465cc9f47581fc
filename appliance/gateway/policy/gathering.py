# SPDX-License-Identifier: Apache-2.0
"""What ``policy diff`` asks both policies: test cases, operations made from everything that rules mention, recorded commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.load import Folder
from gateway.config.schema import Resource
from gateway.masking.model import MaskSet
from gateway.model import Identity, Operation
from gateway.policy.access import identity_for, subjects
from gateway.policy.cases import Readers, asked_of, believing
from gateway.policy.policy import Policy
from gateway.policy.question import Meaning, Reader, identity_of, operation_of, probes_of, recorded_by


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two folders, ready to answer. ``policy`` is without the revoked list."""

    folder: Folder
    policy: Policy
    readers: Readers

    @classmethod
    def of(cls, folder: Folder) -> Side:
        return cls(folder, believing(folder) or Policy(folder), Readers(folder))

    def has(self, subject: str) -> bool:
        return subject.startswith("group:") or subject in self.policy.identities

    def identity(self, subject: str, groups: frozenset[str]) -> Identity | None:
        """Who asks; ``None`` where this folder knows no such identity and has no people."""
        if not self.has(subject) and not (groups and any(issuer.people for issuer in self.folder.policy.issuers)):
            return None
        return identity_of(self.folder, subject, groups) if groups else identity_for(self.folder, subject)


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask. ``text`` is for the protocol's reader; ``operations`` stand in for a text that cannot be read, or is none."""

    subject: str
    resource: str
    label: str
    source: str
    text: Any = None
    operations: tuple[Operation, ...] = ()
    groups: frozenset[str] = frozenset()
    database: str | None = None

    def meaning(self, side: Side, masks: MaskSet) -> Meaning | None:
        """What it means to one side; ``None`` where nothing can say."""
        reader = side.readers.of(self.resource, self.database) if self.text is not None else None
        if self.source == "test":
            return None if reader is None else reader.read(self.text, masks)
        if reader is not None and self.text:
            meaning = _read_recorded(reader, self.text, masks)
            if meaning is not None:
                return meaning
        return Meaning(self.operations)


def _read_recorded(reader: Reader, text: Any, masks: MaskSet) -> Meaning | None:
    """A recorded text as it is, else with something in place of what was hidden in it."""
    filled = reader.filled(text)
    for attempt in (text,) if filled == text else (text, filled):
        meaning = reader.read(attempt, masks)
        if meaning.operations or not meaning.refusal:
            return meaning
    return None


def pairs(old: Side, new: Side) -> Iterator[tuple[str, str]]:
    """Every subject of either side on every resource of either."""
    names = dict.fromkeys((*subjects(old.folder), *subjects(new.folder)))
    resources = dict.fromkeys((*old.policy.resources, *new.policy.resources))
    yield from ((subject, resource) for subject in names for resource in resources)


def questions(old: Side, new: Side, records: Iterable[Mapping[str, Any]]) -> Iterator[Question]:
    """All of them; the same one may come twice."""
    yield from _cases(old)
    yield from _cases(new)
    yield from _recorded(new, old, records)
    yield from _probes(old, new)


def _cases(side: Side) -> Iterator[Question]:
    for case in side.folder.tests:
        asked = asked_of(side.folder, case)
        yield Question(case.identity, case.resource, str(asked), "test", asked, database=getattr(case, "database", None))


def _recorded(new: Side, old: Side, records: Iterable[Mapping[str, Any]]) -> Iterator[Question]:
    """The distinct inputs of the ``command.begin`` records of an export."""
    seen: set[Any] = set()
    for record in records:
        target = new.policy.resources.get(record.get("resource", "")) or old.policy.resources.get(record.get("resource", ""))
        if record.get("kind") != "command.begin" or target is None:
            continue
        groups = frozenset(str(group) for group in record.get("groups") or ())
        text = str(record.get("text") or "")
        objects = tuple(str(name) for name in record.get("objects") or ())
        verbs = tuple(str(verb) for verb in record.get("verbs") or [record.get("verb") or "empty"])
        key = (record.get("identity"), target.name, groups, text, verbs, objects)
        if key not in seen:
            seen.add(key)
            operations = tuple(operation_of(target, verb, objects) for verb in verbs if verb != "empty")
            asked = recorded_by(target, record)
            yield Question(str(record.get("identity")), target.name, text or _spelled(operations), "recorded", asked, operations, groups)


def _probes(old: Side, new: Side) -> Iterator[Question]:
    made = {name: _probes_on(old, new, target) for name, target in {**old.policy.resources, **new.policy.resources}.items()}
    for subject, resource in pairs(old, new):
        for probe in made[resource]:
            yield Question(subject, resource, _spelled((probe,)), "probe", operations=(probe,))


def _probes_on(old: Side, new: Side, target: Resource) -> tuple[Operation, ...]:
    grants = [grant for side in (old, new) for grant in side.folder.policy.grants if target.name in grant.targets]
    sides = [side for side in (old, new) if target.name in side.policy.resources]
    readers = [reader for side in sides if (reader := side.readers.of(target.name)) is not None]
    names = dict.fromkeys(name for reader in readers for name in reader.names())
    return probes_of(target, [rule.matcher[1] for grant in grants for rule in grant.rules], names)


def _spelled(operations: Iterable[Operation]) -> str:
    return "; ".join(" ".join((one.verb, *_about(one), *_without(one))) for one in operations)


def _about(operation: Operation) -> tuple[str, ...]:
    """What it is about: the text of a command where it has one, else what records name."""
    text = operation.attributes.get("text")
    return (text,) if isinstance(text, str) and text else operation.objects


def _without(operation: Operation) -> tuple[str, ...]:
    return ("without WHERE",) if operation.attributes.get("where") == "missing" else ()
