# SPDX-License-Identifier: Apache-2.0
"""A small target made by hand: one object for every way a name or a value can go astray."""

from __future__ import annotations

from dataclasses import replace

from gateway.model import Operation
from gateway.protocols.postgres.catalog import Cast, Catalog, Column, Function, Objects, Operator, Relation, Type
from gateway.protocols.postgres.catalog.offline import shipped_builtin
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.statement import ColumnId, Context, Statement

INT, TEXT, JSONB, NUMERIC, BIGINT = 23, 25, 3802, 1700, 20
SSN: ColumnId = ("public", "customers", "ssn")
MOOD, WRAP, CHECKED, FANCY = 17001, 17003, 17005, 17007


def table(oid: int, name: str, columns: str, schema: str = "public", kind: str = "r", **more: object) -> Relation:
    """``columns`` reads ``id:23 name:25``."""
    made = tuple(Column(part.split(":")[0], number, int(part.split(":")[1])) for number, part in enumerate(columns.split(), 1))
    return replace(Relation(oid, schema, name, kind, made), **more)  # type: ignore[arg-type]


def with_column(relation: Relation, name: str, **more: object) -> Relation:
    columns = tuple(replace(c, **more) if c.name == name else c for c in relation.columns)  # type: ignore[arg-type]
    return replace(relation, columns=columns)


CUSTOMERS = table(20001, "customers", f"id:{INT} name:{TEXT} email:{TEXT} ssn:{TEXT} card:{TEXT} notes:{JSONB}")
ORDERS = table(20003, "orders", f"id:{INT} customer_id:{INT} total:{NUMERIC}")
_RELATIONS = (
    CUSTOMERS,
    ORDERS,
    table(
        20005,
        "customer_v",
        f"id:{INT} national_id:{TEXT}",
        kind="v",
        definition="SELECT customers.id, customers.ssn AS national_id FROM public.customers;",
    ),
    table(
        20007,
        "short_v",
        f"id:{INT} a:{TEXT} who:{TEXT}",
        kind="v",
        definition='SELECT customer_v.id, "left"(customer_v.national_id, 3) AS a, public.get_ssn(1) AS who FROM public.customer_v;',
    ),
    table(20009, "looped_v", f"x:{INT}", kind="v", definition="SELECT looped_v.x FROM public.looped_v;"),
    table(20011, "broken_v", f"x:{INT}", kind="v", definition="SELECT nothing.x FROM public.nothing;"),
    table(20013, "kept", f"n:{TEXT}", kind="m", definition="SELECT customers.ssn AS n FROM public.customers;"),
    table(20015, "people", f"id:{INT} ssn:{TEXT}"),
    table(20017, "staff", f"id:{INT} ssn:{TEXT} room:{TEXT}", parents=(20015,)),
    with_column(table(20019, "badges", f"id:{INT} code:{TEXT} tail:{TEXT}"), "tail", generated='"right"(code, 4)'),
    table(20021, "guarded", f"id:{INT} note:{TEXT}", row_security=True),
    table(20023, "far", f"id:{INT} note:{TEXT}", kind="f"),
    table(20025, "ruled", f"id:{INT}", rules=True),
    table(20027, "fired", f"id:{INT} v:{TEXT}", triggers=True, rewriting=True),
    with_column(table(20029, "filled", f"id:{INT} v:{TEXT} n:{BIGINT}"), "v", default="public.get_ssn(1)"),
    table(20031, "feelings", f"id:{INT} mood:{MOOD}"),
    table(20033, "orders", f"id:{INT} secret:{TEXT}", schema="alt"),
    table(20035, "customers", f"id:{INT} ssn:{TEXT}", schema="pg_temp_3", persistence="t"),
    table(20037, "pg_toast_20001", f"chunk_id:26 chunk_seq:{INT} chunk_data:17", schema="pg_toast", kind="t"),
    table(20039, "fired_v", f"id:{INT} v:{TEXT}", kind="v", definition="SELECT fired.id, fired.v FROM public.fired;"),
    table(20041, "ruled_v", f"id:{INT}", kind="v", definition="SELECT ruled.id FROM public.ruled;"),
)
RELATIONS: tuple[Relation, ...] = tuple(
    with_column(r, "n", default="nextval('public.numbers'::regclass)") if r.name == "filled" else r for r in _RELATIONS
)

