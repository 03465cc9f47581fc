# SPDX-License-Identifier: Apache-2.0
"""What the built-in names of PostgreSQL 15 to 18 can do: three reviewed lists, each entry with its reason.

``EFFECTFUL``: functions with side effects, or file, network or SQL-executing powers; calling one needs a rule. Every
volatile function of pg_proc is either here or in ``HARMLESS_VOLATILE`` (a test asks a live server); a volatile one
that neither list knows, from a newer server, counts as effectful. Of stable and immutable functions only the listed ones do.

``REVEALING``: functions that need no rule, but whose result may hold other people's statements or secrets: unknown origin.

``SENSITIVE``: columns of system relations that count as masked. ``REVIEWED_CLEAR`` names those that tools need and that
hold definitions, not data, and says why they stay clear.

What extensions add has oids from 16384 on, needs a rule, and is of unknown origin without being listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.protocols.postgres.catalog.model import Catalog, Function


def _by_name(groups: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Names, separated by blanks, of each (reason, names)."""
    return {name: reason for reason, names in groups for name in names.split()}


EFFECTFUL: Mapping[str, str] = _by_name(
    (
        ("changes a setting of the session", "set_config"),
        ("changes the session's random sequence, which later calls show", "setseed"),
        ("sends a notification to other sessions", "pg_notify"),
        ("changes a sequence, also when the transaction rolls back", "nextval setval"),
        ("allocates a transaction id", "txid_current pg_current_xact_id"),
        (
            "keeps data in, or reads it from, a large object",
            """lo_close lo_creat lo_create lo_from_bytea lo_get lo_lseek lo_lseek64 lo_open lo_put lo_tell lo_tell64
            lo_truncate lo_truncate64 lo_unlink loread lowrite""",
        ),
        ("moves a large object from or to a file of the server", "lo_import lo_export"),
        (
            "reads files or directories of the server",
            """pg_read_file pg_read_file_old pg_read_binary_file pg_stat_file pg_ls_dir pg_ls_logdir pg_ls_waldir pg_ls_tmpdir
            pg_ls_archive_statusdir pg_ls_logicalmapdir pg_ls_logicalsnapdir pg_ls_replslotdir pg_ls_summariesdir
            pg_wal_summary_contents""",
        ),
        (
            "runs or plans the SQL, or reads the relation, that its argument names",
            """query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema table_to_xml
            table_to_xmlschema table_to_xml_and_xmlschema schema_to_xml schema_to_xmlschema schema_to_xml_and_xmlschema
            database_to_xml database_to_xmlschema database_to_xml_and_xmlschema ts_stat ts_rewrite currtid2""",
        ),
        ("runs the input function and the domain checks of the type that its argument names", "pg_input_is_valid pg_input_error_info"),
        ("runs the checks of the domain, or the input functions of the type, whose oid it is given", "domain_in domain_recv"),
        ("runs the input functions of the type whose oid it is given", "array_in array_recv record_in record_recv"),
        ("runs the input functions of the range whose oid it is given", "range_in range_recv multirange_in multirange_recv"),
        (
            "takes, holds or frees a lock that other sessions see",
            """pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared
            pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
            pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared""",
        ),
        ("keeps the connection and its snapshot busy on purpose", "pg_sleep pg_sleep_for pg_sleep_until"),
        ("writes a snapshot file that other sessions can import", "pg_export_snapshot"),
        (
            "signals other sessions or server processes",
            """pg_cancel_backend pg_terminate_backend pg_reload_conf pg_rotate_logfile pg_rotate_logfile_old
            pg_log_backend_memory_contexts pg_promote pg_wal_replay_pause pg_wal_replay_resume""",
        ),
        (
            "writes to or switches the write-ahead log",
            "pg_switch_wal pg_create_restore_point pg_logical_emit_message pg_log_standby_snapshot",
        ),
        ("starts or stops a base backup", "pg_backup_start pg_backup_stop"),
        (
            "creates, changes, drops or reads a replication slot, which holds the data that was written",
            """pg_create_logical_replication_slot pg_create_physical_replication_slot pg_copy_logical_replication_slot
            pg_copy_physical_replication_slot pg_drop_replication_slot pg_replication_slot_advance pg_sync_replication_slots
            pg_logical_slot_get_changes pg_logical_slot_get_binary_changes pg_logical_slot_peek_changes
            pg_logical_slot_peek_binary_changes""",
        ),
        (
            "changes replication origins",
            """pg_replication_origin_create pg_replication_origin_drop pg_replication_origin_advance
            pg_replication_origin_session_setup pg_replication_origin_session_reset pg_replication_origin_xact_setup
            pg_replication_origin_xact_reset""",
        ),
        (
            "resets, flushes or overwrites statistics",
            """pg_stat_reset pg_stat_reset_shared pg_stat_reset_slru pg_stat_reset_single_table_counters
            pg_stat_reset_single_function_counters pg_stat_reset_replication_slot pg_stat_reset_subscription_stats
            pg_stat_reset_backend_stats pg_stat_clear_snapshot pg_stat_force_next_flush pg_clear_relation_stats
            pg_clear_attribute_stats pg_restore_relation_stats pg_restore_attribute_stats""",
        ),
        (
            "changes an index",
            "brin_summarize_new_values brin_summarize_range brin_desummarize_range gin_clean_pending_list",
        ),
        (
            "changes the system catalog",
            "pg_import_system_collations pg_nextoid pg_extension_config_dump pg_stop_making_pinned_objects",
        ),
        (
            "made for pg_upgrade alone: changes the system catalog or reads slots",
            """binary_upgrade_create_empty_extension binary_upgrade_set_missing_value
            binary_upgrade_set_next_array_pg_type_oid binary_upgrade_set_next_heap_pg_class_oid
            binary_upgrade_set_next_heap_relfilenode binary_upgrade_set_next_index_pg_class_oid
            binary_upgrade_set_next_index_relfilenode binary_upgrade_set_next_multirange_array_pg_type_oid
            binary_upgrade_set_next_multirange_pg_type_oid binary_upgrade_set_next_pg_authid_oid
            binary_upgrade_set_next_pg_enum_oid binary_upgrade_set_next_pg_tablespace_oid
            binary_upgrade_set_next_pg_type_oid binary_upgrade_set_next_toast_pg_class_oid
            binary_upgrade_set_next_toast_relfilenode binary_upgrade_set_record_init_privs
            binary_upgrade_add_sub_rel_state binary_upgrade_replorigin_advance
            binary_upgrade_logical_slot_has_caught_up""",
        ),
        (
            "an event trigger's own function",
            """pg_event_trigger_ddl_commands pg_event_trigger_dropped_objects pg_event_trigger_table_rewrite_oid
            pg_event_trigger_table_rewrite_reason""",
        ),
        (
            "a trigger's function, not made to be called",
            """RI_FKey_cascade_del RI_FKey_cascade_upd RI_FKey_check_ins RI_FKey_check_upd RI_FKey_noaction_del
            RI_FKey_noaction_upd RI_FKey_restrict_del RI_FKey_restrict_upd RI_FKey_setdefault_del RI_FKey_setdefault_upd
            RI_FKey_setnull_del RI_FKey_setnull_upd suppress_redundant_updates_trigger tsvector_update_trigger
            tsvector_update_trigger_column unique_key_recheck""",
        ),
        (
            "a language's or access method's entry, not made to be called",
            """plpgsql_call_handler plpgsql_inline_handler plpgsql_validator fmgr_internal_validator fmgr_c_validator
            fmgr_sql_validator brinhandler bthandler ginhandler gisthandler hashhandler spghandler heap_tableam_handler
            bernoulli system dsnowball_init dsnowball_lexize""",
        ),
    )
)
"""Function name -> why a call needs a rule."""

