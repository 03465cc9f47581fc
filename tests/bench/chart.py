# SPDX-License-Identifier: Apache-2.0
"""The rates as bars: one panel a statement protocol and one for bulk, a group a client count, a bar a peer. Plain SVG, no dependency."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from tests.bench.plan import CLIENTS, MODES
from tests.bench.report import Line

PEERS = ("direct", "pgbouncer", "lockgate")
COLOURS = {"direct": "#9aa5b1", "pgbouncer": "#d9a441", "lockgate": "#2f6fab"}
_PANEL, _HEIGHT, _LEFT, _TOP, _GAP = 300, 220, 20, 64, 24

Groups = list[tuple[str, list[float | None]]]


def draw(report: Sequence[Line]) -> str:
    """The whole picture as SVG text."""
    values = {(line.name, line.peer): line.value for line in report}
    panels: list[tuple[str, Groups]] = [
        (f"SELECT, {mode}: tx/s by clients",
         [(str(clients), [values.get((f"select {mode} {clients} tps", peer)) for peer in PEERS]) for clients in CLIENTS]) for mode in MODES]
    bulk: Groups = [(kind, [values.get((f"bulk {kind} rate", peer)) for peer in PEERS]) for kind in ("select", "copy")]
    panels.append(("bulk (lockgate: masked): MB/s", bulk))
    width = _LEFT * 2 + len(panels) * _PANEL + (len(panels) - 1) * _GAP
    height = _TOP + _HEIGHT + 48
    body = [_legend(), *(_panel(title, groups, _LEFT + i * (_PANEL + _GAP)) for i, (title, groups) in enumerate(panels))]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>{"".join(body)}</svg>\n')


def _legend() -> str:
    items = []
    for i, peer in enumerate(PEERS):
        x = _LEFT + i * 110
        items.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{COLOURS[peer]}"/>{_text(x + 18, 24, peer)}')
    return "".join(items)


def _panel(title: str, groups: Groups, left: int) -> str:
    top = max((value for _, bars in groups for value in bars if value), default=1.0)
    step = _PANEL / len(groups)
    bar = step * 0.8 / len(PEERS)
    parts = [_text(left, _TOP - 12, title, weight="bold")]
    for g, (label, bars) in enumerate(groups):
        for b, value in enumerate(bars):
            if value is None:
                continue
            tall = value / top * (_HEIGHT - 16)
            x, y = left + g * step + b * bar, _TOP + _HEIGHT - tall
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar - 2:.1f}" height="{tall:.1f}" fill="{COLOURS[PEERS[b]]}"/>')
            parts.append(_text(x + bar / 2 - 1, y - 3, f"{value:,.0f}", anchor="middle", size=8))
        parts.append(_text(left + g * step + bar * 1.5, _TOP + _HEIGHT + 16, label, anchor="middle"))
    parts.append(f'<line x1="{left}" x2="{left + _PANEL}" y1="{_TOP + _HEIGHT}" y2="{_TOP + _HEIGHT}" stroke="#444444"/>')
    return "".join(parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}">{escape(text)}</text>'
