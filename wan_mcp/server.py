"""Wires the rooms together: the only place that knows all of them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup
from mcp.server.mcpserver import Context, MCPServer

from wan_mcp.jobs.budget import Budget
from wan_mcp.jobs.clock import Clock
from wan_mcp.jobs.ledger import Caps
from wan_mcp.jobs.service import Jobs
from wan_mcp.settings import Settings
from wan_mcp.tools import ICON, Call, build_tools

if TYPE_CHECKING:
    import httpx

    from wan_mcp.jobs.sqlite import SQLiteLedger
    from wan_mcp.pixeldojo.client import PixelDojo

OPEN_AFTER = 1.0
"""Seconds after the start at which the ledger is opened if no call has needed it before."""
DRAIN_SECONDS = 1.2
"""How long a stopping server lets a payment finish; hosts kill after 2 s."""

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


class App:
    """What a running server holds.

    Args:
        settings: the operator's.
        tasks: where payments run; they outlive the call that started them.
        clock: time and chance.
        transport: stands in for the network in tests.
    """

    def __init__(
        self,
        settings: Settings,
        tasks: TaskGroup,
        clock: Clock,
        transport: "httpx.AsyncBaseTransport | None",
    ) -> None:
        self._settings = settings
        self._tasks = tasks
        self._clock = clock
        self._transport = transport
        self._rooms: _Rooms | None = None

    @property
    def jobs(self) -> Jobs:
        """The jobs of the configured account."""
        if self._rooms is None:
            self._rooms = self._open()
            self._tasks.start_soon(self._rooms.jobs.run)
        return self._rooms.jobs

    async def run(self) -> None:
        """Open what no host has to wait for before `initialize`, and see to lost answers."""
        await anyio.sleep(OPEN_AFTER)
        if self._settings.api_key.get_secret_value():
            _ = self.jobs

    async def drain(self) -> None:
        """Let payments that are under way finish, for a short while."""
        if self._rooms is not None:
            await self._rooms.jobs.drain(DRAIN_SECONDS)

    async def aclose(self) -> None:
        """Close the connections and the ledger."""
        if self._rooms is not None:
            with anyio.CancelScope(shield=True):
                await self._rooms.vendor.aclose()
                await self._rooms.ledger.aclose()

    def _open(self) -> "_Rooms":
        # Importing httpx takes 30 ms; SQLite opens its file only when it is first asked.
        from wan_mcp.jobs.sqlite import SQLiteLedger
        from wan_mcp.pixeldojo.client import PixelDojo

        settings = self._settings
        key = settings.api_key.get_secret_value()
        agent = f"wan-mcp/{version('wan-mcp')}"
        folder = settings.data_folder / "ledger"  # its own: others' rights to it are taken away
        ledger = SQLiteLedger(folder, caps=_caps(settings), now=self._clock.wall)
        names: list[str] = []

        async def account() -> str:  # it never changes, and each question costs a disk's thread
            if not names:
                names.append(await ledger.account(settings.api_base, key))
            return names[0]

        budget = Budget(ledger.rota, account, self._clock)
        vendor = PixelDojo(
            settings.api_base, key, agent=agent, pace=budget, transport=self._transport
        )
        jobs = Jobs(vendor, ledger, account, budget, self._tasks, self._clock)
        return _Rooms(vendor, ledger, jobs)


@dataclass(frozen=True)
class _Rooms:
    vendor: "PixelDojo"
    ledger: "SQLiteLedger"
    jobs: Jobs


def _caps(settings: Settings) -> Caps:
    return Caps(
        credits_per_job=settings.max_credits_per_job,
        credits_per_day=settings.max_credits_per_day,
        in_flight=settings.max_in_flight,
        submits_per_minute=settings.max_submits_per_minute,
    )


def build_server(
    settings: Settings,
    *,
    clock: Clock | None = None,
    transport: "httpx.AsyncBaseTransport | None" = None,
) -> MCPServer[App]:
    """A server that is ready to be run by a runner or joined by a client in memory.

    Args:
        settings: the operator's.
        clock: time and chance; the real ones when left out.
        transport: stands in for the network in tests.
    """

    @asynccontextmanager
    async def lifespan(server: MCPServer[App]) -> AsyncIterator[App]:
        async with AsyncExitStack() as ending, anyio.create_task_group() as tasks:
            app = App(settings, tasks, clock or Clock(), transport)
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

        jobs = context.request_context.lifespan_context.jobs
        return Call(jobs, progress, settings.confirm_above, context)

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
