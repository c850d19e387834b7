"""The check before paying: what is refused, what is only noted, and how much is read for it."""

import asyncio
import importlib.util
import io
import os
import re
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import httpx
import pytest
from mcp import Client

from tests.inputs.hostile import HOSTILE
from wan_mcp.inputs import decoder_process, video_check
from wan_mcp.inputs.boxes import ClaimsTooMuch
from wan_mcp.inputs.byte_ranges import ByteRanges
from wan_mcp.inputs.file_types import FileType, file_type_of
from wan_mcp.inputs.image_headers import image_size
from wan_mcp.inputs.preflight import check_inputs
from wan_mcp.inputs.probe import LIBAV_OPTIONS, BytesMissing, DamagedVideo, available, probe
from wan_mcp.inputs.remote_file import RemoteFile
from wan_mcp.inputs.verdict import Role, UnusableInput, judge
from wan_mcp.models import Replacement, SourceClip
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.web.fetch import Answer, Web

pytestmark = pytest.mark.anyio

MIB = 1 << 20
IN_FLIGHT = 8 * MIB
"""How much of a body the system may buffer when the client closes the connection."""


# The web server


@dataclass(frozen=True)
class Served:
    """One file of the server, and how it is served.

    Attributes:
        length: the declared length of the whole file; -1 to declare none.
        refuses_ranges: the status with which a request for a part is refused.
        silent_after: send the headers and so many bytes of the body, then nothing more.
    """

    data: bytes = b""
    status: int = 200
    headers: str = ""
    ranges: bool = True
    length: int | None = None
    silent_after: int | None = None
    endless: bool = False
    refuses_ranges: int = 0

    def answer(self, wanted: re.Match[str] | None) -> tuple[str, bytes]:
        if wanted and self.refuses_ranges:
            return f"{self.refuses_ranges} -\r\nContent-Length: 0\r\n", b""
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
    """Serves files by their path, and counts the bytes that it sends.

    Args:
        together: answer only when every file has been requested.
    """

    def __init__(self, *, together: bool, **files: Served) -> None:
        self.files = files
        self.sent_bytes = 0
        self.asked: list[str] = []
        self._all_asked = asyncio.Event()
        self._together = together

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            name = head.split(" ")[1].partition("?")[0].strip("/")
            self.asked.append(name)
            if {*self.asked} == {*self.files} or not self._together:
                self._all_asked.set()
            await self._all_asked.wait()
            served = self.files[name]
            top, body = served.answer(re.search(r"Range: bytes=(\d+)-(\d+)", head))
            head = f"HTTP/1.1 {top}{served.headers}Connection: close\r\n\r\n"
            await self.write(writer, head.encode() + body[: served.silent_after])
            if served.silent_after is not None:
                await reader.read()
            while served.endless:
                await self.write(writer, body)
        writer.close()

    async def write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for start in range(0, len(data), 65_536):
            writer.write(data[start : start + 65_536])
            await writer.drain()
            self.sent_bytes += len(data[start : start + 65_536])


class Deadlines:
    """Stands in for time: a deadline passes when a server falls silent, and not before.

    The first silence of a file ends the time for its beginning, the next one the whole check,
    but only after the check of the image has ended.
    """

    def __init__(self) -> None:
        self.image_checked = anyio.Event()
        self._whole: anyio.CancelScope | None = None
        self._of_beginning: dict[int, anyio.CancelScope] = {}

    def move_on_after(self, seconds: float) -> anyio.CancelScope:
        """As `anyio.move_on_after`, which it replaces."""
        scope = anyio.CancelScope()
        if self._whole is None:
            self._whole = scope
        else:
            self._of_beginning[anyio.get_current_task().id] = scope
        return scope

    async def on_silence(self) -> None:
        """Called in the task that would now wait for ever."""
        if scope := self._of_beginning.pop(anyio.get_current_task().id, None):
            scope.cancel()
        else:
            await self.end()

    async def end(self) -> None:
        """Let the whole check run out of time."""
        await self.image_checked.wait()
        assert self._whole is not None
        self._whole.cancel()


class ObservedWeb(Web):
    """Counts the bytes that are read from its answers, and knows which of them fall silent."""

    def __init__(self, site: Site, deadlines: Deadlines) -> None:
        super().__init__(loopback=True, resolve=resolve, connect_seconds=600, read_seconds=600)
        self.read_bytes = 0
        self._site = site
        self._deadlines = deadlines

    @asynccontextmanager
    async def get(self, url: str, **part: Any) -> AsyncIterator[Answer]:
        name = urlsplit(url).path.strip("/")
        served = self._site.files.get(name)
        async with super().get(url, **part) as answer:
            body = self.observed(answer.body, served.silent_after if served else None)
            yield replace(answer, body=body)
        if name == "image":
            self._deadlines.image_checked.set()

    async def observed(
        self, body: AsyncIterator[bytes], silent_after: int | None
    ) -> AsyncIterator[bytes]:
        read = 0
        if silent_after == 0:
            await self._deadlines.on_silence()
        async for block in body:
            read += len(block)
            self.read_bytes += len(block)
            yield block
            if read == silent_after:
                await self._deadlines.on_silence()


