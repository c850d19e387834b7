"""Each paid act has its row in the audit, whichever server finds out what became of the request."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.ledger.stores import NO_LIMITS, VIDEO_URL, WANTED, PostgresStore, reported, wanted
from tests.postgres.proxy import Fault, proxy_to
from tests.postgres.server import Server
from tests.tenants.company import Company
from tests.tenants.team import Blue, ring, rows
from wan_mcp.app.audit import Audit
from wan_mcp.ledger.contract import Ledger, LedgerUnavailable
from wan_mcp.ledger.postgres.engine import PostgresLedger
from wan_mcp.ledger.record import WITHDRAWN, Record, State
from wan_mcp.ledger.transactions import Transactions
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.models import Job, JobStatus
from wan_mcp.tenants import paid_acts
from wan_mcp.tenants.audit import Written, entries
from wan_mcp.tenants.directory import StoredDirectory
from wan_mcp.tenants.seat import workspace_of

pytestmark = pytest.mark.anyio

Directories = tuple[StoredDirectory, StoredDirectory]
Ledgers = tuple[Any, Any]


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another server has settled has its row at once, and not half a minute later."""
    monkeypatch.setattr(paid_acts, "OWN_SECONDS", 0.0)


@pytest.fixture
async def directories(blue: Blue, database: str) -> AsyncIterator[Directories]:
    """Those of two servers, to which Ann is known."""
    made = StoredDirectory(database, ring()), StoredDirectory(database, ring())
    await made[0].seat(blue.ann)
    yield made
    for directory in made:
        await directory.aclose()


@pytest.fixture
async def ledgers(database: str, tmp_path: Path) -> AsyncIterator[Ledgers]:
    """Those of the two servers, with one data folder."""
    folder = tmp_path / "ledger"
    made = [PostgresLedger(database, limits=NO_LIMITS, folder=folder) for _ in range(2)]
    for ledger in made:
        await ledger.recover()
    yield made[0], made[1]
    for ledger in made:
        await ledger.aclose()


async def claimed(ledger: Ledger, blue: Blue, number: int = 1) -> Record:
    """A request of Ann."""
    workspace = Workspace(workspace_of(blue.ann, blue.wallet), blue.wallet)
    claim = await ledger.claim(workspace, wanted(number), generated_seed=7, estimate=2.0)
    return claim.record


async def sent(ledger: Ledger, blue: Blue, number: int = 1) -> Record:
    record = await claimed(ledger, blue, number)
    await ledger.commit_sending(record)
    return record


async def bought(ledger: Ledger, blue: Blue, number: int = 1, job: str = "job-1") -> Record:
    record = await sent(ledger, blue, number)
    await ledger.accept(record, reported(job_id=job, credit_cost=10))
    return record


def written(blue: Blue, *, about: str | None = None) -> list[Written]:
    """The rows about paid acts, oldest first."""
    found = entries(blue.operator.link, about, 0, 1_000)
    return [each for each in reversed(found) if each.action.startswith("job.")]


def results(blue: Blue) -> list[tuple[str, str]]:
    return [(each.target, each.result) for each in written(blue)]


async def die(ledger: Any, database: str) -> None:
    """Let a server be dead for the others."""
    PostgresStore(database).kill(ledger)


# How an outcome gets into the ledger, without the server that has sent the request.


async def matched(ledgers: Ledgers, database: str, blue: Blue) -> str:
    """The answer was lost with the server, and the job list of PixelDojo shows the job."""
    record = await sent(ledgers[0], blue)
    await die(ledgers[0], database)
    [unknown] = await ledgers[1].recover()
    await ledgers[1].match(unknown, reported(credit_cost=10))
    return record.submission_id


async def taken_in(ledgers: Ledgers, database: str, blue: Blue) -> str:
    """The answer was kept in a file when the database was lost, and the server with it."""
    record = await sent(ledgers[0], blue)
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(Transactions, "_accept", _lost)
        with pytest.raises(LedgerUnavailable):
            await ledgers[0].accept(record, reported(credit_cost=10))
    await die(ledgers[0], database)
    await ledgers[1].recover()
    return record.submission_id


def _lost(*_: object) -> Record:
    raise LedgerUnavailable("The ledger's database cannot be reached.", transient=True)


async def accepted(ledgers: Ledgers, database: str, blue: Blue) -> str:
    """The answer was stored, and the server was killed before it wrote a row."""
    record = await bought(ledgers[0], blue)
    await die(ledgers[0], database)
    return record.submission_id


Way = Callable[[Ledgers, str, Blue], Awaitable[str]]


