"""The front desk: what it answers before the SDK is ready is what the SDK would have answered."""

import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.snapshots import COMMAND, early_answers, front_desk_json
from wan_mcp.front_desk import snapshot
from wan_mcp.front_desk.conversation import Conversation
from wan_mcp.front_desk.desk import FrontDesk
from wan_mcp.front_desk.lines import Line
from wan_mcp.front_desk.snapshot import (
    DEPENDS,
    KEPT,
    SHIPPED,
    Snapshot,
    Snapshots,
    installed_versions,
)
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.transports import stdio
from wan_mcp.transports.shutdown import Deadlines, Shutdown

SLOW_MACHINE_SECONDS = 600
"""A bound on what could hang; no claim about speed."""
DEADLINES = Deadlines(grace_seconds=600, last_write_seconds=600, last_answers_seconds=600)
EXAMPLES = int(os.environ.get("FRONT_DESK_EXAMPLES", "60"))
"""How many random conversations; in full 1,000."""

Message = dict[str, Any]

HANDSHAKE = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
MODERN = "2026-07-28"
PREFIX = "io.modelcontextprotocol/"
CLIENT = {"name": "host", "version": "1", "title": "H\u00f6st", "websiteUrl": "https://example.com"}
CAPABILITIES = {
    "roots": {"listChanged": True},
    "sampling": {},
    "elicitation": {"form": {}, "url": {}},
    "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}},
    "experimental": {"x": {"deep": [1, None]}},
}
ENVELOPE = {
    f"{PREFIX}protocolVersion": MODERN,
    f"{PREFIX}clientInfo": CLIENT,
    f"{PREFIX}clientCapabilities": CAPABILITIES,
}
LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


def request(id: object, method: str, **params: object) -> Message:
    message = {"jsonrpc": "2.0", "id": id, "method": method}
    return {**message, "params": params} if params else message


def hello(id: object, revision: object = "2025-06-18", **changes: object) -> Message:
    client = {"capabilities": CAPABILITIES, "clientInfo": CLIENT, **changes}
    return request(id, "initialize", protocolVersion=revision, **client)


def modern(id: object, method: str, **changes: object) -> Message:
    return request(id, method, _meta={**ENVELOPE, **changes})


INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def as_lines(messages: Sequence[Message | bytes]) -> list[bytes]:
    return [
        each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in messages
    ]


@pytest.fixture(scope="module")
def answers() -> Message:
    """A snapshot of this version of everything, as the command makes it."""
    return anyio.run(early_answers)


# Conversations, with the desk and without


class Talk:
    """What came of one conversation.

    Attributes:
        answers: what the client got, in order.
        early: how many of them were the desk's.
        asked: the messages that the SDK got, in order.
    """

    def __init__(self) -> None:
        self.answers: list[Message] = []
        self.early = 0
        self.asked: list[Line] = []


class Server:
    """One real server for many conversations."""

    def __init__(self) -> None:
        self.real = build_server(Settings(), local=True)
        self.low = self.real._lowlevel_server

    async def talk(
        self, messages: Sequence[bytes], data: Message | None, later: int = 0
    ) -> Talk:
        """One conversation.

        Args:
            data: the snapshot of the desk; None for a conversation without one.
            later: how many of the messages come only after the SDK has taken over.
        """
        talk = Talk()
        stdin, to_server = os.pipe()
        from_server, stdout = os.pipe()
        desk = FrontDesk(stdin, stdout)
        if data is not None:
            desk._conversation = Conversation(Snapshot(data))
            desk.has_snapshot = True
        for line in messages[: len(messages) - later]:
            desk._take(line)
        talk.early = desk._answered and sum(answer is not None for _, answer in desk._early)
        os.write(to_server, b"".join(messages[len(messages) - later :]))
        os.close(to_server)
        desk.start()
        with Shutdown(deadlines=DEADLINES) as shutdown:
            await self._serve(desk, shutdown, talk)
        os.close(stdout)
        with open(from_server, "rb") as read:
            talk.answers = [json.loads(line) for line in read]
        os.close(stdin)
        return talk

    async def _serve(self, desk: FrontDesk, shutdown: Shutdown, talk: Talk) -> None:
        take = stdio._Intake._take

        async def noted(self: Any, line: Line, answer: bytes | None) -> None:
            talk.asked.append(line)
            await take(self, line, answer)

        with pytest.MonkeyPatch.context() as patch, anyio.fail_after(SLOW_MACHINE_SECONDS):
            patch.setattr(stdio._Intake, "_take", noted)
            await stdio.serve_desk(self.real, desk, shutdown)


