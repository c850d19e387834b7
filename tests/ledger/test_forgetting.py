"""`wan-mcp forget` in the ledger: nothing is left to read, and nothing is paid for twice."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.ledger.stores import (
    ME,
    NO_LIMITS,
    START,
    SQLiteStore,
    claimed,
    confirmed,
    record_in,
    reported,
    sent,
)
from wan_mcp.ledger.contract import Ledger, LedgerUnavailable
from wan_mcp.ledger.history.forgetting import is_complete
from wan_mcp.ledger.history.history import Choice, History, NotForgotten
from wan_mcp.ledger.record import ENDED, FREE_OF_CHARGE, LIVE, Record, State
from wan_mcp.ledger.rules import REPEAT_WINDOW
from wan_mcp.ledger.spending_limits import LimitReached
from wan_mcp.ledger.sqlite import connection, erasure, history, kept_jobs
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.sqlite.history import change, read
from wan_mcp.ledger.sqlite.schema import MIGRATIONS
from wan_mcp.ledger.status import view_of_record
from wan_mcp.models import Difference, JobStatus, Replacement

pytestmark = pytest.mark.anyio

CANARY = "canary-5f2c9e1a77"
SECRET = Replacement(
    video=f"https://media.example/{CANARY}/clip.mp4?sig={CANARY}",
    character_image=f"https://media.example/{CANARY}.png",
    resolution="720",
)
OVER = sorted({*ENDED, *FREE_OF_CHARGE})


def careless(path: Path, **options: object) -> sqlite3.Connection:
    """A connection as most builds of SQLite make it: what is deleted stays in the file."""
    made = connection.connect(path)
    made.execute("PRAGMA secure_delete = OFF")
    return made


class CarelessStore(SQLiteStore):
    """A store whose servers leave all that SQLite leaves."""

    def __init__(self, data: Path) -> None:
        super().__init__(data / "ledger")
        self.data = data

    def ledger(self, *args: object, **kwargs: object) -> Ledger:
        ledger = SQLiteLedger(
            self.data / "ledger", limits=NO_LIMITS, now=self, poll_seconds=60, connect=careless
        )
        self.opened.append(ledger)
        return ledger

    def forgotten(self, submission_id: str, removed: str | None = None) -> Record:
        """Forget a request as the command does."""

        def work(jobs: History) -> Record:
            (found,) = jobs.named(submission_id)
            left = jobs.forget(found, removed)
            assert jobs.erase(left)
            return left

        with patch.object(history, "connect", careless):
            return change(self.data, self, None, work)

    def bytes(self) -> bytes:
        """Everything in the data folder: contents and names of all files."""
        files = [path for path in self.data.rglob("*") if path.is_file()]
        names = "\n".join(map(str, files)).encode()
        return names + b"".join(path.read_bytes() for path in files)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CarelessStore]:
    store = CarelessStore(tmp_path)
    yield store
    for ledger in store.opened:
        await ledger.aclose()


@pytest.fixture
def ledger(store: CarelessStore) -> Ledger:
    return store.ledger()


async def completed(ledger: Ledger, request: Replacement = SECRET, **more: object) -> Record:
    """A completed job with a saved and inspected video, and the canary wherever it can be."""
    record = await sent(ledger, await claimed(ledger, request))
    job = reported(job_id=f"job-{record.submission_id}", note=f"Look at {CANARY}.")
    record = await ledger.accept(record, job)
    url = f"https://temp.example/{CANARY}.mp4?signature={CANARY}"
    done = {"video_url": url, "vendor_status": f"done {CANARY}", "credit_cost": 7.0, **more}
    record = await confirmed(ledger, job.model_copy(update={"status": JobStatus.COMPLETED, **done}))
    await ledger.coordination.not_saved_yet(record.submission_id, f"no {CANARY}")
    path = f"/videos/{CANARY}.mp4"
    await ledger.coordination.saved(record.submission_id, path, "ab" * 32, 7)
    difference = Difference(what="sound", expected="yes", seen=CANARY)
    await ledger.coordination.inspected(record.submission_id, [difference])
    return await again(ledger, record)


async def again(ledger: Ledger, record: Record) -> Record:
    """The record as it is now."""
    found = await ledger.find(record.account, record.submission_id)
    assert found
    return found


async def ended_in(ledger: Ledger, state: State, request: Replacement = SECRET) -> Record:
    if state is State.COMPLETED:
        return await completed(ledger, request)
    return await record_in(ledger, state, request)


@pytest.mark.parametrize(
    ("state", "is_open", "others"),
    [
        (State.COMPLETED, False, 8),
        (State.COMPLETED, True, 0),
        *((state, True, 8) for state in OVER),
    ],
)
async def test_no_byte_of_links_inputs_or_paths_is_left_in_the_data_folder(
    store: CarelessStore, state: State, is_open: bool, others: int
) -> None:
    """Neither in a row, nor in free room of the file, nor in its log (ours)."""
    ledger = store.ledger()
    record = await ended_in(ledger, state)
    for number in range(others):  # pages are divided, and the log has more than one version of each
        await ended_in(ledger, State.FAILED, other(number))
    assert store.bytes().count(CANARY.encode()) > 1
    if not is_open:
        await store.end(ledger)

    left = store.forgotten(record.submission_id, record.saved_path)

    assert is_complete(left)
    assert left.state is state
    assert store.bytes().count(CANARY.encode()) == 0


def other(number: int) -> Replacement:
    """Another request with long links: a page has room for few such records."""
    return Replacement(
        video=f"https://media.example/{'x' * 300 * (number % 4)}.mp4",
        character_image=f"https://media.example/{'y' * 900}.png",
        seed=number,
    )


async def test_a_link_that_filled_pages_of_its_own_leaves_none_of_them(
    store: CarelessStore, ledger: Ledger
) -> None:
    """A long value lies in further pages, which are free once it is gone (ours)."""
    long = SECRET.model_copy(update={"video": f"https://media.example/{CANARY * 40_000}"})
    record = await completed(ledger, long)
    assert store.bytes().count(CANARY.encode()) > 40_000

    store.forgotten(record.submission_id, record.saved_path)

    assert CANARY.encode() not in store.bytes()


async def test_a_file_that_was_kept_beside_the_ledger_is_removed(
    store: CarelessStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose ledger was taken away writes the order there, or begins to (ours)."""
    record = await completed(ledger)
    folder = store.data / "ledger-paid-jobs"
    folder.mkdir()
    (folder / f"{record.submission_id}.4711").write_text(record.model_dump_json())
    (folder / "sub_other.json").write_text("not of this job")

    store.forgotten(record.submission_id, record.saved_path)

    assert CANARY.encode() not in store.bytes()
    assert [path.name for path in folder.iterdir()] == ["sub_other.json"]
    assert kept_jobs.KeptJobs(store.data / "ledger").folder == folder


