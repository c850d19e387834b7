"""What an operator allows to a user, to a team, or on a wallet, beside the settings."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple


class Kind(StrEnum):
    """What limits belong to."""

    USER = "user"
    TEAM = "team"
    WALLET = "wallet"


class Limits(NamedTuple):
    """The limits of one user, team or wallet; None is no limit.

    Attributes:
        credits_per_job: a more expensive job is refused.
        credits_per_day: credits within 24 hours.
        in_flight: jobs at the same time.
        submits_per_minute: paid requests within 60 seconds.
    """

    credits_per_job: float | None = None
    credits_per_day: float | None = None
    in_flight: int | None = None
    submits_per_minute: int | None = None


NONE = Limits()
"""No limits at all."""

COLUMNS = ", ".join(Limits._fields)
"""The columns of the table `limits` that hold them, in their order."""


def limits_in(row: Sequence[Any]) -> Limits:
    """The limits in what the database has found in `COLUMNS`."""
    return Limits(*row)
