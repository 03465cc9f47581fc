# SPDX-License-Identifier: Apache-2.0
"""What masking alone costs: MB of rows per second of process CPU time, without sockets and servers.

``python -m tests.bench.masking [--json]``; with ``LOCKGATE_PURE=1`` the pure-Python form. Blocks are as long as a read from the target.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

from gateway.masking.model import MaskSet
from gateway.masking.rules import EMAIL, REDACT, MaskRule, hashed, keep_last
from gateway.native import PURE
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Objects
from gateway.protocols.postgres.codec import frame
from gateway.protocols.postgres.copybinary import SIGNATURE
from gateway.protocols.postgres.copyout import copy_masker
from gateway.protocols.postgres.masking import MaskPlan, check_row_description, mask_rows, plan
from gateway.protocols.postgres.messages import DataRow, Field
from gateway.protocols.postgres.statement import Flow, Output, Statement

BLOCK = 1 << 18
CATALOG = Catalog("1", 150000, "bench", BuiltinCatalog(150000, Objects()))
COLUMNS = (("id", 23), ("name", 25), ("email", 25), ("ssn", 25), ("card", 25), ("note", 25))
THREE: dict[str, MaskRule] = {"public.t.email": EMAIL, "public.t.ssn": keep_last(4), "public.t.card": keep_last(4)}
DETECT = {"private-key": REDACT, "aws-access-key": REDACT, "jwt": REDACT, "payment-card": keep_last(4)}
NOTE = "an ordinary remark about nothing in particular, with 3 or 4 numbers such as 2024 in it"


def row(number: int) -> tuple[bytes, ...]:
    texts = (str(number), f"Customer {number}", f"customer{number}@example.com", f"{number % 1000:03}-11-2222",
             f"{4000000000000000 + number}", NOTE)
    return tuple(text.encode() for text in texts)


def plain_row(number: int) -> tuple[bytes, ...]:
    """Nothing in it looks like a secret."""
    return (*row(number)[:4], b"invoice %d of the year" % number, NOTE.encode())


def block(of: Callable[[int], bytes]) -> bytes:
    parts: list[bytes] = []
    size = number = 0
    while size < BLOCK:
        parts.append(of(number))
        size += len(parts[-1])
        number += 1
    return b"".join(parts)


def outputs() -> tuple[Output, ...]:
    return tuple(Output(name, Flow(frozenset({("public", "t", name)}), plain=True, system=False), oid) for name, oid in COLUMNS)


def select_plan(masks: MaskSet) -> MaskPlan:
    made = plan(Statement("select", (), returns="rows", columns=outputs()), masks, CATALOG)
    return check_row_description(made, [Field(name, 0, 0, oid) for name, oid in COLUMNS], (), CATALOG, masks)


def copy_feed(masks: MaskSet, form: str = "text") -> Callable[[bytes], object]:
    made = plan(Statement("copy-to", (), returns="copy-out", columns=outputs(), copy_format=form), masks, CATALOG)
    masker = copy_masker(made, len(COLUMNS), binary=form == "binary")
    if form == "binary":
        masker.feed(frame(b"d", SIGNATURE + bytes(8) + DataRow(row(0)).encode()[5:]))
    return masker.feed


def rate(work: Callable[[bytes], object], data: bytes, rounds: int = 7, seconds: float = 0.15) -> float:
    """MB/s of process CPU time, the median of several rounds."""
    work(data)
    found: list[float] = []
    for _ in range(rounds):
        count, began = 0, time.process_time()
        while (spent := time.process_time() - began) < seconds:
            work(data)
            count += 1
        found.append(count * len(data) / spent / 1e6)
    return statistics.median(found)


def copy_line(values: tuple[bytes, ...], between: bytes = b"\t") -> bytes:
    return frame(b"d", between.join(b'"' + value + b'"' if between in value else value for value in values) + b"\n")


def measured() -> dict[str, float]:
    rows, plain = block(lambda n: DataRow(row(n)).encode()), block(lambda n: DataRow(plain_row(n)).encode())
    lines, plain_lines = block(lambda n: copy_line(row(n))), block(lambda n: copy_line(plain_row(n)))
    one, three, detect = MaskSet({"public.t.ssn": REDACT}), MaskSet(THREE), MaskSet(detect=DETECT)
    both = MaskSet(THREE, detect=DETECT)

    def select(masks: MaskSet) -> Callable[[bytes], object]:
        made = select_plan(masks)
        return lambda data: mask_rows(made, data)

    return {
        "rows, one column redacted": rate(select(one), rows),
        "rows, three columns with partial rules": rate(select(three), rows),
        "rows, detectors on rows without a candidate": rate(select(detect), plain),
        "rows, three columns and detectors": rate(select(both), plain),
        "rows, detectors that find a card in each": rate(select(detect), rows),
        "rows, one column hashed": rate(select(MaskSet({"public.t.ssn": hashed("k", bytes(32))})), rows),
        "COPY text, one column redacted": rate(copy_feed(one), lines),
        "COPY text, three columns with partial rules": rate(copy_feed(three), lines),
        "COPY text, detectors on rows without a candidate": rate(copy_feed(detect), plain_lines),
        "COPY csv, three columns with partial rules": rate(copy_feed(three, "csv"), block(lambda n: copy_line(row(n), b","))),
        "COPY binary, three columns with partial rules": rate(copy_feed(three, "binary"), rows.replace(b"D\0", b"d\0")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.masking", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one document")
    args = parser.parse_args()
    found = {name: round(value) for name, value in measured().items()}
    if args.json:
        print(json.dumps({"pure": PURE, "MB/s": found}, indent=2))
        return
    print("pure Python" if PURE else "compiled")
    for name, value in found.items():
        print(f"{value:7,} MB/s  {name}")


if __name__ == "__main__":
    main()