async def test_what_the_money_rules_need_is_left(store: CarelessStore, ledger: Ledger) -> None:
    """Ids, times, cost and state (ours)."""
    record = await completed(ledger)

    left = store.forgotten(record.submission_id, record.saved_path)

    kept = ("submission_id", "job_id", "account", "state", "credit_cost", "estimate", "seed")
    keys = ("dedupe_key", "exact_key", "seed_generated", "created_at", "accepted_at", "ended_at")
    assert [getattr(left, name) for name in kept + keys] == [
        getattr(record, name) for name in kept + keys
    ]
    assert left.arguments == {"seconds": 5, "resolution": "720"}
    assert await again(ledger, record) == left
    view = view_of_record(left)
    assert (view.settled, view.lacks_video_url, view.job and view.job.video_url) == (
        True,
        False,
        None,
    )


@pytest.mark.parametrize("state", sorted(LIVE))
async def test_a_request_that_has_not_ended_is_not_forgotten(
    store: CarelessStore, ledger: Ledger, state: State
) -> None:
    """It stands for an equal request, its video may come, or its job has to be found (ours)."""
    record = await record_in(ledger, state, SECRET)

    with pytest.raises(NotForgotten) as refusal:
        store.forgotten(record.submission_id)

    assert refusal.value.why
    assert refusal.value.saved_path is None
    assert await again(ledger, record) == record


async def test_a_video_that_was_saved_meanwhile_is_removed_first(
    store: CarelessStore, ledger: Ledger
) -> None:
    """Otherwise nothing would say any more where it is (ours)."""
    record = await completed(ledger)

    with pytest.raises(NotForgotten) as refusal:
        store.forgotten(record.submission_id, removed=None)

    assert refusal.value.saved_path == record.saved_path
    assert await again(ledger, record) == record


