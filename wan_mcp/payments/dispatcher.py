"""Sends queued requests in turn. One process does so for all processes that share a ledger.

The requests of a wallet are sent one after the other: its workspaces take turns, and the requests
of each are sent in their order. While the files of a request are made available, which may take
minutes, requests of other workspaces are still sent. Another process takes over when the
dispatcher's lease expires, or as soon as its process is dead. Even then nothing is sent twice,
because a queued request is claimed like any other before it is sent.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import (
    NoKey,
    NotAllowed,
    NotSent,
    OutOfCredits,
    RateLimited,
    Refused,
    Unauthorized,
    WanError,
)
from wan_mcp.ledger.contract import Ledger, LedgerUnavailable
from wan_mcp.ledger.coordination import WATCH_TTL_SECONDS, Account, Role
from wan_mcp.ledger.queueing.contract import QuotasOf
from wan_mcp.ledger.queueing.order import order_of
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.payments.acts import reason_of
from wan_mcp.payments.in_progress import Outcome, Payments
from wan_mcp.payments.input_check import InputCheck
from wan_mcp.payments.price import Price
from wan_mcp.payments.under_limits import under_limits

LEASE_SECONDS = 20.0
"""If the dispatcher's process lives but does nothing, another one takes over after this time."""
ROUND_SECONDS = 1.0
"""How often the dispatcher looks whether there is room, besides after each change of its own."""
FOLLOWER_SECONDS = 5.0
"""How often a process looks whether anything is queued, and whether the dispatcher is gone."""
DEBOUNCE_SECONDS = 0.05
"""Changes that arrive within this time start one round."""
CHECK_SECONDS = 10.0
"""How long the second check of a request's inputs may take before it is sent (ours)."""
RETRY_SECONDS = 30.0
"""The pause after a request could not be sent for a reason that will pass (ours)."""
SLOW_DOWN_SECONDS = 60.0
"""The same when PixelDojo asks for fewer requests and names no time (ours)."""

MEETS_ALL = (Unauthorized, OutOfCredits, NotAllowed)
"""If PixelDojo refuses one request for one of these reasons, it would refuse all others, too."""

logger = logging.getLogger(__name__)


