"""The thread that reads and answers."""

import os

from tests.front_desk.talk import Message, as_lines, hello, request
from wan_mcp.front_desk import desk as desk_module
from wan_mcp.front_desk.conversation import Conversation
from wan_mcp.front_desk.desk import FrontDesk
from wan_mcp.front_desk.snapshot import Snapshot


def test_a_client_that_no_longer_reads_ends_the_desk_quietly(answers: Message) -> None:
    """The answers then meet a broken pipe (ours)."""
    stdin, to_server = os.pipe()
    from_server, stdout = os.pipe()
    os.close(from_server)
    desk = FrontDesk(stdin, stdout)
    desk._conversation = Conversation(Snapshot(answers))
    for line in as_lines([hello(1), request(2, "tools/list")]):
        desk._take(line)
    for end in (stdin, to_server, stdout):
        os.close(end)

    assert desk.client_left
    assert [answer is not None for _, answer in desk.hand_over(print)] == [True, False]


def test_no_more_is_answered_than_a_pipe_holds(answers: Message) -> None:
    """A client that writes first and reads later must not block the desk (ours)."""
    stdin, to_server = os.pipe()
    from_server, stdout = os.pipe()
    desk = FrontDesk(stdin, stdout)
    desk._conversation = Conversation(Snapshot(answers))
    for line in as_lines([hello(0), *(request(id, "tools/list") for id in range(1, 50))]):
        desk._take(line)
    early = desk.hand_over(print)
    for end in (stdin, to_server, from_server, stdout):
        os.close(end)

    answered = [answer for _, answer in early if answer]
    assert len(early) == 50
    assert 1 < len(answered) < 50
    assert sum(map(len, answered)) <= desk_module.MAX_ANSWERED_BYTES
