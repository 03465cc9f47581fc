# SPDX-License-Identifier: Apache-2.0
"""Writes docs/hardening.md: every control of every role, and every waiver of the product. `--check` only says whether it is up to date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "hardening.md"
_HEAD = """\
<!-- Written by tools/hardening.py from roles/*/vars/controls.yml and roles/compliance_report/files/waivers.yml. Do not edit. -->
# Hardening, control by control

Each control has an id, a switch (`ROLE_disabled_controls: [ID]`), a reason, and evidence that is gathered on the running host, whatever
the role's variables say ([compliance_report](../roles/compliance_report/README.md)): a command whose answer is compared, with every file
system read-only while it runs. `host`: every booted host; `vm`: where the kernel is the host's own; `image`: the appliance image alone.
A control that is switched off or fails needs a waiver with a reason, an owner and a last day.
"""
_AUDITOR = """\
## An independent auditor

[Lynis](https://cisofy.com/lynis/) (the package of the suite) knows nothing of this product. `molecule/compliance_report` runs it on a
booted host on which `playbooks/site.yml` was applied, holds its hardening index to at least {minimum}, and wants a waiver for each warning
and suggestion. The host is a container: findings about the kernel are the machine's, and say so. Lynis is not part of the appliance.

Measured: Debian 13, Lynis 3.1.4, hardening index 72; Debian 12, Lynis 3.0.8, hardening index 72. What keeps it there is below: tools
that are not installed on purpose (scanners, package tools, accounting), passwords that do not exist, a kernel that is not the container's.

These waivers are the product's own; each ends on the day it names.

| test of Lynis | why it stays | until |
|---|---|---|
"""


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def page() -> str:
    lines = [_HEAD]
    for path in sorted(ROOT.glob("roles/*/vars/controls.yml")):
        role = path.parents[1].name
        lines += [f"## [{role}](../roles/{role}/README.md)\n", "| id | control | why | where |", "|---|---|---|---|"]
        controls = read(path)[f"__{role}_controls"]
        lines += [f"| {one['id']} | {cell(one['title'])} | {cell(one['reason'])} | {one['scope']} |" for one in controls]
        lines.append("")
    minimum = read(ROOT / "roles/compliance_report/defaults/main.yml")["compliance_report_lynis_minimum"]
    waivers = read(ROOT / "roles/compliance_report/files/waivers.yml")["waivers"]
    lines.append(_AUDITOR.format(minimum=minimum).rstrip("\n"))
    lines += [f"| {one['id'].removeprefix('LYNIS-')} | {cell(one['reason'])} | {one['until']} |" for one in waivers]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where the page is not up to date")
    if parser.parse_args().check:
        fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        if not fresh:
            sys.stderr.write("docs/hardening.md is not up to date: run tools/hardening.py\n")
        return int(not fresh)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
