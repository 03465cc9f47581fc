# SPDX-License-Identifier: Apache-2.0
"""Plans, both locks, laundering, rows: compared with a simple reference implementation (T30)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayFault, Refused, TargetFault
from gateway.masking.model import MaskSet
from gateway.masking.rules import EMAIL, HIDDEN, REDACT, MaskRule, keep_last
from gateway.model import Operation
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Column, Objects, Relation, Type
from gateway.protocols.postgres.masking import CLEAR, MaskPlan, check_row_description, mask_rows, plan
from gateway.protocols.postgres.messages import DataRow, Field
from gateway.protocols.postgres.rows import fields as fields_of
from gateway.protocols.postgres.rows import scan_run
from gateway.protocols.postgres.statement import Flow, Output, Sink, Statement, Write

TABLE, CHILD, VIEW, OTHER = 16385, 16390, 16395, 16400
TEXT, INT, BPCHAR, JSONB, CITEXT, DOMAIN = 25, 23, 1042, 3802, 16500, 16501


def column(name: str, number: int, type_oid: int = TEXT) -> Column:
    return Column(name, number, type_oid)


CUSTOMERS = (column("id", 1, INT), column("name", 2), column("email", 3), column("ssn", 4), column("card", 6))
CATALOG = Catalog(
    "1",
    150000,
    "orders",
    BuiltinCatalog(
        150000,
        Objects(
            relations=(
                Relation(1259, "pg_catalog", "pg_class", "r", (column("relname", 2, 19),)),
                Relation(12100, "pg_catalog", "pg_stats", "v", (column("schemaname", 1, 19), column("most_common_vals", 10, 2277))),
            )
        ),
    ),
    Objects(
        relations=(
            Relation(TABLE, "public", "customers", "p", CUSTOMERS),
            Relation(CHILD, "public", "customers_eu", "r", CUSTOMERS, parents=(TABLE,)),
            Relation(VIEW, "public", "customer_v", "v", (column("id", 1, INT), column("national_id", 2))),
            Relation(OTHER, "public", "notes", "r", (column("body", 1), column("data", 2, JSONB), column("raw", 3))),
        ),
        types=(Type(CITEXT, "public", "citext", "b", "S"), Type(DOMAIN, "public", "mail", "d", "S", base=TEXT)),
    ),
)
MASKS = MaskSet({"public.customers.ssn": REDACT, "public.customers.card": keep_last(4), "public.customers.email": EMAIL})
LOOKING = MaskSet({"public.customers.ssn": REDACT}, clear=["public.notes.raw"], detect={"payment-card": keep_last(4), "jwt": REDACT})
ONLY_LOOKING = MaskSet(detect={"payment-card": keep_last(4)})


def plain(relation: str, name: str, schema: str = "public") -> Flow:
    return Flow(frozenset({(schema, relation, name)}), plain=True, system=schema == "pg_catalog")


def derived(*origins: tuple[str, str]) -> Flow:
    return Flow(frozenset({("public", *origin) for origin in origins}), system=False)


UNKNOWN = Flow(unknown=True, system=False)
CONSTANT = Flow()
SSN, CARD, EMAIL_OF, ID = plain("customers", "ssn"), plain("customers", "card"), plain("customers", "email"), plain("customers", "id")


def select(*flows: Flow, **more: Any) -> Statement:
    return Statement(
        "select",
        (),
        returns="rows",
        columns=tuple(Output(f"c{i}", flow) for i, flow in enumerate(flows)),
        relations=(("public.customers", TABLE),),
        **more,
    )


def verified(flows: list[Flow], fields: list[Field], masks: MaskSet = MASKS) -> MaskPlan:
    return check_row_description(plan(select(*flows), masks, CATALOG), fields, (), CATALOG, masks)


def rows_of(data: bytes) -> list[tuple[bytes | None, ...]]:
    rows, at = [], 0
    while at < len(data):
        values, at = fields_of(data, at)
        rows.append(tuple(values))
    return rows


def masked(flows: list[Flow], fields: list[Field], values: list[bytes | None], masks: MaskSet = MASKS) -> list[bytes | None]:
    data, _ = mask_rows(verified(flows, fields, masks), DataRow(tuple(values)).encode())
    return list(rows_of(data)[0])


# the first lock


def test_plain_columns_carry_their_rule() -> None:
    fields = [Field("id", TABLE, 1, INT), Field("ssn", TABLE, 4), Field("card", TABLE, 6, 1043), Field("email", TABLE, 3)]
    assert masked([ID, SSN, CARD, EMAIL_OF], fields, [b"1", b"078-05-1120", b"4111111111111111", b"dana@example.com"]) == [
        b"1",
        b"****",
        b"************1111",
        b"d***@example.com",
    ]


def test_null_stays_null() -> None:
    assert masked([SSN, CARD], [Field("a", TABLE, 4), Field("b", TABLE, 6)], [None, None]) == [None, None]


@pytest.mark.parametrize("flow", [UNKNOWN, derived(("customers", "card")), derived(("customers", "id"), ("customers", "card"))])
@pytest.mark.parametrize(
    ("type_oid", "shown"),
    [
        (TEXT, b"****"),
        (1043, b"****"),
        (19, b"****"),
        (CITEXT, b"****"),
        (DOMAIN, b"****"),
        (INT, None),
        (JSONB, None),
        (1009, None),
        (16999, None),
        (17, None),
        (18, None),
    ],
)
def test_what_is_computed_or_unknown_is_hidden_as_a_whole(flow: Flow, type_oid: int, shown: bytes | None) -> None:
    for code in (0, 1):
        assert masked([flow], [Field("x", 0, 0, type_oid, format=code)], [b"\0\0\0\1"]) == [shown]


def test_a_partial_rule_on_a_type_that_is_no_text() -> None:
    assert masked([CARD], [Field("card", TABLE, 6, 20)], [b"4111111111111111"]) == [None]


def test_a_plain_column_with_more_than_one_origin_adds_up() -> None:
    flow = Flow(frozenset({("public", "customers", "card"), ("public", "customers", "ssn")}), plain=True, system=False)
    assert masked([flow], [Field("x", 0, 0, TEXT)], [b"4111111111111111"]) == [b"****"]


def test_padding_is_no_part_of_a_bpchar() -> None:
    assert masked([CARD], [Field("card", TABLE, 6, BPCHAR)], [b"4111111111111111    "]) == [b"************1111    "]


def test_characters_not_bytes_and_what_is_not_utf8() -> None:
    assert masked([CARD], [Field("card", TABLE, 6)], ["äöüßéè".encode()]) == ["**üßéè".encode()]
    assert masked([CARD], [Field("card", TABLE, 6)], [b"\xff\xfe1234567"]) == [b"****"]


def test_without_masks_nothing_is_touched() -> None:
    assert plan(select(SSN, UNKNOWN), MaskSet(), CATALOG) is CLEAR
    made = check_row_description(CLEAR, [Field("x")], (), CATALOG, MaskSet())
    data = DataRow((b"x",)).encode()
    assert mask_rows(made, data) == (data, 0) and mask_rows(made, data)[0] is data and not made.any


def test_before_the_description_is_compared_no_row_passes() -> None:
    made = plan(select(ID), MASKS, CATALOG)
    assert made.any and made.hidden == 0
    with pytest.raises(GatewayFault):
        mask_rows(made, DataRow((b"1",)).encode())


def test_outputs_that_analysis_does_not_know() -> None:
    made = plan(Statement("fetch", (), returns="rows"), MASKS, CATALOG)
    done = check_row_description(made, [Field("a"), Field("b", type_oid=INT)], (), CATALOG, MASKS)
    assert rows_of(mask_rows(done, DataRow((b"x", b"1")).encode())[0]) == [(b"****", None)]


def test_statistics_count_as_masked() -> None:
    flow = plain("pg_stats", "most_common_vals", "pg_catalog")
    assert masked([flow], [Field("v", 12100, 10, 2277)], [b"{078-05-1120}"]) == [None]
    assert masked([plain("pg_class", "relname", "pg_catalog")], [Field("r", 1259, 2, 19)], [b"customers"]) == [b"customers"]


# the second lock


@pytest.mark.parametrize(
    "field",
    [
        Field("id", TABLE, 4),
        Field("id", CHILD, 4),
        Field("id", TABLE, 0, 2249),
        Field("id", 99999, 1),
        Field("id", TABLE, 5),
        Field("id", VIEW, 2),
        Field("id", 12100, 10),
        Field("id", CHILD, 0, 2249),
    ],
    ids=[
        "masked column",
        "of a child",
        "whole row",
        "unknown relation",
        "dropped column",
        "another view column",
        "statistics",
        "child row",
    ],
)
def test_a_clear_column_that_the_target_says_is_masked(field: Field) -> None:
    with pytest.raises(GatewayFault):
        verified([ID], [field])


@pytest.mark.parametrize(
    "field",
    [
        Field("id", TABLE, 1, INT),
        Field("id", CHILD, 1, INT),
        Field("id", TABLE, -1, 27),
        Field("id", OTHER, 0, 2249),
        Field("id", 0, 0, INT),
        Field("id", 1259, 2, 19),
    ],
)
def test_a_clear_column_that_the_target_agrees_with(field: Field) -> None:
    assert verified([ID], [field]).rows is not None


def test_a_views_own_column_has_to_be_the_one_of_the_statement() -> None:
    of_view = Flow(frozenset({("public", "customer_v", "id"), ("public", "customers", "id")}), plain=True, system=False)
    assert verified([of_view], [Field("id", VIEW, 1, INT)]).rows is not None
    with pytest.raises(GatewayFault):
        verified([of_view], [Field("id", VIEW, 2)])


@pytest.mark.parametrize("fields", [[], [Field("a", TABLE, 1, INT)], [Field("a", TABLE, 1, INT)] * 3])
def test_another_number_of_columns(fields: list[Field]) -> None:
    with pytest.raises(GatewayFault, match="number of columns"):
        verified([ID, ID], fields)


# laundering


def write(target: str, flow: Flow, relation: str = "customers") -> Statement:
    return Statement("insert", (), writes=(Write(("public", relation, target), flow),), dml=frozenset({"insert"}))


@pytest.mark.parametrize(
    ("target", "flow"),
    [
        ("name", SSN),
        ("name", derived(("customers", "ssn"))),
        ("name", UNKNOWN),
        ("card", SSN),
        ("email", CARD),
        ("card", derived(("customers", "card"))),
        ("email", derived(("customers", "ssn"))),
        ("card", UNKNOWN),
    ],
)
def test_laundering_is_refused(target: str, flow: Flow) -> None:
    with pytest.raises(Refused) as caught:
        plan(write(target, flow), MASKS, CATALOG)
    assert caught.value.code == "42501"
    with pytest.raises(Refused):
        plan(Statement("prepare", (), inner=write(target, flow)), MASKS, CATALOG)


@pytest.mark.parametrize(
    ("target", "flow"),
    [
        ("ssn", SSN),
        ("ssn", CARD),
        ("ssn", UNKNOWN),
        ("card", CARD),
        ("email", EMAIL_OF),
        ("name", CONSTANT),
        ("name", ID),
        ("card", CONSTANT),
    ],
)
def test_writing_to_the_same_or_a_stronger_mask(target: str, flow: Flow) -> None:
    assert not plan(write(target, flow), MASKS, CATALOG).any
    assert not plan(write(target, UNKNOWN), MaskSet(), CATALOG).any


@pytest.mark.parametrize("flow", [SSN, UNKNOWN, derived(("customers", "email"))])
def test_sinks(flow: Flow) -> None:
    statement = Statement("set", (), sinks=(Sink("a setting", flow),))
    with pytest.raises(Refused, match="a setting"):
        plan(statement, MASKS, CATALOG)
    assert plan(statement, MaskSet(), CATALOG) is CLEAR
    assert not plan(Statement("set", (), sinks=(Sink("a setting", ID),)), MASKS, CATALOG).any


@pytest.mark.parametrize("verb", ["insert", "update", "delete", "merge"])
def test_t30_the_system_catalogs_are_not_written_to(verb: str) -> None:
    made = Operation("postgres", verb, ("pg_catalog.pg_class",), {"relations": ("pg_catalog.pg_class",)})
    statement = Statement(verb, (made,), dml=frozenset({verb}))
    for masks in (MASKS, MaskSet(filters={"public.customers": frozenset({"id = 1"})})):
        with pytest.raises(Refused, match="pg_class"):
            plan(statement, masks, CATALOG)
    assert not plan(statement, MaskSet(), CATALOG).any
    assert not plan(statement, ONLY_LOOKING, CATALOG).any


# detection


def test_detectors_look_at_text_that_is_not_masked() -> None:
    body, data, raw = plain("notes", "body"), plain("notes", "data"), plain("notes", "raw")
    fields = [
        Field("b", OTHER, 1),
        Field("d", OTHER, 2, JSONB),
        Field("r", OTHER, 3),
        Field("s", TABLE, 4),
        Field("e", 0, 0),
        Field("n", 0, 0, 1700),
    ]
    values: list[bytes | None] = [
        b"x 4111111111111111",
        b'{"c":4111111111111111}',
        b"4111111111111111",
        b"4111111111111111",
        b"4111111111111111",
        b"4111111111111111",
    ]
    assert masked([body, data, raw, SSN, CONSTANT, ID], fields, values, LOOKING) == [
        b"x ************1111",
        b'{"c":"************1111"}',
        b"4111111111111111",
        b"****",
        b"************1111",
        b"4111111111111111",
    ]


def test_columns_of_the_system_are_exempt() -> None:
    assert masked([plain("pg_class", "relname", "pg_catalog")], [Field("r", 1259, 2, 19)], [b"4111111111111111"], LOOKING) == [
        b"4111111111111111"
    ]


def test_binary_jsonb() -> None:
    flow, field = plain("notes", "data"), Field("d", OTHER, 2, JSONB, format=1)
    assert masked([flow], [field], [b'\x01{"c": "4111111111111111"}'], ONLY_LOOKING) == [b'\x01{"c": "************1111"}']


def test_rows_without_a_candidate_are_not_copied() -> None:
    made = verified([plain("notes", "body")], [Field("b", OTHER, 1)], ONLY_LOOKING)
    data = b"".join(DataRow((b"nothing %d" % i,)).encode() for i in range(100))
    assert mask_rows(made, data)[0] is data
    some = data + DataRow((b"4111111111111111",)).encode() + data
    changed, count = mask_rows(made, some)
    assert count == 1 and changed.startswith(data) and changed.endswith(data)


def test_any_says_whether_rows_have_to_be_looked_at() -> None:
    number = Statement("select", (), returns="rows", columns=(Output("n", plain("notes", "n"), INT),))
    assert not plan(number, ONLY_LOOKING, CATALOG).any
    assert plan(number, MASKS, CATALOG).any, "the second lock needs the description"
    assert not verified([ID], [Field("id", TABLE, 1, INT)]).any
    assert verified([SSN], [Field("ssn", TABLE, 4)]).any


# errors to scrub


@pytest.mark.parametrize(
    ("statement", "scrub"),
    [
        (Statement("select", (), returns="rows", columns=(Output("x", CONSTANT),)), False),
        (Statement("show", ()), False),
        (select(ID), True),
        (Statement("commit", ()), True),
        (Statement("insert", (), dml=frozenset({"insert"})), True),
        (Statement("select", (Operation("postgres", "call"),), returns="rows", columns=()), True),
        (Statement("select", (), returns="rows", columns=(Output("x", UNKNOWN),)), True),
        (Statement("select", (), returns="rows", columns=(), reads=frozenset({("pg_catalog", "pg_stats", "most_common_vals")})), True),
        (Statement("select", (), returns="rows", columns=(), reads=frozenset({("pg_catalog", "pg_class", "relname")})), False),
    ],
)
def test_whose_errors_are_scrubbed(statement: Statement, scrub: bool) -> None:
    assert plan(statement, MASKS, CATALOG).scrub is scrub
    assert plan(statement, MaskSet(), CATALOG).scrub is False


# rows against a reference

CELLS = (
    st.none() | st.binary(max_size=12) | st.text(max_size=6).map(str.encode) | st.sampled_from([b"4111111111111111", b"dana@example.com"])
)
RULES: list[MaskRule | None] = [None, REDACT, keep_last(4), EMAIL]
FLOWS = {None: ID, REDACT: SSN, keep_last(4): CARD, EMAIL: EMAIL_OF}
NUMBERS = {None: 1, REDACT: 4, keep_last(4): 6, EMAIL: 3}


def reference(rule: MaskRule | None, value: bytes | None, look: bool) -> bytes | None:
    if value is None:
        return None
    if rule is None:
        found = ONLY_LOOKING.detectors.text(value) if look and ONLY_LOOKING.detectors is not None else None
        return value if found is None else found
    try:
        return rule.apply(value.decode()).encode()
    except UnicodeDecodeError:
        return HIDDEN.encode()


@given(st.data())
def test_rows_equal_the_reference(data: st.DataObject) -> None:
    rules = data.draw(st.lists(st.sampled_from(RULES), min_size=1, max_size=6))
    table = data.draw(st.lists(st.tuples(*[CELLS for _ in rules]), max_size=8))
    look = data.draw(st.booleans())
    masks = MaskSet(MASKS.columns, detect=ONLY_LOOKING.detect if look else {})
    made = verified([FLOWS[rule] for rule in rules], [Field("c", TABLE, NUMBERS[rule]) for rule in rules], masks)
    wire = b"".join(DataRow(row).encode() for row in table)
    changed, count = mask_rows(made, wire)
    expected = [tuple(reference(rule, value, look) for rule, value in zip(rules, row, strict=True)) for row in table]
    assert rows_of(changed) == expected
    assert scan_run(changed, 0, len(changed), 0x44) == (len(changed), len(table))
    replaced = sum(value is not None and rule is not None for row in table for rule, value in zip(rules, row, strict=True))
    assert count >= replaced if look else count == replaced


@given(st.binary(max_size=60), st.integers(0, 4))
def test_malformed_rows_are_the_targets_fault(body: bytes, width: int) -> None:
    made = verified([SSN] * width, [Field("c", TABLE, 4)] * width)
    wire = b"D" + (len(body) + 4).to_bytes(4, "big") + body
    try:
        changed, _ = mask_rows(made, wire + DataRow((b"078-05-1120",) * width).encode())
    except TargetFault:
        return
    assert b"078-05-1120" not in changed


@pytest.mark.parametrize("row", [b"\0\1\xff\xff\xff\xfe", b"\0\1\0\0\0\x09x", b"\0\2\0\0\0\1x", b"\0\1", b"", b"\0\1\x7f\xff\xff\xff"])
def test_rows_that_do_not_fit(row: bytes) -> None:
    made = verified([SSN], [Field("ssn", TABLE, 4)])
    with pytest.raises(TargetFault):
        mask_rows(made, b"D" + (len(row) + 4).to_bytes(4, "big") + row)


# plans that are remembered


ORIGINS = st.sampled_from([*[("public", "customers", name) for name in ("id", "name", "ssn", "card", "email")],
                           ("pg_catalog", "pg_class", "relname")])
LINEAGE = st.builds(Flow, st.frozensets(ORIGINS, max_size=3), st.just(False), st.booleans(), st.booleans())
COMPUTED = st.builds(Output, st.sampled_from(["a", "b"]), LINEAGE, st.sampled_from([0, TEXT, INT, 20, 1700, JSONB, CITEXT]))


@given(st.lists(st.lists(COMPUTED, max_size=3), max_size=6))
def test_a_remembered_plan_is_the_one_that_would_be_made(answers: list[list[Output]]) -> None:
    masks = MaskSet({"public.customers.ssn": REDACT, "public.customers.card": keep_last(4)}, detect={"jwt": REDACT},
                    clear=["public.customers.name"])
    for outputs in answers:
        statement = Statement("select", (), returns="rows", columns=tuple(outputs), relations=(("public.customers", TABLE),))
        fresh = MaskSet(masks.columns, masks.clear, masks.detect)
        made, again = plan(statement, masks, CATALOG), plan(statement, fresh, CATALOG)
        assert replace(made, detectors=None) == replace(again, detectors=None)


# row filters

ROWS = MaskSet(filters={"public.customers": frozenset({"id = 1"})})


@pytest.mark.parametrize(("oid", "filtered", "passes"), [
    (TABLE, ("public.customers",), True), (TABLE, (), False), (CHILD, (), False), (CHILD, ("public.customers_eu",), True),
    (TABLE, None, True), (OTHER, (), True), (0, (), True),
])  # fmt: skip
def test_a_field_of_a_filtered_relation_comes_from_a_statement_with_the_filter(
    oid: int, filtered: tuple[str, ...] | None, passes: bool,
) -> None:
    made = replace(plan(select(plain("customers", "id")), ROWS, CATALOG), filtered=filtered)
    fields = [Field("id", oid, 1 if oid else 0, INT)]
    if passes:
        assert check_row_description(made, fields, (), CATALOG, ROWS).rows is not None
    else:
        with pytest.raises(GatewayFault, match="row filter"):
            check_row_description(made, fields, (), CATALOG, ROWS)
