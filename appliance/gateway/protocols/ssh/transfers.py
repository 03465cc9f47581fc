# SPDX-License-Identifier: Apache-2.0
"""The commands by which scp and rsync start their other half on a target, and which file actions they come to.

Only their server halves are meant: ``scp -t``, ``scp -f`` and ``rsync --server``. Options are taken from tables of those that do what their
name says inside of the paths given; every other one is refused: it could write elsewhere, follow links out of the tree, or run programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.protocols.ssh.patterns import DIRECTORIES


class NotServed(Exception):
    """A server half with an option that is not passed on; the message says which."""


@dataclass(frozen=True, slots=True)
class FileAccess:
    """``sends``: the caller sends, the target is written to. ``paths`` are as given; ``words`` are the command's. ``recursive``: with all
    that is below the paths."""

    kind: Literal["scp", "rsync"]
    sends: bool
    paths: tuple[str, ...]
    words: tuple[str, ...]
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    """``verbs`` are the actions it takes on each path; ``tree``: and on everything below it, unasked. scp names each file as it comes, and
    each is asked for then."""

    access: FileAccess
    verbs: tuple[str, ...]
    tree: bool = False


def transfer(words: Sequence[str]) -> Transfer | None:
    """What a simple command transfers; ``None`` where it is neither scp's nor rsync's server half. Raises ``NotServed``."""
    folder, slash, name = words[0].rpartition("/")
    if slash and folder not in DIRECTORIES:
        return None
    if name == "scp":
        return _scp(tuple(words))
    if name == "rsync" and "--server" in words[1:]:
        return _rsync(tuple(words))
    return None


# --- scp ---

_SCP_VALUES = frozenset("cDFiJloPSX")
"""Options of scp that take a value: what follows is no option."""
SCP_SERVED = frozenset("tfrpdvq")


def _scp(words: tuple[str, ...]) -> Transfer | None:
    letters, paths = _scp_options(words[1:])
    if not {"t", "f"} & set(letters):
        return None
    if other := sorted(set(letters) - SCP_SERVED):
        raise NotServed(f"scp -{other[0]} is not passed on: as a server it could run programs or write elsewhere")
    if "t" in letters and "f" in letters:
        raise NotServed("scp is either -t or -f")
    sends = "t" in letters
    if not paths or (sends and len(paths) > 1):
        raise NotServed("scp -t takes one path, scp -f at least one")
    if not all(paths):
        raise NotServed("scp of an empty path")
    access = FileAccess("scp", sends, tuple(paths), words, "r" in letters)
    return Transfer(access, ("write",) if sends else ("read",))


def _scp_options(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """As getopt(3) of OpenSSH: letters of all options up to the first path or ``--``, then the paths."""
    letters, at = "", 0
    while at < len(arguments) and arguments[at].startswith("-") and arguments[at] != "-":
        word = arguments[at]
        at += 1
        if word == "--":
            break
        for place, letter in enumerate(word[1:], 1):
            letters += letter
            if letter in _SCP_VALUES:
                at += place == len(word) - 1
                break
    return letters, list(arguments[at:])


# --- rsync ---

RSYNC_LETTERS = frozenset("vqlogDtprnxuWSHAXEOJUNbhicCdIyzm")
"""Short options of ``rsync --server``. Not ``L k K`` (follow links), ``R`` (paths of the sender's choosing), ``s`` (arguments that are not
seen), ``T M`` (elsewhere)."""
_RSYNC_NUMBERS = frozenset("B")
"""Short options that take a number."""
RSYNC_LONG = frozenset({
    "--server", "--sender", "--delete", "--delete-before", "--delete-during", "--delete-delay", "--delete-after", "--delete-excluded",
    "--delete-missing-args", "--force", "--ignore-errors", "--remove-source-files", "--remove-sent-files", "--partial", "--inplace",
    "--append", "--append-verify", "--existing", "--ignore-existing", "--ignore-times", "--size-only", "--numeric-ids", "--safe-links",
    "--no-implied-dirs", "--implied-dirs", "--dirs", "--no-dirs", "--checksum", "--no-whole-file", "--whole-file", "--stats", "--progress",
    "--list-only", "--omit-dir-times", "--omit-link-times", "--prune-empty-dirs", "--compress", "--new-compress", "--old-compress",
    "--fsync", "--open-noatime", "--no-i-r", "--no-inc-recursive", "--inc-recursive", "--msgs2stderr", "--no-msgs2stderr", "--mkpath",
    "--fuzzy", "--preallocate", "--use-qsort", "--ignore-missing-args", "--delay-updates", "--no-r", "--sparse",
    "--no-W", "--no-l", "--no-p", "--no-t", "--no-g", "--no-o", "--no-D", "--no-specials", "--specials", "--no-devices", "--devices"})
RSYNC_VALUES = frozenset({
    "--timeout", "--bwlimit", "--block-size", "--compress-level", "--compress-choice", "--checksum-choice", "--checksum-seed", "--max-size",
    "--min-size", "--max-delete", "--max-alloc", "--modify-window", "--skip-compress", "--log-format", "--out-format", "--info", "--debug",
    "--suffix", "--usermap", "--groupmap", "--chown", "--protocol", "--stop-after", "--stop-at"})
_RSYNC_DELETES = ("--delete", "--remove-s", "--force")
_RSYNC_OWNERS = ("--usermap", "--groupmap", "--chown")


def _rsync(words: tuple[str, ...]) -> Transfer:
    options, paths = rsync_options(words[1:])
    letters = "".join(rsync_letters(option) for option in options if not option.startswith("--"))
    for option in (option for option in options if option.startswith("--")):
        _served(option)
    if "--sender" in options and options[:2] != ["--server", "--sender"]:
        raise NotServed("rsync --sender comes right after --server")
    if not paths or paths[0] != "." or len(paths) < 2 or not all(paths):
        raise NotServed("rsync --server takes `.` and the paths after its options")
    sends = "--sender" not in options
    if sends and len(paths) != 2:
        raise NotServed("rsync --server takes one path to write to")
    recursive = bool(set("rd") & set(letters)) or "--dirs" in options
    access = FileAccess("rsync", sends, tuple(paths[1:]), words, recursive)
    return Transfer(access, _rsync_verbs(options, letters, sends), tree=recursive or sends)


def rsync_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options come first, as rsync's own client sends them; one behind a path is refused."""
    count = next((number for number, word in enumerate(arguments) if not word.startswith("-") or word == "-"), len(arguments))
    options, paths = list(arguments[:count]), list(arguments[count:])
    if options and options[-1] == "--":
        options.pop()
    elif any(path.startswith("-") for path in paths):
        raise NotServed("rsync --server takes options before its paths")
    if "--" in options:
        raise NotServed("rsync --server takes `--` before its paths")
    return options, paths


