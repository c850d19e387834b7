"""The decisions about records, except the spending limits: pure functions, without a store.

They are called inside a transaction, so that a decision is still right when it is written.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from wan_mcp.ledger.coordination import Limit, Role
from wan_mcp.ledger.fingerprint import (
    SENT,
    Fingerprint,
    fingerprint_of,
    one_spelling,
    spelling_key,
    without_fragment,
    without_queries,
    without_query,
)
from wan_mcp.ledger.record import (
    ENDED,
    OPEN,
    UNSETTLED,
    ListReading,
    Record,
    SentInputs,
    State,
)
from wan_mcp.models import Job, JobStatus, Replacement

MAY_FOLLOW: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.INTENT, State.SENDING}),
    State.INTENT: frozenset({State.QUEUED}),
    State.SENDING: frozenset({State.INTENT}),
    State.ACCEPTED: frozenset({State.UNKNOWN}),
    State.REFUSED: frozenset({State.SENDING}),
    State.NOT_SENT: frozenset({State.INTENT, State.SENDING, State.UNKNOWN}),
    State.UNKNOWN: frozenset({State.SENDING}),
    State.LOST: frozenset({State.ACCEPTED}),
}
"""For each state, the states that a change may enter it from. Some changes are not in the table:
only the methods of the queue end what is queued, `accepted` enters the state `accepted` from every
state, because the job is paid for, and only `updated` enters `completed` and `failed`, which
PixelDojo reports."""
CONCLUSIONS = frozenset({State.REFUSED, State.NOT_SENT, State.UNKNOWN, State.LOST})
"""The states that `concluded` may enter."""

REPEAT_WINDOW = timedelta(minutes=15)
"""How long after its end a completed or lost job is still the answer to an equal request (ours)."""
PROOF_READINGS = 3
PROOF_GAP_SECONDS = 180.0
PROOF_AGE_SECONDS = 1200.0
"""If PixelDojo's list does not show a job, that is a proof only after 20 minutes, and after three
readings that are at least 3 minutes apart (ours): the list may be late, and several readings at one
moment show the same list."""

CONFIRM_SECONDS = 5.0
"""An end without a video counts once a second reading, this long after the first, reports it again
(ours). One odd answer, from a restarting server or a cache, must not lose a paid video: after a
failed job, an equal call is paid again. Five seconds are longer than a restart takes to pass from
one server to the next (assumed), and no caller notices them in a job of minutes."""

QUEUE_SECONDS = 3600.0
"""How long a request may be queued. What nobody expects any more must not be bought (ours)."""

MAX_LEASE_SECONDS = 60.0
MAX_HOLD_SECONDS = 300.0
"""No lease and no pause lasts longer (ours). A later end was written by a clock that was wrong, and
it is ignored."""

_NOT_QUEUED: Mapping[str, object] = {"queued_until": None, "queued_request": None}
"""The values of a record that has left the queue. Its links may be signed, so they go."""

_ENDS = {JobStatus.COMPLETED: State.COMPLETED, JobStatus.FAILED: State.FAILED}


Lookups = Sequence[tuple[Fingerprint, int | None]]
"""The fingerprints that the record of an equal request may have, see `lookups`."""


def lookups(account: str, wanted: Replacement) -> Lookups:
    """The fingerprints that the record of an equal request may have, each with a generated seed.

    The seed is None where the record may have any. The second fingerprint is that of a request
    without a seed: if we generated for it the seed that is given now, both ask for the same video.
    """
    found: list[tuple[Fingerprint, int | None]] = [(fingerprint_of(account, wanted), None)]
    if wanted.seed is not None:
        seedless = wanted.model_copy(update={"seed": None})
        found.append((fingerprint_of(account, seedless), wanted.seed))
    return found


def is_another_spelling(
    record: Record, fingerprint: Fingerprint, seed: int | None, now: datetime
) -> bool:
    """Whether a record answers a request whose links are spelt differently and mean the same.

    Args:
        seed: as `lookups` gives it.
    """
    if record.dedupe_key is None or not _means_the_same(record, fingerprint):
        return False
    if seed is not None and not (record.seed_generated and record.seed == seed):
        return False
    # The queries are not kept, so after the end those of two links cannot be compared.
    has_query = fingerprint.has_query or record.exact_key != record.dedupe_key
    return may_be_joined(record, now) and (record.state in OPEN or not has_query)


def may_be_joined(record: Record, now: datetime) -> bool:
    """Whether an equal request would get this record, instead of being paid itself."""
    if record.state in OPEN:
        return True
    if record.state not in (State.COMPLETED, State.LOST) or record.ended_at is None:
        return False
    return abs(now - record.ended_at) < REPEAT_WINDOW


def _means_the_same(record: Record, fingerprint: Fingerprint) -> bool:
    if record.spelling_key is not None:  # its links were removed
        return record.spelling_key == spelling_key(record.account, fingerprint.arguments)
    return one_spelling(record.arguments) == one_spelling(fingerprint.arguments)


def may_enter(record: Record, state: State, me: str) -> bool:
    """Whether this process may change a record to a state of `MAY_FOLLOW`.

    Args:
        me: the name under which this process owns records.
    """
    mine = record.owner == me or record.state not in UNSETTLED
    return mine and record.state in MAY_FOLLOW[state]


def sending(record: Record, now: datetime, sent: SentInputs | None = None) -> Record:
    """The record at the commit point, directly before the first byte of its request leaves.

    Args:
        sent: how inputs that are not links were sent. The query of a link, which is its signature,
            is not kept.
    """
    record = _changed(record, state=State.SENDING, sent_at=now, **_NOT_QUEUED)
    if sent is None:
        return record
    kept = {f"{SENT}{name}": without_query(link) for name, link in sent.links.items()}
    if sent.notes:
        kept[f"{SENT}notes"] = without_queries(sent.notes) or ""
    return _changed(record, arguments=record.arguments | kept)


def accepted(record: Record, job: Job, now: datetime) -> Record:
    """The record with its job, from PixelDojo's answer to the request or from its job list."""
    if record.state in ENDED and record.job_id == job.job_id:
        return updated(record, job, now) or record  # the reconciler was faster, and the job is over
    reported_at = record.end_reported_at if record.job_id == job.job_id else None
    cleared: dict[str, object] = {
        "ended_at": None,
        "error": None,
        "next_check_at": None,
        "end_reported_at": reported_at,
        "forgotten_at": None,
        **_NOT_QUEUED,
    }
    entered: dict[str, object] = {
        "state": State.ACCEPTED,
        "sent_at": record.sent_at or now,
        "accepted_at": now,
    }
    fresh = _changed(record, **cleared | entered | _reported(job))
    return (updated(fresh, job, now) or fresh) if job.ended else fresh


