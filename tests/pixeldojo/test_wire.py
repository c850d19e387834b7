"""PixelDojo's JSON becomes our models, and our request becomes its JSON."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wan_mcp.errors import CouldNotFindOut, OutcomeUnknown
from wan_mcp.models import Job, JobStatus, Replacement
from wan_mcp.pixeldojo import wire
from wan_mcp.pixeldojo.reply import Reply

patient = settings(deadline=None)  # a slow machine is not a defect

VIDEO = "https://cdn.example.com/clip.mp4"
IMAGE = "https://cdn.example.com/face.png"
RESULT = "https://temp.pixeldojo.ai/films/1.mp4"
WANTED = Replacement(video=VIDEO, character_image=IMAGE)
BARE = {"video": VIDEO, "character_image": IMAGE, "video_duration": 5}
EXPIRY = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)

RUN_ACCEPTED = {
    "jobId": "job_1",
    "status": "pending",
    "statusUrl": "https://pixeldojo.ai/api/v1/jobs/job_1",
    "creditCost": 10,
    "creditsRemaining": 90.5,
    "expiresAt": "2026-11-24T12:00:00Z",
}
DEEP = b'{"jobId": "job_1", "output": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
NO_TEXT: list[object] = [None, "", 7, True, [], ["x"], {}]
NO_CREDITS: list[object] = [-1, 1e12, 1e308, 10**400, True, False, None, "10", [10], {}]
NO_TIME: list[object] = [None, 1_795_521_600, 1e20, True, [], {}, "\ud800"]
ODD: list[Any] = [
    *[None, True, False, 0, -1, 1e308, 10**20, "", "x", "\x1b[31m\u202e", "\ud800", [], {}, [[]]],
    *[{"a": 1}, [None], [{}], ["x", 1], {"url": 7}, [{"url": []}], "../../api-keys", "https://["],
]


def reply(document: object, status: int = 200, *, whole: bool = True) -> Reply:
    return Reply(status, json.dumps(document).encode(), whole=whole)


def answered(**document: Any) -> Job:
    return wire.job(reply({"jobId": "job_1", **document}), "job_1")


# The body of a submit


@pytest.mark.parametrize(
    ("chosen", "sent"),
    [
        ({}, {}),
        ({"seconds": 15}, {"video_duration": 15}),
        ({"resolution": "480"}, {"resolution": "480"}),
        ({"resolution": "720"}, {"resolution": "720"}),
        ({"references": 5}, {"refert_num": 5}),
        ({"frames_per_second": 24}, {"frames_per_second": 24}),
        ({"go_fast": False}, {"go_fast": False}),
        ({"go_fast": True}, {"go_fast": True}),
        ({"merge_audio": False}, {"merge_audio": False}),
        ({"seed": 0}, {"seed": 0}),
        ({"seed": 2**53 - 1}, {"seed": 2**53 - 1}),
        (
            {"seconds": 1, "references": 1, "go_fast": True, "merge_audio": True, "seed": 7},
            {"video_duration": 1, "refert_num": 1, "go_fast": True, "merge_audio": True, "seed": 7},
        ),
    ],
    ids=str,
)
def test_body_holds_the_documented_fields_that_are_set(
    chosen: dict[str, Any], sent: dict[str, Any]
) -> None:
    """The schema admits no other field, and PixelDojo chooses the defaults (documented)."""
    body = wire.run_body(WANTED.model_copy(update=chosen))

    assert {**BARE, **sent} == body


@pytest.mark.parametrize(("word", "number"), [("480", 480), ("720", 720)])
def test_resolution_is_sent_in_the_type_asked_for(word: str, number: int) -> None:
    """Whether it is a string or a number on the wire is not documented (documented)."""
    wanted = WANTED.model_copy(update={"resolution": word})

    assert word == wire.run_body(wanted)["resolution"]
    assert number == wire.run_body(wanted, resolution_as_number=True)["resolution"]
    assert wire.run_body(WANTED, resolution_as_number=True) == BARE


# The answer to a submit


def test_full_answer_to_a_submit_is_read() -> None:
    """All documented fields (documented)."""
    assert wire.accepted(reply(RUN_ACCEPTED, 202)) == Job(
        job_id="job_1",
        status=JobStatus.RUNNING,
        vendor_status="pending",
        expires_at=EXPIRY,
        credit_cost=10.0,
        credits_remaining=90.5,
    )


def test_id_alone_is_a_full_answer() -> None:
    """Every other field is absent from some vendor sample (documented)."""
    job = wire.accepted(reply({"jobId": "job_1"}, 202))

    assert job == Job(job_id="job_1", status=JobStatus.RUNNING)


@pytest.mark.parametrize(
    "body",
    [
        b'{"jobId": "job_1", "status": "pen',
        b'{"creditCost": 10, "jobId" : "job_1",',
        b'{"jobId":"job_1","creditCost":NaN}',
        b'\xff{"jobId":"job_1"}',
        b'[{"jobId":"job_1"}]',
        b'{"data":{"jobId":"job_1"}}',
        b'<html>{"jobId":"job_1"}</html>',
        DEEP,
    ],
    ids=lambda body: ascii(body)[:40],
)
def test_id_is_salvaged_from_a_damaged_answer(body: bytes) -> None:
    """The job is paid, so its id is worth any effort (ours)."""
    job = wire.accepted(Reply(202, body, whole=not body.startswith(b'{"jobId": "job_1", "status')))

    assert (job.job_id, job.status) == ("job_1", JobStatus.RUNNING)
    assert "only the job's id could be read" in (job.note or "")


@pytest.mark.parametrize(
    "body",
    [
        *[b"null", b"[]", b"{}", b"OK", b'"job_1"', b'{"jobId": 7}', b'{"jobId": null}'],
        *[b'{"jobId": ""}', b'{"jobId": "../../api-keys"}', b'{"jobId": "a b"}', b'{"id": "j"}'],
        *[b'{"jobId": "job_1', b'{"jobId": "' + b"a" * 129 + b'"}', b'{"jobId": ["job_1"]}'],
        *[b'{"jobId": "-x"}', b'{"jobId": "a/b"}', b'{"jobId": "\\u202ejob"}'],
    ],
    ids=lambda body: ascii(body)[:40],
)
def test_accepted_without_a_usable_id_is_an_unknown_outcome(body: bytes) -> None:
    """2xx means that a job was very likely started and charged (ours)."""
    with pytest.raises(OutcomeUnknown, match="very likely started and charged") as caught:
        wire.accepted(Reply(202, body))

    assert caught.value.charged == "unknown"


# The answer to a poll


@pytest.mark.parametrize("status", ["completed", "COMPLETED", "succeeded", "success"])
def test_word_for_success_means_completed(status: str) -> None:
    """Only "completed" is documented, the others were seen (documented)."""
    job = answered(status=status, output={"video": RESULT}, creditCost=2.5)

    assert (job.status, job.vendor_status) == (JobStatus.COMPLETED, status)
    assert (job.video_url, job.credit_cost, job.ended) == (RESULT, 2.5, True)


@pytest.mark.parametrize(
    "status",
    ["failed", "error", "cancelled", "canceled", "expired", "timed_out", "timed-out", "Timed Out"],
)
def test_word_for_an_end_without_video_means_failed(status: str) -> None:
    """Only "failed" is documented, the others are clearly ends (documented)."""
    job = answered(status=status, error="No person found")

    assert (job.status, job.error, job.ended) == (JobStatus.FAILED, "No person found", True)


@pytest.mark.parametrize(
    "status", ["pending", "processing", "queued", "warming up", "complete?", "", "failed soon"]
)
def test_any_other_word_means_still_going(status: str) -> None:
    """The vendor may add words, and giving up on a paid job is worse than waiting (ours)."""
    job = answered(status=status)

    assert (job.status, job.vendor_status, job.ended) == (JobStatus.RUNNING, status, False)


@pytest.mark.parametrize("status", [None, 7, True, ["completed"], {"state": "completed"}])
def test_status_that_is_not_a_word_means_still_going(status: object) -> None:
    """Any wrong type (ours)."""
    assert answered(status=status).status is JobStatus.RUNNING


def test_vendor_word_is_cleaned_and_short() -> None:
    """PixelDojo's word is shown in every answer (ours)."""
    assert answered(status="\x1b[31mpending\u202e").vendor_status == "pending"
    assert len(answered(status="x" * 500).vendor_status) == 40


