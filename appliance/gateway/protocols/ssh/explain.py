# SPDX-License-Identifier: Apache-2.0
"""What a request would mean on an SSH resource, without sending it. Everything is known from the text: no target is asked.

Where links on the target lead cannot be known here: a path is decided as it is written.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from gateway.config.load import Folder
from gateway.config.schema import Resource
from gateway.errors import ConfigError
from gateway.masking.model import MaskSet
from gateway.model import Operation
from gateway.policy.question import Meaning, rule_text
from gateway.protocols.ssh import patterns, understand
from gateway.protocols.ssh.operations import ACTIONS, COMMANDS, FILES, FORWARDS
from gateway.protocols.ssh.settings import BARE, PAIRS, PROGRAMS, SshResource
from gateway.protocols.ssh.understand import Understood
from gateway.protocols.ssh.words import ONE, STAR

HIDDEN = "****"
NOTE = "links on the target are not followed here"
_PROBE = "lockgate-probe"


@dataclass(frozen=True, slots=True)
class SshReader:
    """Understands what is asked of one resource: a command's text, or one action and what it is about, as test cases write it."""

    resource: SshResource

    def read(self, asked: Any, masks: MaskSet) -> Meaning:
        given = {"exec": asked} if isinstance(asked, str) else dict(asked)
        login = given.get("login", self.resource.logins[0])
        understood = meant(given)
        refusal = understood.refusal
        if login not in self.resource.logins:
            refusal = f"{self.resource.name} does not offer the login {login!r}; it offers: {', '.join(self.resource.logins)}"
        verbs = {one.verb for one in understood.operations}
        detectors = sorted(masks.detect.items()) if verbs & {"exec", "shell", "restricted-shell"} else []
        shown = {name: rule_text(rule) for name, rule in detectors}
        return Meaning(understood.operations, shown, refusal=refusal, notes=(NOTE,) if verbs & FILES else ())

    def filled(self, text: Any) -> Any:
        """Hidden values as a word that is none of the shell's."""
        if isinstance(text, Mapping):
            return {key: self.filled(value) for key, value in text.items()}
        return text.replace(HIDDEN, "x") if isinstance(text, str) else text

    def names(self) -> Iterable[str]:
        return ()


def reader(folder: Folder, resource: Resource, database: str | None = None) -> SshReader:
    """The reader of a resource. Raises ``ConfigError``."""
    if not isinstance(resource, SshResource):
        raise ConfigError(f"{resource.name} is no SSH resource")
    if database is not None:
        raise ConfigError(f"{resource.name} speaks SSH: there are no databases, there are --login and --action")
    return SshReader(resource)


def asked(action: str | None, texts: Sequence[str], *, login: str | None, pty: bool) -> dict[str, Any]:
    """What a command line asks, as test cases write it; a variable may come with the command that it is for. Raises ``ConfigError``."""
    name = action or "exec"
    if name not in ACTIONS:
        raise ConfigError(f"--action: expected one of {', '.join(ACTIONS)}")
    wanted = 0 if name in BARE else 2 if name in PAIRS else 1
    if name == "env" and len(texts) == 2:
        return asked("exec", texts[1:], login=login, pty=pty) | {"env": texts[0]}
    if len(texts) != wanted:
        raise ConfigError(f"--action {name} takes {('no text', 'one text', PAIRS.get(name, ''))[wanted]}")
    about: Any = True if name in BARE else list(texts) if name in PAIRS else texts[0]
    return {name: about} | ({"login": login} if login is not None else {}) | ({"pty": True} if pty else {})


def recorded(record: Mapping[str, Any]) -> Any:
    """What a ``command.begin`` record asks, as test cases write it; ``None`` where its text is not enough."""
    verb, objects = str(record.get("verb") or ""), [str(one) for one in record.get("objects") or ()]
    if verb == "exec" and record.get("text"):
        return {"exec": str(record["text"])}
    if verb in BARE:
        return {verb: True}
    if verb in PAIRS or verb not in ACTIONS or verb in ("exec", "env") or not objects:
        return None
    return {verb: objects[0]}


def meant(given: Mapping[str, Any]) -> Understood:
    """What a test case's mapping asks."""
    pty = bool(given.get("pty", False))
    if "env" in given:
        name, _, value = given["env"].partition("=")
        rest = {key: value for key, value in given.items() if key in PROGRAMS} or {"shell": True}
        return Understood(understand.env_request(name, value, meant(rest | {"pty": pty})))
    action = next(key for key in given if key in ACTIONS)
    return _MEANT[action](given[action], pty)


def _files(verb: str) -> Callable[[Any, bool], Understood]:
    return lambda path, pty: _located(understand.file_request(verb, path))


def _located(operations: tuple[Operation, ...]) -> Understood:
    unknown = any(one.attributes["path"] == "" for one in operations)
    return Understood(operations, refusal="expected an absolute path: what it is relative to, the target alone knows" if unknown else "")


