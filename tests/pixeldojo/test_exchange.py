"""One exchange over real sockets: every limit, and the exact border between unsent and unknown."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from tests.virtual_time import in_virtual_time
from tests.web import self_signed
from tests.web.self_signed import system_store_is_openssl
from wan_mcp.errors import CouldNotFindOut, NotSent, OutcomeUnknown
from wan_mcp.models import Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.pixeldojo.exchange import MAX_BODY_BYTES, Exchange
from wan_mcp.pixeldojo.reply import Reply
from wan_mcp.pixeldojo.request import Commit, Limits, Request
from wan_mcp.sandbox import Fault, Sandbox
from wan_mcp.sandbox.http import faults

pytestmark = pytest.mark.anyio

time, anyio_backend = in_virtual_time(sockets=True)

KEY = "pd_sandbox"
WANTED = Replacement(video="https://a.example/v.mp4", character_image="https://a.example/i.png")
PATIENT = Limits(connect=60, write=60, read=60, submit_total=60, read_total=60)
SHORT_TOTAL = Limits(connect=60, write=60, read=60, submit_total=2, read_total=2)
SHORT_PARTS = Limits(connect=2, write=2, read=2, submit_total=60, read_total=60)
ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Length: 17\r\n\r\n{"jobId":"job_1"}'
HANG_SECONDS = 600
"""Virtual seconds after which a test that hangs fails."""
AWAY = "https://pixeldojo.test/api/v1"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxies of this machine do not count; a test names its own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@asynccontextmanager
async def dojo_at(base: str, limits: Limits = PATIENT) -> AsyncIterator[PixelDojo]:
    dojo = PixelDojo(base, KEY, limits=limits)
    with anyio.fail_after(HANG_SECONDS):
        yield dojo
        await dojo.aclose()


async def read(url: str, limits: Limits = PATIENT) -> Reply:
    """The answer to one GET with the key."""
    exchange = Exchange(limits, direct=True)
    try:
        with anyio.fail_after(HANG_SECONDS):
            return await exchange.send(Request("GET", url, {"Authorization": f"Bearer {KEY}"}))
    finally:
        await exchange.aclose()


class Server:
    """Keeps everything that arrives, and runs its script on each connection."""

    def __init__(self, script: "Script") -> None:
        self.received = b""
        self.connections = 0
        self.connected = anyio.Event()
        self.closed = anyio.Event()
        self.port = 0
        self._script = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.connected.set()
        try:
            await self._script(self, reader, writer)
            with suppress(ConnectionError):
                while data := await reader.read(65_536):
                    self.received += data
        finally:
            writer.close()
            self.closed.set()

    async def until(self, mark: bytes, reader: asyncio.StreamReader) -> None:
        start = len(self.received)
        while mark not in self.received[start:]:
            data = await reader.read(65_536)
            assert data, "the client hung up"
            self.received += data


Script = Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def silent(
    server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Reads forever and never answers."""


def saying(answer: bytes, after: bytes = b"}") -> Script:
    """Answers once `after` has arrived; the default is the last byte of a submit."""

    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.until(after, reader)
        writer.write(answer)

    return script