@pytest.mark.parametrize(
    "answer",
    [
        {"output": {"video": RESULT}},
        {"output": {"videos": [RESULT, "https://b.example/2.mp4"]}},
        {"output": {"image": RESULT}},
        {"output": {"images": [RESULT]}},
        {"output": {"video": {"url": RESULT}}},
        {"output": {"video": None, "videos": [], "images": [{"url": RESULT}]}},
        {"output": RESULT},
        {"output": [RESULT]},
        {"assets": [{"url": RESULT}]},
        {"output": None, "assets": [{"url": RESULT}]},
        {"output": {}, "assets": [RESULT]},
    ],
    ids=lambda answer: json.dumps(answer)[:40],
)
def test_video_is_found_where_the_clients_of_pixeldojo_look(answer: dict[str, Any]) -> None:
    """`output.video` is documented, PixelDojo's own clients read the rest (documented)."""
    assert answered(status="completed", **answer).video_url == RESULT


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://temp.pixeldojo.ai/1.mp4", "is not an https address"),
        ("https://127.0.0.1/1.mp4", "points at this machine"),
        ("https://10.0.0.1/1.mp4", "points into a private network"),
        ("https://films.internal/1.mp4", "names a host of a private network"),
        ("https://[::ffff:169.254.169.254]/1.mp4", "points into a private network"),
        ("https://u:p@temp.pixeldojo.ai/1.mp4", "contains a user name"),
        ("javascript:alert(1)", "must start with https://"),
        ("data:video/mp4;base64,AAAA", "is a data: URL"),
        ("https://temp.pixeldojo.ai/\u202e4pm.1", "contains spaces, control or invisible"),
        ("https://temp.pixeldojo.ai/\ud800", "contains spaces, control or invisible"),
        ("https://temp.pixeldojo.ai/" + "x" * 9_000, "is longer than"),
        ("/films/1.mp4", "is a path"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_unsafe_link_to_a_video_is_dropped_with_a_note(url: str, why: str) -> None:
    """Nothing from PixelDojo is trusted, and nothing is dropped silently (ours)."""
    job = answered(status="completed", output={"video": url})

    assert (job.video_url, job.status) == (None, JobStatus.COMPLETED)
    assert why in (job.note or "")
    assert url not in (job.note or "")
    assert "upload" not in (job.note or "")


def test_long_link_to_a_video_is_kept() -> None:
    """Storages sign links with tokens of several thousand characters (observed elsewhere)."""
    url = "https://temp.pixeldojo.ai/1.mp4?X-Amz-Security-Token=".ljust(8_192, "x")

    assert answered(status="completed", output={"video": url}).video_url == url


def test_loopback_video_is_accepted_only_from_a_loopback_api() -> None:
    """The sandbox's videos are on this machine (ours)."""
    answer = reply(
        {"jobId": "j", "status": "completed", "output": {"video": "http://127.0.0.1:1/f.mp4"}}
    )

    assert wire.job(answer, "j", loopback=True).video_url == "http://127.0.0.1:1/f.mp4"
    assert wire.job(answer, "j").video_url is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("No person found", "No person found"),
        ({"code": "no_person", "message": "No person found"}, "No person found"),
        ({"code": "no_person"}, "no_person"),
        ({"message": None, "code": "no_person"}, "no_person"),
        ("\x1b[31mNo\u202e person\x00", "No person"),
        *[(value, None) for value in NO_TEXT],
        ({"message": {"text": "x"}}, None),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_reason_of_a_failed_job_is_read_in_both_shapes(error: object, reason: str | None) -> None:
    """A string in the samples, an object in older documentation (documented)."""
    assert reason == answered(status="failed", error=error).error


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *[(10, 10.0), (2.5, 2.5), (0, 0.0), (0.1, 0.1), (999_999_999_999, 999_999_999_999.0)],
        *[(value, None) for value in NO_CREDITS],
    ],
    ids=lambda value: type(value).__name__,
)
def test_credits_are_finite_numbers_or_nothing(value: object, number: float | None) -> None:
    """A wrong figure about money is worse than none (ours)."""
    job = answered(status="pending", creditCost=value, creditsRemaining=value)

    assert (number, number) == (job.credit_cost, job.credits_remaining)