async def resolve(host: str, port: int) -> list[str]:
    """Every name means this machine, except a private, an unknown and an unavailable one."""
    if host == "offline.example.com":
        raise socket.gaierror(socket.EAI_AGAIN, "offline")
    if host == "nowhere.example.com":
        raise socket.gaierror(socket.EAI_NONAME, "unknown")
    return ["192.168.0.1" if host == "intranet.example.com" else "127.0.0.1"]


@dataclass
class Checked:
    """The result of a check, and how much was transferred for it."""

    notes: list[str] = field(default_factory=list)
    source: SourceClip = field(default_factory=SourceClip)
    refusal: UnusableInput | None = None
    read_bytes: int = 0
    sent_bytes: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        if self.refusal:
            return f"{self.refusal.what} {self.refusal.next_step}"
        return " ".join(self.notes)


async def check(
    video: Served | str,
    image: Served | str | None = None,
    host: str = "files.example.com",
    deadlines: Deadlines | None = None,
    together: bool = False,
    **wanted: Any,
) -> Checked:
    """Check two files, or two addresses."""
    files = {"video": video, "image": image or Served(png(640, 480))}
    served = {name: file for name, file in files.items() if isinstance(file, Served)}
    site = Site(together=together, **served)
    listener = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    base = f"http://{host}:{listener.sockets[0].getsockname()[1]}"
    urls = [
        file if isinstance(file, str) else f"{base}/{name}?sig=canary"
        for name, file in files.items()
    ]
    deadlines = deadlines or Deadlines()
    checked, web = Checked(), ObservedWeb(site, deadlines)
    given = {"seconds": 3, "merge_audio": False} | wanted
    wanted_job = Replacement(video=urls[0], character_image=urls[1], **given)
    with anyio.fail_after(600), pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio, "move_on_after", deadlines.move_on_after)
        try:
            report = await check_inputs(wanted_job, web)
            checked.notes, checked.source = list(report.notes), report.source
        except UnusableInput as exc:
            checked.refusal = exc
    await web.aclose()
    listener.close()
    checked.read_bytes, checked.sent_bytes = web.read_bytes, site.sent_bytes
    checked.asked = site.asked
    return checked


# The files


