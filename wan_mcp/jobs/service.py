"""Jobs of one account: submit, check, watch, list. The rules of money and time are beside."""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from wan_mcp.errors import CouldNotFindOut, WanError
from wan_mcp.jobs.clock import Clock
from wan_mcp.jobs.ledger import Claim, Ledger
from wan_mcp.jobs.payments import Payments
from wan_mcp.jobs.price import Price
from wan_mcp.jobs.reading import TROUBLE, Account, Reader, passes
from wan_mcp.jobs.reconcile import Reconciler
from wan_mcp.jobs.schedule import poll_delay, retry_delay
from wan_mcp.jobs.standing import Standing, of_row, states_of
from wan_mcp.models import JobStatus, Replacement

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

ANSWER_SECONDS = 4.0
"""How long a submit waits for PixelDojo before it answers with our handle: one agent SDK gives a
whole call 5 s."""
CHECK_TRIES = 3
CHECK_SECONDS = 10.0
FIRST_LOOK_SECONDS = 3.0
FILM_LOOKS = 3
"""How often a completed job without a link to its film is read once more."""


@dataclass(frozen=True)
class Submitted:
    """What became of a submit.

    Attributes:
        joined: an equal request stood already, and nothing new was bought.
        resigned: it is equal but for what follows the ? of a link.
    """

    standing: Standing
    joined: bool
    resigned: bool = False


@dataclass(frozen=True)
class News:
    """What one look at a job brought.

    Attributes:
        standing: what is known; None when nothing is.
        elapsed: seconds since the job was accepted; None when nothing tells.
        trouble: why the look failed, when it did; `standing` is then what was known before.
    """

    standing: Standing | None = None
    elapsed: float | None = None
    trouble: WanError | None = None

    def known(self) -> Standing:
        """The standing. Raises what kept us from learning of it."""
        if self.standing is None:
            raise self.trouble or CouldNotFindOut("There was no time to ask PixelDojo.")
        return self.standing


