"""Finds the request that a new one would repeat: the same inputs, in whatever spelling."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from wan_mcp.ledger import rules
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.contract import Claim
from wan_mcp.ledger.fingerprint import Arguments, Fingerprint, one_spelling, spelling_key
from wan_mcp.ledger.record import LIVE, State
from wan_mcp.ledger.rows import Rows, read, seconds
from wan_mcp.ledger.rules import Lookups
from wan_mcp.ledger.session import Read

_REPEATED = frozenset({State.COMPLETED, State.LOST})

MOST_JUST_ENDED = 50
"""How many of the newest ended requests are compared in all their spellings (ours)."""


class EqualRequests:
    """The search for an equal request, inside a transaction of the ledger.

    Args:
        rows: the records.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def find(
        self, account: str, lookups: Lookups, now: datetime, *, queued: bool = True
    ) -> Claim | None:
        """The newest request that a new one would repeat; None if it repeats none.

        Args:
            lookups: what `rules.lookups` gives for the new one.
            now: the date and time by the engine's clock.
            queued: whether a queued one is repeated, too.
        """
        candidates = [
            _Candidate._make(row) for row in self._rows.values_of(self.read(account, lookups, now))
        ]
        for fingerprint, seed in lookups:
            for each in _with_key(candidates, fingerprint, seed, now, queued=queued):
                if record := self._rows.first(sql.records.JOB, submission_id=each.id):
                    differs = record.exact_key != fingerprint.exact_key
                    return Claim(record, created=False, query_differs=differs)
        return self._in_another_spelling(account, candidates, lookups, now, queued=queued)

    def read(self, account: str, lookups: Lookups, now: datetime) -> Read:
        """The first read of `find`."""
        return read(
            sql.records.MAY_BE_EQUAL,
            account=account,
            exact_key=lookups[0][0].exact_key,
            seedless_exact_key=lookups[-1][0].exact_key,
            limit=MOST_JUST_ENDED,
            since=now - rules.REPEAT_WINDOW,
            until=now + rules.REPEAT_WINDOW,
        )

    def _in_another_spelling(
        self,
        account: str,
        candidates: Sequence["_Candidate"],
        lookups: Lookups,
        now: datetime,
        *,
        queued: bool,
    ) -> Claim | None:
        # Their keys differ, so they are compared one by one: what is live, and what ended just now.
        if not candidates:
            return None
        # A forgotten request no longer has its links, but a key that was made of them.
        spelt = [(c.spelling_key or _in_one_spelling(c.arguments), c.id) for c in candidates]
        some_are_forgotten = any(each.spelling_key for each in candidates)
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


class _Candidate(NamedTuple):
    """The stored values of a request that may be equal, as far as they are needed here."""

    number: int
    id: str
    state: str
    dedupe_key: str | None
    exact_key: str | None
    seed: str | None
    seed_generated: int
    arguments: str
    spelling_key: str | None
    ended_at: float | None

    def has_generated(self, seed: int) -> bool:
        """Whether the caller gave no seed, and this one was generated."""
        return bool(self.seed_generated) and self.seed == str(seed)


def _with_key(
    candidates: Iterable[_Candidate],
    fingerprint: Fingerprint,
    seed: int | None,
    now: datetime,
    *,
    queued: bool,
) -> list[_Candidate]:
    """Those with the key of a new request, the best answer first: a live one if there is any.

    Args:
        seed: as `rules.lookups` gives it: what an equal request must have as a generated seed.
    """
    since, until = seconds(now - rules.REPEAT_WINDOW), seconds(now + rules.REPEAT_WINDOW)
    key = fingerprint.dedupe_key
    fit = [each for each in candidates if seed is None or each.has_generated(seed)]
    # A record beside its equal has a longer key (see `rules.beside_its_equal`), and comes last.
    live = [each for each in fit if each.state in LIVE and (each.dedupe_key or "")[:64] == key]
    live.sort(key=lambda each: (len(each.dedupe_key or ""), each.number))
    in_queue = [each for each in fit if each.state == State.NOT_SENT and each.dedupe_key == key]
    in_queue.sort(key=lambda each: each.number)
    ended = [
        each
        for each in fit
        if each.state in _REPEATED
        and each.exact_key == fingerprint.exact_key
        # A request that a wrong clock dated must not be the answer for years.
        and each.ended_at is not None
        and since < each.ended_at <= until
    ]
    ended.sort(key=lambda each: -(each.ended_at or 0.0))
    return live + in_queue * queued + ended


@lru_cache(2 * MOST_JUST_ENDED)
def _in_one_spelling(stored_arguments: str) -> Arguments:
    """Cached, because later requests are compared with this one for a quarter of an hour."""
    return one_spelling(json.loads(stored_arguments))
