"""Translates between PixelDojo's JSON and our models. No I/O.

No answer is trusted: every reader accepts any JSON and either finds what it needs or raises an
error of one sentence.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from wan_mcp.errors import CouldNotFindOut, OutcomeUnknown
from wan_mcp.models import JOB_ID, Job, JobStatus, PublishedPrice, Replacement
from wan_mcp.pixeldojo.prices import credits_of, published_price
from wan_mcp.pixeldojo.reply import Reply, clean
from wan_mcp.web import addresses

MODEL = "wan-2.2-replace"

_PARAMETERS = {
    "video": "video",
    "character_image": "character_image",
    "video_duration": "seconds",
    "resolution": "resolution",
    "refert_num": "references",
    "frames_per_second": "frames_per_second",
    "go_fast": "go_fast",
    "merge_audio": "merge_audio",
    "seed": "seed",
}
"""The documented parameters: PixelDojo's spelling, and ours."""
_DONE = {"completed", "succeeded", "success"}
_FAILED = {"failed", "error", "cancelled", "canceled", "expired", "timed_out"}
_JOB_ID_IN_DAMAGED_JSON = rf'"jobId"\s*:\s*"({JOB_ID})"'


class Model(NamedTuple):
    """PixelDojo's model page.

    Attributes:
        price: what a job costs according to it.
    """

    price: PublishedPrice

    @property
    def credit_estimate(self) -> float | None:
        """Credits that a job costs, if the page names one number for all jobs."""
        return self.price.of_every_job


class Listed(NamedTuple):
    """A job in the job list, with what the list shows of its request (assumed: under `input`).

    Attributes:
        arguments: by our names; what the list does not show is missing.
        made_at: when the job was made, if the list shows that (assumed: as `createdAt`).
    """

    job: Job
    arguments: Mapping[str, str | int | bool]
    made_at: datetime | None = None

    @property
    def seed(self) -> int | None:
        """The seed that the list shows."""
        seed = self.arguments.get("seed")
        return seed if type(seed) is int else None


def run_body(wanted: Replacement, *, resolution_as_number: bool = False) -> dict[str, Any]:
    """The flat JSON body of a submit: documented fields only, and only those that are set.

    The duration is always sent: the documentation calls it both required and optional.
    The resolution is sent as a string unless `resolution_as_number`: its type is not documented.
    """
    resolution: str | int | None = wanted.resolution
    if resolution is not None and resolution_as_number:
        resolution = int(resolution)
    body = {theirs: getattr(wanted, ours) for theirs, ours in _PARAMETERS.items()}
    body["resolution"] = resolution
    return {name: value for name, value in body.items() if value is not None}


def accepted(reply: Reply, *, loopback: bool = False) -> Job:
    """The job in a 2xx answer to a submit.

    Raises:
        OutcomeUnknown: no usable id arrived. The job is very likely paid, and its id is lost; but
            a web page, or nothing at all, is no evidence of that.
    """
    try:
        return _job(reply.document(), loopback=loopback)
    except CouldNotFindOut as broken:
        text = reply.body.decode("utf-8", "replace")
        if found := re.search(_JOB_ID_IN_DAMAGED_JSON, text):
            note = "PixelDojo's answer was damaged; only the job's id could be read from it."
            return Job(job_id=found[1], status=JobStatus.RUNNING, note=note)
        if reply.is_page:
            raise OutcomeUnknown(
                "A web page came instead of PixelDojo's answer to the paid request, such as the "
                "login page of a network. It does not tell whether a job was started and charged."
            ) from broken
        if not reply.body.strip():
            raise OutcomeUnknown(
                "PixelDojo's answer to the paid request was empty. It does not tell whether a job "
                "was started and charged."
            ) from broken
        raise OutcomeUnknown(
            "PixelDojo accepted the request, but the job's id could not be read from its answer. "
            "A job was very likely started and charged."
        ) from broken


def job(reply: Reply, job_id: str, *, loopback: bool = False) -> Job:
    """The job in a status answer.

    Raises:
        CouldNotFindOut: the answer is not a job, or it is another job than the requested one.
    """
    answered = _job(reply.document(), loopback=loopback, missing_id=job_id)
    if answered.job_id != job_id:
        raise CouldNotFindOut("PixelDojo answered about another job than the one asked for.")
    return answered


def jobs(reply: Reply, *, loopback: bool = False) -> list[Listed]:
    """The recent jobs, in PixelDojo's order; entries that are not jobs are left out.

    The form of the answer is not documented: a bare list is read, and a list in an object.

    Raises:
        CouldNotFindOut: the answer contains no list.
    """
    document = reply.json()
    if isinstance(document, Mapping):
        document = next((v for v in document.values() if isinstance(v, list)), None)
    if not isinstance(document, list):
        raise CouldNotFindOut("PixelDojo's job list could not be read.", transient=False)
    return list(_listed(document, loopback))


