"""The ledger in one SQLite file, which any number of processes on a machine share."""

import sqlite3
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

import anyio

from wan_mcp.errors import WanError
from wan_mcp.ledger.contract import Claim, Learnt
from wan_mcp.ledger.coordination import Limit, Rota, Rule, Taken
from wan_mcp.ledger.record import Row, State
from wan_mcp.ledger.spending_limits import Caps
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
        caps: Caps | None = None,
        now: Callable[[], datetime] = _utc_now,
        look_seconds: float = 0.2,
        connect: Callable[[Path], sqlite3.Connection] = connection.connect,
    ) -> None:
        self._caps = caps or Caps()
        self._look_seconds = look_seconds
        self._file = LedgerFile(folder, now, connect)
        self._rota = SQLiteRota(self._file)

    @property
    def rota(self) -> Rota:
        return self._rota

    async def account(self, api_base: str, api_key: str) -> str:
        return await self._file.read(lambda pages: pages.book.account(api_base, api_key))

    async def claim(
        self, account: str, wanted: Replacement, *, planted_seed: int, estimate: float | None
    ) -> Claim:
        return await self._file.write(
            lambda pages: pages.book.claim(account, wanted, planted_seed, estimate, self._caps)
        )

    async def equal(self, account: str, wanted: Replacement) -> Row | None:
        return await self._file.read(lambda pages: pages.book.equal(account, wanted))

    async def commit_sending(self, handle: str) -> None:
        await self._file.write(lambda pages: pages.book.commit_sending(handle))

    async def accept(self, handle: str, job: Job) -> Row:
        return await self._file.write(lambda pages: pages.book.accept(handle, job))

    async def conclude(self, handle: str, state: State, why: str) -> Row:
        return await self._file.write(lambda pages: pages.book.conclude(handle, state, why))

    async def learn(self, account: str, job: Job) -> Learnt:
        return await self._file.write(lambda pages: pages.book.learn(account, job))

    async def settled(self, handle: str, seconds: float) -> Row:
        with anyio.move_on_after(seconds):
            while True:
                changed = (
                    self._file.next_change
                )  # before the look: what happens meanwhile is not missed
                row = await self._file.read(lambda pages: pages.book.row(handle))
                if row.settled:
                    return row
                with anyio.move_on_after(self._look_seconds):
                    await changed.wait()
        return await self._file.read(lambda pages: pages.book.row(handle))

    async def find(self, account: str, id: str) -> Row | None:
        return await self._file.read(lambda pages: pages.book.find(account, id))

    async def recent(
        self, account: str, states: frozenset[State] | None = None, limit: int = 10
    ) -> list[Row]:
        return await self._file.read(lambda pages: pages.book.recent(account, states, limit))

    async def unknowns(self, account: str, due_at: datetime | None = None) -> list[Row]:
        return await self._file.read(lambda pages: pages.book.unknowns(account, due_at))

    async def record_check(
        self, handle: str, findings: str, next_at: datetime | None, *, counts: bool = True
    ) -> Row:
        return await self._file.write(
            lambda pages: pages.book.record_check(handle, findings, next_at, counts)
        )

    async def recover(self) -> list[Row]:
        return await self._file.write(lambda pages: pages.book.recover())

    async def aclose(self) -> None:
        await self._file.aclose()


class SQLiteRota:
    """`Rota` on the ledger's file."""

    def __init__(self, file: LedgerFile) -> None:
        self._file = file

    async def lead(self, account: str, seconds: float) -> bool:
        return await self._file.write(lambda pages: pages.roster.lead(account, seconds), told=False)

    async def leave(self, account: str) -> None:
        await self._file.write(lambda pages: pages.roster.leave(account), told=False)

    async def live(self, account: str) -> list[Row]:
        return await self._file.read(lambda pages: pages.roster.live(account))

    async def rows(self, handles: Collection[str]) -> list[Row]:
        return await self._file.read(lambda pages: pages.roster.rows(handles))

    async def expect(self, handles: Collection[str], until: datetime) -> None:
        await self._file.write(lambda pages: pages.roster.expect(handles, until))

    async def looked(self, handles: Collection[str], trouble: WanError | None = None) -> None:
        await self._file.write(lambda pages: pages.roster.looked(handles, trouble))

    async def take(self, account: str, rule: Rule) -> Taken:
        return await self._file.write(lambda pages: pages.roster.take(account, rule), told=False)

    async def learn_limit(self, account: str, change: Callable[[Limit], Limit]) -> None:
        await self._file.write(lambda pages: pages.roster.learn_limit(account, change), told=False)

    async def unsaved(self, account: str) -> list[Row]:
        return await self._file.read(lambda pages: pages.roster.unsaved(account))

    async def saved(self, handle: str, path: str, sha256: str, size: int) -> None:
        await self._file.write(
            lambda pages: pages.roster.mark(
                [handle], saved_path=path, sha256=sha256, size=size, not_saved=None
            )
        )

    async def not_saved(self, handle: str, why: str) -> None:
        await self._file.write(lambda pages: pages.roster.mark([handle], not_saved=why))

    async def typical(self, account: str) -> list[float]:
        return await self._file.read(lambda pages: pages.roster.typical(account))

    def next_change(self) -> anyio.Event:
        return self._file.next_change

    async def version(self) -> int:
        return await self._file.read(lambda pages: pages.roster.version())
