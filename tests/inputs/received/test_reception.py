"""Uploads with a ticket, into the bucket of a real server: what is taken, and what is left."""

import hashlib
import os
import random
import struct
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import wan_mcp.sandbox
from tests.storage.conftest import running_s3, s3
from tests.storage.s3 import S3, URL
from wan_mcp.errors import InvalidArguments, NotFound, NotSent, WanError
from wan_mcp.inputs.received import inspected, reception
from wan_mcp.inputs.received.own_uploads import OwnUploads
from wan_mcp.inputs.received.reception import (
    Accepted,
    AlreadyUploaded,
    Reception,
    UploadRefused,
)
from wan_mcp.inputs.received.tickets import TICKET_SECONDS, Ticket
from wan_mcp.storage.object_store import ObjectStore, Patience

pytestmark = pytest.mark.anyio

_ = running_s3, s3
MEDIA = Path(wan_mcp.sandbox.__file__).parent / "media"
CLIP = (MEDIA / "clip.mp4").read_bytes()
PICTURE = (MEDIA / "character.png").read_bytes()
MOST = 3_000_000
BOTH = ("video", "image")
PATIENT = Patience(answer=600, stall=600, retries=3)


class Home:
    """One server, and the workspaces ana and ben.

    Attributes:
        now: the date.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime.now(UTC)
        self.reception = self.server()

    def server(self, patience: Patience = PATIENT) -> Reception:
        """Another server of the same ledger."""

        async def secret() -> bytes:
            return bytes(32)

        store = ObjectStore(URL, os.environ, patience)
        page = "https://wan.example.com/uploads"
        return Reception(store, secret, self.folder, MOST, lambda: self.now, page)

    def uploads(self, workspace: str) -> OwnUploads:
        async def name() -> str:
            return workspace

        return OwnUploads(self.reception, name)

    async def ticket(self, workspace: str = "ana", slots: tuple[str, ...] = BOTH) -> Ticket:
        _, text = await self.reception.offer(workspace, slots)
        return await self.server().ticket(text)

    async def upload(
        self, ticket: Ticket, data: bytes = PICTURE, slot: str = "image", size: int | None = None
    ) -> Accepted:
        length = len(data) if size is None else size
        return await self.reception.receive(ticket, slot, length, blocks_of(data))

    async def refusal(self, *args: Any, **options: Any) -> UploadRefused:
        with pytest.raises(UploadRefused) as refused:
            await self.upload(*args, **options)
        return refused.value

    @property
    def is_clean(self) -> bool:
        """Whether no file is left on the disk of the server."""
        return not self.folder.exists() or not list(self.folder.iterdir())


@pytest.fixture
def home(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr("wan_mcp.inputs.received.own_uploads.FIND_SECONDS", 600)
    monkeypatch.setattr(inspected, "LOOK_SECONDS", 600)
    return Home(tmp_path / "prepared")


async def blocks_of(data: bytes, fail: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65_536):
        yield data[start : start + 65_536]
    if fail is not None:
        raise fail


async def problem(awaited: Any) -> WanError:
    with pytest.raises(WanError) as raised:
        await awaited
    return raised.value


async def test_an_upload_is_an_input_of_its_workspace_and_of_no_other(home: Home, s3: S3) -> None:
    """What another one has looks like what was never uploaded (ours)."""
    ticket = await home.ticket()
    accepted = await home.upload(ticket, CLIP, "video")
    id = accepted.uri.removeprefix("wan://uploads/")
    found = await home.uploads("ana").find(id, "video")
    copy = await home.uploads("ana").copy(id, "video", found.sha256)
    with copy.content.open() as file:
        copied = file.read()
    copy.discard()
    foreign = await problem(home.uploads("ben").find(id, "video"))
    never = await problem(home.uploads("ben").find("video_aaaaaaaaaaaaaaaa", "video"))

    assert copied == CLIP
    assert found.sha256 == hashlib.sha256(CLIP).hexdigest()
    assert (copy.content.suffix, copy.content.media_type) == (".mp4", "video/mp4")
    assert isinstance(foreign, NotFound)
    assert foreign.what == never.what.replace("video_aaaaaaaaaaaaaaaa", id)
    assert (foreign.charged, foreign.retry_safe) == ("no", False)
    assert [name.split("/")[:3] for name in s3.objects()] == [["some", "prefix", "uploads"]]
    assert "ana" not in "".join(s3.objects())
    assert home.is_clean


async def test_a_page_for_what_was_not_uploaded_takes_it_under_the_same_id(home: Home) -> None:
    """A user who is late makes the same call again (ours)."""
    first = await home.uploads("ana").needed(["video", "character_image"])
    ticket = await home.reception.ticket((first.upload_page or "").rpartition("/")[2])
    home.now += timedelta(seconds=TICKET_SECONDS)
    with pytest.raises(UploadRefused) as late:
        await home.reception.ticket((first.upload_page or "").rpartition("/")[2])
    missing = await problem(home.uploads("ana").find(ticket.id("image"), "character_image"))
    again = await home.reception.ticket((missing.upload_page or "").rpartition("/")[2])
    await home.upload(again, PICTURE, "image")

    assert late.value.status == 410
    assert ticket.slots == BOTH
    assert again.slots == ("image",)
    for argument, slot in (("video", "video"), ("character_image", "image")):
        assert f'{argument} "wan://uploads/{ticket.id(slot)}"' in first.next_step
        assert f"-T FILE {first.upload_page}/{slot}" in first.next_step
    assert "3 MB" in first.next_step
    assert await home.uploads("ana").find(ticket.id("image"), "character_image")


def png(width: int, height: int) -> bytes:
    """The beginning and the end of a picture of that size, and nothing between them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


