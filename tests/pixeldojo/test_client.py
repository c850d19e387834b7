"""The client on the wire: what each method sends, and what each answer becomes."""

import errno
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.abc import MetaPathFinder

import httpx
import pytest
import respx

from wan_mcp.errors import (
    NO_FILES_LEFT,
    CouldNotFindOut,
    NoKey,
    NotAllowed,
    NotFound,
    NotSent,
    OutcomeUnknown,
    OutOfCredits,
    RateLimited,
    Rejected,
    Unauthorized,
    WanError,
)
from wan_mcp.models import Job, JobStatus, Replacement
from wan_mcp.pixeldojo.client import EXAMPLE_KEY, PixelDojo
from wan_mcp.pixeldojo.error_statuses import ElsewhereNow, StoppedOnTheWay, UnknownModel
from wan_mcp.pixeldojo.exchange import MAX_BODY_BYTES

pytestmark = pytest.mark.anyio

BASE = "https://api.example/api/v1"
KEY = "pd_test_key"
RUN = "/models/wan-2.2-replace/run"
MODEL = "/models/wan-2.2-replace"
SCHEMA = "/models/wan-2.2-replace/schema"
WANTED = Replacement(video="https://a.example/v.mp4", character_image="https://a.example/i.png")
ACCEPTED = {"jobId": "job_1", "status": "pending", "creditCost": 10, "creditsRemaining": 90}


@pytest.fixture
def vendor() -> respx.MockRouter:
    """PixelDojo as a table of routes; a request to anything else fails the test."""
    return respx.MockRouter(base_url=BASE, assert_all_called=False)


@pytest.fixture
async def dojo(vendor: respx.MockRouter) -> AsyncIterator[PixelDojo]:
    client = connected(vendor)
    yield client
    await client.aclose()


def connected(vendor: respx.MockRouter, key: str = KEY) -> PixelDojo:
    transport = httpx.MockTransport(vendor.async_handler)
    return PixelDojo(BASE, key, agent="wan-mcp/1.2", transport=transport)


Method = Callable[[PixelDojo], Awaitable[object]]
READS: list[tuple[str, Method]] = [
    ("/jobs/job_1", lambda dojo: dojo.job("job_1")),
    ("/jobs", lambda dojo: dojo.jobs()),
    (MODEL, lambda dojo: dojo.model()),
    (SCHEMA, lambda dojo: dojo.resolution_is_number()),
]
PUBLIC = (MODEL, SCHEMA)
each_read = pytest.mark.parametrize(("path", "read"), READS, ids=["job", "jobs", "model", "schema"])


async def failure(call: Awaitable[object]) -> WanError:
    with pytest.raises(WanError) as caught:
        await call
    return caught.value


# What is sent


async def test_a_submit_is_one_post_with_exactly_these_headers(
    vendor: respx.MockRouter, dojo: PixelDojo
) -> None:
    """An extra header can change what a CDN does with a paid request (documented, ours)."""
    route = vendor.post(RUN).respond(202, json=ACCEPTED)
    await dojo.submit(WANTED)
    sent = route.calls.last.request

    assert vendor.calls.call_count == 1
    assert str(sent.url) == BASE + RUN
    assert dict(sent.headers) == {
        "host": "api.example",
        "accept": "application/json",
        "accept-encoding": "identity",
        "connection": "keep-alive",
        "user-agent": "wan-mcp/1.2",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "content-length": str(len(sent.content)),
    }


async def test_the_body_is_flat_and_holds_only_what_is_set(
    vendor: respx.MockRouter, dojo: PixelDojo
) -> None:
    """No `input` wrapper, no nulls, and always the duration (documented)."""
    route = vendor.post(RUN).respond(202, json=ACCEPTED)
    await dojo.submit(WANTED)

    assert json.loads(route.calls.last.request.content) == {
        "video": "https://a.example/v.mp4",
        "character_image": "https://a.example/i.png",
        "video_duration": 5,
    }


