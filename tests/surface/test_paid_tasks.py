"""replace_character for a host that declares MCP Tasks: one call from the request to the video."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp.types import ElicitResult

from tests.connected import Host, connected
from tests.tasks_client import TasksClient, ask, created_by, host_with_tasks, listening, until
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.vendor.vendor import FAILING
from wan_mcp.surface.answers.task_form import WITHDRAWN_NOTE
from wan_mcp.surface.tasks import NO_CANCEL

pytestmark = pytest.mark.anyio

RUN = "/api/v1/models/wan-2.2-replace/run"

time, anyio_backend = in_virtual_time(0.0, sockets=True)
tasks_client, host = host_with_tasks()


@asynccontextmanager
async def another(host: Host, folder: Path, **given: Any) -> AsyncIterator[Host]:
    """Another host with a server of its own, on the same ledger, that knows nothing of tasks."""
    async with connected(host.time, folder, beside=host, **given) as other:
        yield other


def wanted(host: Host, **arguments: Any) -> dict[str, Any]:
    given = {"video": host.sandbox.source_video_url, "character_image": host.sandbox.image_url}
    return {**given, **arguments}


class HeldPayment:
    """While it holds, no paid request leaves any server of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_go = anyio.Event()
        submit = PixelDojo.submit

        async def held(vendor: PixelDojo, *args: Any, **named: Any) -> Any:
            await self.may_go.wait()
            return await submit(vendor, *args, **named)

        monkeypatch.setattr(PixelDojo, "submit", held)


@pytest.fixture
def payment(monkeypatch: pytest.MonkeyPatch) -> HeldPayment:
    return HeldPayment(monkeypatch)


async def end_of(host: Host, id: str) -> dict[str, Any]:
    """A task when it is over."""
    with anyio.fail_after(4_000):
        task = await ask(host, "tasks/get", id)
        while task["status"] == "working":
            await anyio.sleep(task["pollIntervalMs"] / 1_000)
            task = await ask(host, "tasks/get", id)
    return task