NOISE = random.Random(7).randbytes(100_000)
UNFIT = {
    "a picture as the clip": ("video", PICTURE, "is a PNG picture, not a video"),
    "a clip as the picture": ("image", CLIP, "is an MP4 video, not a picture"),
    "a text": ("video", b"just some words for a model to read, no video", "is a text file"),
    "a web page": ("image", b"<!doctype html><title>Log in</title>" * 9, "is a web page"),
    "a script in a drawing": ("image", b"<svg xmlns='http://www.w3.org/2000/svg'>" * 9, "SVG"),
    "an archive": ("video", b"PK\x03\x04" + NOISE, "is an archive"),
    "noise": ("video", NOISE, "is not a video by its bytes"),
    "a picture that unpacks itself": ("image", png(60_000, 60_000), "common programs refuse"),
    "a picture of one pixel": ("image", png(1, 1), "nobody can be seen"),
    "a picture that is cut off": ("image", PICTURE[:-2_000], "is cut off"),
}
"""The slot, the bytes, and a part of what is said."""


@pytest.mark.parametrize(("slot", "data", "said"), UNFIT.values(), ids=UNFIT)
async def test_what_no_job_can_use_is_refused_and_nothing_of_it_stays(
    home: Home, s3: S3, slot: str, data: bytes, said: str
) -> None:
    """By its bytes, whatever its name was (ours)."""
    refused = await home.refusal(await home.ticket(), data, slot)

    assert refused.status == 415
    assert said in refused.what
    assert refused.next_step[0].isupper()
    assert s3.objects() == {}
    assert home.is_clean


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


async def test_a_clip_that_is_cut_off_is_refused(home: Home, s3: S3) -> None:
    """The decoder process finds that, as before a job (ours)."""
    pytest.importorskip("av", reason="the extra `media` is not installed")
    start = b"\0\0\0\x18ftypisom\0\0\2\0isommp42"
    refused = await home.refusal(await home.ticket(), start + box(b"mdat", bytes(1_000)), "video")

    assert (refused.status, s3.objects()) == (415, {})
    assert "damaged or cut off" in refused.what


@pytest.mark.parametrize(
    ("size", "status"),
    [(0, 400), (MOST + 1, 413), (len(PICTURE) + 1, 400), (len(PICTURE) - 1, 400)],
)
async def test_a_file_that_is_empty_too_large_or_not_as_announced_is_refused(
    home: Home, s3: S3, size: int, status: int
) -> None:
    refused = await home.refusal(await home.ticket(), PICTURE, size=size)

    assert (refused.status, s3.objects()) == (status, {})
    assert home.is_clean


