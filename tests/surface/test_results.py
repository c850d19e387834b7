"""Answers as data: which facts they state, for everything that the ledger may know."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.surface.scenarios import (
    ACCEPTED,
    CLIP,
    DONE,
    FAILED,
    FAILURES,
    IMAGE,
    LOOKS,
    LOST,
    NOT_SENT,
    NOW,
    PROGRESS,
    REFUSED,
    RUNNING,
    SAVED,
    STATES,
    SUBMISSION,
    SUBMITS,
    UNKNOWN,
    VIDEO,
    WITHOUT_LINK,
    after,
    of_job,
    of_request,
    record,
)
from wan_mcp.errors import OutcomeUnknown
from wan_mcp.ledger.expected_price import Totals
from wan_mcp.ledger.record import State
from wan_mcp.ledger.status import InputProgress, JobView, Phase, view_of_job, view_of_record
from wan_mcp.models import Job, JobResult, JobStatus
from wan_mcp.surface.answers import failures, progress, results
from wan_mcp.surface.answers.inputs import ascii_link
from wan_mcp.surface.answers.text import text
from wan_mcp.surface.video_views import without_unreachable_file

MB = 10**6
patient = settings(deadline=None)  # a busy machine is no defect


def result_of(view: JobView, *, bought: bool = False) -> JobResult:
    return results.job_result(view, now=NOW, bought=bought)


def set_fields(result: JobResult) -> dict[str, Any]:
    """The fields that are facts, without those that are sentences."""
    return result.model_dump(exclude={"message", "next"}, exclude_none=True)


# A job


def test_accepted_job_has_its_cost_balance_and_seed() -> None:
    """And nothing about a link: there is none yet (ours)."""
    result = results.submit_result(SUBMITS["accepted"], now=NOW)

    assert set_fields(result) == {
        "job_id": "job_1",
        "status": "running",
        "vendor_status": "pending",
        "credit_cost": 10,
        "credits_remaining": 90.5,
        "seed": 7,
        "charged": "yes",
        "job_charged": "yes",
    }
    assert 'wait_for_job with job_id "job_1"' in result.next


def test_running_job_has_its_elapsed_time_and_estimate() -> None:
    """A read is free (ours)."""
    assert set_fields(result_of(LOOKS["running"])) == {
        "job_id": "job_1",
        "status": "running",
        "vendor_status": "processing",
        "credit_estimate": 10,
        "seed": 0,
        "elapsed_seconds": 125,
        "charged": "no",
        "job_charged": "yes",
    }


def test_completed_job_has_its_link_and_the_time_it_stays_valid() -> None:
    """In seconds too, because models are bad at dates (ours)."""
    assert set_fields(result_of(LOOKS["completed"])) == {
        "job_id": "job_1",
        "status": "completed",
        "vendor_status": "completed",
        "video_url": VIDEO,
        "expires_at": "2026-11-24T11:58:05+00:00",
        "expires_in_seconds": 86_285,
        "credit_cost": 2.5,
        "charged": "no",
        "job_charged": "yes",
    }


def test_failed_job_has_the_reason_and_the_cost() -> None:
    """Whether failed jobs are refunded is not documented, so nothing is promised (vendor)."""
    assert set_fields(result_of(LOOKS["failed"])) == {
        "job_id": "job_1",
        "status": "failed",
        "vendor_status": "failed",
        "error": "No person found",
        "credit_cost": 10,
        "charged": "no",
        "job_charged": "yes",
    }


def test_next_step_of_a_failed_job_depends_on_whether_there_is_a_reason() -> None:
    """A model that is asked for a reason which it does not have would invent one (ours)."""
    assert result_of(LOOKS["failed"]).next != result_of(LOOKS["failed, no reason"]).next


def test_lost_job_is_not_a_failed_one() -> None:
    """It may have been paid, so no next step may send a model to buy it again unawares (ours)."""
    result = result_of(LOST)

    assert (result.status, result.error, result.code) == ("lost", None, None)
    assert LOST.why in result.message
    assert "a new job, charged on its own" in result.next


@pytest.mark.parametrize(
    "view",
    [
        *[of_job(job) for job in (ACCEPTED, RUNNING, FAILED, WITHOUT_LINK)],
        *[of_request(state) for state in (State.SENDING, State.UNKNOWN, State.NOT_SENT)],
        *[of_request(State.REFUSED), LOST],
    ],
    ids=lambda view: view.status,
)
def test_text_names_a_link_only_where_there_is_one(view: JobView) -> None:
    """ "The link expires" without a link sends a model looking for it (ours)."""
    words = text(result_of(view))

    assert "The link" not in words
    assert "Video:" not in words
    assert "save" not in words


@pytest.mark.parametrize(
    "view", [of_job(ACCEPTED), of_job(FAILED), LOST], ids=["running", "failed", "lost"]
)
def test_only_the_video_of_a_completed_job_expires(view: JobView) -> None:
    """A job that is not completed has no video whose link could expire (ours)."""
    result = result_of(view)

    assert (result.expires_at, result.expires_in_seconds) == (None, None)


def test_expired_link_has_no_seconds_left_and_a_next_step_of_its_own() -> None:
    """Negative seconds would be read as seconds (ours)."""
    late = results.job_result(of_job(DONE), now=NOW + timedelta(days=2))

    assert (late.video_url, late.expires_in_seconds) == (VIDEO, 0)
    assert late.next == result_of(LOOKS["completed, link expired"]).next
    assert late.next != result_of(LOOKS["completed"]).next


def test_next_step_without_an_expiry_date_differs() -> None:
    """1 h and 24 h have both been reported (vendor 2025, third party)."""
    assert result_of(LOOKS["completed, no expiry"]).next != result_of(LOOKS["completed"]).next


@pytest.mark.parametrize("name", ["completed, no link", "completed, link dropped"])
def test_completed_job_without_a_link_is_to_be_looked_at_again(name: str) -> None:
    """The job is paid: the next step is to look again, not to buy again (ours)."""
    result = result_of(LOOKS[name])

    assert (result.status, result.video_url) == ("completed", None)
    assert 'wait_for_job with job_id "job_1" again' in result.next


@pytest.mark.parametrize("state", [*STATES.values(), State.LOST])
@pytest.mark.parametrize("url", [None, VIDEO])
def test_note_about_what_was_left_out_is_always_in_the_message(
    state: State, url: str | None
) -> None:
    """Nothing of an answer of PixelDojo is dropped in silence (ours)."""
    noted = view_of_record(record(state, job_id="j", video_url=url, note="A part was damaged."))

    assert "A part was damaged." in result_of(noted).message


def test_elapsed_time_is_given_only_while_something_goes_on() -> None:
    """After the end of a job the time would go on and mean nothing (ours)."""
    unfinished = [of_job(RUNNING), of_request(State.SENDING), UNKNOWN]
    ended = [of_job(DONE), of_job(WITHOUT_LINK), of_job(FAILED), LOST, NOT_SENT, REFUSED]

    def elapsed(view: JobView) -> int | None:
        return result_of(after(view, 3.7)).elapsed_seconds

    assert {elapsed(view) for view in unfinished} == {3}
    assert {elapsed(view) for view in ended} == {None}


def test_time_of_a_job_from_elsewhere_is_not_guessed() -> None:
    """We know when we first saw it, not when it began (ours)."""
    foreign = after(of_job(RUNNING, dedupe_key=None, accepted_at=NOW), 3.7)

    assert result_of(foreign).elapsed_seconds is None
    assert not progress.progress_note(foreign).startswith("3 s")


def test_answer_about_a_running_job_repeats_the_error_of_a_failed_look() -> None:
    """And how old its facts are, because "running" may be out of date (ours)."""
    result = results.status_result(LOOKS["running, busy vendor"], now=NOW)
    last_error = LOOKS["running, busy vendor"].last_error

    assert last_error is not None
    assert last_error.what in result.message
    assert "20 s ago" in result.message


# Money


@pytest.mark.parametrize(
    ("name", "cost", "estimate"),
    [
        ("accepted", 10, None),
        ("accepted at another price", 10, 2),
        ("accepted, cost not reported", None, 2.5),
        ("accepted, nothing known of the cost", None, None),
    ],
)
def test_charged_job_has_the_figures_that_are_known(
    name: str, cost: float | None, estimate: float | None
) -> None:
    """The cost is absent from some vendor samples, and prices differ between pages (vendor)."""
    result = results.submit_result(SUBMITS[name], now=NOW)

    assert (result.charged, result.credit_cost, result.credit_estimate) == ("yes", cost, estimate)


def test_cost_that_differs_from_the_estimate_is_in_the_message() -> None:
    """The user agreed to another price (ours)."""
    same = results.submit_result(SUBMITS["accepted"], now=NOW)
    other = results.submit_result(SUBMITS["accepted at another price"], now=NOW)

    assert "price" in other.message
    assert "price" not in same.message


def test_balance_is_given_only_by_the_call_that_bought() -> None:
    """Only PixelDojo's answer to a submit has it; the ledger's figure is an old one (ours)."""
    assert result_of(of_job(ACCEPTED), bought=True).credits_remaining == 90.5
    assert result_of(of_job(ACCEPTED)).credits_remaining is None


@pytest.mark.parametrize("state", [State.NOT_SENT, State.REFUSED])
def test_request_that_cost_nothing_names_no_price(state: State) -> None:
    """ "Expected to cost 10" beside "not charged" would be read as a charge (ours)."""
    result = result_of(of_request(state, estimate=10))

    assert (result.credit_cost, result.credit_estimate) == (None, None)
    assert "credit" not in text(result)


# A request without a job


def test_request_on_its_way_may_have_been_charged() -> None:
    """After 4 s the submit answers so; a charge is possible by then (promises 4)."""
    assert set_fields(results.submit_result(SUBMITS["on its way"], now=NOW)) == {
        "job_id": SUBMISSION,
        "status": "submitting",
        "credit_estimate": 10,
        "seed": 7,
        "charged": "unknown",
        "job_charged": "unknown",
    }


def test_unknown_request_says_what_was_looked_for_and_who_may_know_more() -> None:
    """ "Unknown" is its own status, never a failure (promises 6)."""
    result = result_of(LOOKS["unknown"])

    assert (result.status, result.job_id, result.code) == ("unknown", SUBMISSION, None)
    assert UNKNOWN.record is not None
    assert str(UNKNOWN.record.error) in result.message
    assert str(UNKNOWN.record.findings) in result.message
    assert f'get_job_status with job_id "{SUBMISSION}"' in result.next


def test_request_that_was_not_sent_forgets_what_was_found_while_it_was_unknown() -> None:
    """That is out of date (ours)."""
    assert NOT_SENT.record is not None
    assert str(NOT_SENT.record.error) in result_of(NOT_SENT).message
    assert str(NOT_SENT.record.findings) not in result_of(NOT_SENT).message


@pytest.mark.parametrize(
    "words",
    [
        text(result_of(after(of_request(State.UNKNOWN), 1))),
        text(results.submit_result(SUBMITS["on its way"], now=NOW)),
        text(results.submit_result(SUBMITS["joined: on its way"], now=NOW)),
        text(results.list_result([of_request(State.UNKNOWN)])),
        text(failures.failure_result(OutcomeUnknown("It happened."))),
        text(failures.failure_result(FAILURES["answer lost by this call"])),
        text(failures.failure_result(FAILURES["equal request before: unknown"])),
    ],
    ids=["unknown", "submitting", "joined", "list", "class", "lost now", "lost before"],
)
def test_unknown_outcome_is_never_called_a_failure(words: str) -> None:
    """ "Failed" would make a model try again, and pay again (promises 6)."""
    assert "fail" not in words.lower()
    assert "error" not in words.lower()


# A request that joins another


@pytest.mark.parametrize("name", [name for name in SUBMITS if name.startswith("joined")])
def test_joined_call_bought_nothing_and_leads_to_the_first_job(name: str) -> None:
    """The message begins with that (promises 8)."""
    view = SUBMITS[name]
    result = results.submit_result(view, now=NOW)

    assert result.message.startswith("Nothing was bought by this call")
    assert (result.charged, result.job_id) == ("no", view.id)
    assert result.next == result_of(view).next


@pytest.mark.parametrize("query_differs", [False, True], ids=["the same", "another query"])
@pytest.mark.parametrize(
    "view",
    [of_request(State.SENDING), of_request(State.UNKNOWN), of_job(FAILED), LOST],
    ids=lambda view: view.status,
)
def test_another_seed_is_not_offered_before_the_first_job_is_known(
    view: JobView, query_differs: bool
) -> None:
    """A model that waits for a slow answer would take it for advice, and pay twice (ours)."""
    joined = replace(view, joined=True, query_differs=query_differs)

    assert "seed" not in results.submit_result(joined, now=NOW).message


def test_links_that_differ_in_their_query_are_pointed_out() -> None:
    """Two clips of one host may differ only there, so the model has to know (ours)."""
    same = results.submit_result(SUBMITS["joined: running"], now=NOW)
    other = results.submit_result(SUBMITS["joined: running, another query"], now=NOW)

    assert "?" in other.message
    assert "?" not in same.message


def test_call_that_bought_its_job_does_not_speak_of_another() -> None:
    """Each answer says whose purchase it is (ours)."""
    result = results.submit_result(of_job(ACCEPTED), now=NOW)

    assert result.charged == "yes"
    assert "bought" not in result.message


def test_id_of_a_job_that_could_not_be_recorded_is_to_be_kept() -> None:
    """Nobody else remembers a paid job when the disk was full (ours)."""
    result = results.submit_result(view_of_job(ACCEPTED), now=NOW)

    assert (result.charged, result.job_id) == ("yes", "job_1")
    assert "job_id" in result.message


def test_notes_about_the_inputs_are_in_the_message() -> None:
    """A preflight that refuses nothing may still have found something (ours)."""
    name = "accepted, with notes about the inputs"

    assert SUBMITS[name].notes[0] in results.submit_result(SUBMITS[name], now=NOW).message


# The saved file


def test_saved_video_out_of_reach_leaves_the_link() -> None:
    """A dead network drive, a folder that may not be read: the job is done all the same (ours)."""
    path = "/" + "x" * 5_000  # which no system looks up
    saved = of_job(DONE, saved_path=path, sha256="ab", size=7)
    result = result_of(without_unreachable_file(saved, local=True))

    assert (result.saved_path, result.sha256, result.size) == (None, None, None)
    assert result.video_url == VIDEO


def test_caller_elsewhere_sees_no_path_of_this_machine() -> None:
    """It could not use it; the size and the hash still describe the video (ours)."""
    saved = of_job(DONE, saved_path=__file__, sha256="ab", size=7)
    here = result_of(without_unreachable_file(saved, local=True))
    elsewhere = result_of(without_unreachable_file(saved, local=False))

    assert here.saved_path == __file__
    assert (elsewhere.saved_path, elsewhere.sha256, elsewhere.size) == (None, "ab", 7)


@pytest.mark.parametrize("place", [None, __file__, "s3://bucket/videos/job_1.mp4"])
def test_caller_elsewhere_sees_no_path_of_an_input(place: str | None) -> None:
    """A server over stdio may share the ledger; a path names its user, and much else (ours)."""
    order = {"video": "file:///home/ana/dance.mov#t=3", "character_image": "file:///home/ana/a.jpg"}
    hashes = {"video_sha256": "ab" * 32, "character_image_sha256": "cd" * 32}
    saved = of_job(DONE, saved_path=place, arguments={**order, **hashes, "seconds": 7})
    elsewhere = without_unreachable_file(saved, local=False)
    listed = results.list_result([elsewhere], now=NOW)
    looked_at = results.status_result(elsewhere, now=NOW)
    here = results.status_result(without_unreachable_file(saved, local=True), now=NOW)

    assert here.source_video is not None
    assert (looked_at.source_video, looked_at.video_duration) == (None, 7)
    for answer in (looked_at, listed):
        assert "ana" not in answer.model_dump_json() + text(answer)


# The list


def test_list_has_enough_of_each_job_to_recognise_it() -> None:
    """Its clip, its seed, its cost, when it was made (ours)."""
    made = NOW - timedelta(hours=1)
    listed = results.list_result(
        [
            of_request(State.UNKNOWN, seed=7, arguments={"video": CLIP}),
            of_job(DONE, seed=8, created_at=made, arguments={"video": CLIP}),
            of_job(
                RUNNING, dedupe_key=None, created_at=made, last_reply_at=NOW - timedelta(seconds=80)
            ),
        ],
        now=NOW,
    )

    assert listed.model_dump(exclude_none=True)["jobs"] == [
        {
            "job_id": SUBMISSION,
            "status": "unknown",
            "made_at": "2026-11-23T11:55:00+00:00",
            "source_video": CLIP,
            "resolution": "480",
            "seed": 7,
            "job_charged": "unknown",
        },
        {
            "job_id": "job_1",
            "status": "completed",
            "made_at": "2026-11-23T11:00:00+00:00",
            "source_video": CLIP,
            "resolution": "480",
            "seed": 8,
            "credit_cost": 2.5,
            "job_charged": "yes",
            "video_url": VIDEO,
            "expires_in_seconds": 86_285,
        },
        {
            "job_id": "job_1",
            "status": "running",
            "heard_seconds_ago": 80,
            "made_at": "2026-11-23T11:00:00+00:00",
            "job_charged": "yes",
        },
    ]


@pytest.mark.parametrize(
    ("held", "tools"),
    [
        ([of_job(DONE), of_job(RUNNING)], ['wait_for_job with job_id "job_1"']),
        ([of_request(State.SENDING)], [f'wait_for_job with job_id "{SUBMISSION}"']),
        (
            [of_job(DONE), of_request(State.UNKNOWN)],
            [f'get_job_status with job_id "{SUBMISSION}"'],
        ),
        ([of_job(DONE)], ["get_job_status with a job_id"]),
        ([], ["replace_character"]),
    ],
    ids=["running", "submitting", "unknown", "ended", "empty"],
)
def test_next_step_of_a_list_fits_what_it_holds(held: list[JobView], tools: list[str]) -> None:
    """It is a call that can be made as it stands there, with the id in it (ours)."""
    step = results.list_result(held).next

    assert [tool for tool in tools if tool in step] == tools


def test_empty_list_of_a_status_leads_to_the_other_jobs() -> None:
    """Not to a purchase: there may be jobs of another status (ours)."""
    step = results.list_result([], status=JobStatus.FAILED).next

    assert "status" in step
    assert "replace_character" not in step


@pytest.mark.parametrize(
    ("job", "fields", "age"),
    [
        (RUNNING, {"last_reply_at": NOW - timedelta(seconds=15)}, None),
        (RUNNING, {"last_reply_at": NOW - timedelta(seconds=16)}, 16),
        (RUNNING, {"accepted_at": NOW - timedelta(seconds=80)}, 80),
        (DONE, {"last_reply_at": NOW - timedelta(hours=1)}, None),
    ],
    ids=["fresh", "old", "never looked at", "ended"],
)
def test_age_of_the_facts_is_given_for_running_jobs_only(
    job: Job, fields: dict[str, datetime], age: int | None
) -> None:
    """A job that nobody waits for may have ended long ago; an end is final (ours)."""
    (line,) = results.list_result([of_job(job, **fields)], now=NOW).jobs or []

    assert line.heard_seconds_ago == age


def test_list_cuts_ended_jobs_and_says_that_there_are_older_ones() -> None:
    """The one beyond the limit only shows that there is more; no live job is cut (ours)."""
    held = [
        of_job(DONE, submission_id="sub_1"),
        of_job(FAILED),
        of_job(RUNNING),
        of_request(State.UNKNOWN),
    ]
    cut = results.list_result(held, limit=1)
    whole = results.list_result(held, limit=2)

    assert [line.status for line in cut.jobs or []] == ["completed", "running", "unknown"]
    assert "older" in cut.message
    assert len(whole.jobs or []) == 4
    assert "older" not in whole.message


PAGES = [
    # live and ended records, the limit; rows of the page, and the last of them if there are more
    pytest.param(0, 3, 3, 3, None, id="all on one page"),
    pytest.param(0, 4, 3, 3, "ended.sub_done2", id="more ended ones"),
    pytest.param(2, 4, 3, 5, "ended.sub_done2", id="live ones besides"),
    pytest.param(48, 4, 3, 50, "ended.sub_done1", id="room for two ended ones"),
    pytest.param(50, 0, 3, 50, None, id="nothing but live ones"),
    pytest.param(50, 1, 3, 50, "open.sub_live49", id="no room for ended ones"),
    pytest.param(51, 1, 3, 50, "open.sub_live49", id="more live ones"),
]


@pytest.mark.parametrize(("live", "ended", "limit", "rows", "cursor"), PAGES)
def test_cursor_leads_behind_the_last_row_and_the_next_step_names_it(
    live: int, ended: int, limit: int, rows: int, cursor: str | None
) -> None:
    """Behind a live row the other live ones come first: none may stay unseen (ours)."""
    held = [of_request(State.UNKNOWN, submission_id=f"sub_live{n}") for n in range(live)]
    held += [of_job(DONE, submission_id=f"sub_done{n}") for n in range(ended)]
    page = results.list_result(held, limit=limit)

    assert len(page.jobs or []) == rows
    assert page.next_cursor == cursor
    assert (cursor is None) == ("For older jobs call list_jobs" not in page.next)
    assert cursor is None or f'with cursor "{cursor}"' in page.next


def test_list_has_the_totals_of_all_jobs() -> None:
    """Whatever the page shows; what has no known cost is counted and not guessed (ours)."""
    known = results.list_result([of_job(DONE)], Totals(9, 10.0, 92.5, 0))
    partly = results.list_result([], Totals(9, 0.0, 92.5, 1))

    assert (known.total_jobs, known.credits_spent_24h, known.credits_spent) == (9, 10.0, 92.5)
    assert known.jobs_without_cost is None
    assert "In all: 9 jobs. Spent: 10 credits in the last 24 hours, 92.5 in all.\n" in text(known)
    assert partly.jobs_without_cost == 1
    assert "92.5 in all, without 1 job whose cost is not known." in text(partly)


def test_empty_list_is_an_answer_too() -> None:
    """A list is read to learn whether something was bought (ours)."""
    empty = results.list_result([]).model_dump(exclude={"message", "next"}, exclude_none=True)

    assert empty == {"jobs": [], "charged": "no"}


def test_row_tells_jobs_apart_and_where_the_video_is() -> None:
    """Two rows that differ in nothing cannot be chosen from (ours)."""
    order: dict[str, str | int | bool] = {
        "video": CLIP,
        "character_image": "https://cdn.example.com/face.png",
        "seconds": 7,
        "resolution": "720",
    }
    views = [
        of_job(DONE, arguments=order),
        of_job(DONE, arguments={**order, "seconds": 5}, **SAVED),
        of_job(DONE, arguments={"video": CLIP, "seconds": 5}),
        of_job(DONE, dedupe_key=None),
    ]
    linked, saved, plain, foreign = results.list_result(views).jobs or []

    assert (linked.character_image, linked.video_duration, linked.resolution) == (
        *("https://cdn.example.com/face.png", 7),
        "720",
    )
    assert (linked.video_url, linked.saved_path) == (VIDEO, None)
    assert (saved.video_url, saved.saved_path) == (None, SAVED["saved_path"])
    assert (plain.character_image, plain.resolution) == (None, "480")
    assert (foreign.video_duration, foreign.resolution) == (None, None)


@pytest.mark.parametrize(
    "hidden",
    ["\u3164", "\u115f", "\u2800", "\ufe0f", "\U000e0100", "\U000e1234", "\u202e", " ", '"'],
)
def test_link_is_shown_in_ascii_wherever_it_stands(hidden: str) -> None:
    """What is invisible in a link could spell a sentence for a model (observed elsewhere)."""
    link = f"https://temp.pixeldojo.ai/films/{hidden}1.mp4?a=%20b&c=d"
    job = of_job(DONE.model_copy(update={"video_url": link}), arguments={"video": link})
    result = result_of(job)
    (line,) = results.list_result([job]).jobs or []

    status = results.status_result(job, now=NOW)

    for shown, original in (
        (result.video_url, link),
        (line.video_url, link),
        (line.source_video, link.partition("?")[0]),
        (status.source_video, link.partition("?")[0]),
    ):
        assert shown is not None
        assert shown.isascii()
        assert hidden not in shown
        assert unquote(shown) == unquote(original)
    assert text(result).isascii()


@pytest.mark.parametrize("link", [f"{CLIP}?X-Sig=secret", f"{CLIP}#secret", f"{CLIP} ?a=secret"])
def test_query_of_an_input_is_in_no_answer(link: str) -> None:
    """It may be a signature. A record keeps none; an answer would show none if it did (ours)."""
    job = of_job(DONE, arguments={"video": link, "character_image": link, "seconds": 5})
    looked_at = results.status_result(job, now=NOW)
    listed = results.list_result([job], now=NOW)

    assert unquote(looked_at.source_video or "").strip() == CLIP
    for answer in (looked_at, listed):
        assert "secret" not in answer.model_dump_json()
        assert "secret" not in text(answer)


PATHS = [
    ("file:///home/ana/My%20dance.mov#t=12,17", "/home/ana/My dance.mov#t=12,17"),
    ("file:///home/ana/V%C3%ADdeo.mov", "/home/ana/V\u00eddeo.mov"),
    ("file:///home/ana/%23t=3.mov", "/home/ana/#t=3.mov"),
    ("file:///home/ana/%E3%85%A4.mov", "file:///home/ana/%E3%85%A4.mov"),
    ("file:///home/ana/%E2%80%AEa.mov", "file:///home/ana/%E2%80%AEa.mov"),
    ("file:///home/ana/%FF.mov", "file:///home/ana/%FF.mov"),
    ("file://relative", "file://relative"),
    ("wan://jobs/job_7f3a/video#t=3", "wan://jobs/job_7f3a/video#t=3"),
]


@pytest.mark.skipif(sys.platform == "win32", reason="the paths are those of POSIX")
@pytest.mark.parametrize(("kept", "shown"), PATHS)
def test_file_is_shown_by_the_path_that_its_user_knows(kept: str, shown: str) -> None:
    """Without its hash; a name that cannot be seen stays a URI (ours)."""
    order = {"video": kept, "video_sha256": "ab" * 32, "character_image": IMAGE, "seconds": 5}
    job = of_job(RUNNING, arguments=order)
    looked_at = results.status_result(job, now=NOW)
    listed = results.list_result([job], now=NOW)

    assert looked_at.source_video == (listed.jobs or [])[0].source_video == shown
    assert f"from {shown}" in text(looked_at)
    for answer in (looked_at, listed):
        assert "abab" not in answer.model_dump_json() + text(answer)


def test_request_whose_files_are_uploaded_says_how_far_it_is() -> None:
    """In the message, so that every host shows it, and to who waits (ours)."""
    view = replace(
        of_request(State.INTENT), progress=InputProgress(Phase.UPLOADING, 40 * MB, 120 * MB)
    )
    result = results.submit_result(view, now=NOW)

    assert "uploading, 40 of 120 MB, nothing charged yet" in result.message
    assert "on its way" not in result.message
    assert "40 of 120 MB" in progress.progress_note(view)
    assert (result.status, result.charged) == ("submitting", "unknown")
    assert "Charged by this call: not known yet." in text(result)
    assert "Do not call replace_character again" in result.next


def test_what_was_changed_in_the_inputs_is_said_with_the_job_and_with_its_end() -> None:
    """Once in each of the two answers, and not at every look in between (ours)."""
    notes = "The clip was cut to 5 s from 0:12; its location data was removed."
    order = {"video": "file:///a.mov", "sent_notes": notes}
    running, done = of_job(RUNNING, arguments=order), of_job(DONE, arguments=order)

    for answer in (results.submit_result(running, now=NOW), results.status_result(done, now=NOW)):
        assert answer.message.count(notes) == text(answer).count(notes) == 1
    assert notes not in results.status_result(running, now=NOW).message


def test_one_look_shows_what_the_job_was_made_from() -> None:
    """The same as in the row of a list; the call that pays leaves it out (ours)."""
    order: dict[str, str | int | bool] = {"video": CLIP, "character_image": IMAGE, "seconds": 7}
    job = of_job(RUNNING, arguments=order, seed=71)
    looked_at = results.status_result(job, now=NOW)
    (row,) = results.list_result([job], now=NOW).jobs or []
    elsewhere = results.status_result(of_job(RUNNING, dedupe_key=None), now=NOW)
    names = ("source_video", "character_image", "video_duration", "resolution", "seed")

    assert [getattr(looked_at, name) for name in names] == [CLIP, IMAGE, 7, "480", 71]
    assert [getattr(row, name) for name in names] == [CLIP, IMAGE, 7, "480", 71]
    assert f"Ordered: 7 s, 480 lines, from {CLIP}, with {IMAGE}." in text(looked_at)
    assert "Ordered" not in text(elsewhere)
    assert results.submit_result(job, now=NOW).source_video is None


def test_ordinary_link_is_shown_as_it_is() -> None:
    """A signature must not change (ours)."""
    link = "https://a.example:8443/p/(x)~y;v=1,2/f.mp4?X-Sig=aZ%2F+09%3D&e=1#t=0,5"

    assert ascii_link(link) == link
    assert ascii_link(None) is None


def test_row_stays_short_whatever_its_links_are() -> None:
    """Links of 8,192 characters are accepted, and a list has up to 50 rows (ours)."""
    long = f"https://cdn.example.com/{'a' * 8_000}"
    job = DONE.model_copy(update={"video_url": long})
    order: dict[str, str | int | bool] = {"video": long, "character_image": long, "seconds": 5}
    (line,) = results.list_result([of_job(job, arguments=order)]).jobs or []

    assert line.source_video is not None
    assert line.source_video.endswith("...")
    assert line.video_url is None
    assert len(line.model_dump_json()) < 1_000


def test_answer_has_at_most_50_rows_and_counts_the_rest() -> None:
    """A thousand requests of unknown outcome would fill a conversation (ours)."""
    ended = [of_job(DONE.model_copy(update={"job_id": f"done_{n}"})) for n in range(5)]
    unknown = [of_request(State.UNKNOWN, submission_id=f"sub_{n}") for n in range(1_000)]
    many = results.list_result([*ended, *unknown], limit=10)
    few = results.list_result([*ended, *unknown[:48]], limit=10)

    assert {line.status for line in many.jobs or []} == {JobStatus.UNKNOWN}
    assert len(many.jobs or []) == 50
    assert "950 older requests under way or of unknown outcome are not shown" in many.message
    assert [line.job_id for line in few.jobs or []][:3] == ["done_0", "done_1", "sub_0"]
    assert len(few.jobs or []) == 50
    assert "there are older ones" in few.message
    assert "not shown" not in few.message


@pytest.mark.parametrize(
    ("view", "charged"),
    [
        (SUBMITS["on its way"], "unknown"),
        (SUBMITS["joined: running"], "yes"),
        (LOOKS["completed"], "yes"),
        (LOOKS["failed"], "yes"),
        (LOOKS["failed, no cost"], "unknown"),
        (LOOKS["lost"], "unknown"),
        (LOOKS["lost, cost named"], "yes"),
        (replace(SUBMITS["joined: running"], end_is_unconfirmed=True), "unknown"),
        (LOOKS["unknown"], "unknown"),
        (LOOKS["not sent"], "no"),
        (LOOKS["refused"], "no"),
        (of_job(DONE.model_copy(update={"credit_cost": 0})), "no"),
    ],
)
def test_one_look_tells_whether_the_job_cost_credits(view: JobView, charged: str) -> None:
    """A look is free, and `charged: no` was read as "the failed job was free" (ours)."""
    result = result_of(view)

    assert (result.charged, result.job_charged) == ("no", charged)
    known = "not known yet" if result.status == "submitting" else charged
    assert f"Charged for the job: {known}." in text(result)


@pytest.mark.parametrize(
    ("cost", "unconfirmed", "charged"),
    [
        *[(10, False, "yes"), (10, True, "yes"), (None, False, "yes"), (None, True, "unknown")],
        *[(0, False, "no"), (0, True, "no")],
    ],
)
def test_call_that_bought_a_job_says_of_itself_what_it_says_of_the_job(
    cost: float | None, unconfirmed: bool, charged: str
) -> None:
    """A free job is not charged by its call; an answer that it failed proves no charge (ours)."""
    bought = of_job(ACCEPTED.model_copy(update={"credit_cost": cost}))
    result = results.submit_result(replace(bought, end_is_unconfirmed=unconfirmed), now=NOW)

    assert (result.charged, result.job_charged) == (charged, charged)


@pytest.mark.parametrize("name", ["failed, no cost", "lost"])
def test_job_without_a_video_or_a_named_cost_is_not_said_to_be_paid(name: str) -> None:
    """What becomes of the charge is not documented (vendor)."""
    said = text(result_of(LOOKS[name]))

    assert "Charged for the job: unknown. PixelDojo named no cost" in said
    assert "was paid" not in said
    assert "expected to cost" not in said


# A call that failed


FIGURES = {
    "LimitReached: in flight": {
        "limit": "WAN_MCP_MAX_IN_FLIGHT",
        "limit_value": 2,
        "used": 2,
        "blocking_job_ids": ["job_1", "job_2"],
    },
    "LimitReached: a minute": {
        "limit": "WAN_MCP_MAX_SUBMITS_PER_MINUTE",
        "limit_value": 6,
        "used": 6,
    },
    "LimitReached: a day": {
        "limit": "WAN_MCP_MAX_CREDITS_PER_DAY",
        "limit_value": 200,
        "used": 197.5,
    },
    "LimitReached: a job": {"limit": "WAN_MCP_MAX_CREDITS_PER_JOB", "limit_value": 9, "used": 10},
}


@pytest.mark.parametrize("name", FAILURES)
def test_call_that_may_be_repeated_soon_says_in_how_many_seconds(name: str) -> None:
    """A loop needs a figure, and must not wait in it for what takes hours (ours)."""
    result = failures.failure_result(FAILURES[name])

    assert not result.retry_safe or 1 <= (result.retry_after_seconds or 0) <= 120
    assert result.retry_safe == (name in SAFE_SOON)


SAFE_SOON = {
    *("RateLimited", "NotSent", "CouldNotFindOut", "Busy", "LimitReached: a minute", "PriceRose"),
    f"equal request before: {State.NOT_SENT}",
}


@pytest.mark.parametrize("name", FAILURES)
def test_failed_call_has_only_the_fields_of_a_failure(name: str) -> None:
    """A status or a cost beside a failed call would be read as the job's (ours)."""
    failure = FAILURES[name]
    expected = {
        "job_id": failure.job_id,
        "charged": failure.charged,
        "job_charged": failure.job_id and ("unknown" if "unknown" in failure.code else "no"),
        "retry_safe": failure.retry_safe,
        "retry_after_seconds": failure.wait_seconds,
        "code": failure.code,
        **FIGURES.get(name, {}),
    }
    result = failures.failure_result(failure)

    assert set_fields(result) == {
        key: value for key, value in expected.items() if value is not None
    }
    assert (result.message, result.next) == (failure.what, failure.next_step)


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (State.NOT_SENT, "not_sent"),
        (State.REFUSED, "rejected"),
        (State.UNKNOWN, "outcome_unknown"),
    ],
)
def test_equal_request_before_leads_to_its_submission_and_charges_nothing(
    state: State, code: str
) -> None:
    """Another process sent it, or an earlier call did (ours)."""
    failure = FAILURES[f"equal request before: {state}"]

    assert (failure.code, failure.job_id, failure.charged) == (code, SUBMISSION, "no")
    assert "11:55 UTC" in failure.what
    assert "No network." in failure.what