@asynccontextmanager
async def listening(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        with anyio.fail_after(HANG_SECONDS):
            yield server
    finally:
        listener.close()
    await listener.wait_closed()


# Limits


async def test_a_submit_has_a_deadline_for_all_of_it(sandbox: Sandbox) -> None:
    """A call must not hang, and the charge is then unknown (docs/promises.md rule 6)."""
    sandbox.fault("POST", "*", faults.hung(work=True))
    async with dojo_at(sandbox.api_base, SHORT_TOTAL) as dojo:
        with pytest.raises(OutcomeUnknown, match="no answer in time"):
            await dojo.submit(WANTED)

    assert len(sandbox.charges) == 1


async def test_a_read_has_a_deadline_for_all_of_it(sandbox: Sandbox) -> None:
    """Shorter than a submit's: asking again costs nothing (ours)."""
    sandbox.fault("GET", "*", faults.hung(work=True))
    async with dojo_at(sandbox.api_base, SHORT_TOTAL) as dojo:
        with pytest.raises(CouldNotFindOut, match="no answer in time"):
            await dojo.jobs()


async def test_silence_is_limited_within_the_deadline(sandbox: Sandbox) -> None:
    """Every byte restarts the limit of one read (ours)."""
    sandbox.fault("POST", "*", faults.hung(work=False))
    async with dojo_at(sandbox.api_base, SHORT_PARTS) as dojo:
        with pytest.raises(OutcomeUnknown, match="no answer in time"):
            await dojo.submit(WANTED)


async def test_a_slow_drip_cannot_stretch_the_deadline(sandbox: Sandbox) -> None:
    """A byte from time to time satisfies any limit on silence (ours)."""
    sandbox.fault("GET", "*", faults.drip(0.2))
    reply = await read(f"{sandbox.api_base}/models/wan-2.2-replace", SHORT_TOTAL)

    assert reply.status == 200
    assert not reply.whole
    assert len(reply.body) < 20


async def test_a_drip_within_the_deadline_is_an_answer(sandbox: Sandbox) -> None:
    """Slow is not broken (ours)."""
    sandbox.fault("POST", "*", faults.drip())
    async with dojo_at(sandbox.api_base) as dojo:
        job = await dojo.submit(WANTED)

    assert job.job_id == sandbox.charges[0].job_id


async def flood(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers without end, until the client hangs up."""
    await server.until(b"\r\n\r\n", reader)
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n{"jobId":"')
    with suppress(ConnectionError):
        while True:
            writer.write(b"a" * 65_536)
            await writer.drain()


async def test_an_endless_body_is_read_up_to_the_limit_and_no_further() -> None:
    """1 MiB; a job's answer has a few hundred bytes (ours)."""
    async with listening(flood) as server:
        reply = await read(f"http://127.0.0.1:{server.port}/")
        await server.closed.wait()
        async with dojo_at(f"http://127.0.0.1:{server.port}") as dojo:
            with pytest.raises(CouldNotFindOut, match="too large"):
                await dojo.job("job_1")
            with pytest.raises(OutcomeUnknown, match="very likely"):
                await dojo.submit(WANTED)

    assert len(reply.body) == MAX_BODY_BYTES
    assert not reply.whole


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000]
)
async def test_an_answer_that_is_not_http_leaves_a_submit_unknown(answer: bytes) -> None:
    """Endless headers included: a job may exist behind them (docs/promises.md rule 6)."""
    async with (
        listening(saying(answer)) as server,
        dojo_at(f"http://127.0.0.1:{server.port}/api") as dojo,
    ):
        with pytest.raises(OutcomeUnknown):
            await dojo.submit(WANTED)

    assert server.connections == 1


async def test_dates_in_an_answer_are_read_by_its_own_clock() -> None:
    """This machine's clock may be wrong: 42 s are 42 s (RFC 9110, `Date`)."""
    lines = (
        b"HTTP/1.1 429 Slow Down",
        b"Date: Mon, 02 Jan 2006 15:04:05 GMT",
        b"Retry-After: Mon, 02 Jan 2006 15:04:47 GMT",
        b"X-RateLimit-Reset: 1136214255",
        b"Content-Length: 0",
    )
    answer = b"\r\n".join([*lines, b"", b""])
    async with listening(saying(answer, after=b"\r\n\r\n")) as server:
        reply = await read(f"http://127.0.0.1:{server.port}/jobs")

    assert (reply.retry_after, reply.allowance.reset) == (42, 10)


async def test_a_compressed_body_is_not_unpacked(sandbox: Sandbox) -> None:
    """We did not ask for it, and 194 KB can become 200 MB (ours)."""
    sandbox.fault("GET", "*", faults.gzip_bomb(2), times=2)
    reply = await read(f"{sandbox.api_base}/jobs")
    async with dojo_at(sandbox.api_base) as dojo:
        with pytest.raises(CouldNotFindOut, match="not JSON"):
            await dojo.job("job_1")

    assert reply.whole
    assert reply.body.startswith(b"\x1f\x8b")
    assert len(reply.body) < 100_000


