"""The archive: whatever happens during a download, a video is saved whole or not at all."""

import base64
import errno
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest

from wan_mcp.clock import Clock
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import Coordination
from wan_mcp.sandbox import Fault, Reply, Sandbox
from wan_mcp.sandbox.http import faults
from wan_mcp.storage.file_lock import try_lock
from wan_mcp.videos import archive as archive_module
from wan_mcp.videos import containers
from wan_mcp.videos import unfinished as unfinished_module
from wan_mcp.videos.archive import LEFTOVER_AGE_SECONDS, Archive
from wan_mcp.videos.containers import Ending, ending_of
from wan_mcp.videos.download import MAX_TRIES
from wan_mcp.videos.kept import KeptVideos
from wan_mcp.videos.not_saved import NotSaved
from wan_mcp.videos.own_files import create
from wan_mcp.videos.unfinished import (
    RESERVE_BYTES,
    SavedVideo,
    UnfinishedVideo,
    remove_if_left,
    stem_of,
)
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
    print(self.size, flush=True)
    if str(self.size) in sys.argv[3:]:
        sys.stdin.readline()

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

    def set_dates(self) -> None:
        """Let all files be from now, by the archive's clock."""
        for path in self.folder.iterdir():
            os.utime(path, (self.clock.now, self.clock.now))


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
        instead(body=b'{"error": "no"}'),
        instead(body=b"\xef\xbb\xbf\n <!DOCTYPE html>"),
        instead(body=b"The film has expired, sorry."),
        instead(body=b"\x89PNG\r\n\x1a\n" + bytes(2_000)),
        instead(body=gzip.compress(VIDEO), Content_Encoding="gzip"),
        instead(body=b"\x1b\x7f" + bytes(2_000), Content_Encoding="br"),
        instead(body=b"\xff\xfe<\0h\0t\0m\0l\0>\0", Content_Type="text/html; charset=utf-16"),
    ],
    ids=["json", "page", "text", "picture", "packed", "packed otherwise", "page in UTF-16"],
)
async def test_answer_that_is_not_a_video_is_not_saved(saving: Saving, answer: Fault) -> None:
    """An error page with a video's name would be noticed only when the link is dead (ours)."""
    saving.fault(answer)

    with pytest.raises(NotSaved, match="not a video") as failed:
        await saving.keep()

    assert failed.value.final
    assert not list(saving.folder.glob("*.mp4"))
    assert not sum(part.stat().st_size for part in saving.folder.glob(".*.part"))
    assert is_whole(await saving.keep())


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "text/plain"},
        {"Content_Type": "text/html; charset=utf-8"},
        {"Content_Type": "application/problem+json"},
        {"Content_Type": "binary/octet-stream"},
        {"Content_Type": "image/png"},
        {"Content_Type": ""},
        {"Content_Encoding": "gzip"},
    ],
    ids=str,
)
async def test_video_is_saved_whatever_its_headers_say(
    saving: Saving, headers: dict[str, Any]
) -> None:
    """The bytes decide: a storage that does not know a name declares it as text (ours)."""
    saving.fault(instead(**headers))

    video = await saving.keep()

    assert is_whole(video)
    assert video.path.suffix == ".mp4"


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


EBML = b"\x1a\x45\xdf\xa3\x84webm"
UNSIZED = b"\x01" + b"\xff" * 7


def cluster(size: bytes = b"\x8a") -> bytes:
    """A WebM cluster with one block of 8 bytes."""
    return b"\x1f\x43\xb6\x75" + size + b"\xa3\x88--block-"


def webm(size: bytes, *clusters: bytes) -> bytes:
    return EBML + b"\x18\x53\x80\x67" + size + b"".join(clusters)


RECORDED = webm(UNSIZED, cluster(UNSIZED), cluster(UNSIZED))