HARMLESS_VOLATILE: Mapping[str, str] = _by_name(
    (
        (
            "a random value, or its argument in random order",
            "random random_normal gen_random_uuid uuidv4 uuidv7 array_sample array_shuffle",
        ),
        ("a clock", "clock_timestamp timeofday"),
        ("the text of the caller's own statement", "current_query"),
        ("what a sequence last gave; its changes need a rule", "currval lastval pg_sequence_last_value pg_get_sequence_data"),
        (
            "sizes",
            """pg_database_size pg_tablespace_size pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size""",
        ),
        ("the shape of a partition tree", "pg_partition_ancestors pg_partition_tree"),
        ("versions of collations", "pg_collation_actual_version pg_database_collation_actual_version"),
        ("validates an operator class", "amvalidate"),
        (
            "transaction states and times",
            """txid_status pg_xact_status pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_last_committed_xact
            pg_get_multixact_members pg_prepared_xact""",
        ),
        (
            "who waits for whom",
            """pg_blocking_pids pg_safe_snapshot_blocking_pids pg_isolation_test_session_is_blocked pg_lock_status
            pg_notification_queue_usage""",
        ),
        (
            "state of the server, its log, replication and control file",
            """pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system pg_current_logfile
            pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn pg_last_wal_receive_lsn
            pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_get_wal_replay_pause_state
            pg_get_wal_resource_managers pg_get_wal_summarizer_state pg_available_wal_summaries pg_is_in_recovery
            pg_is_wal_replay_paused pg_jit_available pg_replication_origin_progress
            pg_replication_origin_session_is_setup pg_replication_origin_session_progress
            pg_show_replication_origin_status pg_get_loaded_modules pg_get_wait_events pg_get_aios
            pg_get_shmem_allocations pg_get_shmem_allocations_numa pg_ident_file_mappings""",
        ),
        (
            "statements or secrets: see REVEALING",
            "pg_hba_file_rules pg_show_all_file_settings pg_get_backend_memory_contexts",
        ),
        (
            "counters",
            """pg_stat_get_recovery_prefetch pg_stat_have_stats pg_stat_get_io pg_stat_get_backend_io
            pg_stat_get_backend_wal pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit
            pg_stat_get_xact_function_calls pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time
            pg_stat_get_xact_numscans pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched
            pg_stat_get_xact_tuples_hot_updated pg_stat_get_xact_tuples_inserted
            pg_stat_get_xact_tuples_newpage_updated pg_stat_get_xact_tuples_returned pg_stat_get_xact_tuples_updated""",
        ),
    )
)
"""Volatile function name -> why it needs no rule all the same."""