@pytest.mark.parametrize(("as_number", "resolution"), [(False, "720"), (True, 720)])
async def test_every_parameter_travels_under_its_documented_name(
    vendor: respx.MockRouter, dojo: PixelDojo, as_number: bool, resolution: object
) -> None:
    """The type of `resolution` is not documented, so the caller decides it (documented names)."""
    route = vendor.post(RUN).respond(202, json=ACCEPTED)
    options = {"seconds": 7, "resolution": "720", "references": 5, "frames_per_second": 24}
    switches = {"go_fast": False, "merge_audio": False, "seed": 0}
    wanted = WANTED.model_copy(update={**options, **switches})
    await dojo.submit(wanted, resolution_as_number=as_number)

    assert json.loads(route.calls.last.request.content) == {
        "video": "https://a.example/v.mp4",
        "character_image": "https://a.example/i.png",
        "video_duration": 7,
        "resolution": resolution,
        "refert_num": 5,
        "frames_per_second": 24,
        "go_fast": False,
        "merge_audio": False,
        "seed": 0,
    }


@each_read
async def test_a_read_is_one_get_and_public_pages_get_no_key(
    vendor: respx.MockRouter, dojo: PixelDojo, path: str, read: Method
) -> None:
    """The key goes only where it is needed (ours)."""
    route = vendor.get(path).respond(json={"jobId": "job_1", "status": "pending", "jobs": []})
    await read(dojo)
    sent = route.calls.last.request
    headers = {
        "host": "api.example",
        "accept": "application/json",
        "accept-encoding": "identity",
        "connection": "keep-alive",
        "user-agent": "wan-mcp/1.2",
    }
    if path not in PUBLIC:
        headers["authorization"] = f"Bearer {KEY}"

    assert vendor.calls.call_count == 1
    assert (sent.method, str(sent.url), sent.content) == ("GET", BASE + path, b"")
    assert dict(sent.headers) == headers


async def test_without_a_key_nothing_is_sent_or_committed(vendor: respx.MockRouter) -> None:
    """The error says where to get one; only the public pages work (ours)."""
    vendor.get(MODEL).respond(json={"creditCost": 10})
    keyless = connected(vendor, key="")

    async def commit() -> None:
        pytest.fail("a request that cannot be made was committed")

    refused = [
        await failure(keyless.submit(WANTED, before_sending=commit)),
        await failure(keyless.job("job_1")),
        await failure(keyless.jobs()),
    ]
    page = await keyless.model()
    await keyless.aclose()

    assert {type(error) for error in refused} == {NoKey}
    assert vendor.calls.call_count == 1
    assert page.credit_estimate == 10


# What comes back


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_any_2xx_with_a_job_id_is_an_accepted_job(
    vendor: respx.MockRouter, dojo: PixelDojo, status: int
) -> None:
    """202 is documented; PixelDojo's own client accepts 200, too (documented)."""
    vendor.post(RUN).respond(status, json=ACCEPTED)
    job = await dojo.submit(WANTED)

    assert job == Job(
        job_id="job_1",
        status=JobStatus.RUNNING,
        vendor_status="pending",
        credit_cost=10,
        credits_remaining=90,
    )


