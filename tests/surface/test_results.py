"""How a job or a failure is told: the data, and the words that come of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_mcp import errors
from wan_mcp.errors import OutcomeUnknown, RateLimited, WanError
from wan_mcp.jobs import Submission
from wan_mcp.ledger import status as views
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import JobView, view_of_job, view_of_record
from wan_mcp.models import Job, JobList, JobResult, JobStatus
from wan_mcp.polling.waits import JobUpdate
from wan_mcp.surface.answers import results, text
from wan_mcp.surface.video_views import visible_to

patient = settings(deadline=None)  # a busy machine is no defect

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
FILM = "https://temp.pixeldojo.ai/films/1.mp4"
CLIP = "https://cdn.example.com/clip.mp4"
HANDLE = "sub_aaaabbbbccccdddd"
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
GOING = Job(job_id="job_1", status=JobStatus.RUNNING, vendor_status="processing")
DONE = Job(
    job_id="job_1",
    status=JobStatus.COMPLETED,
    vendor_status="completed",
    video_url=FILM,
    expires_at=NOW + timedelta(hours=23, minutes=58, seconds=5),
    credit_cost=2.5,
)
FAILED = Job(
    job_id="job_1",
    status=JobStatus.FAILED,
    vendor_status="failed",
    error="No person found",
    credit_cost=10,
    expires_at=NOW + timedelta(hours=1),
)
AGAIN = (
    'Next: Call wait_for_job with job_id "job_1"; a job takes minutes. '
    "Do not call replace_character again for it."
)


def record(state: State, **told: Any) -> Record:
    """A row of the ledger, as empty as it may be."""
    known = {"submission_id": HANDLE, "account": "a", "dedupe_key": "d", "owner": "o", "checks": 0}
    empty: dict[str, Any] = dict.fromkeys(Record.model_fields)
    given = {"state": state, "arguments": "{}", "seed_generated": True, "vendor_status": ""}
    made = {"created_at": NOW - timedelta(minutes=5)}
    return Record.model_validate(empty | known | given | made | told)


def stands(job: Job, **told: Any) -> JobView:
    """What the ledger knows of a job."""
    return view_of_record(record(STATES[job.status], **job.model_dump(exclude={"status"}), **told))


def request(state: State, **told: Any) -> JobView:
    """What the ledger knows of a request that has no job."""
    return view_of_record(record(state, **told))


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


def video_views(view: JobView, **how: Any) -> list[str]:
    return text.text(results.job_result(view, now=NOW, **how)).splitlines()


# A job


def test_accepted_job_is_told_with_its_cost_and_the_next_call() -> None:
    """Nothing is said of a link: there is none yet (ours)."""
    assert video_views(stands(ACCEPTED, seed=7, estimate=10), charged=True) == [
        "The job was accepted.",
        'Job job_1: running (PixelDojo: "pending"). Seed: 7.',
        "Charged by this call: yes. The job costs 10 credits. Credits left: 90.5.",
        AGAIN,
    ]


def test_going_job_is_told_with_its_time_so_far() -> None:
    """A read is free, and its text says so (ours)."""
    assert video_views(stands(GOING, seed=0, estimate=10), elapsed=125.9) == [
        "The job is still going.",
        'Job job_1: running (PixelDojo: "processing"), 2 min 5 s so far. Seed: 0.',
        "Charged by this call: no. The job is expected to cost 10 credits.",
        AGAIN,
    ]


def test_completed_job_is_told_with_its_link_and_its_life() -> None:
    """The link comes second, where a person looks (ours)."""
    assert video_views(stands(DONE), elapsed=300) == [
        "The film is ready.",
        f"Film: {FILM}",
        "The link expires at 2026-11-24T11:58:05+00:00, in 23 h 58 min.",
        "Job job_1: completed.",
        "Charged by this call: no. The job costs 2.5 credits.",
        "Next: Give the user the link now and say that the film must be saved: it is temporary.",
    ]


def test_failed_job_is_told_with_the_reason_and_the_money() -> None:
    """Whether failed jobs are refunded is not documented, so nothing is promised (vendor)."""
    assert video_views(stands(FAILED)) == [
        "PixelDojo reports that the job failed.",
        'PixelDojo\'s reason: "No person found"',
        "Job job_1: failed.",
        "Charged by this call: no. The job costs 10 credits.",
        "Next: Tell the user the reason. The same inputs may fail again, and a new "
        "replace_character call starts and charges a new job: change the inputs first, or ask the "
        "user. Whether PixelDojo refunds failed jobs is not known.",
    ]


def test_failed_job_without_a_reason_says_that_none_was_given() -> None:
    """A model told to give the reason would make one up (ours)."""
    told = results.job_result(stands(FAILED.model_copy(update={"error": None})), now=NOW)

    assert "Tell the user; no reason was given." in told.next
    assert "Tell the user the reason" not in told.next


def test_lost_job_is_told_with_what_was_asked_and_who_can_help() -> None:
    """It was paid, so nothing may send a model to buy it again unawares (ours)."""
    assert video_views(LOST, elapsed=300) == [
        "The job was accepted, and now PixelDojo no longer knows it: asked several times in a "
        "row, it said so each time. PixelDojo knows nothing under this id. PixelDojo says: "
        '"No such job"',
        'Job job_1: lost (PixelDojo: "processing").',
        "Charged by this call: no.",
        "Next: Tell the user: the job was paid, and only PixelDojo's support can say what became "
        "of it. A new replace_character call would be charged again.",
    ]


def test_job_that_the_ledger_does_not_know_is_told_all_the_same() -> None:
    """Another program's job, or a ledger that cannot be read (ours)."""
    assert video_views(view_of_job(DONE)) == video_views(stands(DONE))


