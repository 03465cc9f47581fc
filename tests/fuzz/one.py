# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.fuzz.one NAME [libFuzzer's arguments]``: one target under atheris, until it finds something or time is up."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, *arguments = sys.argv[1:]
    target = TARGETS[name]
    corpus = next((Path(argument) for argument in arguments if not argument.startswith("-")), None)
    if corpus is not None:
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(target.seeds()):
            (corpus / f"seed-{number:03d}").write_bytes(seed)
    atheris.Setup([f"fuzz-{name}", *arguments], target.run)
    atheris.Fuzz()


main()
