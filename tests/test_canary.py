"""The API key appears nowhere, and no link's query in the log: both give access."""

import json
import logging
import os
import re
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from time import process_time

import anyio
import anyio.lowlevel
import httpx
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from tests.virtual_time import VirtualTime, watched_threads
from wan_mcp.errors import WanError
from wan_mcp.logs.lines import _Formatter
from wan_mcp.models import Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.pixeldojo.request import Limits, Request
from wan_mcp.sandbox import Fault, Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.server import build_server
from wan_mcp.settings import BadSettings, Settings
from wan_mcp.transports import stdio

pytestmark = pytest.mark.anyio

SLOW_MACHINE_SECONDS = 600
"""A bound on what could hang; no claim about speed."""

KEY = "pd_CANARY_5f2c9e1a77"
ECHO = f"Authorization: Bearer {KEY} was not expected"
HEADERS = {"X-Echo": ECHO, "Set-Cookie": f"key={KEY}", "Retry-After": KEY, "Location": f"/{KEY}"}
RUN, JOB = "/api/v1/models/*/run", "/api/v1/jobs/*"
WANTED = Replacement(video="https://a.example/v.mp4", character_image="https://a.example/i.png")
STATUSES = [302, 307, 400, 401, 402, 403, 404, 409, 422, 429, 500, 502, 503]


def hides_the_key(*texts: object) -> bool:
    """Whether none of the texts contains the key, even broken over lines by a log that wraps."""
    whole = re.sub(r"\s", "", " ".join(map(str, texts)))
    return KEY not in whole and "CANARY" not in whole


def echoes(*, work: bool) -> list[Fault]:
    """Answers that repeat the key wherever an answer has room for it."""
    refusals = [
        faults.status(status, body, HEADERS, work=work)
        for status in STATUSES
        for body in ({"error": {"code": KEY, "message": ECHO}}, {"error": ECHO, "message": KEY})
    ]
    pages = [faults.status(code, f"<html>{ECHO}</html>", HEADERS, work=work) for code in (200, 502)]
    return [*refusals, *pages, faults.instead({"jobId": KEY}), faults.instead([ECHO])]


JOB_FIELDS: dict[str, object] = {
    "status": KEY,
    "statusUrl": f"https://api.example/?key={KEY}",
    "creditCost": KEY,
    "expiresAt": KEY,
    KEY: KEY,
}
ENDED = [
    {"status": "failed", "error": ECHO},
    {"status": "failed", "error": {"message": ECHO, "code": KEY}},
    {"status": "completed", "output": {"video": f"https://cdn.example/{KEY}.mp4?key={KEY}"}},
    {"status": "completed", "output": {"video": f"https://{KEY}@cdn.example/"}},
    {"status": "completed", "output": ECHO},
]


def kept_in(folder: Path) -> dict[str, str]:
    """Settings: the folder of the ledger, and limits that no test reaches."""
    limits = {"WAN_MCP_MAX_IN_FLIGHT": "99", "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "99"}
    return {"WAN_MCP_DATA_DIR": str(folder / "data"), **limits}


class Listener:
    """Keeps everything that a client receives from its server."""

    def __init__(self, client: Client, sandbox: Sandbox) -> None:
        self.received: list[object] = []
        self.sandbox = sandbox
        self._client = client

    async def call(self, tool: str, **arguments: object) -> str:
        """The job's id, if the answer has one."""
        answer = await self._client.call_tool(tool, arguments, progress_callback=self._note)
        self.received.append(answer.model_dump_json())
        return str((answer.structured_content or {}).get("job_id", ""))

    async def submit(self, **more: object) -> str:
        media = {"video": self.sandbox.source_video_url, "character_image": self.sandbox.image_url}
        return await self.call("replace_character", **media, **more)

    async def _note(self, progress: float, total: float | None, message: str | None) -> None:
        self.received.append(message)


Listen = Callable[[], AbstractAsyncContextManager[Listener]]


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    with watched_threads():
        yield VirtualTime()


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest, time: VirtualTime) -> object:
    """Virtual, except for tests whose server is a process of its own."""
    return "asyncio" if "process" in request.node.name else time.backend(sockets=True)


