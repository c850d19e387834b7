"""How the commands of an operator show their results."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from wan_mcp.cli.jobs.plain import fitted, one_line, width


class Answer(NamedTuple):
    """The result of a command.

    Attributes:
        facts: the result for programs.
        text: the same for people.
    """

    facts: Mapping[str, object]
    text: str


def date_of(at: float | None) -> str:
    """A date for a person; `at` is in seconds since 1970 UTC, or None for never."""
    return "never" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}Z"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table. No cell can move the cursor, and None is shown as a dash."""
    cells = [[one_line("-" if cell is None else cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(fitted, row, widths)).rstrip() for row in cells)
    return "\n".join(lines)
