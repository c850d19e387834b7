"""Notifies subscribers that the resource or the task of a job has changed.

The notice comes whichever process learnt of the change. Since revision 2026-07-28 a host subscribes
by a request that stays open (`subscriptions/listen`). In earlier revisions it subscribes with
`resources/subscribe`, and the notifications arrive on its connection; those have no tasks.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import anyio
from anyio.abc import TaskGroup
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.context import CallNext, HandlerResult
from mcp.server.mcpserver import require_client_extension
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.exceptions import MCPError
from mcp.types import (
    METHOD_NOT_FOUND,
    EmptyResult,
    Notification,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from wan_mcp.errors import Busy, NotFound, WanError
from wan_mcp.models import JOB_ID
from wan_mcp.surface.answers import results
from wan_mcp.surface.answers.several_task import ids_of, several_tasks
from wan_mcp.surface.answers.task_form import TASKS, Task, tasks
from wan_mcp.surface.argument_types import MAX_IDS
from wan_mcp.surface.calls import JOBS_URI, Call, Calls, RequestContext

if TYPE_CHECKING:
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.status import Reading

FOLLOW_SECONDS = 86_400.0
"""How long a job is followed. The poller reads a running job no longer than that either."""
MAX_JOBS = 64
"""Jobs that one stream or connection may follow. Each counts as a waiter of the poller."""
MAX_STREAMS = 1_024
"""The SDK's own limit."""
MAX_STREAMS_OF_USER = 64
"""How many of them may be of one user who has signed in (ours): a sixteenth of all, and far more
than the one that a host needs for each conversation."""
BUSY_SECONDS = 30.0
"""After this time a host that found no place may try again."""

_JOB_URI = rf"{JOBS_URI}/({JOB_ID})"
_FIXED_DATE = datetime.min.replace(tzinfo=UTC)
"""Makes two contents equal that differ only in the seconds a link stays valid."""

Content = dict[str, Any]
Notify = Callable[[], Awaitable[None]]
Follow = Callable[[Notify], Coroutine[Any, Any, None]]
"""Follows one job until nothing more will change, and notifies of each change."""

logger = logging.getLogger(__name__)


@dataclass
class _Connection:
    """The subscriptions of one connection of a revision before 2026-07-28, by their URI."""

    tasks: TaskGroup
    scopes: dict[str, anyio.CancelScope] = field(default_factory=dict)

    async def run(
        self, uri: str, scope: anyio.CancelScope, follow: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            with scope:
                await follow()
        except Exception:
            # A defect here must not end the server, whose task group also runs the payments.
            logger.exception("following %s broke", uri)
        finally:
            if self.scopes.get(uri) is scope:
                del self.scopes[uri]


class TaskNotification(Notification[dict[str, Any], Literal["notifications/tasks"]]):
    """A task as it is now (documented: ext-tasks)."""

    method: Literal["notifications/tasks"] = "notifications/tasks"
    params: dict[str, Any]


class _Stream:
    """One stream of notifications, each marked with the request that opened it.

    The SDK's own stream cannot send notifications of an extension. Each notification waits here
    until the client takes it, so that none is kept for a client that reads no more.
    """

    def __init__(self, ctx: RequestContext) -> None:
        self._send = partial(ctx.session.send_notification, related_request_id=ctx.request_id)
        self._meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}

    async def acknowledge(self, uris: list[str], task_ids: list[str]) -> None:
        """Say what this stream follows. It has to be first (MCP specification)."""
        extra: dict[str, Any] = {"taskIds": task_ids} if task_ids else {}
        followed = SubscriptionFilter(resource_subscriptions=uris or None, **extra)
        params = SubscriptionsAcknowledgedNotificationParams(
            notifications=followed, _meta=self._meta
        )
        await self._send(SubscriptionsAcknowledgedNotification(params=params))

    async def updated(self, uri: str) -> None:
        """Say that a resource has changed."""
        params = ResourceUpdatedNotificationParams(uri=uri, _meta=self._meta)
        await self._send(ResourceUpdatedNotification(params=params))

    async def task(self, task: Task) -> None:
        """Report the state of a task."""
        notice: Any = TaskNotification(params={**task, "_meta": self._meta})
        await self._send(notice)