@cache
def video_file(
    form: str = "mp4",
    *,
    seconds: int = 3,
    codec: str = "libx264",
    audio: str = "",
    audio_seconds: int = 0,
    title: str = "",
    size: tuple[int, int] = (320, 240),
    rotation: int = 0,
    **options: str,
) -> bytes:
    """A grey video of 8 frames a second, made with PyAV."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=form, options=options) as container:
        video = container.add_stream(codec, rate=8) if codec else None
        if title:
            container.metadata["title"] = title
        track = container.add_stream(audio, rate=48_000, layout="mono") if audio else None
        if video:
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            if rotation:
                video.set_display_rotation(rotation)
            for number in range(seconds * 8):
                frame = av.VideoFrame(*size, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                frame.pts = number
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if track:
            for start in range(0, (audio_seconds or seconds) * 48_000, 1024):
                part = av.AudioFrame(format="fltp", layout="mono", samples=1024)
                part.sample_rate, part.pts = 48_000, start
                part.planes[0].update(bytes(4096))
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    return file.getvalue()


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, name) + body


def sound_later(seconds: int) -> bytes:
    """A video of 3 s whose sound begins after so many seconds."""
    av = pytest.importorskip("av")
    source = av.open(io.BytesIO(video_file(audio="aac", audio_seconds=3)))
    file = io.BytesIO()
    with source, av.open(file, "w", format="mp4") as target:
        streams = {each.index: target.add_stream_from_template(each) for each in source.streams}
        for packet in source.demux():
            if packet.size:
                delay = 48_000 * seconds if packet.stream.type == "audio" else 0
                packet.pts, packet.dts = packet.pts + delay, packet.dts + delay
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return index_first(file.getvalue())


def empty_track() -> bytes:
    """A video with a track of sound that has no samples."""
    data = bytearray(index_first(video_file(audio="aac")))
    count = data.rfind(b"stsz") + 12
    data[count : count + 4] = bytes(4)
    return bytes(data)


def latin_1_title() -> bytes:
    """A video whose title is not UTF-8, as old programs wrote it."""
    return video_file(title="a title of XX").replace(b"title of XX", b"title of \xfc\xdf")


def encrypted() -> bytes:
    """A video whose index says that its pictures are encrypted (ISO/IEC 23001-7)."""
    return video_file().replace(b"avc1", b"encv", 2).replace(b"encv", b"avc1", 1)


def with_wrong_header(form: str) -> bytes:
    """A good video of 6 s, one field of which says that it has 0.2 s.

    Browser recorders write the length of a track in the time scale of the movie (observed
    elsewhere).
    """
    if form == "mp4":
        data = bytearray(video_file(seconds=6))
        at = data.index(b"mdhd") + 16
        scale, _ = struct.unpack_from(">II", data, at)
        struct.pack_into(">I", data, at + 4, scale // 5)
    else:
        data = bytearray(video_file("webm", codec="libvpx", seconds=6))
        struct.pack_into(">d", data, data.index(b"\x44\x89\x88") + 3, 200.0)
    return bytes(data)


def hdr() -> bytes:
    """A video whose index names the transfer PQ; the box takes the place of the bit rates."""
    data = video_file()
    at = data.index(b"btrt")
    colour = struct.pack(">4s3HB", b"nclx", 9, 16, 9, 0)
    return data[: at - 4] + box(b"colr", colour) + box(b"", b"")[:0] + data[at + 16 :]


def index_at_the_end(filler: int = 0) -> bytes:
    """A video whose index is last, as most programs write it, after so many bytes of filler."""
    data = video_file()
    at = data.index(b"moov") - 4
    return data[:at] + box(b"free", bytes(filler)) + data[at:]


def index_first(data: bytes) -> bytes:
    """The same video with its index first; movflags=faststart would need a file with a name."""
    at, media = data.index(b"moov") - 4, data.index(b"mdat") - 4
    index = bytearray(data[at:])
    table = index.index(b"stco") + 8
    (count,) = struct.unpack_from(">I", index, table)
    for place in range(table + 4, table + 4 + 4 * count, 4):
        (offset,) = struct.unpack_from(">I", index, place)
        struct.pack_into(">I", index, place, offset + len(index))
    return data[:media] + bytes(index) + data[media:at]


def png(width: int, height: int) -> bytes:
    header = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b"x"), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + bytes(4) for kind, data in chunks
    )


def jpeg(width: int, height: int, orientation: int = 1) -> bytes:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHxx", 0x112, 3, 1, orientation)
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes(9)
    thumbnail = exif + b"\xff\xd8 thumbnail \xff\xd9"
    parts = ((0xE0, b"JFIF\0" + bytes(9)), (0xE1, thumbnail), (0xDB, bytes(65)), (0xC2, frame))
    segments = (*parts, (0xDA, bytes(10)))
    return (
        b"\xff\xd8"
        + b"".join(
            struct.pack(">BBH", 255, marker, len(part) + 2) + part for marker, part in segments
        )
        + b"the coded picture\xff\xd9 and what a phone adds"
    )


PAGE = Served(
    b"\n<!-- hello -->\n<!DOCTYPE html><html><head><title>Watch</title></head></html>",
    headers="Content-Type: text/html\r\n",
)
GIF = b"GIF89a\x80\x02\xe0\x01" + bytes(64)
BMP = b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + struct.pack("<ii", 640, -480) + bytes(64)
JPEG_2000 = b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="600" height="800"/>'
SVG_WITH_DOCTYPE = b'<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "a" "b">\n' + SVG
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
WEBM = (
    b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm"
    + bytes(64)
)
MP3 = b"ID3\x04" + bytes(64)
MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(64)
EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"

MakeFile = Callable[[], Any]


@dataclass(frozen=True)
class Bad:
    """One bad input, and a pattern that the refusal must match."""

    name: str
    words: str
    video: MakeFile = lambda: Served(MP4)
    image: MakeFile = lambda: Served(png(640, 480))
    wanted: dict[str, Any] = field(default_factory=dict)
    host: str = "files.example.com"


def redirect(location: str) -> Served:
    return Served(status=302, headers=f"Location: {location}\r\n")


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
    Bad("not-found", "video does not exist .404", lambda: Served(status=404)),
    Bad("gone", "video is gone .410", lambda: Served(status=410)),
    Bad("forbidden", "may not be fetched .403.*make the file public", lambda: Served(status=403)),
    Bad("login", "needs a login", lambda: Served(status=401)),
    Bad("expired-403", "expired.*make a new link", lambda: Served(EXPIRED, status=403)),
    Bad(
        "expired-400", "expired.*new link", lambda: Served(b'{"error":"ExpiredToken"}', status=400)
    ),
    Bad("empty", "video is an empty file", Served),
    Bad("empty-without-ranges", "is an empty file", lambda: Served(ranges=False)),
    Bad("empty-without-length", "is an empty file", lambda: Served(ranges=False, length=-1)),
    Bad("empty-picture", "character_image is an empty file", image=Served),
    Bad("huge", "video is 3,000,000,000 bytes", lambda: Served(MP4, length=3_000_000_000)),
    Bad("huge-picture", "bytes large", image=lambda: Served(jpeg(9, 9), length=60_000_000)),
    Bad("picture-as-video", "is a PNG picture, not a video", lambda: Served(png(9, 9))),
    Bad("bmp-as-video", "is a BMP picture, not a video", lambda: Served(BMP)),
    Bad("jpeg-2000-as-video", "is a JPEG 2000 picture, not a video", lambda: Served(JPEG_2000)),
    Bad("svg", "is an SVG drawing, not a picture", image=lambda: Served(SVG)),
    Bad("svg-with-doctype", "is an SVG drawing, not a pic", image=lambda: Served(SVG_WITH_DOCTYPE)),
    Bad("huge-in-pixels", "20000 x 20000.*smaller", image=lambda: Served(png(20_000, 20_000))),
    Bad("one-pixel", "1 x 1 pixels, on which nobody", image=lambda: Served(png(1, 1))),
    Bad("cut-off-png", "is cut off.*whole", image=lambda: Served(png(640, 480)[:-12])),
    Bad("cut-off-in-a-chunk", "is cut off", image=lambda: Served(png(640, 480)[:-18])),
    Bad(
        "cut-off-webp",
        "is cut off",
        image=lambda: Served(b"RIFF\x99\1\0\0WEBPVP8 ....\0\0\0\x9d\x01\x2a\x80\x42\xe0\x01"),
    ),
    Bad("cut-off-jpeg", "is cut off", image=lambda: Served(jpeg(640, 480)[:-30])),
    Bad("cut-off-before-the-picture", "is cut off", image=lambda: Served(jpeg(640, 480)[:150])),
    Bad("heic-as-video", "is a HEIC picture, not a video", lambda: Served(HEIC)),
    Bad("video-as-picture", "is an MP4 video, not a pic.*swapped", image=lambda: Served(MP4)),
    Bad("webm-as-picture", "is a WebM video, not a picture", image=lambda: Served(WEBM)),
    Bad("sound-as-video", "is a sound file, not a video", lambda: Served(MP3)),
    Bad("pdf", "is a PDF document", lambda: Served(b"%PDF-1.7\n" + bytes(99))),
    Bad("zip", "is an archive", lambda: Served(b"PK\x03\x04" + bytes(99))),
    Bad("json", "is a text file", lambda: Served(b'{"message": "no such object here"}')),
    Bad("playlist", "is a playlist", lambda: Served(b"#EXTM3U\n#EXTINF:3,\nfile:///etc/passwd\n")),
    Bad(
        "type-that-lies",
        "is a PNG picture",
        lambda: Served(png(9, 9), headers="Content-Type: video/mp4\r\n"),
    ),
    Bad(
        "both",
        "video does not exist.*character_image leads to a web page.*video: .*character_image: ",
        lambda: Served(status=404),
        lambda: PAGE,
    ),
]
REFUSED_WITH_PYAV = [
    Bad(
        "short",
        "video_duration is 7, but the clip is only 3 s long.*set video_duration to 3 or less",
        lambda: Served(video_file()),
        wanted={"seconds": 7},
    ),
    Bad(
        "short-webm",
        "only 3 s long",
        lambda: Served(video_file("webm", codec="libvpx")),
        wanted={"seconds": 4},
    ),
    Bad(
        "no-length-in-the-header",
        "only 3 s long",
        lambda: Served(video_file("webm", codec="libvpx", live="1")),
        wanted={"seconds": 5},
    ),
    Bad(
        "pictures-end-first",
        "only 2 s long",
        lambda: Served(video_file("matroska", seconds=2, audio="aac", audio_seconds=8)),
        wanted={"seconds": 5},
    ),
    Bad(
        "title-in-latin-1",
        "only 3 s long",
        lambda: Served(latin_1_title()),
        wanted={"seconds": 5},
    ),
    Bad("encrypted", "is encrypted", lambda: Served(encrypted())),
    Bad("short-mov", "only 3 s long", lambda: Served(video_file("mov")), wanted={"seconds": 4}),
    Bad(
        "short-fragmented",
        "only 3 s long",
        lambda: Served(video_file(movflags="frag_keyframe+empty_moov")),
        wanted={"seconds": 4},
    ),
    Bad(
        "short-index-at-the-end",
        "only 3 s long",
        lambda: Served(index_at_the_end(20 * MIB)),
        wanted={"seconds": 4},
    ),
    Bad(
        "short-without-ranges",
        "only 3 s long",
        lambda: Served(index_at_the_end(2 * MIB), ranges=False),
        wanted={"seconds": 4},
    ),
    Bad(
        "short-since-cut-off",
        "but the clip is only [0-9.]+ s long.*video_duration to 2 or less",
        lambda: Served(index_first(video_file())[:-200]),
    ),
    Bad(
        "shorter-than-any-result",
        "only 0.[0-9]+ s long. video_duration: give a longer clip",
        lambda: Served(index_first(video_file(seconds=1))[:-100]),
        wanted={"seconds": 1},
    ),
    Bad("sound-only", "has no video stream", lambda: Served(video_file(codec="", audio="aac"))),
    Bad("cut-off-index", "damaged or cut off", lambda: Served(index_at_the_end()[:-200])),
    Bad(
        "index-missing",
        "damaged or cut off",
        lambda: Served(video_file()[: video_file().index(b"moov") - 4]),
    ),
]


def named(cases: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@pytest.fixture(params=["with-pyav", "without"])
def extra(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks over HTTP are the same whether the extra is installed or not."""
    if request.param == "with-pyav":
        pytest.importorskip("av")
    else:
        monkeypatch.setattr(video_check, "available", lambda: False)


