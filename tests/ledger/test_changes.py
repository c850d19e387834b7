"""Changes of the ledger's files from outside: nothing is paid twice, and no paid job is lost."""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from mcp.client import Client

from tests.ledger.changes import CHANGES, NOTICE, Place, outcome_of, submit
from tests.ledger.old_version.servers import Host, settings
from tests.ledger.stores import ME, NO_LIMITS, claimed, reported, sent, wanted
from wan_mcp.ledger.contract import LedgerChanged, LedgerUnavailable
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.ledger.sqlite.liveness import ProcessLock, lives_elsewhere
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.storage.file_lock import try_lock

pytestmark = pytest.mark.anyio

AT_ONCE = Terms(credits=1000, price=1, pending_seconds=0, processing_seconds=0)
HARMLESS = {"older copy written over it"}
"""The log still has everything, so the ledger is as it was."""
THROUGH_THE_TOOLS = ["deleted", "cut in half", "older copy written over it"]


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """A ledger with one payment, closed, and a copy of it from before a second payment."""
    made = Place(tmp_path / "data", tmp_path / "older", tmp_path / "other" / "ledger")
    await _paid(made.folder, 1)
    shutil.copytree(made.folder, made.older)
    await _paid(made.folder, 2)
    await _paid(made.other, 100)
    return made


@asynccontextmanager
async def serving(sandbox: Sandbox, data: Path) -> AsyncIterator[Host]:
    """A host with a server in this process, on that data folder."""
    server = build_server(Settings.read(settings(sandbox, data), data))
    async with Client(server) as client:
        yield Host(client, sandbox)


async def _paid(folder: Path, number: int) -> None:
    ledger = SQLiteLedger(folder, limits=NO_LIMITS)
    await _accepted(ledger, number)
    await ledger.aclose()


async def _accepted(ledger: SQLiteLedger, number: int) -> Record:
    record = await sent(ledger, await claimed(ledger, wanted(number)))
    return await ledger.accept(record, reported(job_id=f"job-{number}"))


@pytest.fixture
async def ledger(place: Place) -> AsyncIterator[SQLiteLedger]:
    """A process on it, which has paid a third time."""
    ledger = SQLiteLedger(place.folder, limits=NO_LIMITS)
    await _accepted(ledger, 3)
    yield ledger
    await ledger.aclose()


@pytest.mark.parametrize("name", sorted(set(CHANGES) - HARMLESS))
async def test_no_change_lets_the_running_or_the_next_process_pay(
    ledger: SQLiteLedger, place: Place, name: str
) -> None:
    """Neither what the running one has paid since the copy, nor anything new. (ours)"""
    in_the_air = await sent(ledger, await claimed(ledger, wanted(4)))
    CHANGES[name](place)
    with pytest.raises(LedgerChanged, match=r"nothing was sent and nothing was charged\.$"):
        await claimed(ledger, wanted(5))
    answered = await ledger.accept(in_the_air, reported(job_id="job-4"))
    beside = SQLiteLedger(place.folder, limits=NO_LIMITS)
    with pytest.raises(LedgerUnavailable):
        await claimed(beside, wanted(3))
    await ledger.aclose()
    with suppress(LedgerUnavailable):  # or the log, which was left, still has everything
        again = await beside.claim(ME, wanted(3), generated_seed=1, estimate=2)
        assert again.record.job_id == "job-3"
    await beside.aclose()

    assert "It is kept in a file beside the ledger" in (answered.note or "")


@pytest.mark.parametrize("name", THROUGH_THE_TOOLS)
async def test_no_change_under_running_servers_costs_a_job_twice_or_loses_one(
    name: str, tmp_path: Path
) -> None:
    """Every request is made again: there, beside it, and after the restart of all. (ours)

    All changes: tests/crash/ledger_changes.py.
    """
    async with Sandbox(AT_ONCE) as sandbox:
        serve = partial(serving, sandbox)
        outcome = await outcome_of(CHANGES[name], serve, tmp_path / "data")

    assert outcome.broken() == []
    if name not in HARMLESS:
        assert "It is kept in a file beside the ledger" in outcome.in_the_air["message"]
        assert {answer["charged"] for answer in outcome.refusals} == {"no"}
        assert all("nothing was sent" in answer["message"] for answer in outcome.refusals)
        assert all("ledger.db back" in answer["next"] for answer in outcome.refusals)


