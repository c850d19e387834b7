"""The command line of a team's operator."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wan_mcp.cli.admin.people_line import PEOPLE, add_people

if TYPE_CHECKING:
    from wan_mcp.settings import Settings

FAILED = 1
"""The exit code if a command did not do what it was asked."""


def add_actions(admin: argparse.ArgumentParser) -> None:
    """Add the actions of `admin` to its parser."""
    actions = admin.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = partial(actions.add_parser, allow_abbrev=False)
    migrate = add("migrate", help="bring the ledger in PostgreSQL to this version, or make one")
    migrate.add_argument("--check", action="store_true", help="only say whether it is needed")
    move = add("move-ledger", help="move this computer's ledger into PostgreSQL")
    move.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="the data folder (the usual one)"
    )
    move.add_argument(
        "--again", action="store_true", help="an earlier move was to a database that is gone"
    )
    for action in (migrate, move):
        action.add_argument("--json", action="store_true", help="the same as data")
    add_people(add)


def run_action(
    parsed: argparse.Namespace,
    settings: "Settings",
    write: Callable[[str], object],
    complain: Callable[[str], object],
) -> int:
    """Run the action that was typed.

    Args:
        write: shows a text.
        complain: shows why a command failed, on standard error.

    Returns:
        The exit code.
    """
    if parsed.action in PEOPLE:
        from wan_mcp.cli.admin.database import missing

        if why := missing(settings):
            complain(f"{why.what} {why.next_step}")
            return FAILED
        from wan_mcp.cli.admin.people import run_people

        return run_people(parsed, settings, write, complain)
    from wan_mcp.cli.admin.ledger import LedgerCommands
    from wan_mcp.clock import Clock

    ledger = LedgerCommands(settings, write, complain, Clock().wall)
    if parsed.action == "migrate":
        return ledger.migrate(check=parsed.check, as_json=parsed.json)
    return ledger.move(parsed.folder, again=parsed.again, as_json=parsed.json)
