"""Waiting for a job, in virtual time: when PixelDojo is asked, and what the caller gets."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from mcp import Client
from mcp.types import CallToolResult

from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

JOB = "job_1"
VIDEO = "https://cdn.example/v.mp4"
MEDIA = {"video": "https://a.example/v.mp4", "character_image": "https://a.example/i.png"}
PENDING = {"jobId": JOB, "status": "pending"}
COMPLETED = {"jobId": JOB, "status": "completed", "output": {"video": VIDEO}}
FAILED = {"jobId": JOB, "status": "failed", "error": "No person was found"}

Answer = tuple[int, Any, dict[str, str]]


def ok(page: object) -> Answer:
    return 200, page, {}


def bad(status: int, **headers: str) -> Answer:
    return status, {"error": "no"}, {name.replace("_", "-"): headers[name] for name in headers}


class PixelDojo(httpx.AsyncBaseTransport):
    """A simulated PixelDojo with a list of answers about one job; the last one is repeated."""

    def __init__(self) -> None:
        self.answers = [ok(PENDING)]
        self.reads: list[float] = []
        """The times at which the job was read, in seconds from the start."""
        self.limit = {"X-RateLimit-Limit": "60"}
        self.posts = 0
        self.arrived = anyio.Event()
        self.before_answer: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # A real connection reports these steps before it sends; the commit point hangs on them.
        trace = request.extensions["trace"]
        sent = SimpleNamespace(method=request.method.encode())
        await trace("connection.connect_tcp.started", {})
        await trace("http11.send_request_headers.started", {"request": sent})
        if request.method == "POST":
            self.posts += 1
        elif request.url.path.endswith(f"/jobs/{JOB}"):
            self.reads.append(round(anyio.current_time() - 1_000, 1))
        else:
            return httpx.Response(404)
        self.arrived.set()
        await self.before_answer()
        if request.method == "POST":
            return httpx.Response(202, json=PENDING, headers=self.limit)
        status, page, headers = self.answers.pop(0) if self.answers[1:] else self.answers[0]
        return httpx.Response(status, json=page, headers=self.limit | headers)


time, anyio_backend = in_virtual_time()


@pytest.fixture
def dojo() -> PixelDojo:
    return PixelDojo()


Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def connect(time: VirtualTime, dojo: PixelDojo, tmp_path: Path) -> Connect:
    """A client of a real server, whose ledger is in the test's own folder."""
    given = {
        "PIXELDOJO_API_KEY": "pd_test",
        "PIXELDOJO_API_BASE": "https://api.example/api/v1",
        "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
    }

    @asynccontextmanager
    async def connected(mode: str = "auto") -> AsyncIterator[Client]:
        settings = Settings.read(given, tmp_path)
        server = build_server(settings, clock=time.clock(), transport=dojo)
        async with Client(server, mode=mode) as client:
            yield client

    return connected


@pytest.fixture
async def client(connect: Connect) -> AsyncIterator[Client]:
    async with connect() as client:
        yield client


async def submit(client: Client) -> None:
    result = await client.call_tool("replace_character", MEDIA)
    assert not result.is_error


async def wait(client: Client, seconds: int = 45) -> CallToolResult:
    arguments = {"job_id": JOB, "timeout_seconds": seconds}
    return await client.call_tool("wait_for_job", arguments)


def data(result: CallToolResult) -> dict[str, Any]:
    structured: dict[str, Any] | None = result.structured_content
    assert structured is not None
    return structured


def gaps(times: list[float]) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in pairwise(times)]


async def run_pending() -> None:
    """Run all tasks until nothing can happen without a timer."""
    for _ in range(200):
        await anyio.lowlevel.checkpoint()


# When PixelDojo is asked


async def test_a_new_job_is_read_after_3_s_and_9_s_and_then_every_5_s(
    client: Client, dojo: PixelDojo
) -> None:
    """In simulations: 23 reads per job, and a mean delay of 3 s (docs/waiting.md)."""
    await submit(client)
    await wait(client)

    assert dojo.reads[:9] == [3, 9, 14, 19, 24, 29, 34, 39, 44]
    assert all(at <= 45 for at in dojo.reads)