@pytest.mark.parametrize(
    "view",
    [
        *[stands(job) for job in (ACCEPTED, GOING, FAILED)],
        stands(DONE.model_copy(update={"video_url": None})),
        *[request(state) for state in (State.SENDING, State.UNKNOWN, State.NOT_SENT)],
        *[request(State.REFUSED), LOST],
    ],
    ids=lambda view: view.status,
)
def test_link_is_spoken_of_only_when_there_is_one(view: JobView) -> None:
    """ "The link expires" without a link sends a model looking for it (ours)."""
    told = "\n".join(video_views(view))

    assert "The link" not in told
    assert "Film:" not in told
    assert "save" not in told


@pytest.mark.parametrize(
    "view", [stands(ACCEPTED), stands(FAILED), LOST], ids=["running", "failed", "lost"]
)
def test_nothing_of_a_job_without_a_film_expires(view: JobView) -> None:
    """There is no film whose life could end, or none yet (ours)."""
    result = results.job_result(view, now=NOW)

    assert (result.expires_at, result.expires_in_seconds) == (None, None)


def test_link_past_its_time_is_told_as_expired() -> None:
    """ "In 0 s" would be a lie (ours)."""
    late = results.job_result(stands(DONE), now=NOW + timedelta(days=2))
    told = text.text(late)

    assert late.expires_in_seconds == 0
    assert "The link expired at 2026-11-24T11:58:05+00:00." in told
    assert "try it" in late.next
    assert "charged again" in late.next


def test_unknown_life_of_a_link_is_called_unknown() -> None:
    """1 h and 24 h have both been reported (vendor 2025, third party)."""
    told = results.job_result(stands(DONE.model_copy(update={"expires_at": None})), now=NOW)

    assert "PixelDojo does not say for how long (1 to 24 hours have been reported)" in told.next


