# SPDX-License-Identifier: Apache-2.0
"""A plain value and a model to a checked value, or to problems that an operator can act on."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from gateway.config.document import Document, Path
from gateway.config.problem import Problem, key_text
from gateway.config.values import Keys

Model = TypeVar("Model", bound=Keys)
_TYPES = {
    "string_type": "expected text", "int_type": "expected a whole number", "bool_type": "expected true or false",
    "float_type": "expected a number", "mapping_type": "expected a mapping (key: value)", "dict_type": "expected a mapping (key: value)",
    "model_type": "expected a mapping (key: value)", "model_attributes_type": "expected a mapping (key: value)",
    "tuple_type": "expected a list", "list_type": "expected a list", "frozen_set_type": "expected a list",
}
_QUOTE = " (write it in quotes)"


def validate(model: type[Model], value: Any, document: Document, path: Path) -> Model | None:
    """The checked value, or ``None`` after the document got a problem for everything that is wrong with it."""
    try:
        return model.model_validate(value)
    except ValidationError as wrong:
        errors: list[Any] = list(wrong.errors(include_url=False, include_context=True, include_input=True))
        places = [error["loc"] for error in errors]
        for error in errors:
            around = len(error["loc"])
            if error["type"] == "too_short" and any(len(place) > around and place[:around] == error["loc"] for place in places):
                continue  # it is too short because its entries are wrong
            _report(model, error, document, path)
        return None


def _report(model: type[BaseModel], error: dict[str, Any], document: Document, path: Path) -> None:
    local = tuple(part for part in error["loc"] if part != "[key]")
    where = path
    for part in local:  # pydantic adds labels of its own, such as a union's: what does not stand in the file is left out
        if (*where, part) in document.lines:
            where = (*where, part)
    if error["type"] == "missing":
        document.problems.append(Problem(document.file, document.line(where), key_text((*where, local[-1])), _message(model, error, local)))
        return
    document.complain(where, _message(model, error, local))


def _message(model: type[BaseModel], error: dict[str, Any], local: Path) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(str(local[-1]), keys_at(model, local[:-1]))
    if kind == "missing":
        return "expected this key, which is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"expected {context['expected']}{_closest(error['input'], context['expected'])}"
    if kind == "too_short":
        return "expected at least one entry"
    if kind in _TYPES:
        return _TYPES[kind] + (_QUOTE if kind == "string_type" and isinstance(error["input"], bool | int | float) else "")
    return f"expected otherwise: {error['msg']}" if not context else _bound(kind, context, error["msg"])


def _bound(kind: str, context: dict[str, Any], message: str) -> str:
    words = {"greater_than": "more than", "greater_than_equal": "at least", "less_than": "less than", "less_than_equal": "at most"}
    if kind in words:
        [limit] = context.values()
        return f"expected {words[kind]} {limit}"
    return f"expected otherwise: {message}"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What to say of a key that is not known."""
    names = sorted(known)
    close = difflib.get_close_matches(key, names, n=1)
    return f"expected one of {', '.join(names)}; there is no key {key!r}" + (f", did you mean {close[0]!r}?" if close else "")


def _closest(value: object, expected: str) -> str:
    close = difflib.get_close_matches(str(value), expected.replace("'", "").replace(" or ", ", ").split(", "), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the mapping at ``path`` inside ``model`` may have."""
    found = _model_at(model, path)
    return [field.alias or name for name, field in found.model_fields.items() if not is_absent(field)] if found else []


def is_absent(field: FieldInfo) -> bool:
    """Whether it is inherited and has no meaning there."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("x-absent"))


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    at: type[BaseModel] | None = model
    for part in path:
        fields = {field.alias or name: field for name, field in at.model_fields.items()} if at else {}
        if part in fields:
            at = _model_in(fields[str(part)].annotation)
    return at


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside of ``tuple[Model, ...]``, ``Model | None``, ``Mapping[str, Model]``."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)
