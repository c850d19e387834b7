"""Reads the price on PixelDojo's model page, of jobs of any size. No I/O.

One number, and an object of the type `fixed`, are documented. There are other types, whose form is
not documented: such a price is read only if each part of it is understood, and is unknown otherwise
(assumed). A wrong guess would be a promise to the person who pays.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from wan_mcp.models import PriceRow, PriceType, PublishedPrice
from wan_mcp.pixeldojo.reply import clean

MAX_ROWS = 60
"""The longest table that is read: one price for each length and each resolution, twice (ours)."""
_TYPES = {
    "fixed": PriceType.FIXED,
    "persecond": PriceType.PER_SECOND,
    "perresolution": PriceType.PER_RESOLUTION,
    "table": PriceType.TABLE,
}
_CONDITIONS = ("video_duration", "resolution")
_LINES = {"480": "480", "480p": "480", "720": "720", "720p": "720"}
_SECONDS = {f"{count}{unit}": count for count in range(1, 16) for unit in ("", "s")}
_SECOND = {"second", "seconds"}
_UNITS = {"credit", "credits", *_SECOND}
_NO_PRICE = "PixelDojo's model page names no price."
_ODD = "The price on PixelDojo's model page has a form that is not known here."
_CONTRADICTION = "PixelDojo's model page names two prices that contradict each other."


T = TypeVar("T")


class _Odd(ValueError):
    """A part of a price that is not understood."""


def published_price(cost: object) -> PublishedPrice:
    """The price in the field `creditCost` of the model page."""
    if (plain := credits_of(cost)) is not None:
        return PublishedPrice(PriceType.FIXED, (PriceRow(plain),))
    if not isinstance(cost, Mapping):
        return _unknown(_NO_PRICE)
    word = clean(cost.get("type"), 40)
    kind = _TYPES.get(re.sub("[^a-z]", "", word.lower()))
    if kind is None:
        return _unknown(f'PixelDojo\'s model page names a price of the unknown type "{word}".')
    try:
        if kind is not PriceType.PER_SECOND and any(map(_is_second, cost.values())):
            raise _Odd(_CONTRADICTION)  # of a price a second, and of one for the whole job
        return _fixed(cost) if kind is PriceType.FIXED else _depending(kind, cost)
    except _Odd as odd:
        return _unknown(str(odd))


def credits_of(value: object) -> float | None:
    """A number of credits; None for anything else, and for one that no account could pay."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e12 else None


def _unknown(why: str) -> PublishedPrice:
    return PublishedPrice(PriceType.UNKNOWN, why=why)


def _fixed(cost: Mapping[str, Any]) -> PublishedPrice:
    amount, default = credits_of(cost.get("amount")), credits_of(cost.get("default"))
    if amount is None:
        raise _Odd(_NO_PRICE)
    # If both are named and differ, the job costs at most the higher one.
    named = amount if default is None else max(amount, default)
    return PublishedPrice(PriceType.FIXED, (PriceRow(named),))


def _depending(kind: PriceType, cost: Mapping[str, Any]) -> PublishedPrice:
    rows = tuple(_rows(_amount(cost)))
    if not 0 < len(rows) <= MAX_ROWS or not all(_belongs(row, kind) for row in rows):
        raise _Odd(_ODD)
    price = PublishedPrice(kind, rows)
    default = credits_of(cost.get("default"))
    known = {price.credits(5, "480"), *(row.credits for row in rows)}
    if default is not None and default not in known:
        raise _Odd(_CONTRADICTION)
    return price


def _amount(cost: Mapping[str, Any]) -> object:
    """The one field that holds the price, whatever its name is."""
    rest = {name: value for name, value in cost.items() if name not in ("type", "default")}
    amounts = [value for value in rest.values() if not _is_unit(value)]
    if len(amounts) != 1:
        raise _Odd(_ODD if amounts else _NO_PRICE)
    return amounts[0]


def _is_unit(value: object) -> bool:
    return isinstance(value, str) and value.lower() in _UNITS


def _is_second(value: object) -> bool:
    return isinstance(value, str) and value.lower() in _SECOND


def _belongs(row: PriceRow, kind: PriceType) -> bool:
    """Whether such a row makes sense in a price of this type."""
    if kind is PriceType.TABLE:
        return True
    return row.seconds is None and (row.resolution is None) <= (kind is PriceType.PER_SECOND)


def _rows(
    amount: object, seconds: int | None = None, lines: str | None = None
) -> Iterator[PriceRow]:
    """The rows of a number, of a list of rows, or of an object whose names say which jobs."""
    if (plain := credits_of(amount)) is not None:
        yield PriceRow(plain, seconds, lines)
    elif isinstance(amount, list) and seconds is None and lines is None:
        yield from map(_row, amount[: MAX_ROWS + 1])
    elif isinstance(amount, Mapping):
        for name, inner in amount.items():
            if seconds is None and name in _SECONDS:
                yield from _rows(inner, _SECONDS[name], lines)
            elif lines is None and name in _LINES:
                yield from _rows(inner, seconds, _LINES[name])
            else:
                raise _Odd(_ODD)
    else:
        raise _Odd(_ODD)


def _row(entry: object) -> PriceRow:
    """A row such as {"video_duration": 5, "resolution": "480", "amount": 10}."""
    if not isinstance(entry, Mapping):
        raise _Odd(_ODD)
    seconds, lines = entry.get("video_duration"), entry.get("resolution")
    amounts = [value for name, value in entry.items() if name not in _CONDITIONS]
    amount = credits_of(amounts[0]) if len(amounts) == 1 else None
    if amount is None:
        raise _Odd(_ODD)
    return PriceRow(amount, _among(_SECONDS, seconds), _among(_LINES, lines))


def _among(known: Mapping[str, T], value: object) -> T | None:
    """What a condition of a row means; None if there is none."""
    if value is None:
        return None
    is_small = type(value) is int and 0 < value < 1_000  # a huge one cannot be written as text
    word = str(value) if is_small or isinstance(value, str) else ""
    if word not in known:
        raise _Odd(_ODD)
    return known[word]