@pytest.mark.parametrize(
    ("status", "body", "error_class"),
    [
        (400, {"error": {"code": "invalid_request", "message": "seed is odd"}}, Rejected),
        (401, {"error": "unauthorized"}, Unauthorized),
        (402, "", OutOfCredits),
        (403, {"error": "forbidden"}, NotAllowed),
        (403, {"error": "insufficient_credits", "message": "no"}, OutOfCredits),
        (403, {"error": {"message": "Not enough credits"}}, OutOfCredits),
        (404, {"error": {"code": "model_not_found"}}, UnknownModel),
        (413, "<html>", Rejected),
        (415, "", Rejected),
        (422, {"error": "no"}, Rejected),
        (429, "", RateLimited),
        (307, "", ElsewhereNow),
        (308, "", ElsewhereNow),
        *((status, "", OutcomeUnknown) for status in (300, 301, 302, 303, 304)),
        *((status, "", OutcomeUnknown) for status in (405, 408, 409, 410, 418, 425, 451)),
        *((status, "<html>", OutcomeUnknown) for status in (500, 501, 502, 503, 504, 520, 599)),
    ],
)
async def test_a_submit_without_2xx_says_whether_it_may_be_charged(
    vendor: respx.MockRouter,
    dojo: PixelDojo,
    status: int,
    body: object,
    error_class: type[WanError],
) -> None:
    """Only statuses that prove a refusal say "not charged" (docs/promises.md rule 6)."""
    vendor.post(RUN).respond(
        status, **({"text": body} if isinstance(body, str) else {"json": body})
    )
    error = await failure(dojo.submit(WANTED))

    assert type(error) is error_class
    assert error.charged == ("unknown" if error_class is OutcomeUnknown else "no")
    assert vendor.calls.call_count == 1


@pytest.mark.parametrize(
    ("status", "error_class", "transient"),
    [
        (400, Rejected, None),
        (401, Unauthorized, None),
        (402, OutOfCredits, None),
        (403, NotAllowed, None),
        (404, NotFound, None),
        (422, Rejected, None),
        (429, RateLimited, None),
        *((status, CouldNotFindOut, False) for status in (301, 302, 303, 304, 307, 308, 409, 410)),
        *((status, CouldNotFindOut, True) for status in (408, 425, 500, 502, 503, 504)),
    ],
)
@each_read
async def test_a_read_without_2xx_says_whether_asking_again_helps(
    vendor: respx.MockRouter,
    dojo: PixelDojo,
    path: str,
    read: Method,
    status: int,
    error_class: type[WanError],
    transient: bool | None,
) -> None:
    """A bad status on a read says nothing about the job (ours)."""
    vendor.get(path).respond(status)
    error = await failure(read(dojo))

    assert type(error) is error_class
    assert getattr(error, "transient", None) is transient
    assert error.charged == "no"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", [f"{BASE}/jobs/job_2", "https://elsewhere.example/", "http://[bad"])
async def test_redirects_are_never_followed(
    vendor: respx.MockRouter, dojo: PixelDojo, status: int, to: str
) -> None:
    """The key would be sent along, and a submit would be sent twice (ours)."""
    vendor.post(RUN).respond(status, headers={"Location": to})
    vendor.get("/jobs/job_1").respond(status, headers={"Location": to})
    submitted = await failure(dojo.submit(WANTED))
    asked = await failure(dojo.job("job_1"))

    assert vendor.calls.call_count == 2
    assert isinstance(submitted, Rejected | OutcomeUnknown)
    assert isinstance(asked, CouldNotFindOut)


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("9999", 300), ("soon", None)])
async def test_retry_after_is_passed_on_and_capped(
    vendor: respx.MockRouter, dojo: PixelDojo, value: str, seconds: float | None
) -> None:
    """On refusals and on failed reads (ours)."""
    vendor.post(RUN).respond(429, headers={"Retry-After": value})
    vendor.get("/jobs/job_1").respond(503, headers={"Retry-After": value})
    errors = [await failure(dojo.submit(WANTED)), await failure(dojo.job("job_1"))]

    assert [error.retry_after for error in errors] == [seconds, seconds]


async def test_a_2xx_without_an_id_is_never_called_a_refusal(
    vendor: respx.MockRouter, dojo: PixelDojo
) -> None:
    """A job was very likely started and charged (docs/promises.md rule 6)."""
    vendor.post(RUN).respond(202, html="<html>busy</html>")
    error = await failure(dojo.submit(WANTED))

    assert type(error) is OutcomeUnknown


async def test_another_jobs_answer_is_refused(vendor: respx.MockRouter, dojo: PixelDojo) -> None:
    """A confused cache must not give out another person's video (ours)."""
    vendor.get("/jobs/job_1").respond(json={"jobId": "job_2", "status": "completed"})
    error = await failure(dojo.job("job_1"))

    assert type(error) is CouldNotFindOut


