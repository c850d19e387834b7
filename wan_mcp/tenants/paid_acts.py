"""The rows of the audit about what users have paid for, or have withdrawn: `job.buy`, `job.cancel`.

A row is derived from the ledger, which any server can do at any time: also when the one that paid
was killed, and whichever way an outcome was found. So a payment writes no row, waits for none and
cannot fail because of one. To write the row in the transaction of the outcome would lose none
either, but then whatever keeps the audit from being written, such as a right that was taken away
or a lock, would keep a paid job out of the ledger.

The id of a row is the request and its outcome, so each outcome of a request has one row, whoever
finds it and however often. A request whose answer was lost has a row that says that, and another
one when it is known what became of it. The row of a job waits until PixelDojo has named its cost,
which a reply that was cut does not, or until the job has ended.

A server looks at all jobs that are running, at all requests of unknown outcome, and at what has
ended since an hour before the newest row. That is enough: rows are written oldest first, and none
where the look has failed.
"""

from collections.abc import Mapping
from typing import NamedTuple

from wan_mcp.errors import Code
from wan_mcp.ledger.postgres.connection import Link, limits
from wan_mcp.ledger.record import WITHDRAWN, State
from wan_mcp.tenants.audit import NOW, Entry

BUY, CANCEL = "job.buy", "job.cancel"
"""The actions."""
ACCEPTED, LOST = "accepted", Code.OUTCOME_UNKNOWN
"""The outcomes of a request, beside `refused` and `not_sent`."""

OWN_SECONDS = 30.0
"""For so long only the server that paid writes the row (ours): it alone knows how the user has
signed in."""
OVERLAP_SECONDS = 3600.0
"""A change is visible much sooner after its date (ours): transactions end within seconds."""
MOST_AT_ONCE = 500
"""Rows that are written at once (ours)."""

# A row that a wrong clock has dated in the future does not count: what is settled now is before it.
_NEWEST = f"""
SELECT COALESCE(MAX(at), 0.0) FROM audit WHERE action IN ('{BUY}', '{CANCEL}') AND at <= {NOW}
""".encode()
# The conditions are those of the indexes `live` and `ended_of_users`.
_WITHOUT_ROW = f"""
SELECT o.user_id, o.wallet, j.handle, j.job_id, j.credit_cost, j.error, j.at, j.outcome
FROM (
    SELECT handle, account, job_id, credit_cost, error,
        COALESCE(accepted_at, ended_at, sent_at, created_at) AS at,
        CASE WHEN job_id IS NOT NULL THEN '{ACCEPTED}'
            WHEN state = '{State.UNKNOWN}' THEN '{LOST}' ELSE state END AS outcome
    FROM jobs WHERE (state IN ('{State.ACCEPTED}', '{State.UNKNOWN}')
            OR (wallet IS NOT NULL AND ended_at > %(since)s))
        AND (job_id IS NULL OR credit_cost IS NOT NULL OR ended_at IS NOT NULL)
) AS j JOIN user_workspaces o ON o.name = j.account
WHERE NOT EXISTS (SELECT 1 FROM audit WHERE id = j.handle || ' ' || j.outcome)
    AND (j.at < {NOW} - %(own)s OR j.handle = ANY(%(mine)s))
ORDER BY j.at, j.handle LIMIT %(limit)s
""".encode()


class _Settled(NamedTuple):
    """A request without its row, in the order of the statement."""

    user: str
    wallet: str
    request: str
    job: str | None
    credits: float | None
    error: str | None
    at: float
    outcome: str


def write(link: Link, signed_in: Mapping[str, str | None]) -> bool:
    """Write rows that are missing, the oldest first. All of them are written, or none.

    Args:
        link: in autocommit.
        signed_in: by which token or issuer the user of each request has signed in that this server
            has just ended; None where nobody called.

    Returns:
        Whether more may be missing.
    """
    [(newest,)] = link.run((limits(), None), (_NEWEST, None))[-1]
    asked = {
        "since": newest - OVERLAP_SECONDS,
        "own": OWN_SECONDS,
        "mine": list(signed_in),
        "limit": MOST_AT_ONCE,
    }
    found = [_Settled(*row) for row in link.run((limits(), None), (_WITHOUT_ROW, asked))[-1]]
    if found:
        entries = [_entry(each, signed_in.get(each.request)) for each in found]
        link.run((limits(), None), *(entry.part for entry in entries))
    return len(found) == MOST_AT_ONCE


def _entry(settled: _Settled, signed_in: str | None) -> Entry:
    user, wallet, request, job, credits, error, at, outcome = settled
    detail: dict[str, object] = {"wallet": wallet, "signed_in": signed_in}
    if job is not None:
        detail |= {"credits": credits, "request": request}
        entry = Entry.new(user, BUY, job, outcome, detail)
    elif outcome == State.NOT_SENT and error == WITHDRAWN:
        entry = Entry.new(user, CANCEL, request, "done", detail)
    else:
        entry = Entry.new(user, BUY, request, outcome, detail | {"why": error})
    return entry._replace(id=f"{request} {outcome}", at=at)
