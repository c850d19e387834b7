"""Jobs of one account: submit, check, watch, list. The rules of money and time are beside."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock
from wan_mcp.errors import OutcomeUnknown, Refused
from wan_mcp.ledger.contract import Claim, Ledger, VideoPolicy
from wan_mcp.ledger.coordination import Account
from wan_mcp.ledger.rules import lookups
from wan_mcp.ledger.status import JobView, Look, states_of, unknown_before, view_of_record
from wan_mcp.models import JobStatus, Replacement
from wan_mcp.payments.in_progress import Payments
from wan_mcp.payments.price import Price
from wan_mcp.payments.reconciliation import Reconciler
from wan_mcp.polling.durations import TypicalDuration
from wan_mcp.polling.job_list import JobListReader
from wan_mcp.polling.job_reader import JobReader
from wan_mcp.polling.poller import Poller
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.polling.waits import Waits
from wan_mcp.polling.watchers import Watchers
from wan_mcp.videos.saver import Archive, VideoSaver

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

PREFLIGHT_SECONDS = 3.0
"""How long both inputs are looked at before a submit: a second is left for the submit itself."""
ANSWER_SECONDS = 4.0
"""How long a submit waits for PixelDojo before it answers with our handle: one agent SDK gives a
whole call 5 s."""

logger = logging.getLogger(__name__)


class Preflight(Protocol):
    """A look at the inputs, which tells what it found; raises Refused for what cannot work."""

    async def __call__(self, wanted: Replacement, *, seconds: float) -> list[str]: ...


class Jobs:
    """Jobs of one account.

    Args:
        vendor: the account's PixelDojo.
        ledger: where paid requests are written down; when it cannot be used, paid calls are
            refused and reads go on.
        budget: how many requests the key may make.
        account: finds the account's name in the ledger.
        tasks: the server's own tasks: payments run there and outlive the calls.
        clock: time and chance.
        preflight: looks at the inputs before anything is paid, for at most so many seconds.
        archive: opens the place where finished videos are saved.
        videos: what becomes of the videos that are submitted here; the process that saves videos
            obeys it, whatever its own settings are.
    """

    def __init__(
        self,
        vendor: "PixelDojo",
        ledger: Ledger,
        account: Account,
        limiter: SharedRateLimiter,
        tasks: TaskGroup,
        clock: Clock,
        preflight: Preflight | None = None,
        archive: Callable[[VideoPolicy], Archive] | None = None,
        videos: VideoPolicy | None = None,
    ) -> None:
        self.clock = clock
        self._vendor = vendor
        self._ledger = ledger
        self._account = account
        self._price = Price(vendor, clock)
        self._reconciler = Reconciler(vendor, ledger, clock)
        self._payments = Payments(vendor, ledger, tasks, clock, self._reconciler.wake)
        coordination = ledger.coordination
        self._reader = reader = JobReader(
            vendor, ledger, coordination, account, self._reconciler, clock
        )
        listing = JobListReader(vendor, coordination, reader.record_update, limiter, clock)
        self._poller = Poller(coordination, account, reader, listing, limiter, clock)
        self._watchers = Watchers(coordination, clock)
        self._waits = Waits(
            reader, self._watchers, clock, saves_videos=videos is not None and bool(videos.folder)
        )
        self._videos = videos
        self._saver = archive and VideoSaver(archive, videos, coordination, account, clock)
        self._preflight = preflight
        self._typical = TypicalDuration(coordination, account, clock)

    async def run(self) -> None:
        """What goes on in the background, for ever: lost answers, polling, telling waiters."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.reconcile)
            tasks.start_soon(self._poller.run)
            tasks.start_soon(self._watchers.run)
            if self._saver is not None:
                tasks.start_soon(self._saver.run)

    async def reconcile(self) -> None:
        """Look up lost answers, for ever."""
        await self._reconciler.run(self._account)

    async def typical(self) -> float | None:
        """Seconds a job of this account typically takes; None while there are too few."""
        return await self._typical.seconds()

    def require_key(self) -> None:
        """Raises NoKey when no API key is configured."""
        self._vendor.require_key()

    async def estimate(self) -> float | None:
        """Credits that a job is said to cost; None when that cannot be had."""
        return await self._price.estimate()

    async def joins(self, wanted: Replacement) -> bool:
        """Whether an equal request exists already, so that a submit would buy nothing."""
        return await self._ledger.equal(await self._account(), wanted) is not None

    async def join(self, wanted: Replacement) -> JobView | None:
        """The equal request that exists already; None when there is none. Buys nothing, ever.

        A submit after a look whether there is one would buy when that request ended in between.

        Raises:
            NotSent, Refused, OutcomeUnknown: that request bought nothing, or may have.
        """
        account = await self._account()
        record = await self._ledger.equal(account, wanted)
        if record is None:
            return None
        keys = {fingerprint.exact_key for fingerprint, _ in lookups(account, wanted)}
        claim = Claim(record, created=False, query_differs=record.exact_key not in keys)
        view = await self._settled(claim, ANSWER_SECONDS)
        return replace(view, joined=True, query_differs=claim.query_differs)

    async def submit(self, wanted: Replacement, estimate: float | None = None) -> JobView:
        """Have a request paid at most once; an equal one that exists already is joined.

        Answers within ANSWER_SECONDS, with status "submitting" if need be. Being cancelled leaves
        the payment to finish by itself.

        Args:
            estimate: the price that a person has agreed to; asked for when left out.

        Raises:
            Refused, NotSent: nothing was charged.
            OutcomeUnknown: a charge is possible, by this call or by the one that it joined.
        """
        until = self.clock.monotonic() + ANSWER_SECONDS
        self._vendor.require_key()
        # Not a task group: what either raises must arrive as it is.
        notes, estimate = await asyncio.gather(self._look_at(wanted), self._price_of(estimate))
        with anyio.CancelScope(shield=True):  # a claimed row must not be left without its payment
            # asyncio's shield too: a task that is cancelled by asyncio itself passes anyio's.
            claim = await asyncio.shield(asyncio.create_task(self._claim(wanted, estimate)))
        left = until - self.clock.monotonic()
        view = await self._settled(claim, left)
        return replace(
            view,
            joined=not claim.created,
            query_differs=claim.query_differs,
            notes=tuple(notes),
        )

    async def known(self, id: str) -> JobView | None:
        """What the ledger has of a handle or job id, without asking PixelDojo.

        Raises:
            NotFound: the account has no such handle.
        """
        return await self._reader.known(id)

    async def check(self, id: str) -> JobView:
        """One job as it stands now: `Waits.check`."""
        return await self._waits.check(id)

    def watch(self, id: str, seconds: float) -> AsyncGenerator[Look, None]:
        """One look after another until the job has ended or the time is up: `Waits.watch`."""
        return self._waits.watch(id, seconds)

    async def recent(self, statuses: Collection[JobStatus] | None, limit: int) -> list[JobView]:
        """Newest first: all that is live or unknown, and the newest `limit` others.

        Args:
            statuses: of these others; None for any.

        Raises:
            LedgerUnavailable: only the ledger has them.
        """
        states = None if statuses is None else states_of(statuses)
        records = await self._ledger.recent(await self._account(), states, limit)
        return [view_of_record(record) for record in records]

    async def drain(self, seconds: float) -> None:
        """Let running payments finish, at most so long."""
        await self._payments.drain(seconds)

    async def _look_at(self, wanted: Replacement) -> list[str]:
        if self._preflight is None or await self.joins(wanted):
            return []  # a link that died since does not matter to a job that stands
        try:
            return await self._preflight(wanted, seconds=PREFLIGHT_SECONDS)
        except Refused:
            raise
        except Exception:
            # A look that breaks refuses nothing: what cannot be checked may well work.
            logger.exception("the look at the inputs broke")
            return []

    async def _price_of(self, agreed: float | None) -> float | None:
        return await self.estimate() if agreed is None else agreed

    async def _claim(self, wanted: Replacement, estimate: float | None) -> Claim:
        seed = secrets.randbelow(2**31)
        claim = await self._ledger.claim(
            await self._account(),
            wanted,
            generated_seed=seed,
            estimate=estimate,
            videos=self._videos,
        )
        if claim.created:
            self._payments.start(
                claim.record, wanted.model_copy(update={"seed": claim.record.seed})
            )
        return claim

    async def _settled(self, claim: Claim, seconds: float) -> JobView:
        try:
            settled = await self._payments.settled(claim.record.submission_id, seconds)
        except OutcomeUnknown as lost:
            if claim.created or lost.charged == "no":
                raise
            # The payment's own words, heard by a call that joined it: only the other one may pay.
            raise unknown_before(claim.record, lost.what) from lost
        return settled or view_of_record(claim.record)
