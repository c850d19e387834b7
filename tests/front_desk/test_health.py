"""`/healthz` over HTTP while the rest of the program is imported."""

import errno
import json
import selectors
import socket
from collections.abc import Iterator
from threading import Semaphore

import anyio
import pytest
from mcp.server.mcpserver import MCPServer

from tests.front_desk.talk import SLOW_MACHINE_SECONDS
from wan_mcp.front_desk import health
from wan_mcp.front_desk.health import HealthDesk
from wan_mcp.transports import http
from wan_mcp.transports.listener import listen

QUESTION = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_QUESTION = QUESTION.replace(b"Host", b"Connection: close\r\nHost")


@pytest.fixture
def desk() -> Iterator[HealthDesk]:
    """A desk that answers already."""
    with listen("127.0.0.1", 0) as listener:
        desk = HealthDesk(listener)
        desk.start()
        yield desk
        for connection in desk.hand_over():
            connection.close()


def caller(desk: HealthDesk, request: bytes = b"") -> socket.socket:
    """A client that has sent this."""
    connection = socket.create_connection(desk.listener.getsockname(), SLOW_MACHINE_SECONDS)
    connection.sendall(request)
    return connection


def whole(connection: socket.socket) -> bytes:
    """All that a client gets until the end of its connection."""
    with connection, connection.makefile("rb") as received:
        return received.read()


def parts(response: bytes) -> tuple[bytes, set[bytes], bytes]:
    """The first line, the headers that say what the body is, and the body."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *headers = head.lower().split(b"\r\n")
    return first, {each for each in headers if each.startswith(b"content-")}, body


def test_health_is_answered_before_there_is_a_server(desk: HealthDesk) -> None:
    """A supervisor asks in the first second (assumed)."""
    first = whole(caller(desk, QUESTION))
    second = whole(caller(desk, QUESTION.replace(b"1.1", b"1.0")))

    assert first == second
    assert first.startswith(b"HTTP/1.1 200 ")
    assert json.loads(first.partition(b"\r\n\r\n")[2]) == {"status": "ok"}


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        (b"livez", b"200", {"status": "ok"}),
        (
            b"readyz",
            b"503",
            {"status": "not ready", "missing": {"server": "It is still starting."}},
        ),
    ],
)
def test_server_that_starts_is_alive_and_not_ready(
    desk: HealthDesk, path: bytes, status: bytes, said: object
) -> None:
    """A balancer must not wait for the start, nor send calls before its end (ours)."""
    answer = whole(caller(desk, QUESTION.replace(b"healthz", path)))

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == said


OTHERS = {
    "nothing yet": b"",
    "half a request": QUESTION[:-1],
    "another path": QUESTION.replace(b"healthz", b"mcp"),
    "longer path": QUESTION.replace(b"healthz", b"healthz2"),
    "another method": QUESTION.replace(b"GET", b"POST"),
    "two at once": QUESTION * 2,
}


@pytest.mark.parametrize("request_", OTHERS.values(), ids=OTHERS)
def test_any_other_caller_waits_for_the_server(request_: bytes, desk: HealthDesk) -> None:
    """What was sent is left for it (ours)."""
    with caller(desk, request_) as other:
        assert b"200" in whole(caller(desk, QUESTION))  # so the desk has seen the other one, too
        (kept,) = desk.hand_over()
        with kept:
            assert not request_ or kept.recv(1000) == request_
            kept.sendall(b"x")
        assert other.recv(1) == b"x"


def test_a_caller_that_leaves_is_forgotten(desk: HealthDesk) -> None:
    """Half of its request is nobody's (ours)."""
    caller(desk, QUESTION[:9]).close()

    assert b"200" in whole(caller(desk, QUESTION))


def test_callers_beyond_the_limit_wait_in_the_queue_of_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each connection is an open file (ours)."""
    monkeypatch.setattr(health, "MAX_KEPT", 1)
    with listen("127.0.0.1", 0) as listener:
        desk = HealthDesk(listener)
        desk._selector.register(listener, selectors.EVENT_READ)
        with caller(desk), caller(desk, QUESTION):
            desk._accept()
            next_ones = desk._selector.select(0)
            for kept in desk.hand_over():
                kept.close()

    assert next_ones == []


def test_without_a_free_descriptor_the_desk_tries_once(
    desk: HealthDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trying again and again would take all the time that the imports need (ours)."""
    tried = Semaphore(0)

    def refuse() -> None:
        tried.release()
        raise BlockingIOError(errno.EWOULDBLOCK, "no descriptor is left")

    monkeypatch.setattr(desk.listener, "accept", refuse)
    with caller(desk, QUESTION):
        tried.acquire()
        assert desk.hand_over() == []

    assert not tried.acquire(blocking=False)


def test_early_callers_are_served_by_the_server(desk: HealthDesk) -> None:
    """In the same words as the desk's (ours)."""
    early = whole(caller(desk, QUESTION))
    callers = [caller(desk, LAST_QUESTION.replace(b"GET", b"HEAD")), caller(desk)]
    assert b"200" in whole(caller(desk, QUESTION))  # so the desk has these two

    async def serve() -> None:
        announced = anyio.Event()
        server = MCPServer("stand-in", version="1", log_level="WARNING")
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                await http.serve_http(server, announce=lambda url: announced.set(), desk=desk)

            tasks.start_soon(run)
            await announced.wait()
            callers[1].sendall(LAST_QUESTION)
            for each in callers:
                answers.append(await anyio.to_thread.run_sync(whole, each))
            tasks.cancel_scope.cancel()

    answers: list[bytes] = []
    anyio.run(serve)

    first, headers, body = parts(early)
    assert list(map(parts, answers)) == [(first, headers, b""), (first, headers, body)]
