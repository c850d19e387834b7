"""The look before paying: what is refused, what is only said, and what finding out may cost."""

import asyncio
import importlib.util
import io
import re
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client

from wan_mcp.inputs import preflight
from wan_mcp.inputs.byte_ranges import Pieces
from wan_mcp.inputs.file_types import kind_of
from wan_mcp.inputs.image_size import size_of
from wan_mcp.inputs.preflight import UnusableInput, look
from wan_mcp.inputs.probe import OPTIONS, Damaged, Missing, available, probe
from wan_mcp.models import Replacement
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.web.fetch import Answer, Web

pytestmark = pytest.mark.anyio

MIB = 1 << 20
IN_FLIGHT = 8 * MIB
"""What the system may hold of a body between a server and a client that hangs up."""


# The web server


@dataclass(frozen=True)
class Thing:
    """One file of the server, and how it is given out.

    Attributes:
        length: what is said to be the whole length; -1 to say nothing.
        drip: the head of the answer, then this much of the body, then silence.
    """

    data: bytes = b""
    status: int = 200
    headers: str = ""
    ranges: bool = True
    length: int | None = None
    drip: int | None = None
    endless: bool = False

    def answer(self, wanted: re.Match[str] | None) -> tuple[str, bytes]:
        total = len(self.data) if self.length is None else self.length
        if not (self.ranges and wanted and self.status == 200):
            length = "" if total < 0 else f"Content-Length: {total}\r\n"
            return f"{self.status} -\r\n{length}", self.data
        start, stop = int(wanted[1]), min(int(wanted[2]) + 1, total)
        if start >= total:
            return f"416 -\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n", b""
        part = self.data[start:stop].ljust(stop - start, b"\0")
        place = f"Content-Range: bytes {start}-{stop - 1}/{total}\r\n"
        return f"206 -\r\n{place}Content-Length: {len(part)}\r\n", part


class Site:
    """Gives things out by their path, and counts what leaves."""

    def __init__(self, **things: Thing) -> None:
        self.things = things
        self.sent = 0
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            name = head.split(" ")[1].partition("?")[0].strip("/")
            self.asked.append(name)
            thing = self.things[name]
            top, body = thing.answer(re.search(r"Range: bytes=(\d+)-(\d+)", head))
            head = f"HTTP/1.1 {top}{thing.headers}Connection: close\r\n\r\n"
            await self.write(writer, head.encode() + body[: thing.drip])
            if thing.drip is not None:
                await reader.read()
            while thing.endless:
                await self.write(writer, body)
        writer.close()

    async def write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for start in range(0, len(data), 65_536):
            writer.write(data[start : start + 65_536])
            await writer.drain()
            self.sent += len(data[start : start + 65_536])