@pytest.mark.parametrize("find", [matched, taken_in, accepted])
async def test_job_that_was_found_without_its_server_has_one_row_with_its_credits(
    find: Way, blue: Blue, directories: Directories, ledgers: Ledgers, database: str
) -> None:
    """Also if two servers write what they find at the same moment, and again (docs/teams.md)."""
    request = await find(ledgers, database, blue)
    async with anyio.create_task_group() as tasks:
        for directory in directories * 2:
            tasks.start_soon(directory.write_paid_acts, {})
    await directories[0].write_paid_acts({})

    [row] = written(blue)
    assert row[1:5] == (blue.ann, "job.buy", "job-1", "accepted")
    assert row.detail == {"credits": 10, "wallet": blue.wallet, "request": request}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (State.ACCEPTED, ("job-1", "accepted")),
        (State.NOT_SENT, ("", "not_sent")),
    ],
)
async def test_lost_answer_has_a_row_and_what_became_of_it_another_one(
    found: State,
    expected: tuple[str, str],
    blue: Blue,
    directories: Directories,
    ledgers: Ledgers,
    database: str,
) -> None:
    """A row is never changed (docs/teams.md)."""
    record = await sent(ledgers[0], blue)
    await die(ledgers[0], database)
    [unknown] = await ledgers[1].recover()
    await directories[0].write_paid_acts({})
    before = results(blue)
    if found is State.ACCEPTED:
        await ledgers[1].match(unknown, reported(credit_cost=10))
    else:
        await ledgers[1].conclude(unknown, found, "three readings show no job")
    for directory in directories:
        await directory.write_paid_acts({})

    lost = (record.submission_id, "outcome_unknown")
    assert before == [lost]
    assert results(blue) == [lost, (expected[0] or record.submission_id, expected[1])]


async def test_refused_and_withdrawn_requests_have_rows_that_say_why_and_open_ones_have_none(
    blue: Blue, directories: Directories, ledgers: Ledgers
) -> None:
    """A withdrawn request is an act of its user (docs/teams.md)."""
    ledger, _ = ledgers
    refused, withdrawn, unsent = [await sent(ledger, blue, n) for n in (1,)] + [
        await claimed(ledger, blue, n) for n in (2, 3)
    ]
    await ledger.conclude(refused, State.REFUSED, "No credits.\n" + "x" * 1_000)
    await ledger.withdraw(withdrawn)
    await ledger.conclude(unsent, State.NOT_SENT, "No network.")
    await claimed(ledger, blue, 4)
    await sent(ledger, blue, 5)
    await directories[0].write_paid_acts({refused.submission_id: "token-1"})

    said = {each.target: each for each in written(blue)}
    assert {id: each[2:5:2] for id, each in said.items()} == {
        refused.submission_id: ("job.buy", "refused"),
        withdrawn.submission_id: ("job.cancel", "done"),
        unsent.submission_id: ("job.buy", "not_sent"),
    }
    why = str(said[refused.submission_id].detail["why"])
    assert (why[:14], len(why)) == ("No credits. xx", 300)
    assert said[refused.submission_id].detail["signed_in"] == "token-1"
    assert "signed_in" not in said[unsent.submission_id].detail
    assert WITHDRAWN not in str(said[withdrawn.submission_id])


