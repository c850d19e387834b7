"""What a model should do next, for each status that a job can have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wan_mcp.models import Job, JobLine, JobStatus
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.surface.answers.team_user import ASK_OPERATOR
from wan_mcp.wording import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wan_mcp.ledger.status import JobView
    from wan_mcp.surface.answers.team_user import TeamUser
    from wan_mcp.videos.in_storage.saved_link import SavedLink

_UNKNOWN_LIFETIME = " and PixelDojo does not say for how long (1 to 24 hours have been reported)"

FORGOTTEN = (
    "Nothing more is known of it here. replace_character with another seed makes a new video: a "
    "new job, charged on its own."
)
"""What to do about a job that its user had forgotten."""
_WHEN_FORGOTTEN = {
    JobStatus.COMPLETED: "The job was completed",
    JobStatus.FAILED: "The job failed",
    JobStatus.LOST: "PixelDojo no longer knew the job",
    JobStatus.NOT_SENT: "No job came of this request, and nothing was charged",
    JobStatus.REFUSED: "PixelDojo turned this request down, and nothing was charged",
}


def about_joined(status: JobStatus, *, query_differs: bool) -> str:
    """What a call learns about the equal request that it joined.

    It says nothing of another seed while the cost of the first request is open, or after that
    request went wrong: a model could take that for advice, and pay a second time.

    Args:
        query_differs: whether the two requests differ in the query of a link.
    """
    if status in (JobStatus.QUEUED, JobStatus.SUBMITTING):
        return " It is the request that was already made; it is paid at most once."
    if status not in (JobStatus.RUNNING, JobStatus.COMPLETED):
        return ""
    other = (
        " Only what follows the ? of a link differs: if that means another clip or picture, call "
        "again with a seed."
    )
    return f"{other if query_differs else ''} For another take call again with another seed."


def next_of_job(
    view: JobView,
    link_seconds: int | None,
    save_seconds: float = 0.0,
    saved: SavedLink | None = None,
    user: TeamUser | None = None,
) -> str:
    """The next call, or what to say to the user.

    Args:
        link_seconds: how long the link to the video stays valid; None when that is not known.
        save_seconds: how long servers will still try to save the video, after a failure.
        saved: a link to the video in object storage; None if none was asked for.
        user: who reads it; None at a server without sign-in.
    """
    if view.is_forgotten:
        return FORGOTTEN
    match view.status:
        case JobStatus.QUEUED | JobStatus.SUBMITTING | JobStatus.RUNNING:
            return f"{_wait_for(view)}. Do not call replace_character again for it."
        case JobStatus.UNKNOWN:
            more = "; with the id from there, get_job_status shows more" if user is None else ""
            return (
                f'Call get_job_status with job_id "{view.id}" again in a few minutes: it looks '
                f"again. If it stays unknown, {_ask_to_look(user)} for the job on pixeldojo.ai"
                f"{more}. Do not repeat replace_character for it; another seed would be a new job, "
                "paid again."
            )
        case JobStatus.NOT_SENT | JobStatus.REFUSED:
            return _next_of_unbought(view.status, user)
        case JobStatus.LOST:
            return (
                "Tell the user: only PixelDojo's support can say what became of the job and of its "
                "cost. A new replace_character call would be a new job, charged on its own."
            )
        case JobStatus.FAILED:
            return _next_of_failed(view.job)
    step = _next_of_completed(view, link_seconds, save_seconds, saved, user)
    return step + _about_inspection(view)


def _next_of_unbought(status: JobStatus, user: TeamUser | None) -> str:
    if user is not None:  # the reason may be for the operator to remove
        return (
            "If the user can remove the reason, that comes first. Calling replace_character again "
            "is safe, and if the reason is still there, its answer says what to do."
        )
    if status is JobStatus.REFUSED:
        return "Remove the reason first; then calling replace_character again is safe."
    return "Calling replace_character again is safe; a reason that lasts has to be removed first."


def _ask_to_look(user: TeamUser | None) -> str:
    """Who has to look at pixeldojo.ai: only the person with the account there sees its jobs."""
    if user is None or user.has_account:
        return "ask the user to look"
    return "tell the user that the operator of this server has to look"


def _wait_for(view: JobView) -> str:
    wait = f'Call wait_for_job with job_id "{view.id}"'
    match view.status:
        case JobStatus.QUEUED:
            return f"{wait}: it waits through the queue, and cancel_job withdraws the request"
        case JobStatus.RUNNING:
            return f"{wait}; a job takes minutes"
    return wait


def forgotten_job(view: JobView) -> str:
    """What is said of a job whose links, inputs and video its user had removed."""
    at = view.record and view.record.forgotten_at
    when = "" if at is None else f" on {at:%Y-%m-%d}"
    return (
        f"{_WHEN_FORGOTTEN.get(view.status, 'The job has ended')}. Its user had its links, its "
        f"inputs and its video removed{when} (with the command wan-mcp forget)."
    )


def next_of_list(
    jobs: Sequence[JobLine], status: JobStatus | None, cursor: str | None = None
) -> str:
    """What to do about the jobs of a list.

    Args:
        status: the filter of the call; None for all.
        cursor: leads to the jobs after these; None if there are none.
    """
    steps = []
    in_progress = _first(jobs, JobStatus.RUNNING, JobStatus.SUBMITTING)
    if in_progress := in_progress or _first(jobs, JobStatus.QUEUED):
        steps.append(f'Call wait_for_job with job_id "{in_progress}" for its video.')
    if unknown := _first(jobs, JobStatus.UNKNOWN):
        steps.append(f'Call get_job_status with job_id "{unknown}": it looks for the job.')
    if jobs:
        steps = steps or ["Call get_job_status with a job_id for all about that job."]
        more = f'For older jobs call list_jobs with cursor "{cursor}".' if cursor else ""
        return " ".join(filter(None, [*steps, more]))
    if status is not None:
        return "Nothing is under way. Leave status out to see the other jobs."
    return "Nothing is under way: replace_character starts a job."


def _first(jobs: Sequence[JobLine], *statuses: JobStatus) -> str | None:
    return next((job.job_id for job in jobs if job.status in statuses), None)


def _next_of_failed(job: Job | None) -> str:
    reason = (
        "Tell the user the reason" if job and job.error else "Tell the user; no reason was given"
    )
    return (
        f"{reason}. The same inputs may fail again, and a new replace_character call starts and "
        "charges a new job: change the inputs first, or ask the user. Whether PixelDojo refunds "
        "failed jobs is not known."
    )


def _about_inspection(view: JobView) -> str:
    """Only the user can say whether a difference is a fault or what was wanted."""
    found = (view.record and view.record.inspection) or ()
    if all(each.what == "inspection" for each in found):
        return ""
    return " Tell the user also what the inspection found; a new take would be paid again."


def _next_of_completed(
    view: JobView,
    link_seconds: int | None,
    save_seconds: float,
    saved: SavedLink | None,
    user: TeamUser | None,
) -> str:
    record = view.record
    if record is not None and is_storage_url(record.saved_path or ""):
        return _next_of_stored(view.id, saved, user)
    if view.lacks_video_url:
        return (
            f"{_wait_for(view)} again in a minute. If there is still no link, "
            f"{_ask_to_look(user)} at the job on pixeldojo.ai; a new replace_character call would "
            "be charged again."
        )
    if record is not None and record.saved_path:
        return "Tell the user where the video is; the link is temporary, the saved file stays."
    if link_seconds is not None and link_seconds <= 0:
        return (
            f"The link's time is over: try it, and if it no longer works {_ask_to_look(user)} for "
            "the video on pixeldojo.ai; a new replace_character call would be charged again."
        )
    if record is not None and (why := record.not_saved or record.last_save_error):
        return _next_of_unsaved(why, 0.0 if record.not_saved else save_seconds)
    lifetime = _UNKNOWN_LIFETIME if link_seconds is None else ""
    return (
        "Give the user the link now and say that the video must be saved: "
        f"it is temporary{lifetime}."
    )


def _next_of_stored(id: str, link: SavedLink | None, user: TeamUser | None) -> str:
    """What to do about a video in object storage."""
    again = f'get_job_status with job_id "{id}"'
    if link is None:
        return f"The video is in the user's storage: {again} makes a link to it."
    if link.expires_at is None:
        step = link.step if user is None else ASK_OPERATOR
        why = " ".join(filter(None, [link.why, step]))
        return f"Tell the user where the video is. No link to it can be made now: {why}"
    return (
        f"Give the user saved_url: it works until {link.expires_at:%Y-%m-%d %H:%M} UTC, and "
        f"{again} makes a new one. The video stays in the user's storage."
    )


def _next_of_unsaved(why: str, save_seconds: float) -> str:
    if save_seconds >= 1:
        return (
            f"{why} While it runs, the server goes on trying for {duration(save_seconds)}. Give "
            "the user the link all the same: it is temporary, and get_job_status shows later "
            "whether the video is saved."
        )
    return (
        f"{why} The server does not try again: give the user the link and say that the video must "
        "be saved at once."
    )
