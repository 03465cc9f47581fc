# SPDX-License-Identifier: Apache-2.0
"""From observations, waivers and an independent auditor's findings to a verdict, and from a verdict to a page. Nothing here
looks at a host."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

_FIELDS = ("id", "title", "reason", "scope", "evidence")
_SCOPES = ("host", "vm", "image")
_OWED = ("id", "reason", "owner", "until")
Document = dict[str, Any]


def register(roles: list[str], folder: str, disabled: dict[str, list[str]], named: dict[str, list[str]] | None = None) -> list[Document]:
    """All controls of ``folder/ROLE/vars/controls.yml``, with their role and whether its switch turns them off.

    ``named`` are the lists of names in the inventory that a control's evidence may ask for with ``names``. All the rest is data and read as
    such: a regular expression may hold what a template would act on. Raises ``AnsibleFilterError``.
    """
    found: dict[str, Document] = {}
    for role in roles:
        controls = _read(Path(folder) / role / "vars" / "controls.yml").get(f"__{role}_controls")
        if not controls:
            raise AnsibleFilterError(f"the role {role} has no register of controls")
        for one in controls:
            _sound(role, one, found)
            evidence = _named(one["evidence"], named or {})
            found[one["id"]] = {**one, "evidence": evidence, "role": role, "off": one["id"] in disabled.get(role, [])}
    return list(found.values())


def _named(evidence: Any, named: dict[str, list[str]]) -> Any:
    """Evidence that prints names, one a line, and may print those of the inventory."""
    if not isinstance(evidence, dict) or evidence.get("names") not in named:
        return evidence
    names = "|".join(re.escape(str(name)) for name in named[evidence["names"]])
    return {**evidence, "stdout_regex": rf"\A(({names})\n)*\Z" if names else r"\A\Z"}


def _sound(role: str, one: Document, found: dict[str, Document]) -> None:
    missing = [name for name in _FIELDS if not one.get(name)]
    if missing or one["scope"] not in _SCOPES or one["id"] in found:
        what = f"lacks {', '.join(missing)}" if missing else "is there twice, or has an unknown scope"
        raise AnsibleFilterError(f"{role}: control {one.get('id', '?')} {what}")


def waivers_in(files: list[str]) -> list[Document]:
    """The waivers of several files, in order. Raises ``AnsibleFilterError``."""
    waivers = [waiver for file in files for waiver in _read(Path(file)).get("waivers") or []]
    if not all(isinstance(waiver, dict) for waiver in waivers):
        raise AnsibleFilterError("a waiver is a mapping with id, reason, owner and until")
    return waivers


def _read(path: Path) -> Document:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise AnsibleFilterError(f"{path}: cannot be read ({type(error).__name__})") from None
    if not isinstance(document, dict):
        raise AnsibleFilterError(f"{path}: expected a mapping")
    return document


def verdict(observed: dict[str, Document], controls: list[Document], waivers: list[Document], today: str, host: str,
            auditor: Document | None = None) -> Document:
    """The report of one host."""
    good, findings = _sorted_out(waivers, today, host)
    known = {one["id"] for one in controls}
    # What an auditor finds differs with its version and the host: a waiver that has nothing to waive there is no fault.
    findings += [f"waiver {name}: no control has this id" for name in good if name not in known and not name.startswith("LYNIS-")]
    judged = [_judged(one, observed.get(one["id"], {"status": "fail", "evidence": []}), good) for one in controls]
    audited = _audited(auditor, good) if auditor else None
    notes = [f"waiver {one['id']}: the control passes, the waiver is not needed"
             for one in judged if one["status"] == "pass" and one["id"] in good]
    counts = {status: sum(one["status"] == status for one in judged) for status in ("pass", "fail", "waived", "not applicable")}
    wrong = counts["fail"] + len(findings) + (audited["open"] + audited["too_low"] if audited else 0)
    return {"format": "lockgate-compliance/1", "host": host, "date": today, "ok": not wrong, "summary": counts, "controls": judged,
            "findings": findings, "notes": notes, "auditor": audited}


def _sorted_out(waivers: list[Document], today: str, host: str) -> tuple[dict[str, Document], list[str]]:
    """Waivers that hold today on this host, by id, and what is wrong with others."""
    good: dict[str, Document] = {}
    findings = []
    for waiver in waivers:
        missing = [name for name in _OWED if not waiver.get(name)]
        name = str(waiver.get("id", "?"))
        if missing:
            findings.append(f"waiver {name}: lacks {', '.join(missing)}")
        elif (until := _day(waiver["until"])) is None:
            findings.append(f"waiver {name}: until is not a date")
        elif until < date.fromisoformat(today):
            findings.append(f"waiver {name}: expired on {waiver['until']} ({waiver['owner']})")
        elif name in good:
            findings.append(f"waiver {name}: is there twice")
        elif host in waiver.get("hosts", [host]):
            good[name] = {key: str(waiver[key]) for key in _OWED}
    return good, findings


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        return None


def lynis(report: str, minimum: int) -> Document:
    """What Lynis found, from its lynis-report.dat: one finding a test, as LYNIS-TEST. Raises ``AnsibleFilterError``."""
    values = [line.partition("=")[::2] for line in report.splitlines() if "=" in line and not line.startswith("#")]
    single, found = dict(values), dict[str, list[str]]()
    for name, value in values:
        if name in ("warning[]", "suggestion[]"):
            test, text, details, *_ = [*value.split("|"), "", ""]
            found.setdefault(f"LYNIS-{test}", []).append(text if details in ("-", "") else f"{text} ({details})")
    if not single.get("hardening_index", "").isdigit():
        raise AnsibleFilterError("not a report of Lynis, or of one that did not come to its end: it has no hardening_index")
    return {"name": "Lynis", "version": single.get("lynis_version", "?"), "score": int(single["hardening_index"]), "minimum": minimum,
            "tests": len(single.get("tests_executed", "").strip("|").split("|")),
            "findings": [{"id": test, "text": "; ".join(texts)} for test, texts in sorted(found.items())]}


def _judged(control: Document, seen: Document, waivers: dict[str, Document]) -> Document:
    waiver = waivers.get(control["id"]) if seen["status"] == "fail" else None
    kept = {name: control[name] for name in ("id", "role", "title", "reason", "scope", "off")}
    return kept | seen | {"status": "waived" if waiver else seen["status"], "waiver": waiver}


def _audited(auditor: Document, waivers: dict[str, Document]) -> Document:
    """``score`` is at least ``minimum``, every finding has its waiver."""
    findings = [one | {"waiver": waivers.get(one["id"])} for one in auditor["findings"]]
    return auditor | {"findings": findings, "open": sum(one["waiver"] is None for one in findings),
                      "too_low": int(auditor["score"] < auditor["minimum"])}


def failures(report: Document) -> list[str]:
    """One line for each thing that is wrong."""
    lines = [f"{one['id']} {one['title']}: fails" for one in report["controls"] if one["status"] == "fail"]
    if audited := report["auditor"]:
        lines += [f"{one['id']} {one['text']}: no waiver" for one in audited["findings"] if one["waiver"] is None]
        lines += [f"{audited['name']} gives {audited['score']}, at least {audited['minimum']} is wanted"] * audited["too_low"]
    return lines + list(report["findings"])


def markdown(report: Document) -> str:
    """The report for people. What the host said stands in indented blocks, where no markup counts."""
    counts = ", ".join(f"{number} {status}" for status, number in report["summary"].items())
    lines = [f"# Compliance of {_cell(report['host'])}, {report['date']}", "",
             f"**{'Nothing is open' if report['ok'] else 'Something is open'}**: {counts}.", ""]
    lines += [f"* {_cell(line)}" for line in (*failures(report), *report["notes"])]
    lines += ["", "| id | control | status | waiver |", "|---|---|---|---|"]
    lines += [f"| {one['id']} | {_cell(one['title'])} | {one['status']} | {_waiver(one['waiver'])} |" for one in report["controls"]]
    if audited := report["auditor"]:
        who = f"{_cell(audited['name'])} {_cell(audited['version'])}"
        lines += ["", f"## {who}: {audited['score']} of 100, at least {audited['minimum']}", "",
                  "| finding | what it says | waiver |", "|---|---|---|"]
        lines += [f"| {one['id']} | {_cell(one['text'])} | {_waiver(one['waiver'])} |" for one in audited["findings"]]
    lines += ["", "## Evidence", ""]
    for one in report["controls"]:
        lines += [f"### {one['id']} {_cell(one['title'])}: {one['status']}", "", _cell(one["reason"]), "", *_evidence(one), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _evidence(control: Document) -> Iterable[str]:
    if not control["evidence"]:
        yield _cell(control.get("why", "no evidence"))
    for seen in control["evidence"]:
        yield f"    $ {_plain(' '.join(seen['command']))}"
        yield from (f"    {_plain(line)}" for line in (seen["stdout"] + seen["stderr"]).splitlines())
        yield f"    exit status {seen['rc']}"


def _waiver(waiver: Document | None) -> str:
    return _cell(f"{waiver['reason']} ({waiver['owner']}, until {waiver['until']})") if waiver else ""


def _plain(text: Any) -> str:
    return re.sub(r"[^\x20-\x7e\u00a1-\u024f\u2010-\u2027]", "?", str(text))


def _cell(text: Any) -> str:
    return re.sub(r"([|<>`\[\]*_\\])", r"\\\1", _plain(text))


class FilterModule:
    """What templates may call."""

    def filters(self) -> dict[str, Any]:
        return {"compliance_register": register, "compliance_waivers": waivers_in, "compliance_verdict": verdict,
                "compliance_lynis": lynis,
                "compliance_failures": failures, "compliance_markdown": markdown}