def test_completed_job_without_a_film_says_so() -> None:
    """The job is paid: the way on is to look again, not to buy again (ours)."""
    without = DONE.model_copy(update={"video_url": None})
    bare = results.job_result(stands(without), now=NOW)
    dropped = without.model_copy(update={"note": "Its link was dropped."})
    noted = results.job_result(stands(dropped), now=NOW)

    assert bare.message == "The job is completed. PixelDojo gave no link to a film."
    assert bare.next.startswith('Call wait_for_job with job_id "job_1" again in a minute.')
    assert noted.message == "The job is completed. Its link was dropped."


@pytest.mark.parametrize("state", [*STATES.values(), State.LOST])
@pytest.mark.parametrize("url", [None, FILM])
def test_note_about_what_was_left_out_is_always_told(state: State, url: str | None) -> None:
    """Nothing of an answer is dropped in silence (ours)."""
    noted = view_of_record(record(state, job_id="j", video_url=url, note="A part was damaged."))

    assert "A part was damaged." in results.job_result(noted, now=NOW).message


def test_elapsed_time_is_told_only_while_something_goes_on() -> None:
    """After its end the clock would go on counting and mean nothing (ours)."""
    going = [stands(GOING), request(State.SENDING), request(State.UNKNOWN)]
    ended = [
        *[stands(DONE), stands(DONE.model_copy(update={"video_url": None})), stands(FAILED), LOST],
        *[request(State.NOT_SENT), request(State.REFUSED)],
    ]

    def told(view: JobView) -> int | None:
        return results.job_result(view, now=NOW, elapsed=3.7).elapsed_seconds

    assert {told(view) for view in going} == {3}
    assert {told(view) for view in ended} == {None}


def test_time_of_a_job_from_elsewhere_is_not_guessed() -> None:
    """We know when we first saw it, not when it began (ours)."""
    foreign = stands(GOING, dedupe_key=None, accepted_at=NOW)

    assert results.job_result(foreign, now=NOW, elapsed=3.7).elapsed_seconds is None
    assert results.progress_note(JobUpdate(foreign, 3.7)).startswith("the job is running")


# Money


@pytest.mark.parametrize(
    ("view", "told"),
    [
        (stands(GOING), "PixelDojo did not say how much."),
        (stands(GOING, estimate=2.5), "PixelDojo did not say how much (expected 2.5 credits)."),
        (stands(ACCEPTED, estimate=10), "The job costs 10 credits."),
        (stands(ACCEPTED, estimate=2), "The job costs 10 credits (expected 2)."),
    ],
    ids=["nothing", "estimate", "both alike", "both different"],
)
def test_charge_is_told_with_the_figure_there_is(view: JobView, told: str) -> None:
    """The cost is absent from some vendor samples, and prices differ between pages (vendor)."""
    text = video_views(view, charged=True)

    assert any(f"Charged by this call: yes. {told}" in line for line in text)


def test_charge_that_differs_from_the_estimate_is_warned_of() -> None:
    """The person agreed to another price (ours)."""
    other = results.job_result(stands(ACCEPTED, estimate=2), now=NOW, charged=True)
    same = results.job_result(stands(ACCEPTED, estimate=10), now=NOW, charged=True)

    assert other.message == (
        "The job was accepted. Note the price: it is not the one that PixelDojo's model page names."
    )
    assert (other.credit_cost, other.credit_estimate) == (10, 2)
    assert "price" not in same.message
    assert same.credit_estimate is None


def test_balance_is_told_only_when_it_is_fresh() -> None:
    """Only the answer to a submit has it; later the ledger's figure is an old one (ours)."""
    fresh = results.job_result(stands(ACCEPTED), now=NOW, charged=True)
    later = results.job_result(stands(ACCEPTED), now=NOW)

    assert fresh.credits_remaining == 90.5
    assert later.credits_remaining is None


@pytest.mark.parametrize("state", [State.NOT_SENT, State.REFUSED])
def test_request_that_cost_nothing_names_no_price(state: State) -> None:
    """ "Expected to cost 10" beside "not charged" would be read as a charge (ours)."""
    result = results.job_result(request(state, estimate=10), now=NOW)

    assert (result.credit_cost, result.credit_estimate) == (None, None)
    assert "credits" not in text.text(result)


