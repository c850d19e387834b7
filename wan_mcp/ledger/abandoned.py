"""Finds abandoned requests: their process is dead, or they were queued for too long."""

from datetime import datetime, timedelta

from wan_mcp.ledger import rules
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.rows import Rows, read
from wan_mcp.ledger.session import Read, Session
from wan_mcp.ledger.wallets.scope import Scope


class AbandonedRequests:
    """Finds abandoned requests, and decides what becomes of them."""

    def __init__(self, session: Session, rows: Rows) -> None:
        self._session = session
        self._rows = rows

    def wallets(self, now: datetime) -> list[str]:
        """The wallets with abandoned requests. Takes no lock: reads work while others write."""
        asked = read(sql.lists.MAY_BE_ABANDONED, now=now, latest=_latest(now))
        return sorted({wallet for _, wallet in self._found(asked)})

    def settle(self, wallet: Scope, now: datetime) -> list[Record]:
        """End those of a wallet, or queue them again; inside a transaction for that wallet."""
        known = [self._rows.record(id) for id, _ in self._found(self.read(wallet, now))]
        return [self._rows.save(record, rules.abandoned(record, now)) for record in known]

    def read(self, wallet: Scope, now: datetime) -> Read:
        """The first read of `settle`."""
        statement = wallet.over(sql.lists.MINE_MAY_BE_ABANDONED)
        return read(statement, **wallet.values, now=now, latest=_latest(now))

    def _found(self, asked: Read) -> list[tuple[str, str]]:
        """The submission id and the wallet of each."""
        found = self._rows.values_of(asked)
        owners = {owner for *_, owner in found if owner is not None}
        dead = {owner for owner in owners if self._is_dead(owner)}
        return [(id, whose) for id, whose, owner in found if owner is None or owner in dead]

    def _is_dead(self, owner: str) -> bool:
        return owner != self._session.me and self._session.is_dead(owner)


def _latest(now: datetime) -> datetime:
    return now + timedelta(seconds=rules.QUEUE_SECONDS)
