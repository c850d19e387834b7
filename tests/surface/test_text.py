"""The text of an answer: every fact of its data, in the words a person would use."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wan_mcp.models import JobLine, JobList, JobResult, JobStatus
from wan_mcp.surface.answers import text

patient = settings(deadline=None)  # a busy machine is no defect

FILM = "https://temp.pixeldojo.ai/films/1.mp4"
CLIP = "https://cdn.example.com/clip.mp4"


@pytest.mark.parametrize(
    ("credits", "told"),
    [
        *[(10.0, "10"), (0.0, "0"), (2.5, "2.5"), (0.1 + 0.2, "0.3"), (1234567.0, "1234567")],
        *[(1234567.25, "1234567.25"), (999999999999.0, "999999999999"), (0.001, "0.001")],
    ],
)
def test_credits_are_told_to_the_last_digit(credits: float, told: str) -> None:
    """A rounded balance is a wrong one (ours)."""
    assert told == text.number(credits)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        *[(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (125, "2 min 5 s")],
        *[(3_599, "59 min 59 s"), (3_600, "1 h 0 min"), (86_399, "23 h 59 min")],
    ],
)
def test_time_is_told_as_a_person_says_it(seconds: float, told: str) -> None:
    """Two units are enough (ours)."""
    assert told == text.duration(seconds)


@pytest.mark.parametrize(
    ("status", "vendors", "told"),
    [
        (JobStatus.RUNNING, "pending", 'running (PixelDojo: "pending")'),
        (JobStatus.COMPLETED, "completed", "completed"),
        (JobStatus.LOST, "", "lost"),
        (JobStatus.LOST, None, "lost"),
    ],
)
def test_vendors_word_stands_beside_ours_where_it_differs(
    status: JobStatus, vendors: str | None, told: str
) -> None:
    """The vendor may add words that mean more than "running" (ours)."""
    assert told == text.word(status, vendors)


@pytest.mark.parametrize(
    ("status", "what"),
    [
        *[(status, "Job") for status in ("running", "completed", "failed", "lost")],
        *[(status, "Request") for status in ("submitting", "unknown", "not_sent", "refused")],
    ],
)
def test_request_without_a_job_is_not_called_one(status: JobStatus, what: str) -> None:
    """ "Job sub_1: not_sent" would tell of a job that never was (ours)."""
    result = JobResult(message="M.", job_id="x", status=status, charged="no", next="N.")

    assert text.text(result).splitlines()[1] == f"{what} x: {status}."


def test_list_is_one_line_for_each_job() -> None:
    """The clip is named as the source: it is not the film (ours)."""
    jobs = [
        JobLine(
            job_id="job_1",
            status=JobStatus.COMPLETED,
            made_at="2026-11-23T11:00:00+00:00",
            source_video=CLIP,
            seed=0,
            credit_cost=2.5,
        ),
        JobLine(job_id="sub_1", status=JobStatus.UNKNOWN, made_at="2026-11-23T10:00:00+00:00"),
    ]

    assert text.text(JobList(message="Two.", jobs=jobs, charged="no", next="N.")).splitlines() == [
        "Two.",
        "- job_1: completed, made 2026-11-23T11:00:00+00:00, 2.5 credits, seed 0, from " + CLIP,
        "- sub_1: unknown, made 2026-11-23T10:00:00+00:00",
        "Charged by this call: no.",
        "Next: N.",
    ]


def test_old_news_of_a_running_job_is_told_as_old() -> None:
    """A job that nobody waits for is looked at rarely, and may have ended since (ours)."""
    made = "2026-11-23T10:00:00+00:00"
    job = JobLine(job_id="job_1", status=JobStatus.RUNNING, heard_seconds_ago=80, made_at=made)
    told = text.text(JobList(message="One.", jobs=[job], charged="no", next="N.")).splitlines()

    assert told[1] == f"- job_1: running when last heard of, 1 min 20 s ago, made {made}"


ENDED, GOING = JobStatus.COMPLETED, JobStatus.RUNNING
LIVE = (GOING, JobStatus.SUBMITTING)


@pytest.mark.parametrize(
    ("held", "asked", "older", "told"),
    [
        ((), None, False, "No jobs yet."),
        ((ENDED,), None, False, "1 job."),
        ((GOING, ENDED), None, False, "2 jobs, newest first."),
        (
            (ENDED, ENDED),
            None,
            True,
            "2 jobs, newest first; there are older ones (limit may be up to 50).",
        ),
        (
            (ENDED,),
            ENDED,
            True,
            "1 completed job; there are older ones (limit may be up to 50).",
        ),
        ((), JobStatus.FAILED, False, "No failed jobs."),
        ((GOING,), JobStatus.FAILED, False, "No failed jobs, but 1 that is under way."),
        ((*LIVE, ENDED), ENDED, False, "1 completed job, and 2 that are under way."),
        ((GOING, GOING), GOING, False, "2 running jobs, newest first."),
        ((JobStatus.REFUSED,), JobStatus.REFUSED, False, "1 refused request."),
        (
            (JobStatus.UNKNOWN,),
            ENDED,
            False,
            "No completed jobs. Of unknown outcome: 1; that may have been charged.",
        ),
    ],
)
def test_list_says_what_it_holds_and_what_it_leaves_out(
    held: tuple[JobStatus, ...], asked: JobStatus | None, older: bool, told: str
) -> None:
    """Each number counts what stands beside it, whatever the filter lets through (ours)."""
    made = "2026-11-23T10:00:00+00:00"
    jobs = [JobLine(job_id="j", status=status, made_at=made) for status in held]

    assert told == text.summary(jobs, asked, older=older)


def test_list_that_failed_says_so() -> None:
    """A list has the fields of a failure too (ours)."""
    failed = JobList(message="M.", charged="no", retry_safe=False, code="no_api_key", next="N.")

    assert text.text(failed).splitlines() == [
        "M.",
        "Charged by this call: no.",
        "Safe to repeat: no, the answer would be the same. Code: no_api_key.",
        "Next: N.",
    ]


WORDS = st.text("abc 'xyz.", min_size=1, max_size=30).map(str.strip).filter(bool)
IDS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,20}\Z")
CREDITS = st.none() | st.floats(0, 1e12, exclude_max=True)
SEEDS = st.none() | st.integers(0, 2**53)
SECONDS = st.none() | st.integers(0, 10**7)
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
CHARGED = st.sampled_from(["no", "yes", "unknown"])
RESULTS = st.builds(
    JobResult,
    message=WORDS,
    job_id=IDS,
    status=st.sampled_from(JobStatus),
    vendor_status=st.none() | WORDS,
    video_url=st.none() | st.just(FILM),
    expires_at=MOMENTS,
    expires_in_seconds=st.integers(0, 10**7),
    credit_cost=CREDITS,
    credit_estimate=CREDITS,
    credits_remaining=CREDITS,
    seed=SEEDS,
    elapsed_seconds=SECONDS,
    error=st.none() | WORDS,
    charged=CHARGED,
    next=WORDS,
)
LINES = st.builds(
    JobLine,
    job_id=IDS,
    status=st.sampled_from(JobStatus),
    heard_seconds_ago=SECONDS,
    made_at=MOMENTS,
    source_video=st.none() | st.just(CLIP),
    seed=SEEDS,
    credit_cost=CREDITS,
)


@patient
@given(result=RESULTS)
def test_text_tells_every_fact_of_the_data(result: JobResult) -> None:
    """Half of the hosts show a model only the one, half only the other (observed elsewhere)."""
    told = text.text(result)

    assert f"Charged by this call: {result.charged}." in told
    for fact in (result.message, result.job_id, result.status, result.next, result.expires_at):
        assert str(fact) in told
    for fact in (result.vendor_status, result.video_url, result.error):
        assert fact is None or fact in told
    if result.elapsed_seconds is not None:
        assert f"{text.duration(result.elapsed_seconds)} so far" in told
    if result.expires_in_seconds:
        assert f"in {text.duration(result.expires_in_seconds)}." in told
    assert re.findall(r"Seed: (\d+)\.", told) == ([] if result.seed is None else [str(result.seed)])


@patient
@given(result=RESULTS)
def test_text_tells_every_figure_of_money_in_its_place(result: JobResult) -> None:
    """A cost read as a balance is worse than none (ours)."""
    told = text.text(result)
    figures = (result.credit_cost, result.credits_remaining, result.credit_estimate)
    phrases = (
        r"The job costs (\S+) credits",
        r"Credits left: (\S+)\.\n",
        r"expected (?:to cost )?([\d.e+-]+\d|\d)",
    )
    for figure, phrase in zip(figures, phrases, strict=True):
        assert re.findall(phrase, told) == ([] if figure is None else [text.number(figure)])
        assert figure is None or float(text.number(figure)) == pytest.approx(figure, rel=1e-14)


@patient
@given(lines=st.lists(LINES, max_size=4), message=WORDS, step=WORDS)
def test_text_of_a_list_tells_every_fact_of_every_job(
    lines: list[JobLine], message: str, step: str
) -> None:
    """The same for the list (observed elsewhere)."""
    assume(len({line.job_id for line in lines}) == len(lines))
    told = text.text(JobList(message=message, jobs=lines, charged="no", next=step)).splitlines()

    assert (told[0], told[-2], told[-1]) == (message, "Charged by this call: no.", f"Next: {step}")
    assert len(told) == len(lines) + 3
    for line, words in zip(lines, told[1:], strict=False):
        assert words.startswith(f"- {line.job_id}: {line.status}")
        assert f", made {line.made_at}" in words
        ago = line.heard_seconds_ago
        assert ("last heard of" in words) == (ago is not None)
        assert ago is None or f", {text.duration(ago)} ago, made" in words
        assert (f", seed {line.seed}" in words) == (line.seed is not None)
        assert (f"from {CLIP}" in words) == (line.source_video is not None)
        cost = None if line.credit_cost is None else text.number(line.credit_cost)
        assert re.findall(r", (\S+) credits", words) == ([] if cost is None else [cost])
