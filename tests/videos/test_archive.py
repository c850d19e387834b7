"""The archive: whatever happens on the way, a film is whole on the disk or is not there."""

import base64
import errno
import hashlib
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
from wan_mcp.sandbox import Fault, Reply, Sandbox
from wan_mcp.sandbox.http import faults
from wan_mcp.videos import archive as archive_module
from wan_mcp.videos import partial as partial_module
from wan_mcp.videos.archive import LOCK_POLL, LOCK_WAIT, Archive, Film
from wan_mcp.videos.download import TRIES
from wan_mcp.videos.partial import Partial, stem_of
from wan_mcp.web.fetch import Web

pytestmark = pytest.mark.anyio

FILM = (Path(archive_module.__file__).parent.parent / "sandbox/media/clip.mp4").read_bytes()
SHA256 = hashlib.sha256(FILM).hexdigest()
MADE = datetime(2026, 11, 23, 12, tzinfo=UTC)
STEM = "2026-11-23_job_1"
PATH = "/media/clip.mp4"
DAY = 24 * 3600
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OLD = {"Content-Type": "video/mp4", "ETag": '"old"'}

KEEPER = """
import sys, anyio
from datetime import datetime, UTC
from pathlib import Path
from wan_mcp.clock import Clock
from wan_mcp.videos.archive import Archive
from wan_mcp.videos.partial import Partial
from wan_mcp.web.fetch import Web

append = Partial.append

def told(self, block):
    append(self, block)
    print(self.note.size, flush=True)

Partial.append = told
archive = Archive(Path(sys.argv[1]), Web(loopback=True), Clock())
made_at = datetime(2026, 11, 23, 12, tzinfo=UTC)
anyio.run(lambda: archive.keep("job_1", sys.argv[2], made_at=made_at))
"""


