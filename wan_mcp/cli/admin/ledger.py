"""`wan-mcp admin migrate` and `move-ledger`: the ledger in PostgreSQL."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
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

FAILED = 1
"""The exit code if a command did not do what it was asked, or if a migration is needed."""


class Tables(NamedTuple):
    """How the tables of the ledger are, for this program.

    Attributes:
        need_migration: whether `wan-mcp admin migrate` has anything to do.
        version: their format; None if there are none.
        text: the same in a sentence.
    """

    need_migration: bool
    version: int | None
    text: str


def tables_of(connection: "Link") -> Tables:
    """Look at the tables. Raises LedgerUnavailable if they are too new for this program."""
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
        complain: shows why a command failed, where errors go.
        now: gives the date, UTC.
    """

    settings: Settings
    write: Callable[[str], object]
    complain: Callable[[str], object]
    now: Callable[[], datetime]

    def migrate(self, *, check: bool, as_json: bool) -> int:
        """Bring the ledger in the database to this version.

        Args:
            check: only say whether that is needed.
        """
        try:
            with database_of(self.settings) as connection:
                return (self._check if check else self._migrate)(connection, as_json)
        except LedgerUnavailable as exc:
            return self._failed(exc)

    def move(self, folder: Path | None, *, again: bool, as_json: bool) -> int:
        """Move the ledger of a data folder into the database.

        Args:
            folder: None for the one that servers with these settings use.
            again: the database of an earlier move is gone.
        """
        from wan_mcp.ledger.postgres.moving import move
        from wan_mcp.ledger.sqlite.connection import as_ledger_errors
        from wan_mcp.ledger.sqlite.engine import FILE

        try:
            data = folder.absolute() if folder else self._data_folder()
            with database_of(self.settings) as connection, as_ledger_errors(Path(FILE)):
                done = move(
                    data, connection, self.now, self.settings.ledger_filesystem, again=again
                )
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

        done = migrate(connection)
        self._say(
            {"before": done.before, "after": done.after, "older_servers": done.older_servers},
            _text_of(done),
            as_json=as_json,
        )
        return 0

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
