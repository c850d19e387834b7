"""What every engine of the ledger promises for a paid request, before and after it is paid.

The rules that all engines share are in `record` (the states), `fingerprint` (when two requests are
equal), `spending_limits` (how much may be spent) and `rules` (every other decision). What processes
share while they wait is in `coordination`.
"""

from dataclasses import dataclass
from typing import Protocol

from wan_mcp.errors import Refused, WanError
from wan_mcp.ledger.coordination import Coordination
from wan_mcp.ledger.record import Record, State
from wan_mcp.models import Job, Replacement


@dataclass(frozen=True)
class VideoPolicy:
    """What the submitter of a request wants done with its video, whichever process then does it.

    Attributes:
        folder: where the video is saved; "" when it is not to be saved.
        limit_gb: how many 10^9 bytes of videos the folder may hold; None for no limit.
    """

    folder: str
    limit_gb: float | None = None


@dataclass(frozen=True)
class Claim:
    """Who sends a request.

    Attributes:
        record: the one record that stands for the request.
        created: whether the caller created it just now, and is the only one who may send.
        query_differs: whether it was found although the query of a URL differs.
    """

    record: Record
    created: bool
    query_differs: bool = False


@dataclass(frozen=True)
class Recorded:
    """What became of a reading of a job.

    Attributes:
        ignored: whether the reading was dropped, because the job had ended before otherwise.
    """

    record: Record
    ignored: bool = False


class LedgerUnavailable(Refused):
    """The ledger cannot be used. When `claim` or `commit_sending` raises it, nothing was sent.

    Args:
        transient: whether the ledger is only in use, so that asking again soon helps.
    """

    code = "ledger_unavailable"
    advice = (
        "Tell the user; nothing is bought without the ledger. It lies in the folder that "
        "WAN_MCP_DATA_DIR names (unset: the user's data folder). The ledger file must not be "
        "deleted: it says which jobs were paid for."
    )

    def __init__(self, what: str, *, next_step: str | None = None, transient: bool = False) -> None:
        super().__init__(what, next_step="Call again in a minute." if transient else next_step)
        self.retry_safe = transient


class Fenced(WanError):
    """A record was not in the state, or not in the hands, that a change needs. Nothing changed.

    When `commit_sending` raises it, this process must not send.
    """

    code = "fenced"
    charged = "unknown"
    advice = "Ask get_job_status for the job; do not repeat the paid call."


class Ledger(Protocol):
    """Every paid request, before and after it is paid. Any number of processes share it.

    A change is durable when its method returns, and a change that was begun is finished even when
    the caller is cancelled. Durations go in; dates come from the ledger's own clock. Every method
    may raise LedgerUnavailable.
    """

    @property
    def coordination(self) -> Coordination:
        """What processes share while they wait, in the same place."""

    async def account(self, api_base: str, api_key: str) -> str:
        """The name under which this key's records are kept: a keyed hash, never the key."""

    async def secret(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, the same for every server on this ledger (ours)."""

    async def claim(
        self,
        account: str,
        wanted: Replacement,
        *,
        generated_seed: int,
        estimate: float | None,
        videos: VideoPolicy | None = None,
    ) -> Claim:
        """The record of the equal request that is live or ended just now; else a new `intent`.

        A seed that was generated for a request, and is now given with it, makes an equal request.

        Args:
            wanted: the request as the caller made it, without a generated seed.
            generated_seed: what is sent as seed when the caller gave none.
            estimate: credits that the job will cost; None when the price cannot be read.
            videos: what becomes of the video; None leaves it to the process that saves videos.

        Raises:
            LimitReached: a new record would break a limit.
        """

    async def equal(self, account: str, wanted: Replacement) -> Record | None:
        """The record that `claim` would join now; None when it would create a new one."""

    async def commit_sending(self, record: Record) -> None:
        """`intent` to `sending`: the last act before the first byte leaves, once per record.

        Raises:
            Fenced, LedgerUnavailable: nothing may be sent.
        """

    async def accept(self, record: Record, job: Job) -> Record:
        """Record PixelDojo's answer to the submit that this process sent.

        The id in it is paid for, so it is recorded whatever became of the record meanwhile:
        another process may have declared this one dead, or the store may have lost its last
        commits. Only the process that claimed the record may call this.
        """

    async def match(self, record: Record, job: Job) -> Record:
        """Record the job that a reconciliation found for a request of unknown outcome.

        Raises:
            Fenced: the outcome is known by now, or the job belongs to another request.
        """

    async def conclude(self, record: Record, state: State, why: str) -> Record:
        """End a submit as refused, not_sent or unknown, or an accepted job as lost.

        Raises:
            Fenced: the record is not where that state can be entered from.
        """

    async def record_update(self, account: str, job: Job) -> Recorded:
        """Keep what a reading says of a job.

        A job that the ledger does not have gets a record that counts no spending.
        """

    async def settled(self, submission_id: str, seconds: float) -> Record:
        """The record once its submit is over, in whichever process; as it is after that time."""

    async def find(self, account: str, id: str) -> Record | None:
        """The account's record with that submission id or job id."""

    async def recent(
        self, account: str, states: frozenset[State] | None = None, limit: int = 10
    ) -> list[Record]:
        """Every live record and the newest `limit` others (in `states`, if given), newest first."""

    async def unknowns(self, account: str) -> list[Record]:
        """Records of unknown outcome, oldest first."""

    async def record_check(
        self, record: Record, findings: str, next_in: float | None, *, counts: bool = True
    ) -> Record:
        """Record what a reading of the job list found for a request of unknown outcome.

        Args:
            findings: in a sentence.
            next_in: seconds until the list is to be read again; None for not by itself.
            counts: whether the list could be read. Only then does the reading prove anything.

        Raises:
            Fenced: the outcome is known by now.
        """

    async def recover(self) -> list[Record]:
        """Settle what dead processes left: `intent` becomes not_sent, `sending` unknown.

        Runs by itself when the ledger opens and in every claim. Returns the records it changed.
        """

    async def aclose(self) -> None:
        """Let go of the store and of this process's ownership. Unsettled records become unknown."""
