"""Panels of a dashboard as a page with lines, from the figures that Prometheus has for them."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

Found = list[dict[str, Any]]
Shown = tuple[dict[str, Any], list[Found]]
"""A panel, and what each of its queries has found."""
Line = tuple[str, list[tuple[float, float]]]
"""A name, and the values that are known: when, and how much."""

COLUMNS, ROW, GAP = 24, 23, 8
"""The grid of Grafana: how many columns, and the pixels of a row and between panels."""
PLOT = (46, 8, 372, 128)
"""Left, top, right and bottom of the lines, inside a picture of 380 by 150 pixels."""
TICKS = 4
BREAK_SECONDS = 20
"""A longer time without a value is a gap in a line."""
COLOURS = ("#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#aa7744", "#666666")
STYLE = f"""
body {{ margin: 0; padding: 12px; background: #f2f3f5; color: #1f2328;
  font: 12px 'Liberation Sans', Arial, sans-serif }}
main {{ display: grid; grid-template-columns: repeat({COLUMNS}, 1fr); gap: {GAP}px;
  grid-auto-rows: {ROW}px }}
section {{ background: #fff; border: 1px solid #d8dbdf; border-radius: 3px; padding: 6px 8px;
  overflow: hidden }}
h1 {{ font-size: 16px; margin: 0 0 10px }} h2 {{ font-size: 13px; margin: 0 0 2px }}
ul {{ list-style: none; margin: 0; padding: 0; line-height: 15px }}
li {{ display: inline-block; margin-right: 10px; white-space: nowrap }}
b {{ display: block; font-size: 52px; line-height: 74px; color: #109618 }}
.stat {{ display: flex; justify-content: space-around; text-align: center; padding-top: 24px }}
svg {{ display: block; width: 100% }} svg text {{ font-size: 10px; fill: #57606a }}
"""


def page(shown: Sequence[Shown], began: float, ended: float) -> str:
    """The whole page.

    Args:
        began: the first moment of all lines, in Unix time.
        ended: the last one.
    """
    sections = "".join(_section(panel, found, began, ended) for panel, found in shown)
    return (
        f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>"
        f"<h1>wan-mcp</h1><main>{sections}</main>"
    )


def _section(panel: dict[str, Any], found: Sequence[Found], began: float, ended: float) -> str:
    place = panel["gridPos"]
    style = (
        f"grid-column: {place['x'] + 1} / span {place['w']};"
        f"grid-row: {place['y'] + 1} / span {place['h']}"
    )
    lines = list(_lines(panel["targets"], found))
    unit = panel["fieldConfig"]["defaults"].get("unit", "none")
    body = _stat(lines) if panel["type"] == "stat" else _graph(lines, unit, began, ended)
    return f'<section style="{style}"><h2>{escape(panel["title"])}</h2>{body}</section>'


def _lines(targets: Sequence[dict[str, Any]], found: Sequence[Found]) -> Iterator[Line]:
    for target, series in zip(targets, found, strict=True):
        for each in series:
            name = target["legendFormat"]
            for label, value in each["metric"].items():
                name = name.replace("{{" + label + "}}", value)
            values = [(when, float(value)) for when, value in each["values"]]
            yield name, [(when, value) for when, value in values if math.isfinite(value)]


def _stat(lines: Sequence[Line]) -> str:
    last = "".join(
        f"<div><b>{values[-1][1]:g}</b>{escape(name)}</div>" for name, values in lines if values
    )
    return f'<div class="stat">{last}</div>'


def _graph(lines: Sequence[Line], unit: str, began: float, ended: float) -> str:
    highest = max((value for _, values in lines for _, value in values), default=0.0)
    step = _step(highest, unit)
    top = step * max(math.ceil(highest / step), 1)
    drawn = _axes(top, step, unit, began, ended)
    legend = ""
    for number, (name, values) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        path = _path(values, top, began, ended)
        drawn += f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        legend += f'<li><span style="color: {colour}">&#9644;</span> {escape(name)}</li>'
    return f'<svg viewBox="0 0 380 150">{drawn}</svg><ul>{legend}</ul>'


def _step(highest: float, unit: str) -> float:
    """The distance of two lines of the scale: 1, 2 or 5 times a power of ten, or of 1,024."""
    if highest <= 0:
        return 1.0
    scale = 1024.0**2 if unit == "bytes" else 1.0
    wished = highest / scale / TICKS
    power = 10.0 ** math.floor(math.log10(wished))
    return float(scale * power * next(each for each in (1, 2, 5, 10) if each * power >= wished))


def _axes(top: float, step: float, unit: str, began: float, ended: float) -> str:
    left, _, right, bottom = PLOT
    drawn = ""
    for number in range(round(top / step) + 1):
        y = _height(number * step, top)
        drawn += f'<path d="M{left} {y:.1f}H{right}" stroke="#e4e6e9"/>'
        words = _words(number * step, unit)
        drawn += f'<text x="{left - 5}" y="{y + 3:.1f}" text-anchor="end">{words}</text>'
    for number in range(4):
        moment = began + (ended - began) * (number + 0.5) / 4
        x = left + (right - left) * (number + 0.5) / 4
        clock = datetime.fromtimestamp(moment, UTC).strftime("%H:%M")
        drawn += f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{clock}</text>'
    return drawn


def _words(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1024**2:g} MiB"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:g} ms"
    return f"{value:g}" + {"s": " s", "reqpm": "/min"}.get(unit, "")


def _path(values: Sequence[tuple[float, float]], top: float, began: float, ended: float) -> str:
    left, _, right, _ = PLOT
    path, before = "", -math.inf
    for when, value in values:
        x = left + (right - left) * (when - began) / (ended - began)
        path += f"{'M' if when - before > BREAK_SECONDS else 'L'}{x:.1f} {_height(value, top):.1f}"
        before = when
    return path


def _height(value: float, top: float) -> float:
    _, highest, _, lowest = PLOT
    return lowest - (lowest - highest) * value / top
