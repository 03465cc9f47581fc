# SPDX-License-Identifier: Apache-2.0
"""What no single entry can know: names that occur twice, names that resolve to nothing, files that are missing or of the wrong kind,
matchers of another protocol than the resource's, windows already over."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gateway import protocols
from gateway.config import keyfiles, speaks
from gateway.config.address import same_place
from gateway.config.draft import AUTHORITIES, Draft, Item
from gateway.config.schema import GatewayConfig, Grant, Issuer, MaskSetEntry, Rule
from gateway.identity.certificate import NAMES as CERTIFICATE_NAMES
from gateway.identity.keys import KeySet


def check(draft: Draft, now: float) -> dict[str, KeySet]:
    """Everything below; what is wrong is added to the documents. Gives the pinned key sets by issuer name."""
    _unique(draft, "issuers", AUTHORITIES)
    for kind in ("identities", "resources", "grants", "approvals", "masks"):
        _unique(draft, kind)
    key_sets = {item.value.name: keys for item in draft.lists["issuers"] if (keys := _issuer(draft, item)) is not None}
    for item in draft.lists[AUTHORITIES]:
        _authority(draft, item)
    _identities(draft)
    for item in draft.lists["resources"]:
        _resource(draft, item)
    for item in draft.lists["grants"]:
        _grant(draft, item, now)
    for item in draft.lists["approvals"]:
        _approval(draft, item)
    for item in draft.lists["masks"]:
        _mask_set(draft, item)
    for item in draft.lists["revoked"]:
        _revoked(draft, item)
    for item in draft.cases:
        _case(draft, item)
    if draft.gateway is not None:
        _gateway(draft, draft.gateway)
    return key_sets


def _unique(draft: Draft, *kinds: str) -> None:
    first: dict[str, Item] = {}
    for item in (item for kind in kinds for item in draft.lists[kind]):
        other = first.setdefault(item.value.name, item)
        if other is not item:
            where = f"{other.document.file}:{other.document.line((*other.path, 'name'))}"
            item.complain(f"expected a name of its own; {item.value.name!r} already stands at {where}", "name")


def _known(draft: Draft, kind: str) -> list[str]:
    return [item.value.name for item in draft.lists[kind]]


def _expect(draft: Draft, item: Item, kind: str, one: str, name: str, *inside: str | int) -> bool:
    """That ``name`` is one of the list ``kind``. An entry that is wrong itself is not reported a second time."""
    known = _known(draft, kind) + (_known(draft, AUTHORITIES) if kind == "issuers" else [])
    if name in known:
        return True
    if f"{kind}:{name}" not in draft.broken:
        item.complain(f"expected the name of {one}; there is no {name!r}{_closest(name, known)}", *inside)
    return False


def _closest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _file(item: Item, look: Callable[[], object], *inside: str | int) -> Any:
    try:
        return look()
    except ValueError as wrong:
        item.complain(str(wrong), *inside)
        return None


def _issuer(draft: Draft, item: Item) -> KeySet | None:
    issuer: Issuer = item.value
    for other in draft.lists["issuers"]:
        if other.value is issuer:
            break
        if (other.value.issuer, other.value.audience) == (issuer.issuer, issuer.audience):
            item.complain(f"expected another issuer or audience than {other.value.name!r} has: a token would be of both", "issuer")
    if issuer.jwks_ca is not None:
        ca = draft.resolve(issuer.jwks_ca)
        _file(item, lambda: keyfiles.check_certificates(ca), "jwks_ca")
    if issuer.jwks is None:
        return None
    path = draft.resolve(issuer.jwks)
    keys: KeySet | None = _file(item, lambda: keyfiles.check_key_set(path, issuer.algorithms), "jwks")
    return keys


def _authority(draft: Draft, item: Item) -> None:
    path = draft.resolve(item.value.ca)
    found = _file(item, lambda: keyfiles.check_authorities(path), "ca")
    draft.bundles[item.value.name] = found or ()


def _identities(draft: Draft) -> None:
    authorities = _known(draft, AUTHORITIES)
    for item in draft.lists["identities"]:
        _expect(draft, item, "issuers", "an issuer", item.value.issuer, "issuer")
        for name in item.value.match if item.value.issuer in authorities else ():
            if name not in CERTIFICATE_NAMES:
                item.complain(f"expected one of {', '.join(CERTIFICATE_NAMES)}: {item.value.issuer!r} signs certificates", "match", name)


def _group_possible(draft: Draft, group: str, *, people: bool = False) -> bool:
    """Whether anybody could be in ``group``: by an identity's entry, or by a claim (of a people's issuer, where people are asked for)."""
    issuers = [item.value for item in draft.lists["issuers"] if item.value.people or not people]
    names = {issuer.name for issuer in issuers}
    by_entry = any(group in item.value.groups for item in draft.lists["identities"] if item.value.issuer in names or not people)
    unsure = any(key.startswith(("issuers:", "identities:")) for key in draft.broken)
    return by_entry or unsure or any(issuer.groups_claim for issuer in issuers)


def _resource(draft: Draft, item: Item) -> None:
    resource = item.value
    if resource.tls.ca is not None:
        ca = draft.resolve(resource.tls.ca)
        _file(item, lambda: keyfiles.check_certificates(ca), "tls", "ca")
    settings = speaks.settings(resource.protocol)
    for used in settings.resource_files(resource):
        _used(draft, item, used)
    _credential(draft, item, settings, resource.credential, "credential")
    for key, name in settings.more_credentials(resource).items():
        _credential(draft, item, settings, name, "credentials", key)


def _used(draft: Draft, item: Item, used: speaks.Used, *around: str | int) -> None:
    path = draft.resolve(used.path)
    _file(item, lambda: used.look(path), *around, *used.inside)


def _credential(draft: Draft, item: Item, settings: speaks.Settings, name: str, *inside: str) -> None:
    credential = draft.credentials.get(name)
    if credential is None:
        if f"credentials:{name}" not in draft.broken:
            item.complain(f"expected a credential; there is no credentials/{name}.yaml{_closest(name, draft.credentials)}", *inside)
    elif credential.kind not in settings.credentials:
        kinds = " or ".join(sorted(settings.credentials))
        item.complain(f"expected a credential of kind {kinds}; {credential.name!r} is {credential.kind}", *inside)
    elif found := settings.resource_problem(item.value, credential):
        item.complain(found[1], found[0])


def _grant(draft: Draft, item: Item, now: float) -> None:
    grant: Grant = item.value
    for number, who in enumerate(grant.to):
        _who(draft, item, who, "to", number)
    for number, name in enumerate(grant.targets):
        _expect(draft, item, "resources", "a resource", name, "targets", number)
    for number, name in enumerate(grant.masks):
        _expect(draft, item, "masks", "a mask set", name, "masks", number)
    if grant.when is not None and grant.when.over(now):
        item.complain(f"expected a window that is not over yet; it ended {grant.when.until}", "when", "until")
    for number, rule in enumerate(grant.rules):
        if rule.by is not None:
            _expect(draft, item, "approvals", "an approval", rule.by, "rules", number, "by")
        _matcher(draft, item, rule, number)


def _mask_set(draft: Draft, item: Item) -> None:
    """The keys that hashes are made with, and the conditions on rows."""
    entry: MaskSetEntry = item.value
    for relation, row in entry.rows.items():
        for check_filter in (found.filter_problem for found in speaks.every() if found.filter_problem is not None):
            if said := check_filter(row.filter):
                item.complain(said, "rows", relation, "filter")
    for column, spec in entry.columns.items():
        for name in spec.hash_keys():
            _mask_key(draft, item, name, "columns", column)
    for spec in entry.detect.masks():
        for name in spec.hash_keys():
            _mask_key(draft, item, name, "detect")


def _mask_key(draft: Draft, item: Item, name: str, *inside: str | int) -> None:
    credential = draft.credentials.get(name)
    if credential is None:
        if f"credentials:{name}" not in draft.broken:
            item.complain(f"expected a credential of kind mask-key; there is no credentials/{name}.yaml: `lockgate init` makes one",
                          *inside)
    elif credential.kind != "mask-key":
        item.complain(f"expected a credential of kind mask-key; {name!r} is {credential.kind}", *inside)


def _who(draft: Draft, item: Item, who: str, *inside: str | int) -> None:
    group = who.removeprefix("group:")
    if group == who:
        _expect(draft, item, "identities", "an identity (a group is group:NAME)", who, *inside)
    elif not _group_possible(draft, group):
        groups = {name for entry in draft.lists["identities"] for name in entry.value.groups}
        item.complain(f"expected a group that somebody can be in; no identity is in {group!r} and no issuer has "
                      f"groups_claim{_closest(group, groups)}", *inside)


def _matcher(draft: Draft, item: Item, rule: Rule, number: int) -> None:
    """The matcher's key, its protocol against that of every target, and its body through the protocol itself."""
    key, body = rule.matcher
    inside = ("rules", number, rule.effect, key)
    protocol = protocols.by_matcher(key)
    if protocol is None:
        known = [protocols.protocol(name).matcher for name in protocols.names()]
        item.complain(f"expected the matcher of a protocol this gateway speaks: {', '.join(known)}", *inside)
        return
    for resource in (entry.value for entry in draft.lists["resources"] if entry.value.name in item.value.targets):
        if resource.protocol != protocol.name:
            wanted = protocols.protocol(resource.protocol).matcher
            item.complain(f"expected the matcher `{wanted}`: resource {resource.name!r} speaks {resource.protocol}", *inside)
    if found := speaks.settings(protocol.name).rule_problem(rule):
        item.complain(found, "rules", number, "max_rows")
    try:
        protocol.compile_matcher(body, rule.effect)
    except ValueError as wrong:
        name, _, message = str(wrong).partition(": ")
        where = (*inside, name) if name in body else inside
        item.complain(message if name in body else str(wrong), *where)


