"""The poster: a small, valid picture of a film, or none; never a reason for a failed job."""

import builtins
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
from wan_mcp.sandbox import Sandbox, Terms
from wan_mcp.server import build_server
from wan_mcp.settings import Settings
from wan_mcp.videos import contact_sheet as poster_module
from wan_mcp.videos.contact_sheet import contact_sheet, draw_contact_sheet

av: Any = pytest.importorskip("av")
pytestmark = pytest.mark.anyio

FILM = Path(wan_mcp.__file__).parent / "sandbox/media/result.mp4"
LIMIT = 60_000


def film(
    path: Path,
    *,
    size: tuple[int, int] = (320, 180),
    shades: list[int],
    codec: str = "mpeg4",
    noise: random.Random | None = None,
) -> Path:
    """A film without sound: one frame of each shade of grey, or of noise."""
    with av.open(path, "w", format="matroska" if path.suffix == ".webm" else None) as file:
        stream = file.add_stream(codec, rate=16)
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
    with av.open(io.BytesIO(jpeg)) as picture:
        assert picture.streams.video[0].codec_context.name == "mjpeg"
        (frame,) = picture.decode(video=0)
    return frame


def shade_at(frame: Any, x: int, y: int) -> int:
    plane = frame.planes[0]
    return int(bytes(plane)[y * plane.line_size + x])


async def test_poster_is_a_small_jpeg_of_the_film() -> None:
    """What goes into a result is a valid JPEG under 60 KB (issue)."""
    jpeg = await contact_sheet(FILM)

    assert jpeg is not None
    assert jpeg.startswith(b"\xff\xd8\xff")
    assert jpeg.endswith(b"\xff\xd9")
    assert len(jpeg) <= LIMIT
    assert (decoded(jpeg).width, decoded(jpeg).height) == (960, 540)


def test_frames_come_from_the_whole_film_in_order(tmp_path: Path) -> None:
    """The middles of four quarters, read like text (ours)."""
    clip = film(tmp_path / "f.mp4", size=(480, 270), shades=[40 + 2 * at for at in range(80)])

    sheet = decoded(draw_contact_sheet(clip))

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
def test_sheet_fits_the_shape_of_the_film(
    tmp_path: Path, size: tuple[int, int], frames: int, sheet: tuple[int, int]
) -> None:
    """Upright films in a row, others in a square, few frames without gaps (ours)."""
    picture = decoded(draw_contact_sheet(film(tmp_path / "f.mp4", size=size, shades=[90] * frames)))

    assert (picture.width, picture.height) == sheet


def test_webm_is_read_too(tmp_path: Path) -> None:
    """The archive keeps WebM under its name, so the poster reads it (ours)."""
    clip = film(tmp_path / "f.webm", shades=[90] * 8, codec="libvpx")

    assert decoded(draw_contact_sheet(clip)).width == 640


@pytest.mark.parametrize("limit", [60_000, 20_000, 4_000])
def test_picture_gets_coarser_until_it_fits(tmp_path: Path, limit: int) -> None:
    """Noise is the worst that a picture can hold (ours)."""
    noise = random.Random(1)
    clip = film(tmp_path / "f.mp4", size=(640, 360), shades=[0] * 4, noise=noise)

    jpeg = draw_contact_sheet(clip, max_bytes=limit)

    assert decoded(jpeg).width <= 960
    assert limit / 8 < len(jpeg) <= limit


async def test_what_is_no_film_has_no_poster(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A film that cannot be decoded is still the user's film (ours)."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(FILM.read_bytes()[:2_000])
    sound = tmp_path / "list.mp4"
    sound.write_text(f"#EXTM3U\n#EXTINF:9,\nfile://{FILM}\n#EXT-X-ENDLIST\n")

    with caplog.at_level(logging.INFO):
        posters = [await contact_sheet(path) for path in (broken, sound, tmp_path / "none.mp4")]

    assert posters == [None, None, None]
    assert [record.levelname for record in caplog.records] == ["INFO"] * 3


async def test_film_with_sound_only_has_no_poster(tmp_path: Path) -> None:
    """There is nothing to show (ours)."""
    path = tmp_path / "sound.mp4"
    with av.open(path, "w") as file:
        stream = file.add_stream("aac", rate=22_050, layout="mono")
        frame = av.AudioFrame("fltp", "mono", 1024)
        frame.planes[0].update(bytes(4_096))
        frame.sample_rate, frame.pts = 22_050, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))

    assert await contact_sheet(path) is None


