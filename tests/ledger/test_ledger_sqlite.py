"""What only the SQLite engine can get wrong: processes, files, disks and versions."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from tests.ledger.stores import HANG_SECONDS, ME, NO_LIMITS, START, sent
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.record import ListReading, Record, State
from wan_mcp.ledger.sqlite import connection as database
from wan_mcp.ledger.sqlite import folder as ledger_folder
from wan_mcp.ledger.sqlite.engine import FILE, OWNERS, SQLiteEngine, SQLiteLedger
from wan_mcp.ledger.sqlite.liveness import ProcessLock
from wan_mcp.ledger.sqlite.schema import MIGRATIONS
from wan_mcp.ledger.threaded.store import Opened, Store
from wan_mcp.models import Difference, Job, JobStatus, Replacement

pytestmark = pytest.mark.anyio

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="file modes, fork and uids are POSIX's")

Connect = Callable[[Path], sqlite3.Connection]
Open = Callable[..., SQLiteLedger]
Child = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "ledger"


@pytest.fixture
async def opened(folder: Path) -> AsyncIterator[Open]:
    """Opens ledgers on the folder, and closes them after the test."""
    ledgers: list[SQLiteLedger] = []

    def open_(connect: Connect = database.connect) -> SQLiteLedger:
        ledgers.append(SQLiteLedger(folder, limits=NO_LIMITS, connect=connect))
        return ledgers[-1]

    yield open_
    for ledger in ledgers:
        await ledger.aclose()


@pytest.fixture
def child(folder: Path) -> Iterator[Child]:
    """Runs a script in a process of its own. The script defines the coroutine `main(ledger)`."""
    running: list[subprocess.Popen[str]] = []

    def start(script: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", _HEAD + textwrap.dedent(script) + _TAIL, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


_HEAD = """
import os, sys
from pathlib import Path
import anyio
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.schema import MIGRATIONS
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.models import Job, Replacement

def wanted(n):
    return Replacement(video=f"https://m.example/{n}.mp4", character_image="https://m.example/f.png")

def say(word):
    print(word, flush=True)

def pause():
    say("ready")
    sys.stdin.readline()