@pytest.fixture
def listen(time: VirtualTime, tmp_path: Path) -> Listen:
    """Start a sandbox and a server, with its ledger in the test's own folder."""

    @asynccontextmanager
    async def listening() -> AsyncIterator[Listener]:
        terms = Terms(credits=1e6, list_exists=False)
        async with Sandbox(terms, clock=time.monotonic) as sandbox:
            settings = {
                "PIXELDOJO_API_KEY": sandbox.open_account(KEY),
                "PIXELDOJO_API_BASE": sandbox.api_base,
                **kept_in(tmp_path),
            }
            server = build_server(Settings.read(settings, tmp_path), clock=time.clock())
            async with Client(server) as client:
                yield Listener(client, sandbox)

    return listening


@pytest.fixture
def kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> Callable[[], list[str]]:
    """What was logged at the lowest level, printed, or left in a file."""
    caplog.set_level(logging.DEBUG)

    def texts() -> list[str]:
        files = [
            path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()
        ]
        return [caplog.text, *capsys.readouterr(), *files]

    return texts


def has_ledger(folder: Path) -> bool:
    return any(file.suffix == ".db" for file in folder.rglob("*"))


# The server


async def test_a_whole_job_does_not_show_the_key(
    listen: Listen, kept: Callable[[], list[str]], tmp_path: Path
) -> None:
    """The key is used four times on the way (ours)."""
    async with listen() as listener:
        job_id = await listener.submit(resolution=720)
        await listener.call("get_job_status", job_id=job_id)
        await listener.call("wait_for_job", job_id=job_id)
        await listener.call("list_jobs")
        used = [r for r in listener.sandbox.requests if KEY in r.headers.get("authorization", "")]

    assert len(used) > 2
    assert "completed" in str(listener.received)
    assert has_ledger(tmp_path)
    assert hides_the_key(*listener.received, *kept())


@pytest.mark.parametrize("index", range(len(echoes(work=True))))
async def test_an_upstream_that_repeats_the_key_is_not_repeated(
    listen: Listen, kept: Callable[[], list[str]], index: int
) -> None:
    """In headers, texts, codes, pages and ids, to every tool (ours)."""
    async with listen() as listener:
        listener.sandbox.fault("POST", RUN, echoes(work=True)[index], times=2)
        await listener.submit()
        listener.sandbox.clear_faults()
        job_id = await listener.submit(seed=1)
        listener.sandbox.fault("GET", "*", echoes(work=False)[index], times=None)
        await listener.call("get_job_status", job_id=job_id)
        await listener.call("wait_for_job", job_id=job_id, timeout_seconds=9)
        await listener.submit(seed=2, resolution=480)
        await listener.call("list_jobs")

    assert len(listener.received) >= 5
    assert hides_the_key(*listener.received, *kept())


@pytest.mark.parametrize("ended", ENDED)
async def test_a_job_whose_fields_repeat_the_key_loses_it(
    listen: Listen, kept: Callable[[], list[str]], ended: dict[str, object]
) -> None:
    """A video may be named after the request that made it (ours)."""
    async with listen() as listener:
        listener.sandbox.fault(
            "POST", RUN, faults.edited({**JOB_FIELDS, "output": {"video": ECHO}})
        )
        job_id = await listener.submit()
        fields = [faults.edited(JOB_FIELDS), faults.edited({**JOB_FIELDS, **ended})]
        listener.sandbox.fault(
            "GET", JOB, *fields, faults.edited({**JOB_FIELDS, **ended}), times=None
        )
        await listener.call("get_job_status", job_id=job_id)
        await listener.call("wait_for_job", job_id=job_id)

    assert len(listener.received) >= 3
    assert hides_the_key(*listener.received, *kept())