# A damaged answer to a submit


@pytest.mark.parametrize("stall", [False, True], ids=["closed", "kept open"])
async def test_the_job_id_is_salvaged_from_a_damaged_answer(sandbox: Sandbox, stall: bool) -> None:
    """The job is paid: without its id the video would be lost (docs/promises.md rule 3)."""
    sandbox.fault("POST", "*", faults.cut(', "status"', stall=stall))
    async with dojo_at(sandbox.api_base, SHORT_TOTAL) as dojo:
        job = await dojo.submit(WANTED)

    assert [charge.job_id for charge in sandbox.charges] == [job.job_id]
    assert job.note


@pytest.mark.parametrize("stall", [False, True], ids=["closed", "kept open"])
@pytest.mark.parametrize(
    ("after", "said"), [(0, "does not tell whether"), ('"jobId": "job_', "very likely")]
)
async def test_half_an_id_is_not_accepted(
    sandbox: Sandbox, after: int | str, said: str, stall: bool
) -> None:
    """Half an id names nothing, or another job; no word at all does not even say that (ours)."""
    sandbox.fault("POST", "*", faults.cut(after, stall=stall))
    async with dojo_at(sandbox.api_base, SHORT_TOTAL) as dojo:
        with pytest.raises(OutcomeUnknown, match=said):
            await dojo.submit(WANTED)

    assert len(sandbox.charges) == 1


@pytest.mark.parametrize("fault", [faults.cut(10), faults.cut(10, stall=True)])
async def test_a_damaged_answer_to_a_read_is_no_answer(sandbox: Sandbox, fault: Fault) -> None:
    """Half a status could say anything (ours)."""
    sandbox.fault("GET", "*", fault)
    async with dojo_at(sandbox.api_base, SHORT_TOTAL) as dojo:
        with pytest.raises(CouldNotFindOut, match="broke off"):
            await dojo.jobs()


# Connections


async def test_every_submit_has_a_fresh_connection_and_reads_share_one(sandbox: Sandbox) -> None:
    """Near the idle limit of a server keep-alive loses answers (docs/promises.md rule 5)."""
    async with dojo_at(sandbox.api_base) as dojo:
        for _ in range(3):
            await dojo.jobs()
            await dojo.submit(WANTED)
    reads = {request.connection for request in sandbox.seen("GET", "*")}
    submits = [request.connection for request in sandbox.seen("POST", "*")]

    assert len(reads) == 1
    assert len({*submits, *reads}) == 4