# A request without a job


def test_request_on_its_way_is_told_with_its_handle() -> None:
    """After 4 s the submit answers so; a charge is possible by then (reliability 1)."""
    sending = Submission(request(State.SENDING, seed=7, estimate=10), joined=False)

    assert text.text(results.submit_result(sending, now=NOW)).splitlines() == [
        "The request is on its way; PixelDojo has not answered yet.",
        f"Request {HANDLE}: submitting. Seed: 7.",
        "Charged by this call: unknown. The job is expected to cost 10 credits.",
        f'Next: Call wait_for_job with job_id "{HANDLE}". '
        "Do not call replace_character again for it.",
    ]


def test_unknown_request_says_what_was_looked_at_and_what_to_do() -> None:
    """Unknown is said in that word, with what was checked and the way on (reliability 1)."""
    lost = request(
        State.UNKNOWN,
        error="The request was sent, but no answer arrived (no answer in time).",
        checks=2,
        findings="PixelDojo's job list does not show which job is whose.",
    )

    assert video_views(lost, elapsed=125) == [
        "The outcome of this request is unknown: it may have been charged. The request was sent, "
        "but no answer arrived (no answer in time). Looked for 2 times; the last time: "
        "PixelDojo's job list does not show which job is whose.",
        f"Request {HANDLE}: unknown, 2 min 5 s so far.",
        "Charged by this call: no.",
        f'Next: Call get_job_status with job_id "{HANDLE}" again in a few minutes: it looks '
        "again. If it stays unknown, ask the user to look for the job on pixeldojo.ai; by its id "
        "get_job_status tells more. Do not repeat replace_character for it; another seed would "
        "be a new job, paid again.",
    ]


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ({"checks": 0}, "PixelDojo's job list has not been looked at yet."),
        ({"checks": 1, "findings": "None there."}, "Looked for once; the last time: None there."),
    ],
    ids=["never", "once"],
)
def test_unknown_request_tells_how_often_it_was_looked_for(
    looks: dict[str, Any], told: str
) -> None:
    """No look, and one look, are different news (ours)."""
    assert results.job_result(request(State.UNKNOWN, **looks), now=NOW).message.endswith(told)


def test_request_that_was_not_sent_may_be_made_again() -> None:
    """What was found earlier, while it was unknown, is out of date (ours)."""
    unsent = request(
        State.NOT_SENT,
        error="PixelDojo's job list shows older jobs and none for this request.",
        checks=5,
        findings="PixelDojo's job list shows no job for this request so far.",
    )

    assert video_views(unsent) == [
        "No job came of this request, and nothing was charged. "
        "PixelDojo's job list shows older jobs and none for this request.",
        f"Request {HANDLE}: not_sent.",
        "Charged by this call: no.",
        "Next: Calling replace_character again is safe.",
    ]


def test_request_that_was_turned_down_says_why() -> None:
    """The same request would be turned down again (ours)."""
    refused = request(State.REFUSED, error="The PixelDojo account has too few credits.")

    assert video_views(refused) == [
        "The PixelDojo account has too few credits. Nothing was charged.",
        f"Request {HANDLE}: refused.",
        "Charged by this call: no.",
        "Next: See to the reason, then calling replace_character again is safe.",
    ]
    assert video_views(request(State.REFUSED))[0] == (
        "PixelDojo turned this request down. Nothing was charged."
    )


@pytest.mark.parametrize(
    "told",
    [
        results.job_result(request(State.UNKNOWN), now=NOW, elapsed=1),
        results.submit_result(Submission(request(State.SENDING), joined=False), now=NOW),
        results.submit_result(Submission(request(State.SENDING), joined=True), now=NOW),
        results.list_result([request(State.UNKNOWN)]),
        results.failure_result(OutcomeUnknown("It happened.")),
        results.failure_result(views.unknown(HANDLE, "It happened.")),
        results.failure_result(
            views.failure_of(record(State.UNKNOWN)) or WanError("There is no such failure.")
        ),
    ],
    ids=["unknown", "submitting", "joined", "list", "class", "lost now", "lost before"],
)
def test_unknown_outcome_is_never_called_a_failure(told: JobResult | JobList) -> None:
    """ "Failed" would make a model try again, and pay again (reliability 1)."""
    words = text.text(told).lower()

    assert "fail" not in words
    assert "error" not in words