@pytest.mark.parametrize(
    "fault",
    [
        faults.reset(work=True),
        faults.dropped(work=True),
        faults.cut(', "status"'),
        faults.nested(),
        faults.endless(),
    ],
)
async def test_a_broken_exchange_does_not_show_the_key(
    listen: Listen, kept: Callable[[], list[str]], fault: Fault
) -> None:
    """The errors of the HTTP library contain the request (ours)."""
    async with listen() as listener:
        listener.sandbox.fault("POST", RUN, fault)
        await listener.submit()
        job_id = await listener.submit(seed=1)
        listener.sandbox.fault("GET", JOB, fault, times=None)
        await listener.call("get_job_status", job_id=job_id)
        await listener.call("wait_for_job", job_id=job_id, timeout_seconds=9)

    assert hides_the_key(*listener.received, *kept())


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("replace_character", {"video": KEY, "character_image": f"https://a.example/{KEY} "}),
        ("replace_character", {"video": f"https://{KEY}@a.example/", "seed": KEY}),
        ("get_job_status", {"job_id": f"../{KEY}"}),
        ("wait_for_job", {"job_id": "job_1", "timeout_seconds": KEY}),
    ],
)
async def test_an_argument_that_holds_the_key_is_not_repeated(
    listen: Listen, kept: Callable[[], list[str]], tool: str, arguments: dict[str, object]
) -> None:
    """Users paste it in the wrong place (observed elsewhere)."""
    async with listen() as listener:
        await listener.call(tool, **arguments)
        asked = listener.sandbox.requests

    assert "invalid_arguments" in str(listener.received)
    assert asked == []
    assert hides_the_key(*listener.received, *kept())


@pytest.mark.parametrize("tool", ["get_job_status", "wait_for_job"])
async def test_a_key_given_as_a_job_id_is_not_repeated(
    listen: Listen, kept: Callable[[], list[str]], tool: str
) -> None:
    """It looks like an id, so PixelDojo is asked; nobody else receives it (ours)."""
    async with listen() as listener:
        await listener.call(tool, job_id=KEY)
        asked = listener.sandbox.requests

    assert [request.path for request in asked] == [f"/api/v1/jobs/{KEY}"]
    assert hides_the_key(*listener.received, *kept())


ENCODINGS = {
    "escaped": json.dumps({"error": ECHO, "status": KEY}).replace("_", "\\u005f").encode(),
    "invisible characters": json.dumps({"error": ECHO, "status": KEY})
    .replace("CAN", "CAN\u200b")
    .encode(),
    "colours": json.dumps({"error": ECHO, "status": KEY}).replace("CAN", "CAN\\u001b[0m").encode(),
    "UTF-16": json.dumps({"error": ECHO, "status": KEY}).encode("utf-16"),
}


