# SPDX-License-Identifier: Apache-2.0
"""Patterns of rules: commands, paths, names of variables, destinations. All of them match in time linear in what they look at (RE2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import re2

from gateway.protocols.ssh import hostnames
from gateway.protocols.ssh.paths import arguments, climbs, normal
from gateway.protocols.ssh.words import ONE, STAR, split

LONGEST = 4096
_PIECE = re.compile(f"(/{STAR}{STAR}/|/{STAR}{STAR}$|{STAR}{STAR}+|{STAR}|{ONE})")
_GLOBS = {STAR: "[^/]*", ONE: "[^/]", f"/{STAR}{STAR}/": "/(?:.*/)?", f"/{STAR}{STAR}": "(?:/.*)?"}
DIRECTORIES = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")
"""Where a system keeps its programs."""
RUNNERS = frozenset({
    "sudo", "doas", "su", "pkexec", "runuser", "setpriv", "env", "command", "builtin", "exec", "eval", "nohup", "nice", "ionice", "time",
    "timeout", "setsid", "stdbuf", "unbuffer", "busybox", "toybox", "xargs", "parallel", "find", "watch", "chroot", "unshare", "nsenter",
    "systemd-run", "flock", "strace", "ltrace", "script", "ssh", "taskset", "chrt", "numactl", "prlimit", "firejail", "setarch", "linux32",
    "linux64"})
"""Programs that run what their arguments name."""


def _regex(marked: str) -> str:
    """A text with ``STAR`` and ``ONE`` as a regular expression."""
    if marked == f"/{STAR}{STAR}":
        return "/.*"
    return "".join(_GLOBS.get(part) or (".*" if part.startswith(STAR) else re2.escape(part)) for part in _PIECE.split(marked) if part)


@lru_cache(maxsize=4096)
def _compiled(marked: str) -> Callable[[str], bool]:
    if STAR not in marked and ONE not in marked:
        return marked.__eq__
    if len(marked) > LONGEST:
        raise ValueError(f"expected a pattern of at most {LONGEST} characters")
    found = re2.compile(f"(?s){_regex(marked)}")
    return lambda text: found.fullmatch(_sound(text)) is not None


def _sound(text: str) -> str:
    """Bytes of a file name that are no UTF-8 (PEP 383) as characters of the last private plane: expressions take no surrogates."""
    return text if text.isascii() else "".join(chr(0x102000 + ord(one)) if "\ud800" <= one <= "\udfff" else one for one in text)


def _marked(text: str) -> str:
    """A pattern that is no command: every ``*`` and ``?`` is a glob."""
    return text.replace("*", STAR).replace("?", ONE)


# --- commands ---


@dataclass(frozen=True, slots=True)
class CommandPattern:
    """One simple command: a pattern for each of its words; ``rest``: any further ones may follow (a trailing `` *``)."""

    words: tuple[str, ...]
    rest: bool

    def matches(self, words: Sequence[str]) -> bool:
        """Whether it matches the words of a command, path-like ones in their normal form."""
        return self._fits(words) and all(map(_word, self.words, words))

    def meets(self, words: Sequence[str]) -> bool:
        """As ``matches``, wider, for rules that deny: whatever folder the program is named in, behind a program that runs others, and where
        an argument climbs in a way that cannot be followed."""
        starts = range(len(words)) if _base(words[0]) in RUNNERS else (0,)
        return any(self._names(words[start]) and self._meets(words[start:]) for start in starts)

    def named(self, words: Sequence[str]) -> bool:
        """As ``matches``, also for a program named by its path in one of a system's ``DIRECTORIES``, for rules that ask for approval."""
        if self.matches(words):
            return True
        folder, _, name = words[0].rpartition("/")
        return folder in DIRECTORIES and self.matches((name, *words[1:]))

    def mentioned(self, text: str) -> bool:
        """Whether a text that could not be split may run it: its program's name stands in there, quotes and backslashes left out."""
        name = _base(self.words[0])
        bare = re.sub(r"[\\'\"]", "", text)
        return STAR in name or ONE in name or re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", bare) is not None

    def _fits(self, words: Sequence[str]) -> bool:
        return len(words) >= len(self.words) if self.rest else len(words) == len(self.words)

    def _meets(self, words: Sequence[str]) -> bool:
        return self._fits(words) and all(map(_may_be, self.words[1:], words[1:]))

    def _names(self, program: str) -> bool:
        first = self.words[0]
        return _word(first, program) or ("/" not in first and _word(first, _base(program)))


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _word(pattern: str, word: str) -> bool:
    """No glob but ``**`` alone covers a ``..`` that is left: nobody knows where it leads."""
    return _compiled(pattern)(word) and (word == pattern or pattern == STAR * 2 or not climbs(word))


