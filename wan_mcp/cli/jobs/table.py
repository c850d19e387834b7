"""Jobs as a table, and their total cost."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, tzinfo

from wan_mcp.cli.jobs.facts import price_of, state_of_video
from wan_mcp.cli.jobs.plain import exact, file_name, fitted, width
from wan_mcp.ledger.history.totals import Spent, Totals
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import view_of_record
from wan_mcp.wording import counted, number, plural

SHOWN_DAYS = 7
"""How many days with jobs the totals show one by one (ours)."""
SHORTEST_ID = 12
"""How many characters of an id a table shows if whole ids do not fit, unless more are needed."""

_HEADS = ("JOB", "MADE", "STATUS", "CREDITS", "VIDEO", "FROM")
_GAP = "  "


def table(
    records: Sequence[Record],
    ids: Sequence[str],
    places: Mapping[str, int],
    now: datetime,
    zone: tzinfo | None,
    columns: int | None,
) -> list[str]:
    """The lines of a table.

    Args:
        ids: every id of the ledger, so that a shortened one still names one job.
        places: where queued requests stand in the queue, by their submission id.
        zone: the time zone of dates; None for that of this computer.
        columns: the width of the terminal; None if there is none, and then nothing is shortened.
    """
    names = {record.public_id: record.public_id for record in records}
    if columns is not None:
        names = shortened(list(names), ids)
    rows = [
        (
            exact(names[record.public_id]),
            f"{record.asked_at.astimezone(zone):%Y-%m-%d %H:%M}",
            _status(record, places.get(record.submission_id)),
            price_of(record),
            state_of_video(record, now) or "-",
            _inputs(record),
        )
        for record in records
    ]
    widths = [max(map(width, cells)) for cells in zip(_HEADS, *rows, strict=True)]
    if columns is not None:
        left = columns - 1 - sum(widths[:-1]) - len(_GAP) * len(widths[:-1])
        widths[-1] = min(widths[-1], max(left, 0))
    lines = (_line(row, widths) for row in (_HEADS, *rows))
    return [line if columns is None else fitted(line, columns - 1).rstrip() for line in lines]


def shortened(names: Sequence[str], ids: Sequence[str]) -> dict[str, str]:
    """The shortest beginning of each name with which no other id begins."""
    everything = sorted(set(ids) | set(names))
    places = {id: place for place, id in enumerate(everything)}
    short: dict[str, str] = {}
    for name in names:
        place = places[name]
        beside = everything[max(place - 1, 0) : place] + everything[place + 1 : place + 2]
        same = max((_common(name, other) for other in beside), default=0)
        short[name] = name[: max(SHORTEST_ID, same + 1)]
    return short


def lines_of_totals(totals: Totals) -> list[str]:
    """What jobs cost on each of the newest days, before them, and in total."""
    days = list(totals.by_day.items())
    rows = [(f"{day:%Y-%m-%d}", spent) for day, spent in days[:SHOWN_DAYS]]
    if earlier := days[SHOWN_DAYS:]:
        rows.append(("before", _sum(earlier)))
    rows.append(("in all", totals.in_all))
    figures = max(len(number(spent.credits)) for _, spent in rows)
    return [
        f"{name:10}{_GAP}{number(spent.credits):>{figures}} {_about(spent)}" for name, spent in rows
    ]


def _sum(days: Sequence[tuple[date, Spent]]) -> Spent:
    spent = [each for _, each in days]
    return Spent(
        sum(each.jobs for each in spent),
        sum(each.credits for each in spent),
        sum(each.expected for each in spent),
        sum(each.unpriced for each in spent),
    )


def _about(spent: Spent) -> str:
    parts = [f"{plural('credit', spent.credits)} for {counted(spent.jobs, 'job')}"]
    if spent.expected:
        parts.append(f"{number(spent.expected)} of them only expected")
    if spent.unpriced:
        parts.append(f"{counted(spent.unpriced, 'job')} of unknown price")
    return "; ".join(parts)


def _status(record: Record, place: int | None) -> str:
    status = str(view_of_record(record).status)
    return status if place is None else f"{status}, no. {place}"


def _inputs(record: Record) -> str:
    given = record.arguments
    names = [file_name(given[name]) for name in ("video", "character_image") if name in given]
    return " + ".join(names) or "-"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    credits = _HEADS.index("CREDITS")
    shown = [
        cell.rjust(columns) if place == credits else fitted(cell, columns)
        for place, (cell, columns) in enumerate(zip(cells, widths, strict=True))
    ]
    return _GAP.join(shown).rstrip()


def _common(one: str, other: str) -> int:
    """The length of the longest common beginning of two texts."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
