"""A host that declares MCP's tasks extension, and what it can ask."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from mcp.client.extension import (
    ClaimContext,
    ClientExtension,
    NotificationBinding,
    ResultClaim,
)
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolRequestParams, CallToolResult, Request, RequestParams, Result
from pydantic import BaseModel, ConfigDict

from tests.connected import Host, connected
from tests.virtual_time import VirtualTime


class AnyResult(Result):
    """Whatever a method answers."""

    model_config = ConfigDict(extra="allow")


class CreatedTask(Result):
    """A task in the place of a tool's result, as the extension's revision 2026-07-28 has it."""

    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    status_message: str
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    poll_interval_ms: int


class Notice(BaseModel):
    """What a notice about a task says."""

    model_config = ConfigDict(extra="allow")


class Params(RequestParams):
    """Which task, and answers to its questions."""

    task_id: str
    input_responses: dict[str, Any] | None = None


class TasksClient(ClientExtension):
    """A host's side of the extension: it polls a task until its end, as the hints say."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self) -> None:
        self.created: list[CreatedTask] = []
        self.seen: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self._resolve)]

    def notifications(self) -> Sequence[NotificationBinding[Any]]:
        return [
            NotificationBinding(
                method="notifications/tasks", params_type=Notice, handler=self._noticed
            )
        ]

    async def _noticed(self, notice: Notice) -> None:
        self.notices.append(notice.model_extra or {})

    async def _resolve(self, created: CreatedTask, context: ClaimContext) -> CallToolResult:
        self.created.append(created)
        poll = created.poll_interval_ms
        while True:
            await anyio.sleep(poll / 1_000)
            request = Request[Params, str](
                method="tasks/get", params=Params(task_id=created.task_id)
            )
            task = (await context.session.send_request(request, AnyResult)).model_extra or {}
            self.seen.append(task)
            if task["status"] == "completed":
                return CallToolResult.model_validate(task["result"])
            if task["status"] == "cancelled":
                return CallToolResult(content=[])
            poll = task["pollIntervalMs"]


def host_with_tasks() -> tuple[object, object]:
    """The fixtures `tasks_client` and `host`: a host that declares the extension, and its side."""

    @pytest.fixture
    def tasks_client() -> TasksClient:
        return TasksClient()

    @pytest.fixture
    async def host(
        time: VirtualTime, tmp_path: Path, tasks_client: TasksClient
    ) -> AsyncIterator[Host]:
        async with connected(time, tmp_path, extensions=(tasks_client,)) as host:
            yield host

    return tasks_client, host


async def created_by(host: Host, **arguments: Any) -> dict[str, Any]:
    """What a paid call answers to a host that does not wait for its task."""
    given = {"video": host.sandbox.source_video_url, "character_image": host.sandbox.image_url}
    params = CallToolRequestParams(name="replace_character", arguments={**given, **arguments})
    request = Request[CallToolRequestParams, str](method="tools/call", params=params)
    return (await host.client.session.send_request(request, AnyResult)).model_dump(
        by_alias=True, exclude_none=True
    )


async def until(is_so: Callable[[], bool]) -> None:
    """Wait, in steps of a second."""
    while True:
        if is_so():
            return
        await anyio.sleep(1)


async def started(host: Host, **arguments: Any) -> str:
    """The id of a job that was started and that nobody waits for."""
    await created_by(host, **arguments)
    return host.sandbox.charges[-1].job_id


async def ask(host: Host, method: str, id: str, **more: Any) -> dict[str, Any]:
    """What a method of the extension answers."""
    request = Request[Params, str](method=method, params=Params(task_id=id, **more))
    return (await host.client.session.send_request(request, AnyResult)).model_dump(
        by_alias=True, exclude_none=True
    )


async def refusal(host: Host, method: str, id: str, **more: Any) -> MCPError:
    with pytest.raises(MCPError) as caught:
        await ask(host, method, id, **more)
    return caught.value


@asynccontextmanager
async def listening(host: Host, **wanted: Any) -> AsyncIterator[dict[str, Any]]:
    """A stream of notifications. The SDK's own knows none of an extension (observed).

    Args:
        wanted: what the host asks for, as on the wire.

    Yields:
        What the server agreed to send.
    """
    request = Request[dict[str, Any], str](
        method="subscriptions/listen", params={"notifications": wanted}
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.client.session.send_request, request, AnyResult)
        honored = await host.honored.receive()
        yield honored.model_dump(by_alias=True, exclude_none=True)
        tasks.cancel_scope.cancel()
