"""What processes on one ledger share while they wait: who polls, what for, and how often."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import anyio

from wan_mcp.errors import WanError
from wan_mcp.ledger.record import Record

WINDOW_SECONDS = 61.0
"""The minute in which requests are counted, and a second for how differently they travel."""

WATCH_TTL_SECONDS = 30.0
"""How far ahead a waiter is announced to the poller, which may be another process. It is renewed
halfway; so a job is polled slowly again soon after its last waiter left."""

Account = Callable[[], Awaitable[str]]


@dataclass(frozen=True)
class Limit:
    """A key's request budget, as far as it is known.

    Attributes:
        per_minute: 10 until an answer tells; the less of the two that PixelDojo has named.
        cut_ago: seconds since a 429 halved it; None when an answer told it since.
        held: seconds for which PixelDojo asked for silence.
    """

    per_minute: int = 10
    cut_ago: float | None = None
    held: float = 0.0


@dataclass(frozen=True)
class Acquired:
    """Whether a request may leave: `wait` is 0 when it is counted, else seconds until it may."""

    wait: float
    limit: Limit


Rule = Callable[[Limit, Sequence[float]], float]
"""Seconds to wait, by the limit and the ages of the last requests, oldest first."""


class Coordination(Protocol):
    """The pollers' side of the ledger. Every method may raise LedgerUnavailable."""

    async def lead(self, account: str, seconds: float) -> bool:
        """Whether this process polls the account's jobs for that long; it may extend its own.

        One process at a time: another's lease ends with its time or with its process.
        """

    async def leave(self, account: str) -> None:
        """Let another process poll, if this one does."""

    async def live(self, account: str) -> list[Record]:
        """The jobs to poll: running ones of 24 hours, and those that somebody waits for."""

    async def records(self, submission_ids: Collection[str]) -> list[Record]:
        """Those rows, in any order."""

    async def expect(self, submission_ids: Collection[str], until: datetime) -> None:
        """Note that somebody waits for these until then."""

    async def looked(
        self, submission_ids: Collection[str], last_error: WanError | None = None
    ) -> None:
        """Note that PixelDojo was asked for these just now, and what it met; nothing new came."""

    async def try_acquire(self, account: str, rule: Rule) -> Acquired:
        """Count one request now, if the rule lets it."""

    async def adjust_limit(self, account: str, change: Callable[[Limit], Limit]) -> None:
        """Change what is known of the key's budget."""

    async def unsaved(self, account: str) -> list[Record]:
        """Completed jobs of the last 24 hours whose film may still be saved, oldest first."""

    async def saved(self, submission_id: str, path: str, sha256: str, size: int) -> None:
        """Note where a film lies now."""

    async def not_saved(self, submission_id: str, why: str) -> None:
        """Note that a film cannot be saved any more."""

    async def typical(self, account: str) -> list[float]:
        """Seconds that the last 20 completed jobs took."""

    def next_change(self) -> anyio.Event:
        """What is set when this process next writes."""

    async def version(self) -> int:
        """A number that changes when another process has written."""
