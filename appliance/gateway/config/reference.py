# SPDX-License-Identifier: Apache-2.0
"""The reference page of the configuration and the JSON Schemas for editors, both made from ``schema`` and the protocols' settings."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config import speaks
from gateway.config.masks import MaskSpec
from gateway.config.quantities import show_duration, show_rate, show_size
from gateway.config.schema import CertificateIssuer, GatewayConfig, Issuer, Listener, PolicyFile, Resource
from gateway.config.validate import is_absent
from gateway.credentials.credential import KINDS, MAX_NAMES, Key

Json = dict[str, Any]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SHOW = {"duration": show_duration, "size": show_size, "rate": show_rate}
_REF = "#/$defs/"
_WORDS = {"string": "text", "integer": "whole number", "boolean": "`true`, `false`", "number": "number"}


# --- JSON Schema ------------------------------------------------------------------------------------------------------------------


def gateway_schema() -> Json:
    """For gateway.yaml: each listener with the keys of its protocol."""
    schema = _schema(GatewayConfig, "gateway.yaml")
    listeners = {"console": Listener} | {found.protocol: found.listener for found in speaks.every()}
    schema["properties"]["listeners"] = {
        "description": schema["properties"]["listeners"]["description"], "type": "object", "additionalProperties": False,
        "properties": {name: _into(schema, model) for name, model in listeners.items()},
    }
    return schema


def policy_schema() -> Json:
    """For policy/**/*.yaml: each resource with the keys of its protocol."""
    schema = _schema(PolicyFile, "policy/**/*.yaml")
    choices = []
    for found in speaks.every():
        choices.append(_into(schema, found.resource))
        schema["$defs"][found.resource.__name__]["properties"]["protocol"]["const"] = found.protocol
    schema["$defs"].pop(Resource.__name__, None)
    schema["properties"]["issuers"]["items"] = {"oneOf": [{"$ref": _REF + Issuer.__name__}, _into(schema, CertificateIssuer)]}
    schema["properties"]["resources"]["items"] = {"oneOf": choices}
    return schema


def cases_schema() -> Json:
    """For policy/tests/*.yaml."""
    schema: Json = {"$schema": _DIALECT, "title": "policy/tests/*.yaml", "type": "object", "additionalProperties": False,
                    "required": ["tests"], "$defs": {}}
    choices = [_into(schema, found.case) for found in speaks.every()]
    schema["properties"] = {"tests": {"type": "array", "items": {"oneOf": choices}}}
    return schema


def credential_schema() -> Json:
    """For credentials/NAME.yaml."""
    kinds = [{"type": "object", "additionalProperties": False,
              "required": ["kind", *(key for key, about in keys.items() if about.required)],
              "properties": {"kind": {"const": kind}, **{key: _credential_key(about) for key, about in keys.items()}}}
             for kind, keys in KINDS.items()]
    return {"$schema": _DIALECT, "title": "credentials/NAME.yaml", "oneOf": kinds}


def _credential_key(about: Key) -> Json:
    if about.shape == "names":
        return {"type": "array", "minItems": 1, "maxItems": MAX_NAMES, "uniqueItems": True, "items": {"type": "string", "minLength": 1}}
    return {"type": ["string", "number"]} if about.shape == "duration" else {"type": "string", "minLength": 1}


def _schema(model: type[BaseModel], title: str) -> Json:
    schema = _bare(model.model_json_schema(by_alias=True))
    return {"$schema": _DIALECT, "title": title, "$defs": {}, **schema}


def _into(schema: Json, model: type[BaseModel]) -> Json:
    """Add a model to the definitions; the reference to it."""
    found = _bare(model.model_json_schema(by_alias=True))
    schema["$defs"] |= found.pop("$defs", {})
    schema["$defs"][model.__name__] = found
    return {"$ref": _REF + model.__name__}


def _bare(value: Any, name: bool = False) -> Any:
    """Without the titles that pydantic makes up; ``name`` says that the keys of ``value`` are names of keys."""
    if isinstance(value, dict):
        return {key: _bare(inner, name=not name and key in ("properties", "$defs")) for key, inner in value.items()
                if (name or key != "title") and not (name and isinstance(inner, dict) and inner.get("x-absent"))}
    return [_bare(inner) for inner in value] if isinstance(value, list) else value


def schema_text(schema: Json) -> str:
    """As the file holds it."""
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


# --- the page ---------------------------------------------------------------------------------------------------------------------


def page() -> str:
    """docs/reference/configuration.md."""
    parts = [_INTRODUCTION, "## gateway.yaml\n", *_sections(GatewayConfig, "", 3)]
    for found in speaks.every():
        if found.listener is not Listener:
            parts += [f"### Listener {found.protocol}\n", *_sections(found.listener, "", 4)]
    parts += ["### A listener\n", *_sections(Listener, "listeners.NAME", 3, heading=False)]
    parts += ["## policy/**/*.yaml\n", *_sections(PolicyFile, "", 3, skip=frozenset({"resources"}))]
    for found in speaks.every():
        parts += [f"### resources[] with `protocol: {found.protocol}`\n", *_sections(found.resource, "resources[]", 3, heading=False)]
    parts += ["### issuers[] with `kind: certificate`\n", *_sections(CertificateIssuer, "issuers[]", 3, heading=False)]
    parts += ["## policy/tests/*.yaml\n", "`tests:` and a list of cases.\n"]
    for found in speaks.every():
        parts += [f"### tests[] for a resource of protocol {found.protocol}\n", *_sections(found.case, "tests[]", 3, heading=False)]
    parts += ["## credentials/NAME.yaml\n", *_credentials()]
    return "\n".join(parts)


