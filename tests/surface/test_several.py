"""One wait for several jobs, as a program, a model and a host with tasks meet it."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.connected import Host, connected
from tests.tasks_client import TasksClient, ask, created_by, listening, refusal, until
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.sandbox import Terms
from wan_mcp.sandbox.vendor.vendor import FAILING
from wan_mcp.surface.answers.several_task import CANCELLED_NOTE

pytestmark = pytest.mark.anyio

time, anyio_backend = in_virtual_time(0.0, sockets=True)

TERMS = Terms(pending_seconds=5, processing_seconds=55, credits=1_000)
ROOM = {"WAN_MCP_MAX_IN_FLIGHT": "50", "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "50"}
"""Limits that none of these orders reaches."""


@pytest.fixture
async def host(time: VirtualTime, tmp_path: Path) -> Any:
    async with connected(time, tmp_path, terms=TERMS, settings=ROOM) as host:
        yield host


async def started(host: Host, count: int) -> list[str]:
    """The ids of so many jobs that were ordered at once."""
    answers: list[dict[str, Any]] = []

    async def one(seed: int) -> None:
        links = {"video": host.sandbox.source_video_url, "character_image": host.sandbox.image_url}
        answers.append(await host.call("replace_character", **links, seed=seed))

    async with anyio.create_task_group() as tasks:
        for seed in range(1, count + 1):
            tasks.start_soon(one, seed)
    return [answer["job_id"] for answer in sorted(answers, key=lambda answer: answer["seed"])]


@pytest.mark.parametrize("settings", [ROOM, {}], ids=["at once", "through the queue"])
async def test_twenty_calls_at_once_and_one_wait_bring_twenty_videos(
    time: VirtualTime, tmp_path: Path, settings: dict[str, str]
) -> None:
    """No other call, no loop, and each is paid once, also with the usual limits (ours)."""
    async with connected(time, tmp_path, terms=TERMS, settings=settings) as host:
        ids = await started(host, 20)
        answer = await host.call("wait_for_job", job_id=", ".join(ids), timeout_seconds=900)
    rows = answer["jobs"]

    assert len(host.sandbox.charges) == 20
    assert (answer["ended"], answer["pending"]) == (20, 0)
    assert [row["job_id"] for row in rows] == [job_id_of(host, n) for n in range(1, 21)]
    assert {row["status"] for row in rows} == {"completed"}
    assert len({row["video_url"] for row in rows}) == 20
    assert [row["seed"] for row in rows] == list(range(1, 21))
    assert answer["charged"] == "no"


def job_id_of(host: Host, seed: int) -> str:
    """PixelDojo's id of the job with that seed."""
    (id,) = [each.job_id for each in host.sandbox.charges if each.body["seed"] == seed]
    return id


async def test_waiting_for_many_costs_pixeldojo_no_more_than_waiting_for_each(
    time: VirtualTime, tmp_path: Path
) -> None:
    """One poller reads the jobs, whoever waits for how many (ours)."""
    asked = []
    for name in ("each", "all"):
        async with connected(time, tmp_path / name, terms=TERMS, settings=ROOM) as host:
            ids = await started(host, 8)
            before = host.asked
            waits = ids if name == "each" else [" ".join(ids)]
            async with anyio.create_task_group() as tasks:
                for id in waits:
                    wait = {"job_id": id, "timeout_seconds": 300}
                    tasks.start_soon(host.client.call_tool, "wait_for_job", wait)
            asked.append(host.asked - before)

    # Jobs that a busy computer starts at different times are read once each, and not together.
    assert asked[1] <= asked[0] + 8


async def test_time_up_is_an_answer_about_all_with_the_newest_ended_in_full(host: Host) -> None:
    """Some have ended, others go on, and a program sees how many (ours)."""
    first = await host.start(seed=1)
    await anyio.sleep(40)
    second = await host.start(seed=2)
    answer = await host.call("wait_for_job", job_id=f"{second} {first}", timeout_seconds=45)
    rows = {row["job_id"]: row for row in answer["jobs"]}

    assert (answer["ended"], answer["pending"]) == (1, 1)
    assert [rows[id]["status"] for id in (first, second)] == ["completed", "running"]
    assert (answer["job_id"], answer["status"], answer["seed"]) == (first, "completed", 1)
    assert answer["video_url"] == rows[first]["video_url"]
    assert answer["message"].startswith("1 of 2 jobs have ended: 1 completed. 1 is still in progre")
    assert answer["next"].startswith("Call wait_for_job again with the same ids")
    assert "reason" not in rows[second]


async def test_nothing_ended_yet_is_no_answer_about_one_job(host: Host) -> None:
    """No fields of one job, so that no program takes one for all (ours)."""
    ids = await started(host, 2)
    answer = await host.call("wait_for_job", job_id=",".join(ids), timeout_seconds=0)

    assert (answer["ended"], answer["pending"]) == (0, 2)
    assert "status" not in answer
    assert "job_id" not in answer


async def test_an_unknown_id_has_its_own_line_and_spoils_nothing(host: Host) -> None:
    """Also when no other job is awaited any more (ours)."""
    id = await host.start()
    failing = await host.start(video=f"{host.sandbox.origin}{FAILING}")
    given = f"job_nobody {id} sub_nobody {failing}"
    answer = await host.call("wait_for_job", job_id=given, timeout_seconds=300)
    nobody, done, no_request, failed = answer["jobs"]

    assert [nobody["job_id"], no_request["job_id"]] == ["job_nobody", "sub_nobody"]
    assert nobody["code"] == no_request["code"] == "not_found"
    assert "status" not in nobody
    assert (done["status"], failed["status"]) == ("completed", "failed")
    assert failed["reason"]
    assert (answer["ended"], answer["pending"]) == (4, 0)


