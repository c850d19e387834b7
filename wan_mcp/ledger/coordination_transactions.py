"""`Rota` on SQLite: each method is one transaction, run by one thread."""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from wan_mcp.errors import WanError
from wan_mcp.ledger.coordination import WINDOW, Limit, Rule, Taken
from wan_mcp.ledger.fingerprint import without_queries
from wan_mcp.ledger.record import Row
from wan_mcp.ledger.rows import Table, seconds
from wan_mcp.ledger.sqlite.connection import impatient, transaction
from wan_mcp.ledger.sqlite.liveness import Owner
from wan_mcp.ledger.status import lasting_code

POLLED = timedelta(hours=24)
"""How long a running job that nobody waits for is polled (ours): its film would be dead by then."""
LONGEST_LEASE = 60.0
LONGEST_HOLD = 300.0
SAMPLE = 20

_HANDLES = "handle IN (SELECT value FROM json_each(:handles))"


class Roster:
    """Who polls, what for, and how often, in the hands of one process.

    Args:
        owner: this process; None for a file that is only read.
    """

    def __init__(self, table: Table, owner: Owner | None) -> None:
        self._table = table
        self._owner = owner

    def lead(self, account: str, lease: float) -> bool:
        with self._writing():
            key = self._key(account)
            now = self._table.now()
            if not self._free(key, now):
                return False
            self._change(
                account, poller=self._table.me, poller_until=now + timedelta(seconds=lease)
            )
            return True

    def live(self, account: str) -> list[Row]:
        now = self._table.now()
        return self._table.rows(
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

    def rows(self, handles: Collection[str]) -> list[Row]:
        return self._table.rows(_HANDLES, handles=json.dumps(list(handles)))

    def expect(self, handles: Collection[str], until: datetime) -> None:
        self.mark(handles, watched_until=until)

    def looked(self, handles: Collection[str], trouble: WanError | None) -> None:
        now = self._table.now()
        self.mark(
            handles,
            # A read that was under way when another told of the end has nothing to add.
            "state != 'failed' AND (state != 'completed' OR video_url IS NULL)",
            looked_at=now,
            trouble=without_queries(trouble.what) if trouble else None,
            trouble_code=lasting_code(trouble),
            **({} if trouble else {"heard_at": now}),
        )

    def leave(self, account: str) -> None:
        with self._writing():
            mine = "account = :account AND poller = :me"
            sql = f"UPDATE keys SET poller = NULL WHERE {mine}"
            self._table.write(sql, account=account, me=self._table.me)

    def take(self, account: str, rule: Rule) -> Taken:
        with self._writing():
            now = self._table.now()  # once nobody else can write: theirs are not later than that
            limit = self._limit(account, now)
            known = {"account": account, "since": now - timedelta(seconds=WINDOW), "now": now}
            old = "DELETE FROM requests WHERE account = :account AND made_at <= :since"
            self._table.write(old, **known)
            # A clock that was wrong once must neither hold requests for long nor forget them.
            future = (
                "UPDATE requests SET made_at = :now WHERE account = :account AND made_at > :now"
            )
            self._table.write(future, **known)
            ages = "SELECT :now - made_at FROM requests WHERE account = :account ORDER BY made_at"
            found = self._table.query(ages, account=account, now=now)
            wait = rule(limit, [age for (age,) in found])
            if wait <= 0:
                self._table.write("INSERT INTO requests VALUES (:account, :now)", **known)
            return Taken(wait, limit)

    def learn_limit(self, account: str, change: Callable[[Limit], Limit]) -> None:
        with self._writing():
            now = self._table.now()
            limit = change(self._limit(account, now))
            cut = None if limit.cut_ago is None else now - timedelta(seconds=limit.cut_ago)
            held = now + timedelta(seconds=limit.held) if limit.held else None
            self._change(account, per_minute=limit.per_minute, cut_at=cut, held_until=held)

    def mark(self, handles: Collection[str], where: str = "TRUE", **columns: object) -> None:
        """Note the same about several rows, as far as a condition allows."""
        to = ", ".join(f"{name} = :{name}" for name in columns)
        with self._writing():
            known = {"handles": json.dumps(list(handles)), **columns}
            self._table.write(f"UPDATE jobs SET {to} WHERE {_HANDLES} AND {where}", **known)

    def unsaved(self, account: str) -> list[Row]:
        return self._table.rows(
            # Of jobs made elsewhere we do not know what they are, nor whether this is the place.
            "account = :account AND state = 'completed' AND video_url IS NOT NULL "
            "AND digest IS NOT NULL AND saved_path IS NULL AND not_saved IS NULL "
            "AND ended_at > :since ORDER BY number",
            account=account,
            since=self._table.now() - POLLED,
        )

    def typical(self, account: str) -> list[float]:
        found = self._table.query(
            "SELECT ended_at - accepted_at FROM jobs WHERE account = :account "
            "AND state = 'completed' AND digest IS NOT NULL AND ended_at > accepted_at "
            "ORDER BY created_at DESC LIMIT :sample",
            account=account,
            sample=SAMPLE,
        )
        return [seconds for (seconds,) in found]

    def version(self) -> int:
        return int(self._table.query("PRAGMA data_version")[0][0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        connection = self._table.connection
        with impatient(connection), transaction(connection):
            yield

    def _key(self, account: str) -> Any:
        self._table.write("INSERT OR IGNORE INTO keys (account) VALUES (:account)", account=account)
        return self._table.query("SELECT * FROM keys WHERE account = :account", account=account)[0]

    def _change(self, account: str, **columns: object) -> None:
        to = ", ".join(f"{name} = :{name}" for name in columns)
        known = {"account": account, **columns}
        self._table.write(f"UPDATE keys SET {to} WHERE account = :account", **known)

    def _free(self, key: Any, now: datetime) -> bool:
        """Whether nobody else polls: its lease is over, or its process is dead."""
        holder = key["poller"]
        if holder in (None, self._table.me):
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