def require_answer_to_key(reply: Reply) -> None:
    """Return when a 2xx answer is one of the API itself, which answers only to a good key.

    A list of jobs that was longer than what is read of an answer is one, too.

    Raises:
        CouldNotFindOut: it is a web page, is not JSON, or reports an error with a 2xx status.
    """
    if not reply.whole and reply.body.lstrip()[:1] in (b"[", b"{"):
        return
    document = reply.json()
    if not isinstance(document, Mapping | list) or (
        isinstance(document, Mapping) and document.get("error")
    ):
        raise CouldNotFindOut("PixelDojo's answer does not tell whether it accepts the key.")


def model(reply: Reply) -> Model:
    """The model page; its price is of the type `unknown` if it cannot be understood."""
    document = reply.document()
    inner = document.get("model")
    page = inner if isinstance(inner, Mapping) else document
    return Model(published_price(page.get("creditCost")))


def resolution_is_number(reply: Reply) -> bool:
    """Whether the published schema of the body has `resolution` as a number."""
    document = reply.document()
    schema = document.get("schema", document)
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    field = properties.get("resolution") if isinstance(properties, Mapping) else None
    if not isinstance(field, Mapping):
        return False
    choices = field.get("enum")
    sample = choices[0] if isinstance(choices, list) and choices else None
    # A type may also be a list, which a set could not be searched for.
    return field.get("type") in ("integer", "number") or isinstance(sample, int)


def _listed(entries: list[Any], loopback: bool) -> Iterator[Listed]:
    for entry in entries:
        if isinstance(entry, Mapping) and _id(entry.get("jobId")):
            body = entry.get("input")
            body = body if isinstance(body, Mapping) else entry
            made_at = _time(entry.get("createdAt", entry.get("created_at")))
            yield Listed(_job(entry, loopback=loopback), _arguments(body), made_at)


def _arguments(body: Mapping[str, Any]) -> dict[str, str | int | bool]:
    values = {ours: body.get(theirs) for theirs, ours in _PARAMETERS.items()}
    if isinstance(values["resolution"], int):
        values["resolution"] = str(values["resolution"])
    return {name: value for name, value in values.items() if isinstance(value, str | int)}


def _job(document: Mapping[str, Any], *, loopback: bool, missing_id: str = "") -> Job:
    given_id = document.get("jobId")
    job_id = _id(missing_id if given_id is None else given_id)
    if not job_id:
        raise CouldNotFindOut("PixelDojo's answer has no usable job id.")
    if given_id is None and "status" not in document:
        raise CouldNotFindOut("PixelDojo's answer says nothing about a job.")
    word = clean(document.get("status"), 40)
    url, note = _video(document, loopback)
    return Job(
        job_id=job_id,
        status=_status(word),
        vendor_status=word,
        video_url=url,
        expires_at=_time(document.get("expiresAt")),
        credit_cost=credits_of(document.get("creditCost")),
        credits_remaining=credits_of(document.get("creditsRemaining")),
        error=_reason(document.get("error")) or None,
        note=note,
    )


def _id(value: object) -> str:
    return value if isinstance(value, str) and re.fullmatch(JOB_ID, value) else ""


def _status(word: str) -> JobStatus:
    """The status for PixelDojo's word; an unknown one means "running", as more may be added."""
    plain = re.sub(r"[\s-]+", "_", word.lower())
    if plain in _DONE:
        return JobStatus.COMPLETED
    return JobStatus.FAILED if plain in _FAILED else JobStatus.RUNNING


def _reason(error: object) -> str:
    if isinstance(error, Mapping):
        return clean(error.get("message")) or clean(error.get("code"))
    return clean(error)


def _video(document: Mapping[str, Any], loopback: bool) -> tuple[str | None, str | None]:
    url = next(_candidates(document.get("output")), None) or next(_assets(document), None)
    if url is None:
        return None, None
    try:
        return addresses.media_url(url, loopback=loopback, secure=True), None
    except ValueError as exc:
        return None, f"PixelDojo's link to the video was dropped: it {exc}."


def _candidates(output: object) -> Iterator[str]:
    """Where PixelDojo's own clients look for the video, in their order."""
    yield from _strings(output)
    if isinstance(output, Mapping):
        for name in ("video", "videos", "image", "images"):
            yield from _strings(output.get(name))


def _assets(document: Mapping[str, Any]) -> Iterator[str]:
    yield from _strings(document.get("assets"))


def _strings(value: object) -> Iterator[str]:
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, Mapping):
        first = first.get("url")
    if isinstance(first, str) and first:
        yield first


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        utc = time and (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # Other years mean "never" or "unset", and arithmetic with them may exceed the calendar.
    return utc if utc and 1971 <= utc.year <= 9000 else None
