"""Three servers on one PostgreSQL, each call at another one: together they are one server."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.types import CallToolResult, ElicitResult, InputRequiredResult

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.connected import Host, connected
from tests.tasks_client import TasksClient, ask, created_by, listening, until
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.ledger.postgres import engine
from wan_mcp.ledger.postgres.engine import PostgresLedger

pytestmark = pytest.mark.anyio
time, anyio_backend = in_virtual_time(sockets=True)

SECONDS = 50
"""How long one wait may take."""


@pytest.fixture(autouse=True)
def virtual_dates(time: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dates in the ledger are those of the test, and not those of the database server."""
    monkeypatch.setattr(engine, "PostgresLedger", partial(PostgresLedger, now=time.wall))


class Deployment:
    """Three servers. Whoever asks for the next one gets another one each time.

    Attributes:
        declaring: the tasks extension of each host.
    """

    def __init__(self, hosts: list[Host], declaring: list[TasksClient]) -> None:
        self.hosts = hosts
        self.declaring = declaring
        self.sandbox = hosts[0].sandbox
        self._turns = cycle(hosts)

    @property
    def next(self) -> Host:
        return next(self._turns)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return await self.next.call(tool, **arguments)

    def job(self, seed: int = 1) -> dict[str, Any]:
        """The arguments of a paid call."""
        links = {"video": self.sandbox.source_video_url, "character_image": self.sandbox.image_url}
        return {**links, "seed": seed}


async def say_yes(context: object, params: object) -> ElicitResult:
    return ElicitResult(action="accept", content={"spend": True})


async def deployed(
    ending: AsyncExitStack,
    time: VirtualTime,
    data: Path,
    url: str,
    *,
    tasks: bool = False,
    **settings: str,
) -> Deployment:
    hosts: list[Host] = []
    declaring = [TasksClient() for _ in range(3)]
    for number, tasks_client in enumerate(declaring):
        host = connected(
            time,
            data / str(number),
            beside=hosts[0] if hosts else None,
            extensions=(tasks_client,) if tasks else (),
            answer=say_yes,
            settings={"WAN_MCP_LEDGER_URL": url, **settings},
        )
        hosts.append(await ending.enter_async_context(host))
    return Deployment(hosts, declaring)


@pytest.fixture
async def deploy(time: VirtualTime, tmp_path: Path, database: str) -> AsyncIterator[Any]:
    """Starts the servers."""
    async with AsyncExitStack() as ending:
        yield partial(deployed, ending, time, tmp_path, database)


async def test_job_is_followed_from_its_start_to_its_end_at_whichever_server(deploy: Any) -> None:
    """It is paid once, and every server says the same about it (ours)."""
    team = await deploy()
    started = await team.call("replace_character", **team.job())
    again = await team.call("replace_character", **team.job())
    waited = await team.call("wait_for_job", job_id=again["job_id"], timeout_seconds=SECONDS)
    while waited["status"] == "running":
        waited = await team.call("wait_for_job", job_id=again["job_id"], timeout_seconds=SECONDS)
    looks = [await host.call("get_job_status", job_id=started["job_id"]) for host in team.hosts]
    lists = [(await host.call("list_jobs"))["jobs"] for host in team.hosts]

    assert (started["charged"], again["charged"]) == ("yes", "no")
    assert waited["status"] == "completed"
    assert {each["video_url"] for each in [waited, *looks]} == {waited["video_url"]}
    assert [[job["job_id"] for job in jobs] for jobs in lists] == [[started["job_id"]]] * 3
    assert len(team.sandbox.charges) == 1


async def test_equal_calls_at_three_servers_at_once_are_one_job(deploy: Any) -> None:
    """Whoever is first pays, and the others get its job (ours)."""
    team = await deploy()
    answers: list[dict[str, Any]] = []

    async def start(host: Host) -> None:
        answers.append(await host.call("replace_character", **team.job()))

    async with anyio.create_task_group() as calls:
        for host in team.hosts:
            calls.start_soon(start, host)
    ids = {(await team.call("get_job_status", job_id=a["job_id"]))["job_id"] for a in answers}

    assert sorted(answer["charged"] for answer in answers) == ["no", "no", "yes"]
    assert len(ids) == len(team.sandbox.charges) == 1


async def test_limit_holds_for_all_servers_together(deploy: Any) -> None:
    """Three servers with a limit of two jobs start two (ours)."""
    team = await deploy(WAN_MCP_MAX_IN_FLIGHT="2", WAN_MCP_MAX_QUEUED="0")
    answers = [await team.call("replace_character", **team.job(seed)) for seed in range(3)]

    assert [answer.get("code") for answer in answers] == [None, None, "limit_reached"]
    assert len(team.sandbox.charges) == 2