@named(REFUSED)
@pytest.mark.usefixtures("extra")
async def test_an_input_that_cannot_work_is_refused(case: Bad) -> None:
    """The refusal names the argument, what is wrong and what to do (ours)."""
    checked = await check(case.video(), case.image(), host=case.host, **case.wanted)

    assert_refused(checked, case.words)


@named(REFUSED_WITH_PYAV)
async def test_a_video_that_cannot_work_is_refused(case: Bad) -> None:
    """Its header says its length and its streams (ours)."""
    checked = await check(case.video(), case.image(), **case.wanted)

    assert_refused(checked, case.words)


def assert_refused(checked: Checked, words: str) -> None:
    assert checked.refusal is not None
    assert re.search(words, checked.text, re.IGNORECASE)
    assert "canary" not in checked.text
    assert (checked.refusal.charged, checked.refusal.retry_safe) == ("no", False)
    assert checked.read_bytes <= 8 * MIB
    assert checked.sent_bytes <= 8 * MIB + IN_FLIGHT


# What cannot be checked


@dataclass(frozen=True)
class Unclear:
    """An input about which nothing certain can be said from here."""

    name: str
    video: MakeFile
    note: str = ""


UNCLEAR = [
    *(
        Unclear(
            f"status-{status}",
            partial(Served, status=status),
            f"video could not be looked at from here: its server answered with {status}.",
        )
        for status in (400, 405, 406, 416, 418, 429, 451, 500, 503)
    ),
    Unclear(
        "page-of-an-outage",
        lambda: replace(PAGE, status=503),
        "video could not be looked at from here: its server answered with 503.",
    ),
    *(
        Unclear(
            f"challenge-{status}",
            partial(Served, status=status, headers="cf-mitigated: challenge\r\n"),
            f"video could not be looked at from here: its server turns programs away ({status}).",
        )
        for status in (401, 403, 404)
    ),
    *(
        Unclear(
            f"only-for-persons-{name}",
            partial(Served, body, status=403),
            "video could not be looked at from here: its server turns programs away (403).",
        )
        for name, body in (
            ("page", PAGE.data),
            ("text", b"Please set a user-agent and respect our robot policy."),
        )
    ),
    Unclear("unknown-bytes", lambda: Served(bytes(range(256)) * 9)),
    Unclear(
        "no-listener",
        lambda: "http://files.example.com:9/clip.mp4",
        note="video could not be looked at from here: no connection could be made.",
    ),
    Unclear("another-part", lambda: Served(PAGE.data, 206, "Content-Range: bytes 7-9/80\r\n")),
    Unclear("no-place", lambda: Served(PAGE.data, 206)),
    Unclear("broken-off", lambda: Served(video_file()[:900], length=5_000, ranges=False)),
    Unclear("silent", lambda: Served(MP4, silent_after=0)),
    Unclear(
        "silent-in-the-middle",
        lambda: Served(index_at_the_end(MIB), silent_after=900),
        "video could not be looked at from here: it took too long.",
    ),
    Unclear("endless", lambda: Served(video_file()[:9999], length=-1, endless=True, ranges=False)),
    Unclear("too-far-apart", lambda: Served(MP4[:24] + 30 * box(b"free", bytes(600_000)))),
    Unclear("packed", lambda: Served(MP4, headers="Content-Encoding: gzip\r\n")),
    *(
        Unclear(
            f"claims-too-much-{kind}",
            partial(Served, HOSTILE[kind]),
            "video could not be looked at from here: its index claims more than any clip has.",
        )
        for kind in ("hidden-table", "many-edits", "compact-table")
    ),
]