async def test_an_older_job_is_read_less_often(client: Client, dojo: PixelDojo) -> None:
    """After 3 % of its age, at most 15 s (docs/waiting.md)."""
    await submit(client)
    await wait(client, 900)
    reads = dojo.reads[1:-1]

    assert gaps(reads) == [
        6.0 if at < 9 else pytest.approx(min(max(0.03 * at, 5), 15), abs=0.2) for at in reads[:-1]
    ]
    assert gaps(reads)[-1] == 15


@pytest.mark.parametrize(("chance", "first"), [(0.0, 2.7), (1.0, 3.3)])
async def test_the_schedule_varies_by_up_to_10_percent(
    client: Client, dojo: PixelDojo, time: VirtualTime, chance: float, first: float
) -> None:
    """Servers that start together must not ask together (ours)."""
    time.chance = chance
    await submit(client)
    await wait(client)

    assert dojo.reads[0] == first


async def test_a_job_from_before_a_restart_is_read_at_once(client: Client, dojo: PixelDojo) -> None:
    """It may have ended long ago (ours)."""
    await wait(client)

    assert dojo.reads[:4] == [0, 3, 9, 14]


@pytest.mark.parametrize("new", [True, False])
async def test_a_wait_of_0_s_is_one_read(client: Client, dojo: PixelDojo, new: bool) -> None:
    """`timeout_seconds` may be 0 (ours)."""
    if new:
        await submit(client)
    result = await wait(client, 0)

    assert dojo.reads == [0]
    assert data(result)["status"] == "running"


async def test_a_second_wait_continues_the_schedule_of_the_first(
    client: Client, dojo: PixelDojo
) -> None:
    """A host that ends calls after 60 s must not make the job look new again (ours)."""
    await submit(client)
    await wait(client, 300)
    dojo.reads.clear()
    await wait(client, 60)

    assert min(gaps(dojo.reads[:-1])) > 8.9


# What the caller gets


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_progress_is_sent_at_once_and_then_with_every_read(
    connect: Connect, dojo: PixelDojo, mode: str
) -> None:
    """Some transports send nothing before the first event (observed elsewhere)."""
    notes: list[tuple[float, str | None]] = []
    noted = anyio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        assert total is None  # no invented percentage
        notes.append((progress, message))
        noted.set()

    dojo.before_answer = noted.wait
    dojo.answers = [ok(PENDING), bad(503), ok({"jobId": JOB, "status": "dreaming"}), ok(COMPLETED)]
    async with connect(mode) as client:
        arguments = {"job_id": JOB, "timeout_seconds": 45}
        await client.call_tool("wait_for_job", arguments, progress_callback=note)
        await run_pending()
    steps = [done for done, _ in notes]

    assert len(notes) == 1 + len(dojo.reads) == 5
    assert steps == sorted(set(steps))
    assert all(message for _, message in notes)
    assert "dreaming" in str(notes[3][1])


async def test_a_wait_whose_time_is_up_answers_with_the_next_step(
    client: Client, dojo: PixelDojo
) -> None:
    """Most hosts give up after 60 s, so this is the usual case (ours)."""
    await submit(client)
    result = await wait(client)

    assert not result.is_error
    assert data(result)["status"] == "running"
    assert data(result)["charged"] == "no"
    assert data(result)["elapsed_seconds"] == 45
    assert f'wait_for_job with job_id "{JOB}"' in data(result)["next"]


async def test_a_completed_job_is_answered_at_once_and_never_read_again(
    client: Client, dojo: PixelDojo
) -> None:
    """A video is final, whatever PixelDojo reports later (docs/waiting.md)."""
    await submit(client)
    dojo.answers = [ok(PENDING), ok(COMPLETED), ok(PENDING)]
    first = await wait(client)
    reads = list(dojo.reads)
    later = [await wait(client), await look(client)]

    assert reads == [3, 9]
    assert dojo.reads == reads
    assert [data(result)["status"] for result in (first, *later)] == ["completed"] * 3
    assert [result.is_error for result in (first, *later)] == [False] * 3


