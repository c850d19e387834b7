"""`Coordination` on SQLite: each method is one transaction, run by one thread."""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from wan_mcp.errors import WanError
from wan_mcp.ledger.coordination import WINDOW_SECONDS, Acquired, Limit, Rule
from wan_mcp.ledger.fingerprint import without_queries
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.rows import Rows, assigned, seconds
from wan_mcp.ledger.sqlite.connection import impatient, transaction
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.ledger.status import permanent_error_code

POLLED = timedelta(hours=24)
"""How long a running job that nobody waits for is polled (ours): its film would be dead by then."""
LONGEST_LEASE = 60.0
LONGEST_HOLD = 300.0
SAMPLE = 20

_HANDLES = "handle IN (SELECT value FROM json_each(:submission_ids))"


class CoordinationTransactions:
    """Who polls, what for, and how often, in the hands of one process.

    Args:
        owner: this process; None for a file that is only read.
    """

    def __init__(self, rows: Rows, owner: ProcessLock | None) -> None:
        self._rows = rows
        self._owner = owner

    def lead(self, account: str, lease: float) -> bool:
        with self._writing():
            key = self._key(account)
            now = self._rows.now()
            if not self._free(key, now):
                return False
            self._change(account, poller=self._rows.me, poller_until=now + timedelta(seconds=lease))
            return True

    def live(self, account: str) -> list[Record]:
        now = self._rows.now()
        return self._rows.records(
            # The first two lines are the index's own condition, word for word.
            "account = :account AND job_id IS NOT NULL "
            "AND (state = 'accepted' OR state = 'completed' AND video_url IS NULL) "
            "AND (watched_until > :now AND watched_until <= :soon "
            "OR state = 'accepted' AND created_at > :since) "
            "ORDER BY number",
            account=account,
            since=now - POLLED,
            now=now,
            soon=now + timedelta(seconds=LONGEST_LEASE),
        )

    def records(self, submission_ids: Collection[str]) -> list[Record]:
        return self._rows.records(_HANDLES, submission_ids=json.dumps(list(submission_ids)))

    def expect(self, submission_ids: Collection[str], until: datetime) -> None:
        self.mark(submission_ids, watched_until=until)

    def looked(self, submission_ids: Collection[str], last_error: WanError | None) -> None:
        now = self._rows.now()
        self.mark(
            submission_ids,
            # A read that was under way when another told of the end has nothing to add.
            "state != 'failed' AND (state != 'completed' OR video_url IS NULL)",
            last_polled_at=now,
            last_error=without_queries(last_error.what) if last_error else None,
            last_error_code=permanent_error_code(last_error),
            **({} if last_error else {"heard_at": now}),
        )

    def leave(self, account: str) -> None:
        with self._writing():
            created = "account = :account AND poller = :me"
            sql = f"UPDATE keys SET poller = NULL WHERE {created}"
            self._rows.write(sql, account=account, me=self._rows.me)

    def try_acquire(self, account: str, rule: Rule) -> Acquired:
        with self._writing():
            now = self._rows.now()  # once nobody else can write: theirs are not later than that
            limit = self._limit(account, now)
            known = {
                "account": account,
                "since": now - timedelta(seconds=WINDOW_SECONDS),
                "now": now,
            }
            old = "DELETE FROM requests WHERE account = :account AND made_at <= :since"
            self._rows.write(old, **known)
            # A clock that was wrong once must neither hold requests for long nor forget them.
            future = (
                "UPDATE requests SET made_at = :now WHERE account = :account AND made_at > :now"
            )
            self._rows.write(future, **known)
            ages = "SELECT :now - made_at FROM requests WHERE account = :account ORDER BY made_at"
            found = self._rows.query(ages, account=account, now=now)
            wait = rule(limit, [age for (age,) in found])
            if wait <= 0:
                self._rows.write("INSERT INTO requests VALUES (:account, :now)", **known)
            return Acquired(wait, limit)

    def adjust_limit(self, account: str, change: Callable[[Limit], Limit]) -> None:
        with self._writing():
            now = self._rows.now()
            limit = change(self._limit(account, now))
            cut = None if limit.cut_ago is None else now - timedelta(seconds=limit.cut_ago)
            held = now + timedelta(seconds=limit.held) if limit.held else None
            self._change(account, per_minute=limit.per_minute, cut_at=cut, held_until=held)

    def mark(self, submission_ids: Collection[str], where: str = "TRUE", **columns: object) -> None:
        """Note the same about several rows, as far as a condition allows."""
        with self._writing():
            known = {"submission_ids": json.dumps(list(submission_ids)), **columns}
            self._rows.write(
                f"UPDATE jobs SET {assigned(columns)} WHERE {_HANDLES} AND {where}", **known
            )

    def unsaved(self, account: str) -> list[Record]:
        return self._rows.records(
            # Of jobs made elsewhere we do not know what they are, nor whether this is the place.
            "account = :account AND state = 'completed' AND video_url IS NOT NULL "
            "AND digest IS NOT NULL AND saved_path IS NULL AND not_saved IS NULL "
            "AND ended_at > :since ORDER BY number",
            account=account,
            since=self._rows.now() - POLLED,
        )

    def typical(self, account: str) -> list[float]:
        found = self._rows.query(
            "SELECT ended_at - accepted_at FROM jobs WHERE account = :account "
            "AND state = 'completed' AND digest IS NOT NULL AND ended_at > accepted_at "
            "ORDER BY created_at DESC LIMIT :sample",
            account=account,
            sample=SAMPLE,
        )
        return [seconds for (seconds,) in found]

    def version(self) -> int:
        return int(self._rows.query("PRAGMA data_version")[0][0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        connection = self._rows.connection
        with impatient(connection), transaction(connection):
            yield

    def _key(self, account: str) -> Any:
        self._rows.write("INSERT OR IGNORE INTO keys (account) VALUES (:account)", account=account)
        return self._rows.query("SELECT * FROM keys WHERE account = :account", account=account)[0]

    def _change(self, account: str, **columns: object) -> None:
        to = ", ".join(f"{name} = :{name}" for name in columns)
        known = {"account": account, **columns}
        self._rows.write(f"UPDATE keys SET {to} WHERE account = :account", **known)

    def _free(self, key: Any, now: datetime) -> bool:
        """Whether nobody else polls: its lease is over, or its process is dead."""
        holder = key["poller"]
        if holder in (None, self._rows.me):
            return True
        # Longer than any lease is one that a clock which was wrong once has dated.
        going = 0 < key["poller_until"] - seconds(now) <= LONGEST_LEASE
        return not going or self._owner is None or self._owner.dead(holder)

    def _limit(self, account: str, now: datetime) -> Limit:
        key = self._key(account)
        cut = key["cut_at"]
        held = (key["held_until"] or 0.0) - seconds(now)
        return Limit(
            per_minute=key["per_minute"],
            cut_ago=None if cut is None else abs(seconds(now) - cut),
            # Longer than PixelDojo is heeded: a clock that was wrong once has dated it.
            held=held if 0 < held <= LONGEST_HOLD else 0.0,
        )