@pytest.mark.parametrize("body", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("status", [200, 400])
async def test_an_encoded_key_is_recognized(body: bytes, status: int) -> None:
    """JSON can be written in many ways, and our cleaning undoes some of them (ours)."""
    answer = httpx.Response(status, content=body)
    transport = httpx.MockTransport(lambda request: answer)
    dojo = PixelDojo("https://api.example", KEY, transport=transport)
    # Without the local variables, in which the answer is still encoded.
    calls = [dojo.submit(WANTED), dojo.job("job_1")]
    shown = [await report(call, variables=False) for call in calls]
    await dojo.aclose()

    assert any("[key]" in text for text in shown)
    assert hides_the_key(*shown)


# Exceptions


@pytest.mark.parametrize(
    "fault",
    [
        faults.reset(work=False),
        faults.dropped(work=False),
        faults.hung(work=False),
        faults.cut(9),
        *echoes(work=True),
    ],
)
async def test_no_exception_shows_the_key_even_with_its_variables(fault: Fault) -> None:
    """Error reporters print every frame with its variables (observed elsewhere)."""
    limits = Limits(submit_total=0.2, read_total=0.2)
    async with Sandbox() as sandbox:
        dojo = PixelDojo(sandbox.api_base, sandbox.open_account(KEY), limits=limits)
        sandbox.fault("*", "*", fault, times=None)
        shown = [
            await report(dojo.submit(WANTED)),
            await report(dojo.job("job_1")),
            await report(dojo.jobs()),
        ]
        await dojo.aclose()

    assert all("Traceback" in text for text in shown[:2])
    assert hides_the_key(*shown, repr(dojo))


async def report(call: Awaitable[object], *, variables: bool = True) -> str:
    """The result or error of a call, in every way in which it could be printed."""
    try:
        return repr(await call)
    except WanError as error:
        trace = traceback.TracebackException.from_exception(error, capture_locals=variables)
        return " ".join([str(error), repr(error), repr(vars(error)), *trace.format()])


def test_a_request_does_not_show_its_headers() -> None:
    """It may be printed in a log line or by a debugger (ours)."""
    request = Request("GET", "https://api.example/", {"Authorization": f"Bearer {KEY}"})

    assert "api.example" in repr(request)
    assert hides_the_key(request, repr(request), [request])


async def test_an_unreachable_host_does_not_show_the_key() -> None:
    """This is the most common failure (ours)."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"{request.headers}", request=request)

    dojo = PixelDojo("https://api.example", KEY, transport=httpx.MockTransport(refuse))
    shown = await report(dojo.submit(WANTED))
    await dojo.aclose()

    assert "was not sent" in shown
    assert hides_the_key(shown)


# Settings


@pytest.mark.parametrize(
    "given",
    [
        {"PIXELDOJO_API_KEY": f"{KEY} {KEY}"},
        {"PIXELDOJO_API_KEY": f"{KEY}\u00e9"},
        {"PIXELDOJO_API_KEY": KEY, "WAN_MCP_LOG_LEVEL": "LOUD"},
        {"PIXELDOJO_API_KEY": KEY, "PIXELDOJO_API_BASE": f"https://{KEY}@api.example"},
        {"PIXELDOJO_API_KEY": KEY, "PIXELDOJO_API_BASE": f"https://api.example/?key={KEY}"},
        {"PIXELDOJO_API_KEY": KEY, "PIXELDOJO_API_BASE": f"ftp://{KEY}"},
        {"PIXELDOJO_API_KEY": KEY, "WAN_MCP_API_KEY": KEY},
        {"PIXELDOJO_API_KEY": KEY, "WAN_MCP_ENV_FILE": f"/no/{KEY}"},
    ],
)
def test_a_wrong_setting_is_reported_without_its_value(
    given: dict[str, str], tmp_path: Path
) -> None:
    """The most common mistake is the key in the wrong place (ours)."""
    with pytest.raises(BadSettings) as caught:
        Settings.read(given, tmp_path)
    shown = traceback.format_exception(caught.value)

    assert "\n" not in str(caught.value)
    assert hides_the_key(caught.value, repr(caught.value), *shown)


def test_settings_never_show_the_key() -> None:
    """They are printed when something goes wrong at the start (ours)."""
    settings = Settings.read({"PIXELDOJO_API_KEY": KEY}, Path())
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"PIXELDOJO_API_KEY": [KEY], KEY: KEY})

    assert settings.api_key.get_secret_value() == KEY
    assert hides_the_key(
        settings, repr(settings), settings.model_dump(), settings.model_dump_json()
    )
    assert KEY not in str(caught.value).replace(f"{KEY}\n  Extra inputs", "")


# The process


def environment(home: Path, **more: str) -> dict[str, str]:
    paths = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    root = str(Path(stdio.__file__).parents[2])
    return {**paths, **kept_in(home), "PYTHONPATH": root, "PIXELDOJO_API_KEY": KEY, **more}


async def test_a_process_that_logs_everything_prints_no_key(tmp_path: Path) -> None:
    """Hosts keep stderr in files, and users publish them (observed elsewhere)."""
    log = tmp_path / "stderr"
    terms = Terms(pending_seconds=0, processing_seconds=0, requests_per_minute=600)
    async with Sandbox(terms) as sandbox:
        sandbox.open_account(KEY)
        sandbox.fault("GET", JOB, faults.status(403, ECHO, HEADERS), faults.edited(JOB_FIELDS))
        sandbox.fault("POST", RUN, faults.honest(), *echoes(work=True)[-4:])
        settings = {"PIXELDOJO_API_BASE": sandbox.api_base, "WAN_MCP_LOG_LEVEL": "DEBUG"}
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "wan_mcp"],
            env=environment(tmp_path, **settings),
            cwd=tmp_path,
        )
        with log.open("w") as stderr, anyio.fail_after(SLOW_MACHINE_SECONDS):
            async with Client(stdio_client(server, errlog=stderr), mode="legacy") as client:
                listener = Listener(client, sandbox)
                job_id = await listener.submit()
                for _ in range(3):
                    await listener.call("get_job_status", job_id=job_id)
                await listener.call("wait_for_job", job_id=job_id, timeout_seconds=15)
                await listener.call("wait_for_job", job_id=f"{job_id}x")
                for seed in range(4):
                    await listener.submit(seed=seed)

    assert "completed" in str(listener.received)
    assert "Using selector" in log.read_text()  # asyncio logs this only at DEBUG
    assert hides_the_key(*listener.received, log.read_text())


@asynccontextmanager
async def stdio_server(settings: dict[str, str], mode: str, log: Path) -> AsyncIterator[Client]:
    """A server as hosts start it; what it logs is in the file."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "wan_mcp"], env=settings, cwd=log.parent
    )
    with log.open("w") as stderr:
        async with Client(stdio_client(server, errlog=stderr), mode=mode) as client:
            yield client


