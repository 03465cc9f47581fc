# SPDX-License-Identifier: Apache-2.0
"""Whether the parser's tree may be read where it stands in memory (``_tree.pxi``), without JSON in between.

Only of a library whose very bytes are known, and only what both ways said alike of ``TEXTS`` when the process started. One difference,
and everything is read from JSON, as it is where nothing was compiled.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from pathlib import Path

from gateway.protocols.postgres.sql import layout
from gateway.protocols.postgres.sql.compiled import fast

KNOWN = frozenset({"4d799f1cf50df59969822f9f77e403f6314b945d6909e439931d8142dc932fd5"})
"""SHA-256 of the libraries that ``layout`` was compared with: ``postgast`` 0.2.0 for x86_64 and glibc (PostgreSQL 18.4)."""
CALLED = ("pg_query_enter_memory_context", "pg_query_exit_memory_context", "pg_query_raw_parse")

_MOST = """select a, b.c, x.y.z.w.v, *, t.*, 1, 0, -2, 1.5, 99999999999, '', 'a', 'ä', true, false, null, b'01', x'1f', $1 as p
select a.b[1], (a).b, (a).*
select distinct a as "A b" from only s.t as u (a, b), c.s.t, lateral (select 1) v where a = 1 limit 3 offset 2
select from t order by 1 fetch first 3 rows with ties
select distinct on (a, b) a from t order by a asc, b desc nulls last, c using < nulls first, d
select * from a join b on a.x = b.x left join c using (x, y) right join d on true full join e using (z) as q natural join f cross join g
select * from (a join b on true) as j (x, y)
select 1 union all select 2 intersect (select 3 except all select 4) order by 1
values (1, 'a'), (2, default)
 with recursive a (x) as (select 1), b as materialized (select 2), c as not materialized (table t) select * from a, b, c
select a + 1, - b, a operator(s.+) b, a = any ($1), a <> all (array[1, 2]), a is distinct from b, a is not distinct from b, nullif(a, b)
select a in (1, 2), a not in (3), a like 'x', a not ilike 'y' escape 'z', a similar to 'q', a between 1 and 2
select a not between symmetric 3 and 4, a between symmetric 1 and 2, a not between 3 and 4, a ilike 'w'
select a and b or not c, a is null, b is not null, a is true, a is not true, a is false, a is not false, a is unknown, a is not unknown
select case a when 1 then 2 when 3 then 4 else 5 end, case when a then b end, coalesce(a, b), greatest(1, 2), least(3, 4)
select a::int, cast(b as s.t), c::numeric(10, 2), d::text[], e::int[3][0], '5'::setof_, interval '1' day, date 'x', f collate "C"
select a::s.t%type, ((1, 2)), row(1, 2), row(), array[1, array[2]], array[]::int[], (select 1), array(select 2), exists (select 3)
select a in (select 1), a > any (select 2), a = all (select 3), (a, b) = (select 4, 5), a[1:2], a[:], a[b].c[2], (f(x)).*
select count(*), count(distinct a), f(a, b := 1, c => 2), f(variadic a), sum(a order by b desc) filter (where c > 1)
select s.f(), f(a, variadic b)
select percentile_cont(0.5) within group (order by a), extract(year from a), trim(both 'x' from b), position(a in b), a at time zone 'UTC'
select sum(a) over (), sum(a) over w, sum(a) over (w rows between 1 preceding and 2 following), rank() over (partition by a order by b)
select 1 from t window w as (partition by a, b order by c range between unbounded preceding and current row), v as (w)
select a, b from t group by a, (), rollup (a, b), cube (c), grouping sets ((d, e), (f)) having count(*) > 1
select grouping(a, b) from t group by distinct a, b
select current_date, current_time, current_time(1), current_timestamp, current_timestamp(2), localtime, localtime(3), localtimestamp
select localtimestamp(4), current_role, current_user, user, session_user, current_catalog, current_schema, system_user
select 1 from t for update of t nowait
select 1 from t for no key update skip locked
select 1 from t for share
select 1 from t, u for key share of t, u
select * from f(1) with ordinality as g (a, b), rows from (f(1), g(2)), lateral h(3)
insert into s.t as u (a, b.c, d[1]) values (1, 2, default) returning a, b as c, *
insert into t default values
insert into t select 1 on conflict do nothing
insert into t overriding user value values (1) on conflict (d collate "C" o.p desc nulls last, e asc nulls first) do nothing
insert into t values (1) on conflict (a, (b + 1)) where c do update set a = excluded.a, b = default where t.a > 1
insert into t overriding system value values (1) on conflict on constraint k do update set a = 1
with w as (delete from t returning a) insert into u select * from w returning with (old as o, new as n) o.a, n.a
update only t u set a = 1, b[2] = c, d.e = default from v, w x where u.a = v.a returning u.*
with w as (select 1) update t set a = a + 1
update t set a = 1 where current of c
delete from t as u using v, w where u.a = v.a returning *
with w as (select 1) delete from only t
begin
start transaction isolation level serializable, read only
set x = 1
set local s.x to 'a', b, true, 1.5
set x to default
set x from current
set time zone 'UTC'
reset x
reset all
set transaction read only
set session characteristics as transaction isolation level repeatable read
show x
show all
commit
rollback
rollback and chain
commit and chain
savepoint s
release s
rollback to s
prepare transaction 'x'
commit prepared 'x'
rollback prepared 'x'
select 1;  select 2; /* x */ select 3"""
TEXTS = tuple(_MOST.splitlines())


def bind(library: ctypes.CDLL, path: Path) -> str:
    """Read the trees of this library from memory, from now on. Gives why not: ``""`` where they are."""
    if fast is None:
        return "nothing is compiled"
    if fast.is_direct():
        return ""
    if sys.platform != "linux" or sys.byteorder != "little" or sys.maxsize != 2**63 - 1:
        return "not a machine that the layout is of"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest not in KNOWN:
        return "not a library that the layout is of"
    addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in CALLED]
    fast.bind_tree(*addresses, layout.NODES, layout.ENUMS, layout.PLACES)
    for text in TEXTS:
        if not same(text.encode(), proving=True):
            return "the two ways of reading differ"
    fast.direct(True)
    return ""


def same(text: bytes, *, proving: bool = False) -> bool:
    """Whether both ways say the same of a text. With ``proving``, what was read for it is read in this way from now on, if so."""
    assert fast is not None
    direct, answer = fast.raw_tree(text, proving), fast.tree(text)
    if direct is None:
        return not proving          # not read in this way: nothing to compare
    said = False if isinstance(answer, tuple) else fast.decoded(answer)["stmts"]
    alike = repr(direct) == repr(said)         # a number is not a truth, and the order is the same
    if proving:
        fast.alike(alike)
    return alike
