"""Conversations with a real server, with the front desk and without."""

import json
import os
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from wan_mcp.front_desk.conversation import Conversation
from wan_mcp.front_desk.desk import FrontDesk
from wan_mcp.front_desk.lines import Line
from wan_mcp.front_desk.snapshot import Snapshot, Snapshots
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.transports import stdio
from wan_mcp.transports.shutdown import Deadlines, Shutdown

SLOW_MACHINE_SECONDS = 600
"""A bound on what could hang; no claim about speed."""
DEADLINES = Deadlines(grace_seconds=600, last_write_seconds=600, last_answers_seconds=600)

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
        self,
        messages: Sequence[bytes],
        data: Message | None,
        later: int = 0,
        snapshots: Snapshots | None = None,
    ) -> Talk:
        """One conversation.

        Args:
            data: the snapshot of the desk; None for a conversation without one.
            later: how many of the messages come only after the SDK has taken over.
            snapshots: where answers are kept.
        """
        talk = Talk()
        stdin, to_server = os.pipe()
        from_server, stdout = os.pipe()
        desk = FrontDesk(stdin, stdout, snapshots)
        if data is not None:
            desk._conversation = Conversation(Snapshot(data))
            desk.has_snapshot = True
        for line in messages[: len(messages) - later]:
            desk._take(line)
        talk.early = sum(answer is not None for _, answer in desk._early)
        os.write(to_server, b"".join(messages[len(messages) - later :]))
        os.close(to_server)
        desk.start()
        with Shutdown(deadlines=DEADLINES) as shutdown:
            await self._serve(desk, shutdown, talk)
        os.close(stdout)
        with open(from_server, "rb") as read:  # noqa: ASYNC230 - its other end is closed
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
