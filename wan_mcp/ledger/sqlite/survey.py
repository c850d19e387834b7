"""Looks at a ledger for the person who owns it: does it open, and what is in it?"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.expected_price import SEARCHED_JOBS
from wan_mcp.ledger.record import LIVE, Record, State
from wan_mcp.ledger.sqlite import connection as database
from wan_mcp.ledger.sqlite.engine import FILE, OWNERS, Now, SQLiteEngine
from wan_mcp.ledger.sqlite.guard import Guard
from wan_mcp.ledger.sqlite.places import FOLDER
from wan_mcp.ledger.transactions import Transactions

BUSY_SECONDS = 2.0
"""How long a look waits for another process that writes (ours)."""
AccountKey = tuple[str, str]
"""An account by the root of its API and its key."""


@dataclass(frozen=True)
class Survey:
    """What is in a ledger.

    Attributes:
        jobs: how many requests it has, of all accounts.
        live: how many of them have not ended.
        unknown: how many of those have an unknown outcome.
        kept: paid jobs that wait beside the ledger until a server takes them in.
        newest: for each account that was asked for, its newest job that reports a balance, if
            there is one.
    """

    jobs: int
    live: int
    unknown: int
    kept: int
    newest: Mapping[AccountKey, Record]


def survey(
    data: Path, now: Now, filesystem: str | None = None, accounts: Iterable[AccountKey] = ()
) -> Survey | None:
    """Open the ledger of a data folder as a server does, and count what is in it.

    Nothing is created or settled; a ledger of an older version is brought to this one, as every
    server does at its start. None when there is no ledger yet.

    Args:
        now: gives the date and time, UTC.
        filesystem: a type of file system that the operator takes for a local one.
        accounts: those of which the last balance is wanted.

    Raises:
        LedgerUnavailable: a server could not buy anything with it; the text says why.
    """
    folder = data / FOLDER
    connect = partial(database.connect, busy_seconds=BUSY_SECONDS)
    engine = SQLiteEngine(folder, now, connect, filesystem)
    with engine.as_ledger_errors():
        if not (folder / FILE).exists():
            Guard(folder, folder / FILE, folder / OWNERS).before_opening()
            return None
        with ExitStack() as opening:
            session = engine.open(opening)
            with session.transaction(patient=False):  # whether it can be locked
                counts = Counter({State(s): n for s, n in session.query(sql.lists.JOB_COUNTS, {})})
            return Survey(
                jobs=counts.total(),
                live=sum(counts[state] for state in LIVE),
                unknown=counts[State.UNKNOWN],
                kept=sum(1 for _ in session.kept()),
                newest=dict(_with_balance(Transactions(session), accounts)),
            )


def _with_balance(
    requests: Transactions, accounts: Iterable[AccountKey]
) -> Iterator[tuple[AccountKey, Record]]:
    for base, key in accounts:
        recent = requests.recent(requests.account(base, key), None, SEARCHED_JOBS)
        for record in recent:
            if record.credits_remaining is not None:
                yield (base, key), record
                break
