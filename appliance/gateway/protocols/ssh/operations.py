# SPDX-License-Identifier: Apache-2.0
"""The ``ssh:`` matcher: keys ``actions``, ``command``, ``text``, ``pty``, ``env``, ``paths``, ``to`` (contract section 2).

An operation's verb is its action. Attributes that are looked at: ``words`` (of one simple command, path-like arguments normal), ``text``
(the whole command), ``complex`` (why it is no list of simple commands; ``""`` where it is one), ``pty``, ``path`` (normal; ``""``:
unknown), ``tree`` (everything below the path too), ``to`` (``host:port``, ``unix:/path``), ``name`` and ``program`` (a variable, and the
action it is meant for), ``free`` (needs no allow rule).

Allow and approve rules match what was understood and no more. Deny rules are as wide as they can be: they match what may be meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.model import Operation
from gateway.protocols import Matcher, Protocol
from gateway.protocols.ssh import patterns

COMMANDS = frozenset({"exec", "shell", "restricted-shell", "subsystem"})
FILES = frozenset({"read", "write", "list", "stat", "rename", "remove", "mkdir", "setattr", "symlink"})
FORWARDS = frozenset({"forward-local", "forward-remote", "forward-socket"})
ACTIONS: Mapping[str, str] = {
    "exec": "a command; each simple command of a list by itself",
    "shell": "an interactive shell; what is typed there is not decided",
    "restricted-shell": "a shell of the gateway: each line is an `exec` of its own",
    "subsystem": "a subsystem other than `sftp`, by its name in `command`",
    "read": "what is in a file, by sftp, scp or rsync",
    "write": "making a file and writing to it",
    "list": "the names in a folder",
    "stat": "size, owner, mode and times; where a link leads",
    "rename": "both names of a file that gets another one",
    "remove": "removing a file or folder",
    "mkdir": "making a folder",
    "setattr": "changing size, owner, mode and times",
    "symlink": "making a symbolic or hard link; what it leads to needs `read` and `write`",
    "env": "a variable of the environment, by its name in `env`",
    "forward-local": "a connection from the target to `to` (`ssh -L`, `-D`, `-W`, `-J`)",
    "forward-remote": "listening on the target at `to` (`ssh -R`)",
    "forward-socket": "a UNIX socket `unix:/path`, to connect to or to listen on",
    "agent": "the caller's agent",
    "x11": "the caller's display",
}
"""Every action there is, with what it is."""

FREE_VARIABLES = ("LANG", "LC_*", "TZ")
DANGEROUS = (
    "LD_*", "DYLD_*", "PATH", "IFS", "ENV", "BASH_*", "BASHOPTS", "SHELLOPTS", "SHELL", "HOME", "PS4", "PROMPT_COMMAND", "CDPATH", "FPATH",
    "ZDOTDIR", "PYTHON*", "PERL*", "RUBY*", "NODE_*", "JAVA*", "JDK_*", "_JAVA_*", "CLASSPATH", "GIT_*", "RSYNC_*", "SSH_*", "EDITOR",
    "VISUAL", "PAGER", "LESS*", "MORE", "MAN*", "TERM*", "GCONV_PATH", "LOCPATH", "NLSPATH", "HOSTALIASES", "RES_OPTIONS", "LOCALDOMAIN",
    "MALLOC_*", "GLIBC_TUNABLES", "TMPDIR", "XDG_*", "DBUS_*", "SUDO_*", "SYSTEMD_*", "http_proxy", "https_proxy", "all_proxy")
"""Variables that make programs load, run or trust something else: an allow names them in full, no glob covers them."""

SPEAKS: Mapping[str, frozenset[str]] = {
    "command": frozenset({"exec", "subsystem", "env"}), "text": frozenset({"exec", "env"}), "pty": COMMANDS - {"subsystem"} | {"env"},
    "env": COMMANDS | {"env"}, "paths": FILES, "to": FORWARDS,
}
"""The actions that have what a key looks at."""
KEYS = ("actions", *SPEAKS)
_Test = Callable[[Operation], bool]
_dangerous = [patterns.name(entry) for entry in DANGEROUS]
_free = [patterns.name(entry) for entry in FREE_VARIABLES]


def free_variable(name: str) -> bool:
    """Whether a variable of that name needs no rule: ``LANG``, ``LC_*``, ``TZ``."""
    return any(test(name) for test in _free)


def compile_matcher(spec: Mapping[str, Any], effect: str) -> Matcher:
    """A predicate on one operation. ``effect`` is allow, approve or deny. Raises ``ValueError`` saying what is wrong."""
    for key in spec:
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, n=1)
            raise ValueError(f"unknown key {key!r}: expected one of {', '.join(KEYS)}" + (f"; did you mean {close[0]!r}?" if close else ""))
    entries = {key: _entries(spec, key) for key in spec if key != "pty"}
    actions = _actions(entries["actions"], spec) if "actions" in spec else None
    denying = effect == "deny"
    tests: list[_Test] = [_verb(actions, "env" in spec, denying), _needs_a_rule(actions, spec), _commands(entries, actions, effect)]
    if "pty" in spec:
        tests.append(_pty(spec["pty"]))
    if "env" in spec:
        tests.append(_variables(entries["env"], denying))
    if "paths" in spec:
        tests.append(_paths(entries["paths"], denying))
    if "to" in spec:
        tests.append(_destinations(entries["to"], denying))
    return lambda operation: all(test(operation) for test in tests)


def _entries(spec: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = spec[key]
    entries = (value,) if isinstance(value, str) else value
    if not isinstance(entries, Sequence) or not entries or not all(isinstance(entry, str) and entry for entry in entries):
        raise ValueError(f"{key}: expected text or a list of texts, not empty")
    return tuple(entries)


def _actions(entries: tuple[str, ...], spec: Mapping[str, Any]) -> frozenset[str]:
    for entry in entries:
        if entry not in ACTIONS:
            close = difflib.get_close_matches(entry, ACTIONS, n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"actions: expected actions of the published table; there is no {entry!r}{hint}")
        for key in spec:
            if key != "actions" and entry not in SPEAKS[key]:
                known = ", ".join(action for action in ACTIONS if action in SPEAKS[key])
                raise ValueError(f"actions: expected a rule of its own for {entry}: it has nothing that `{key}` looks at ({known} have)")
    return frozenset(entries)


def _verb(actions: frozenset[str] | None, variables: bool, denying: bool) -> _Test:
    """A rule with ``env`` speaks of the variables of its actions' programs; without, of variables only where it names the action."""
    def test(operation: Operation) -> bool:
        if operation.verb != "env":
            return actions is None or operation.verb in actions
        if actions is None:
            return variables or denying
        return "env" in actions or (variables and operation.attributes.get("program") in actions)

    return test