def rsync_letters(option: str) -> str:
    """The letters of a group of short options. ``e`` ends it: what follows is what the client can do (``e.iLsfxCIvu``)."""
    group, e, able = option[1:].partition("e")
    if e and not (able.startswith(".") and able[1:].replace(".", "").isalnum() or able == "."):
        raise NotServed("rsync -e runs a program")
    if group[:1] in _RSYNC_NUMBERS and group[1:].isdigit():
        return ""
    if other := sorted(set(group) - RSYNC_LETTERS):
        raise NotServed(f"rsync -{other[0]} is not passed on: it could leave the paths given, or hide them")
    return group


def _served(option: str) -> None:
    name, equals, value = option.partition("=")
    if option in RSYNC_LONG:
        return
    if name in RSYNC_VALUES and equals and "/" not in value and value not in (".", ".."):
        return
    raise NotServed(f"rsync {name} is not passed on: it could leave the paths given, follow links, or run programs")


def _rsync_verbs(options: Sequence[str], letters: str, sends: bool) -> tuple[str, ...]:
    removes = ("remove",) if any(option.startswith(_RSYNC_DELETES) for option in options) else ()
    if not sends:
        return ("read", "list", "stat", *removes)
    folders = ("list", "mkdir") if set("rd") & set(letters) or {"--dirs", "--mkpath"} & set(options) else ()
    attributes = ("setattr",) if set("ogptAXEUN") & set(letters) or any(option.startswith(_RSYNC_OWNERS) for option in options) else ()
    links = ("symlink",) if "l" in letters else ()
    return ("write", "stat", *folders, *attributes, *links, *removes)
