"""Draws the rooms of wan_mcp for docs/architecture.md, from the imports of the code itself.

    python -m tests.rooms_picture

An arrow means "imports". One that follows from two others is left out: if a room imports a second
one, and that one a third, then no arrow leads from the first to the third.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import wan_mcp

PICTURE = Path(__file__).parents[1] / "docs" / "rooms.svg"
HOUSE = Path(wan_mcp.__file__).parent
WIDTH, BOX_WIDTH, BOX_HEIGHT, ROW_HEIGHT, GAP, MARGIN = 720, 118, 32, 66, 26, 24

STYLE = """
    .page { fill: #ffffff }
    .room { fill: #f6f8fa; stroke: #8c959f }
    .import { fill: none; stroke: #8c959f; stroke-width: 1.2 }
    .head { fill: #8c959f }
    text { font: 14px ui-monospace, SFMono-Regular, Consolas, "Liberation Mono", monospace;
      text-anchor: middle; fill: #1f2328 }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117 }
      .room { fill: #151b23; stroke: #656c76 }
      .import { stroke: #656c76 }
      .head { fill: #656c76 }
      text { fill: #f0f6fc }
    }
"""

Imports = Mapping[str, frozenset[str]]
"""To each room, those that it imports."""
Point = tuple[float, float]


def imports_of_rooms() -> Imports:
    """What each room imports, also inside functions and for types alone."""
    found: dict[str, set[str]] = {}
    for path in sorted(HOUSE.rglob("*.py")):
        room = path.relative_to(HOUSE).with_suffix("").parts[0]
        found.setdefault(room, set()).update(imported(path))
    del found["__init__"]
    return {room: frozenset(others & set(found) - {room}) for room, others in found.items()}


def imported(path: Path) -> Iterator[str]:
    """The rooms that a module names in its imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("wan_mcp."))


def without_shortcuts(imports: Imports) -> Imports:
    """The imports that do not follow from others."""

    @cache
    def below(room: str) -> frozenset[str]:
        return imports[room].union(*(below(other) for other in imports[room]))

    return {
        room: frozenset(others.difference(*(below(other) for other in others)))
        for room, others in imports.items()
    }


def row_of_each(imports: Imports) -> dict[str, int]:
    """The row of each room, from 0 at the top: below the lowest room that imports it."""

    @cache
    def row(room: str) -> int:
        return 1 + max((row(other) for other in imports if room in imports[other]), default=-1)

    return {room: row(room) for room in imports}


Way = tuple[str, ...]
"""An arrow: a room, a point in each row that it passes, and the imported room."""


def ways(imports: Imports) -> list[Way]:
    """All arrows."""
    row = row_of_each(imports)
    return [
        (room, *(f"{room} {other} {n}" for n in range(row[room] + 1, row[other])), other)
        for room in sorted(imports)
        for other in sorted(imports[room])
    ]


def places(imports: Imports, arrows: list[Way]) -> dict[str, Point]:
    """The middle of each box and of each point of an arrow: below what leads to it."""
    row = row_of_each(imports)
    above: dict[str, list[str]] = {room: [] for room in imports}
    for way in arrows:
        for number, (upper, lower) in enumerate(pairwise(way), row[way[0]] + 1):
            above.setdefault(lower, []).append(upper)
            row[lower] = number
    found: dict[str, Point] = {}
    for number in range(max(row.values()) + 1):
        wanted = {
            name: fmean([found[upper][0] for upper in uppers] or [WIDTH / 2])
            for name, uppers in above.items()
            if row[name] == number
        }
        ordered = sorted(wanted, key=lambda name: (wanted[name], name))
        widths = [BOX_WIDTH if name in imports else 0 for name in ordered]
        middles = apart([wanted[name] for name in ordered], widths)
        y = MARGIN + BOX_HEIGHT / 2 + number * ROW_HEIGHT
        found |= {name: (x, y) for name, x in zip(ordered, middles, strict=True)}
    return found


def apart(wanted: list[float], widths: list[int]) -> list[float]:
    """Positions near the wanted ones, in their order, at which nothing touches."""
    packed = list(wanted)
    for _ in range(len(wanted) * 10):
        for left, right in pairwise(range(len(packed))):
            step = (widths[left] + widths[right]) / 2 + GAP
            overlap = step - (packed[right] - packed[left])
            if overlap > 0:
                packed[left] -= overlap / 2
                packed[right] += overlap / 2
    shift = max(0, MARGIN + widths[0] / 2 - packed[0])
    shift -= max(0, packed[-1] - (WIDTH - MARGIN - widths[-1] / 2))
    return [round(x + shift, 1) for x in packed]


def picture() -> str:
    """The whole picture as SVG."""
    imports = without_shortcuts(imports_of_rooms())
    arrows = ways(imports)
    where = places(imports, arrows)
    height = round(max(y for _, y in where.values()) + BOX_HEIGHT / 2 + MARGIN)
    title = "The rooms of wan_mcp: an arrow leads to what a room imports"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
            ' aria-labelledby="title">',
            f'  <title id="title">{title}</title>',
            f"  <style>{STYLE}  </style>",
            f'  <rect class="page" width="{WIDTH}" height="{height}" rx="12"/>',
            *(drawn([where[name] for name in way]) for way in arrows),
            *(box(room, *where[room]) for room in sorted(imports)),
            "</svg>\n",
        ]
    )


def drawn(points: list[Point]) -> str:
    """An arrow from the lower edge of one box to the upper edge of another."""
    (x, y), (end_x, end_y) = points[0], points[-1]
    tip = end_y - BOX_HEIGHT / 2
    line = f"M{x:g} {y + BOX_HEIGHT / 2:g}"
    for number, (to_x, to_y) in enumerate(points[1:], 1):
        enters = tip - 6 if number == len(points) - 1 else to_y - BOX_HEIGHT / 2
        leaves = y + BOX_HEIGHT / 2
        half = (leaves + enters) / 2
        line += f"C{x:g} {half:g} {to_x:g} {half:g} {to_x:g} {enters:g}"
        if number < len(points) - 1:
            line += f"V{to_y + BOX_HEIGHT / 2:g}"
        x, y = to_x, to_y
    return (
        f'  <path class="import" d="{line}"/>\n'
        f'  <path class="head" d="M{end_x - 4:g} {tip - 7:g}h8l-4 7z"/>'
    )


def box(room: str, x: float, y: float) -> str:
    """A box with the name of its room."""
    return (
        f'  <rect class="room" x="{x - BOX_WIDTH / 2:g}" y="{y - BOX_HEIGHT / 2:g}"'
        f' width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>\n'
        f'  <text x="{x:g}" y="{y + 5:g}">{escape(room)}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8", newline="\n")