"""
_TAIL = """
no_limits = SpendingLimits(None, None, None, None)
ledger = SQLiteLedger(Path(sys.argv[1]), limits=no_limits, poll_seconds=0.001)
anyio.run(main, ledger)
os._exit(0)  # without cleaning up: what was printed is committed
"""


def line_from(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def resume(*processes: "subprocess.Popen[str]") -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def wanted(number: int = 0, query: str = "") -> Replacement:
    return Replacement(
        video=f"https://m.example/{number}.mp4{query}", character_image="https://m.example/f.png"
    )


async def claimed(ledger: SQLiteLedger, number: int = 0) -> Record:
    claim = await ledger.claim(ME, wanted(number), generated_seed=1, estimate=2)
    assert claim.created
    return claim.record


def modes(folder: Path) -> dict[str, int]:
    """The mode of a folder, named ".", and of everything in it."""
    found = {path.name: path for path in folder.rglob("*")} | {".": folder}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}


def content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def make_wide_open(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def put_a_file_in_place_of(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("not a folder")


def damage(path: Path, start: int) -> bytes:
    damaged = path.read_bytes()[:start] + b"\xaa" * 20_000
    path.write_bytes(damaged)
    return damaged


def raw(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / FILE, isolation_level=None)


# Processes


async def test_four_processes_claiming_forty_requests_have_forty_winners(
    opened: Open, child: Child
) -> None:
    """Each request has one winner, and the rest get its record, on a new file too (promises 9)."""
    script = """
        async def main(ledger):
            pause()
            for n in range(40):
                claim = await ledger.claim("my-account", wanted(n), generated_seed=1, estimate=2)
                say(f"{n} {claim.record.submission_id} {claim.created}")
            pause()  # the records of a winner that ended would be settled
    """
    children = [child(script) for _ in range(4)]
    assert [line_from(each) for each in children] == ["ready"] * 4
    resume(*children)
    lines = [line_from(each).split() for each in children for _ in range(40)]
    assert [line_from(each) for each in children] == ["ready"] * 4

    assert len(lines) == 160
    assert len({submission_id for _, submission_id, _ in lines}) == 40
    assert Counter(key for key, _, created in lines if created == "True") == {
        str(key): 1 for key in range(40)
    }
    assert len(await opened().recent(ME, limit=0)) == 40


async def test_records_of_a_killed_process_are_settled(opened: Open, child: Child) -> None:
    """Killed before the commit point: not_sent; after it: unknown; accepted stays (promises 9)."""
    process = child(
        """
        async def main(ledger):
            records = [
                (await ledger.claim("my-account", wanted(n), generated_seed=1, estimate=2)).record
                for n in range(3)
            ]
            await ledger.commit_sending(records[1])
            await ledger.commit_sending(records[2])
            await ledger.accept(records[2], Job(job_id="job-2", status="running"))
            pause()
        """
    )
    ledger = opened()
    await ledger.recover()
    assert line_from(process) == "ready"
    assert await ledger.recover() == []
    process.kill()
    process.wait()
    with anyio.fail_after(HANG_SECONDS):
        settled = await ledger.recover()

    assert {record.state for record in settled} == {State.NOT_SENT, State.UNKNOWN}
    states = [record.state for record in await ledger.recent(ME)]
    assert states == [State.ACCEPTED, State.UNKNOWN, State.NOT_SENT]


async def test_equal_claim_in_another_process_waits_for_the_winner(
    opened: Open, child: Child
) -> None:
    """It answers with the job of the process that claimed the request first (promises 8)."""
    ledger = opened()
    record = await claimed(ledger)
    process = child(
        """
        async def main(ledger):
            claim = await ledger.claim("my-account", wanted(0), generated_seed=1, estimate=2)
            say(claim.created)
            record = await ledger.settled(claim.record.submission_id, 60)
            say(f"{record.state} {record.job_id}")
        """
    )
    assert line_from(process) == "False"
    await ledger.commit_sending(record)
    await ledger.accept(record, Job(job_id="job-1", status=JobStatus.RUNNING))

    assert line_from(process) == "accepted job-1"


@POSIX
async def test_forked_child_neither_uses_nor_keeps_the_ledger(opened: Open, child: Child) -> None:
    """A child that lives longer must not make its dead parent look alive."""
    process = child(
        """
        async def in_child(ledger):
            try:
                await ledger.recent("my-account")
            except LedgerUnavailable as refused:
                say(refused.what)

        async def main(ledger):
            claim = await ledger.claim("my-account", wanted(0), generated_seed=1, estimate=2)
            record = claim.record
            await ledger.commit_sending(record)
            if os.fork() == 0:
                import asyncio
                asyncio.events._set_running_loop(None)
                asyncio.new_event_loop().run_until_complete(in_child(ledger))
                sys.stdin.readline()
                os._exit(0)
            await anyio.sleep_forever()
        """
    )
    ledger = opened()
    assert "before a fork" in line_from(process)
    assert await ledger.recover() == []
    process.kill()
    process.wait()

    assert [record.state for record in await ledger.recover()] == [State.UNKNOWN]
    resume(process)


async def test_lock_files_of_dead_processes_are_removed(opened: Open, folder: Path) -> None:
    """They would pile up. The file of a living process stays."""
    living = opened()
    await living.recover()
    (folder / OWNERS / "dead").touch()
    await opened().recover()

    left = names(folder / OWNERS)
    assert "dead" not in left
    assert len(left) == 2


async def test_process_is_dead_once_its_lock_is_released_and_not_before(tmp_path: Path) -> None:
    """A name that was never used is dead too: it has no file."""
    one, other = ProcessLock(tmp_path), ProcessLock(tmp_path)
    assert not one.dead(other.name)
    assert not one.dead(one.name)
    other.release()

    assert one.dead(other.name)
    assert one.dead("0" * 32)
    one.release()


# The file


@POSIX
async def test_only_the_user_may_read_the_ledger(opened: Open, folder: Path) -> None:
    """0600 in 0700, whatever the umask is and whoever created the folder."""
    make_wide_open(folder)
    umask = os.umask(0)
    try:
        await claimed(opened())
    finally:
        os.umask(umask)

    found = modes(folder)
    assert (found.pop("."), found.pop(OWNERS)) == (0o700, 0o700)
    assert len(found) == 4  # the file, -wal, -shm and the lock
    assert set(found.values()) == {0o600}


async def test_a_call_in_the_queue_behind_the_closing_opens_nothing(
    opened: Open, folder: Path
) -> None:
    """Or this process would hold a lock that nobody releases."""
    ledger = opened()
    await claimed(ledger)
    calls = ledger.aclose(), ledger.recent(ME)
    _, refusal = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(refusal, LedgerUnavailable)
    assert names(folder / OWNERS) == set()


async def test_a_defect_that_nobody_waits_for_is_logged(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its caller was cancelled, but the defect is there all the same."""

    def broken(opened: Opened) -> None:
        raise ZeroDivisionError

    store = Store(SQLiteEngine(folder, lambda: START, database.connect))
    call = asyncio.ensure_future(store.read(broken))
    await anyio.lowlevel.checkpoint()
    call.cancel()
    await store.aclose()

    assert call.cancelled()
    assert "ZeroDivisionError" in caplog.text


