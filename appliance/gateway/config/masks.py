# SPDX-License-Identifier: Apache-2.0
"""How policy files write masks, detectors and the columns they are for. ``gateway.masking.rules`` says what they do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.config.values import Keys, Name, Text, Whole, column_name, function_name, relation_name
from gateway.masking import paths
from gateway.masking.patterns import check_pattern


class MaskSpec(Keys):
    """How a value is shown, see ``gateway.masking.rules.MaskRule``. ``text`` of ``hash`` is the name of a credential."""

    kind: Literal["redact", "null", "value", "keep_last", "keep_first", "email", "hash", "round", "date", "json", "each"] = "redact"
    keep: Whole = 0
    text: str = ""
    inner: tuple[tuple[str, MaskSpec], ...] = ()

    def hash_keys(self) -> Iterator[str]:
        """The credentials it hashes with."""
        if self.kind == "hash":
            yield self.text
        for _, inner in self.inner:
            yield from inner.hash_keys()


MASK_WANTED = ("expected redact, null, email, {keep_last: N}, {keep_first: N}, {hash: CREDENTIAL}, {value: TEXT}, {round: N}, "
               "{date: year, month, day or hour}, {json: {PATH: MASK}} or {each: MASK}")
LARGEST_STEP = 10**15
_ALONE = {"redact": "redact", "email": "email", "null": "null", None: "null"}
_OF_TEXT = frozenset({"redact", "keep_last", "keep_first", "email", "hash"})
_IN_JSON = _OF_TEXT | {"null", "value", "round"}
_IN_DETECT = _OF_TEXT | {"value"}
_IN_EACH = _OF_TEXT | {"null", "value", "round", "date"}


def _mask(value: object) -> object:
    if isinstance(value, MaskSpec):
        return value
    if value is None or isinstance(value, str) and value in _ALONE:
        return MaskSpec.model_validate({"kind": _ALONE[value]})
    if isinstance(value, dict) and len(value) == 1:
        [(kind, argument)] = value.items()
        if kind in _ARGUMENTS and (keys := _ARGUMENTS[kind](argument)) is not None:
            return MaskSpec.model_validate({"kind": kind, **keys})
    raise ValueError(MASK_WANTED)


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _shown_text(value: object) -> dict[str, object] | None:
    """A fixed value as a text: YAML's own scalars are written as they are spelled."""
    text = json.dumps(value) if isinstance(value, bool | int | float) else value
    return {"text": text} if isinstance(text, str) and len(text) <= 1024 and "\0" not in text else None


def _mask_within(value: object, kinds: frozenset[str], place: str) -> MaskSpec:
    found = MaskSpec.model_validate(_mask(value))
    if found.kind not in kinds:
        raise ValueError(f"expected one of {', '.join(sorted(kinds))} {place}")
    return found


def _json_paths(value: object) -> dict[str, object] | None:
    if not isinstance(value, dict) or not 1 <= len(value) <= paths.PATHS or not all(isinstance(path, str) for path in value):
        return None
    for path in value:
        paths.parsed(path)
    return {"inner": tuple((path, _mask_within(value[path], _IN_JSON, "in a document")) for path in sorted(value))}


_ARGUMENTS: Mapping[str, Callable[[object], Mapping[str, object] | None]] = {
    "keep_last": lambda value: {"keep": value} if _is_whole(value, 0, 1024) else None,
    "keep_first": lambda value: {"keep": value} if _is_whole(value, 0, 1024) else None,
    "round": lambda value: {"keep": value} if _is_whole(value, 1, LARGEST_STEP) else None,
    "hash": lambda value: {"text": value} if isinstance(value, str) and 1 <= len(value) <= 63 else None,
    "value": _shown_text,
    "date": lambda value: {"text": value} if value in ("year", "month", "day", "hour") else None,
    "json": _json_paths,
    "each": lambda value: {"inner": (("", _mask_within(value, _IN_EACH, "for each element")),)},
}


def _mask_of_text(value: object) -> object:
    return _mask_within(value, _IN_DETECT, "for what is found in a text")


