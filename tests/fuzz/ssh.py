# SPDX-License-Identifier: Apache-2.0
"""SSH: the splitter of commands and the paths that rules compare."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from gateway.protocols.ssh import patterns
from gateway.protocols.ssh.operations import compile_matcher
from gateway.protocols.ssh.paths import argument, climbs, normal
from gateway.protocols.ssh.understand import exec_request
from gateway.protocols.ssh.words import hidden, split

CORPUS = Path(__file__).parents[1] / "corpus" / "ssh"
_ANY = compile_matcher({"actions": ["exec"]}, "allow")
_DENY = compile_matcher({"command": ["rm *"]}, "deny")


def commands(data: bytes) -> None:
    """Any bytes, as the data path decodes them: there is something to decide, and nothing simple has what a shell expands."""
    text = data.decode("utf-8", "surrogateescape")
    found = exec_request(text, pty=False)
    assert found.operations
    for one in found.operations:
        str(one.objects).encode()
        _DENY(one)
        assert not (_ANY(one) and (one.attributes["complex"] or hidden(text)))
    line = split(text)
    assert bool(line.commands) != bool(line.complex)
    for words in line.commands:
        quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
        assert split(quoted).commands == (words,)


def command_seeds() -> Iterable[bytes]:
    for name in ("refused.jsonl", "everyday.jsonl"):
        for line in (CORPUS / name).read_text().splitlines():
            case = json.loads(line)
            yield bytes.fromhex(case["hex"]) if "hex" in case else case["text"].encode("utf-8", "surrogatepass")


def paths(data: bytes) -> None:
    """A pattern and a path, apart by a NUL: normal forms stay as they are, and no glob leads out of its folder."""
    first, _, second = data.partition(b"\0")
    path, word = first.decode("utf-8", "surrogateescape"), second.decode("utf-8", "surrogateescape")
    found = normal(path)
    assert found == "" or (found.startswith("/") and normal(found) == found and not {"..", ".",
        ""} & set(found[1:].split("/")) or found == "/")
    assert argument(argument(word)) == argument(word)
    if patterns.path("/srv/app/**").matches(found):
        assert found == "/srv/app" or found.startswith("/srv/app/")
    if patterns.command("cat /srv/app/**").matches(("cat", argument(word))):
        assert not climbs(argument(word))
        assert argument(word).startswith("/srv/app")
    try:
        made = patterns.path(path)
    except (ValueError, UnicodeEncodeError):
        return
    made.matches(normal(word))
    made.meets(normal(word) or "/")


def path_seeds() -> Iterable[bytes]:
    yield b"/srv/app/../x\0/srv/app/./y//z"
    yield b"/srv/*/a?/**\0/srv/app/\xff/.."
    yield b"/srv/app\0--file=/srv/app/../../etc/shadow"
    yield b"/**/x\0https://h/srv/../app"