async def test_work_that_no_thread_could_do_is_never_done_later(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late claim would stay an intent that nobody pays, and every equal request would join it."""
    ledger = opened()
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", _refused)
        with pytest.raises(LedgerUnavailable):
            await claimed(ledger)

    assert await ledger.recent(ME) == []


def _refused(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_nothing_is_created_before_the_first_use(opened: Open, folder: Path) -> None:
    """The ledger opens after `initialize`, not with the program."""
    opened()

    assert names(folder) == set()


async def test_commits_survive_a_power_failure(tmp_path: Path) -> None:
    """WAL with a full sync at each commit, on macOS through the cache of the drive (promises 2)."""
    connection = database.connect(ledger_folder.private_file(tmp_path / "l", FILE))
    values = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync")
    ]
    connection.close()

    assert values == ["wal", 2, 1, 1]


async def test_no_key_and_no_url_query_is_in_the_file(opened: Open, folder: Path) -> None:
    """Neither from arguments nor from PixelDojo's texts, nor in the write-ahead log."""
    ledger = opened()
    account = await ledger.account("https://api.example/v1", "pd_canary")
    query = "?sig=canary#canary"
    record = (await ledger.claim(account, wanted(0, query), generated_seed=1, estimate=2)).record
    await ledger.commit_sending(record)
    said = f"cannot fetch https://m.example/0.mp4{query}"
    await ledger.conclude(record, State.UNKNOWN, said)
    await ledger.record_check(record, said, None, ListReading.INCONCLUSIVE)
    failed = Job(job_id="job-1", status=JobStatus.FAILED, vendor_status=said, error=said, note=said)
    await ledger.accept(record, failed)
    written = content(folder)

    assert b"cannot fetch https://m.example/0.mp4" in written
    assert b"canary" not in written


async def test_second_live_record_is_impossible_in_the_file_itself(
    opened: Open, folder: Path
) -> None:
    """The unique index holds even against a defective claim (promises 9)."""
    await claimed(opened())
    connection = raw(folder)
    new = {"number": "NULL", "handle": "'sub_copy'", "state": "'unknown'"}
    columns = [column for _, column, *_ in connection.execute("PRAGMA table_info(jobs)")]
    copied = ", ".join(new.get(column, column) for column in columns)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(f"INSERT INTO jobs SELECT {copied} FROM jobs")
    connection.close()


# Failing closed


async def refused(ledger: SQLiteLedger, words: str) -> LedgerUnavailable:
    with pytest.raises(LedgerUnavailable, match=words) as caught:
        await ledger.claim(ME, wanted(99), generated_seed=1, estimate=2)
    assert (caught.value.code, caught.value.charged) == ("ledger_unavailable", "no")
    return caught.value


@pytest.mark.parametrize("start", [0, 4096], ids=["all of it", "from the second page on"])
async def test_damaged_ledger_is_refused_and_left_as_it_is(
    opened: Open, folder: Path, start: int
) -> None:
    """It says what was paid for, so nothing may overwrite or replace it (promises 11)."""
    ledger = opened()
    for number in range(30):
        await claimed(ledger, number)
    await ledger.aclose()
    damaged = damage(folder / FILE, start)
    await refused(opened(), "damaged")
    with pytest.raises(LedgerUnavailable, match="damaged"):
        await opened().recent(ME)

    assert (folder / FILE).read_bytes() == damaged


async def test_ledger_of_a_newer_version_is_refused(opened: Open, folder: Path) -> None:
    """An older program would not know what it overlooks."""
    await claimed(opened())
    connection = raw(folder)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    error = await refused(opened(), "newer version")
    with pytest.raises(LedgerUnavailable, match="newer version"):
        await opened().recent(ME)

    assert "update" in error.next_step


async def test_ledger_of_an_older_version_is_migrated_in_place(opened: Open, folder: Path) -> None:
    """Its records stay, and the second process to open it finds the work done."""
    record = await claimed(opened())
    newer = (*MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN colour TEXT DEFAULT 'red'",))
    connection = raw(folder)
    for _ in range(2):
        database.migrate(connection, newer)
    found = connection.execute("SELECT handle, colour FROM jobs").fetchall()
    version = connection.execute("PRAGMA user_version").fetchone()
    connection.close()

    assert (found, version) == ([(record.submission_id, "red")], (len(newer),))


async def test_locked_ledger_refuses_to_pay_and_still_reads(opened: Open, folder: Path) -> None:
    """While another process holds it, claims and the commit point do not succeed (promises 11)."""
    ledger = opened(connect=partial(database.connect, busy_seconds=0))
    record = await claimed(ledger)
    other = raw(folder)
    other.execute("BEGIN IMMEDIATE")
    error = await refused(ledger, "held by another process")
    with pytest.raises(LedgerUnavailable, match="held"):
        await ledger.commit_sending(record)
    assert await ledger.recent(ME) == [record]
    assert await opened(connect=partial(database.connect, busy_seconds=0)).recent(ME) == [record]
    other.execute("ROLLBACK")
    other.close()

    assert (error.retry_safe, error.next_step) == (True, "Call again in a minute.")
    assert (await sent(ledger, record)).state is State.SENDING


def _full(path: Path) -> sqlite3.Connection:
    connection = database.connect(path)
    connection.execute("PRAGMA max_page_count = 1")  # SQLite raises it to the file's size
    return connection


async def test_full_disk_refuses_to_pay_and_still_reads(opened: Open) -> None:
    """What was written stays, and nothing more is bought (promises 11)."""
    await claimed(opened())
    ledger = opened(connect=_full)
    records = 1
    with suppress(LedgerUnavailable):
        while records < 200:
            await claimed(ledger, records)
            records += 1

    assert len(await ledger.recent(ME)) == records < 200
    await refused(ledger, "full")


def _query_only(path: Path) -> sqlite3.Connection:
    connection = database.connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


async def test_disk_that_became_read_only_refuses_to_pay(opened: Open) -> None:
    """A claim needs a write, a read does not (promises 11)."""
    record = await claimed(opened())
    ledger = opened(connect=_query_only)

    await refused(ledger, "read-only")
    assert [each.submission_id for each in await ledger.recent(ME)] == [record.submission_id]


def _denied(path: Path) -> sqlite3.Connection:
    raise PermissionError(13, "Permission denied")


async def test_file_that_opens_for_reading_only_is_read(opened: Open, folder: Path) -> None:
    """Paid jobs stay visible, and so does a request under way; nothing is bought (promises 11)."""
    record = await claimed(opened())
    ledger = opened(_denied)

    assert await ledger.recent(ME) == [record]
    assert await ledger.settled(record.submission_id, 0) == record
    await refused(ledger, "cannot be used: Permission denied")


async def test_old_format_that_cannot_be_migrated_is_refused(opened: Open, folder: Path) -> None:
    """Reading columns that do not exist would fail."""
    await claimed(opened())
    connection = raw(folder)
    connection.execute("PRAGMA user_version = 0")
    connection.close()
    with pytest.raises(LedgerUnavailable, match="old format"):
        await opened(_denied).recent(ME)


@pytest.mark.parametrize(
    ("held", "words"),
    [("BEGIN EXCLUSIVE", "held by another process"), ("BEGIN; SELECT * FROM t", "holds it")],
    ids=["for writing", "for reading"],
)
async def test_new_file_that_another_program_holds_is_refused_in_time(
    opened: Open, folder: Path, held: str, words: str
) -> None:
    """Before WAL is on, even a reader blocks it; the wait for it has an end."""
    ledger_folder.private_file(folder, FILE)
    other = raw(folder)
    other.execute("CREATE TABLE t (a)")
    for statement in held.split(";"):
        other.execute(statement).fetchall()
    await refused(opened(partial(database.connect, busy_seconds=0)), words)
    other.close()


async def test_defect_of_the_program_is_not_taken_for_a_bad_disk(tmp_path: Path) -> None:
    """A defect must be seen as one."""
    with pytest.raises(sqlite3.IntegrityError), database.as_ledger_errors(tmp_path):
        raise sqlite3.IntegrityError("NOT NULL constraint failed")


@POSIX
@pytest.mark.parametrize("closed", [True, False])
async def test_folder_without_write_permission_can_be_read(
    opened: Open, folder: Path, child: Child, closed: bool
) -> None:
    """Any user without the right to write, root included, can read jobs and buy nothing."""
    ledger = opened()
    record = await claimed(ledger)
    if closed:
        await ledger.aclose()
    process = child(
        """
        import encodings.idna, shutil, tempfile
        async def main(ledger):
            with tempfile.TemporaryDirectory() as home:
                copy = Path(home) / "ledger"
                shutil.copytree(sys.argv[1], copy)
                for path in (*copy.rglob("*"), copy):
                    path.chmod(0o555 if path.is_dir() else 0o444)
                os.chmod(home, 0o755)
                if os.geteuid() == 0:
                    os.seteuid(65534)
                ledger = SQLiteLedger(copy, limits=SpendingLimits(None, None, None, None))
                say(" ".join(record.submission_id for record in await ledger.recent("my-account")))
                try:
                    await ledger.claim("my-account", wanted(9), generated_seed=1, estimate=2)
                except LedgerUnavailable as refused:
                    say(refused.what)
                if os.getuid() == 0:
                    os.seteuid(0)
                for path in (copy, *copy.rglob("*")):
                    path.chmod(0o755)
        """
    )

    assert line_from(process) == record.submission_id
    assert line_from(process) == "The ledger (ledger.db) cannot be used: Permission denied."


async def test_ledger_that_failed_to_open_is_opened_by_a_later_call(
    opened: Open, folder: Path
) -> None:
    """The next call tries again, without a restart."""
    put_a_file_in_place_of(folder)
    ledger = opened()
    await refused(ledger, "cannot be used")
    os.unlink(folder)

    await claimed(ledger)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere mounts are not read")
async def test_shared_file_system_is_refused(
    opened: Open, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks there do not work between machines, so nothing is even created (promises 9)."""
    (tmp_path / "mountinfo").write_text("1 1 0:1 / / rw - nfs4 nas:/ rw\n")
    monkeypatch.setattr(ledger_folder, "MOUNTS", tmp_path / "mountinfo")
    error = await refused(opened(), "shared with other machines")

    assert "own disk" in error.next_step
    assert "WAN_MCP_DATA_DIR" in error.next_step
    assert names(folder) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere mounts are not read")
async def test_operator_may_trust_one_type_of_file_system(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only they know that an encrypted home folder is this machine's alone. (ours)"""
    (tmp_path / "mountinfo").write_text("1 1 0:1 / / rw - fuse.gocryptfs x rw\n")
    monkeypatch.setattr(ledger_folder, "MOUNTS", tmp_path / "mountinfo")
    other, named = (
        SQLiteLedger(folder, limits=NO_LIMITS, filesystem=kind)
        for kind in ("fuse", "fuse.gocryptfs")
    )

    error = await refused(other, "shared with other machines")
    await claimed(named)
    await named.aclose()

    assert "WAN_MCP_LEDGER_FILESYSTEM=fuse.gocryptfs" in error.next_step


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere mounts are not read")
async def test_ledger_on_a_shared_file_system_can_still_be_read(
    opened: Open, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version took it for suitable: its paid jobs must not be lost. (ours)"""
    earlier = opened()
    record = await claimed(earlier)
    await earlier.aclose()
    (tmp_path / "mountinfo").write_text("1 1 0:1 / / rw - fakeowner x rw\n")
    monkeypatch.setattr(ledger_folder, "MOUNTS", tmp_path / "mountinfo")
    ledger = opened()

    (read,) = await ledger.recent(ME)
    await refused(ledger, "shared with other machines")

    assert read.submission_id == record.submission_id


@pytest.mark.parametrize("text", ["", "no JSON", "{}", "[1]", '[{"what": "sound"}]', "7"])
async def test_an_inspection_that_cannot_be_read_hides_no_job(
    opened: Open, folder: Path, text: str
) -> None:
    """A newer version may write it in another way; the job is paid for (ours)."""
    record = await claimed(opened())
    with closing(raw(folder)) as file:
        file.execute("UPDATE jobs SET inspection = ?", (text,))

    assert await opened().find(ME, record.submission_id) == record


async def test_an_inspection_with_more_fields_is_still_read(opened: Open, folder: Path) -> None:
    """A newer version may say more (ours)."""
    record = await claimed(opened())
    more = '[{"what": "sound", "expected": "yes", "seen": "none", "since": 3}]'
    with closing(raw(folder)) as file:
        file.execute("UPDATE jobs SET inspection = ?", (more,))
    found = await opened().find(ME, record.submission_id)

    assert found is not None
    assert found.inspection == (Difference(what="sound", expected="yes", seen="none"),)


async def test_a_submit_of_one_user_takes_no_statement_and_no_index_for_shared_keys(
    tmp_path: Path,
) -> None:
    """11 to claim, 3 at the commit point and 4 for the answer, as before keys could be shared."""
    seen: list[str] = []

    def traced(file: Path) -> sqlite3.Connection:
        opened = database.connect(file)
        opened.set_trace_callback(seen.append)
        return opened

    def counted() -> int:
        count = len(seen)
        seen.clear()
        return count

    ledger = SQLiteLedger(tmp_path / "ledger", connect=traced)
    await ledger.claim(ME, wanted(1), generated_seed=1, estimate=2)
    counted()
    record = (await ledger.claim(ME, wanted(2), generated_seed=1, estimate=2)).record
    claim = counted()
    await ledger.commit_sending(record)
    sending = counted()
    await ledger.accept(record, Job(job_id="job-2", status=JobStatus.RUNNING))
    answer = counted()
    await ledger.aclose()

    assert (claim, sending, answer) == (11, 3, 4)
    with closing(sqlite3.connect(tmp_path / "ledger" / FILE)) as file:
        indexes = file.execute("SELECT sql FROM sqlite_master WHERE type = 'index'").fetchall()
    assert not [text for (text,) in indexes if text and "wallet" in text]


async def test_totals_that_cannot_be_added_up_keep_nothing_from_being_settled(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are for lists alone, and a reader counts what they lack (ours)."""

    def busy(_: object) -> None:
        raise LedgerUnavailable("Another server writes.", transient=True)

    ledger = opened()
    await claimed(ledger)
    monkeypatch.setattr("wan_mcp.ledger.threaded.ledger.add_up", busy)

    assert await ledger.recover() == []