async def test_an_answer_that_repeats_the_key_loses_it(
    vendor: respx.MockRouter, dojo: PixelDojo
) -> None:
    """Some gateways print the request that they could not pass on (observed elsewhere)."""
    vendor.post(RUN).respond(401, json={"error": f"Bearer {KEY} is revoked"})
    error = await failure(dojo.submit(WANTED))

    assert KEY not in error.what
    assert "Bearer [key] is revoked" in error.what


async def test_key_that_was_replaced_is_still_hidden(
    vendor: respx.MockRouter, dojo: PixelDojo
) -> None:
    """The answer may have been on its way when it was replaced (ours)."""
    dojo.use_key("pd_another")
    vendor.post(RUN).respond(401, json={"error": f"Bearer {KEY} is revoked"})
    error = await failure(dojo.submit(WANTED))

    assert "Bearer [key] is revoked" in error.what


async def test_client_remembers_which_keys_it_has_had(dojo: PixelDojo) -> None:
    """An older one that somebody still remembers must not take the place of a newer one (ours)."""
    before = [dojo.has_had(key) for key in (KEY, "pd_another")]
    dojo.use_key("pd_another")

    assert before == [True, False]
    assert [dojo.has_had(key) for key in (KEY, "pd_another", "pd_third")] == [True, True, False]


async def test_client_that_was_closed_sends_nothing_and_can_be_asked_anew(
    vendor: respx.MockRouter, dojo: PixelDojo
) -> None:
    """A connection that it opened then would stay open for good (ours)."""
    await dojo.aclose()
    errors = [await failure(dojo.submit(WANTED)), await failure(dojo.jobs())]

    assert [(error.charged, error.retry_safe) for error in errors] == [("no", True)] * 2
    assert vendor.calls.call_count == 0


# Whether the key is accepted


@pytest.mark.parametrize(
    "body",
    ['{"jobs": []}', "[]", '{"data": {"items": []}}', '{"jobs": [' + " " * MAX_BODY_BYTES],
    ids=["object", "list", "unknown shape", "longer than what is read"],
)
async def test_any_list_of_jobs_shows_that_the_key_is_accepted(
    vendor: respx.MockRouter, dojo: PixelDojo, body: str
) -> None:
    """The shape of the list is not documented; that it needs the key is inferred (assumed)."""
    route = vendor.get("/jobs").respond(200, content=body)
    await dojo.require_accepted_key()

    assert vendor.calls.call_count == 1
    assert route.calls.last.request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("status", "body", "error_class"),
    [
        (401, '{"error": "unauthorized"}', Unauthorized),
        (401, "<html>challenge</html>", StoppedOnTheWay),
        (403, '{"error": "forbidden"}', NotAllowed),
        (429, "", RateLimited),
        (500, "", CouldNotFindOut),
        (503, "<html>", CouldNotFindOut),
        (404, '{"error": "not_found"}', CouldNotFindOut),
        (200, "<html>log in to this network</html>", CouldNotFindOut),
        (200, "", CouldNotFindOut),
        (200, '"ok"', CouldNotFindOut),
        (200, '{"error": {"code": "unauthorized"}}', CouldNotFindOut),
    ],
)
async def test_only_a_401_of_the_api_itself_says_that_the_key_is_wrong(
    vendor: respx.MockRouter,
    dojo: PixelDojo,
    status: int,
    body: str,
    error_class: type[WanError],
) -> None:
    """A good key must not be thrown away because of a network or a bad hour (ours)."""
    vendor.get("/jobs").respond(status, content=body)
    error = await failure(dojo.require_accepted_key())

    assert type(error) is error_class
    assert "id" not in error.what.split()
    assert KEY not in error.what


