# SPDX-License-Identifier: Apache-2.0
"""Errors and notices of a target, with what could hold a value taken out (manual, "Error and Notice Message Fields", "Error Codes").

Kept: severity, SQLSTATE, position. The message stays where it can only hold what the caller wrote: an error of parse analysis, which
carries a position in the caller's own text and no context; or where it is made of nothing but the words of PostgreSQL's own messages.
Otherwise the SQLSTATE's meaning takes its place. Detail, context, hint and internal query go, names too unless the catalog has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.protocols.postgres.catalog.model import Catalog

WITHHELD = "a notice of the target was withheld: it could hold masked values"

_KEPT = ("S", "V", "C", "M", "P")
_INTERNAL = frozenset("pqW")
_NAMES = ("s", "t", "c", "n")
_CALLER_MADE = frozenset({"P0", "XX", "HV", "F0"})
"""Classes whose message anybody may have written: PL/pgSQL's RAISE, internal errors, foreign servers."""

_OF_NAMES = frozenset({"42P03", "42P05", "26000", "34000", "3B001"})
"""Errors about a cursor, prepared statement or savepoint: outside of a function they name what the caller called so."""

_WORD = re.compile(r"[^\s()\[\],;:.!?'\"]+")
_WORDS = frozenset("""
a aborted access active administrator administrator's after all already among an and any are array as at available be because been
before block by bytes can canceling cannot cast check column column's columns command commands commit committed concurrent
conflict conflicting connection constraint could current cursor cursors data database date deadlock default deferred delete denied
dependencies depth detected division do does due duplicate during element empty end error exceeded execute exist exists expression
failed field for foreign format from function group has have identifier idle idle-in-transaction ignored in inactive index input
insert integer internal interval into invalid is isolation it job key latter length level limit lock lookbehind match memory
missing more must name negative no non not null number numeric object of on one only open operation operator out out-of-range
outside overflow owner parameter permission plan points portal privilege privileges query range reached read read-only read-write
read/write recovery relation remaining request required reserved restart returned role rollback row rows savepoint schema security select
sequence serialize server session set shutdown shutting single slots snapshot specified starting statement statements stopping
string subquery subtransaction such superuser supported syntax system table tables temporary terminating text than that the there
this time timed timeout timestamp to too transaction trigger tuple type types undefined unexpected unique unknown until update use
used user using value values view violates violation volatile wait waiting was while with within without write wrong zero
""".split())  # noqa: SIM905 - a word list reads better as text

MEANINGS: Mapping[str, str] = {
    "22001": "value too long for type", "22003": "numeric value out of range", "22007": "invalid datetime format",
    "22008": "datetime field overflow", "22012": "division by zero", "22023": "invalid parameter value",
    "22P02": "invalid input syntax", "22P03": "invalid binary representation", "22021": "invalid byte sequence for encoding",
    "22030": "duplicate JSON object key value", "22032": "invalid JSON text", "2201B": "invalid regular expression",
    "23000": "integrity constraint violation", "23001": "restrict violation", "23502": "null value violates not-null constraint",
    "23503": "foreign key constraint violated", "23505": "duplicate key value violates unique constraint",
    "23514": "check constraint violated", "23P01": "conflicting key value violates exclusion constraint",
    "40001": "could not serialize access", "40P01": "deadlock detected", "42501": "permission denied", "42601": "syntax error",
    "42703": "column does not exist", "42704": "object does not exist", "42710": "object already exists",
    "42723": "function already exists",
    "42883": "function or operator does not exist", "42P01": "relation does not exist", "42P06": "schema already exists",
    "42P07": "relation already exists", "42804": "datatype mismatch", "42846": "cannot cast", "44000": "check option violated",
    "53100": "disk full", "53200": "out of memory", "53300": "too many connections", "54000": "program limit exceeded",
    "54001": "statement too complex", "55000": "object not in prerequisite state", "55006": "object in use", "55P03": "lock not available",
    "57014": "canceling statement", "57P01": "terminating connection", "58030": "I/O error", "P0001": "exception raised by a function",
    "P0002": "query returned no rows", "P0003": "query returned more than one row", "P0004": "assertion failed", "XX000": "internal error",
}
_CLASSES: Mapping[str, str] = {
    "00": WITHHELD, "01": "warning", "02": "no data", "08": "connection exception", "0A": "feature not supported",
    "21": "cardinality violation", "22": "data exception", "23": "integrity constraint violation", "24": "invalid cursor state",
    "25": "invalid transaction state", "26": "prepared statement does not exist", "28": "invalid authorization",
    "2B": "dependent objects still exist", "2D": "invalid transaction termination", "2F": "SQL routine exception",
    "34": "cursor does not exist", "38": "external routine exception", "39": "external routine invocation exception",
    "3B": "savepoint exception", "3D": "database does not exist", "3F": "schema does not exist", "40": "transaction rollback",
    "42": "syntax error or access rule violation", "53": "insufficient resources", "54": "program limit exceeded",
    "55": "object not in prerequisite state", "57": "operator intervention", "58": "system error", "F0": "configuration file error",
    "HV": "foreign data wrapper error", "P0": "exception raised by a function", "XX": "internal error",
}