@pytest.mark.parametrize(
    ("body", "ending"),
    [
        (VIDEO, Ending.WHOLE),
        (VIDEO[:-1], Ending.CUT),
        (VIDEO[:4], Ending.OPEN),  # nothing shows what it is
        (VIDEO + FRAGMENT, Ending.OPEN),
        (VIDEO + FRAGMENT + LAST_INDEX, Ending.WHOLE),
        (VIDEO + b"\0\0\0\0mdat to the end", Ending.OPEN),
        (b"\0\0\0\x08ftyp\0\0\0\x01mdat" + (1 << 60).to_bytes(8), Ending.CUT),
        (webm(b"\x9e", cluster(), cluster()), Ending.WHOLE),
        (webm(b"\x9e", cluster(), cluster())[:-1], Ending.CUT),
        (webm(b"\x9e", cluster()), Ending.CUT),
        (webm(b"\x80"), Ending.CUT),
        (webm(UNSIZED, cluster()), Ending.OPEN),
        (RECORDED, Ending.OPEN),
        (RECORDED[:-1], Ending.CUT),
        (RECORDED + b"\0", Ending.CUT),
        (webm(UNSIZED, cluster(), b"\xec" + UNSIZED), Ending.CUT),
        (EBML[:5], Ending.CUT),
        (b"something else", Ending.OPEN),
        (b"", Ending.CUT),
    ],
)
def test_container_shows_whether_something_is_missing(body: bytes, ending: Ending) -> None:
    """Boxes of MP4 and elements of WebM say how long they are (ISO 14496-12, RFC 8794)."""
    assert ending_of(lambda at, size: body[at : at + size], len(body)) is ending


@pytest.mark.parametrize(
    ("first", "part"),
    [(b"\0\0\0\x08ftyp", b"\0\0\0\x08free"), (b"\x1a\x45\xdf\xa3\x80", b"\xec\x80")],
    ids=["boxes", "elements"],
)
def test_tiny_parts_are_not_counted_for_minutes(first: bytes, part: bytes) -> None:
    """Gigabytes of empty boxes or elements must not occupy a thread (ours)."""
    reads: list[int] = []

    def read(at: int, size: int) -> bytes:
        reads.append(at)
        assert len(reads) <= 52
        return (part if at else first).ljust(16)[:size]

    with patch.object(containers, "MAX_PARTS", 50):
        ending_of(read, 8_000_000_000)

    assert len(reads) >= 50


CLOSED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def chunked(body: bytes) -> bytes:
    return CHUNKED + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answers", "saved"),
    [
        ([chunked(VIDEO)], VIDEO),
        ([chunked(RECORDED)], RECORDED),
        ([chunked(VIDEO[:-9]), chunked(VIDEO)], VIDEO),  # a proxy that hides a cut
        ([chunked(RECORDED[:-3]), chunked(RECORDED)], RECORDED),
        ([chunked(VIDEO)[:-9], chunked(VIDEO)], VIDEO),
        ([CLOSED + RECORDED[:-3], CLOSED + RECORDED, CLOSED + RECORDED], RECORDED),
        ([CLOSED + VIDEO + FRAGMENT] * 2, VIDEO + FRAGMENT),
        ([CLOSED + RECORDED[:-22], CLOSED + RECORDED, CLOSED + RECORDED], RECORDED),
    ],
)
async def test_video_with_neither_length_nor_tag_is_saved_once_it_is_whole(
    saving: Saving, answers: list[bytes], saved: bytes
) -> None:
    """If neither answer nor container says that it ends, it has to come twice, the same (ours)."""
    async with storage(*answers) as (url, asked):
        video = await saving.keep(url=url)

    assert video.path.read_bytes() == saved
    assert len(asked) == len(answers)


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


