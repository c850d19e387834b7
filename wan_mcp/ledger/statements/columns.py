"""The columns of a record, and the conditions that statements about records share."""

from functools import cache

from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.statements.dialects import Statement


@cache
def states(chosen: frozenset[State]) -> str:
    """States as an SQL list, always in the same order: an index lists them in this order."""
    return "(" + ", ".join(f"'{state}'" for state in sorted(chosen)) + ")"


HAS_ENDED = "state NOT IN ('accepted', 'intent') AND state NOT IN ('sending', 'unknown')"
"""The condition that a record is not live, word for word as in the index `ended_by_age`. No list
has more than two states: for a longer one, SQLite builds a table in memory."""
MAY_HAVE_COST = "(state IN ('completed', 'failed') OR state = 'lost')"
"""The condition that a job has ended, word for word as in the index `spent`."""

COLUMNS = {
    "submission_id": "handle",
    "dedupe_key": "digest",
    "exact_key": "exact",
    "seed_generated": "seed_planted",
    "last_polled_at": "looked_at",
    "last_reply_at": "heard_at",
    "last_error": "trouble",
    "last_error_code": "trouble_code",
}
"""The columns that have another name than the field of a record. A column keeps its first name for
ever, so that servers of different versions can use one ledger."""


def column(field: str) -> str:
    """The column of a field of a record."""
    return COLUMNS.get(field, field)


COUNTS_AS = (
    "CASE WHEN digest IS NOT NULL AND (state IN ('completed', 'failed') OR state = 'lost') "
    "THEN COALESCE(credit_cost, -1e300) END"
)
"""What an ended job adds to the totals of its account: the cost that PixelDojo named, or -1e300 if
it named none; NULL for everything else."""
IS_UNCOUNTED = f"COALESCE(counted_as, -2e300) <> COALESCE({COUNTS_AS}, -2e300)"
"""The condition that the table `totals` contains another amount for it, as after its end, or after
a change by a server of a version without that table; word for word as in the index `uncounted`."""

NEWEST_FIRST = "ORDER BY number DESC"
"""The order is by number, not by date: the clock may be set back, and the date of a queued request
moves when it is sent. A record that moved between two pages of a list would be in neither."""

_FIELDS = tuple(Record.model_fields)
JOB_COLUMNS = ", ".join(column(field) for field in _FIELDS)

JOBS = f"SELECT {JOB_COLUMNS} FROM jobs WHERE"

IS_QUEUED = "state = 'not_sent' AND queued_until IS NOT NULL"
"""The condition that a request waits for its turn, see `record.State.QUEUED`."""
MY_QUEUE = f"WHERE account = :account AND {IS_QUEUED}"
QUEUED_INDEX = "INDEXED BY queued"
"""Without it, SQLite would read all requests that were ever not sent."""


def queued(*conditions: str) -> Statement:
    """The queued records of an account that meet these conditions, in the order of queueing.

    They are ordered by their number, not by their date, because a clock may be set back.
    """
    chosen = " AND ".join([MY_QUEUE, *conditions])
    columns = f"SELECT {JOB_COLUMNS} FROM jobs"
    order = "ORDER BY number"
    return Statement(f"{columns} {QUEUED_INDEX} {chosen} {order}", f"{columns} {chosen} {order}")


LIVE_INDEX = "INDEXED BY live"
"""Without it, SQLite would read the whole history of the account, or of its day."""
