"""Statements that read many records: the lists, the work that is open, and the history."""

from functools import cache

from wan_mcp.ledger.record import FREE_OF_CHARGE, LIVE, UNSETTLED, State
from wan_mcp.ledger.statements.columns import (
    HAS_ENDED,
    IS_QUEUED,
    JOBS,
    LIVE_INDEX,
    MY_QUEUE,
    NEWEST_FIRST,
    QUEUED_INDEX,
    states,
)
from wan_mcp.ledger.statements.dialects import Statement, both, where

PLACE = both("SELECT number FROM jobs WHERE account = :account AND handle = :submission_id")
_BESIDE_QUEUE = {State.NOT_SENT: " AND queued_until IS NULL"}
"""Further conditions for an ended record in a state: a queued one is stored as `not_sent`."""
_BEHIND = " AND number < :number"
"""The condition for records that come after a place in a list that begins with the newest."""


@cache
def recent(ended: frozenset[State], after_ended: bool | None = None) -> Statement:
    """All open records, and the newest of those in these other states; newest first.

    Args:
        after_ended: whether the record after which a page begins had ended, so that only ended ones
            follow; None for the first page.
    """
    # Each state by itself: a search for all would pass by every record that is newer than a rare
    # one.
    newest = " UNION ALL ".join(
        f"SELECT number FROM (SELECT number FROM jobs "
        f"WHERE account = :account AND state = '{state}' AND {HAS_ENDED}"
        f"{_BESIDE_QUEUE.get(state, '')}{_BEHIND if after_ended else ''} {NEWEST_FIRST} "
        f"LIMIT :limit) AS {state}"
        for state in sorted(ended)
    )
    behind = _BEHIND if after_ended is False else ""
    live = f"WHERE account = :account AND state IN {states(LIVE)}{behind}"

    def text(live_index: str, queued_index: str) -> str:
        first = (
            ""
            if after_ended
            else (
                f"SELECT number FROM jobs {live_index} {live} UNION ALL "
                f"SELECT number FROM jobs {queued_index} {MY_QUEUE}{behind} UNION ALL "
            )
        )
        return (
            f"{JOBS} number IN ({first}"
            f"SELECT number FROM ({newest} {NEWEST_FIRST} LIMIT :limit) AS newest) {NEWEST_FIRST}"
        )

    return Statement(text(LIVE_INDEX, QUEUED_INDEX), text("", ""))


_STATE = f"CASE WHEN {IS_QUEUED} THEN 'queued' ELSE state END"
JOB_COUNTS = both(f"SELECT {_STATE} AS state, COUNT(*) FROM jobs GROUP BY 1")
UNKNOWN_JOBS = both(f"{JOBS} account = :account AND state = 'unknown' ORDER BY number")


def _may_be_abandoned(mine: str) -> Statement:
    # Unsettled requests, with the process that has to go on with each; and without one, what was
    # queued for too long. A date after the latest possible one was written by a wrong clock.
    unsettled = f"WHERE {mine}state IN {states(LIVE)} AND state IN {states(UNSETTLED)}"
    payer = "COALESCE(wallet, account)"
    overdue = f"WHERE {mine}{IS_QUEUED} AND (queued_until <= :now OR queued_until > :latest)"

    def text(live_index: str, queued_index: str) -> str:
        return (
            f"SELECT handle, {payer}, owner FROM jobs {live_index} {unsettled} UNION ALL "
            f"SELECT handle, {payer}, NULL FROM jobs {queued_index} {overdue}"
        )

    return Statement(text(LIVE_INDEX, QUEUED_INDEX), text("", ""))


MAY_BE_ABANDONED = _may_be_abandoned("")
MINE_MAY_BE_ABANDONED = _may_be_abandoned("account = :account AND ")


def _live_jobs(live_index: str, polled_index: str) -> str:
    # The last condition is that of the index `polled`, word for word.
    mine = "WHERE account = :account"
    return (
        f"{JOBS} number IN (SELECT number FROM jobs {live_index} {mine} "
        f"AND state IN {states(LIVE)} AND state = 'accepted' AND job_id IS NOT NULL "
        f"UNION ALL SELECT number FROM jobs {polled_index} {mine} "
        "AND state = 'completed' AND job_id IS NOT NULL AND video_url IS NULL) "
        "AND (watched_until > :now AND watched_until <= :soon "
        "OR state = 'accepted' AND created_at > :since) ORDER BY number"
    )