async def test_ledger_that_cannot_be_looked_at_refuses_and_is_read(
    ledger: SQLiteLedger, place: Place
) -> None:
    """A folder whose rights were taken away, a disk that fails: what is open still works. (ours)"""
    away = place.folder.rename(place.data / "away")
    place.folder.symlink_to(place.folder)
    with pytest.raises(LedgerChanged, match="cannot be looked at any more: Too many levels"):
        await claimed(ledger, wanted(4))
    listed = await ledger.recent(ME)
    place.folder.unlink()
    away.rename(place.folder)

    assert len(listed) == 3


async def test_rest_of_a_ledger_that_cannot_be_read_hides_no_reason(
    ledger: SQLiteLedger, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that was cut short, some pages are in memory and some are not. (ours)"""
    os.truncate(place.file, 0)

    def unreadable(*_: object) -> NoReturn:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr("wan_mcp.ledger.equal_requests.EqualRequests.find", unreadable)
    with pytest.raises(LedgerChanged, match=r"ledger\.db was cut short"):
        await claimed(ledger, wanted(4))


async def test_copy_is_not_paid_from_while_its_original_is_there(place: Place) -> None:
    """What one of them pays for is unknown to the other. A ledger that was moved is none. (ours)"""
    copy = place.data.with_name("copy")
    shutil.copytree(place.data, copy)
    ledger = SQLiteLedger(copy / "ledger", limits=NO_LIMITS)
    with pytest.raises(LedgerChanged, match=r"is a copy of .*/data/ledger/ledger\.db") as refused:
        await claimed(ledger, wanted(9))
    listed, notice = await ledger.recent(ME), ledger.notice
    place.data.rename(place.data.with_name("away"))
    accepted = await _accepted(ledger, 9)
    await ledger.aclose()
    moved = copy.rename(place.data)
    last = SQLiteLedger(moved / "ledger", limits=NO_LIMITS)
    again = await _accepted(last, 10)
    await last.aclose()

    assert "WAN_MCP_DATA_DIR" in refused.value.next_step
    assert (len(listed), "is a copy of" in (notice or "")) == (2, True)
    assert accepted.state is again.state is State.ACCEPTED


async def test_two_paths_to_one_ledger_are_no_copies(place: Place) -> None:
    """As when a container and its host see one folder under two paths. (ours)"""
    link = place.data.with_name("link")
    link.symlink_to(place.data)
    for data in (link, place.data, link):
        ledger = SQLiteLedger(data / "ledger", limits=NO_LIMITS)
        await claimed(ledger, wanted(20 + len(await ledger.recent(ME))))
        await ledger.aclose()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
async def test_what_root_writes_beside_a_ledger_belongs_to_its_user(
    ledger: SQLiteLedger, place: Place
) -> None:
    """Or their own server could not read which payment was the last. (ours)"""
    os.chown(place.folder, 12345, 12345)
    await _accepted(ledger, 4)
    record = await sent(ledger, await claimed(ledger, wanted(5)))
    place.file.rename(place.data / "ledger.db.away")
    await ledger.accept(record, reported(job_id="job-5"))
    beside = ProcessLock(place.folder / "owners")
    names = ["ledger-last-payment", "ledger-paid-jobs", f"ledger/owners/{beside.name}"]
    kept = list(place.data.glob("ledger-paid-jobs/*"))
    owners = {path.stat().st_uid for path in [*map(place.data.joinpath, names), *kept]}
    beside.release()

    assert (len(kept), owners) == (1, {12345})


async def test_ledger_that_was_put_back_needs_no_restart(
    ledger: SQLiteLedger, place: Place
) -> None:
    """It is the same file again, and nobody else has used another one meanwhile. (ours)"""
    away = place.data / "away"
    place.file.rename(away)
    with pytest.raises(LedgerChanged):
        await claimed(ledger, wanted(4))
    away.rename(place.file)

    assert (await _accepted(ledger, 4)).state is State.ACCEPTED


async def test_change_between_claim_and_commit_point_sends_nothing(
    ledger: SQLiteLedger, place: Place
) -> None:
    """The look is after the commit, so no later moment is left before the first byte. (ours)"""
    record = await claimed(ledger, wanted(4))
    place.file.unlink()

    with pytest.raises(LedgerChanged, match=r"ledger\.db was moved away or deleted"):
        await ledger.commit_sending(record)


async def test_equal_request_is_answered_from_what_is_open(
    ledger: SQLiteLedger, place: Place
) -> None:
    """Its job is known, and that costs nothing; the list says what has happened. (ours)"""
    place.file.unlink()
    claim = await ledger.claim(ME, wanted(3), generated_seed=1, estimate=2)
    listed = await ledger.recent(ME)

    assert (claim.created, claim.record.job_id) == (False, "job-3")
    assert len(listed) == 3
    assert ledger.notice == "The file ledger.db was moved away or deleted."


async def test_kept_job_is_taken_in_by_the_next_server_on_the_right_ledger(
    ledger: SQLiteLedger, place: Place
) -> None:
    """Its id outlives the process, and it is listed once. (ours)"""
    record = await sent(ledger, await claimed(ledger, wanted(4)))
    away = place.data / "away"
    place.folder.rename(away)
    accepted = await ledger.accept(record, reported(job_id="job-4"))
    await ledger.aclose()
    shutil.copytree(away, place.folder)
    last = SQLiteLedger(place.folder, limits=NO_LIMITS)
    listed = [each.job_id for each in await last.recent(ME)]
    await last.recover()
    again = [each.job_id for each in await last.recent(ME)]
    await last.aclose()

    assert "job is paid for" in (accepted.note or "")
    assert sorted(filter(None, listed)) == ["job-1", "job-2", "job-3", "job-4"]
    assert again == listed
    assert list(place.data.glob("ledger-paid-jobs/*")) == []


async def test_kept_job_of_a_ledger_that_lost_the_request_gets_a_record(
    ledger: SQLiteLedger, place: Place
) -> None:
    """As after the restore of a backup that a person has accepted. (ours)"""
    record = await sent(ledger, await claimed(ledger, wanted(4)))
    place.folder.rename(place.data / "away")
    await ledger.accept(record, reported(job_id="job-4"))
    shutil.copytree(place.older, place.folder)
    (place.data / "ledger-last-payment").unlink()
    last = SQLiteLedger(place.folder, limits=NO_LIMITS)
    listed = [each.job_id for each in await last.recent(ME)]
    await last.aclose()

    assert listed == ["job-4", "job-1"]


async def test_kept_job_of_a_ledger_that_is_gone_waits_for_that_ledger(
    ledger: SQLiteLedger, place: Place
) -> None:
    """In a new one the account has another name, under which nobody would find the job. (ours)"""
    record = await sent(ledger, await claimed(ledger, wanted(4)))
    away = place.folder.rename(place.data / "away")
    await ledger.accept(record, reported(job_id="job-4"))
    await ledger.aclose()
    (place.data / "ledger-last-payment").unlink()
    new = SQLiteLedger(place.folder, limits=NO_LIMITS)
    await _accepted(new, 5)
    await new.recover()
    await new.aclose()
    waiting = len(list(place.data.glob("ledger-paid-jobs/*")))
    shutil.rmtree(place.folder)
    away.rename(place.folder)
    (place.data / "ledger-last-payment").unlink()
    back = SQLiteLedger(place.folder, limits=NO_LIMITS)
    listed = [each.job_id for each in await back.recent(ME)]
    await back.aclose()

    assert waiting == 1
    assert "job-4" in listed
    assert list(place.data.glob("ledger-paid-jobs/*")) == []


async def test_kept_job_whose_file_cannot_be_removed_holds_up_nothing(
    ledger: SQLiteLedger, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the ledger already; on Windows, any program that reads the file does that. (ours)"""
    record = await sent(ledger, await claimed(ledger, wanted(4)))
    away = place.folder.rename(place.data / "away")
    await ledger.accept(record, reported(job_id="job-4"))
    away.rename(place.folder)
    await ledger.aclose()
    unlink = Path.unlink

    def held(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".json":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    last = SQLiteLedger(place.folder, limits=NO_LIMITS)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", held)
        await _accepted(last, 5)
        await last.recover()
    listed = [each.job_id for each in await last.recent(ME)]
    await last.recover()
    await last.aclose()

    assert listed == ["job-5", "job-4", "job-3", "job-2", "job-1"]
    assert list(place.data.glob("ledger-paid-jobs/*")) == []


async def test_log_that_sqlite_would_cut_back_is_not_taken_for_cut_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apple's SQLite is built with a limit for its size. (observed elsewhere)"""
    connect = sqlite3.connect

    def apples(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute("PRAGMA journal_size_limit = 0")
        connection.execute("PRAGMA wal_autocheckpoint = 10")
        return connection

    monkeypatch.setattr(sqlite3, "connect", apples)
    ledger = SQLiteLedger(tmp_path / "ledger", limits=NO_LIMITS)
    for number in range(1, 6):
        await _accepted(ledger, number)
    notice = ledger.notice
    await ledger.aclose()

    assert notice is None


async def test_ledger_that_was_put_back_under_a_reading_server_knows_its_jobs(
    tmp_path: Path,
) -> None:
    """In the other one, which was read meanwhile, the account has another name. (ours)"""
    async with Sandbox(AT_ONCE) as sandbox:
        serve = partial(serving, sandbox)
        data, other = tmp_path / "data", tmp_path / "other"
        for folder in (data, other):
            async with serve(folder) as host:
                paid = await submit(host, 1 if folder == data else 2)
        right = (data / "ledger").rename(tmp_path / "right")
        shutil.copytree(other / "ledger", data / "ledger")
        async with serve(data) as host:
            wrong = await host.call("list_jobs")
            shutil.rmtree(data / "ledger")
            right.rename(data / "ledger")
            await submit(host, 1)
            charges = len(sandbox.charges)

    assert NOTICE in str(wrong)
    assert charges == 2, paid


@pytest.mark.parametrize("source", ["older", "other"])
async def test_ledger_without_the_last_payment_is_read_and_not_paid_from(
    place: Place, source: str
) -> None:
    """A restored backup does not know what was paid since: it is said, with the way out. (ours)"""
    shutil.copyfile(getattr(place, source) / "ledger.db", place.file)
    ledger = SQLiteLedger(place.folder, limits=NO_LIMITS)
    with pytest.raises(LedgerChanged, match="an older copy, or another ledger") as refused:
        await claimed(ledger, wanted(2))
    await ledger.recent(ME)
    notice = ledger.notice
    (place.data / "ledger-last-payment").unlink()
    place.other.rename(place.other.with_name("away"))  # of which it may be a copy
    accepted = await _accepted(ledger, 5)
    await ledger.aclose()

    assert "ledger-last-payment" in refused.value.next_step
    assert (refused.value.charged, refused.value.retry_safe) == ("no", False)
    assert "does not have the last request" in (notice or "")
    assert accepted.state is State.ACCEPTED


async def test_older_copy_written_over_an_idle_ledger_is_noticed(
    ledger: SQLiteLedger, place: Place
) -> None:
    """Neither its inode nor its size tells: the request that was sent last is missing. (ours)"""
    await ledger.aclose()
    running = SQLiteLedger(place.folder, limits=NO_LIMITS)
    await running.recent(ME)
    older = place.older / "ledger.db"
    assert older.stat().st_size == place.file.stat().st_size
    shutil.copyfile(older, place.file)

    with pytest.raises(LedgerChanged, match="an older copy"):
        await claimed(running, wanted(4))
    await running.aclose()


@pytest.mark.parametrize("restore", [Place.replace, Place.write_over])
async def test_log_of_another_file_is_not_merged_into_a_restored_one(
    ledger: SQLiteLedger, place: Place, restore: Callable[[Place, Path], None]
) -> None:
    """SQLite would overlay the two without a word, and write the mixture to the file. (ours)"""
    for number in range(10, 40):
        await _accepted(ledger, number)
    await ledger.aclose()
    running = SQLiteLedger(place.folder, limits=NO_LIMITS)
    await _accepted(running, 60)
    log = place.log.read_bytes()
    await running.aclose()
    restore(place, place.older / "ledger.db")
    place.log.write_bytes(log)
    restored = place.file.read_bytes()
    last = SQLiteLedger(place.folder, limits=NO_LIMITS)

    with pytest.raises(LedgerUnavailable, match=r"belongs to another file|damaged"):
        await claimed(last, wanted(99))
    await last.aclose()
    assert place.file.read_bytes() == restored
    assert place.log.read_bytes() == log


async def test_second_server_refuses_a_file_that_a_living_one_does_not_have_open(
    ledger: SQLiteLedger, place: Place
) -> None:
    """Even when nothing was paid since the copy: the log beside it is the living one's. (ours)"""
    copy = place.data / "copy"
    shutil.copyfile(place.file, copy)
    copy.replace(place.file)
    beside = SQLiteLedger(place.folder, limits=NO_LIMITS)

    with pytest.raises(LedgerChanged, match="A server that is running has another file"):
        await claimed(beside, wanted(9))
    await beside.aclose()


def test_dead_server_that_another_one_looks_at_is_not_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tries the lock holds it for an instant: as when several servers start. (ours)"""
    (tmp_path / "killed").write_text("123")
    looks = iter([False])
    monkeypatch.setattr(
        "wan_mcp.ledger.sqlite.liveness.try_lock", lambda file: next(looks, try_lock(file))
    )

    assert not lives_elsewhere(tmp_path, "456")


async def test_lock_file_of_an_older_version_says_nothing(tmp_path: Path) -> None:
    """A 0.1.0 server leaves its lock file empty; it must not stop this version. (ours)"""
    old, new = ProcessLock(tmp_path), ProcessLock(tmp_path, "7")

    assert not lives_elsewhere(tmp_path, "7")
    assert lives_elsewhere(tmp_path, "8")
    old.release()
    new.release()
    assert not lives_elsewhere(tmp_path, "8")


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"sub_x only", b"word 1 2 2026"])
async def test_unreadable_note_of_the_last_payment_refuses_nothing(
    place: Place, content: bytes
) -> None:
    """It is no evidence, and the next payment writes it anew. (ours)"""
    note = place.data / "ledger-last-payment"
    note.write_bytes(content)
    ledger = SQLiteLedger(place.folder, limits=NO_LIMITS)
    record = await _accepted(ledger, 7)
    await ledger.aclose()

    assert note.read_text().startswith(record.submission_id)


async def test_note_of_the_last_payment_that_may_not_be_read_refuses(place: Place) -> None:
    """Nobody knows then whether the ledger is an older one; a person can mend it. (ours)"""
    note = place.data / "ledger-last-payment"
    note.unlink()
    note.mkdir()  # root may read everything but a folder
    ledger = SQLiteLedger(place.folder, limits=NO_LIMITS)

    with pytest.raises(LedgerChanged, match=r"ledger-last-payment cannot be read \(Is a dir"):
        await claimed(ledger, wanted(7))
    await ledger.aclose()


async def test_answer_that_cannot_be_written_is_kept_on_disk_at_once(
    ledger: SQLiteLedger, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The payment goes on trying; if the process ends first, the next one has the id. (ours)"""
    record = await sent(ledger, await claimed(ledger, wanted(4)))

    def broken(*_: object) -> NoReturn:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("wan_mcp.ledger.rules.accepted", broken)
        with pytest.raises(LedgerUnavailable, match="Input/output"):
            await ledger.accept(record, reported(job_id="job-4"))
    await ledger.aclose()
    last = SQLiteLedger(place.folder, limits=NO_LIMITS)
    listed = await last.recent(ME)
    await last.aclose()

    assert [each.job_id for each in listed] == ["job-4", "job-3", "job-2", "job-1"]
