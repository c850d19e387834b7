"""`wan-mcp admin migrate` and `move-ledger`: the ledger in PostgreSQL."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wan_mcp.cli.admin.database import database_of
from wan_mcp.cli.jobs.own_ledger import OwnLedger
from wan_mcp.ledger.contract import LedgerUnavailable, NothingToRead
from wan_mcp.settings import Settings
from wan_mcp.wording import counted

if TYPE_CHECKING:
    from wan_mcp.ledger.postgres.connection import Link
    from wan_mcp.ledger.postgres.migrations import Migration
    from wan_mcp.ledger.postgres.moving import Move

FAILED = 1
"""The exit code if a command did not do what it was asked, or if a migration is needed."""
MIGRATE, MOVE = "ledger.migrate", "ledger.move"
"""The names of these actions in the audit."""


class Tables(NamedTuple):
    """The state of the ledger's tables, as this program sees it.

    Attributes:
        need_migration: whether `wan-mcp admin migrate` has anything to do.
        version: the version of their format; None if there are no tables.
        text: their state in a sentence.
    """

    need_migration: bool
    version: int | None
    text: str


def tables_of(connection: "Link") -> Tables:
    """The state of the tables. Raises LedgerUnavailable if they are too new for this program."""
    from wan_mcp.ledger.postgres.migrations import format_of, is_to_be_migrated
    from wan_mcp.ledger.postgres.schema import VERSION

    needed = is_to_be_migrated(connection)
    found = format_of(connection)
    has = "no ledger yet" if found is None else f"a ledger of format {found.version}"
    needs = "A migration is needed" if needed else "No migration is needed"
    text = f"{needs}: the database has {has}, and this program has format {VERSION}."
    return Tables(needed, found and found.version, text)


@dataclass(frozen=True)
class LedgerCommands:
    """The commands, with these settings. Each returns the exit code.

    Attributes:
        write: shows a text.
        complain: shows why a command failed, on standard error.
        now: gives the date, UTC.
    """

    settings: Settings
    write: Callable[[str], object]
    complain: Callable[[str], object]
    now: Callable[[], datetime]

    def migrate(self, *, check: bool, as_json: bool) -> int:
        """Bring the ledger in the database to this version.

        Args:
            check: whether to say only if that is needed.
        """
        try:
            with database_of(self.settings) as connection:
                return (self._check if check else self._migrate)(connection, as_json)
        except LedgerUnavailable as exc:
            return self._failed(exc)

    def move(self, folder: Path | None, *, again: bool, as_json: bool) -> int:
        """Move the ledger of a data folder into the database.

        Args:
            folder: the data folder; None for the one that servers with these settings use.
            again: whether the database of an earlier move is out of use.
        """
        from wan_mcp.ledger.sqlite.connection import as_ledger_errors
        from wan_mcp.ledger.sqlite.engine import FILE

        try:
            data = folder.absolute() if folder else self._data_folder()
            with database_of(self.settings) as connection, as_ledger_errors(Path(FILE)):
                done = self._moved(data, connection, again=again)
        except LedgerUnavailable as exc:
            return self._failed(exc)
        what = counted(done.records, "request") + " of " + counted(done.accounts, "account")
        moved = "The ledger was moved before" if done.was_done else "The ledger was moved"
        self._say(
            {"records": done.records, "accounts": done.accounts, "was_moved_before": done.was_done},
            f"{moved}: {what}. No server pays with the file any more; keep it as a record.",
            as_json=as_json,
        )
        return 0

    def _check(self, connection: "Link", as_json: bool) -> int:
        from wan_mcp.ledger.postgres.schema import VERSION

        tables = tables_of(connection)
        self._say(
            {
                "migration_needed": tables.need_migration,
                "format": tables.version,
                "format_of_program": VERSION,
            },
            tables.text,
            as_json=as_json,
        )
        return FAILED if tables.need_migration else 0

    def _migrate(self, connection: "Link", as_json: bool) -> int:
        from wan_mcp.ledger.postgres.migrations import migrate

        with _noting_refusals(connection, MIGRATE):
            done = migrate(connection, note=partial(_note, connection, MIGRATE, "done"))
        self._say(
            {"before": done.before, "after": done.after, "older_servers": done.older_servers},
            _text_of(done),
            as_json=as_json,
        )
        return 0

    def _moved(self, data: Path, connection: "Link", *, again: bool) -> "Move":
        from wan_mcp.ledger.postgres.moving import move

        def note(done: "Move") -> None:
            detail = {"records": done.records, "accounts": done.accounts, "again": again}
            _note(connection, MOVE, "done", detail)

        filesystem = self.settings.ledger_filesystem
        with _noting_refusals(connection, MOVE):
            return move(data, connection, self.now, filesystem, again=again, note=note)

    def _data_folder(self) -> Path:
        chosen = OwnLedger.of(self.settings, self.now).chosen
        if chosen.folder is None or chosen.rivals:
            raise NothingToRead(
                "It is not clear which ledger is meant.", next_step="Name its data folder."
            )
        return chosen.folder

    def _say(self, facts: dict[str, Any], text: str, *, as_json: bool) -> None:
        self.write((json.dumps(facts, indent=2) if as_json else text) + "\n")

    def _failed(self, why: LedgerUnavailable) -> int:
        self.complain(f"{why.what} {why.next_step}".strip())
        return FAILED


def _note(connection: "Link", action: str, result: str, detail: Mapping[str, object]) -> None:
    """Write a row about the ledger to the audit, within the transaction if there is one."""
    from wan_mcp.cli.admin.people import actor
    from wan_mcp.tenants.audit import Entry

    Entry.new(actor(), action, "ledger", result, detail).write(connection)


@contextmanager
def _noting_refusals(connection: "Link", action: str) -> Iterator[None]:
    """Within it, a refusal gets a row in the audit, if the audit exists already."""
    from wan_mcp.ledger.postgres.migrations import format_of

    try:
        yield
    except LedgerUnavailable as why:
        if not connection.closed and format_of(connection) is not None:
            _note(connection, action, "refused", {"why": why.what})
        raise


def _text_of(done: "Migration") -> str:
    if done.before == 0:
        text = f"The database has a ledger now, of format {done.after}."
    elif done.before < done.after:
        text = f"The ledger was brought from format {done.before} to format {done.after}."
    else:
        text = f"There was nothing to add: the ledger has format {done.after}."
    if done.older_servers:
        servers = counted(done.older_servers, "server")
        text += (
            f" What only older versions use is still there, because {servers} of an older version "
            "may use it. Repeat the command when they have ended."
        )
    return text