async def test_an_upload_whose_sender_goes_leaves_nothing_and_can_be_made_again(
    home: Home, s3: S3
) -> None:
    class Gone(Exception):
        pass

    ticket = await home.ticket()
    with pytest.raises(Gone):
        await home.reception.receive(ticket, "image", len(PICTURE), blocks_of(PICTURE[:-1], Gone()))
    left = (s3.objects(), s3.unfinished(), home.is_clean)

    assert left == ({}, [], True)
    assert (await home.upload(ticket)).stored.size == len(PICTURE)


async def test_a_ticket_takes_each_file_once(home: Home) -> None:
    """A second one could become the input of a call that means the first (ours)."""
    ticket = await home.ticket(slots=("image",))
    await home.upload(ticket)
    second = await home.refusal(ticket)
    not_meant = await home.refusal(ticket, CLIP, "video")
    unknown = await home.refusal(ticket, PICTURE, "../image")

    assert isinstance(second, AlreadyUploaded)
    assert ticket.id("image") in second.what
    assert (second.status, not_meant.status, unknown.status) == (409, 404, 404)


async def test_of_two_files_that_come_at_once_none_is_taken_for_the_other(
    home: Home, s3: S3
) -> None:
    """Two servers both see no file before they store theirs (ours)."""
    ticket = await home.ticket()
    other = home.server()
    both_here = anyio.Event()
    waiting: list[None] = []

    async def together(data: bytes) -> AsyncIterator[bytes]:
        yield data
        waiting.append(None)
        if len(waiting) == 2:
            both_here.set()
        await both_here.wait()

    results: list[Accepted | UploadRefused] = []

    async def send(server: Reception, data: bytes) -> None:
        try:
            results.append(await server.receive(ticket, "image", len(data), together(data)))
        except UploadRefused as refused:
            results.append(refused)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, home.reception, PICTURE)
        tasks.start_soon(send, other, png(300, 300))
    accepted = [each for each in results if isinstance(each, Accepted)]

    assert len(accepted) <= 1
    assert len(results) == 2
    assert [each.stored.sha256 for each in accepted] == [
        name.split("/")[-1].removesuffix(".png") for name in s3.objects()
    ]


async def test_two_files_under_one_id_are_no_input(home: Home, s3: S3) -> None:
    """They cannot be told apart, so neither is used (ours)."""
    ticket = await home.ticket()
    stored = (await home.upload(ticket)).stored
    path = s3.objects()[f"some/prefix/{stored.name}"]
    path.with_name(f"{'0' * 64}.png").write_bytes(b"another")
    refused = await problem(home.uploads("ana").find(ticket.id("image"), "character_image"))

    assert isinstance(refused, NotSent)
    assert (refused.charged, refused.transient) == ("no", False)


async def test_an_upload_is_only_for_the_argument_it_was_made_for(home: Home) -> None:
    ticket = await home.ticket()
    await home.upload(ticket, PICTURE, "image")
    refused = await problem(home.uploads("ana").find(ticket.id("image"), "video"))

    assert isinstance(refused, InvalidArguments)
    assert "as character_image" in refused.next_step


@pytest.mark.parametrize(
    ("limit", "most"), [("MOST_FILES", len(PICTURE) * 1.5 / MOST), ("MOST_SMALL_FILES", 1)]
)
async def test_a_workspace_cannot_fill_the_storage(
    home: Home, monkeypatch: pytest.MonkeyPatch, limit: str, most: float
) -> None:
    """Its own room ends, in bytes and in files, and that of others does not (ours)."""
    monkeypatch.setattr(reception, limit, most)
    await home.upload(await home.ticket())
    full = await home.refusal(await home.ticket())

    assert full.status == 507
    assert (await home.upload(await home.ticket("ben"))).stored.size == len(PICTURE)