# A request that joins another

OTHER = (
    " Only what follows the ? of a link differs: if that means another clip or picture, call again "
    "with a seed."
)
"""Two clips of one host may differ there only, so whoever joins so has to be told (ours)."""


TAKE = " For another take call again with another seed."


@pytest.mark.parametrize(
    ("view", "other", "then"),
    [
        (stands(ACCEPTED), OTHER, f"{TAKE} The job is still going."),
        (stands(ACCEPTED), "", f"{TAKE} The job is still going."),
        (stands(DONE), "", f"{TAKE} The film is ready."),
        (
            request(State.SENDING),
            "",
            " It is the request that was already made; it is paid at most once. "
            "The request is on its way; PixelDojo has not answered yet.",
        ),
    ],
    ids=["another query", "running", "completed", "submitting"],
)
def test_joined_call_says_that_it_bought_nothing(view: JobView, other: str, then: str) -> None:
    """And how to get another take, once it is known what the first one costs (reliability 1)."""
    submitted = Submission(view, joined=True, query_differs=bool(other))
    result = results.submit_result(submitted, now=NOW)

    assert result.message == (
        "Nothing was bought by this call: an equal request stands already, and this is where it "
        f"is.{other}{then}"
    )
    assert (result.charged, result.job_id) == ("no", view.id)
    assert result.next == results.job_result(view, now=NOW).next


@pytest.mark.parametrize("query_differs", [False, True], ids=["the same", "another query"])
@pytest.mark.parametrize(
    "view",
    [request(State.SENDING), request(State.UNKNOWN), stands(FAILED), LOST],
    ids=lambda view: view.status,
)
def test_another_seed_is_not_offered_before_the_first_job_is_known(
    view: JobView, query_differs: bool
) -> None:
    """A model that waits for a slow answer would take it for the way on, and pay twice (ours)."""
    result = results.submit_result(
        Submission(view, joined=True, query_differs=query_differs), now=NOW
    )

    assert "seed" not in result.message


def test_a_saved_film_out_of_reach_is_told_by_its_link() -> None:
    """A dead network drive, a folder that may not be read: the job is done all the same (ours)."""
    film = "/" + "x" * 5_000  # which no system looks up
    seen = visible_to(stands(DONE, saved_path=film, sha256="ab", size=7), local=True).record

    assert seen is not None
    assert (seen.saved_path, seen.sha256, seen.size) == (None, None, None)


def test_call_that_bought_its_job_does_not_speak_of_another() -> None:
    """Each answer says whose purchase it is (ours)."""
    result = results.submit_result(Submission(stands(ACCEPTED), joined=False), now=NOW)

    assert (result.message, result.charged) == ("The job was accepted.", "yes")


def test_job_that_could_not_be_written_down_is_to_be_kept() -> None:
    """Nobody else remembers a paid job when the disk was full (ours)."""
    result = results.submit_result(Submission(view_of_job(ACCEPTED), joined=False), now=NOW)

    assert result.message == (
        "The job was accepted. It could not be written down here: keep its job_id."
    )
    assert (result.charged, result.job_id) == ("yes", "job_1")


# The list


