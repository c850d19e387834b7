"""The ledger of the user who types a command, whether or not servers use it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar

from wan_mcp.ledger.contract import NothingToRead
from wan_mcp.ledger.history.history import History
from wan_mcp.ledger.sqlite.history import change, read
from wan_mcp.ledger.sqlite.places import Chosen, choose
from wan_mcp.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class OwnLedger:
    """Finds the ledger and opens it.

    Attributes:
        now: gives the date, UTC.
        filesystem: a type of file system that the operator declares to be local.
        is_beside: whether servers with these settings keep their jobs in a database instead.
    """

    chosen: Chosen
    now: Callable[[], datetime]
    filesystem: str | None = None
    is_beside: bool = False

    @classmethod
    def of(cls, settings: Settings, now: Callable[[], datetime]) -> Self:
        """The ledger that servers with these settings use."""
        places = settings.data_places
        chosen = choose(places.usual, places.old, given=settings.data_dir)
        is_beside = bool(settings.ledger_url.get_secret_value())
        return cls(chosen, now, settings.ledger_filesystem, is_beside)

    @property
    def note(self) -> str | None:
        """What the user has to know if there are several ledgers; None if there are not."""
        if self.is_beside:
            return (
                "This is the ledger file of this computer. WAN_MCP_LEDGER_URL is set, so servers "
                "keep their jobs in the database: `wan-mcp admin jobs` shows those."
            )
        if not self.chosen.rivals:
            return None
        folders = ", ".join(
            os.fsencode(each).decode(errors="replace") for each in self.chosen.rivals
        )
        return (
            f"You have {len(self.chosen.rivals)} ledgers: in {folders}. This is the first of them; "
            "WAN_MCP_DATA_DIR chooses another."
        )

    def read(self, work: Callable[[History], T]) -> T:
        """Read the ledger, and change nothing. Raises NothingToRead, LedgerUnavailable."""
        return read(self._folder(), self.now, work)

    def change(self, work: Callable[[History], T]) -> T:
        """Change the ledger. Raises LedgerUnavailable."""
        return change(self._folder(), self.now, self.filesystem, work)

    def _folder(self) -> Path:
        if self.chosen.folder is None:
            raise NothingToRead("There is no ledger, because this user has no home folder.")
        return self.chosen.folder
