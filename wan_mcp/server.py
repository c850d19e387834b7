"""Wires the rooms together: the only place that knows all of them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.mcpserver import Context, MCPServer

from wan_mcp.jobs.clock import Clock
from wan_mcp.running import App
from wan_mcp.settings import Settings
from wan_mcp.tools import ICON, Call, build_tools

if TYPE_CHECKING:
    import httpx

INSTRUCTIONS = (
    "Puts a character into a video with PixelDojo's wan-2.2-replace. "
    "1. replace_character starts one job and returns its job_id; each job costs credits. "
    "2. wait_for_job waits for the film; a job takes minutes, so call it again while the status is "
    "running or submitting. get_job_status looks once, list_jobs finds earlier jobs. All free. "
    "3. The film's video_url is temporary: give it to the user at once and say that it must be "
    "saved. "
    "Both inputs must be direct public links, not files of the chat or of this computer. "
    "The same replace_character call returns the same job and is not paid again; another seed is "
    "another take, and another payment. When an answer was late, lost or unclear, do not try "
    "another seed: every answer has `charged` and `next`, so follow `next`."
)


def build_server(
    settings: Settings,
    *,
    local: bool = False,
    clock: Clock | None = None,
    transport: "httpx.AsyncBaseTransport | None" = None,
) -> MCPServer[App]:
    """A server that is ready to be run by a runner or joined by a client in memory.

    Args:
        settings: the operator's.
        local: whether the caller sits at this machine: then inputs are looked at, and films are
            saved and shown, unless the operator says otherwise.
        clock: time and chance; the real ones when left out.
        transport: stands in for the network in tests.
    """

    @asynccontextmanager
    async def lifespan(server: MCPServer[App]) -> AsyncIterator[App]:
        async with AsyncExitStack() as ending, anyio.create_task_group() as tasks:
            app = App(settings, tasks, clock or Clock(), transport, local=local)
            ending.push_async_callback(app.aclose)  # after the tasks, also after a cancel
            tasks.start_soon(app.run)
            try:
                yield app
            finally:
                with anyio.CancelScope(shield=True):
                    await app.drain()
                tasks.cancel_scope.cancel()

    def open_call(context: Context[Any, Any]) -> Call:
        async def progress(done: float, message: str) -> None:
            await context.report_progress(done, None, message)

        app = context.request_context.lifespan_context
        poster = app.shown.poster if app.poster else None
        return Call(app.jobs, progress, settings.confirm_above, context, local, poster)

    return MCPServer(
        "wan-mcp",
        title="Character replacement in video (PixelDojo)",
        instructions=INSTRUCTIONS,
        version=version("wan-mcp"),
        icons=[ICON],
        tools=build_tools(open_call, loopback=settings.on_loopback),
        lifespan=lifespan,
        log_level=settings.log_level,
        subscriptions=False,
    )