async def test_forgetting_twice_changes_nothing(store: CarelessStore, ledger: Ledger) -> None:
    record = await completed(ledger)
    first = store.forgotten(record.submission_id, record.saved_path)
    store.later(60)

    assert store.forgotten(record.submission_id) == first


SPELLINGS: dict[str, Callable[[Replacement], Replacement]] = {
    "the same call": lambda wanted: wanted,
    "another spelling": lambda wanted: wanted.model_copy(
        update={"video": "https://media.example/a/../%63lip.mp4"}
    ),
    "a default spelt out": lambda wanted: wanted.model_copy(update={"go_fast": False}),
    "the generated seed": lambda wanted: wanted.model_copy(update={"seed": 7}),
}
PLAIN = Replacement(
    video="https://media.example/clip.mp4", character_image="https://media.example/face.png"
)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("state", [State.COMPLETED, State.LOST])
async def test_an_equal_call_gets_the_forgotten_job_and_pays_nothing(
    store: CarelessStore, ledger: Ledger, spelling: str, state: State
) -> None:
    """As before, until 15 minutes after the end of the job (promises 8)."""
    record = await ended_in(ledger, state, PLAIN)
    store.forgotten(record.submission_id, record.saved_path)
    store.later(REPEAT_WINDOW.total_seconds() - 1)

    claim = await ledger.claim(ME, SPELLINGS[spelling](PLAIN), generated_seed=1, estimate=2.0)

    assert not claim.created
    assert claim.record.submission_id == record.submission_id


async def test_another_request_does_not_get_the_forgotten_job(
    store: CarelessStore, ledger: Ledger
) -> None:
    """Nothing is equal to it only because its inputs are gone (ours)."""
    record = await completed(ledger, PLAIN)
    store.forgotten(record.submission_id, record.saved_path)
    different = PLAIN.model_copy(update={"video": "https://media.example/other.mp4"})

    assert (await ledger.claim(ME, different, generated_seed=1, estimate=2.0)).created


async def test_a_forgotten_job_still_counts_as_spent(store: CarelessStore) -> None:
    """Otherwise forgetting would be a way around the limit of the day (promises 10)."""
    ledger = store.ledger()
    record = await completed(ledger)
    store.forgotten(record.submission_id, record.saved_path)
    tight = SQLiteLedger(
        store.data / "ledger", limits=replace(NO_LIMITS, credits_per_day=8.9), now=store
    )

    with pytest.raises(LimitReached) as refusal:
        await tight.claim(ME, PLAIN, generated_seed=1, estimate=2.0)
    await tight.aclose()

    assert refusal.value.used == 7.0


async def test_a_forgotten_job_still_shows_what_such_a_job_is_charged(
    store: CarelessStore, ledger: Ledger
) -> None:
    """The next one counts as what the last one cost, if that was more; a smaller one does not
    (promises 10)."""
    record = await completed(ledger)
    store.forgotten(record.submission_id, record.saved_path)
    store.later(REPEAT_WINDOW.total_seconds() + 1)

    large = await ledger.claim(ME, SECRET, generated_seed=1, estimate=2.0)
    small = await ledger.claim(ME, PLAIN, generated_seed=1, estimate=2.0)

    assert (large.record.estimate, small.record.estimate) == (7.0, 2.0)


async def test_no_later_reading_brings_anything_back(store: CarelessStore, ledger: Ledger) -> None:
    """Of a server that asked PixelDojo just before (ours)."""
    record = await completed(ledger)
    left = store.forgotten(record.submission_id, record.saved_path)
    assert record.job
    id = record.submission_id

    recorded = await ledger.record_update(ME, record.job)
    await ledger.coordination.not_saved(id, f"no {CANARY}")
    await ledger.coordination.not_saved_yet(id, f"no {CANARY}")
    await ledger.coordination.inspected(id, [Difference(what="a", expected="b", seen=CANARY)])

    assert recorded.ignored
    assert not await ledger.coordination.saved(id, f"/{CANARY}.mp4", "ab" * 32, 7)
    assert await again(ledger, record) == left


