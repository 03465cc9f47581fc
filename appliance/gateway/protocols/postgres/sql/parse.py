# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL's own parser (libpg_query, grammar of PostgreSQL 18) behind one function.

The parser answers JSON, which is faster to read from Python than its protobuf form (5 µs for a short SELECT); where it can, the compiled
twin reads the same from the parser's memory (``rawtree``). Bytes in, plain dictionaries out: a node is ``{"Kind": {…}}``; zero values and
empty lists are absent; locations are byte offsets.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson

from gateway.protocols.postgres.sql import rawtree
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.literals import tokens
from gateway.protocols.postgres.statement import SqlFault

Node = dict[str, Any]
_Kept = TypeVar("_Kept")

DEFAULT_LIMIT = 65536
"""Bytes of text the parser is given in this process: its recursion is bounded by the C stack. Longer texts are parsed by a process
of their own (``sandbox.py``), which gives back the parser's answer."""


class _Error(ctypes.Structure):
    _fields_ = [
        ("message", ctypes.c_char_p),
        ("funcname", ctypes.c_char_p),
        ("filename", ctypes.c_char_p),
        ("lineno", ctypes.c_int),
        ("cursorpos", ctypes.c_int),
        ("context", ctypes.c_char_p),
    ]


class _Result(ctypes.Structure):
    _fields_ = [("parse_tree", ctypes.c_char_p), ("stderr_buffer", ctypes.c_char_p), ("error", ctypes.POINTER(_Error))]


@dataclass(slots=True)
class Parsed:
    """One statement of a text: ``kind`` and ``body`` of its node, ``start`` and ``end`` as byte offsets."""

    kind: str
    body: Node
    start: int
    end: int


def _path() -> Path:
    spec = importlib.util.find_spec("postgast")
    if spec is None or spec.origin is None:
        raise OSError("libpg_query is not installed (package postgast)")
    return Path(spec.origin).parent / "libpg_query.so"


_LIBRARY = ctypes.CDLL(str(_path()))
_parse = _LIBRARY.pg_query_parse
_parse.argtypes = [ctypes.c_char_p]
_parse.restype = _Result
_free = _LIBRARY.pg_query_free_parse_result
_free.argtypes = [_Result]
_free.restype = None
_LOCK = threading.Lock()
_read: Callable[[bytes], Node] = orjson.loads if fast is None else fast.decoded
"""Nodes of names (a String in ``fields``, ``names`` and their like) are shared between statements: nobody may change them."""
if fast is not None:
    fast.bind_library(ctypes.cast(_parse, ctypes.c_void_p).value, ctypes.cast(_free, ctypes.c_void_p).value)
WHY_JSON = rawtree.bind(_LIBRARY, _path())
"""Why the parser's trees are read from JSON; ``""`` where they are read from memory."""


def parse(text: str, limit: int = DEFAULT_LIMIT, answer: bytes | None = None) -> tuple[list[Parsed], bytes]:
    """The statements of ``text`` and its UTF-8 bytes. ``answer`` is what the parser said of a text too long for this process.

    Raises ``SqlFault``: 42601 unparsable, 54001 longer than ``limit`` bytes or nested too deeply, 22021 not UTF-8 or with a NUL.
    """
    data = checked(text, limit)
    if answer is None and len(data) > DEFAULT_LIMIT:
        raise SqlFault("54001", f"a statement longer than {DEFAULT_LIMIT} bytes cannot be parsed here")
    direct = fast.raw_tree(data) if fast is not None and answer is None and not WHY_JSON else None
    if not isinstance(direct, list):            # not read from memory, or an error: said by the parser's answer
        direct = _decoded(answer_of(data) if answer is None else answer)
    return statements(direct, len(data)), data


def checked(text: str, limit: int) -> bytes:
    """The bytes of a text that the parser may be given. Raises ``SqlFault``: 54001, 22021."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise SqlFault("22021", "the text is not valid UTF-8") from None
    plain = fast is not None and fast.ordinary(data)
    if not plain and b"\0" in data:
        raise SqlFault("22021", "the text holds a NUL character")
    if len(data) > limit:
        raise SqlFault("54001", f"the statement is longer than {limit} bytes")
    if plain:
        return data
    if any(_slow(run.group()) for run in _RUN.finditer(text)):
        raise SqlFault("54001", "the statement holds an overlong run of operator characters")
    if _MULTIPLE.search(text) and unfolded(text) > MOST_UNFOLDED:
        raise SqlFault("54001", "the statement assigns too much to too many columns at once")
    return data


_RUN = re.compile(r"[-+*/<>=~!@#%^&|`?]{512,}")


def _slow(run: str) -> bool:
    """Whether the parser's lexer takes quadratic time: it looks for ``/*`` in a run, and takes trailing ``+`` off one by one."""
    return run.count("/*") > 32 or run.count("+") > 128