@named(UNCLEAR)
async def test_what_cannot_be_checked_is_not_refused(case: Unclear) -> None:
    """PixelDojo fetches it from elsewhere, and may well succeed (ours)."""
    checked = await check(case.video(), seconds=15)

    assert checked.refusal is None
    assert " ".join(checked.notes) == case.note
    assert checked.read_bytes <= 8 * MIB
    assert checked.sent_bytes <= 8 * MIB + IN_FLIGHT


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.usefixtures("extra")
async def test_a_server_that_refuses_parts_is_asked_for_the_whole(status: int) -> None:
    """Some protect files from being read in parts (observed elsewhere)."""
    pytest.importorskip("av")
    checked = await check(Served(video_file(), refuses_ranges=status), seconds=3)

    assert (checked.refusal, checked.notes) == (None, [])
    assert sorted(checked.asked) == ["image", "video", "video"]


async def test_without_a_network_both_inputs_are_reported_as_unchecked() -> None:
    """The user then knows that nothing was checked (ours)."""
    checked = await check("https://offline.example.com/f", "https://offline.example.com/f")
    why = "could not be looked at from here: its host name could not be looked up."

    assert checked.notes == [f"video {why}", f"character_image {why}"]


async def test_one_silent_input_does_not_hide_the_other() -> None:
    """What was found before the deadline is reported (ours)."""
    checked = await check(Served(MP4, silent_after=0), PAGE)

    assert "character_image leads to a web page" in checked.text


