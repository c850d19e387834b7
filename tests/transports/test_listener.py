"""A server whose process can open no more connections."""

import logging
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.open_files import no_files_left
from wan_mcp.logs.seldom import QUIET_SECONDS
from wan_mcp.transports.listener import FULL, Listener


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def listener(clock: Clock) -> Iterator[Listener]:
    with closing(Listener.on(("127.0.0.1", 0), socket.AF_INET, clock)) as listener:
        listener.setblocking(False)
        yield listener


def callers(listener: Listener, count: int) -> list[socket.socket]:
    return [socket.create_connection(listener.getsockname()) for _ in range(count)]


def whole(caller: socket.socket) -> bytes:
    """All that a caller is sent until the end of its connection."""
    with caller, caller.makefile("rb") as received:
        return received.read()


def test_a_caller_without_a_connection_gets_an_answer(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """It would wait in vain, and asyncio 3.11 logs 2,048 tracebacks each second (observed)."""
    waiting = callers(listener, 5)
    for caller in waiting:
        with no_files_left(), pytest.raises(BlockingIOError):
            listener.accept()
        caller.settimeout(600)
    answers = [whole(caller) for caller in waiting]

    assert answers == [FULL] * 5
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "Too many open files" in caplog.text
    assert "Traceback" not in caplog.text


def test_connections_go_on_when_files_are_free_again(listener: Listener) -> None:
    """Also the one that is kept in reserve is there again."""
    first, second, third = callers(listener, 3)
    with no_files_left(), pytest.raises(BlockingIOError):
        listener.accept()
    served, _ = listener.accept()
    with no_files_left(), pytest.raises(BlockingIOError):
        listener.accept()

    with first, second, third, served:
        assert served.getpeername() == second.getsockname()
        assert whole(third) == FULL


def test_a_later_shortage_is_logged_again(
    listener: Listener, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """At most one line a minute (ours)."""
    for clock.now in (0.0, QUIET_SECONDS - 1, QUIET_SECONDS, QUIET_SECONDS + 1):
        (caller,) = callers(listener, 1)
        with caller, no_files_left(), pytest.raises(BlockingIOError):
            listener.accept()

    assert len(caplog.records) == 2


def test_without_a_caller_there_is_nothing_to_accept(listener: Listener) -> None:
    """The accept loop of asyncio ends in this way."""
    with pytest.raises(BlockingIOError):
        listener.accept()
    with no_files_left(), pytest.raises(BlockingIOError):
        listener.accept()