def test_list_tells_enough_of_each_job_to_recognise_it() -> None:
    """Its clip, its seed, its cost, when it was made (ours)."""
    made = NOW - timedelta(hours=1)
    listed = results.list_result(
        [
            request(State.UNKNOWN, seed=7, arguments=f'{{"video": "{CLIP}"}}'),
            stands(DONE, seed=8, created_at=made, arguments=f'{{"video": "{CLIP}"}}'),
            stands(GOING, dedupe_key=None, created_at=made, last_reply_at=NOW - timedelta(seconds=80)),
        ],
        now=NOW,
    )

    assert listed.model_dump(exclude_none=True) == {
        "message": "3 jobs, newest first. Of unknown outcome: 1; that may have been charged.",
        "jobs": [
            {
                "job_id": HANDLE,
                "status": "unknown",
                "made_at": "2026-11-23T11:55:00+00:00",
                "source_video": CLIP,
                "seed": 7,
            },
            {
                "job_id": "job_1",
                "status": "completed",
                "made_at": "2026-11-23T11:00:00+00:00",
                "source_video": CLIP,
                "seed": 8,
                "credit_cost": 2.5,
            },
            {
                "job_id": "job_1",
                "status": "running",
                "heard_seconds_ago": 80,
                "made_at": "2026-11-23T11:00:00+00:00",
            },
        ],
        "charged": "no",
        "next": 'Call wait_for_job with job_id "job_1" for its film. '
        f'Call get_job_status with job_id "{HANDLE}": it looks for the job.',
    }


@pytest.mark.parametrize(
    ("views", "asked", "step"),
    [
        (
            [stands(DONE), stands(GOING)],
            None,
            'Call wait_for_job with job_id "job_1" for its film.',
        ),
        ([request(State.SENDING)], None, f'Call wait_for_job with job_id "{HANDLE}" for its film.'),
        (
            [stands(DONE), request(State.UNKNOWN)],
            None,
            f'Call get_job_status with job_id "{HANDLE}": it looks for the job.',
        ),
        ([stands(DONE)], None, "Call get_job_status with a job_id for all about that job."),
        ([], None, "Nothing is under way: replace_character starts a job."),
        (
            [],
            JobStatus.FAILED,
            "Nothing is under way. Leave status out to see the other jobs.",
        ),
    ],
    ids=["running", "submitting", "unknown", "ended", "empty", "none of a status"],
)
def test_next_step_of_a_list_fits_what_it_holds(
    views: list[JobView], asked: JobStatus | None, step: str
) -> None:
    """A call that can be made as it is told, with the id in it (ours)."""
    assert step == results.list_result(views, status=asked).next


@pytest.mark.parametrize(
    ("job", "heard", "told"),
    [
        (GOING, {"last_reply_at": NOW - timedelta(seconds=15)}, None),
        (GOING, {"last_reply_at": NOW - timedelta(seconds=16)}, 16),
        (GOING, {"accepted_at": NOW - timedelta(seconds=80)}, 80),
        (DONE, {"last_reply_at": NOW - timedelta(hours=1)}, None),
    ],
    ids=["fresh", "old", "never looked at", "ended"],
)
def test_age_of_the_news_is_told_of_running_jobs_only(
    job: Job, heard: dict[str, datetime], told: int | None
) -> None:
    """Nobody may wait for it, so it may have ended long ago; an end is final (ours)."""
    (line,) = results.list_result([stands(job, **heard)], now=NOW).jobs or []

    assert line.heard_seconds_ago == told


def test_list_cuts_ended_jobs_and_says_that_there_are_older_ones() -> None:
    """The one beyond the limit only shows that there is more; no live job is cut (ours)."""
    held = [
        stands(DONE, submission_id="sub_1"),
        stands(FAILED),
        stands(GOING),
        request(State.UNKNOWN),
    ]
    cut = results.list_result(held, limit=1)
    whole = results.list_result(held, limit=2)

    assert [line.status for line in cut.jobs or []] == ["completed", "running", "unknown"]
    assert cut.message.startswith("3 jobs, newest first; there are older ones")
    assert len(whole.jobs or []) == 4
    assert "older" not in whole.message


