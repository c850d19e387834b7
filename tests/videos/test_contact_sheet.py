"""The contact sheet: a small, valid image of a video, or none; it never makes a job fail."""

import io
import json
import logging
import random
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client
from mcp.types import BlobResourceContents, TextResourceContents

import wan_mcp
from tests.inputs.hostile import HOSTILE
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.videos import contact_sheet as contact_sheet_module
from wan_mcp.videos.contact_sheet import contact_sheet, draw_contact_sheet

av: Any = pytest.importorskip("av")
pytestmark = pytest.mark.anyio

VIDEO = Path(wan_mcp.__file__).parent / "sandbox/media/result.mp4"
LIMIT = 60_000


def video(
    path: Path,
    *,
    size: tuple[int, int] = (320, 180),
    shades: list[int],
    codec: str = "mpeg4",
    noise: random.Random | None = None,
) -> Path:
    """A video without audio: one frame of each shade of grey, or of noise."""
    with av.open(path, "w", format="matroska" if path.suffix == ".webm" else None) as file:
        options = {"preset": "ultrafast"} if codec == "h264" else {}
        stream = file.add_stream(codec, rate=16, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for at, shade in enumerate(shades):
            frame = av.VideoFrame(*size, "yuv420p")
            for plane, value in zip(frame.planes, (shade, 128, 128), strict=True):
                length = plane.buffer_size
                plane.update(noise.randbytes(length) if noise else bytes([value]) * length)
            frame.pts, frame.time_base = at, Fraction(1, 16)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def decoded(jpeg: bytes) -> Any:
    with av.open(io.BytesIO(jpeg)) as image:
        assert image.streams.video[0].codec_context.name == "mjpeg"
        (frame,) = image.decode(video=0)
    return frame


def shade_at(frame: Any, x: int, y: int) -> int:
    plane = frame.planes[0]
    return int(bytes(plane)[y * plane.line_size + x])


async def test_contact_sheet_is_a_small_jpeg_of_the_video() -> None:
    """A result holds a valid JPEG of at most 60 KB (ours)."""
    jpeg = await contact_sheet(VIDEO)

    assert jpeg is not None
    assert jpeg.startswith(b"\xff\xd8\xff")
    assert jpeg.endswith(b"\xff\xd9")
    assert len(jpeg) <= LIMIT
    assert (decoded(jpeg).width, decoded(jpeg).height) == (960, 540)


def test_frames_come_from_the_whole_video_in_order(tmp_path: Path) -> None:
    """The middles of four quarters, in reading order (ours)."""
    path = video(tmp_path / "f.mp4", size=(480, 270), shades=[40 + 2 * at for at in range(80)])

    sheet = decoded(draw_contact_sheet(path))

    corners = [shade_at(sheet, x, y) for y in (135, 405) for x in (240, 720)]
    # mpeg4 keeps 16 to 235, JPEG 0 to 255.
    wanted = [(40 + 2 * at - 16) * 255 / 219 for at in (10, 30, 50, 70)]
    assert corners == pytest.approx(wanted, abs=4)


@pytest.mark.parametrize(
    ("size", "frames", "sheet"),
    [
        ((270, 480), 20, (960, 426)),
        ((720, 1280), 20, (960, 426)),
        ((320, 180), 20, (640, 360)),
        ((320, 180), 1, (320, 180)),
        ((1280, 720), 1, (960, 540)),
        ((320, 180), 2, (640, 180)),
        ((321, 181), 3, (640, 360)),
        ((200, 200), 20, (400, 400)),
    ],
)
def test_sheet_fits_the_shape_of_the_video(
    tmp_path: Path, size: tuple[int, int], frames: int, sheet: tuple[int, int]
) -> None:
    """Upright videos in a row, others in a square, few frames without gaps (ours)."""
    image = decoded(draw_contact_sheet(video(tmp_path / "f.mp4", size=size, shades=[90] * frames)))

    assert (image.width, image.height) == sheet


def test_webm_is_read_too(tmp_path: Path) -> None:
    """The archive saves WebM too (ours)."""
    path = video(tmp_path / "f.webm", shades=[90] * 8, codec="libvpx")

    assert decoded(draw_contact_sheet(path)).width == 640


@pytest.mark.parametrize("limit", [60_000, 20_000, 4_000])
def test_image_gets_coarser_until_it_fits(tmp_path: Path, limit: int) -> None:
    """Noise is the hardest content to compress (ours)."""
    noise = random.Random(1)
    path = video(tmp_path / "f.mp4", size=(640, 360), shades=[0] * 4, noise=noise)

    jpeg = draw_contact_sheet(path, max_bytes=limit)

    assert decoded(jpeg).width <= 960
    assert limit / 8 < len(jpeg) <= limit


async def test_broken_video_has_no_contact_sheet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A video that cannot be decoded is still the user's video (ours)."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(VIDEO.read_bytes()[:2_000])
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:9,\nfile://{VIDEO}\n#EXT-X-ENDLIST\n")

    with caplog.at_level(logging.INFO):
        sheets = [await contact_sheet(path) for path in (broken, playlist, tmp_path / "none.mp4")]

    assert sheets == [None, None, None]
    assert [record.levelname for record in caplog.records] == ["INFO"] * 3


async def test_video_with_audio_only_has_no_contact_sheet(tmp_path: Path) -> None:
    """There is no frame to show (ours)."""
    path = tmp_path / "audio.mp4"
    with av.open(path, "w") as file:
        stream = file.add_stream("aac", rate=22_050, layout="mono")
        frame = av.AudioFrame("fltp", "mono", 1024)
        frame.planes[0].update(bytes(4_096))
        frame.sample_rate, frame.pts = 22_050, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))

    assert await contact_sheet(path) is None


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_file_made_to_take_all_memory_has_no_contact_sheet(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As the paid video, such a file ended the server after paying (observed elsewhere)."""
    path = tmp_path / "paid.mp4"
    path.write_bytes(HOSTILE[kind])
    with caplog.at_level(logging.INFO):
        assert await contact_sheet(path) is None

    assert [record.levelname for record in caplog.records] == ["INFO"]


async def test_a_large_video_fits_into_the_limits(tmp_path: Path) -> None:
    """More than the 720 lines of any result (ours)."""
    noise = random.Random(2)
    path = video(tmp_path / "f.mp4", size=(1920, 1088), shades=[0] * 24, noise=noise, codec="h264")

    jpeg = await contact_sheet(path)

    assert jpeg is not None
    assert decoded(jpeg).width == 960


async def test_without_the_extra_there_is_no_contact_sheet(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The plain install has no PyAV, and everything else works (ours)."""
    monkeypatch.setattr(contact_sheet_module, "available", lambda: False)
    with caplog.at_level(logging.INFO):
        assert await contact_sheet(VIDEO) is None

    assert "[media]" in caplog.text


def test_only_the_start_of_a_long_video_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of video would take minutes to decode (ours)."""
    monkeypatch.setattr(contact_sheet_module, "MAX_FRAMES", 4)
    path = video(tmp_path / "f.mp4", shades=[30] * 4 + [200] * 40)

    sheet = decoded(draw_contact_sheet(path, frames=1))

    assert shade_at(sheet, 160, 90) < 60


# In an answer


class Viewer:
    """A client of a local server that saves videos."""

    def __init__(self, client: Client, sandbox: Sandbox) -> None:
        self.client = client
        self._sandbox = sandbox

    async def save(self, **more: object) -> str:
        """The id of a job whose video is on disk, and which no answer has shown yet."""
        media = {
            "video": self._sandbox.source_video_url,
            "character_image": self._sandbox.image_url,
        }
        answer = await self.client.call_tool("replace_character", {**media, **more})
        id: str = (answer.structured_content or {})["job_id"]
        while not (await self._job(id)).get("size"):
            await anyio.lowlevel.checkpoint()
        return id

    async def _job(self, id: str) -> dict[str, Any]:
        (content,) = (await self.client.read_resource(f"wan://jobs/{id}")).contents
        assert isinstance(content, TextResourceContents)
        job: dict[str, Any] = json.loads(content.text)
        return job

    async def images(self, id: str) -> list[str]:
        answer = await self.client.call_tool("get_job_status", {"job_id": id})
        return [block.data for block in answer.content if block.type == "image"]


@pytest.fixture
async def viewer(tmp_path: Path) -> AsyncIterator[Viewer]:
    terms = Terms(pending_seconds=0, processing_seconds=0, requests_per_minute=600)
    async with Sandbox(terms) as sandbox:
        given = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": sandbox.key,
            "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
        }
        with anyio.fail_after(600):
            async with Client(build_server(Settings.read(given, tmp_path), local=True)) as client:
                yield Viewer(client, sandbox)


async def test_a_contact_sheet_comes_with_the_first_answer_only(viewer: Viewer) -> None:
    """70 kB with each answer would fill a conversation; the resource still gives it (ours)."""
    id = await viewer.save()
    images = [await viewer.images(id) for _ in range(3)]
    (sheet,) = (await viewer.client.read_resource(f"wan://jobs/{id}/poster")).contents

    assert isinstance(sheet, BlobResourceContents)
    assert images == [[sheet.blob], [], []]


async def test_two_answers_at_once_have_one_contact_sheet(viewer: Viewer) -> None:
    """Assistants call tools in parallel (observed elsewhere)."""
    id = await viewer.save()
    images: list[str] = []

    async def ask() -> None:
        images.extend(await viewer.images(id))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)

    assert len(images) == 1


async def test_a_contact_sheet_that_was_not_made_in_time_comes_later(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer that has one counts, not the first attempt (ours)."""
    id = await viewer.save()
    with monkeypatch.context() as patch:
        patch.setattr("wan_mcp.videos.job_files.CONTACT_SHEET_SECONDS", 0.0)
        early = await viewer.images(id)
    later = [len(await viewer.images(id)) for _ in range(2)]

    assert early == []
    assert later == [1, 0]


async def test_memory_of_shown_contact_sheets_is_bounded(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may run for months; the oldest is forgotten, and shown again (ours)."""
    monkeypatch.setattr("wan_mcp.surface.video_views.MAX_SHOWN_JOBS", 1)
    one, two = [await viewer.save(seed=seed) for seed in (1, 2)]
    counts = [len(await viewer.images(id)) for id in (one, two, two, one)]

    assert counts == [1, 1, 0, 1]