@dataclass
class Hours:
    """A clock that only the archive's own pauses move."""

    now: float = MADE.timestamp()
    pauses: list[float] = field(default_factory=list)
    meanwhile: Callable[[], Awaitable[object]] = anyio.lowlevel.checkpoint

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def chance(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        await self.meanwhile()


@dataclass
class VideoSaver:
    """An archive, its folder and clock, and the storage that it fetches from."""

    folder: Path
    sandbox: Sandbox
    web: Web
    clock: Hours = field(default_factory=Hours)

    def archive(self, **settings: Any) -> Archive:
        return Archive(self.folder, self.web, self.clock, **settings)

    async def keep(self, job_id: str = "job_1", **given: Any) -> Film:
        given = {"url": self.sandbox.source_video_url, "made_at": MADE, **given}
        return await self.archive().keep(job_id, **given)

    def fault(self, *record: Fault, times: int | None = 1) -> None:
        self.sandbox.fault("GET", PATH, *record, times=times)

    @property
    def ranges(self) -> list[str | None]:
        return [request.headers.get("range") for request in self.sandbox.requests]

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[VideoSaver]:
    with anyio.fail_after(20):
        async with Sandbox() as sandbox:
            web = Web(loopback=True)
            yield VideoSaver(tmp_path / "films", sandbox, web)
            await web.aclose()


def is_whole(film: Film) -> bool:
    return film.path.read_bytes() == FILM and (film.sha256, film.size) == (SHA256, len(FILM))


def film_reply(status: int = 200, body: bytes = FILM, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, OLD | named, body)


def instead(status: int = 200, body: bytes = FILM, **headers: str) -> Fault:
    """Another answer of the storage."""
    return Fault(work=True, reply=film_reply(status, body, **headers))


def cut_old(at: int, body: bytes = FILM, **headers: str) -> Fault:
    """The film under the ETag "old", broken off."""
    return Fault(work=True, reply=film_reply(200, body, **headers), send="cut", cut_at=at)


async def test_film_is_saved_under_its_date_and_job(keeper: VideoSaver) -> None:
    """Named by date and job id, whole, and private to the user (ours)."""
    film = await keeper.keep()

    assert is_whole(film)
    assert film.path == keeper.folder / f"{STEM}.mp4"
    assert keeper.names == [f".{STEM}.json", f"{STEM}.mp4"]
    if os.name == "posix":
        assert keeper.folder.stat().st_mode & 0o777 == 0o700
        assert film.path.stat().st_mode & 0o777 == 0o600


async def test_neither_key_nor_cookie_is_sent_along(keeper: VideoSaver) -> None:
    """The storage is another company's than the API, perhaps (ours)."""
    keeper.fault(Fault(work=True, reply=film_reply(set_cookie="a=b; Path=/"), send="cut"))

    await keeper.keep()

    assert len(keeper.sandbox.requests) == 2
    for request in keeper.sandbox.requests:
        assert set(request.headers) == {"host", "user-agent", "accept", "accept-encoding"}


async def test_film_is_intact_after_ten_random_cuts(keeper: VideoSaver) -> None:
    """Each connection goes on exactly where the last one broke (issue: ten random points)."""
    cuts = sorted(random.Random(23).sample(range(1, len(FILM)), 10))
    keeper.fault(*(faults.cut(cut - before) for before, cut in zip([0, *cuts], cuts, strict=False)))

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges == [None, *(f"bytes={cut}-" for cut in cuts)]
    assert all("if-range" in request.headers for request in keeper.sandbox.requests[1:])
    assert keeper.clock.pauses == [0.5] * 10


async def test_saved_film_is_not_fetched_again(keeper: VideoSaver) -> None:
    """Its link may be dead by then (ours)."""
    first = await keeper.keep()

    again = await keeper.keep(url="https://storage.invalid/gone.mp4")

    assert again == first
    assert len(keeper.sandbox.requests) == 1


async def test_film_that_changed_is_fetched_from_its_start(keeper: VideoSaver) -> None:
    """Two halves of two films are no film: If-Range brings the whole other one (RFC 9110)."""
    keeper.fault(cut_old(700, b"\0" * 50_000))

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges == [None, "bytes=700-"]
    assert keeper.sandbox.requests[1].headers["if-range"] == '"old"'


TAIL = FILM[700:]
SPAN = f"bytes 700-{len(FILM) - 1}/{len(FILM)}"


@pytest.mark.parametrize(
    "answer",
    [
        instead(206, TAIL, Content_Range=SPAN, ETag='"new"'),
        instead(206, TAIL, Content_Range=f"bytes 700-{len(FILM) - 1}/{len(FILM) + 1}"),
        instead(206, TAIL, Content_Range=f"bytes 701-{len(FILM)}/{len(FILM)}"),
        instead(206, TAIL),
        instead(206, TAIL + b"!", Content_Range=SPAN),
        instead(416, b"", Content_Range=f"bytes */{len(FILM)}"),
        instead(416, b""),
    ],
    ids=["etag", "total", "start", "untold", "too much", "refused", "refused, untold"],
)
async def test_part_that_does_not_fit_is_not_put_on(keeper: VideoSaver, answer: Fault) -> None:
    """What does not surely go on with the same film makes it begin again (ours)."""
    keeper.fault(cut_old(700), answer)

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges == [None, "bytes=700-", None]


async def test_storage_without_ranges_still_brings_the_film(keeper: VideoSaver) -> None:
    """A 200 to a range means the whole from its first byte (RFC 9110)."""
    keeper.fault(cut_old(700), instead())

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges == [None, "bytes=700-"]


@pytest.mark.parametrize("etag", ['W/"weak"', ""])
async def test_film_without_strong_etag_is_not_resumed(keeper: VideoSaver, etag: str) -> None:
    """A weak ETag does not promise the same bytes (RFC 9110)."""
    keeper.fault(cut_old(700, ETag=etag))

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges == [None, None]


async def test_breaks_without_progress_end_the_attempt(keeper: VideoSaver) -> None:
    """A storage that always breaks at one place is given up, for now (ours)."""
    keeper.fault(cut_old(700, ETag=""), times=None)

    with pytest.raises(NotSaved, match="the connection broke") as failed:
        await keeper.keep()

    assert not failed.value.final
    assert len(keeper.sandbox.requests) == 1 + TRIES - 1
    assert keeper.clock.pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


async def test_lost_connections_are_waited_out(keeper: VideoSaver) -> None:
    """No answer at all is no verdict on the film (ours)."""
    keeper.fault(faults.reset(work=False), faults.dropped(work=True), faults.status(502))

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.clock.pauses == [0.5, 1, 2]


@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("86400", 300), ("soon", 0.5)])
async def test_busy_storage_is_given_the_time_it_asks(
    keeper: VideoSaver, asked: str, waited: float
) -> None:
    """Retry-After counts up to five minutes (ours)."""
    keeper.fault(faults.status(429, headers={"Retry-After": asked}))

    await keeper.keep()

    assert keeper.clock.pauses == [waited]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_dead_link_is_final_at_once(keeper: VideoSaver, status: int) -> None:
    """Storages answer 403 for an expired signature, and 404 for what was deleted (ours)."""
    keeper.fault(faults.status(status, "<html>gone"))

    with pytest.raises(NotSaved, match=f"answers {status}") as failed:
        await keeper.keep(url=f"{keeper.sandbox.source_video_url}?signature=secret")

    assert failed.value.final
    assert "secret" not in failed.value.what
    assert len(keeper.sandbox.requests) == 1


