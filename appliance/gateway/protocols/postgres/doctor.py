# SPDX-License-Identifier: Apache-2.0
"""What a target's login can do that makes the gateway pointless, or what keeps the gateway from working there.

For the kind ``ephemeral-role`` two are looked at: the administrative login, and a session's role as it would be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.config.load import Folder
from gateway.doctor.finding import Check, Finding, Sign, examined
from gateway.errors import Fault, TargetFault
from gateway.protocols.postgres.ephemeral import KIND
from gateway.protocols.postgres.powers import POWERFUL, Hba, Network, Target, facts
from gateway.protocols.postgres.settings import PostgresResource
from gateway.protocols.postgres.towards import open_catalog_connection

SHOWN = 5
"""Functions, tables and rules named in one finding; of more there is a number."""
SERVER_ROLES = ("pg_read_server_files", "pg_write_server_files", "pg_execute_server_program")
STATS_ROLES = ("pg_monitor", "pg_read_all_stats")


async def findings(folder: Folder, resource: PostgresResource) -> list[Finding]:
    """Everything found on one resource. A target that does not answer is a finding, too."""
    found: list[Finding] = []
    for database in resource.offered:
        try:
            found += examined(CHECKS, await _asked(folder, resource, database))
        except (Fault, OSError) as fault:
            found += examined(UNREACHABLE, Unreachable(f"{resource.name}/{database}", str(fault) or type(fault).__name__))
    return found


async def _asked(folder: Folder, resource: PostgresResource, database: str) -> Target:
    connection = await open_catalog_connection(folder, resource, database)
    try:
        return await facts(connection.query, folder, resource, database)
    except (ValueError, LookupError, TypeError):
        raise TargetFault("the target answered with another shape than was asked for") from None
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A target that could not be looked at."""

    where: str
    why: str


# --- looking ----------------------------------------------------------------------------------------------------------------------