def test_empty_list_is_an_answer_too() -> None:
    """It is asked for to learn whether something was bought (ours)."""
    assert results.list_result([]).model_dump(exclude_none=True) == {
        "message": "No jobs yet.",
        "jobs": [],
        "charged": "no",
        "next": "Nothing is under way: replace_character starts a job.",
    }


# A call that failed


@pytest.mark.parametrize(
    ("code", "charged", "safe"),
    [
        ("InvalidArguments", "no", "no, the answer would be the same"),
        ("NoKey", "no", "no, the answer would be the same"),
        ("Unauthorized", "no", "no, the answer would be the same"),
        ("OutOfCredits", "no", "no, the answer would be the same"),
        ("NotAllowed", "no", "no, the answer would be the same"),
        ("NotFound", "no", "no, the answer would be the same"),
        ("Rejected", "no", "no, the answer would be the same"),
        ("RateLimited", "no", "yes"),
        ("NotSent", "no", "yes"),
        ("OutcomeUnknown", "unknown", "no, it could be paid twice"),
        ("CouldNotFindOut", "no", "yes"),
    ],
)
def test_failure_is_told_in_four_lines(code: str, charged: str, safe: str) -> None:
    """What happened, charged, safe to repeat with the reason, code, next step (ours)."""
    failure: WanError = getattr(errors, code)("It happened.")

    assert text.text(results.failure_result(failure)).splitlines() == [
        "It happened.",
        f"Charged by this call: {charged}.",
        f"Safe to repeat: {safe}. Code: {failure.code}.",
        f"Next: {failure.advice}",
    ]


def test_failure_carries_no_words_of_a_job() -> None:
    """A status or a cost beside a failed call would be read as the job's (ours)."""
    result = results.failure_result(OutcomeUnknown("It happened."))

    assert result.model_dump(exclude_none=True).keys() == {
        *("message", "charged", "retry_safe", "code", "next")
    }


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        (State.NOT_SENT, "not_sent", "The equal request of 11:55 UTC was not sent. No network."),
        (State.REFUSED, "rejected", "The equal request of 11:55 UTC was turned down. No network."),
        (
            State.UNKNOWN,
            "outcome_unknown",
            "This call sent nothing: the outcome of the equal request of 11:55 UTC is unknown, and "
            "that earlier request may have been charged. No network. "
            "PixelDojo's job list has not been looked at yet.",
        ),
    ],
)
def test_equal_request_that_bought_nothing_is_told_as_its_own(
    state: State, code: str, words: str
) -> None:
    """Another process sent it, or an earlier call did; its handle leads to it (ours)."""
    failure = views.failure_of(record(state, error="No network."))

    assert failure is not None
    assert (failure.code, failure.what, failure.job_id) == (code, words, HANDLE)
    assert failure.charged == "no"


def test_lost_answer_leads_to_the_free_look() -> None:
    """The way on is get_job_status, not another purchase (reliability 1)."""
    told = results.failure_result(views.unknown(HANDLE, "It happened."))

    assert (told.job_id, told.charged, told.retry_safe) == (HANDLE, "unknown", False)
    assert told.next == (
        f'Call get_job_status with job_id "{HANDLE}" in a minute: it looks for the job in '
        "PixelDojo's list. Do not repeat replace_character for it. Another seed would be a new "
        "job, paid again."
    )


# Progress


