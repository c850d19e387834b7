"""The text of an answer states every fact of its data."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.surface.scenarios import SUMMARIES, summary
from wan_mcp.errors import Code
from wan_mcp.models import JobLine, JobList, JobResult, JobStatus, PriceType
from wan_mcp.surface.answers import text
from wan_mcp.surface.answers.credits import CreditOverview, LimitLine
from wan_mcp.wording import counted, duration, number

patient = settings(deadline=None)  # a busy machine is no defect

VIDEO = "https://temp.pixeldojo.ai/films/1.mp4"
CLIP = "https://cdn.example.com/clip.mp4"
IMAGE = "https://cdn.example.com/face.png"
MADE = "2026-11-23T10:00:00+00:00"


@pytest.mark.parametrize(
    ("status", "vendor_status", "is_shown"),
    [
        (JobStatus.RUNNING, "pending", True),
        (JobStatus.COMPLETED, "completed", False),
        (JobStatus.LOST, "", False),
        (JobStatus.LOST, None, False),
    ],
)
def test_word_of_the_vendor_is_shown_beside_ours_where_it_differs(
    status: JobStatus, vendor_status: str | None, is_shown: bool
) -> None:
    """The vendor may add words that mean more than "running" (ours)."""
    words = text.both_statuses(status, vendor_status)

    assert words.startswith(status)
    assert (f'"{vendor_status}"' in words) == is_shown


@pytest.mark.parametrize(
    ("status", "what"),
    [
        *[(status, "Job") for status in ("running", "completed", "failed", "lost")],
        *[(status, "Request") for status in ("submitting", "unknown", "not_sent", "refused")],
    ],
)
def test_request_without_a_job_is_not_called_one(status: JobStatus, what: str) -> None:
    """ "Job sub_1: not_sent" would speak of a job that never existed (ours)."""
    result = JobResult(message="M.", job_id="x", status=status, charged="no", next="N.")

    assert text.text(result).splitlines()[1].startswith(f"{what} x: {status}")


def test_age_of_a_running_job_stands_in_its_line_of_a_list() -> None:
    """A job that nobody waits for is looked at rarely, and may have ended since (ours)."""
    job = JobLine(job_id="job_1", status=JobStatus.RUNNING, heard_seconds_ago=80, made_at=MADE)
    words = text.text(JobList(message="One.", jobs=[job], charged="no", next="N.")).splitlines()

    assert words[1].startswith("- job_1: running")
    assert "1 min 20 s ago" in words[1]


@pytest.mark.parametrize("name", SUMMARIES)
def test_summary_of_a_list_counts_what_it_holds(name: str) -> None:
    """Each number counts what stands beside it, whatever the filter lets through (ours)."""
    held, status, older = SUMMARIES[name]
    sentence = summary(held, status, older)
    matching = sum(status in (None, each) for each in held)
    others = [each for each in held if status not in (None, each)]
    unfinished = sum(each in (JobStatus.RUNNING, JobStatus.SUBMITTING) for each in others)
    unknown = held.count(JobStatus.UNKNOWN)

    assert sentence.startswith(str(matching or "No"))
    assert (f" {unfinished} that " in sentence) == bool(unfinished)
    assert (f"unknown outcome: {unknown};" in sentence) == bool(unknown)
    assert ("older" in sentence) == older


EVERY_FIELD = JobResult(
    message="It happened.",
    job_id="job_1",
    status=JobStatus.COMPLETED,
    vendor_status="succeeded",
    video_url=VIDEO,
    expires_at=MADE,
    expires_in_seconds=83,
    saved_path="s3://ana/videos/job_1.mp4",
    saved_url="https://s3.example/ana/videos/job_1.mp4?X-Amz-Signature=s",
    sha256="ab12",
    size=2_412_345,
    inspection=["lines: expected 720, seen 854 x 480"],
    credit_cost=11.25,
    credit_estimate=12.5,
    credits_remaining=1_234_567,
    source_video=CLIP,
    character_image=IMAGE,
    video_duration=7,
    resolution="720",
    seed=71,
    queue_position=13,
    expected_start_in_seconds=245,
    elapsed_seconds=95,
    error="No person found",
    charged="yes",
    job_charged="unknown",
    retry_safe=True,
    retry_after_seconds=46,
    limit="WAN_MCP_MAX_IN_FLIGHT",
    limit_value=31,
    used=32,
    blocking_job_ids=["job_2", "job_3"],
    upload_page="https://wan.example.com/uploads/ticket",
    code=Code.LIMIT_REACHED,
    next="Do this.",
)
EVERY_FIELD_OF_A_LINE = JobLine(
    job_id="job_1",
    status=JobStatus.COMPLETED,
    heard_seconds_ago=80,
    made_at=MADE,
    source_video=CLIP,
    character_image=IMAGE,
    video_duration=7,
    resolution="720",
    seed=71,
    queue_position=13,
    order="d2a8f04b6c",
    take=29,
    takes=31,
    kept=True,
    credit_cost=11.25,
    job_charged="unknown",
    saved_path="/home/ana/Videos/job_1.mp4",
    video_url=VIDEO,
    expires_in_seconds=83,
)
EVERY_FIELD_OF_A_LIST = JobList(
    message="Two.",
    jobs=[EVERY_FIELD_OF_A_LINE],
    next_cursor="ended.sub_1",
    total_jobs=321,
    credits_spent_24h=12.5,
    credits_spent=4_321.25,
    jobs_without_cost=17,
    charged="no",
    retry_safe=False,
    retry_after_seconds=46,
    code=Code.BUSY,
    next='For older jobs call list_jobs with cursor "ended.sub_1".',
)
EVERY_FIELD_OF_A_LIMIT = LimitLine(
    limit="WAN_MCP_MAX_IN_FLIGHT",
    limit_value=31,
    used=32,
    frees_at=MADE,
    blocking_job_ids=["job_2", "job_3"],
)
EVERY_FIELD_OF_CREDITS = CreditOverview(
    message="It happened.",
    video_duration=7,
    resolution="720",
    price="2.5 credits a second",
    price_type=PriceType.PER_SECOND,
    page_credits=17.5,
    up_to_credits=18.25,
    credits_remaining=1_234_567,
    credits_remaining_at="2026-11-23T09:08:07+00:00",
    credits_spent_24h=93,
    credits_spent=1_093,
    jobs_without_cost=41,
    queued=19,
    queued_credits=95,
    limits=[EVERY_FIELD_OF_A_LIMIT],
    refused_by="WAN_MCP_MAX_CREDITS_PER_JOB",
    key_accepted="unknown",
    charged="no",
    retry_safe=True,
    retry_after_seconds=46,
    code=Code.BUSY,
    next="Do this.",
)
PHRASES_OF_CREDITS = {
    "video_duration": "Price of 7 s at",
    "resolution": "at 720 lines",
    "page_credits": "for this job: 17.5 credits",
    "up_to_credits": "up to 18.25 credits",
    "credits_remaining": "Balance: 1234567 credits",
    "credits_spent_24h": "Spent: 93 credits in the last 24 hours",
    "credits_spent": "1093 in all",
    "jobs_without_cost": "41 jobs whose cost is not known",
    "queued": "Queued: 19 requests",
    "queued_credits": "reserved: 95 credits",
    "key_accepted": "API key accepted: unknown",
    "charged": "Charged by this call: no",
    "retry_safe": "Safe to repeat: yes",
    "retry_after_seconds": "for another 46 s",
}
PHRASES = {
    "expires_in_seconds": "in 1 min 23 s",
    "size": "2,412,345 bytes",
    "inspection": "Inspection of the video: lines: expected 720, seen 854 x 480",
    "credit_estimate": "expected 12.5",
    "credits_remaining": "Credits left: 1234567",
    "queue_position": "Place in the queue: 13",
    "expected_start_in_seconds": "expected to start in 4 min 5 s",
    "elapsed_seconds": "1 min 35 s so far",
    "charged": "Charged by this call: yes",
    "job_charged": "Charged for the job: unknown",
    "retry_safe": "Safe to repeat: yes",
    "retry_after_seconds": "after 46 s",
    "limit_value": "WAN_MCP_MAX_IN_FLIGHT: 31,",
    "used": "used: 32.",
    "blocking_job_ids": "job_2, job_3",
    "heard_seconds_ago": "1 min 20 s ago",
    "total_jobs": "In all: 321 jobs.",
    "credits_spent_24h": "Spent: 12.5 credits in the last 24 hours",
    "credits_spent": ", 4321.25 in all",
    "jobs_without_cost": "without 17 jobs whose cost is not known",
}
"""How the text says what it does not repeat as it stands."""


@pytest.mark.parametrize("field", JobResult.model_fields)
def test_every_published_field_is_in_the_text(field: str) -> None:
    """Half of the hosts show a model nothing but the text (observed elsewhere).

    A new field has to be added to the example here, and so to the text.
    """
    value = getattr(EVERY_FIELD, field)

    assert value is not None
    assert PHRASES.get(field, str(value)) in text.text(EVERY_FIELD)
    without = EVERY_FIELD.model_copy(update={field: _other(value)})
    assert text.text(without) != text.text(EVERY_FIELD)


@pytest.mark.parametrize("field", JobLine.model_fields)
def test_every_published_field_of_a_row_is_in_the_text(field: str) -> None:
    """The same for a list (observed elsewhere)."""
    value = getattr(EVERY_FIELD_OF_A_LINE, field)
    listed = JobList(message="One.", jobs=[EVERY_FIELD_OF_A_LINE], charged="no", next="N.")

    phrases = {**PHRASES, "job_charged": ", charged: unknown, "}
    phrases |= {"queue_position": ", place 13 in the queue", "kept": ", kept, "}
    assert value is not None
    assert phrases.get(field, str(value)) in text.text(listed)
    assert len(text.text(listed).splitlines()) == 4  # a row is one line


@pytest.mark.parametrize("field", CreditOverview.model_fields)
def test_every_published_field_about_credits_is_in_the_text(field: str) -> None:
    """The same for check_credits (observed elsewhere)."""
    value = getattr(EVERY_FIELD_OF_CREDITS, field)

    assert value is not None
    if field != "limits":
        assert PHRASES_OF_CREDITS.get(field, str(value)) in text.text(EVERY_FIELD_OF_CREDITS)
        without = EVERY_FIELD_OF_CREDITS.model_copy(update={field: _other(value)})
        assert text.text(without) != text.text(EVERY_FIELD_OF_CREDITS)


@pytest.mark.parametrize("field", LimitLine.model_fields)
def test_every_published_field_of_a_limit_is_in_the_text(field: str) -> None:
    """The same for each row (observed elsewhere)."""
    value = getattr(EVERY_FIELD_OF_A_LIMIT, field)
    phrases = {"limit_value": ": 31 jobs,", "used": "used 32", "blocking_job_ids": "job_2 job_3"}

    assert value is not None
    assert phrases.get(field, str(value)) in text.text(EVERY_FIELD_OF_CREDITS)


@pytest.mark.parametrize("field", sorted({*JobList.model_fields} - {"jobs"}))
def test_every_published_field_of_a_list_is_in_the_text(field: str) -> None:
    """The same for what stands beside the rows (observed elsewhere)."""
    value = getattr(EVERY_FIELD_OF_A_LIST, field)
    phrases = {**PHRASES, "retry_safe": "Safe to repeat: no", "charged": "by this call: no"}
    phrases["retry_after_seconds"] = "not before 46 s"

    assert value is not None
    assert phrases.get(field, str(value)) in text.text(EVERY_FIELD_OF_A_LIST)


def test_link_of_a_row_that_no_longer_works_is_called_expired() -> None:
    """ "It expires in 0 s" would send a model to a dead link (ours)."""
    late = EVERY_FIELD_OF_A_LINE.model_copy(update={"expires_in_seconds": 0})
    listed = JobList(message="One.", jobs=[late], charged="no", next="N.")

    assert f"video: {VIDEO}, its link has expired" in text.text(listed)


def _other(value: object) -> object:
    """Another value of the same type."""
    if isinstance(value, list):
        return [*value, "job_9"]
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else type(value)(0)  # type: ignore[call-arg]


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
    video_url=st.none() | st.just(VIDEO),
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
def test_text_states_every_fact_of_the_data(result: JobResult) -> None:
    """Half of the hosts show a model only the one, half only the other (observed elsewhere)."""
    words = text.text(result)
    is_on_its_way = (result.status, result.charged) == ("submitting", "unknown")
    charged = "not known yet" if is_on_its_way else result.charged

    assert f"Charged by this call: {charged}." in words
    for fact in (result.message, result.job_id, result.status, result.next, result.expires_at):
        assert str(fact) in words
    for fact in (result.vendor_status, result.video_url, result.error):
        assert fact is None or fact in words
    if result.elapsed_seconds is not None:
        assert f"{duration(result.elapsed_seconds)} so far" in words
    if result.expires_in_seconds:
        assert f"in {duration(result.expires_in_seconds)}." in words
    seeds = re.findall(r"Seed: (\d+)\.", words)
    assert seeds == ([] if result.seed is None else [str(result.seed)])


@patient
@given(result=RESULTS)
def test_text_states_every_figure_of_money_in_its_place(result: JobResult) -> None:
    """A cost read as a balance is worse than none (ours)."""
    words = text.text(result)
    figures = (result.credit_cost, result.credits_remaining, result.credit_estimate)
    phrases = (
        r"The job costs (\S+) credits?",
        r"Credits left: (\S+)\.\n",
        r"expected (?:to cost )?([\d.]*\d)",
    )
    for figure, phrase in zip(figures, phrases, strict=True):
        assert re.findall(phrase, words) == ([] if figure is None else [number(figure)])
        assert figure is None or float(number(figure)) == pytest.approx(figure, rel=1e-14)


@patient
@given(lines=st.lists(LINES, max_size=4), message=WORDS, step=WORDS)
def test_text_of_a_list_states_every_fact_of_every_job(
    lines: list[JobLine], message: str, step: str
) -> None:
    """The same for the list (observed elsewhere)."""
    assume(len({line.job_id for line in lines}) == len(lines))
    listed = JobList(message=message, jobs=lines, charged="no", next=step)
    first, *job_lines, charged, last = text.text(listed).splitlines()

    assert (first, charged, last) == (message, "Charged by this call: no.", f"Next: {step}")
    for line, words in zip(lines, job_lines, strict=True):
        assert words.startswith(f"- {line.job_id}: {line.status}")
        assert f", made {line.made_at}" in words
        age = line.heard_seconds_ago
        assert (" ago, made" in words) == (age is not None)
        assert age is None or f", {duration(age)} ago, made" in words
        assert (f", seed {line.seed}" in words) == (line.seed is not None)
        assert (f"from {CLIP}" in words) == (line.source_video is not None)
        cost = None if line.credit_cost is None else counted(line.credit_cost, "credit")
        assert re.findall(r", (\S+ credits?)", words) == ([] if cost is None else [cost])
