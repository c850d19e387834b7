"""How a job or a failure is told: the data, and the text with the same facts."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_mcp import errors, present
from wan_mcp.errors import Charged, OutcomeUnknown, RateLimited, WanError
from wan_mcp.models import Job, JobResult, JobStatus

patient = settings(deadline=None)  # a busy machine is no defect

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
FILM = "https://temp.pixeldojo.ai/films/1.mp4"
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


def shown(job: Job, **how: Any) -> str:
    return present.text(present.job_result(job, now=NOW, **how))


def test_accepted_job_is_told_with_its_cost_and_the_next_call() -> None:
    """Nothing is said of a link: there is none yet (ours)."""
    assert shown(ACCEPTED, charged=True).splitlines() == [
        "The job was accepted.",
        "By PixelDojo's word the result expires at 2026-11-24T12:00:00+00:00, in 24 h 0 min.",
        'Job job_1: running (PixelDojo: "pending").',
        "Charged by this call: yes. The job costs 10 credits. Credits left: 90.5.",
        AGAIN,
    ]


def test_going_job_is_told_with_its_time_so_far() -> None:
    """A read is free, and its text says so (ours)."""
    assert shown(GOING, elapsed=125.9).splitlines() == [
        "The job is still going.",
        'Job job_1: running (PixelDojo: "processing"), 2 min 5 s so far.',
        "Charged by this call: no.",
        AGAIN,
    ]


def test_completed_job_is_told_with_its_link_and_its_life() -> None:
    """The link comes second, where a person looks (ours)."""
    assert shown(DONE, elapsed=300).splitlines() == [
        "The film is ready.",
        f"Film: {FILM}",
        "The link expires at 2026-11-24T11:58:05+00:00, in 23 h 58 min.",
        "Job job_1: completed.",
        "Charged by this call: no. The job costs 2.5 credits.",
        "Next: Give the user the link now and say that the film must be saved: it is temporary.",
    ]


def test_failed_job_is_told_with_the_reason_and_the_money() -> None:
    """Whether failed jobs are refunded is not documented, so nothing is promised (vendor)."""
    assert shown(FAILED).splitlines() == [
        "PixelDojo reports that the job failed.",
        'PixelDojo\'s reason: "No person found"',
        "Job job_1: failed.",
        "Charged by this call: no. The job costs 10 credits.",
        "Next: Tell the user the reason. A new replace_character call starts and charges a new "
        "job; whether PixelDojo refunds failed ones is not known.",
    ]


def test_failed_job_without_a_reason_says_that_none_was_given() -> None:
    """A model told to give the reason would make one up (ours)."""
    told = shown(FAILED.model_copy(update={"error": None}))

    assert "Tell the user; no reason was given." in told
    assert "Tell the user the reason" not in told


@pytest.mark.parametrize(
    "job", [ACCEPTED, GOING, FAILED, DONE.model_copy(update={"video_url": None})]
)
def test_link_is_spoken_of_only_when_there_is_one(job: Job) -> None:
    """ "The link expires" without a link sends a model looking for it (ours)."""
    told = shown(job)

    assert "The link" not in told
    assert "Film:" not in told
    assert "save" not in told


def test_nothing_of_a_failed_job_expires() -> None:
    """There is no film whose life could end (ours)."""
    result = present.job_result(FAILED, now=NOW)

    assert (result.expires_at, result.expires_in_seconds) == (None, None)


def test_link_past_its_time_is_told_as_expired() -> None:
    """ "In 0 s" would be a lie (ours)."""
    late = present.job_result(DONE, now=NOW + timedelta(days=2))
    told = present.text(late)

    assert late.expires_in_seconds == 0
    assert "The link expired at 2026-11-24T11:58:05+00:00." in told
    assert "try it" in late.next
    assert "charged again" in late.next


def test_unknown_life_of_a_link_is_called_unknown() -> None:
    """1 h and 24 h have both been reported (vendor 2025, third party)."""
    told = present.job_result(DONE.model_copy(update={"expires_at": None}), now=NOW)

    assert "PixelDojo does not say for how long (1 to 24 hours have been reported)" in told.next


def test_completed_job_without_a_film_says_so() -> None:
    """The job is paid: the way on is to look again, not to buy again (ours)."""
    bare = present.job_result(DONE.model_copy(update={"video_url": None}), now=NOW)
    noted = DONE.model_copy(update={"video_url": None, "note": "Its link was dropped."})

    assert bare.message == "The job is completed. PixelDojo gave no link to a film."
    assert bare.next.startswith('Call wait_for_job with job_id "job_1" again in a minute.')
    assert present.job_result(noted, now=NOW).message == (
        "The job is completed. Its link was dropped."
    )


@pytest.mark.parametrize("status", JobStatus)
@pytest.mark.parametrize("url", [None, FILM])
def test_note_about_what_was_left_out_is_always_told(status: JobStatus, url: str | None) -> None:
    """Nothing of an answer is dropped in silence (ours)."""
    job = Job(job_id="j", status=status, video_url=url, note="A part was damaged.")

    assert "A part was damaged." in shown(job)


def test_charge_without_a_figure_says_that_none_was_given() -> None:
    """The cost is absent from some vendor samples (vendor)."""
    told = shown(GOING, charged=True)

    assert "Charged by this call: yes. PixelDojo did not say how much." in told


def test_elapsed_time_is_told_only_while_a_job_goes_on() -> None:
    """After its end the clock would go on counting and mean nothing (ours)."""
    assert present.job_result(GOING, now=NOW, elapsed=3.7).elapsed_seconds == 3
    assert present.job_result(DONE, now=NOW, elapsed=300).elapsed_seconds is None
    assert present.job_result(FAILED, now=NOW, elapsed=300).elapsed_seconds is None


@pytest.mark.parametrize(
    ("code", "charged", "safe"),
    [
        ("InvalidArguments", "no", "yes"),
        ("NoKey", "no", "no, it would be refused again"),
        ("Unauthorized", "no", "no, it would be refused again"),
        ("OutOfCredits", "no", "no, it would be refused again"),
        ("NotAllowed", "no", "no, it would be refused again"),
        ("NotFound", "no", "no, it would be refused again"),
        ("Rejected", "no", "no, it would be refused again"),
        ("RateLimited", "no", "yes"),
        ("NotSent", "no", "yes"),
        ("OutcomeUnknown", "unknown", "no, it could be paid twice"),
        ("CouldNotFindOut", "no", "yes"),
    ],
)
def test_failure_is_told_in_four_lines(code: str, charged: str, safe: str) -> None:
    """What happened, charged, safe to repeat with the reason, code, next step (ours)."""
    failure: WanError = getattr(errors, code)("It happened.")

    assert present.text(present.failure_result(failure)).splitlines() == [
        "It happened.",
        f"Charged by this call: {charged}.",
        f"Safe to repeat: {safe}. Code: {failure.code}.",
        f"Next: {failure.advice}",
    ]


def test_failure_carries_no_words_of_a_job() -> None:
    """A status or a cost beside a failed call would be read as the job's (ours)."""
    result = present.failure_result(OutcomeUnknown("It happened."))

    assert result.model_dump(exclude_none=True).keys() == {
        *("message", "charged", "retry_safe", "code", "next")
    }


