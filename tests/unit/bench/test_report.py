# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from tests.bench import chart, report
from tests.bench.plan import Sample

SAMPLES = [
    Sample("disk sync", 150.0, "µs", "disk"),
    Sample("select simple 1 tps", 100.0, "tx/s", "direct"),
    Sample("select simple 1 tps", 50.0, "tx/s", "pgbouncer"),
    Sample("select simple 1 tps", 25.0, "tx/s", "lockgate"),
    Sample("select simple 1 tps", 200.0, "tx/s", "direct"),
    Sample("select simple 1 tps", 150.0, "tx/s", "pgbouncer"),
    Sample("select simple 1 tps", 150.0, "tx/s", "lockgate"),
    Sample("select simple 1 cpu", 12.0, "µs/tx", "pgbouncer"),
    Sample("select simple 1 cpu", 48.0, "µs/tx", "lockgate"),
]


def test_ratios_are_taken_within_a_round() -> None:
    found = {(line.name, line.peer): (line.value, line.ratio) for line in report.lines(SAMPLES)}
    assert found["select simple 1 tps", "direct"] == (150.0, None)
    assert found["select simple 1 tps", "lockgate"] == (87.5, 0.5)       # median of 25/100 and 150/200
    assert found["select simple 1 cpu", "lockgate"] == (48.0, 4.0)       # nothing direct to compare with
    assert report.against(SAMPLES, "pgbouncer")["select simple 1 tps", "lockgate"] == 0.75


def test_json_is_a_list_of_what_was_asked_for(tmp_path: Path) -> None:
    report.write(report.lines(SAMPLES), tmp_path / "bench.json")
    lines = json.loads((tmp_path / "bench.json").read_text())
    assert all(set(line) == {"name", "value", "unit", "peer", "ratio"} for line in lines)
    assert len(lines) == 6


def test_table_shows_each_name_once() -> None:
    shown = report.table(SAMPLES).splitlines()
    assert [line.split("  ")[0] for line in shown[1:]] == ["disk sync", "select simple 1 tps", "select simple 1 cpu"]


def test_chart_is_svg_with_a_bar_for_every_rate() -> None:
    root = ElementTree.fromstring(chart.draw(report.lines(SAMPLES)))
    labels = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"direct", "pgbouncer", "lockgate", "150", "100", "88"} <= labels
