# SPDX-License-Identifier: Apache-2.0
"""Statements about the session: transactions, settings, cursors, prepared statements, notifications, CALL and DO."""

from __future__ import annotations

from gateway.protocols.postgres.sql import settings
from gateway.protocols.postgres.sql.draft import Job, finish, rows
from gateway.protocols.postgres.sql.functions import function_call
from gateway.protocols.postgres.sql.scope import Scope
from gateway.protocols.postgres.sql.select import Columns
from gateway.protocols.postgres.sql.utility import utility
from gateway.protocols.postgres.sql.values import TEXT, Value
from gateway.protocols.postgres.sql.verbs import TRANSACTIONS
from gateway.protocols.postgres.statement import SqlFault, Statement


def transaction(job: Job) -> Statement:
    walk = job.walk()
    verb, what = TRANSACTIONS[job.body["kind"]]
    name = job.body.get("savepoint_name") or job.body.get("gid") or ""
    walk.operation(verb, "", (name,) if name else ())
    return finish(job, walk, verb, transaction=what, early=what == "begin")


def set_variable(job: Job) -> Statement:
    walk = job.walk()
    return finish(job, walk, settings.set_statement(walk, job.body), early=False)


def set_constraints(job: Job) -> Statement:
    walk = job.walk()
    settings.note(walk, "constraints", None, known=False)
    walk.changes_context = True     # deferred triggers may run now
    return finish(job, walk, "set", early=False)


def show(job: Job) -> Statement:
    """SHOW: built-in settings are clear; one of an application's own could hold anything a function put there."""
    walk = job.walk()
    name = str(job.body.get("name", ""))
    walk.operation("show", "", (name,))
    if name.lower() == "all":
        names = ["name", "setting", "description"]
        return finish(job, walk, "show", **rows(walk, Columns(names, [Value(type=TEXT)] * 3)))
    custom = "." in name
    if custom:
        walk.uncertain("a custom setting may hold anything")
    return finish(job, walk, "show", **rows(walk, Columns([name], [Value(unknown=custom, system=not custom, type=TEXT)])))


def fetch(job: Job) -> Statement:
    """FETCH and MOVE. Raises ``SqlFault`` 34000 for a cursor that was not declared here."""
    walk = job.walk()
    name = job.body["portalname"]
    if name not in job.context.cursors:
        raise SqlFault("34000", f'cursor "{name}" does not exist')
    walk.operation("fetch", "", (name,))
    columns = job.context.cursors[name]
    early = name in job.context.early_cursors
    walk.changes_context = not early  # the cursor's query runs now, with whatever its functions set
    if job.body.get("ismove"):
        return finish(job, walk, "fetch", uses_cursor=name, early=early)
    return finish(job, walk, "fetch", uses_cursor=name, early=early, returns="rows", columns=columns)


def close(job: Job) -> Statement:
    walk = job.walk()
    name = job.body.get("portalname")
    if name is not None and name not in job.context.cursors:
        raise SqlFault("34000", f'cursor "{name}" does not exist')
    walk.operation("close", "", (name,) if name else ())
    return finish(job, walk, "close", uses_cursor=name, forgets=name or "*", early=False)


def deallocate(job: Job) -> Statement:
    walk = job.walk()
    name = job.body.get("name")
    if name is not None and name not in job.context.prepared:
        raise SqlFault("26000", f'prepared statement "{name}" does not exist')
    walk.operation("deallocate", "", (name,) if name else ())
    return finish(job, walk, "deallocate", forgets=name or "*", early=False)


def discard(job: Job) -> Statement:
    walk = job.walk()
    what = str(job.body.get("target", "DISCARD_ALL")).removeprefix("DISCARD_").lower()
    walk.operation("discard", "", (what,))
    walk.changes_context = what in ("all", "temp")
    walk.changes_catalog = what in ("all", "temp")
    return finish(job, walk, "discard", forgets="*" if what == "all" else None, early=False)


def channel(job: Job) -> Statement:
    """LISTEN, UNLISTEN, NOTIFY."""
    walk = job.walk()
    verb = {"ListenStmt": "listen", "UnlistenStmt": "unlisten", "NotifyStmt": "notify"}[job.kind]
    name = job.body.get("conditionname", "*")
    walk.operation(verb, "", (name,))
    return finish(job, walk, verb, early=False)


def simple(job: Job) -> Statement:
    """CHECKPOINT and LOAD."""
    walk = job.walk()
    verb = {"CheckPointStmt": "checkpoint", "LoadStmt": "load"}[job.kind]
    walk.operation(verb, "", (job.body["filename"],) if "filename" in job.body else ())
    walk.user_code = walk.volatile_code = verb == "load"
    return finish(job, walk, verb, early=False)


def do(job: Job) -> Statement:
    walk = job.walk()
    walk.operation("do", "", ())
    walk.user_code = walk.volatile_code = True
    return finish(job, walk, "do", early=False)


def call_procedure(job: Job) -> Statement:
    """CALL: its OUT arguments come back as one row."""
    walk = job.walk()
    called = function_call(walk, job.body["funccall"], Scope(None))
    for function in called.functions:
        name = f"{function.schema}.{function.name}"
        walk.operation("call", name, functions=(name,), free=False)
    walk.user_code = walk.volatile_code = True
    outs = next((function.outputs for function in called.functions if function.outputs), ())
    columns = Columns([name for name, _ in outs], [Value(called.value.origins, False, True, False, kind) for _, kind in outs])
    return finish(job, walk, "call", early=False, **(rows(walk, columns) if outs else {}))


def other(job: Job) -> Statement:
    """Every other utility statement."""
    walk = job.walk()
    verb = utility(walk, job.kind, job.body)
    return finish(job, walk, verb, early=False)
