"""What a running server for a team holds: everything is found by the caller of the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING

import anyio

from wan_mcp.app.audit import Audit
from wan_mcp.app.base import SERVICE_DRAIN_SECONDS, Base, Plan, Services, limits_of
from wan_mcp.app.own_keys import LIMITS, OwnKeys
from wan_mcp.app.quotas import quotas_of
from wan_mcp.app.wallets import OpenWallets
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.rules import may_be_joined
from wan_mcp.ledger.threaded import figures
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.surface.video_views import VideoViews
from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.tenants.current import current_caller
from wan_mcp.tenants.seat import NoWallet, Seat, WalletKey, user_of
from wan_mcp.wording import counted

if TYPE_CHECKING:
    from wan_mcp.inputs.received.reception import Reception
    from wan_mcp.ledger.wallets.quotas import Quota
    from wan_mcp.logs.facts import Figures
    from wan_mcp.tenants.directory import StoredDirectory


class TeamApp:
    """What a running server holds whose callers have signed in.

    Args:
        plan: what it is to be. The key of its settings is not used.
        directory: who the callers are, and what they work with.
    """

    def __init__(self, plan: Plan, directory: StoredDirectory) -> None:
        self._plan = plan
        self._directory = directory
        self._limits = limits_of(plan.settings)
        self._audit = Audit(directory, plan.clock)
        self._drained_at: float | None = None

    @cached_property
    def _base(self) -> Base:
        return Base.open(self._plan)

    @cached_property
    def _wallets(self) -> OpenWallets:
        return OpenWallets(self._base, self._directory, self._quotas, self._audit.note)

    async def services(self) -> Services:
        """What the caller of this request works with.

        Raises:
            NoKey: they have no wallet, or its key cannot be opened.
            LedgerUnavailable: it cannot be known now.
        """
        with self._naming_page():
            seat = await self._seat()
        jobs = self._wallets.jobs(_key(seat), seat.workspace)
        return Services(jobs, VideoViews(jobs, self._base.files))

    @property
    def reception(self) -> Reception | None:
        """Takes the files that users upload, by their tickets; None where they cannot."""
        return None if self._plan.upload_page is None else self._base.inputs.reception

    @cached_property
    def own_keys(self) -> OwnKeys | None:
        """Takes the PixelDojo keys that users store; None where they cannot."""
        plan, base, page = self._plan, self._plan.settings.api_base, self._plan.key_page
        if page is None:
            return None
        connect = partial(
            PixelDojo, base, agent=plan.agent, limits=LIMITS, transport=plan.transport
        )
        return OwnKeys(self._directory, base, connect, plan.clock.monotonic, page)

    async def request_state_key(self) -> bytes:
        """The key that seals what a question to this caller carries, as `App` has it.

        Raises:
            NoKey, LedgerUnavailable: as `services`.
        """
        workspace = (await self._seat()).workspace
        return await self._base.ledger.secret(f"request state of {workspace}")

    async def run(self) -> None:
        """Work for the wallets with work to do, also while nobody is connected."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._base.inputs.run)
            tasks.start_soon(self._audit.run)
            tasks.start_soon(self._wallets.run)

    async def missing(self) -> Mapping[str, str]:
        """What it lacks to take every call, a sentence each; empty if nothing."""
        missing = dict(await figures.missing(self._base.ledger))
        try:
            closed = await self._directory.closed()
        except IdentityUnknown as exc:
            return {"people": str(exc), **missing}
        if closed:
            missing["keys"] = f"The key ring does not open the keys of {counted(closed, 'wallet')}."
        return missing

    async def figures(self) -> Figures:
        """What the ledger knows now of all jobs, whosever they are."""
        return await figures.of_all(self._base.ledger)

    async def drain(self) -> None:
        """Begin no more payments, end all waits, and wait a short time for payments in progress."""
        now, until = self._plan.clock.monotonic(), self._drained_at
        self._drained_at = now + SERVICE_DRAIN_SECONDS if until is None else until
        await self._wallets.drain(max(self._drained_at - now, 0.0))

    async def aclose(self) -> None:
        """Close the connections and the ledger."""
        with anyio.CancelScope(shield=True):
            await self._audit.aclose()
            await self._directory.aclose()
            await self._base.files.aclose()
            await self._base.ledger.aclose()

    async def _seat(self) -> Seat:
        caller = current_caller()
        if caller is None:
            raise NoWallet("Nobody has signed in, so there is no wallet.")
        with _as_ledger_errors():
            return await self._directory.seat(caller.user)

    @contextmanager
    def _naming_page(self) -> Iterator[None]:
        """Within it, callers without a wallet learn where they can store a key of their own."""
        try:
            yield
        except NoWallet as refused:
            page, caller = self._plan.key_page, current_caller()
            if page and caller and page.is_for(caller):
                refused.name_page(page.url)
            raise

    async def _quotas(self, workspace: str, *, fresh: bool = False) -> Sequence[Quota]:
        """The limits of a workspace: see `ledger.queueing.contract.QuotasOf`."""
        with _as_ledger_errors(), self._naming_page():
            seat = await self._directory.seat(user_of(workspace), fresh=fresh)
        if seat.workspace != workspace:
            moved = NoWallet("This user pays with another wallet now.", next_step=_LOOK_FIRST)
            if not await self._may_have_an_equal_job(workspace):
                moved.retry_safe, moved.next_step = True, _CALL_AGAIN
            raise moved
        if fresh:  # another seat may be of before a change of the key
            self._wallets.renew(_key(seat))
        return quotas_of(seat, self._limits)

    async def _may_have_an_equal_job(self, workspace: str) -> bool:
        """Whether a call on this workspace could still return an earlier job, and not pay again."""
        records = await self._base.ledger.recent(workspace, None, _MOST_ENDED)
        return any(may_be_joined(each, self._plan.clock.wall()) for each in records)


_MOST_ENDED = 100
"""How many of the newest ended jobs are looked at (ours), besides all that have not ended."""
_CALL_AGAIN = "Nothing was charged. Call again: the new wallet pays then."
_LOOK_FIRST = (
    "This call charged nothing. The wallet that paid for this user before may have an equal job, "
    "which is not shown here. Tell the user to ask the operator of this server, or to look "
    "whether the video was made, before you repeat the call: the new wallet would pay for it."
)


def _key(seat: Seat) -> WalletKey:
    return WalletKey(seat.wallet, seat.api_base, seat.api_key)


@contextmanager
def _as_ledger_errors() -> Iterator[None]:
    """Within it, what cannot be known of people is what cannot be known of the ledger."""
    try:
        yield
    except IdentityUnknown as exc:
        raise LedgerUnavailable(str(exc), transient=True) from None