def _needs_a_rule(actions: frozenset[str] | None, spec: Mapping[str, Any]) -> _Test:
    """What needs no rule is matched only by rules that speak of it."""
    speaks_of = (actions or frozenset()) | ({"env"} if "env" in spec else set())
    return lambda operation: not operation.attributes.get("free") or operation.verb in speaks_of


# --- commands ---


def _commands(entries: Mapping[str, tuple[str, ...]], actions: frozenset[str] | None, effect: str) -> _Test:
    tests: list[_Test] = []
    if "text" in entries:
        texts = frozenset(entries["text"])
        tests.append(lambda operation: operation.attributes.get("text") in texts)
    if "command" in entries:
        tests.append(_words(_compile("command", entries["command"], patterns.command), effect))
    if not tests and effect != "deny":
        by_name = actions is not None and "env" in actions
        tests.append(lambda operation: not operation.attributes.get("complex") or (by_name and operation.verb == "env"))
    return lambda operation: all(test(operation) for test in tests)


def _words(compiled: list[patterns.CommandPattern], effect: str) -> _Test:
    def test(operation: Operation) -> bool:
        words, text = operation.attributes.get("words"), operation.attributes.get("text")
        if operation.attributes.get("complex"):
            return effect == "deny" and any(pattern.mentioned(str(text)) for pattern in compiled)
        if not isinstance(words, tuple) or not words:
            return False
        how = {"deny": patterns.CommandPattern.meets, "approve": patterns.CommandPattern.named}.get(effect, patterns.CommandPattern.matches)
        return any(how(pattern, words) for pattern in compiled)

    return test


def _pty(wanted: Any) -> _Test:
    if not isinstance(wanted, bool):
        raise ValueError("pty: expected true or false")
    return lambda operation: operation.attributes.get("pty") is wanted


def _variables(entries: tuple[str, ...], denying: bool) -> _Test:
    """A deny speaks of the variable alone; an allow or approve also of the program that may have it."""
    compiled = _compile("env", entries, patterns.name)
    exact = frozenset(entries)
    if not denying and (idle := [entry for entry in entries if _covers_nothing(entry)]):
        raise ValueError(f"env: expected such variables named in full: {idle[0]!r} gives none, programs load or trust what is in them")

    def test(operation: Operation) -> bool:
        if operation.verb != "env":
            return not denying and operation.verb in COMMANDS
        name = str(operation.attributes.get("name"))
        if not name or name in exact:
            return denying or bool(name)
        return (denying or not any(one(name) for one in _dangerous)) and any(pattern(name) for pattern in compiled)

    return test


def _covers_nothing(entry: str) -> bool:
    """Whether every name that a glob covers is one that has to be named in full."""
    return not {"*", "?"}.isdisjoint(entry) and any(family.endswith("*") and entry.startswith(family[:-1]) for family in DANGEROUS)


# --- files and forwards ---


def _paths(entries: tuple[str, ...], denying: bool) -> _Test:
    """Of a folder with all that is below it: an allow has to cover all of it, a deny meets it by any part."""
    compiled = _compile("paths", entries, patterns.path)

    def test(operation: Operation) -> bool:
        path, tree = operation.attributes.get("path"), operation.attributes.get("tree")
        if not isinstance(path, str) or not path:
            return denying and path == ""
        if tree and denying:
            return any(pattern.matches(path) or pattern.meets(path) for pattern in compiled)
        return any(pattern.covers(path) if tree else pattern.matches(path) for pattern in compiled)

    return test


def _destinations(entries: tuple[str, ...], denying: bool) -> _Test:
    compiled = _compile("to", entries, patterns.destination)

    def test(operation: Operation) -> bool:
        to = operation.attributes.get("to")
        if not isinstance(to, str) or not to:
            return denying and to == ""
        return any(pattern(to) for pattern in compiled)

    return test


def _compile(key: str, entries: tuple[str, ...], make: Callable[[str], Any]) -> list[Any]:
    try:
        return [make(entry) for entry in entries]
    except ValueError as wrong:
        raise ValueError(f"{key}: {wrong}") from None


PROTOCOL = Protocol(name="ssh", matcher="ssh", compile_matcher=compile_matcher)
