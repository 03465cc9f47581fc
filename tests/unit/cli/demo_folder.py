# SPDX-License-Identifier: Apache-2.0
"""A demo folder as ``lockgate init --demo`` makes it, and the verbs of the program without the program around them."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from gateway.errors import ConfigError


def run(*words: str) -> int:
    """One verb's exit status; 2 where the program would print a ``ConfigError``."""
    parser = argparse.ArgumentParser()
    import_module(f"gateway.cli.{words[0]}").register(parser.add_subparsers(required=True))
    args = parser.parse_args(list(words))
    try:
        status: int = args.run(args)
    except ConfigError as wrong:
        print(f"lockgate: {wrong}")
        return 2
    return status


def make_demo(root: Path) -> Path:
    """The configuration folder."""
    etc = root / "etc"
    root.chmod(0o700)
    assert run("init", str(etc), "--demo") == 0
    return etc
