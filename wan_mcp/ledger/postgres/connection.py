"""Connections to PostgreSQL that never wait without a limit, and errors that name no secret."""

import logging
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from time import monotonic
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from wan_mcp.ledger.contract import LedgerUnavailable, LedgerUnreachable
from wan_mcp.ledger.statements.dialects import Statement, both

Rows = Sequence[Sequence[Any]]
Part = tuple[bytes, Mapping[str, object] | None]
"""Statements, and the values in them; None if they have none."""

SETTING = "WAN_MCP_LEDGER_URL"
BUSY_SECONDS = 5.0
"""How long a change waits for another process, and how long one statement may take (ours)."""
IMPATIENT_SECONDS = 0.3
"""How long a change that concerns no money waits for another process (ours). PostgreSQL looks for
deadlocks after a second, so of two changes that wait for each other the payment goes on."""
MAX_PLANS = 100
"""How many statements the server keeps planned for one connection (ours). There are more kinds of
changes than that, but most are rare."""
ANSWER_SECONDS = 7.0
"""How long to wait for an answer of the server (ours). The server itself ends what takes so long,
except a COMMIT that waits for a standby, and except when the server hangs."""

# Used for what the address does not set. Without them, a connection whose other end has gone away
# would be waited for as long as the system allows, which is often two hours.
_LIMITS: Mapping[str, str] = {
    "connect_timeout": "3",
    "tcp_user_timeout": "5000",
    "keepalives": "1",
    "keepalives_idle": "3",
    "keepalives_interval": "1",
    "keepalives_count": "2",
    "application_name": "wan-mcp",
    "client_encoding": "utf8",
}
# By SQLSTATE, or by its first two characters, its class: the reason, and whether it passes.
_REASONS: Mapping[str, tuple[str, bool]] = {
    "55P03": ("has been held by another server for too long", True),
    "57014": ("took too long to answer", True),
    "40": ("was changed by another server at the same moment", True),
    "53100": ("cannot grow: its disk is full", False),
    "53": ("has no resources left", True),
    "57": ("is being stopped or started", True),
    "08": ("cannot be reached", True),
    "25": ("ended the transaction, or is a standby that cannot be written", True),
    "28": ("does not accept the user or the password", False),
    "3D": ("has no database of that name", False),
    "3F": ("has no schema of that name", False),
    "42501": ("may not be used by this user", False),
    "42P01": ("has no tables yet, or only some of them", False),
    "58": ("cannot be read or written: its disk reports an error", False),
    "XX": ("is damaged, or has a defect", False),
}
_CONNECTION = "08"
_PROCESS = b"SELECT pg_backend_pid()"
_NAME = re.compile(r"(?<!:):([a-z_0-9]+)")
_VERB = re.compile(r"SELECT|INSERT|UPDATE|DELETE")
# Messages of libpq while it connects, which come without a SQLSTATE (observed). If the server words
# them in another language, it counts as unreachable.
_REFUSED = {
    r"password authentication failed|no password supplied|pg_hba\.conf|role .* does not": "28",
    r'database ".*" does not exist': "3D",
}

logger = logging.getLogger(__name__)


@cache
def only_if_found(update: Statement) -> Statement:
    """An update that fails, with a division by zero, if it finds no row.

    So it can be sent together with the COMMIT after it, which then changes nothing either.
    """
    return both(f"WITH changed AS ({update.postgres} RETURNING 1) SELECT 1 / COUNT(*) FROM changed")


class NoAnswer(psycopg.OperationalError):
    """The server has not answered in time. The connection is of no use any more."""


