"""One call of a host: what it works with, and how its answer or its error reaches the host."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from mcp.server.apps import client_supports_apps
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    ContentBlock,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    TextContent,
)
from pydantic import InstanceOf

from wan_mcp.errors import NO_FILES_LEFT, Busy, NotFound, WanError, shows_no_files_left
from wan_mcp.models import Cursor, JobList, JobResult, JobStatus, Replacement
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.surface.answers import results
from wan_mcp.surface.answers.credits import CreditOverview, credit_overview
from wan_mcp.surface.answers.failures import failure_result
from wan_mcp.surface.answers.several import Awaited, WaitResult, newest_ended, wait_result
from wan_mcp.surface.answers.takes import takes_of
from wan_mcp.surface.answers.team_user import TeamUser, step_for
from wan_mcp.surface.answers.text import AnyResult, text
from wan_mcp.surface.consent import Orders, Purchase
from wan_mcp.surface.video_views import without_unreachable_file
from wan_mcp.videos.job_files import Blob
from wan_mcp.wording import duration

if TYPE_CHECKING:
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.status import JobView, Reading
    from wan_mcp.surface.video_views import VideoViews
    from wan_mcp.videos.in_storage.saved_link import SavedLink

Result = TypeVar("Result", bound=AnyResult)
RequestContext = ServerRequestContext[Any, Any]

JOBS_URI = "wan://jobs"
"""The list of jobs as a resource; each job is below it, under its id."""

BOUGHT = frozenset(JobStatus) - {JobStatus.REFUSED, JobStatus.NOT_SENT}
"""The statuses of a list without a filter: a few refusals would push every video out of it."""

_COMPLETED = frozenset({JobStatus.COMPLETED})

ROOTS_SECONDS = 1.0
"""How long a paid call waits for the folders that a host declares (ours)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """What the answer to one call is made with, besides the arguments.

    Attributes:
        jobs: the jobs of the caller's account.
        video_views: what can be shown of their videos.
        context: the SDK's own; through it a call reports progress and asks the user.
        confirm_above: the price in credits above which the user has to agree; None never asks.
        local: whether the caller can use paths of this machine.
        with_contact_sheet: whether a result shows a few frames of the saved video.
        takes_roots: whether files in the folders that the host declares may be inputs.
        orders: the questions of this server to its users.
        lists_jobs: whether the caller may list jobs.
        user: who the caller is; None at a server without sign-in.
    """

    jobs: Jobs
    video_views: VideoViews
    context: Context[Any, Any]
    confirm_above: float | None = None
    local: bool = False
    with_contact_sheet: bool = False
    takes_roots: bool = False
    orders: Orders = field(default_factory=Orders)
    lists_jobs: bool = True
    user: TeamUser | None = None

    async def ask(self, purchase: Purchase) -> InputRequiredResult | None:
        """Have the host ask its user before a job: see `Orders.ask`. Raises NotConfirmed."""
        return await self.orders.ask(self.context, self.jobs, purchase)

    async def located(self, wanted: Replacement) -> Replacement:
        """The same request, its files and the videos of jobs found: see `Jobs.located`."""
        has_file = wanted.video.startswith("file:") or wanted.character_image.startswith("file:")
        roots = await self._roots() if self.takes_roots and has_file else ()
        return await self.jobs.located(wanted, roots)

    async def _roots(self) -> Sequence[Path]:
        """The folders that the host declares; none if it cannot be asked, or does not answer.

        Since revision 2026-07-28 a server cannot ask during a call, and roots are deprecated.
        """
        capabilities = self.context.client_capabilities
        if not (capabilities and capabilities.roots and self.context.session.can_send_request):
            return ()
        try:
            with anyio.fail_after(ROOTS_SECONDS):
                session = self.context.session
                answer = await session.send_request(ListRootsRequest(), ListRootsResult)
        except (MCPError, TimeoutError) as failure:
            logger.info("the host did not declare its folders: %s", type(failure).__name__)
            return ()
        return tuple(filter(None, (_folder(str(root.uri)) for root in answer.roots)))

    async def report_progress(self, step: float, message: str) -> None:
        """Say how far the call is; the number only has to grow (MCP specification)."""
        await self.context.report_progress(step, None, message)

    async def keep(self, ids: Sequence[str]) -> None:
        """Record that this call waits for these requests too: see `Jobs.keep`."""
        for id in ids:
            with suppress(NotFound):  # the answer says so in its own line
                await self.jobs.keep(id)

    def submit_result(self, view: JobView) -> JobResult:
        """The answer to a submit, as this caller can use it."""
        view = without_unreachable_file(view, local=self.local)
        return results.submit_result(view, now=self.jobs.clock.wall(), user=self.user)

    async def job_result(self, reading: Reading) -> JobResult:
        """The answer about one job, as this caller can use it. Raises the error of a reading."""
        if isinstance(reading, WanError):
            raise reading
        now, typical = self.jobs.clock.wall(), await self.jobs.typical()
        view = without_unreachable_file(reading, local=self.local)
        saved = await self._saved_link(view)
        result = results.status_result(view, now=now, typical=typical, saved=saved, user=self.user)
        return self._with_notice(result)

    async def wait_result(self, readings: Mapping[str, Reading]) -> WaitResult:
        """The answer about several jobs, as this caller can use it."""
        newest = newest_ended(readings.values())
        about = None if newest is None else await self.job_result(newest)
        jobs = [Awaited(id, each, self._plain_result(each)) for id, each in readings.items()]
        return self._with_notice(wait_result(jobs, about))

    def _plain_result(self, reading: Reading) -> JobResult:
        """The answer about one of several jobs, without what would have to be looked up."""
        if isinstance(reading, WanError):
            return failure_result(reading, self.user)
        view = without_unreachable_file(reading, local=self.local)
        return results.status_result(view, now=self.jobs.clock.wall(), user=self.user)

    async def job_list(
        self, status: JobStatus | None, limit: int, after: Cursor | None = None
    ) -> JobList:
        """All unfinished jobs and the newest ended ones of a status, or a later page of them."""
        statuses = BOUGHT if status is None else {status}
        found, totals = await self.jobs.page(statuses, limit + 1, after)
        views = [without_unreachable_file(view, local=self.local) for view in found]
        now = self.jobs.clock.wall()
        listed = results.list_result(views, totals, now=now, status=status, limit=limit)
        return self._with_notice(listed)

    async def keep_video(self, id: str, kept: bool) -> JobResult:
        """Record whether the user keeps the video of a job."""
        view = await self.video_views.keep(id, kept)
        return results.keep_result(view, kept=kept)

    async def credits(self, wanted: Replacement) -> CreditOverview:
        """What a job of this size costs, and the credits of the account."""
        report = await self.jobs.credits(wanted)
        return self._with_notice(credit_overview(report, self.confirm_above, self.user))

    async def _saved_link(self, view: JobView) -> SavedLink | None:
        """A link to the video of a job, if it is in object storage."""
        place = view.record and view.record.saved_path
        if not place or not is_storage_url(place):
            return None
        return await self.video_views.saved_link(place)

    def _with_notice(self, result: Result) -> Result:
        """The result, and what is wrong with the ledger that it was read from."""
        if notice := self.jobs.ledger_notice:
            result.message += f" About wan-mcp's ledger: {notice}"
        return result

    async def tool_result(self, result: AnyResult) -> CallToolResult:
        """A result in the protocol's form, with the contact sheet and the player's data."""
        if not isinstance(result, JobResult):
            return tool_result(result)
        is_saved = result.status is JobStatus.COMPLETED and result.size is not None
        image = None
        if self.with_contact_sheet and is_saved:
            image = await self.video_views.first_contact_sheet(result.job_id or "")
        typical = await self.jobs.typical()
        meta = {} if typical is None else {"typically": duration(typical)}
        shows_takes = self.lists_jobs and client_supports_apps(self.context)
        if result.status is JobStatus.COMPLETED and shows_takes:
            meta |= await self._takes(result.job_id or "")
        return tool_result(result, image=image, meta=meta or None)

    async def _takes(self, id: str) -> dict[str, Any]:
        """How many of the newest videos are takes of the same order, for the player."""
        views = [
            view for view in await self.jobs.recent(_COMPLETED, 50) if view.status in _COMPLETED
        ]
        found = [take for view, take in zip(views, takes_of(views), strict=True) if view.id == id]
        return {"takes": found[0].takes} if found and found[0] else {}


