"""Version 0.1.0, which users have installed: its ledger files open here, and its servers may be
alive on the same file.

`old_version/ledger.db` is a ledger that several runs of that version's server left behind; the last
run was killed with requests on the wire. `old_version/server.zip` is the package of that version
(commit fca89b0) without its sandbox; a process of the old version is `python -m wan_mcp` with the
archive first on its path, and the packages of the tests' own environment. Both are made again by

    git worktree add --detach /tmp/old fca89b0
    python tests/ledger/old_version/make.py /tmp/old

A server of that version that has the file open reads `SELECT *` and ignores columns that it does
not know. It goes on when a newer server adds tables, indexes that are not unique, and columns that
need no value, and when it raises `user_version`; one that starts later refuses a higher version.
It does not survive the following (each was tried):

- a column or table that it uses is renamed or dropped, or the index `live`, which it names;
- a column of `jobs` or `keys` that is NOT NULL and has no default;
- a unique index or a trigger that refuses what it writes: UNIQUE (account, job_id), for example,
  loses the job id of a paid request, because a read may have recorded the same job before;
- a state that it does not know: it cannot read such a record, and it does not see that the record
  stands for an equal request, so it pays again;
- a value in `arguments` that is neither text, nor a whole number, nor true or false;
- a column in `requests`, where it inserts by position: its requests then no longer count for other
  processes;
- a process that is alive but holds no lock on the file `owners/NAME` that its records name as
  their owner: the old version settles such records as it does those of a dead process.
"""

import json
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.ledger.old_version import contents
from tests.ledger.old_version.contents import (
    ACCOUNTS,
    API_BASE,
    END,
    FILE,
    FIRST_KEY,
    LIVE,
    SECOND_KEY,
    STATES,
    UNSETTLED,
    Row,
    columns,
    date,
    fields,
    jobs,
)
from tests.ledger.old_version.servers import (
    OLD_PYTHON,
    RUN,
    SLOWEST_SECONDS,
    Host,
    old_path,
    server,
)
from tests.ledger.stores import NO_LIMITS, SQLiteStore
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.coordination import WINDOW_SECONDS, Limit, Role
from wan_mcp.ledger.history.history import History
from wan_mcp.ledger.record import Record, SentInputs, State
from wan_mcp.ledger.rules import REPEAT_WINDOW
from wan_mcp.ledger.spending_limits import LimitReached, SpendingLimits
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.sqlite.history import change, read
from wan_mcp.models import Job, JobStatus, Replacement
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.sandbox.http import faults

pytestmark = pytest.mark.anyio

