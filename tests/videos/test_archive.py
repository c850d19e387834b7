"""The archive: whatever happens during a download, a video is saved whole or not at all."""

import base64
import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest

from wan_mcp.clock import Clock
from wan_mcp.errors import NotSaved
from wan_mcp.file_lock import try_lock
from wan_mcp.sandbox import Fault, Reply, Sandbox
from wan_mcp.sandbox.http import faults
from wan_mcp.videos import archive as archive_module
from wan_mcp.videos import unfinished as unfinished_module
from wan_mcp.videos.archive import LOCK_POLL_SECONDS, LOCK_WAIT_SECONDS, Archive, SavedVideo
from wan_mcp.videos.download import MAX_TRIES
from wan_mcp.videos.unfinished import UnfinishedVideo, stem_of
from wan_mcp.web.fetch import Web

pytestmark = pytest.mark.anyio

VIDEO = (Path(archive_module.__file__).parent.parent / "sandbox/media/clip.mp4").read_bytes()
SHA256 = hashlib.sha256(VIDEO).hexdigest()
MADE = datetime(2026, 11, 23, 12, tzinfo=UTC)
STEM = "2026-11-23_job_1"
PATH = "/media/clip.mp4"
DAY = 24 * 3600
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MP4 = {"Content-Type": "video/mp4"}

OTHER_PROCESS = """
import sys, anyio
from datetime import datetime, UTC
from pathlib import Path
from wan_mcp.clock import Clock
from wan_mcp.videos.archive import Archive
from wan_mcp.videos.unfinished import UnfinishedVideo
from wan_mcp.web.fetch import Web

write = UnfinishedVideo.write

def reporting(self, block):
    write(self, block)
    print(self.received.size, flush=True)

UnfinishedVideo.write = reporting
archive = Archive(Path(sys.argv[1]), Web(loopback=True), Clock())
made_at = datetime(2026, 11, 23, 12, tzinfo=UTC)
anyio.run(lambda: archive.keep("job_1", sys.argv[2], made_at=made_at))
"""


@dataclass
class Hours:
    """Time that only the archive's own pauses move forward."""

    now: float = MADE.timestamp()
    pauses: list[float] = field(default_factory=list)
    meanwhile: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint

    def clock(self) -> Clock:
        """No jitter, and no real time."""
        return Clock(
            monotonic=lambda: self.now,
            wall=lambda: datetime.fromtimestamp(self.now, UTC),
            sleep=self.sleep,
            chance=lambda: 0.0,
        )

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        await self.meanwhile()


@dataclass
class Saving:
    """An archive, its folder and clock, and the storage that it downloads from."""

    folder: Path
    sandbox: Sandbox
    web: Web
    clock: Hours = field(default_factory=Hours)

    def archive(self, **settings: Any) -> Archive:
        return Archive(self.folder, self.web, self.clock.clock(), **settings)

    async def keep(self, job_id: str = "job_1", **given: Any) -> SavedVideo:
        given = {"url": self.sandbox.source_video_url, "made_at": MADE, **given}
        return await self.archive().keep(job_id, **given)

    def fault(self, *faults: Fault, times: int | None = 1) -> None:
        self.sandbox.fault("GET", PATH, *faults, times=times)

    @property
    def downloads(self) -> int:
        """How many requests there were; each asks for the whole video."""
        assert not [one for one in self.sandbox.requests if "range" in one.headers]
        return len(self.sandbox.requests)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
async def saving(tmp_path: Path) -> AsyncIterator[Saving]:
    with anyio.fail_after(600):
        async with Sandbox() as sandbox:
            web = Web(loopback=True)
            yield Saving(tmp_path / "videos", sandbox, web)
            await web.aclose()


def is_whole(video: SavedVideo) -> bool:
    return video.path.read_bytes() == VIDEO and (video.sha256, video.size) == (SHA256, len(VIDEO))


def video_reply(status: int = 200, body: bytes = VIDEO, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, MP4 | named, body)


def instead(status: int = 200, body: bytes = VIDEO, **headers: str) -> Fault:
    """A different answer of the storage."""
    return Fault(work=True, reply=video_reply(status, body, **headers))


