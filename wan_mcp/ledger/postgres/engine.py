"""The ledger in a PostgreSQL database, which any number of servers share."""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from pathlib import Path
from threading import Lock

from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.postgres import connection as database
from wan_mcp.ledger.postgres.liveness import ALIVE, Lease
from wan_mcp.ledger.postgres.migrations import connect_to_current, require_current
from wan_mcp.ledger.postgres.session import PostgresSession
from wan_mcp.ledger.postgres.wake_up import Attendant
from wan_mcp.ledger.session import Session
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.kept_jobs import KeptJobs
from wan_mcp.ledger.threaded import turns
from wan_mcp.ledger.threaded.ledger import ThreadedLedger

Now = Callable[[], datetime]


class PostgresLedger(ThreadedLedger):
    """`Ledger` in a database. Its tables exist already, see `migrations`.

    Lists and other reads have a thread and a connection of their own, so that a payment waits for
    none of them. A third connection keeps the lease and receives news.

    Args:
        url: the address of the database, as libpq reads it.
        listen_url: another address of it, for the connection that receives news; None for the same
            address. No news arrives through PgBouncer in transaction mode.
        limits: what the operator allows.
        now: gives the date and time, UTC; None for the clock of the database server.
        poll_seconds: how often `settled` looks for changes by other processes.
        folder: paid jobs that cannot be written are kept beside this folder; None for nowhere.
    """

    def __init__(
        self,
        url: str,
        *,
        listen_url: str | None = None,
        limits: SpendingLimits | None = None,
        now: Now | None = None,
        poll_seconds: float = 0.5,
        folder: Path | None = None,
    ) -> None:
        self.engine = PostgresEngine(url, listen_url or url, now, folder)
        super().__init__(
            self.engine,
            limits or SpendingLimits(),
            poll_seconds,
            reading=self.engine,
            wait_seconds=turns.WAIT_SECONDS,
        )
        wake = weakref.WeakMethod(self._store.wake)
        self.engine.on_news = lambda: None if (act := wake()) is None else act()


class PostgresEngine:
    """Opens sessions that share one name of this process, and one thread that keeps it alive.

    Its methods may be called in several threads.

    Attributes:
        on_news: called in a thread when another process has made a change.
    """

    not_writable: tuple[type[Exception], ...] = ()

    def __init__(self, url: str, listen_url: str, now: Now | None, folder: Path | None) -> None:
        self.on_news: Callable[[], object] = bool
        self._url = url
        self._listen_url = listen_url
        self._now = now
        self._kept = None if folder is None else KeptJobs(folder)
        self._lease = Lease()
        self._guard = Lock()
        self._sessions = 0
        self._attendant: Attendant | None = None

    def open(self, opening: ExitStack) -> Session:
        attendant = self._enter()
        opening.callback(self._leave)
        session = PostgresSession(
            self._connect, self._lease, attendant.announce, self._kept, self._now
        )
        opening.callback(session.close)
        return session

    def open_to_read(self, opening: ExitStack) -> Session:
        return self.open(opening)

    def as_ledger_errors(self) -> AbstractContextManager[None]:
        return database.as_ledger_errors()

    def _leave(self) -> None:
        """Close what the sessions share, with the last of them."""
        with self._guard:
            self._sessions -= 1
            if not self._sessions and self._attendant is not None:
                self._attendant.stop()
                self._attendant = None

    def _enter(self) -> Attendant:
        with self._guard:
            if self._attendant is None:
                self._attendant = self._attend()
            self._sessions += 1
            return self._attendant

    def _attend(self) -> Attendant:
        link = self._listening()
        try:
            self._lease.begin(link)
            # Again, now that a migration can see this process: see `require_current`.
            require_current(link)
            self._require_same_database()
        except BaseException:
            link.close()
            raise
        return Attendant(link, self._listening, self._lease, lambda: self.on_news())

    def _require_same_database(self) -> None:
        """Raises LedgerUnavailable if the new lease is not visible in the database of payments."""
        if self._listen_url == self._url:
            return
        with self._connect() as link:
            [alive] = link.run((ALIVE, None))
        if (self._lease.name,) not in alive:
            raise LedgerUnavailable(
                "WAN_MCP_LEDGER_LISTEN_URL leads to another database than WAN_MCP_LEDGER_URL.",
                next_step="Ask the operator to let both lead to the ledger's database.",
            )

    def _listening(self) -> database.Link:
        return connect_to_current(self._listen_url)

    def _connect(self) -> database.Link:
        return connect_to_current(self._url)
