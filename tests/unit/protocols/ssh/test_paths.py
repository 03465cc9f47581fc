# SPDX-License-Identifier: Apache-2.0
"""Paths by their text alone."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.ssh.paths import argument, arguments, climbs, normal

PARTS = st.lists(st.sampled_from(["a", "b.c", ".", "..", "", "...", "-x", " ", "é", "a=b", "x:y"]), max_size=8)


@pytest.mark.parametrize(("path", "wanted"), [
    ("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("//a//b", "/a/b"), ("/a/./b/.", "/a/b"), ("/a/../b", "/b"), ("/..", "/"), ("/../../a", "/a"),
    ("/a/b/../..", "/"), ("/...", "/..."), ("/a..b", "/a..b"), ("a", ""), ("", ""), ("../a", ""), ("/a\0b", ""), ("~/a", "")])
def test_normal(path: str, wanted: str) -> None:
    assert normal(path) == wanted


@pytest.mark.parametrize(("word", "wanted"), [
    ("a", "a"), ("..", ".."), ("a/b", "a/b"), ("a//b/", "a/b"), ("a/../b", "b"), ("a/../..", ".."), ("../../a", "../../a"), ("./a", "a"),
    ("./-a", "./-a"), ("a/..", "."), ("/srv/../etc", "/etc"), ("-a", "-a"), ("--file=/a/b", "--file=/a/b"),
    ("--file=/a//b/./c", "--file=/a/b/c"),
    ("--file=/a/../b", "--file=/a/../b"), ("-I/a/../b", "-I/a/../b"), ("host:/a/../b", "host:/a/../b"), ("of=/a/../b", "of=/a/../b"),
    ("https://h/a/../b", "https://h/b"), ("https://h", "https://h"), ("https://h/../../b", "https://h/b"), ("s/a/b/", "s/a/b")])
def test_argument(word: str, wanted: str) -> None:
    assert argument(word) == wanted


@pytest.mark.parametrize("word", ["..", "../a", "a/../b", "--file=../a", "--file=/a/../b", "-I/a/..", "host:../a", "@../a", "x,../a"])
def test_what_climbs(word: str) -> None:
    assert climbs(word)


@pytest.mark.parametrize("word", ["a", "a..b", "...", "a/...", "..a", "a..", "/a/b"])
def test_what_does_not(word: str) -> None:
    assert not climbs(word)


def test_a_program_by_a_relative_path_is_not_the_one_of_that_name() -> None:
    assert arguments(("./uptime", "./a")) == ("./uptime", "a")
    assert arguments(("bin/../uptime",)) == ("bin/../uptime",)
    assert arguments(("uptime/",)) == ("uptime/",)
    assert arguments(("/usr/bin/../bin/uptime",)) == ("/usr/bin/uptime",)


@given(PARTS)
def test_it_is_what_the_library_says(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    found = normal(path)
    assert found == "/" + posixpath.normpath(path).lstrip("/")
    assert normal(found) == found
    assert ".." not in found.split("/")


@given(PARTS)
def test_an_argument_stays_as_it_is_once_it_is_normal(parts: list[str]) -> None:
    word = "/".join(parts)
    assert argument(argument(word)) == argument(word)