class Link(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for each answer only a limited time.

    Attributes:
        patience: how many seconds one answer may take; None for no limit.
        is_direct: whether it leads to one process of the server, and not through a pool.
    """

    patience: float | None = None
    is_direct = False

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._plans: dict[str, bytes] = {}
        self._numbers = count()
        self._is_limited = False

    def wait(self, gen: Any, *args: Any, **named: Any) -> Any:
        limited = gen if self.patience is None else _within(gen, monotonic() + self.patience)
        return super().wait(limited, *args, **named)

    def run(self, *parts: Part) -> list[Rows]:
        """Run statements in one round trip. Returns the rows of each.

        Args:
            parts: each has one or several statements.

        Raises:
            psycopg.Error: one of them failed; those behind it were not run.
        """
        with psycopg.ClientCursor(self) as cursor:
            texts = (t if v is None else cursor.mogrify(t, v).encode() for t, v in parts)
            cursor.execute(b"; ".join(texts))
            results = [_rows(cursor)]
            while cursor.nextset():
                results.append(_rows(cursor))
            return results

    def prepared(self, statement: Statement) -> bytes:
        """The text of a statement that is run often; the server keeps its plan where it can.

        Planning takes as long as running a write, and several times as long as running the reads
        of a claim (measured).
        """
        text = self._plans.get(statement.postgres)
        if text is None and self.is_direct and len(self._plans) < MAX_PLANS:
            text = self._plans[statement.postgres] = self._prepare(statement.postgres)
        return converted(statement).text if text is None else text

    def _prepare(self, statement: str) -> bytes:
        verb = _VERB.search(statement)
        assert verb is not None, "a statement that cannot be prepared"
        # The name says to an operator what runs. It is never used again: a plan whose answer was an
        # error may be there (observed, when the server logs what took long and was canceled then).
        name = f"ledger_{verb[0].lower()}_{next(self._numbers)}"
        names = list(dict.fromkeys(_NAME.findall(statement)))
        numbered = _NAME.sub(lambda n: f"${names.index(n[1]) + 1}", statement)
        self.run((f"PREPARE {name} AS {numbered}".encode(), None))
        given = ", ".join(f"%({each})s" for each in names)
        return f"EXECUTE {name}{f' ({given})' if names else ''}".encode()

    def limits(self, patience: float = BUSY_SECONDS) -> list[Part]:
        """The statements that limit the next transaction of this connection, as `limits` does.

        Call it before the transaction begins: settings that the connection keeps are made once.
        """
        if not self.is_direct:
            return [(limits(patience), None)]
        if not self._is_limited:
            self.run((_limits("SESSION", BUSY_SECONDS), None))
            self._is_limited = True
        return [] if patience == BUSY_SECONDS else [(_lock_limit("LOCAL", patience), None)]

    def change(self, text: bytes, values: Mapping[str, object] | None = None) -> int:
        """Run one statement. Returns the number of rows that it changed or found."""
        with self.cursor() as cursor:
            return cursor.execute(text, values).rowcount


def connect(url: str, *, patience: float | None = None) -> Link:
    """A connection in autocommit, with limits on the time that a dead server can cost.

    The limits of statements are set in each transaction (see `limits`): pgbouncer refuses them at
    the start, and in its transaction mode the next transaction has another server process.

    Args:
        url: as libpq reads it: `postgresql://user:password@host/database`, with any options.
        patience: how long each answer is waited for, in seconds; None for no limit.

    Raises:
        LedgerUnavailable: the address cannot be read.
        psycopg.Error: there is no connection.
    """
    try:
        given = {name: value for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error:
        # The reason would repeat a part of the address, and that may be the password.
        raise LedgerUnavailable(
            f"{SETTING} is not the address of a PostgreSQL database.",
            next_step=f"Ask the operator to set {SETTING} to postgresql://user@host/database.",
        ) from None
    link = Link.connect(
        make_conninfo("", **{**_LIMITS, **given}),
        autocommit=True,
        prepare_threshold=None,
        cursor_factory=psycopg.ClientCursor,
    )
    link.patience = patience
    [[(process,)]] = link.run((_PROCESS, None))
    link.is_direct = process == link.info.backend_pid  # a pool reports another number
    return link


def limits(patience: float = BUSY_SECONDS) -> bytes:
    """The statements that limit a transaction which has just begun.

    Args:
        patience: how long it may wait for others, in seconds.
    """
    return _limits("LOCAL", patience)


def _limits(scope: str, patience: float) -> bytes:
    busy = int(BUSY_SECONDS * 1000)
    text = (
        f"SET {scope} statement_timeout = {busy}; "
        f"SET {scope} idle_in_transaction_session_timeout = {2 * busy}; "
        # What is paid for must survive a power failure, whatever the database is set to.
        f"SET {scope} synchronous_commit = on; "
    )
    return text.encode() + _lock_limit(scope, patience)


def _lock_limit(scope: str, patience: float) -> bytes:
    return f"SET {scope} lock_timeout = {max(int(patience * 1000), 1)}".encode()


class Converted(NamedTuple):
    """A statement as psycopg takes it.

    Attributes:
        changes_jobs: whether it changes what somebody may wait for.
    """

    text: bytes
    changes_jobs: bool


@cache
def converted(statement: Statement) -> Converted:
    """A statement with psycopg's placeholders."""
    text = _NAME.sub(r"%(\1)s", statement.postgres.replace("%", "%%"))
    changes = re.match(r"\s*(INSERT INTO|UPDATE|DELETE FROM) jobs\b", text)
    return Converted(text.encode(), changes is not None)


@contextmanager
def as_ledger_errors() -> Iterator[None]:
    """Within it, errors of PostgreSQL become LedgerUnavailable; defects of this program do not."""
    try:
        yield
    except psycopg.Error as exc:
        code = sqlstate(exc)
        found = None if code is None else _REASONS.get(code) or _REASONS.get(code[:2])
        if code is None or found is None:
            raise
        reason, transient = found
        # Neither the text nor the error itself: they name the host and the user.
        logger.warning("the ledger's database %s (SQLSTATE %s)", reason, code)
        what = f"The ledger's database {reason}."
        if code.startswith(_CONNECTION):
            raise LedgerUnreachable(what) from None
        raise LedgerUnavailable(what, next_step=_next_step(code), transient=transient) from None


def sqlstate(error: psycopg.Error) -> str | None:
    """The SQLSTATE of an error; that of a lost connection where it has none."""
    if error.sqlstate is not None or not isinstance(error, psycopg.OperationalError):
        return error.sqlstate
    text = str(error)
    return next((c for pattern, c in _REFUSED.items() if re.search(pattern, text)), _CONNECTION)


def _next_step(code: str | None) -> str:
    if code == "42P01":
        return "Ask the operator to run `wan-mcp admin migrate`."
    return "Tell the user; nothing is bought without the ledger. Its operator has to look at it."


def _rows(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Rows:
    found = cursor.pgresult  # not `description`, which describes every column anew
    return cursor.fetchall() if found is not None and found.nfields else ()


def _within(answer: Generator[Any, Any, Any], until: float) -> Generator[Any, Any, Any]:
    """The same wait for an answer, ended when the time is up. psycopg checks ten times a second."""
    ready = None
    while True:
        try:
            wanted = next(answer) if ready is None else answer.send(ready)
        except StopIteration as end:
            return end.value
        ready = yield wanted
        if not ready and monotonic() > until:
            raise NoAnswer("the server has not answered in time")