async def test_queued_request_is_cancelled_at_another_server(deploy: Any) -> None:
    """Wherever it was asked for, and it is never paid (ours)."""
    team = await deploy(WAN_MCP_MAX_IN_FLIGHT="1")
    await team.call("replace_character", **team.job(1))
    queued = await team.call("replace_character", **team.job(2))
    cancelled = await team.call("cancel_job", job_id=queued["job_id"])
    seen = await team.call("get_job_status", job_id=queued["job_id"])

    assert queued["status"] == "queued"
    assert cancelled["status"] == seen["status"] == "not_sent"
    assert len(team.sandbox.charges) == 1


async def test_queue_goes_on_at_any_server(deploy: Any) -> None:
    """A wait for the second job, at a third server, ends when that is complete (ours)."""
    team = await deploy(WAN_MCP_MAX_IN_FLIGHT="1")
    await team.call("replace_character", **team.job(1))
    queued = await team.call("replace_character", **team.job(2))
    seen = queued
    while seen["status"] in ("queued", "running", "submitting"):
        seen = await team.call("wait_for_job", job_id=queued["job_id"], timeout_seconds=SECONDS)

    assert seen["status"] == "completed"
    assert len(team.sandbox.charges) == 2


async def test_wait_reports_progress_that_another_server_reads(deploy: Any) -> None:
    """One server asks PixelDojo for all of them (ours)."""
    team = await deploy()
    job_id = (await team.call("replace_character", **team.job()))["job_id"]
    heard: list[list[str | None]] = [[], []]

    async def wait(host: Host, said: list[str | None]) -> None:
        async def note(progress: float, total: float | None, message: str | None) -> None:
            said.append(message)

        await host.client.call_tool(
            "wait_for_job", {"job_id": job_id, "timeout_seconds": SECONDS}, progress_callback=note
        )

    async with anyio.create_task_group() as waits:
        for host, said in zip(team.hosts[1:], heard, strict=True):
            waits.start_soon(wait, host, said)

    assert all(len(said) >= 3 for said in heard)


async def test_resource_and_its_updates_come_from_another_server(deploy: Any) -> None:
    """A host that reads again after each notice sees the end of the job (ours)."""
    team = await deploy(tasks=True)
    starts, listens, reads = team.hosts
    created = await created_by(starts, **team.job())
    uri = f"wan://jobs/{created['taskId']}"
    async with listening(listens, resourceSubscriptions=[uri]) as honored:
        while "completed" not in (seen := await reads.read(uri)):
            await listens.updates.receive()

    assert honored == {"resourceSubscriptions": [uri]}
    assert team.sandbox.charges[0].job_id in seen


async def test_task_is_answered_and_reported_by_another_server(deploy: Any) -> None:
    """Its id is a submission id, which every server finds (ours)."""
    team = await deploy(tasks=True)
    starts, listens, asks = team.hosts
    id = (await created_by(starts, **team.job()))["taskId"]
    notices = team.declaring[1].notices
    async with listening(listens, taskIds=[id]) as honored:
        await until(lambda: bool(notices) and notices[-1]["status"] != "working")
    task = await ask(asks, "tasks/get", id)
    result = CallToolResult.model_validate(task["result"]).structured_content or {}

    assert honored == {"taskIds": [id]}
    assert (notices[-1]["status"], task["status"]) == ("completed", "completed")
    assert result["job_id"] == team.sandbox.charges[0].job_id


async def test_queued_task_is_cancelled_at_another_server(deploy: Any) -> None:
    """Nobody waits for it any more, so it is withdrawn (ours)."""
    team = await deploy(tasks=True, WAN_MCP_MAX_IN_FLIGHT="1")
    starts, cancels, asks = team.hosts
    await created_by(starts, **team.job(1))
    id = (await created_by(starts, **team.job(2)))["taskId"]
    await ask(cancels, "tasks/cancel", id)

    assert (await ask(asks, "tasks/get", id))["status"] == "cancelled"
    assert len(team.sandbox.charges) == 1


async def test_question_is_answered_at_another_server(deploy: Any) -> None:
    """The key that seals it is in the ledger, which they share (ours)."""
    team = await deploy(WAN_MCP_CONFIRM_ABOVE="0")
    asks, answers, _ = team.hosts
    question = await asks.client.session.call_tool(
        "replace_character", team.job(), allow_input_required=True
    )
    assert isinstance(question, InputRequiredResult)
    yes = ElicitResult(action="accept", content={"spend": True})
    result = await answers.client.call_tool(
        "replace_character",
        team.job(),
        request_state=question.request_state,
        input_responses=dict.fromkeys(question.input_requests or (), yes),
    )

    assert not result.is_error
    assert len(team.sandbox.charges) == 1
