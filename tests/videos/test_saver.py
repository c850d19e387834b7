"""When videos are saved, and when that is given up, with an archive that obeys."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast

import anyio
import pytest

from tests.polling import processes
from tests.polling.processes import Cluster, Vendor, completed_body
from tests.virtual_time import VirtualTime, in_virtual_time
from wan_mcp.ledger.contract import LedgerUnavailable, VideoPolicy
from wan_mcp.ledger.coordination import Role
from wan_mcp.ledger.history.history import History
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite import history
from wan_mcp.ledger.sqlite.engine import SQLiteLedger
from wan_mcp.models import Difference, Job, JobStatus, Replacement
from wan_mcp.sandbox import sandbox
from wan_mcp.videos.archive import Archive as RealArchive
from wan_mcp.videos.download import MIN_BYTES_PER_SECOND
from wan_mcp.videos.not_saved import NotSaved
from wan_mcp.videos.paths import text_of
from wan_mcp.videos.removal import remove_video
from wan_mcp.videos.saver import (
    INSPECTION_SECONDS,
    LEASE_SECONDS,
    MAX_ALTOGETHER,
    MAX_AT_ONCE,
    RETRY_SECONDS,
    ROUND_SECONDS,
    SETTLE_SECONDS,
    TURN_SECONDS,
    Inspect,
    SavedVideo,
    VideoSaver,
)
from wan_mcp.web.fetch import Answer, Web

pytestmark = pytest.mark.anyio

BASE = "https://api.example/v1"
VIDEO = (Path(sandbox.__file__).parent / "media/clip.mp4").read_bytes()


@dataclass(frozen=True)
class Saved:
    path: Path = Path("/videos/one.mp4")
    sha256: str = "ab"
    size: int = 7


@dataclass
class Archive:
    """Gives each of `answers` in turn, and then the last one again and again."""

    answers: list[Exception | Saved]
    asked: list[float] = field(default_factory=list)

    async def keep(
        self, job_id: str, url: str, *, made_at: datetime, expires_at: datetime | None = None
    ) -> Saved:
        self.asked.append(anyio.current_time())
        answer = self.answers.pop(0) if self.answers[1:] else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def place(self, job_id: str, video: SavedVideo) -> str:
        return text_of(video.path)

    async def recorded(self, video: SavedVideo, inspection: anyio.Event) -> None:
        pass

    async def remove(self, job_id: str, video: SavedVideo) -> None:
        remove_video(video.path.parent, video.path.stem)


time, anyio_backend = in_virtual_time()
vendor, cluster = processes.vendor, processes.cluster


@pytest.fixture
async def ledger(time: VirtualTime, tmp_path: Path) -> AsyncIterator[SQLiteLedger]:
    ledger = SQLiteLedger(
        tmp_path / "ledger", limits=SpendingLimits(None, None, None, None), now=time.wall
    )
    yield ledger
    await ledger.aclose()


async def completed(
    ledger: SQLiteLedger, name: str = "job1", *, videos: VideoPolicy | None = None
) -> Record:
    """A job of ours whose video can be downloaded."""
    account = await ledger.account(BASE, "key")
    wanted = Replacement(video=f"https://a.example/{name}", character_image="https://a.example/p")
    claim = await ledger.claim(account, wanted, generated_seed=1, estimate=1, videos=videos)
    await ledger.commit_sending(claim.record)
    await ledger.accept(claim.record, Job(job_id=name, status=JobStatus.RUNNING))
    url = f"https://temp.pixeldojo.ai/{name}.mp4"
    ended = Job(job_id=name, status=JobStatus.COMPLETED, video_url=url)
    return (await ledger.record_update(account, ended)).record


async def save_for(
    seconds: float,
    archive: Archive,
    ledger: SQLiteLedger,
    time: VirtualTime,
    inspect: Inspect | None = None,
) -> None:
    """Let a saver work for so many seconds."""
    account = partial(ledger.account, BASE, "key")
    own, clock = VideoPolicy("videos"), time.clock()
    saver = VideoSaver(lambda _: archive, own, ledger.coordination, account, clock, inspect)
    with anyio.move_on_after(seconds):
        await saver.run()


async def record_of(ledger: SQLiteLedger, submission_id: str) -> Record:
    (record,) = await ledger.coordination.records([submission_id])
    return record


async def test_a_video_is_saved_once_and_recorded(ledger: SQLiteLedger, time: VirtualTime) -> None:
    """The record holds its path, hash and size (ours)."""
    archive = Archive([Saved()])
    record = await completed(ledger)
    await save_for(300, archive, ledger, time)
    record = await record_of(ledger, record.submission_id)

    assert len(archive.asked) == 1
    assert (record.saved_path, record.sha256, record.size) == (str(Saved().path), "ab", 7)


async def test_a_storage_that_is_a_moment_late_loses_no_video(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """One 404 right after the job's end is not final (ours)."""
    archive = Archive([NotSaved("It is not there.", final=True), Saved()])
    record = await completed(ledger)
    await save_for(300, archive, ledger, time)
    record = await record_of(ledger, record.submission_id)

    assert record.saved_path
    assert archive.asked[1] - archive.asked[0] == pytest.approx(RETRY_SECONDS, abs=6)