FIRST, SECOND = ACCOUNTS[FIRST_KEY], ACCOUNTS[SECOND_KEY]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """The old file in a folder of its own, 5 s after the last old process died."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    shutil.copyfile(FILE, folder / "ledger.db")
    store = SQLiteStore(folder)
    store.now = END + timedelta(seconds=5)
    yield store
    for ledger in store.opened:
        await ledger.aclose()


@pytest.fixture
def ledger(store: SQLiteStore) -> Ledger:
    """A process of the new version on it."""
    return store.ledger()


def requested(row: Row) -> Replacement:
    """What the caller asked for, without the query of a URL."""
    return Replacement.model_validate_json(row["arguments"])


def from_here(rows: Sequence[Row]) -> list[Row]:
    """Those that were submitted through this ledger."""
    return [row for row in rows if row["digest"] is not None]


def keeps(record: Record, row: Row, *changed: str) -> bool:
    """Whether the record has every field of the row, except for some."""
    wanted = {name: value for name, value in fields(row).items() if name not in changed}
    assert {name: getattr(record, name) for name in wanted} == wanted
    return True


async def found(ledger: Ledger, row: Row) -> Record:
    record = await ledger.find(row["account"], row["handle"])
    assert record
    return record


def test_the_file_holds_every_state_and_fills_every_column() -> None:
    """Else the tests on it would prove less than they say (ours)."""
    filled = {name for row in contents.JOBS for name, value in row.items() if value is not None}

    assert {row["state"] for row in contents.JOBS} == STATES
    assert filled == set(columns(FILE, "jobs"))
    assert {row["account"] for row in contents.JOBS} == {FIRST, SECOND}
    assert FILE.read_bytes()[18:20] == b"\2\2"  # a write-ahead log belongs to it
    assert contents.read("PRAGMA user_version") == [{"user_version": 2}]


def test_the_file_holds_completed_jobs_in_every_way() -> None:
    """With the video saved, given up, still to be saved, and without a link; from elsewhere too."""
    completed = jobs(FIRST_KEY, "completed")

    assert [row for row in completed if row["saved_path"] and row["sha256"] and row["size"]]
    assert [row for row in completed if row["not_saved"]]
    assert [row for row in completed if row["video_url"] is None]
    assert [row for row in completed if row["digest"] is None]
    assert [row for row in jobs(FIRST_KEY, "accepted") if row["digest"] is None]


async def test_every_record_keeps_every_field(ledger: Ledger) -> None:
    """Opening the file with a newer version loses nothing of a job that was paid for (ours)."""
    settled = [row for row in contents.JOBS if row["state"] not in UNSETTLED]

    for row in settled:
        assert keeps(await found(ledger, row), row)


async def test_every_job_is_found_by_pixeldojos_id(ledger: Ledger) -> None:
    """A host remembers that id, and asks for it after an update (ours)."""
    with_id = [row for row in contents.JOBS if row["job_id"]]

    for row in with_id:
        record = await ledger.find(row["account"], row["job_id"])
        assert record
        assert record.submission_id == row["handle"]


@pytest.mark.parametrize("key", [FIRST_KEY, SECOND_KEY])
async def test_an_account_keeps_its_name(ledger: Ledger, key: str) -> None:
    """By another name the account would have no jobs, and no spending (ours)."""
    assert await ledger.account(API_BASE, key) == ACCOUNTS[key]


async def test_what_a_dead_process_had_not_sent_is_not_sent(ledger: Ledger) -> None:
    """The old process committed nothing to the wire, so nothing was charged (ours)."""
    [row] = jobs(FIRST_KEY, "intent")

    record = await found(ledger, row)

    assert record.state is State.NOT_SENT
    assert keeps(record, row, "state", "error", "ended_at")


async def test_what_a_dead_process_was_sending_is_unknown(ledger: Ledger) -> None:
    """It may have been charged: it counts as spent, and is looked for at once (ours)."""
    for row in jobs(FIRST_KEY, "sending"):
        record = await found(ledger, row)

        assert record.state is State.UNKNOWN
        assert record.next_check_at is not None
        assert keeps(record, row, "state", "error", "next_check_at")


@pytest.mark.parametrize("key", [FIRST_KEY, SECOND_KEY])
async def test_the_list_shows_every_job_newest_first(ledger: Ledger, key: str) -> None:
    """All that is live or of unknown outcome, and as many others as are asked for (ours)."""
    newest = jobs(key)[::-1]

    records = await ledger.recent(ACCOUNTS[key], limit=100)

    assert [record.submission_id for record in records] == [row["handle"] for row in newest]


async def test_the_list_filters_what_is_over(ledger: Ledger) -> None:
    """A filter leaves out what bought nothing, never what is live (ours)."""
    kept = [*LIVE - {"intent"}, "completed"]

    records = await ledger.recent(FIRST, frozenset({State.COMPLETED}), limit=100)

    shown = {record.submission_id for record in records}
    assert shown == {row["handle"] for row in jobs(FIRST_KEY, *kept)}


async def test_lost_answers_are_looked_for_again(ledger: Ledger) -> None:
    """The look that was due, and the requests of the process that died (ours)."""
    lost = jobs(FIRST_KEY, "unknown", "sending")

    unknowns = await ledger.unknowns(FIRST)

    assert [record.submission_id for record in unknowns] == [row["handle"] for row in lost]


async def test_a_running_job_ends_as_pixeldojo_says(ledger: Ledger) -> None:
    """Those submitted elsewhere too; the answer joins the record that is there (ours)."""
    for row in jobs(FIRST_KEY, "accepted"):
        job = Job(job_id=row["job_id"], status=JobStatus.COMPLETED, video_url="https://v.example/1")

        recorded = await ledger.record_update(FIRST, job)

        assert recorded.record.submission_id == row["handle"]
        assert recorded.record.state is State.COMPLETED
        assert recorded.record.video_url == "https://v.example/1"


async def test_a_completed_job_gets_the_link_that_was_missing(ledger: Ledger) -> None:
    """The job is paid for: a link that comes late must be kept (ours)."""
    [row] = [row for row in jobs(FIRST_KEY, "completed") if row["video_url"] is None]
    job = Job(job_id=row["job_id"], status=JobStatus.COMPLETED, video_url="https://v.example/1")

    record = (await ledger.record_update(FIRST, job)).record

    assert record.submission_id == row["handle"]
    assert record.video_url == "https://v.example/1"
    assert record.ended_at == date(row["ended_at"])


async def test_a_lost_job_may_come_back(ledger: Ledger) -> None:
    """That it is lost was our conclusion, and PixelDojo's own word beats it (ours)."""
    [row] = jobs(FIRST_KEY, "lost")
    job = Job(job_id=row["job_id"], status=JobStatus.COMPLETED, video_url="https://v.example/1")

    record = (await ledger.record_update(FIRST, job)).record

    assert (record.submission_id, record.state) == (row["handle"], State.COMPLETED)