FUNCTIONS = (
    Function(30001, "public", "get_ssn", "f", (INT,), result=TEXT, volatile="s"),
    Function(30003, "public", "pretty", "f", (20002,), result=TEXT),
    Function(30005, "public", "lower", "f", (INT,), result=TEXT),
    Function(30007, "public", "at_sign", "f", (TEXT, INT), result=TEXT),
    Function(30009, "public", "to_wrap", "f", (INT,), result=WRAP),
    Function(30011, "public", "looks_good", "f", (TEXT,), result=16),
    Function(30013, "public", "pair_of", "f", (INT,), result=2249, outputs=(("x", INT), ("y", TEXT))),
    Function(30015, "public", "work", "p", (INT,), result=2278),
    Function(30017, "public", "answer", "p", (INT,), result=2249, outputs=(("o", TEXT),)),
    Function(30019, "public", "most", "a", (TEXT,), result=TEXT),
    Function(30021, "public", "fancy_in", "f", (2275,), result=FANCY),
    Function(30023, "public", "rows_of", "f", (INT,), result=20002, returns_set=True),
    Function(30025, "alt", "upper", "f", (TEXT,), result=TEXT),
    Function(30027, "public", "with_defaults", "f", (INT, TEXT), defaults=1, result=INT, arg_names=("a", "b")),
)
OPERATORS = (
    Operator(31001, "public", "@@@", 0, INT, TEXT, 30001),
    Operator(31003, "public", "||", TEXT, INT, TEXT, 30007),
)
TYPES = (
    *(Type(r.oid + 1, r.schema, r.name, "c", "C", relation_oid=r.oid) for r in RELATIONS if r.schema != "pg_toast"),
    Type(MOOD, "public", "mood", "e", "E"),
    Type(WRAP, "public", "wrap", "c", "C"),
    Type(CHECKED, "public", "checked", "d", "S", base=TEXT, checks=(30011,)),
    Type(FANCY, "public", "fancy", "b", "U", functions=(30021,)),
)
CASTS = (Cast(INT, WRAP, 30009, "e", 32001),)

CATALOG = Catalog(
    "1",
    150008,
    "shop",
    shipped_builtin(150008),
    Objects(frozenset({"public", "alt", "pg_toast", "pg_temp_3"}), RELATIONS, FUNCTIONS, OPERATORS, TYPES, CASTS),
)
CONTEXT = Context(("pg_catalog", "public"), user="app")
NEWER = Catalog("2", 180001, "shop", shipped_builtin(180001), CATALOG.user)


def statements(text: str, context: Context = CONTEXT, catalog: Catalog = CATALOG) -> tuple[Statement, ...]:
    return analyze(text, context, catalog)


def one(text: str, context: Context = CONTEXT, catalog: Catalog = CATALOG) -> Statement:
    (statement,) = analyze(text, context, catalog)
    return statement


def origins(text: str, column: int = 0, context: Context = CONTEXT, catalog: Catalog = CATALOG) -> set[str]:
    """The origins of a result column as ``relation.column``, ``?`` added where it is unknown."""
    columns = one(text, context, catalog).columns or ()
    flow = columns[column].flow
    return {f"{relation}.{name}" for _, relation, name in flow.origins} | ({"?"} if flow.unknown else set())


def operations(text: str, context: Context = CONTEXT, *, free: bool = False) -> list[str]:
    """``verb object`` of each operation, those that need no rule left out."""
    found = [operation for statement in analyze(text, context, CATALOG) for operation in statement.operations]
    return [shown(operation) for operation in found if free or not operation.attributes.get("free")]


def shown(operation: Operation) -> str:
    where = " (unbounded)" if operation.attributes.get("where") == "missing" else ""
    return " ".join((operation.verb, *operation.objects)) + where


def hidden(text: str, column: ColumnId = SSN) -> list[str]:
    """The literal tokens of a text that feed, or are compared with, a column; parameters as ``$n``."""
    found = [literal for statement in analyze(text, CONTEXT, CATALOG) for literal in statement.literals]
    return [
        f"${literal.parameter}" if literal.parameter else text[literal.start : literal.end]
        for literal in found
        if column in literal.origins
    ]


def secrets(text: str, catalog: Catalog = CATALOG) -> list[str]:
    """The literal tokens that are secrets by their place."""
    return [text[x.start : x.end] for s in analyze(text, CONTEXT, catalog) for x in s.literals if x.secret]
