"""Every SQL statement of the ledger, by name, for SQLite and PostgreSQL.

One text serves both where possible. Where the dialects differ, both texts are side by side. Values
have names (`:account`). The texts avoid some traps: GREATEST(NULL, 0) is 0 in PostgreSQL, and
MAX(NULL, 0) is NULL in SQLite; PostgreSQL has no TOTAL, does not accept an integer as a boolean,
cannot infer the type of a NULL, and its REAL has 4 bytes.
"""

from dataclasses import dataclass
from functools import cache

from wan_mcp.ledger.record import ENDED, FREE_OF_CHARGE, LIVE, UNSETTLED, Record, State


@dataclass(frozen=True)
class Statement:
    """One statement in both dialects."""

    sqlite: str
    postgres: str


def _both(sql: str) -> Statement:
    return Statement(sql, sql)


@cache
def states(chosen: frozenset[State]) -> str:
    """States as an SQL list, always in the same order: an index lists them in this order."""
    return "(" + ", ".join(f"'{state}'" for state in sorted(chosen)) + ")"


_HAS_ENDED = "state NOT IN ('accepted', 'intent') AND state NOT IN ('sending', 'unknown')"
"""That a record is not live, word for word as the index `ended_by_age` says it. No list has more
than two states: for a longer one, SQLite builds a table in memory."""
_MAY_HAVE_COST = "(state IN ('completed', 'failed') OR state = 'lost')"
"""That a job has ended, word for word as the index `spent` says it."""

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


_FIELDS = tuple(Record.model_fields)
JOB_COLUMNS = ", ".join(column(field) for field in _FIELDS)

_JOBS = f"SELECT {JOB_COLUMNS} FROM jobs WHERE"

# Records, one at a time.


@cache
def insert_job(fields: tuple[str, ...]) -> Statement:
    """A new record with these fields; the others are NULL."""
    columns, values = map(column, fields), (f":{field}" for field in fields)
    return _both(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join(values)})")


JOB = _both(f"{_JOBS} handle = :submission_id")
HAS_REQUEST = _both("SELECT 1 FROM jobs WHERE handle = :submission_id")
JOB_OF_ACCOUNT = _both(f"{_JOBS} account = :account AND handle = :submission_id")
JOBS_BY_JOB_ID = _both(
    f"{_JOBS} account = :account AND job_id = :job_id ORDER BY digest IS NULL, number"
)
FROM_ELSEWHERE = _both(
    f"{_JOBS} account = :account AND job_id = :job_id AND digest IS NULL ORDER BY number"
)
DELETE_JOB = _both("DELETE FROM jobs WHERE handle = :submission_id")


@cache
def update_job(fields: tuple[str, ...]) -> Statement:
    """Write some fields of a record, unless it has another state or another owner now."""
    assigned = ", ".join(f"{column(field)} = :{field}" for field in fields)
    return _both(
        f"UPDATE jobs SET {assigned} "
        "WHERE handle = :submission_id_before AND state = :state_before AND owner = :owner_before"
    )


# Equal requests. If a seed is given, the record must have it as a generated seed.

_SEED = "(CAST(:seed AS TEXT) IS NULL OR (seed_planted = 1 AND seed = :seed))"
_LIVE_EQUAL = (
    # Also a record beside its equal, whose key is longer (see `rules.beside_its_equal`), but last.
    "account = :account AND SUBSTR(digest, 1, 64) = :dedupe_key "
    f"AND state IN {states(LIVE)} AND {_SEED} ORDER BY LENGTH(digest), number"
)
LIVE_EQUAL = Statement(
    # The index is named because SQLite would read all records of the account instead.
    f"SELECT {JOB_COLUMNS} FROM jobs INDEXED BY live WHERE {_LIVE_EQUAL}",
    f"{_JOBS} {_LIVE_EQUAL}",
)
ENDED_EQUAL = _both(
    f"{_JOBS} account = :account AND exact = :exact_key AND state IN ('completed', 'lost') "
    f"AND {_SEED} AND ended_at > :since AND ended_at <= :until ORDER BY ended_at DESC LIMIT 1"
)


def _live_or_just_ended(index: str) -> str:
    # The newest are chosen before their end is looked at: an account has years of ended jobs.
    newest = " UNION ALL ".join(
        f"SELECT number FROM (SELECT number, ended_at FROM jobs WHERE account = :account "
        f"AND state = '{state}' AND {_HAS_ENDED} ORDER BY created_at DESC, number DESC "
        f"LIMIT :limit) AS {state} WHERE ended_at >= :since AND ended_at <= :until"
        for state in (State.COMPLETED, State.LOST)
    )
    return (
        "SELECT handle, arguments, spelling_key FROM jobs WHERE number IN (SELECT number FROM jobs "
        f"{index} WHERE account = :account "
        f"AND state IN {states(LIVE)} UNION ALL {newest}) ORDER BY created_at DESC, number DESC"
    )