def test_lost_answer_leads_to_the_free_look() -> None:
    """The next step is get_job_status, not another purchase (promises 6)."""
    result = failures.failure_result(FAILURES["answer lost by this call"])

    assert (result.job_id, result.charged, result.retry_safe) == (SUBMISSION, "unknown", False)
    assert f'get_job_status with job_id "{SUBMISSION}"' in result.next


@pytest.mark.parametrize("paid", [True, False])
def test_defect_of_a_paid_tool_may_have_been_charged(paid: bool) -> None:
    """Its request may have been sent before the defect (ours)."""
    result = failures.defect_result("a_tool", paid=paid)

    assert (result.charged, result.retry_safe) == (("unknown", False) if paid else ("no", True))
    assert result.retry_after_seconds == (None if paid else 10)
    assert result.code == "internal_error"


# Progress


@pytest.mark.parametrize("name", PROGRESS)
def test_progress_gives_the_elapsed_time_where_it_is_known(name: str) -> None:
    """Elapsed and usual times, no invented percentage (vendor, third party)."""
    note = progress.progress_note(PROGRESS[name])
    is_known = name not in {
        *("nothing known yet, busy vendor", "running, age not known", "running, from elsewhere"),
    }

    assert note.startswith("5 s: ") == is_known
    assert ("Still waiting." in note) == ("busy" in name)