async def test_uploads_at_once_are_few_and_one_workspace_leaves_room_for_others(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each needs room on the disk of the server (ours)."""
    monkeypatch.setattr(reception, "MOST_AT_ONCE", 3)
    begun, end = anyio.Event(), anyio.Event()
    started: list[None] = []

    async def slow() -> AsyncIterator[bytes]:
        started.append(None)
        if len(started) == 3:
            begun.set()
        await end.wait()
        yield PICTURE

    async def send(ticket: Ticket) -> None:
        await home.reception.receive(ticket, "image", len(PICTURE), slow())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, await home.ticket())
        tasks.start_soon(send, await home.ticket())
        while len(started) < 2:
            await anyio.lowlevel.checkpoint()
        own = await home.refusal(await home.ticket())
        tasks.start_soon(send, await home.ticket("ben"))
        await begun.wait()
        full = await home.refusal(await home.ticket("cleo"))
        end.set()

    assert (own.status, own.retry_after) == (503, reception.AGAIN_SECONDS)
    assert "Two of your files" in own.what
    assert "The server takes" in full.what
    assert (await home.upload(await home.ticket("cleo"))).stored.size == len(PICTURE)


async def test_files_that_come_at_once_have_room_on_the_disk_together(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger lies on the same disk (ours)."""
    free = reception.RESERVE_BYTES + len(PICTURE) * 3 // 2
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    come = anyio.Event()

    async def slow() -> AsyncIterator[bytes]:
        come.set()
        await anyio.sleep_forever()
        yield b""

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(home.reception.receive, await home.ticket(), "image", len(PICTURE), slow())
        await come.wait()
        refused = await home.refusal(await home.ticket("ben"))
        tasks.cancel_scope.cancel()

    assert (refused.status, "The disk" in refused.what) == (503, True)
    assert (await home.upload(await home.ticket("ben"))).stored.size == len(PICTURE)


async def test_a_full_disk_of_the_server_refuses_before_anything_comes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "RESERVE_BYTES", 1 << 62)
    refused = await home.refusal(await home.ticket())

    assert (refused.status, refused.retry_after is not None) == (503, True)


async def test_a_storage_that_is_down_is_named_to_nobody_but_the_operator(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the bucket nor its variables concern a user (ours)."""
    ticket = await home.ticket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    home.reception = home.server(Patience(answer=600, stall=600, retries=0, uploads=1))
    refused = await home.refusal(ticket)
    call = await problem(home.uploads("ana").find(ticket.id("image"), "character_image"))

    assert refused.status == 503
    for text in (refused.what + refused.next_step, call.what + call.next_step):
        assert not [word for word in ("s3:", "bucket", "AWS_") if word in text]
    assert isinstance(call, NotSent)
    assert call.charged == "no"
    assert "s3://bucket" in caplog.text


async def test_an_upload_serves_a_call_for_a_day_and_an_accepted_request_for_longer(
    home: Home,
) -> None:
    """So a request that waits in the queue gets its file (ours)."""
    ticket = await home.ticket()
    stored = (await home.upload(ticket)).stored
    id, uploads = ticket.id("image"), home.uploads("ana")
    home.now += timedelta(days=1, seconds=60)
    late = await problem(uploads.find(id, "character_image"))
    copy = await uploads.copy(id, "character_image", stored.sha256)
    copy.discard()
    fresh = await home.reception.ticket((late.upload_page or "").rpartition("/")[2])

    assert isinstance(late, NotFound)
    assert fresh.number != ticket.number


async def test_old_uploads_are_deleted_and_nothing_else(home: Home, s3: S3) -> None:
    old, new = await home.ticket(), await home.ticket()
    name = (await home.upload(old)).stored.name
    kept = (await home.upload(new)).stored.name
    s3.make_older(f"some/prefix/{name}", timedelta(days=2, seconds=60))
    strange = s3.folder / "bucket/some/prefix/uploads/report.pdf"
    strange.write_bytes(b"%PDF-")
    os.utime(strange, (0, 0))
    count = await home.reception.shelves.delete_old()

    assert count == 1
    assert sorted(s3.objects()) == sorted([f"some/prefix/{kept}", "some/prefix/uploads/report.pdf"])


async def test_an_upload_that_is_another_file_by_now_is_not_sent(home: Home, s3: S3) -> None:
    """What was accepted is what is sent, or nothing (ours)."""
    ticket = await home.ticket()
    stored = (await home.upload(ticket)).stored
    (s3.folder / "bucket/some/prefix" / stored.name).write_bytes(PICTURE[::-1])
    refused = await problem(
        home.uploads("ana").copy(ticket.id("image"), "character_image", stored.sha256)
    )

    assert isinstance(refused, NotSent)
    assert home.is_clean