WhoReads = Callable[[], Awaitable[TeamUser | None]]
"""Says who reads the answer to this request; None at a server without sign-in."""


async def no_team_user() -> TeamUser | None:
    """Without sign-in, the reader of an answer is no user of a team."""
    return None


@dataclass(frozen=True)
class Calls:
    """Opens the calls of one server. The other fields are those of `Call`."""

    confirm_above: float | None
    local: bool
    with_contact_sheet: bool
    takes_roots: bool = False
    orders: InstanceOf[Orders] = field(default_factory=Orders)
    home: Path | None = None
    """What `~` means in a path; None: what the system says."""
    uploads: bool = False
    """Whether users can upload files to this server."""
    off: frozenset[str] = frozenset()
    """The tools that the operator has switched off. Their work cannot be done in any other way."""
    who_reads: WhoReads = no_team_user

    def offers(self, *tools: str) -> bool:
        """Whether none of these tools is switched off."""
        return self.off.isdisjoint(tools)

    def require(self, *tools: str) -> None:
        """Refuse what one of these tools does. Raises NotFound if it is switched off."""
        for tool in self.off.intersection(tools):
            raise NotFound(switched_off(tool), next_step="Tell the user.")

    async def open(
        self, context: Context[Any, Any] | RequestContext, *, needs_key: bool = True
    ) -> Call:
        """What a request works with.

        Args:
            context: the request's own, from either layer of the SDK.
            needs_key: whether to refuse without an API key, as there is no account and no job then.

        Raises:
            NoKey: a key is needed, and none is configured; or the caller has no wallet.
            LedgerUnavailable: it cannot be found out now which wallet pays for the caller.
            Busy: no file can be opened now, and the first call has to open many.
        """
        try:
            return await self._open(context, needs_key=needs_key)
        except OSError as exc:
            if not shows_no_files_left(exc):
                raise
            raise Busy(f"The call was not begun: {NO_FILES_LEFT}.") from exc

    async def _open(self, context: Context[Any, Any] | RequestContext, *, needs_key: bool) -> Call:
        if not isinstance(context, Context):
            context = Context(request_context=context)
        jobs, video_views = await context.request_context.lifespan_context.services()
        if needs_key:
            jobs.require_key()
        return Call(
            jobs,
            video_views,
            context,
            self.confirm_above,
            self.local,
            self.with_contact_sheet,
            self.takes_roots,
            self.orders,
            self.offers("list_jobs"),
            await self.who_reads(),
        )

    @asynccontextmanager
    async def as_mcp_errors(self, **data: str) -> AsyncIterator[None]:
        """Turns every exception raised within it into an MCPError that says what to do.

        The text of an unexpected exception is logged and not sent: the SDK would send it to a host
        of a revision before 2026-07-28 (observed).

        Args:
            data: the error's `data`, such as `uri`.
        """
        try:
            yield
        except MCPError:
            raise
        except WanError as failure:
            code = INVALID_PARAMS if isinstance(failure, NotFound) else INTERNAL_ERROR
            step = step_for(await self.who_reads(), failure)
            raise MCPError(code, f"{failure.what} {step}", data or None) from failure
        except Exception as defect:
            logger.exception("an answer broke")
            message = "This hit a defect of wan-mcp; the server's log has the details."
            raise MCPError(INTERNAL_ERROR, message, data or None) from defect


def switched_off(tool: str) -> str:
    """What is said of a tool that the operator has switched off."""
    return f"The operator of this server has switched {tool} off."


def _folder(uri: str) -> Path | None:
    """The folder that a root names; None if it is not a folder of this computer."""
    from wan_mcp.inputs.local.references import FileReference, reference

    with suppress(ValueError):
        found = reference(uri)
        return Path(found.path) if isinstance(found, FileReference) else None
    return None


def tool_result(
    result: AnyResult,
    *,
    failed: bool = False,
    image: Blob | None = None,
    meta: dict[str, Any] | None = None,
) -> CallToolResult:
    """A result as data and as text: some hosts show a model only one of the two."""
    caption = "\nPicture: frames of the video." if image else ""
    content: list[ContentBlock] = [TextContent(type="text", text=text(result) + caption)]
    if image is not None:
        data = base64.b64encode(image.data).decode()
        content.append(ImageContent(type="image", data=data, mime_type=image.mime_type))
    return CallToolResult(
        content=content,
        structured_content=result.model_dump(mode="json", exclude_none=True),
        is_error=failed,
        _meta=meta,
    )
