"""What the processes on one ledger share while they wait: roles, the rate limit, and changes."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from wan_mcp.errors import WanError
from wan_mcp.ledger.record import Record
from wan_mcp.models import Difference

Account = Callable[[], Awaitable[str]]

POLLED_FOR = timedelta(hours=24)
"""How long a running job is polled if nobody waits for it, and how long after its end its video may
be saved (ours). The link to the video has expired by then."""
WINDOW_SECONDS = 61.0
"""PixelDojo counts the requests of a minute. Their travel times differ by up to a second (ours)."""
WATCH_TTL_SECONDS = 30.0
"""How long the announcement of a waiter is valid (ours). The poller, perhaps in another process,
reads a job more often while somebody waits for it. Waiters announce themselves again after half of
this time."""


class Role(StrEnum):
    """Work for a wallet that only one process does at a time, while it holds a lease."""

    POLLER = "poller"
    """Reads the state of running jobs."""
    RECONCILER = "reconciler"
    """Reads the job list for requests whose answer was lost."""
    SAVER = "saver"
    """Saves finished videos."""
    DISPATCHER = "dispatcher"
    """Sends queued requests when their turn has come."""


@dataclass(frozen=True)
class Limit:
    """How many requests a wallet may make, as far as this is known.

    Attributes:
        per_minute: 10 until an answer names the limits, then the lower one of the two.
        cut_ago: seconds since an answer 429 halved the limit; None if a later answer named it.
        held: seconds for which PixelDojo asked for no more requests; 0 for no pause.
    """

    per_minute: int = 10
    cut_ago: float | None = None
    held: float = 0.0


@dataclass(frozen=True)
class Acquired:
    """Whether a request may be sent.

    Attributes:
        wait: 0 if the request was counted and may be sent; otherwise the seconds until it may.
        limit: what is known of the limit.
    """

    wait: float
    limit: Limit


Rule = Callable[[Limit, Sequence[float]], float]
"""The seconds to wait, given the limit and the ages in seconds of the requests, oldest first."""


class Coordination(Protocol):
    """The part of the ledger that roles and waiters use. A wallet has its roles and its rate limit.

    Every method except `next_change` may raise LedgerUnavailable.
    """

    async def lead(self, wallet: str, role: Role, seconds: float) -> bool:
        """Try to take a role, or to renew the lease that this process has on it.

        The lease of another process ends with its time, or when that process dies.

        Args:
            seconds: the length of the lease, at most `rules.MAX_LEASE_SECONDS`.

        Returns:
            Whether this process has the role for that long from now.
        """

    async def leave(self, wallet: str, role: Role) -> None:
        """Give up the role, if this process has it."""

    async def live(self, wallet: str) -> list[Record]:
        """The jobs to poll: the running ones of the last 24 hours, and those with a waiter."""

    async def open_wallets(self) -> list[str]:
        """The wallets with work to do: with jobs that have not ended, or a video to be saved."""

    async def records(self, submission_ids: Collection[str]) -> list[Record]:
        """The records with these ids, in any order. Unknown ids are left out."""

    async def expect(self, submission_ids: Collection[str], seconds: float) -> None:
        """Announce that somebody waits for these jobs, for that long from now."""

    async def polled(
        self, submission_ids: Collection[str], last_error: WanError | None = None
    ) -> None:
        """Record that these jobs were read just now and nothing changed, or that reading failed.

        Args:
            last_error: why reading failed; None if PixelDojo answered.
        """

    async def try_acquire(self, wallet: str, rule: Rule) -> Acquired:
        """Count one request now if the rule allows it, in one step for all processes."""

    async def adjust_limit(self, wallet: str, change: Callable[[Limit], Limit]) -> None:
        """Change what is known of the wallet's limit."""

    async def unsaved(self, wallet: str) -> list[Record]:
        """Completed jobs of the last 24 hours whose video may still be saved, oldest first."""

    async def saved(self, submission_id: str, path: str, sha256: str, size: int) -> bool:
        """Record where a video was saved, with its SHA-256 in hex and its size in bytes.

        Returns:
            False if the user has had the job forgotten meanwhile, so that no video is wanted.
        """

    async def uninspected(self, wallet: str) -> list[Record]:
        """Jobs of the last 24 hours whose video is saved and was not inspected, oldest first."""

    async def inspected(self, submission_id: str, inspection: Sequence[Difference]) -> None:
        """Record how a video differs from its order."""

    async def not_saved(self, submission_id: str, why: str) -> None:
        """Record that a video cannot be saved any more."""

    async def not_saved_yet(self, submission_id: str, why: str) -> None:
        """Record why an attempt to save a video failed; there will be another."""

    async def mark_kept(self, submission_id: str, kept: bool) -> None:
        """Record whether the user keeps a video. A forgotten request stays as it is."""

    async def kept_videos(self) -> list[str]:
        """Where the videos that users of any account keep are, as their records name the place."""

    async def durations(self, account: str) -> list[float]:
        """Seconds that each of the last 20 completed jobs took."""

    @property
    def own_changes(self) -> int:
        """The number of changes by this process that somebody may wait for."""

    async def next_change(self, since: int) -> None:
        """Wait until `own_changes` differs from `since`."""

    async def changed_since(self, revision: int) -> int:
        """The revision of the ledger now.

        It differs from the given one if another process has written since then, or if this process
        has made a change that somebody may wait for.
        """