async def test_for_half_a_minute_only_the_server_that_paid_writes_its_row(
    blue: Blue, directories: Directories, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It alone knows by which token the user has signed in (ours)."""
    monkeypatch.setattr(paid_acts, "OWN_SECONDS", 3600.0)
    record = await bought(ledgers[0], blue)
    await directories[1].write_paid_acts({})
    before = written(blue)
    await directories[0].write_paid_acts({record.submission_id: "token-1"})

    assert before == []
    [row] = written(blue)
    assert row.detail["signed_in"] == "token-1"


@pytest.mark.parametrize(
    ("later", "credits"),
    [
        (reported(credit_cost=10), 10),
        (reported(JobStatus.COMPLETED, video_url=VIDEO_URL, credit_cost=10), 10),
        (reported(JobStatus.COMPLETED, video_url=VIDEO_URL), None),
    ],
)
async def test_row_of_a_job_whose_cost_is_not_known_waits_for_it_or_for_the_end(
    later: Job, credits: float | None, blue: Blue, directories: Directories, ledgers: Ledgers
) -> None:
    """A reply that was cut names the job and no cost. Others have rows meanwhile (ours)."""
    record = await sent(ledgers[0], blue)
    await ledgers[0].accept(record, reported())
    await bought(ledgers[0], blue, 2, "job-2")
    change = "UPDATE jobs SET accepted_at = accepted_at - 86400 WHERE handle = %(id)s"
    blue.operator.rows(change.encode(), id=record.submission_id)
    await directories[0].write_paid_acts({})
    before = results(blue)
    await ledgers[0].record_update(record.workspace, later)
    for directory in directories:
        await directory.write_paid_acts({})

    assert before == [("job-2", "accepted")]
    [row] = written(blue, about="job-1")
    assert row.detail.get("credits") == credits


async def test_what_was_settled_while_nobody_wrote_is_written_oldest_first_and_completely(
    blue: Blue, directories: Directories, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that was: a row that is written does not hide an older one (docs/teams.md)."""
    monkeypatch.setattr(paid_acts, "MOST_AT_ONCE", 2)
    for number in range(5):
        record = await bought(ledgers[0], blue, number, f"job-{number}")
        ended = reported(JobStatus.COMPLETED, job_id=f"job-{number}", video_url=VIDEO_URL)
        await ledgers[0].record_update(record.workspace, ended)
        earlier = 86_400 * (5 - number)
        change = (
            "UPDATE jobs SET accepted_at = accepted_at - %(e)s, ended_at = ended_at - %(e)s "
            "WHERE handle = %(id)s"
        )
        blue.operator.rows(change.encode(), e=earlier, id=record.submission_id)
    may_be_missing = [
        await directories[0].write_paid_acts({record.submission_id: None}) for _ in range(3)
    ]

    assert may_be_missing == [True, True, False]
    assert results(blue) == [(f"job-{number}", "accepted") for number in range(5)]
    dates = rows(blue.operator.link, "SELECT accepted_at FROM jobs ORDER BY accepted_at")
    assert [(each.at,) for each in written(blue)] == dates


async def test_row_that_a_wrong_clock_dated_in_the_future_hides_nothing(
    blue: Blue, directories: Directories, ledgers: Ledgers
) -> None:
    """A database that takes over may have another clock (ours)."""
    for number in range(2):
        record = await bought(ledgers[0], blue, number, f"job-{number}")
        await directories[0].write_paid_acts({record.submission_id: None})
        blue.operator.rows(b"UPDATE audit SET at = at + 1e9 WHERE target = 'job-0'")

    assert {row.target for row in written(blue)} == {"job-0", "job-1"}


async def test_rows_whose_answer_was_lost_are_written_once(
    blue: Blue, ledgers: Ledgers, postgres: Server, worker_database: str
) -> None:
    """The connection was cut when they were stored (ours)."""
    record = await sent(ledgers[0], blue)
    with proxy_to(postgres) as proxy:
        directory = StoredDirectory(proxy.url(worker_database), ring())
        await directory.seat(blue.ann)
        await directory.write_paid_acts({})
        await ledgers[0].accept(record, reported(credit_cost=10))
        struck = proxy.plan("INSERT INTO audit", Fault.LOSE_ANSWER)
        await directory.write_paid_acts({record.submission_id: None})
        await directory.aclose()

    assert struck.is_set()
    assert results(blue) == [("job-1", "accepted")]


@pytest.mark.usefixtures("directories")
async def test_server_needs_no_right_to_change_or_delete_a_row(
    blue: Blue, ledgers: Ledgers, database: str
) -> None:
    """Its user may read and add (docs/teams.md)."""
    operator, role = blue.operator, f"server_of_{os.getpid()}"
    await bought(ledgers[0], blue)
    operator.rows(f"CREATE ROLE {role} LOGIN".encode())
    try:
        operator.rows(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}".encode())
        operator.rows(f"GRANT INSERT ON audit TO {role}".encode())
        directory = StoredDirectory(database.replace("postgres@", f"{role}@"), ring())
        await directory.write_paid_acts({})
        await directory.aclose()
    finally:
        operator.rows(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())

    assert results(blue) == [("job-1", "accepted")]


async def test_jobs_of_nobody_have_no_row(
    blue: Blue, directories: Directories, ledgers: Ledgers
) -> None:
    """As those of a server on the same database where nobody signs in (docs/teams.md)."""
    claim = await ledgers[0].claim("account", WANTED, generated_seed=7, estimate=2.0)
    await ledgers[0].commit_sending(claim.record)
    await ledgers[0].accept(claim.record, reported(credit_cost=10))
    await directories[0].write_paid_acts({claim.record.submission_id: None})

    assert written(blue) == []


async def test_job_of_a_server_that_was_killed_before_its_row_has_it_from_the_next_server(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The charge and the row have the same job and the same credits (docs/teams.md)."""

    async def never(_: Audit) -> None:
        await anyio.sleep_forever()

    async def not_at_all(_: Audit) -> None:
        pass

    with monkeypatch.context() as killed:
        killed.setattr(Audit, "run", never)
        killed.setattr(Audit, "aclose", not_at_all)
        async with company.served(), company.person(company.ann) as ann:
            await ann.order(1)
    before = written(company)
    for _ in range(2):
        async with company.served():
            pass

    assert before == []
    [charge] = company.sandbox.charges
    [row] = written(company)
    assert row[1:5] == (company.ann, "job.buy", charge.job_id, "accepted")
    assert row.detail["credits"] == charge.amount


async def test_audit_that_cannot_be_written_delays_no_payment_and_is_written_later(
    company: Company, caplog: pytest.LogCaptureFixture
) -> None:
    """Meanwhile the log says so (docs/teams.md)."""
    token = company.token(company.ann).text
    company.operator.rows(b"ALTER TABLE audit RENAME TO gone")
    try:
        async with company.served(), company.holder(company.ann, token) as ann:
            answers = [await ann.order(seed) for seed in (1, 2)]
    finally:
        company.operator.rows(b"ALTER TABLE gone RENAME TO audit")
    async with company.served():
        pass

    assert [each["charged"] for each in answers] == ["yes", "yes"]
    assert "rows of the audit are not written yet" in caplog.text
    assert results(company) == [(answer["job_id"], "accepted") for answer in answers]
