"""Opens a ledger for the commands of its owner, who may have servers running on it."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from wan_mcp.ledger.history.history import History
from wan_mcp.ledger.sqlite.connection import connect
from wan_mcp.ledger.sqlite.engine import Now, SQLiteEngine
from wan_mcp.ledger.sqlite.places import FOLDER
from wan_mcp.ledger.transactions import Transactions

T = TypeVar("T")


def read(data: Path, now: Now, work: Callable[[History], T]) -> T:
    """Look at a ledger of any version, and change nothing.

    Args:
        data: the data folder that it lies in.

    Raises:
        NothingToRead: there is no ledger yet.
        LedgerUnavailable: it cannot be read.
    """
    engine = SQLiteEngine(data / FOLDER, now, connect)
    with engine.as_ledger_errors(), ExitStack() as opening:
        return work(History(engine.open_to_read(opening, any_version=True)))


def change(data: Path, now: Now, filesystem: str | None, work: Callable[[History], T]) -> T:
    """Change a ledger, as one process among those that have it open.

    Args:
        data: the data folder that it lies in.
        filesystem: a type of file system that the operator declares to be local.

    Raises:
        LedgerUnavailable: it cannot be written, or is of a newer version.
    """
    engine = SQLiteEngine(data / FOLDER, now, connect, filesystem)
    with engine.as_ledger_errors(), ExitStack() as opening:
        session = engine.open(opening)
        requests = Transactions(session)
        requests.take_in_kept()
        requests.recover()
        return work(History(session))
