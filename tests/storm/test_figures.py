"""What the figures of a storm show: which promises were broken, and that its limits refuse jobs."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.replicas.caller import Caller
from tests.storm import figures
from tests.storm.limits import Limits
from tests.storm.people import OVER_LIMIT, Person, Traces, Work
from tests.storm.vendor import Paid

LIMITS = Limits(teams=1, people=2, jobs=12, in_flight=3, of_a_person=2, per_minute=4)
"""The team may buy 12 jobs, and its first person 3 of them."""
WITHIN: Mapping[str, Sequence[float]] = {"wallet": [0, 1, 2, 3, 60]}


class OneAnswer(Caller):
    """A host whose calls are all answered with the same data."""

    def __init__(self, **data: Any) -> None:
        super().__init__("http://unused")
        self._data = data

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return self._data


async def work(number: int, traces: Traces, **answer: Any) -> None:
    """Let somebody ask for a job."""
    await Work(Person(number, {}), OneAnswer(**answer), traces, random.Random(1)).make({})


def jobs(*people: int, apart: float) -> list[Paid]:
    """Jobs of these people, which began so many seconds after each other."""
    return [
        Paid("key", f"job_{number}", {"seed": person}, number * apart, 10)
        for number, person in enumerate(people)
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("people", "broken"), [((0, 0), []), ((0, 1), ["ids given to two people"])]
)
async def test_id_that_two_people_were_given_is_a_broken_promise(
    people: tuple[int, ...], broken: list[str]
) -> None:
    """Whoever was given it second has seen the job of the first (ours)."""
    traces = Traces()
    for number in people:
        await work(number, traces, job_id="job_1", status="completed")
    kept = dict.fromkeys(figures.BROKEN_PROMISES, 0)

    assert figures.broken(kept | figures.of_ids(traces.ids, {"job_1"})) == broken


@pytest.mark.anyio
async def test_person_gives_up_a_job_that_no_limit_allows_today_and_says_whose_limit_it_is() -> (
    None
):
    """It is none of the jobs after which something breaks (ours)."""
    traces, message = Traces(), "At most 20 credits may be spent. This limit is of the team Blue."
    await work(0, traces, code="limit_reached", retry_after_seconds=80_000, message=message)

    assert traces.over == {"of the team Blue": 1}
    assert (traces.done, traces.ended) == ({OVER_LIMIT: 1}, 0)


@pytest.mark.parametrize(
    ("paid", "sent", "passed"),
    [
        (jobs(0, 0, 0, *[1] * 9, apart=5), WITHIN, 0),
        (jobs(0, 0, 1, 1, apart=1), WITHIN, 1),
        (jobs(1, 1, 1, apart=2.4), WITHIN, 1),
        (jobs(0, 0, 0, 0, apart=5), WITHIN, 1),
        (jobs(*[1] * 13, apart=5), WITHIN, 1),
        ([], {"another": [], "wallet": [59.9, 0, 1, 2, 3]}, 1),
    ],
    ids=["none", "jobs of the wallet", "jobs of one", "day of one", "day of the team", "minute"],
)
def test_limit_that_was_passed_is_counted(
    paid: list[Paid], sent: Mapping[str, Sequence[float]], passed: int
) -> None:
    assert LIMITS.figures(paid, sent)["limits passed"] == passed


@pytest.mark.parametrize(
    ("teams", "people", "jobs"), [(1, 2, 6), (2, 10, 2_000), (2, 4, 60), (2, 5, 61), (1, 3, 7)]
)
def test_people_ask_for_more_than_each_limit_of_a_day_allows(
    teams: int, people: int, jobs: int
) -> None:
    """Or a limit that allows everything would be seen by nobody (ours)."""
    limits = Limits(teams, people, jobs, in_flight=3, of_a_person=2, per_minute=4)
    others = people // teams - 1

    assert 0 < limits.of_the_first < limits.each_asks_for
    assert others * limits.each_asks_for > limits.of_a_team - limits.of_the_first
    assert limits.asked > jobs >= limits.of_a_team * teams