class CountingWeb(Web):
    """A web that counts what is read of its answers."""

    taken = 0

    @asynccontextmanager
    async def get(self, url: str, **part: Any) -> AsyncIterator[Answer]:
        async with super().get(url, **part) as answer:
            yield replace(answer, body=self.counted(answer.body))

    async def counted(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in body:
            self.taken += len(piece)
            yield piece


async def resolve(host: str, port: int) -> list[str]:
    """Every name is this machine, but for a private, an unknown and an unlucky one."""
    if host == "offline.example.com":
        raise socket.gaierror(socket.EAI_AGAIN, "offline")
    if host == "nowhere.example.com":
        raise socket.gaierror(socket.EAI_NONAME, "unknown")
    return ["192.168.0.1" if host == "intranet.example.com" else "127.0.0.1"]


@dataclass
class Looked:
    """What a look brought and what it took."""

    notes: list[str] = field(default_factory=list)
    refusal: UnusableInput | None = None
    taken: int = 0
    sent: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def said(self) -> str:
        if self.refusal:
            return f"{self.refusal.what} {self.refusal.next_step}"
        return " ".join(self.notes)


async def last_polled_at(
    video: Thing | str,
    image: Thing | str | None = None,
    limit: float = 4.0,
    host: str = "files.example.com",
    **wanted: Any,
) -> Looked:
    """A look at two things, or at two addresses."""
    things = {"video": video, "image": image or Thing(png(640, 480))}
    site = Site(**{name: thing for name, thing in things.items() if isinstance(thing, Thing)})
    listener = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    base = f"http://{host}:{listener.sockets[0].getsockname()[1]}"
    urls = [
        thing if isinstance(thing, str) else f"{base}/{name}?sig=canary"
        for name, thing in things.items()
    ]
    looked, web = Looked(), CountingWeb(loopback=True, resolve=resolve)
    given = {"seconds": 3, "merge_audio": False} | wanted
    with anyio.fail_after(5):
        try:
            looked.notes = await look(
                Replacement(video=urls[0], character_image=urls[1], **given), web, seconds=limit
            )
        except UnusableInput as exc:
            looked.refusal = exc
    await web.aclose()
    listener.close()
    looked.taken, looked.sent, looked.asked = web.taken, site.sent, site.asked
    return looked


# The media


@cache
def film(
    form: str = "mp4",
    *,
    seconds: int = 3,
    codec: str = "libx264",
    sound: str = "",
    size: tuple[int, int] = (320, 240),
    turned: int = 0,
    **options: str,
) -> bytes:
    """A grey clip of 8 frames a second, as PyAV makes it."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=form, options=options) as container:
        seen = container.add_stream(codec, rate=8) if codec else None
        heard = container.add_stream(sound, rate=48_000, layout="mono") if sound else None
        if seen:
            seen.width, seen.height, seen.pix_fmt = *size, "yuv420p"
            if turned:
                seen.set_display_rotation(turned)
            for number in range(seconds * 8):
                frame = av.VideoFrame(*size, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                frame.pts = number
                container.mux(seen.encode(frame))
            container.mux(seen.encode(None))
        if heard:
            for start in range(0, seconds * 48_000, 1024):
                part = av.AudioFrame(format="fltp", layout="mono", samples=1024)
                part.sample_rate, part.pts = 48_000, start
                part.planes[0].update(bytes(4096))
                container.mux(heard.encode(part))
            container.mux(heard.encode(None))
    return file.getvalue()


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def index_at_the_end(filler: int = 0) -> bytes:
    """A clip whose index is last, as most programs write it, behind so much of anything."""
    clip = film()
    at = clip.index(b"moov") - 4
    return clip[:at] + box(b"free", bytes(filler)) + clip[at:]


def index_first(clip: bytes) -> bytes:
    """The same clip with its index in front; movflags=faststart needs a file with a name."""
    at, media = clip.index(b"moov") - 4, clip.index(b"mdat") - 4
    index = bytearray(clip[at:])
    table = index.index(b"stco") + 8
    (count,) = struct.unpack_from(">I", index, table)
    for place in range(table + 4, table + 4 + 4 * count, 4):
        (offset,) = struct.unpack_from(">I", index, place)
        struct.pack_into(">I", index, place, offset + len(index))
    return clip[:media] + bytes(index) + clip[media:at]


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + box(b"IHDR", struct.pack(">II5B", width, height, 8, 2, 0, 0, 0))


def jpeg(width: int, height: int, orientation: int = 1) -> bytes:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHxx", 0x112, 3, 1, orientation)
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes(9)
    parts = ((0xE0, b"JFIF\0" + bytes(9)), (0xE1, exif), (0xDB, bytes(65)), (0xC2, frame))
    return b"\xff\xd8" + b"".join(
        struct.pack(">BBH", 255, marker, len(part) + 2) + part for marker, part in parts
    )


PAGE = Thing(
    b"\n<!-- hello -->\n<!DOCTYPE html><html><head><title>Watch</title></head></html>",
    headers="Content-Type: text/html\r\n",
)
GIF = b"GIF89a\x40\x01\xf0\0" + bytes(64)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
WEBM = (
    b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm"
    + bytes(64)
)
MP3 = b"ID3\x04" + bytes(64)
MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(64)
EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"

Make = Callable[[], Any]


@dataclass(frozen=True)
class Bad:
    """One bad input, and words that the refusal must hold."""

    name: str
    words: str
    video: Make = lambda: Thing(MP4)
    image: Make = lambda: Thing(png(640, 480))
    wanted: dict[str, Any] = field(default_factory=dict)
    host: str = "files.example.com"


def redirect(location: str) -> Thing:
    return Thing(status=302, headers=f"Location: {location}\r\n")


REFUSED = [
    Bad("page", "video leads to a web page.*copy the link of its download", lambda: PAGE),
    Bad("youtube", "no link to the file itself", lambda: PAGE, host="www.youtube.com"),
    Bad("drive", "uc\\?export=download", lambda: PAGE, host="drive.google.com"),
    Bad("dropbox", "dl=1 instead of dl=0", lambda: PAGE, host="www.dropbox.com"),
    Bad("page-for-a-picture", "character_image leads to a web page", image=lambda: PAGE),
    Bad(
        "page-behind-a-redirect",
        "video leads to a web page",
        lambda: redirect("/image"),
        lambda: PAGE,
    ),
    Bad(
        "page-packed-unasked",
        "video leads to a web page",
        lambda: replace(
            PAGE,
            data=b"\x1f\x8b\x08" + bytes(99),
            headers=f"{PAGE.headers}Content-Encoding: gzip\r\n",
        ),
    ),
    Bad("redirect-circle", "video cannot be fetched.*in a circle", lambda: redirect("/video")),
    Bad("private-redirect", "private network", lambda: redirect("http://10.0.0.1/")),
    Bad("metadata-redirect", "private network", lambda: redirect("http://169.254.169.254/")),
    Bad("private-name", "private network", lambda: "http://intranet.example.com/clip.mp4"),
    Bad("unknown-name", "does not exist", lambda: "http://nowhere.example.com/clip.mp4"),
    Bad("file-redirect", "path on this computer", lambda: redirect("file:///etc/passwd")),
    Bad("endless-page", "web page", lambda: replace(PAGE, length=-1, endless=True, ranges=False)),
    Bad("not-found", "video does not exist .404", lambda: Thing(status=404)),
    Bad("gone", "video is gone .410", lambda: Thing(status=410)),
    Bad("forbidden", "may not be fetched .403.*make the file public", lambda: Thing(status=403)),
    Bad("login", "needs a login", lambda: Thing(status=401)),
    Bad("expired-403", "expired.*make a new link", lambda: Thing(EXPIRED, status=403)),
    Bad("expired-400", "expired.*new link", lambda: Thing(b'{"error":"ExpiredToken"}', status=400)),
    Bad("empty", "video is an empty file", Thing),
    Bad("empty-without-ranges", "is an empty file", lambda: Thing(ranges=False)),
    Bad("empty-without-length", "is an empty file", lambda: Thing(ranges=False, length=-1)),
    Bad("empty-picture", "character_image is an empty file", image=Thing),
    Bad("huge", "video is 3,000,000,000 bytes", lambda: Thing(MP4, length=3_000_000_000)),
    Bad("huge-picture", "bytes large", image=lambda: Thing(jpeg(9, 9), length=60_000_000)),
    Bad("picture-as-video", "is a PNG picture, not a video", lambda: Thing(png(9, 9))),
    Bad("heic-as-video", "is a HEIC picture, not a video", lambda: Thing(HEIC)),
    Bad("video-as-picture", "is an MP4 video, not a pic.*swapped", image=lambda: Thing(MP4)),
    Bad("webm-as-picture", "is a WebM video, not a picture", image=lambda: Thing(WEBM)),
    Bad("sound-as-video", "is a sound file, not a video", lambda: Thing(MP3)),
    Bad("pdf", "is a PDF document", lambda: Thing(b"%PDF-1.7\n" + bytes(99))),
    Bad("zip", "is an archive", lambda: Thing(b"PK\x03\x04" + bytes(99))),
    Bad("json", "is a text file", lambda: Thing(b'{"message": "no such object here"}')),
    Bad("playlist", "is a playlist", lambda: Thing(b"#EXTM3U\n#EXTINF:3,\nfile:///etc/passwd\n")),
    Bad(
        "type-that-lies",
        "is a PNG picture",
        lambda: Thing(png(9, 9), headers="Content-Type: video/mp4\r\n"),
    ),
    Bad(
        "both",
        "video does not exist.*character_image leads to a web page.*video: .*character_image: ",
        lambda: Thing(status=404),
        lambda: PAGE,
    ),
]
REFUSED_WITH_PYAV = [
    Bad(
        "short",
        "video_duration is 7, but the clip is only 3 s long.*set video_duration to 3 or less",
        lambda: Thing(film()),
        wanted={"seconds": 7},
    ),
    Bad(
        "short-webm",
        "only 3 s long",
        lambda: Thing(film("webm", codec="libvpx")),
        wanted={"seconds": 4},
    ),
    Bad("short-mov", "only 3 s long", lambda: Thing(film("mov")), wanted={"seconds": 4}),
    Bad(
        "short-fragmented",
        "only 3 s long",
        lambda: Thing(film(movflags="frag_keyframe+empty_moov")),
        wanted={"seconds": 4},
    ),
    Bad(
        "short-index-at-the-end",
        "only 3 s long",
        lambda: Thing(index_at_the_end(20 * MIB)),
        wanted={"seconds": 4},
    ),
    Bad(
        "short-without-ranges",
        "only 3 s long",
        lambda: Thing(index_at_the_end(2 * MIB), ranges=False),
        wanted={"seconds": 4},
    ),
    Bad(
        "short-since-cut-off",
        "but the clip is only [0-9.]+ s long.*video_duration to 2 or less",
        lambda: Thing(index_first(film())[:-200]),
    ),
    Bad(
        "shorter-than-any-result",
        "only 0.[0-9]+ s long. video_duration: give a longer clip",
        lambda: Thing(index_first(film(seconds=1))[:-100]),
        wanted={"seconds": 1},
    ),
    Bad("sound-only", "has no video stream", lambda: Thing(film(codec="", sound="aac"))),
    Bad("cut-off-index", "damaged or cut off", lambda: Thing(index_at_the_end()[:-200])),
    Bad("index-missing", "damaged or cut off", lambda: Thing(film()[: film().index(b"moov") - 4])),
]


def named(cases: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@pytest.fixture(params=["with-pyav", "without"])
def extra(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks over HTTP are the same whether the extra is installed or not."""
    if request.param == "with-pyav":
        pytest.importorskip("av")
    else:
        monkeypatch.setattr(preflight, "available", lambda: False)


@named(REFUSED)
@pytest.mark.usefixtures("extra")
async def test_an_input_that_cannot_work_is_refused(case: Bad) -> None:
    """With the argument's name, what is wrong and what to do (issue: preflight)."""
    looked = await last_polled_at(case.video(), case.image(), host=case.host, **case.wanted)

    assert_refused(looked, case.words)


@named(REFUSED_WITH_PYAV)
async def test_a_clip_that_cannot_work_is_refused(case: Bad) -> None:
    """Length and streams stand in the clip's header (issue: preflight)."""
    looked = await last_polled_at(case.video(), case.image(), **case.wanted)

    assert_refused(looked, case.words)


def assert_refused(looked: Looked, words: str) -> None:
    assert looked.refusal is not None
    assert re.search(words, looked.said, re.IGNORECASE)
    assert "canary" not in looked.said
    assert (looked.refusal.charged, looked.refusal.retry_safe) == ("no", False)
    assert looked.taken <= 8 * MIB
    assert looked.sent <= 8 * MIB + IN_FLIGHT


# What cannot be checked


@dataclass(frozen=True)
class Unclear:
    """Something that says nothing certain about PixelDojo's own try."""

    name: str
    video: Make
    limit: float = 4.0
    note: str = ""


UNCLEAR = [
    *(
        Unclear(f"status-{status}", partial(Thing, status=status))
        for status in (400, 405, 406, 416, 418, 429, 451, 500, 503)
    ),
    Unclear("page-of-an-outage", lambda: replace(PAGE, status=503)),
    Unclear("unknown-bytes", lambda: Thing(bytes(range(256)) * 9)),
    Unclear(
        "no-listener",
        lambda: "http://files.example.com:9/clip.mp4",
        note="video could not be looked at from here: no connection could be made.",
    ),
    Unclear("another-part", lambda: Thing(PAGE.data, 206, "Content-Range: bytes 7-9/80\r\n")),
    Unclear("no-place", lambda: Thing(PAGE.data, 206)),
    Unclear("broken-off", lambda: Thing(film()[:900], length=5_000, ranges=False)),
    Unclear("silent", lambda: Thing(MP4, drip=0), 0.3),
    Unclear(
        "silent-in-the-middle",
        lambda: Thing(index_at_the_end(MIB), drip=900),
        0.3,
        "video could not be looked at from here: it took too long.",
    ),
    Unclear("endless", lambda: Thing(film()[:9999], length=-1, endless=True, ranges=False)),
    Unclear("too-far-apart", lambda: Thing(MP4[:24] + 30 * box(b"free", bytes(600_000)))),
    Unclear("packed", lambda: Thing(MP4, headers="Content-Encoding: gzip\r\n")),
    Unclear("no-length-in-the-header", lambda: Thing(film("webm", codec="libvpx", live="1"))),
    Unclear("claims-too-much", lambda: Thing(overstated(film()))),
]


@named(UNCLEAR)
async def test_what_cannot_be_checked_is_not_refused(case: Unclear) -> None:
    """PixelDojo fetches it from elsewhere, and may well succeed (issue: preflight)."""
    looked = await last_polled_at(case.video(), limit=case.limit, seconds=15)

    assert looked.refusal is None
    assert " ".join(looked.notes) == case.note
    assert looked.taken <= 8 * MIB
    assert looked.sent <= 8 * MIB + IN_FLIGHT


async def test_without_a_network_both_inputs_are_said_to_be_unseen() -> None:
    """Whoever pays then knows that nobody has looked (ours)."""
    looked = await last_polled_at("https://offline.example.com/f", "https://offline.example.com/f")
    why = "could not be looked at from here: its host name could not be looked up."

    assert looked.notes == [f"video {why}", f"character_image {why}"]


async def test_one_silent_input_does_not_hide_the_other() -> None:
    """What was found by the deadline is told (ours)."""
    looked = await last_polled_at(Thing(MP4, drip=0), PAGE, limit=0.3)

    assert "character_image leads to a web page" in looked.said


async def test_a_slow_page_is_still_a_page() -> None:
    """Half of the time is kept to judge what has come by then (ours)."""
    looked = await last_polled_at(Thing(PAGE.data.ljust(500), drip=400), limit=0.4)

    assert "video leads to a web page" in looked.said


async def test_both_inputs_are_asked_for_at_once() -> None:
    """Neither answers, so nobody waited for the other (issue: preflight)."""
    looked = await last_polled_at(Thing(MP4, drip=0), Thing(png(9, 9), drip=0), limit=0.3)

    assert sorted(looked.asked) == ["image", "video"]


# Without a look

PAGE_LINK = "https://drive.google.com/file/d/1AbC/view?usp=sharing"
FILE_LINK = "https://drive.google.com/uc?export=download&id=1AbC"


@pytest.mark.parametrize("name", ["video", "character_image"])
@pytest.mark.parametrize("local", [True, False])
async def test_a_link_known_to_be_a_page_is_refused_with_nobody_asked(
    tmp_path: Path, name: str, local: bool
) -> None:
    """Also over HTTP, where no file is looked at: nothing is paid for it (ours)."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(500)

    given = {"PIXELDOJO_API_KEY": "pd_key", "WAN_MCP_DATA_DIR": str(tmp_path)}
    server = build_server(
        Settings.read(given, tmp_path), local=local, transport=httpx.MockTransport(answer)
    )
    links = {"video": FILE_LINK, "character_image": FILE_LINK, name: PAGE_LINK}
    async with Client(server) as client:
        result = await client.call_tool("replace_character", links)
    told = result.structured_content or {}

    assert asked == []
    assert (told["code"], told["charged"]) == ("invalid_arguments", "no")
    assert f"{name} shows a page, not the file itself (in Google Drive" in told["message"]
    assert "1AbC" not in str(result)


# What is only said


@dataclass(frozen=True)
class Said:
    """Inputs that may work, and what is to be said of them."""

    name: str
    words: str
    video: Make = lambda: Thing(film())
    image: Make = lambda: Thing(png(640, 480))
    wanted: dict[str, Any] = field(default_factory=dict)


SAID = [
    Said("no-sound", "has no sound, so merge_audio", wanted={"merge_audio": True}),
    Said("no-sound-by-default", "has no sound, so merge_audio", wanted={"merge_audio": None}),
    Said("few-frames", "8 frames per second, fewer than the 24", wanted={"frames_per_second": 24}),
    Said("small-clip", "video is only 160 x 120", lambda: Thing(film(size=(160, 120)))),
    Said("small-for-720", "video is only 320 x 240", wanted={"resolution": "720"}),
    Said("small-picture", "character_image is only 300 x 200", image=lambda: Thing(png(300, 200))),
    Said(
        "far-apart",
        "the clip is 640 x 360, the picture 360 x 800",
        lambda: Thing(film(size=(640, 360))),
        lambda: Thing(png(360, 800)),
    ),
    Said(
        "upright-by-turning",
        "the clip is 360 x 640, the picture 800 x 400",
        lambda: Thing(film(size=(640, 360), turned=90)),
        lambda: Thing(jpeg(400, 800, orientation=6)),
    ),
    Said("heic", "character_image is a HEIC picture.*JPEG or PNG", image=lambda: Thing(HEIC)),
    Said("gif", "character_image is a GIF", image=lambda: Thing(GIF)),
    Said("gif-as-video", "video is a GIF.*MP4 is safest", lambda: Thing(GIF)),
    Said("matroska", "video is a Matroska video", lambda: Thing(film("matroska"))),
]


@named(SAID)
async def test_doubts_are_said_and_nothing_is_refused(case: Said) -> None:
    """PixelDojo documents none of these limits (issue: preflight)."""
    pytest.importorskip("av")
    looked = await last_polled_at(case.video(), case.image(), **case.wanted)

    assert looked.refusal is None
    assert len(looked.notes) == 1
    assert re.search(case.words, looked.notes[0])


@pytest.mark.parametrize(
    "video",
    [
        lambda: index_first(film(sound="aac")),
        lambda: film("mov", sound="aac"),
        lambda: film("webm", codec="libvpx", sound="libopus"),
    ],
    ids=["mp4", "mov", "webm"],
)
async def test_of_good_inputs_nothing_is_said(video: Callable[[], bytes]) -> None:
    """A note for everybody is read by nobody (ours)."""
    looked = await last_polled_at(Thing(video()), seconds=3, merge_audio=True)

    assert (looked.refusal, looked.notes) == (None, [])
    assert sorted(looked.asked) == ["image", "video"]


async def test_an_index_at_the_end_costs_two_reads_not_the_file() -> None:
    """The beginning, and the end that the beginning points at (issue: preflight)."""
    looked = await last_polled_at(Thing(index_at_the_end(20 * MIB)), seconds=3)

    assert (looked.refusal, looked.notes) == (None, [])
    assert sorted(looked.asked) == ["image", "video", "video"]
    assert looked.taken < MIB


# libav


@pytest.mark.parametrize("claim", ["stsz", "trun", "cmov"])
def test_a_header_that_claims_too_much_is_left_alone(claim: str) -> None:
    """10 KB can make libav take gigabytes (measured)."""
    pytest.importorskip("av")
    clip = {
        "stsz": overstated(film()),
        "trun": overstated(film(movflags="frag_keyframe+empty_moov"), b"trun"),
        "cmov": film().replace(b"udta", b"cmov"),
    }[claim]

    assert probe(whole(clip), "mov") is None


def test_what_libav_says_of_half_a_film_does_not_count() -> None:
    """It takes the gap for the end, and the length it then tells for the whole (ours)."""
    pytest.importorskip("av")
    clip = film(movflags="frag_every_frame+empty_moov")
    pieces = whole(clip[: len(clip) // 2])
    pieces.total = len(clip)
    with pytest.raises(Missing) as missing:
        probe(pieces, "mov")

    assert missing.value.at == len(clip) // 2


async def test_a_look_that_hangs_in_libav_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread is left behind (ours)."""
    pytest.importorskip("av")
    free = threading.Event()
    monkeypatch.setattr(preflight, "probe", lambda *given: free.wait(8) and None)
    try:
        looked = await last_polled_at(Thing(film()), limit=0.2)
    finally:
        free.set()

    assert looked.refusal is None
    assert looked.notes == ["video could not be looked at from here: it took too long."]


@pytest.fixture
def trap() -> Iterator[str]:
    """An address of this machine that nobody may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        with pytest.raises(BlockingIOError):
            server.accept()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
}


@pytest.mark.parametrize("form", PLAYLISTS)
@pytest.mark.parametrize("demuxer", ["mov", "matroska"])
def test_a_playlist_is_no_film_to_libav(form: str, demuxer: str, trap: str) -> None:
    """It never guesses what a file is, so it takes none for a list of others (ours)."""
    pytest.importorskip("av")
    with pytest.raises(Damaged):
        probe(whole(PLAYLISTS[form].format(trap).encode()), demuxer)


@pytest.mark.parametrize("form", PLAYLISTS)
def test_even_a_playlist_leads_libav_nowhere(form: str, trap: str) -> None:
    """The second wall: no protocol is allowed (ours)."""
    av = pytest.importorskip("av")
    text = io.BytesIO(PLAYLISTS[form].format(trap).encode())
    with pytest.raises(av.FFmpegError):
        av.open(text, "r", format=form, options=OPTIONS)


@pytest.mark.parametrize("form", ["mov", "matroska"])
def test_no_decoder_runs_on_a_strangers_film(form: str) -> None:
    """Decoders are the larger part of libav, and the one that unpacks (ours)."""
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(film(form)), "r", format=form, options=OPTIONS) as opened:
        stream = opened.streams.video[0]

        assert stream.width == 320
        assert stream.pix_fmt is None  # only a decoder could tell


def whole(data: bytes) -> Pieces:
    pieces = Pieces()
    pieces.total = len(data)
    pieces.add(0, data)
    return pieces


def overstated(clip: bytes, table: bytes = b"stsz") -> bytes:
    """A clip that claims to have 2**28 samples."""
    at = clip.index(table) + 8
    size = struct.pack(">I", 1) if table == b"stsz" else b""
    return clip[:at] + size + struct.pack(">I", 1 << 28) + clip[at + 4 + len(size) :]


# The parts


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (png(640, 480), (640, 480)),
        (jpeg(640, 480), (640, 480)),
        (jpeg(640, 480, orientation=8), (480, 640)),
        (jpeg(640, 480)[:60], None),
        (b"RIFF....WEBPVP8 ....\0\0\0\x9d\x01\x2a\x80\x42\xe0\x01", (640, 480)),
        (b"RIFF....WEBPVP8L....\x2f" + struct.pack("<I", 639 | 479 << 14), (640, 480)),
        (b"RIFF....WEBPVP8X....\0\0\0\0\x7f\x02\0\xdf\x01\0", (640, 480)),
        (png(0, 480), None),
        (b"\xff\xd8\xff\xff\xff\xff\xff", None),
        (GIF, None),
        (b"", None),
    ],
)
def test_a_picture_tells_its_size_in_its_header(head: bytes, size: tuple[int, int] | None) -> None:
    """As it is shown: phones note how they were held (ours)."""
    assert size_of(head) == size


@pytest.mark.parametrize(
    ("head", "content_type", "name"),
    [
        (b"RIFF....WEBPVP8X....\x02\0\0\0", "", "an animated WebP"),
        (b"RIFF....WEBPVP8X....\0\0\0\0", "", "a WebP picture"),
        (b"\0\0\0\x1cftypavif", "", "an AVIF picture"),
        (b"\0\0\0\x14ftypqt  ", "", "a MOV video"),
        (b"\0\0\1\0moov" + bytes(9), "", "a MOV video"),
        (b"\0\0\0\x1cftypM4A ", "", "a sound file"),
        (b"G" + bytes(187) + b"G" + bytes(187) + b"G" + bytes(187) + b"G", "", "an MPEG stream"),
        (b'<?xml version="1.0"?>\n<svg xmlns="">', "", "an SVG drawing"),
        (b"Sign in to see this file, please.", "text/html; charset=utf-8", "a web page"),
        (b"\xff\xfb\x90\0" + bytes(20), "audio/mpeg", "a sound file"),
        (b"\xff\xfb\x90\0" + bytes(20), "application/octet-stream", None),
        (b"short", "", None),
        (b"", "text/html", None),
    ],
)
def test_first_bytes_tell_the_kind(head: bytes, content_type: str, name: str | None) -> None:
    """The server's word counts only where they leave a doubt (ours)."""
    kind = kind_of(head, content_type)

    assert (kind and kind.name) == name


def test_the_extra_is_seen_without_loading_it() -> None:
    """Whoever starts the server asks this (ours)."""
    assert available() is (importlib.util.find_spec("av") is not None)