async def test_an_end_is_not_taken_back(ledger: Ledger) -> None:
    """An answer that came late must not revive a failed job (ours)."""
    [row] = jobs(FIRST_KEY, "failed")

    recorded = await ledger.record_update(
        FIRST, Job(job_id=row["job_id"], status=JobStatus.RUNNING)
    )

    assert recorded.ignored
    assert recorded.record.state is State.FAILED


def is_joined(row: Row) -> bool:
    """Whether an equal request must find that job instead of buying another one."""
    if row["state"] in LIVE - {"intent"}:
        return True
    ended = date(row["ended_at"] or 0)
    return row["state"] in ("completed", "lost") and ended > END - REPEAT_WINDOW


async def test_an_equal_request_joins_the_job_that_stands(ledger: Ledger) -> None:
    """What was paid for with the old version is not paid for again with the new one (ours)."""
    standing = [row for row in from_here(contents.JOBS) if is_joined(row)]

    assert {row["state"] for row in standing} == {*LIVE - {"intent"}, "completed"}
    for row in standing:
        claim = await ledger.claim(row["account"], requested(row), generated_seed=1, estimate=2.5)
        assert not claim.created
        assert claim.record.submission_id == row["handle"]


async def test_an_equal_request_buys_what_is_long_over(ledger: Ledger) -> None:
    """Failed, refused, not sent, or completed more than 15 minutes ago (ours)."""
    over = [row for row in from_here(contents.JOBS) if not is_joined(row)]

    assert {row["state"] for row in over} == STATES - LIVE | {"intent"}
    for row in over:
        claim = await ledger.claim(row["account"], requested(row), generated_seed=1, estimate=2.5)
        assert claim.created
        assert claim.record.state is State.INTENT


async def test_a_link_signed_anew_joins_the_job_that_stands(ledger: Ledger) -> None:
    """The keys of equality are computed as the old version did (ours)."""
    for row in from_here(jobs(FIRST_KEY, "accepted", "unknown")):
        wanted = requested(row)
        signed = wanted.model_copy(update={"video": f"{wanted.video}?signature=new"})

        claim = await ledger.claim(FIRST, signed, generated_seed=1, estimate=2.5)

        assert claim.record.submission_id == row["handle"]
        assert claim.query_differs


async def test_a_seed_that_was_generated_joins_when_it_is_given(ledger: Ledger) -> None:
    """The old version published the seed; to repeat the call with it asks for the same (ours)."""
    [row] = [row for row in jobs(SECOND_KEY, "accepted") if row["seed_planted"]]
    wanted = requested(row).model_copy(update={"seed": int(row["seed"])})

    claim = await ledger.claim(SECOND, wanted, generated_seed=1, estimate=2.5)

    assert claim.record.submission_id == row["handle"]


NEW_REQUEST = Replacement(
    video="https://media.example/new.mp4", character_image="https://media.example/new.png"
)


def spent() -> float:
    """Credits of the first account's requests that are not proven to have bought nothing."""
    bought = STATES - {"refused", "not_sent", "intent"}
    rows = from_here(jobs(FIRST_KEY, *bought))
    return float(sum(row["credit_cost"] or row["estimate"] for row in rows))