def cut(at: int, body: bytes = VIDEO, **headers: str) -> Fault:
    """The video, cut off after so many bytes."""
    return Fault(work=True, reply=video_reply(200, body, **headers), send="cut", cut_at=at)


async def test_video_is_saved_under_its_date_and_job(saving: Saving) -> None:
    """Named by date and job id, whole, and private to the user (ours)."""
    video = await saving.keep()

    assert is_whole(video)
    assert video.path == saving.folder / f"{STEM}.mp4"
    assert saving.names == [f".{STEM}.json", f"{STEM}.mp4"]
    if os.name == "posix":
        assert saving.folder.stat().st_mode & 0o777 == 0o700
        assert video.path.stat().st_mode & 0o777 == 0o600


async def test_neither_key_nor_cookie_is_sent_to_the_storage(saving: Saving) -> None:
    """The storage may belong to another company than the API (assumed)."""
    saving.fault(Fault(work=True, reply=video_reply(set_cookie="a=b; Path=/"), send="cut"))

    await saving.keep()

    assert len(saving.sandbox.requests) == 2
    for request in saving.sandbox.requests:
        assert set(request.headers) == {"host", "user-agent", "accept", "accept-encoding"}


async def test_video_is_intact_after_ten_random_cuts(saving: Saving) -> None:
    """Each cut starts the download from the beginning (ours)."""
    cuts = random.Random(23).sample(range(1, len(VIDEO)), 10)
    saving.fault(*map(cut, cuts))

    video = await saving.keep()

    assert is_whole(video)
    assert saving.downloads == 11
    assert saving.names == [f".{STEM}.json", f"{STEM}.mp4"]


async def test_saved_video_is_not_fetched_again(saving: Saving) -> None:
    """Its link may have expired by then (ours)."""
    first = await saving.keep()

    again = await saving.keep(url="https://storage.invalid/gone.mp4")

    assert again == first
    assert len(saving.sandbox.requests) == 1


async def test_video_that_changed_between_two_tries_is_not_mixed(saving: Saving) -> None:
    """Two halves of two videos are not a video (ours)."""
    saving.fault(cut(40_000, b"\0" * 50_000))

    video = await saving.keep()

    assert is_whole(video)
    assert saving.downloads == 2


@pytest.mark.parametrize("status", [206, 416])
async def test_answer_to_a_range_that_was_not_requested_is_tried_again(
    saving: Saving, status: int
) -> None:
    """It says something about a cache in between, not about the video (ours)."""
    saving.fault(instead(status, VIDEO[700:]))

    assert is_whole(await saving.keep())
    assert saving.downloads == 2


async def test_storage_that_always_breaks_is_given_up_for_now(saving: Saving) -> None:
    """After twelve failures in a row; the caller may try again later (ours)."""
    saving.fault(cut(700), times=None)

    with pytest.raises(NotSaved, match="the connection broke") as failed:
        await saving.keep()

    assert not failed.value.final
    assert saving.downloads == MAX_TRIES
    assert saving.clock.pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30]
    assert saving.names == []


async def test_lost_connections_are_waited_out(saving: Saving) -> None:
    """A missing answer says nothing about the video (ours)."""
    saving.fault(faults.reset(work=False), faults.dropped(work=True), faults.status(502))

    video = await saving.keep()

    assert is_whole(video)
    assert saving.clock.pauses == [0.5, 1, 2]


@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("86400", 300), ("soon", 0.5)])
async def test_busy_storage_gets_the_pause_that_it_asks_for(
    saving: Saving, asked: str, waited: float
) -> None:
    """Up to five minutes (ours)."""
    saving.fault(faults.status(429, headers={"Retry-After": asked}))

    await saving.keep()

    assert saving.clock.pauses == [waited]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_dead_link_is_final_at_once(saving: Saving, status: int) -> None:
    """A storage answers 403 for an expired signature, and 404 for a deleted file (assumed)."""
    saving.fault(faults.status(status, "<html>gone"))

    with pytest.raises(NotSaved, match=f"answers {status}") as failed:
        await saving.keep(url=f"{saving.sandbox.source_video_url}?signature=secret")

    assert failed.value.final
    assert "secret" not in failed.value.what
    assert len(saving.sandbox.requests) == 1


