"""Which listed job is that of a request whose answer was lost: tables, without a store."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wan_mcp.ledger.record import Record, State
from wan_mcp.models import Job, JobStatus
from wan_mcp.payments.matching import (
    MAX_EARLY_SECONDS,
    MAX_LATE_SECONDS,
    ListedJobs,
    differences,
)
from wan_mcp.pixeldojo.wire import Listed

SENT = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SEED = 123_456
SHOWN: Mapping[str, str | int | bool] = {
    "video": "https://a.example/v.mp4",
    "character_image": "https://a.example/i.png",
    "seconds": 5,
    "resolution": "720",
    "seed": SEED,
}


def request(name: str = "sub_1", *, generated: bool = True, **changes: Any) -> Record:
    """A request of unknown outcome that asked for what SHOWN shows."""
    arguments = {key: value for key, value in SHOWN.items() if key != "seed"}
    arguments |= changes.pop("asked", {})
    return Record.model_validate(
        {
            "submission_id": name,
            "account": "me",
            "state": State.UNKNOWN,
            "dedupe_key": name,
            "arguments": {key: value for key, value in arguments.items() if value is not None},
            "seed": SEED,
            "seed_generated": generated,
            "owner": "a process",
            "created_at": SENT,
            "sent_at": SENT,
        }
        | changes
    )


def listed(job_id: str = "job_1", made: float | None = None, **changes: Any) -> Listed:
    """A job in the list, made so many seconds after the sending; None leaves a value out."""
    shown = {name: value for name, value in {**SHOWN, **changes}.items() if value is not None}
    made_at = None if made is None else SENT + timedelta(seconds=made)
    job = Job(job_id=job_id, status=JobStatus.RUNNING)
    return Listed(job, shown, made_at)


def accepted(name: str, seconds: float, **changes: Any) -> Record:
    """A request whose job is known, accepted so many seconds after the other was sent."""
    at = SENT + timedelta(seconds=seconds)
    known: dict[str, Any] = {
        "job_id": name,
        "state": State.ACCEPTED,
        "created_at": at,
        "sent_at": at,
    }
    return request(f"sub_{name}", **known | {"accepted_at": at} | changes)


def found(record: Record, *jobs: Listed, beside: tuple[Record, ...] = ()) -> str | None:
    job = ListedJobs(jobs, [record, *beside]).job_of(record)
    return None if job is None else job.job_id


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"resolution": 720},
        {"resolution": "720p"},
        {"seconds": "5"},
        {"video": None, "character_image": None, "seconds": None, "resolution": None},
        {"video": "HTTPS://A.example:443/v.mp4?signature=x"},
        {"go_fast": False, "merge_audio": "true", "references": 5},
        {"made": 0.0},
        {"made": -MAX_EARLY_SECONDS},
        {"made": MAX_LATE_SECONDS},
    ],
    ids=str,
)
def test_a_job_with_the_seed_and_nothing_against_it_is_the_requests(
    shown: dict[str, Any],
) -> None:
    """Another spelling and what the request left to PixelDojo speak against nothing."""
    assert found(request(), listed(**shown)) == "job_1"


AGAINST = [
    {"seed": SEED + 1},
    {"resolution": "480"},
    {"seconds": 9},
    {"video": "https://a.example/other.mp4"},
    {"character_image": "https://a.example/other.png"},
    {"go_fast": True},
    {"merge_audio": False},
    {"made": -MAX_EARLY_SECONDS - 1},
    {"made": MAX_LATE_SECONDS + 1},
]


@pytest.mark.parametrize("generated", [True, False])
@pytest.mark.parametrize("shown", AGAINST, ids=str)
def test_a_job_that_shows_anything_else_than_was_asked_for_is_not_the_requests(
    shown: dict[str, Any], generated: bool
) -> None:
    """A seed alone proves little: a user may give it to another request on purpose."""
    assert found(request(generated=generated), listed(**shown)) is None


def test_a_resolution_that_was_left_out_is_the_documented_one() -> None:
    """A request for 720 lines with the same seed is another request."""
    default = request(asked={"resolution": None})

    assert differences(default, listed(resolution="480")) == set()
    assert differences(default, listed(resolution="720")) == {"resolution"}


def test_each_of_two_lost_requests_with_one_seed_gets_its_own_job() -> None:
    """The second one was given the seed of the first on purpose, at another resolution."""
    first, second = request(asked={"resolution": None}), request("sub_2", generated=False)
    jobs = ListedJobs([listed("job_2"), listed("job_1", resolution="480")], [first, second])

    assert [job and job.job_id for job in (jobs.job_of(first), jobs.job_of(second))] == [
        "job_1",
        "job_2",
    ]


@pytest.mark.parametrize("state", [State.UNKNOWN, State.SENDING])
def test_a_job_that_two_requests_could_have_started_is_given_to_neither(state: State) -> None:
    """The list shows no resolution. The words name the job and the other request."""
    first, second = request(asked={"resolution": None}), request("sub_2", state=state)
    jobs = ListedJobs([listed(resolution=None)], [first, second])
    doubts = jobs.doubts(first) or ""

    assert (jobs.job_of(first), jobs.job_of(second)) == (None, None)
    assert "job_1" in doubts
    assert "sub_2" in doubts
    assert "get_job_status" in doubts


@pytest.mark.parametrize("state", [State.NOT_SENT, State.REFUSED, State.INTENT, State.FAILED])
def test_a_request_that_cannot_have_a_job_of_its_own_claims_none(state: State) -> None:
    """Otherwise a refusal would keep a lost job from being found."""
    other = request("sub_2", state=state, job_id="job_9" if state is State.FAILED else None)

    assert found(request(), listed(), beside=(other,)) == "job_1"


def test_a_job_is_taken_once() -> None:
    """Two requests that share one job would hide that a second job may be paid."""
    first, second = request(), request("sub_2")
    jobs = ListedJobs([listed()], [first])
    job = jobs.job_of(first)
    assert job is not None
    jobs.claim(first, job)

    assert jobs.job_of(second) is None
    assert jobs.doubts(second) is None


def test_two_jobs_that_could_be_the_requests_leave_it_unknown() -> None:
    """Another program with the same key may have sent the same request."""
    assert found(request(), listed("job_1"), listed("job_2")) is None


@pytest.mark.parametrize("missing", ["video", "character_image", "seconds", "resolution"])
def test_a_seed_that_the_caller_chose_needs_all_that_was_asked_for(missing: str) -> None:
    """Several jobs may have seed 7."""
    nothing_of_it: dict[str, Any] = {missing: None}

    assert found(request(generated=False), listed()) == "job_1"
    assert found(request(generated=False), listed(**nothing_of_it)) is None


REHOSTED: dict[str, Any] = {"video": "https://cdn.example/1.mp4"}


def test_what_the_list_shows_differently_for_known_jobs_speaks_against_nothing() -> None:
    """PixelDojo may show copies of the inputs; the generated seed and the rest still fit."""
    known, copy = accepted("job_9", -60), listed("job_9", **REHOSTED)

    assert found(request(), listed(**REHOSTED), copy, beside=(known,)) == "job_1"
    assert found(request(), listed(seconds=9, **REHOSTED), copy, beside=(known,)) is None


@pytest.mark.parametrize(
    ("shown", "doubt"),
    [
        ({"seed": SEED + 1}, False),
        ({"seed": None}, True),
        ({"seed": None, "video": "https://a.example/other.mp4"}, False),
        ({"seed": None, "made": MAX_LATE_SECONDS + 1}, True),
        ({"resolution": "480"}, True),
        ({"seed": str(SEED)}, True),
    ],
    ids=str,
)
def test_no_absence_is_concluded_while_a_job_could_be_the_requests(
    shown: dict[str, Any], doubt: bool
) -> None:
    """What the list shows of jobs that are known says which difference is reliable; a date that it
    shows of no such job is not. A job with the request's own seed is never passed over.
    """
    before, after = accepted("job_8", -60), accepted("job_9", 60)
    beside = [listed("job_8"), listed("job_9")]
    jobs = ListedJobs([listed(**shown), *beside], [request(), before, after])

    assert jobs.surround(request())
    assert (jobs.doubts(request()) is not None) is doubt


def test_a_list_is_no_newer_than_the_jobs_in_it_whenever_they_became_known() -> None:
    """A lost job may be found late, in a copy of the list that is older than the request (ours)."""
    before, found_late = accepted("job_8", -60), accepted("job_9", -30, accepted_at=SENT + MINUTE)
    jobs = ListedJobs([listed("job_8"), listed("job_9")], [request(), before, found_late])

    assert not jobs.surround(request())


def test_a_job_submitted_elsewhere_is_not_known() -> None:
    """A reading of it made a record, which no request of this ledger explains."""
    foreign = accepted("job_1", 60, dedupe_key=None, arguments={}, seed=None)

    assert found(request(), listed(), beside=(foreign,)) == "job_1"


HEX = "ab" * 32
UPLOADED = f"https://s3.example/bucket/wan/inputs/{HEX}.mp4"
FILE: Mapping[str, str | int | bool] = {
    "video": "file:///home/ana/dance.mov#t=12,17",
    "video_sha256": "cd" * 32,
    "sent_video": UPLOADED,
    "sent_notes": "The clip was cut.",
}


@pytest.mark.parametrize("generated", [True, False])
@pytest.mark.parametrize(
    "shown",
    [
        UPLOADED,
        f"{UPLOADED}?X-Amz-Signature=s",
        f"HTTPS://S3.example:443/bucket/wan/inputs/{HEX}.mp4?another=signature",
        f"https://bucket.s3.example/wan/inputs/{HEX}.mp4",
    ],
)
def test_an_uploaded_input_is_recognised_by_its_link(shown: str, generated: bool) -> None:
    """However the link is signed or its bucket written: the name of the object is the content's."""
    assert found(request(asked=FILE, generated=generated), listed(video=shown)) == "job_1"