async def test_the_day_counts_what_was_spent_before(store: SQLiteStore) -> None:
    """An update is no way around the operator's limit (ours)."""
    tight = store.ledger(SpendingLimits(None, spent() + 2.4, None, None))
    enough = store.ledger(SpendingLimits(None, spent() + 2.5, None, None))

    with pytest.raises(LimitReached) as refusal:
        await tight.claim(FIRST, NEW_REQUEST, generated_seed=1, estimate=2.5)

    assert refusal.value.used == spent()
    assert (await enough.claim(FIRST, NEW_REQUEST, generated_seed=1, estimate=2.5)).created


async def test_jobs_in_flight_count_across_the_update(store: SQLiteStore) -> None:
    """Running, and of unknown outcome; not those that were submitted elsewhere (ours)."""
    running = from_here(jobs(FIRST_KEY, "accepted", "unknown", "sending"))
    ledger = store.ledger(SpendingLimits(None, None, len(running), None))

    with pytest.raises(LimitReached) as refusal:
        await ledger.claim(FIRST, NEW_REQUEST, generated_seed=1, estimate=2.5)

    assert refusal.value.used == len(running)


async def test_the_last_minutes_requests_count_across_the_update(store: SQLiteStore) -> None:
    """What the old version sent in the last minute uses up the minute's limit (ours)."""
    minute = store.now - timedelta(seconds=60)
    sent = [
        row
        for row in from_here(jobs(FIRST_KEY))
        if date(row["created_at"]) > minute and row["state"] != "intent"
    ]
    ledger = store.ledger(SpendingLimits(None, None, None, len(sent)))

    with pytest.raises(LimitReached) as refusal:
        await ledger.claim(FIRST, NEW_REQUEST, generated_seed=1, estimate=2.5)

    assert sent
    assert refusal.value.used == len(sent)


async def test_a_dead_processes_leases_are_free(ledger: Ledger) -> None:
    """They had seconds left when it died; polling and saving go on at once (ours)."""
    leases = contents.read("SELECT account FROM keys WHERE poller IS NOT NULL")

    assert {row["account"] for row in leases} == {FIRST, SECOND, f"{FIRST} films"}
    for account, role in (
        (FIRST, Role.POLLER),
        (FIRST, Role.SAVER),
        (SECOND, Role.POLLER),
    ):
        assert await ledger.coordination.lead(account, role, 20)


@pytest.mark.parametrize("key", [FIRST_KEY, SECOND_KEY])
async def test_the_request_budget_goes_on(store: SQLiteStore, ledger: Ledger, key: str) -> None:
    """PixelDojo counts the old version's requests, and asked it to be quiet (ours)."""
    account = ACCOUNTS[key]
    made = contents.read(f"SELECT * FROM requests WHERE account = '{account}' ORDER BY made_at")
    [known] = contents.read(f"SELECT * FROM keys WHERE account = '{account}'")
    seen: list[tuple[Limit, Sequence[float]]] = []

    def rule(limit: Limit, ages: Sequence[float]) -> float:
        seen.append((limit, ages))
        return 1.0

    await ledger.coordination.try_acquire(account, rule)

    [(limit, ages)] = seen
    every_age = [(store.now - date(row["made_at"])).total_seconds() for row in made]
    left = [age for age in every_age if age < WINDOW_SECONDS]
    assert left
    assert ages == pytest.approx(left)
    assert limit.per_minute == known["per_minute"]
    held_until = store.now if known["held_until"] is None else date(known["held_until"])
    assert limit.held == pytest.approx((held_until - store.now).total_seconds())


async def test_videos_that_were_not_saved_yet_are_saved(ledger: Ledger) -> None:
    """Only those: what is saved is not fetched again, what is gone is not asked for (ours)."""
    unsaved = [
        row["handle"]
        for row in from_here(jobs(FIRST_KEY, "completed"))
        if row["video_url"] and not row["saved_path"] and not row["not_saved"]
    ]

    assert unsaved
    assert [each.submission_id for each in await ledger.coordination.unsaved(FIRST)] == unsaved


# From here on, the schema that the new version leaves behind, and the old version as a process.