def scrub_error(fields: Mapping[str, str], scrub: bool, *, catalog: Catalog | None = None,
                secrets: tuple[str, ...] = ()) -> dict[str, str]:
    """The fields that the caller may see, of an ErrorResponse or NoticeResponse. ``scrub`` is false where no masked value can be in
    it: then only the gateway's ``secrets`` are hidden."""
    if not scrub:
        return {key: conceal(value, secrets) for key, value in fields.items()}
    code = fields.get("C", "XX000")
    kept = {key: fields[key] for key in _KEPT if key in fields}
    if not harmless(fields):
        kept["M"] = meaning(code)
    elif _analysed(fields) and "H" in fields:
        kept["H"] = fields["H"]
    if code.startswith("23") and catalog is not None:
        kept |= _known_names(fields, catalog)
    return {key: conceal(value, secrets) for key, value in kept.items()}


def harmless(fields: Mapping[str, str]) -> bool:
    """True when the message can hold no value of a table."""
    code, message = fields.get("C", ""), fields.get("M", "")
    if code[:2] in _CALLER_MADE:
        return False
    if code in _OF_NAMES and not _INTERNAL & fields.keys():
        return True
    return _analysed(fields) or '"' not in message and all(word.lower() in _WORDS for word in _WORD.findall(message))


def _analysed(fields: Mapping[str, str]) -> bool:
    """Found while the statement was parsed: nothing had been read yet. What runs inside a function has a context."""
    return "P" in fields and not _INTERNAL & fields.keys() and fields.get("C", "")[:2] in ("42", "22", "0A", "3F", "34", "26")


def meaning(code: str) -> str:
    """What a SQLSTATE means, in words without any value."""
    return MEANINGS.get(code) or _CLASSES.get(code[:2], "error of the target")


def _known_names(fields: Mapping[str, str], catalog: Catalog) -> dict[str, str]:
    """Schema, table, column and constraint of an integrity violation, as far as they are names that the catalog has (a function
    may raise such an error with anything in these fields)."""
    relation = catalog.relation(fields.get("t", ""), fields.get("s"))
    if relation is None:
        return {}
    known = {"s": relation.schema, "t": relation.name}
    if relation.column(fields.get("c", "")) is not None:
        known["c"] = fields["c"]
    if catalog.relation(fields.get("n", ""), relation.schema) is not None:
        known["n"] = fields["n"]
    return known


def conceal(text: str, secrets: tuple[str, ...]) -> str:
    """Every secret of at least 6 characters replaced by ``****``."""
    for secret in secrets:
        if len(secret) >= 6 and secret in text:
            text = text.replace(secret, "****")
    return text