async def test_a_job_that_is_named_twice_is_one(host: Host) -> None:
    """By the same id, or by that of its request (ours)."""
    await host.start(seed=1)
    await host.start(seed=2)
    (first, second) = [charge.job_id for charge in host.sandbox.charges]
    answer = await host.call("wait_for_job", job_id=f"{first},{second} {first}", timeout_seconds=90)
    alone = await host.call("wait_for_job", job_id=f" {first}, {first},")
    status = await host.call("get_job_status", job_id=first)

    assert [row["job_id"] for row in answer["jobs"]] == [first, second]
    assert alone == status  # today's answer about one job


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (" ".join(f"job_{n}" for n in range(51)), "names 51 jobs, and one call waits for at most"),
        (" , ", "names no job"),
        ([], "names no job"),
        ("job_1, ../models", "number 2 must be a job_id"),
        (["job_1", 2], "must be a job_id as replace_character returned it, or several"),
    ],
    ids=["too many", "none", "empty list", "no id", "no string"],
)
async def test_what_cannot_be_ids_is_refused_at_once(
    host: Host, given: object, problem: str
) -> None:
    """Nothing is asked, and nothing of what was given is repeated (ours)."""
    answer = await host.call("wait_for_job", job_id=given)

    assert answer["code"] == "invalid_arguments"
    assert f"job_id {problem}" in answer["message"]
    assert "models" not in answer["message"]


async def test_progress_counts_the_jobs_that_are_done(host: Host) -> None:
    """It is no percentage: that much is known (ours)."""
    notes: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        notes.append(message or "")

    first = await host.start(seed=1)
    await anyio.sleep(30)
    second = await host.start(seed=2)
    wait = {"job_id": f"{first} {second}", "timeout_seconds": 200}
    await host.client.call_tool("wait_for_job", wait, progress_callback=note)
    counts = list(dict.fromkeys(note.partition(";")[0] for note in notes))

    assert counts == ["Looking at the jobs", "0 of 2 done", "1 of 2 done", "2 of 2 done"]


# As a task


async def test_a_wait_for_several_is_one_task_that_a_new_server_finds(
    time: VirtualTime, tmp_path: Path
) -> None:
    """Its id is made of theirs, and its result is the tool's own (ours)."""
    tasks_client = TasksClient()
    declared: dict[str, Any] = {
        "terms": TERMS,
        "settings": ROOM,
        "extensions": (tasks_client,),
    }
    async with connected(time, tmp_path, **declared) as host:
        for seed in (1, 2):
            await created_by(host, seed=seed)
        ids = [charge.job_id for charge in host.sandbox.charges]
        async with anyio.create_task_group() as tasks:
            wait = {"job_id": " ".join(ids)}
            tasks.start_soon(host.client.call_tool, "wait_for_job", wait)
            await until(lambda: bool(tasks_client.created))
            tasks.cancel_scope.cancel()
        (created,) = tasks_client.created
        working = await ask(host, "tasks/get", created.task_id)
        async with connected(time, tmp_path, beside=host, **declared) as again:
            time.now += 60
            waited = await again.client.call_tool("wait_for_job", {"job_id": created.task_id})
            task = await ask(again, "tasks/get", created.task_id)

    assert created.task_id == ",".join(ids)
    assert (created.status_message.partition(";")[0], created.status) == ("0 of 2 done", "working")
    assert working["status"] == "working"
    assert task["status"] == "completed"
    assert task["result"]["structuredContent"]["ended"] == 2
    assert (waited.structured_content or {})["ended"] == 2


async def test_cancelling_a_task_for_several_ends_no_job(time: VirtualTime, tmp_path: Path) -> None:
    """PixelDojo cannot cancel, and an id of nobody is no task (ours)."""
    tasks_client = TasksClient()
    async with connected(
        time, tmp_path, terms=TERMS, settings=ROOM, extensions=(tasks_client,)
    ) as host:
        for seed in (1, 2):
            await created_by(host, seed=seed)
        id = ",".join(charge.job_id for charge in host.sandbox.charges)
        cancelled = await ask(host, "tasks/cancel", id)
        strangers = await refusal(host, "tasks/get", "job_x,job_y")
        task = await ask(host, "tasks/get", id)

    assert cancelled["_meta"]["wan-mcp/note"] == CANCELLED_NOTE
    assert strangers.code == -32602
    assert task["status"] == "working"


async def test_a_subscriber_gets_the_task_for_several_with_its_result(
    time: VirtualTime, tmp_path: Path
) -> None:
    """Without a question of its own (ours)."""
    client = TasksClient()
    async with connected(time, tmp_path, terms=TERMS, settings=ROOM, extensions=(client,)) as host:
        for seed in (1, 2):
            await created_by(host, seed=seed)
        id = ",".join(charge.job_id for charge in host.sandbox.charges)
        async with listening(host, taskIds=[id]) as honored:
            await until(lambda: [each["status"] for each in client.notices[-1:]] == ["completed"])

    assert honored["taskIds"] == [id]
    assert {notice["taskId"] for notice in client.notices} == {id}
    assert client.notices[-1]["result"]["structuredContent"]["ended"] == 2
