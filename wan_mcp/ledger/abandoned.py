"""Finds what nobody goes on with: requests whose process is dead, and what was queued too long."""

from datetime import datetime, timedelta

from wan_mcp.ledger import rules
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.rows import Rows, read
from wan_mcp.ledger.session import Read, Session


class AbandonedRequests:
    """The search for them, and what becomes of them."""

    def __init__(self, session: Session, rows: Rows) -> None:
        self._session = session
        self._rows = rows

    def accounts(self, now: datetime) -> list[str]:
        """The accounts that have any. Searched without a lock: reads work while others write."""
        return sorted({account for _, account in self._found(None, now)})

    def settle(self, account: str, now: datetime) -> list[Record]:
        """End those of an account, or queue them again; inside a transaction for it."""
        known = [self._rows.record(id) for id, _ in self._found(account, now)]
        return [self._rows.save(record, rules.abandoned(record, now)) for record in known]

    def read(self, account: str | None, now: datetime) -> Read:
        """What `settle` asks for first."""
        lists, latest = sql.lists, now + timedelta(seconds=rules.QUEUE_SECONDS)
        statement = lists.MAY_BE_ABANDONED if account is None else lists.MINE_MAY_BE_ABANDONED
        return read(statement, account=account, now=now, latest=latest)

    def _found(self, account: str | None, now: datetime) -> list[tuple[str, str]]:
        """The submission id and the account of each; of all accounts for None."""
        found = self._rows.values_of(self.read(account, now))
        owners = {owner for *_, owner in found if owner is not None}
        dead = {owner for owner in owners if self._is_dead(owner)}
        return [(id, whose) for id, whose, owner in found if owner is None or owner in dead]

    def _is_dead(self, owner: str) -> bool:
        return owner != self._session.me and self._session.is_dead(owner)