@pytest.mark.parametrize("generated", [True, False])
@pytest.mark.parametrize(
    "shown",
    [
        FILE["video"],
        SHOWN["video"],
        f"https://s3.example/bucket/wan/inputs/{'cd' * 32}.mp4",
        "https://s3.example/bucket/wan/inputs/",
    ],
)
def test_a_job_with_another_clip_is_not_that_of_an_upload(shown: str, generated: bool) -> None:
    """Another request may have been given the seed on purpose."""
    assert found(request(asked=FILE, generated=generated), listed(video=shown)) is None


def test_short_names_of_files_show_nothing() -> None:
    """Everybody calls a clip clip.mp4."""
    short = {**FILE, "sent_video": "https://tunnel.example/clip.mp4"}

    assert found(request(asked=short), listed(video="https://other.example/clip.mp4")) is None


@pytest.mark.parametrize(
    ("known_is_shown", "doubt"),
    [({}, True), ({"video": UPLOADED}, False), ({"video": "https://cdn.example/copy"}, True)],
    ids=["no upload is known", "an upload is shown as it was sent", "an upload is shown otherwise"],
)
def test_a_link_in_an_unknown_form_never_proves_that_there_was_no_job(
    known_is_shown: dict[str, Any], doubt: bool
) -> None:
    """That links of users are shown as they were sent says nothing about links of ours."""
    asked = FILE if known_is_shown else {}
    before, after = accepted("job_8", -60, asked=asked), accepted("job_9", 60)
    beside = [listed("job_8", **known_is_shown), listed("job_9")]
    copy = listed(seed=None, video="https://cdn.example/copy")
    jobs = ListedJobs([copy, *beside], [request(asked=FILE), before, after])

    assert (jobs.doubts(request(asked=FILE)) is not None) is doubt
    assert jobs.doubts(request()) is None


def test_an_input_that_nobody_knows_the_link_of_is_compared_with_none() -> None:
    """A generated seed still finds the job, and a chosen one, which others may have, does not."""
    asked = {"video": FILE["video"], "video_sha256": FILE["video_sha256"]}

    assert found(request(asked=asked), listed(video=UPLOADED)) == "job_1"
    assert found(request(asked=asked, generated=False), listed(video=UPLOADED)) is None
    assert ListedJobs([listed(video=UPLOADED)], []).doubts(request(asked=asked, generated=False))