@pytest.mark.parametrize(
    ("update", "note"),
    [
        (JobUpdate(), "asking PixelDojo"),
        (JobUpdate(elapsed=5), "5 s: asking PixelDojo"),
        (
            JobUpdate(stands(GOING), 5),
            '5 s: the job is running (PixelDojo: "processing"); '
            "jobs have been reported to take 30 s to 6 min",
        ),
        (
            JobUpdate(view_of_job(Job(job_id="j", status=JobStatus.RUNNING))),
            "the job is running; jobs have been reported to take 30 s to 6 min",
        ),
        (JobUpdate(stands(DONE), 5), "5 s: the job is completed"),
        (JobUpdate(stands(FAILED), 5), "5 s: the job is failed"),
        (JobUpdate(LOST, 5), '5 s: the job is lost (PixelDojo: "processing")'),
        (JobUpdate(request(State.SENDING), 5), "5 s: the request is on its way"),
        (
            JobUpdate(request(State.UNKNOWN), 5),
            "5 s: not known whether a job was started; looking for it",
        ),
        (JobUpdate(request(State.NOT_SENT), 5), "5 s: no job came of the request"),
        (JobUpdate(request(State.REFUSED), 5), "5 s: the request was turned down"),
        (
            JobUpdate(stands(GOING), 5, RateLimited("Too many requests.")),
            "5 s: Too many requests. Still waiting.",
        ),
        (
            JobUpdate(last_error=RateLimited("Too many requests.")),
            "Too many requests. Still waiting.",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_progress_says_how_long_and_what_is_usual(update: JobUpdate, note: str) -> None:
    """Elapsed and usual times, no invented percentage (vendor, third party)."""
    assert note == results.progress_note(update)


# Anything at all

WORDS = st.text("abc 'xyz.", min_size=1, max_size=30).map(str.strip).filter(bool)
CREDITS = st.none() | st.floats(0, 1e12, exclude_max=True)
WITH_JOB = st.builds(
    record,
    st.sampled_from([*STATES.values(), State.LOST]),
    job_id=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,20}\Z"),
    dedupe_key=st.none() | st.just("d"),
    seed=st.none() | st.integers(0, 2**53),
    vendor_status=st.just("") | WORDS,
    video_url=st.none() | st.just(FILM),
    expires_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    estimate=CREDITS,
    credit_cost=CREDITS,
    credits_remaining=CREDITS,
    error=st.none() | WORDS,
    note=st.none() | WORDS,
    findings=st.none() | WORDS,
)
WITHOUT_JOB = st.builds(
    record,
    st.sampled_from(
        [State.INTENT, State.SENDING, State.UNKNOWN, State.NOT_SENT, State.REFUSED],
    ),
    seed=st.integers(0, 2**53),
    estimate=CREDITS,
    error=st.none() | WORDS,
    checks=st.integers(0, 9),
    findings=WORDS,
)
NOTHING_TO_EXPLAIN = {
    *(JobStatus.SUBMITTING, JobStatus.RUNNING),
    *(JobStatus.COMPLETED, JobStatus.FAILED),  # a failed job's reason has a field of its own
}
STANDINGS = st.builds(view_of_record, WITH_JOB | WITHOUT_JOB)


@patient
@given(view=STANDINGS, charged=st.booleans(), elapsed=st.none() | st.floats(0, 1e6))
def test_every_standing_is_told_with_its_money_and_its_next_step(
    view: JobView, charged: bool, elapsed: float | None
) -> None:
    """Whatever the ledger holds (ours)."""
    result = results.job_result(view, now=NOW, charged=charged, elapsed=elapsed)
    record = view.record

    assert record is not None
    assert (result.job_id, result.status) == (view.id, view.status)
    assert result.charged == ("yes" if charged else "no")
    assert (result.credit_cost, result.seed) == (record.credit_cost, record.seed)
    assert result.video_url == record.video_url
    assert (result.error is not None) == bool(record.error and record.state is State.FAILED)
    assert (record.note or "") in result.message
    assert view.status in NOTHING_TO_EXPLAIN or view.why in result.message
    assert view.id in result.next or view.settled


@patient
@given(view=STANDINGS, joined=st.booleans())
def test_data_has_no_nulls_and_reads_back(view: JobView, joined: bool) -> None:
    """A null would break the published schema (ours)."""
    for told in (
        results.submit_result(Submission(view, joined=joined), now=NOW),
        results.list_result([view]),
    ):
        data = told.model_dump(exclude_none=True)

        assert None not in data.values()
        assert type(told).model_validate(data).model_dump(exclude_none=True) == data