@pytest.mark.parametrize("name", ["video", "character_image"])
async def test_a_check_that_fails_is_reported_and_the_other_goes_on(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error of ours must not switch off the whole look (ours)."""

    def failing(role: Role, file: RemoteFile) -> FileType | None:
        if role.name == name:
            raise UnicodeDecodeError("utf-8", b"\xfc", 0, 1, "invalid start byte")
        return judge(role, file)

    for module in ("video_check", "image_check"):
        monkeypatch.setattr(f"wan_mcp.inputs.{module}.judge", failing)
    monkeypatch.setattr(video_check, "available", lambda: False)
    alone = await check(Served(MP4), seconds=3)
    with_a_page = await check(*((Served(MP4), PAGE) if name == "video" else (PAGE,)))

    why = "could not be looked at from here: the check itself failed (UnicodeDecodeError)."
    assert f"{name} {why}" in alone.notes
    assert with_a_page.refusal is not None
    assert "leads to a web page" in with_a_page.text


async def test_a_slow_page_is_still_a_page() -> None:
    """Half of the time is reserved for judging what has arrived by then (ours)."""
    checked = await check(Served(PAGE.data.ljust(500), silent_after=400))

    assert "video leads to a web page" in checked.text


async def test_both_inputs_are_asked_for_at_once() -> None:
    """The server answers neither before it has both requests (ours)."""
    checked = await check(Served(MP4), Served(png(9, 9)), together=True)

    assert sorted(checked.asked) == ["image", "video"]


# Without a check

PAGE_LINK = "https://drive.google.com/file/d/1AbC/view?usp=sharing"
FILE_LINK = "https://drive.google.com/uc?export=download&id=1AbC"


@pytest.mark.parametrize("name", ["video", "character_image"])
@pytest.mark.parametrize("local", [True, False])
async def test_a_link_known_to_be_a_page_is_refused_without_a_request(
    tmp_path: Path, name: str, local: bool
) -> None:
    """Also over HTTP, where no file is checked (ours)."""
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
    content = result.structured_content or {}

    assert asked == []
    assert (content["code"], content["charged"]) == ("invalid_arguments", "no")
    assert f"{name} shows a page, not the file itself (in Google Drive" in content["message"]
    assert "1AbC" not in str(result)


# What is only noted


@dataclass(frozen=True)
class Noted:
    """Inputs that may work, and a pattern for the note on them."""

    name: str
    words: str
    video: MakeFile = lambda: Served(video_file())
    image: MakeFile = lambda: Served(png(640, 480))
    wanted: dict[str, Any] = field(default_factory=dict)
    count: int = 1


NOTED = [
    Noted(
        "header-says-less-mp4",
        "header of the clip says 0.2 s, although it has 6 s",
        lambda: Served(with_wrong_header("mp4")),
        wanted={"seconds": 5},
    ),
    Noted(
        "header-says-less-webm",
        "header of the clip says 0.2 s, although it has 6 s",
        lambda: Served(with_wrong_header("webm")),
        wanted={"seconds": 5},
    ),
    *(
        Noted(
            f"turned-by-{degrees}",
            f"stored turned by {degrees} degrees",
            partial(lambda turn: Served(video_file(rotation=turn)), -degrees),
        )
        for degrees in (90, 180, 270)
    ),
    Noted("hdr", "is HDR", lambda: Served(hdr())),
    Noted("no-sound", "has no sound, so merge_audio", wanted={"merge_audio": True}),
    Noted("no-sound-by-default", "has no sound, so merge_audio", wanted={"merge_audio": None}),
    Noted("few-frames", "8 frames per second, fewer than the 24", wanted={"frames_per_second": 24}),
    Noted("small-clip", "video is only 160 x 120", lambda: Served(video_file(size=(160, 120)))),
    Noted("small-for-720", "video is only 320 x 240", wanted={"resolution": "720"}),
    Noted(
        "small-picture", "character_image is only 300 x 200", image=lambda: Served(png(300, 200))
    ),
    Noted(
        "far-apart",
        "the clip is 640 x 360, the picture 360 x 800",
        lambda: Served(video_file(size=(640, 360))),
        lambda: Served(png(360, 800)),
    ),
    Noted(
        "upright-by-turning",
        "the clip is 360 x 640, the picture 800 x 400",
        lambda: Served(video_file(size=(640, 360), rotation=90)),
        lambda: Served(jpeg(400, 800, orientation=6)),
        count=2,
    ),
    Noted("heic", "character_image is a HEIC picture.*JPEG or PNG", image=lambda: Served(HEIC)),
    Noted("gif", "character_image is a GIF", image=lambda: Served(GIF)),
    Noted("gif-as-video", "video is a GIF.*MP4 is safest", lambda: Served(GIF)),
    Noted("matroska", "video is a Matroska video", lambda: Served(video_file("matroska"))),
]


@named(NOTED)
async def test_a_doubt_is_noted_and_nothing_is_refused(case: Noted) -> None:
    """PixelDojo documents none of these limits (ours)."""
    pytest.importorskip("av")
    checked = await check(case.video(), case.image(), **case.wanted)

    assert checked.refusal is None
    assert len(checked.notes) == case.count
    assert re.search(case.words, checked.text)


@pytest.mark.parametrize(
    "video",
    [
        lambda: index_first(video_file(audio="aac")),
        lambda: video_file("mov", audio="aac"),
        lambda: video_file("webm", codec="libvpx", audio="libopus"),
    ],
    ids=["mp4", "mov", "webm"],
)
async def test_good_inputs_get_no_note(video: Callable[[], bytes]) -> None:
    """Nobody would read a note that is always there (ours)."""
    checked = await check(Served(video()), seconds=3, merge_audio=True)

    assert (checked.refusal, checked.notes) == (None, [])
    assert sorted(checked.asked) == ["image", "video"]


@pytest.mark.parametrize(
    ("video", "has_sound"),
    [
        (lambda: index_first(video_file(audio="aac", audio_seconds=3)), True),
        (lambda: video_file("webm", codec="libvpx", audio="libopus", audio_seconds=3), True),
        (lambda: index_first(video_file()), False),
        (empty_track, False),
        (lambda: sound_later(4), False),
        (lambda: sound_later(1), True),
    ],
    ids=["mp4", "webm", "silent", "empty", "late", "soon"],
)
async def test_what_is_known_of_the_clip_is_kept_for_the_inspection_of_the_result(
    video: Callable[[], bytes], has_sound: bool
) -> None:
    """Its length, its rate, and whether the part that is ordered has sound (ours)."""
    pytest.importorskip("av")
    source = (await check(Served(video()), seconds=3)).source

    assert source.has_sound == has_sound
    assert source.seconds == pytest.approx(3.0, abs=0.1)
    assert source.frames_per_second == pytest.approx(8.0)


async def test_nothing_is_known_of_a_clip_that_could_not_be_looked_at() -> None:
    """Then its sound and its length are not compared (ours)."""
    assert (await check(Served(b"", status=500))).source == SourceClip()


async def test_an_index_at_the_end_costs_two_reads_not_the_file() -> None:
    """The beginning, and the end, whose place the beginning gives (ours)."""
    checked = await check(Served(index_at_the_end(20 * MIB)), seconds=3)

    assert (checked.refusal, checked.notes) == (None, [])
    assert sorted(checked.asked) == ["image", "video", "video"]
    assert checked.read_bytes < MIB


# libav


@pytest.mark.parametrize("claim", ["stsz", "trun", "cmov", "hidden", "edits", "compact"])
def test_a_header_that_claims_too_much_is_not_read(claim: str) -> None:
    """10 KB can make libav take gigabytes (measured)."""
    pytest.importorskip("av")
    data = {
        "stsz": overstated(video_file()),
        "trun": overstated(video_file(movflags="frag_keyframe+empty_moov"), b"trun"),
        "cmov": video_file().replace(b"udta", b"cmov"),
        "hidden": HOSTILE["hidden-table"],
        "edits": HOSTILE["many-edits"],
        "compact": HOSTILE["compact-table"],
    }[claim]

    with pytest.raises(ClaimsTooMuch):
        probe(whole(data), "mov")


def test_what_libav_says_about_half_a_video_does_not_count() -> None:
    """libav takes the gap for the end, and then reports too short a length (ours)."""
    pytest.importorskip("av")
    data = video_file(movflags="frag_every_frame+empty_moov")
    content = whole(data[: len(data) // 2])
    content.total = len(data)
    with pytest.raises(BytesMissing) as missing:
        probe(content, "mov")

    assert missing.value.offset == len(data) // 2


async def test_a_process_that_hangs_is_ended_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check gives up, and no process is left (ours)."""
    pytest.importorskip("av")
    deadlines, script, pid_file = Deadlines(), tmp_path / "hang.py", tmp_path / "pid"
    script.write_text(
        "import os, pathlib, sys, time\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(f'{{os.getpid()}}\\n')\n"
        "while True: time.sleep(600)\n"
    )

    async def end() -> None:
        while not pid_file.exists() or not pid_file.read_text().endswith("\n"):
            await anyio.lowlevel.checkpoint()
        await deadlines.end()

    monkeypatch.setattr(decoder_process, "COMMAND", (sys.executable, str(script)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        checked = await check(Served(video_file()), deadlines=deadlines)

    assert checked.refusal is None
    assert checked.notes == ["video could not be looked at from here: it took too long."]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


@pytest.fixture
def trap() -> Iterator[str]:
    """An address of this machine to which no connection may be made."""
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
def test_libav_does_not_open_a_playlist(form: str, demuxer: str, trap: str) -> None:
    """It does not guess formats, so it never takes a file for a list of other files (ours)."""
    pytest.importorskip("av")
    with pytest.raises(DamagedVideo):
        probe(whole(PLAYLISTS[form].format(trap).encode()), demuxer)


@pytest.mark.parametrize("form", PLAYLISTS)
def test_libav_follows_no_entry_of_a_playlist(form: str, trap: str) -> None:
    """The second protection: no protocol is allowed (ours)."""
    av = pytest.importorskip("av")
    text = io.BytesIO(PLAYLISTS[form].format(trap).encode())
    with pytest.raises(av.FFmpegError):
        av.open(text, "r", format=form, options=LIBAV_OPTIONS)


@pytest.mark.parametrize("form", ["mov", "matroska"])
def test_no_decoder_runs_on_an_unknown_video(form: str) -> None:
    """Decoders are the largest part of libav, and the part that unpacks data (ours)."""
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(video_file(form)), "r", format=form, options=LIBAV_OPTIONS) as opened:
        stream = opened.streams.video[0]

        assert stream.width == 320
        assert stream.pix_fmt is None  # only a decoder could tell


def whole(data: bytes) -> ByteRanges:
    content = ByteRanges()
    content.total = len(data)
    content.add(0, data)
    return content


def overstated(data: bytes, table: bytes = b"stsz") -> bytes:
    """A video that claims to have 2**28 samples."""
    at = data.index(table) + 8
    size = struct.pack(">I", 1) if table == b"stsz" else b""
    return data[:at] + size + struct.pack(">I", 1 << 28) + data[at + 4 + len(size) :]


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
        (GIF, (640, 480)),
        (BMP, (640, 480)),
        (JPEG_2000, None),
        (b"", None),
    ],
)
def test_the_size_of_an_image_is_in_its_header(head: bytes, size: tuple[int, int] | None) -> None:
    """As it is displayed: phones store how they were held (ours)."""
    assert image_size(head) == size


