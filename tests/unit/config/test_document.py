# SPDX-License-Identifier: Apache-2.0
"""YAML 1.2 core schema, and what is refused of YAML."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import document as module
from gateway.config.document import DEEPEST, LARGEST, Document, read_document, resolve


def read(text: str | bytes) -> Document:
    return read_document("x.yaml", text.encode() if isinstance(text, str) else text)


def value(text: str) -> Any:
    document = read(text)
    assert document.problems == []
    return document.value


def problem(text: str | bytes) -> str:
    document = read(text)
    assert document.problems
    return str(document.problems[0])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("Y", "Y"),
        ("y", "y"),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("", None),
        ("Null", None),
        ("none", "none"),
        ("0", 0),
        ("-12", -12),
        ("+3", 3),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("190:20:30", "190:20:30"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        (".Inf", math.inf),
        ("inf", "inf"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("<<", "<<"),
        ("0x", "0x"),
        ("0o8", "0o8"),
        (".", "."),
        ("+", "+"),
        ("e5", "e5"),
    ],
)
def test_core_schema(text: str, wanted: object) -> None:
    assert resolve(text) == wanted
    assert type(resolve(text)) is type(wanted)


def test_nan() -> None:
    assert math.isnan(float(resolve(".nan") or 0))


def test_quoted_and_block_scalars_are_text() -> None:
    assert value("""a: "1"\nb: 'true'\nc: |\n  null\nd: >-\n  12\n""") == {"a": "1", "b": "true", "c": "null\n", "d": "12"}


def test_lines_of_keys_and_entries() -> None:
    document = read("a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n")
    assert document.line(("a",)) == 1
    assert document.line(("b", 0)) == 3
    assert document.line(("b", 1, "d")) == 5
    assert document.line(("b", 1, "not there")) == 4


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: &x 1\n", "x.yaml:1: a: expected no anchor"),
        ("a: 1\nb: *x\n", "x.yaml:2:"),
        ("a: &x 1\nb: *x\n", "x.yaml:1: a: expected no anchor"),
        ("a: !!str 1\n", "x.yaml:1: a: expected no tag"),
        ("a: !!python/object/apply:os.system [true]\n", "x.yaml:1: a: expected no tag"),
        ("a: ! 1\n", "x.yaml:1: a: expected no tag"),
        ("!!map {a: 1}\n", "x.yaml:1: expected no tag"),
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3: a: expected each key once; it already stands on line 1"),
        ('a: 1\n"a": 3\n', "x.yaml:2: a: expected each key once"),
        ("a:\n  b: 1\n  b: 2\n", "x.yaml:3: a.b: expected each key once"),
        ("1: a\n", 'x.yaml:1: expected text as a key: write "1" in quotes'),
        ("true: a\n", "x.yaml:1: expected text as a key"),
        ("{[a]: 1}\n", "x.yaml:1: expected text as a key"),
        ("&k a: 1\n", "x.yaml:1: expected no anchor"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2: expected one document"),
        ("%YAML 1.1\n---\na: 1\n", "x.yaml:1: expected no directives"),
        ("%TAG ! tag:example,2000:\n---\na: 1\n", "x.yaml:1: expected no directives"),
        ("a: [1\nb: 2\n", "x.yaml:2: expected YAML"),
        ("a: b: c\n", "x.yaml:1: expected YAML"),
        ("a: 1\n\tb: 2\n", "x.yaml:2: expected YAML"),
        ("a:\n\t- b\n", "any token (a tab?"),
        ("a: [*.b]\n", "(a value that begins with * or & needs quotes)"),
        ("a: []\n  - b\n", "such as [])"),
        (b"a: \xff\n", "x.yaml:1: expected UTF-8"),
        (b"ok: 1\nb: \xff\n", "x.yaml:2: expected UTF-8"),
        ('a: "\x07"\n', "x.yaml:1: expected YAML"),
        (b"\xff\xfea\x00", "x.yaml:1: expected UTF-8"),
        ("[" * 100, "x.yaml:1:"),
        ("{a: " * (DEEPEST + 1) + "}" * (DEEPEST + 1), "expected at most"),
        (b"#" * (LARGEST + 1), "x.yaml: expected at most"),
    ],
)
def test_refused(text: str | bytes, wanted: str) -> None:
    assert wanted in problem(text)


def test_yaml_1_2_directive_and_byte_order_mark_are_harmless() -> None:
    assert value("%YAML 1.2\n---\na: 1\n") == {"a": 1}
    assert value("\ufeffa: 1\n") == {"a": 1}


def test_empty_and_comment_only() -> None:
    assert value("") is None
    assert value("# nothing\n") is None
    assert value("---\n") is None


def test_deep_enough() -> None:
    assert read("[" * DEEPEST + "]" * DEEPEST).problems == []


def test_a_long_number_stays_text_instead_of_time() -> None:
    assert value("a: " + "9" * 5000) == {"a": "9" * 5000} or isinstance(value("a: " + "9" * 5000)["a"], float)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_problems(data: bytes) -> None:
    document = read(data)
    assert all(str(problem).startswith("x.yaml") for problem in document.problems)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="a:-[]{}&*!|>'\"%#,? \n\t01.~", max_size=80))
def test_any_punctuation_gives_a_value_or_problems(text: str) -> None:
    document = read(text)
    if not document.problems:
        json.dumps(document.value)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdef", min_size=1, max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(_JSON)
def test_json_is_read_as_json(wanted: Any) -> None:
    """YAML 1.2 is meant to hold JSON (section 1.2 of the specification); surrogate escapes are beyond the scanner, and refused."""
    document = read(json.dumps(wanted, ensure_ascii=False))
    assert document.problems == []
    assert document.value == wanted


@pytest.mark.parametrize("text", ["a: 1\nb: [x, {c: d}]\n", "- 'it''s'\n- \"\\u00e9\"\n- |\n  text\n", "a:\n- b\n- c: d\n"])
def test_without_libyaml_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = value(text)
    monkeypatch.setattr(module, "_LOADER", yaml.SafeLoader)
    assert value(text) == wanted
