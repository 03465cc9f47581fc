# SPDX-License-Identifier: Apache-2.0
"""The SQL that reads a target's catalog, for PostgreSQL 15 to 18. Every name is schema-qualified.

Texts with ``{range}`` take one of ``BUILTIN`` and ``USER``: which oids to read.
Definitions and expressions come out fully qualified only while ``search_path`` is ``pg_catalog``; the caller pins it.
``DEFINITIONS`` takes an AccessShareLock on what it prints, so a caller that must not hang behind someone's ACCESS EXCLUSIVE
lock sets ``lock_timeout``, and asks only for those whose ``VERSIONS`` changed.
"""

from __future__ import annotations

import re

SERVER = """select pg_catalog.current_setting('server_version_num'),
  (select n.nspname from pg_catalog.pg_namespace n where n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())"""

SCHEMAS = """select n.nspname from pg_catalog.pg_namespace n
where n.oid {range} and (n.oid < 16384 or pg_catalog.has_schema_privilege(n.oid, 'USAGE')) order by n.oid"""
"""Of user schemas those that the role may use: search_path passes the others over, and so must analysis."""

EVERY_SCHEMA = """select n.nspname from pg_catalog.pg_namespace n
where n.oid {range} and n.nspname !~ '^pg_(toast_)?temp_' order by n.oid"""
"""The same where the reading role is not the session's."""

RELATIONS = """select c.oid, n.nspname, c.relname, c.relkind, c.relpersistence,
  (select pg_catalog.string_agg(i.inhparent::pg_catalog.text, ' ' order by i.inhseqno)
    from pg_catalog.pg_inherits i where i.inhrelid = c.oid),
  c.relhasrules and exists (select from pg_catalog.pg_rewrite r where r.ev_class = c.oid and r.rulename <> '_RETURN'),
  c.relhastriggers and exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal),
  c.relhastriggers and exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal
    and t.tgtype & 1 <> 0 and t.tgtype & 66 <> 0),
  c.relrowsecurity
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.oid {range} order by c.oid"""

COLUMNS = """select a.attrelid, a.attname, a.attnum, a.atttypid, a.attnotnull, a.attgenerated, a.atthasdef
from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid and c.relkind not in ('i', 'I', 't')
where a.attnum > 0 and not a.attisdropped and c.oid {range} order by a.attrelid, a.attnum"""

VERSIONS = re.sub(
    r"version_of\((\w)\)",
    r"pg_catalog.hash_record_extended(row(\1.xmin, \1.ctid), 0)::pg_catalog.numeric",
    """with attributes as materialized (
  select a.attrelid, pg_catalog.sum(version_of(a)) as version from pg_catalog.pg_attribute a where a.attnum > 0 group by a.attrelid
), named(classid, oid, version) as (
  select 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, version_of(c) + coalesce(a.version, 0)
    from pg_catalog.pg_class c left join attributes a on a.attrelid = c.oid where c.oid >= 16384
  union all select 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, version_of(p) from pg_catalog.pg_proc p where p.oid >= 16384
  union all select 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, version_of(t) from pg_catalog.pg_type t where t.oid >= 16384
  union all select 'pg_catalog.pg_operator'::pg_catalog.regclass, o.oid, version_of(o) from pg_catalog.pg_operator o where o.oid >= 16384
), uses(classid, objid, version) as (
  select d.classid, d.objid, pg_catalog.sum(n.version)
    from pg_catalog.pg_depend d join named n on n.classid = d.refclassid and n.oid = d.refobjid
    where d.classid in ('pg_catalog.pg_rewrite'::pg_catalog.regclass, 'pg_catalog.pg_attrdef'::pg_catalog.regclass)
    group by d.classid, d.objid
), schemas(version) as (
  select pg_catalog.sum(version_of(s)) from pg_catalog.pg_namespace s where s.nspname !~ '^pg_(toast_)?temp_'
)
select c.oid, 0, schemas.version + version_of(r) + coalesce(u.version, 0)
  from schemas, pg_catalog.pg_class c join pg_catalog.pg_rewrite r on r.ev_class = c.oid and r.rulename = '_RETURN'
    left join uses u on u.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and u.objid = r.oid
  where c.relkind in ('v', 'm') and c.oid >= 16384
union all
select d.adrelid, d.adnum, schemas.version + version_of(d) + coalesce(u.version, 0)
  from schemas, pg_catalog.pg_attrdef d
    left join uses u on u.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass and u.objid = d.oid
  where d.adrelid >= 16384""",
)
"""(relation, column or 0, version): of each view's definition and each column's expression a number that differs when its
text may differ: when its own row, or that of anything it uses, or a schema changed. Takes no lock on user relations."""