@pytest.mark.parametrize("final", [True, False])
async def test_a_dead_link_is_given_up_after_ten_minutes(
    ledger: SQLiteLedger, time: VirtualTime, final: bool
) -> None:
    """Any other failure is tried again for as long as the link may work (ours)."""
    archive = Archive([NotSaved("It is not there.", final=final)])
    record = await completed(ledger)
    await save_for(3 * SETTLE_SECONDS, archive, ledger, time)
    record = await record_of(ledger, record.submission_id)

    assert record.not_saved == ("It is not there." if final else None)
    assert record.last_save_error == (None if final else "It is not there.")
    assert (len(archive.asked) > 20) == (not final)


async def test_a_reason_is_written_once_for_as_long_as_it_is_the_same(
    ledger: SQLiteLedger, time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write is a change that all servers on the ledger look at (ours)."""
    written: list[str] = []
    write = ledger.coordination.not_saved_yet

    async def counted(submission_id: str, why: str) -> None:
        written.append(why)
        await write(submission_id, why)

    monkeypatch.setattr(ledger.coordination, "not_saved_yet", counted)
    slow, full = NotSaved("It is slow.", final=False), NotSaved("It is full.", final=False)
    archive = Archive([slow, slow, slow, full, full, slow])
    await completed(ledger)
    await save_for(10 * RETRY_SECONDS, archive, ledger, time)

    assert len(archive.asked) > 6
    assert written == ["It is slow.", "It is full.", "It is slow."]


async def test_a_ledger_that_is_busy_ends_nothing(
    ledger: SQLiteLedger, time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The saver shares its tasks with payments, and its errors must not reach them (ours)."""

    async def busy(*args: object) -> None:
        raise LedgerUnavailable("busy", transient=True)

    await completed(ledger)
    await anyio.sleep(SETTLE_SECONDS)
    monkeypatch.setattr(ledger.coordination, "not_saved", busy)
    archive = Archive([NotSaved("It is not there.", final=True)])
    await save_for(200, archive, ledger, time)

    assert len(archive.asked) >= 3


async def test_a_defect_in_the_archive_ends_nothing_either(
    ledger: SQLiteLedger, time: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    """The defect is logged, and the video tried again a minute later (ours)."""
    archive = Archive([ZeroDivisionError(), Saved()])
    record = await completed(ledger)
    await save_for(200, archive, ledger, time)
    record = await record_of(ledger, record.submission_id)

    assert "failed" in caplog.text
    assert record.saved_path


async def test_videos_of_jobs_made_elsewhere_are_not_saved(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """Asking for a job must not download its result, whatever that is (ours)."""
    account = await ledger.account(BASE, "key")
    job = Job(job_id="x", status=JobStatus.COMPLETED, video_url="https://temp.pixeldojo.ai/x.mp4")
    await ledger.record_update(account, job)
    archive = Archive([Saved()])
    await save_for(100, archive, ledger, time)

    assert archive.asked == []


# Turns, and processes that stand still


@dataclass
class SlowWeb:
    """Sends one byte every ten seconds for some links, and a whole video at once for the others.

    Attributes:
        slow: how many bytes a slow one has; None for no end.
        asked: which links were asked for, and when.
    """

    slow_names: set[str]
    seconds: float = 10.0
    block: bytes = b"-"
    asked: list[tuple[str, float]] = field(default_factory=list)

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[Answer]:
        name = PurePosixPath(url).stem
        self.asked.append((name, anyio.current_time()))
        yield Answer(200, {"transfer-encoding": "chunked"}, url, self._body(name))

    async def _body(self, name: str) -> AsyncIterator[bytes]:
        yield VIDEO[:2_000]
        while name in self.slow_names:
            await anyio.sleep(self.seconds)
            yield self.block
        yield VIDEO[2_000:]

    def first(self, name: str) -> float:
        """When a link was first asked for."""
        return next(at for each, at in self.asked if each == name)


def saver_of(ledger: SQLiteLedger, time: VirtualTime, folder: Path, web: SlowWeb) -> VideoSaver:
    archive = RealArchive(folder, cast(Web, web), time.clock(), free=lambda _: None)
    account = partial(ledger.account, BASE, "key")
    own = VideoPolicy(str(folder))
    return VideoSaver(lambda _: archive, own, ledger.coordination, account, time.clock())


def saved_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.mp4"))


async def test_three_videos_that_do_not_come_do_not_keep_the_fourth(
    ledger: SQLiteLedger, time: VirtualTime, tmp_path: Path
) -> None:
    """One byte in ten seconds: each has its turn, and is too slow after a minute (ours)."""
    names = ["dead1", "dead2", "dead3", "good"]
    records = {name: await completed(ledger, name) for name in names}
    web = SlowWeb({"dead1", "dead2", "dead3"})
    with anyio.move_on_after(200):
        await saver_of(ledger, time, tmp_path, web).run()
    good, dead = [
        await record_of(ledger, records[name].submission_id) for name in ("good", "dead1")
    ]

    assert web.first("good") - web.first("dead1") <= TURN_SECONDS + ROUND_SECONDS
    assert good.saved_path
    assert dead.last_save_error is not None
    assert "too slowly" in dead.last_save_error
    assert saved_in(tmp_path) == [Path(good.saved_path)]


async def test_slow_videos_go_on_while_others_have_their_turn(
    ledger: SQLiteLedger, time: VirtualTime, tmp_path: Path
) -> None:
    """What comes just fast enough is not begun again and again; and not too many at once (ours)."""
    names = [f"slow{number}" for number in range(15)]
    for name in names:
        await completed(ledger, name)
    web = SlowWeb(set(names), block=bytes(int(10 * MIN_BYTES_PER_SECOND) + 1))
    with anyio.move_on_after(400):
        await saver_of(ledger, time, tmp_path, web).run()

    assert len(web.asked) == MAX_ALTOGETHER
    assert len({name for name, _ in web.asked}) == MAX_ALTOGETHER
    early = [name for name, at in web.asked if at - web.asked[0][1] < TURN_SECONDS]
    assert len(early) == MAX_AT_ONCE


async def test_a_video_that_failed_waits_behind_one_that_was_never_tried(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """Otherwise the oldest ones alone would be tried for ever (ours)."""
    asked: list[str] = []

    class Failing(Archive):
        async def keep(self, job_id: str, *args: object, **named: object) -> Saved:
            asked.append(job_id)
            await anyio.sleep(20)
            raise NotSaved("Not now.", final=False)

    names = {f"job{number}" for number in range(14)}
    for name in names:
        await completed(ledger, name)
    await save_for(150, Failing([]), ledger, time)

    assert set(asked[:14]) == names
    assert asked[14:17] == asked[:3]


async def test_a_stopped_saver_loses_its_work_to_another_process_when_its_lease_ends(
    ledger: SQLiteLedger, time: VirtualTime, tmp_path: Path
) -> None:
    """It neither keeps the video from the other one, nor damages the file afterwards (ours)."""
    videos = tmp_path / "videos"
    record = await completed(ledger)
    other = SQLiteLedger(tmp_path / "ledger", now=time.wall)
    stopped, web = SlowWeb({"job1"}, seconds=100, block=bytes(500_000)), SlowWeb(set())
    saves = saver_of(ledger, time, videos, stopped)._save

    async with anyio.create_task_group() as tasks:
        account = await ledger.account(BASE, "key")
        assert await ledger.coordination.lead(account, Role.SAVER, LEASE_SECONDS)
        tasks.start_soon(saves, record, tasks)  # and nothing renews the lease
        await anyio.sleep(1)
        with anyio.move_on_after(60):
            await saver_of(other, time, videos, web).run()
        [path] = saved_in(videos)
        before = path.stat()
        stopped.slow_names.clear()  # it goes on
    after = await record_of(ledger, record.submission_id)
    await other.aclose()

    assert LEASE_SECONDS <= web.first("job1") - stopped.first("job1") <= LEASE_SECONDS + 10
    assert path.read_bytes() == VIDEO
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (after.saved_path, after.last_save_error) == (str(path), None)
    assert len(os.listdir(videos)) == 2  # the video and its note


async def test_a_saver_keeps_its_lease_for_as_long_as_a_video_takes(
    ledger: SQLiteLedger, time: VirtualTime, tmp_path: Path
) -> None:
    """Otherwise a second process would fetch a slow video again (ours)."""
    await completed(ledger)
    other = SQLiteLedger(tmp_path / "ledger", now=time.wall)
    slow, idle = SlowWeb({"job1"}, block=bytes(500_000)), SlowWeb(set())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(saver_of(ledger, time, tmp_path / "videos", slow).run)
        await anyio.sleep(1)
        tasks.start_soon(saver_of(other, time, tmp_path / "videos", idle).run)
        await anyio.sleep(3 * LEASE_SECONDS)
        tasks.cancel_scope.cancel()
    await other.aclose()

    assert [name for name, _ in slow.asked] == ["job1"]
    assert idle.asked == []


async def test_a_stopped_saver_cannot_give_up_what_another_one_saved(ledger: SQLiteLedger) -> None:
    """Its link has expired meanwhile, but the video is there (ours)."""
    record = await completed(ledger)
    await ledger.coordination.saved(record.submission_id, "/videos/1.mp4", "ab", 7)
    await ledger.coordination.not_saved(record.submission_id, "Its link has expired.")
    await ledger.coordination.not_saved_yet(record.submission_id, "It is slow.")
    after = await record_of(ledger, record.submission_id)

    assert (after.saved_path, after.not_saved, after.last_save_error) == (
        "/videos/1.mp4",
        None,
        None,
    )


async def test_a_video_that_comes_after_its_job_was_forgotten_is_removed(
    ledger: SQLiteLedger, time: VirtualTime, tmp_path: Path
) -> None:
    """Its user wants it no more, and nothing would say where it is (ours)."""
    record = await completed(ledger, videos=VideoPolicy("videos"))
    video = tmp_path / "2026-11-23_job1.mp4"

    def forget(jobs: History) -> Record:
        return jobs.forget(record, None)

    class Slow(Archive):
        async def keep(self, *args: Any, **options: Any) -> Saved:
            history.change(tmp_path, time.wall, None, forget)
            video.write_bytes(VIDEO)
            video.with_name(".2026-11-23_job1.json").touch()
            return Saved(video)

    await save_for(60, Slow([]), ledger, time)
    after = await record_of(ledger, record.submission_id)

    assert (after.saved_path, after.is_forgotten) == (None, True)
    assert [name for name in os.listdir(tmp_path) if "job1" in name] == []


# The inspection of a saved video

DIFFERENCE = Difference(what="sound", expected="yes", seen="none")


@dataclass
class Inspector:
    """Needs so many seconds for each look.

    Attributes:
        looks: the files that were looked at.
    """

    seconds: float = 1.0
    looks: list[Path] = field(default_factory=list)

    async def __call__(self, path: Path, record: Record) -> list[Difference]:
        self.looks.append(path)
        await anyio.sleep(self.seconds)
        return [DIFFERENCE]


async def test_what_an_inspection_shows_comes_with_the_place_of_the_video(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """A wait ends with the place: its answer has to say both (ours)."""
    record = await completed(ledger)
    await save_for(INSPECTION_SECONDS - 0.1, Archive([Saved()]), ledger, time, Inspector())
    record = await record_of(ledger, record.submission_id)

    assert record.saved_path
    assert record.inspection == (DIFFERENCE,)


async def test_a_slow_inspection_does_not_keep_the_place_of_the_video_back(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """It is made up for by the next saver when this one ends before it (ours)."""
    inspector = Inspector(seconds=60)
    record = await completed(ledger)
    await save_for(INSPECTION_SECONDS + 0.1, Archive([Saved()]), ledger, time, inspector)
    saved = await record_of(ledger, record.submission_id)
    inspector.seconds = 1.0
    await save_for(300, archive := Archive([Saved()]), ledger, time, inspector)
    inspected = await record_of(ledger, record.submission_id)

    assert (saved.saved_path, saved.inspection) == (str(Saved().path), None)
    assert (inspected.saved_path, inspected.inspection) == (str(Saved().path), (DIFFERENCE,))
    assert inspector.looks == [Saved().path] * 2
    assert archive.asked == []


async def test_a_slow_inspection_goes_on_and_is_made_once(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """Neither the next round nor another video waits for it (ours)."""
    inspector, archive = Inspector(seconds=4 * RETRY_SECONDS), Archive([Saved()])
    records = [await completed(ledger, f"job{number}") for number in range(5)]
    await save_for(3 * RETRY_SECONDS, archive, ledger, time, inspector)
    saved = [await record_of(ledger, record.submission_id) for record in records]

    assert all(record.saved_path for record in saved)
    assert len(inspector.looks) == 5


async def test_a_slow_inspection_is_made_by_one_process(
    ledger: SQLiteLedger, time: VirtualTime, tmp_path: Path
) -> None:
    """Its process keeps the role, although it has nothing to save any more (ours)."""
    inspector, archive = Inspector(seconds=4 * LEASE_SECONDS), Archive([Saved()])
    other = SQLiteLedger(tmp_path / "ledger", now=time.wall)
    record = await completed(ledger)
    async with anyio.create_task_group() as tasks:
        for each in (ledger, other):
            tasks.start_soon(save_for, 6 * LEASE_SECONDS, archive, each, time, inspector)
    await other.aclose()

    assert len(inspector.looks) == 1
    assert (await record_of(ledger, record.submission_id)).inspection == (DIFFERENCE,)


async def test_a_saver_that_ends_before_the_place_is_known_loses_nothing(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """The file is on the disk, and the next one finds it there (ours)."""
    record = await completed(ledger)
    await save_for(1, Archive([Saved()]), ledger, time, Inspector(seconds=2))
    before = await record_of(ledger, record.submission_id)
    await save_for(100, Archive([Saved()]), ledger, time, Inspector())
    after = await record_of(ledger, record.submission_id)

    assert (before.saved_path, before.inspection) == (None, None)
    assert (after.saved_path, after.inspection) == (str(Saved().path), (DIFFERENCE,))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
async def test_a_missed_inspection_finds_a_folder_named_in_another_encoding(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """The ledger has its path as a file: URI (RFC 8089)."""
    saved, inspector = Saved(Path(os.fsdecode(b"/M\xfcnchen/one.mp4"))), Inspector(seconds=60)
    record = await completed(ledger)
    await save_for(INSPECTION_SECONDS + 0.1, Archive([saved]), ledger, time)
    await save_for(100, Archive([]), ledger, time, inspector)

    assert inspector.looks == [saved.path]
    assert (await record_of(ledger, record.submission_id)).inspection == (DIFFERENCE,)


@pytest.mark.parametrize("seconds", [1.0, 2.5 * RETRY_SECONDS])
async def test_a_place_that_cannot_be_recorded_at_once_makes_no_second_inspection(
    ledger: SQLiteLedger, time: VirtualTime, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Saving is tried again every minute, whether the inspection is over or goes on (ours)."""
    tries, saved = 0, ledger.coordination.saved

    async def busy_twice(*args: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise LedgerUnavailable("busy", transient=True)
        await saved(*args)

    monkeypatch.setattr(ledger.coordination, "saved", busy_twice)
    inspector, record = Inspector(seconds), await completed(ledger)
    await save_for(300, Archive([Saved()]), ledger, time, inspector)
    after = await record_of(ledger, record.submission_id)

    assert tries == 3
    assert inspector.looks == [Saved().path]
    assert (after.saved_path, after.inspection) == (str(Saved().path), (DIFFERENCE,))


async def test_a_defect_in_an_inspection_ends_nothing(
    ledger: SQLiteLedger, time: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    """The video is saved all the same, and every minute there is another try (ours)."""
    tries = 0

    async def broken(path: Path, record: Record) -> list[Difference]:
        nonlocal tries
        tries += 1
        raise ZeroDivisionError

    record = await completed(ledger)
    await save_for(2.5 * RETRY_SECONDS, Archive([Saved()]), ledger, time, broken)
    record = await record_of(ledger, record.submission_id)

    assert record.saved_path
    assert tries == 3
    assert "inspecting the video of job job1 failed" in caplog.text


async def test_a_ledger_that_cannot_keep_an_inspection_keeps_the_place(
    ledger: SQLiteLedger, time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inspection is worth less than the video (ours)."""

    async def busy(*args: object) -> None:
        raise LedgerUnavailable("busy", transient=True)

    monkeypatch.setattr(ledger.coordination, "inspected", busy)
    record = await completed(ledger)
    await save_for(10, Archive([Saved()]), ledger, time, Inspector())

    assert (await record_of(ledger, record.submission_id)).saved_path


async def test_without_the_extra_nothing_is_inspected(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """Then the answer says nothing of it (ours)."""
    record = await completed(ledger)
    await save_for(100, Archive([Saved()]), ledger, time)

    assert (await record_of(ledger, record.submission_id)).inspection is None


# Waiting for a video


@pytest.mark.parametrize(
    ("answers", "max_seconds"),
    [([Saved()], 0.1), ([NotSaved("The storage is down.", final=False)], 1.1)],
    ids=["saved", "cannot be saved"],
)
async def test_a_wait_lasts_until_the_video_is_saved_but_not_for_long(
    cluster: Cluster, vendor: Vendor, answers: list[Exception | Saved], max_seconds: float
) -> None:
    """The link is worth more now than the file in half a minute (ours)."""
    async with cluster.process(archive=lambda _: Archive(list(answers))) as process:
        record = await process.accept("job1")
        vendor.jobs["job1"] = completed_body("job1")
        received = await process.wait("job1", 120)
        [record] = await process.ledger.coordination.records([record.submission_id])

    completed_at = next(update.at for update in received if update.what == "completed")
    assert received[-1].what == "completed"
    assert received[-1].at - completed_at <= max_seconds + 0.1
    assert bool(record.saved_path) == isinstance(answers[0], Saved)


async def test_a_video_is_saved_where_its_submitter_wanted(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """The process that is elected obeys the record, not its own settings (ours)."""
    opened: list[VideoPolicy] = []

    def open_archive(policy: VideoPolicy) -> Archive:
        opened.append(policy)
        return Archive([Saved()])

    record = await completed(ledger, videos=VideoPolicy("/videos of the submitter", 2.5))
    account = partial(ledger.account, BASE, "key")
    own = VideoPolicy("/videos of this process")
    saver = VideoSaver(open_archive, own, ledger.coordination, account, time.clock())
    with anyio.move_on_after(60):
        await saver.run()

    assert opened == [VideoPolicy("/videos of the submitter", 2.5)]
    assert (await record_of(ledger, record.submission_id)).saved_path is not None


async def test_a_video_that_its_submitter_does_not_want_is_not_saved(
    ledger: SQLiteLedger, time: VirtualTime
) -> None:
    """A server without an archive shares its ledger with one that has an archive (ours)."""
    await completed(ledger, videos=VideoPolicy(""))
    archive = Archive([Saved()])
    await save_for(300, archive, ledger, time)

    assert archive.asked == []