@asynccontextmanager
async def http_server(settings: dict[str, str], mode: str, log: Path) -> AsyncIterator[Client]:
    """The same over HTTP."""
    command = [sys.executable, "-m", "wan_mcp", "http", "--port", "0"]
    process = await anyio.open_process(command, env=settings, cwd=log.parent, stdout=None)
    output, ready, url = bytearray(), anyio.Event(), re.compile(rb"http://\S+/mcp(?=\s)")

    async def listen() -> None:
        assert process.stderr
        async for piece in process.stderr:
            output.extend(piece)
            if url.search(output):
                ready.set()

    async with process, anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await ready.wait()
        found = url.search(output)
        assert found
        async with Client(found[0].decode(), mode=mode) as client:
            yield client
        process.terminate()
    await anyio.Path(log).write_bytes(output)


SIGNATURE = "SIGNED_7d1e0b93"
SIGNED = f"https://e.example/a.mp4?X-Amz-Credential=me%2F20261101&X-Sig={SIGNATURE}"


async def use_signed_links(listener: Listener, client: Client) -> None:
    """Every way in which a link enters or leaves the server."""
    media = {
        "video": listener.sandbox.source_video_url,
        "character_image": listener.sandbox.image_url,
    }
    links = {name: f"{link}?sig={SIGNATURE}" for name, link in media.items()}
    job_id = await listener.call("replace_character", **links)
    await listener.call(
        "replace_character", video=f"{SIGNED} x", character_image=[SIGNED], seed=SIGNED
    )
    await listener.call("wait_for_job", job_id=job_id, timeout_seconds=15)
    await listener.call("list_jobs", status=SIGNED)
    await client.read_resource(f"wan://jobs/{job_id}")
    await client.get_prompt("replace_a_character", {"video": SIGNED, "video_duration": SIGNED})
    for wrong in (
        client.get_prompt("replace_a_character", {"video_url": SIGNED}),
        client.get_prompt(SIGNED, {"video": SIGNED}),
        client.read_resource(SIGNED),
        client.read_resource(f"wan://jobs/{job_id}?sig={SIGNATURE}"),
        client.call_tool(SIGNED, {"video": SIGNED}),
    ):
        try:
            listener.received.append(await wrong)
        except MCPError as error:
            listener.received.append(error)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("start", [stdio_server, http_server])
