# SPDX-License-Identifier: Apache-2.0
"""How policy files write masks and patterns: what is taken, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.cli.init import Made, make
from gateway.config.load import load_folder
from gateway.config.problem import InvalidFolder
from gateway.config.schema import MaskSetEntry
from gateway.credentials import Credential
from gateway.errors import ConfigError
from gateway.masking.rules import MaskRule, hashed
from gateway.policy.policy import compile_policy, mask_rule

GOOD: list[tuple[object, MaskRule]] = [
    ("redact", MaskRule()),
    ("email", MaskRule("email")),
    ("null", MaskRule("null")),
    (None, MaskRule("null")),
    ({"keep_last": 4}, MaskRule("keep_last", 4)),
    ({"value": "x"}, MaskRule("value", text="x")),
    ({"value": 0}, MaskRule("value", text="0")),
    ({"value": False}, MaskRule("value", text="false")),
    ({"value": 1.5}, MaskRule("value", text="1.5")),
    ({"value": ""}, MaskRule("value")),
    ({"round": 100}, MaskRule("round", 100)),
    ({"date": "month"}, MaskRule("date", text="month")),
    ({"json": {"$.a": "redact", "$..b": {"round": 5}}}, MaskRule("json", inner=(("$..b", MaskRule("round", 5)), ("$.a", MaskRule())))),
    ({"each": {"keep_first": 1}}, MaskRule("each", inner=(("", MaskRule("keep_first", 1)),))),
]


def entry(mask: object, **more: object) -> MaskSetEntry:
    return MaskSetEntry.model_validate({"name": "m", "columns": {"public.t.c": mask}, **more})


@pytest.mark.parametrize(("mask", "rule"), GOOD)
def test_masks(mask: object, rule: MaskRule) -> None:
    assert mask_rule(entry(mask).columns["public.t.c"], {}) == rule


@pytest.mark.parametrize(
    "mask",
    [
        "hide",
        5,
        [],
        {},
        {"keep_last": -1},
        {"keep_last": True},
        {"round": 0},
        {"round": 10**16},
        {"round": "5"},
        {"date": "minute"},
        {"hash": ""},
        {"hash": 5},
        {"value": None},
        {"value": [1]},
        {"value": "a\0b"},
        {"json": {}},
        {"json": {"$": "redact"}},
        {"json": {"a": "redact"}},
        {"json": {"$.a": {"json": {"$.b": "redact"}}}},
        {"json": {"$.a": {"date": "day"}}},
        {"each": {"json": {"$.a": "redact"}}},
        {"each": {"each": "redact"}},
        {"keep_last": 1, "keep_first": 1},
    ],
)
def test_what_is_no_mask(mask: object) -> None:
    with pytest.raises(ValidationError):
        entry(mask)


@pytest.mark.parametrize(
    ("detect", "wanted"),
    [
        ({"patterns": {"a": {"match": "("}}}, "RE2"),
        ({"patterns": {"a": {"match": "a*"}}}, "empty text"),
        ({"patterns": {"a": {"match": "x" * 600}}}, "512"),
        ({"patterns": {"a": {"match": r"(a)\1"}}}, "RE2"),
        ({"patterns": {"a": {"match": "(((a{100}){100}){100})"}}}, "RE2"),
        ({"patterns": {"a": {"match": "a", "mask": {"round": 5}}}}, "in a text"),
        ({"jwt": "null"}, "in a text"),
        ({"unknown": "redact"}, "xtra"),
        ({"patterns": {"a b": {"match": "a"}}}, "name"),
    ],
)
def test_what_is_no_detector(detect: object, wanted: str) -> None:
    with pytest.raises(ValidationError, match=wanted):
        entry("redact", detect=detect)


def test_a_hash_needs_its_key() -> None:
    spec = entry({"hash": "k"}).columns["public.t.c"]
    with pytest.raises(ConfigError, match="mask-key"):
        mask_rule(spec, {})
    with pytest.raises(ConfigError, match="mask-key"):
        mask_rule(spec, {"k": Credential("k", "bearer")})


def test_init_makes_keys_and_the_folder_says_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    make(Made(folder), demo=True)
    masks = folder / "policy" / "masks.yaml"
    masks.write_text(masks.read_text().replace("public.customers.ssn: redact", "public.customers.ssn: {hash: join-key}"))
    with pytest.raises(InvalidFolder, match="there is no credentials/join-key"):
        load_folder(folder)
    made = Made(folder)
    make(made, demo=True)
    assert made.written == ["credentials/join-key.yaml"]
    key = folder / "credentials" / "join-key.yaml"
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_text()
    make(Made(folder), demo=True)
    assert key.read_text() == before
    loaded = load_folder(folder)
    secret = loaded.credentials["join-key"].key.reveal()
    assert len(secret) == 64 and not any("join-key" in str(warning) for warning in loaded.warnings)
    compile_policy(loaded)
    assert hashed("join-key", secret.encode()).digest(b"x")
    key.write_text("kind: mask-key\nkey: short\n")
    with pytest.raises(InvalidFolder, match="at least 32 characters"):
        load_folder(folder)


def test_check_warns_of_a_mask_that_does_not_speak_of_the_type(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    make(Made(folder), demo=True)
    masks = folder / "policy" / "masks.yaml"
    masks.write_text(masks.read_text().replace("public.customers.ssn: redact", "public.customers.ssn: {round: 10}"))
    assert any("every value will be ****" in str(warning) for warning in load_folder(folder).warnings)
