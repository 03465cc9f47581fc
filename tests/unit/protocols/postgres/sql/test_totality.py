# SPDX-License-Identifier: Apache-2.0
"""A closed world: every node kind that libpg_query knows is handled, part of something handled, or refused by name."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from gateway.protocols.postgres.sql import analyze as analyze_module
from gateway.protocols.postgres.sql import containers, expressions, tables, verbs
from gateway.protocols.postgres.sql.parse import parse

_STRUCTURE = """
Alias RangeVar IntoClause RoleSpec A_Star A_Indices ResTarget SortBy WindowDef RangeTableFuncCol RangeSubselect RangeFunction
RangeTableFunc RangeTableSample JoinExpr ColumnDef TableLikeClause IndexElem DefElem LockingClause PartitionElem PartitionSpec
PartitionBoundSpec PartitionRangeDatum PartitionCmd GroupingSet WithClause InferClause OnConflictClause CTESearchClause
CTECycleClause CommonTableExpr MergeWhenClause ReturningOption ReturningClause TriggerTransition JsonOutput JsonArgument
JsonTablePathSpec JsonTable JsonTableColumn JsonKeyValue JsonAggConstructor JsonFormat JsonReturning JsonValueExpr JsonBehavior
AlterTableCmd ATAlterConstraint ObjectWithArgs AccessPriv Constraint CreateOpClassItem StatsElem FunctionParameter TypeName
CaseWhen MultiAssignRef CurrentOfExpr VacuumRelation PublicationTable PublicationObjSpec Integer Float Boolean String BitString
SubLink ReplicaIdentityStmt RawStmt
"""
STRUCTURE = frozenset(_STRUCTURE.split())
"""Parts of statements and expressions: read by the handler of what contains them, never on their own."""

_AFTER_PARSING = """
TableFunc Var Param Aggref WindowFunc WindowFuncRunCondition SubscriptingRef FuncExpr OpExpr DistinctExpr NullIfExpr
ScalarArrayOpExpr SubPlan AlternativeSubPlan FieldSelect FieldStore RelabelType CoerceViaIO ArrayCoerceExpr ConvertRowtypeExpr
CollateExpr CaseTestExpr ArrayExpr RowCompareExpr JsonConstructorExpr JsonExpr JsonTablePath JsonTablePathScan
JsonTableSiblingJoin MergeAction CoerceToDomain CoerceToDomainValue NextValueExpr InferenceElem ReturningExpr TargetEntry
RangeTblRef FromExpr OnConflictExpr Query RangeTblEntry RTEPermissionInfo RangeTblFunction TableSampleClause WithCheckOption
SortGroupClause WindowClause RowMarkClause SetOperationStmt ReturnStmt PLAssignStmt InlineCodeBlock CallContext IntList OidList
"""
AFTER_PARSING = frozenset(_AFTER_PARSING.split())
"""What PostgreSQL makes after parsing: no text of a client is one; a tree that held one would be refused (0A000)."""


def node_kinds() -> list[str]:
    """Every kind of the ``Node`` message, from the descriptor that libpg_query's binding ships."""
    described = FileDescriptorSet.FromString((files("postgast") / "pg_query.desc").read_bytes())
    messages = {message.name: message for file in described.file for message in file.message_type}
    return [field.type_name.rsplit(".", 1)[-1] for field in messages["Node"].field]


def enum_values(name: str) -> list[str]:
    described = FileDescriptorSet.FromString((files("postgast") / "pg_query.desc").read_bytes())
    enums = {enum.name: enum for file in described.file for enum in file.enum_type}
    return [value.name for value in enums[name].value if not value.name.endswith("_UNDEFINED")]


def test_every_statement_kind_has_a_verb_or_is_refused() -> None:
    for kind in node_kinds():
        if kind.endswith("Stmt"):
            assert (kind in verbs.FIXED) + (kind in verbs.SEVERAL) + (kind in verbs.REFUSED) == 1, kind


def test_every_other_kind_is_accounted_for() -> None:
    handled = set(expressions.HANDLERS)
    for kind in node_kinds():
        if not kind.endswith("Stmt"):
            assert kind in handled | STRUCTURE | AFTER_PARSING, kind
    assert not handled & AFTER_PARSING
    assert handled <= set(node_kinds())
    assert set(tables._ENTRIES) | {"JoinExpr"} <= set(node_kinds())


def test_every_object_kind_has_a_name() -> None:
    assert set(verbs.OBJECTS) == set(enum_values("ObjectType"))
    assert set(verbs.TRANSACTIONS) == set(enum_values("TransactionStmtKind"))
    assert set(expressions._OPERATORS) == set(enum_values("A_Expr_Kind"))


def test_every_verb_of_the_table_is_published() -> None:
    for _, named in verbs.table():
        assert set(named) <= verbs.VERBS
    assert {
        "set-role",
        "set-session-authorization",
        "copy-program",
        "drop-database",
        "alter-system",
        "create-function",
        "create",
    } <= verbs.VERBS


@pytest.mark.parametrize("kind", sorted(verbs.REFUSED))
def test_kinds_that_no_text_can_be_are_refused(kind: str) -> None:
    assert kind not in containers.QUERIES
    assert kind not in analyze_module._CONTAINERS
    assert kind not in analyze_module._SESSION


EXAMPLES: dict[str, Any] = {
    "CreateSchemaStmt": "create schema s",
    "AlterCollationStmt": "alter collation c refresh version",
    "CreateAmStmt": "create access method a type index handler h",
    "CreateOpFamilyStmt": "create operator family f using btree",
    "AlterEventTrigStmt": "alter event trigger t disable",
    "CreatePLangStmt": "create language l handler h",
    "AlterTSDictionaryStmt": "alter text search dictionary d (a = b)",
    "CreateTransformStmt": "create transform for int language sql (from sql with function f(internal))",
    "CreateCastStmt": "create cast (int as text) without function",
    "CreateConversionStmt": "create conversion c for 'a' to 'b' from f",
    "AlterOperatorStmt": "alter operator + (int, int) set (join = f)",
    "CreateStatsStmt": "create statistics s on id, total from orders",
    "ReassignOwnedStmt": "reassign owned by a to b",
    "AlterTypeStmt": "alter type t set (send = f)",
    "CreatePublicationStmt": "create publication p for table orders",
    "DefineStmt": "create aggregate a (int) (sfunc = f, stype = int)",
    "CompositeTypeStmt": "create type t as (a int)",
    "CreateRangeStmt": "create type t as range (subtype = int)",
    "AlterTSConfigurationStmt": "alter text search configuration c drop mapping for a",
    "CreateOpClassStmt": "create operator class c for type int using btree as operator 1 <",
    "CreateTableSpaceStmt": "create tablespace t location '/x'",
    "AlterObjectDependsStmt": "alter function f() depends on extension e",
    "AlterTableMoveAllStmt": "alter table all in tablespace a set tablespace b",
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_rare_statements_have_their_verb(kind: str) -> None:
    from tests.unit.protocols.postgres.sql.shop import one

    ((statement,), _) = parse(EXAMPLES[kind])
    assert statement.kind == kind
    found = one(EXAMPLES[kind])
    assert found.verb == found.operations[0].verb
    assert found.verb in verbs.VERBS
