# SPDX-License-Identifier: Apache-2.0
"""Statements around a query: COPY, EXPLAIN, PREPARE, EXECUTE, DECLARE, CREATE TABLE AS and SELECT INTO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.model import Operation
from gateway.protocols.postgres.sql.casts import type_named
from gateway.protocols.postgres.sql.compiled import fast
from gateway.protocols.postgres.sql.dml import below, modify, write
from gateway.protocols.postgres.sql.draft import Job, finish, job_of, rows
from gateway.protocols.postgres.sql.expressions import expression
from gateway.protocols.postgres.sql.literals import tokens
from gateway.protocols.postgres.sql.parse import Node, Offsets, parse
from gateway.protocols.postgres.sql.scope import Scope
from gateway.protocols.postgres.sql.select import Columns, query
from gateway.protocols.postgres.sql.settings import value_text
from gateway.protocols.postgres.sql.tables import relation_item
from gateway.protocols.postgres.sql.utility import new_relation_name
from gateway.protocols.postgres.sql.values import Value
from gateway.protocols.postgres.sql.verbs import verb_of
from gateway.protocols.postgres.sql.walk import Walk, outputs
from gateway.protocols.postgres.statement import CopyStyle, Output, SqlFault, Statement, own_name

Analyze = Callable[[Job], Statement]

QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def run_query(walk: Walk, kind: str, body: Node) -> Columns:
    """The columns of a query or data-modifying statement."""
    return query(walk, body, None) if kind == "SelectStmt" else modify(walk, kind, body, None)


def query_statement(job: Job) -> Statement:
    """SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE, MERGE."""
    if job.kind == "SelectStmt" and "intoClause" not in job.body:
        return select_statement(job)
    walk = job.walk()
    if "intoClause" in job.body:
        return _into(job, walk, job.kind, job.body, job.body["intoClause"], "create-table")
    columns = run_query(walk, job.kind, job.body)
    verb = "merge" if job.kind == "MergeStmt" else verb_of(job.kind, job.body)
    walk.early = False
    return finish(job, walk, verb, **(rows(walk, columns) if columns.names else {}))


def select_statement(job: Job) -> Statement:
    """SELECT, VALUES, TABLE."""
    walk = job.walk()
    columns = query(walk, job.body, None)
    select_operation(walk)
    return finish(job, walk, "select", **rows(walk, columns))


def select_operation(walk: Walk) -> None:
    """A SELECT that names no relation is an operation all the same."""
    if not any(verb == "select" for verb, _ in walk.operations):
        walk.operations = {("select", ""): Operation("postgres", "select"), **walk.operations}


# CREATE TABLE AS, SELECT INTO, CREATE MATERIALIZED VIEW


def create_as(job: Job, analyze: Analyze) -> Statement:
    """CREATE TABLE AS and CREATE MATERIALIZED VIEW."""
    verb = verb_of(job.kind, job.body)
    ((kind, body),) = job.body["query"].items()
    if kind != "ExecuteStmt":
        return _into(job, job.walk(), kind, body, job.body["into"], verb)
    inner = execute(job.inner(job.body["query"]), analyze)
    walk = job.walk()
    name = new_relation_name(walk, job.body["into"]["rel"])
    walk.operation(verb, name, relations=(name,))
    for column in inner.columns or ():
        walk.sink(name, Value(column.flow.origins, False, column.flow.unknown))
    return _around(inner, walk, verb, returns="none", columns=None, changes_catalog=True, sinks=(*inner.sinks, *walk.sinks))


def _into(job: Job, walk: Walk, kind: str, body: Node, into: Node, verb: str) -> Statement:
    columns = run_query(walk, kind, body)
    if kind == "SelectStmt":
        select_operation(walk)
    name = new_relation_name(walk, into["rel"])
    operations, walk.operations = walk.operations, {}
    walk.operation(verb, name, relations=(name,))
    walk.operations.update(operations)
    for value in columns.values:
        walk.sink(name, value)
    walk.early = False
    walk.changes_catalog = True
    return finish(job, walk, verb)


# COPY


def copy(job: Job, analyze: Analyze) -> Statement:
    """COPY in all its forms."""
    body, walk = job.body, job.walk()
    incoming = bool(body.get("is_from"))
    verb = "copy-program" if body.get("is_program") else "copy-file" if "filename" in body else "copy-from" if incoming else "copy-to"
    if "query" in body:
        ((kind, inner),) = body["query"].items()
        columns = run_query(walk, kind, inner)
        if kind == "SelectStmt":
            select_operation(walk)
    else:
        columns = _copy_table(walk, body, incoming)
    _container(walk, verb)
    walk.early = False
    if "filename" in body:
        for value in columns.values if not incoming else ():
            walk.sink(verb, value)
        return finish(job, walk, verb)
    form, header, style = _copy_format(body)
    return finish(
        job, walk, verb, returns="copy-in" if incoming else "copy-out", columns=outputs(walk, columns.names, columns.values),
        copy_text=form == "text" and style is None, copy_header=header, copy_format=form,
        copy_style=style,
    )  # fmt: skip


def _copy_table(walk: Walk, body: Node, incoming: bool) -> Columns:
    relation = walk.relation(body["relation"]["relname"], body["relation"].get("schemaname"))
    item = relation_item(walk, relation)
    listed = [entry["String"]["sval"] for entry in body.get("attlist", ())]
    names = listed or [column.name for column in relation.columns if not column.generated]
    columns = Columns(names, [])
    for name in names:
        value = item.index.get(name)
        if value is None:
            raise SqlFault("42703", f'column "{name}" of relation "{relation.name}" does not exist')
        columns.values.append(value)
    if not incoming:
        for value in columns.values:
            walk.read(value)
        walk.on_relation("select", relation)
        return columns
    walk.on_relation("insert", relation)
    walk.dml.add("insert")
    if "whereClause" in body:
        expression(walk, body["whereClause"], Scope(None, [item]))
    for name in names:
        column = relation.column(name)
        if column is not None:
            write(walk, relation, column, Value())
    if any(entry.triggers for entry in below(walk, relation)):
        walk.changes_context = True
    return columns


_COPY_HARMLESS = frozenset({"format", "header", "encoding", "on_error", "log_verbosity", "freeze"})
_COPY_DEFAULTS = {
    "text": {"delimiter": "\t", "null": "\\N"},
    "csv": {"delimiter": ",", "null": "", "quote": '"', "escape": '"'},
}
"""What may be said because it holds anyway (manual, COPY)."""


_COPY_STYLE = frozenset({"delimiter", "null", "quote", "escape", "force_quote"})


def _copy_format(body: Node) -> tuple[str, bool, CopyStyle | None]:
    """(text, csv or binary, or ``""`` where it cannot be masked; whether a header line comes first; how it is written, where not as by
    default)."""
    options = [(entry["DefElem"]["defname"], _option_value(entry["DefElem"])) for entry in body.get("options", ())]
    named = [value for name, value in options if name == "format"]
    form = named[0] if named else "text"
    header = any(name == "header" and value.lower() not in ("false", "off", "0") for name, value in options)
    defaults = _COPY_DEFAULTS.get(form, {})
    rest = [(name, value) for name, value in options if not (
        name in _COPY_HARMLESS and (name != "encoding" or _is_utf8(value)) or defaults.get(name) == value)]
    if form not in ("text", "csv", "binary") or len(named) > 1:
        return "", header, None
    if not rest:
        return form, header, None
    style = _copy_style(form, defaults, rest)
    return form if style is not None else "", header, style


def _copy_style(form: str, defaults: dict[str, str], options: list[tuple[str, str]]) -> CopyStyle | None:
    """``None`` for what cannot be read back with certainty: in text format a value may look like any NULL but the default one."""
    names = [name for name, _ in options]
    if not defaults or not _COPY_STYLE.issuperset(names) or len(set(names)) < len(names) or form == "text" and names != ["delimiter"]:
        return None
    said = defaults | {name: value for name, value in options if name != "force_quote"}
    escape = said["quote"] if form == "csv" and "escape" not in names else said.get("escape", '"')
    style = CopyStyle(said["delimiter"], said["null"], said.get("quote", '"'), escape)
    marks = [style.delimiter, *([style.quote, style.escape] if form == "csv" else [])]
    fits = all(len(mark) == 1 and mark.isascii() and mark not in "\r\n\0" for mark in marks) and style.delimiter != style.quote
    if form == "text":
        return style if fits and style.delimiter not in _NO_DELIMITERS else None
    clear = style.delimiter not in style.null and style.quote not in style.null and not set(style.null) & set("\r\n")
    return style if fits and clear and style.delimiter != style.escape else None


_NO_DELIMITERS = "\\.abcdefghijklmnopqrstuvwxyz0123456789"
"""In text format (ProcessCopyOptions)."""


def _is_utf8(value: str) -> bool:
    return value.lower().replace("-", "").replace("_", "") == "utf8"


def _option_value(option: Node) -> str:
    if "arg" not in option:
        return "true"
    ((kind, body),) = option["arg"].items()
    if kind == "String":
        return str(body.get("sval", ""))
    if kind == "Boolean":
        return "true" if body.get("boolval") else "false"
    return str(body.get("ival", body.get("fval", value_text([option["arg"]]) or "")))


def _container(walk: Walk, verb: str) -> None:
    """The container's own operation, before those of what is inside; it carries their relations for deny and approve rules."""
    names = tuple(walk.relations)
    operations, walk.operations = walk.operations, {}
    walk.operation(verb, "", names, container=True, **({"relations": names} if names else {}))
    walk.operations.update(operations)