class Jobs:
    """Jobs of one account.

    Args:
        vendor: the account's PixelDojo.
        ledger: where paid requests are written down; when it cannot be used, paid calls are
            refused and reads go on.
        account: finds the account's name in the ledger.
        tasks: the server's own tasks: payments run there and outlive the calls.
        clock: time and chance.
    """

    def __init__(
        self,
        vendor: "PixelDojo",
        ledger: Ledger,
        account: Account,
        tasks: TaskGroup,
        clock: Clock,
    ) -> None:
        self.clock = clock
        self._vendor = vendor
        self._ledger = ledger
        self._account = account
        self._price = Price(vendor, clock)
        self._reconciler = Reconciler(vendor, ledger, clock)
        self._payments = Payments(vendor, ledger, tasks, clock, self._reconciler.wake)
        self._reader = Reader(vendor, ledger, account, self._reconciler, clock)

    async def reconcile(self) -> None:
        """Look up lost answers in the background, for ever."""
        await self._reconciler.run(self._account)

    def require_key(self) -> None:
        """Raises NoKey when no API key is configured."""
        self._vendor.require_key()

    async def estimate(self) -> float | None:
        """Credits that a job is said to cost; None when that cannot be had."""
        return await self._price.estimate()

    async def joins(self, wanted: Replacement) -> bool:
        """Whether an equal request stands already, so that a submit would buy nothing."""
        return await self._ledger.equal(await self._account(), wanted) is not None

    async def submit(self, wanted: Replacement, estimate: float | None = None) -> Submitted:
        """Have a request paid at most once; an equal one that stands is joined.

        Answers within ANSWER_SECONDS, with status "submitting" if need be. Being cancelled leaves
        the payment to finish by itself.

        Args:
            estimate: the price that a person has agreed to; asked for when left out.

        Raises:
            Refused, NotSent: nothing was charged.
            OutcomeUnknown: a charge is possible.
        """
        until = self.clock.monotonic() + ANSWER_SECONDS
        self._vendor.require_key()
        estimate = await self.estimate() if estimate is None else estimate
        with anyio.CancelScope(shield=True):  # a claimed row must not be left without its payment
            # asyncio's shield too: a task that is cancelled by asyncio itself passes anyio's.
            claim = await asyncio.shield(asyncio.create_task(self._claim(wanted, estimate)))
        left = until - self.clock.monotonic()
        standing = await self._payments.settled(claim.row.handle, left) or of_row(claim.row)
        return Submitted(standing, joined=not claim.mine, resigned=claim.resigned)

    async def check(self, id: str) -> News:
        """One job as it stands now; an ended one is told from the ledger.

        Raises:
            NotFound: PixelDojo does not know the id, or the account has no such handle.
            Refused, CouldNotFindOut: it could not be asked.
        """
        deadline = self.clock.monotonic() + CHECK_SECONDS
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._news(await self._reader.look(id, deadline - self.clock.monotonic()))
            except TROUBLE as trouble:
                pause = trouble.retry_after or retry_delay(attempt, self.clock.chance())
                late = self.clock.monotonic() + pause >= deadline
                if late or attempt >= CHECK_TRIES or not passes(trouble):
                    raise
                await self.clock.sleep(pause)

    async def watch(self, id: str, seconds: float) -> AsyncGenerator[News, None]:
        """The job's news, one for each look, until it ended or the time is up.

        A look that fails is news too: a busy vendor means "wait on".

        Raises:
            NotFound: PixelDojo does not know the id, or the account has no such handle.
            Refused, CouldNotFindOut: asking again would not help.
        """
        deadline = self.clock.monotonic() + seconds
        news = self._news(await self._reader.known(id))
        if _is_new(news) and seconds > 0:
            yield news  # just accepted: the first read comes after its delay
            await self._pause(news, deadline)
        without_film = 0
        while True:
            news = await self._look(id, deadline, news)
            yield news
            without_film += news.standing is not None and news.standing.is_without_film
            settled = news.standing is not None and news.standing.settled
            over = settled or without_film > FILM_LOOKS
            if over or self.clock.monotonic() >= deadline:
                return
            await self._pause(news, deadline)

    async def recent(self, status: JobStatus | None, limit: int) -> list[Standing]:
        """Newest first: all that is live or unknown, and the newest `limit` others of a status.

        Raises:
            LedgerUnavailable: only the ledger has them.
        """
        states = None if status is None else states_of(status)
        rows = await self._ledger.recent(await self._account(), states, limit)
        return [of_row(row) for row in rows]

    async def drain(self, seconds: float) -> None:
        """Let running payments finish, at most so long."""
        await self._payments.drain(seconds)

    async def _claim(self, wanted: Replacement, estimate: float | None) -> Claim:
        seed = secrets.randbelow(2**31)
        claim = await self._ledger.claim(
            await self._account(), wanted, planted_seed=seed, estimate=estimate
        )
        if claim.mine:
            self._payments.start(claim.row, wanted.model_copy(update={"seed": claim.row.seed}))
        return claim

    async def _look(self, id: str, deadline: float, before: News) -> News:
        left = deadline - self.clock.monotonic()
        standing = before.standing
        if standing is not None and standing.status is JobStatus.SUBMITTING and standing.row:
            await self._ledger.settled(standing.row.handle, max(left, 0.0))
        try:
            return self._news(await self._reader.look(id, left))
        except TROUBLE as trouble:
            if not passes(trouble):
                raise
            return self._news(before.standing, trouble)

    def _news(self, standing: Standing | None, trouble: WanError | None = None) -> News:
        elapsed = None if standing is None else standing.age(self.clock.wall())
        return News(standing, elapsed, trouble)

    async def _pause(self, news: News, deadline: float) -> None:
        delay = poll_delay(news.elapsed or 0.0, self.clock.chance())
        asked = (news.trouble and news.trouble.retry_after) or 0.0
        left = deadline - self.clock.monotonic()
        await self.clock.sleep(max(min(max(delay, asked), left), 0.0))


def _is_new(news: News) -> bool:
    running = news.standing is not None and news.standing.status is JobStatus.RUNNING
    return running and news.elapsed is not None and news.elapsed < FIRST_LOOK_SECONDS
