"""What the front desk answers is what the SDK would have answered."""

import json
import os
from collections.abc import Callable
from functools import partial

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.server.context import CallNext, HandlerResult

from tests.front_desk.talk import (
    CLIENT,
    ENVELOPE,
    HANDSHAKE,
    INITIALIZED,
    LISTS,
    PREFIX,
    Message,
    Server,
    Talk,
    as_lines,
    hello,
    modern,
    request,
    same_with_and_without,
)
from wan_mcp.front_desk.conversation import Conversation
from wan_mcp.front_desk.snapshot import Snapshot
from wan_mcp.surface.calls import RequestContext
from wan_mcp.transports import replay

EXAMPLES = int(os.environ.get("FRONT_DESK_EXAMPLES", "60"))
"""How many random conversations; in full 1,000."""


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
    "initialize with a revision beside": [
        hello(1, _meta=ENVELOPE),
        modern(2, "tools/list"),
        request(3, "tools/list"),
    ],
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
    "modern names": [hello(1), request(2, "tools/list", _meta={f"{PREFIX}clientInfo": 1})],
    "token of another type": [hello(1), request(2, "tools/list", _meta={"progressToken": []})],
}


@pytest.mark.parametrize("messages", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_beginning_is_the_same_with_the_desk(
    messages: list[Message | bytes], answers: Message
) -> None:
    """What is not certain is left to the SDK (ours)."""
    anyio.run(same_with_and_without, Server(), messages, answers)


LEFT_TO_SDK: dict[str, list[Message]] = {
    "an id of a request without an answer": [request(2, "tools/call"), request(2, "tools/list")],
    "such an id as a text": [request(2, "tools/call"), request("2", "tools/list")],
    "a name of another revision": [request(2, "tools/list", _meta={f"{PREFIX}clientInfo": CLIENT})],
    "a name that only the SDK may know": [request(2, "tools/list", _meta={f"{PREFIX}x": 1})],
}


@pytest.mark.parametrize("messages", LEFT_TO_SDK.values(), ids=LEFT_TO_SDK)
def test_what_may_be_answered_otherwise_is_left_to_the_sdk(
    messages: list[Message], answers: Message
) -> None:
    """Also where this release of it would answer alike (ours)."""
    conversation = Conversation(Snapshot(answers))
    first, *rest = [conversation.answer(line) for line in as_lines([hello(1), *messages])]

    assert first is not None
    assert rest == [None] * len(messages)


POOL: list[Callable[[int], Message | bytes]] = [
    *(partial(lambda revision, id: hello(id, revision), each) for each in [*HANDSHAKE, "0"]),
    lambda id: hello(id, capabilities={"tasks": {"list": {}, "requests": {"tools": {}}}}),
    lambda id: hello(id, capabilities={"sampling": 1}),
    lambda id: INITIALIZED,
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


def test_random_interleavings_are_the_same_with_the_desk(answers: Message) -> None:
    """Nothing is lost, nothing is answered twice, and the SDK gets all in order (ours).

    Without a cancellation, which may come before or after an answer.
    """

    async def check(messages: list[Message | bytes], later: int) -> None:
        await same_with_and_without(server, messages, answers, later)

    server = Server()
    pool = st.lists(st.tuples(st.sampled_from(POOL), st.integers(1, 12)), min_size=1, max_size=9)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(pool, st.integers(0, 9))
    def interleavings(
        parts: list[tuple[Callable[[int], Message | bytes], int]], later: int
    ) -> None:
        messages = [make(id) for make, id in parts]
        anyio.run(check, messages, min(later, len(messages)))

    interleavings()


def test_an_sdk_that_does_not_answer_holds_up_nothing(
    answers: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what waits behind, each message is somebody's (ours)."""

    async def talk() -> Talk:
        later = anyio.Event()

        async def answers_late(ctx: RequestContext, call_next: CallNext) -> HandlerResult:
            if ctx.method == "tools/list":
                await later.wait()
            if ctx.method == "prompts/list":
                later.set()
            return await call_next(ctx)

        server = Server()
        server.low.middleware.append(answers_late)
        messages = [hello(1), request(2, "tools/list"), request(3, "prompts/list")]
        return await server.talk(as_lines(messages), answers, later=1)

    monkeypatch.setattr(replay, "CONFIRM_SECONDS", 0)

    assert {answer["id"] for answer in anyio.run(talk).answers} == {1, 2, 3}


@pytest.mark.parametrize("method", ["tools/list", "tools/call"])
def test_a_cancelled_request_has_at_most_one_answer(method: str, answers: Message) -> None:
    """A cancellation may come after the answer (documented); then it changes nothing (ours)."""
    params = {"name": "list_jobs", "arguments": {}} if method == "tools/call" else {}
    cancel = {"method": "notifications/cancelled", "params": {"requestId": 2}}
    messages = [hello(1), request(2, method, **params), {"jsonrpc": "2.0", **cancel}]
    messages += [request(3, "ping")]

    talk = anyio.run(Server().talk, as_lines(messages), answers)

    assert [answer["id"] for answer in talk.answers if answer["id"] != 2] == [1, 3]
    assert len([answer for answer in talk.answers if answer["id"] == 2]) <= 1