async def look(client: Client) -> CallToolResult:
    return await client.call_tool("get_job_status", {"job_id": JOB})


ODD_WORDS = ["failed", "error", "expired", "timed_out", "cancelled"]


@pytest.mark.parametrize("word", ODD_WORDS)
async def test_one_odd_answer_is_not_the_end_of_a_job(
    client: Client, dojo: PixelDojo, word: str
) -> None:
    """The job goes on, an equal call meanwhile buys nothing, and the video is the result (ours)."""
    await submit(client)
    dojo.answers = [ok({"jobId": JOB, "status": word}), ok(COMPLETED)]
    await anyio.sleep(3.5)
    odd = await look(client)
    again = await client.call_tool("replace_character", MEDIA)
    ended = await wait(client)

    assert (data(odd)["status"], data(odd)["vendor_status"]) == ("running", word)
    assert "reported once that it ended without a video" in data(odd)["message"]
    assert "wait_for_job" in data(odd)["next"]
    assert (data(again)["charged"], data(again)["job_id"], dojo.posts) == ("no", JOB, 1)
    assert (data(ended)["status"], data(ended)["video_url"]) == ("completed", VIDEO)


async def test_a_failure_is_reported_after_a_second_reading_five_seconds_later(
    client: Client, dojo: PixelDojo
) -> None:
    """Nobody has to wait for long until a failure is certain (ours)."""
    await submit(client)
    dojo.answers = [ok(PENDING), ok(FAILED)]
    failed = await wait(client)

    assert dojo.reads == [3, 9, 14]
    assert (data(failed)["status"], data(failed)["error"]) == ("failed", "No person was found")
    assert anyio.current_time() == pytest.approx(1_014, abs=0.2)


async def test_a_failure_that_nobody_waits_for_is_confirmed_as_soon(
    client: Client, dojo: PixelDojo
) -> None:
    """Until then it uses a place among the jobs in flight (ours)."""
    await submit(client)
    await look(client)
    dojo.answers = [ok(FAILED)]
    await anyio.sleep(40)

    first, second, *more = dojo.reads[1:]
    assert second - first == pytest.approx(5, abs=1.1)
    assert more == []


async def test_asking_twice_at_once_confirms_nothing(client: Client, dojo: PixelDojo) -> None:
    """Two calls at one moment see one and the same odd answer (ours)."""
    await submit(client)
    dojo.answers = [ok(FAILED)]
    answers = [await look(client), await look(client)]

    assert [data(answer)["status"] for answer in answers] == ["running"] * 2


async def test_a_failed_job_whose_video_appears_later_is_completed(
    client: Client, dojo: PixelDojo
) -> None:
    """Whoever asks for it gets the video, and an equal call buys nothing then (ours)."""
    await submit(client)
    dojo.answers = [ok(FAILED), ok(FAILED), bad(500), ok(PENDING), ok(COMPLETED)]
    failed = await wait(client)
    still = []
    for _ in range(2):
        await anyio.sleep(10)
        still.append(await look(client))
    await anyio.sleep(10)
    completed = await wait(client)
    again = await client.call_tool("replace_character", MEDIA)

    assert [data(each)["status"] for each in (failed, *still)] == ["failed"] * 3
    assert (data(completed)["status"], data(completed)["video_url"]) == ("completed", VIDEO)
    assert (data(again)["charged"], data(again)["status"]) == ("no", "completed")
    assert dojo.posts == 1


async def test_an_hour_after_its_end_a_failed_job_is_not_read_again(
    client: Client, dojo: PixelDojo
) -> None:
    """A link to its video would be dead by then (observed elsewhere)."""
    await submit(client)
    dojo.answers = [ok(FAILED)]
    await wait(client)
    await anyio.sleep(3_600)
    reads = list(dojo.reads)
    later = [await wait(client), await look(client)]

    assert dojo.reads == reads
    assert [data(each)["status"] for each in later] == ["failed"] * 2


