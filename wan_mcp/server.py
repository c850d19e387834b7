"""Builds a server from its parts; the only module that knows all of them."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeAlias

import anyio
from anyio.abc import TaskGroup
from mcp.server.apps import Apps
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.tools import Tool

from wan_mcp.app.app import App
from wan_mcp.app.base import Plan
from wan_mcp.clock import Clock
from wan_mcp.logs.facts import Figures
from wan_mcp.logs.lines import log_to_stderr
from wan_mcp.settings import Settings
from wan_mcp.storage.storage_url import link_origin
from wan_mcp.surface.calls import Calls, WhoReads, no_team_user
from wan_mcp.surface.door import PlainNames, SpansIfRecorded, for_pages, refuse_cursors
from wan_mcp.surface.mcp_server import WanServer
from wan_mcp.surface.player import page_apps
from wan_mcp.surface.prompts import replace_a_character
from wan_mcp.surface.request_state import SharedRequestState
from wan_mcp.surface.resources import JobResources, codes
from wan_mcp.surface.skills import Skills
from wan_mcp.surface.subscriptions import Subscriptions, honest_capabilities
from wan_mcp.surface.tasks import Tasks
from wan_mcp.surface.tools import ICON, build_tools

if TYPE_CHECKING:
    import httpx

    from wan_mcp.app.own_keys import OwnKeys
    from wan_mcp.app.team import TeamApp
    from wan_mcp.surface.uploading.desk import UploadDesk
    from wan_mcp.tenants.directory import StoredDirectory
    from wan_mcp.tenants.key_page import KeyPage

AnyApp: TypeAlias = "App | TeamApp"
"""What a server for one account holds, or one for a team."""

logger = logging.getLogger(__name__)

_INPUTS = (
    "Inputs are public links, paths on this computer (not over HTTP) or, for a clip, "
    "wan://jobs/{job_id}/video; a file that is only in the chat has no path: ask where it is."
)
_UPLOADED_INPUTS = (
    "Inputs are public links or, for a clip, wan://jobs/{job_id}/video; of a file of the user's "
    "computer give the path or the name: the answer has a page where the user uploads it, and says "
    "what to pass then."
)
_INSTRUCTIONS = (
    "Puts a character into a video with PixelDojo's wan-2.2-replace. "
    "1. replace_character starts one job and returns its job_id; each job costs credits. "
    "2. wait_for_job waits for the finished video; a job takes minutes, so call it again while the "
    "status is queued, running or submitting. get_job_status looks once, list_jobs finds earlier "
    "jobs, check_credits says the price, the balance and the limits, cancel_job withdraws a queued "
    "request. All free. 3. The video_url of a completed job is temporary: give it to the user at "
    "once and say that the video must be saved. "
    "{inputs} "
    "The same replace_character call returns the same job and is not paid again; another seed is "
    "another take, and another payment. When an answer was late, lost or unclear, do not try "
    "another seed: every answer has `charged` and `next`, so follow `next`."
)
INSTRUCTIONS = _INSTRUCTIONS.replace("{inputs}", _INPUTS)


class RunningServer:
    """The server while its lifespan lasts, as an operator sees it."""

    def __init__(self) -> None:
        self.app: AnyApp | None = None

    async def missing(self) -> Mapping[str, str]:
        """What the server lacks to take every call, a sentence each; empty if nothing."""
        if self.app is None:
            return {"server": "It is still starting."}
        return await self.app.missing()

    async def figures(self) -> Figures:
        """What the ledger knows now."""
        return Figures() if self.app is None else await self.app.figures()

    @property
    def uploads(self) -> "UploadDesk | None":
        """Takes the files that users upload; None where they cannot, or not yet."""
        reception = None if self.app is None else self.app.reception
        if reception is None:
            return None
        from wan_mcp.surface.uploading.desk import UploadDesk

        return UploadDesk(reception)

    @property
    def own_keys(self) -> "OwnKeys | None":
        """Takes the PixelDojo keys that users store; None where they cannot, or not yet."""
        return None if self.app is None else self.app.own_keys

    async def drain(self) -> None:
        """Begin no more payments, end waits with an answer, and let payments finish."""
        if self.app is not None:
            await self.app.drain()


def build_server(
    settings: Settings,
    *,
    local: bool = False,
    clock: Clock | None = None,
    transport: "httpx.AsyncBaseTransport | None" = None,
    running: RunningServer | None = None,
    upload_page: str | None = None,
    people: "StoredDirectory | None" = None,
    key_page: "KeyPage | None" = None,
) -> MCPServer[AnyApp]:
    """A server that is ready to be run by a runner or joined by a client in memory.

    Args:
        settings: the operator's.
        local: whether the caller runs on this machine. Then inputs are checked before a submit,
            and videos are saved and shown, unless the operator decided otherwise.
        clock: time and chance; the real ones when left out.
        transport: replaces the network in tests.
        running: is kept up to date with the lifespan, for an operator.
        upload_page: the address below which users can upload files, if they are elsewhere and there
            is a storage for them.
        people: who calls, where people sign in; None for the account of the settings. It is closed
            when the server ends.
        key_page: where users can store PixelDojo keys of their own; None where they cannot.
    """
    upload_page = None if local or settings.storage_url is None else upload_page
    _begin_log(settings)
    own_version = version("wan-mcp")  # reading it takes 3 ms
    request_state = SharedRequestState(lambda asked: asked.lifespan_context.request_state_key())
    calls = _calls(settings, _team_user(people, key_page), local=local, uploads=bool(upload_page))
    subscriptions = Subscriptions(calls)
    agent, clock = f"wan-mcp/{own_version}", clock or Clock()

    def start(tasks: TaskGroup) -> AnyApp:
        plan = Plan(settings, tasks, clock, transport, agent, local, upload_page, key_page)
        return _app(plan, people)

    server = WanServer[AnyApp](
        "wan-mcp",
        title="Character replacement in video (PixelDojo)",
        instructions=_instructions(uploads=upload_page is not None),
        version=own_version,
        icons=[ICON],
        tools=_tools(settings, calls),
        extensions=[_pages(settings), Tasks(calls), Skills()],
        middleware=[honest_capabilities, for_pages, refuse_cursors, request_state.before_sealing],
        request_state_security=request_state.security,
        lifespan=lambda server: _lifespan(start, subscriptions, running or RunningServer()),
        log_level=settings.log_level,
        subscriptions=False,  # this server has its own
    )
    server.middleware.insert(0, request_state.before_unsealing)  # outside of what unseals
    _furnish(server, settings, calls, subscriptions, local=local)
    return server


def _team_user(people: "StoredDirectory | None", key_page: "KeyPage | None") -> WhoReads:
    if people is None:
        return no_team_user
    from wan_mcp.app.team_user import team_user  # it needs what only a team installs

    return partial(team_user, people, key_page)


def _app(plan: Plan, people: "StoredDirectory | None") -> AnyApp:
    if people is None:
        return App(plan)
    from wan_mcp.app.team import TeamApp  # it needs what only a team installs

    return TeamApp(plan, people)


def _furnish(
    server: WanServer[AnyApp],
    settings: Settings,
    calls: Calls,
    subscriptions: Subscriptions,
    *,
    local: bool,
) -> None:
    """Add what the server offers besides its tools, and what guards all of it."""
    server.middleware[:] = SpansIfRecorded.among(server.middleware)
    server.middleware.insert(0, PlainNames(settings.api_key.get_secret_value()))
    resources = JobResources(calls, with_videos=settings.wants("archive", local=local))
    server.add_jobs(resources, subscriptions)
    server.switch_off(calls.off)
    server.add_resource(codes())
    if calls.offers("replace_character"):
        server.add_prompt(replace_a_character(calls, loopback=settings.on_loopback))


def _begin_log(settings: Settings) -> None:
    log_to_stderr(settings.log_level, settings.log_format)
    for notice in settings.notices:
        logger.warning("%s", notice)


def _tools(settings: Settings, calls: Calls) -> list[Tool]:
    tools = build_tools(calls, loopback=settings.on_loopback)
    return [tool for tool in tools if calls.offers(tool.name)]


def _instructions(*, uploads: bool) -> str:
    return _INSTRUCTIONS.replace("{inputs}", _UPLOADED_INPUTS) if uploads else INSTRUCTIONS


def _calls(settings: Settings, who_reads: WhoReads, *, local: bool, uploads: bool) -> Calls:
    poster, roots = settings.wants("poster", local=local), "roots" in (settings.input_dirs or ())
    # Nobody is asked about a job that a read-only server refuses.
    confirm_above = None if settings.read_only else settings.confirm_above
    off = frozenset(settings.disabled_tools)
    return Calls(
        confirm_above,
        local,
        poster,
        takes_roots=roots,
        home=settings.home,
        uploads=uploads,
        off=off,
        who_reads=who_reads,
    )


def _pages(settings: Settings) -> Apps:
    folder = settings.video_dir
    storage = link_origin(folder, settings.clouds) if isinstance(folder, str) else None
    return page_apps(settings.api_base, storage)


@asynccontextmanager
async def _lifespan(
    start: Callable[[TaskGroup], AnyApp], subscriptions: Subscriptions, running: RunningServer
) -> AsyncIterator[AnyApp]:
    async with AsyncExitStack() as ending, anyio.create_task_group() as tasks:
        running.app = app = start(tasks)
        ending.push_async_callback(app.aclose)  # after the tasks, also after a cancel
        tasks.start_soon(app.run)
        subscriptions.begin(app, tasks)
        try:
            yield app
        finally:
            with anyio.CancelScope(shield=True):
                await app.drain()
            tasks.cancel_scope.cancel()