def _mask_schema(kinds: frozenset[str]) -> dict[str, object]:
    keep = {"type": "integer", "minimum": 0, "maximum": 1024}
    arguments: dict[str, dict[str, object]] = {
        "keep_last": keep, "keep_first": keep, "hash": {"type": "string"},
        "value": {"type": ["string", "number", "boolean"]}, "round": {"type": "integer", "minimum": 1, "maximum": LARGEST_STEP},
        "date": {"enum": ["year", "month", "day", "hour"]}, "json": {"type": "object", "minProperties": 1}, "each": {},
    }
    alone = [kind for kind in ("redact", "email", "null") if kind in kinds]
    words = [f"`{kind}`" for kind in alone] + [f"`{{{kind}: {_PLACEHOLDERS[kind]}}}`" for kind in arguments if kind in kinds]
    objects = [{"type": "object", "properties": {kind: shape}, "required": [kind], "additionalProperties": False}
               for kind, shape in arguments.items() if kind in kinds]
    return {"x-kind": ", ".join(words), "oneOf": [{"enum": [*alone, *([None] if "null" in kinds else [])]}, *objects]}


_PLACEHOLDERS = {"keep_last": "N", "keep_first": "N", "hash": "CREDENTIAL", "value": "TEXT", "round": "N", "date": "UNIT",
                 "json": "{PATH: MASK}", "each": "MASK"}
Mask = Annotated[MaskSpec, BeforeValidator(_mask), WithJsonSchema(_mask_schema(frozenset({"redact", "email", "null", *_PLACEHOLDERS})))]
"""How the values of a column are shown."""
TextMask = Annotated[MaskSpec, BeforeValidator(_mask_of_text), WithJsonSchema(_mask_schema(_IN_DETECT))]
"""How what a detector finds is shown."""


class RowSpec(Keys):
    """Which rows of a relation are there for whoever the set is for."""

    filter: Text = Field(
        description="SQL: a condition over the relation's own columns. Rows for which it is not true cannot be seen or changed; "
        "several that apply are all to be met. Comparisons of columns with constants, IN, BETWEEN, LIKE, IS NULL, AND, OR, NOT.")


Relation = Annotated[str, AfterValidator(relation_name), WithJsonSchema({"type": "string", "x-kind": "SCHEMA.RELATION"})]
FunctionName = Annotated[str, AfterValidator(function_name), WithJsonSchema({"type": "string", "x-kind": "SCHEMA.FUNCTION"})]
Column = Annotated[str, AfterValidator(column_name), WithJsonSchema({"type": "string", "x-kind": "SCHEMA.RELATION.COLUMN"})]


class PatternSpec(Keys):
    """Something of your own to look for."""

    match: Annotated[Text, AfterValidator(check_pattern)] = Field(
        description="RE2 syntax, at most 512 characters; it may not match the empty text. Upper and lower case differ without `(?i)`.")
    mask: TextMask = Field(default=MaskSpec(), description="How what it matches is shown.")


class DetectSpec(Keys):
    """What is looked for in values that no column mask replaced."""

    private_key: TextMask | None = Field(default=None, alias="private-key", description="PEM, OpenSSH and PGP private keys.")
    aws_access_key: TextMask | None = Field(default=None, alias="aws-access-key", description="AWS access key ids.")
    jwt: TextMask | None = Field(default=None, description="JSON Web Tokens (RFC 7515, RFC 7516).")
    payment_card: TextMask | None = Field(
        default=None, alias="payment-card", description="Numbers of 13 to 19 digits led as cards are (ISO/IEC 7812) that pass Luhn.")
    patterns: Annotated[Mapping[Name, PatternSpec], Field(max_length=64)] = Field(
        default_factory=dict, description="Patterns of your own, by name.")

    def named(self) -> Iterator[tuple[str, MaskSpec]]:
        """The detectors that are wanted, and how their findings are shown."""
        for name, field in type(self).model_fields.items():
            found = getattr(self, name)
            if isinstance(found, MaskSpec):
                yield field.alias or name, found

    def masks(self) -> Iterator[MaskSpec]:
        yield from (spec for _, spec in self.named())
        yield from (pattern.mask for pattern in self.patterns.values())
