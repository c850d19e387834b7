"""A host and the real server in one process, with the sandbox as PixelDojo, in virtual time."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.extension import ClientExtension
from mcp.types import (
    ResourceUpdatedNotification,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    TextResourceContents,
)

from tests import virtual_time
from tests.virtual_time import VirtualTime
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import build_server
from wan_mcp.settings import Settings

KEY = "pd_sandbox"
EPOCH = virtual_time.EPOCH.timestamp()
TERMS = Terms(pending_seconds=5, processing_seconds=55)
"""A job takes a minute."""


class Host:
    """What a test works with.

    Attributes:
        updates: what the server says has changed, on a connection of a handshake revision.
        honored: what the server agreed to send on a stream that the SDK did not open.
    """

    def __init__(self, client: Client, sandbox: Sandbox, time: VirtualTime) -> None:
        self.client = client
        self.sandbox = sandbox
        self.time = time
        self._updated, self.updates = anyio.create_memory_object_stream[str](100)
        self._honored, self.honored = anyio.create_memory_object_stream[SubscriptionFilter](100)

    async def on_message(self, message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            self._updated.send_nowait(message.params.uri)
        if isinstance(message, SubscriptionsAcknowledgedNotification):
            self._honored.send_nowait(message.params.notifications)

    def close(self) -> None:
        self._updated.close()
        self.updates.close()
        self._honored.close()
        self.honored.close()

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The data of a tool's answer."""
        return (await self.client.call_tool(tool, arguments)).structured_content or {}

    async def start(self, **arguments: Any) -> str:
        """Start a job with the sandbox's own video and image; its id."""
        given = {"video": self.sandbox.source_video_url, "character_image": self.sandbox.image_url}
        id: str = (await self.call("replace_character", **{**given, **arguments}))["job_id"]
        return id

    async def read(self, uri: str) -> str:
        """The text of a resource."""
        (content,) = (await self.client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        return content.text

    @property
    def asked(self) -> int:
        """How many requests PixelDojo has had."""
        return len(self.sandbox.requests)


@asynccontextmanager
async def connected(
    time: VirtualTime,
    data: Path,
    mode: str = "auto",
    *,
    key: str = KEY,
    terms: Terms = TERMS,
    local: bool = False,
    beside: Host | None = None,
    extensions: tuple[ClientExtension, ...] = (),
    answer: Any = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Host]:
    """A host on a server with its ledger in `data`.

    Args:
        mode: "auto" for the newest revision, "legacy" for a handshake one.
        local: whether it is on this machine, so that videos are saved.
        beside: a host whose PixelDojo this one shares.
        extensions: what the host declares.
        answer: what the host's user says to a question; None for a host that cannot ask.
        settings: of the operator, besides those that the rest needs.
    """
    async with AsyncExitStack() as ending:
        new = Sandbox(terms, clock=time.monotonic, epoch=EPOCH)
        sandbox = beside.sandbox if beside else await ending.enter_async_context(new)
        given = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": key,
            "WAN_MCP_DATA_DIR": str(data),
            **(settings or {}),
        }
        server = build_server(Settings.read(given, data), local=local, clock=time.clock())
        hosts: list[Host] = []

        async def on_message(message: object) -> None:
            await hosts[0].on_message(message)

        client = Client(
            server,
            mode=mode,
            extensions=extensions,
            message_handler=on_message,
            elicitation_callback=answer,
        )
        hosts.append(Host(client, sandbox, time))
        ending.callback(hosts[0].close)
        await ending.enter_async_context(client)
        yield hosts[0]


def host_of(*modes: str) -> object:
    """A fixture: a host on a server of its own, in each of these modes."""

    @pytest.fixture(params=modes)
    async def host(
        request: pytest.FixtureRequest, time: VirtualTime, tmp_path: Path
    ) -> AsyncIterator[Host]:
        async with connected(time, tmp_path, request.param) as host:
            yield host

    return host