_EFFECTFUL_IF_VOLATILE = frozenset({"ts_rewrite"})
"""Names of which only the volatile form is meant: ts_rewrite(tsquery, text) runs its text, the immutable one does not."""

REVEALING: Mapping[str, str] = _by_name(
    (
        ("other sessions' statements", "pg_stat_get_activity pg_stat_get_backend_activity"),
        ("texts of statements, with their literals", "pg_prepared_statement pg_cursor pg_get_backend_memory_contexts"),
        ("passwords in authentication options", "pg_hba_file_rules"),
        ("settings as the files hold them, passwords included", "pg_show_all_file_settings"),
        ("a replication connection's parameters", "pg_stat_get_wal_receiver"),
    )
)
"""Function name -> what its result may hold."""

_VALUES = "values of user columns, sampled by ANALYZE"
_OPTIONS = "connection options, which may hold passwords"
_STATEMENTS = "texts of statements, with their literals"
_STATISTICS = "most_common_vals most_common_freqs histogram_bounds most_common_elems most_common_elem_freqs elem_count_histogram"
_SLOTS = " ".join(f"stavalues{slot} stanumbers{slot}" for slot in range(1, 6))


def _by_column(rows: Iterable[tuple[str, str, str]]) -> Mapping[tuple[str, str, str], str]:
    """(schema.relation, columns separated by blanks, reason) -> (schema, relation, column) -> reason."""
    listed: dict[tuple[str, str, str], str] = {}
    for name, columns, reason in rows:
        schema, relation = name.split(".")
        listed.update({(schema, relation, column): reason for column in columns.split()})
    return listed