class Subscriptions:
    """The subscriptions of one server."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._connections: WeakKeyDictionary[object, _Connection] = WeakKeyDictionary()
        self._streams: Counter[str | None] = Counter()

    def begin(self, lifespan_context: object, tasks: TaskGroup) -> None:
        """Set where the subscriptions of a lifespan run, so that they end with it.

        Args:
            lifespan_context: what the lifespan gives to each request.
        """
        self._connections[lifespan_context] = _Connection(tasks)

    async def listen(
        self, ctx: RequestContext, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """One stream of notifications. When its client closes it, all that it started ends."""
        async with self._place():
            async with self._calls.as_mcp_errors():
                stream = _Stream(ctx)
                uris = await self._resources(ctx, params.notifications.resource_subscriptions or [])
                tasks = await self._tasks(ctx, params.notifications)
            await stream.acknowledge(list(uris), list(tasks))
            async with anyio.create_task_group() as group:
                for uri, follow in uris.items():
                    group.start_soon(follow, partial(stream.updated, uri), name=f"follow {uri}")
                for id, call in tasks.items():
                    group.start_soon(_follow_task, id, call, stream, name=f"follow task {id}")
                await anyio.sleep_forever()  # until the client closes it
        return SubscriptionsListenResult()

    async def subscribe(self, ctx: RequestContext, params: SubscribeRequestParams) -> EmptyResult:
        """Follow a job until it has ended, the client unsubscribes, or the connection closes."""
        uri = params.uri
        async with self._calls.as_mcp_errors(uri=uri):
            if ctx.request is not None:  # HTTP: nothing can be sent after the answer
                message = "Over HTTP this takes revision 2026-07-28; call get_job_status instead."
                raise MCPError(METHOD_NOT_FOUND, message)
            follow = await self._follow(ctx, uri)
            connection = self._connections[ctx.lifespan_context]
            if uri in connection.scopes:
                return EmptyResult()
            if len(connection.scopes) >= MAX_JOBS:
                raise Busy(f"{MAX_JOBS} jobs are followed already.")
            connection.scopes[uri] = scope = anyio.CancelScope()
            following = partial(follow, partial(ctx.session.send_resource_updated, uri))
            connection.tasks.start_soon(connection.run, uri, scope, following, name=f"follow {uri}")
        return EmptyResult()

    async def unsubscribe(
        self, ctx: RequestContext, params: UnsubscribeRequestParams
    ) -> EmptyResult:
        """Stop following a job."""
        connection = self._connections[ctx.lifespan_context]
        if scope := connection.scopes.pop(params.uri, None):
            scope.cancel()
        return EmptyResult()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Within it, one more stream is open. Raises MCPError if there is no place for it."""
        signed_in = get_access_token()
        user = signed_in.subject if signed_in else None
        async with self._calls.as_mcp_errors():
            if self._streams.total() >= MAX_STREAMS:
                raise _busy("Too many subscriptions are open here.")
            if user is not None and self._streams[user] >= MAX_STREAMS_OF_USER:
                raise _busy(f"{MAX_STREAMS_OF_USER} subscriptions of yours are open here already.")
        self._streams[user] += 1
        try:
            yield
        finally:
            self._streams[user] -= 1
            self._streams = +self._streams  # without those who have none

    async def _resources(self, ctx: RequestContext, uris: Sequence[str]) -> dict[str, Follow]:
        """How to follow each resource that can be followed; the answer shows which ones."""
        follows: dict[str, Follow] = {}
        for uri in uris[:MAX_JOBS]:
            with _left_out():
                follows[uri] = await self._follow(ctx, uri)
        return follows

    async def _tasks(self, ctx: RequestContext, wanted: SubscriptionFilter) -> dict[str, Call]:
        """The tasks that can be followed. Raises MCPError if the client declares no tasks."""
        ids = (wanted.model_extra or {}).get("taskIds")
        if not isinstance(ids, list) or not ids:
            return {}
        require_client_extension(ctx, TASKS)
        follows: dict[str, Call] = {}
        for id in filter(_is_task_id, ids[:MAX_JOBS]):
            with _left_out():
                self._calls.require("wait_for_job")
                call = await self._calls.open(ctx)
                if len(ids_of(id)) == 1:  # of several, the task itself says which are unknown
                    await call.jobs.known(id) or await call.jobs.check(id)
                follows[id] = call
        return follows

    async def _follow(self, ctx: RequestContext, uri: str) -> Follow:
        """How to follow a job from its present state on. Raises NotFound for other URIs."""
        match = re.fullmatch(_JOB_URI, uri)
        if match is None:
            next_step = f"Subscribe to {JOBS_URI}/JOB_ID."
            raise NotFound("This resource cannot be subscribed to.", next_step=next_step)
        self._calls.require("wait_for_job", "get_job_status")
        jobs, id = (await self._calls.open(ctx)).jobs, match[1]
        view = await jobs.known(id) or await jobs.check(id)
        return partial(_follow, jobs, id, _content(view))


