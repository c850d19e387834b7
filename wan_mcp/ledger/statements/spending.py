"""Statements about what was spent, and what it may cost next."""

from wan_mcp.ledger.record import ENDED, FREE_OF_CHARGE, LIVE
from wan_mcp.ledger.statements.columns import (
    COUNTS_AS,
    HAS_ENDED,
    IS_UNCOUNTED,
    LIVE_INDEX,
    MAY_HAVE_COST,
    states,
)
from wan_mcp.ledger.statements.dialects import Statement, both

CHARGES = both(
    # The newest are chosen before their cost is looked at: PixelDojo may never name one, and then
    # all would be searched.
    "SELECT arguments, credit_cost FROM (SELECT arguments, credit_cost, created_at, number "
    "FROM jobs WHERE account = :account AND digest IS NOT NULL "
    "ORDER BY created_at DESC, number DESC LIMIT :limit) AS newest "
    "WHERE credit_cost > 0 ORDER BY created_at DESC, number DESC"
)

# Spending: the account's requests within some seconds of now. A record that a wrong clock dated in
# the future counts too, if its date is at most that many seconds ahead.

PRICE = (
    "CASE WHEN COALESCE(credit_cost, estimate) < 0 THEN 0 ELSE COALESCE(credit_cost, estimate) END"
)
"""The credits that a record counts as; NULL if no price is known. A negative price counts as 0."""
_MINE = "WHERE account = :account AND digest IS NOT NULL"
_DAY = (
    "created_at > CAST(:now AS DOUBLE PRECISION) - :within "
    "AND created_at < CAST(:now AS DOUBLE PRECISION) + :within"
)
_WITHIN = f"{_MINE} AND {_DAY}"
_SPENT_INDEX = "INDEXED BY spent"
"""Without it, SQLite would read the rows of the jobs, or the jobs of all days."""


def _known(counted: str) -> str:
    """What this amount adds to the credits: nothing where PixelDojo named no cost."""
    return f"CASE WHEN {counted} <> -1e300 THEN {counted} ELSE 0.0 END"


def _one(condition: str) -> str:
    return f"CASE WHEN {condition} THEN 1 ELSE 0 END"


def _totals(live_index: str, spent_index: str, uncounted_index: str) -> str:
    # What was added up, what has changed since, what is live; and of the day, each state by itself.
    costs = "SELECT credit_cost FROM jobs"
    day = " UNION ALL ".join(
        f"{costs} {spent_index} {_MINE} AND {_DAY} AND state = '{state}' AND {MAY_HAVE_COST}"
        for state in sorted(ENDED)
    )
    changed = (
        f"SELECT {COUNTS_AS} AS counts_as, counted_as FROM jobs {uncounted_index} "
        f"WHERE account = :account AND {IS_UNCOUNTED}"
    )
    return (
        "SELECT CAST(COALESCE(SUM(jobs), 0) AS BIGINT), COALESCE(SUM(day), 0.0), "
        "COALESCE(SUM(credits), 0.0), CAST(COALESCE(SUM(without_cost), 0) AS BIGINT) FROM ("
        "SELECT jobs, 0.0 AS day, credits, without_cost FROM totals WHERE account = :account "
        f"UNION ALL SELECT {_one('counts_as IS NOT NULL')} - {_one('counted_as IS NOT NULL')}, "
        f"0.0, {_known('counts_as')} - {_known('counted_as')}, "
        f"{_one('counts_as = -1e300')} - {_one('counted_as = -1e300')} FROM ({changed}) AS changed "
        f"UNION ALL SELECT 0, credit_cost, 0.0, 0 FROM ({day}) AS today "
        f"UNION ALL SELECT 1, CASE WHEN {_DAY} THEN credit_cost END, credit_cost, "
        f"CASE WHEN credit_cost IS NULL THEN 1 ELSE 0 END FROM jobs {live_index} {_MINE} "
        f"AND state IN {states(LIVE)}) AS paid"
    )


_UNCOUNTED_INDEX = "INDEXED BY uncounted"
"""Without it, SQLite would read all records of the account."""
TOTALS = Statement(_totals(LIVE_INDEX, _SPENT_INDEX, _UNCOUNTED_INDEX), _totals("", "", ""))


def _uncounted(index: str, locked: str) -> str:
    return (
        f"SELECT number, {COUNTS_AS}, counted_as FROM jobs {index} "
        f"WHERE account = :account AND {IS_UNCOUNTED} LIMIT :limit{locked}"
    )


def _with_uncounted(index: str) -> str:
    return f"SELECT DISTINCT account FROM jobs {index} WHERE {IS_UNCOUNTED}"


