"""Everything that is known of one job, in the words of the tools."""

import os.path
from datetime import datetime
from typing import Any

from wan_mcp.ledger.fingerprint import is_link
from wan_mcp.ledger.record import FREE_OF_CHARGE, Record
from wan_mcp.ledger.status import view_of_record
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.surface.answers.inputs import shown_input
from wan_mcp.surface.answers.results import job_result
from wan_mcp.videos.paths import path_of
from wan_mcp.wording import number

Facts = dict[str, Any]

_ACCOUNT_DIGITS = 8
_PARAMETERS = {"seconds": "video_duration", "references": "refert_num"}
"""The arguments of a record that have PixelDojo's names in the tools."""


def facts_of(
    record: Record, now: datetime, place: int | None = None, *, shared: bool = False
) -> Facts:
    """All facts about a request and its job, in groups. What is not known is left out.

    Args:
        now: the date, to tell whether a link has expired.
        place: its place in the queue, from 1; None if it is not queued.
        shared: whether servers on other computers save videos, too.
    """
    result = job_result(view_of_record(record), now=now)
    return _known(
        {
            "job_id": record.job_id,
            "submission_id": record.submission_id,
            "account": record.account[:_ACCOUNT_DIGITS],
            "status": str(result.status),
            "queue_position": place,
            "vendor_status": result.vendor_status,
            "message": result.message,
            "error": result.error,
            "inputs": _inputs(record),
            "times": times_of(record),
            "money": {
                "credit_cost": record.credit_cost,
                "credit_estimate": record.estimate,
                "job_charged": result.job_charged,
                "credits_remaining": record.credits_remaining,
            },
            "video": {
                "state": state_of_video(record, now, shared=shared),
                "video_url": result.video_url,
                "expires_at": result.expires_at,
                "saved_path": record.saved_path,
                "kept": record.kept or None,
                "size": record.size,
                "sha256": record.sha256,
                "inspection": result.inspection,
                "not_saved": None if record.is_forgotten else record.not_saved,
                "last_save_error": record.last_save_error,
            },
        }
    )


def state_of_video(record: Record, now: datetime, *, shared: bool = False) -> str | None:
    """Where the video is, in one word; None if there is none.

    Returns:
        saved: in the file that `saved_path` names, or in object storage, which is not checked.
        moved: it was saved in a file, which is no longer there.
        elsewhere: the same, on a ledger that computers share: another one may have the file.
        link: only under its link.
        expired: only under a link that has expired.
        forgotten: the user had it removed.
    """
    if record.is_forgotten:
        return "forgotten"
    if record.saved_path is not None:
        is_there = is_storage_url(record.saved_path) or os.path.isfile(path_of(record.saved_path))
        if is_there:
            return "saved"
        return "elsewhere" if shared else "moved"
    if not record.video_url:
        return None
    return "expired" if record.expires_at is not None and record.expires_at <= now else "link"


def price_of(record: Record) -> str:
    """What a job cost in credits, as text: with a ~ if only expected, ? if not known."""
    if record.state in FREE_OF_CHARGE:
        return "0"
    if record.credit_cost is not None:
        return number(record.credit_cost)
    return "?" if record.estimate is None else f"~{number(record.estimate)}"


def _inputs(record: Record) -> Facts:
    given = {
        _PARAMETERS.get(name, name): value if is_link(value) else shown_input(str(value))
        for name, value in record.arguments.items()
        if not name.endswith("_sha256")
    }
    source = record.source
    return given | {
        "seed": record.seed,
        "seed_was_generated": record.seed_generated or None,
        "source_seconds": source.seconds,
        "source_frames_per_second": source.frames_per_second,
        "source_has_sound": source.has_sound,
    }


def times_of(record: Record) -> Facts:
    """The times of what happened to a job, in ISO 8601; None for what has not happened."""
    began, ended = record.accepted_at, record.ended_at
    dates = {
        "made_at": record.asked_at,
        "sent_at": record.sent_at,
        "accepted_at": began,
        "ended_at": ended,
        "forgotten_at": record.forgotten_at,
    }
    shown: Facts = {name: at and at.isoformat(timespec="seconds") for name, at in dates.items()}
    took = (ended - began).total_seconds() if began and ended and ended > began else None
    return shown | {"took_seconds": took and round(took, 1)}


def _known(facts: Facts) -> Facts:
    groups = {
        name: _known(each) if isinstance(each, dict) else each for name, each in facts.items()
    }
    return {name: value for name, value in groups.items() if value not in (None, {})}