def beside_its_equal(record: Record) -> Record:
    """The record of a paid request while an equal request is live.

    Only one of two equal records may be live under one dedupe key, so this one gets a key of its
    own. It is listed and counts as spending, but an equal request joins the other record.
    """
    return _changed(record, dedupe_key=f"{record.dedupe_key} {record.submission_id}")


def concluded(record: Record, state: State, why: str, now: datetime) -> Record:
    """The record of a request that ended without a job id, or of a job that is lost."""
    unknown = state is State.UNKNOWN
    return _changed(
        record,
        state=state,
        error=without_queries(why),
        ended_at=None if unknown else now,
        next_check_at=now if unknown else None,
        **_NOT_QUEUED,
    )


def abandoned(record: Record, now: datetime) -> Record:
    """What becomes of an unsettled record whose process is dead, or of an overdue queued one."""
    if record.state is State.QUEUED:
        return _overdue(record, now)
    if record.state is State.INTENT:
        if record.queued_until is not None:
            return _changed(record, state=State.QUEUED)
        why = "The server that was to send it ended before it began to send."
        return concluded(record, State.NOT_SENT, why, now)
    why = "The server that sent it ended before the answer came."
    return concluded(record, State.UNKNOWN, why, now)


def _overdue(record: Record, now: datetime) -> Record:
    latest = now + timedelta(seconds=QUEUE_SECONDS)
    if record.queued_until is not None and record.queued_until > latest:
        return _changed(record, queued_until=latest)  # the clock was set back
    why = (
        "It was queued, and within an hour it could not be sent: the limits left no room for it, "
        "or no server was running."
    )
    return concluded(record, State.NOT_SENT, why, now)


def updated(record: Record, job: Job, now: datetime) -> Record | None:
    """The record after a reading of its job; None if the reading contradicts the end of the job.

    A completed job is final. A failed one becomes completed if PixelDojo shows its video after all.
    Our own conclusion that a job is lost is replaced by any end that PixelDojo reports. While a
    failure has been reported only once, the state stays what it was. A forgotten job stays as it
    is.
    """
    if record.is_forgotten:
        return None
    end = _ENDS.get(job.status)
    if not _may_end_as(record, end, job):
        return None
    reported_at = _end_reported_at(record, end, now)
    if end is State.FAILED and not _is_confirmed(record, now):
        return _read(record, job, now, end_reported_at=reported_at)
    ended = end is not None and record.state is not end
    changes: dict[str, object] = {"state": end or record.state, "end_reported_at": reported_at}
    if ended:
        changes["ended_at"] = now
    was_to_fail = record.state is State.FAILED or record.end_reported_at is not None
    if record.state is State.LOST or (was_to_fail and end is not State.FAILED):
        changes["error"] = None  # the reason of an end that did not come, or was taken back
    return _read(record, job, now, **changes)


def absorbed(record: Record, other: Record, now: datetime) -> Record:
    """A running record with what another record of the same job knows of its end.

    This does not count as a second reading, so it does not confirm an end.
    """
    if other.job is None:
        return record
    if other.end_reported_at is not None and record.end_reported_at is None:
        record = _changed(record, end_reported_at=other.end_reported_at)
        if other.end_is_unconfirmed and record.state not in ENDED:
            return _changed(record, **_reported(other.job))
    if other.state is State.FAILED and record.state is State.ACCEPTED:
        return _read(record, other.job, now, state=State.FAILED, ended_at=now)
    return (updated(record, other.job, now) or record) if other.job.ended else record