@pytest.fixture
async def migrated(store: SQLiteStore, tmp_path: Path) -> Path:
    """The file once a process of the new version has opened it and is gone."""
    ledger = store.ledger(NO_LIMITS)
    await ledger.recover()
    await store.end(ledger)
    return tmp_path / "ledger/ledger.db"


TABLES = ("jobs", "keys", "requests", "secret")


@pytest.mark.parametrize("table", TABLES)
async def test_the_old_versions_columns_are_there_and_others_need_no_value(
    migrated: Path, table: str
) -> None:
    """An old server that has the file open still reads and writes them by name (ours)."""
    before, after = columns(FILE, table), columns(migrated, table)
    added = [after[name] for name in after.keys() - before.keys()]

    assert {name: _kind(after.get(name)) for name in before} == {
        name: _kind(column) for name, column in before.items()
    }
    assert not [column for column in added if column["notnull"] and column["dflt_value"] is None]


def _kind(column: Row | None) -> object:
    return column and (column["type"], column["notnull"], column["dflt_value"], column["pk"])


async def test_no_column_is_added_where_the_old_version_inserts_by_position(migrated: Path) -> None:
    """Its requests would be missing from the budget that all processes share (ours)."""
    assert list(columns(migrated, "requests")) == ["account", "made_at"]


async def test_nothing_new_refuses_what_the_old_version_writes(migrated: Path) -> None:
    """A unique index or a trigger may lose the answer to a paid request (ours)."""
    sql = (
        "SELECT tbl_name, sql FROM sqlite_master WHERE tbl_name IN ('jobs', 'keys', 'requests') "
        "AND (type = 'trigger' OR type = 'index' AND sql LIKE 'CREATE UNIQUE%') ORDER BY name"
    )

    assert _plain(contents.read(sql, migrated)) == _plain(contents.read(sql))


def _plain(rows: Sequence[Row]) -> list[list[str]]:
    return [" ".join(row["sql"].split()).split() for row in rows]


def test_the_archive_is_the_old_version() -> None:
    """Two processes of the new version would prove nothing (ours)."""
    code = (
        "import json, wan_mcp, wan_mcp.jobs.migrations as old, wan_mcp.jobs.row as row;"
        "print(json.dumps([wan_mcp.__file__, len(old.MIGRATIONS), [*row.Row.model_fields]]))"
    )
    command = [*OLD_PYTHON, "-c", code]
    run = subprocess.run(
        command, env={"PYTHONPATH": old_path()}, capture_output=True, text=True, check=True
    )
    file, versions, names = json.loads(run.stdout)

    assert Path(file) == contents.ARCHIVE / "wan_mcp/__init__.py"
    assert versions == 2
    assert {*names, "number"} == set(columns(FILE, "jobs"))


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A PixelDojo whose jobs never end by themselves during a test."""
    terms = Terms(credits=100_000, pending_seconds=100_000, requests_per_minute=100_000)
    async with Sandbox(terms, idle_seconds=SLOWEST_SECONDS) as sandbox:
        sandbox.open_account(sandbox.key)
        with anyio.fail_after(SLOWEST_SECONDS):
            yield sandbox


@pytest.fixture
def gate() -> anyio.Event:
    """Where PixelDojo's answer waits."""
    return anyio.Event()


def hold_answer(sandbox: Sandbox, gate: anyio.Event) -> None:
    """PixelDojo charges for the next paid request, and keeps its answer back."""
    sandbox.fault("POST", RUN, faults.held(faults.honest(), after=gate))


async def a_charge(sandbox: Sandbox, number: int = 1) -> str:
    """The id of that job, once it is paid."""
    await sandbox.until(lambda: len(sandbox.charges) >= number)
    return sandbox.charges[number - 1].job_id


async def test_an_old_server_records_the_answer_that_came_after_the_migration(
    sandbox: Sandbox, gate: anyio.Event, tmp_path: Path
) -> None:
    """A user updates one of two hosts while the other one has a paid request on the wire (ours)."""
    hold_answer(sandbox, gate)
    async with server(sandbox, tmp_path, old=True) as old, anyio.create_task_group() as calls:
        calls.start_soon(old.submit, 1)
        held = await a_charge(sandbox)
        async with server(sandbox, tmp_path) as new:
            await works_beside(new, old, gate, held)


