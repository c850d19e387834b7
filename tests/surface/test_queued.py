"""A queued request as a task and as a resource that a host follows."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from mcp.types import EmptyResult, SubscribeRequest, SubscribeRequestParams

from tests.connected import TERMS, Host, connected
from tests.tasks_client import TasksClient, ask, created_by, listening, until
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.surface.answers.task_form import WITHDRAWN_NOTE

pytestmark = pytest.mark.anyio

time, anyio_backend = in_virtual_time(0.0, sockets=True)

ONE_AT_ONCE = {"WAN_MCP_MAX_IN_FLIGHT": "1"}


@pytest.fixture
def client() -> TasksClient:
    return TasksClient()


@pytest.fixture
async def host(time: VirtualTime, tmp_path: Path, client: TasksClient) -> AsyncIterator[Host]:
    """A host that declares tasks; one job may run at once."""
    async with connected(
        time, tmp_path, terms=TERMS, settings=ONE_AT_ONCE, extensions=(client,)
    ) as host:
        yield host


async def test_a_queued_call_is_a_task_that_ends_with_its_video(
    host: Host, client: TasksClient
) -> None:
    """Its id is the submission id, before and after it was sent (ours)."""
    await created_by(host, seed=1)
    created = await created_by(host, seed=2)
    id = created["taskId"]
    waiting = await ask(host, "tasks/get", id)
    async with listening(host, taskIds=[id]):
        await until(lambda: [each["status"] for each in client.notices[-1:]] == ["completed"])
    ended = await ask(host, "tasks/get", id)

    assert (created["resultType"], created["status"]) == ("task", "working")
    assert waiting["status"] == "working"
    assert "the request is queued, nothing charged yet" in waiting["statusMessage"]
    assert {notice["taskId"] for notice in client.notices} == {id}
    result = ended["result"]["structuredContent"]
    assert (result["status"], result["charged"]) == ("completed", "no")
    assert result["job_id"] == host.sandbox.charges[1].job_id
    assert len(host.sandbox.charges) == 2


async def test_a_wait_for_a_queued_request_is_a_task_of_the_same_id(
    host: Host, client: TasksClient
) -> None:
    await created_by(host, seed=1)
    id = (await created_by(host, seed=2))["taskId"]

    answer = await host.call("wait_for_job", job_id=id)

    assert [created.task_id for created in client.created] == [id]
    assert client.seen[0]["status"] == "working"
    assert answer["status"] == "completed"


async def test_a_cancelled_task_withdraws_a_queued_request(host: Host) -> None:
    """Nothing was sent, so nothing goes on (ours)."""
    await created_by(host, seed=1)
    id = (await created_by(host, seed=2))["taskId"]

    cancelled = await ask(host, "tasks/cancel", id)
    task = await ask(host, "tasks/get", id)
    await anyio.sleep(200)

    assert cancelled["_meta"]["wan-mcp/note"] == WITHDRAWN_NOTE
    assert (task["status"], task["statusMessage"]) == ("cancelled", WITHDRAWN_NOTE)
    assert len(host.sandbox.charges) == 1


async def test_a_resource_of_a_queued_request_is_updated_when_its_place_or_status_changes(
    time: VirtualTime, tmp_path: Path
) -> None:
    """The start comes nearer with the clock, and that alone is no change (ours)."""
    async with connected(time, tmp_path, "legacy", terms=TERMS, settings=ONE_AT_ONCE) as host:
        for seed in (4, 5, 6):  # so that it is known how long a job takes
            id = await host.start(seed=seed)
            await host.call("wait_for_job", job_id=id, timeout_seconds=300)
        for seed in (1, 2):
            await host.start(seed=seed)
        uri = f"wan://jobs/{await host.start(seed=3)}"
        seen = [json.loads(await host.read(uri))]
        params = SubscribeRequestParams(uri=uri)
        await host.client.session.send_request(SubscribeRequest(params=params), EmptyResult)
        while seen[-1]["status"] != "completed":
            assert await host.updates.receive() == uri
            seen.append(json.loads(await host.read(uri)))

    places = [each.get("queue_position") for each in seen]
    assert seen[0]["expected_start_in_seconds"] > 60
    assert places[:2] == [2, 1]
    assert places.count(2) == places.count(1) == 1
