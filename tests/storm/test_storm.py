"""The storm in its smallest form: two replicas, one of them killed, and the database restarted."""

import random
from typing import Any

import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.postgres.server import installation
from tests.replicas.caller import Caller
from tests.replicas.processes import haproxy
from tests.storm import figures
from tests.storm.people import Person, Traces, Work
from tests.storm.run import storm

SMALLEST = (
    *("--replicas", "2", "--users", "2", "--wallets", "1", "--jobs", "6", "--faults", "0.01"),
    *("--of-a-person", "2", "--kill-every", "0", "--breaks", "kill", "restart"),
)
"""What breaks does so when so many jobs are done, however long that takes."""


def test_two_people_lose_no_job_and_pay_none_twice_while_a_replica_dies_and_the_database_restarts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their calls go through HAProxy; the charges and the ledger are compared at the end (ours)."""
    haproxy()
    installation()
    monkeypatch.delenv("WAN_MCP_DATA_DIR")  # each replica has its own

    found = storm(SMALLEST)

    assert figures.broken(found) == []
    assert found["broken on purpose"] == ["kill", "restart"]
    assert found["processes killed"] == 1
    assert found["charges"] >= found["how they ended"]["completed"] > 0


class OneAnswer(Caller):
    """A host whose calls are all answered with the same data."""

    def __init__(self, **data: Any) -> None:
        super().__init__("http://unused")
        self._data = data

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return self._data


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
        answers = OneAnswer(job_id="job_1", status="completed")
        await Work(Person(number, {}), answers, traces, random.Random(1)).make({})
    kept = dict.fromkeys(figures.BROKEN_PROMISES, 0)

    assert figures.broken(kept | figures.of_ids(traces.ids, {"job_1"})) == broken
