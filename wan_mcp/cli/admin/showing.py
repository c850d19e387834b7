"""How the commands of an operator show what they have found."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from wan_mcp.cli.jobs.plain import fitted, one_line, width


class Answer(NamedTuple):
    """What a command has done.

    Attributes:
        facts: for a program.
        text: the same for a person.
    """

    facts: Mapping[str, object]
    text: str


def date_of(at: float | None) -> str:
    """A date for a person; `at` is in seconds since 1970 UTC, or None for never."""
    return "never" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}Z"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, whose cells cannot move the cursor; None is shown as a dash."""
    cells = [[one_line("-" if cell is None else cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(fitted, row, widths)).rstrip() for row in cells)
    return "\n".join(lines)