LIVE_OR_JUST_ENDED = Statement(_live_or_just_ended("INDEXED BY live"), _live_or_just_ended(""))
CHARGES = _both(
    # The newest are chosen before their cost is looked at: PixelDojo may never name one, and then
    # all would be searched.
    "SELECT arguments, credit_cost FROM (SELECT arguments, credit_cost, created_at, number "
    "FROM jobs WHERE account = :account AND digest IS NOT NULL "
    "ORDER BY created_at DESC, number DESC LIMIT :limit) AS newest "
    "WHERE credit_cost > 0 ORDER BY created_at DESC, number DESC"
)
JOB_ID_OF_ANOTHER = _both(
    "SELECT 1 FROM jobs WHERE account = :account AND job_id = :job_id AND digest IS NOT NULL "
    "AND handle <> :submission_id"
)

# Lists.

_NEWEST_FIRST = "ORDER BY created_at DESC, number DESC"
_LIVE_INDEX = "INDEXED BY live"
"""SQLite would read the whole history of the account, or of its day, instead."""


PLACE = _both(
    "SELECT created_at, number FROM jobs WHERE account = :account AND handle = :submission_id"
)
_BEHIND = " AND (created_at, number) < (CAST(:created_at AS DOUBLE PRECISION), :number)"
"""Records that a list which begins with the newest shows after the one at that place."""


@cache
def recent(ended: frozenset[State], after_ended: bool | None = None) -> Statement:
    """All live records, and the newest of those in these other states; newest first.

    Args:
        after_ended: whether the record after which a page begins had ended, so that only ended ones
            follow; None for the first page.
    """
    # Each state by itself: a search for all would pass by every record that is newer than a rare
    # one.
    newest = " UNION ALL ".join(
        f"SELECT number, created_at FROM (SELECT number, created_at FROM jobs "
        f"WHERE account = :account AND state = '{state}' AND {_HAS_ENDED}"
        f"{_BEHIND if after_ended else ''} {_NEWEST_FIRST} LIMIT :limit) AS {state}"
        for state in sorted(ended)
    )
    where = f"WHERE account = :account AND state IN {states(LIVE)}"
    live = f"{where}{_BEHIND if after_ended is False else ''} UNION ALL "

    def text(index: str) -> str:
        first = "" if after_ended else f"SELECT number FROM jobs {index} {live}"
        return (
            f"{_JOBS} number IN ({first}"
            f"SELECT number FROM ({newest} {_NEWEST_FIRST} LIMIT :limit) AS newest) {_NEWEST_FIRST}"
        )

    return Statement(text(_LIVE_INDEX), text(""))


JOB_COUNTS = _both("SELECT state, COUNT(*) FROM jobs GROUP BY state")
UNKNOWN_JOBS = _both(f"{_JOBS} account = :account AND state = 'unknown' ORDER BY number")
_UNSETTLED = (
    f"WHERE state IN {states(LIVE)} AND state IN {states(UNSETTLED)} ORDER BY owner, number"
)
UNSETTLED_JOBS = Statement(
    f"SELECT {JOB_COLUMNS} FROM jobs {_LIVE_INDEX} {_UNSETTLED}",
    f"SELECT {JOB_COLUMNS} FROM jobs {_UNSETTLED}",
)


def _live_jobs(live_index: str, polled_index: str) -> str:
    # The last condition is that of the index `polled`, word for word.
    mine = "WHERE account = :account"
    return (
        f"{_JOBS} number IN (SELECT number FROM jobs {live_index} {mine} "
        f"AND state IN {states(LIVE)} AND state = 'accepted' AND job_id IS NOT NULL "
        f"UNION ALL SELECT number FROM jobs {polled_index} {mine} "
        "AND state = 'completed' AND job_id IS NOT NULL AND video_url IS NULL) "
        "AND (watched_until > :now AND watched_until <= :soon "
        "OR state = 'accepted' AND created_at > :since) ORDER BY number"
    )


LIVE_JOBS = Statement(_live_jobs(_LIVE_INDEX, "INDEXED BY polled"), _live_jobs("", ""))
UNSAVED_JOBS = _both(
    # Not the jobs that were submitted elsewhere: nobody asked this ledger to save their videos.
    f"{_JOBS} account = :account AND state = 'completed' AND video_url IS NOT NULL "
    "AND digest IS NOT NULL AND saved_path IS NULL AND not_saved IS NULL "
    "AND (video_folder IS NULL OR video_folder <> '') "
    "AND ended_at > :since ORDER BY number"
)
UNINSPECTED_JOBS = _both(
    f"{_JOBS} account = :account AND state = 'completed' AND digest IS NOT NULL "
    "AND saved_path IS NOT NULL AND inspection IS NULL AND ended_at > :since ORDER BY number"
)
_AMONG = Statement(
    "handle IN (SELECT value FROM json_each(:submission_ids))",
    "handle IN (SELECT json_array_elements_text(CAST(:submission_ids AS json)))",
)