async def test_a_wait_for_an_ended_job_takes_no_time(client: Client, dojo: PixelDojo) -> None:
    """Agents often check a job and then wait for it (ours)."""
    dojo.answers = [ok(COMPLETED)]
    await client.call_tool("get_job_status", {"job_id": JOB})
    before = anyio.current_time()
    await wait(client)

    assert anyio.current_time() == before


async def test_a_job_with_an_unknown_status_word_is_running_and_the_word_is_reported(
    client: Client, dojo: PixelDojo
) -> None:
    """PixelDojo may add words (assumed)."""
    dojo.answers = [ok({"jobId": JOB, "status": "dreaming"})]
    result = await wait(client)

    assert len(dojo.reads) > 5
    assert (data(result)["status"], data(result)["vendor_status"]) == ("running", "dreaming")


async def test_a_host_that_ends_calls_after_60_s_can_wait_for_a_job_of_20_minutes(
    client: Client, dojo: PixelDojo
) -> None:
    """Claude Desktop and the TypeScript SDK end them then (observed elsewhere)."""
    await submit(client)
    dojo.answers = [ok(PENDING)]
    calls = 0
    status = "running"
    while status == "running":
        calls += 1
        if anyio.current_time() > 1_000 + 1_200:
            dojo.answers = [ok(COMPLETED)]
        with anyio.fail_after(60):  # virtual seconds
            status = data(await client.call_tool("wait_for_job", {"job_id": JOB}))["status"]

    assert status == "completed"
    assert 25 <= calls <= 30
    assert dojo.posts == 1


@pytest.mark.parametrize("limit", ["60", "10"])
async def test_progress_is_sent_at_least_every_20_s(
    client: Client, dojo: PixelDojo, limit: str
) -> None:
    """Also if the rate limit permits few reads (ours)."""
    dojo.limit = {"X-RateLimit-Limit": limit}
    times: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        times.append(anyio.current_time())

    await submit(client)
    arguments = {"job_id": JOB, "timeout_seconds": 900}
    await client.call_tool("wait_for_job", arguments, progress_callback=note)
    await run_pending()

    assert times[-1] - times[0] == pytest.approx(900, abs=20)
    assert max(gaps(times)) <= 20


# Errors


async def test_an_old_reading_is_reported_with_its_age(client: Client, dojo: PixelDojo) -> None:
    """The status "running" may be out of date (ours)."""
    await submit(client)
    await wait(client, 20)
    dojo.answers = [bad(503)]
    result = await wait(client, 120)
    message = data(result)["message"]

    assert not result.is_error
    assert "2 min 1 s ago" in message


@pytest.mark.parametrize("status", [429, 503])
async def test_the_next_read_obeys_retry_after(
    client: Client, dojo: PixelDojo, status: int
) -> None:
    """An earlier request would be refused for longer (ours)."""
    dojo.answers = [bad(status, Retry_After="30"), bad(status, Retry_After="1"), ok(COMPLETED)]
    result = await wait(client, 60)

    assert dojo.reads[:2] == [0, 30]
    assert dojo.reads[2] >= 33
    assert data(result)["status"] == "completed"


async def test_retry_after_holds_beyond_the_end_of_a_wait(client: Client, dojo: PixelDojo) -> None:
    """It holds for a new call too (ours)."""
    await submit(client)
    dojo.answers = [bad(429, Retry_After="200")]
    first = await wait(client)
    second = await wait(client)

    assert dojo.reads == [3]
    assert [data(result)["status"] for result in (first, second)] == ["running", "running"]


async def test_a_status_check_obeys_retry_after(client: Client, dojo: PixelDojo) -> None:
    """Up to 10 s the call waits; otherwise the answer names the time (ours)."""
    dojo.answers = [bad(429, Retry_After="4"), ok(PENDING), bad(429, Retry_After="40")]
    short = await client.call_tool("get_job_status", {"job_id": JOB})
    await anyio.sleep(4)
    long = await client.call_tool("get_job_status", {"job_id": JOB})

    assert not short.is_error
    assert data(long)["code"] == "rate_limited"
    assert "40 s" in data(long)["message"]
    assert dojo.reads == [0, 4, 8]