def sorted_by_id(answers: list[Message]) -> list[str]:
    """The SDK works on requests at the same time, so only each answer counts, not the order."""
    return sorted(json.dumps(answer, sort_keys=True) for answer in answers)


async def same_with_and_without(
    server: Server, messages: Sequence[Message | bytes], data: Message, later: int = 0
) -> Talk:
    lines = as_lines(messages)
    without = await server.talk(lines, None)
    with_desk = await server.talk(lines, data, later)

    assert sorted_by_id(with_desk.answers) == sorted_by_id(without.answers)
    assert with_desk.asked == without.asked == lines
    return with_desk


@pytest.mark.parametrize("revision", [*HANDSHAKE, "2099-01-01"])
def test_a_handshake_conversation_is_the_same_with_the_desk(
    revision: str, answers: Message
) -> None:
    """A host must not notice who answers (ours)."""
    messages = [
        hello(0, revision),
        INITIALIZED,
        request("p", "ping"),
        *(request(number, method) for number, method in enumerate(LISTS, 1)),
        request(5, "tools/list", _meta={"progressToken": 5}),
    ]

    talk = anyio.run(same_with_and_without, Server(), messages, answers)

    assert talk.early == len(messages) - 1
    assert [answer["id"] for answer in talk.answers] == [0, "p", 1, 2, 3, 4, 5]


def test_a_modern_conversation_is_the_same_with_the_desk(answers: Message) -> None:
    """The same, without a handshake (ours)."""
    messages = [
        modern("d", "server/discover"),
        *(modern(number, method) for number, method in enumerate(LISTS)),
        modern("e", "server/discover", progressToken="t"),
    ]

    talk = anyio.run(same_with_and_without, Server(), messages, answers)

    assert talk.early == len(messages)


