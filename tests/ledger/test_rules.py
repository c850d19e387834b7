"""The decisions about records, as tables: no store, no clock."""

from datetime import datetime, timedelta

import pytest

from tests.ledger.stores import ME, START, WANTED, reported, wanted
from wan_mcp.ledger import rules
from wan_mcp.ledger.coordination import Limit, Role
from wan_mcp.ledger.fingerprint import fingerprint_of
from wan_mcp.ledger.record import ENDED, UNSETTLED, ListReading, Record, State
from wan_mcp.models import JobStatus

OWNER = "the process that made the record"
OTHER = "another process"
MINUTE = 60.0
GAP = rules.PROOF_GAP_SECONDS


def record_in(state: State, **fields: object) -> Record:
    known: dict[str, object] = {
        "submission_id": "sub_1",
        "account": ME,
        "state": state,
        "dedupe_key": "key",
        "owner": OWNER,
        "created_at": START,
    }
    return Record.model_validate(known | fields)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


# Changes of state


@pytest.mark.parametrize("me", [OWNER, OTHER])
@pytest.mark.parametrize("target", sorted(rules.MAY_FOLLOW))
@pytest.mark.parametrize("state", State)
def test_a_state_is_entered_from_the_listed_ones_only(state: State, target: State, me: str) -> None:
    """While a request is under way, that holds for its owner alone (promises 9)."""
    permitted = state in rules.MAY_FOLLOW[target] and (me == OWNER or state not in UNSETTLED)

    assert rules.may_enter(record_in(state), target, me) is permitted


def test_nothing_enters_the_state_in_which_a_request_was_never_sent_after_an_answer() -> None:
    """A paid job must not become free of charge again (promises 6)."""
    paid = ENDED | {State.ACCEPTED}

    assert not paid & rules.MAY_FOLLOW[State.NOT_SENT]
    assert not paid & rules.MAY_FOLLOW[State.REFUSED]


def test_the_commit_point_is_dated() -> None:
    """Its date is that of the last moment at which nothing could have been charged (promises 2)."""
    sending = rules.sending(record_in(State.INTENT), after(3))

    assert (sending.state, sending.sent_at) == (State.SENDING, after(3))


@pytest.mark.parametrize("state", sorted(set(State) - ENDED))
def test_a_job_is_accepted_from_every_state_that_is_no_end(state: State) -> None:
    """Its id is paid for; why the request seemed to have failed is no longer true."""
    before = record_in(
        state, error="no answer", ended_at=after(1), next_check_at=after(2), sent_at=after(1)
    )
    accepted = rules.accepted(before, reported(credit_cost=2), after(9))

    assert (accepted.state, accepted.job_id, accepted.credit_cost) == (State.ACCEPTED, "job-1", 2)
    assert (accepted.sent_at, accepted.accepted_at) == (after(1), after(9))
    assert (accepted.ended_at, accepted.error, accepted.next_check_at) == (None, None, None)


def test_a_job_of_a_request_without_a_date_of_sending_was_sent_by_now() -> None:
    """The store may have lost the commit that dated it."""
    assert rules.accepted(record_in(State.INTENT), reported(), after(9)).sent_at == after(9)


def test_an_answer_with_a_completed_job_ends_the_record() -> None:
    """The record is accepted and ended at the same moment (assumed)."""
    job = reported(JobStatus.COMPLETED, video_url="https://temp.example/film.mp4#t")
    accepted = rules.accepted(record_in(State.SENDING, error="no answer"), job, after(9))

    assert (accepted.state, accepted.accepted_at) == (State.COMPLETED, after(9))
    assert (accepted.ended_at, accepted.error) == (after(9), None)
    assert accepted.video_url == "https://temp.example/film.mp4"


def test_an_answer_with_a_failed_job_is_the_first_report_of_its_end() -> None:
    """The answer to the paid request is one reading, and one reading ends nothing."""
    job = reported(JobStatus.FAILED, error="no face")
    accepted = rules.accepted(record_in(State.SENDING), job, after(9))
    confirmed = rules.updated(accepted, job, after(9 + rules.CONFIRM_SECONDS))

    assert (accepted.state, accepted.end_reported_at) == (State.ACCEPTED, after(9))
    assert confirmed is not None
    assert (confirmed.state, confirmed.error) == (State.FAILED, "no face")


def test_a_record_beside_its_equal_has_a_dedupe_key_of_its_own() -> None:
    """Under one key only one record may be live, and both are paid (promises 9)."""
    keys = {
        rules.beside_its_equal(record_in(State.ACCEPTED, submission_id=name)).dedupe_key
        for name in ("sub_1", "sub_2")
    }

    assert len(keys - {"key", None}) == 2


