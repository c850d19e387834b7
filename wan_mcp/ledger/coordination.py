"""What processes on one ledger share while they wait: roles, the rate window, and wake-ups."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from wan_mcp.errors import WanError
from wan_mcp.ledger.record import Record

Account = Callable[[], Awaitable[str]]

WINDOW_SECONDS = 61.0
"""The minute in which requests are counted, and a second for how differently they travel."""
WATCH_TTL_SECONDS = 30.0
"""How far ahead a waiter is announced to the poller, which may be another process. It is renewed
halfway, so a job is polled slowly again soon after its last waiter left."""


class Role(StrEnum):
    """Work that one process at a time does for an account, with a lease."""

    POLLER = "poller"
    """Reads the jobs that run."""
    RECONCILER = "reconciler"
    """Reads the job list for requests whose answer was lost."""
    SAVER = "saver"
    """Saves finished videos."""


@dataclass(frozen=True)
class Limit:
    """How many requests a key may make, as far as that is known.

    Attributes:
        per_minute: 10 until an answer says otherwise, then the lower of the two limits that
            PixelDojo has named.
        cut_ago: seconds since a 429 halved it; None when an answer has named it since.
        held: seconds for which PixelDojo asked for no requests.
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
"""Seconds to wait, by the limit and the ages in seconds of the last requests, oldest first."""


class Coordination(Protocol):
    """The side of the ledger that pollers and waiters use. Every method may raise
    LedgerUnavailable.
    """

    async def lead(self, account: str, role: Role, seconds: float) -> bool:
        """Whether this process has the role for that long; it may extend its own lease.

        One process at a time: the lease of another ends with its time or with its process.
        """

    async def leave(self, account: str, role: Role) -> None:
        """Let another process have the role, if this one has it."""

    async def live(self, account: str) -> list[Record]:
        """The jobs to poll: running ones of 24 hours, and those that somebody waits for."""

    async def records(self, submission_ids: Collection[str]) -> list[Record]:
        """Those records, in any order."""

    async def expect(self, submission_ids: Collection[str], seconds: float) -> None:
        """Note that somebody waits for these jobs, for that long from now."""

    async def polled(
        self, submission_ids: Collection[str], last_error: WanError | None = None
    ) -> None:
        """Note that PixelDojo was asked for these jobs just now without news, and what it met."""

    async def try_acquire(self, account: str, rule: Rule) -> Acquired:
        """Count one request now, if the rule lets it leave."""

    async def adjust_limit(self, account: str, change: Callable[[Limit], Limit]) -> None:
        """Change what is known of the key's limit."""

    async def unsaved(self, account: str) -> list[Record]:
        """Completed jobs of the last 24 hours whose video may still be saved, oldest first."""

    async def saved(self, submission_id: str, path: str, sha256: str, size: int) -> None:
        """Record where a video lies now, with its size in bytes."""

    async def not_saved(self, submission_id: str, why: str) -> None:
        """Record that a video cannot be saved any more."""

    async def durations(self, account: str) -> list[float]:
        """Seconds that each of the last 20 completed jobs took."""

    @property
    def own_changes(self) -> int:
        """How many changes this process has made that somebody may wait for."""

    async def next_change(self, since: int) -> None:
        """Wait until `own_changes` is no longer that number."""

    async def changed_since(self, revision: int) -> int:
        """The revision of the ledger now, which differs from the one given when this or another
        process has written since.
        """