def _may_be(pattern: str, word: str) -> bool:
    if climbs(word):
        return "/" in pattern or STAR in pattern or ONE in pattern or pattern == word
    return _word(pattern, word)


def command(text: str) -> CommandPattern:
    """A pattern as rules write it. Raises ``ValueError``."""
    line = split(text, globs=True)
    if line.complex:
        raise ValueError(f"expected the pattern of a simple command; {text!r} has {line.complex}: quote it, or give the exact `text`")
    if len(line.commands) > 1:
        raise ValueError(f"expected one simple command: each command of a list is matched by itself, {text!r} has several")
    words = arguments(line.commands[0])
    if any(climbs(word) and (STAR in word or ONE in word) for word in words):
        raise ValueError(f"expected a pattern without `..` beside its globs, not {text!r}")
    rest = len(words) > 1 and words[-1] == STAR
    made = CommandPattern(words[:-1] if rest else words, rest)
    for word in made.words:
        _compiled(word)
    return made


# --- paths ---


@dataclass(frozen=True, slots=True)
class PathPattern:
    """Absolute paths. ``*`` does not cross ``/``, ``**`` does; ``/dir/**`` matches ``/dir`` too."""

    marked: str

    def matches(self, path: str) -> bool:
        return _compiled(self.marked)(path)

    def covers(self, path: str) -> bool:
        """Whether it matches a folder and all there can be below it."""
        return self.marked.endswith(STAR * 2) and self.matches(path)

    def meets(self, path: str) -> bool:
        """Whether it may match a folder or something below it."""
        mine, theirs = self.marked.split("/"), path.rstrip("/").split("/")
        for part, other in zip(mine, theirs, strict=False):
            if STAR * 2 in part:
                return True
            if not _compiled(part)(other):
                return False
        return len(mine) >= len(theirs)


def path(text: str) -> PathPattern:
    """A pattern as rules write it. Raises ``ValueError``."""
    if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        raise ValueError(f"expected an absolute path without `..`, such as /srv/app/**, not {text!r}")
    made = PathPattern(normal(_marked(text)))
    _compiled(made.marked)
    return made


# --- names and destinations ---


def name(text: str) -> Callable[[str], bool]:
    """A variable's name, with globs. Raises ``ValueError``."""
    if not re.fullmatch(r"[A-Za-z0-9_*?]+", text):
        raise ValueError(f"expected names of variables, such as RELEASE or DEPLOY_*, not {text!r}")
    return _compiled(_marked(text))


def destination(text: str) -> Callable[[str], bool]:
    """``HOST:PORT`` (``*`` in a host stands for any characters but the dot, ``**`` for any; a port may be ``*`` or ``8000-8999``), or
    ``unix:/PATH``. Raises ``ValueError``."""
    if text.startswith("unix:"):
        inside = path(text.removeprefix("unix:"))
        return lambda to: to.startswith("unix:") and inside.matches(to.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (ports := _ports(port)):
        raise ValueError(f"expected HOST:PORT or unix:/PATH, such as db.example:5432, *.example:443 or unix:/run/app.sock, not {text!r}")
    hosts = hostnames.pattern(host)

    def test(to: str) -> bool:
        there, colon, number = to.rpartition(":")
        return bool(colon) and not to.startswith("unix:") and number.isdigit() and int(number) in ports and hosts(there)

    return test


def _ports(text: str) -> range | None:
    if text == "*":
        return range(65536)
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    made = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
    return made if made and made[-1] < 65536 else None