@pytest.mark.parametrize("state", sorted(rules.CONCLUSIONS))
def test_a_conclusion_has_a_reason_and_an_end_or_a_next_check(state: State) -> None:
    """Only an unknown outcome is still open: it is looked up, at once at first (promises 7)."""
    concluded = rules.concluded(
        record_in(State.SENDING), state, "at https://a.example/x?key=k", after(9)
    )

    assert (concluded.state, concluded.error) == (state, "at https://a.example/x")
    dates = (concluded.ended_at, concluded.next_check_at)
    assert dates == ((None, after(9)) if state is State.UNKNOWN else (after(9), None))


@pytest.mark.parametrize(
    ("left", "becomes"),
    [(State.INTENT, State.NOT_SENT), (State.SENDING, State.UNKNOWN)],
)
def test_a_dead_process_leaves_what_its_commit_point_proves(left: State, becomes: State) -> None:
    """Before the commit point nothing was sent; after it the outcome is unknown (promises 9)."""
    settled = rules.abandoned(record_in(left), after(9))

    assert settled.state is becomes
    assert settled.error
    assert (settled.next_check_at is not None) is (becomes is State.UNKNOWN)


# Readings of a job


@pytest.mark.parametrize("status", [JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.FAILED])
@pytest.mark.parametrize("state", [State.ACCEPTED, *sorted(ENDED)])
def test_an_end_is_final_and_a_lost_job_may_still_end(state: State, status: JobStatus) -> None:
    """Our own conclusion that a job is lost gives way to an end that PixelDojo reports twice."""
    ended_at = None if state is State.ACCEPTED else START
    before = record_in(state, job_id="job-1", ended_at=ended_at, end_reported_at=START)
    updated = rules.updated(before, reported(status), after(9))

    if state is State.ACCEPTED or (state is State.LOST and status is not JobStatus.RUNNING):
        assert updated is not None
        running = status is JobStatus.RUNNING
        assert updated.state == (State.ACCEPTED if running else status)
        assert updated.ended_at == (None if running else after(9))
    elif state.value == status.value:
        assert updated is not None
        assert (updated.state, updated.ended_at) == (state, START)
    else:
        assert updated is None


def test_a_lost_job_that_ends_loses_the_reason_of_its_loss() -> None:
    """A completed job with an error text would look like a failure."""
    lost = rules.concluded(record_in(State.ACCEPTED), State.LOST, "404 three times", after(3))
    lost = lost.model_copy(update={"end_reported_at": after(4)})
    completed = rules.updated(lost, reported(JobStatus.COMPLETED), after(9))
    failed = rules.updated(lost, reported(JobStatus.FAILED, error="no face"), after(9))

    assert completed is not None
    assert failed is not None
    assert (completed.error, failed.error) == (None, "no face")


def test_a_reading_dates_itself_and_clears_the_last_error() -> None:
    """PixelDojo has answered, so what failed before is over."""
    before = record_in(State.ACCEPTED, last_error="no answer", last_error_code="unauthorized")
    updated = rules.updated(before, reported(), after(9))

    assert updated is not None
    assert (updated.last_polled_at, updated.last_reply_at) == (after(9), after(9))
    assert (updated.last_error, updated.last_error_code) == (None, None)


def test_what_a_reading_leaves_out_stays_as_it_was() -> None:
    """Only the answer to a request contains the balance; a cost of 0 is a cost."""
    before = record_in(
        State.ACCEPTED, job_id="job-1", credits_remaining=98, credit_cost=2, vendor_status="queued"
    )
    updated = rules.updated(before, reported(credit_cost=0), after(9))

    assert updated is not None
    assert (updated.credits_remaining, updated.credit_cost) == (98, 0)
    assert updated.vendor_status == "queued"


def read(record: Record, *readings: tuple[float, JobStatus], **facts: object) -> Record:
    """The record after readings of its job at these seconds."""
    for moment, status in readings:
        record = rules.updated(record, reported(status, **facts), after(moment)) or record
    return record


RUNS, FAILS = JobStatus.RUNNING, JobStatus.FAILED