async def test_whether_the_key_is_accepted_is_unknown_without_a_network(
    vendor: respx.MockRouter, dojo: PixelDojo
) -> None:
    """No connection is no evidence about the key (ours)."""
    vendor.get("/jobs").mock(side_effect=httpx.ConnectError("no route"))
    error = await failure(dojo.require_accepted_key())

    assert type(error) is CouldNotFindOut
    assert error.transient


@pytest.mark.parametrize("key", ["", EXAMPLE_KEY])
async def test_without_a_key_of_the_user_nothing_is_asked(
    vendor: respx.MockRouter, key: str
) -> None:
    """The example of the README is no key (ours)."""
    keyless = connected(vendor, key=key)
    error = await failure(keyless.require_accepted_key())
    await keyless.aclose()

    assert type(error) is NoKey
    assert not vendor.calls


# No answer

UNREACHED = [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError]
BROKEN = [
    httpx.ReadError,
    httpx.ReadTimeout,
    httpx.WriteError,
    httpx.WriteTimeout,
    httpx.CloseError,
    httpx.RemoteProtocolError,
    httpx.LocalProtocolError,
    httpx.NetworkError,
    httpx.TimeoutException,
    httpx.TransportError,
    httpx.DecodingError,
    OSError,
    ConnectionResetError,
    TimeoutError,
]


@pytest.mark.parametrize("broken", [*UNREACHED, *BROKEN])
async def test_a_broken_submit_is_unsent_only_where_that_is_certain(
    vendor: respx.MockRouter, dojo: PixelDojo, broken: type[Exception]
) -> None:
    """A request that may have been sent counts as sent (docs/promises.md rule 1)."""
    vendor.post(RUN).mock(side_effect=broken("https://api.example said no"))
    error = await failure(dojo.submit(WANTED))

    assert type(error) is (NotSent if broken in UNREACHED else OutcomeUnknown)
    assert isinstance(error.__cause__, broken)
    assert vendor.calls.call_count == 1
    assert "api.example" not in error.what


@pytest.mark.parametrize("broken", [*UNREACHED, *BROKEN])
@each_read
async def test_a_broken_read_says_only_that_it_could_not_find_out(
    vendor: respx.MockRouter,
    dojo: PixelDojo,
    path: str,
    read: Method,
    broken: type[Exception],
) -> None:
    """The job goes on without us, and asking again may help (ours)."""
    vendor.get(path).mock(side_effect=broken("https://api.example said no"))
    error = await failure(read(dojo))

    assert type(error) is CouldNotFindOut
    assert error.transient
    assert vendor.calls.call_count == 1


async def test_an_error_of_ours_is_not_taken_for_one_of_the_network(
    vendor: respx.MockRouter, dojo: PixelDojo
) -> None:
    """A defect must be seen as one (ours)."""
    vendor.get("/jobs/job_1").mock(side_effect=ZeroDivisionError)

    with pytest.raises(ZeroDivisionError):
        await dojo.job("job_1")


class NoFilesLeft(MetaPathFinder):
    """Stands in for a system that lets this process open no more files."""

    def find_spec(self, *_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_a_first_request_that_cannot_load_the_client_of_http_is_not_sent(
    vendor: respx.MockRouter, dojo: PixelDojo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each import opens a file; a broken poller would end the server (ours)."""
    vendor.post(RUN).respond(json=ACCEPTED)
    with monkeypatch.context() as meanwhile:
        meanwhile.delitem(sys.modules, "wan_mcp.pixeldojo.exchange", raising=False)
        meanwhile.setattr(sys, "meta_path", [NoFilesLeft()])
        unsent, unknown = await failure(dojo.submit(WANTED)), await failure(dojo.job("job_1"))
    job = await dojo.submit(WANTED)

    assert (type(unsent), type(unknown)) == (NotSent, CouldNotFindOut)
    assert NO_FILES_LEFT in unsent.what
    assert NO_FILES_LEFT in unknown.what
    assert job.job_id == "job_1"
    assert len(vendor.calls) == 1