def test_progress_uses_the_typical_duration_of_this_account() -> None:
    """As soon as there are enough jobs to know it (ours)."""
    assert "2 min 10 s" in progress.progress_note(PROGRESS["running"], 130)
    assert "2 min 10 s" not in progress.progress_note(PROGRESS["completed"], 130)


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
    video_url=st.none() | st.just(VIDEO),
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
VIEWS = st.builds(view_of_record, WITH_JOB | WITHOUT_JOB)


@patient
@given(view=VIEWS, bought=st.booleans(), elapsed=st.none() | st.floats(0, 1e6))
def test_every_view_is_answered_with_its_money_and_its_next_step(
    view: JobView, bought: bool, elapsed: float | None
) -> None:
    """Whatever the ledger holds (ours)."""
    result = result_of(replace(view, elapsed_seconds=elapsed), bought=bought)
    record = view.record

    assert record is not None
    assert (result.job_id, result.status) == (view.id, view.status)
    assert result.charged == (result.job_charged if bought else "no")
    assert (result.credit_cost, result.seed) == (record.credit_cost, record.seed)
    assert result.video_url == record.video_url
    assert (result.error is not None) == bool(record.error and record.state is State.FAILED)
    assert (record.note or "") in result.message
    assert view.status in NOTHING_TO_EXPLAIN or view.why in result.message
    assert view.id in result.next or view.settled


@patient
@given(view=VIEWS, joined=st.booleans())
def test_data_has_no_nulls_and_reads_back(view: JobView, joined: bool) -> None:
    """A null would break the published schema (ours)."""
    for result in (
        results.submit_result(replace(view, joined=joined), now=NOW),
        results.list_result([view]),
    ):
        data = result.model_dump(exclude_none=True)

        assert None not in data.values()
        assert type(result).model_validate(data).model_dump(exclude_none=True) == data