UNUSUAL: dict[str, list[Message | bytes]] = {
    "discover, then initialize": [modern(1, "server/discover"), hello(2), request(3, "tools/list")],
    "list before initialize": [request(1, "tools/list"), hello(2), request(3, "tools/list")],
    "ping first": [request(1, "ping"), hello(2), request(3, "ping")],
    "initialize twice": [hello(1, "2024-11-05"), hello(2, "2025-11-25"), request(3, "tools/list")],
    "initialize in the modern era": [modern(1, "tools/list"), hello(2), modern(3, "tools/list")],
    "modern list after initialize": [hello(1), modern(2, "tools/list"), request(3, "tools/list")],
    "old list in the modern era": [modern(1, "tools/list"), request(2, "tools/list")],
    "unknown first": [request(1, "foo/bar"), modern(2, "server/discover"), hello(3)],
    "unknown modern revision": [modern(1, "server/discover", **{f"{PREFIX}protocolVersion": "x"})],
    "no capabilities": [modern(1, "server/discover", **{f"{PREFIX}clientCapabilities": None})],
    "number for a revision": [hello(1, 7), request(2, "tools/list")],
    "client without a version": [hello(1, clientInfo={"name": "x"}), request(2, "tools/list")],
    "capability of another type": [hello(1, capabilities={"roots": []}), request(2, "ping")],
    "cursor": [hello(1), request(2, "tools/list", cursor="x"), request(3, "tools/list")],
    "the same id": [hello(1), request(1, "tools/list"), request(1, "prompts/list")],
    "an id in use": [
        hello(1),
        request(2, "tools/call", name="list_jobs", arguments={}),
        request("2", "tools/list"),
        request(2, "tools/list"),
    ],
    "unusual ids": [
        hello("\u00e9\u2028"),
        request(2**53, "ping"),
        request(-1, "ping"),
        request("", "ping"),
    ],
    "ids that are none": [hello(1.0), request(True, "ping"), request(None, "ping")],
    "half a surrogate pair": [hello(1), b'{"jsonrpc":"2.0","id":"\\ud83d","method":"ping"}\n'],
    "repeated member": [hello(1), b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}\n'],
    "request and answer": [hello(1), {**request(2, "ping"), "result": {}}, request(3, "ping")],
    "not a number": [hello(1), b'{"jsonrpc":"2.0","id":2,"method":"ping","params":{"x":NaN}}\n'],
    "huge number": [b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"ping"}\n', hello(1)],
    "batch": [b"[" + json.dumps(hello(1)).encode() + b"]\n", hello(2), request(3, "tools/list")],
    "garbage": [b"\n", b"not json\n", hello(1), b"\xff\xfe\n", request(2, "tools/list")],
    "byte order mark": [b"\xef\xbb\xbf" + json.dumps(hello(1)).encode() + b"\r\n"],
    "deep": [b'{"jsonrpc":"2.0","id":1,"method":' + b"[" * 500 + b"\n", hello(2)],
    "no parameters": [hello(1), {**request(2, "tools/list"), "params": None}],
    "a list of parameters": [hello(1), {**request(2, "tools/list"), "params": []}],
    "other version": [{**request(1, "ping"), "jsonrpc": "1.0"}, hello(2)],
    "key as a name": [hello(1), request(2, "tools/list", name="pd_1", uri="x")],
    "reserved": [hello(1), request(2, "tools/list", _meta={f"{PREFIX}x": 1})],
    "token of another type": [hello(1), request(2, "tools/list", _meta={"progressToken": []})],
}


@pytest.mark.parametrize("messages", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_beginning_is_the_same_with_the_desk(
    messages: list[Message | bytes], answers: Message
) -> None:
    """What is not certain is left to the SDK (ours)."""
    anyio.run(same_with_and_without, Server(), messages, answers)


POOL: list[Callable[[int], Message | bytes]] = [
    *(partial(lambda revision, id: hello(id, revision), each) for each in [*HANDSHAKE, "0"]),
    lambda id: hello(id, capabilities={"tasks": {"list": {}, "requests": {"tools": {}}}}),
    lambda id: hello(id, capabilities={"sampling": 1}),
    lambda id: INITIALIZED,
    lambda id: {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}},
    lambda id: request(id, "ping"),
    lambda id: modern(id, "ping"),
    lambda id: modern(id, "server/discover"),
    *(partial(lambda method, id: request(id, method), each) for each in LISTS),
    *(partial(lambda method, id: modern(id, method), each) for each in LISTS),
    lambda id: request(id, "tools/call", name="list_jobs", arguments={}),
    lambda id: modern(id, "tools/call", name="nothing", arguments={}),
    lambda id: request(id, "logging/setLevel", level="info"),
    lambda id: request(str(id), "tools/list"),
    lambda id: b"garbage\n",
    lambda id: b"\n",
]
INTERLEAVINGS = st.lists(
    st.tuples(st.sampled_from(POOL), st.integers(1, 12)), min_size=1, max_size=9
)


def test_random_interleavings_are_the_same_with_the_desk(answers: Message) -> None:
    """Nothing is lost, nothing is answered twice, and the SDK gets all in order (ours).

    Without a cancellation, which may come before or after an answer.
    """

    async def check(messages: list[Message | bytes], later: int) -> None:
        await same_with_and_without(server, messages, answers, later)

    server = Server()
    usual = [each for each in POOL if "cancelled" not in str(each(1))]
    pool = st.lists(st.tuples(st.sampled_from(usual), st.integers(1, 12)), min_size=1, max_size=9)

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(pool, st.integers(0, 9))
    def interleavings(parts: list[tuple[Callable[[int], Message]  , int]], later: int) -> None:
        messages = [make(id) for make, id in parts]
        anyio.run(check, messages, min(later, len(messages)))

    interleavings()
