"""MCP Tasks as a host that declares them meets them, and as all others do not."""

import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.extension import advertise

from tests.connected import Host, connected, host_of
from tests.tasks_client import TasksClient, ask, host_with_tasks, refusal, started
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.sandbox import Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.vendor.vendor import FAILING
from wan_mcp.surface.tasks import NO_CANCEL

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/wan-2.2-replace/run"
SILENT = Terms(pending_seconds=5, processing_seconds=55, list_echoes_input=False)
"""A vendor whose job list does not show which job a lost answer was about."""

time, anyio_backend = in_virtual_time(0.0, sockets=True)
tasks_client, host = host_with_tasks()

other = host_of("auto", "legacy")
"""A host that knows nothing of tasks."""


async def test_a_wait_is_a_task_whose_id_is_the_jobs(host: Host, tasks_client: TasksClient) -> None:
    """No store of tasks: any process on the ledger answers (ours)."""
    id = await started(host)
    await host.call("wait_for_job", job_id=id)
    (created,) = tasks_client.created

    assert (created.task_id, created.status, created.ttl_ms) == (id, "working", None)
    assert created.poll_interval_ms == 5_000
    assert created.status_message.startswith("1 s: the job is running")
    assert created.created_at == "2026-11-01T00:00:00+00:00"


async def test_a_task_ends_with_the_tools_own_result(
    host: Host, tasks_client: TasksClient, time: VirtualTime
) -> None:
    """The same data and text as without tasks (ext-tasks 2026-07-28)."""
    id = await started(host)
    by_task = await host.client.call_tool("wait_for_job", {"job_id": id})
    ended = time.now
    by_tool = await host.client.call_tool("get_job_status", {"job_id": id})

    assert (by_task.structured_content or {})["status"] == "completed"
    assert (by_task.structured_content, by_task.content) == (
        by_tool.structured_content,
        by_tool.content,
    )
    assert {task["status"] for task in tasks_client.seen[:-1]} == {"working"}
    assert 60 <= ended <= 75  # a job takes 60 s


async def test_looks_at_a_task_cost_no_request_of_their_own(
    host: Host, tasks_client: TasksClient
) -> None:
    """The poller sees to all who wait, and a key has few requests a minute (ours)."""
    ids = [await started(host, seed=seed) for seed in (1, 2, 3)]
    before = host.asked
    async with anyio.create_task_group() as tasks:
        for id in ids:
            tasks.start_soon(host.client.call_tool, "wait_for_job", {"job_id": id})

    assert len(tasks_client.seen) >= 30
    assert host.asked - before <= 12


async def test_a_job_that_has_ended_is_answered_at_once(
    host: Host, tasks_client: TasksClient
) -> None:
    """A server may decide against a task (ext-tasks 2026-07-28)."""
    id = await started(host)
    host.time.now += 61
    await host.call("get_job_status", job_id=id)
    answer = await host.call("wait_for_job", job_id=id)

    assert answer["status"] == "completed"
    assert tasks_client.created == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "invalid_arguments"),
        ({"job_id": "../models"}, "invalid_arguments"),
        ({"job_id": 7}, "invalid_arguments"),
        ({"job_id": "job_x", "timeout": 5}, "invalid_arguments"),
        ({"job_id": "sub_nobody"}, "not_found"),
    ],
)
async def test_a_wait_that_cannot_be_is_refused_by_the_tool(
    host: Host, tasks_client: TasksClient, arguments: dict[str, Any], code: str
) -> None:
    """In the words that all hosts get (ours)."""
    answer = await host.call("wait_for_job", **arguments)

    assert (answer["code"], tasks_client.created) == (code, [])


async def test_a_single_look_is_no_task(host: Host, tasks_client: TasksClient) -> None:
    """A wait of no seconds wants its answer now (ours)."""
    id = await started(host)
    look = await host.call("wait_for_job", job_id=id, timeout_seconds=0)
    status = await host.call("get_job_status", job_id=id)

    assert (look["status"], status["status"]) == ("running", "running")
    assert tasks_client.created == []


async def test_others_see_the_tool_and_no_tasks(other: Host) -> None:
    """-32021 for who does not declare them, unknown before 2026-07-28 (ext-tasks 2026-07-28)."""
    id = await other.start()
    answer = await other.call("wait_for_job", job_id=id, timeout_seconds=10)
    errors = [
        await refusal(other, "tasks/get", id),
        await refusal(other, "tasks/cancel", id),
        await refusal(other, "tasks/update", id, input_responses={}),
    ]
    modern = other.client.protocol_version == "2026-07-28"

    assert (answer["status"], answer["elapsed_seconds"]) == ("running", 10)
    assert {error.code for error in errors} == {-32021 if modern else -32601}