_INTRODUCTION = """\
# Configuration

Generated by `make docs` from `appliance/gateway/config/schema.py` and each protocol's `settings.py`.

Files are YAML 1.2 core schema: plain `on`, `off`, `yes`, `no`, dates and `1_000` are text. Anchors, aliases, tags, duplicate keys, keys
that are not text and several documents in one file are refused; so are files of more than 1 MiB. Every key that is not on this page is an
error. Relative paths are relative to the folder that holds `gateway.yaml`.

Durations are written `500ms`, `30s`, `15m`, `8h`, `30d` (`1h30m` adds up; a bare number is seconds), sizes `64KiB`, `64MiB`, `20GiB` (a
bare number is bytes), rates `100000/s`, `6000/m` (a bare number is per second).
Moments are RFC 3339 with an offset: `2026-01-01T00:00:00Z`.

Names of issuers, identities, resources, approvals, masks and credentials are letters, digits, `.`, `_` and `-`, at most 63; grants and
rules may have any printable name without `/`.

Every file, and every folder up to `/`, belongs to root or the service user (the one who runs `serve` or `check`, and the account
`lockgate` where there is one) and is not writable by others. `credentials/` and everything in it, and every private key under `tls/` and
`demo/`, is not readable by others; a file of root may be readable by the service user's own group. `lockgate init DIR` takes away what is
too much.

Editors check files against `schema/gateway.schema.json`, `schema/policy.schema.json`, `schema/tests.schema.json` and
`schema/credential.schema.json`, for instance with a first line `# yaml-language-server: $schema=…/policy.schema.json`.
"""