async def test_link_that_dies_keeps_what_has_come(keeper: VideoSaver) -> None:
    """PixelDojo may hand out a fresh link to the same film (assumed)."""
    keeper.fault(faults.cut(700), faults.status(403))
    with pytest.raises(NotSaved):
        await keeper.keep()

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges[-1] == "bytes=700-"


async def test_retries_end_when_the_link_expires(keeper: VideoSaver) -> None:
    """Pauses shrink towards the end of the link's life, and after it there are none (ours)."""
    keeper.fault(faults.status(503, headers={"Retry-After": "60"}), times=None)

    with pytest.raises(NotSaved, match="expired") as failed:
        await keeper.keep(expires_at=MADE + timedelta(seconds=100))

    assert failed.value.final
    assert keeper.clock.pauses == [50, 25, 12.5, 6.25, 3.125, 1.5625, 0.78125]


async def test_link_said_to_be_expired_is_tried_once(keeper: VideoSaver) -> None:
    """PixelDojo does not say what `expiresAt` means, and clocks are wrong (ours)."""
    film = await keeper.keep(expires_at=MADE - timedelta(days=1))

    assert is_whole(film)


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
async def test_what_is_no_film_is_not_saved(keeper: VideoSaver, answer: Fault) -> None:
    """An error page under a film's name would be found when the film is gone (ours)."""
    keeper.fault(answer)

    with pytest.raises(NotSaved, match="not a film") as failed:
        await keeper.keep()

    assert failed.value.final
    assert not list(keeper.folder.glob("*.mp4"))
    assert not sum(part.stat().st_size for part in keeper.folder.glob(".*.part"))
    assert is_whole(await keeper.keep())