@pytest.mark.parametrize(
    ("credits", "told"),
    [
        *[(10.0, "10"), (0.0, "0"), (2.5, "2.5"), (0.1 + 0.2, "0.3"), (1234567.0, "1234567")],
        *[(1234567.25, "1234567.25"), (999999999999.0, "999999999999"), (0.001, "0.001")],
    ],
)
def test_credits_are_told_to_the_last_digit(credits: float, told: str) -> None:
    """A rounded balance is a wrong one (ours)."""
    assert told == present.number(credits)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        *[(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (125, "2 min 5 s")],
        *[(3_599, "59 min 59 s"), (3_600, "1 h 0 min"), (86_399, "23 h 59 min")],
    ],
)
def test_time_is_told_as_a_person_says_it(seconds: float, told: str) -> None:
    """Two units are enough (ours)."""
    assert told == present.duration(seconds)


@pytest.mark.parametrize(
    ("job", "trouble", "note"),
    [
        (None, None, "5 s: asking PixelDojo"),
        (
            GOING,
            None,
            '5 s: the job is running (PixelDojo: "processing"); '
            "jobs have been reported to take 1 to 6 min",
        ),
        (
            Job(job_id="j", status=JobStatus.RUNNING),
            None,
            "5 s: the job is running; jobs have been reported to take 1 to 6 min",
        ),
        (DONE, None, "5 s: the job is completed"),
        (GOING, RateLimited("Too many requests."), "5 s: Too many requests. Still waiting."),
        (None, RateLimited("Too many requests."), "5 s: Too many requests. Still waiting."),
    ],
)
def test_progress_says_how_long_and_what_is_usual(
    job: Job | None, trouble: WanError | None, note: str
) -> None:
    """Elapsed and usual times, no invented percentage (vendor, third party)."""
    assert note == present.progress_note(job, 5.0, trouble)


WORDS = st.text("abc 'xyz.", min_size=1, max_size=30).map(str.strip).filter(bool)
CREDITS = st.none() | st.floats(0, 1e12, exclude_max=True)
JOBS = st.builds(
    Job,
    job_id=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,20}\Z"),
    status=st.sampled_from(JobStatus),
    vendor_status=st.just("") | WORDS,
    video_url=st.none() | st.just(FILM),
    expires_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    credit_cost=CREDITS,
    credits_remaining=CREDITS,
    error=st.none() | WORDS,
    note=st.none() | WORDS,
)


@patient
@given(job=JOBS, charged=st.booleans(), elapsed=st.none() | st.floats(0, 1e6))
def test_text_tells_every_fact_of_the_data(job: Job, charged: bool, elapsed: float | None) -> None:
    """Half of the hosts show a model only the one, half only the other (observed elsewhere)."""
    result = present.job_result(job, now=NOW, charged=charged, elapsed=elapsed)
    told = present.text(result)
    paid: Charged = "yes" if charged else "no"

    assert f"Charged by this call: {paid}." in told
    for fact in (result.message, job.job_id, result.status, result.next):
        assert str(fact) in told
    for fact in (result.vendor_status, result.video_url, result.expires_at, result.error):
        assert fact is None or fact in told
    figures = (result.credit_cost, result.credits_remaining)
    phrases = (r"The job costs (\S+) credits\.", r"Credits left: (\S+)\.\n")
    for figure, phrase in zip(figures, phrases, strict=True):
        assert re.findall(phrase, told) == ([] if figure is None else [present.number(figure)])
        assert figure is None or float(present.number(figure)) == pytest.approx(figure, rel=1e-14)
    if result.elapsed_seconds is not None:
        assert f"{present.duration(result.elapsed_seconds)} so far" in told
    if result.expires_in_seconds:
        assert f"in {present.duration(result.expires_in_seconds)}." in told


@patient
@given(job=JOBS, charged=st.booleans())
def test_data_has_no_nulls_and_reads_back(job: Job, charged: bool) -> None:
    """A null would break the published schema (ours)."""
    data = present.job_result(job, now=NOW, charged=charged).model_dump(exclude_none=True)

    assert None not in data.values()
    assert JobResult.model_validate(data).model_dump(exclude_none=True) == data