async def test_a_process_that_logs_everything_prints_no_query(
    tmp_path: Path,
    start: Callable[[dict[str, str], str, Path], AbstractAsyncContextManager[Client]],
    mode: str,
) -> None:
    """Not of arguments, prompts, resources or results: a query may be a signature (ours)."""
    terms = Terms(pending_seconds=0, processing_seconds=0, requests_per_minute=600)
    log = tmp_path / "stderr"
    async with Sandbox(terms) as sandbox:
        sandbox.open_account(KEY)
        video = {"output": {"video": f"{sandbox.source_video_url}?X-Sig={SIGNATURE}"}}
        sandbox.fault("GET", JOB, faults.edited(video), times=None)
        given = {"PIXELDOJO_API_BASE": sandbox.api_base, "WAN_MCP_LOG_LEVEL": "DEBUG"}
        with anyio.fail_after(SLOW_MACHINE_SECONDS):
            async with start(environment(tmp_path, **given), mode, log) as client:
                listener = Listener(client, sandbox)
                await use_signed_links(listener, client)
    logged = log.read_text()

    assert f"X-Sig={SIGNATURE}" in str(listener.received)
    assert "Using selector" in logged  # asyncio logs this only at DEBUG
    assert "chunk: " not in logged  # nor answers, which sse_starlette would log at DEBUG
    assert SIGNATURE not in re.sub(r"\s", "", logged)


@pytest.mark.parametrize(
    "line",
    [
        f"fetching {SIGNED}",
        f"fetching wan://jobs/job_1?a={SIGNATURE}#b={SIGNATURE} and {SIGNED}#{SIGNATURE}",
        repr({"video": SIGNED, "next": [SIGNED.encode()]}),
        repr(json.dumps({"answer": json.dumps({"video": SIGNED.replace("&", "\\u0026")})})),
        f"[type=string_type, input_value={SIGNATURE!r}, input_type=str]",
        f"<a href='{SIGNED}'>",
        f"fetching https://h.example/a.mp4?name=UTF-8''clip.mp4&sig={SIGNATURE}",
        f"fetching https://h.example/it's.mp4?sig={SIGNATURE}",
        repr({"video": repr(f"https://h.example/a?d=''c&sig={SIGNATURE}")}),
    ],
)
def test_a_line_of_the_log_keeps_no_query(line: str) -> None:
    """This also holds for lines of libraries and of tracebacks (ours)."""
    try:
        raise RuntimeError(line)
    except RuntimeError as exc:
        record = logging.makeLogRecord(
            {"msg": "%s \u00fc", "args": (line,), "exc_info": (type(exc), exc, exc.__traceback__)}
        )
    formatted = _Formatter("%(message)s").format(record)

    assert "Traceback" in formatted
    assert SIGNATURE not in formatted
    assert formatted.isascii()


def test_a_line_of_the_log_keeps_the_rest() -> None:
    """A log that hides everything helps nobody (ours)."""
    record = logging.makeLogRecord({"msg": f'No ?: {SIGNED} and "https://e.example/?{SIGNATURE}".'})
    formatted = _Formatter("%(message)s").format(record)

    assert formatted == 'No ?: https://e.example/a.mp4?... and "https://e.example/?...".'


@pytest.mark.parametrize("part", ["://", "https://a/", "input_value=", "?", "://a?"])
def test_the_cost_of_a_hostile_line_is_linear_in_its_length(part: str) -> None:
    """A quadratic pattern stopped the process for 8 s over a name of 60 KB (observed)."""

    def seconds(length: int) -> float:
        record = logging.makeLogRecord({"msg": part * (length // len(part))})
        times = []
        for _ in range(5):
            began = process_time()
            _Formatter("%(message)s").format(record)
            times.append(process_time() - began)
        return min(times)

    # 16 times the length: 16 times the work, or 256 times if it were quadratic.
    assert seconds(1 << 17) < 64 * seconds(1 << 13)


@pytest.mark.parametrize(
    "wrong", [{"PIXELDOJO_API_KEY": f"{KEY} x"}, {"PIXELDOJO_API_BASE": f"https://{KEY}@x"}]
)
def test_a_process_that_refuses_its_settings_prints_no_key(
    tmp_path: Path, wrong: dict[str, str]
) -> None:
    """One line, and no traceback (ours)."""
    process = subprocess.run(
        [sys.executable, "-m", "wan_mcp"],
        env=environment(tmp_path, **wrong),
        cwd=tmp_path,
        input=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}),
        capture_output=True,
        text=True,
        timeout=SLOW_MACHINE_SECONDS,
        check=False,
    )

    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    # The front desk may have answered the ping before the settings were read.
    assert process.stdout in ("", '{"jsonrpc":"2.0","id":1,"result":{}}\n')
    assert hides_the_key(process.stderr)
