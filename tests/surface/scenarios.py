"""What a model or a person reads in each situation, for tests of facts and for the snapshot."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import anyio
import pytest

from wan_mcp import errors
from wan_mcp.errors import InvalidArguments, NotFound, RateLimited, Refused, StepBy, WanError
from wan_mcp.inputs.verdict import UnusableInput
from wan_mcp.jobs import Jobs
from wan_mcp.ledger import limit_use, spending_limits
from wan_mcp.ledger import status as views
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.expected_price import (
    AccountCredits,
    Balance,
    Charge,
    CreditReport,
    Totals,
    price_up_to,
)
from wan_mcp.ledger.limit_use import LimitUse
from wan_mcp.ledger.queueing.contract import Place
from wan_mcp.ledger.queueing.rules import must_wait
from wan_mcp.ledger.record import WITHDRAWN as WITHDRAWN_ERROR
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.spending_limits import InFlightJob, LimitReached, Queued, SpendingLimits
from wan_mcp.ledger.status import (
    InputProgress,
    JobView,
    Phase,
    Reading,
    view_of_job,
    view_of_record,
)
from wan_mcp.ledger.wallets.quotas import Counted, Quota
from wan_mcp.models import (
    Difference,
    Job,
    JobLine,
    JobStatus,
    PriceRow,
    PriceType,
    PublishedPrice,
    Replacement,
)
from wan_mcp.pixeldojo.error_statuses import StoppedOnTheWay, UnknownModel
from wan_mcp.server import INSTRUCTIONS
from wan_mcp.surface import consent
from wan_mcp.surface.answers import failures, progress, results, task_form
from wan_mcp.surface.answers.cancelling import cancel_result
from wan_mcp.surface.answers.credits import credit_overview
from wan_mcp.surface.answers.several import Awaited, newest_ended, several_note, wait_result
from wan_mcp.surface.answers.several_task import CANCELLED_NOTE
from wan_mcp.surface.answers.team_user import TeamUser, step_for
from wan_mcp.surface.answers.text import list_summary, text
from wan_mcp.surface.arguments import (
    Arguments,
    CheckCredits,
    GetJobStatus,
    ListJobs,
    ReplaceCharacter,
    WaitForJob,
    read_arguments,
)
from wan_mcp.surface.prompts import prompt_text
from wan_mcp.surface.tasks import NO_CANCEL
from wan_mcp.surface.video_views import VideoViews
from wan_mcp.videos.in_storage.saved_link import SavedLink
from wan_mcp.videos.job_files import JobFiles

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=6)
VIDEO = "https://temp.pixeldojo.ai/films/1.mp4"
CLIP = "https://cdn.example.com/clip.mp4"
IMAGE = "https://cdn.example.com/face.png"
SUBMISSION = "sub_aaaabbbbccccdddd"
STATES = {
    JobStatus.RUNNING: State.ACCEPTED,
    JobStatus.COMPLETED: State.COMPLETED,
    JobStatus.FAILED: State.FAILED,
}
ACCEPTED = Job(
    job_id="job_1",
    status=JobStatus.RUNNING,
    vendor_status="pending",
    expires_at=NOW + timedelta(hours=24),
    credit_cost=10,
    credits_remaining=90.5,
)
RUNNING = Job(job_id="job_1", status=JobStatus.RUNNING, vendor_status="processing")
DONE = Job(
    job_id="job_1",
    status=JobStatus.COMPLETED,
    vendor_status="completed",
    video_url=VIDEO,
    expires_at=NOW + timedelta(hours=23, minutes=58, seconds=5),
    credit_cost=2.5,
)
WITHOUT_LINK = DONE.model_copy(update={"video_url": None})
FAILED = Job(
    job_id="job_1",
    status=JobStatus.FAILED,
    vendor_status="failed",
    error="No person found",
    credit_cost=10,
    expires_at=NOW + timedelta(hours=1),
)
SAVED = {"saved_path": "/home/ana/Videos/job_1.mp4", "sha256": "ab12", "size": 2_412_345}
STORED = {**SAVED, "saved_path": "s3://ana/videos/job_1.mp4"}
LINKS = {
    "signed": SavedLink("https://s3.example/ana/videos/job_1.mp4?X-Amz-Signature=s", LATER),
    "not signed": SavedLink(
        None,
        why="There are no credentials for the storage s3://ana/videos.",
        step="Ask the user to set them.",
    ),
}
DIFFERENT = (
    Difference(what="lines", expected="720", seen="854 x 480"),
    Difference(what="sound", expected="yes", seen="none"),
)
NOT_INSPECTED = (
    Difference(
        what="inspection",
        expected="done",
        seen="could not be looked at: reading it took too long",
    ),
)
BUSY = RateLimited("PixelDojo asks for fewer requests; the job itself is not affected.")


def record(state: State, **fields: Any) -> Record:
    """A record of the ledger, as empty as it may be."""
    known = {"submission_id": SUBMISSION, "account": "a", "dedupe_key": "d", "owner": "o"}
    given = {"state": state, "seed_generated": True, "created_at": NOW - timedelta(minutes=5)}
    return Record.model_validate(known | given | fields)


def of_job(job: Job, **fields: Any) -> JobView:
    """What the ledger knows about a job."""
    known = job.model_dump(exclude={"status"})
    return view_of_record(record(STATES[job.status], **known, **fields))


def of_request(state: State, **fields: Any) -> JobView:
    """What the ledger knows about a request that has no job."""
    return view_of_record(record(state, **fields))


def after(view: JobView, seconds: float, last_error: WanError | None = None) -> JobView:
    """The view of a look that many seconds after the job began."""
    return replace(view, elapsed_seconds=seconds, last_error=last_error)


LOST = view_of_record(
    record(
        State.LOST,
        job_id="job_1",
        vendor_status="processing",
        expires_at=NOW + timedelta(hours=1),
        error='PixelDojo knows nothing under this id. PixelDojo says: "No such job"',
        findings="PixelDojo's job list shows no job for this request so far.",
    )
)
UNKNOWN = of_request(
    State.UNKNOWN,
    error="The request was sent, but no answer arrived (no answer in time).",
    checks=2,
    findings="PixelDojo's job list does not show which job is whose.",
)
NOT_SENT = of_request(
    State.NOT_SENT,
    error="PixelDojo's job list shows older jobs and none for this request.",
    checks=5,
    findings="PixelDojo's job list shows no job for this request so far.",
)
REFUSED = of_request(State.REFUSED, error="The PixelDojo account has too few credits.")

ORDER = {"video": CLIP, "character_image": IMAGE, "seconds": 7, "resolution": "720"}
OF_FILES = {
    "video": "file:///home/ana/My%20dance.mov#t=12,19",
    "video_sha256": "ab" * 32,
    "character_image": "file:///home/ana/ana.jpg",
    "character_image_sha256": "cd" * 32,
    "seconds": 7,
    "sent_notes": "The clip was cut to 7 s from 0:12.",
}
QUEUED = replace(of_request(State.QUEUED, seed=7, estimate=10), place=Place(2, 130.5))
WITHDRAWN = of_request(State.NOT_SENT, error=WITHDRAWN_ERROR)
UPLOADING = InputProgress(Phase.UPLOADING, 40_000_000, 120_000_000)
SUBMITS: dict[str, JobView] = {
    "accepted": of_job(ACCEPTED, seed=7, estimate=10),
    "accepted at another price": of_job(ACCEPTED, estimate=2),
    "accepted, cost not reported": of_job(RUNNING, estimate=2.5),
    "accepted, nothing known of the cost": of_job(RUNNING),
    "accepted, with notes about the inputs": replace(of_job(ACCEPTED), notes=("It is short.",)),
    "accepted, not in the ledger": view_of_job(ACCEPTED),
    "queued": QUEUED,
    "on its way": of_request(State.SENDING, seed=7, estimate=10),
    "being uploaded": replace(of_request(State.INTENT, seed=7, estimate=10), progress=UPLOADING),
    "accepted, with changed inputs": of_job(ACCEPTED, arguments=OF_FILES),
    "joined: queued": replace(QUEUED, joined=True),
    "joined: on its way": replace(of_request(State.SENDING), joined=True),
    "joined: running": replace(of_job(RUNNING), joined=True),
    "joined: running, another query": replace(of_job(RUNNING), joined=True, query_differs=True),
    "joined: completed": replace(of_job(DONE), joined=True),
    "joined: failed": replace(of_job(FAILED), joined=True),
}
LOOKS: dict[str, JobView] = {
    "queued": after(QUEUED, 20),
    "queued, no start known": replace(QUEUED, place=Place(1, None)),
    "on its way": after(of_request(State.SENDING), 5),
    "being prepared": replace(
        of_request(State.INTENT, arguments=OF_FILES), progress=InputProgress(Phase.PREPARING)
    ),
    "being uploaded": replace(of_request(State.INTENT, arguments=OF_FILES), progress=UPLOADING),
    "being uploaded, too little to count": replace(
        of_request(State.INTENT), progress=InputProgress(Phase.UPLOADING, 0, 1_999_999)
    ),
    "being lent": replace(of_request(State.INTENT), progress=InputProgress(Phase.LENDING)),
    "being uploaded elsewhere": replace(
        of_request(State.INTENT), progress=InputProgress(Phase.ELSEWHERE)
    ),
    "running": after(of_job(RUNNING, seed=0, estimate=10), 125.9),
    "running, from elsewhere": after(of_job(RUNNING, dedupe_key=None), 3.7),
    "running, busy vendor": after(
        of_job(RUNNING, last_reply_at=NOW - timedelta(seconds=20)), 125, BUSY
    ),
    "running, old facts": after(of_job(RUNNING, last_reply_at=NOW - timedelta(minutes=2)), 125),
    "completed": of_job(DONE),
    "completed, of an order that is known": of_job(DONE, arguments=ORDER, seed=71),
    "completed, of files": of_job(DONE, arguments=OF_FILES, seed=71),
    "completed, saved": of_job(DONE, **SAVED),
    "completed, saved as ordered": of_job(DONE, **SAVED, inspection=()),
    "completed, saved and not as ordered": of_job(DONE, **SAVED, inspection=DIFFERENT),
    "completed, saved and not inspected": of_job(DONE, **SAVED, inspection=NOT_INSPECTED),
    "completed, in storage, not linked": of_job(DONE, **STORED),
    "completed, not saved": of_job(DONE, not_saved="The disk is full."),
    "completed, not saved yet": of_job(
        DONE, ended_at=NOW, last_save_error="The video could not be saved: the disk is full."
    ),
    "completed, not saved in a day": of_job(
        DONE.model_copy(update={"expires_at": None}),
        ended_at=NOW - timedelta(days=1),
        last_save_error="The video could not be saved: the disk is full.",
    ),
    "completed, no expiry": of_job(DONE.model_copy(update={"expires_at": None})),
    "completed, link expired": of_job(
        DONE.model_copy(update={"expires_at": NOW - timedelta(hours=1)})
    ),
    "completed, no link": of_job(WITHOUT_LINK),
    "completed, link dropped": of_job(
        WITHOUT_LINK.model_copy(update={"note": "Its link was dropped."})
    ),
    "failed": of_job(FAILED),
    "failed, no reason": of_job(FAILED.model_copy(update={"error": None})),
    "failed, no cost": of_job(FAILED.model_copy(update={"credit_cost": None}), estimate=10),
    "lost": LOST,
    "lost, cost named": replace(
        LOST, job=FAILED.model_copy(update={"status": JobStatus.LOST, "error": None})
    ),
    "unknown": after(UNKNOWN, 125),
    "unknown, not looked for": of_request(State.UNKNOWN),
    "unknown, looked for once": of_request(State.UNKNOWN, checks=1, findings="None there."),
    "not sent": NOT_SENT,
    "refused": REFUSED,
    "refused, no reason": of_request(State.REFUSED),
}
SECOND, THIRD = {"submission_id": "sub_2"}, {"submission_id": "sub_3"}
WAITS: dict[str, list[Reading]] = {
    "some ended": [
        of_job(RUNNING, seed=7),
        of_job(DONE, seed=8, ended_at=NOW, **SECOND),
        of_request(State.UNKNOWN, **THIRD),
    ],
    "all ended": [
        of_job(DONE, seed=8, ended_at=NOW, **SAVED),
        of_job(FAILED, ended_at=NOW - timedelta(minutes=1), **SECOND),
        NOT_SENT,
        NotFound("PixelDojo knows no such job."),
    ],
    "none ended": [of_job(RUNNING), of_request(State.SENDING)],
    "all in storage": [of_job(DONE, **STORED), of_job(DONE, **STORED)],
}
LISTS: dict[str, tuple[list[JobView], JobStatus | None]] = {
    "empty": ([], None),
    "empty, of a status": ([], JobStatus.FAILED),
    "every kind": (
        [
            of_request(State.UNKNOWN, seed=7, arguments={"video": CLIP}),
            of_job(DONE, seed=8, arguments={"video": CLIP}),
            of_job(RUNNING, dedupe_key=None, last_reply_at=NOW - timedelta(seconds=80)),
        ],
        None,
    ),
    "one ended": ([of_job(DONE)], None),
    "one on its way": ([of_request(State.SENDING)], None),
    "one queued": ([QUEUED], None),
    "one running and one queued": ([QUEUED, of_job(RUNNING)], None),
    "one unknown": ([of_request(State.UNKNOWN)], None),
}
DONE_STATUS, RUNNING_STATUS = JobStatus.COMPLETED, JobStatus.RUNNING
SUMMARIES: dict[str, tuple[tuple[JobStatus, ...], JobStatus | None, bool]] = {
    "none": ((), None, False),
    "one": ((DONE_STATUS,), None, False),
    "two": ((RUNNING_STATUS, DONE_STATUS), None, False),
    "two of more": ((DONE_STATUS, DONE_STATUS), None, True),
    "one of a status of more": ((DONE_STATUS,), DONE_STATUS, True),
    "none of a status": ((), JobStatus.FAILED, False),
    "none of a status, one running": ((RUNNING_STATUS,), JobStatus.FAILED, False),
    "one of a status, two running": (
        (RUNNING_STATUS, JobStatus.SUBMITTING, DONE_STATUS),
        DONE_STATUS,
        False,
    ),
    "two running of that status": ((RUNNING_STATUS, RUNNING_STATUS), RUNNING_STATUS, False),
    "one refused request": ((JobStatus.REFUSED,), JobStatus.REFUSED, False),
    "none of a status, one unknown": ((JobStatus.UNKNOWN,), DONE_STATUS, False),
}
CANCELS: dict[str, tuple[JobView, JobView]] = {
    "queued": (QUEUED, WITHDRAWN),
    "cancelled before": (WITHDRAWN, WITHDRAWN),
    "put back just now": (of_request(State.INTENT), QUEUED),
    "running": (of_job(RUNNING), of_job(RUNNING)),
    "being sent": (of_request(State.INTENT), of_request(State.SENDING)),
    "unknown": (UNKNOWN, UNKNOWN),
    "completed": (of_job(DONE), of_job(DONE)),
    "failed": (of_job(FAILED), of_job(FAILED)),
    "not sent": (NOT_SENT, NOT_SENT),
}
PROGRESS: dict[str, Reading] = {
    "queued": after(QUEUED, 5),
    "queued, place not known": after(replace(QUEUED, place=None), 5),
    "nothing known yet, busy vendor": BUSY,
    "running": after(of_job(RUNNING), 5),
    "running, age not known": view_of_job(Job(job_id="j", status=JobStatus.RUNNING)),
    "running, from elsewhere": after(of_job(RUNNING, dedupe_key=None), 3.7),
    "running, busy vendor": after(of_job(RUNNING), 5, BUSY),
    "completed": after(of_job(DONE), 5),
    "failed": after(of_job(FAILED), 5),
    "lost": after(LOST, 5),
    "on its way": after(of_request(State.SENDING), 5),
    "being uploaded": replace(after(of_request(State.INTENT), 5), progress=UPLOADING),
    "unknown": after(UNKNOWN, 5),
    "not sent": after(NOT_SENT, 5),
    "refused": after(REFUSED, 5),
}


def waited(readings: list[Reading]) -> str:
    """What a wait for several jobs is answered with."""
    plain = [
        failures.failure_result(each)
        if isinstance(each, WanError)
        else results.status_result(each, now=NOW)
        for each in readings
    ]
    jobs = [Awaited(f"job_{n}", *each) for n, each in enumerate(zip(readings, plain, strict=True))]
    newest = newest_ended(readings)
    about = None if newest is None else results.status_result(newest, now=NOW)
    return text(wait_result(jobs, about))


class UsedUp:
    """An account that has used up every limit of the scenarios."""

    def highest_price(self) -> float:
        return 10

    def paid(self) -> tuple[float, int]:
        return 197.5, 0

    def payments(self, unpriced: float) -> list[tuple[float, float]]:
        return [(10_000, 197.5)]

    def in_flight(self) -> list[InFlightJob]:
        return [InFlightJob("accepted", 60, "job_1"), InFlightJob("accepted", 50, "job_2")]

    def submit_ages(self, within: float) -> list[float]:
        return [14.5] * 6

    def queued(self) -> Queued:
        return Queued(0, 0.0, 0)


def _refused(limits: SpendingLimits) -> WanError:
    with pytest.raises(Refused) as caught:
        spending_limits.check(limits, NOW, 10, UsedUp())
    return caught.value


def _full_queue() -> WanError:
    class Full(UsedUp):
        def queued(self) -> Queued:
            return Queued(20, 200, 0)

    limits = SpendingLimits(None, None, 2, None, queued=20)
    with pytest.raises(Refused) as caught:
        must_wait([Counted(Quota(limits), full := Full())], full, NOW, 10)
    return caught.value


FAILURES: dict[str, WanError] = {
    **{
        name: getattr(errors, name)("It happened.")
        for name in (
            *("InvalidArguments", "NoKey", "Unauthorized", "OutOfCredits", "NotAllowed"),
            *("NotFound", "Rejected", "RateLimited", "NotSent", "OutcomeUnknown"),
            *("CouldNotFindOut", "Busy"),
        )
    },
    "NotConfirmed": consent.NotConfirmed("It happened."),
    "PriceRose": _refused(SpendingLimits(None, None, None, None, agreed=9)),
    "LimitReached: a job": _refused(SpendingLimits(9, None, None, None)),
    "LimitReached: a day": _refused(SpendingLimits(None, 200, None, None)),
    "LimitReached: in flight": _refused(SpendingLimits(None, None, 2, None)),
    "LimitReached: a minute": _refused(SpendingLimits(None, None, None, 6)),
    "RateLimited for long": RateLimited("It happened.", retry_after=300),
    "NotSent, for good": errors.NotSent("It happened.", transient=False),
    "CouldNotFindOut, for good": errors.CouldNotFindOut("It happened.", transient=False),
    "answer lost by this call": views.unknown(SUBMISSION, "It happened."),
    **{
        f"equal request before: {state}": failure
        for state in (State.NOT_SENT, State.REFUSED, State.UNKNOWN)
        if (failure := views.failure_of(record(state, error="No network.")))
    },
}
WANTED = Replacement(video="", character_image="", seconds=5, resolution="480")
SECONDS = PublishedPrice(PriceType.PER_SECOND, (PriceRow(2),))
TABLE = PublishedPrice(
    PriceType.TABLE, tuple(PriceRow(n, n, lines) for n in range(1, 6) for lines in ("480", "720"))
)
UNREAD = PublishedPrice(
    PriceType.UNKNOWN, why="The price cannot be read now: PixelDojo could not be reached."
)


def credits_known(
    page: PublishedPrice = SECONDS,
    *charges: Charge,
    limits: SpendingLimits = SpendingLimits(),  # noqa: B008  # it is frozen
    price: float = 10,
    balance: float | None = 88.5,
    **known: Any,
) -> CreditReport:
    """What is known of an account that has used up most of its limits."""
    used = limit_use.usage(limits, NOW, UsedUp())
    if known.get("credits", used) is None:
        used = limit_use.settings_of(limits)
    refusal = None
    try:
        spending_limits.check(limits, NOW, price, UsedUp())
    except LimitReached as reached:
        refusal = reached
    at = NOW - timedelta(hours=2)
    last = None if balance is None else Balance(balance, at)
    account = AccountCredits(Totals(99, 187.5, 1_987.5, 2), last, used, refusal)
    expected = price_up_to(page.credits, WANTED, charges)
    return CreditReport(WANTED, page, expected, used, **({"credits": account} | known))


def _with_queue(report: CreditReport) -> CreditReport:
    assert report.credits is not None
    limits = [*report.credits.limits, LimitUse("WAN_MCP_MAX_QUEUED", 20, 3)]
    known = replace(report.credits, limits=limits, queued=Queued(3, 30, 0), would_wait=True)
    return replace(report, credits=known, limits=limits)


ROOMY = SpendingLimits(None, 300, 5, 10)
CREDITS: dict[str, CreditReport] = {
    "price known": credits_known(limits=ROOMY),
    "price known, nothing else": credits_known(
        limits=ROOMY,
        balance=None,
        credits=None,
        ledger_problem=LedgerUnavailable("The ledger is busy.", transient=True),
    ),
    "an earlier job cost more": credits_known(SECONDS, Charge({"seconds": 5}, 15), limits=ROOMY),
    "page too low for another job": credits_known(
        SECONDS, Charge({"seconds": 7}, 21), limits=ROOMY
    ),
    "page cannot be read": credits_known(UNREAD, limits=ROOMY),
    "page cannot be read, earlier job": credits_known(
        UNREAD, Charge({"seconds": 5}, 15), limits=ROOMY
    ),
    "page has a long table": credits_known(TABLE, limits=ROOMY),
    "page names nothing for this job": credits_known(
        PublishedPrice(PriceType.TABLE, (PriceRow(20, None, "720"),)), limits=ROOMY
    ),
    "page names nothing": credits_known(
        PublishedPrice(PriceType.FIXED, (PriceRow(0),)), limits=ROOMY
    ),
    "balance too low": credits_known(limits=ROOMY, balance=9),
    "no key": credits_known(credits=None, key_problem=errors.NoKey("No key is configured.")),
    "key not accepted": credits_known(limits=ROOMY, key_problem=errors.Unauthorized("Not it.")),
    "key not looked at": credits_known(limits=ROOMY, key_problem=errors.Busy("It is busy.")),
    "a limit for one job": credits_known(limits=SpendingLimits(9, None, None, None)),
    "a limit for a day": credits_known(limits=SpendingLimits(None, 200, None, None)),
    "a limit of jobs in flight": credits_known(limits=SpendingLimits(None, None, 2, None)),
    "a limit a minute": credits_known(limits=SpendingLimits(None, None, None, 6)),
    "a queue": _with_queue(credits_known(limits=ROOMY)),
}
BOTH = {"video": CLIP, "character_image": IMAGE}
FIRST = "wan://jobs/job_1/video"
CALLS: dict[str, tuple[type[Arguments], dict[str, Any]]] = {
    "nothing given": (ReplaceCharacter, {}),
    "every argument wrong": (
        ReplaceCharacter,
        {
            "video": "file:///etc/passwd",
            "character_image": 7,
            "video_duration": 5.5,
            "resolution": "1080",
            "refert_num": 0,
            "frames_per_second": 31,
            "go_fast": 1,
            "merge_audio": "perhaps",
            "seed": -2,
        },
    ),
    "misspelt argument": (ReplaceCharacter, {**BOTH, "resolutoin": "720"}),
    "another word for an argument": (ReplaceCharacter, {**BOTH, "fps": 30}),
    "odd argument": (ReplaceCharacter, {**BOTH, "seed_4f9": "x"}),
    "thousand unknown arguments": (ReplaceCharacter, {f"unknown_{n}": n for n in range(1_000)}),
    "bad job id": (GetJobStatus, {"job_id": "../api-keys"}),
    "bad time": (WaitForJob, {"job_id": "job_1", "timeout_seconds": 901}),
    "too many jobs": (WaitForJob, {"job_id": ",".join(f"job_{n}" for n in range(51))}),
    "bad job id among several": (WaitForJob, {"job_id": "job_1, ../api-keys"}),
    "bad filter": (ListJobs, {"status": "done", "limit": 0}),
    "seconds of a link": (ReplaceCharacter, {**BOTH, "video": f"{CLIP}#t=12,17"}),
    "video as a picture": (ReplaceCharacter, {**BOTH, "character_image": FIRST}),
    "fragment too long": (ReplaceCharacter, {**BOTH, "video": f"{FIRST}#t=12,40"}),
    "fragment too short": (
        ReplaceCharacter,
        {**BOTH, "video": f"{FIRST}#t=12,15", "video_duration": 7},
    ),
    "bad size": (CheckCredits, {"video_duration": 16, "resolution": "1080", "seed": 1}),
}
LOCAL_CALLS: dict[str, dict[str, Any]] = {
    "no full path": {"video": "dance.mov", "character_image": "http://127.0.0.1/ana.jpg"},
    "page": {"video": "https://youtu.be/abc", "character_image": "~/ana.jpg#t=3"},
    "seconds of a link": {"video": f"{CLIP}#t=12,17", "character_image": "~bob/ana.jpg"},
}
WITHOUT_SAVED_VIDEO = (
    "queued",
    "running",
    "completed",
    "failed",
    "lost",
    "unknown",
    "not sent",
    "refused",
)
GIVEN = {"video": CLIP, "character_image": IMAGE, "video_duration": "7"}
PROMPTS: dict[str, tuple[dict[str, str], float | None]] = {
    "nothing given, price known": (dict.fromkeys(GIVEN, ""), 10),
    "all given, price not known": (GIVEN, None),
    "not usable": ({"video": "/home/me/a.mp4", "character_image": "", "video_duration": "99"}, 1),
}


ORDERED = [
    consent.Purchase(
        Replacement(video=f"{CLIP}?token=s", character_image=IMAGE, seed=1), "", 12.5, "Up to now."
    ),
    consent.Purchase(
        Replacement(video=CLIP, character_image=f"file:///{'x' * 100}/ana.png"), "", None
    ),
]


def refusal(model: type[Arguments], given: dict[str, Any], *, local: bool = False) -> str:
    """What a call with these arguments is refused with."""
    with pytest.raises(InvalidArguments) as caught:
        read_arguments(model, given, loopback=False, local=local)
    return caught.value.what


def summary(held: tuple[JobStatus, ...], status: JobStatus | None, older: bool) -> str:
    """The summary of a list of jobs with these statuses."""
    jobs = [JobLine(job_id="j", status=each, made_at="2026-11-23T10:00:00") for each in held]
    return list_summary(jobs, status, older=older)


def refused_video(view: JobView | None) -> str:
    """What a read of the saved video of a job is refused with."""

    class KnownJobs:
        async def known(self, id: str) -> JobView | None:
            return view

    # The refusal comes before any use of the media, and needs nothing else of the jobs.
    views = VideoViews(cast(Jobs, KnownJobs()), cast(JobFiles, None))
    with pytest.raises(NotFound) as caught:
        anyio.run(views.saved_video, "job_1")
    return f"{caught.value.what} {caught.value.next_step}"


def _prompt(given: dict[str, str], price: float | None) -> str:
    return prompt_text(given, price, loopback=False)


TEAM_USERS = {
    "the team pays": TeamUser(),
    "own key": TeamUser(has_account=True),
    "own key, and a page for it": TeamUser(True, "https://team.example/key"),
}
FOR_OTHERS: dict[str, WanError] = {
    **FAILURES,
    "StoppedOnTheWay": StoppedOnTheWay("It happened."),
    "UnknownModel": UnknownModel("It happened."),
    "LedgerUnavailable": LedgerUnavailable("It happened."),
    "UnusableInput, by the operator": UnusableInput(
        "It happened.", next_step="Install it.", step_by=StepBy.OPERATOR
    ),
}
"""Errors whose usual next step may be for somebody else than a user of a team."""


def _steps_for(user: TeamUser | None) -> dict[str, str]:
    link = LINKS["not signed"]
    stored = results.status_result(of_job(DONE, **STORED), now=NOW, saved=link, user=user)
    looks = {name: results.status_result(v, now=NOW, user=user).next for name, v in LOOKS.items()}
    return {
        **{f"failure: {name}": step_for(user, each) for name, each in FOR_OTHERS.items()},
        **{f"look: {name}": step for name, step in looks.items()},
        "look: completed, in storage, not signed": stored.next,
        **{f"credits: {n}": credit_overview(r, None, user).next for n, r in CREDITS.items()},
    }


def _answers_in_team() -> dict[str, str]:
    """The next steps that only users of a team read, each once."""
    found: dict[str, str] = {}
    usual = set(_steps_for(None).items())
    for who, user in TEAM_USERS.items():
        steps = {each for each in _steps_for(user).items() if each not in usual}
        found |= {f"{name}, in a team: {who}": step for name, step in sorted(steps)}
        usual |= steps
    return found


def _answers() -> dict[str, str]:
    return {
        **{
            f"submit: {name}": text(results.submit_result(v, now=NOW))
            for name, v in SUBMITS.items()
        },
        **{f"look: {name}": text(results.status_result(v, now=NOW)) for name, v in LOOKS.items()},
        **{
            f"look: completed, in storage, {name}": text(
                results.status_result(of_job(DONE, **STORED), now=NOW, saved=link)
            )
            for name, link in LINKS.items()
        },
        "look: running, typical duration known": text(
            results.status_result(LOOKS["running"], now=NOW, typical=130)
        ),
        **{
            f"list: {name}": text(results.list_result(held, now=NOW, status=status))
            for name, (held, status) in LISTS.items()
        },
        "list: takes of one order, one of them kept": text(
            results.list_result(
                [
                    of_job(
                        RUNNING.model_copy(update={"job_id": "job_3"}), arguments=ORDER, seed=70
                    ),
                    of_job(DONE.model_copy(update={"job_id": "job_2"}), arguments=ORDER, seed=71),
                    of_job(DONE, arguments=ORDER, seed=72, kept=True, **SAVED),
                ],
                now=NOW,
            )
        ),
        **{f"wait for several: {name}": waited(held) for name, held in WAITS.items()},
        **{f"credits: {name}": text(credit_overview(r, None)) for name, r in CREDITS.items()},
        "credits: the user is asked": text(credit_overview(CREDITS["price known"], 12.5)),
        "list: a page, with totals": text(
            results.list_result(
                [
                    of_job(RUNNING, arguments=ORDER, seed=70),
                    of_job(DONE, arguments=ORDER, seed=71, **SAVED),
                    of_job(DONE, arguments=ORDER, seed=72),
                    of_job(FAILED, arguments=ORDER, seed=73),
                    of_job(FAILED),
                ],
                Totals(jobs=321, day_credits=22.5, credits=4_321.5, without_cost=2),
                now=NOW,
                limit=3,
            )
        ),
        "list: all of them, link expired, totals known": text(
            results.list_result([of_job(DONE)], Totals(1, 0, 2.5, 0), now=NOW + timedelta(days=2))
        ),
        **{f"cancel: {name}": text(cancel_result(*views)) for name, views in CANCELS.items()},
        "failure: LimitReached: queue": text(failures.failure_result(_full_queue())),
        **{f"failure: {name}": text(failures.failure_result(f)) for name, f in FAILURES.items()},
        **_answers_in_team(),
        "defect: paid tool": text(failures.defect_result("replace_character", paid=True)),
        "defect: free tool": text(failures.defect_result("list_jobs", paid=False)),
    }


def sentences() -> dict[str, str]:
    """Every scenario by its name, and what is read in it."""
    return {
        "instructions": INSTRUCTIONS,
        **_answers(),
        **{f"list summary: {name}": summary(*held) for name, held in SUMMARIES.items()},
        **{f"progress: {name}": progress.progress_note(look) for name, look in PROGRESS.items()},
        "progress: running, typical duration known": progress.progress_note(
            PROGRESS["running"], 130
        ),
        "progress: a paid call begins": progress.INSPECTING,
        "progress: a paid call begins, inputs are not inspected": progress.PREPARING,
        "progress: a wait begins": progress.LOOKING,
        "progress: a wait for several begins": progress.LOOKING_AT_SEVERAL,
        **{
            f"progress: several, {name}": several_note(held, progress.typical_duration(130))
            for name, held in WAITS.items()
        },
        "task cancelled, withdrawn": task_form.WITHDRAWN_NOTE,
        "task cancelled, job goes on": NO_CANCEL,
        "task cancelled, jobs go on": CANCELLED_NOTE,
        **{f"arguments: {name}": refusal(*call) for name, call in CALLS.items()},
        **{
            f"arguments over stdio: {name}": refusal(ReplaceCharacter, given, local=True)
            for name, given in LOCAL_CALLS.items()
        },
        "video: job not known": refused_video(None),
        **{f"video: {name}": refused_video(LOOKS[name]) for name in WITHOUT_SAVED_VIDEO},
        "video: moved or deleted": refused_video(LOOKS["completed, saved"]),
        "question: price known": consent.question_for(12.5, 10) or "",
        "question: price not known": consent.question_for(None, 10) or "",
        "question: several jobs": consent.question_for_all(ORDERED),
        **{f"prompt: {name}": _prompt(*given) for name, given in PROMPTS.items()},
        "prompt over stdio": prompt_text(GIVEN, 10, loopback=False, local=True),
    }
