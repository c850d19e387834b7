"""The requests of all accounts on one ledger, on every engine. Each method is one transaction."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.history.forgetting import forgotten, is_complete, why_not
from wan_mcp.ledger.history.totals import Price
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.rows import Rows, date
from wan_mcp.ledger.session import Session

EVERYTHING = 2**31 - 1
"""A limit above every number of records."""
_EPOCH_SECONDS = 0.0


@dataclass(frozen=True)
class Choice:
    """Selects requests.

    Attributes:
        states: the states that they may be in.
        since: the earliest time at which they may have been made; None for any.
        accounts: the names of their accounts in the ledger; None for all accounts.
    """

    states: Collection[State] = tuple(State)
    since: datetime | None = None
    accounts: Collection[str] | None = None


class NotForgotten(Exception):
    """A request cannot be forgotten.

    Attributes:
        why: the reason, as part of a sentence.
        saved_path: where a video was saved that has to be removed first; None for other reasons.
    """

    def __init__(self, why: str, saved_path: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.saved_path = saved_path


class History:
    """The requests of all accounts, through one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows = Rows(session)

    def newest(self, choice: Choice, limit: int = EVERYTHING) -> list[Record]:
        """The newest of the chosen requests, newest first."""
        return self._rows.find(sql.lists.HISTORY, **_values(choice), limit=limit)

    def sizes(self, choice: Choice) -> dict[str, int]:
        """How many of the chosen requests each account has."""
        return {name: int(count) for name, count in self._values(sql.lists.HISTORY_SIZES, choice)}

    def prices(self, choice: Choice) -> list[Price]:
        """The prices of the chosen jobs, oldest first.

        As for the spending limits, jobs that were submitted elsewhere do not count, and neither do
        requests that are proven to have bought nothing.
        """
        return [
            Price(at, charged, expected)
            for made_at, charged, expected in self._values(sql.lists.HISTORY_PRICES, choice)
            if (at := date(made_at)) is not None
        ]

    def ids(self) -> list[str]:
        """Every id by which a request can be named."""
        return [
            id for both in self._rows.values(sql.lists.EVERY_ID) for id in both if id is not None
        ]

    def places(self) -> dict[str, int]:
        """The place of each queued request in the queue of its account, by its submission id."""
        queued = self._rows.values(sql.lists.WHOLE_QUEUE)
        accounts = groupby(queued, key=itemgetter(0))
        return {id: place for _, ids in accounts for place, (_, id) in enumerate(ids, 1)}

    def named(self, id: str) -> list[Record]:
        """The requests with this submission id or job id; else those whose id begins with it."""
        found = self._rows.find(sql.lists.JOBS_BY_PREFIX, prefix=id) if id else []
        return [each for each in found if id in (each.submission_id, each.job_id)] or found

    def forget(self, record: Record, removed: str | None) -> Record:
        """Remove links, inputs and everything about the video from an ended request.

        Args:
            removed: the path of its video, as the record has it, if the file was removed.

        Returns:
            What is left. The ledger's files may still contain the rest, see `erase`.

        Raises:
            NotForgotten: it has not ended, or its video was saved somewhere else meanwhile.
        """
        with self._session.transaction(record.workspace.wallet):
            known = self._rows.record(record.submission_id)
            if why := why_not(known):
                raise NotForgotten(why)
            if known.saved_path not in (None, removed):
                raise NotForgotten("its video was saved just now", known.saved_path)
            if is_complete(known):
                return known
            return self._rows.save(known, forgotten(known, self._session.now()))

    def mark_kept(self, record: Record, kept: bool) -> Record:
        """Record whether the user keeps the video of a request. Returns the record after that."""
        id = record.submission_id
        with self._session.transaction(record.workspace.wallet):
            self._rows.write(sql.records.MARK_KEPT, submission_id=id, kept=kept)
            return self._rows.record(id)

    def erase(self, record: Record) -> bool:
        """Remove from the ledger's files what a forgotten request has left in them.

        Returns:
            False if something may be left, because other programs were reading all the time.
        """
        return self._session.erase(record)

    def _values(self, statement: sql.dialects.Statement, choice: Choice) -> Sequence[Sequence[Any]]:
        return self._rows.values(statement, **_values(choice))


def _values(choice: Choice) -> dict[str, object]:
    since = _EPOCH_SECONDS if choice.since is None else choice.since
    accounts = None if choice.accounts is None else json.dumps(sorted(choice.accounts))
    return {"states": json.dumps(sorted(choice.states)), "since": since, "accounts": accounts}