class Dispatcher:
    """Sends queued requests, as long as no other process does.

    Args:
        price: reads PixelDojo's model page again, because the price may have changed meanwhile.
        check: checks the inputs again, because a signed link may have expired.
        quotas: the limits of each workspace; None if all of them share the operator's limits.
    """

    def __init__(
        self,
        ledger: Ledger,
        wallet: Account,
        payments: Payments,
        price: Price,
        check: InputCheck,
        clock: Clock,
        quotas: QuotasOf | None = None,
    ) -> None:
        self._ledger = ledger
        self._wallet = wallet
        self._payments = payments
        self._price = price
        self._check = check
        self._clock = clock
        self._quotas = quotas
        self._renew_at = 0.0
        self._not_before = 0.0
        self._announce_at = 0.0
        self._sending: dict[str, Outcome] = {}

    async def run(self) -> None:
        """Send queued requests until cancelled."""
        coordination = self._ledger.coordination
        while True:
            changes = coordination.own_changes
            try:
                pause = await self._round(await self._wallet())
            except LedgerUnavailable:
                pause = FOLLOWER_SECONDS
            except Exception:
                # A defect here must not end the server, in whose tasks payments run.
                logger.exception("sending queued requests broke")
                pause = RETRY_SECONDS
            await self._clock.wait(partial(coordination.next_change, changes), pause)
            if coordination.own_changes != changes:
                await self._clock.sleep(DEBOUNCE_SECONDS)

    async def _round(self, wallet: str) -> float:
        """Send one request, if one is queued and there is room. Returns the pause after that."""
        await self._learn_of_ends(wallet)
        pause = await self._send_next(wallet)
        await self._learn_of_ends(wallet)
        return min(pause, ROUND_SECONDS) if self._sending else pause

    async def _send_next(self, wallet: str) -> float:
        quotas = await self._quotas_of_waiting(wallet)
        following = await self._ledger.queue.next(wallet, quotas)
        pause = self._not_before - self._clock.monotonic()
        if following is None or pause > 0 or self._payments.closing:
            return FOLLOWER_SECONDS
        if not await self._leads(wallet):
            return FOLLOWER_SECONDS
        if following.wait is None:
            await self._watch_running(wallet)
        if following.wait != 0:
            return min(following.wait or ROUND_SECONDS, FOLLOWER_SECONDS)
        estimate = await self._estimate(following.record)
        dispatched = partial(self._ledger.queue.dispatch, following.record, estimate)
        try:
            intent = await under_limits(self._quotas, following.record.account, dispatched)
        except NoKey:
            return ROUND_SECONDS  # the user has lost access to the wallet since the queue was read
        if intent is not None:
            await self._send(intent)
        return ROUND_SECONDS

    async def _quotas_of_waiting(self, wallet: str) -> dict[str, Sequence[Quota]] | None:
        """The quotas of each workspace whose turn it may be; None if none has its own.

        A workspace is left out while one of its requests is being sent, so that its order is kept.
        """
        if self._quotas is None:
            return None
        names = {record.account for record in await self._ledger.queue.waiting(wallet)}
        found: dict[str, Sequence[Quota]] = {}
        for name in sorted(names - self._sending.keys()):
            with suppress(NoKey):  # its user may no longer use the wallet: it is skipped
                found[name] = await self._quotas(name)
        return found

    async def _leads(self, wallet: str) -> bool:
        now = self._clock.monotonic()
        if now < self._renew_at:
            return True
        leads = await self._ledger.coordination.lead(wallet, Role.DISPATCHER, LEASE_SECONDS)
        self._renew_at = now + LEASE_SECONDS / 2 if leads else 0.0
        if leads:  # not in every round: it changes the ledger, which starts another round
            await self._ledger.recover()  # so that no dead process occupies a place
        return leads

    async def _watch_running(self, wallet: str) -> None:
        """Have the running jobs read as often as if a call waited for them: the queue does."""
        now = self._clock.monotonic()
        if now >= self._announce_at:
            self._announce_at = now + WATCH_TTL_SECONDS / 2
            coordination = self._ledger.coordination
            running = [record.submission_id for record in await coordination.live(wallet)]
            await coordination.expect(running, WATCH_TTL_SECONDS)

    async def _estimate(self, record: Record) -> float | None:
        """What a request costs now; if that cannot be read, what it was expected to cost."""
        order = order_of(record)
        if order is None:
            return record.estimate
        page = await self._price.read()
        now = page.credits(order.wanted.seconds, order.wanted.resolution)
        return record.estimate if now is None else now

    async def _send(self, intent: Record) -> None:
        order = order_of(intent)
        assert order is not None  # it was dispatched
        try:
            until = self._clock.monotonic() + CHECK_SECONDS
            await self._check.report(intent.workspace.itself, order.wanted, until)
        except (NotSent, Refused) as refusal:
            why = reason_of(refusal, alone=intent.workspace.is_alone)
            text = f"When its turn came, its inputs could not be used. {why}"
            await self._ledger.conclude(intent, State.NOT_SENT, text)
            return
        except BaseException:  # the server is stopping, and the request was not sent
            with anyio.CancelScope(shield=True):
                await self._ledger.queue.put_back(intent)
            raise
        self._sending[intent.account] = self._payments.start(intent, order.wanted)

    async def _learn_of_ends(self, wallet: str) -> None:
        """Learn how sent requests ended. Waits only for those that hold up all others."""
        for workspace, outcome in list(self._sending.items()):
            while self._holds_up_all(outcome):
                await self._leads(wallet)
                await self._clock.wait(outcome.done.wait, LEASE_SECONDS / 2)
            if outcome.done.is_set():
                del self._sending[workspace]
                await self._learn_from(wallet, outcome.failure)
        if self._sending:
            await self._leads(wallet)  # otherwise another process would send the requests behind it

    def _holds_up_all(self, outcome: Outcome) -> bool:
        """Whether nothing else may be sent now: there is one workspace only, or its POST runs."""
        is_alone = self._quotas is None
        return not outcome.done.is_set() and (is_alone or outcome.payment.staged.is_set())

    async def _learn_from(self, wallet: str, failure: Exception | None) -> None:
        """Draw the conclusions from the end of one request for the others."""
        now = self._clock.monotonic()
        match failure:
            case WanError() if isinstance(failure, MEETS_ALL):
                why = reason_of(failure, alone=self._quotas is None)
                text = f"An earlier request of the queue was refused. {why}"
                ended = await self._ledger.queue.end_all(wallet, text)
                logger.warning("%d queued requests were ended: %s", len(ended), failure.code)
            case RateLimited(retry_after=pause):
                self._not_before = now + (pause or SLOW_DOWN_SECONDS)
            case LedgerUnavailable() | NotSent(transient=True):
                self._not_before = now + RETRY_SECONDS
