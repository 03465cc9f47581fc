# SPDX-License-Identifier: Apache-2.0
"""The reference pages are those of the source, and say something about every key."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from gateway.cli import VERBS, docs
from gateway.config import reference, speaks
from gateway.config.schema import GatewayConfig, PolicyFile

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "appliance" / "gateway" / "config" / "demo"


def test_the_pages_are_fresh() -> None:
    assert sorted(docs.stale(ROOT / "docs" / "reference")) == [], "run `make docs`"


def test_stale_pages_are_found_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = argparse.Namespace(folder=None, out=tmp_path, check=True, json=True)
    assert docs.run(check) == 1
    assert "configuration.md" in json.loads(capsys.readouterr().out)["stale"]
    assert docs.run(argparse.Namespace(folder=tmp_path, out=None, check=False, json=True)) == 0
    assert docs.run(check) == 0
    (tmp_path / "configuration.md").write_text("old")
    assert docs.run(check) == 1


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        yield f"{model.__name__}.{name}", field
        inner, _ = reference._inner(field.annotation)
        if inner is not None:
            yield from _fields(inner)


@pytest.mark.parametrize(
    "model", [GatewayConfig, PolicyFile, *(kind for found in speaks.every() for kind in (found.resource, found.listener, found.case))]
)
def test_every_key_is_explained(model: type[BaseModel]) -> None:
    missing = [name for name, field in _fields(model) if not field.description]
    assert missing == []


def test_the_command_line_page_has_every_verb() -> None:
    page = docs.cli_page()
    for verb in VERBS:
        if verb not in ("docs",):
            assert f"## {verb}" in page, verb
    assert "## docs" not in page
    assert "==SUPPRESS==" not in page


def _valid(value: Any, schema: dict[str, Any], top: dict[str, Any]) -> bool:
    """As much of JSON Schema as the generated documents use."""
    if "$ref" in schema:
        return _valid(value, top["$defs"][schema["$ref"].rsplit("/", 1)[1]], top)
    if "anyOf" in schema or "oneOf" in schema:
        matching = sum(_valid(value, choice, top) for choice in schema.get("anyOf") or schema["oneOf"])
        return matching >= 1 if "anyOf" in schema else matching == 1
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    types = schema.get("type", [])
    if types and not any(_is(value, kind) for kind in ([types] if isinstance(types, str) else types)):
        return False
    if isinstance(value, list):
        return all(_valid(inner, schema.get("items", {}), top) for inner in value)
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        if any(key not in value for key in schema.get("required", ())):
            return False
        rest = {key: inner for key, inner in value.items() if key not in known}
        if rest and more is False:
            return False
        return all(_valid(inner, known[key], top) for key, inner in value.items() if key in known) and (
            more is True or more is False or all(_valid(inner, more, top) for inner in rest.values())
        )
    return True


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    wanted = {"string": str, "integer": int, "number": int | float, "array": list, "object": dict, "null": type(None), "boolean": bool}
    return isinstance(value, wanted[kind])


@pytest.mark.parametrize(
    ("pattern", "schema"),
    [
        ("gateway.yaml", reference.gateway_schema()),
        ("policy/*.yaml", reference.policy_schema()),
        ("policy/grants/*.yaml", reference.policy_schema()),
        ("policy/tests/*.yaml", reference.cases_schema()),
        ("credentials/*.yaml", reference.credential_schema()),
    ],
)
def test_the_example_fits_the_editor_schemas(pattern: str, schema: dict[str, Any]) -> None:
    paths = list(EXAMPLE.glob(pattern))
    assert paths
    for path in paths:
        value = yaml.load(path.read_text(), Loader=yaml.BaseLoader) if "tests" in path.parts else _plain(path)
        assert _valid(value, schema, schema), path
        assert not _valid(value | {"unheard-of": 1}, schema, schema)


def _plain(path: Path) -> Any:
    from gateway.config.document import read_document

    document = read_document(path.name, path.read_bytes())
    assert document.problems == []
    return document.value


def test_the_editor_schemas_refuse_what_the_loader_refuses() -> None:
    schema = reference.policy_schema()
    resource = {"name": "a", "protocol": "postgres", "address": "a:1", "database": "b", "credential": "c"}
    assert _valid({"resources": [resource]}, schema, schema)
    assert not _valid({"resources": [resource | {"protocol": "ssh"}]}, schema, schema)
    assert not _valid({"resources": [resource | {"logins": ["a"]}]}, schema, schema)
    assert not _valid({"grants": [{"name": "a"}]}, schema, schema)
