"""The rows of the audit about what users have paid for, or have withdrawn: `job.buy`, `job.cancel`.

A row is derived from the ledger. Any server can do that at any time, even after the server that
paid was killed, and however the outcome was found. So a payment writes no row, waits for none and
cannot fail because of one. Writing the row in the transaction of the outcome would lose none
either, but then a problem with the audit, such as a revoked right or a lock, would keep a paid job
out of the ledger.

The id of a row consists of the request and its outcome, so each outcome of a request has one row,
however many servers find it, and however often. A request whose answer was lost has a row that says
so, and a second one once its outcome is known. The row of a job waits until PixelDojo has named the
cost, which an incomplete reply does not contain, or until the job has ended.

A server looks at all running jobs, at all requests of unknown outcome, and at those that have ended
since an hour before the newest row. That is enough, because rows are written oldest first, and none
is written if the query has failed.
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
"""How long only the server that paid writes the row (ours), because it alone knows how the user
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
        signed_in: for each request that this server has just settled, the token or the issuer by
            which its user signed in; None for a request that was settled without a call.

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
