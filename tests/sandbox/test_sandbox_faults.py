"""The simulated vendor fails on request, counts its charges and survives bad clients."""

import contextlib
import gzip
import json
import re
import ssl
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import SocketStream

from wan_mcp.sandbox import Fault, Reply, Sandbox, Terms
from wan_mcp.sandbox.http import delivery, faults

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 3600
"""No test here depends on the speed of the machine; only one that hangs gets this far."""
RUN = "/api/v1/models/wan-2.2-replace/run"
BODY = {
    "video": "https://example.com/dance.mp4",
    "character_image": "https://example.com/robot.png",
    "video_duration": 5,
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    with anyio.fail_after(LIMIT_SECONDS):
        async with Sandbox(
            Terms(credits=1000), clock=lambda: 0.0, idle_seconds=LIMIT_SECONDS
        ) as sandbox:
            yield sandbox


@pytest.fixture
async def http(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    # A bare TLS context, because loading the machine's certificates takes longer than a test.
    async with httpx.AsyncClient(
        base_url=sandbox.origin,
        headers={"Authorization": f"Bearer {sandbox.key}"},
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        trust_env=False,
        timeout=None,
    ) as http:
        yield http


def raw_submit(sandbox: Sandbox, *, extra: str = "", body: bytes | None = None) -> bytes:
    content = json.dumps(BODY).encode() if body is None else body
    head = (
        f"POST {RUN} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {sandbox.key}\r\n"
        f"Content-Length: {len(content)}\r\n{extra}\r\n"
    )
    return head.encode() + content


async def connected(sandbox: Sandbox) -> SocketStream:
    return await anyio.connect_tcp("127.0.0.1", int(sandbox.origin.rpartition(":")[2]))


async def everything(stream: SocketStream) -> bytes:
    """All bytes that arrive until the other side ends the connection in good order."""
    arrived = b""
    while True:
        try:
            arrived += await stream.receive()
        except anyio.EndOfStream:
            return arrived


async def reply_to(sandbox: Sandbox, request: bytes) -> bytes:
    """All bytes that come back for these bytes, until the end of the connection."""
    async with await connected(sandbox) as stream:
        await stream.send(request)
        return await everything(stream)


@pytest.mark.parametrize(("work", "charges"), [(False, 0), (True, 1)])
async def test_reset_breaks_the_connection_off(sandbox: Sandbox, work: bool, charges: int) -> None:
    """The client sees a reset, not an end, whether the charge was made or not (ours)."""
    sandbox.fault("POST", RUN, faults.reset(work=work))
    async with await connected(sandbox) as stream:
        await stream.send(raw_submit(sandbox))
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()

    assert len(sandbox.charges) == charges
    assert sandbox.requests[0].json() == BODY


async def test_reset_can_come_before_the_body_is_read(
    sandbox: Sandbox, http: httpx.AsyncClient
) -> None:
    """The head has arrived, the body was never read, and nothing is charged (ours)."""
    sandbox.fault("POST", RUN, faults.reset(work=False, read_body=False))
    with pytest.raises(httpx.TransportError):
        await http.post(RUN, json=BODY)

    assert sandbox.charges == []
    assert [request.body for request in sandbox.requests] == [b""]


@pytest.mark.parametrize(("work", "charges"), [(False, 0), (True, 1)])
async def test_dropped_answer_ends_in_good_order(
    sandbox: Sandbox, work: bool, charges: int
) -> None:
    """No byte comes back before the end of the stream (ours)."""
    sandbox.fault("POST", RUN, faults.dropped(work=work))

    assert await reply_to(sandbox, raw_submit(sandbox)) == b""
    assert len(sandbox.charges) == len(sandbox.vendor.jobs) == charges
    assert sandbox.seen("POST", "*/run") == sandbox.requests
    assert sandbox.seen("GET", "*") == []


@pytest.mark.parametrize("work", [False, True])
async def test_hung_request_is_never_answered(
    sandbox: Sandbox, http: httpx.AsyncClient, work: bool
) -> None:
    """The request is accepted, charged or not, and the connection stays open and silent (ours)."""
    sandbox.fault("POST", RUN, faults.hung(work=work))
    answers: list[httpx.Response] = []

    async def submit() -> None:
        answers.append(await http.post(RUN, json=BODY))

    async with anyio.create_task_group() as group:
        group.start_soon(submit)
        await sandbox.until(lambda: bool(sandbox.requests and sandbox.requests[0].body))
        assert (await http.get("/api/v1/models")).status_code == 200
        group.cancel_scope.cancel()

    assert answers == []
    assert len(sandbox.charges) == work


async def test_request_can_be_held_before_and_after_the_work(
    sandbox: Sandbox, http: httpx.AsyncClient
) -> None:
    """A gate before the work delays the charge; one after it delays the reply (ours)."""
    before, after = anyio.Event(), anyio.Event()
    sandbox.fault("POST", RUN, faults.held(faults.honest(), before=before, after=after))
    answers: list[int] = []

    async def submit() -> None:
        answers.append((await http.post(RUN, json=BODY)).status_code)

    async with anyio.create_task_group() as group:
        group.start_soon(submit)
        await sandbox.until(lambda: bool(sandbox.requests))
        charged_at_first = len(sandbox.charges)
        before.set()
        await sandbox.until(lambda: bool(sandbox.charges))
        answered_by_then = list(answers)
        after.set()

    assert (charged_at_first, answered_by_then, answers) == (0, [], [202])


async def test_hold_may_be_a_number_of_seconds(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """A delay ends by itself and does not change the reply (ours)."""
    sandbox.fault("POST", RUN, faults.held(faults.honest(), before=0.001, after=0.001))

    assert (await http.post(RUN, json=BODY)).status_code == 202


@pytest.mark.parametrize("work", [False, True])
@pytest.mark.parametrize(
    ("code", "body", "headers", "content", "media_type"),
    [
        (503, "<h1>Busy</h1>", {}, b"<h1>Busy</h1>", "text/html; charset=utf-8"),
        (502, "", {}, b"", "text/plain; charset=utf-8"),
        (429, {"error": "slow"}, {"Retry-After": "7"}, b'{"error": "slow"}', "application/json"),
        (200, "not json", {}, b"not json", "text/plain; charset=utf-8"),
        (204, "", {"Content-Type": "text/odd"}, b"", "text/odd"),
    ],
)
async def test_any_status_headers_and_body_can_be_sent(
    sandbox: Sandbox,
    http: httpx.AsyncClient,
    work: bool,
    code: int,
    body: object,
    headers: dict[str, str],
    content: bytes,
    media_type: str,
) -> None:
    """The given reply arrives on a connection that stays usable, charged or not (ours)."""
    sandbox.fault("POST", RUN, faults.status(code, body, headers, work=work))
    answer = await http.post(RUN, json=BODY)
    await http.get("/api/v1/models")

    assert (answer.status_code, answer.content) == (code, content)
    assert answer.headers["content-type"] == media_type
    assert answer.headers.get("retry-after") == headers.get("Retry-After")
    assert len(sandbox.charges) == work
    assert sandbox.connections == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirect_points_anywhere(
    sandbox: Sandbox, http: httpx.AsyncClient, code: int
) -> None:
    """A redirect does no work of its own (ours)."""
    sandbox.fault("POST", RUN, faults.redirect("https://evil.example/run", code))
    answer = await http.post(RUN, json=BODY)

    assert (answer.status_code, answer.headers["location"]) == (code, "https://evil.example/run")
    assert sandbox.charges == []


@pytest.mark.parametrize(
    ("after", "has_id"), [(0, False), (12, False), ('"jobId": ', False), (', "status"', True)]
)
async def test_cut_answer_announces_the_whole(
    sandbox: Sandbox, after: int | str, has_id: bool
) -> None:
    """The announced length is the full one; the bytes stop before or after the job's id (ours)."""
    sandbox.fault("POST", RUN, faults.cut(after))
    head, _, body = (await reply_to(sandbox, raw_submit(sandbox))).partition(b"\r\n\r\n")

    (charge,) = sandbox.charges
    assert head.startswith(b"HTTP/1.1 202 ")
    assert (charge.job_id.encode() in body) == has_id
    announced = int(head.lower().partition(b"content-length: ")[2].split()[0])
    assert len(body) < announced


async def test_stalled_answer_stops_and_stays_open(
    sandbox: Sandbox, http: httpx.AsyncClient
) -> None:
    """After the first bytes neither more bytes nor the end arrive (ours)."""
    sandbox.fault("POST", RUN, faults.cut(5, stall=True))
    arrived = bytearray()
    ended: list[bytes] = []

    async def receive_more() -> None:
        ended.append(await everything(stream))

    async with await connected(sandbox) as stream, anyio.create_task_group() as group:
        await stream.send(raw_submit(sandbox))
        while not arrived.endswith(b'\r\n\r\n{"job'):
            arrived += await stream.receive()
        group.start_soon(receive_more)
        assert (await http.get("/api/v1/models")).status_code == 200
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    assert ended == []
    assert len(sandbox.charges) == 1


async def test_dripping_answer_arrives_whole(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """The honest reply arrives byte by byte, but completely (ours)."""
    sandbox.fault("POST", RUN, faults.drip())
    answer = await http.post(RUN, json=BODY)

    assert answer.json()["jobId"] == sandbox.charges[0].job_id


async def test_endless_answer_stops_only_at_its_limit(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is far longer than any honest reply, and its JSON never ends (ours)."""
    monkeypatch.setattr(delivery, "ENDLESS_LIMIT_BYTES", 4 << 20)
    sandbox.fault("POST", RUN, faults.endless())
    size = len(await reply_to(sandbox, raw_submit(sandbox)))

    assert 4 << 20 <= size < 5 << 20
    assert len(sandbox.charges) == 1


async def test_endless_answer_ends_when_the_client_hangs_up(
    sandbox: Sandbox, http: httpx.AsyncClient
) -> None:
    """The sandbox does not wait for a client that has read enough (ours)."""
    sandbox.fault("POST", RUN, faults.endless())
    async with http.stream("POST", RUN, json=BODY) as answer:
        async for _ in answer.aiter_bytes():
            break

    assert (await http.post(RUN, json=BODY)).status_code == 202


async def test_gzip_bomb_is_small_until_unpacked(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """A few KB on the wire are valid JSON of the requested size (ours)."""
    sandbox.fault("POST", RUN, faults.gzip_bomb(2))
    async with http.stream("POST", RUN, json=BODY) as answer:
        packed = b"".join([block async for block in answer.aiter_raw()])

    assert answer.headers["content-encoding"] == "gzip"
    assert len(packed) < 20_000
    assert len(json.loads(gzip.decompress(packed))["pad"]) == 2 << 20


@pytest.mark.parametrize(
    ("fault", "content"),
    [
        (faults.instead([{"jobId": "job_1"}]), b'[{"jobId": "job_1"}]'),
        (faults.instead({"jobId": 10**30}), b'{"jobId": 1' + b"0" * 30 + b"}"),
        (faults.instead({"creditCost": float("nan")}), b'{"creditCost": NaN}'),
        (faults.nested(3), b'{"output":[[[]]]}'),
    ],
)
async def test_wrong_shapes_are_sent_after_the_work(
    sandbox: Sandbox, http: httpx.AsyncClient, fault: Fault, content: bytes
) -> None:
    """A complete reply of the wrong shape leaves the charge in place (ours)."""
    sandbox.fault("POST", RUN, fault)
    answer = await http.post(RUN, json=BODY)

    assert (answer.status_code, answer.content) == (200, content)
    assert len(sandbox.charges) == 1


async def test_honest_answer_can_be_edited(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """Some fields are changed, and the rest stays true (ours)."""
    sandbox.fault("GET", "/api/v1/jobs/*", faults.edited({"jobId": "job_other"}))
    accepted = (await http.post(RUN, json=BODY)).json()
    edited = (await http.get(f"/api/v1/jobs/{accepted['jobId']}")).json()
    honest = (await http.get(f"/api/v1/jobs/{accepted['jobId']}")).json()

    assert edited == honest | {"jobId": "job_other"}


async def test_faults_are_taken_one_per_matching_request(
    sandbox: Sandbox, http: httpx.AsyncClient
) -> None:
    """A script is played in order, and only by requests that match method and path (ours)."""
    script = (faults.status(500), faults.honest(), faults.status(503))
    sandbox.fault("GET", "/api/v1/models/*", *script)
    paths = ("/api/v1/models", "/api/v1/models/wan-2.2-replace?x=1")
    seen = [(await http.get(path)).status_code for path in paths * 4]

    assert seen == [200, 500, 200, 200, 200, 503, 200, 200]


async def test_script_can_repeat_until_cleared(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """A script is played so many times, or forever, until the faults are cleared (ours)."""
    sandbox.fault("*", "*", faults.status(500), times=2)
    sandbox.fault("*", "*", faults.status(502), faults.status(503), times=None)
    seen = [(await http.get("/api/v1/models")).status_code for _ in range(5)]
    sandbox.clear_faults()
    seen.append((await http.get("/api/v1/models")).status_code)

    assert seen == [500, 500, 502, 503, 502, 200]


async def test_script_without_faults_changes_nothing(
    sandbox: Sandbox, http: httpx.AsyncClient
) -> None:
    """An empty script does not search forever for its next fault (ours)."""
    sandbox.fault("*", "*", times=None)

    assert (await http.get("/api/v1/models")).status_code == 200


@pytest.mark.parametrize(
    ("reply", "send", "read_body"), [(None, "cut", True), (None, "whole", True)]
)
def test_honest_reply_needs_the_work(reply: Reply | None, send: Any, read_body: bool) -> None:
    """Without the work there is no honest reply to send (ours)."""
    with pytest.raises(ValueError, match="no honest reply"):
        Fault(work=False, reply=reply, send=send, read_body=read_body)


def test_work_needs_the_body() -> None:
    """A request that was not read cannot be charged (ours)."""
    with pytest.raises(ValueError, match="needs the body"):
        faults.reset(work=True, read_body=False)


@pytest.mark.parametrize("code", [99, 100, 199, 600])
def test_status_that_http_does_not_have_is_refused(code: int) -> None:
    """Only final statuses can be sent (ours)."""
    with pytest.raises(ValueError, match="200 to 599"):
        faults.status(code)


async def test_other_processes_queue_faults_as_json(
    sandbox: Sandbox, http: httpx.AsyncClient
) -> None:
    """Over HTTP the faults have the same names, and can be cleared again (ours)."""
    script = {
        "method": "POST",
        "path": RUN,
        "faults": [
            {"fault": "status", "code": 500, "body": "<p>", "work": True, "after": 0.001},
            {"fault": "edited", "changes": {"creditCost": 99}},
        ],
        "times": 2,
    }
    queued = await http.post("/sandbox/faults", json=script)
    answers = [await http.post(RUN, json=BODY) for _ in range(3)]
    cleared = await http.delete("/sandbox/faults")
    honest = await http.post(RUN, json=BODY)

    assert (queued.status_code, cleared.status_code) == (204, 204)
    assert [answer.status_code for answer in answers] == [500, 202, 500]
    assert answers[1].json()["creditCost"] == 99
    assert honest.json()["creditCost"] == 10
    assert len(sandbox.charges) == 4


@pytest.mark.parametrize(
    "script",
    [
        [],
        {"faults": []},
        {"path": "*"},
        {"path": "*", "faults": [{"fault": "explode"}]},
        {"path": "*", "faults": [{}]},
        {"path": "*", "faults": ["reset"]},
        {"path": "*", "faults": [{"fault": "reset"}]},
        {"path": "*", "faults": [{"fault": "reset", "work": True, "colour": 1}]},
        {"path": "*", "faults": [{"fault": "status", "code": "x"}]},
        {"path": "*", "faults": [{"fault": "status", "code": 500, "headers": ["a"]}]},
        {"path": "*", "faults": [{"fault": "status", "code": 500, "headers": {"a": 1}}]},
        {"path": "*", "faults": [{"fault": "status", "code": 500, "headers": {"a": "b\r\nc"}}]},
        {"path": "*", "faults": [{"fault": "cut", "at": [1]}]},
        {"path": "*", "faults": [{"fault": "drip", "seconds": "x"}]},
        {"path": "*", "faults": [{"fault": "edited", "changes": 5}]},
        {"path": "*", "faults": [{"fault": "honest", "before": "soon"}]},
        {"path": 5, "faults": [{"fault": "honest"}]},
        {"path": "*", "faults": [{"fault": "honest"}], "times": "x"},
        {"path": "*", "method": 5, "faults": [{"fault": "honest"}]},
    ],
)
async def test_invalid_fault_script_is_refused(
    sandbox: Sandbox, http: httpx.AsyncClient, script: object
) -> None:
    """It gets a 400 with a reason, and no later request fails (ours)."""
    refused = await http.post("/sandbox/faults", json=script)
    honest = await http.get("/api/v1/models")

    assert refused.status_code == 400
    assert refused.json()["error"]
    assert honest.status_code == 200


async def test_web_page_cannot_set_faults(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """A type that a browser sends without permission is refused, against forgery (ours)."""
    refused = await http.post(
        "/sandbox/faults", content=b"{}", headers={"Content-Type": "text/plain"}
    )
    unknown = await http.get("/sandbox/other")

    assert (refused.status_code, unknown.status_code) == (415, 404)


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000, 431),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n" + b" " * 2**21,
            413,
        ),
    ],
)
async def test_bad_request_is_rejected(
    sandbox: Sandbox, http: httpx.AsyncClient, garbage: bytes, status: int
) -> None:
    """Invalid HTTP, or too much of it, gets a status and the end; others are served (ours)."""
    answer = await reply_to(sandbox, garbage)

    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert (await http.get("/api/v1/models")).status_code == 200
    assert sandbox.charges == []


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: localhost\r\n"])
async def test_client_that_closes_early_is_ignored(
    sandbox: Sandbox, http: httpx.AsyncClient, sent: bytes
) -> None:
    """A connection closed before its request is complete is no request and no failure (ours)."""
    async with await connected(sandbox) as stream:
        await stream.send(sent)

    assert (await http.get("/api/v1/models")).status_code == 200
    assert len(sandbox.requests) == 1


async def test_body_that_stops_short_is_not_worked_on(sandbox: Sandbox) -> None:
    """A submit whose body the client cut off charges nothing (ours)."""
    async with await connected(sandbox) as stream:
        await stream.send(raw_submit(sandbox)[:-10])
        await stream.send_eof()
        await everything(stream)

    assert sandbox.charges == []


@pytest.mark.parametrize("sent", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Le"])
async def test_slow_client_is_cut_off(sent: bytes) -> None:
    """A request must be complete within the idle time, and is not answered otherwise (ours).

    On a slow machine the sandbox ends the connection before it has read what was sent. The system
    then reports a reset, after all bytes that arrived before it.
    """
    arrived = b""
    with anyio.fail_after(LIMIT_SECONDS):
        async with Sandbox(idle_seconds=0.01) as sandbox, await connected(sandbox) as stream:
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.send(sent)
                while True:
                    arrived += await stream.receive()

    assert arrived == b""


async def test_one_connection_carries_many_requests(sandbox: Sandbox) -> None:
    """Pipelined requests, one chunked, one HEAD, are answered in their order (RFC 9112)."""
    body = json.dumps(BODY).encode()
    chunked = raw_submit(sandbox, body=b"").replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    head = b"HEAD /media/clip.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = raw_submit(sandbox, extra="Connection: close\r\n")
    answer = await reply_to(sandbox, chunked + head + last)

    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answer)
    assert statuses == [b"202", b"200", b"202"]
    assert (sandbox.connections, len(sandbox.charges)) == (1, 2)


async def test_client_that_waits_for_continue_gets_it(sandbox: Sandbox) -> None:
    """The sandbox asks for the body before it is sent (RFC 9110)."""
    request = raw_submit(sandbox, extra="Expect: 100-continue\r\nConnection: close\r\n")
    head, _, body = request.partition(b"\r\n\r\n")
    async with await connected(sandbox) as stream:
        await stream.send(head + b"\r\n\r\n")
        first = await stream.receive()
        await stream.send(body)
        rest = await everything(stream)

    assert first.startswith(b"HTTP/1.1 100 ")
    assert rest.startswith(b"HTTP/1.1 202 ")


async def test_end_of_the_block_ends_every_connection() -> None:
    """Held, hung and idle connections do not keep the sandbox from closing (ours)."""
    with anyio.fail_after(LIMIT_SECONDS):
        async with Sandbox() as sandbox:
            sandbox.fault("POST", RUN, faults.hung(work=True))
            sandbox.fault("POST", RUN, faults.held(faults.honest(), before=anyio.Event()))
            streams = [await connected(sandbox) for _ in range(3)]
            for stream in streams[:2]:
                await stream.send(raw_submit(sandbox))
            await sandbox.until(lambda: len(sandbox.requests) == 2)
        for stream in streams:
            async with stream:
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()


async def test_mistake_in_a_fault_surfaces_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """A cut at a text that never comes is the test's own error, and is raised (ours)."""

    async def mistaken() -> None:
        async with Sandbox() as sandbox:
            sandbox.fault("POST", RUN, faults.cut("no such text"))
            await reply_to(sandbox, raw_submit(sandbox))

    with anyio.fail_after(LIMIT_SECONDS), pytest.raises(ExceptionGroup) as failure:
        await mistaken()

    assert failure.group_contains(ValueError, match="not found")
    assert "failed while it answered" in caplog.text