@pytest.mark.parametrize(
    ("readings", "state"),
    [
        ([(0, FAILS)], State.ACCEPTED),
        ([(0, FAILS), (rules.CONFIRM_SECONDS - 0.1, FAILS)], State.ACCEPTED),
        ([(0, FAILS), (rules.CONFIRM_SECONDS, FAILS)], State.FAILED),
        ([(0, FAILS), (2, FAILS), (4, FAILS), (6, FAILS)], State.FAILED),
        ([(0, FAILS), (3, RUNS), (6, FAILS)], State.ACCEPTED),
        ([(0, FAILS), (3, RUNS), (6, FAILS), (11, FAILS)], State.FAILED),
        ([(100, FAILS), (0, FAILS)], State.ACCEPTED),
        ([(100, FAILS), (0, FAILS), (rules.CONFIRM_SECONDS, FAILS)], State.FAILED),
    ],
    ids=str,
)
def test_an_end_without_a_video_needs_a_second_reading_some_seconds_later(
    readings: list[tuple[float, JobStatus]], state: State
) -> None:
    """After one odd answer the equal call would be paid again. A clock may be set back."""
    assert read(record_in(State.ACCEPTED), *readings).state is state


def test_an_unconfirmed_end_leaves_the_job_running() -> None:
    """It has no date of its end, and PixelDojo's word for it is kept."""
    record = read(record_in(State.ACCEPTED), (3, FAILS), vendor_status="expired", error="late")

    assert (record.end_is_unconfirmed, record.end_reported_at) == (True, after(3))
    assert (record.ended_at, record.vendor_status) == (None, "expired")


@pytest.mark.parametrize("state", [State.ACCEPTED, State.FAILED, State.LOST])
def test_a_video_wins_over_any_failure(state: State) -> None:
    """A paid video exists, whatever was reported before; no reason of a failure is left."""
    before = record_in(state, ended_at=START, end_reported_at=START, error="no face")
    completed = read(before, (9, JobStatus.COMPLETED), video_url="https://temp.example/film.mp4")

    assert (completed.state, completed.ended_at) == (State.COMPLETED, after(9))
    assert (completed.error, completed.end_reported_at) == (None, None)


def test_a_confirmed_failure_needs_a_video_to_be_taken_back() -> None:
    """The word alone brings nobody anything, and would keep an equal call from a new job."""
    failed = record_in(State.FAILED, ended_at=START)

    assert rules.updated(failed, reported(JobStatus.COMPLETED), after(9)) is None


def test_a_report_of_a_failure_that_was_taken_back_leaves_no_reason() -> None:
    """A running job with an error text would look like a failure."""
    failed = rules.updated(record_in(State.ACCEPTED), reported(FAILS, error="odd"), after(1))
    assert failed is not None
    running = rules.updated(failed, reported(), after(2))

    assert running is not None
    assert (failed.error, running.error, running.end_reported_at) == ("odd", None, None)


@pytest.mark.parametrize("state", [State.ACCEPTED, State.FAILED])
def test_a_merged_record_keeps_what_was_known_of_the_end_and_confirms_nothing(
    state: State,
) -> None:
    """A reading that is copied from one record to another is still one reading."""
    seen = record_in(state, job_id="job-1", end_reported_at=START, error="no face")
    ours = record_in(State.ACCEPTED, job_id="job-1")
    merged = rules.absorbed(ours, seen, after(60))

    assert (merged.state, merged.end_reported_at, merged.error) == (state, START, "no face")
    assert merged.ended_at == (after(60) if state is State.FAILED else None)


# Readings of the job list


def checked_at(*moments: float, reading: ListReading = ListReading.SHOWS_ABSENCE) -> Record:
    """A request of unknown outcome, after readings at these seconds after its sending."""
    record = record_in(State.UNKNOWN, sent_at=START)
    for moment in moments:
        record = rules.checked(record, "not there", None, after(moment), reading)
    return record


@pytest.mark.parametrize(
    ("moments", "readings"),
    [
        ([], 0),
        ([3], 1),
        ([3, 15, 60], 1),
        ([3, 3 + GAP - 1], 1),
        ([3, 3 + GAP], 2),
        ([3, 100, 200, 300, 400], 3),
        ([0, GAP, 2 * GAP], 3),
        ([100, 99], 1),
        ([3600, 10, 20], 1),
        ([3600, 10, 10 + GAP], 2),
    ],
)
def test_readings_that_are_close_together_count_once(moments: list[float], readings: int) -> None:
    """Several processes that read at one moment have seen one list (promises 7)."""
    record = checked_at(*moments)

    assert (record.checks, record.proof_readings) == (len(moments), readings)


def test_a_list_that_could_not_be_read_proves_nothing() -> None:
    """An outage is no proof that there is no job (promises 7)."""
    record = checked_at(0, GAP, 2 * GAP, reading=ListReading.FAILED)

    assert (record.checks, record.proof_readings, record.proof_at) == (0, 0, None)
    assert record.checked_at == after(2 * GAP)