async def test_film_told_to_be_too_long_is_not_begun(
    keeper: VideoSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is not filled without end (ours)."""
    keeper.fault(faults.cut(100))
    monkeypatch.delattr(Partial, "append")

    with pytest.raises(NotSaved, match="longer than 30,000 bytes") as failed:
        await keeper.archive(max_bytes=30_000).keep(
            "job_1", keeper.sandbox.source_video_url, made_at=MADE
        )

    assert failed.value.final


async def test_empty_answer_is_asked_for_again(keeper: VideoSaver) -> None:
    """No film has no bytes (ours)."""
    keeper.fault(instead(body=b""))

    assert is_whole(await keeper.keep())


@asynccontextmanager
async def storage(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers with these very bytes, one connection each; and what it was asked."""
    asked: list[bytes] = []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            asked.append(await stream.receive())
            with suppress(anyio.BrokenResourceError):  # who has enough hangs up
                await stream.send(answers[len(asked) - 1])

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield f"http://127.0.0.1:{port}/film", asked
        group.cancel_scope.cancel()


async def test_length_nobody_told_is_asked_for(keeper: VideoSaver) -> None:
    """Without Content-Length a cut looks like the end; a range past it tells (RFC 9110)."""
    whole = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nConnection: close\r\n\r\n' + FILM
    past = f"HTTP/1.1 416 No\r\nContent-Range: bytes */{len(FILM)}\r\nContent-Length: 0\r\n\r\n"

    async with storage(whole, past.encode()) as (url, asked):
        film = await keeper.keep(url=url)

    assert is_whole(film)
    assert f"Range: bytes={len(FILM)}-".encode() in asked[1]


async def test_film_that_grows_too_long_is_dropped(keeper: VideoSaver) -> None:
    """Nor when nobody tells its length; what had come makes room again (ours)."""
    chunks = b"".join(b"8000\r\n" + FILM[:0x8000] + b"\r\n" for _ in range(40))

    async with storage(CHUNKED + chunks + b"0\r\n\r\n") as (url, _):
        with pytest.raises(NotSaved, match="longer than 200,000 bytes") as failed:
            await keeper.archive(max_bytes=200_000).keep("job_1", url, made_at=MADE)

    assert failed.value.final
    assert [path.stat().st_size for path in keeper.folder.glob("*.part")] == [0]


async def test_last_chunk_is_as_good_as_a_length(keeper: VideoSaver) -> None:
    """A chunked body says where it ends (RFC 9112)."""
    length = f"{len(FILM):x}\r\n".encode()

    async with storage(CHUNKED + length + FILM + b"\r\n0\r\n\r\n") as (url, _):
        film = await keeper.keep(url=url)

    assert is_whole(film)


def dedupe_key(algorithm: str, data: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()


DIGESTS = {
    "Repr-Digest": ("sha256", "sha-512=:AAAA:, sha-256=:{}:"),
    "x-amz-checksum-sha256": ("sha256", "{}"),
    "Content-MD5": ("md5", "{}"),
    "x-goog-hash": ("md5", "crc32c=n03x6A==,md5={}"),
}


@pytest.mark.parametrize("header", DIGESTS)
async def test_film_is_checked_against_its_digest(keeper: VideoSaver, header: str) -> None:
    """What does not match the storage's own digest is thrown away and fetched again (ours)."""
    algorithm, form = DIGESTS[header]
    told: dict[str, Any] = {header: form.format(dedupe_key(algorithm, FILM))}
    keeper.fault(instead(body=FILM[:-1] + b"?", **told), instead(**told))

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges == [None, None]


async def test_digest_that_never_matches_is_not_final(keeper: VideoSaver) -> None:
    """A proxy in between may spoil films today, and not tomorrow (ours)."""
    keeper.fault(instead(Content_MD5=dedupe_key("md5", b"another film")), times=None)

    with pytest.raises(NotSaved, match="damaged") as failed:
        await keeper.keep()

    assert not failed.value.final
    assert not list(keeper.folder.glob("*.mp4"))


async def test_composite_digest_of_an_upload_is_ignored(keeper: VideoSaver) -> None:
    """S3 appends the number of parts to a digest of digests (S3's documentation)."""
    keeper.fault(instead(x_amz_checksum_sha256=dedupe_key("sha256", b"parts") + "-3"))

    assert is_whole(await keeper.keep())


async def test_film_survives_a_full_disk(
    keeper: VideoSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there is room, it goes on from what had been written (ours)."""
    keeper.fault(faults.cut(700))
    write, full = os.write, True

    def limited(file: int, data: memoryview) -> int:
        if full and os.fstat(file).st_size >= 600 and len(data) > 600:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(keeper.folder))
        return write(file, data)

    monkeypatch.setattr(os, "write", limited)
    with pytest.raises(NotSaved, match="No space left") as failed:
        await keeper.keep(url=f"{keeper.sandbox.source_video_url}?signature=secret")
    full = False
    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges == [None, "bytes=700-", "bytes=700-"]
    assert not failed.value.final
    assert not {"secret", str(keeper.folder)} & set(failed.value.what.split())


async def test_folder_that_cannot_be_made_is_told(keeper: VideoSaver) -> None:
    """The user may give another one, so it is not the end (ours)."""
    keeper.folder.write_text("a file")

    with pytest.raises(NotSaved, match="the disk says") as failed:
        await keeper.keep()

    assert not failed.value.final
    assert keeper.sandbox.requests == []


async def test_cancelled_call_leaves_what_has_come(
    keeper: VideoSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that gives up on a call must not cost the film's first half (ours)."""
    keeper.fault(faults.cut(20_000, stall=True))
    came, append = threading.Event(), Partial.append

    def told(part: Partial, block: bytes) -> None:
        append(part, block)
        if part.note.size == 20_000:
            came.set()

    monkeypatch.setattr(Partial, "append", told)
    async with anyio.create_task_group() as group:
        group.start_soon(keeper.keep)
        await anyio.to_thread.run_sync(came.wait)
        group.cancel_scope.cancel()

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges == [None, "bytes=20000-"]


def half_done(keeper: VideoSaver, at: int) -> "subprocess.Popen[bytes]":
    """Another process that saves the same film, and waits for the rest of it."""
    command = [sys.executable, "-c", KEEPER, str(keeper.folder), keeper.sandbox.source_video_url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == at:
            return process
    raise AssertionError("it ended early")


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


async def test_film_is_intact_after_a_kill(keeper: VideoSaver) -> None:
    """kill -9 in the middle, then another process goes on by range (issue)."""
    keeper.fault(faults.cut(20_000, stall=True))
    kill(await anyio.to_thread.run_sync(half_done, keeper, 20_000))

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges == [None, "bytes=20000-"]
    assert keeper.names == [f".{STEM}.json", f"{STEM}.mp4"]


async def test_second_process_waits_for_the_first(keeper: VideoSaver) -> None:
    """Who finds the film being saved takes over when the other dies, not before (ours)."""
    keeper.fault(faults.cut(20_000, stall=True))
    other = await anyio.to_thread.run_sync(half_done, keeper, 20_000)
    asked: list[int] = []

    async def third_look() -> None:
        asked.append(len(keeper.sandbox.requests))
        if len(asked) == 3:
            kill(other)
        await anyio.lowlevel.checkpoint()

    keeper.clock.meanwhile = third_look
    film = await keeper.keep()

    assert is_whole(film)
    assert asked[:3] == [1, 1, 1]
    assert keeper.ranges == [None, "bytes=20000-"]


async def test_two_tasks_fetch_one_film_once(keeper: VideoSaver) -> None:
    """Two calls about one job end with the same film (ours)."""
    films: list[Film] = []
    first = anyio.Event()
    keeper.clock.meanwhile = first.wait

    async def keep() -> None:
        films.append(await keeper.keep())
        first.set()

    async with anyio.create_task_group() as group:
        group.start_soon(keep)
        group.start_soon(keep)

    assert is_whole(films[0])
    assert films[0] == films[1]
    assert len(keeper.sandbox.requests) == 1


async def test_lock_that_is_never_freed_is_given_up(keeper: VideoSaver) -> None:
    """A frozen process must not freeze another (ours)."""
    frozen = Partial(keeper.folder, STEM)
    assert frozen.claim()

    try:
        with pytest.raises(NotSaved, match="Another server") as failed:
            await keeper.keep()
    finally:
        frozen.release()

    assert not failed.value.final
    assert sum(keeper.clock.pauses) == LOCK_WAIT


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other locks")
async def test_disk_without_locks_is_told(
    keeper: VideoSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network disks have none, and two servers would spoil each other's film (ours)."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)

    with pytest.raises(NotSaved, match="No locks available") as failed:
        await keeper.keep()

    assert not failed.value.final


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
async def test_lock_on_a_removed_note_is_none(
    keeper: VideoSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep in another process may take the note between opening and locking it (ours)."""
    lock = partial_module._lock
    raced: list[int] = []

    def after_a_sweep(file: int) -> None:
        if not raced:
            raced.append(file)
            (keeper.folder / f".{STEM}.json").unlink()
        lock(file)

    monkeypatch.setattr(partial_module, "_lock", after_a_sweep)
    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.clock.pauses == [LOCK_POLL]
    assert keeper.names == [f".{STEM}.json", f"{STEM}.mp4"]


@pytest.mark.parametrize("spoil", ["bytes", "note", "length"])
async def test_part_that_a_crash_spoilt_is_thrown_away(keeper: VideoSaver, spoil: str) -> None:
    """After a power failure a file may have its length and not its bytes (observed elsewhere)."""
    keeper.fault(faults.cut(700), faults.status(404))
    with pytest.raises(NotSaved):
        await keeper.keep()
    part, note = (keeper.folder / f".{STEM}.{suffix}" for suffix in ("part", "json"))
    if spoil == "bytes":
        part.write_bytes(bytes(700))
    elif spoil == "length":
        part.write_bytes(FILM[:600])
    else:
        note.write_bytes(note.read_bytes()[:-9])

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges[-1] is None


async def test_bytes_behind_the_last_note_are_dropped(keeper: VideoSaver) -> None:
    """A kill between a write and its note leaves too much, not too little (ours)."""
    keeper.fault(faults.cut(700), faults.status(404))
    with pytest.raises(NotSaved):
        await keeper.keep()
    part = keeper.folder / f".{STEM}.part"
    part.write_bytes(part.read_bytes() + bytes(100_000))

    film = await keeper.keep()

    assert is_whole(film)
    assert keeper.ranges[-1] == "bytes=700-"


async def test_whole_part_needs_no_request(
    keeper: VideoSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the last byte and the new name costs nothing (ours)."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _refuse)
        with pytest.raises(NotSaved):
            await keeper.keep()

    film = await keeper.keep()

    assert is_whole(film)
    assert len(keeper.sandbox.requests) == 1


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("path", "kind", "suffix"),
    [
        ("/media/clip.mp4", "video/webm", ".webm"),
        ("/media/clip.mp4", "video/quicktime", ".mov"),
        ("/film.WEBM?x=.mov", "application/octet-stream", ".webm"),
        ("/film.exe", "", ".mp4"),
        ("/film", "VIDEO/MP4; codecs=avc1", ".mp4"),
    ],
)
async def test_suffix_says_what_the_film_is(
    keeper: VideoSaver, path: str, kind: str, suffix: str
) -> None:
    """First by the content type, then by the address, and always a film's (ours)."""
    keeper.sandbox.fault("GET", path.partition("?")[0], instead(Content_Type=kind))

    film = await keeper.keep(url=keeper.sandbox.origin + path)

    assert film.path.name == STEM + suffix
    assert await keeper.keep(url="https://storage.invalid/") == film


@pytest.mark.parametrize("job_id", ["../up", "a/b", "", ".hidden", "a\\b", "C:x", "é", "x" * 129])
async def test_no_job_id_leads_out_of_the_folder(keeper: VideoSaver, job_id: str) -> None:
    """The name is part of a path, whoever the vendor's ids come from (ours)."""
    with pytest.raises(NotSaved, match="file name") as failed:
        await keeper.keep(job_id)

    assert failed.value.final
    assert not keeper.folder.exists()


async def test_ids_that_differ_in_case_are_two_films(keeper: VideoSaver) -> None:
    """Windows and macOS take job_A and job_a for one file (ours)."""
    names = {stem_of(job_id, MADE).lower() for job_id in ("job_a", "job_A", "JOB_A")}

    assert len(names) == 3
    assert (await keeper.keep("job_A")).path.name.startswith("2026-11-23_job_A.")


def test_date_of_a_name_is_in_utc() -> None:
    """The same film has the same name wherever the computer travels (ours)."""
    late = datetime(2026, 11, 23, 22, tzinfo=timezone(-timedelta(hours=5)))

    assert stem_of("con", late) == "2026-11-24_con"


async def test_private_addresses_are_not_asked(keeper: VideoSaver) -> None:
    """What PixelDojo's answer names must not reach into this network (ours)."""
    strict = Archive(keeper.folder, Web(), Clock())

    with pytest.raises(NotSaved) as failed:
        await strict.keep("job_1", keeper.sandbox.source_video_url, made_at=MADE)

    assert failed.value.final
    assert keeper.sandbox.requests == []


async def aged(keeper: VideoSaver, days: dict[str, float]) -> None:
    """Films saved so many days ago."""
    for job_id, age in days.items():
        film = await keeper.keep(job_id)
        when = keeper.clock.now - age * DAY
        os.utime(film.path, (when, when))


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
async def test_oldest_films_go_when_there_are_too_many(
    keeper: VideoSaver, days: dict[str, float], limit: float | None, left: str
) -> None:
    """Up to the limit, oldest first, none younger than a week (issue; limit here in films)."""
    await aged(keeper, days)
    limit_gb = None if limit is None else limit * len(FILM) / 1e9

    new = await keeper.archive(limit_gb=limit_gb).keep(
        "new", keeper.sandbox.source_video_url, made_at=MADE
    )

    assert {path.stem[11:] for path in keeper.folder.glob("[!.]*")} == set(left.split())
    assert {path.stem[12:] for path in keeper.folder.glob(".*")} == set(left.split())
    assert is_whole(new)


async def test_just_saved_film_stays_however_old(keeper: VideoSaver) -> None:
    """A computer whose clock is years off must not lose what it just saved (ours)."""
    keeper.clock.now += 10 * 365 * DAY

    film = await keeper.archive(limit_gb=0).keep(
        "new", keeper.sandbox.source_video_url, made_at=MADE
    )

    assert is_whole(film)


async def test_files_of_others_are_never_removed(keeper: VideoSaver) -> None:
    """People name their own films by date, too (ours)."""
    await aged(keeper, {"edited": 30})
    (keeper.folder / "2026-11-23_edited.mp4").write_bytes(FILM + b"a cut of the user's own")
    for name in ("2020-01-01_wedding.mp4", "2020-01-01_b.txt", "notes.mp4", ".2020-01-01_b.part"):
        (keeper.folder / name).write_bytes(FILM)
    for path in keeper.folder.iterdir():
        os.utime(path, (0, 0))
    before = keeper.names

    await keeper.archive(limit_gb=0).keep("new", keeper.sandbox.source_video_url, made_at=MADE)

    assert set(before) <= set(keeper.names)


@pytest.mark.parametrize(("days", "stays"), [(6.9, True), (7.1, False)])
async def test_part_that_was_given_up_goes_after_a_week(
    keeper: VideoSaver, days: float, stays: bool
) -> None:
    """By then every link is dead (ours)."""
    keeper.fault(faults.cut(700), faults.status(404))
    with pytest.raises(NotSaved):
        await keeper.keep("Lost")
    lost = list(keeper.folder.iterdir())
    for path in lost:
        os.utime(path, (keeper.clock.now - days * DAY,) * 2)

    await keeper.keep("new")

    assert len(lost) == 2
    assert [path.exists() for path in lost] == [stays, stays]


async def test_part_that_somebody_works_on_stays(keeper: VideoSaver) -> None:
    """Its lock says so, whatever its date (ours)."""
    busy = Partial(keeper.folder, "2026-01-01_busy")
    assert busy.claim()
    note = keeper.folder / ".2026-01-01_busy.json"
    os.utime(note, (0, 0))

    await keeper.keep("new")
    busy.release()

    assert note.exists()


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("unlink", "2026-11-23_a.mp4 could not be removed: Permission denied"),
        ("iterdir", "the archive could not be tidied: Permission denied"),
    ],
)
async def test_untidy_folder_does_not_lose_the_film(
    keeper: VideoSaver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
    told: str,
) -> None:
    """The film is what was asked for; the rest can wait (ours)."""
    await aged(keeper, {"a": 30})
    monkeypatch.setattr(Path, broken, _refuse)

    film = await keeper.archive(limit_gb=0).keep(
        "new", keeper.sandbox.source_video_url, made_at=MADE
    )

    assert is_whole(film)
    assert told in caplog.text