def _may_end_as(record: Record, end: State | None, job: Job) -> bool:
    """Whether a reading fits the record, which may have ended already."""
    match record.state:
        case State.COMPLETED:
            return end is State.COMPLETED
        case State.FAILED:
            return end is State.FAILED or (end is State.COMPLETED and job.video_url is not None)
        case State.LOST:
            return end is not None
    return True


def _end_reported_at(record: Record, end: State | None, now: datetime) -> datetime | None:
    """Since when PixelDojo has reported an end without a video; None if it no longer does."""
    if end is not State.FAILED:
        return None
    since = record.end_reported_at
    # If the clock was set back since then, the time that has passed is unknown: wait again.
    return now if since is None or since > now else since


def _is_confirmed(record: Record, now: datetime) -> bool:
    """Whether a reading now that reports a failure is at least the second one."""
    if record.state is State.FAILED:
        return True
    since = record.end_reported_at
    return since is not None and (now - since).total_seconds() >= CONFIRM_SECONDS


def checked(
    record: Record,
    findings: str,
    next_in: float | None,
    now: datetime,
    reading: ListReading,
) -> Record:
    """The record of unknown outcome after a reading of the job list, or an attempt to read it.

    Args:
        findings: what the reading showed, in a sentence.
        next_in: seconds until the next reading; None for only on demand.
    """
    shows_absence = reading is ListReading.SHOWS_ABSENCE
    proof = shows_absence and counts_as_proof(record, now)
    # If the clock was set back since the last one, the time that has passed is unknown: wait again.
    set_back = shows_absence and record.proof_at is not None and now < record.proof_at
    return _changed(
        record,
        checks=record.checks + (reading is not ListReading.FAILED),
        checked_at=now,
        proof_readings=record.proof_readings + proof,
        proof_at=now if proof or set_back else record.proof_at,
        next_check_at=None if next_in is None else now + timedelta(seconds=next_in),
        findings=without_queries(findings),
    )


def counts_as_proof(record: Record, now: datetime) -> bool:
    """Whether a reading of the list now is far enough from the last one that counted as proof."""
    if record.proof_at is None:
        return True
    return (now - record.proof_at).total_seconds() >= PROOF_GAP_SECONDS


def is_proven(record: Record, now: datetime) -> bool:
    """Whether a reading now that does not show the job completes the proof that there is none."""
    age = (now - record.began_at).total_seconds()
    readings = record.proof_readings + counts_as_proof(record, now)
    return age >= PROOF_AGE_SECONDS and readings >= PROOF_READINGS


def lease_name(account: str, role: Role) -> str:
    """The name under which a lease is stored.

    Poller and saver keep the names that the first version gave them, so that a server of that
    version and one of this version never do the same work at the same time.
    """
    names = {Role.POLLER: account, Role.SAVER: f"{account} films"}
    return names.get(role, f"{account} {role}")


def joined_name(submission_id: str) -> str:
    """The row, in the table of leases, that shows that other callers wait for a request, too."""
    return f"{submission_id} joined"


def is_lease_over(until: datetime | None, now: datetime) -> bool:
    """Whether a lease has expired, or ends later than any lease can."""
    left = 0.0 if until is None else (until - now).total_seconds()
    return not 0 < left <= MAX_LEASE_SECONDS


def limit_of(
    per_minute: int, cut_at: datetime | None, held_until: datetime | None, now: datetime
) -> Limit:
    """The limit of an account, from its stored values."""
    held = 0.0 if held_until is None else (held_until - now).total_seconds()
    return Limit(
        per_minute=per_minute,
        cut_ago=None if cut_at is None else abs((now - cut_at).total_seconds()),
        held=held if 0 < held <= MAX_HOLD_SECONDS else 0.0,
    )


def _reported(job: Job) -> dict[str, object]:
    """The fields that a reading changes. What the reading does not contain stays as it is."""
    reported = {
        "job_id": job.job_id,
        "vendor_status": without_queries(job.vendor_status),
        "video_url": without_fragment(job.video_url),
        "expires_at": job.expires_at,
        "credit_cost": job.credit_cost,
        "credits_remaining": job.credits_remaining,
        "error": without_queries(job.error),
        "note": without_queries(job.note),
    }
    return {name: value for name, value in reported.items() if value not in (None, "")}


def _read(record: Record, job: Job, now: datetime, **changes: object) -> Record:
    """The record after a reading that PixelDojo has answered."""
    dates: dict[str, object] = {"last_polled_at": now, "last_reply_at": now}
    cleared: dict[str, object] = {"last_error": None, "last_error_code": None}
    return _changed(record, **dates | cleared | changes | _reported(job))


def _changed(record: Record, **changes: object) -> Record:
    return record.model_copy(update=changes)
