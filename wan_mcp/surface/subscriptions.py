"""Tells subscribers that the resource of a job has changed, whichever process learnt it.

Since revision 2026-07-28 a host holds a request open for it (`subscriptions/listen`); before, it
subscribes, and is told on the connection.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import anyio
from anyio.abc import TaskGroup
from mcp.server.context import CallNext, HandlerResult
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp.types import (
    METHOD_NOT_FOUND,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from wan_mcp.errors import Busy, NotFound, WanError
from wan_mcp.models import JOB_ID
from wan_mcp.surface.answers import results
from wan_mcp.surface.calls import JOBS, Asked, OpenCall, as_mcp_errors, opened

if TYPE_CHECKING:
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.status import JobView
    from wan_mcp.polling.waits import JobUpdate

FOLLOWED = 86_400.0
"""Seconds for which a job is followed; a running one is polled no longer either."""
MOST_JOBS = 64
"""Jobs that one stream or connection may follow; each is a waiter of the board's."""
MOST_STREAMS = 1_024
"""As many as the SDK allows itself."""

_JOB = re.compile(rf"{JOBS}/({JOB_ID})")
_ALWAYS = datetime.min.replace(tzinfo=UTC)

Facts = dict[str, Any]
Tell = Callable[[], Awaitable[None]]
Follow = Callable[[Tell], Coroutine[Any, Any, None]]

logger = logging.getLogger(__name__)


@dataclass
class _Desk:
    """The subscriptions of one connection of a handshake revision."""

    tasks: TaskGroup
    followed: dict[str, anyio.CancelScope] = field(default_factory=dict)

    async def follow(self, uri: str, scope: anyio.CancelScope, follow: Tell) -> None:
        try:
            with scope:
                await follow()
        except Exception:
            # A defect here must not end the server, in whose tasks payments run.
            logger.exception("following %s broke", uri)
        finally:
            if self.followed.get(uri) is scope:
                del self.followed[uri]


class Subscriptions:
    """The subscriptions of one server."""

    def __init__(self, open_call: OpenCall) -> None:
        self._open_call = open_call
        self._desks: WeakKeyDictionary[object, _Desk] = WeakKeyDictionary()
        self._streams = 0

    def begin(self, state: object, tasks: TaskGroup) -> None:
        """Note where the subscriptions of a lifespan run, so that they end with it.

        Args:
            state: what the lifespan gives to each request.
        """
        self._desks[state] = _Desk(tasks)

    async def listen(
        self, asked: Asked, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """One stream of notices; it ends with its client, and all that it started with it."""
        with as_mcp_errors():
            if self._streams >= MOST_STREAMS:
                raise Busy("Too many subscriptions are open here.")
            follows = await self._honored(asked, params.notifications.resource_subscriptions or [])
        kept = SubscriptionFilter(resource_subscriptions=list(follows) or None)
        bus = InMemorySubscriptionBus()
        self._streams += 1
        try:
            async with anyio.create_task_group() as tasks:
                for uri, follow in follows.items():
                    tell = partial(bus.publish, ResourceUpdated(uri=uri))
                    tasks.start_soon(follow, tell, name=f"follow {uri}")
                given = params.model_copy(update={"notifications": kept})
                result = await ListenHandler(bus)(asked, given)
                tasks.cancel_scope.cancel()  # the SDK ended it: the client reads no more
            return result
        finally:
            self._streams -= 1

    async def subscribe(self, asked: Asked, params: SubscribeRequestParams) -> EmptyResult:
        """Follow a job until it ended, the client unsubscribes, or the connection closes."""
        uri = params.uri
        with as_mcp_errors(uri=uri):
            if asked.request is not None:  # HTTP: no request of ours outlives its answer
                words = "Over HTTP this takes revision 2026-07-28; call get_job_status instead."
                raise MCPError(METHOD_NOT_FOUND, words)
            follow = await self._follow(asked, uri)
            desk = self._desks[asked.lifespan_context]
            if uri in desk.followed:
                return EmptyResult()
            if len(desk.followed) >= MOST_JOBS:
                raise Busy(f"{MOST_JOBS} jobs are followed already.")
            desk.followed[uri] = scope = anyio.CancelScope()
            tell = partial(asked.session.send_resource_updated, uri)
            following = partial(follow, tell)
            desk.tasks.start_soon(desk.follow, uri, scope, following, name=f"follow {uri}")
        return EmptyResult()

    async def unsubscribe(self, asked: Asked, params: UnsubscribeRequestParams) -> EmptyResult:
        """Follow it no longer."""
        desk = self._desks[asked.lifespan_context]
        if scope := desk.followed.pop(params.uri, None):
            scope.cancel()
        return EmptyResult()

    async def _honored(self, asked: Asked, uris: Sequence[str]) -> dict[str, Follow]:
        follows: dict[str, Follow] = {}
        for uri in uris[:MOST_JOBS]:
            try:
                follows[uri] = await self._follow(asked, uri)
            except WanError as failure:  # the host sees in the answer that this one is left out
                logger.info("a subscription is not honored: %s", failure.what)
        return follows

    async def _follow(self, asked: Asked, uri: str) -> Follow:
        """How to follow a job from what is known of it now. Raises NotFound for other URIs."""
        found = _JOB.fullmatch(uri)
        if found is None:
            step = f"Subscribe to {JOBS}/JOB_ID."
            raise NotFound("This resource tells of no changes.", next_step=step)
        jobs, id = opened(self._open_call, asked).jobs, found[1]
        view = await jobs.known(id)
        update = await jobs.check(id) if view is None else _kept(view)
        return partial(_follow, jobs, id, _facts(update))


async def honest_capabilities(ctx: Asked, call_next: CallNext) -> HandlerResult:
    """Middleware that takes back what the SDK promises of its own accord.

    With subscriptions it says that every list may change: then each host would hold a stream open
    for that. And it does not know that ours over HTTP cannot be subscribed to before 2026-07-28.
    """
    result = await call_next(ctx)
    if ctx.method in ("initialize", "server/discover") and isinstance(result, dict):
        offers = result["capabilities"]
        for kind in ("tools", "prompts", "resources"):
            offers[kind]["listChanged"] = False
        if ctx.method == "initialize":
            offers["resources"]["subscribe"] = ctx.request is None
    return result


async def _follow(jobs: Jobs, id: str, facts: Facts, tell: Tell) -> None:
    """Tell of each change, until nothing more will."""
    try:
        async with aclosing(jobs.watch(id, FOLLOWED)) as watching:
            async for update in watching:
                before, facts = facts, _facts(update)
                if facts != before:
                    await tell()
    except WanError:
        await tell()  # whoever reads the resource now is told why


def _kept(view: JobView) -> JobUpdate:
    from wan_mcp.polling.waits import JobUpdate  # opened with the first call, not at start-up

    return JobUpdate(view)


def _facts(update: JobUpdate) -> Facts:
    """What the resource tells, but for what changes with time alone."""
    if update.view is None:
        return {}
    return results.update_result(update, now=_ALWAYS).model_dump(exclude={"elapsed_seconds"})
