"""Callers who share a question share what becomes of it."""

import asyncio
from collections.abc import Callable, Sequence

import anyio
import pytest

from wan_mcp.tenants.asking import Batches
from wan_mcp.tenants.caller import IdentityUnknown

pytestmark = pytest.mark.anyio


class Held:
    """Answers each number with its double, once the test allows it.

    Attributes:
        asked: the questions, in their order.
        begun: set when the first question is asked.
        answers: set by the test.
    """

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.begun = anyio.Event()
        self.answers = anyio.Event()

    async def ask(self, wanted: Sequence[int]) -> Sequence[int]:
        self.asked.append(list(wanted))
        self.begun.set()
        await self.answers.wait()
        return [2 * each for each in wanted]


@pytest.mark.parametrize(
    "error", [IdentityUnknown("The database is away.", retry_after=9), KeyError("a defect")]
)
async def test_every_caller_of_a_question_that_fails_gets_its_error(error: Exception) -> None:
    """A defect too: as another error it would hide its cause (ours)."""

    async def fail(_wanted: Sequence[int]) -> Sequence[int]:
        raise error

    batches = Batches(fail, 10)
    got = await asyncio.gather(*(batches.find(n) for n in range(3)), return_exceptions=True)

    assert len({id(each) for each in [error, *got]}) == 4
    for each in got:
        assert isinstance(each, Exception)
        assert (type(each), str(each), vars(each)) == (type(error), str(error), vars(error))
        assert each.__cause__ is error


def by_its_task(task: "asyncio.Task[int]", _scope: anyio.CancelScope) -> None:
    task.cancel()


def by_a_time_limit(_task: "asyncio.Task[int]", scope: anyio.CancelScope) -> None:
    scope.cancel()


@pytest.mark.parametrize("cancel", [by_its_task, by_a_time_limit])
@pytest.mark.parametrize("is_asked", [True, False], ids=["asked", "waits for its turn"])
async def test_callers_get_their_answers_although_the_first_of_their_question_is_cancelled(
    cancel: Callable[["asyncio.Task[int]", anyio.CancelScope], None], is_asked: bool
) -> None:
    """The question belongs to none of them (ours)."""
    database, scope = Held(), anyio.CancelScope()
    batches = Batches(database.ask, 10)

    async def first() -> int:
        with scope:
            return await batches.find(1)
        return 0

    earlier = [] if is_asked else [asyncio.create_task(batches.find(0))]
    if earlier:
        await database.begun.wait()
    leaving = asyncio.create_task(first())
    others = [asyncio.create_task(batches.find(n)) for n in (2, 3)]
    await anyio.wait_all_tasks_blocked()
    cancel(leaving, scope)
    await asyncio.wait({leaving})
    database.answers.set()

    assert await asyncio.gather(*earlier, *others) == [*([0] if earlier else []), 4, 6]
    assert await batches.find(5) == 10
    assert database.asked == [*([[0]] if earlier else []), [1, 2, 3], [5]]
