"""A thread that shows the others that this process is alive, and that sends and receives news.

News travels by LISTEN and NOTIFY. It is sent after the commit, because a transaction with a NOTIFY
in it commits under a lock of the whole database. It may get lost, so waiters look at the ledger
from time to time as well, see `polling.watchers`.
"""

import logging
import secrets
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress

import psycopg

from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.postgres.connection import Link, limits, sqlstate
from wan_mcp.ledger.postgres.liveness import RENEW_SECONDS, Lease, ticks

GATHER_SECONDS = 0.01
"""Changes that are committed within this time are announced together (ours)."""
BEAT_SECONDS = 10.0
"""How often a process sends itself a notice to see that LISTEN still works (ours): a LISTEN is lost
silently when a pool gives the next transaction another connection."""
RETRY_SECONDS = 1.0
"""How long to wait after a failed connection (ours)."""
END_SECONDS = 2.0
"""How long the end of a process waits for the end of its lease (ours)."""

_NEWS, _BEAT = "news", "beat"
# One channel for each schema: one database may have several ledgers.
_CHANNEL = b"SELECT 'wan_mcp_' || md5(current_schema())"
# What is announced is stored already; a notice that gets lost when the power fails costs nothing.
_NOTIFY = b"SET LOCAL synchronous_commit = off; SELECT pg_notify(%(channel)s, %(text)s)"

logger = logging.getLogger(__name__)


class Deaf(psycopg.OperationalError):
    """A notice of this process has not come back: LISTEN does not work on this connection."""


class Attendant:
    """The thread of one process, with a connection of its own.

    Args:
        link: open; it is closed in the end.
        connect: opens another one when that is lost.
        lease: of this process; it has begun.
        on_news: called in the thread when another process has made a change.
    """

    def __init__(
        self,
        link: Link,
        connect: Callable[[], Link],
        lease: Lease,
        on_news: Callable[[], object],
    ) -> None:
        self._link = link
        self._connect = connect
        self._lease = lease
        self._on_news = on_news
        self._id = secrets.token_hex(8)
        self._channel = ""
        self._stopping = threading.Event()
        self._has_news = threading.Event()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._is_deaf = False
        self._renew_at = ticks() + RENEW_SECONDS
        self._beat_at = 0.0
        self._is_heard = True
        self._thread = threading.Thread(target=self._run, name="ledger attendant", daemon=True)
        self._thread.start()

    def announce(self) -> None:
        """Let the other processes know soon that there is something new. From any thread."""
        if not self._has_news.is_set():
            self._has_news.set()
            self._rouse()

    def stop(self) -> None:
        """End the lease, and the thread. Where that takes long, the lease ends by itself."""
        self._stopping.set()
        self._rouse()
        self._thread.join(END_SECONDS)

    def _rouse(self) -> None:
        with suppress(OSError):  # it is awake, or has ended
            self._wake.send(b"\0")

    # The methods below run in the thread.

    def _run(self) -> None:
        with closing(self._woken), closing(self._wake):
            while not self._stopping.is_set():
                try:
                    self._attend()
                except (psycopg.Error, LedgerUnavailable) as error:
                    self._note(error)
                    self._link.close()
                    self._reconnect()
            with closing(self._link), suppress(psycopg.Error):
                if not self._link.closed:
                    self._lease.end(self._link)

    def _attend(self) -> None:
        """Serve on this connection until the end, or until it is lost."""
        self._link.add_notify_handler(lambda note: self._take(note.payload))
        [[(self._channel,)]] = self._link.run((_CHANNEL, None))
        self._link.run((f"LISTEN {self._channel}".encode(), None))
        self._beat_at, self._is_heard = ticks(), True
        with selectors.DefaultSelector() as selector:
            selector.register(self._link.fileno(), selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                self._do_what_is_due()
                selector.select(max(0.0, min(self._renew_at, self._beat_at) - ticks()))
                self._hear()
                if self._has_news.is_set():
                    self._stopping.wait(GATHER_SECONDS)
                    self._tell()

    def _do_what_is_due(self) -> None:
        if ticks() >= self._renew_at or self._lease.is_given_up:
            self._lease.renew(self._link)
            self._renew_at = ticks() + RENEW_SECONDS
        if ticks() >= self._beat_at:
            if not self._is_heard:
                raise Deaf("no notice comes back")
            self._is_heard = False
            self._beat_at = ticks() + BEAT_SECONDS
            self._send(_BEAT)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(1024)
        # Not `Connection.notifies`: before psycopg 3.2.4 it misses what comes with an answer.
        self._link.pgconn.consume_input()
        while note := self._link.pgconn.notifies():
            self._take(note.extra.decode())

    def _take(self, text: str) -> None:
        kind, _, sender = text.partition(" ")
        if sender == self._id:
            self._is_heard, self._is_deaf = True, False
        elif kind == _NEWS:
            self._on_news()

    def _tell(self) -> None:
        self._has_news.clear()  # before sending: what is committed from now on is announced again
        self._send(_NEWS)

    def _send(self, kind: str) -> None:
        said = {"channel": self._channel, "text": f"{kind} {self._id}"}
        self._link.run((limits(), None), (_NOTIFY, said))

    def _reconnect(self) -> None:
        if self._stopping.is_set():
            return
        try:
            self._link = self._connect()
        except (psycopg.Error, LedgerUnavailable) as error:
            self._note(error)
            self._stopping.wait(RETRY_SECONDS)
        else:
            self._on_news()  # what was announced meanwhile was not heard

    def _note(self, error: Exception) -> None:
        if isinstance(error, Deaf):
            if not self._is_deaf:  # logged once: behind a pool this does not change
                logger.warning("no notices come from the ledger's database: news arrives later")
            self._is_deaf = True
            return
        code = sqlstate(error) if isinstance(error, psycopg.Error) else None
        logger.info("the connection that renews the lease was lost (SQLSTATE %s)", code)