async def test_an_old_server_works_beside_a_new_one_with_a_request_on_the_wire(
    sandbox: Sandbox, gate: anyio.Event, tmp_path: Path
) -> None:
    """It had opened the ledger before the new version migrated it (ours)."""
    async with server(sandbox, tmp_path, old=True) as old:
        assert await old.jobs() == []
        hold_answer(sandbox, gate)
        async with server(sandbox, tmp_path) as new, anyio.create_task_group() as calls:
            calls.start_soon(new.submit, 1)
            held = await a_charge(sandbox)
            await works_beside(old, new, gate, held)


async def works_beside(worker: Host, holder: Host, gate: anyio.Event, held: str) -> None:
    """One server lists, submits and joins; then the other one gets its answer, and records it."""
    sandbox = worker.sandbox
    [line] = await worker.jobs()
    own = await worker.settled(2)
    joined = await worker.submit(1)
    assert line["status"] == joined["status"] == "submitting"
    assert (joined["job_id"], joined["charged"]) == (line["job_id"], "no")
    assert own["job_id"] == sandbox.charges[1].job_id

    gate.set()
    answer = await holder.settled(1)
    recorded = await worker.status(line["job_id"])
    assert answer["job_id"] == recorded["job_id"] == held
    for host in (worker, holder):
        assert [each["job_id"] for each in await host.jobs()] == [own["job_id"], held]
    assert len(sandbox.charges) == 2