def _where(before: str, condition: Statement, after: str = "") -> Statement:
    """A statement whose condition differs between the dialects."""
    return Statement(
        f"{before} {condition.sqlite}{after}",
        f"{before} {condition.postgres}{after}",
    )


JOBS_AMONG = _where(_JOBS, _AMONG)
DURATIONS = _both(
    "SELECT ended_at - accepted_at FROM jobs WHERE account = :account "
    f"AND state = 'completed' AND {_HAS_ENDED} AND digest IS NOT NULL "
    "AND ended_at > accepted_at ORDER BY created_at DESC LIMIT :limit"
)

# One fact about one or several records.

MARK_WATCHED = _where("UPDATE jobs SET watched_until = :until WHERE", _AMONG)
# A reading that began before another one saw the end of the job changes nothing.
_STILL_OPEN = " AND state <> 'failed' AND (state <> 'completed' OR video_url IS NULL)"
MARK_REPLIED = _where(
    "UPDATE jobs SET looked_at = :now, heard_at = :now, trouble = NULL, trouble_code = NULL WHERE",
    _AMONG,
    _STILL_OPEN,
)
MARK_NO_REPLY = _where(
    "UPDATE jobs SET looked_at = :now, trouble = :last_error, trouble_code = :last_error_code "
    "WHERE",
    _AMONG,
    _STILL_OPEN,
)
MARK_SAVED = _both(
    "UPDATE jobs SET saved_path = :saved_path, sha256 = :sha256, size = :size, not_saved = NULL, "
    "last_save_error = NULL WHERE handle = :submission_id AND forgotten_at IS NULL"
)
# Another process may have saved it meanwhile.
MARK_NOT_SAVED = _both(
    "UPDATE jobs SET not_saved = :why, last_save_error = NULL "
    "WHERE handle = :submission_id AND saved_path IS NULL AND forgotten_at IS NULL"
)
MARK_NOT_SAVED_YET = _both(
    "UPDATE jobs SET last_save_error = :why "
    "WHERE handle = :submission_id AND saved_path IS NULL AND forgotten_at IS NULL"
)
MARK_INSPECTED = _both(
    "UPDATE jobs SET inspection = :inspection "
    "WHERE handle = :submission_id AND forgotten_at IS NULL"
)

# The history of all accounts, for the owner of the ledger. These read every record.

_CHOSEN = Statement(
    "state IN (SELECT value FROM json_each(:states)) AND created_at >= :since",
    "state IN (SELECT json_array_elements_text(CAST(:states AS json))) AND created_at >= :since",
)


HISTORY = _where(_JOBS, _CHOSEN, f" {_NEWEST_FIRST} LIMIT :limit")
HISTORY_SIZES = _where("SELECT account, COUNT(*) FROM jobs WHERE", _CHOSEN, " GROUP BY account")
HISTORY_PRICES = _where(
    "SELECT created_at, credit_cost, estimate FROM jobs WHERE",
    _CHOSEN,
    f" AND digest IS NOT NULL AND state NOT IN {states(FREE_OF_CHARGE)} ORDER BY created_at",
)
EVERY_ID = _both("SELECT handle, job_id FROM jobs")
JOBS_BY_PREFIX = _both(
    f"{_JOBS} SUBSTR(handle, 1, LENGTH(CAST(:prefix AS TEXT))) = CAST(:prefix AS TEXT) "
    f"OR SUBSTR(job_id, 1, LENGTH(CAST(:prefix AS TEXT))) = CAST(:prefix AS TEXT) {_NEWEST_FIRST}"
)

# Spending: the account's requests within some seconds of now. A record that a wrong clock dated in
# the future counts too, if its date is at most so many seconds ahead.

_PRICE = (
    "CASE WHEN COALESCE(credit_cost, estimate) < 0 THEN 0 ELSE COALESCE(credit_cost, estimate) END"
)
"""Credits that a record counts as; NULL if no price is known. A negative price counts as 0."""
_MINE = "WHERE account = :account AND digest IS NOT NULL"
_DAY = (
    "created_at > CAST(:now AS DOUBLE PRECISION) - :within "
    "AND created_at < CAST(:now AS DOUBLE PRECISION) + :within"
)
_WITHIN = f"{_MINE} AND {_DAY}"
_SPENT_INDEX = "INDEXED BY spent"
"""SQLite would read the rows of the jobs instead, or the jobs of all days."""