async def test_without_the_extra_there_is_no_poster(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The plain install has no PyAV, and misses nothing else (ours)."""
    original = builtins.__import__

    def without_av(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "av":
            raise ModuleNotFoundError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with caplog.at_level(logging.INFO):
        assert await contact_sheet(FILM) is None

    assert "[media]" in caplog.text


def test_long_film_is_only_read_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of film would take minutes to decode (ours)."""
    monkeypatch.setattr(poster_module, "LONGEST", 4)
    clip = film(tmp_path / "f.mp4", shades=[30] * 4 + [200] * 40)

    sheet = decoded(draw_contact_sheet(clip, frames=1))

    assert shade_at(sheet, 160, 90) < 60


# In an answer


class Cinema:
    """A client of a server on its user's side, with one film saved."""

    def __init__(self, client: Client, sandbox: Sandbox) -> None:
        self.client = client
        self._sandbox = sandbox

    async def film(self, **more: object) -> str:
        """The id of a job whose film is on disk; nothing has been told of it yet."""
        media = {
            "video": self._sandbox.source_video_url,
            "character_image": self._sandbox.image_url,
        }
        answer = await self.client.call_tool("replace_character", {**media, **more})
        id: str = (answer.structured_content or {})["job_id"]
        while not (await self._line(id)).get("size"):
            await anyio.lowlevel.checkpoint()
        return id

    async def _line(self, id: str) -> dict[str, Any]:
        (content,) = (await self.client.read_resource(f"wan://jobs/{id}")).contents
        assert isinstance(content, TextResourceContents)
        line: dict[str, Any] = json.loads(content.text)
        return line

    async def pictures(self, id: str) -> list[str]:
        answer = await self.client.call_tool("get_job_status", {"job_id": id})
        return [block.data for block in answer.content if block.type == "image"]


@pytest.fixture
async def cinema(tmp_path: Path) -> AsyncIterator[Cinema]:
    terms = Terms(pending_seconds=0, processing_seconds=0, requests_per_minute=600)
    async with Sandbox(terms) as sandbox:
        given = {
            "PIXELDOJO_API_BASE": sandbox.api_base,
            "PIXELDOJO_API_KEY": sandbox.key,
            "WAN_MCP_DATA_DIR": str(tmp_path / "data"),
        }
        with anyio.fail_after(20):
            async with Client(build_server(Settings.read(given, tmp_path), local=True)) as client:
                yield Cinema(client, sandbox)


async def test_a_poster_comes_with_the_first_answer_only(cinema: Cinema) -> None:
    """70 kB again with each look would fill a conversation; the resource stays (ours)."""
    id = await cinema.film()
    pictures = [await cinema.pictures(id) for _ in range(3)]
    (poster,) = (await cinema.client.read_resource(f"wan://jobs/{id}/poster")).contents

    assert isinstance(poster, BlobResourceContents)
    assert pictures == [[poster.blob], [], []]


async def test_two_answers_at_once_have_one_poster(cinema: Cinema) -> None:
    """Assistants call tools in parallel (observed elsewhere)."""
    id = await cinema.film()
    pictures: list[str] = []

    async def look() -> None:
        pictures.extend(await cinema.pictures(id))

    async with anyio.create_task_group() as both:
        both.start_soon(look)
        both.start_soon(look)

    assert len(pictures) == 1


async def test_a_poster_that_was_not_made_in_time_comes_later(
    cinema: Cinema, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer with one counts, not the first try (ours)."""
    id = await cinema.film()
    with monkeypatch.context() as hasty:
        hasty.setattr("wan_mcp.surface.video_views.CONTACT_SHEET_SECONDS", 0.0)
        early = await cinema.pictures(id)
    later = [len(await cinema.pictures(id)) for _ in range(2)]

    assert early == []
    assert later == [1, 0]


async def test_what_is_remembered_of_posters_is_bounded(
    cinema: Cinema, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may run for months; the oldest is forgotten, and shown once more (ours)."""
    monkeypatch.setattr("wan_mcp.surface.video_views.SHOWN", 1)
    one, two = [await cinema.film(seed=seed) for seed in (1, 2)]
    counts = [len(await cinema.pictures(id)) for id in (one, two, two, one)]

    assert counts == [1, 1, 0, 1]