async def test_equal_requests_to_both_versions_are_paid_once(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Whichever server comes first: the other one finds its record (ours)."""
    seeds = range(1, 6)
    ids: dict[int, set[str]] = {seed: set() for seed in seeds}
    async with AsyncExitStack() as running:
        old = await running.enter_async_context(server(sandbox, tmp_path, old=True))
        await old.jobs()  # opens the ledger, before the new version changes its format
        new = await running.enter_async_context(server(sandbox, tmp_path))

        async def submit(seed: int) -> None:
            async def ask(host: Host) -> None:
                ids[seed].add((await host.settled(seed))["job_id"])

            async with anyio.create_task_group() as both:
                both.start_soon(ask, old)
                both.start_soon(ask, new)

        async with anyio.create_task_group() as calls:
            for seed in seeds:
                calls.start_soon(submit, seed)

    assert [len(ids[seed]) for seed in seeds] == [1] * len(seeds)
    assert len(sandbox.charges) == len(seeds)


async def test_an_old_server_that_starts_later_does_not_pay_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """It joins the job of the new version, or refuses to use the newer file (ours)."""
    async with server(sandbox, tmp_path) as new:
        first = await new.settled(1)
        async with server(sandbox, tmp_path, old=True) as old:
            second = await old.settled(1)

    assert len(sandbox.charges) == 1
    assert second.get("job_id") == first["job_id"] or second["code"] == "ledger_unavailable"


async def test_an_old_server_goes_on_with_a_job_that_was_forgotten(tmp_path: Path) -> None:
    """It asks PixelDojo for nothing, brings nothing back, and pays nothing again (ours)."""
    terms = Terms(credits=100, pending_seconds=0, processing_seconds=0, requests_per_minute=100_000)
    async with Sandbox(terms, idle_seconds=SLOWEST_SECONDS) as sandbox:
        async with server(sandbox, tmp_path, old=True) as old:
            bought = await old.settled(1)
            done = await old.status(bought["job_id"])

            def work(history: History) -> Record:
                (found,) = history.named(bought["job_id"])
                left = history.forget(found, found.saved_path)
                assert history.erase(left)
                return left

            now = partial(datetime.now, UTC)
            left = await anyio.to_thread.run_sync(change, tmp_path, now, None, work)
            status = await old.status(bought["job_id"])
            [line] = await old.jobs()
            again = await old.submit(1)
            other = await old.settled(2)
        found = read(tmp_path, now, lambda history: history.named(bought["job_id"]))

    assert done["status"] == status["status"] == line["status"] == "completed"
    assert done["video_url"]
    assert not status.get("video_url")
    assert (again["job_id"], again["charged"]) == (bought["job_id"], "no")
    assert other["charged"] == "yes"
    assert len(sandbox.charges) == 2
    assert found == [left]


async def test_an_old_server_finds_the_job_of_a_request_with_a_file_of_this_computer(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """It reads what the new version wrote of the file, and of the link that was sent (ours)."""
    link = "https://s3.example/inputs/x.mp4"
    image = sandbox.image_url
    given = Replacement(
        video="file:///home/ana/dance.mov#t=2", video_sha256="ab" * 32, character_image=image
    )
    async with server(sandbox, tmp_path, old=True) as old:
        assert await old.jobs() == []
        ledger = SQLiteLedger(tmp_path / "ledger", limits=NO_LIMITS)
        account = await ledger.account(sandbox.api_base, sandbox.key)
        claim = await ledger.claim(account, given, generated_seed=7, estimate=2.0)
        await ledger.commit_sending(claim.record, SentInputs({"video": link}, "It was cut."))
        await ledger.conclude(claim.record, State.UNKNOWN, "The answer was lost.")
        vendor = PixelDojo(sandbox.api_base, sandbox.key)
        job = await vendor.submit(Replacement(video=link, character_image=image, seed=7))
        await vendor.aclose()
        [unknown] = await old.jobs()
        found = await old.status(claim.record.submission_id)
        record = await ledger.find(account, job.job_id)
        await ledger.aclose()

    assert (unknown["status"], unknown["job_id"]) == ("unknown", claim.record.submission_id)
    assert found["job_id"] == job.job_id
    assert record is not None
    assert record.arguments["sent_video"] == link


ADDITIONS = """
ALTER TABLE jobs ADD COLUMN later_text TEXT;
ALTER TABLE jobs ADD COLUMN later_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN later REAL;
CREATE TABLE later (account TEXT PRIMARY KEY);
INSERT INTO later VALUES ('an account');
CREATE INDEX later_index ON jobs (account, later_text);
PRAGMA user_version = 99;
"""


async def test_an_old_server_survives_what_is_only_added(
    sandbox: Sandbox, gate: anyio.Event, tmp_path: Path
) -> None:
    """It has a paid request on the wire while the schema changes, and goes on (ours)."""
    hold_answer(sandbox, gate)
    async with server(sandbox, tmp_path, old=True) as old, anyio.create_task_group() as calls:
        calls.start_soon(old.submit, 1)
        held = await a_charge(sandbox)
        [line] = await old.jobs()
        with closing(sqlite3.connect(tmp_path / "ledger/ledger.db", timeout=60)) as newer:
            newer.executescript(ADDITIONS)
        own = await old.settled(2)
        gate.set()
        answer = await old.settled(1)
        recorded = await old.status(line["job_id"])
        listed = await old.jobs()

    assert answer["job_id"] == recorded["job_id"] == held
    assert [each["job_id"] for each in listed] == [own["job_id"], held]
    assert len(sandbox.charges) == 2


async def test_an_old_server_pays_for_what_is_queued_and_the_queue_does_not_pay_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """It knows no queue: for it the request was never sent, and cost nothing (ours)."""
    limits = SpendingLimits(None, None, 1, None, queued=3)
    async with server(sandbox, tmp_path, old=True) as old, AsyncExitStack() as closing:
        await old.jobs()  # opens the ledger, before the new version changes its format
        ledger = SQLiteLedger(tmp_path / "ledger", limits=limits)
        closing.push_async_callback(ledger.aclose)
        account = await ledger.account(sandbox.api_base, sandbox.key)
        wanted = Replacement(video=sandbox.source_video_url, character_image=sandbox.image_url)
        claims = [
            await ledger.claim(
                account,
                wanted.model_copy(update={"seed": seed}),
                generated_seed=7,
                estimate=10.0,
            )
            for seed in (1, 2, 3)
        ]
        first, second, third = (claim.record for claim in claims)
        known = await old.status(second.submission_id)
        paid = await old.submit(2)
        await ledger.conclude(first, State.NOT_SENT, "it is not wanted")
        dispatched = await ledger.queue.dispatch(second, 10.0)
        found = await ledger.find(account, second.submission_id)
        waiting = await ledger.queue.waiting(account)

    assert known["status"] == "not_sent"
    assert paid["charged"] == "yes"
    assert dispatched is None
    assert found is not None
    assert found.state is State.NOT_SENT
    assert paid["job_id"] in (found.error or "")
    assert [each.submission_id for each in waiting] == [third.submission_id]
    assert len(sandbox.charges) == 1
