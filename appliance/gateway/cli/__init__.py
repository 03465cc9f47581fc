# SPDX-License-Identifier: Apache-2.0
"""The program ``lockgate``: one verb per module, each with ``register(subparsers)``.

Exit status 0 done, 1 the answer is no, 2 the request or the configuration is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from gateway import version
from gateway.errors import AuditUnavailable, ConfigError, Fault

VERBS = ("init", "serve", "reload", "ready", "check", "explain", "schema", "policy", "access", "network", "approvals", "sessions",
         "replay", "search", "audit", "break-glass", "token", "ssh-certificate", "ssh-known-hosts", "doctor", "demo", "docs")
"""Modules of this package, in the order of ``--help``."""


def build_parser(verbs: Sequence[str] = VERBS) -> argparse.ArgumentParser:
    """The command line, all of it or only these verbs; also the source of its reference page."""
    parser = argparse.ArgumentParser(
        prog="lockgate", description="The gateway that robots must walk through.",
        epilog="Exit status: 0 done, 1 the answer is no, 2 the request or the configuration is wrong.")
    parser.add_argument("--version", action="version", version=f"lockgate {version()}")
    subparsers = parser.add_subparsers(metavar="VERB", required=True)
    for verb in verbs:
        import_module(f"gateway.cli.{verb.replace('-', '_')}").register(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Never shows a traceback for what the operator can mend."""
    words = sys.argv[1:] if argv is None else argv
    args = build_parser(words[:1] if words and words[0] in VERBS else VERBS).parse_args(words)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except ConfigError as problem:
        return _wrong(args, problem, 2)
    except AuditUnavailable as problem:
        return _wrong(args, problem, 1)
    except Fault as problem:
        return _wrong(args, problem, 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _wrong(args: argparse.Namespace, problem: Any, status: int) -> int:
    if getattr(args, "json", False):
        print(json.dumps({"error": str(problem)}))
    else:
        print(f"lockgate: {problem}", file=sys.stderr)
    return status
