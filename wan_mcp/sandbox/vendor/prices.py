"""Prices that depend on the job: what the model page says about them, and what a job costs.

The vendor documents only the form of a fixed price and says that others exist; the forms here are
plausible ones (assumed).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Prices:
    """What jobs cost.

    Attributes:
        page: the field ``creditCost`` of the model page.
        of: credits of the job with this body.
    """

    page: Any
    of: Callable[[Body], float]


def fixed(amount: float) -> Prices:
    """Every job costs the same (the form is the vendor's)."""
    return Prices(
        {"default": number(amount), "type": "fixed", "amount": number(amount)}, lambda body: amount
    )


def per_second(amount: float) -> Prices:
    """Each second costs the same; `default` is what a job of 5 s costs."""
    page = {"type": "per_second", "amount": number(amount), "default": number(5 * amount)}
    return Prices(page, lambda body: round(amount * body["video_duration"], 6))


def per_resolution(amounts: Mapping[str, float]) -> Prices:
    """Each resolution has its price."""
    page = {"type": "per_resolution", "amounts": dict(amounts), "default": amounts["480"]}
    return Prices(page, lambda body: amounts[_lines(body)])


def table(amounts: Mapping[tuple[int, str], float]) -> Prices:
    """Each length at each resolution has its price; the vendor makes no job that is not in it."""
    rows = [
        {"video_duration": seconds, "resolution": lines, "amount": number(amount)}
        for (seconds, lines), amount in amounts.items()
    ]
    return Prices(
        {"type": "table", "rows": rows}, lambda body: amounts[body["video_duration"], _lines(body)]
    )


def prices_of(price: float | Prices) -> Prices:
    """The same price in one form."""
    return price if isinstance(price, Prices) else fixed(price)


def number(value: float) -> float:
    """A whole number as an int, so that JSON shows 10 and not 10.0."""
    return int(value) if value == int(value) else value


def _lines(body: Body) -> str:
    return str(body.get("resolution", "480"))
