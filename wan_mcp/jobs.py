"""The jobs of one workspace: submit, check, watch, list.

The rules of money are in `wan_mcp.payments` and `wan_mcp.ledger`, the rules of time in
`wan_mcp.polling`.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock
from wan_mcp.errors import InvalidArguments, OutcomeUnknown
from wan_mcp.ledger.contract import Claim, Ledger, VideoPolicy
from wan_mcp.ledger.coordination import Account
from wan_mcp.ledger.expected_price import CreditReport, ExpectedPrice, Totals, expected_price
from wan_mcp.ledger.fingerprint import has_links_only
from wan_mcp.ledger.queueing.contract import QuotasOf
from wan_mcp.ledger.record import State
from wan_mcp.ledger.rules import lookups
from wan_mcp.ledger.status import JobView, Reading, states_of, unknown_before, view_of_record
from wan_mcp.ledger.wallets.workspace import CallersWorkspace, Workspace
from wan_mcp.models import Cursor, InputReport, JobStatus, Replacement, SourceClip
from wan_mcp.payments.acts import NoteAct
from wan_mcp.payments.credits import Credits
from wan_mcp.payments.input_check import InputCheck, Preflight
from wan_mcp.payments.under_limits import under_limits
from wan_mcp.polling.durations import TypicalDuration
from wan_mcp.polling.job_reader import JobReader
from wan_mcp.polling.queue_places import QueuePlaces
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.polling.several import SeveralWaits
from wan_mcp.polling.wallet_work import WalletWork
from wan_mcp.polling.withdrawals import Withdrawals
from wan_mcp.videos.saver import Archive, Inspect, VideoSaver

if TYPE_CHECKING:
    from wan_mcp.payments.staging import StagingOf
    from wan_mcp.pixeldojo.client import PixelDojo

SUBMIT_SECONDS = 1.0
"""How much of ANSWER_SECONDS is left for the submit itself when the preflight has its time."""
PROGRESS_SECONDS = 2.0
"""How often a wait says how far an upload is (ours)."""
ANSWER_SECONDS = 3.8
"""After this time a submit answers with its submission id, even if PixelDojo has not answered: so
its caller has the answer within 4 s. One agent SDK allows 5 s for a whole call (observed
elsewhere)."""


class Jobs:
    """Jobs of one workspace, and what is done for its whole wallet.

    Args:
        vendor: sends requests to PixelDojo with the wallet's key.
        ledger: the database of all paid requests. While it cannot be used, paid calls are
            refused and reads continue.
        account: returns the name of the wallet in the ledger; its only user has the same name.
        limiter: keeps the requests of the key below PixelDojo's limit per minute.
        tasks: the server's own tasks. Payments run in them and outlive the calls.
        clock: time and randomness.
        preflight: inspects both inputs before a job is paid; None for no preflight.
        archive: opens the folder in which finished videos are saved; None to save none.
        videos: where the videos of jobs that are submitted here are saved. The saver obeys it,
            even if it runs in another process with other settings.
        inspect: compares a saved video with its order; None to compare none.
        staging: makes inputs available that are no links, opened when the first is given; None
            where all must be links.
        quotas: the limits of each workspace; None if those of the ledger count for all together.
        note: as for `Payments`.

    Attributes:
        work: what is done for the whole wallet.
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
        inspect: Inspect | None = None,
        staging: "StagingOf | None" = None,
        quotas: QuotasOf | None = None,
        note: NoteAct | None = None,
    ) -> None:
        self.clock = clock
        self._staging = staging
        self._vendor = vendor
        self._ledger = ledger
        self._videos = videos
        self._inputs = InputCheck(preflight, staging, clock)
        self.work = WalletWork(
            vendor, ledger, account, limiter, tasks, clock, self._inputs, staging, quotas, note
        )
        coordination = ledger.coordination
        self._saver = archive and VideoSaver(archive, videos, coordination, account, clock, inspect)
        self._price, self._payments = self.work.price, self.work.payments
        self._serve(account)

    def of(self, workspace: Workspace, videos: VideoPolicy | None = None) -> "Jobs":
        """The jobs of another workspace of this wallet. Only one of them all is to be `run`."""
        other = copy(self)
        other._videos = videos or self._videos
        other._serve(workspace.itself)
        return other

    def _serve(self, workspace: CallersWorkspace) -> None:
        """Make what concerns one workspace only."""
        ledger, clock, vendor, work = self._ledger, self.clock, self._vendor, self.work
        coordination = ledger.coordination
        self._workspace = workspace
        self._credits = Credits(vendor, ledger, workspace, work.price, work.quotas)
        self._reader = JobReader(vendor, ledger, coordination, workspace, work.reconciler, clock)
        saves = self._videos is not None and bool(self._videos.folder)
        self._waits = SeveralWaits(self._reader, work.watchers, clock, saves_videos=saves)
        self._typical = TypicalDuration(coordination, workspace, clock)
        self._withdrawals = Withdrawals(ledger, self._payments, self._reader)
        self._places = QueuePlaces(ledger, workspace, self._typical, work.quotas)

    async def _name(self) -> str:
        return Workspace.of(await self._workspace()).name

    async def run(self) -> None:
        """Do what is to be done for the whole wallet, until cancelled: see `WalletWork.run`."""
        await self.work.run(() if self._saver is None else (self._saver.run,))

    async def typical(self) -> float | None:
        """Seconds that a job of this account typically takes; None while too few have ended."""
        return await self._typical.seconds()

    @property
    def ledger_notice(self) -> str | None:
        """What a reader of the jobs has to know about the ledger; None for nothing."""
        return self._ledger.notice

    @property
    def inspects(self) -> bool:
        """Whether both inputs are inspected before a job is paid for."""
        return self._inputs.looks

    def require_key(self) -> None:
        """Raises NoKey when no API key is configured."""
        self._vendor.require_key()

    async def estimate(self, wanted: Replacement | None = None) -> float | None:
        """Credits that a job costs, as PixelDojo states; None if it cannot be read.

        Args:
            wanted: the job; left out, only a price that every job has is returned.
        """
        page = await self._price.read()
        if wanted is None:
            return page.of_every_job
        return page.credits(wanted.seconds, wanted.resolution)

    async def credits(self, wanted: Replacement) -> CreditReport:
        """What is known about the credits of the account, and of a job of this size. Free."""
        return await self._credits.report(wanted)

    async def price(self, wanted: Replacement) -> ExpectedPrice:
        """What a request will probably cost, as PixelDojo states and as it last charged.

        Raises:
            LedgerUnavailable: what was charged cannot be read.
        """
        named, account = await self.estimate(wanted), await self._name()
        return expected_price(named, wanted, await self._ledger.charges(account))

    async def located(self, wanted: Replacement, roots: Sequence[Path] = ()) -> Replacement:
        """The same request as every other method takes it: see `payments.sources.Sources.located`.

        Raises:
            Refused, NotSent: an input is a file or an earlier job, and cannot be used (yet).
        """
        if has_links_only(wanted):
            return wanted
        if self._staging is None:
            raise InvalidArguments("This server takes only links as inputs.")
        return await self._staging(self._workspace).sources.located(wanted, roots)

    async def joins(self, wanted: Replacement) -> bool:
        """Whether an equal request exists already, so that a submit would buy nothing."""
        return await self._ledger.equal(await self._name(), wanted) is not None

    async def join(self, wanted: Replacement) -> JobView | None:
        """The equal request that exists already; None when there is none. Buys nothing, ever.

        Looking for one first and submitting afterwards would buy if that request ended in between.

        Raises:
            NotSent, Refused, OutcomeUnknown: that request bought nothing, or may have.
        """
        account = await self._name()
        record = await self._ledger.equal(account, wanted)
        if record is None:
            return None
        keys = {fingerprint.exact_key for fingerprint, _ in lookups(account, wanted)}
        await self.keep(record.submission_id)
        claim = Claim(record, created=False, query_differs=record.exact_key not in keys)
        view = await self._settled(claim, ANSWER_SECONDS)
        return replace(view, joined=True, query_differs=claim.query_differs)

    async def submit(
        self,
        wanted: Replacement,
        estimate: float | None = None,
        agreed: float | None = None,
        began: float | None = None,
    ) -> JobView:
        """Pay for a request at most once. If an equal request exists already, return its job.

        It answers within ANSWER_SECONDS, with the status "submitting" if the payment takes
        longer. If this call is cancelled, the payment continues.

        Args:
            estimate: the expected price in credits, if it is known already; None to ask PixelDojo.
            agreed: the price in credits to which a person has agreed; None if nobody was asked, or
                about a price that is not known.
            began: when the call began, on the monotonic clock, if it has done something before.

        Raises:
            Refused, NotSent: nothing was charged. PriceRose: the person has to be asked again.
            OutcomeUnknown: a charge is possible, by this call or by the equal one before it.
        """
        until = (self.clock.monotonic() if began is None else began) + ANSWER_SECONDS
        self._vendor.require_key()
        # Not a task group, because it would wrap the errors that either of them raises.
        report, estimate = await asyncio.gather(
            self._report_on(wanted, until - SUBMIT_SECONDS), self._price_of(wanted, estimate)
        )
        with anyio.CancelScope(shield=True):  # a claimed record must not stay without payment
            # asyncio's shield too: anyio's does not hold when asyncio itself cancels the task.
            claim = await asyncio.shield(
                asyncio.create_task(self._claim(wanted, estimate, agreed, report.source))
            )
        left = until - self.clock.monotonic()
        view = await self._settled(claim, left)
        price = ExpectedPrice(estimate, claim.record.estimate if claim.created else None)
        return replace(
            view,
            joined=not claim.created,
            query_differs=claim.query_differs,
            notes=tuple(filter(None, [*report.notes, price.why])),
        )

    async def known(self, id: str) -> JobView | None:
        """What the ledger knows of a submission id or job id, without asking PixelDojo.

        Raises:
            NotFound: the account has no such submission id.
        """
        view = await self._reader.known(id)
        return None if view is None else await self._shown(view)

    async def keep(self, id: str) -> None:
        """Record that another caller waits for a request, so that it is not withdrawn any more."""
        await self._withdrawals.keep(id)

    async def withdraw(self, id: str) -> JobView:
        """Withdraw a request that its caller gave up, and return its state after that.

        It is withdrawn only while it is queued, or this process pays it and nothing of it was sent,
        and no other caller waits for it. PixelDojo cannot cancel a job: everything else goes on.

        Raises:
            NotFound, Refused, CouldNotFindOut: as `check`.
        """
        await self._withdrawals.withdraw(id)
        return await self.known(id) or await self.check(id)

    async def cancel(self, id: str) -> tuple[JobView, JobView]:
        """Withdraw a request because its user wants that: what was known before, and is after.

        Raises NotFound, LedgerUnavailable: only the ledger knows the requests.
        """
        before = await self._withdrawals.cancel(id)
        return before, await self.known(id) or before

    async def check(self, id: str) -> JobView:
        """The present state of one job: `Waits.check`."""
        return await self._shown(await self._waits.check(id))

    async def watch(self, id: str, seconds: float) -> AsyncGenerator[Reading, None]:
        """Updates until the job has ended or the time is up: `Waits.watch`.

        While this process makes the inputs of the request available, they say how far that is.
        """
        until = self.clock.monotonic() + seconds
        while self._payments.is_staging(id) and (left := until - self.clock.monotonic()) > 0:
            if view := await self.known(id):
                yield replace(view, elapsed_seconds=view.age(self.clock.wall()))
            await self._payments.staged(id, min(PROGRESS_SECONDS, left))
        left = max(until - self.clock.monotonic(), 0.0)
        async with aclosing(self._waits.watch(id, left)) as readings:
            async for reading in readings:
                yield await self._shown(reading) if isinstance(reading, JobView) else reading

    def watch_several(
        self, ids: Sequence[str], seconds: float
    ) -> AsyncGenerator[dict[str, Reading], None]:
        """Updates until all of these jobs have ended or the time is up: `SeveralWaits`."""
        return self._waits.watch_several(ids, seconds)

    async def recent(self, statuses: Collection[JobStatus] | None, limit: int) -> list[JobView]:
        """All live and unknown requests, and the newest `limit` others; the newest is first.

        Args:
            statuses: which statuses the others may have; None for any.

        Raises:
            LedgerUnavailable: only the ledger knows the requests.
        """
        states = None if statuses is None else states_of(statuses)
        records = await self._ledger.recent(await self._name(), states, limit)
        return await self._places.in_views([view_of_record(record) for record in records])

    async def page(
        self, statuses: Collection[JobStatus] | None, limit: int, after: Cursor | None = None
    ) -> tuple[list[JobView], Totals]:
        """A page of the list that `recent` begins, and the totals of all jobs: `Ledger.page`.

        Raises:
            InvalidArguments: the account has no record at the place where the page begins.
            LedgerUnavailable: only the ledger knows the requests.
        """
        states = None if statuses is None else states_of(statuses)
        page = await self._ledger.page(await self._name(), states, limit, after)
        if page is None:
            raise InvalidArguments(
                "The cursor leads nowhere in this user's list: it is of another account or "
                "ledger, or it was changed.",
                next_step="Call list_jobs without cursor, to begin with the newest jobs.",
            )
        views = await self._places.in_views([view_of_record(record) for record in page.records])
        return views, page.totals

    async def drain(self, seconds: float) -> None:
        """End the waits with what is known, and let payments finish for at most this time."""
        self._waits.close()
        await self._payments.drain(seconds)

    async def _shown(self, view: JobView) -> JobView:
        """The view, with how far its inputs are, or with its place in the queue."""
        return await self._places.in_view(self._payments.with_progress(view))

    async def _report_on(self, wanted: Replacement, until: float) -> InputReport:
        if not self._inputs.looks or await self.joins(wanted):
            return InputReport()  # a job that exists does not need its links any more
        return await self._inputs.report(self._workspace, wanted, until)

    async def _price_of(self, wanted: Replacement, known: float | None) -> float | None:
        return await self.estimate(wanted) if known is None else known

    async def _claim(
        self, wanted: Replacement, estimate: float | None, agreed: float | None, source: SourceClip
    ) -> Claim:
        workspace = Workspace.of(await self._workspace())
        claimed = partial(
            self._ledger.claim,
            workspace,
            wanted,
            generated_seed=secrets.randbelow(2**31),
            estimate=estimate,
            videos=self._videos,
            source=source,
            agreed=agreed,
        )
        claim = await under_limits(self.work.quotas, workspace.name, claimed)
        if claim.created and claim.record.state is State.INTENT:
            self._payments.start(claim.record, wanted)
        return claim

    async def _settled(self, claim: Claim, seconds: float) -> JobView:
        if claim.record.state is State.QUEUED:
            return await self._places.in_view(view_of_record(claim.record))
        try:
            settled = await self._payments.settled(claim.record.submission_id, seconds)
        except OutcomeUnknown as lost:
            if claim.created or lost.charged == "no":
                raise
            # This call joined an equal one: its error must say that only the other one may pay.
            raise unknown_before(claim.record, lost.what) from lost
        return await self._shown(settled or view_of_record(claim.record))