@pytest.mark.parametrize(
    ("head", "content_type", "name"),
    [
        (b"RIFF....WEBPVP8X....\x02\0\0\0", "", "an animated WebP"),
        (b"RIFF....WEBPVP8X....\0\0\0\0", "", "a WebP picture"),
        (b"\0\0\0\x1cftypavif", "", "an AVIF picture"),
        (b"\0\0\0\x1cftypavis", "", "an animated AVIF"),
        (b"\0\0\0\x1cftypmsf1", "", "an animated HEIF"),
        (png(9, 9), "", "a PNG picture"),
        (png(9, 9).replace(b"IDAT", b"acTL"), "", "an animated PNG"),
        (BMP, "", "a BMP picture"),
        (b"BMX is a kind of bicycle, which many people ride.", "", "a text file"),
        (JPEG_2000, "", "a JPEG 2000 picture"),
        (b"\xff\x4f\xff\x51" + bytes(20), "", "a JPEG 2000 picture"),
        (b"P6\n640 480 255\n", "", "a PNM picture"),
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
def test_the_first_bytes_show_the_file_type(
    head: bytes, content_type: str, name: str | None
) -> None:
    """What the server says counts only if they leave a doubt (ours)."""
    file_type = file_type_of(head, content_type)

    assert (file_type and file_type.name) == name


def test_the_extra_is_found_without_importing_it() -> None:
    """Importing it would slow down the start of the server (ours)."""
    assert available() is (importlib.util.find_spec("av") is not None)
