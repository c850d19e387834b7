"""Settles what dead processes have left, and ends what was queued for too long."""

from datetime import timedelta

from wan_mcp.ledger import rules
from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.rows import Rows, Session


class Recovery:
    """The unsettled records of dead processes, through one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows = Rows(session)

    def of_all(self) -> list[Record]:
        """Settle those of every wallet. Returns the records that were changed."""
        # Searched without a lock, so that reads work while others write.
        wallets = sorted({record.workspace.wallet for record in self._abandoned()})
        return [record for wallet in wallets for record in self._in_transaction(wallet)]

    def of_wallet(self, wallet: str) -> list[Record]:
        """Settle those of one wallet, inside a transaction for it."""
        now = self._session.now()
        return [
            self._rows.save(record, rules.abandoned(record, now))
            for record in self._abandoned()
            if record.workspace.wallet == wallet
        ]

    def _in_transaction(self, wallet: str) -> list[Record]:
        with self._session.transaction(wallet):
            return self.of_wallet(wallet)

    def _abandoned(self) -> list[Record]:
        """The unsettled records of dead processes, and what was queued for too long."""
        records = self._rows.find(sql.lists.UNSETTLED_JOBS)
        dead = {name for name in {record.owner for record in records} if self._is_dead(name)}
        now = self._session.now()
        latest = now + timedelta(seconds=rules.QUEUE_SECONDS)
        overdue = self._rows.find(sql.queue.OVERDUE_JOBS, now=now, latest=latest)
        return [record for record in records if record.owner in dead] + overdue

    def _is_dead(self, owner: str) -> bool:
        return owner != self._session.me and self._session.is_dead(owner)
