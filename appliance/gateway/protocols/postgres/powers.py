# SPDX-License-Identifier: Apache-2.0
"""What a target's login, and the role of a session, may do there: asked over the gateway's own connection, changing nothing.

``doctor.py`` says what is wrong with it.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.config.load import Folder
from gateway.errors import TargetFault
from gateway.protocols.postgres import ephemeral
from gateway.protocols.postgres.ephemeral import KIND, Mark, literal
from gateway.protocols.postgres.settings import PostgresResource

Rows = list[tuple[str | None, ...]]
Ask = Callable[[str], Awaitable[Rows]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ATTRIBUTES = ("superuser", "createrole", "createdb", "replication", "bypassrls")
_AS_SERVER = "runs programs as the server"
_PAST = "opens connections of its own, past the gateway"
POWERFUL: Mapping[str, str] = {
    "dblink": _PAST, "postgres_fdw": _PAST, "file_fdw": "reads files of the server", "adminpack": "writes files of the server",
    "http": "asks other hosts", "pg_net": "asks other hosts", "pg_cron": "runs SQL later, without the gateway",
    "pg_background": "runs SQL beside the session", "orafce": "reads and writes files of the server (utl_file)", "plpython3u": _AS_SERVER,
    "plperlu": _AS_SERVER, "pltclu": _AS_SERVER, "plr": _AS_SERVER, "pljava": _AS_SERVER, "plsh": _AS_SERVER,
}
"""Extensions, and what their functions can do beside SQL."""


@dataclass(frozen=True, slots=True)
class Role:
    """A row of pg_roles: which of ``ATTRIBUTES`` it has."""

    name: str
    attributes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Hba:
    """A rule of pg_hba.conf. ``network`` is ``None`` for all addresses, and for names."""

    line: str
    kind: str
    users: tuple[str, ...]
    address: str
    network: Network | None
    method: str


@dataclass(frozen=True, slots=True)
class Target:
    """One database of a resource as the gateway's login sees it.

    ``user`` is that login. ``names`` are the roles whose rights a session has: the login itself, or ``member_of``. ``rights`` are all
    roles whose rights come with them (``admin_rights``: with the administrative login), ``becomes`` those that a session may be or become
    (SET ROLE). ``masked`` are the relations with masked columns or a row filter, by owner.
    """

    where: str
    kind: str
    user: str
    version: int
    names: tuple[str, ...]
    missing: tuple[str, ...] = ()
    ungrantable: tuple[str, ...] = ()
    admin: Role | None = None
    admin_reads: int = 0
    admin_rights: frozenset[str] = frozenset()
    rights: frozenset[str] = frozenset()
    becomes: Mapping[str, Role] = field(default_factory=dict)
    masks: bool = False
    narrow: bool = True
    masked: tuple[tuple[str, str], ...] = ()
    extensions: tuple[tuple[str, str], ...] = ()
    untrusted: tuple[str, ...] = ()
    definers: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    hba: tuple[Hba, ...] = ()
    callers: tuple[Network, ...] | None = None
    encryption: str = "scram-sha-256"
    left: tuple[str, ...] = ()

    @property
    def who(self) -> str:
        """The login as findings name it."""
        return self.user if self.kind != KIND else f"a session's role (member of {', '.join(self.names)})"


# --- asking -----------------------------------------------------------------------------------------------------------------------

ROLES = """select r.rolname::text, r.rolsuper::text, r.rolcreaterole::text, r.rolcreatedb::text, r.rolreplication::text,
  r.rolbypassrls::text from pg_catalog.pg_roles r"""
MEMBERS_15 = """select g.rolname::text, m.rolname::text, m.rolinherit::text, 'true', a.admin_option::text
from pg_catalog.pg_auth_members a join pg_catalog.pg_roles g on g.oid = a.roleid join pg_catalog.pg_roles m on m.oid = a.member"""
MEMBERS_16 = MEMBERS_15.replace("m.rolinherit::text, 'true'", "a.inherit_option::text, a.set_option::text")

FUNCTIONS = """with functions as materialized (
  select p.oid, p.proowner, p.prosecdef, p.prolang, pg_catalog.format('%s.%I', p.pronamespace::pg_catalog.regnamespace, p.proname) as name
  from pg_catalog.pg_proc p where p.oid >= 16384 and exists (select from pg_catalog.unnest({names}::pg_catalog.name[]) r(name)
    where pg_catalog.has_function_privilege(r.name, p.oid, 'execute')
      and pg_catalog.has_schema_privilege(r.name, p.pronamespace, 'usage'))) """
EXTENSIONS = FUNCTIONS + """select e.extname::text, pg_catalog.count(*)::text
from pg_catalog.pg_extension e join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
  and d.refobjid = e.oid and d.deptype = 'e' and d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
  join functions p on p.oid = d.objid