MOST_UNFOLDED = 1 << 20
_MULTIPLE = re.compile(r"\)\s*(?:=|--|/\*)")


def unfolded(text: str) -> int:
    """The size of a text when the source of every ``SET (a, b, …) = source`` is written once for each of its columns.

    The parser's answer is of that shape: nested ones multiply, and an answer over 1 GiB ends the process. What follows the source
    in the same statement counts as part of it.
    """
    total, factor = 0, 1
    before = ""
    lists: list[tuple[bool, int]] = []          # open parentheses: whether one may be such a list, and how many commas it holds
    sources: list[tuple[int, int]] = []         # sources around this token: how deep they stand, and the factor outside
    closed = 0                                  # columns of the list that was closed by the token before
    for token in tokens(text):
        word = text[token.start : token.end] if token.end - token.start <= 3 else ""
        if word == "=" and closed:
            sources.append((len(lists), factor))
            factor *= closed
        closed = 0
        while word in (",", ";", ")") and sources and sources[-1][0] >= len(lists):
            factor = sources.pop()[1]
        if word == "(":
            lists.append((before in ("set", ","), 1))
        elif word == "," and lists:
            lists[-1] = (lists[-1][0], lists[-1][1] + 1)
        elif word == ")" and lists:
            assigned, count = lists.pop()
            closed = count if assigned else 0
        total += factor * (token.end - token.start)
        before = word.lower()
        if total > MOST_UNFOLDED:
            break
    return total


def answer_of(data: bytes) -> bytes:
    """The parser's JSON for a text without NUL. Raises ``SqlFault`` 42601, 54001."""
    if fast is not None:
        found: bytes | tuple[bytes, int] = fast.tree(data)
        if isinstance(found, tuple):
            raise fault_of(*found)
        return found
    with _LOCK:
        result = _parse(data)
        try:
            if result.error:
                raise fault_of(result.error.contents.message or b"", result.error.contents.cursorpos)
            return bytes(result.parse_tree)
        finally:
            _free(result)


def _decoded(answer: bytes) -> list[Node]:
    try:
        tree: list[Node] = _read(answer).get("stmts", [])
    except orjson.JSONDecodeError:
        raise SqlFault("54001", "the statement is nested too deeply") from None
    return tree


def statements(tree: list[Node], size: int) -> list[Parsed]:
    """The parser's ``stmts`` of a text of ``size`` bytes."""
    found = []
    for entry in tree:
        start = entry.get("stmt_location", 0)
        end = start + entry["stmt_len"] if entry.get("stmt_len") else size
        ((kind, body),) = entry["stmt"].items()
        found.append(Parsed(kind, body, start, end))
    return found


_NEAR = re.compile(r'^(?P<head>.*) at or near "(?P<token>.*)"$', re.DOTALL)
_IDENTIFIER = re.compile(r"^(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]{0,62}|[-+*/<>=~!@#%^&|`?(){}\[\],;:.]{1,8})$")
_SAFE = re.compile(r"^[a-zA-Z0-9 ,.()_/\-]{1,160}$")


def fault_of(said: bytes, cursor: int) -> SqlFault:
    """The parser's error as a fault; ``cursor`` is its position, 1-based."""
    message = said.decode("utf-8", "replace")
    if "stack depth" in message or "memory exhausted" in message or "out of memory" in message:
        return SqlFault("54001", "the statement is nested too deeply")
    return SqlFault("42601", safe_message(message), max(cursor, 0))


def safe_message(message: str) -> str:
    """The parser's message with the token it quotes, unless that could be a value."""
    near = _NEAR.match(message)
    if near and _SAFE.match(near["head"]):
        return message if _IDENTIFIER.match(near["token"]) else f'{near["head"]} at or near a value'
    return message if _SAFE.match(message) else "syntax error"


class ThreadsOwn(threading.local, Generic[_Kept]):
    """A list for each thread that looks."""

    def __init__(self) -> None:
        self.kept: list[_Kept] = []


class Offsets:
    """Byte offsets of a text as character offsets."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ascii = data.isascii()

    def character(self, offset: int) -> int:
        return offset if self.ascii else len(self.data[:offset].decode("utf-8", "ignore"))