def test_a_check_records_its_findings_and_the_next_date() -> None:
    """The findings may quote an error, whose URLs lose their queries."""
    record = record_in(State.UNKNOWN)
    checked = rules.checked(
        record, "https://a.example/x?key=k", 15, after(3), ListReading.INCONCLUSIVE
    )
    on_demand = rules.checked(record, "", None, after(3), ListReading.INCONCLUSIVE)

    assert (checked.findings, checked.next_check_at) == ("https://a.example/x", after(18))
    assert on_demand.next_check_at is None


@pytest.mark.parametrize(
    ("moments", "now", "proven"),
    [
        ([3, 600], 20 * MINUTE, True),
        ([3, 600], 20 * MINUTE - 1, False),
        ([3], 30 * MINUTE, False),
        ([], 30 * MINUTE, False),
        ([3, 600], 600 + GAP, False),
        ([3, 20 * MINUTE], 20 * MINUTE + GAP - 1, False),
        ([3, 20 * MINUTE], 20 * MINUTE + GAP, True),
        ([3, 600, 900], 900 + MINUTE, False),
        ([3, 600, 20 * MINUTE], 20 * MINUTE + 1, True),
        ([25 * MINUTE, 28 * MINUTE], 31 * MINUTE, True),
        ([3, 600], -MINUTE, False),
    ],
    ids=str,
)
def test_a_proof_needs_twenty_minutes_and_three_readings(
    moments: list[float], now: float, proven: bool
) -> None:
    """The reading now is one of the three if it is far enough from the last one (promises 7)."""
    assert rules.is_proven(checked_at(*moments), after(now)) is proven


def test_the_age_of_an_unsent_request_begins_with_its_record() -> None:
    """A record without a date of sending has none older than its creation."""
    record = checked_at(3, 600).model_copy(update={"sent_at": None})

    assert rules.is_proven(record, after(20 * MINUTE))
    assert not rules.is_proven(record, after(20 * MINUTE - 1))


# Equal requests


def test_a_request_without_a_seed_has_one_fingerprint() -> None:
    """Any seed that was generated for the equal request is right."""
    assert rules.lookups(ME, WANTED) == [(fingerprint_of(ME, WANTED), None)]


def test_a_given_seed_may_be_one_that_was_generated() -> None:
    """The caller has seen that seed, and names it for the same video (promises 8)."""
    assert rules.lookups(ME, wanted(7)) == [
        (fingerprint_of(ME, wanted(7)), None),
        (fingerprint_of(ME, WANTED), 7),
    ]


def test_a_seed_of_zero_is_a_seed() -> None:
    """Only a missing one is generated."""
    assert len(rules.lookups(ME, wanted(0))) == 2


# Leases and limits


def test_leases_have_the_names_that_the_first_version_gave_them() -> None:
    """A server of that version beside this one must not poll or save too."""
    assert rules.lease_name("a", Role.POLLER) == "a"
    assert rules.lease_name("a", Role.SAVER) == "a films"


def test_each_role_of_each_account_has_a_lease_of_its_own() -> None:
    """Two processes may share the work of one account."""
    names = {rules.lease_name(account, role) for account in ("a", "b") for role in Role}

    assert len(names) == 2 * len(Role)


@pytest.mark.parametrize(
    ("left", "over"),
    [
        (None, True),
        (-1, True),
        (0, True),
        (0.001, False),
        (rules.MAX_LEASE_SECONDS, False),
        (rules.MAX_LEASE_SECONDS + 1, True),
        (1e9, True),
    ],
)
def test_a_lease_is_over_with_its_time_and_if_a_wrong_clock_dated_it(
    left: float | None, over: bool
) -> None:
    """Nobody could take a role whose lease ends in years."""
    assert rules.is_lease_over(None if left is None else after(left), START) is over


@pytest.mark.parametrize(
    ("cut", "held", "expected"),
    [
        (None, None, Limit(30, None, 0)),
        (-4, 10, Limit(30, 4, 10)),
        (4, None, Limit(30, 4, 0)),
        (None, 0, Limit(30, None, 0)),
        (None, -5, Limit(30, None, 0)),
        (None, rules.MAX_HOLD_SECONDS, Limit(30, None, rules.MAX_HOLD_SECONDS)),
        (None, rules.MAX_HOLD_SECONDS + 1, Limit(30, None, 0)),
    ],
)
def test_a_limit_is_read_as_durations(
    cut: float | None, held: float | None, expected: Limit
) -> None:
    """A pause in the past is over, and a pause of hours was dated by a wrong clock."""
    cut_at, held_until = (None if seconds is None else after(seconds) for seconds in (cut, held))

    assert rules.limit_of(30, cut_at, held_until, START) == expected