async def test_failed_download_leaves_no_file(saving: Saving) -> None:
    """What was received is removed, so that it is never taken for a video (ours)."""
    saving.fault(cut(20_000), faults.status(403))
    with pytest.raises(NotSaved, match="answers 403"):
        await saving.keep()

    assert saving.names == []


async def test_retries_end_when_the_link_expires(saving: Saving) -> None:
    """Pauses get shorter towards that moment, and after it there is no retry (ours)."""
    saving.fault(faults.status(503, headers={"Retry-After": "60"}), times=None)

    with pytest.raises(NotSaved, match="expired") as failed:
        await saving.keep(expires_at=MADE + timedelta(seconds=100))

    assert failed.value.final
    assert saving.clock.pauses == [50, 25, 12.5, 6.25, 3.125, 1.5625, 0.78125]


async def test_expired_link_is_tried_once(saving: Saving) -> None:
    """PixelDojo does not document what `expiresAt` means, and clocks may be wrong (ours)."""
    video = await saving.keep(expires_at=MADE - timedelta(days=1))

    assert is_whole(video)


@pytest.mark.parametrize(
    "answer",
    [
        instead(Content_Type="text/html; charset=utf-8"),
        instead(Content_Type="application/problem+json"),
        instead(body=b'{"error": "no"}'),
        instead(body=b"\xef\xbb\xbf\n <!DOCTYPE html>"),
        instead(Content_Encoding="gzip"),
    ],
    ids=["page", "json", "json inside", "page inside", "packed"],
)
async def test_answer_that_is_not_a_video_is_not_saved(saving: Saving, answer: Fault) -> None:
    """An error page with a video's name would be noticed only when the link is dead (ours)."""
    saving.fault(answer)

    with pytest.raises(NotSaved, match="not a film") as failed:
        await saving.keep()

    assert failed.value.final
    assert not list(saving.folder.glob("*.mp4"))
    assert not sum(part.stat().st_size for part in saving.folder.glob(".*.part"))
    assert is_whole(await saving.keep())


