# SPDX-License-Identifier: Apache-2.0
"""SSH: the splitter of commands, the paths that rules compare, the restricted shell's line editor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from gateway.protocols.ssh import patterns
from gateway.protocols.ssh.lineedit import LineEditor, PlainLines
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


def typed(data: bytes) -> None:
    """The first byte says where to cut the rest and how wide the terminal is: the same lines however they come, of text alone; and nothing
    but text, returns and backspaces is drawn."""
    cut, width, keys = data[0] if data else 0, data[0] % 90 if data else 0, data[1:]
    whole, parts = _lines(keys, len(keys) or 1, width), _lines(keys, cut % 7 + 1, width)
    assert whole == parts
    plain, pieces = PlainLines(50), PlainLines(50)
    plain.feed(keys)
    first = _plain(plain)
    second = []
    for at in range(0, len(keys), cut % 7 + 1):
        pieces.feed(keys[at:at + cut % 7 + 1])
        second += _plain(pieces)
    assert first == second


def _lines(keys: bytes, step: int, width: int) -> list[str]:
    editor = LineEditor("me@web-1$ ", width, longest=100, history=200)
    found: list[str] = []
    drawn = editor.begin()
    for at in range(0, len(keys), step):
        editor.feed(keys[at:at + step])
        while True:
            one = editor.step()
            drawn += one.screen
            if one.line is None and not one.end:
                break
            if one.end:
                return found
            assert one.line is not None
            assert one.line.isprintable()
            found.append(one.line + one.refusal)
            drawn += editor.begin()
    shown = drawn.decode().replace("\x1b[?2004h", "").replace("\x1b[?2004l", "")
    assert all(one.isprintable() or one in "\r\n\b\a" for one in shown)
    return found


def _plain(lines: PlainLines) -> list[tuple[str, str]]:
    found = []
    while (step := lines.step()).line is not None:
        found.append((step.line[:9], step.refusal))
    return found


def typed_seeds() -> Iterable[bytes]:
    yield b"\x50uptime\r\x1b[A\x17ls\r\x1b[200~rm -rf /\n\x1b[201~\r"
    yield b"\x14" + "中文 cafe\u0301 ".encode() * 9 + b"\x01\x1b[C\x1b[3~x\x05\x7f\x0b\r"
    yield b"\x07\x1b]0;title\x07\x1b[<0;1;1M\x1b[24;80R\x1bOA\x03\x15\x04"