def test_number_beyond_floating_point_is_no_price() -> None:
    """1e999 is JSON, and infinity to Python (ours)."""
    job = wire.job(Reply(200, b'{"jobId": "j", "creditCost": 1e999}'), "j")

    assert job.credit_cost is None


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-11-24T12:00:00Z", EXPIRY),
        ("2026-11-24T12:00:00.000Z", EXPIRY),
        ("2026-11-24T14:00:00+02:00", EXPIRY),
        ("2026-11-24T12:00:00", EXPIRY),
        *[(value, None) for value in ("", "soon", "0001-01-01T00:00:00+14:00", "2026-13-01")],
        *[(value, None) for value in NO_TIME],
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_expiry_is_a_moment_in_utc_or_nothing(value: object, moment: datetime | None) -> None:
    """ISO 8601 with Z is documented (documented); without a zone it is UTC (assumed)."""
    assert moment == answered(status="pending", expiresAt=value).expires_at


@pytest.mark.parametrize("job_id", ["job_2", "JOB_1", "job_1 ", "../job_1", "", 1, [], {}, True])
def test_answer_about_another_job_is_refused(job_id: object) -> None:
    """Another person's video must not be given out as this one (ours)."""
    with pytest.raises(CouldNotFindOut, match=r"another job|no usable job id"):
        wire.job(reply({"jobId": job_id, "status": "completed"}), "job_1")