def _approval(draft: Draft, item: Item) -> None:
    if not any(entry.value.people for entry in draft.lists["issuers"]) and not any(key.startswith("issuers:") for key in draft.broken):
        item.complain("expected an issuer with `people: true`: without one nobody could approve")
        return
    seen: set[str] = set()
    for number, quorum in enumerate(item.value.all_of):
        if quorum.group in seen:
            item.complain(f"expected each group once; {quorum.group!r} stands twice", "all_of", number, "group")
        seen.add(quorum.group)
        if not _group_possible(draft, quorum.group, people=True):
            item.complain(f"expected a group that people can be in; nobody can be in {quorum.group!r}", "all_of", number, "group")


def _revoked(draft: Draft, item: Item) -> None:
    entry = item.value
    if entry.identity is not None:
        _expect(draft, item, "identities", "an identity", entry.identity, "identity")
    if entry.issuer is not None and entry.issuer not in {known.value.issuer for known in draft.lists["issuers"]}:
        _expect(draft, item, "issuers", "an issuer", entry.issuer, "issuer")


def _case(draft: Draft, item: Item) -> None:
    case = item.value
    _expect(draft, item, "identities", "an identity", case.identity, "identity")
    for name in case.by or ():
        _expect(draft, item, "approvals", "an approval", name, "by")
    grants = [entry.value for entry in draft.lists["grants"]]
    rules = {name for grant in grants for rule in grant.rules for name in (rule.name, f"{grant.name}/{rule.name}")}
    for name in case.rules or ():
        if name not in rules and not any(key.startswith("grants:") for key in draft.broken):
            item.complain(f"expected RULE or GRANT/RULE; there is no {name!r}{_closest(name, rules)}", "rules")


