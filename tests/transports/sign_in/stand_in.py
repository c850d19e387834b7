"""A server whose tools say who calls them."""

from typing import Annotated

import anyio
import pytest
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import (
    AcceptedElicitation,
    Context,
    Elicit,
    ElicitationResult,
    MCPServer,
    Resolve,
)
from pydantic import BaseModel

from wan_mcp.tenants.current import current_caller
from wan_mcp.transports.sign_in import scopes


class Sure(BaseModel):
    yes: bool


class Server:
    """A stand-in with tools that say who calls.

    Attributes:
        begun: how many calls wait.
        waiting: at least one does.
        released: ends their wait.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mcp = server = MCPServer("stand-in", version="1", log_level="WARNING")
        self.begun = 0
        self.waiting = anyio.Event()
        self.released = anyio.Event()
        monkeypatch.setattr(scopes, "READING_TOOLS", {"whoami", "wait", "confirm"})

        @server.tool()
        async def whoami() -> list[str]:
            seen = [caller()]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(see, seen)
            token = get_access_token()
            return [*seen, str(token and token.subject)]

        @server.tool()
        async def wait(ctx: Context) -> str:
            await ctx.report_progress(1)  # so that the answer begins
            self.begun += 1
            self.waiting.set()
            await self.released.wait()
            return caller()

        @server.tool()
        async def buy() -> str:
            return caller()

        async def ask() -> Elicit[Sure]:
            return Elicit("Sure?", Sure)

        @server.tool()
        async def confirm(answer: Annotated[ElicitationResult[Sure], Resolve(ask)]) -> str:
            assert isinstance(answer, AcceptedElicitation)
            return caller()


async def see(seen: list[str]) -> None:
    seen.append(caller())


def caller() -> str:
    found = current_caller()
    assert found is not None
    return found.user