def _totals(live_index: str, spent_index: str) -> str:
    # Two searches: the ended ones have an index of their own, which has all that is read of them.
    costs = "SELECT created_at, credit_cost FROM jobs"
    return (
        f"SELECT COUNT(*), COALESCE(SUM(CASE WHEN {_DAY} THEN credit_cost END), 0.0), "
        "COALESCE(SUM(credit_cost), 0.0), COUNT(*) - COUNT(credit_cost) "
        f"FROM ({costs} {spent_index} {_MINE} AND {_MAY_HAVE_COST} UNION ALL "
        f"{costs} {live_index} {_MINE} AND state IN {states(LIVE)}) AS paid"
    )


TOTALS = Statement(_totals(_LIVE_INDEX, _SPENT_INDEX), _totals("", ""))


def _highest_price(live_index: str) -> str:
    # The ended ones have an index by their price.
    return (
        f"SELECT MAX(price) FROM (SELECT MAX({_PRICE}) AS price FROM jobs {_MINE} AND {_HAS_ENDED} "
        f"UNION ALL SELECT MAX({_PRICE}) FROM jobs {live_index} {_MINE} "
        f"AND state IN {states(LIVE)}) AS highest"
    )


HIGHEST_PRICE = Statement(_highest_price(_LIVE_INDEX), _highest_price(""))


def _paid(live_index: str, spent_index: str) -> str:
    # Every state that is not free of charge, each by itself: the index has the days of each.
    prices = "SELECT credit_cost, estimate FROM jobs"
    ended = " UNION ALL ".join(
        f"{prices} {spent_index} {_MINE} AND {_DAY} AND state = '{state}' AND {_MAY_HAVE_COST}"
        for state in sorted(ENDED)
    )
    return (
        f"SELECT COALESCE(SUM({_PRICE}), 0.0), COUNT(*) - COUNT(COALESCE(credit_cost, estimate)) "
        f"FROM ({ended} UNION ALL "
        f"{prices} {live_index} {_MINE} AND {_DAY} AND state IN {states(LIVE)}) AS paid"
    )


PAID = Statement(_paid(_LIVE_INDEX, _SPENT_INDEX), _paid("", ""))
PAYMENTS = _both(
    f"SELECT :now - created_at, COALESCE({_PRICE}, :unpriced) FROM jobs {_WITHIN} "
    f"AND state NOT IN {states(FREE_OF_CHARGE)} ORDER BY created_at"
)
_IN_FLIGHT = f"{_WITHIN} AND state IN {states(LIVE)} ORDER BY created_at"
_LIVE_AGES = "SELECT state, :now - created_at, COALESCE(job_id, handle) FROM jobs"
IN_FLIGHT = Statement(
    f"{_LIVE_AGES} {_LIVE_INDEX} {_IN_FLIGHT}",
    f"{_LIVE_AGES} {_IN_FLIGHT}",
)
LAST_BALANCE = _both(
    # The newest are chosen before their balance is looked at: PixelDojo may never name one.
    "SELECT credits_remaining, COALESCE(accepted_at, created_at) AS reported_at FROM ("
    "SELECT credits_remaining, accepted_at, created_at FROM jobs "
    "WHERE account = :account AND digest IS NOT NULL "
    "ORDER BY created_at DESC, number DESC LIMIT :limit) AS newest "
    "WHERE credits_remaining IS NOT NULL ORDER BY reported_at DESC LIMIT 1"
)
SUBMIT_AGES = _both(
    f"SELECT :now - created_at FROM jobs {_WITHIN} AND state <> 'not_sent' ORDER BY created_at"
)

# Leases, the rate limit, and the secret.

INSERT_KEY = _both("INSERT INTO keys (account) VALUES (:account) ON CONFLICT DO NOTHING")
KEY = _both(
    "SELECT poller, poller_until, per_minute, cut_at, held_until FROM keys WHERE account = :account"
)
TAKE_LEASE = _both("UPDATE keys SET poller = :me, poller_until = :until WHERE account = :account")
LEAVE_LEASE = _both("UPDATE keys SET poller = NULL WHERE account = :account AND poller = :me")
SET_LIMIT = _both(
    "UPDATE keys SET per_minute = :per_minute, cut_at = :cut_at, held_until = :held_until "
    "WHERE account = :account"
)
FORGET_REQUESTS = _both("DELETE FROM requests WHERE account = :account AND made_at <= :since")
# Requests that a wrong clock dated in the future count as made now: they are neither forgotten nor
# counted for long.
DATE_BACK_REQUESTS = _both(
    "UPDATE requests SET made_at = :now WHERE account = :account AND made_at > :now"
)
REQUEST_AGES = _both(
    "SELECT :now - made_at FROM requests WHERE account = :account ORDER BY made_at"
)
INSERT_REQUEST = _both("INSERT INTO requests (account, made_at) VALUES (:account, :now)")
SECRET = _both("SELECT account_key FROM secret")
