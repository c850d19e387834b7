"""Around each request: room is made before it, and its answer is learnt from, whatever it says."""

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
    """A budget that writes down what happens, and does what a test wants.

    Attributes:
        steps: what happened, in order.
        replies: what was learnt from.
        on_enter: raised instead of letting a request leave.
    """

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.replies: list[Reply] = []
        self.on_enter: Exception | None = None

    async def acquire(self, use: Priority) -> None:
        self.steps.append(f"enter {use.name}")
        if self.on_enter:
            raise self.on_enter

    async def observe(self, reply: Reply, *, paid: bool) -> None:
        self.steps.append(f"heed {reply.status}{' paid' * paid}")
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
    async def submission_id(request: httpx.Request) -> httpx.Response:
        # What a real connection tells before it sends, which is where a payment is committed.
        steps = {"request": SimpleNamespace(method=request.method.encode())}
        await request.extensions["trace"]("http11.send_request_headers.started", steps)
        log.steps.append(request.method)
        return await vendor.async_handler(request)

    return PixelDojo(BASE, key, limiter=log, transport=httpx.MockTransport(submission_id))


Call = Callable[[PixelDojo], Awaitable[object]]
CALLS: dict[str, tuple[str, Priority, Call]] = {
    "submit": (RUN, Priority.SUBMIT, lambda dojo: dojo.submit(WANTED)),
    "job": ("/jobs/job_1", Priority.STATUS, lambda dojo: dojo.job("job_1")),
    "poll": ("/jobs/job_1", Priority.POLL, lambda dojo: dojo.job("job_1", Priority.POLL)),
    "jobs": ("/jobs", Priority.LIST, lambda dojo: dojo.jobs()),
    "reconcile": ("/jobs", Priority.RECONCILE, lambda dojo: dojo.jobs(Priority.RECONCILE)),
}
each_call = pytest.mark.parametrize(("path", "use", "call"), CALLS.values(), ids=CALLS)


@each_call
@pytest.mark.parametrize("status", [200, 202, 307, 401, 404, 429, 500])
async def test_room_is_made_before_a_request_and_its_answer_is_heeded(
    vendor: respx.MockRouter,
    dojo: PixelDojo,
    log: Log,
    path: str,
    use: Priority,
    call: Call,
    status: int,
) -> None:
    """Also when the answer then becomes an error (ours)."""
    vendor.route(url=BASE + path).respond(status, json=PENDING, headers={"X-RateLimit-Limit": "30"})
    try:
        await call(dojo)
    except WanError:
        assert status >= 300
    method, paid = ("POST", " paid") if use is Priority.SUBMIT else ("GET", "")

    assert log.steps == [f"enter {use.name}", method, f"heed {status}{paid}"]
    assert log.replies[0].allowance == Allowance(limit=30)


async def test_a_payment_is_committed_after_its_room_and_before_it_is_sent(
    vendor: respx.MockRouter, dojo: PixelDojo, log: Log
) -> None:
    """A wait for room must not lie between the commit and the first byte (reliability 1)."""
    vendor.post(RUN).respond(202, json=PENDING)
    await dojo.submit(WANTED, before_sending=log.commit)

    assert log.steps == ["enter SUBMIT", "commit", "POST", "heed 202 paid"]


@each_call
async def test_without_room_nothing_is_sent(
    vendor: respx.MockRouter, dojo: PixelDojo, log: Log, path: str, use: Priority, call: Call
) -> None:
    """Busy is our own word, told before a byte left (ours)."""
    log.on_enter = Busy("Full.", retry_after=3)

    with pytest.raises(Busy):
        await call(dojo)
    assert log.steps == [f"enter {use.name}"]
    assert vendor.calls.call_count == 0


@pytest.mark.parametrize("method", ["submit", "job"])
async def test_a_request_without_an_answer_teaches_nothing(
    vendor: respx.MockRouter, dojo: PixelDojo, log: Log, method: str
) -> None:
    """It stays counted: it may have arrived (ours)."""
    path, _, call = CALLS[method]
    vendor.route(url=BASE + path).mock(side_effect=httpx.ReadTimeout)

    with pytest.raises(WanError):
        await call(dojo)
    assert [step.split()[0] for step in log.steps] == [
        "enter",
        "POST" if method == "submit" else "GET",
    ]


async def test_public_pages_are_not_counted(
    vendor: respx.MockRouter, dojo: PixelDojo, log: Log
) -> None:
    """They go without the key, and the budget is the key's (assumed)."""
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
    """What says nothing usable is as if it were not there (ours)."""
    named = [(b"X-RATELIMIT-Limit", value.encode()), (b"x-ratelimit-remaining", b"7")]
    headers = httpx.Headers(named)

    assert allowance(headers, NOW) == Allowance(limit=number, remaining=7)


@pytest.mark.parametrize(
    ("offset", "seconds"), [(-3600, 0), (-1, 0), (0, 0), (1, 1), (59, 59), (300, 300), (1e6, 300)]
)
@pytest.mark.parametrize("unit", [1, 1000], ids=["seconds", "milliseconds"])
def test_a_reset_may_be_a_unix_time(offset: float, seconds: float, unit: int) -> None:
    """In seconds, or in milliseconds as some limiters of Node.js tell it (observed elsewhere)."""
    at = round((NOW.timestamp() + offset) * unit)

    assert allowance({"x-ratelimit-reset": str(at)}, NOW).reset == seconds


@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("42", 42), ("86400", 300), ("x", None)])
def test_a_reset_may_be_seconds(value: str, seconds: float | None) -> None:
    """Heeded for five minutes at most (ours)."""
    assert allowance({"x-ratelimit-reset": value}, NOW).reset == seconds