def same_link(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what changes by the passing of time alone."""
    return {key: value for key, value in result.items() if key != "expires_in_seconds"}


# From the request to the video


async def test_one_call_brings_the_video_with_one_charge(
    host: Host, tasks_client: TasksClient
) -> None:
    """No get_job_status, no wait_for_job, and the result that wait_for_job would give (ours)."""
    answer = await host.client.call_tool("replace_character", wanted(host))
    by_wait = await host.client.call_tool(
        "wait_for_job", {"job_id": tasks_client.created[0].task_id}
    )

    assert (answer.structured_content or {})["status"] == "completed"
    assert same_link(answer.structured_content or {}) == same_link(by_wait.structured_content or {})
    assert [block.type for block in answer.content] == [block.type for block in by_wait.content]
    assert len(host.sandbox.charges) == 1


async def test_the_id_of_a_paid_task_is_the_submission_id(host: Host) -> None:
    """It never changes, is on disk before the request is sent, and every tool takes it (ours)."""
    created = await created_by(host)
    id = created["taskId"]
    answers = [
        await host.call("get_job_status", job_id=id),
        await host.call("wait_for_job", job_id=id, timeout_seconds=0),
    ]

    assert (created["resultType"], created["status"], id[:4]) == ("task", "working", "sub_")
    assert {answer["job_id"] for answer in answers} == {host.sandbox.charges[0].job_id}
    assert (await ask(host, "tasks/get", id))["taskId"] == id


async def test_the_video_is_saved_before_a_paid_task_ends(
    time: VirtualTime, tmp_path: Path, tasks_client: TasksClient
) -> None:
    """As a wait does where videos are saved (ours)."""
    async with connected(time, tmp_path, extensions=(tasks_client,), local=True) as host:
        answer = await host.call("replace_character", **wanted(host))

    assert Path(answer["saved_path"]).is_relative_to(tmp_path)


async def test_a_host_without_tasks_gets_the_same_answer_as_before(
    host: Host, tmp_path: Path
) -> None:
    """A job_id at once, for wait_for_job (ours)."""
    async with another(host, tmp_path) as other:
        answer = await other.call("replace_character", **wanted(host))

    assert (answer["status"], answer["charged"]) == ("running", "yes")
    assert answer["job_id"] == host.sandbox.charges[0].job_id
    assert "wait_for_job" in answer["next"]


async def test_equal_calls_are_one_task_and_one_charge(
    host: Host, tasks_client: TasksClient
) -> None:
    """Two at once, and one after them (ours)."""
    answers: list[dict[str, Any]] = []

    async def call() -> None:
        answers.append(await host.call("replace_character", **wanted(host)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        tasks.start_soon(call)
        await until(lambda: len(tasks_client.created) == 2)
        third = await created_by(host)

    assert len({third["taskId"], *(created.task_id for created in tasks_client.created)}) == 1
    assert same_link(answers[0]) == same_link(answers[1])
    assert third["statusMessage"].startswith("Nothing was bought by this call")
    assert len(host.sandbox.charges) == 1


async def test_an_equal_call_after_the_end_is_answered_at_once(
    host: Host, tasks_client: TasksClient
) -> None:
    """A server may decide against a task (ext-tasks 2026-07-28)."""
    await host.call("replace_character", **wanted(host))
    again = await host.call("replace_character", **wanted(host))

    assert (again["status"], again["charged"]) == ("completed", "no")
    assert (len(tasks_client.created), len(host.sandbox.charges)) == (1, 1)


async def test_a_job_that_fails_is_a_completed_paid_task(host: Host) -> None:
    """`failed` is for errors of the protocol alone (ext-tasks 2026-07-28)."""
    answer = await host.client.call_tool(
        "replace_character", wanted(host, video=host.sandbox.origin + FAILING)
    )

    assert (answer.structured_content or {})["status"] == "failed"
    assert not answer.is_error


async def test_a_lost_answer_is_a_task_that_finds_its_video(
    host: Host, tasks_client: TasksClient
) -> None:
    """The request is looked up and never sent again, and its host waits for one result (ours)."""
    host.sandbox.fault("POST", RUN, faults.dropped(work=True))
    answer = await host.call("replace_character", **wanted(host))

    assert tasks_client.created[0].poll_interval_ms == 60_000
    assert "unknown" in tasks_client.created[0].status_message
    assert answer["status"] == "completed"
    assert len(host.sandbox.charges) == 1


# What is no task


@pytest.mark.parametrize(
    ("arguments", "fault", "code"),
    [
        ({"seed": "x"}, None, "invalid_arguments"),
        ({"video": "https://youtube.com/watch?v=abc"}, None, "invalid_arguments"),
        ({}, faults.status(402), "insufficient_credits"),
        ({}, faults.status(401), "unauthorized"),
    ],
)
async def test_a_refusal_in_time_is_the_answer_of_the_call(
    host: Host, tasks_client: TasksClient, arguments: dict[str, Any], fault: Any, code: str
) -> None:
    """There is nothing to wait for, and a host shows it at once (ours)."""
    if fault:
        host.sandbox.fault("POST", RUN, fault)
    answer = await host.client.call_tool("replace_character", wanted(host, **arguments))

    assert ((answer.structured_content or {})["code"], answer.is_error) == (code, True)
    assert (tasks_client.created, host.sandbox.charges) == ([], [])


async def test_a_limit_is_the_answer_of_the_call(
    time: VirtualTime, tmp_path: Path, tasks_client: TasksClient
) -> None:
    """Nothing was written down, so there is no task (ours)."""
    limits = {"WAN_MCP_MAX_CREDITS_PER_DAY": "0"}
    async with connected(time, tmp_path, extensions=(tasks_client,), settings=limits) as host:
        answer = await host.call("replace_character", **wanted(host))

    assert (answer["code"], tasks_client.created) == ("limit_reached", [])


async def test_a_late_refusal_is_the_result_of_the_task(
    host: Host, tasks_client: TasksClient
) -> None:
    """`completed` with the result that the tool has, not `failed` (ext-tasks 2026-07-28)."""
    host.sandbox.fault("POST", RUN, faults.held(faults.status(402), after=10))
    answer = await host.call("replace_character", **wanted(host))
    by_look = await host.call("get_job_status", job_id=tasks_client.created[0].task_id)

    assert answer == by_look
    assert (answer["status"], answer["charged"], answer["job_charged"]) == ("refused", "no", "no")
    assert {task["status"] for task in tasks_client.seen} == {"working", "completed"}


@pytest.mark.parametrize("spend", [True, False])
async def test_the_user_is_asked_before_there_is_a_task(
    time: VirtualTime, tmp_path: Path, tasks_client: TasksClient, spend: bool
) -> None:
    """All questions come before the task (ext-tasks 2026-07-28)."""
    asked: list[tuple[int, int]] = []

    async def answered(_: object, params: Any) -> ElicitResult:
        asked.append((len(used.sandbox.charges), len(tasks_client.created)))
        return ElicitResult(action="accept", content={"spend": spend})

    settings = {"WAN_MCP_CONFIRM_ABOVE": "5"}
    async with connected(
        time, tmp_path, extensions=(tasks_client,), answer=answered, settings=settings
    ) as used:
        answer = await used.call("replace_character", **wanted(used))

    assert asked == [(0, 0)]
    assert (answer.get("status"), answer.get("code")) == (
        ("completed", None) if spend else (None, "not_confirmed")
    )
    assert len(used.sandbox.charges) == len(tasks_client.created) == int(spend)


async def test_a_defect_of_tasks_leaves_the_answer_of_a_paid_call(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is paid for, so its id must reach the host (ours)."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("wan_mcp.surface.tasks.task", broken)
    answer = await host.call("replace_character", **wanted(host))

    assert (answer["status"], answer["job_id"]) == ("running", host.sandbox.charges[0].job_id)


# Cancelling


async def test_a_cancel_before_the_request_is_sent_withdraws_it(
    host: Host, payment: HeldPayment
) -> None:
    """Nothing is charged, then or later, and the same call again is a new request (ours)."""
    id = (await created_by(host))["taskId"]
    acknowledged = await ask(host, "tasks/cancel", id)
    task = await ask(host, "tasks/get", id)
    by_look = await host.call("get_job_status", job_id=id)
    payment.may_go.set()
    await anyio.sleep(60)
    charged = list(host.sandbox.charges)
    again = await created_by(host)

    assert acknowledged["_meta"]["wan-mcp/note"] == WITHDRAWN_NOTE
    assert (task["status"], task["statusMessage"]) == ("cancelled", WITHDRAWN_NOTE)
    assert (by_look["status"], by_look["job_charged"]) == ("not_sent", "no")
    assert charged == []
    assert again["taskId"] != id
    assert len(host.sandbox.charges) == 1


async def test_a_second_cancel_says_that_nothing_is_left(host: Host, payment: HeldPayment) -> None:
    """It is acknowledged, too (ext-tasks 2026-07-28)."""
    id = (await created_by(host))["taskId"]
    notes = [(await ask(host, "tasks/cancel", id))["_meta"]["wan-mcp/note"] for _ in range(2)]

    assert notes == [WITHDRAWN_NOTE] * 2


@pytest.mark.parametrize("how", ["equal call", "equal call elsewhere", "wait", "wait elsewhere"])
async def test_a_request_that_another_caller_waits_for_is_not_withdrawn(
    host: Host, payment: HeldPayment, tmp_path: Path, how: str
) -> None:
    """In this process or in another one on the ledger (ours)."""
    async with another(host, tmp_path) as elsewhere:
        other = elsewhere if "elsewhere" in how else host
        id = (await created_by(host))["taskId"]
        if "equal" in how:
            await created_by(other)
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.client.call_tool, "wait_for_job", {"job_id": id})
                await anyio.sleep(3)
                tasks.cancel_scope.cancel()
        note = (await ask(host, "tasks/cancel", id))["_meta"]["wan-mcp/note"]
        payment.may_go.set()
        task = await end_of(host, id)

    assert note == f"Request {id} goes on: it was sent, or another call waits for it."
    assert task["result"]["structuredContent"]["status"] == "completed"
    assert len(host.sandbox.charges) == 1


async def test_a_cancel_after_the_commit_point_reports_the_id(host: Host) -> None:
    """The request stays and is recorded: it may have been charged (ours)."""
    host.sandbox.fault("POST", RUN, faults.held(faults.honest(), after=10))
    id = (await created_by(host))["taskId"]
    note = (await ask(host, "tasks/cancel", id))["_meta"]["wan-mcp/note"]
    task = await end_of(host, id)
    late = (await ask(host, "tasks/cancel", id))["_meta"]["wan-mcp/note"]

    assert id in note
    assert task["result"]["structuredContent"]["job_id"] == host.sandbox.charges[0].job_id
    assert late == f"{host.sandbox.charges[0].job_id} had ended already."


async def test_of_two_hosts_on_one_task_one_may_cancel(
    host: Host, tasks_client: TasksClient
) -> None:
    """A cancel ends the waiting of its own host alone (ours)."""
    id = (await created_by(host))["taskId"]
    answers: list[dict[str, Any]] = []

    async def call() -> None:
        answers.append(await host.call("replace_character", **wanted(host)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await until(lambda: bool(tasks_client.created))
        note = (await ask(host, "tasks/cancel", id))["_meta"]["wan-mcp/note"]

    assert note == f"{NO_CANCEL} Its id is {answers[0]['job_id']}."
    assert (answers[0]["status"], len(host.sandbox.charges)) == ("completed", 1)


async def test_a_cancel_beside_an_equal_claim_pays_for_what_was_answered(
    time: VirtualTime, tmp_path: Path, payment: HeldPayment
) -> None:
    """In every order: a caller who was given a task gets its video, and pays once (ours)."""
    extensions = (TasksClient(),)
    unlimited = {"WAN_MCP_MAX_IN_FLIGHT": "100", "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "100"}
    async with connected(time, tmp_path, extensions=extensions, settings=unlimited) as host:
        answers: list[dict[str, Any]] = []
        for pauses in range(0, 40, 8):
            first = await created_by(host, seed=pauses)

            async def claim(seed: int) -> None:
                answers.append(await created_by(host, seed=seed))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(claim, pauses)
                for _ in range(pauses):
                    await anyio.lowlevel.checkpoint()
                await ask(host, "tasks/cancel", first["taskId"])
        payment.may_go.set()
        given = [answer["taskId"] for answer in answers if answer["resultType"] == "task"]
        ends = [(await end_of(host, id))["result"]["structuredContent"] for id in given]

    assert {end["status"] for end in ends} == {"completed"}
    assert sorted(end["job_id"] for end in ends) == sorted(
        charge.job_id for charge in host.sandbox.charges
    )


# Another server


async def test_another_server_on_the_ledger_knows_the_task(
    time: VirtualTime, tmp_path: Path
) -> None:
    """There is no store of tasks besides the ledger (ours)."""
    async with connected(time, tmp_path, extensions=(TasksClient(),)) as first:
        id = (await created_by(first))["taskId"]
        async with connected(time, tmp_path, beside=first, extensions=(TasksClient(),)) as second:
            task = await end_of(second, id)

    assert task["result"]["structuredContent"]["job_id"] == first.sandbox.charges[0].job_id


# Progress and notices


@pytest.mark.parametrize(
    ("local", "first"), [(True, "Looking at the video"), (False, "Preparing the job")]
)
async def test_a_person_reads_what_is_done_and_what_it_costs(
    time: VirtualTime, tmp_path: Path, local: bool, first: str
) -> None:
    """The first note comes before any work, and none contains a share of the whole (ours)."""
    notes: list[tuple[float, float, float | None, str | None]] = []
    async with connected(time, tmp_path, local=local) as host:

        async def note(progress: float, total: float | None, message: str | None) -> None:
            notes.append((time.now, progress, total, message))

        await host.client.call_tool("replace_character", wanted(host), progress_callback=note)

    assert [message for *_, message in notes] == [first, "Submitted, 10 credits"]
    assert notes[0][0] < 1
    assert {total for _, _, total, _ in notes} == {None}


async def test_a_task_says_what_it_costs_and_then_how_long_it_takes(
    host: Host, tasks_client: TasksClient
) -> None:
    """The same notes as a call that waits (ours)."""
    await host.call("replace_character", **wanted(host))
    later = [task["statusMessage"] for task in tasks_client.seen]

    assert tasks_client.created[0].status_message.startswith("Submitted, 10 credits. ")
    assert all(note.partition(":")[0].endswith(" s") for note in later)
    assert all("jobs have been reported to take" in note for note in later[:-1])


@pytest.mark.parametrize("ids", [["TASK"], ["TASK", "sub_nobody", "../x", 7]])
async def test_a_host_that_listens_gets_each_state_of_its_task(
    host: Host, tasks_client: TasksClient, ids: list[Any]
) -> None:
    """A notice is what tasks/get would have answered, up to the result (ext-tasks 2026-07-28)."""
    created = await created_by(host)
    known = [created["taskId"] if id == "TASK" else id for id in ids]
    async with listening(host, taskIds=known) as honored:
        await until(lambda: any(notice["status"] != "working" for notice in tasks_client.notices))
    task = await ask(host, "tasks/get", created["taskId"])
    *working, last = tasks_client.notices

    assert honored["taskIds"] == [created["taskId"]]
    assert {notice["status"] for notice in working} == {"working"}
    assert all(
        set(notice) >= {"taskId", "createdAt", "lastUpdatedAt", "ttlMs"} for notice in working
    )
    assert last["result"]["structuredContent"] == task["result"]["structuredContent"]
