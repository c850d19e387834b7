"""What a person reads while a call or a task goes on: one source for both.

First what is done now, then what the job costs, then the time so far and what is typical. Never a
percentage: PixelDojo reports no progress, so it would be invented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wan_mcp.errors import WanError
from wan_mcp.models import JobResult, JobStatus
from wan_mcp.surface.answers.text import both_statuses
from wan_mcp.wording import counted, duration

if TYPE_CHECKING:
    from wan_mcp.ledger.status import JobView, Reading

INSPECTING = "Looking at the video"
"""The first thing that a paid call does, where inputs are inspected before they are paid for."""
PREPARING = "Preparing the job"
"""The same where they are not."""
LOOKING = "Looking at the job"
"""The first thing that a wait does."""
LOOKING_AT_SEVERAL = "Looking at the jobs"
"""The same of a wait for several."""
_REPORTED_DURATION = "jobs have been reported to take 30 s to 6 min"
_PROGRESS = {
    JobStatus.QUEUED: "the request is queued, nothing charged yet",
    JobStatus.SUBMITTING: "the request is on its way",
    JobStatus.UNKNOWN: "not known whether a job was started; looking for it",
    JobStatus.NOT_SENT: "no job came of the request",
    JobStatus.REFUSED: "the request was turned down",
}


def submit_note(result: JobResult) -> str:
    """One line about a request that was just made: what it costs, or why nothing was bought.

    Args:
        result: the answer of replace_character.
    """
    if result.charged != "yes":
        return result.message
    if result.credit_cost is not None:
        return f"Submitted, {counted(result.credit_cost, 'credit')}"
    if result.credit_estimate is not None:
        return f"Submitted, about {counted(result.credit_estimate, 'credit')}"
    return "Submitted; the number of credits is not known"


def progress_note(reading: Reading, typical: float | None = None) -> str:
    """One line for a person who waits.

    Args:
        typical: seconds that this account's jobs typically take; None when that is not known.
    """
    if isinstance(reading, WanError):
        return f"{reading.what} Still waiting."
    known = reading.elapsed_seconds is not None and not is_from_elsewhere(reading)
    since = f"{duration(reading.elapsed_seconds or 0)}: " if known else ""
    if reading.last_error is not None:
        return f"{since}{reading.last_error.what} Still waiting."
    if reading.progress is not None:
        return f"{since}{reading.progress}"
    if reading.place is not None:
        return f"{since}{_PROGRESS[reading.status]}; its place is {reading.place.position}"
    if reading.status in _PROGRESS:
        return f"{since}{_PROGRESS[reading.status]}"
    usual = f"; {typical_duration(typical)}" if reading.status is JobStatus.RUNNING else ""
    vendor_status = reading.job.vendor_status if reading.job else ""
    return f"{since}the job is {both_statuses(reading.status, vendor_status)}{usual}"


def typical_duration(seconds: float | None) -> str:
    """How long such a job usually takes, in words.

    Args:
        seconds: what is typical of this account; None when that is not known.
    """
    if seconds is None:
        return _REPORTED_DURATION
    return f"half of this account's last jobs took less than {duration(seconds)}"


def is_from_elsewhere(view: JobView) -> bool:
    """Whether the job was submitted without our ledger, which then cannot know when it began."""
    return view.record is not None and view.record.from_elsewhere
