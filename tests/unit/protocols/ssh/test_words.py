# SPDX-License-Identifier: Apache-2.0
"""The splitter: what is simple, what is not, and that dash and bash split what is simple into the same words."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.protocols.ssh.words import MOST_COMMANDS, MOST_WORDS, ONE, RESERVED, STAR, hidden, split

_SH, _BASH = (shutil.which(name) or "/bin/sh" for name in ("dash", "bash"))
SHELLS = (_SH, _BASH, f"{_BASH} --posix" if _BASH.endswith("bash") else _SH)
ARGS = "args() { for word in \"$@\"; do printf '%s\\0' \"$word\"; done; printf 'END\\0'; }; args "


@pytest.mark.parametrize(("text", "words"), [
    ("uptime", ["uptime"]), ("  a   b  ", ["a", "b"]), ("a 'b c' d", ["a", "b c", "d"]), ('a "b c" d', ["a", "b c", "d"]),
    ("a b\\ c", ["a", "b c"]), ("a 'b'\"c\"d", ["a", "bcd"]), ("a ''", ["a", ""]), ('a ""', ["a", ""]), ('a "b\\c"', ["a", "b\\c"]),
    ('a "b\\\\c\\"d\\$e\\`f"', ["a", 'b\\c"d$e`f']), ("a '$x`y` *'", ["a", "$x`y` *"]),
    ("a \\$ \\* \\; \\~ \\#", ["a", "$", "*", ";", "~", "#"]),
    ("a b#c x=y main~1 {}", ["a", "b#c", "x=y", "main~1", "{}"]), ("a 'it'\\''s'", ["a", "it's"]), ("a é", ["a", "é"]),
    ("a '日本'", ["a", "日本"]),
    ("a '!' '^'", ["a", "!", "^"]), ("a 'é\\'", ["a", "é\\"]), ("a -- -b --c=d,e:f@g%h+i", ["a", "--", "-b", "--c=d,e:f@g%h+i"]),
])
def test_one_simple_command(text: str, words: list[str]) -> None:
    assert split(text).commands == (tuple(words),)


@pytest.mark.parametrize(("text", "commands"), [
    ("a;b", 2), ("a ; b ;", 2), ("a && b || c", 3), ("a|b|c", 3), ("a & b &", 2), ("a&&b", 2), ("a ';' b", 1), ("a \\; b", 1),
    ("a \"|\" b", 1)])
def test_lists(text: str, commands: int) -> None:
    assert len(split(text).commands) == commands


@pytest.mark.parametrize(("text", "why"), [
    ("a $b", "substitution"), ('a "$b"', "substitution"), ("a `b`", "substitution"), ('a "`b`"', "substitution"), ("a > b", "redirection"),
    ("a < b", "redirection"), ("(a)", "parenthesis"), ("a *", "glob"), ("a ?", "glob"), ("a [b]", "glob"), ("a !b", "exclamation"),
    ('a "b!"', "exclamation"), ("a ^b", "^"), ("a #b", "comment"), ("#a", "comment"), ("~a", "tilde"), ("a ~", "tilde"), ("a b=~", "tilde"),
    ("a b:~", "tilde"), ("a '~'~", "tilde"), ("a {b,c}", "brace"), ("a }", "brace"), ("a x{}", "brace"),
    ("a '", "quote"), ('a "', "quote"), ("a \\", "backslash"), ("", "no command"), ("  ", "no command"), (";", "missing"),
    ("a;;b", "missing"),
    ("a |", "missing"), ("a &&", "missing"), ("& a", "missing"), ("a | & b", "missing"), ("A=b", "assignment"), ("A=b c", "assignment"),
    ("=a", "begins with ="), ("a =b", "begins with ="), ("''", "without a name"), ("%1", "job"), ("a\nb", "U+000A"), ("a\tb", "U+0009"),
    ("a\x00", "U+0000"), ("a\u200bb", "U+200B"), ("a\ufeff", "U+FEFF"), ("a '\u202e'", "U+202E"), ("a\u00a0b", "U+00A0"),
    ("a \u3164", "U+3164"),
    ("a \ue000", "U+E000"), ("a é\\ b", "read together"), ("a é|b", "read together"), ('a "é\\"b"', "read together"),
    *((f"{word} a", "") for word in sorted(RESERVED)),
])
def test_what_is_not_simple(text: str, why: str) -> None:
    line = split(text)
    assert line.commands == ()
    assert line.complex
    assert why in line.complex


def test_bounds() -> None:
    assert split(" ".join(["a"] * MOST_WORDS)).complex == ""
    assert "more than" in split(" ".join(["a"] * (MOST_WORDS + 1))).complex
    assert split(";".join(["a"] * MOST_COMMANDS)).complex == ""
    assert "more than" in split(";".join(["a"] * (MOST_COMMANDS + 1))).complex


def test_globs_of_a_pattern() -> None:
    assert split("a * '*' b? \\?", globs=True).commands == (("a", STAR, "*", f"b{ONE}", "?"),)
    assert "glob" in split("a [b]", globs=True).complex
    assert "U+E000" in split(f"a {STAR}", globs=True).complex


def test_hidden_says_what_cannot_be_seen() -> None:
    assert hidden("plain é 日本 🙂") == ""
    assert hidden("a\x1b[2J") == "a control character (U+001B)"


# --- against real shells ---

PIECES = ["a", "bc", " ", "  ", "'", '"', "\\", "-", "--x=", "/", ".", "..", "~", "=", ":", "#", "{}", "{", "}", "!", "^", ",", "%", "+",
    "@", "_", "0", "é",
          "日", "\\'", '\\"', "\\\\", "''", '""', "'a b'", '"a b"', "'*'", '"\\$"', "\\ ", "x~1", "*", "?", "[", "$", "`"]
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=14).map("".join)
BOUNDED = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture,
    HealthCheck.filter_too_much])


def shell_words(shell: str, text: str, folder: Path, locale: str) -> list[list[str]]:
    """The arguments of each command, as a shell gives them to a function. Nothing else can be found there to run."""
    ran = subprocess.run([*shell.split(), "-c", ARGS + text], cwd=folder, env={"PATH": str(folder), "LC_ALL": locale, "HOME": "/nowhere"},
                         capture_output=True, timeout=20, check=False)
    assert ran.stderr == b"", (shell, text, ran.stderr)
    return [part.split("\0")[:-1] for part in ran.stdout.decode().split("END\0")[:-1]]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@given(text=TEXTS)
@BOUNDED
def test_shells_split_what_is_simple_in_the_same_way(tmp_path: Path, locale: str, text: str) -> None:
    line = split("args " + text)
    assume(line.complex == "" and len(line.commands) == 1)
    for shell in SHELLS:
        assert shell_words(shell, text, tmp_path, locale) == [list(line.commands[0][1:])], shell


@given(texts=st.lists(TEXTS, min_size=2, max_size=4), operators=st.lists(st.sampled_from([";", " ; ", "&&", " && "]), min_size=3,
    max_size=3))
@BOUNDED
def test_shells_see_the_same_commands_in_a_list(tmp_path: Path, texts: list[str], operators: list[str]) -> None:
    text = texts[0] + "".join(f"{operator}args {more}" for operator, more in zip(operators, texts[1:], strict=False))
    assume(all(len(split("args " + one).commands) == 1 for one in texts))
    line = split("args " + text)
    assert line.complex == ""
    for shell in SHELLS:
        assert shell_words(shell, text, tmp_path, "C.UTF-8") == [list(words[1:]) for words in line.commands], shell


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=300)
def test_any_text_is_split_or_has_a_reason(text: str) -> None:
    line = split(text)
    assert bool(line.commands) != bool(line.complex)
    if line.commands:
        assert hidden(text) == ""
        assert all(command and command[0] and "=" not in command[0] for command in line.commands)
