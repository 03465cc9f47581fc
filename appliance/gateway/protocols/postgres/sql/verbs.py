# SPDX-License-Identifier: Apache-2.0
"""The closed table of verbs: every statement kind that libpg_query can parse, and the verb a rule names it by.

``create``, ``alter`` and ``drop`` in a rule match every ``create-…``, ``alter-…`` and ``drop-…``; ``set`` in a deny or approve rule matches
``set-role`` and ``set-session-authorization`` too; ``merge`` and ``execute`` need no allow of their own, their actions and what was
prepared do (contract section 2).
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.protocols.postgres.sql.parse import Node

OBJECTS: Mapping[str, str] = {
    "OBJECT_ACCESS_METHOD": "access-method", "OBJECT_AGGREGATE": "aggregate", "OBJECT_AMOP": "operator-family",
    "OBJECT_AMPROC": "operator-family", "OBJECT_ATTRIBUTE": "type", "OBJECT_CAST": "cast", "OBJECT_COLUMN": "column",
    "OBJECT_COLLATION": "collation", "OBJECT_CONVERSION": "conversion", "OBJECT_DATABASE": "database", "OBJECT_DEFAULT": "default",
    "OBJECT_DEFACL": "default-privileges", "OBJECT_DOMAIN": "domain", "OBJECT_DOMCONSTRAINT": "domain",
    "OBJECT_EVENT_TRIGGER": "event-trigger", "OBJECT_EXTENSION": "extension", "OBJECT_FDW": "foreign-data-wrapper",
    "OBJECT_FOREIGN_SERVER": "server", "OBJECT_FOREIGN_TABLE": "foreign-table", "OBJECT_FUNCTION": "function", "OBJECT_INDEX": "index",
    "OBJECT_LANGUAGE": "language", "OBJECT_LARGEOBJECT": "large-object", "OBJECT_MATVIEW": "materialized-view",
    "OBJECT_OPCLASS": "operator-class", "OBJECT_OPERATOR": "operator", "OBJECT_OPFAMILY": "operator-family",
    "OBJECT_PARAMETER_ACL": "parameter", "OBJECT_POLICY": "policy", "OBJECT_PROCEDURE": "procedure", "OBJECT_PUBLICATION": "publication",
    "OBJECT_PUBLICATION_NAMESPACE": "publication", "OBJECT_PUBLICATION_REL": "publication", "OBJECT_ROLE": "role",
    "OBJECT_ROUTINE": "routine", "OBJECT_RULE": "rule", "OBJECT_SCHEMA": "schema", "OBJECT_SEQUENCE": "sequence",
    "OBJECT_SUBSCRIPTION": "subscription", "OBJECT_STATISTIC_EXT": "statistics", "OBJECT_TABCONSTRAINT": "table",
    "OBJECT_TABLE": "table", "OBJECT_TABLESPACE": "tablespace", "OBJECT_TRANSFORM": "transform", "OBJECT_TRIGGER": "trigger",
    "OBJECT_TSCONFIGURATION": "text-search-configuration", "OBJECT_TSDICTIONARY": "text-search-dictionary",
    "OBJECT_TSPARSER": "text-search-parser", "OBJECT_TSTEMPLATE": "text-search-template", "OBJECT_TYPE": "type",
    "OBJECT_USER_MAPPING": "user-mapping", "OBJECT_VIEW": "view",
}  # fmt: skip
"""ObjectType of parsenodes.h -> the object part of a verb."""

BY_OBJECT: Mapping[str, tuple[str, str]] = {
    "DropStmt": ("drop", "removeType"), "RenameStmt": ("alter", "renameType"), "AlterObjectSchemaStmt": ("alter", "objectType"),
    "AlterOwnerStmt": ("alter", "objectType"), "AlterObjectDependsStmt": ("alter", "objectType"), "AlterTableStmt": ("alter", "objtype"),
    "AlterTableMoveAllStmt": ("alter", "objtype"), "DefineStmt": ("create", "kind"), "CreateTableAsStmt": ("create", "objtype"),
    "AlterFunctionStmt": ("alter", "objtype"),
}  # fmt: skip
"""Statement kind -> (action, the field that holds the kind of object)."""

TRANSACTIONS: Mapping[str, tuple[str, str]] = {
    "TRANS_STMT_BEGIN": ("begin", "begin"), "TRANS_STMT_START": ("begin", "begin"), "TRANS_STMT_COMMIT": ("commit", "commit"),
    "TRANS_STMT_ROLLBACK": ("rollback", "rollback"), "TRANS_STMT_SAVEPOINT": ("savepoint", "savepoint"),
    "TRANS_STMT_RELEASE": ("savepoint", "release"), "TRANS_STMT_ROLLBACK_TO": ("savepoint", "rollback-to"),
    "TRANS_STMT_PREPARE": ("prepare-transaction", "prepare"), "TRANS_STMT_COMMIT_PREPARED": ("prepare-transaction", "commit-prepared"),
    "TRANS_STMT_ROLLBACK_PREPARED": ("prepare-transaction", "rollback-prepared"),
}  # fmt: skip
"""TransactionStmtKind -> (verb, ``Statement.transaction``)."""

FIXED: Mapping[str, str] = {
    "SelectStmt": "select", "InsertStmt": "insert", "UpdateStmt": "update", "DeleteStmt": "delete",
    "CreateSchemaStmt": "create-schema", "AlterCollationStmt": "alter-collation", "AlterDomainStmt": "alter-domain",
    "AlterDefaultPrivilegesStmt": "alter-default-privileges", "VariableShowStmt": "show", "CreateStmt": "create-table",
    "CreateTableSpaceStmt": "create-tablespace", "DropTableSpaceStmt": "drop-tablespace",
    "AlterTableSpaceOptionsStmt": "alter-tablespace", "CreateExtensionStmt": "create-extension",
    "AlterExtensionStmt": "alter-extension", "AlterExtensionContentsStmt": "alter-extension",
    "CreateFdwStmt": "create-foreign-data-wrapper", "AlterFdwStmt": "alter-foreign-data-wrapper",
    "CreateForeignServerStmt": "create-server", "AlterForeignServerStmt": "alter-server",
    "CreateForeignTableStmt": "create-foreign-table", "CreateUserMappingStmt": "create-user-mapping",
    "AlterUserMappingStmt": "alter-user-mapping", "DropUserMappingStmt": "drop-user-mapping",
    "ImportForeignSchemaStmt": "import-foreign-schema", "CreatePolicyStmt": "create-policy", "AlterPolicyStmt": "alter-policy",
    "CreateAmStmt": "create-access-method", "CreateTrigStmt": "create-trigger", "CreateEventTrigStmt": "create-event-trigger",
    "AlterEventTrigStmt": "alter-event-trigger", "CreatePLangStmt": "create-language", "CreateRoleStmt": "create-role",
    "AlterRoleStmt": "alter-role", "AlterRoleSetStmt": "alter-role", "DropRoleStmt": "drop-role", "CreateSeqStmt": "create-sequence",
    "AlterSeqStmt": "alter-sequence", "CreateDomainStmt": "create-domain", "CreateOpClassStmt": "create-operator-class",
    "CreateOpFamilyStmt": "create-operator-family", "AlterOpFamilyStmt": "alter-operator-family", "TruncateStmt": "truncate",
    "CommentStmt": "comment", "SecLabelStmt": "security-label", "DeclareCursorStmt": "declare", "ClosePortalStmt": "close",
    "FetchStmt": "fetch", "IndexStmt": "create-index", "CreateStatsStmt": "create-statistics", "AlterStatsStmt": "alter-statistics",
    "DoStmt": "do", "CallStmt": "call", "AlterOperatorStmt": "alter-operator", "AlterTypeStmt": "alter-type", "RuleStmt": "create-rule",
    "NotifyStmt": "notify", "ListenStmt": "listen", "UnlistenStmt": "unlisten", "CompositeTypeStmt": "create-type",
    "CreateEnumStmt": "create-type", "CreateRangeStmt": "create-type", "AlterEnumStmt": "alter-type", "ViewStmt": "create-view",
    "LoadStmt": "load", "CreatedbStmt": "create-database", "AlterDatabaseStmt": "alter-database",
    "AlterDatabaseRefreshCollStmt": "alter-database", "AlterDatabaseSetStmt": "alter-database", "DropdbStmt": "drop-database",
    "AlterSystemStmt": "alter-system", "ClusterStmt": "cluster", "ExplainStmt": "explain", "RefreshMatViewStmt": "refresh",
    "CheckPointStmt": "checkpoint", "DiscardStmt": "discard", "LockStmt": "lock", "ConstraintsSetStmt": "set",
    "ReindexStmt": "reindex", "CreateConversionStmt": "create-conversion", "CreateCastStmt": "create-cast",
    "CreateTransformStmt": "create-transform", "PrepareStmt": "prepare", "ExecuteStmt": "execute", "DeallocateStmt": "deallocate",
    "DropOwnedStmt": "drop-owned", "ReassignOwnedStmt": "reassign-owned", "AlterTSDictionaryStmt": "alter-text-search-dictionary",
    "AlterTSConfigurationStmt": "alter-text-search-configuration", "CreatePublicationStmt": "create-publication",
    "AlterPublicationStmt": "alter-publication", "CreateSubscriptionStmt": "create-subscription",
    "AlterSubscriptionStmt": "alter-subscription", "DropSubscriptionStmt": "drop-subscription",
}  # fmt: skip
"""Statement kinds with one verb."""

SEVERAL: Mapping[str, tuple[str, ...]] = {
    "MergeStmt": ("merge", "insert", "update", "delete"),
    "CopyStmt": ("copy-to", "copy-from", "copy-file", "copy-program"),
    "VariableSetStmt": ("set", "reset", "set-role", "set-session-authorization"),
    "TransactionStmt": tuple(dict.fromkeys(verb for verb, _ in TRANSACTIONS.values())),
    "GrantStmt": ("grant", "revoke"),
    "GrantRoleStmt": ("grant", "revoke"),
    "CreateFunctionStmt": ("create-function", "create-procedure"),
    "VacuumStmt": ("vacuum", "analyze"),
    **{kind: tuple(f"{action}-{name}" for name in dict.fromkeys(OBJECTS.values())) for kind, (action, _) in BY_OBJECT.items()},
}
"""Statement kinds whose verb depends on what they say."""

REFUSED: Mapping[str, str] = {
    "RawStmt": "the parser's wrapper around a statement", "SetOperationStmt": "made after parsing",
    "ReturnStmt": "only inside a function body", "PLAssignStmt": "only inside PL/pgSQL", "ReplicaIdentityStmt": "only inside ALTER TABLE",
}  # fmt: skip
"""Kinds that end in Stmt and that no text of a client can be: refused."""

GENERIC = ("create", "alter", "drop")

VERBS: frozenset[str] = frozenset(
    {*FIXED.values(), *(verb for several in SEVERAL.values() for verb in several), *GENERIC, "empty"}
)
"""Every verb that a rule may name."""


def verb_of(kind: str, body: Node) -> str:
    """The verb of a statement that is not a query, COPY or SET. Raises ``KeyError`` for an unknown kind."""
    if kind in FIXED:
        return FIXED[kind]
    if kind == "TransactionStmt":
        return TRANSACTIONS[body["kind"]][0]
    if kind in ("GrantStmt", "GrantRoleStmt"):
        return "grant" if body.get("is_grant") else "revoke"
    if kind == "CreateFunctionStmt":
        return "create-procedure" if body.get("is_procedure") else "create-function"
    if kind == "VacuumStmt":
        return "vacuum" if body.get("is_vacuumcmd") else "analyze"
    action, field = BY_OBJECT[kind]
    return f"{action}-{OBJECTS[_object(kind, body, field)]}"


def _object(kind: str, body: Node, field: str) -> str:
    """The kind of object; what is done to a column or a constraint of a table is done to the table."""
    found = str(body.get(field, "OBJECT_TABLE"))
    if kind == "RenameStmt" and found in ("OBJECT_COLUMN", "OBJECT_ATTRIBUTE"):
        return str(body.get("relationType", "OBJECT_TABLE"))
    return found


def table() -> list[tuple[str, tuple[str, ...]]]:
    """The published table: (statement kind, its verbs), in order of kind."""
    rows = {kind: (verb,) for kind, verb in FIXED.items()} | dict(SEVERAL)
    return sorted(rows.items())
