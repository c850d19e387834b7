"""Counts what is in a ledger, on every engine."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from wan_mcp.ledger import statements as sql
from wan_mcp.ledger.expected_price import SEARCHED_JOBS
from wan_mcp.ledger.record import LIVE, Record, State
from wan_mcp.ledger.session import Session
from wan_mcp.ledger.transactions import Transactions

AccountKey = tuple[str, str]
"""An account by the root of its API and its key."""


@dataclass(frozen=True)
class Survey:
    """The contents of a ledger, in numbers.

    Attributes:
        jobs: how many requests it holds, of all accounts.
        live: how many of them have not ended.
        unknown: how many of those have an unknown outcome.
        kept: paid jobs that wait on the disk of this computer until a server takes them in.
        newest: for each account that was asked for, its newest job that reports a balance, if
            there is one.
    """

    jobs: int
    live: int
    unknown: int
    kept: int
    newest: Mapping[AccountKey, Record]


def surveyed(session: Session, accounts: Iterable[AccountKey]) -> Survey:
    """Count what is in a ledger; nothing is changed.

    Args:
        accounts: those whose last balance is wanted.
    """
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
