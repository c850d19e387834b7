"""Keeps the log readable where strangers decide how often something happens."""

from collections.abc import Callable

QUIET_SECONDS = 60.0
"""The least time between two lines in the log about the same thing (ours)."""


class Seldom:
    """Says whether a line is due.

    Args:
        now: seconds that never go back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last: dict[str, float] = {}

    def is_due(self, what: str = "") -> bool:
        """Whether there was no line about it in the last QUIET_SECONDS; from now on there is one.

        Args:
            what: in one of a few texts of ours: each is kept.
        """
        now = self._now()
        if now - self._last.get(what, -float("inf")) < QUIET_SECONDS:
            return False
        self._last[what] = now
        return True