def _sections(model: type[BaseModel], at: str, level: int, *, heading: bool = True, skip: frozenset[str] = frozenset()) -> Iterator[str]:
    """A table for the model, and one for every model inside of it."""
    schema = _bare(model.model_json_schema(by_alias=True))
    definitions = schema.get("$defs", {})
    if heading and at:
        yield f"{'#' * level} {at}\n"
    if model.__doc__ and model not in (GatewayConfig, PolicyFile):
        yield " ".join(model.__doc__.replace("``", "`").split()) + "\n"
    yield "| key | what it takes | default | meaning |\n|---|---|---|---|"
    fields = {field.alias or name: field for name, field in model.model_fields.items() if not is_absent(field)}
    for key, field in fields.items():
        shape = schema["properties"][key]
        yield f"| `{key}` | {_what(shape, definitions)} | {_default(field, shape)} | {field.description or ''} |"
    yield ""
    for key, field in fields.items():
        inner, many = _inner(field.annotation)
        if inner is not None and key not in skip and inner not in (Listener, Resource):
            yield from _sections(inner, f"{at}.{key}{many}".lstrip("."), level + (1 if at else 0))


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model inside of an annotation, and ``[]`` where it is a list of them."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return (annotation if annotation is not MaskSpec else None), ""
    many = "[]" if get_origin(annotation) is tuple else ""
    for part in get_args(annotation):
        found, inside = _inner(part)
        if found is not None:
            return found, many + inside
    return None, ""


def _what(shape: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON Schema in words."""
    if kind := shape.get("x-kind"):
        return str(kind)
    if "$ref" in shape:
        return "mapping, see below"
    if "enum" in shape or "const" in shape:
        return ", ".join(f"`{value}`" for value in shape.get("enum", [shape.get("const")]))
    choices = [choice for key in ("anyOf", "oneOf", "allOf") for choice in shape.get(key, ()) if choice.get("type") != "null"]
    if choices:
        return " or ".join(dict.fromkeys(_what(choice, definitions) for choice in choices))
    if shape.get("type") == "array":
        items = shape.get("items", {})
        return "list of mappings, see below" if "$ref" in items else f"list of {_what(items, definitions)}"
    if shape.get("type") == "object":
        values = shape.get("additionalProperties", {})
        return f"mapping to {_what(values, definitions)}" if values and values is not True else "mapping"
    return _WORDS.get(shape.get("type", ""), "value")


def _default(field: FieldInfo, shape: Mapping[str, Any]) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "see below"
    if value is None or value == () or value == {}:
        return ""
    kinds = {shape.get("x-kind"), *(choice.get("x-kind") for choice in shape.get("anyOf", ()))}
    show = next((show for kind, show in _SHOW.items() if kind in kinds), None)
    if show is not None and not isinstance(value, str):
        return f"`{show(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


_SHAPES = {"names": "list of names", "pem": "PEM or path", "text": "text", "duration": "duration"}
_ELSEWHERE = {"bearer": ("webhook",), "mask-key": ("masks",)}


def _credentials() -> Iterator[str]:
    yield "Which kinds a resource accepts depends on its protocol; `bearer` is also what a webhook signs with.\n"
    yield "| kind | accepted by | key | value | meaning |\n|---|---|---|---|---|"
    for kind, keys in KINDS.items():
        protocols = [found.protocol for found in speaks.every() if kind in found.credentials]
        users = ", ".join([*protocols, *_ELSEWHERE.get(kind, ())])
        for key, about in keys.items():
            value = _SHAPES[about.shape] + (", secret" if about.secret else "")
            needed = "" if about.required else ", optional"
            yield f"| `{kind}` | {users} | `{key}` | {value}{needed} | {about.description} |"
    later = sorted({f"`{kind}` ({found.protocol})" for found in speaks.every() for kind in found.later})
    yield f"\nNamed, but refused until they are supported: {', '.join(later)}.\n" if later else ""


def page_of(model: type[BaseModel], title: str) -> str:
    """A page for a settings file of its own."""
    return "\n".join([f"# {title}\n", "Generated by `make docs`. Values are written as in [configuration.md](configuration.md).\n",
                      *_sections(model, "", 2)])


def documents() -> dict[str, str]:
    """Every file this module makes, by its name under docs/reference."""
    schemas = {"gateway": gateway_schema(), "policy": policy_schema(), "tests": cases_schema(), "credential": credential_schema()}
    return {"configuration.md": page()} | {f"schema/{name}.schema.json": schema_text(schema) for name, schema in schemas.items()}
