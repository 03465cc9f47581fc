# SPDX-License-Identifier: Apache-2.0
"""From samples to medians and ratios. A ratio is the median of the rounds' own ratios: what one busy round did to both cancels out."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.plan import Sample


@dataclass(frozen=True, slots=True)
class Line:
    """One line of ``bench.json``. ``ratio`` is to the direct connection where that has the number, else to pgbouncer; else ``None``."""

    name: str
    value: float
    unit: str
    peer: str
    ratio: float | None


def lines(samples: Iterable[Sample]) -> list[Line]:
    """One line per name and peer, in the order of measuring."""
    values = _by_name(samples)
    units = {name: unit for name, _, unit in values}
    result = []
    for (name, peer, unit), own in values.items():
        base = next((other for other in ("direct", "pgbouncer") if (name, other, unit) in values), None)
        ratio = None if base in (None, peer) else _ratio(own, values[name, str(base), unit])
        result.append(Line(name, round(statistics.median(own), 3), units[name], peer, ratio))
    return result


def against(samples: Iterable[Sample], base: str) -> dict[tuple[str, str], float]:
    """Ratio to ``base`` by name and peer."""
    values = _by_name(samples)
    return {(name, peer): _ratio(own, values[name, base, unit])
            for (name, peer, unit), own in values.items() if peer != base and (name, base, unit) in values}


def _by_name(samples: Iterable[Sample]) -> dict[tuple[str, str, str], list[float]]:
    values: dict[tuple[str, str, str], list[float]] = {}
    for sample in samples:
        values.setdefault((sample.name, sample.peer, sample.unit), []).append(sample.value)
    return values


def _ratio(own: Sequence[float], base: Sequence[float]) -> float:
    pairs = [mine / theirs for mine, theirs in zip(own, base, strict=False) if theirs]
    return round(statistics.median(pairs), 3) if pairs else 0.0


def write(report: Sequence[Line], path: Path) -> None:
    path.write_text(json.dumps([asdict(line) for line in report], indent=1, ensure_ascii=False) + "\n")


def table(samples: Sequence[Sample]) -> str:
    """What a person reads: a row per name, the three values, and Lockgate's ratios."""
    report = {(line.name, line.peer): line for line in lines(samples)}
    to_direct, to_pgbouncer = against(samples, "direct"), against(samples, "pgbouncer")
    head = f"{'':34}{'direct':>12}{'pgbouncer':>12}{'lockgate':>12}  {'unit':8}{'/direct':>9}{'/pgbouncer':>12}"
    rows = [head]
    for name in dict.fromkeys(sample.name for sample in samples):
        cells = [report.get((name, peer)) for peer in ("direct", "pgbouncer", "lockgate")]
        known = next((cell for cell in [*cells, report.get((name, "disk"))] if cell is not None), None)
        assert known is not None
        alone = [known, None, None] if known.peer == "disk" else cells
        numbers = "".join(f"{cell.value:12.1f}" if cell else f"{'':12}" for cell in alone)
        ratios = [of.get((name, "lockgate")) for of in (to_direct, to_pgbouncer)]
        shown = "".join(f"{ratio:{width}.2f}" if ratio is not None else " " * width for ratio, width in zip(ratios, (9, 12), strict=True))
        rows.append(f"{name:34}{numbers}  {known.unit:8}{shown}".rstrip())
    return "\n".join(rows)


def ways(samples: Sequence[Sample], peers: Sequence[str], bases: Sequence[str]) -> str:
    """The same for SSH: a row per name, a column for each way, and for the last one the ratios to ``bases``."""
    report = {(line.name, line.peer): line for line in lines(samples)}
    to = {base: against(samples, base) for base in bases}
    rows = ["".join([f"{'':26}", *(f"{peer:>10}" for peer in peers), "  unit  ", *(f"{'/' + base:>9}" for base in bases)])]
    for name in dict.fromkeys(sample.name for sample in samples):
        cells = [report.get((name, peer)) for peer in peers]
        unit = next(cell.unit for cell in cells if cell is not None)
        numbers = "".join(f"{cell.value:10.2f}" if cell else f"{'':10}" for cell in cells)
        ratios = [to[base].get((name, peers[-1])) for base in bases]
        shown = "".join(f"{ratio:9.2f}" if ratio is not None else " " * 9 for ratio in ratios)
        rows.append(f"{name:26}{numbers}  {unit:6}{shown}".rstrip())
    return "\n".join(rows)