DEFINITIONS = """select v.oid, 0, pg_catalog.pg_get_viewdef(v.oid) from pg_catalog.unnest('{{{views}}}'::pg_catalog.oid[]) as v(oid)
union all select d.adrelid, d.adnum, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
from pg_catalog.pg_attrdef d where d.adrelid = any ('{{{tables}}}'::pg_catalog.oid[])"""
"""(relation, column or 0, text) of the views and tables whose oids, separated by commas, are given."""

FUNCTIONS = """select p.oid, n.nspname, p.proname, p.prokind, p.proargtypes, p.pronargdefaults, p.provariadic, p.prorettype,
  p.proretset, p.provolatile, p.proisstrict, pg_catalog.to_json(p.proargnames), pg_catalog.array_to_string(p.proargmodes, ''),
  pg_catalog.array_to_string(p.proallargtypes, ' '), l.lanname, x.extname
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
  left join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.deptype = 'e'
    and p.oid >= 16384 and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
  left join pg_catalog.pg_extension x on x.oid = d.refobjid
where p.oid {range} order by p.oid"""

OPERATORS = """select p.oid, n.nspname, p.oprname, p.oprleft, p.oprright, p.oprresult, p.oprcode::pg_catalog.oid
from pg_catalog.pg_operator p join pg_catalog.pg_namespace n on n.oid = p.oprnamespace
where p.oid {range} order by p.oid"""

TYPES = """select t.oid, n.nspname, t.typname, t.typtype, t.typcategory,
  case when t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc then t.typelem else 0 end,
  t.typarray, t.typrelid, t.typbasetype, t.typispreferred,
  coalesce((select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)), 0)
from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
where t.oid {range} order by t.oid"""

TYPE_FUNCTIONS = """select distinct t.oid, coalesce(f.oprcode::pg_catalog.oid, d.refobjid)
from pg_catalog.pg_depend d
  left join pg_catalog.pg_constraint c on d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass and c.oid = d.objid
  left join pg_catalog.pg_operator f on d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass and f.oid = d.refobjid
  join pg_catalog.pg_type t on t.oid = case when d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass then d.objid else c.contypid end
where d.classid in ('pg_catalog.pg_type'::pg_catalog.regclass, 'pg_catalog.pg_constraint'::pg_catalog.regclass)
  and d.refclassid in ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
order by 1, 2"""
"""(type, function): what a domain's checks and default call, and what a base type is made of; user objects only, as
pg_depend does not hold built-in (pinned) ones."""

CASTS = """select c.oid, c.castsource, c.casttarget, c.castfunc, c.castcontext, c.castmethod
from pg_catalog.pg_cast c
where c.oid {range} order by c.oid"""

BUILTIN = "< 16384"
USER = ">= 16384"

_WATCHED = (
    "pg_class",
    "pg_attribute",
    "pg_attrdef",
    "pg_proc",
    "pg_rewrite",
    "pg_type",
    "pg_range",
    "pg_operator",
    "pg_cast",
    "pg_namespace",
    "pg_inherits",
    "pg_trigger",
    "pg_policy",
    "pg_constraint",
)


def _fingerprint(catalog: str) -> str:
    """Sum of the hashes of all row versions of one catalog. A version is its place and its inserting transaction: any
    insert, update or delete changes the sum; statistics that VACUUM and ANALYZE overwrite in place do not."""
    versions = "pg_catalog.hash_record_extended(row(r.xmin, r.ctid, r.tableoid), 0)"
    live = " where r.attnum OPERATOR(pg_catalog.>) 0" if catalog == "pg_attribute" else ""
    return f"(select pg_catalog.sum({versions}) from pg_catalog.{catalog} r{live})"  # noqa: S608  names from _WATCHED only


EPOCH_SQL = f"select pg_catalog.md5(pg_catalog.concat_ws(',', {', '.join(map(_fingerprint, _WATCHED))}))"
"""One row, one column: differs whenever a definition in the database differs; also for uncommitted changes of the asking session."""

CONTEXT_SQL = """select pg_catalog.current_schemas(true)::pg_catalog.text, current_user::pg_catalog.text, session_user::pg_catalog.text,
  coalesce((select n.nspname::pg_catalog.text from pg_catalog.pg_namespace n
    where n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()), ''),
  pg_catalog.current_setting('role'), pg_catalog.current_setting('search_path'), pg_catalog.current_setting('standard_conforming_strings'),
  pg_catalog.current_setting('client_encoding'), pg_catalog.current_setting('row_security'),
  pg_catalog.current_setting('session_replication_role')"""
"""One row of ten columns; ``load.SessionState`` names them."""
