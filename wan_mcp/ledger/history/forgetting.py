"""What is left of a request when the user has it forgotten. Pure functions.

The money rules go on with what is left: the ids, the times, the price and the state, the keys by
which an equal request is found, and of the order what a price depends on. The keys are hashes.
Everything else is removed: links, inputs, where the video was and how it differed from its order,
and every text from outside, which may repeat a link.
"""

from datetime import datetime

from wan_mcp.ledger.fingerprint import spelling_key
from wan_mcp.ledger.record import OPEN, UNSETTLED, WITHDRAWN, Record, State

KEPT_FIELDS = (
    *("submission_id", "account", "wallet", "state", "job_id", "owner"),
    *("dedupe_key", "exact_key", "spelling_key", "seed_generated"),
    *("estimate", "credit_cost", "credits_remaining"),
    *("created_at", "sent_at", "accepted_at", "ended_at", "end_reported_at", "forgotten_at"),
)
"""A field that a later version adds to records is forgotten, too, unless it is named here."""
KEPT_ARGUMENTS = ("seconds", "resolution", "go_fast", "frames_per_second")
"""The arguments on which a price may depend, see `expected_price`."""
NOT_SAVED = "The user had it forgotten."

_WHY_NOT = {
    State.QUEUED: "it is queued, and would still be sent. It can be forgotten when it is cancelled "
    "or has ended",
    State.UNKNOWN: "its outcome is unknown, so it may have been charged. Its inputs are needed to "
    "find its job in PixelDojo's list, and until then it keeps the same request from being paid "
    "twice",
    State.ACCEPTED: "the job is still running, and its video is still to be saved. It can be "
    "forgotten when it has ended",
}
_UNDER_WAY = "the request is under way. It can be forgotten when its job has ended"


def why_not(record: Record) -> str | None:
    """Why a request cannot be forgotten now, as part of a sentence; None if it can."""
    if record.state in UNSETTLED:
        return _UNDER_WAY
    return _WHY_NOT[record.state] if record.state in OPEN else None


def forgotten(record: Record, now: datetime) -> Record:
    """What is left of the record of an ended request. Forgetting it again changes nothing."""
    kept = {name: getattr(record, name) for name in KEPT_FIELDS}
    given = record.arguments
    kept["arguments"] = {name: given[name] for name in KEPT_ARGUMENTS if name in given}
    kept["forgotten_at"] = record.forgotten_at or now
    if record.seed_generated:  # a call that names it asks for the same video
        kept["seed"] = record.seed
    if "video" in given:
        kept["spelling_key"] = spelling_key(record.account, given)
    if record.withdrawn:
        kept["error"] = WITHDRAWN
    if record.state is State.COMPLETED:
        # With no link at all, a server of an older version would ask PixelDojo for it again, and
        # without a reason it would save the video again.
        kept |= {"video_url": "", "not_saved": NOT_SAVED, "video_folder": ""}
    return Record.model_validate(kept)


def is_complete(record: Record) -> bool:
    """Whether a record is forgotten, and no server has written to it since."""
    return record.is_forgotten and record == forgotten(record, record.created_at)
