"""The command line for the user's jobs."""

import argparse
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import date, timedelta
from typing import TYPE_CHECKING

from wan_mcp.models import JobStatus

if TYPE_CHECKING:
    from wan_mcp.cli.jobs.commands import JobCommands, Since

COMMANDS = ("jobs", "gallery", "show", "open", "keep", "forget")


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands to the parser.

    Args:
        add: adds one command, and returns its parser.
    """
    _add_jobs(add("jobs", help="your jobs, newest first, and what they cost"))
    add("gallery", help="your videos as pictures, in your browser, until you press Ctrl-C")
    show = _add_job(add("show", help="everything about one job"))
    show.add_argument("--json", action="store_true", help="for programs")
    open_ = _add_job(add("open", help="the saved video of a job, in your player"))
    open_.add_argument("--folder", action="store_true", help="its folder instead")
    keep = _add_job(add("keep", help="keep a job's video, whatever the size limit says"))
    keep.add_argument("--undo", action="store_true", help="do not keep it any more")
    forget = _add_job(add("forget", help="remove a job's links, inputs and video"))
    forget.add_argument("--yes", action="store_true", help="without asking")


def run_command(jobs: "JobCommands", parsed: argparse.Namespace) -> int:
    """Run the command that was typed. Returns the exit code."""
    match parsed.command:
        case "jobs":
            statuses = {JobStatus(word) for word in parsed.status or ()}
            return jobs.jobs(statuses, parsed.since, parsed.limit, as_json=parsed.json)
        case "gallery":
            return jobs.gallery()
        case "show":
            return jobs.show(parsed.job, as_json=parsed.json)
        case "open":
            return jobs.open(parsed.job, folder=parsed.folder)
        case "keep":
            return jobs.keep(parsed.job, kept=not parsed.undo)
        case _:
            return jobs.forget(parsed.job, agreed=parsed.yes)


def _add_jobs(jobs: argparse.ArgumentParser) -> None:
    statuses = [str(status) for status in JobStatus]
    jobs.add_argument(
        "--status",
        action="append",
        choices=statuses,
        metavar="STATUS",
        help=f"only these ({', '.join(statuses)}); may be given more than once",
    )
    jobs.add_argument(
        "--since", type=_since, metavar="WHEN", help="a day (2026-11-20) or a time back (12h, 7d)"
    )
    jobs.add_argument("--limit", type=_count, default=20, help="0 shows all (%(default)s)")
    jobs.add_argument("--json", action="store_true", help="for programs, with every fact")


def _add_job(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument(
        "job", metavar="JOB", help="a job id, a submission id, or the beginning of either"
    )
    return command


def _since(text: str) -> "Since":
    units = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    back = re.fullmatch(r"([0-9]{1,5})(min|h|d|w)", text)
    with suppress(ValueError):
        return timedelta(**{units[back[2]]: int(back[1])}) if back else date.fromisoformat(text)
    raise argparse.ArgumentTypeError("must be a day, such as 2026-11-20, or 30min, 12h, 7d, 2w")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError("must be a whole number, 0 or more")
    return int(text)