@pytest.mark.parametrize("document", [{"status": "pending"}, {"jobId": None, "status": "pending"}])
def test_status_answer_without_an_id_is_about_the_job_asked_for(document: dict[str, Any]) -> None:
    """The address of the request already names it (ours)."""
    assert wire.job(reply(document), "job_1").job_id == "job_1"


FIELDS = ["status", "output", "assets", "creditCost", "creditsRemaining", "expiresAt", "error"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", ODD, ids=lambda value: ascii(value)[:20])
def test_wrong_type_in_any_field_spoils_only_that_field(field: str, value: object) -> None:
    """Status and id are read whatever the other fields contain (ours)."""
    job = answered(**{"status": "completed", field: value})

    assert job.job_id == "job_1"
    assert job.video_url is None
    assert Job.model_validate_json(job.model_dump_json()) == job


# The list, the model page, the schema


@pytest.mark.parametrize(
    "wrap",
    [
        lambda jobs: jobs,
        lambda jobs: {"jobs": jobs},
        lambda jobs: {"data": jobs, "total": 2},
        lambda jobs: {"hasMore": False, "items": jobs},
    ],
)
def test_job_list_is_read_in_any_usual_wrapping(wrap: Any) -> None:
    """PixelDojo's pages name the call and show no answer (assumed)."""
    entries = [{"jobId": "b", "status": "pending"}, {"jobId": "a", "status": "failed"}]

    assert [each.job.job_id for each in wire.jobs(reply(wrap(entries)))] == ["b", "a"]


def test_list_entries_that_are_not_jobs_are_left_out() -> None:
    """One bad entry must not hide the others (ours)."""
    entries: list[object] = [
        None,
        7,
        "job",
        [],
        {},
        {"jobId": 7},
        {"jobId": "../x"},
        {"jobId": "a"},
    ]

    assert [each.job.job_id for each in wire.jobs(reply(entries))] == ["a"]
    assert wire.jobs(reply([])) == []


LISTED = {
    "jobId": "job_1",
    "status": "completed",
    "output": {"video": RESULT},
    "creditCost": 2.5,
    "expiresAt": "2026-11-24T12:00:00Z",
}


def test_listed_job_is_read_as_whole_as_a_polled_one() -> None:
    """A lost answer that is found in the list needs no second read (ours)."""
    (each,) = wire.jobs(reply([LISTED]))

    assert each.job == wire.job(reply(LISTED), "job_1")
    assert (each.seed, each.arguments.get("video")) == (None, None)


@pytest.mark.parametrize(
    "shown",
    [
        {"input": {"seed": 7, "video": VIDEO}},
        {"input": {"seed": 7, "video": f"{VIDEO}?X-Signature=1"}, "seed": 8},
        {"seed": 7, "video": VIDEO},
        {"input": None, "seed": 7, "video": VIDEO},
        {"input": [], "seed": 7, "video": VIDEO},
    ],
    ids=["inside", "signed", "beside", "null", "list"],
)
def test_request_of_a_listed_job_is_read_if_it_is_shown(shown: dict[str, Any]) -> None:
    """A lost answer is found by its seed; where the list has it is not documented (assumed)."""
    (each,) = wire.jobs(reply([{**LISTED, **shown}]))

    assert (each.seed, str(each.arguments["video"]).partition("?")[0]) == (7, VIDEO)


@pytest.mark.parametrize("value", [value for value in ODD if type(value) is not int], ids=ascii)
def test_odd_seed_in_the_list_is_ignored(value: object) -> None:
    """True equals 1 in Python, and would match the job of seed 1 (ours)."""
    (each,) = wire.jobs(reply([{**LISTED, "input": {"seed": value, "video": VIDEO}}]))

    assert (each.seed, each.arguments.get("video")) == (None, VIDEO)


@pytest.mark.parametrize("value", [value for value in ODD if type(value) is not str], ids=ascii)
def test_odd_video_in_the_list_does_not_hide_the_job(value: object) -> None:
    """It equals none of our links, and the rest is still read (ours)."""
    (each,) = wire.jobs(reply([{**LISTED, "input": {"seed": 7, "video": value}}]))

    assert (each.seed, each.job.job_id) == (7, "job_1")
    assert not isinstance(each.arguments.get("video"), str)


def test_unsafe_video_in_the_list_is_dropped_too() -> None:
    """The list is not trusted more than any other answer (ours)."""
    output = {"output": {"video": "http://10.0.0.1/f.mp4"}}
    (each,) = wire.jobs(reply([{**LISTED, **output}]))

    assert each.job.video_url is None
    assert "not an https address" in (each.job.note or "")


@pytest.mark.parametrize("document", [None, 7, "x", {}, {"jobs": None}, {"jobs": {"a": 1}}])
def test_answer_without_a_list_cannot_be_read(document: object) -> None:
    """An empty list would mean "no job was started", which is a claim about money (ours)."""
    with pytest.raises(CouldNotFindOut) as caught:
        wire.jobs(reply(document))

    assert not caught.value.transient


@pytest.mark.parametrize(
    ("page", "estimate"),
    [
        ({"creditCost": {"default": 10, "type": "fixed", "amount": 10}}, 10.0),
        ({"model": {"creditCost": {"type": "fixed", "amount": 2.5}}}, 2.5),
        ({"creditCost": 10}, 10.0),
        ({"creditCost": {"default": 10, "type": "per_second", "amount": 2}}, None),
        ({"creditCost": {"type": "fixed", "amount": "10"}}, None),
        *[({"creditCost": value}, None) for value in NO_CREDITS],
        *[({}, None), ({"model": None}, None), ({"model": 7}, None)],
    ],
    ids=str,
)
def test_estimate_is_one_plain_number_or_none(page: dict[str, Any], estimate: float | None) -> None:
    """PixelDojo's pages disagree about prices, so a doubtful one is not shown (documented)."""
    assert estimate == wire.model(reply(page)).credit_estimate


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ({"type": "integer", "enum": [480, 720]}, True),
        ({"type": "number"}, True),
        ({"enum": [480, 720]}, True),
        ({"type": "string", "enum": ["480", "720"]}, False),
        ({"enum": ["480"]}, False),
        ({"type": ["string", "integer"]}, False),
        ({"type": {}}, False),
        *[({"enum": value}, False) for value in ODD],
        *[(field, False) for field in ODD],
    ],
    ids=str,
)
def test_published_schema_decides_the_type_of_resolution(field: object, number: bool) -> None:
    """Nothing else documents the type; an unreadable schema leaves the string (documented)."""
    schema = {"properties": {"resolution": field}}

    assert number is wire.resolution_is_number(reply({"schema": schema}))
    assert number is wire.resolution_is_number(reply(schema))


