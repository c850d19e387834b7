"""What the transactions of the ledger need from an engine. Engines differ in nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from wan_mcp.ledger.contract import LedgerChanged
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.statements.dialects import Statement
from wan_mcp.models import Job

Values = Mapping[str, object]
Read = tuple[Statement, Values]
"""A statement that only reads, and its values as they are stored."""


class KeptJob(NamedTuple):
    """A paid job that could not be written to the store.

    Attributes:
        record: its request, as it was claimed.
        forget: removes it, once it is in the store.
    """

    record: Record
    job: Job
    forget: Callable[[], None]


class Session(Protocol):
    """One connection to a store, used by one thread."""

    @property
    def me(self) -> str:
        """The name under which this process owns records; "" in a session that only reads."""

    def now(self) -> datetime:
        """The date and time by the engine's clock, UTC."""

    def query(self, statement: Statement, values: Values) -> Sequence[Sequence[Any]]:
        """The rows that a statement finds."""

    def execute(self, statement: Statement, values: Values) -> int:
        """Make a change. Returns the number of rows that it changed."""

    def save(self, statement: Statement, values: Values, fenced: str | None) -> None:
        """Write one row, at the latest when the transaction is committed.

        Args:
            fenced: the text of the error if the statement finds no record; None if it need not
                find one.

        Raises:
            Fenced: it finds none. The commit may raise it instead; nothing is changed then.
        """

    def ahead(self, reads: Iterable[Read]) -> None:
        """Announce the next reads of this transaction, so that they can be sent together.

        A read that was not announced, or has other values, is only slower. An engine that gains
        nothing from this does not look at `reads`.
        """

    def transaction(
        self,
        account: str | None = None,
        *,
        patient: bool = True,
        ahead: Iterable[Read] = (),
        across: Sequence[str] = (),
    ) -> AbstractContextManager[None]:
        """All or nothing. Two transactions for the same account never overlap.

        Args:
            account: whose records change; None for changes of what processes share while they
                wait. Two transactions without an account never overlap either.
            patient: whether to wait for other writers as long as a payment may wait.
            ahead: as for the method `ahead`.
            across: names of limits, sorted. Two transactions with one name never overlap either.
        """

    def is_dead(self, owner: str) -> bool:
        """Whether the process of that name is dead. Once true, it stays true."""

    def revision(self) -> int:
        """A number that changes when another process has written."""

    def change(self) -> LedgerChanged | None:
        """Why this is no longer the store that other processes would open; None if it is.

        As long as that does no harm, changes are still written to what this process has open.
        """

    def before_payment(self) -> None:
        """Raises LedgerChanged when a payment that is recorded here might be made again."""

    def commit_point(self, submission_id: str) -> None:
        """Check the store once more: the request is `sending`, and its first byte leaves next.

        Raises:
            LedgerChanged: it must not be sent.
        """

    def keep(self, record: Record, job: Job) -> bool:
        """Keep a paid job outside of the store, on disk. Returns whether that was possible."""

    def kept(self) -> Iterable[KeptJob]:
        """The paid jobs that are kept outside of the store, of any process."""

    def erase(self, record: Record) -> bool:
        """Remove from the disk what earlier versions of a forgotten record have left there.

        Returns:
            False if something may be left, because other programs were reading all the time.
        """


class Engine(Protocol):
    """How an engine opens its store. Its methods are called in the ledger's thread only.

    Attributes:
        not_writable: errors of `open` after which the store may still be readable.
    """

    not_writable: tuple[type[Exception], ...]

    def open(self, opening: ExitStack) -> Session:
        """A session on a store of this version. Closing `opening` ends the session."""

    def open_to_read(self, opening: ExitStack) -> Session:
        """A session for one read of a store that cannot be written. Closing `opening` ends it."""

    def as_ledger_errors(self) -> AbstractContextManager[None]:
        """Within it, the engine's errors become LedgerUnavailable."""
