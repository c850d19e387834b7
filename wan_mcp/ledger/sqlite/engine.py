"""The ledger in one SQLite file, which any number of processes on a machine share."""

import sqlite3
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

import anyio

from wan_mcp.errors import WanError
from wan_mcp.ledger.contract import Claim, Recorded
from wan_mcp.ledger.coordination import Acquired, Coordination, Limit, Rule
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite import connection
from wan_mcp.ledger.sqlite.file import LedgerFile
from wan_mcp.models import Job, Replacement


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SQLiteLedger:
    """`Ledger` on a file. Opened by its first use, and again by the next one if that failed.

    Args:
        folder: a folder of the ledger's own, made when missing; others' rights to it are removed.
        caps: what the operator allows.
        now: the wall clock, UTC.
        look_seconds: how often `settled` looks for what another process wrote.
        connect: opens the file for writing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limits: SpendingLimits | None = None,
        now: Callable[[], datetime] = _utc_now,
        look_seconds: float = 0.2,
        connect: Callable[[Path], sqlite3.Connection] = connection.connect,
    ) -> None:
        self._limits = limits or SpendingLimits()
        self._look_seconds = look_seconds
        self._file = LedgerFile(folder, now, connect)
        self._coordination = SQLiteCoordination(self._file)

    @property
    def coordination(self) -> Coordination:
        return self._coordination

    async def account(self, api_base: str, api_key: str) -> str:
        return await self._file.read(lambda pages: pages.transactions.account(api_base, api_key))

    async def secret(self, purpose: str) -> bytes:
        return await self._file.read(lambda pages: pages.transactions.secret(purpose))

    async def claim(
        self, account: str, wanted: Replacement, *, generated_seed: int, estimate: float | None
    ) -> Claim:
        return await self._file.write(
            lambda pages: pages.transactions.claim(
                account, wanted, generated_seed, estimate, self._limits
            )
        )

    async def equal(self, account: str, wanted: Replacement) -> Record | None:
        return await self._file.read(lambda pages: pages.transactions.equal(account, wanted))

    async def commit_sending(self, submission_id: str) -> None:
        await self._file.write(lambda pages: pages.transactions.commit_sending(submission_id))

    async def accept(self, submission_id: str, job: Job) -> Record:
        return await self._file.write(lambda pages: pages.transactions.accept(submission_id, job))

    async def conclude(self, submission_id: str, state: State, why: str) -> Record:
        return await self._file.write(
            lambda pages: pages.transactions.conclude(submission_id, state, why)
        )

    async def record_update(self, account: str, job: Job) -> Recorded:
        return await self._file.write(lambda pages: pages.transactions.record_update(account, job))

    async def settled(self, submission_id: str, seconds: float) -> Record:
        with anyio.move_on_after(seconds):
            while True:
                changed = (
                    self._file.next_change
                )  # before the look: what happens meanwhile is not missed
                record = await self._file.read(
                    lambda pages: pages.transactions.record(submission_id)
                )
                if record.settled:
                    return record
                with anyio.move_on_after(self._look_seconds):
                    await changed.wait()
        return await self._file.read(lambda pages: pages.transactions.record(submission_id))

    async def find(self, account: str, id: str) -> Record | None:
        return await self._file.read(lambda pages: pages.transactions.find(account, id))

    async def recent(
        self, account: str, states: frozenset[State] | None = None, limit: int = 10
    ) -> list[Record]:
        return await self._file.read(
            lambda pages: pages.transactions.recent(account, states, limit)
        )

    async def unknowns(self, account: str, due_at: datetime | None = None) -> list[Record]:
        return await self._file.read(lambda pages: pages.transactions.unknowns(account, due_at))

    async def record_check(
        self, submission_id: str, findings: str, next_at: datetime | None, *, counts: bool = True
    ) -> Record:
        return await self._file.write(
            lambda pages: pages.transactions.record_check(submission_id, findings, next_at, counts)
        )

    async def recover(self) -> list[Record]:
        return await self._file.write(lambda pages: pages.transactions.recover())

    async def aclose(self) -> None:
        await self._file.aclose()


class SQLiteCoordination:
    """`Coordination` on the ledger's file."""

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    async def lead(self, account: str, seconds: float) -> bool:
        return await self._file.write(
            lambda pages: pages.coordination.lead(account, seconds), told=False
        )

    async def leave(self, account: str) -> None:
        await self._file.write(lambda pages: pages.coordination.leave(account), told=False)

    async def live(self, account: str) -> list[Record]:
        return await self._file.read(lambda pages: pages.coordination.live(account))

    async def records(self, submission_ids: Collection[str]) -> list[Record]:
        return await self._file.read(lambda pages: pages.coordination.records(submission_ids))

    async def expect(self, submission_ids: Collection[str], until: datetime) -> None:
        await self._file.write(lambda pages: pages.coordination.expect(submission_ids, until))

    async def looked(
        self, submission_ids: Collection[str], last_error: WanError | None = None
    ) -> None:
        await self._file.write(lambda pages: pages.coordination.looked(submission_ids, last_error))

    async def try_acquire(self, account: str, rule: Rule) -> Acquired:
        return await self._file.write(
            lambda pages: pages.coordination.try_acquire(account, rule), told=False
        )

    async def adjust_limit(self, account: str, change: Callable[[Limit], Limit]) -> None:
        await self._file.write(
            lambda pages: pages.coordination.adjust_limit(account, change), told=False
        )

    async def unsaved(self, account: str) -> list[Record]:
        return await self._file.read(lambda pages: pages.coordination.unsaved(account))

    async def saved(self, submission_id: str, path: str, sha256: str, size: int) -> None:
        await self._file.write(
            lambda pages: pages.coordination.mark(
                [submission_id], saved_path=path, sha256=sha256, size=size, not_saved=None
            )
        )

    async def not_saved(self, submission_id: str, why: str) -> None:
        await self._file.write(
            lambda pages: pages.coordination.mark([submission_id], not_saved=why)
        )

    async def typical(self, account: str) -> list[float]:
        return await self._file.read(lambda pages: pages.coordination.typical(account))

    def next_change(self) -> anyio.Event:
        return self._file.next_change

    async def version(self) -> int:
        return await self._file.read(lambda pages: pages.coordination.version())