def _some(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _attribute(attribute: str) -> Callable[[Target], Iterator[Sign]]:
    def look(target: Target) -> Iterator[Sign]:
        holders = [role.name for role in target.becomes.values() if attribute in role.attributes]
        if target.admin is not None and attribute in target.admin.attributes and attribute != "createrole":
            holders.append(target.admin.name)
        for name in holders:
            how = f"{name} has it" if name in (target.user, *target.names) else f"{target.who} may become {name}, which has it"
            yield Sign(target.where, f"{attribute.upper()}: {how}")
    return look


def _server_files(target: Target) -> Iterator[Sign]:
    yield from _member(*SERVER_ROLES)(target)
    for role in sorted(target.admin_rights & set(SERVER_ROLES)):
        yield Sign(target.where, f"{target.user} has the rights of {role}")


def _member(*roles: str) -> Callable[[Target], Iterator[Sign]]:
    def look(target: Target) -> Iterator[Sign]:
        for role in roles:
            if role in target.rights:
                yield Sign(target.where, f"{target.who} has the rights of {role}")
    return look


def _stats(target: Target) -> Iterator[Sign]:
    if target.masks:
        yield from _member(*STATS_ROLES)(target)


def _reads_all(target: Target) -> Iterator[Sign]:
    if target.narrow:
        yield from _member("pg_read_all_data")(target)


def _owner(target: Target) -> Iterator[Sign]:
    owned = [table for table, owner in target.masked if owner in target.rights]
    if owned:
        yield Sign(target.where, f"{target.who} owns what has masks: {_some(owned)}")


def _extensions(target: Target) -> Iterator[Sign]:
    for name, count in target.extensions:
        yield Sign(target.where, f"extension {name} {POWERFUL[name]}; {target.who} may call {count} functions of it")


def _functions(what: str, names: Callable[[Target], Sequence[str]]) -> Callable[[Target], Iterator[Sign]]:
    def look(target: Target) -> Iterator[Sign]:
        if found := names(target):
            yield Sign(target.where, f"{target.who} may {what} {_some(found)}")
    return look


def _md5(target: Target) -> Iterator[Sign]:
    if target.encryption == "md5":
        yield Sign(target.where, "password_encryption is md5: the next password that is set is kept as one")


def _trusts(target: Target) -> Iterator[Sign]:
    for rule in target.hba:
        if rule.method == "trust" and not (rule.network is not None and rule.network.is_loopback):
            yield Sign(target.where, f"{_allowed(rule)} without a password")


def _around(target: Target) -> Iterator[Sign]:
    for rule in target.hba:
        if rule.method == "reject":
            if rule.address == "all" and "all" in rule.users:
                return
        elif rule.method != "trust" and _is_wide(rule) and _reaches_callers(rule, target.callers):
            yield Sign(target.where, f"{_allowed(rule)}, not only the gateway")


def _allowed(rule: Hba) -> str:
    return f"pg_hba.conf line {rule.line}: {rule.address} may log in as {', '.join(rule.users)}"


def _is_wide(rule: Hba) -> bool:
    if rule.network is None:
        return rule.address in ("all", "samenet") or rule.address.startswith(".")
    return rule.network.num_addresses > 1 and not rule.network.is_loopback


def _reaches_callers(rule: Hba, callers: tuple[Network, ...] | None) -> bool:
    if rule.network is None or callers is None:
        return True
    return any(one.version == rule.network.version and one.overlaps(rule.network) for one in callers)


def _each(names: Callable[[Target], Sequence[str]], saw: str) -> Callable[[Target], Iterator[Sign]]:
    def look(target: Target) -> Iterator[Sign]:
        for name in names(target):
            yield Sign(target.where, saw.format(name=name, user=target.user))
    return look


def _no_createrole(target: Target) -> Iterator[Sign]:
    if target.admin is not None and not target.admin.attributes & {"createrole", "superuser"}:
        yield Sign(target.where, f"{target.user} has no CREATEROLE")


def _admin_reads(target: Target) -> Iterator[Sign]:
    if target.admin is not None and target.admin_reads and "superuser" not in target.admin.attributes:
        yield Sign(target.where, f"{target.user} may read {target.admin_reads} relations itself")


def _before_16(target: Target) -> Iterator[Sign]:
    if target.kind == KIND and target.version < 16:
        yield Sign(target.where, f"PostgreSQL {target.version}: {target.user} may give itself any role but a superuser's")


CHECKS: tuple[Check[Target], ...] = (
    Check("role.superuser", "high", "The login is a superuser, or may become one: nothing on the target holds it.",
          "ALTER ROLE … NOSUPERUSER, or give the gateway a role of its own.", _attribute("superuser")),
    Check("role.server-files", "high", "The login may read or write files of the server, or run programs there: as good as a superuser.",
          "REVOKE the role from it.", _server_files),
    Check("role.replication", "high", "The login may read the whole cluster as a replica would.", "ALTER ROLE … NOREPLICATION.",
          _attribute("replication")),
    Check("role.createrole", "high", "The sessions' login may make roles, and with them what it has no right to.",
          "ALTER ROLE … NOCREATEROLE; a role per session is kind ephemeral-role.", _attribute("createrole")),
    Check("role.bypassrls", "medium", "The login passes over row security.", "ALTER ROLE … NOBYPASSRLS.", _attribute("bypassrls")),
    Check("role.createdb", "medium", "The login may make databases, which no policy speaks of.", "ALTER ROLE … NOCREATEDB.",
          _attribute("createdb")),
    Check("role.reads-all", "medium", "The login may read every table, the grants let nobody do so.",
          "REVOKE pg_read_all_data and GRANT SELECT on what the grants name.", _reads_all),
    Check("role.writes-all", "medium", "The login may write every table.", "REVOKE pg_write_all_data and GRANT what the grants name.",
          _member("pg_write_all_data")),
    Check("role.statistics", "medium", "The login sees other sessions' statements and the statistics of values, and there are masks.",
          "REVOKE pg_monitor and pg_read_all_stats from it.", _stats),
    Check("role.owner", "medium",
          "The login owns tables with masks or row filters: it may change them, their row security and who reads them.",
          "ALTER TABLE … OWNER TO a role that the gateway is no member of.", _owner),
    Check("role.extension", "medium", "Functions can be called that do more than SQL.",
          "REVOKE EXECUTE ON the functions FROM PUBLIC, or DROP EXTENSION.", _extensions),
    Check("role.untrusted", "medium", "Functions in an untrusted language can be called: they run as the server.",
          "REVOKE EXECUTE ON them FROM PUBLIC.", _functions("call", lambda target: target.untrusted)),
    Check("role.foreign", "medium", "Foreign servers or wrappers can be used: connections past the gateway.",
          "REVOKE USAGE ON FOREIGN SERVER or WRAPPER.", _functions("use the foreign", lambda target: target.foreign)),
    Check("role.definer", "low", "Functions can be called that run with a superuser's rights.",
          "Look at what they do; give them another owner.", _functions("call", lambda target: target.definers)),
    Check("role.left", "medium", "A role of a session that is over is still there.",
          "The gateway's log says why it could not be dropped (often: others depend on what it made); it is tried again every minute.",
          _each(lambda target: target.left, "{name}")),
    Check("admin.createrole", "high", "The administrative login cannot make roles: no session can begin.", "ALTER ROLE … CREATEROLE.",
          _no_createrole),
    Check("admin.member-of", "high", "A role that sessions are to be a member of does not exist: no session can begin.",
          "CREATE ROLE, or mend `member_of`.", _each(lambda target: target.missing, "there is no role {name}")),
    Check("admin.grant", "high", "The administrative login may not grant a role of `member_of`: no session can begin.",
          "GRANT … WITH ADMIN TRUE, INHERIT FALSE, SET FALSE to it.",
          _each(lambda target: target.ungrantable, "{user} has no ADMIN OPTION on {name}")),
    Check("admin.reads", "low", "The administrative login has rights to data itself; it needs none.",
          "GRANT … WITH INHERIT FALSE, and REVOKE what it has of its own.", _admin_reads),
    Check("admin.version", "low", "Before PostgreSQL 16 whoever may make roles may give himself any of them.",
          "Upgrade the target; until then guard the credential as a superuser's.", _before_16),
    Check("password.md5", "medium", "The target keeps new passwords as md5 digests, which the gateway does not answer to.",
          "password_encryption = 'scram-sha-256', then set the passwords again.", _md5),
    Check("hba.trust", "high", "pg_hba.conf lets others in without a password.", "Take the rule away.", _trusts),
    Check("hba.around", "medium", "pg_hba.conf lets callers in past the gateway.",
          "Let in the gateway's address, and reject the others.", _around),
)
"""What is looked at on a PostgreSQL target. pg_hba.conf only where the login may see it."""

UNREACHABLE: tuple[Check[Unreachable], ...] = (
    Check("target.unreachable", "medium", "A target could not be looked at.", "Mend what the message says, and ask again.",
          lambda target: [Sign(target.where, target.why)]),
)
"""What is said of a target that could not be asked."""
TABLES: tuple[Sequence[Check[Any]], ...] = (CHECKS, UNREACHABLE)
"""For the reference page."""
