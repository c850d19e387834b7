"""The storm in its smallest form: two replicas, one of them killed, and the database restarted."""

import pytest

pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from tests.postgres.server import installation
from tests.replicas.processes import haproxy
from tests.storm import figures
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
    assert found["given up because of a limit of the day"].keys() == {
        "your own",
        "of the team team 0",
    }
    assert found["charges"] >= found["how they ended"]["completed"] > 0
