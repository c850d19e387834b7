"""`Coordination` on every engine. Each method is one transaction and runs in one thread.

The methods are documented in `coordination.Coordination`.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from wan_mcp.errors import WanError
from wan_mcp.ledger import rules
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.coordination import (
    POLLED_FOR,
    WINDOW_SECONDS,
    Acquired,
    Limit,
    Role,
    Rule,
)
from wan_mcp.ledger.fingerprint import without_queries
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.rows import Rows, among, date
from wan_mcp.ledger.session import Session
from wan_mcp.ledger.statements.dialects import Statement
from wan_mcp.ledger.status import permanent_error_code
from wan_mcp.ledger.wallets.scope import wallet_scope
from wan_mcp.models import Difference

DURATIONS_SAMPLE = 20
"""The number of completed jobs whose durations are read (ours)."""


class CoordinationTransactions:
    """Roles, the rate limit, and notes about jobs, as one process uses them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows = Rows(session)

    def lead(self, wallet: str, role: Role, lease: float) -> bool:
        name = rules.lease_name(wallet, role)
        with self._session.transaction(patient=False):
            holder, until, *_ = self._key(name)
            now = self._session.now()
            if not self._is_free(holder, date(until), now):
                return False
            ends = now + timedelta(seconds=lease)
            self._rows.write(
                sql.coordination.TAKE_LEASE, account=name, me=self._session.me, until=ends
            )
            return True

    def leave(self, wallet: str, role: Role) -> None:
        name = rules.lease_name(wallet, role)
        with self._session.transaction(patient=False):
            self._rows.write(sql.coordination.LEAVE_LEASE, account=name, me=self._session.me)

    def live(self, wallet: str) -> list[Record]:
        now = self._session.now()
        soon = now + timedelta(seconds=rules.MAX_LEASE_SECONDS)
        return self._of_wallet(
            wallet, sql.lists.LIVE_JOBS, now=now, soon=soon, since=now - POLLED_FOR
        )

    def open_wallets(self) -> list[str]:
        since = self._session.now() - POLLED_FOR
        return [wallet for (wallet,) in self._rows.values(sql.lists.OPEN_WALLETS, since=since)]

    def records(self, submission_ids: Collection[str]) -> list[Record]:
        return self._rows.find(sql.records.JOBS_AMONG, submission_ids=among(submission_ids))

    def expect(self, submission_ids: Collection[str], seconds: float) -> None:
        with self._session.transaction(patient=False):
            until = self._session.now() + timedelta(seconds=seconds)
            self._rows.write(
                sql.records.MARK_WATCHED, submission_ids=among(submission_ids), until=until
            )

    def polled(self, submission_ids: Collection[str], last_error: WanError | None) -> None:
        with self._session.transaction(patient=False):
            known = {"submission_ids": among(submission_ids), "now": self._session.now()}
            if last_error is None:
                self._rows.write(sql.records.MARK_REPLIED, **known)
                return
            self._rows.write(
                sql.records.MARK_NO_REPLY,
                **known,
                last_error=without_queries(last_error.what),
                last_error_code=permanent_error_code(last_error),
            )

    def try_acquire(self, wallet: str, rule: Rule) -> Acquired:
        with self._session.transaction(patient=False):
            now = self._session.now()  # inside: no other process has counted a later request
            limit = self._limit(wallet, now)
            since = now - timedelta(seconds=WINDOW_SECONDS)
            self._rows.write(sql.coordination.FORGET_REQUESTS, account=wallet, since=since)
            self._rows.write(sql.coordination.DATE_BACK_REQUESTS, account=wallet, now=now)
            found = self._rows.values(sql.coordination.REQUEST_AGES, account=wallet, now=now)
            wait = rule(limit, [age for (age,) in found])
            if wait <= 0:
                self._rows.write(sql.coordination.INSERT_REQUEST, account=wallet, now=now)
            return Acquired(wait, limit)

    def adjust_limit(self, wallet: str, change: Callable[[Limit], Limit]) -> None:
        with self._session.transaction(patient=False):
            now = self._session.now()
            limit = change(self._limit(wallet, now))
            cut = None if limit.cut_ago is None else now - timedelta(seconds=limit.cut_ago)
            held = now + timedelta(seconds=limit.held) if limit.held else None
            self._rows.write(
                sql.coordination.SET_LIMIT,
                account=wallet,
                per_minute=limit.per_minute,
                cut_at=cut,
                held_until=held,
            )

    def unsaved(self, wallet: str) -> list[Record]:
        since = self._session.now() - POLLED_FOR
        return self._of_wallet(wallet, sql.lists.UNSAVED_JOBS, since=since)

    def saved(self, submission_id: str, path: str, sha256: str, size: int) -> bool:
        with self._session.transaction(patient=False):
            self._rows.write(
                sql.records.MARK_SAVED,
                submission_id=submission_id,
                saved_path=path,
                sha256=sha256,
                size=size,
            )
            known = self._rows.first(sql.records.JOB, submission_id=submission_id)
            return known is None or not known.is_forgotten

    def uninspected(self, wallet: str) -> list[Record]:
        since = self._session.now() - POLLED_FOR
        return self._of_wallet(wallet, sql.lists.UNINSPECTED_JOBS, since=since)

    def inspected(self, submission_id: str, inspection: Sequence[Difference]) -> None:
        with self._session.transaction(patient=False):
            self._rows.write(
                sql.records.MARK_INSPECTED,
                submission_id=submission_id,
                inspection=tuple(inspection),
            )

    def not_saved(self, submission_id: str, why: str) -> None:
        with self._session.transaction(patient=False):
            self._rows.write(sql.records.MARK_NOT_SAVED, submission_id=submission_id, why=why)

    def not_saved_yet(self, submission_id: str, why: str) -> None:
        with self._session.transaction(patient=False):
            self._rows.write(sql.records.MARK_NOT_SAVED_YET, submission_id=submission_id, why=why)

    def mark_kept(self, submission_id: str, kept: bool) -> None:
        with self._session.transaction():
            self._rows.write(sql.records.MARK_KEPT, submission_id=submission_id, kept=kept)

    def kept_videos(self) -> list[str]:
        return [str(path) for (path,) in self._rows.values(sql.lists.KEPT_VIDEOS)]

    def durations(self, account: str) -> list[float]:
        found = self._rows.values(sql.lists.DURATIONS, account=account, limit=DURATIONS_SAMPLE)
        return [took for (took,) in found]

    def revision(self) -> int:
        return self._session.revision()

    def _of_wallet(self, wallet: str, statement: Statement, **values: object) -> list[Record]:
        """The records of all workspaces of a wallet that a statement finds."""
        everybody = wallet_scope(wallet)
        return self._rows.find(everybody.over(statement), **everybody.values, **values)

    # The methods below run inside the transaction of a method above.

    def _key(self, name: str) -> Any:
        self._rows.write(sql.coordination.INSERT_KEY, account=name)
        return self._rows.values(sql.coordination.KEY, account=name)[0]

    def _is_free(self, holder: str | None, until: datetime | None, now: datetime) -> bool:
        """Whether no other process has a role: its lease is over, or the process is dead."""
        if holder in (None, self._session.me) or rules.is_lease_over(until, now):
            return True
        return self._session.is_dead(holder)

    def _limit(self, account: str, now: datetime) -> Limit:
        _, _, per_minute, cut_at, held_until = self._key(account)
        return rules.limit_of(per_minute, date(cut_at), date(held_until), now)
