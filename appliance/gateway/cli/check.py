# SPDX-License-Identifier: Apache-2.0
"""``lockgate check``: is the folder right? 0 or 2, with every problem as ``FILE:LINE: KEY: expected …``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.cli.options import add_config, add_json
from gateway.cli.output import emit
from gateway.config.load import Folder, load_folder
from gateway.config.problem import InvalidFolder, Problem
from gateway.policy.policy import compile_policy
from gateway.policy.warnings import warnings


def register(subparsers: Any) -> None:
    """The verb ``check``."""
    parser: ArgumentParser = subparsers.add_parser("check", help="validate the folder: 0 or 2", description=__doc__)
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """0 when ``serve`` would accept the folder and its test cases can be read, else 2."""
    try:
        folder = load_folder(args.config, need_tests=True)
        compile_policy(folder)
    except InvalidFolder as wrong:
        return _invalid(args, wrong)
    emit(args, _document(folder), _human)
    return 0


def _invalid(args: Namespace, wrong: InvalidFolder) -> int:
    problems = [problem.as_document() for problem in wrong.problems]
    if args.json:
        emit(args, {"valid": False, "folder": str(args.config), "error": str(wrong), "problems": problems}, str)
    else:
        sys.stderr.writelines(f"{problem}\n" for problem in wrong.problems)
        sys.stderr.write(f"{args.config}: {len(problems)} problem{'s' * (len(problems) != 1)}\n")
    return 2


def _document(folder: Folder) -> dict[str, Any]:
    policy = folder.policy
    return {
        "valid": True, "folder": str(folder.path), "gateway": folder.gateway.name, "segment": folder.gateway.segment,
        "policy": folder.digest, "state": str(folder.state),
        "listeners": {name: listener.address for name, listener in folder.gateway.listeners.items()},
        "issuers": [issuer.name for issuer in policy.issuers] + [issuer.name for issuer in folder.authorities],
        "identities": [entry.name for entry in policy.identities],
        "resources": [resource.name for resource in policy.resources], "grants": [grant.name for grant in policy.grants],
        "rules": sum(len(grant.rules) for grant in policy.grants), "revoked": len(policy.revoked), "tests": len(folder.tests),
        "problems": [], "warnings": [warning.as_document() for warning in (*folder.warnings, *warnings(folder))],
    }


def _human(document: dict[str, Any]) -> Iterator[str]:
    yield from (f"warning: {Problem(**warning)}" for warning in document["warnings"])
    yield f"gateway    {document['gateway']} in segment {document['segment']}, state in {document['state']}"
    yield f"listeners  {_list(f'{name} {address}' for name, address in document['listeners'].items())}"
    for kind in ("issuers", "identities", "resources", "grants"):
        yield f"{kind:10} {_list(document[kind])}"
    yield f"policy     {document['policy']}, {document['rules']} rules, {document['revoked']} revoked, {document['tests']} test cases"
    yield f"{document['folder']} is valid"


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