async def honest_capabilities(ctx: RequestContext, call_next: CallNext) -> HandlerResult:
    """Middleware that corrects the capabilities which the SDK declares.

    With subscriptions the SDK declares that every list may change, and then each host would hold a
    stream open for that. It also declares subscriptions over HTTP for revisions before 2026-07-28,
    where this server has none.
    """
    result = await call_next(ctx)
    if ctx.method in ("initialize", "server/discover") and isinstance(result, dict):
        capabilities = result["capabilities"]
        for primitive in ("tools", "prompts", "resources"):
            capabilities[primitive]["listChanged"] = False
        if ctx.method == "initialize":
            capabilities["resources"]["subscribe"] = ctx.request is None
    return result


def _busy(what: str) -> Busy:
    """There is no place for a stream. An error of MCP has no field for the time, so it is said."""
    wait = f"{BUSY_SECONDS:.0f} seconds"
    return Busy(f"{what} Close one, or try again in {wait}.", retry_after=BUSY_SECONDS)


@contextmanager
def _left_out() -> Iterator[None]:
    """Within it, an error about one subscription only leaves out that one."""
    try:
        yield
    except WanError as failure:  # the answer shows the host that this one is left out
        logger.info("a subscription is not honored: %s", failure.what)


def _is_task_id(id: object) -> bool:
    return isinstance(id, str) and 1 <= len(ids_of(id)) <= MAX_IDS


async def _follow_task(id: str, call: Call, stream: _Stream) -> None:
    """Send the task at each change, until it is over."""
    ids = ids_of(id)
    following = tasks(id, call) if len(ids) == 1 else several_tasks(ids, call)
    with _left_out():
        async with aclosing(following) as states:
            async for state in states:
                await stream.task(state)


async def _follow(jobs: Jobs, id: str, content: Content, notify: Notify) -> None:
    """Notify of each change, until nothing more will change."""
    try:
        async with aclosing(jobs.watch(id, FOLLOW_SECONDS)) as readings:
            async for reading in readings:
                before, content = content, _content(reading)
                if content != before:
                    await notify()
    except WanError:
        await notify()  # a read of the resource now ends in this error


def _content(reading: Reading) -> Content:
    """What the resource says, without what changes by the passing of time alone."""
    if isinstance(reading, WanError):
        return {}
    result = results.status_result(reading, now=_FIXED_DATE)
    return result.model_dump(exclude={"elapsed_seconds", "expected_start_in_seconds"})
