# SPDX-License-Identifier: Apache-2.0
"""What may be meant, but an operator should look at: warnings of ``lockgate check``. Nothing here stops a gateway."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.config import keyfiles, speaks
from gateway.config.draft import AUTHORITIES, Draft, Item
from gateway.config.problem import Problem, file_name
from gateway.errors import ConfigError


def advise(draft: Draft, now: float) -> None:
    """Adds to ``draft.warnings``."""
    draft.warnings.extend(_nothing_served(draft))
    for item in draft.lists["masks"]:
        draft.warnings.extend(_mask_set(draft, item))
    for item in draft.lists["revoked"]:
        if item.value.until is not None and item.value.until.timestamp() <= now:
            draft.warnings.append(item.document.problem(item.path, "this entry has ended and revokes nothing any more"))
    draft.warnings.extend(_unused(draft))
    for item in draft.lists["resources"]:
        for key, said in speaks.settings(item.value.protocol).advice(item.value, draft.resolve):
            draft.warnings.append(item.document.problem((*item.path, key), said))


def _nothing_served(draft: Draft) -> Iterator[Problem]:
    for kind, effect in (("issuers", "no token is believed"), ("identities", "no robot can come in"), ("resources", "there is no target"),
                         ("grants", "nothing is allowed")):
        if not draft.lists[kind] and not (kind == "issuers" and draft.lists[AUTHORITIES]):
            yield Problem("policy", 0, kind, f"there are none: {effect}")


def _unused(draft: Draft) -> Iterator[Problem]:
    grants = [item.value for item in draft.lists["grants"]]
    used: dict[str, set[Any]] = {
        "resources": {name for grant in grants for name in grant.targets},
        "masks": {name for grant in grants for name in grant.masks},
        "approvals": {rule.by for grant in grants for rule in grant.rules},
    }
    for kind, names in used.items():
        for item in draft.lists[kind]:
            if item.value.name not in names:
                yield item.document.problem((*item.path, "name"), f"no grant names {item.value.name!r}")
    webhook = draft.gateway.notify.webhook if draft.gateway else None
    resources = [item.value for item in draft.lists["resources"]]
    wanted = {resource.credential for resource in resources} | {webhook.secret if webhook else None}
    for resource in resources:
        wanted |= set(speaks.settings(resource.protocol).more_credentials(resource).values())
    for item in draft.lists["masks"]:
        wanted |= {name for spec in (*item.value.columns.values(), *item.value.detect.masks()) for name in spec.hash_keys()}
    for name in sorted(set(draft.credentials) - wanted):
        yield Problem(f"credentials/{name}.yaml", 0, "", "no resource uses this credential")


def _mask_set(draft: Draft, item: Item) -> Iterator[Problem]:
    """Columns that the schema file of a resource it applies to does not know: a typing error would leave the real one in clear."""
    targets = {name for grant in draft.lists["grants"] if item.value.name in grant.value.masks for name in grant.value.targets}
    for resource in sorted({entry.value.name: entry.value for entry in draft.lists["resources"]}.items()):
        if resource[0] in targets:
            yield from _columns(draft, item, *resource)


def _rows(item: Item, name: str, known: Mapping[str, int], settings: speaks.Settings) -> Iterator[Problem]:
    """Row filters of relations that are not there, or whose columns are others: every statement on them will be refused."""
    columns: dict[str, dict[str, int]] = {}
    for column, oid in known.items():
        relation, _, short = column.rpartition(".")
        columns.setdefault(relation, {})[short] = oid
    for relation, spec in item.value.rows.items():
        if set("*?[") & set(relation):
            continue
        if relation not in columns:
            yield item.document.problem((*item.path, "rows", relation), f"{name} has no such relation, as its schema file says")
        elif said := settings.filtered_problem(spec.filter, columns[relation]):
            yield item.document.problem((*item.path, "rows", relation, "filter"), f"every statement on it will be refused: {said}")


def _columns(draft: Draft, item: Item, name: str, resource: Any) -> Iterator[Problem]:
    path = draft.folder / "policy" / "schemas" / f"{name}.json"
    settings = speaks.settings(resource.protocol)
    known_columns = settings.columns
    if known_columns is None or not path.exists():
        return
    try:
        known = known_columns(keyfiles.content(path))
    except (ConfigError, ValueError) as wrong:
        yield Problem(file_name(draft.folder, path), 0, "", f"not what `lockgate schema pull` writes: {wrong}")
        return
    for key in ("columns", "clear"):
        for number, column in enumerate(getattr(item.value, key)):
            if column not in known and not set("*?[") & set(column):
                close = difflib.get_close_matches(column, known, n=1)
                hint = f", did you mean {close[0]!r}?" if close else ""
                inside = column if key == "columns" else number
                yield item.document.problem((*item.path, key, inside), f"{name} has no such column, as its schema file says{hint}")
    yield from _rows(item, name, known, settings)
    for column, spec in item.value.columns.items():
        if column in known and (said := settings.mask_problem(known[column], spec)):
            yield item.document.problem((*item.path, "columns", column), said)