SENSITIVE: Mapping[tuple[str, str, str], str] = _by_column(
    (
        ("pg_catalog.pg_stats", f"{_STATISTICS} range_length_histogram range_bounds_histogram", _VALUES),
        ("pg_catalog.pg_stats_ext", "most_common_vals most_common_val_nulls most_common_freqs most_common_base_freqs", _VALUES),
        ("pg_catalog.pg_stats_ext_exprs", _STATISTICS, _VALUES),
        ("pg_catalog.pg_statistic", _SLOTS, _VALUES),
        ("pg_catalog.pg_statistic_ext_data", "stxdmcv stxdexpr", _VALUES),
        ("pg_catalog.pg_attribute", "attmissingval", "the value that rows older than a column show for it"),
        ("pg_catalog.pg_largeobject", "data", "contents of large objects"),
        ("pg_catalog.pg_stat_activity", "query", "other sessions' statements"),
        ("pg_catalog.pg_prepared_statements", "statement", _STATEMENTS),
        ("pg_catalog.pg_cursors", "statement", _STATEMENTS),
        ("pg_catalog.pg_backend_memory_contexts", "ident", _STATEMENTS),
        ("pg_catalog.pg_authid", "rolpassword", "password verifiers"),
        ("pg_catalog.pg_shadow", "passwd", "password verifiers"),
        ("pg_catalog.pg_subscription", "subconninfo", _OPTIONS),
        ("pg_catalog.pg_stat_wal_receiver", "conninfo", _OPTIONS),
        ("pg_catalog.pg_user_mapping", "umoptions", _OPTIONS),
        ("pg_catalog.pg_user_mappings", "umoptions", _OPTIONS),
        ("pg_catalog.pg_foreign_server", "srvoptions", _OPTIONS),
        ("pg_catalog.pg_foreign_data_wrapper", "fdwoptions", _OPTIONS),
        ("pg_catalog.pg_file_settings", "setting", "settings as the files hold them, passwords included"),
        ("pg_catalog.pg_hba_file_rules", "options", "passwords in authentication options"),
        ("information_schema._pg_user_mappings", "umoptions", _OPTIONS),
        ("information_schema._pg_foreign_servers", "srvoptions", _OPTIONS),
        ("information_schema._pg_foreign_data_wrappers", "fdwoptions", _OPTIONS),
        ("information_schema.user_mapping_options", "option_value", _OPTIONS),
        ("information_schema.foreign_server_options", "option_value", _OPTIONS),
        ("information_schema.foreign_data_wrapper_options", "option_value", _OPTIONS),
    )
)
"""(schema, relation, column) -> what the column may hold."""

REVIEWED_CLEAR: Mapping[tuple[str, str, str], str] = _by_column(
    (
        ("pg_catalog.pg_proc", "prosrc prosqlbody probin proconfig", "definitions: psql's \\df+ and pg_dump read them"),
        ("pg_catalog.pg_attrdef", "adbin", "definitions of defaults: psql's \\d and pg_dump read them"),
        ("pg_catalog.pg_class", "relpartbound reloptions", "definitions: psql's \\d and pg_dump read them; bounds are not sampled"),
        ("pg_catalog.pg_attribute", "attfdwoptions", "column names at the far side: psql's \\d and pg_dump read them"),
        ("pg_catalog.pg_foreign_table", "ftoptions", "names at the far side: psql's \\d and pg_dump read them"),
        ("pg_catalog.pg_roles", "rolpassword", "always ********"),
        ("pg_catalog.pg_user", "passwd", "always ********"),
        ("pg_catalog.pg_settings", "setting boot_val reset_val", "the target hides secret ones; a masked value cannot get into one"),
        ("pg_catalog.pg_db_role_setting", "setconfig", "settings by role: psql's \\drds reads them; a masked value cannot get into one"),
        ("pg_catalog.pg_stats", "null_frac avg_width n_distinct correlation", "estimates of bloat need them; they hold no value"),
    )
)
"""Columns that could be suspected, and why they stay clear."""

_TOAST = "parts of large values of another relation"


def effect(function: Function) -> str | None:
    """Why a call of this built-in function needs a rule, or None. Functions that are not built in always need one."""
    if not Catalog.is_builtin(function.oid):
        return "not built in"
    volatile = function.volatile == "v"
    if function.name in EFFECTFUL and (volatile or function.name not in _EFFECTFUL_IF_VOLATILE):
        return EFFECTFUL[function.name]
    if volatile and function.name not in HARMLESS_VOLATILE:
        return "volatile, and not known to this version"
    return None


def reveals(function: Function) -> str | None:
    """What secret the result of this built-in function may hold, beyond its arguments, or None."""
    return REVEALING.get(function.name) if Catalog.is_builtin(function.oid) else None


def sensitive(schema: str, relation: str, column: str) -> str | None:
    """Why a column of a system relation counts as masked, or None. TOAST relations hold data of others in ``chunk_data``."""
    if schema == "pg_toast" or schema.startswith("pg_toast_temp_"):
        return _TOAST if column == "chunk_data" else None
    return SENSITIVE.get((schema, relation, column))