where e.extname = any ({extensions}) group by 1 order by 1"""
UNTRUSTED = FUNCTIONS + """select p.name, l.lanname::text from functions p join pg_catalog.pg_language l on l.oid = p.prolang
where not l.lanpltrusted and l.lanname not in ('internal', 'c') order by 1 limit 200"""  # noqa: S608  constant texts
DEFINERS = FUNCTIONS + """select p.name from functions p join pg_catalog.pg_roles o on o.oid = p.proowner
where p.prosecdef and o.rolsuper order by 1 limit 200"""  # noqa: S608  constant texts
FOREIGN = """select 'server ' || s.srvname from pg_catalog.pg_foreign_server s where exists (select from
  pg_catalog.unnest({names}::pg_catalog.name[]) r(name) where pg_catalog.has_server_privilege(r.name, s.oid, 'usage'))
union all select 'wrapper ' || w.fdwname from pg_catalog.pg_foreign_data_wrapper w where exists (select from
  pg_catalog.unnest({names}::pg_catalog.name[]) r(name) where pg_catalog.has_foreign_data_wrapper_privilege(r.name, w.oid, 'usage'))
order by 1 limit 200"""
OWNERS = """select c.relnamespace::pg_catalog.regnamespace::text || '.' || c.relname, r.rolname::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace join pg_catalog.pg_roles r on r.oid = c.relowner
where n.nspname || '.' || c.relname = any ({relations}) order by 1"""
READABLE = """select pg_catalog.count(*)::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.oid >= 16384 and c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'information_schema'
  and pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select')"""
MAY_SEE_HBA = """select (pg_catalog.has_table_privilege('pg_catalog.pg_hba_file_rules', 'select')
  and pg_catalog.has_function_privilege('pg_catalog.pg_hba_file_rules()', 'execute'))::text"""
HBA = "select pg_catalog.to_json(h)::text from pg_catalog.pg_hba_file_rules h where h.error is null order by h.line_number"
SERVER = "select pg_catalog.current_setting('server_version_num'), pg_catalog.current_setting('password_encryption'), current_user::text"


async def facts(ask: Ask, folder: Folder, resource: PostgresResource, database: str) -> Target:
    """Everything the checks look at. Raises ``TargetFault``."""
    credential = folder.credentials[resource.credential]
    [(number, encryption, user)] = await ask(SERVER)
    version = int(number or "0") // 10000
    roles = {name: _role(name, row) for name, *row in await ask(ROLES) if name is not None}
    edges = await ask(MEMBERS_16 if version >= 16 else MEMBERS_15)
    own = credential.kind == KIND
    names = tuple(name for name in (credential.member_of if own else (user or "",)) if name in roles)
    array = _array(names)
    masked = _masked_relations(folder, resource)
    return Target(
        where=f"{resource.name}/{database}", kind=credential.kind, user=user or "", version=version, names=names,
        missing=tuple(name for name in credential.member_of if name not in roles),
        ungrantable=_ungrantable(names, user or "", edges) if own and version >= 16 else (),
        admin=roles.get(user or "") if own else None, admin_reads=int((await ask(READABLE))[0][0] or "0") if own else 0,
        admin_rights=_closure((user or "",), edges, lambda inherits, sets: inherits or sets) if own else frozenset(),
        rights=_closure(names, edges, lambda inherits, sets: inherits or (sets and not (own and version >= 16))),
        becomes=_becomes(names, edges, roles, own, version),
        masks=bool(masked), narrow=not _reads_everything(folder, resource),
        masked=tuple((table or "", owner or "") for table, owner in await ask(OWNERS.format(relations=_texts(masked)))),
        extensions=_pairs(await ask(EXTENSIONS.format(names=array, extensions=_texts(POWERFUL)))),
        untrusted=tuple(f"{name} ({language})" for name, language in await ask(UNTRUSTED.format(names=array))),
        definers=_column(await ask(DEFINERS.format(names=array))), foreign=_column(await ask(FOREIGN.format(names=array))),
        hba=await _hba(ask), callers=_callers(folder), encryption=encryption or "",
        left=_left(await ask(ephemeral.ours(folder.gateway.name)), resource) if own else ())


def _role(name: str, row: Sequence[str | None]) -> Role:
    return Role(name, frozenset(attribute for attribute, value in zip(ATTRIBUTES, row, strict=False) if value == "true"))