async def test_nobody_saves_or_inspects_the_video_of_a_forgotten_job(
    store: CarelessStore, ledger: Ledger
) -> None:
    """It is neither unsaved nor uninspected, and it is not live (ours)."""
    record = await record_in(ledger, State.COMPLETED, SECRET, "https://temp.example/video.mp4")
    assert await ledger.coordination.unsaved(ME) == [record]

    store.forgotten(record.submission_id)
    await ledger.coordination.expect([record.submission_id], 60)

    assert await ledger.coordination.unsaved(ME) == []
    assert await ledger.coordination.uninspected(ME) == []
    assert await ledger.coordination.live(ME) == []


async def test_a_running_server_goes_on_to_pay_after_a_job_was_forgotten(
    store: CarelessStore, ledger: Ledger
) -> None:
    """It would take a file that became shorter for one that was cut (promises 12)."""
    records = [await completed(ledger, other(number)) for number in range(5)]
    for record in records:
        store.forgotten(record.submission_id, record.saved_path)

    claim = await ledger.claim(ME, PLAIN, generated_seed=1, estimate=2.0)
    await ledger.commit_sending(claim.record)

    assert ledger.notice is None


async def test_every_other_record_is_what_it_was(store: CarelessStore, ledger: Ledger) -> None:
    """The table is written anew, with everything in it (ours)."""
    before = [
        await ended_in(ledger, state, other(n))
        for n, state in enumerate(sorted(State))
        if state not in LIVE
    ]
    before += [await record_in(ledger, state, other(50)) for state in (State.UNKNOWN,)]
    record = await completed(ledger)

    store.forgotten(record.submission_id, record.saved_path)

    assert [await again(ledger, each) for each in before] == before


