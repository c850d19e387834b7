"""A wait for several jobs in the form of a task.

The id of the task is the ids of the jobs, joined by commas. So no store of tasks is needed: any
process on the ledger can answer for one, also after a restart, and every wait takes that id.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import TYPE_CHECKING

from wan_mcp.errors import WanError
from wan_mcp.models import JOB_ID
from wan_mcp.polling.intervals import SAVE_SECONDS
from wan_mcp.surface.answers.progress import typical_duration
from wan_mcp.surface.answers.several import Stage, several_note, stage
from wan_mcp.surface.answers.task_form import (
    FOLLOW_SECONDS,
    POLL_MS,
    QUESTION_SECONDS,
    UNKNOWN_POLL_MS,
    Task,
    is_over,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.status import Reading
    from wan_mcp.surface.calls import Call

Readings = dict[str, "Reading"]
CANCELLED_NOTE = "Only the waiting is over. The jobs go on, and their credits are spent."
_ID = rf"{JOB_ID}(?:,{JOB_ID})*"


def task_id(ids: Sequence[str]) -> str:
    """The id of the task that waits for these jobs; of one job it is the job's."""
    return ",".join(ids)


def ids_of(id: str) -> tuple[str, ...]:
    """The jobs of a task; none if it is the id of no task."""
    return tuple(id.split(",")) if re.fullmatch(_ID, id) else ()


async def readings_for_task(jobs: Jobs, ids: Sequence[str]) -> Readings:
    """The state of the jobs for a host that asks about its task.

    Raises:
        Busy: too many calls wait already.
    """
    readings = await _last_readings(jobs, ids, QUESTION_SECONDS)
    # The last video is worth a longer wait, until it is saved.
    return await _last_readings(jobs, ids, SAVE_SECONDS) if all_over(readings) else readings


async def several_task(ids: Sequence[str], readings: Readings, call: Call) -> Task:
    """Several jobs as one task. A completed one contains the result of wait_for_job."""
    working = _working(ids, readings, call, await _note(readings, call))
    if not all_over(readings):
        return working
    result = await call.tool_result(await call.wait_result(readings))
    data = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {**working, "status": "completed", "result": data}


async def several_tasks(ids: Sequence[str], call: Call) -> AsyncGenerator[Task, None]:
    """The task at each update, until all of its jobs have ended or it cannot be followed."""
    readings: Readings = {}
    async with aclosing(call.jobs.watch_several(ids, FOLLOW_SECONDS)) as updates:
        async for readings in updates:
            if not all_over(readings):  # with the last video saved, it is sent below
                yield await several_task(ids, readings, call)
    yield await several_task(ids, readings, call)


def all_over(readings: Readings) -> bool:
    """Whether a task about these jobs has ended, so that it contains a result."""
    return all(
        stage(each) is Stage.ENDED if isinstance(each, WanError) else is_over(each)
        for each in readings.values()
    )


async def _note(readings: Readings, call: Call) -> str:
    return several_note(readings.values(), typical_duration(await call.jobs.typical()))


def _working(ids: Sequence[str], readings: Readings, call: Call, message: str) -> Task:
    views = [each for each in readings.values() if not isinstance(each, WanError)]
    records = [view.record for view in views if view.record is not None]
    now = call.jobs.clock.wall()
    created = min((each.asked_at for each in records), default=now)
    updates = [each.ended_at or each.last_polled_at or each.asked_at for each in records]
    is_pending = any(stage(each) is Stage.PENDING for each in readings.values())
    return {
        "taskId": task_id(ids),
        "status": "working",
        "statusMessage": message,
        "createdAt": created.isoformat(timespec="seconds"),
        "lastUpdatedAt": max(updates, default=now).isoformat(timespec="seconds"),
        "ttlMs": None,
        "pollIntervalMs": POLL_MS if is_pending else UNKNOWN_POLL_MS,
    }


async def _last_readings(jobs: Jobs, ids: Sequence[str], seconds: float) -> Readings:
    async with aclosing(jobs.watch_several(ids, seconds)) as updates:
        return [readings async for readings in updates][-1]