def _gateway(draft: Draft, gateway: GatewayConfig) -> None:
    item = Item(gateway, draft.main, ())
    listeners = list(gateway.listeners.items())
    for number, (name, listener) in enumerate(listeners):
        for other, earlier in listeners[:number]:
            if same_place(listener.address, earlier.address):
                item.complain(f"expected an address of its own; listener {other!r} has it", "listeners", name, "address")
        if listener.tls is not None:
            certificate, key = draft.resolve(listener.tls.certificate), draft.resolve(listener.tls.key)
            if _file(item, lambda path=certificate: keyfiles.check_certificates(path), "listeners", name, "tls", "certificate"):  # type: ignore[misc]
                _file(item, lambda one=key, two=certificate: keyfiles.check_tls_key(one, two), "listeners", name, "tls", "key")  # type: ignore[misc]
        for used in speaks.of_listener(name, listener):
            _used(draft, item, used, "listeners", name)
    audit_key = draft.resolve(gateway.audit.checkpoint.key)
    _file(item, lambda: keyfiles.check_audit_key(audit_key), "audit", "checkpoint", "key")
    for part in ("read", "end"):
        for number, who in enumerate(getattr(gateway.console, part)):
            if who.startswith("group:") and not _group_possible(draft, who.removeprefix("group:"), people=True):
                item.complain(f"expected a group that people can be in; nobody can be in {who!r}", "console", part, number)
    _webhook(draft, item, gateway)
    _state(draft, item, draft.resolve(gateway.state))


def _webhook(draft: Draft, item: Item, gateway: GatewayConfig) -> None:
    webhook = gateway.notify.webhook
    if webhook is None:
        return
    if webhook.ca is not None:
        ca = draft.resolve(webhook.ca)
        _file(item, lambda: keyfiles.check_certificates(ca), "notify", "webhook", "ca")
    credential = draft.credentials.get(webhook.secret or "")
    if webhook.secret is not None and (credential is None or credential.kind != "bearer"):
        item.complain(f"expected a credential of kind bearer at credentials/{webhook.secret}.yaml", "notify", "webhook", "secret")


def _state(draft: Draft, item: Item, state: Path) -> None:
    real, folder = state.resolve(), draft.folder.resolve()
    if real == folder or folder in real.parents:
        item.complain("expected a folder outside of this one: the gateway never writes to its configuration", "state")
    elif state.exists() and not state.is_dir():
        item.complain(f"expected a folder, but {state} is none", "state")