async def test_a_wait_survives_404_replies_in_the_first_two_minutes(
    client: Client, dojo: PixelDojo
) -> None:
    """The job may not be visible everywhere yet (docs/waiting.md)."""
    await submit(client)
    dojo.answers = [bad(404)] * 20 + [ok(COMPLETED)]
    result = await wait(client, 120)

    assert len(dojo.reads) == 21
    assert data(result)["status"] == "completed"


async def test_a_status_check_of_a_new_job_that_is_missing_says_running(
    client: Client, dojo: PixelDojo
) -> None:
    """After "unknown id" a model would call the paid tool again (ours)."""
    await submit(client)
    dojo.answers = [bad(404)]
    result = await client.call_tool("get_job_status", {"job_id": JOB})

    assert not result.is_error
    assert data(result)["status"] == "running"


async def test_an_older_job_is_lost_after_three_404_replies_in_a_row(
    client: Client, dojo: PixelDojo
) -> None:
    """A 404 between other answers is a short fault (docs/waiting.md)."""
    await submit(client)
    await wait(client, 200)
    dojo.answers = [bad(404), bad(404), ok(PENDING), bad(404), bad(404), bad(404), ok(COMPLETED)]
    dojo.reads.clear()
    result = await wait(client, 300)

    assert len(dojo.reads) == 6
    assert data(result)["status"] == "lost"


async def test_an_unknown_id_is_an_error_at_once(client: Client, dojo: PixelDojo) -> None:
    """There is nothing to wait for (ours)."""
    dojo.answers = [bad(404)]
    result = await wait(client)

    assert dojo.reads == [0]
    assert data(result)["code"] == "not_found"


async def test_a_completed_job_without_a_link_is_read_until_it_has_one(
    client: Client, dojo: PixelDojo
) -> None:
    """The link may come shortly after the status "completed" (docs/waiting.md)."""
    dojo.answers = [ok({"jobId": JOB, "status": "completed"})] * 3 + [ok(COMPLETED)]
    result = await wait(client)

    assert data(result)["video_url"] == VIDEO


# Cancelling


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_after_a_cancelled_wait_the_job_is_polled_slowly(
    connect: Connect, dojo: PixelDojo, mode: str
) -> None:
    """The user pressed stop, but the video is still saved (ours)."""
    async with connect(mode) as client:
        await submit(client)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, client, 900)
            await dojo.arrived.wait()
            tasks.cancel_scope.cancel()
        await anyio.sleep(60)
        dojo.reads.clear()
        await anyio.sleep(600)

    assert 2 <= len(dojo.reads) <= 20
    assert min(gaps(dojo.reads)) >= 30


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_submit_finishes_and_the_equal_call_returns_its_job(
    connect: Connect, dojo: PixelDojo, mode: str
) -> None:
    """The payment belongs to the server (promises 4)."""
    answer = anyio.Event()
    dojo.before_answer = answer.wait
    async with connect(mode) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(submit, client)
            await dojo.arrived.wait()
            tasks.cancel_scope.cancel()
        answer.set()
        again = await client.call_tool("replace_character", MEDIA)

    assert dojo.posts == 1
    assert (data(again)["job_id"], data(again)["charged"]) == (JOB, "no")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_server_that_stops_lets_a_submit_finish(
    connect: Connect, dojo: PixelDojo, mode: str
) -> None:
    """Hosts close standard input while an answer is on its way (promises 4)."""
    dojo.before_answer = run_pending
    async with connect(mode) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(submit, client)
        await dojo.arrived.wait()
        tasks.cancel_scope.cancel()
    async with connect(mode) as client:
        again = await client.call_tool("replace_character", MEDIA)

    assert dojo.posts == 1
    assert (data(again)["job_id"], data(again)["charged"]) == (JOB, "no")
