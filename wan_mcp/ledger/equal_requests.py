"""Finds the request that a new one would repeat: the same inputs, in whatever spelling."""

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache

from wan_mcp.ledger import rules
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import Claim
from wan_mcp.ledger.fingerprint import Arguments, Fingerprint, one_spelling, spelling_key
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.rows import Rows
from wan_mcp.ledger.rules import Lookups

MOST_JUST_ENDED = 50
"""How many of the newest ended requests are compared in all their spellings (ours)."""


class EqualRequests:
    """The search for an equal request, inside a transaction of the ledger.

    Args:
        rows: the records.
        now: the date and time by the engine's clock.
    """

    def __init__(self, rows: Rows, now: Callable[[], datetime]) -> None:
        self._rows = rows
        self._now = now

    def find(self, account: str, lookups: Lookups, *, queued: bool = True) -> Claim | None:
        """The newest request that a new one would repeat; None if it repeats none.

        Args:
            lookups: what `rules.lookups` gives for the new one.
            queued: whether a queued one is repeated, too.
        """
        for fingerprint, seed in lookups:
            found = self._live(account, fingerprint, seed)
            if queued:
                found = found or self._queued(account, fingerprint, seed)
            if found := found or self._just_ended(account, fingerprint, seed):
                differs = found.exact_key != fingerprint.exact_key
                return Claim(found, created=False, query_differs=differs)
        return self._in_another_spelling(account, lookups, queued=queued)

    def _in_another_spelling(self, account: str, lookups: Lookups, *, queued: bool) -> Claim | None:
        # Their keys differ, so they are compared one by one: what is live, and what ended just now.
        now = self._now()
        recent = self._rows.values(
            sql.records.LIVE_OR_JUST_ENDED,
            account=account,
            limit=MOST_JUST_ENDED,
            since=now - rules.REPEAT_WINDOW,
            until=now + rules.REPEAT_WINDOW,
        )
        if not recent:
            return None
        # A forgotten request has no links any more, but a key that was made of them.
        spelt = [(key or _in_one_spelling(arguments), id) for id, arguments, key in recent]
        some_are_forgotten = any(key for _, _, key in recent)
        for fingerprint, seed in lookups:
            ours: list[Arguments | str] = [one_spelling(fingerprint.arguments)]
            if some_are_forgotten:
                ours.append(spelling_key(account, fingerprint.arguments))
            # Only what asks for the same is read as a record: a busy account has many others.
            for id in [id for theirs, id in spelt if theirs in ours]:
                record = self._rows.first(sql.records.JOB, submission_id=id)
                if record and record.state is State.QUEUED and not queued:
                    continue
                if record and rules.is_another_spelling(record, fingerprint, seed, now):
                    differs = fingerprint.has_query or record.exact_key != record.dedupe_key
                    return Claim(record, created=False, query_differs=differs)
        return None

    def _live(self, account: str, fingerprint: Fingerprint, seed: int | None) -> Record | None:
        return self._rows.first(
            sql.records.LIVE_EQUAL, account=account, dedupe_key=fingerprint.dedupe_key, seed=seed
        )

    def _queued(self, account: str, fingerprint: Fingerprint, seed: int | None) -> Record | None:
        return self._rows.first(
            sql.records.QUEUED_EQUAL, account=account, dedupe_key=fingerprint.dedupe_key, seed=seed
        )

    def _just_ended(
        self, account: str, fingerprint: Fingerprint, seed: int | None
    ) -> Record | None:
        now = self._now()
        return self._rows.first(
            sql.records.ENDED_EQUAL,
            account=account,
            exact_key=fingerprint.exact_key,
            seed=seed,
            since=now - rules.REPEAT_WINDOW,
            # A record that a wrong clock dated must not be the answer for years.
            until=now + rules.REPEAT_WINDOW,
        )


@lru_cache(2 * MOST_JUST_ENDED)
def _in_one_spelling(stored_arguments: str) -> Arguments:
    """Remembered, because a request is compared with every one of the next quarter of an hour."""
    return one_spelling(json.loads(stored_arguments))
