"""The rate limiter is asked before each request, and observes every answer."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace

import httpx
import pytest
import respx

from wan_mcp.errors import Busy, NoKey, WanError
from wan_mcp.models import Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.pixeldojo.priority import Priority
from wan_mcp.pixeldojo.reply import Allowance, Reply, allowance

pytestmark = pytest.mark.anyio

BASE = "https://api.example/api/v1"
RUN = "/models/wan-2.2-replace/run"
WANTED = Replacement(video="https://a.example/v.mp4", character_image="https://a.example/i.png")
PENDING = {"jobId": "job_1", "status": "pending", "jobs": []}
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Log:
    """A rate limiter that writes down what happens.

    Attributes:
        steps: what happened, in order.
        replies: the answers that were observed.
        refusal: raised by `acquire`, if there is one.
    """

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.replies: list[Reply] = []
        self.refusal: Exception | None = None

    async def acquire(self, priority: Priority) -> None:
        self.steps.append(f"acquire {priority.name}")
        if self.refusal:
            raise self.refusal

    async def observe(self, reply: Reply, *, paid: bool) -> None:
        self.steps.append(f"observe {reply.status}{' paid' * paid}")
        self.replies.append(reply)

    async def commit(self) -> None:
        self.steps.append("commit")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def vendor() -> respx.MockRouter:
    """PixelDojo as a table of routes; a request to anything else fails the test."""
    return respx.MockRouter(base_url=BASE, assert_all_called=False)


@pytest.fixture
async def dojo(vendor: respx.MockRouter, log: Log) -> AsyncIterator[PixelDojo]:
    client = connected(vendor, log)
    yield client
    await client.aclose()


def connected(vendor: respx.MockRouter, log: Log, key: str = "pd_key") -> PixelDojo:
    async def answer(request: httpx.Request) -> httpx.Response:
        # A real connection reports this step before it sends; there a payment is committed.
        steps = {"request": SimpleNamespace(method=request.method.encode())}
        await request.extensions["trace"]("http11.send_request_headers.started", steps)
        log.steps.append(request.method)
        return await vendor.async_handler(request)

    return PixelDojo(BASE, key, limiter=log, transport=httpx.MockTransport(answer))


Call = Callable[[PixelDojo], Awaitable[object]]
CALLS: dict[str, tuple[str, Priority, Call]] = {
    "submit": (RUN, Priority.SUBMIT, lambda dojo: dojo.submit(WANTED)),
    "job": ("/jobs/job_1", Priority.STATUS, lambda dojo: dojo.job("job_1")),
    "poll": ("/jobs/job_1", Priority.POLL, lambda dojo: dojo.job("job_1", Priority.POLL)),
    "jobs": ("/jobs", Priority.LIST, lambda dojo: dojo.jobs()),
    "reconcile": ("/jobs", Priority.RECONCILE, lambda dojo: dojo.jobs(Priority.RECONCILE)),
}
each_call = pytest.mark.parametrize(("path", "priority", "call"), CALLS.values(), ids=CALLS)


@each_call
@pytest.mark.parametrize("status", [200, 202, 307, 401, 404, 429, 500])
async def test_each_request_is_acquired_and_its_answer_observed(
    vendor: respx.MockRouter,
    dojo: PixelDojo,
    log: Log,
    path: str,
    priority: Priority,
    call: Call,
    status: int,
) -> None:
    """Also if the answer then becomes an error (ours)."""
    vendor.route(url=BASE + path).respond(status, json=PENDING, headers={"X-RateLimit-Limit": "30"})
    try:
        await call(dojo)
    except WanError:
        assert status >= 300
    method, paid = ("POST", " paid") if priority is Priority.SUBMIT else ("GET", "")

    assert log.steps == [f"acquire {priority.name}", method, f"observe {status}{paid}"]
    assert log.replies[0].allowance == Allowance(limit=30)


async def test_a_payment_is_committed_after_the_rate_limiter_and_before_it_is_sent(
    vendor: respx.MockRouter, dojo: PixelDojo, log: Log
) -> None:
    """No wait may come between the commit and the first byte (docs/promises.md rule 2)."""
    vendor.post(RUN).respond(202, json=PENDING)
    await dojo.submit(WANTED, before_sending=log.commit)

    assert log.steps == ["acquire SUBMIT", "commit", "POST", "observe 202 paid"]


@each_call
async def test_a_request_that_must_wait_is_not_sent(
    vendor: respx.MockRouter, dojo: PixelDojo, log: Log, path: str, priority: Priority, call: Call
) -> None:
    """Busy is raised before a byte is sent (ours)."""
    log.refusal = Busy("Full.", retry_after=3)

    with pytest.raises(Busy):
        await call(dojo)
    assert log.steps == [f"acquire {priority.name}"]
    assert vendor.calls.call_count == 0


@pytest.mark.parametrize("method", ["submit", "job"])
async def test_without_an_answer_nothing_is_observed(
    vendor: respx.MockRouter, dojo: PixelDojo, log: Log, method: str
) -> None:
    """The request stays counted, because it may have arrived (ours)."""
    path, _, call = CALLS[method]
    vendor.route(url=BASE + path).mock(side_effect=httpx.ReadTimeout)

    with pytest.raises(WanError):
        await call(dojo)
    assert [step.split()[0] for step in log.steps] == [
        "acquire",
        "POST" if method == "submit" else "GET",
    ]


async def test_public_pages_are_not_counted(
    vendor: respx.MockRouter, dojo: PixelDojo, log: Log
) -> None:
    """They are fetched without the key, and PixelDojo counts by key (assumed)."""
    vendor.get(url__startswith=f"{BASE}/models").respond(json={"creditCost": 10})
    await dojo.model()
    await dojo.resolution_is_number()

    assert log.steps == ["GET", "GET"]
    assert vendor.calls.call_count == 2


async def test_without_a_key_nothing_is_counted(vendor: respx.MockRouter, log: Log) -> None:
    """Nothing would be sent (ours)."""
    dojo = connected(vendor, log, key="")

    with pytest.raises(NoKey):
        await dojo.job("job_1")
    assert log.steps == []


# The headers


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("60", 60),
        (" 10 ", 10),
        ("0", 0),
        ("1000000000", 10**9),
        ("9" * 16, None),
        ("-1", None),
        ("+60", None),
        ("6e1", None),
        ("60.0", None),
        ("60, 60;w=60", None),
        ("unlimited", None),
        ("\u0666\u0660", None),
        ("\u00b2", None),
        ("", None),
    ],
)
def test_a_number_in_a_header_is_plain_digits(value: str, number: int | None) -> None:
    """An unusable header is ignored (ours)."""
    named = [(b"X-RATELIMIT-Limit", value.encode()), (b"x-ratelimit-remaining", b"7")]
    headers = httpx.Headers(named)

    assert allowance(headers, NOW) == Allowance(limit=number, remaining=7)


@pytest.mark.parametrize(
    ("offset", "seconds"), [(-3600, 0), (-1, 0), (0, 0), (1, 1), (59, 59), (300, 300), (1e6, 300)]
)
@pytest.mark.parametrize("unit", [1, 1000], ids=["seconds", "milliseconds"])
def test_a_reset_may_be_a_unix_time(offset: float, seconds: float, unit: int) -> None:
    """In seconds, or in milliseconds as some limiters of Node.js do (observed elsewhere)."""
    at = round((NOW.timestamp() + offset) * unit)

    assert allowance({"x-ratelimit-reset": str(at)}, NOW).reset == seconds


@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("42", 42), ("86400", 300), ("x", None)])
def test_a_reset_may_be_seconds(value: str, seconds: float | None) -> None:
    """It counts for five minutes at most (ours)."""
    assert allowance({"x-ratelimit-reset": value}, NOW).reset == seconds