@pytest.mark.parametrize("page", [{}, {"schema": None}, {"schema": []}, {"schema": {}}])
def test_schema_without_resolution_leaves_the_string(page: dict[str, Any]) -> None:
    """The string is the type in the documentation's samples (ours)."""
    assert not wire.resolution_is_number(reply(page))


# The recorded answers

REPLIES = Path(__file__).parent / "replies"
RECORDED_ID = "job_9f2c41d07ab36e58c1f4"
RECORDED_RESULT = "https://temp.pixeldojo.ai/pixeldojotemp/1795330800123-4f9ac2.mp4"
RECORDED = Job(
    job_id=RECORDED_ID,
    status=JobStatus.RUNNING,
    vendor_status="pending",
    credit_cost=10,
    expires_at=datetime(2026, 11, 24, 9, 0, 0, tzinfo=UTC),
)
DONE = {
    "status": JobStatus.COMPLETED,
    "vendor_status": "completed",
    "video_url": RECORDED_RESULT,
}
RECORDED_JOBS: dict[str, dict[str, Any]] = {
    "job-pending": {},
    "job-processing": {"vendor_status": "processing"},
    "job-completed": DONE,
    "job-completed-videos": DONE,
    "job-completed-image": DONE,
    "job-completed-images": DONE,
    "job-completed-assets": DONE,
    "job-failed-string": {
        "status": JobStatus.FAILED,
        "vendor_status": "failed",
        "error": "No person could be found in the source video",
    },
}