@pytest.mark.parametrize("base", ["http://127.0.0.1:{}", "http://localhost:{}"])
async def test_proxies_are_not_asked_for_this_machine(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    """Their loopback is another machine's (ours)."""
    async with listening(silent) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        port = sandbox.origin.rpartition(":")[2]
        async with dojo_at(base.format(port) + "/api/v1") as dojo:
            await dojo.submit(WANTED)

    assert len(sandbox.charges) == 1
    assert proxy.connections == 0


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (saying(b"HTTP/1.1 403 Forbidden\r\n\r\n", after=b"\r\n\r\n"), "the proxy refused"),
        (saying(b"HTTP/1.1 407 Pay\r\n\r\n", after=b"\r\n\r\n"), "the proxy refused"),
        (saying(b"HTTP/1.1 200 OK\r\n\r\n", after=b"\r\n\r\n"), "connecting took too long"),
        (silent, "no answer in time"),
    ],
    ids=["refuses", "wants a login", "tunnels to nowhere", "hangs"],
)
async def test_a_submit_that_stops_at_the_proxy_is_unsent(
    monkeypatch: pytest.MonkeyPatch, script: Script, why: str
) -> None:
    """Only the tunnel was requested, nothing of the submit itself was sent (ours)."""
    async with listening(script) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hunter2@127.0.0.1:{proxy.port}")
        async with dojo_at(AWAY, SHORT_PARTS) as dojo:
            with pytest.raises(NotSent) as caught:
                await dojo.submit(WANTED, before_sending=unwanted)
            with pytest.raises(CouldNotFindOut):
                await dojo.job("job_1")
        await proxy.closed.wait()

    assert caught.value.what == f"The request was not sent ({why})."
    assert proxy.received.startswith(b"CONNECT pixeldojo.test:443 HTTP/1.1\r\n")
    assert b"POST" not in proxy.received
    assert KEY.encode() not in proxy.received


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "ftp://127.0.0.1"),
        ("HTTPS_PROXY", "http://127.0.0.1:port"),
    ],
)
async def test_an_unusable_proxy_is_named_and_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """The proxy may be the only way out, so it is not passed by (ours)."""
    monkeypatch.setenv(name, value)
    async with dojo_at(AWAY) as dojo:
        with pytest.raises(NotSent, match="the proxy named in the environment") as unsent:
            await dojo.submit(WANTED, before_sending=unwanted)
        with pytest.raises(CouldNotFindOut, match="the proxy named in the environment") as unread:
            await dojo.job("job_1")

    assert not unsent.value.transient
    assert not unread.value.transient


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["socks", "socks5", "socks5h"])
async def test_socks_as_the_only_way_out_says_what_to_install(
    name: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user has one command to run, and nothing was sent (ours)."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(name, f"{scheme}://user:hunter2@127.0.0.1:1080")

    async with dojo_at(AWAY) as dojo:
        with pytest.raises(NotSent, match="pip install socksio") as unsent:
            await dojo.submit(WANTED, before_sending=unwanted)

    assert not unsent.value.transient
    assert "hunter2" not in unsent.value.what


@pytest.mark.parametrize("base", ["http://127.0.0.1:99999", "https://[::1]:99999"])
async def test_a_port_that_does_not_exist_is_unsent(base: str) -> None:
    """anyio raises a group of errors for it, not a failed connection (observed)."""
    async with dojo_at(base) as dojo:
        with pytest.raises(NotSent):
            await dojo.submit(WANTED, before_sending=unwanted)
        with pytest.raises(CouldNotFindOut):
            await dojo.job("job_1")


# Certificates


certificate, tls = self_signed.certificate, self_signed.tls


async def test_an_untrusted_certificate_gets_nothing_and_no_second_try(
    tls: ssl.SSLContext,
) -> None:
    """A second try would not help (ours)."""
    async with (
        listening(silent, tls) as server,
        dojo_at(f"https://localhost:{server.port}") as dojo,
    ):
        with pytest.raises(NotSent, match="not trusted on this machine") as unsent:
            await dojo.submit(WANTED, before_sending=unwanted)
        with pytest.raises(CouldNotFindOut, match="not trusted on this machine") as unread:
            await dojo.job("job_1")

    assert not unsent.value.transient
    assert not unread.value.transient
    assert server.received == b""


@system_store_is_openssl
async def test_the_trust_store_of_the_system_decides(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the private authorities of companies (ours)."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with (
        listening(saying(ACCEPTED), tls) as server,
        dojo_at(f"https://localhost:{server.port}") as dojo,
    ):
        job = await dojo.submit(WANTED)

    assert job.job_id == "job_1"


@system_store_is_openssl
async def test_a_proxy_of_the_environment_carries_the_submit(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit comes between the tunnel and the POST in it (docs/promises.md rule 2)."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    seen: list[tuple[int, bytes]] = []

    async def commit() -> None:
        await upstream.connected.wait()
        await everything_ready_has_run()
        seen.append((upstream.connections, upstream.received))

    async with (
        listening(saying(ACCEPTED), tls) as upstream,
        listening(tunnel_to(upstream)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with dojo_at(AWAY) as dojo:
            job = await dojo.submit(WANTED, before_sending=commit)

    assert job.job_id == "job_1"
    assert seen == [(1, b"")]
    assert upstream.received.startswith(b"POST /api/v1/models/wan-2.2-replace/run HTTP/1.1\r\n")


def tunnel_to(upstream: Server) -> Script:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.until(b"\r\n\r\n", reader)
        onward, away = await asyncio.open_connection("127.0.0.1", upstream.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with anyio.create_task_group() as both:
            both.start_soon(pour, reader, away)
            both.start_soon(pour, onward, writer)

    return script


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


# The commit point


async def unwanted() -> None:
    pytest.fail("a request that cannot be sent was committed")


async def everything_ready_has_run() -> None:
    """Let all tasks of this process that are ready run."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def submit(server: Server, commit: Commit, limits: Limits = PATIENT) -> None:
    async with dojo_at(f"http://127.0.0.1:{server.port}/api", limits) as dojo:
        await dojo.submit(WANTED, before_sending=commit)


async def test_the_commit_is_awaited_once_between_connecting_and_sending() -> None:
    """After the first byte a charge is possible (docs/promises.md rule 2)."""
    seen: list[tuple[int, bytes]] = []

    async def commit() -> None:
        await server.connected.wait()
        await everything_ready_has_run()
        seen.append((server.connections, server.received))

    async with listening(saying(ACCEPTED)) as server:
        await submit(server, commit)

    assert seen == [(1, b"")]
    assert server.received.startswith(b"POST /api/models/wan-2.2-replace/run HTTP/1.1\r\n")


async def test_a_commit_that_fails_keeps_everything_unsent() -> None:
    """A ledger that is full or locked stops the payment (docs/promises.md rule 11)."""

    class Full(Exception):
        pass

    async def commit() -> None:
        await server.connected.wait()
        raise Full

    async with listening(silent) as server:
        with pytest.raises(Full):
            await submit(server, commit)
        await server.closed.wait()

    assert (server.connections, server.received) == (1, b"")


async def test_a_commit_that_takes_too_long_keeps_everything_unsent() -> None:
    """The deadline counts from the start, and the error says that nothing was sent (ours)."""
    async with listening(silent) as server:
        with pytest.raises(NotSent):
            await submit(server, anyio.sleep_forever, SHORT_TOTAL)
        await server.closed.wait()

    assert (server.connections, server.received) == (1, b"")


async def test_a_refused_connection_is_never_committed() -> None:
    """No record may say "sending" of an unsent request (docs/promises.md rule 2)."""
    async with listening(silent) as server:
        pass  # from here on nobody listens there
    with pytest.raises(NotSent, match="no connection"):
        await submit(server, unwanted)

    assert server.connections == 0


async def test_a_read_is_never_committed(sandbox: Sandbox) -> None:
    """Only what can cost credits is written down (ours)."""
    exchange = Exchange(PATIENT, direct=True)
    request = Request("GET", f"{sandbox.api_base}/models", {}, before_sending=None)
    reply = await exchange.send(request)
    await exchange.aclose()

    assert reply.status == 200


# Cancelling


async def test_a_cancel_while_connecting_leaves_nothing_sent() -> None:
    """A handshake that never ends is an example of any slow connection (ours)."""
    async with listening(silent) as server, anyio.create_task_group() as tasks:
        async with dojo_at(f"https://localhost:{server.port}") as dojo:
            tasks.start_soon(dojo.submit, WANTED)
            await server.connected.wait()
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await server.closed.wait()

    assert b"POST" not in server.received


async def test_a_cancel_during_the_commit_leaves_nothing_sent() -> None:
    """The write to the disk may still land; the request does not (ours)."""
    committing = anyio.Event()

    async def commit() -> None:
        committing.set()
        await anyio.sleep_forever()

    async with listening(silent) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(submit, server, commit)
            await committing.wait()
            tasks.cancel_scope.cancel()
        await server.closed.wait()

    assert server.received == b""


async def test_a_cancel_after_the_commit_ends_at_once_and_sends_no_more() -> None:
    """The caller knows from its commit that the outcome is unknown (docs/promises.md rule 6)."""
    committed: list[bool] = []

    async def commit() -> None:
        committed.append(True)

    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.until(b"}", reader)
        tasks.cancel_scope.cancel()

    async with listening(script) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(submit, server, commit)
        await server.closed.wait()

    assert committed == [True]
    assert server.connections == 1
    assert server.received.count(b"POST ") == 1
