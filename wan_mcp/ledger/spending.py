"""What the caps ask of the table: this account's submits within 24 hours of now.

Counted by SQLite: an agent makes hundreds of jobs a day, and each submit counts them all.
"""

from typing import Any

from wan_mcp.ledger.record import FREE_OF_CHARGE, LIVE
from wan_mcp.ledger.rows import Rows, listed
from wan_mcp.ledger.spending_limits import DAY, InFlightJob

_PRICE = "MAX(COALESCE(credit_cost, estimate), 0)"
"""Credits that a row counts as; NULL when nothing is known. A vendor cannot earn us allowance."""
# Rows dated in the future, by a clock that was wrong once, count for as long a time ahead.
_WHERE = (
    "WHERE account = :account AND digest IS NOT NULL "
    "AND created_at > :now - :within AND created_at < :now + :within"
)
_PAID = f"FROM jobs {_WHERE} AND state NOT IN {listed(FREE_OF_CHARGE)}"


class Spending:
    """`limits.Spending` by SQL, inside the transaction of a claim."""

    def __init__(self, rows: Rows, account: str) -> None:
        self._rows = rows
        self._account = account

    def dearest(self) -> float:
        """See `limits.Spending`."""
        sql = f"SELECT MAX({_PRICE}) FROM jobs WHERE account = :account AND digest IS NOT NULL"
        return float(self._all(sql)[0][0] or 0)

    def paid(self) -> tuple[float, int]:
        """See `limits.Spending`."""
        priced = f"SELECT {_PRICE} AS price {_PAID}"
        [(known, unpriced)] = self._all(
            f"SELECT TOTAL(price), COUNT(*) - COUNT(price) FROM ({priced})"
        )
        return known, unpriced

    def history(self, unpriced: float) -> list[tuple[float, float]]:
        """See `limits.Spending`."""
        sql = f"SELECT :now - created_at, COALESCE({_PRICE}, :unpriced) {_PAID} ORDER BY created_at"
        return self._all(sql, unpriced=unpriced)

    def running(self) -> list[InFlightJob]:
        """See `limits.Spending`."""
        # The index by name: SQLite would go through the whole day by its age.
        live = f"FROM jobs INDEXED BY live {_WHERE} AND state IN {listed(LIVE)} ORDER BY created_at"
        columns = "state, :now - created_at, COALESCE(job_id, handle)"
        return list(map(InFlightJob._make, self._all(f"SELECT {columns} {live}")))

    def ages(self, within: float) -> list[float]:
        """See `limits.Spending`."""
        sent = f"FROM jobs {_WHERE} AND state != 'not_sent' ORDER BY created_at"
        return [age for (age,) in self._all(f"SELECT :now - created_at {sent}", within=within)]

    def _all(self, sql: str, **values: float) -> list[Any]:
        known = {"account": self._account, "now": self._rows.now(), "within": DAY}
        return self._rows.query(sql, **known | values)