async def test_a_log_that_somebody_reads_is_said_to_be_left(
    store: CarelessStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another try may succeed, and until then the user knows (ours)."""
    record = await completed(ledger)
    with closing(connection.connect(store.data / "ledger/ledger.db", writable=False)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM jobs").fetchone()

        def work(jobs: History) -> bool:
            (found,) = jobs.named(record.submission_id)
            return jobs.erase(jobs.forget(found, record.saved_path))

        monkeypatch.setattr(history, "connect", partial(connection.connect, busy_seconds=0.0))
        monkeypatch.setattr(erasure, "sleep", lambda seconds: None)
        assert not change(store.data, store, None, work)
        reader.execute("COMMIT")

    store.forgotten(record.submission_id)

    assert CANARY.encode() not in store.bytes()


async def test_a_page_that_another_table_took_over_from_the_jobs_leaves_nothing(
    store: CarelessStore, ledger: Ledger
) -> None:
    """A table that takes over a free page overwrites only as much of it as it needs (observed)."""
    record = await claimed(ledger, other(0))
    await ledger.aclose()
    file = store.data / "ledger/ledger.db"
    with closing(careless(file)) as server:
        for text in (CANARY * 500, ""):  # the first one has two pages of its own
            server.execute("UPDATE jobs SET findings = ?", (text,))
        while server.execute("PRAGMA freelist_count").fetchone()[0]:
            server.execute("INSERT INTO requests VALUES (?, ?)", (ME, 1))
        server.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = server.execute("SELECT * FROM requests").fetchall()
        assert CANARY.encode() in store.bytes()

        assert erasure.erase_remains(server, file)

        assert server.execute("SELECT * FROM requests").fetchall() == before
    assert CANARY.encode() not in store.bytes()
    assert await again(store.ledger(), record)


async def test_other_servers_write_in_turn_while_the_log_is_overwritten(
    store: CarelessStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paid answer does not wait for the whole of a long log, and undoes nothing (ours)."""
    record = await completed(ledger)
    turns = 0
    with closing(connection.connect(store.data / "ledger/ledger.db", busy_seconds=0.0)) as server:

        def turn(seconds: float) -> None:
            nonlocal turns
            turns += 1
            # What a server does by itself when the log is long: then the next write begins it anew.
            server.execute("PRAGMA wal_checkpoint(PASSIVE)")
            server.execute("INSERT INTO requests VALUES (?, ?)", (ME, turns))

        monkeypatch.setattr(erasure, "sleep", turn)
        monkeypatch.setattr(erasure, "TRIES", 1)
        monkeypatch.setattr(erasure, "CHUNK_PAGES", 8)
        store.forgotten(record.submission_id, record.saved_path)

    assert turns > 2
    assert CANARY.encode() not in store.bytes()


async def test_other_servers_write_while_somebody_reads_the_old_log(
    store: CarelessStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log waits for the reader, and no paid answer waits for the log (ours)."""
    await completed(ledger)
    file, over = store.data / "ledger/ledger.db", threading.Event()
    failed: list[sqlite3.OperationalError] = []

    def serve() -> None:
        with closing(connection.connect(file, busy_seconds=10.0)) as server:
            try:
                while not over.wait(0.01):
                    server.execute("INSERT INTO requests VALUES (?, ?)", (ME, 1))
            except sqlite3.OperationalError as exc:
                failed.append(exc)

    with (
        closing(connection.connect(file, writable=False)) as reader,
        closing(connection.connect(file, busy_seconds=30.0)) as eraser,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM jobs").fetchone()
        server = threading.Thread(target=serve)
        server.start()
        monkeypatch.setattr(erasure, "TRY_AGAIN_SECONDS", 0.0)
        assert not erasure.erase_remains(eraser, file)
        over.set()
        server.join()

    assert not failed


@pytest.mark.parametrize("version", [2, 7], ids=["version 0.1.0", "the version before"])
async def test_a_ledger_of_an_older_version_is_read_and_left_as_it_is(
    tmp_path: Path, version: int
) -> None:
    """To look at one's jobs changes nothing, even directly after an update (ours)."""
    file = tmp_path / "ledger/ledger.db"
    file.parent.mkdir()
    file.touch()
    with closing(connection.connect(file)) as old:
        connection.migrate(old, MIGRATIONS[:version])
        old.execute(
            "INSERT INTO jobs (handle, account, state, arguments, created_at, owner) "
            "VALUES ('sub_1', 'me', 'failed', '{}', 1.0, 'x')"
        )
    before = file.read_bytes()

    found = read(tmp_path, lambda: START, lambda history: history.newest(Choice()))

    assert [record.submission_id for record in found] == ["sub_1"]
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["ledger.db"]


async def test_a_ledger_of_a_newer_version_is_read_and_not_changed(
    store: CarelessStore, ledger: Ledger
) -> None:
    """A newer version only adds; what it would have to forget is not known here (ours)."""
    record = await completed(ledger)
    await store.end(ledger)
    with closing(connection.connect(store.data / "ledger/ledger.db")) as newer:
        newer.execute("ALTER TABLE jobs ADD COLUMN later TEXT")
        newer.execute("PRAGMA user_version = 99")

    assert read(store.data, store, lambda history: history.named(record.submission_id)) == [record]
    with pytest.raises(LedgerUnavailable, match="newer version"):
        store.forgotten(record.submission_id, record.saved_path)


async def test_jobs_are_found_by_either_id_or_its_beginning(
    store: CarelessStore, ledger: Ledger
) -> None:
    first, second = [await completed(ledger, other(number)) for number in range(2)]
    longer = await ended_in(ledger, State.FAILED, other(3))

    def named(id: str) -> set[str]:
        found = read(store.data, store, lambda history: history.named(id))
        return {record.submission_id for record in found}

    assert named(first.submission_id) == named(f"job-{first.submission_id}")
    assert named(first.submission_id[:-3]) == {first.submission_id}
    assert named("job-sub_") == {each.submission_id for each in (first, second, longer)}
    assert named("") == named("job-sub_x%") == named("none") == set()


async def test_choice_by_state_and_time_and_prices_as_the_limits_count_them(
    store: CarelessStore, ledger: Ledger
) -> None:
    await ended_in(ledger, State.NOT_SENT, other(1))
    await record_in(ledger, State.UNKNOWN, other(2))
    store.later(3600)
    paid = await completed(ledger)
    await ledger.record_update(ME, reported(JobStatus.COMPLETED, job_id="elsewhere"))
    recent = Choice(since=START + timedelta(seconds=1))
    only = Choice(states=[State.COMPLETED], since=START)

    def work(history: History) -> list[object]:
        return [
            [record.job_id for record in history.newest(recent)],
            len(history.newest(Choice(), limit=2)),
            history.sizes(only),
            [(price.charged, price.expected) for price in history.prices(Choice())],
        ]

    assert read(store.data, store, work) == [
        ["elsewhere", paid.job_id],
        2,
        {ME: 2},
        [(None, 2.0), (7.0, 2.0)],
    ]