def _array(names: Iterable[str]) -> str:
    return f"array[{', '.join(map(literal, names))}]"


def _texts(names: Iterable[str]) -> str:
    return f"{_array(names)}::pg_catalog.text[]"


def _column(rows: Rows) -> tuple[str, ...]:
    return tuple(row[0] or "" for row in rows)


def _pairs(rows: Rows) -> tuple[tuple[str, str], ...]:
    return tuple((one or "", other or "") for one, other in rows)


def _closure(names: Iterable[str], edges: Rows, follows: Callable[[bool, bool], bool]) -> frozenset[str]:
    """All roles that lead on from ``names`` over memberships that ``follows`` (whether it inherits, whether it may SET ROLE)."""
    groups: dict[str, list[str]] = {}
    for group, member, inherits, sets, _ in edges:
        if follows(inherits == "true", sets == "true"):
            groups.setdefault(member or "", []).append(group or "")
    found, waiting = set(names), list(names)
    while waiting:
        for group in groups.get(waiting.pop(), ()):
            if group not in found:
                found.add(group)
                waiting.append(group)
    return frozenset(found)


def _becomes(names: tuple[str, ...], edges: Rows, roles: Mapping[str, Role], own: bool, version: int) -> dict[str, Role]:
    if own and version >= 16:
        return {}                       # its memberships are granted WITH SET FALSE
    reached = _closure(names, edges, lambda inherits, sets: sets)
    return {name: roles[name] for name in sorted(reached) if name in roles}


def _ungrantable(names: tuple[str, ...], user: str, edges: Rows) -> tuple[str, ...]:
    """Those of ``names`` that the login has no ADMIN OPTION on, itself or through a group."""
    groups = _closure((user,), edges, lambda inherits, sets: inherits)
    with_option = {group for group, member, _, _, admin in edges if admin == "true" and member in groups}
    return tuple(name for name in names if name not in with_option)


def _masked_relations(folder: Folder, resource: PostgresResource) -> list[str]:
    """``schema.relation`` of every column that some grant on this resource masks, and of every row filter."""
    sets = {name for grant in folder.policy.grants if resource.name in grant.targets for name in grant.masks}
    entries = [entry for entry in folder.policy.masks if entry.name in sets]
    columns = [column for entry in entries for column in entry.columns]
    return sorted({column.rpartition(".")[0] for column in columns} | {relation for entry in entries for relation in entry.rows})


def _reads_everything(folder: Folder, resource: PostgresResource) -> bool:
    """Whether some rule lets somebody read every relation."""
    bodies = [body for grant in folder.policy.grants if resource.name in grant.targets for rule in grant.rules
              for effect, (key, body) in [(rule.effect, rule.matcher)] if effect == "allow" and key == "sql"]
    return any("select" in body.get("verbs", ["select"]) and "*.*" in body.get("relations", ["*.*"]) and "functions" not in body
               for body in bodies)


async def _hba(ask: Ask) -> tuple[Hba, ...]:
    """The rules for connections over the network, where this login may see them."""
    if await ask(MAY_SEE_HBA) != [("true",)]:
        return ()
    try:
        found = [json.loads(row[0] or "{}") for row in await ask(HBA)]
    except TargetFault:
        return ()
    return tuple(_rule(one) for one in found if str(one.get("type", "")).startswith("host"))


def _rule(one: Mapping[str, Any]) -> Hba:
    address, mask = str(one.get("address") or ""), one.get("netmask")
    network: Network | None = None
    if mask:
        network = ipaddress.ip_network(f"{address}/{_bits(str(mask))}", strict=False)
    return Hba(str(one.get("line_number", "")), str(one["type"]), tuple(map(str, one.get("user_name") or ())),
               str(network) if network else address, network, str(one.get("auth_method", "")))


def _bits(mask: str) -> int:
    return int(ipaddress.ip_address(mask)).bit_count()


def _callers(folder: Folder) -> tuple[Network, ...] | None:
    """The networks that callers come from; ``None`` for anywhere. Those on this machine have the gateway's own address."""
    entries = folder.policy.identities
    if any(not entry.sources for entry in entries):
        return None
    return tuple(source for entry in entries for source in entry.sources if not source.is_loopback)


def _left(rows: Rows, resource: PostgresResource) -> tuple[str, ...]:
    """Roles of sessions that are over: locked when they could not be dropped, or past their time."""
    found = []
    for name, comment, over, can_login in rows:
        mark = Mark.parse(comment)
        if name is not None and mark is not None and mark.resource == resource.name and (over == "true" or can_login == "false"):
            found.append(name)
    return tuple(found)