def half_done(saving: Saving, at: int, *more: str) -> "subprocess.Popen[bytes]":
    """Start another process that saves the same video, and has so many bytes of it.

    Args:
        more: a number of bytes; when it has them, it waits for a line of its standard input.
    """
    command = [
        sys.executable,
        "-c",
        OTHER_PROCESS,
        str(saving.folder),
        saving.sandbox.source_video_url,
        *more,
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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
    assert len(left) == 1
    assert left[0].endswith(".part")
    assert saving.names == [f".{STEM}.json", f"{STEM}.mp4"]


async def test_what_a_killed_process_left_is_removed_with_the_next_video(saving: Saving) -> None:
    """Its lock is free, so nobody is writing the file any more (ours)."""
    saving.fault(faults.cut(20_000, stall=True))
    kill(await anyio.to_thread.run_sync(half_done, saving, 20_000))

    await saving.keep("job_2")

    assert saving.names == [".2026-11-23_job_2.json", "2026-11-23_job_2.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process like this")
async def test_a_stopped_process_keeps_nothing_and_damages_nothing(saving: Saving) -> None:
    """Another one saves the video meanwhile, and the file stays as it is when it goes on (ours)."""
    size = len(VIDEO)
    stopped = await anyio.to_thread.run_sync(half_done, saving, size, str(size))
    stopped.send_signal(signal.SIGSTOP)
    saving.set_dates()

    video = await saving.keep()
    before, during = video.path.stat(), saving.names
    stopped.send_signal(signal.SIGCONT)
    await anyio.to_thread.run_sync(stopped.communicate, b"go on\n")
    after = video.path.stat()

    assert stopped.returncode == 0
    assert is_whole(video)
    assert saving.clock.pauses == []  # nobody waited for the stopped one
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(during) == 3
    assert saving.names == [f".{STEM}.json", f"{STEM}.mp4"]


async def test_the_slower_of_two_savers_returns_what_the_faster_one_saved(saving: Saving) -> None:
    """A file that has its name is never replaced, and each saver writes to its own (ours)."""
    slow = UnfinishedVideo(saving.folder, STEM)
    slow.begin()
    slow.write(b"another video")
    saving.set_dates()

    video = await saving.keep()
    late = slow.finish(".webm", {})
    slow.discard()

    assert late == video
    assert is_whole(video)
    assert saving.names == [f".{STEM}.json", f"{STEM}.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows renames instead")
@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
async def test_two_savers_at_the_same_moment_make_one_video(
    saving: Saving, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Also where the other one is faster by a hair, and on disks without hard links (ours)."""
    other = UnfinishedVideo(saving.folder, STEM)
    other.begin()
    other.write(b"the same video, with another date in it")
    saving.set_dates()
    found: list[SavedVideo] = []
    find = unfinished_module.find_video

    def just_before(folder: Path, stem: str) -> SavedVideo | None:
        monkeypatch.setattr(unfinished_module, "find_video", find)
        found.append(other.finish(".mp4", {}))
        if not links:
            monkeypatch.setattr(os, "link", _refuse)
        return None

    monkeypatch.setattr(unfinished_module, "find_video", just_before)
    video = await saving.keep()
    other.discard()

    assert [video] == found
    assert video.path.read_bytes() == b"the same video, with another date in it"
    assert saving.names == [f".{STEM}.json", f"{STEM}.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other locks")
async def test_disk_without_locks_and_links_saves_too(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network disks have neither; nothing of a video depends on them (ours)."""

    def none(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    monkeypatch.setattr(os, "link", none)

    assert is_whole(await saving.keep())


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
        patch.setattr(os, "link", _refuse)
        patch.setattr(os, "rename", _refuse)
        with pytest.raises(NotSaved, match="Permission denied") as failed:
            await saving.keep()
    left = saving.names

    assert is_whole(await saving.keep())
    assert left == []
    assert not failed.value.final


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


MATROSKA = EBML.replace(b"webm", b"mkv ") + bytes(2_000)
DECLARED_WEBM = b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm" + bytes(2_000)
UNKNOWN = b"\x00\x01 no known container" + bytes(2_000)


@pytest.mark.parametrize(
    ("body", "path", "content_type", "suffix"),
    [
        (VIDEO, "/media/clip.webm", "video/webm", ".mp4"),
        (DECLARED_WEBM, "/media/clip.mp4", "video/mp4", ".webm"),
        (b"\0\0\0\x14ftypqt  " + bytes(2_000), "/media/clip.mp4", "video/mp4", ".mov"),
        (MATROSKA, "/media/clip.mp4", "text/plain", ".mkv"),
        (b"RIFF\0\0\0\0AVI " + bytes(2_000), "/media/clip.mp4", "", ".avi"),
        (UNKNOWN, "/media/clip.mp4", "video/webm", ".webm"),
        (UNKNOWN, "/video.WEBM?x=.mov", "application/octet-stream", ".webm"),
        (UNKNOWN, "/video.exe", "", ".mp4"),
        (UNKNOWN, "/video", "VIDEO/MP4; codecs=avc1", ".mp4"),
    ],
)
async def test_suffix_says_what_the_video_is(
    saving: Saving, body: bytes, path: str, content_type: str, suffix: str
) -> None:
    """By its bytes, then by its content type, then by its address; always a video's (ours)."""
    answer = instead(body=body, Content_Type=content_type)
    saving.sandbox.fault("GET", path.partition("?")[0], answer)

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


class Marks:
    """The marks of a ledger, or of one that cannot be read."""

    def __init__(self, *kept: str, readable: bool = True) -> None:
        self._kept = kept
        self._readable = readable

    async def kept_videos(self) -> list[str]:
        if not self._readable:
            raise LedgerUnavailable("The disk is full.")
        return list(self._kept)


@pytest.mark.parametrize(
    ("marks", "left"),
    [
        (Marks("/another/way/to/2026-11-23_a.mp4"), "a new"),
        (Marks("s3://bucket/2026-11-23_a.mp4"), "new"),
        (Marks(readable=False), "a b new"),
    ],
    ids=["by its name", "in a bucket", "not readable"],
)
async def test_kept_videos_stay_however_full_the_folder_is(
    saving: Saving, marks: Marks, left: str
) -> None:
    """And if nobody can say which ones are kept, all of them stay (ours)."""
    await aged(saving, {"a": 30, "b": 20})
    kept = KeptVideos(cast(Coordination, marks))

    await saving.archive(limit_gb=0, kept=kept).keep(
        "new", saving.sandbox.source_video_url, made_at=MADE
    )

    assert {path.stem[11:] for path in saving.folder.glob("[!.]*")} == set(left.split())


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
    """Its lock protects it from a sweep (ours)."""
    busy = UnfinishedVideo(saving.folder, "2026-01-01_busy")
    busy.begin()
    [part] = saving.names
    saving.set_dates()

    await saving.keep("new")
    names = saving.names
    busy.discard()

    assert part in names
    assert part not in saving.names


@pytest.mark.parametrize("lock", ["held", "missing"])
async def test_file_to_which_nothing_was_written_for_a_day_is_removed(
    saving: Saving, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    """Whatever its lock says; and where there are no locks, nothing else shows it (ours)."""
    left = UnfinishedVideo(saving.folder, "2026-01-01_left")
    left.begin()
    [part] = saving.names
    saving.set_dates()
    if lock == "missing":
        monkeypatch.setattr(unfinished_module, "try_lock", _refuse)

    saving.clock.now += LEFTOVER_AGE_SECONDS - 1
    await saving.keep("one")
    before = saving.names
    saving.clock.now += 1
    await saving.keep("two")

    assert part in before
    assert part not in saving.names
    left.discard()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
@pytest.mark.parametrize("sweep", ["has removed it", "is about to remove it"])
async def test_a_sweep_in_the_moment_before_the_lock_costs_no_download(
    saving: Saving, monkeypatch: pytest.MonkeyPatch, sweep: str
) -> None:
    """Several videos are begun at once, and each sweeps the folder (ours)."""
    created: list[Path] = []
    locks: list[int] = []
    write = UnfinishedVideo.write

    def removed_meanwhile(video: UnfinishedVideo, block: bytes) -> None:
        created[0].unlink(missing_ok=True)
        write(video, block)

    def swept(path: Path) -> int:
        file = create(path)
        created.append(path)
        if path != created[0]:
            return file
        if sweep == "has removed it":
            remove_if_left(path)
        else:
            locks.append(os.open(path, os.O_RDWR))
            assert try_lock(locks[0])
        return file

    monkeypatch.setattr(unfinished_module, "create", swept)
    monkeypatch.setattr(UnfinishedVideo, "write", removed_meanwhile)
    video = await saving.keep()
    for lock in locks:
        os.close(lock)

    assert is_whole(video)
    assert saving.downloads == 1
    assert saving.names == [f".{STEM}.json", f"{STEM}.mp4"]


async def test_leftovers_of_an_older_version_are_removed_after_a_day(saving: Saving) -> None:
    """Its unfinished files have no random name, and it locks the note beside them (ours)."""
    saving.folder.mkdir()
    names = {".2026-11-01_old.json", ".2026-11-01_old.part"}
    for name in names:
        (saving.folder / name).touch()
        os.utime(saving.folder / name, (saving.clock.now, saving.clock.now))

    await saving.keep("one")
    at_once = saving.names
    saving.clock.now += LEFTOVER_AGE_SECONDS
    await saving.keep("two")

    assert names < set(at_once)
    assert not names & set(saving.names)


# The room on the disk


@pytest.mark.parametrize("declared", [True, False], ids=["length declared", "chunked"])
async def test_a_video_leaves_room_for_the_ledger(saving: Saving, declared: bool) -> None:
    """Without it no payment could be recorded; the unfinished file goes at once (ours)."""
    body = VIDEO + b"\x00\x40\x00\x00free" + bytes((4 << 20) - 8)
    headers = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    answer = headers + body if declared else chunked(body)
    room = RESERVE_BYTES + (2 << 20)
    most = 0

    def free(folder: Path) -> int:
        nonlocal most
        used = sum(path.stat().st_size for path in folder.iterdir())
        most = max(most, used)
        return room - used

    async with storage(answer, answer) as (url, _):
        archive = saving.archive(free=free)
        with pytest.raises(NotSaved, match=r"MB must stay free.*make room") as failed:
            await archive.keep("job_1", url, made_at=MADE)
        left, begun = saving.names, most
        room += 4 << 20  # somebody makes room
        saved = await archive.keep("job_1", url, made_at=MADE)

    assert not failed.value.final
    assert left == []
    assert begun <= (0 if declared else 2 << 20)
    assert saved.path.read_bytes() == body


async def test_a_file_system_that_does_not_say_how_much_is_free_is_used(saving: Saving) -> None:
    """Some of users' own file systems (FUSE) say 0 of 0 (observed elsewhere)."""
    usage = shutil.disk_usage(Path())
    with patch.object(shutil, "disk_usage", lambda _: usage._replace(total=0, free=0)):
        assert is_whole(await saving.keep())


# Files that somebody else has placed

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such links")


@posix_only
@pytest.mark.parametrize("name", [f"{STEM}.mp4", f"{STEM}.webm"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder", "second name"])
async def test_nothing_planted_under_the_name_of_a_video_is_taken_for_it(
    saving: Saving, tmp_path: Path, name: str, kind: str
) -> None:
    """Links, special files and second names of private files; the video waits (ours)."""
    saving.folder.mkdir()
    saving.folder.chmod(0o775)  # a group may place files in it
    secret, planted = tmp_path / "secret", saving.folder / name
    secret.write_text("private")
    match kind:
        case "link":
            planted.symlink_to(secret)
        case "dangling link":
            planted.symlink_to(tmp_path / "nothing")
        case "pipe":
            os.mkfifo(planted)
        case "folder":
            planted.mkdir()
        case "second name":
            planted.hardlink_to(secret)

    with pytest.raises(NotSaved, match="has the video's name; remove it") as failed:
        await saving.keep()

    assert not failed.value.final
    assert secret.read_text() == "private"
    assert saving.names == [name]


@posix_only
async def test_a_link_named_like_an_unfinished_file_stops_nothing(
    saving: Saving, tmp_path: Path
) -> None:
    """It is not followed, and is no reason to save nothing (ours)."""
    saving.folder.mkdir()
    planted = saving.folder / f".{STEM}.0123456789abcdef.part"
    planted.symlink_to(tmp_path / "elsewhere")
    os.utime(planted, (saving.clock.now, saving.clock.now), follow_symlinks=False)

    assert is_whole(await saving.keep())
    assert planted.is_symlink()


@posix_only
async def test_a_second_name_that_the_user_gave_to_a_video_is_no_obstacle(
    saving: Saving, tmp_path: Path
) -> None:
    """In a folder that is closed to others, nobody else can have given it (ours)."""
    video = await saving.keep()
    (tmp_path / "my favourite.mp4").hardlink_to(video.path)

    assert await saving.keep() == video
    assert saving.downloads == 1


@posix_only
async def test_killed_between_the_two_names_of_a_video_it_is_found_without_a_person(
    saving: Saving,
) -> None:
    """In a folder of a group it was "a file of another user, remove it": a good video (ours)."""
    video = await saving.keep()
    saving.folder.chmod(0o775)
    (saving.folder / f".{STEM}.0123456789abcdef.part").hardlink_to(video.path)

    assert await saving.keep() == video
    assert saving.downloads == 1
    assert saving.names == [f".{STEM}.json", f"{STEM}.mp4"]


@posix_only
@pytest.mark.parametrize(
    "other", [f".{STEM}.0123456789abcdef.part", f".{STEM}.part", f".{STEM}.json"]
)
async def test_no_name_of_a_private_file_passes_for_a_video_or_removes_one(
    saving: Saving, tmp_path: Path, other: str
) -> None:
    """Who may place files in the folder can also give one file both names (ours)."""
    saving.folder.mkdir()
    saving.folder.chmod(0o775)
    secret = tmp_path / "secret"
    secret.write_text("private")
    for name in (f"{STEM}.mp4", other):
        (saving.folder / name).hardlink_to(secret)

    with pytest.raises(NotSaved, match="remove it"):
        await saving.keep()

    assert secret.read_text() == "private"
    assert f"{STEM}.mp4" in saving.names


@posix_only
async def test_what_takes_the_name_at_the_last_moment_is_not_taken_for_the_video(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write into the folder may replace the file that has just got its name (ours)."""
    link = os.link

    def replaced(source: Path, target: Path, **named: bool) -> None:
        link(source, target, **named)
        target.unlink()
        target.write_bytes(b"not the video")

    monkeypatch.setattr(os, "link", replaced)
    with pytest.raises(NotSaved, match="has the video's name; remove it") as failed:
        await saving.keep()

    assert not failed.value.final


@posix_only
@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to"])
async def test_nothing_is_written_through_a_planted_note(
    saving: Saving, tmp_path: Path, how: str
) -> None:
    """The file to which it leads may be the user's own (ours)."""
    saving.folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("private")
    getattr(saving.folder / f".{STEM}.json", how)(secret)

    assert is_whole(await saving.keep())
    assert secret.read_text() == "private"
    assert not (saving.folder / f".{STEM}.json").is_symlink()


@posix_only
async def test_a_planted_note_does_not_make_a_video_removable(
    saving: Saving, tmp_path: Path
) -> None:
    """Only notes of this user say that a video may be deleted (ours)."""
    await aged(saving, {"a": 30})
    note = saving.folder / ".2026-11-23_a.json"
    note.rename(tmp_path / "elsewhere")
    note.symlink_to(tmp_path / "elsewhere")

    await saving.archive(limit_gb=0).keep("new", saving.sandbox.source_video_url, made_at=MADE)

    assert (saving.folder / "2026-11-23_a.mp4").exists()


@posix_only
@pytest.mark.parametrize(
    ("mode", "is_used"),
    [(0o777, False), (0o1777, False), (0o702, False), (0o775, True), (0o755, True)],
    ids=oct,
)
async def test_a_folder_into_which_everybody_can_write_is_not_used(
    saving: Saving, mode: int, is_used: bool
) -> None:
    """Not even with the sticky bit; a group may share one (ours)."""
    saving.folder.mkdir()
    saving.folder.chmod(mode)

    if is_used:
        assert is_whole(await saving.keep())
        return
    with pytest.raises(NotSaved, match="every user of this computer can write") as failed:
        await saving.keep()
    assert not failed.value.final
    assert saving.names == []


@posix_only
async def test_on_a_disk_without_rights_an_open_folder_is_used(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On FAT, and on the disks of Windows within WSL, all files have all rights (documented)."""
    saving.folder.mkdir()
    saving.folder.chmod(0o777)
    monkeypatch.setattr(unfinished_module, "create", lambda path: _opened_to_all(path))

    assert is_whole(await saving.keep())


def _opened_to_all(path: Path) -> int:
    file = create(path)
    os.fchmod(file, 0o777)
    return file


@posix_only
async def test_a_folder_that_is_a_link_of_somebody_else_is_not_used(
    saving: Saving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leads wherever they want; the user's own link is followed (ours)."""
    (tmp_path / "real").mkdir()
    saving.folder.symlink_to(tmp_path / "real")
    own = await saving.keep("own")
    monkeypatch.setattr(os, "geteuid", lambda: 1_234_567)

    if saving.folder.lstat().st_uid == 0:  # root's links are followed, so this needs another owner
        os.lchown(saving.folder, 7_654_321, -1)
    with pytest.raises(NotSaved, match="a link that another user has made"):
        await saving.keep("other")

    assert is_whole(own)


@posix_only
async def test_a_file_of_another_user_is_not_read(
    saving: Saving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could change it at any time (ours)."""
    await saving.keep()
    monkeypatch.setattr(os, "geteuid", lambda: 1_234_567)

    with pytest.raises(NotSaved, match="a file of another user"):
        await saving.keep()


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
