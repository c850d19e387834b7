"""Every message of the server is valid in the published schema of the revision it belongs to."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import jsonschema  # type: ignore[import-untyped]  # it has no types of its own
import pytest
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage

from tests.connected import EPOCH, KEY, TERMS
from tests.surface.wire_schema import HANDSHAKE, MODERN, Message, violations
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.front_desk.lines import Line, LongLine
from wan_mcp.sandbox import Sandbox
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.vendor.vendor import FAILING
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.transports import stdio
from wan_mcp.transports.messages import Unreadable, decoded

pytestmark = pytest.mark.anyio

time, anyio_backend = in_virtual_time(0.0, sockets=True)

RUN = "/api/v1/models/wan-2.2-replace/run"
CLOSED = "http://127.0.0.1:9/api/v1"
"""Where nobody listens (the discard port)."""
INFO = {"name": "test", "version": "1"}
CAN_ASK = ["2025-06-18", "2025-11-25", MODERN]
"""The revisions with elicitation."""
YES: Message = {"action": "accept", "content": {"spend": True}}
NO: Message = {"action": "decline"}
WITH_PICTURES = ["2024-11-05", MODERN]
"""The revisions that are tried with a contact sheet; making it costs more than all the rest."""
OF_ALL = {
    *("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    *("prompts/get", "resources/read", "completion/complete", "tools/call"),
    *("error", "notifications/progress", "notifications/resources/updated"),
    *("running", "completed", "failed", "submitting", "unknown", "refused"),
    *("invalid_arguments", "not_found", "insufficient_credits", "rate_limited"),
    "outcome_unknown",
}
OF_HANDSHAKE = OF_ALL | {"initialize", "ping", "resources/subscribe", "resources/unsubscribe"}
OF_MODERN = OF_ALL | {
    *("server/discover", "notifications/subscriptions/acknowledged", "task"),
    *("tasks/get", "tasks/update", "tasks/cancel", "notifications/tasks"),
}


class Conversation:
    """One client in raw JSON-RPC, which keeps each message with the method that it answers."""

    def __init__(
        self,
        revision: str,
        out: ObjectSendStream[SessionMessage | Exception],
        back: ObjectReceiveStream[SessionMessage],
    ) -> None:
        self.heard: list[tuple[str | None, Message]] = []
        self.reply = YES
        """What the user says to a question."""
        self.has_tasks = False
        """Whether it declares the tasks extension."""
        self._revision, self._out, self._back = revision, out, back
        self._ids = count(1)
        self._asked: dict[int, str] = {}

    @property
    def is_modern(self) -> bool:
        return self._revision == MODERN

    async def open(self) -> None:
        """Begin as a client of the revision does."""
        if self._revision == MODERN:
            return
        capabilities: Message = {"elicitation": {}} if self._revision in CAN_ASK else {}
        hello: Message = {"protocolVersion": self._revision, "capabilities": capabilities}
        answer = await self.ask("initialize", **hello, clientInfo=INFO)
        assert answer["result"]["protocolVersion"] == self._revision
        await self.tell("notifications/initialized")

    async def ask(self, method: str, meta: Message | None = None, **params: Any) -> Message:
        """Send a request; the whole message that answers it."""
        id = await self.send(method, meta, **params)
        return await self.until(lambda message: message.get("id") == id)

    async def send(self, method: str, meta: Message | None = None, **params: Any) -> int:
        """Send a request; its id."""
        id = next(self._ids)
        self._asked[id] = method
        known = {**(self.envelope() if self._revision == MODERN else {}), **(meta or {})}
        with_meta = {**params, "_meta": known} if known else params
        await self._write({"id": id, "method": method, "params": with_meta})
        return id

    def envelope(self) -> Message:
        """What a request of the newest revision says about its sender."""
        extensions: Message = {"io.modelcontextprotocol/tasks": {}} if self.has_tasks else {}
        prefix = "io.modelcontextprotocol/"
        return {
            f"{prefix}protocolVersion": MODERN,
            f"{prefix}clientInfo": INFO,
            f"{prefix}clientCapabilities": {
                "elicitation": {"form": {}},
                "extensions": extensions,
            },
        }

    async def tell(self, method: str, **params: Any) -> None:
        """Send a notification."""
        await self._write({"method": method, "params": params})

    async def until(self, is_it: Callable[[Message], bool]) -> Message:
        """Hear the server out until a certain message, and answer its questions."""
        while True:
            answer = await self._back.receive()
            message: Message = json.loads(stdio._encode(answer.message))
            is_request = "method" in message and "id" in message
            method = None if "method" in message else self._asked.get(message.get("id", 0))
            self.heard.append((method, message))
            if is_request:
                await self._write({"id": message["id"], "result": self.reply})
            elif is_it(message):
                return message

    async def call(self, tool: str, **arguments: Any) -> Message:
        """Call a tool, answer the question that it may ask, and return its result."""
        given: Message = {"name": tool, "arguments": arguments}
        result = (await self.ask("tools/call", {"progressToken": "p"}, **given))["result"]
        if result.get("resultType") == "input_required":
            said = dict.fromkeys(result["inputRequests"], self.reply)
            more = {"inputResponses": said, "requestState": result["requestState"]}
            result = (await self.ask("tools/call", **given, **more))["result"]
        found: Message = result
        return found

    async def _write(self, message: Message) -> None:
        line = decoded(json.dumps({"jsonrpc": "2.0", **message}).encode())
        assert line is not None
        assert not isinstance(line, Unreadable)
        await self._out.send(SessionMessage(line))

    def kinds(self) -> set[str]:
        """What has been heard: answers by their methods, notifications, statuses and codes."""
        found: set[str] = set()
        for method, message in self.heard:
            result = message.get("result", {})
            data = result.get("structuredContent", {})
            found |= {
                "error" if "error" in message else str(method or message.get("method")),
                *(str(result.get("resultType")), str(data.get("status")), str(data.get("code"))),
                *(str(job["status"]) for job in data.get("jobs", [])),
            }
        return found

    def broken(self) -> list[str]:
        """What all that was heard breaks, in the schema of the revision and of the tools."""
        return [
            *(
                fault
                for method, message in self.heard
                for fault in violations(message, self._revision, method)
            ),
            *self._undescribed(),
        ]

    def _undescribed(self) -> list[str]:
        results = [message.get("result", {}) for _, message in self.heard]
        tools = next(result["tools"] for result in results if "tools" in result)
        schemas = [tool["outputSchema"] for tool in tools]
        return [
            f"no output schema fits {result['structuredContent']}"
            for result in results
            if "structuredContent" in result
            and not any(
                jsonschema.Draft202012Validator(schema).is_valid(result["structuredContent"])
                for schema in schemas
            )
        ]


@asynccontextmanager
async def conversation(
    revision: str, time: VirtualTime, data: Path, **settings: str
) -> AsyncIterator[tuple[Conversation, Sandbox]]:
    """A client on a server of its own, which saves videos, with the sandbox as PixelDojo."""
    async with Sandbox(TERMS, clock=time.monotonic, epoch=EPOCH) as sandbox:
        given = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": KEY,
            "WAN_MCP_DATA_DIR": str(data),
            **settings,
        }
        server = build_server(Settings.read(given, data), local=True, clock=time.clock())
        low = server._lowlevel_server
        out, requests = anyio.create_memory_object_stream[SessionMessage | Exception](9)
        answers, back = anyio.create_memory_object_stream[SessionMessage](99)
        async with out, back, low.lifespan(low) as state, anyio.create_task_group() as tasks:

            async def serve() -> None:
                await serve_dual_era_loop(low, requests, answers, lifespan_state=state)

            tasks.start_soon(serve)
            client = Conversation(revision, out, back)
            await client.open()
            yield client, sandbox
            await out.aclose()


async def ask_for_the_surface(client: Conversation, sandbox: Sandbox) -> None:
    """All lists, prompts, completions, and what is wrong with such requests."""
    for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        assert "result" in await client.ask(method)
        assert "error" in await client.ask(method, cursor="x")
    links = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    assert "result" in await client.ask("prompts/get", name="replace_a_character", arguments=links)
    assert "error" in await client.ask("prompts/get", name="another", arguments={})
    assert "result" in await client.ask("resources/read", uri="wan://jobs")
    assert "result" in await client.ask("resources/read", uri="ui://wan-mcp/player.html")
    assert "error" in await client.ask("resources/read", uri="wan://jobs/job_x/nothing")
    assert "error" in await client.ask("resources/read", uri="not a uri")
    for ref in (
        {"type": "ref/resource", "uri": "wan://jobs/{job_id}"},
        {"type": "ref/prompt", "name": "replace_a_character"},
    ):
        argument = {"name": "job_id", "value": ""}
        assert "result" in await client.ask("completion/complete", ref=ref, argument=argument)
    assert "error" in await client.ask("completion/complete", ref={"type": "ref/odd"})
    assert "error" in await client.ask("nobody/knows")
    assert "error" in await client.ask("tools/call", name=7)
    await client.ask("tools/call", name="another_tool", arguments={})


async def run_jobs(client: Conversation, sandbox: Sandbox, time: VirtualTime) -> None:
    """Each tool in each status, the resources of a job, and how it is followed."""
    links = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    await client.call("list_jobs")
    await client.call("replace_character", video="file:///etc/passwd", resolutoin="480")
    id = (await client.call("replace_character", **links, seed=1))["structuredContent"]["job_id"]
    await client.call("replace_character", **links, seed=1)
    await follow(client, id)
    for tool in ("get_job_status", "wait_for_job"):
        await client.call(tool, job_id=id)
        await client.call(tool, job_id="job_nobody")
        await client.call(tool, job_id="../keys")
    await client.call("wait_for_job", job_id=id, timeout_seconds=0)
    failing = sandbox.origin + FAILING
    failed = await client.call("replace_character", **{**links, "video": failing}, seed=1)
    time.now += 61
    for each in (id, failed["structuredContent"].get("job_id", "")):
        await client.call("wait_for_job", job_id=each)
        await client.call("get_job_status", job_id=each)
        await client.ask("resources/read", uri=f"wan://jobs/{each}")
    for part in ("film", "source", "poster"):
        await client.ask("resources/read", uri=f"wan://jobs/{id}/{part}")
    await lose_some(client, sandbox)
    await client.call("list_jobs", limit=50)
    await client.call("list_jobs", status="done")


async def lose_some(client: Conversation, sandbox: Sandbox) -> None:
    """Requests that are answered late, refused, lost, and not sent because nobody agreed."""
    links = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    gate = anyio.Event()
    for seed, fault in (
        (2, faults.status(402)),
        (3, faults.status(429)),
        (4, faults.dropped(work=True)),
        (5, faults.held(faults.honest(), after=gate)),
    ):
        sandbox.fault("POST", RUN, fault)
        answer = await client.call("replace_character", **links, seed=seed)
        if "job_id" in answer["structuredContent"]:
            await client.call("get_job_status", job_id=answer["structuredContent"]["job_id"])
    gate.set()
    for status in ("refused", "unknown"):
        listed = await client.call("list_jobs", status=status)
        for job in listed["structuredContent"]["jobs"]:
            await client.call("get_job_status", job_id=job["job_id"])
    client.reply = NO
    await client.call("replace_character", **links, seed=6)


async def send_nothing(client: Conversation, sandbox: Sandbox) -> None:
    """A request that cannot leave, and a resource that cannot be read."""
    links = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    await client.ask("tools/list")
    await client.call("replace_character", **links)
    await client.call("get_job_status", job_id="job_x")
    (line,) = (await client.call("list_jobs", status="not_sent"))["structuredContent"]["jobs"]
    await client.call("get_job_status", job_id=line["job_id"])
    assert "error" in await client.ask("resources/read", uri="wan://jobs/job_x")


async def follow(client: Conversation, id: str) -> None:
    """Subscribe to a job until the first notification."""
    uri = f"wan://jobs/{id}"
    if client.is_modern:
        listen = {"notifications": {"resourceSubscriptions": [uri]}}
        request = await client.send("subscriptions/listen", **listen)
        await client.until(is_update)
        await client.tell("notifications/cancelled", requestId=request)
        return
    assert "result" in await client.ask("ping")
    assert "result" in await client.ask("resources/subscribe", uri=uri)
    assert "error" in await client.ask("resources/subscribe", uri="wan://jobs")
    await client.until(is_update)
    assert "result" in await client.ask("resources/unsubscribe", uri=uri)


async def ask_about_tasks(client: Conversation, sandbox: Sandbox, time: VirtualTime) -> None:
    """The methods of the extension, and what only the newest revision knows."""
    client.reply, client.has_tasks = YES, True
    links = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    id = (await client.call("replace_character", **links, seed=9))["taskId"]
    await client.call("wait_for_job", job_id=id)
    request = await client.send("subscriptions/listen", notifications={"taskIds": [id]})
    await client.until(lambda message: message.get("method") == "notifications/tasks")
    await client.tell("notifications/cancelled", requestId=request)
    for each in (id, "job_nobody"):
        await client.ask("tasks/get", taskId=each)
        await client.ask("tasks/update", taskId=each, inputResponses={})
        await client.ask("tasks/cancel", taskId=each)
    time.now += 61
    while (task := (await client.ask("tasks/get", taskId=id))["result"])["status"] == "working":
        time.now += 5
    assert task["result"]["structuredContent"]["status"] == "completed"
    assert "result" in await client.ask("server/discover")
    prefix = "io.modelcontextprotocol/"
    plain: Message = {f"{prefix}clientCapabilities": {}}
    assert (await client.ask("tasks/get", plain, taskId=id))["error"]["code"] == -32021
    other = {f"{prefix}protocolVersion": "2099-01-01"}
    assert (await client.ask("tools/list", other))["error"]["code"] == -32022


def is_update(message: Message) -> bool:
    return bool(message.get("method") == "notifications/resources/updated")


@pytest.mark.parametrize("revision", [*HANDSHAKE, MODERN])
async def test_every_message_of_a_revision_is_valid_in_its_published_schema(
    time: VirtualTime, tmp_path: Path, revision: str
) -> None:
    """Hosts check what they receive, and refuse the whole answer (observed elsewhere)."""
    settings = {"WAN_MCP_CONFIRM_ABOVE": "5"} if revision in CAN_ASK else {}
    if revision not in WITH_PICTURES:
        settings |= {f"WAN_MCP_{name}": "off" for name in ("PREFLIGHT", "POSTER")}
    async with conversation(revision, time, tmp_path, **settings) as (client, sandbox):
        await ask_for_the_surface(client, sandbox)
        await run_jobs(client, sandbox, time)
        if revision == MODERN:
            await ask_about_tasks(client, sandbox, time)

    assert client.broken() == []
    assert client.kinds() >= (OF_MODERN if revision == MODERN else OF_HANDSHAKE)
    assert ("not_confirmed" in client.kinds()) == (revision in CAN_ASK)
    assert ("input_required" in client.kinds()) == (revision == MODERN)


@pytest.mark.parametrize("revision", [*HANDSHAKE, MODERN])
async def test_every_message_without_a_network_is_valid_too(
    time: VirtualTime, tmp_path: Path, revision: str
) -> None:
    """What fails before anything was sent has answers of its own (ours)."""
    settings = {"PIXELDOJO_API_BASE": CLOSED, "WAN_MCP_PREFLIGHT": "off"}
    async with conversation(revision, time, tmp_path, **settings) as (client, sandbox):
        await send_nothing(client, sandbox)

    assert client.broken() == []
    assert client.kinds() >= {"not_sent", "could_not_find_out", "error"}


ODD_LINES: list[Line] = [
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": []}',
    b'{"jsonrpc": "2.0", "id": "a", "method": 7}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": "\\ud800"}}',
    LongLine(b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"a": "', b'x"}}\n'),
]


@pytest.mark.parametrize("revision", [*HANDSHAKE, MODERN])
def test_every_answer_to_a_line_that_cannot_be_read_is_valid(revision: str) -> None:
    """It is an error with the id of the request, as each revision wants it."""
    answers = [decoded(line) for line in ODD_LINES]
    errors = [answer for answer in answers if isinstance(answer, Unreadable)]

    assert len(errors) >= 3
    for error in errors:
        message = json.loads(stdio._encode(error.answer))
        assert violations(message, revision) == []


RESULT: Message = {"jsonrpc": "2.0", "id": 1}
BROKEN: list[tuple[str, str | None, Message]] = [
    ("2025-11-25", "ping", {**RESULT}),
    ("2025-11-25", "tools/call", {**RESULT, "result": {}}),
    (MODERN, "tools/call", {**RESULT, "result": {"content": []}}),
    (MODERN, "tasks/get", {**RESULT, "result": {"taskId": "a", "status": "lost"}}),
    (MODERN, None, {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}),
    (MODERN, None, {**RESULT, "error": {"code": -32021, "message": "No."}}),
    ("2024-11-05", None, {"jsonrpc": "2.0", "error": {"code": -32600, "message": "No id."}}),
    (
        "2025-11-25",
        "resources/read",
        {**RESULT, "result": {"contents": [{"uri": "a://b", "blob": "no base64"}]}},
    ),
    (
        "2025-11-25",
        "tools/list",
        {
            **RESULT,
            "result": {
                "tools": [
                    {
                        "name": "a",
                        "inputSchema": {"type": "object"},
                        "icons": [{"src": "data:image/svg+xml,<svg />"}],
                    }
                ]
            },
        },
    ),
]


@pytest.mark.parametrize(("revision", "method", "message"), BROKEN)
def test_the_check_finds_what_is_wrong(revision: str, method: str | None, message: Message) -> None:
    """A schema that accepts everything would prove nothing (ours)."""
    assert violations(message, revision, method)
