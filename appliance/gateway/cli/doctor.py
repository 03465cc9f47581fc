# SPDX-License-Identifier: Apache-2.0
"""``lockgate doctor``: what would make this gateway pointless, or stop it soon.

Looks at the disk under ``state``, the clock, keys, certificates and credentials, the policy, and what each target lets the gateway's login
do. Changes nothing. 0 where nothing of severity high is found, 1 otherwise, 2 where it may not look.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from gateway.cli.options import add_config, add_json
from gateway.cli.output import emit, printable
from gateway.config.load import Folder, load_folder
from gateway.doctor.examine import Examination, examine
from gateway.doctor.finding import SEVERITIES
from gateway.errors import ConfigError
from gateway.protocols.ssh import hosts


def register(subparsers: Any) -> None:
    """The verb ``doctor``."""
    parser: ArgumentParser = subparsers.add_parser("doctor", help="what would make this gateway pointless", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--resource", metavar="NAME", action="append", help="ask this target only; again for more (default: all of them)")
    which.add_argument("--offline", action="store_true", help="ask no target")
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """0 or 1. Raises ``ConfigError`` for a folder that ``serve`` would refuse, or a state folder that this user may not look at."""
    folder = load_folder(args.config)
    seen = examine(folder, _asked(folder, args))
    emit(args, _document(folder, seen), _human)
    return 1 if any(finding.severity == "high" for finding in seen.findings) else 0


def _asked(folder: Folder, args: Namespace) -> set[str]:
    known = {resource.name for resource in folder.policy.resources}
    wanted = set() if args.offline else set(args.resource or known)
    if unknown := wanted - known:
        raise ConfigError(f"no resource is named {sorted(unknown)[0]!r}; there are: {', '.join(sorted(known))}")
    return wanted


def _document(folder: Folder, seen: Examination) -> dict[str, Any]:
    counts = Counter(finding.severity for finding in seen.findings)
    return {"gateway": folder.gateway.name, "segment": folder.gateway.segment, "policy": folder.digest, "asked": list(seen.targets),
            "sync_microseconds": round(seen.sync * 1e6, 1), "counts": {severity: counts[severity] for severity in SEVERITIES},
            "host_keys": [key.fingerprint for key in hosts.of_folder(folder)],
            "findings": [asdict(finding) for finding in seen.findings]}


def _human(document: dict[str, Any]) -> Iterator[str]:
    for finding in document["findings"]:
        yield printable(f"{finding['severity']:7} {finding['id']:22} {finding['where']}: {finding['saw']}")
        yield printable(f"{'':30} {finding['todo']}")
    yield from (f"SSH host key {fingerprint}" for fingerprint in document["host_keys"])
    counts = ", ".join(f"{number} {severity}" for severity, number in document["counts"].items())
    asked = ", ".join(document["asked"]) or "none"
    yield f"{document['gateway']}: {counts}; a synced write takes {document['sync_microseconds']:g} µs; targets asked: {asked}"
