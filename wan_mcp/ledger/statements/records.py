"""Statements about one record, about equal requests, and about one fact of several records."""

from functools import cache

from wan_mcp.ledger.record import LIVE, State
from wan_mcp.ledger.statements.columns import (
    HAS_ENDED,
    JOB_COLUMNS,
    JOBS,
    MY_QUEUE,
    NEWEST_FIRST,
    QUEUED_INDEX,
    column,
    states,
)
from wan_mcp.ledger.statements.dialects import Statement, both, where

# Records, one at a time.


@cache
def insert_job(fields: tuple[str, ...]) -> Statement:
    """A new record with these fields; the others are NULL."""
    columns, values = map(column, fields), (f":{field}" for field in fields)
    return both(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join(values)})")


JOB = both(f"{JOBS} handle = :submission_id")
HAS_REQUEST = both("SELECT 1 FROM jobs WHERE handle = :submission_id")
JOB_OF_ACCOUNT = both(f"{JOBS} account = :account AND handle = :submission_id")
JOBS_BY_JOB_ID = both(
    f"{JOBS} account = :account AND job_id = :job_id ORDER BY digest IS NULL, number"
)
FROM_ELSEWHERE = both(
    "SELECT handle FROM jobs "
    "WHERE account = :account AND job_id = :job_id AND digest IS NULL ORDER BY number"
)
DELETE_JOB = both("DELETE FROM jobs WHERE handle = :submission_id")


@cache
def update_job(fields: tuple[str, ...]) -> Statement:
    """Write some fields of a record, unless it has another state or another owner now."""
    assigned = ", ".join(f"{column(field)} = :{field}" for field in fields)
    return both(
        f"UPDATE jobs SET {assigned} "
        "WHERE handle = :submission_id_before AND state = :state_before AND owner = :owner_before"
        " AND COALESCE(queued_until, 0.0)"
        " = COALESCE(CAST(:queued_until_before AS DOUBLE PRECISION), 0.0)"
    )


# Equal requests.

_LIVE_EQUAL = (
    # Also a record beside its equal, whose key is longer (see `rules.beside_its_equal`), but last.
    "account = :account AND SUBSTR(digest, 1, 64) = :dedupe_key "
    f"AND state IN {states(LIVE)} ORDER BY LENGTH(digest), number"
)
LIVE_EQUAL = Statement(
    # The index is named because SQLite would read all records of the account instead.
    f"SELECT {JOB_COLUMNS} FROM jobs INDEXED BY live WHERE {_LIVE_EQUAL}",
    f"{JOBS} {_LIVE_EQUAL}",
)


def _may_be_equal(live_index: str, queued_index: str) -> str:
    # Whatever is open; the newest of what has just ended, chosen before their end is looked at,
    # because an account has years of ended jobs; and all that has just ended with this key.
    newest = " UNION ALL ".join(
        f"SELECT number FROM (SELECT number, ended_at FROM jobs WHERE account = :account "
        f"AND state = '{state}' AND {HAS_ENDED} {NEWEST_FIRST} "
        f"LIMIT :limit) AS {state} WHERE ended_at >= :since AND ended_at <= :until"
        for state in (State.COMPLETED, State.LOST)
    )
    return (
        "SELECT number, handle, state, digest, exact, seed, seed_planted, arguments, spelling_key, "
        f"ended_at FROM jobs WHERE number IN (SELECT number FROM jobs {live_index} "
        f"WHERE account = :account AND state IN {states(LIVE)} "
        f"UNION ALL SELECT number FROM jobs {queued_index} {MY_QUEUE} "
        "UNION ALL SELECT number FROM jobs WHERE account = :account "
        "AND exact IN (:exact_key, :seedless_exact_key) AND state IN ('completed', 'lost') "
        # The sign keeps a plan for any values from searching for the dates instead of the keys: by
        # dates it would go through all jobs of the account (measured).
        "AND +ended_at >= :since AND +ended_at <= :until "
        f"UNION ALL {newest}) {NEWEST_FIRST}"
    )


MAY_BE_EQUAL = Statement(_may_be_equal("INDEXED BY live", QUEUED_INDEX), _may_be_equal("", ""))
JOB_ID_OF_ANOTHER = both(
    "SELECT 1 FROM jobs WHERE account = :account AND job_id = :job_id AND digest IS NOT NULL "
    "AND handle <> :submission_id"
)

_AMONG = Statement(
    "handle IN (SELECT value FROM json_each(:submission_ids))",
    "handle IN (SELECT json_array_elements_text(CAST(:submission_ids AS json)))",
)

JOBS_AMONG = where(JOBS, _AMONG)

# One fact about one or several records.

MARK_WATCHED = where("UPDATE jobs SET watched_until = :until WHERE", _AMONG)
# A reading that began before another one saw the end of the job changes nothing.
_STILL_OPEN = " AND state <> 'failed' AND (state <> 'completed' OR video_url IS NULL)"
MARK_REPLIED = where(
    "UPDATE jobs SET looked_at = :now, heard_at = :now, trouble = NULL, trouble_code = NULL WHERE",
    _AMONG,
    _STILL_OPEN,
)
MARK_NO_REPLY = where(
    "UPDATE jobs SET looked_at = :now, trouble = :last_error, trouble_code = :last_error_code "
    "WHERE",
    _AMONG,
    _STILL_OPEN,
)
MARK_SAVED = both(
    "UPDATE jobs SET saved_path = :saved_path, sha256 = :sha256, size = :size, not_saved = NULL, "
    "last_save_error = NULL WHERE handle = :submission_id AND forgotten_at IS NULL"
)
# Another process may have saved it meanwhile.
MARK_NOT_SAVED = both(
    "UPDATE jobs SET not_saved = :why, last_save_error = NULL "
    "WHERE handle = :submission_id AND saved_path IS NULL AND forgotten_at IS NULL"
)
MARK_NOT_SAVED_YET = both(
    "UPDATE jobs SET last_save_error = :why "
    "WHERE handle = :submission_id AND saved_path IS NULL AND forgotten_at IS NULL"
)
MARK_KEPT = both(
    "UPDATE jobs SET kept = :kept WHERE handle = :submission_id AND forgotten_at IS NULL"
)
MARK_INSPECTED = both(
    "UPDATE jobs SET inspection = :inspection "
    "WHERE handle = :submission_id AND forgotten_at IS NULL"
)
