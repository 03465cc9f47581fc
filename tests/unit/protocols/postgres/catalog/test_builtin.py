# SPDX-License-Identifier: Apache-2.0
"""The reviewed lists are total over the volatile functions of the shipped catalogs, and name nothing that does not exist."""

from __future__ import annotations

import pytest

from gateway.protocols.postgres.catalog import builtin
from gateway.protocols.postgres.catalog.model import Function, Objects
from gateway.protocols.postgres.catalog.offline import SHIPPED, shipped_builtin

POWERS = """set_config pg_notify lo_import lo_from_bytea loread pg_read_file pg_ls_dir pg_stat_file query_to_xml table_to_xml
schema_to_xml database_to_xmlschema cursor_to_xml ts_stat pg_logical_emit_message pg_logical_slot_peek_changes
pg_terminate_backend pg_cancel_backend pg_reload_conf pg_promote pg_switch_wal pg_backup_start pg_advisory_lock
pg_try_advisory_xact_lock nextval setval pg_sleep txid_current pg_current_xact_id currtid2 pg_import_system_collations
pg_stat_reset brin_summarize_range gin_clean_pending_list pg_export_snapshot pg_nextoid
binary_upgrade_set_record_init_privs pg_stop_making_pinned_objects pg_extension_config_dump
pg_event_trigger_ddl_commands domain_in pg_input_is_valid setseed"""
TOOLS = """upper now random gen_random_uuid clock_timestamp current_setting pg_get_viewdef pg_get_expr has_table_privilege
pg_table_is_visible pg_relation_size pg_database_size pg_partition_tree format_type array_to_string obj_description
version current_schemas acldefault generate_series json_populate_record to_regclass pg_encoding_to_char"""


@pytest.fixture(params=SHIPPED)
def objects(request: pytest.FixtureRequest) -> Objects:
    return shipped_builtin(request.param * 10000).objects


def every_function() -> list[Function]:
    return [function for major in SHIPPED for function in shipped_builtin(major * 10000).objects.functions]


def test_each_volatile_function_is_classified_once(objects: Objects) -> None:
    volatile = {function.name for function in objects.functions if function.volatile == "v"}
    assert volatile - set(builtin.EFFECTFUL) - set(builtin.HARMLESS_VOLATILE) == set()
    assert set(builtin.EFFECTFUL) & set(builtin.HARMLESS_VOLATILE) == set()


def test_lists_name_functions_that_exist() -> None:
    names = {function.name for function in every_function()}
    assert set(builtin.EFFECTFUL) | set(builtin.HARMLESS_VOLATILE) | set(builtin.REVEALING) <= names
    assert set(builtin.HARMLESS_VOLATILE) <= {function.name for function in every_function() if function.volatile == "v"}


@pytest.mark.parametrize("name", POWERS.split())
def test_powers_need_a_rule(name: str) -> None:
    found = [function for function in every_function() if function.name == name]
    assert found
    assert all(builtin.effect(function) for function in found)


@pytest.mark.parametrize("name", TOOLS.split())
def test_what_tools_call_needs_none(name: str) -> None:
    found = [function for function in every_function() if function.name == name]
    assert found
    assert [builtin.effect(function) for function in found] == [None] * len(found)


def test_only_the_form_of_ts_rewrite_that_runs_text_needs_a_rule() -> None:
    found = {function.arg_types: builtin.effect(function) for function in every_function() if function.name == "ts_rewrite"}
    assert {arguments: bool(reason) for arguments, reason in found.items()} == {(3615, 25): True, (3615, 3615, 3615): False}


def test_unknown_volatile_and_user_functions_need_a_rule() -> None:
    assert builtin.effect(Function(9999, "pg_catalog", "from_tomorrow", "f", ())) == "volatile, and not known to this version"
    assert builtin.effect(Function(9999, "pg_catalog", "from_tomorrow", "f", (), volatile="s")) is None
    assert builtin.effect(Function(16384, "public", "upper", "f", (25,), volatile="i")) == "not built in"


def test_sensitive_columns_exist_somewhere_and_none_is_also_called_clear() -> None:
    columns = {
        (relation.schema, relation.name, column.name)
        for major in SHIPPED
        for relation in shipped_builtin(major * 10000).objects.relations
        for column in relation.columns
    }
    assert set(builtin.SENSITIVE) | set(builtin.REVIEWED_CLEAR) <= columns
    assert set(builtin.SENSITIVE) & set(builtin.REVIEWED_CLEAR) == set()


@pytest.mark.parametrize("words", [("passw", "passwd"), ("conninfo",), ("anyarray",)])
def test_no_suspicious_column_was_forgotten(objects: Objects, words: tuple[str, ...]) -> None:
    any_array = 2277
    for relation in objects.relations:
        for column in relation.columns:
            name = (relation.schema, relation.name, column.name)
            suspicious = any(word in column.name for word in words) and column.type_oid != 16 or column.type_oid == any_array
            assert not suspicious or name in builtin.SENSITIVE or name in builtin.REVIEWED_CLEAR


def test_sensitive_by_name() -> None:
    assert builtin.sensitive("pg_catalog", "pg_stats", "most_common_vals")
    assert builtin.sensitive("pg_catalog", "pg_stat_activity", "query")
    assert builtin.sensitive("pg_toast", "pg_toast_16386", "chunk_data")
    assert builtin.sensitive("pg_toast_temp_3", "pg_toast_16386", "chunk_data")
    assert builtin.sensitive("pg_toast", "pg_toast_16386", "chunk_id") is None
    assert builtin.sensitive("pg_catalog", "pg_stats", "tablename") is None
    assert builtin.sensitive("public", "pg_stats", "most_common_vals") is None


def test_revealing_is_for_built_in_functions() -> None:
    assert builtin.reveals(Function(2022, "pg_catalog", "pg_stat_get_activity", "f", (23,))) == "other sessions' statements"
    assert builtin.reveals(Function(871, "pg_catalog", "upper", "f", (25,))) is None
