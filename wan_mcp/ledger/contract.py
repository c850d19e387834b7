"""The ledger's promises: what an engine does for every paid request, before and after it is paid.

The rules that engines share are in `record.py` (states and what is kept), `request.py` (what makes
two requests equal) and `limits.py` (how much may be spent); `sqlite.py` is an engine.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from wan_mcp.errors import Refused, WanError
from wan_mcp.ledger.coordination import Coordination
from wan_mcp.ledger.record import Record, State
from wan_mcp.models import Job, Replacement


@dataclass(frozen=True)
class Claim:
    """Who sends a request.

    Attributes:
        row: the one row that stands for the request.
        mine: whether the caller made it just now, and is the only one who may send.
        resigned: whether the row was found although the query of a URL differs.
    """

    record: Record
    created: bool
    query_differs: bool = False


@dataclass(frozen=True)
class Recorded:
    """What became of news.

    Attributes:
        ignored: whether the job had ended before and the news said otherwise.
    """

    record: Record
    ignored: bool = False


class LedgerUnavailable(Refused):
    """The ledger cannot be used. From `claim` and `commit_sending`: so nothing was sent.

    Args:
        passing: whether it only is in use, so that asking again soon helps.
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
    """A row was not in the state, or not in the hands, that the change needs. Nothing changed.

    Raised by `commit_sending`, it means that this process must not send.
    """

    code = "fenced"
    charged = "unknown"
    advice = "Ask get_job_status for the job; do not repeat the paid call."


class Ledger(Protocol):
    """Every paid request, before and after it is paid. Shared by any number of processes.

    A change is on disk when its method returns, and a change that was begun is finished even
    when the caller is cancelled. Every method may raise LedgerUnavailable.
    """

    @property
    def coordination(self) -> Coordination:
        """What pollers and waiters share, in the same place."""

    async def account(self, api_base: str, api_key: str) -> str:
        """The name under which this key's rows are kept: a keyed hash, never the key."""

    async def secret(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, the same for every server on this ledger (ours)."""

    async def claim(
        self, account: str, wanted: Replacement, *, generated_seed: int, estimate: float | None
    ) -> Claim:
        """The row of the equal request that is live, or ended just now; else a new `intent`.

        A seed that was planted for a request and is now given with it makes an equal request.

        Args:
            wanted: the request as the caller made it, without any planted seed.
            planted_seed: what will be sent as seed when the caller gave none.
            estimate: credits it will cost, None when that cannot be had.

        Raises:
            LimitReached: a new row would break a cap.
        """

    async def equal(self, account: str, wanted: Replacement) -> Record | None:
        """The row that `claim` would join now; None when it would make a new one."""

    async def commit_sending(self, submission_id: str) -> None:
        """`intent` to `sending`: the last act before the first byte leaves, once per row.

        Raises:
            Fenced, LedgerUnavailable: nothing may be sent.
        """

    async def accept(self, submission_id: str, job: Job) -> Record:
        """PixelDojo's answer to the submit, or the job a reconciliation matched to an unknown one.

        Raises:
            Fenced: the row is neither sending in this process nor unknown; or it is unknown, and
                the job belongs to another request. An answer to the submit itself is never
                refused for that: the id is paid for.
            LedgerUnavailable: the job is paid for all the same: try again, and tell its id.
        """

    async def conclude(self, submission_id: str, state: State, why: str) -> Record:
        """A submit ends as refused, not_sent or unknown, or an accepted job as lost.

        Raises:
            Fenced: the row is not where that state can be entered from.
        """

    async def record_update(self, account: str, job: Job) -> Recorded:
        """Keep what a read told of a job; one not seen here before gets a row, free of spending."""

    async def settled(self, submission_id: str, seconds: float) -> Record:
        """The row once its submit is over, in whichever process; as it is when the time is up."""

    async def find(self, account: str, id: str) -> Record | None:
        """The account's row of that handle or job id."""

    async def recent(
        self, account: str, states: frozenset[State] | None = None, limit: int = 10
    ) -> list[Record]:
        """Newest first: every live row, and the newest `limit` others (in `states`, if given)."""

    async def unknowns(self, account: str, due_at: datetime | None = None) -> list[Record]:
        """Rows of unknown outcome, oldest first: those due for a look by then, or all."""

    async def record_check(
        self, submission_id: str, findings: str, next_at: datetime | None, *, counts: bool = True
    ) -> Record:
        """Note what a reconciliation found, and when to look again. Raises Fenced.

        Args:
            counts: the list was read; only such looks prove something.
        """

    async def recover(self) -> list[Record]:
        """Settle what dead processes left: `intent` is not_sent, `sending` is unknown.

        Runs by itself when the ledger opens and in every claim. Returns the rows it changed.
        """

    async def aclose(self) -> None:
        """Let go of the file and of this process's ownership. Rows still unsettled turn unknown."""