async def test_a_declaring_host_before_2026_sees_no_difference(
    time: VirtualTime, tmp_path: Path
) -> None:
    """The extension has no shapes for those revisions (ext-tasks 2026-07-28)."""
    extensions = (advertise("io.modelcontextprotocol/tasks"),)
    async with connected(time, tmp_path, "legacy", extensions=extensions) as host:
        id = await started(host)
        answer = await host.call("wait_for_job", job_id=id, timeout_seconds=10)

    assert (answer["status"], answer["elapsed_seconds"]) == ("running", 10)


async def test_a_task_lasts_until_its_video_is_saved(
    time: VirtualTime, tmp_path: Path, tasks_client: TasksClient
) -> None:
    """As a wait does where videos are saved (ours)."""
    slow = faults.held(faults.honest(), after=7)
    async with connected(time, tmp_path, extensions=(tasks_client,), local=True) as host:
        id = await started(host)
        host.sandbox.fault("GET", "/media/results/*", slow, times=None)
        answer = await host.call("wait_for_job", job_id=id)

    assert len(tasks_client.created) == 1
    assert answer["saved_path"].startswith(str(tmp_path))
    assert answer["size"] > 0


async def test_a_cancel_is_acknowledged_and_ends_nothing(host: Host) -> None:
    """PixelDojo has no cancel; a server need not stop the work (ext-tasks 2026-07-28)."""
    id = await started(host)
    answer = await ask(host, "tasks/cancel", id)
    after = await ask(host, "tasks/get", id)

    assert answer["resultType"] == "complete"
    assert answer["_meta"]["wan-mcp/note"] == f"{NO_CANCEL} Its id is {id}."
    assert after["status"] == "working"


async def test_answers_to_no_question_are_ignored(host: Host) -> None:
    """As responses with an unknown key are to be (ext-tasks 2026-07-28)."""
    id = await started(host)
    answer = await ask(host, "tasks/update", id, input_responses={"name": {"action": "accept"}})

    assert answer.keys() <= {"resultType", "_meta"}
    assert (await ask(host, "tasks/get", id))["status"] == "working"


@pytest.mark.parametrize("id", ["sub_nobody", "job_nobody", "../models", ""])
async def test_an_unknown_task_is_an_error(host: Host, id: str) -> None:
    """-32602, with what a task's id is (ext-tasks 2026-07-28)."""
    errors = [
        await refusal(host, "tasks/get", id),
        await refusal(host, "tasks/cancel", id),
        await refusal(host, "tasks/update", id, input_responses={}),
    ]

    assert [error.code for error in errors] == [-32602] * 3
    assert all("job_id" in error.message for error in errors)


async def test_a_vendor_that_fails_for_a_while_fails_no_task(host: Host) -> None:
    """The job goes on, and the message names the last error (ours)."""
    id = await started(host)
    for path in ("/api/v1/jobs", f"/api/v1/jobs/{id}"):
        host.sandbox.fault("GET", path, faults.status(503), times=None)
    host.time.now += 20
    await ask(host, "tasks/get", id)
    host.time.now += 20
    task = await ask(host, "tasks/get", id)
    host.sandbox.clear_faults()
    host.time.now += 60
    with anyio.fail_after(600):
        while (end := await ask(host, "tasks/get", id))["status"] == "working":
            continue

    assert task["status"] == "working"
    assert "Still waiting." in task["statusMessage"]
    assert end["result"]["structuredContent"]["status"] == "completed"


async def test_a_failed_job_is_a_completed_task(host: Host) -> None:
    """`failed` is for errors of the protocol alone (ext-tasks 2026-07-28)."""
    id = await started(host, video=host.sandbox.origin + FAILING)
    answer = await host.client.call_tool("wait_for_job", {"job_id": id})

    assert (answer.structured_content or {})["status"] == "failed"
    assert not answer.is_error


async def test_a_lost_answer_is_polled_rarely_and_ends_one_day(
    time: VirtualTime, tmp_path: Path, tasks_client: TasksClient
) -> None:
    """Each look reads the job list; when nobody looks any more, the task is over (ours)."""
    async with connected(time, tmp_path, extensions=(tasks_client,), terms=SILENT) as host:
        host.sandbox.fault("POST", RUN, faults.dropped(work=True))
        given = {"video": host.sandbox.source_video_url, "character_image": host.sandbox.image_url}
        lost = await host.call("replace_character", **given)
        submission_id = re.findall(r"sub_\w+", str(lost))[0]
        answer = await host.client.call_tool("wait_for_job", {"job_id": submission_id})

    assert tasks_client.created[0].poll_interval_ms == 60_000
    assert tasks_client.created[0].task_id == submission_id
    assert (answer.structured_content or {})["status"] == "unknown"
    assert 1_800 <= time.now <= 2_000


async def test_a_defect_shows_no_host_its_text(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged instead (ours)."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    id = await started(host)
    monkeypatch.setattr("wan_mcp.surface.answers.task_form.progress_note", broken)
    error = await refusal(host, "tasks/get", id)

    assert (error.code, "secret" in str(error)) == (-32603, False)
