"""The ledger on any engine."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import anyio

from wan_mcp.errors import WanError
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import (
    Asked,
    Claim,
    LedgerUnavailable,
    Page,
    Recorded,
    VideoPolicy,
)
from wan_mcp.ledger.coordination import Acquired, Coordination, Limit, Role, Rule
from wan_mcp.ledger.expected_price import AccountCredits, Charge
from wan_mcp.ledger.history.added_up import add_up
from wan_mcp.ledger.queueing.contract import Queue
from wan_mcp.ledger.record import ListReading, Record, SentInputs, State
from wan_mcp.ledger.session import Engine
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.threaded.queue import ThreadedQueue
from wan_mcp.ledger.threaded.store import Opened, Store, recover
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Whose, Workspace
from wan_mcp.models import Cursor, Difference, Job, Replacement, SourceClip


class ThreadedLedger:
    """`Ledger` on any engine.

    Args:
        limits: what the operator allows; also an attribute.
        poll_seconds: how often `settled` looks for changes by other processes.
        reading: opens a second session, in a thread of its own, for what a payment must not wait
            for; None to do everything in one.
        wait_seconds: how long work that may be refused waits for its turn, see `turns`; None for as
            long as it takes.
    """

    def __init__(
        self,
        engine: Engine,
        limits: SpendingLimits,
        poll_seconds: float,
        *,
        reading: Engine | None = None,
        wait_seconds: float | None = None,
    ) -> None:
        self.limits = limits
        self._poll_seconds = poll_seconds
        self._store = Store(engine, wait_seconds)
        self._reading = self._store if reading is None else Store(reading, wait_seconds)
        self.coordination: Coordination = ThreadedCoordination(self._store, self._reading)
        self.queue: Queue = ThreadedQueue(self._store, self._reading, limits)

    @property
    def notice(self) -> str | None:
        return self._reading.notice

    async def account(self, api_base: str, api_key: str) -> str:
        return await self._reading.read(lambda store: store.requests.account(api_base, api_key))

    async def secret(self, purpose: str) -> bytes:
        return await self._reading.read(lambda store: store.requests.secret(purpose))

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
        asked = Asked(
            Workspace.of(whose),
            wanted,
            generated_seed,
            estimate,
            quotas or (Quota(self.limits),),
            videos,
            source or SourceClip(),
            agreed,
        )
        return await self._store.write(lambda store: store.requests.claim(asked), refusable=True)

    async def equal(self, account: str, wanted: Replacement) -> Record | None:
        return await self._store.read(lambda store: store.requests.equal(account, wanted))

    async def commit_sending(self, record: Record, sent: SentInputs | None = None) -> None:
        await self._store.write(lambda store: store.requests.commit_sending(record, sent))

    async def join(self, record: Record) -> None:
        await self._store.write(lambda store: store.requests.join(record))

    async def withdraw(self, record: Record) -> Record:
        return await self._store.write(lambda store: store.requests.withdraw(record))

    async def accept(self, record: Record, job: Job) -> Record:
        return await self._store.write(lambda store: store.requests.accept(record, job))

    async def match(self, record: Record, job: Job) -> Record:
        return await self._store.write(lambda store: store.requests.match(record, job))

    async def conclude(self, record: Record, state: State, why: str) -> Record:
        return await self._store.write(lambda store: store.requests.conclude(record, state, why))

    async def record_update(self, whose: Whose, job: Job) -> Recorded:
        workspace = Workspace.of(whose)
        return await self._store.write(
            lambda store: store.requests.record_update(workspace, job), refusable=True
        )

    async def settled(self, submission_id: str, seconds: float) -> Record:
        with anyio.move_on_after(seconds):
            while True:
                since = self._store.own_changes  # before the read, so that no change is missed
                record = await self._reading.read(
                    lambda store: store.requests.record(submission_id)
                )
                if record.settled:
                    return record
                with anyio.move_on_after(self._poll_seconds):
                    await self._store.next_change(since)
        return await self._reading.read(lambda store: store.requests.record(submission_id))

    async def find(self, account: str, id: str) -> Record | None:
        return await self._reading.read(lambda store: store.requests.find(account, id))

    async def recent(
        self, account: str, states: frozenset[State] | None = None, limit: int = 10
    ) -> list[Record]:
        return await self._reading.read(lambda store: store.requests.recent(account, states, limit))

    async def in_wallet(self, wallet: str, limit: int) -> list[Record]:
        return await self._reading.read(lambda store: store.requests.in_wallet(wallet, limit))

    async def page(
        self, account: str, states: frozenset[State] | None, limit: int, after: Cursor | None
    ) -> Page | None:
        return await self._reading.read(
            lambda store: store.requests.page(account, states, limit, after)
        )

    async def charges(self, account: str) -> list[Charge]:
        return await self._reading.read(lambda store: list(store.requests.charges(account)))

    async def credits(
        self, whose: Whose, estimate: float | None, quotas: Sequence[Quota] = ()
    ) -> AccountCredits:
        workspace, counted = Workspace.of(whose), quotas or (Quota(self.limits),)
        return await self._reading.read(
            lambda store: store.requests.credits(workspace, estimate, counted)
        )

    async def unknowns(self, wallet: str) -> list[Record]:
        return await self._reading.read(lambda store: store.requests.unknowns(wallet))

    async def record_check(
        self, record: Record, findings: str, next_in: float | None, reading: ListReading
    ) -> Record:
        return await self._store.write(
            lambda store: store.requests.record_check(record, findings, next_in, reading)
        )

    async def recover(self) -> list[Record]:
        settled = await self._store.write(recover)
        with suppress(LedgerUnavailable):  # what could not be added up now is counted by readers
            await self._store.write(lambda opened: add_up(opened.session), wakes=False)
        return settled

    async def require_usable(self) -> None:
        """Raises LedgerUnavailable unless changes can be written, in the format of this version."""
        await self._store.write(_require_usable, wakes=False, refusable=True)

    async def job_counts(self) -> dict[str, int]:
        """How many jobs of all accounts are in each state. Raises LedgerUnavailable."""
        return await self._store.read(
            lambda store: {row[0]: row[1] for row in store.session.query(sql.lists.JOB_COUNTS, {})}
        )

    async def aclose(self) -> None:
        await self._reading.aclose()
        await self._store.aclose()


def _require_usable(store: Opened) -> None:
    with store.session.transaction():
        pass  # nothing changes, but it has been begun and committed
    if changed := store.session.change():
        raise changed


class ThreadedCoordination:
    """`Coordination` on the store of a ledger; reads may have a connection of their own."""

    def __init__(self, store: Store, reading: Store) -> None:
        self._store = store
        self._reading = reading

    async def lead(self, wallet: str, role: Role, seconds: float) -> bool:
        return await self._store.write(
            lambda store: store.coordination.lead(wallet, role, seconds), wakes=False
        )

    async def leave(self, wallet: str, role: Role) -> None:
        await self._store.write(lambda store: store.coordination.leave(wallet, role), wakes=False)

    async def live(self, wallet: str) -> list[Record]:
        return await self._reading.read(lambda store: store.coordination.live(wallet))

    async def open_wallets(self) -> list[str]:
        return await self._reading.read(lambda store: store.coordination.open_wallets())

    async def records(self, submission_ids: Collection[str]) -> list[Record]:
        return await self._reading.read(lambda store: store.coordination.records(submission_ids))

    async def expect(self, submission_ids: Collection[str], seconds: float) -> None:
        await self._store.write(lambda store: store.coordination.expect(submission_ids, seconds))

    async def polled(
        self, submission_ids: Collection[str], last_error: WanError | None = None
    ) -> None:
        await self._store.write(lambda store: store.coordination.polled(submission_ids, last_error))

    async def try_acquire(self, wallet: str, rule: Rule) -> Acquired:
        return await self._store.write(
            lambda store: store.coordination.try_acquire(wallet, rule), wakes=False, refusable=True
        )

    async def adjust_limit(self, wallet: str, change: Callable[[Limit], Limit]) -> None:
        await self._store.write(
            lambda store: store.coordination.adjust_limit(wallet, change), wakes=False
        )

    async def unsaved(self, wallet: str) -> list[Record]:
        return await self._reading.read(lambda store: store.coordination.unsaved(wallet))

    async def saved(self, submission_id: str, path: str, sha256: str, size: int) -> bool:
        return await self._store.write(
            lambda store: store.coordination.saved(submission_id, path, sha256, size)
        )

    async def uninspected(self, wallet: str) -> list[Record]:
        return await self._reading.read(lambda store: store.coordination.uninspected(wallet))

    async def inspected(self, submission_id: str, inspection: Sequence[Difference]) -> None:
        await self._store.write(
            lambda store: store.coordination.inspected(submission_id, inspection)
        )

    async def not_saved(self, submission_id: str, why: str) -> None:
        await self._store.write(lambda store: store.coordination.not_saved(submission_id, why))

    async def not_saved_yet(self, submission_id: str, why: str) -> None:
        await self._store.write(lambda store: store.coordination.not_saved_yet(submission_id, why))

    async def mark_kept(self, submission_id: str, kept: bool) -> None:
        await self._store.write(lambda store: store.coordination.mark_kept(submission_id, kept))

    async def kept_videos(self) -> list[str]:
        return await self._store.read(lambda store: store.coordination.kept_videos())

    async def durations(self, account: str) -> list[float]:
        return await self._reading.read(lambda store: store.coordination.durations(account))

    @property
    def own_changes(self) -> int:
        return self._store.own_changes

    async def next_change(self, since: int) -> None:
        await self._store.next_change(since)

    async def changed_since(self, revision: int) -> int:
        others = await self._reading.read(lambda store: store.coordination.revision())
        return self._store.own_changes << 32 | others
