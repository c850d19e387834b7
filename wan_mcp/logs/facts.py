"""What happens in this process that an operator counts, said where it is known.

Nobody listens unless a metrics port is set, and then a fact costs a look at an empty list. Facts
name no user, job, link or key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Listener(Protocol):
    """Counts facts. Its methods are called in any thread, and must not raise or wait."""

    def called(self, tool: str, outcome: str) -> None:
        """A tool has answered: "ok", or the code of its failure."""

    def submitted(self, outcome: str, credits: float | None) -> None:
        """A paid request has ended: "accepted", or the code of its failure.

        Args:
            credits: what PixelDojo named as its cost; None if nothing.
        """

    def paying(self, difference: int) -> None:
        """So many more paid requests are in progress; below 0, so many have ended."""

    def waiting(self, difference: int) -> None:
        """So many more calls wait for a job; below 0, so many have ended."""

    def exchanged(self, route: str, status: int | None, seconds: float) -> None:
        """A request to PixelDojo has ended.

        Args:
            route: its path, with names in the place of ids.
            status: of the answer; None if none came.
        """

    def limited(self, per_minute: int, pause: float) -> None:
        """PixelDojo allows so many requests a minute, after a pause of so many seconds."""

    def asked_ledger(self) -> None:
        """A piece of work begins to wait for the ledger; `used_ledger` says that it has ended."""

    def used_ledger(self, seconds: float, *, waited: float, failed: bool) -> None:
        """A piece of work on the ledger has ended.

        Args:
            seconds: how long it took.
            waited: how long it waited before for a connection, which does one after the other.
        """


@dataclass(frozen=True)
class Figures:
    """What the ledger knows, for an operator. None stands for what is not known.

    Attributes:
        known: whether the ledger could be read.
        jobs: how many it has in each state, of all accounts.
        videos_to_save: finished videos that are still to be saved.
        credits_spent_day: credits of the last 24 hours.
        credits_limit_day: how many may be spent in 24 hours.
        credits_balance: the account's credits, as last reported.
    """

    known: bool = False
    jobs: Mapping[str, int] = field(default_factory=dict)
    videos_to_save: int | None = None
    credits_spent_day: float | None = None
    credits_limit_day: float | None = None
    credits_balance: float | None = None


listeners: list[Listener] = []
"""Who counts facts in this process."""