# EXPLAIN, PREPARE, EXECUTE, DECLARE


def _wrapped(job: Job, analyze: Analyze, node: Node, verb: str) -> tuple[Statement, tuple[Operation, ...]]:
    """(the statement inside, the operations with the container's own in front)."""
    inner = analyze(job.inner(node))
    names = tuple(name for name, _ in inner.relations)
    attributes: dict[str, Any] = {"container": True, **({"relations": names} if names else {})}
    return inner, (Operation("postgres", verb, (), attributes), *inner.operations)


_PLAN_TYPES = {"text": 25, "json": 114, "xml": 142, "yaml": 25}


def explain(job: Job, analyze: Analyze) -> Statement:
    """EXPLAIN shows constants, folded functions and estimates: its one column carries everything that is read."""
    inner, operations = _wrapped(job, analyze, job.body["query"], "explain")
    options = {entry["DefElem"]["defname"]: _option_value(entry["DefElem"]) for entry in job.body.get("options", ())}
    executed = options.get("analyze", "false").lower() not in ("false", "off", "0")
    unknown = inner.changes_context or any(output.flow.unknown for output in inner.columns or ()) or bool(inner.hidden_reasons)
    written = frozenset(write.column for write in inner.writes)
    carried = inner.reads | written
    system = all(schema in ("pg_catalog", "information_schema") for schema, _, _ in carried) and not unknown
    plan = Value(carried, False, unknown, system)
    return replace(
        inner, verb="explain", operations=operations, returns="rows", early=False, inner=inner, transaction="",
        columns=(Output("QUERY PLAN", plan.flow, _PLAN_TYPES.get(options.get("format", "text").lower(), 0)),),
        dml=inner.dml if executed else frozenset(), settings=inner.settings if executed else {},
        changes_catalog=inner.changes_catalog and (executed or inner.verb != "create-table"),
    )  # fmt: skip


