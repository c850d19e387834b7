"""The ledger of a team: the database, its tables, whether a server may write them, and the keys."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wan_mcp.cli.admin.database import database_of
from wan_mcp.cli.admin.ledger import tables_of
from wan_mcp.cli.check.findings import Finding, Report, broken, for_person, note, ok
from wan_mcp.cli.check.network import Access
from wan_mcp.cli.check.storage import balances, chosen_folder, jobs_in
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.history.survey import Survey
from wan_mcp.settings import BadSettings, Settings
from wan_mcp.wording import counted

if TYPE_CHECKING:
    from wan_mcp.ledger.postgres.connection import Link

MIGRATE = (
    "Run wan-mcp admin migrate: it only adds, and servers of the version before may run meanwhile."
)
MOST_NAMED = 10
"""How many of the wallets whose keys cannot be opened are named."""


@dataclass(frozen=True)
class Database:
    """Checks the database. No finding contains its address.

    Attributes:
        settings: those of this shell, with the address of a database.
        accesses: the keys whose last balance is wanted.
        report: receives the findings.
    """

    settings: Settings
    accesses: Sequence[Access]
    report: Report

    def look(self) -> None:
        """Check the database, then what a server needs in it, then the keys in it."""
        about = "database"
        try:
            with database_of(self.settings) as link:
                self.report.add(_reached(link))
                about = "ledger"
                if self._ledger(link) and self.settings.key_ring.get_secret_value():
                    about = "key-ring"
                    self.report.add(_keys(link, self.settings))
        except LedgerUnavailable as exc:
            again = "Run this again in a minute." if exc.retry_safe else for_operator(exc.next_step)
            self.report.add(broken(about, exc.what, again))

    def _ledger(self, link: "Link") -> bool:
        """Report on the tables. Returns whether a server could pay with them."""
        from wan_mcp.ledger.postgres.schema import VERSION
        from wan_mcp.ledger.postgres.survey import survey

        tables = tables_of(link)
        figures = {"format": tables.version, "format_of_program": VERSION}
        if tables.need_migration and tables.version != VERSION:
            self.report.add(broken("ledger", tables.text, MIGRATE, **figures))
            return False
        url, other = self.settings.ledger_url, self.settings.ledger_listen_url
        accounts = [(each.base, each.key) for each in self.accesses if each.key]
        seen = survey(
            link,
            url.get_secret_value(),
            (other.get_secret_value() or url.get_secret_value()),
            chosen_folder(self.settings).folder,
            accounts,
        )
        self.report.add(_surveyed(seen, figures, has_rest=tables.need_migration))
        balances(self.accesses, seen, self.report)
        return True


def for_operator(advice: str) -> str:
    """The advice of an error, reworded for the operator, who has to follow it."""
    return re.sub(r"Ask the operator to (\w)", lambda it: it[1].upper(), for_person(advice))


def _reached(link: "Link") -> Finding:
    version = (link.info.parameter_status("server_version") or "").partition(" ")[0]
    found = f"PostgreSQL {version} answers at the address in WAN_MCP_LEDGER_URL."
    return ok("database", found, server_version=version)


def _surveyed(seen: Survey, figures: Mapping[str, object], *, has_rest: bool) -> Finding:
    found = (
        f"Its tables have format {figures['format']}, as this program, and can be written; "
        f"{jobs_in(seen)}."
    )
    figures = {**figures, "jobs": seen.jobs, "live": seen.live, "unknown": seen.unknown}
    if seen.kept:
        return note(
            "ledger",
            f"{found} {counted(seen.kept, 'paid job')} could not be written to it yet.",
            "The next server that starts with this data folder writes what is kept there.",
            **figures,
        )
    if has_rest:
        return note(
            "ledger",
            f"{found} Something is left in it that only older versions use.",
            "Run wan-mcp admin migrate when all servers of older versions have ended.",
            **figures,
        )
    return ok("ledger", found, **figures)


def _keys(link: "Link", settings: Settings) -> Finding:
    from wan_mcp.cli.team import ring_of
    from wan_mcp.tenants.administration.acts import Operator
    from wan_mcp.tenants.administration.wallets import wallets

    try:
        ring = ring_of(settings)
    except BadSettings as exc:
        return broken("key-ring", f"{exc}.", "Correct the file of WAN_MCP_KEY_RING_FILE.")
    stored = [each for each in wallets(Operator(link, "check"), ring) if each.has_key]
    closed = [each for each in stored if not each.opens]
    figures = {"wallets": len(stored), "not_opened": [each.name for each in closed]}
    if not closed:
        found = f"It opens every PixelDojo key that is stored ({counted(len(stored), 'wallet')})."
        return ok("key-ring", found, **figures)
    named = ", ".join(f"{each.name} ({each.key})" for each in closed[:MOST_NAMED])
    more = f", and {len(closed) - MOST_NAMED} more" if len(closed) > MOST_NAMED else ""
    return broken(
        "key-ring",
        f"It does not open the keys of {counted(len(closed), 'wallet')} of {len(stored)}: "
        f"{named}{more}.",
        "Put the key that is named back into the key ring, on every computer; where it is lost, "
        "store the PixelDojo key again with wan-mcp admin wallet set-key.",
        **figures,
    )