WITH_UNCOUNTED = Statement(_with_uncounted(_UNCOUNTED_INDEX), _with_uncounted(""))
UNCOUNTED = Statement(_uncounted(_UNCOUNTED_INDEX, ""), _uncounted("", " FOR UPDATE"))
MARK_COUNTED = Statement(
    f"UPDATE jobs SET counted_as = {COUNTS_AS} "
    "WHERE number IN (SELECT value FROM json_each(:numbers))",
    f"UPDATE jobs SET counted_as = {COUNTS_AS} WHERE number IN "
    "(SELECT CAST(json_array_elements_text(CAST(:numbers AS json)) AS BIGINT))",
)
ADD_TO_TOTALS = both(
    "INSERT INTO totals (account, jobs, credits, without_cost) "
    "VALUES (:account, :jobs, :credits, :without_cost) ON CONFLICT (account) DO UPDATE SET "
    "jobs = totals.jobs + excluded.jobs, credits = totals.credits + excluded.credits, "
    "without_cost = totals.without_cost + excluded.without_cost"
)


def _highest_price(live_index: str) -> str:
    # The ended ones have an index by their price.
    return (
        f"SELECT MAX(price) FROM (SELECT MAX({PRICE}) AS price FROM jobs {_MINE} AND {HAS_ENDED} "
        f"UNION ALL SELECT MAX({PRICE}) FROM jobs {live_index} {_MINE} "
        f"AND state IN {states(LIVE)}) AS highest"
    )


HIGHEST_PRICE = Statement(_highest_price(LIVE_INDEX), _highest_price(""))


_NOT_FREE = f"state NOT IN {states(FREE_OF_CHARGE)}"
_UNPRICED = "COUNT(*) - COUNT(COALESCE(credit_cost, estimate))"


def _paid_in_sqlite() -> str:
    # Every state that is not free of charge is by itself, because the index has the days of each,
    # and each is summed by itself: to hand every job on takes longer than to add it.
    prices = f"SELECT account, SUM({PRICE}) AS credits, {_UNPRICED} AS without_price FROM jobs"
    ended = " UNION ALL ".join(
        f"{prices} {_SPENT_INDEX} {_MINE} AND {_DAY} "
        f"AND state = '{state}' AND {MAY_HAVE_COST} GROUP BY account"
        for state in sorted(ENDED)
    )
    return (
        "SELECT account, COALESCE(SUM(credits), 0.0), SUM(without_price) "
        f"FROM ({ended} UNION ALL {prices} {LIVE_INDEX} {_MINE} AND {_DAY} "
        f"AND state IN {states(LIVE)} GROUP BY account) AS paid GROUP BY account"
    )


PAID = Statement(
    # The sums are those of each workspace. PostgreSQL finds all of a day at once faster (measured).
    _paid_in_sqlite(),
    f"SELECT account, COALESCE(SUM({PRICE}), 0.0), {_UNPRICED} FROM jobs {_WITHIN} "
    f"AND {_NOT_FREE} GROUP BY account",
)
PAYMENTS = both(
    f"SELECT :now - created_at, COALESCE({PRICE}, :unpriced) FROM jobs {_WITHIN} "
    f"AND {_NOT_FREE} ORDER BY created_at"
)
_IN_FLIGHT = f"{_WITHIN} AND state IN {states(LIVE)} ORDER BY created_at"
_LIVE_AGES = "SELECT account, state, :now - created_at, COALESCE(job_id, handle) FROM jobs"
IN_FLIGHT = Statement(
    f"{_LIVE_AGES} {LIVE_INDEX} {_IN_FLIGHT}",
    f"{_LIVE_AGES} {_IN_FLIGHT}",
)
LAST_BALANCE = both(
    # The newest are chosen before their balance is looked at: PixelDojo may never name one.
    "SELECT credits_remaining, COALESCE(accepted_at, created_at) AS reported_at FROM ("
    "SELECT credits_remaining, accepted_at, created_at FROM jobs "
    "WHERE account = :account AND digest IS NOT NULL "
    "ORDER BY created_at DESC, number DESC LIMIT :limit) AS newest "
    "WHERE credits_remaining IS NOT NULL ORDER BY reported_at DESC LIMIT 1"
)
SUBMIT_AGES = both(
    f"SELECT account, :now - created_at FROM jobs {_WITHIN} AND state <> 'not_sent' "
    "ORDER BY created_at"
)
LAST_TURNS = both(
    # A request counts from when its turn came. One that a clock dated in the future is left out:
    # its workspace would have no turn before that date.
    f"SELECT account, MAX(created_at) FROM jobs {_WITHIN} AND created_at <= :now "
    "AND state <> 'not_sent' GROUP BY account"
)