LIVE_JOBS = Statement(_live_jobs(LIVE_INDEX, "INDEXED BY polled"), _live_jobs("", ""))
IS_UNSAVED = (
    # Not the jobs that were submitted elsewhere: nobody asked this ledger to save their videos.
    "state = 'completed' AND video_url IS NOT NULL "
    "AND digest IS NOT NULL AND saved_path IS NULL AND not_saved IS NULL "
    "AND (video_folder IS NULL OR video_folder <> '') "
    "AND ended_at > :since"
)
"""That the video of a record is to be saved, and can still be."""
UNSAVED_JOBS = both(f"{JOBS} account = :account AND {IS_UNSAVED} ORDER BY number")
UNINSPECTED_JOBS = both(
    f"{JOBS} account = :account AND state = 'completed' AND digest IS NOT NULL "
    "AND saved_path IS NOT NULL AND inspection IS NULL AND ended_at > :since ORDER BY number"
)
KEPT_VIDEOS = both("SELECT saved_path FROM jobs WHERE kept = 1 AND saved_path IS NOT NULL")
DURATIONS = both(
    "SELECT ended_at - accepted_at FROM jobs WHERE account = :account "
    f"AND state = 'completed' AND {HAS_ENDED} AND digest IS NOT NULL "
    f"AND ended_at > accepted_at {NEWEST_FIRST} LIMIT :limit"
)


_IS_LIVE = f"state IN {states(LIVE)}"
IS_OPEN = f"({_IS_LIVE} OR {IS_QUEUED})"
"""The condition that a record has not ended: in progress, queued, or of unknown outcome."""


def _open_wallets(live_index: str, queued_index: str) -> str:
    # The two parts of IS_OPEN one by one, because each has an index.
    payer = "SELECT COALESCE(wallet, account) FROM jobs"
    return (
        f"{payer} {live_index} WHERE {_IS_LIVE} "
        f"UNION {payer} {queued_index} WHERE {IS_QUEUED} "
        # By their workspaces: an index of what is not saved begins with the account.
        "UNION SELECT wallet FROM workspaces WHERE EXISTS "
        f"(SELECT 1 FROM jobs WHERE jobs.account = workspaces.name AND {IS_UNSAVED})"
    )


OPEN_WALLETS = Statement(_open_wallets(LIVE_INDEX, QUEUED_INDEX), _open_wallets("", ""))

# The history of all accounts, for the owner of the ledger. These read every record.

_CHOSEN = Statement(
    f"{_STATE} IN (SELECT value FROM json_each(:states)) AND created_at >= :since "
    "AND (:accounts IS NULL OR account IN (SELECT value FROM json_each(:accounts)))",
    f"{_STATE} IN (SELECT json_array_elements_text(CAST(:states AS json))) "
    "AND created_at >= :since AND (CAST(:accounts AS TEXT) IS NULL "
    "OR account IN (SELECT json_array_elements_text(CAST(CAST(:accounts AS TEXT) AS json))))",
)


HISTORY = where(JOBS, _CHOSEN, f" {NEWEST_FIRST} LIMIT :limit")
HISTORY_SIZES = where("SELECT account, COUNT(*) FROM jobs WHERE", _CHOSEN, " GROUP BY account")
HISTORY_PRICES = where(
    "SELECT created_at, credit_cost, estimate FROM jobs WHERE",
    _CHOSEN,
    f" AND digest IS NOT NULL AND state NOT IN {states(FREE_OF_CHARGE)} ORDER BY created_at",
)
WHOLE_QUEUE = both(f"SELECT account, handle FROM jobs WHERE {IS_QUEUED} ORDER BY account, number")
EVERY_ID = both("SELECT handle, job_id FROM jobs")
JOBS_BY_PREFIX = both(
    f"{JOBS} SUBSTR(handle, 1, LENGTH(CAST(:prefix AS TEXT))) = CAST(:prefix AS TEXT) "
    f"OR SUBSTR(job_id, 1, LENGTH(CAST(:prefix AS TEXT))) = CAST(:prefix AS TEXT) {NEWEST_FIRST}"
)
