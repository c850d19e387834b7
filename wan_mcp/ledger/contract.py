"""What the ledger promises for every paid request, on any engine.

The rules that all engines share are in `record` (the states), `fingerprint` (when two requests are
equal), `spending_limits` (how much may be spent) and `rules` (every other decision). What processes
share while they wait is in `coordination`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from wan_mcp.errors import Code, Refused, WanError
from wan_mcp.ledger.coordination import Coordination
from wan_mcp.ledger.expected_price import AccountCredits, Charge, Totals
from wan_mcp.ledger.queueing.contract import Queue
from wan_mcp.ledger.record import ListReading, Record, SentInputs, State
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Whose, Workspace
from wan_mcp.models import Cursor, Job, Replacement, SourceClip


@dataclass(frozen=True)
class VideoPolicy:
    """The decision of the process that submits a request about its video.

    The process that saves videos follows this, not its own settings.

    Attributes:
        folder: where the video is saved, a path or the URL of a folder in object storage; "" if it
            is not to be saved.
        limit_gb: how many 10^9 bytes of videos the folder may contain; None for no limit, and for
            object storage.
    """

    folder: str
    limit_gb: float | None = None

    def below(self, name: str) -> "VideoPolicy":
        """The same policy for the subfolder of that name; only the videos in it count there."""
        return replace(self, folder=f"{self.folder}/{name}") if self.folder else self


@dataclass(frozen=True)
class Asked:
    """A request that is to be paid, see `Ledger.claim`.

    Attributes:
        wanted: the request as the caller made it, without a generated seed.
        seed: what is sent if the caller gave none.
        quotas: at least one.
    """

    workspace: Workspace
    wanted: Replacement
    seed: int
    estimate: float | None
    quotas: Sequence[Quota]
    videos: VideoPolicy | None = None
    source: SourceClip = field(default_factory=SourceClip)
    agreed: float | None = None


@dataclass(frozen=True)
class Claim:
    """The result of a claim.

    Attributes:
        record: the record of the request, new or found.
        created: whether this claim created the record. Only then may its caller send the request.
        query_differs: whether a record was found whose URLs have other queries.
    """

    record: Record
    created: bool
    query_differs: bool = False


@dataclass(frozen=True)
class Recorded:
    """The record of a job after a reading of it.

    Attributes:
        ignored: whether the reading was ignored because it contradicts the end of the job.
    """

    record: Record
    ignored: bool = False


@dataclass(frozen=True)
class Page:
    """A part of the list of all jobs, newest first, and the totals of all of them."""

    records: list[Record]
    totals: Totals


class LedgerUnavailable(Refused):
    """The ledger cannot be used. If `claim` or `commit_sending` raises it, nothing may be sent.

    Args:
        transient: whether the ledger is only busy, so that the same call may succeed soon.
    """

    code = Code.LEDGER_UNAVAILABLE
    advice = (
        "Tell the user; nothing is bought without the ledger. It is in the folder that "
        "WAN_MCP_DATA_DIR names (unset: the user's data folder). The ledger file must not be "
        "deleted: it says which jobs were paid for."
    )

    def __init__(self, what: str, *, next_step: str | None = None, transient: bool = False) -> None:
        super().__init__(what, next_step="Call again in a minute." if transient else next_step)
        self.retry_safe = transient


class LedgerUnreachable(LedgerUnavailable):
    """The connection to the store was lost, or there is none: other calls would fail now, too."""

    def __init__(self, what: str) -> None:
        super().__init__(what, transient=True)


class QuotasChanged(LedgerUnavailable):
    """The limits, or the wallet that pays for the user, have changed since the caller read them.

    Nothing was done. Read them again.
    """

    def __init__(self) -> None:
        what = "What counts for this user was changed at the same moment, so nothing was bought."
        super().__init__(what, transient=True)


_NOT_CHARGED = "The same job could be paid twice, so nothing was sent and nothing was charged."


class LedgerChanged(LedgerUnavailable):
    """The store is no longer the one that this process opened, or that payments were recorded in.

    What this process still has open can be read.

    Attributes:
        happened: what has happened to the store, in a sentence.
    """

    def __init__(self, happened: str, *, next_step: str) -> None:
        super().__init__(f"{happened} {_NOT_CHARGED}", next_step=next_step)
        self.happened = happened


class NothingToRead(LedgerUnavailable):
    """There is no ledger to read. The error of the attempt to create one tells the reason."""


class Fenced(WanError):
    """A record had another state, or another owner, than a change needs. Nothing was changed.

    If `commit_sending` raises it, this process must not send.
    """

    code = (
        Code.INTERNAL_ERROR
    )  # payments and polling catch it: if a caller sees it, that is a defect
    charged = "unknown"
    advice = "Ask get_job_status for the job; do not repeat the paid call."


class Ledger(Protocol):
    """All paid requests, from before they are sent. Any number of processes share a ledger.

    What a user sees belongs to an `account`, which is the name of a workspace. What PixelDojo sees
    belongs to a `wallet`, with all of its workspaces. `Whose` names both: see `Workspace`.

    A change is durable when its method returns. A change that was begun is finished even if the
    caller is cancelled. Callers give durations in seconds; all dates come from the ledger's own
    clock. Every method may raise LedgerUnavailable.
    """

    @property
    def coordination(self) -> Coordination:
        """The roles, the rate limit and the changes that processes on this ledger share."""

    @property
    def queue(self) -> Queue:
        """The requests that wait until the limits have room for them."""

    @property
    def notice(self) -> str | None:
        """A sentence that readers have to know about the ledger, as of the last read; or None."""

    async def account(self, api_base: str, api_key: str) -> str:
        """The name under which this key's records are kept: a keyed hash, never the key."""

    async def secret(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, the same for every server on this ledger (ours)."""

    async def claim(
        self,
        whose: Whose,
        wanted: Replacement,
        *,
        generated_seed: int,
        estimate: float | None,
        videos: VideoPolicy | None = None,
        source: SourceClip | None = None,
        agreed: float | None = None,
        quotas: Sequence[Quota] = (),
    ) -> Claim:
        """Find the record of an equal request, or create a new one in the state `intent`.

        If only a limit that will have room later prevents the new one, it becomes `queued` instead,
        provided that the limits allow queueing.

        A record is found while it is open, and for 15 minutes after its job was completed or lost.
        A request that names the seed which was generated for an earlier one is equal to that one.

        Args:
            wanted: the request as the caller made it, without a generated seed.
            generated_seed: the seed that is sent if the caller gave none.
            estimate: credits that the job will cost according to PixelDojo; None if that is not
                known. If the last job like this one cost more, that is recorded as the estimate.
            videos: what happens with the video; None leaves it to the process that saves videos.
            source: what is known of the source clip, which the inspection of the video needs.
            agreed: credits that the job may cost without asking the person (again); None if no
                question is needed.
            quotas: every limit that counts, the nearest first; empty for `limits`, against which
                everything on the wallet counts.

        Raises:
            LimitReached: a new record would exceed a spending limit. Of several, the error names
                the tightest one, and whose it is.
            PriceRose: the job is now expected to cost more than `agreed`.
        """

    async def equal(self, account: str, wanted: Replacement) -> Record | None:
        """The record that `claim` would find now; None if it would create a new one."""

    async def commit_sending(self, record: Record, sent: SentInputs | None = None) -> None:
        """The commit point: change `intent` to `sending`, directly before the first byte leaves.

        This is possible once per record, and only for the process that claimed it.

        Args:
            sent: how inputs that are not links are sent, by which the job is recognised in
                PixelDojo's list. None if all inputs are links.

        Raises:
            Fenced, LedgerUnavailable: nothing may be sent.
        """

    async def join(self, record: Record) -> None:
        """Record that another caller waits for a request, so that it is not withdrawn any more.

        A claim that finds a request which is not sent yet does this itself.
        """

    async def withdraw(self, record: Record) -> Record:
        """End a request of this process that is not sent yet and that no other caller waits for.

        Returns:
            The record, which is `not_sent` because it was withdrawn.

        Raises:
            Fenced: it was sent, another process owns it, or another caller waits for it.
        """

    async def accept(self, record: Record, job: Job) -> Record:
        """Record PixelDojo's answer to the request that this process sent.

        The job in it is paid for, so its id is recorded in every state of the record, and even if
        the record is missing: another process may have taken this one for dead, or the store may
        have lost its last commits. Only the process that claimed the record may call this.
        If the store has been moved or replaced, the job is kept elsewhere on disk until a process
        takes it into the right store, and the note of the record says so.

        Returns:
            The record with the job id. It has a new submission id if another job was recorded for
            this request in the meantime.
        """

    async def match(self, record: Record, job: Job) -> Record:
        """Record the job that PixelDojo's list shows for a request of unknown outcome.

        Raises:
            Fenced: the outcome is known already, or the job belongs to another request.
        """

    async def conclude(self, record: Record, state: State, why: str) -> Record:
        """End a request as refused, not_sent or unknown, or an accepted job as lost.

        Args:
            why: the reason, in a sentence that callers can read.

        Raises:
            Fenced: this state cannot follow the state of the record, see `rules.MAY_FOLLOW`.
        """

    async def record_update(self, whose: Whose, job: Job) -> Recorded:
        """Record what PixelDojo reports about a job, in whichever workspace of the wallet it is.

        A job that is not in the ledger gets a record, which does not count as spending. On a shared
        wallet it belongs to nobody.

        Returns:
            The record of that workspace; if it has none, another one of the job.
        """

    async def settled(self, submission_id: str, seconds: float) -> Record:
        """Wait until the request is no longer under way, in whichever process it runs.

        Returns:
            The record then, or after `seconds` at the latest, whatever its state.
        """

    async def find(self, account: str, id: str) -> Record | None:
        """The account's record with that job id or submission id; None if there is none."""

    async def recent(
        self, account: str, states: frozenset[State] | None = None, limit: int = 10
    ) -> list[Record]:
        """All live records and the newest `limit` others, newest first.

        Args:
            states: of the records that are not live, only those in these states; None for all.
        """

    async def in_wallet(self, wallet: str, limit: int) -> list[Record]:
        """The records of all workspaces of a wallet, as `recent` lists those of one."""

    async def page(
        self, account: str, states: frozenset[State] | None, limit: int, after: Cursor | None
    ) -> Page | None:
        """A page of the list whose first page `recent` shows, and the totals, in one read.

        After a live record follow the live ones behind it and the newest ended ones; after an ended
        one follow the ended ones behind it. A record that was live when its page was made, and has
        ended since, may be shown twice; none is left out.

        Args:
            states, limit: as for `recent`.
            after: where the page begins; None for the first page.

        Returns:
            None if the account has no such record.
        """

    async def charges(self, account: str) -> list[Charge]:
        """The charges for the newest jobs that this ledger has submitted, newest first."""

    @property
    def limits(self) -> SpendingLimits:
        """The spending limits of the operator."""

    async def credits(
        self, whose: Whose, estimate: float | None, quotas: Sequence[Quota] = ()
    ) -> AccountCredits:
        """What was spent, the balance, and whether the limits allow a job of that price now.

        Args:
            estimate: credits of the job; None if its price is not known.
            quotas: as for `claim`.
        """

    async def unknowns(self, wallet: str) -> list[Record]:
        """The wallet's records of unknown outcome, oldest first."""

    async def record_check(
        self, record: Record, findings: str, next_in: float | None, reading: ListReading
    ) -> Record:
        """Record what a reading of the job list showed about a request of unknown outcome.

        Args:
            findings: what it showed, in a sentence.
            next_in: seconds until the list is to be read again; None for only on demand.
            reading: how much the list said.

        Raises:
            Fenced: the outcome is known already.
        """

    async def recover(self) -> list[Record]:
        """Settle the records of dead processes: `intent` becomes not_sent, `sending` unknown.

        Paid jobs that were kept elsewhere while the store was away get their records too.

        This also happens whenever a process opens the ledger, and in every claim.

        Returns:
            The records that this call changed.
        """

    async def aclose(self) -> None:
        """Close the store and give up the ownership of records.

        What this process leaves unsettled is settled by the next `recover` of another process.
        """