def _forward(kind: Any) -> Callable[[Any, bool], Understood]:
    return lambda to, pty: understand.forward_request(kind, "" if to is True else to)


_MEANT: Mapping[str, Callable[[Any, bool], Understood]] = {
    **{verb: _files(verb) for verb in FILES}, **{kind: _forward(kind) for kind in (*FORWARDS, "agent", "x11")},
    "exec": lambda text, pty: understand.exec_request(text, pty=pty),
    "shell": lambda value, pty: understand.shell_request(pty=pty),
    "restricted-shell": lambda value, pty: understand.restricted_request(pty=pty),
    "subsystem": lambda name, pty: understand.subsystem_request(name),
    "rename": lambda pair, pty: _located(understand.rename_request(*pair)),
    "symlink": lambda pair, pty: _located(understand.symlink_request(*pair)),
}


# --- what rules and records speak about ---


def operation(verb: str, objects: tuple[str, ...]) -> Operation:
    """An operation as far as a record shows it."""
    if verb in FILES:
        return understand.file_request(verb, objects[0] if objects else "")[0]
    if verb in FORWARDS:
        return Operation("ssh", verb, objects, {"to": objects[0] if objects else ""})
    if verb == "subsystem" and objects:
        return understand.subsystem_request(objects[0]).operations[0]
    if verb == "exec":
        return Operation("ssh", verb, objects, {"words": objects, "text": " ".join(objects), "complex": "", "pty": False})
    if verb == "env":
        return Operation("ssh", verb, objects, {"name": objects[0] if objects else "", "program": "shell"})
    return Operation("ssh", verb, objects, {"pty": False} if verb in COMMANDS else {})


def probes(bodies: Iterable[Mapping[str, Any]], names: Iterable[str] = ()) -> Iterator[Operation]:
    """Operations that tell rules with these matchers apart: for each action a rule speaks of, what its own patterns cover, and what nothing
    covers."""
    made: dict[str, Operation] = {}
    for body in bodies:
        for action in _entries(body, "actions") or _implied(body):
            for one in _probes(action, body):
                made.setdefault(repr(one), one)
    yield from made.values()


def _entries(body: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = body.get(key, ())
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _implied(body: Mapping[str, Any]) -> Iterable[str]:
    if {"command", "text"} & set(body):
        return ("exec", *(("env",) if "env" in body else ()))
    if "paths" in body:
        return sorted(FILES)
    if "to" in body:
        return sorted(FORWARDS)
    return ("env",) if "env" in body else ACTIONS


def _probes(action: str, body: Mapping[str, Any]) -> Iterator[Operation]:
    if action in COMMANDS:
        programs = list(_programs(action, body))
        yield from programs
        yield from (one for program in programs for one in _variables(body, program))
    elif action == "env":
        yield from (one for kind in PROGRAMS for program in _programs(kind, body) for one in _variables(body, program))
    elif action in FILES:
        yield from _paths(action, body)
    elif action in FORWARDS:
        places = dict.fromkeys((*map(_place, _entries(body, "to")), "lockgate.probe:1"))
        yield from (Operation("ssh", action, (to,), {"to": to}) for to in places)
    else:
        yield Operation("ssh", action)


def _programs(action: str, body: Mapping[str, Any]) -> Iterator[Operation]:
    for pty in (False, True):
        if action == "exec":
            texts = (*_entries(body, "text"), *map(_command, _entries(body, "command")), _PROBE)
            yield from (one for text in texts for one in understand.exec_request(text, pty=pty).operations)
        elif action == "subsystem":
            for name in (*_entries(body, "command"), _PROBE, understand.SFTP):
                yield from understand.subsystem_request(_filled(name)).operations
        else:
            yield Operation("ssh", action, (), {"pty": pty})


def _variables(body: Mapping[str, Any], program: Operation) -> Iterator[Operation]:
    for name in (_filled(entry) for entry in _entries(body, "env")):
        yield from understand.env_request(name, "", Understood((program,)))


def _paths(action: str, body: Mapping[str, Any]) -> Iterator[Operation]:
    for path in dict.fromkeys((*map(_filled, _entries(body, "paths")), f"/{_PROBE}")):
        for known, tree in product((path, path.rpartition("/")[0] or "/"), (False, True)):
            yield Operation("ssh", action, (known,), {"path": known} | ({"tree": True} if tree else {}))


def _filled(pattern: str) -> str:
    return pattern.replace("*", "x").replace("?", "x")


def _command(pattern: str) -> str:
    """A command that a pattern matches."""
    try:
        return shlex.join(word.replace(STAR, "x").replace(ONE, "x") for word in patterns.command(pattern).words)
    except ValueError:
        return _PROBE


def _place(pattern: str) -> str:
    if pattern.startswith("unix:"):
        return _filled(pattern)
    host, _, port = pattern.rpartition(":")
    return f"{host.lower().replace('*', '1').replace('?', '1')}:{port.replace('*', '1').partition('-')[0]}"