async def test_video_declared_too_long_is_not_begun(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk must not be filled by something that is not a result (ours)."""
    saving.fault(faults.cut(100))
    monkeypatch.delattr(UnfinishedVideo, "write")

    with pytest.raises(NotSaved, match="longer than 30,000 bytes") as failed:
        await saving.archive(max_bytes=30_000).keep(
            "job_1", saving.sandbox.source_video_url, made_at=MADE
        )

    assert failed.value.final


async def test_empty_answer_is_asked_for_again(saving: Saving) -> None:
    """A video cannot be empty (ours)."""
    saving.fault(instead(body=b""))

    assert is_whole(await saving.keep())


@asynccontextmanager
async def storage(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives one of these answers per connection, and the requests that it gets."""
    asked: list[bytes] = []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            asked.append(await stream.receive())
            with suppress(anyio.BrokenResourceError):  # the client may close the connection early
                await stream.send(answers[len(asked) - 1])

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield f"http://127.0.0.1:{port}/video", asked
        group.cancel_scope.cancel()


BOX = b"\0\0\0\x0cfree!!!!"
LARGE_BOX = b"\0\0\0\1free" + (20).to_bytes(8) + b"!!!!"
FRAGMENT = b"\0\0\0\x08moof"
LAST_INDEX = b"\0\0\0\x08mfra"


@pytest.mark.parametrize(
    ("body", "is_whole"),
    [
        (VIDEO, True),
        (VIDEO + BOX + LARGE_BOX, True),
        (VIDEO + FRAGMENT + LAST_INDEX, True),
        (VIDEO[:-1], False),
        (VIDEO + BOX[:-1], False),
        (VIDEO + LARGE_BOX[:-1], False),
        (VIDEO + b"\0\0\0\0free", False),
        (VIDEO + FRAGMENT, False),
        (BOX, False),
        (b"", False),
    ],
)
async def test_video_of_undeclared_length_must_end_with_its_last_box(
    saving: Saving, body: bytes, is_whole: bool
) -> None:
    """Without Content-Length a cut looks like the end of the file (RFC 9112, 6.3)."""
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body
    saved = []

    async with storage(*[answer] * MAX_TRIES) as (url, asked):
        with suppress(NotSaved):
            saved.append(await saving.keep(url=url))

    assert [video.path.read_bytes() for video in saved] == [body] * is_whole
    assert len(asked) == (1 if is_whole else MAX_TRIES)


async def test_video_that_grows_too_long_is_removed(saving: Saving) -> None:
    """Also if its length is not declared; the space is freed at once (ours)."""
    chunks = b"".join(b"8000\r\n" + VIDEO[:0x8000] + b"\r\n" for _ in range(40))

    async with storage(CHUNKED + chunks + b"0\r\n\r\n") as (url, _):
        with pytest.raises(NotSaved, match="longer than 200,000 bytes") as failed:
            await saving.archive(max_bytes=200_000).keep("job_1", url, made_at=MADE)

    assert failed.value.final
    assert saving.names == []


async def test_last_chunk_is_as_good_as_a_length(saving: Saving) -> None:
    """A chunked body says where it ends (RFC 9112)."""
    length = f"{len(VIDEO):x}\r\n".encode()

    async with storage(CHUNKED + length + VIDEO + b"\r\n0\r\n\r\n") as (url, _):
        video = await saving.keep(url=url)

    assert is_whole(video)


def digest(algorithm: str, data: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()


DIGESTS = {
    "Repr-Digest": ("sha256", "sha-512=:AAAA:, sha-256=:{}:"),
    "x-amz-checksum-sha256": ("sha256", "{}"),
    "Content-MD5": ("md5", "{}"),
    "x-goog-hash": ("md5", "crc32c=n03x6A==,md5={}"),
}


@pytest.mark.parametrize("header", DIGESTS)
async def test_video_is_checked_against_its_digest(saving: Saving, header: str) -> None:
    """A video that does not match the storage's digest is downloaded again (ours)."""
    algorithm, form = DIGESTS[header]
    declared: dict[str, Any] = {header: form.format(digest(algorithm, VIDEO))}
    saving.fault(instead(body=VIDEO[:-1] + b"?", **declared), instead(**declared))

    video = await saving.keep()

    assert is_whole(video)
    assert saving.downloads == 2


async def test_digest_that_never_matches_is_not_final(saving: Saving) -> None:
    """A proxy in between may damage videos today, and not tomorrow (ours)."""
    saving.fault(instead(Content_MD5=digest("md5", b"another video")), times=None)

    with pytest.raises(NotSaved, match="damaged") as failed:
        await saving.keep()

    assert not failed.value.final
    assert not list(saving.folder.glob("*.mp4"))


async def test_composite_digest_of_an_upload_is_ignored(saving: Saving) -> None:
    """S3 appends the number of parts to a digest of digests (documented)."""
    saving.fault(instead(x_amz_checksum_sha256=digest("sha256", b"parts") + "-3"))

    assert is_whole(await saving.keep())


async def test_full_disk_leaves_no_file_and_no_verdict(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When there is space again, the video is saved (ours)."""
    write, full = os.write, True

    def limited(file: int, data: memoryview) -> int:
        if full and os.fstat(file).st_size + len(data) > 30_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(saving.folder))
        return write(file, data)

    monkeypatch.setattr(os, "write", limited)
    with pytest.raises(NotSaved, match="No space left") as failed:
        await saving.keep(url=f"{saving.sandbox.source_video_url}?signature=secret")
    left = saving.names
    full = False

    assert is_whole(await saving.keep())
    assert left == []
    assert not failed.value.final
    assert not {"secret", str(saving.folder)} & set(failed.value.what.split())


async def test_folder_that_cannot_be_created_is_reported(saving: Saving) -> None:
    """The user may choose another folder, so it is not final (ours)."""
    saving.folder.write_text("a file")

    with pytest.raises(NotSaved, match="the disk says") as failed:
        await saving.keep()

    assert not failed.value.final
    assert saving.sandbox.requests == []


async def test_cancelled_call_leaves_no_file(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that gives up on a call costs a retry, not the video (ours)."""
    saving.fault(faults.cut(20_000, stall=True))
    arrived, write = threading.Event(), UnfinishedVideo.write

    def reporting(video: UnfinishedVideo, block: bytes) -> None:
        write(video, block)
        if video.received.size == 20_000:
            arrived.set()

    monkeypatch.setattr(UnfinishedVideo, "write", reporting)
    async with anyio.create_task_group() as group:
        group.start_soon(saving.keep)
        await anyio.to_thread.run_sync(arrived.wait)
        group.cancel_scope.cancel()
    left = saving.names

    assert is_whole(await saving.keep())
    assert left == []


def half_done(saving: Saving, at: int) -> "subprocess.Popen[bytes]":
    """Start another process that saves the same video, and has so many bytes of it."""
    command = [
        sys.executable,
        "-c",
        OTHER_PROCESS,
        str(saving.folder),
        saving.sandbox.source_video_url,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == at:
            return process
    raise AssertionError("it ended early")


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


async def test_video_is_intact_after_a_kill(saving: Saving) -> None:
    """After kill -9 in the middle, another process starts from the beginning (ours)."""
    saving.fault(faults.cut(20_000, stall=True))
    kill(await anyio.to_thread.run_sync(half_done, saving, 20_000))
    left = saving.names

    video = await saving.keep()

    assert is_whole(video)
    assert left == [f".{STEM}.json", f".{STEM}.part"]
    assert saving.names == [f".{STEM}.json", f"{STEM}.mp4"]


async def test_what_a_killed_process_left_is_removed_with_the_next_video(saving: Saving) -> None:
    """Its lock is free, so nobody is writing the file any more (ours)."""
    saving.fault(faults.cut(20_000, stall=True))
    kill(await anyio.to_thread.run_sync(half_done, saving, 20_000))

    await saving.keep("job_2")

    assert saving.names == [".2026-11-23_job_2.json", "2026-11-23_job_2.mp4"]


async def test_second_process_waits_for_the_first(saving: Saving) -> None:
    """It takes over when the first one dies, and not before (ours)."""
    saving.fault(faults.cut(20_000, stall=True))
    other = await anyio.to_thread.run_sync(half_done, saving, 20_000)
    asked: list[int] = []

    async def kill_at_the_third_pause() -> None:
        asked.append(len(saving.sandbox.requests))
        if len(asked) == 3:
            kill(other)
        await anyio.lowlevel.checkpoint()

    saving.clock.meanwhile = kill_at_the_third_pause
    video = await saving.keep()

    assert is_whole(video)
    assert asked[:3] == [1, 1, 1]
    assert saving.downloads == 2


async def test_two_tasks_fetch_one_video_once(saving: Saving) -> None:
    """Two calls about one job end with the same video (ours)."""
    videos: list[SavedVideo] = []
    first = anyio.Event()
    saving.clock.meanwhile = first.wait

    async def keep() -> None:
        videos.append(await saving.keep())
        first.set()

    async with anyio.create_task_group() as group:
        group.start_soon(keep)
        group.start_soon(keep)

    assert is_whole(videos[0])
    assert videos[0] == videos[1]
    assert len(saving.sandbox.requests) == 1


async def test_lock_that_is_never_freed_is_given_up(saving: Saving) -> None:
    """A frozen process must not freeze another (ours)."""
    frozen = UnfinishedVideo(saving.folder, STEM)
    assert frozen.claim()

    try:
        with pytest.raises(NotSaved, match="Another server") as failed:
            await saving.keep()
    finally:
        frozen.release()

    assert not failed.value.final
    assert sum(saving.clock.pauses) == LOCK_WAIT_SECONDS


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other locks")
async def test_disk_without_locks_is_reported(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network disks have none, and two servers could write the same file (ours)."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)

    with pytest.raises(NotSaved, match="No locks available") as failed:
        await saving.keep()

    assert not failed.value.final


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
async def test_lock_on_a_removed_note_does_not_count(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep in another process may remove the note between opening and locking it (ours)."""
    raced: list[int] = []

    def after_a_sweep(file: int, *, offset: int) -> bool:
        if not raced:
            raced.append(file)
            (saving.folder / f".{STEM}.json").unlink()
        return try_lock(file, offset=offset)

    monkeypatch.setattr(unfinished_module, "try_lock", after_a_sweep)
    video = await saving.keep()

    assert is_whole(video)
    assert saving.clock.pauses == [LOCK_POLL_SECONDS]
    assert saving.names == [f".{STEM}.json", f"{STEM}.mp4"]


async def test_leftovers_of_a_crash_never_become_part_of_a_video(saving: Saving) -> None:
    """Not even those of an older version, which continued them by byte range (ours)."""
    saving.folder.mkdir()
    (saving.folder / f".{STEM}.part").write_bytes(bytes(2 * len(VIDEO)))
    known = {"etag": '"a"', "total": len(VIDEO), "size": len(VIDEO), "sha256": SHA256}
    (saving.folder / f".{STEM}.json").write_text(json.dumps(known))

    video = await saving.keep()

    assert is_whole(video)
    assert saving.downloads == 1


async def test_video_that_cannot_get_its_name_is_fetched_again(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows a virus scanner may hold a file for a moment (observed elsewhere)."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _refuse)
        with pytest.raises(NotSaved, match="Permission denied") as failed:
            await saving.keep()
    left = saving.names

    assert is_whole(await saving.keep())
    assert left == []
    assert not failed.value.final


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("path", "content_type", "suffix"),
    [
        ("/media/clip.mp4", "video/webm", ".webm"),
        ("/media/clip.mp4", "video/quicktime", ".mov"),
        ("/video.WEBM?x=.mov", "application/octet-stream", ".webm"),
        ("/video.exe", "", ".mp4"),
        ("/video", "VIDEO/MP4; codecs=avc1", ".mp4"),
    ],
)
async def test_suffix_says_what_the_video_is(
    saving: Saving, path: str, content_type: str, suffix: str
) -> None:
    """By its content type, then by its address, and always that of a video (ours)."""
    saving.sandbox.fault("GET", path.partition("?")[0], instead(Content_Type=content_type))

    video = await saving.keep(url=saving.sandbox.origin + path)

    assert video.path.name == STEM + suffix
    assert await saving.keep(url="https://storage.invalid/") == video


@pytest.mark.parametrize("job_id", ["../up", "a/b", "", ".hidden", "a\\b", "C:x", "é", "x" * 129])
async def test_no_job_id_leads_out_of_the_folder(saving: Saving, job_id: str) -> None:
    """The id becomes part of a path, and the vendor chooses it (ours)."""
    with pytest.raises(NotSaved, match="file name") as failed:
        await saving.keep(job_id)

    assert failed.value.final
    assert not saving.folder.exists()


async def test_ids_that_differ_in_case_are_two_videos(saving: Saving) -> None:
    """On Windows and macOS job_A and job_a are the same file (documented)."""
    names = {stem_of(job_id, MADE).lower() for job_id in ("job_a", "job_A", "JOB_A")}

    assert len(names) == 3
    assert (await saving.keep("job_A")).path.name.startswith("2026-11-23_job_A.")


def test_date_of_a_name_is_in_utc() -> None:
    """The same video has the same name in every time zone (ours)."""
    late = datetime(2026, 11, 23, 22, tzinfo=timezone(-timedelta(hours=5)))

    assert stem_of("con", late) == "2026-11-24_con"


async def test_private_addresses_are_not_contacted(saving: Saving) -> None:
    """A link in PixelDojo's answer must not reach into the private network (ours)."""
    strict = Archive(saving.folder, Web(), Clock())

    with pytest.raises(NotSaved) as failed:
        await strict.keep("job_1", saving.sandbox.source_video_url, made_at=MADE)

    assert failed.value.final
    assert saving.sandbox.requests == []


async def aged(saving: Saving, days: dict[str, float]) -> None:
    """Save videos that look as if they were saved so many days ago."""
    for job_id, age in days.items():
        video = await saving.keep(job_id)
        when = saving.clock.now - age * DAY
        os.utime(video.path, (when, when))


@pytest.mark.parametrize(
    ("days", "limit", "left"),
    [
        ({"a": 30, "b": 20, "c": 10}, 4, "a b c new"),
        ({"a": 20, "b": 30, "c": 10}, 3, "a c new"),
        ({"a": 30, "b": 20, "c": 10}, 2.5, "c new"),
        ({"a": 30, "b": 6.9, "c": 7.1}, 1, "b new"),
        ({"a": 1, "b": 2}, 0, "a b new"),
        ({"a": -5}, 0, "a new"),
        ({"a": 300}, None, "a new"),
    ],
)
async def test_oldest_videos_are_removed_when_there_are_too_many(
    saving: Saving, days: dict[str, float], limit: float | None, left: str
) -> None:
    """Oldest first, and none younger than a week; the limit is given in videos here (ours)."""
    await aged(saving, days)
    limit_gb = None if limit is None else limit * len(VIDEO) / 1e9

    new = await saving.archive(limit_gb=limit_gb).keep(
        "new", saving.sandbox.source_video_url, made_at=MADE
    )

    assert {path.stem[11:] for path in saving.folder.glob("[!.]*")} == set(left.split())
    assert {path.stem[12:] for path in saving.folder.glob(".*")} == set(left.split())
    assert is_whole(new)


async def test_video_that_was_just_saved_stays_however_old(saving: Saving) -> None:
    """With a clock that is years off, a new video may look old (ours)."""
    saving.clock.now += 10 * 365 * DAY

    video = await saving.archive(limit_gb=0).keep(
        "new", saving.sandbox.source_video_url, made_at=MADE
    )

    assert is_whole(video)


async def test_files_of_others_are_never_removed(saving: Saving) -> None:
    """People also name their own videos by date (ours)."""
    await aged(saving, {"edited": 30})
    (saving.folder / "2026-11-23_edited.mp4").write_bytes(VIDEO + b"a cut of the user's own")
    for name in ("2020-01-01_wedding.mp4", "2020-01-01_b.txt", "notes.mp4", ".2020-01-01_b.part"):
        (saving.folder / name).write_bytes(VIDEO)
    for path in saving.folder.iterdir():
        os.utime(path, (0, 0))
    before = saving.names

    await saving.archive(limit_gb=0).keep("new", saving.sandbox.source_video_url, made_at=MADE)

    assert set(before) <= set(saving.names)


async def test_videos_saved_by_an_older_version_count_as_ours(saving: Saving) -> None:
    """Their notes also hold what a download by byte range needed (ours)."""
    await aged(saving, {"a": 30})
    known = {"etag": '"a"', "total": len(VIDEO), "suffix": ".mp4", "digests": {}}
    note = saving.folder / ".2026-11-23_a.json"
    note.write_text(json.dumps(known | {"size": len(VIDEO), "sha256": SHA256}))

    await saving.archive(limit_gb=0).keep("new", saving.sandbox.source_video_url, made_at=MADE)

    assert saving.names == [".2026-11-23_new.json", "2026-11-23_new.mp4"]


async def test_file_that_is_being_written_stays(saving: Saving) -> None:
    """Its lock protects it from a sweep, whatever its date (ours)."""
    busy = UnfinishedVideo(saving.folder, "2026-01-01_busy")
    assert busy.claim()
    busy.begin()
    os.utime(saving.folder / ".2026-01-01_busy.json", (0, 0))

    await saving.keep("new")
    names = saving.names
    busy.release()

    assert {".2026-01-01_busy.json", ".2026-01-01_busy.part"} <= set(names)
    assert not {".2026-01-01_busy.json", ".2026-01-01_busy.part"} & set(saving.names)


@pytest.mark.parametrize(
    ("broken", "warning"),
    [
        ("unlink", "2026-11-23_a.mp4 could not be removed: Permission denied"),
        ("iterdir", "the archive could not be tidied: Permission denied"),
    ],
)
async def test_failed_sweep_does_not_lose_the_video(
    saving: Saving,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
    warning: str,
) -> None:
    """Removing old videos can wait (ours)."""
    await aged(saving, {"a": 30})
    monkeypatch.setattr(Path, broken, _refuse)

    video = await saving.archive(limit_gb=0).keep(
        "new", saving.sandbox.source_video_url, made_at=MADE
    )

    assert is_whole(video)
    assert warning in caplog.text