def recorded(name: str) -> Reply:
    return Reply(200, (REPLIES / f"{name}.json").read_bytes(), content_type="application/json")


@pytest.mark.parametrize(("name", "differs"), RECORDED_JOBS.items(), ids=RECORDED_JOBS)
def test_recorded_job_is_read_whole(name: str, differs: dict[str, Any]) -> None:
    """Every form of a job in PixelDojo's pages and clients (documented)."""
    assert RECORDED.model_copy(update=differs) == wire.job(recorded(name), RECORDED_ID)


def test_recorded_answers_to_a_submit_are_read_whole() -> None:
    """With everything, and with the id alone (documented)."""
    full = wire.accepted(recorded("run-accepted"))

    assert full == RECORDED.model_copy(update={"credits_remaining": 95})
    assert wire.accepted(recorded("run-accepted-bare")).job_id == RECORDED_ID


def test_recorded_pages_of_the_model_are_read() -> None:
    """Price and schema (documented); the envelope of the list is a guess (assumed)."""
    (listed,) = wire.jobs(recorded("jobs-list"))

    assert listed.job == RECORDED.model_copy(update=DONE)
    assert (listed.seed, listed.arguments.get("video")) == (
        1234567,
        "https://example.com/dance.mp4",
    )
    assert wire.model(recorded("model")).credit_estimate == 10
    assert not wire.resolution_is_number(recorded("schema"))


def test_every_recorded_answer_is_read_by_some_test() -> None:
    """A recording that nobody reads proves nothing (ours)."""
    elsewhere = {"error-object", "error-text", "error-text-message", "models"}
    others = {"run-accepted", "run-accepted-bare", "jobs-list", "model", "schema"}

    assert {file.stem for file in REPLIES.iterdir()} == RECORDED_JOBS.keys() | others | elsewhere


# Anything at all

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["job_1", RESULT, "completed", "2026-11-24T12:00:00Z"]),
)
NAMES = st.sampled_from(
    [
        *[*FIELDS, "jobId", "jobs", "video", "videos", "url", "model", "amount", "type"],
        *["schema", "properties", "resolution", "enum", "message", "code"],
    ]
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)


@patient
@given(DOCUMENTS)
@example({"schema": {"properties": {"resolution": {"type": ["integer"]}}}})
@example({"jobId": "job_1", "status": "\ud800", "output": {"video": "https://a.example/\ud800"}})
def test_any_json_is_read_or_called_unreadable(document: object) -> None:
    """A defect in a reader would be reported as a possible charge (ours)."""
    answer = reply(document)
    readers = (
        lambda: wire.accepted(answer),
        lambda: wire.job(answer, "job_1"),
        lambda: wire.jobs(answer),
        lambda: wire.model(answer),
        lambda: wire.resolution_is_number(answer),
    )
    for read in readers:
        try:
            read()
        except (CouldNotFindOut, OutcomeUnknown) as unreadable:
            assert unreadable.what.isascii()  # noqa: PT017 - that it raises is not the claim


PAGE = b"\n<html><form>Accept the terms</form>"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(PAGE, "text/html"), (PAGE, ""), (b"", ""), (b"\r\n ", "application/json")],
)
def test_page_or_nothing_in_place_of_the_answer_is_no_evidence_of_a_charge(
    body: bytes, content_type: str
) -> None:
    """The login page of a network answers 200 to everything (observed elsewhere)."""
    page = Reply(200, body, content_type=content_type)

    with pytest.raises(OutcomeUnknown, match="does not tell whether a job was started") as caught:
        wire.accepted(page)

    assert "very likely" not in caught.value.what
