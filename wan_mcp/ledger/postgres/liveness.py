"""Which processes are alive: each one has a row with a lease, which it renews.

A lock of the database itself would be released as soon as a process is killed, but after a cut in
the network it stays held for as long as the database believes in the connection, and behind
pgbouncer it may outlive its process. Taking a living process for dead costs no money: it may no
longer send what it has not sent, and what it has sent is looked up.
"""

import secrets
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from threading import Lock

from wan_mcp.ledger.postgres.connection import Link, limits
from wan_mcp.ledger.postgres.schema import VERSION

LEASE_SECONDS = 15.0
"""How long a process counts as alive after it has renewed its lease (ours)."""
RENEW_SECONDS = 5.0
"""How often a lease is renewed (ours): two attempts may fail."""
MARGIN_SECONDS = 2.0
"""A process sends nothing in the last seconds of its lease (ours), because the first byte leaves a
moment after the check."""
FORGET_SECONDS = 86_400.0
"""How long the row of a dead process is kept (ours): its changes count in `revision`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOW = b"EXTRACT(EPOCH FROM clock_timestamp())::float8"
_BEGIN = (
    b"INSERT INTO owners (name, alive_until, host, version) "
    b"VALUES (%(name)s, " + _NOW + b" + %(seconds)s, %(host)s, %(version)s)"
)
_RENEW = (
    b"UPDATE owners SET alive_until = " + _NOW + b" + %(seconds)s "
    b"WHERE name = %(name)s AND alive_until > " + _NOW
)
_END = b"UPDATE owners SET alive_until = 0 WHERE name = %(name)s"
_SWEEP = b"DELETE FROM owners WHERE alive_until < " + _NOW + b" - %(seconds)s"
ALIVE = b"SELECT name FROM owners WHERE alive_until > " + _NOW
"""Finds the processes whose lease is not over yet."""
_CLOCK = b"SELECT " + _NOW


def ticks() -> float:
    """Seconds that also pass while the computer sleeps, where the system counts them."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class ServerClock:
    """The date and time of the database server, which all processes share.

    It is never ahead of the server: an answer is a moment old when it arrives.
    """

    TEXT = _CLOCK
    """The statement whose answer `set` takes."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def set(self, epoch: float) -> None:
        """Set it to what the server has just answered, in seconds since 1970 UTC."""
        self._ahead = epoch - ticks()

    def now(self) -> datetime:
        return _EPOCH + timedelta(seconds=ticks() + self._ahead)


class Lease:
    """The name under which this process owns records, and how long that can be relied on.

    Attributes:
        name: never used again by another process. It changes when the process was declared dead.
        clock: the server's, as of the last renewal or transaction.
        is_given_up: whether the next renewal takes a new name.
    """

    def __init__(self) -> None:
        self.name = _new_name()
        self.clock = ServerClock()
        self.is_given_up = False
        self._trusted_until = 0.0
        self._guard = Lock()

    def is_trusted(self, name: str) -> bool:
        """Whether no other process can take the owner of that name for dead at this moment."""
        with self._guard:
            return name == self.name and not self.is_given_up and ticks() < self._trusted_until

    def give_up(self) -> None:
        """Give up everything that is owned under this name: the next renewal takes a new one.

        Once the lease is over, any process settles what the name still owns.
        """
        with self._guard:
            self.is_given_up = True

    def begin(self, link: Link) -> None:
        """Take a new name. What was owned under the old one is no longer sent."""
        name, since = _new_name(), ticks()
        host = socket.gethostname()
        known = {"name": name, "seconds": LEASE_SECONDS, "host": host, "version": VERSION}
        self._run(link, _BEGIN, known)
        self._run(link, _SWEEP, {"seconds": FORGET_SECONDS})
        self._hold(name, since)

    def renew(self, link: Link) -> None:
        """Renew the lease; take a new name if it is over, because others may have noticed."""
        since = ticks()
        known = {"name": self.name, "seconds": LEASE_SECONDS}
        if self.is_given_up or not self._run(link, _RENEW, known):
            self.begin(link)
        else:
            self._hold(self.name, since)

    def end(self, link: Link) -> None:
        """Let the others know at once that this process owns nothing any more."""
        with self._guard:
            self._trusted_until = 0.0
        self._run(link, _END, {"name": self.name})

    def _hold(self, name: str, since: float) -> None:
        with self._guard:
            self.is_given_up = self.is_given_up and name == self.name
            self.name = name
            self._trusted_until = since + LEASE_SECONDS - MARGIN_SECONDS

    def _run(self, link: Link, text: bytes, values: dict[str, object]) -> int:
        """Run a statement in a transaction of its own. Returns how many rows it changed."""
        with link.cursor() as cursor:
            cursor.execute(b"; ".join((limits(), self.clock.TEXT, text)), values)
            while cursor.nextset():
                if cursor.description:
                    [(epoch,)] = cursor.fetchall()
                    self.clock.set(epoch)
            return cursor.rowcount


def _new_name() -> str:
    return secrets.token_hex(16)
