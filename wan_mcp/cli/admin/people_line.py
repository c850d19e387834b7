"""The command line for people, wallets and limits."""

import argparse
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wan_mcp.models import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    Add = Callable[..., argparse.ArgumentParser]

PEOPLE = ("user", "team", "wallet", "token", "limits", "spend", "audit", "jobs", "job")
"""The actions of `admin` that are about people."""
LIMITS = ("credits-per-job", "credits-per-day", "in-flight", "submits-per-minute")
"""The options that set a limit."""


def add_people(add: "Add") -> None:
    """Add the commands about people to those of `admin`.

    Args:
        add: adds one command.
    """
    _users(_verbs(add("user", help="who may sign in")))
    _teams(_verbs(add("team", help="who shares a wallet and its limits")))
    _wallets(_verbs(add("wallet", help="which PixelDojo key pays for whom")))
    _tokens(_verbs(add("token", help="tokens for programs that cannot sign in")))
    _limits(_verbs(add("limits", help="what a user, a team or a wallet may spend")))
    spend = add("spend", help="what each user has spent")
    spend.add_argument("--days", type=_days, default=30, help="in the last days (%(default)s)")
    audit = add("audit", help="who did what, when, and with which result")
    audit.add_argument("--about", metavar="ID", help="only of, or by, this user, team, wallet, job")
    audit.add_argument("--days", type=_days, default=30, help="in the last days (%(default)s)")
    audit.add_argument("--limit", type=_count, default=100, help="the newest (%(default)s)")
    jobs, job = add("jobs", help="the jobs of everybody, newest first"), add("job", help="one job")
    _jobs(jobs)
    job.add_argument("id", metavar="ID", help="its id, its submission id, or how one begins")
    for action in (spend, audit, jobs, job):
        _as_json(action)


def _users(add: "Add") -> None:
    new = add("add", help="make a user")
    new.add_argument("name", metavar="NAME", help="what other people call them")
    new.add_argument("--team", help="the id or the name of a team")
    new.add_argument("--issuer", metavar="URL", help="who signs them in")
    new.add_argument("--subject", help="what the issuer calls them: the claim sub")
    change = add("set", help="change a user")
    change.add_argument("user", metavar="USER", help="the id, or the name if no other user has it")
    what = change.add_mutually_exclusive_group(required=True)
    what.add_argument("--name", help="another name")
    what.add_argument("--team", help="another team")
    what.add_argument("--no-team", action="store_true", help="out of the team")
    _force(change)
    for verb, text in (("disable", "let a user sign in no more"), ("enable", "let them again")):
        add(verb, help=text).add_argument("user", metavar="USER")
    add("list", help="all users")


def _teams(add: "Add") -> None:
    new = add("add", help="make a team")
    new.add_argument("name", metavar="NAME")
    new.add_argument("--issuer", metavar="URL", help="everybody whom it signs in may join")
    change = add("set", help="change a team")
    change.add_argument("team", metavar="TEAM", help="the id or the name")
    what = change.add_mutually_exclusive_group(required=True)
    what.add_argument("--issuer", metavar="URL", help="everybody whom it signs in may join")
    what.add_argument("--no-issuer", action="store_true", help="only users whom you add")
    add("list", help="all teams")


def _wallets(add: "Add") -> None:
    new = add("add", help="make a wallet with a PixelDojo key; the key is read, never typed here")
    new.add_argument("name", metavar="NAME")
    owner = new.add_mutually_exclusive_group(required=True)
    owner.add_argument("--team", help="whose it is: the id or the name of a team")
    owner.add_argument("--user", help="whose it is: the id or the name of one user")
    _force(new)
    change = add("set-key", help="give a wallet another key of the same PixelDojo account")
    change.add_argument("wallet", metavar="WALLET", help="the name or the account")
    for verb in (new, change):
        verb.add_argument(
            "--key-file", type=Path, metavar="FILE", help="has only the key (standard input)"
        )
    gone = add("remove", help="forget the key of a wallet for good")
    gone.add_argument("wallet", metavar="WALLET", help="the name or the account")
    _force(gone)
    add("rotate", help="seal all keys with the first key of the key ring")
    add("list", help="all wallets, and whether their keys can be opened")


def _tokens(add: "Add") -> None:
    new = add("add", help="make a token, and show it once")
    new.add_argument("user", metavar="USER", help="whose it is: the id, or a name of one user")
    new.add_argument("--days", type=_days, help="how long it works (90, at most 366)")
    new.add_argument("--read-only", action="store_true", help="it buys nothing")
    new.add_argument("--note", default="", help="what it is for")
    gone = add("revoke", help="let a token work no more")
    gone.add_argument("id", metavar="ID", help="the part between wan_ and the second _")
    add("list", help="all tokens, without their secrets")


def _limits(add: "Add") -> None:
    change = add("set", help="change limits; a word `none` takes one away")
    whose = change.add_mutually_exclusive_group(required=True)
    for kind in ("user", "team", "wallet"):
        whose.add_argument(f"--{kind}", metavar=kind.upper(), help="whose: the id or the name")
    for limit in LIMITS:
        change.add_argument(f"--{limit}", metavar="N", type=_whole_limit(limit))
    add("list", help="all limits")


def _jobs(jobs: argparse.ArgumentParser) -> None:
    states = [str(status) for status in JobStatus]
    jobs.add_argument("--user", help="only of this one: the id or the name")
    jobs.add_argument("--wallet", help="only paid by this one: the name or the account")
    jobs.add_argument(
        "--state",
        action="append",
        choices=states,
        metavar="STATE",
        help=f"only these ({', '.join(states)}); may be given more than once",
    )
    jobs.add_argument("--days", type=_days, help="made in the last days (all)")
    jobs.add_argument("--limit", type=_count, default=100, help="0 shows all (%(default)s)")


def _verbs(noun: argparse.ArgumentParser) -> "Add":
    """The function that adds verbs to a noun. Each verb has --json."""
    verbs = noun.add_subparsers(dest="verb", required=True, metavar="VERB")
    return partial(_verb, partial(verbs.add_parser, allow_abbrev=False))


def _verb(add: "Add", name: str, **given: str) -> argparse.ArgumentParser:
    verb = add(name, **given)
    _as_json(verb)
    return verb


def _force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="also while jobs have not ended")


def _as_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the same as data")


def _whole_limit(limit: str) -> "Callable[[str], float | int | str]":
    return _limit if limit.startswith("credits") else _whole


def _limit(text: str) -> float | str:
    return text if text == "none" else _number(text, "a number, 0 or more, or none")


def _whole(text: str) -> int | str:
    if text == "none":
        return text
    return _count(text, "a whole number, 0 or more, or none")


def _days(text: str) -> float:
    return _number(text, "a number of days")


def _count(text: str, what: str = "a whole number") -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 13):
        raise argparse.ArgumentTypeError(f"must be {what}")
    return int(text)


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < 10**12:
        raise argparse.ArgumentTypeError(f"must be {what}")
    return number
