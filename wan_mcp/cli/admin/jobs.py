"""`wan-mcp admin jobs` and `job`: the jobs of everybody, for the operator of a team."""

import argparse
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from wan_mcp.cli.admin.showing import Answer, date_of, table
from wan_mcp.cli.jobs.details import lines_of_facts
from wan_mcp.cli.jobs.facts import Facts, facts_of, price_of, times_of
from wan_mcp.ledger.fingerprint import without_queries
from wan_mcp.ledger.history.history import EVERYTHING, Choice, History
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.status import states_of, view_of_record
from wan_mcp.models import JobStatus
from wan_mcp.settings import Settings
from wan_mcp.tenants.administration.acts import ActRefused, Operator
from wan_mcp.tenants.administration.owners import Owner, owners
from wan_mcp.tenants.administration.users import user_id
from wan_mcp.tenants.administration.wallets import account_named

DAY_SECONDS = 86_400
_HEADS = ("JOB", "SUBMISSION", "MADE", "ENDED", "USER", "WALLET", "STATUS", "CREDITS")
_OPERATORS = (
    *("owner", "vendor_status", "note", "error", "end_reported_at", "queued_until"),
    *("last_polled_at", "last_reply_at", "last_error", "last_error_code"),
    *("checks", "checked_at", "findings", "next_check_at", "proof_readings", "proof_at"),
    "video_folder",
)
"""The fields of a record that help an operator, beside those that are shown to its user."""


def listed(operator: Operator, settings: Settings, typed: argparse.Namespace) -> Answer:
    """The newest jobs of everybody, or of the user or wallet that was typed."""
    from wan_mcp.ledger.postgres.history import read

    user = typed.user and user_id(operator, typed.user)
    wallet = typed.wallet and account_named(operator, typed.wallet)
    whose = {each.account: each for each in owners(operator, user, wallet)}
    choice = Choice(
        states_of({JobStatus(word) for word in typed.state or JobStatus}),
        _since(typed.days),
        set(whose) if user or wallet else None,
    )

    def look(history: History) -> tuple[list[Record], int]:
        found = history.newest(choice, typed.limit or EVERYTHING)
        return found, sum(history.sizes(choice).values())

    records, matching = read(settings.ledger_url.get_secret_value(), look)
    facts = [_facts(each, whose.get(each.account)) for each in records]
    text = table(_HEADS, (_row(each, whose.get(each.account)) for each in records))
    if len(records) < matching:
        text += f"\n\nThe newest {len(records)} of {matching}; --limit 0 shows all."
    return Answer({"jobs": facts, "matching": matching}, text)


def shown(operator: Operator, settings: Settings, typed: argparse.Namespace) -> Answer:
    """Everything about one job. Raises ActRefused if the id does not name exactly one."""
    from wan_mcp.ledger.postgres.history import read

    def look(history: History) -> tuple[list[Record], Mapping[str, int]]:
        return history.named(typed.id), history.places()

    found, places = read(settings.ledger_url.get_secret_value(), look)
    if len(found) != 1:
        # The word is not repeated: it may be a key.
        which = f"{len(found)} jobs have this id" if found else "No job has this id"
        raise ActRefused(f"{which}, or one that begins so.")
    [record] = found
    whose = {each.account: each for each in owners(operator)}
    place = places.get(record.submission_id)
    about = facts_of(record, datetime.now(UTC), place, shared=True)
    about = {**about, "whose": _whose(record, whose.get(record.account)), "record": _kept(record)}
    facts = _unsigned(about)
    return Answer(facts, "\n".join(lines_of_facts(facts, UTC)))


def _since(days: float | None) -> datetime | None:
    if days is None:
        return None
    return datetime.fromtimestamp(max(time.time() - days * DAY_SECONDS, 0.0), UTC)


def _row(record: Record, owner: Owner | None) -> tuple[object, ...]:
    ended = record.ended_at and date_of(record.ended_at.timestamp())
    return (
        record.job_id,
        record.submission_id,
        date_of(record.asked_at.timestamp()),
        ended,
        owner and owner.user,
        owner and owner.wallet,
        view_of_record(record).status,
        price_of(record),
    )


def _facts(record: Record, owner: Owner | None) -> Facts:
    return {
        "job_id": record.job_id,
        "submission_id": record.submission_id,
        "status": str(view_of_record(record).status),
        "credit_cost": record.credit_cost,
        "credit_estimate": record.estimate,
        **_whose(record, owner),
        **times_of(record),
    }


def _whose(record: Record, owner: Owner | None) -> Facts:
    if owner is None:  # it was paid with a key in the settings of a server
        wallet = record.workspace.wallet
        owner = Owner(record.account, None, None, None, None, wallet)
    return owner._asdict()


def _kept(record: Record) -> Facts:
    values = {"state": str(record.state), **{name: getattr(record, name) for name in _OPERATORS}}
    return {
        name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
        for name, value in values.items()
        if value not in (None, "")
    }


def _unsigned(value: Any) -> Any:
    """The same without the queries of links, whose signatures would give access to the video."""
    if isinstance(value, dict):
        return {name: _unsigned(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_unsigned(each) for each in value]
    return without_queries(value) if isinstance(value, str) else value