def prepare(job: Job, analyze: Analyze) -> Statement:
    """PREPARE: decided as itself and as what is inside."""
    own_name(job.body["name"])
    walk = job.walk()
    types = tuple(type_named(walk, entry["TypeName"]).oid for entry in job.body.get("argtypes", ()))
    inner_job = job.inner(job.body["query"], replace(job.context, parameter_types=types))
    inner = analyze(inner_job)
    names = tuple(name for name, _ in inner.relations)
    attributes: dict[str, Any] = {"container": True, **({"relations": names} if names else {})}
    own = Operation("postgres", "prepare", (job.body["name"],), attributes)
    return replace(
        inner, verb="prepare", operations=(own, *inner.operations), returns="none", early=False, inner=inner,
        prepares=job.body["name"], inner_text=_after_as(job), dml=frozenset(), changes_context=False, changes_catalog=False,
        settings={},
    )  # fmt: skip


def _after_as(job: Job) -> str:
    """The text after ``PREPARE name [(types)] AS``."""
    depth = 0
    for token in tokens(job.text, job.start, job.end):
        if token.kind == "symbol":
            depth += {"(": 1, ")": -1}.get(job.text[token.start], 0)
        elif token.kind == "word" and depth == 0 and job.text[token.start : token.end].lower() == "as":
            return job.text[token.end : job.end].strip()
    raise SqlFault("0A000", "PREPARE without AS")


def execute(job: Job, analyze: Analyze) -> Statement:
    """EXECUTE: decided as what was prepared, its arguments compared with what the parameters were. Raises 26000."""
    name = job.body["name"]
    text = job.context.prepared.get(name)
    if text is None:
        raise SqlFault("26000", f'prepared statement "{name}" does not exist')
    without = {key: value for key, value in job.context.prepared.items() if key != name}
    parsed, data = parse(text)
    if len(parsed) != 1:
        raise SqlFault("0A000", f'prepared statement "{name}" is not one statement')
    context = replace(job.context, prepared=without, parameter_types=())
    inner = analyze(job_of(text, Offsets(data), job.knowledge, job.names, context, parsed[0]))
    walk = job.walk()
    origins = {literal.parameter: literal.origins for literal in inner.literals if literal.parameter}
    for number, node in enumerate(job.body.get("params", ()), 1):
        value = expression(walk, node, Scope(None))
        walk.bind(value, origins.get(number, frozenset()))
        walk.sink(f"a parameter of {name}", value)
    walk.operation("execute", "", (name,), free=True)
    inner = replace(inner, literals=(), inner=None)  # their offsets and numbers are those of another text
    outer = finish(job, walk, "execute")
    return _around(
        inner, walk, "execute", start=job.start, end=job.end, uses_prepared=name, literals=outer.literals, inner=inner, early=False,
        changes_context=inner.changes_context or outer.changes_context,
    )  # fmt: skip


def _around(prepared: Statement, walk: Walk, verb: str, **fields: Any) -> Statement:
    return replace(prepared, verb=verb, operations=(*walk.operations.values(), *prepared.operations), **fields)


def declare(job: Job, analyze: Analyze) -> Statement:
    """DECLARE: the cursor's columns are those of its query."""
    own_name(job.body["portalname"])
    inner, operations = _wrapped(job, analyze, job.body["query"], "declare")
    named = replace(operations[0], objects=(job.body["portalname"],))
    return replace(
        inner, verb="declare", operations=(named, *operations[1:]), returns="none", early=False, inner=inner,
        declares=job.body["portalname"], transaction="", settings={},
    )  # fmt: skip


PURE: dict[str, Any] = {"query_statement": query_statement}

if fast is not None and not TYPE_CHECKING:
    select_statement, query_statement = fast.select_statement, fast.query_statement
