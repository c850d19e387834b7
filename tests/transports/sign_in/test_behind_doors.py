"""The real HTTP server behind the doors: its tools know their caller, and nobody else's."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
import respx

from tests.transports.sign_in.scene import NOW, OWN, READER, Clock, Issuer, People, trust
from tests.transports.sign_in.stand_in import Server
from tests.transports.test_http import ENVELOPE, MODERN, message, result
from wan_mcp.transports import http
from wan_mcp.transports.operations.proxies import Access
from wan_mcp.transports.sign_in.sign_in import SignIn

pytestmark = pytest.mark.anyio
BASE = "https://wan.example.com"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(
    server: Server, clock: Clock, keys: respx.Route
) -> AsyncIterator[httpx.AsyncClient]:
    sign_in = SignIn(People(), trust(), wall=clock.wall, monotonic=clock.monotonic)
    access = Access(hosts=["wan.example.com"])
    app = http.http_app(server.mcp, host="0.0.0.0", port=1, access=access, signed_in=True)
    async with (
        server.mcp.session_manager.run(),
        http.behind_doors(app, sign_in),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client,
    ):
        yield client


async def call(client: httpx.AsyncClient, token: str, tool: str, revision: str = MODERN) -> Any:
    request = message(revision, "tools/call", {"name": tool, "arguments": {}})
    request["headers"]["authorization"] = f"Bearer {token}"
    return await client.post("/mcp", **request)


def text(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(result(answer)["content"][0]["text"])


@pytest.mark.parametrize("revision", ["2025-06-18", MODERN])
async def test_a_tool_and_the_tasks_that_it_starts_know_the_caller(
    client: httpx.AsyncClient, revision: str
) -> None:
    """In our words, and in those of the SDK, which seals questions for them (ours)."""
    answer = await call(client, OWN, "whoami", revision)

    assert result(answer)["structuredContent"]["result"] == ["u-ada"] * 3


@pytest.mark.parametrize("revision", ["2025-06-18", MODERN])
async def test_calls_at_the_same_time_keep_their_callers_apart(
    client: httpx.AsyncClient, server: Server, revision: str
) -> None:
    answers: dict[str, str] = {}

    async def wait(token: str) -> None:
        answers[token] = text(await call(client, token, "wait", revision))

    async with anyio.create_task_group() as tasks:
        for token in (OWN, READER):
            tasks.start_soon(wait, token)
        await anyio.wait_all_tasks_blocked()
        assert server.begun == 2
        server.released.set()

    assert answers == {OWN: "u-ada", READER: "u-bob"}


async def test_a_call_that_outlives_its_token_is_answered(
    client: httpx.AsyncClient, server: Server, clock: Clock
) -> None:
    """A wait is longer than some tokens; the next call needs a new one (ours)."""
    token = Issuer().token(exp=NOW + 5)
    answers = []

    async def wait() -> None:
        answers.append(await call(client, token, "wait"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        clock.now = 3600
        server.released.set()

    assert text(answers[0]) == "u-ada"
    assert (await call(client, token, "whoami")).status_code == 401


async def test_a_question_can_be_answered_only_by_the_person_who_was_asked(
    client: httpx.AsyncClient,
) -> None:
    """Also with another token of the same kind (documented: SDK)."""
    can_ask: dict[str, Any] = {
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}
    }
    first = message(MODERN, "tools/call", {"name": "confirm", "arguments": {}})
    first["json"]["params"]["_meta"] = {**ENVELOPE, **can_ask}
    tokens = [Issuer().token(sub=who) for who in ("sub-ada", "sub-bob")]
    asked = result(await client.post("/mcp", **signed(first, tokens[0])))
    (name,) = asked["inputRequests"]
    first["json"]["params"] |= {
        "requestState": asked["requestState"],
        "inputResponses": {name: {"action": "accept", "content": {"yes": True}}},
    }
    bob = await client.post("/mcp", **signed(first, tokens[1]))
    ada = await client.post("/mcp", **signed(first, Issuer().token(jti="renewed")))

    assert bob.json()["error"]["code"] == -32602
    assert text(ada) == "u-ada"


def signed(request: dict[str, Any], token: str) -> dict[str, Any]:
    return {**request, "headers": {**request["headers"], "authorization": f"Bearer {token}"}}


@pytest.mark.parametrize(
    "path", ["/mcp/", "//mcp", "/MCP", "/%6dcp", "/mcp?x", "/token/../mcp", "/mcp;x", "/token//mcp"]
)
async def test_no_spelling_of_the_address_leads_around_the_door(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.post(path, **message("2025-06-18", "tools/list", {}))

    assert answer.status_code in (401, 404)


async def test_health_checks_need_no_token(client: httpx.AsyncClient) -> None:
    """A balancer has none (ours)."""
    assert (await client.get("/healthz")).status_code == 200


async def test_a_host_name_that_is_not_ours_is_refused_behind_the_door_too(
    client: httpx.AsyncClient,
) -> None:
    request = signed(message("2025-06-18", "tools/list", {}), OWN)
    request["headers"]["host"] = "evil.example"

    assert (await client.post("/mcp", **request)).status_code == 421


async def test_with_sign_in_the_server_may_be_reached_from_elsewhere(server: Server) -> None:
    """And whoever reaches it must sign in (ours)."""
    urls, events = [], anyio.Event()

    def announce(url: str) -> None:
        urls.append(url)
        events.set()

    async with anyio.create_task_group() as tasks, httpx.AsyncClient(trust_env=False) as client:

        async def serve() -> None:
            await http.serve_http(
                server.mcp,
                host="0.0.0.0",
                port=0,
                announce=announce,
                sign_in=SignIn(People()),
            )

        tasks.start_soon(serve)
        await events.wait()
        url = urls[0].replace("0.0.0.0", "127.0.0.1")
        refused = await client.post(url, **message("2025-06-18", "tools/list", {}))
        answered = await client.post(
            url.replace("/mcp", "/token/mcp"),
            **signed(message("2025-06-18", "tools/list", {}), OWN),
        )
        tasks.cancel_scope.cancel()

    assert [refused.status_code, answered.status_code] == [401, 200]
