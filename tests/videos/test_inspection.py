"""A saved video is compared with its order: what differs is named, and nothing else is."""

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.bench.inspection import MEDIA, Clip, false_alarms, record_of
from tests.inputs.hostile import HOSTILE
from wan_mcp.inputs import decoder_process
from wan_mcp.inputs.decoder_process import NotLookedAt
from wan_mcp.ledger.record import Record
from wan_mcp.models import Difference, SourceClip
from wan_mcp.videos import content as content_module
from wan_mcp.videos import inspection
from wan_mcp.videos.content import Content, Decoded, Reader
from wan_mcp.videos.inspection import damages, differences, inspect

pytest.importorskip("av", reason="the extra `media` is not installed")
pytestmark = pytest.mark.anyio

RESULT = MEDIA / "result.mp4"
WITH_SOUND = SourceClip(seconds=8.0, frames_per_second=16.0, has_sound=True)
GOOD = Clip()
"""Two seconds of 16 frames with 180 lines, and sound."""


class Here:
    """Answers in this process, and in JSON: the tests of the process itself are elsewhere."""

    def __init__(self) -> None:
        self._reader = Reader()

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        said = self._reader.answer(json.loads(json.dumps(question)), [])
        answer: dict[str, Any] = json.loads(json.dumps(said))
        if "failed" in answer:
            raise NotLookedAt(answer["failed"])
        return answer


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started."""

    @asynccontextmanager
    async def started(module: str) -> AsyncIterator[Here]:
        assert module == content_module.MODULE
        yield Here()

    monkeypatch.setattr(inspection, "started", started)


async def named(path: Path, record: Record) -> dict[str, str]:
    """What differs, with what was seen."""
    with anyio.fail_after(600):
        return {each.what: each.seen for each in await inspect(path, record)}


def sample_at(path: Path, number: int) -> tuple[int, int]:
    """Where the picture of that number lies in an MP4, and how long it is."""
    import av

    with av.open(path) as video:
        entry = video.streams.video[0].index_entries[number]
        return entry.pos, entry.size


def overwritten(path: Path, first: int, count: int = 1, *, kept: float = 0.0) -> Path:
    """The MP4 with some of its pictures overwritten, from that share of their bytes on."""
    data = bytearray(path.read_bytes())
    for number in range(first, first + count):
        at, length = sample_at(path, number)
        start = at + int(length * kept)
        data[start : at + length] = bytes(at + length - start)
    path.write_bytes(data)
    return path


def cut(path: Path, at: int) -> Path:
    """The file without what follows that byte."""
    path.write_bytes(path.read_bytes()[:at])
    return path


def copied(path: Path) -> Path:
    """The sandbox's result, whose decoder gives out a picture some packets later."""
    path.write_bytes(RESULT.read_bytes())
    return path


def index_first(path: Path) -> Path:
    """The MP4 as it is streamed, with its index before its pictures."""
    import av

    target = path.with_name("streamed.mp4")
    with av.open(path) as source, av.open(target, "w", options={"movflags": "+faststart"}) as file:
        streams = {s.index: file.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                file.mux(packet)
    return target


def only_sound(path: Path) -> Path:
    import av

    with av.open(path, "w") as file:
        stream: Any = file.add_stream("aac", rate=48_000, layout="mono")
        for frame in GOOD.tones():
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def page(path: Path) -> Path:
    path.write_text("<html>gone</html>")
    return path


Build = Callable[[Path], Path]
ORDER = {"seconds": 2}

PLANTED: dict[str, tuple[Build, dict[str, Any], dict[str, str]]] = {
    "too short": (Clip(frames=20).write, ORDER, {"seconds": "1.25"}),
    "the whole source": (Clip(frames=128).write, ORDER, {"seconds": "8"}),
    "half the lines": (
        Clip(size=(640, 360), frames=32).write,
        {**ORDER, "resolution": "720"},
        {"lines": "640 x 360"},
    ),
    "more lines than ordered": (
        Clip(size=(1280, 720), frames=32).write,
        {**ORDER, "resolution": "480"},
        {"lines": "1280 x 720"},
    ),
    "half the rate": (
        Clip(rate=Fraction(12), frames=24).write,
        {**ORDER, "frames_per_second": 24},
        {"frames_per_second": "12"},
    ),
    "twice the rate": (
        Clip(rate=Fraction(16), frames=32).write,
        {**ORDER, "frames_per_second": 8},
        {"frames_per_second": "16"},
    ),
    "no sound": (Clip(sound=False).write, ORDER, {"sound": "none"}),
    "no pictures": (only_sound, ORDER, {"pictures": "none"}),
    "black": (Clip(grey=16).write, ORDER, {"pictures": "one plain colour"}),
    "damaged in the middle": (
        lambda path: overwritten(GOOD.write(path), 16),
        ORDER,
        {"decodable": "damaged at 1 s"},
    ),
    "damaged from the middle on": (
        lambda path: overwritten(GOOD.write(path), 16, 16),
        ORDER,
        {"decodable": "damaged at 1 s"},
    ),
    "half of a picture is damaged": (
        lambda path: overwritten(GOOD.write(path), 16, kept=0.5),
        ORDER,
        {"decodable": "damaged at 1 s"},
    ),
    "the end of a picture is damaged": (
        lambda path: overwritten(GOOD.write(path), 16, kept=0.9),
        ORDER,
        {"decodable": "damaged at 1 s"},
    ),
    "a picture that is stored before those that are shown earlier is damaged": (
        lambda path: overwritten(copied(path), 0, kept=0.5),
        {"seconds": 5},
        {"decodable": "damaged at 0 s"},
    ),
    "the last picture is damaged": (
        lambda path: overwritten(GOOD.write(path), 31),
        ORDER,
        {"decodable": "damaged at 1.94 s"},
    ),
    "cut off within a picture": (
        lambda path: cut((good := index_first(GOOD.write(path))), sum(sample_at(good, 16)) - 2),
        ORDER,
        {"decodable": "damaged at 1 s", "seconds": "1.06"},
    ),
    "cut off between two pictures": (
        lambda path: cut((good := index_first(GOOD.write(path))), sample_at(good, 16)[0]),
        ORDER,
        {"decodable": "cut off after 1 s", "seconds": "1"},
    ),
    "without its index": (
        lambda path: cut(GOOD.write(path), 4_000),
        ORDER,
        {"decodable": "cannot be opened"},
    ),
    "a page": (
        page,
        ORDER,
        {"decodable": "cannot be opened"},
    ),
    "two at once": (
        Clip(size=(640, 360), frames=20).write,
        {**ORDER, "resolution": "720"},
        {"lines": "640 x 360", "seconds": "1.25"},
    ),
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.usefixtures("here")
async def test_a_planted_difference_is_named_and_nothing_else(tmp_path: Path, name: str) -> None:
    """What the order says, and the file certainly has not (ours)."""
    build, order, expected = PLANTED[name]

    assert await named(build(tmp_path / "video.mp4"), record_of(WITH_SOUND, **order)) == expected


@pytest.mark.usefixtures("here")
def test_good_videos_of_the_sandbox_raise_no_alarm(tmp_path: Path) -> None:
    """The reduced form of `python -m tests.bench.inspection`: 12 of 200, short and small (ours)."""
    looks = list(false_alarms(12, 7, tmp_path, most_seconds=1, small=True))

    assert len(looks) == 12
    assert [look for look in looks if look[2]] == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "clip",
    [
        Clip(codec="libvpx", sound=False),
        Clip(codec="libvpx-vp9", frames=33),
        Clip(codec="mpeg4"),
        Clip(rate=Fraction(30), frames=60, skipped=frozenset({3, 4, 30, 31})),
        Clip(rate=Fraction(24000, 1001), frames=48),
    ],
    ids=["vp8", "vp9", "mpeg4", "uneven", "ntsc"],
)
async def test_other_good_videos_raise_no_alarm_either(tmp_path: Path, clip: Clip) -> None:
    """Hidden pictures, gaps between pictures, and rates of television are no damage (ours)."""
    path = tmp_path / ("video.webm" if clip.codec.startswith("libvpx") else "video.mp4")
    source = SourceClip(has_sound=clip.sound)
    order = {"frames_per_second": round(clip.rate), "seconds": 2}

    assert await named(clip.write(path), record_of(source, **order)) == {}


# Tolerances


def compared(seen: dict[str, Any], source: SourceClip | None = None, **order: Any) -> list[str]:
    """The points in which a container differs from an order."""
    usual = {"has_pictures": True, "has_sound": True, "width": 832, "height": 480, "seconds": 5.0}
    content = Content(**usual | {"rates": (16.0,)} | seen)
    record = record_of(SourceClip() if source is None else source, **order)
    return [each.what for each in differences(record, content)]


@pytest.mark.parametrize(
    ("seconds", "rate", "source", "fits"),
    [
        (5.06, 16.0, None, True),  # 81 frames, as models of this family make them
        (4.69, 16.0, None, True),
        (5.31, 16.0, None, True),
        (4.65, 16.0, None, False),
        (5.35, 16.0, None, False),
        (4.8, 30.0, None, True),
        (4.7, 30.0, None, False),
        (4.4, 8.0, None, True),
        (4.3, 8.0, None, False),
        (4.3, 30.0, 4.4, True),
        (4.0, 30.0, 4.4, False),
        (5.0, 30.0, 4.4, True),
        (8.0, 30.0, 8.0, False),
        (None, 16.0, None, True),
    ],
)
def test_a_length_may_be_five_frames_off(
    seconds: float | None, rate: float, source: float | None, fits: bool
) -> None:
    """And as short as the clip, where its length is known (assumed)."""
    seen = {"seconds": seconds, "rates": (rate,)}

    assert compared(seen, SourceClip(seconds=source), seconds=5) == ([] if fits else ["seconds"])


@pytest.mark.parametrize(
    ("size", "lines", "fits"),
    [
        ((832, 480), "480", True),
        ((854, 480), "480", True),
        ((480, 832), "480", True),
        ((480, 270), "480", True),  # the longer side
        ((624, 640), "480", True),  # the area of 16:9
        ((496, 848), "480", True),  # rounded to a multiple of 16
        ((1280, 720), "720", True),
        ((704, 1248), "720", True),
        ((960, 960), "720", True),
        ((1104, 832), "720", True),
        ((1464, 624), "720", True),
        ((640, 360), "480", False),
        ((1280, 720), "480", False),
        ((832, 480), "720", False),
        ((640, 640), "720", False),
        ((1920, 1080), "720", False),
        ((320, 180), None, True),
    ],
)
def test_lines_may_be_any_side_or_the_area(
    size: tuple[int, int], lines: str | None, fits: bool
) -> None:
    """What they count is not documented; the other resolution is recognised (assumed)."""
    order = {} if lines is None else {"resolution": lines}
    seen = {"width": size[0], "height": size[1]}

    assert compared(seen, None, **order) == ([] if fits else ["lines"])


@pytest.mark.parametrize(
    ("rates", "ordered", "source", "fits"),
    [
        ((29.97,), 30, None, True),
        ((23.976,), 24, None, True),
        ((25.0,), 24, None, False),
        ((28.0, 30.0), 30, None, True),  # a frame was lost
        ((8.3,), 8, None, True),
        ((9.0,), 8, None, False),
        ((16.0,), 30, 16.0, True),  # a submit said so
        ((16.0,), 30, 24.0, False),
        ((24.0,), 16, 24.0, False),
        ((60.0,), None, 30.0, True),
        ((), 30, None, True),
    ],
)
def test_a_rate_is_compared_if_it_was_ordered(
    rates: tuple[float, ...], ordered: int | None, source: float | None, fits: bool
) -> None:
    """That PixelDojo makes frames up is not documented (assumed)."""
    order = {} if ordered is None else {"frames_per_second": ordered}
    found = compared({"rates": rates}, SourceClip(frames_per_second=source), **order)

    assert found == ([] if fits else ["frames_per_second"])


@pytest.mark.parametrize(
    ("merge_audio", "source", "fits"),
    [
        (True, True, False),
        (None, True, False),
        (False, True, True),
        (True, False, True),
        (True, None, True),
    ],
)
def test_missing_sound_is_named_only_where_the_clip_has_some(
    merge_audio: bool | None, source: bool | None, fits: bool
) -> None:
    """`merge_audio` is on unless it was turned off (documented)."""
    order = {} if merge_audio is None else {"merge_audio": merge_audio}
    found = compared({"has_sound": False}, SourceClip(has_sound=source), **order)

    assert found == ([] if fits else ["sound"])


def test_pictures_that_a_decoder_drops_without_an_error_are_damage() -> None:
    """Some decoders skip what they cannot read (observed elsewhere)."""
    content = Content(has_pictures=True, has_sound=True, seconds=2.0, rates=(16.0,))
    dropped = Decoded(frames=16, until=1.0, is_flat=False)
    whole = Decoded(frames=32, until=1.94, is_flat=False)

    assert [each.seen for each in damages(content, dropped)] == ["damaged after 1 s"]
    assert [each.seen for each in damages(content, Decoded())] == ["not one frame"]
    assert list(damages(content, whole)) == []


# What could not be looked at


@pytest.mark.parametrize("kind", ["many-edits", "hidden-table"])
async def test_a_hostile_video_is_no_good_one_and_the_server_lives(
    tmp_path: Path, kind: str
) -> None:
    """In the real process: it has no pictures, or takes too much memory or time (ours)."""
    path = tmp_path / "video.mp4"
    path.write_bytes(HOSTILE[kind])
    found = await named(path, record_of(seconds=5))

    assert set(found) in ({"inspection"}, {"decodable"}, {"pictures"})


async def test_the_real_process_finds_nothing_in_a_good_video() -> None:
    """It reads the file itself, within its limits (ours)."""
    assert await named(RESULT, record_of(WITH_SOUND, seconds=5, frames_per_second=16)) == {}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([NotLookedAt("reading it took too long")], {"inspection"}),
        ([{}], {"inspection"}),
        ([{"content": {"colour": 1}}], {"inspection"}),
        (["content", NotLookedAt("reading it takes too much memory")], {"inspection", "seconds"}),
        (["content", {}], {"inspection", "seconds"}),
    ],
    ids=["hang", "nothing", "nonsense", "later", "nonsense-later"],
)
async def test_what_was_seen_before_a_process_broke_is_said(
    monkeypatch: pytest.MonkeyPatch, answers: list[Any], expected: set[str]
) -> None:
    """A hang of the decoder does not take back what the container showed (ours)."""

    class Breaking:
        async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return Reader().answer({"path": str(RESULT)}, []) if answer == "content" else answer

    @asynccontextmanager
    async def started(module: str) -> AsyncIterator[Breaking]:
        yield Breaking()

    monkeypatch.setattr(inspection, "started", started)
    found = await named(RESULT, record_of(seconds=9))

    assert set(found) == expected
    assert found["inspection"].startswith("could not be looked at: ")


async def test_a_process_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """All file handles may be in use (observed elsewhere)."""
    monkeypatch.setattr(decoder_process, "COMMAND", ("/does/not/exist",))
    (found,) = await inspect(RESULT, record_of(seconds=5))

    assert found == Difference(
        what="inspection",
        expected="done",
        seen="could not be looked at: the process that reads it could not be started",
    )


@pytest.mark.usefixtures("here")
async def test_a_video_that_is_gone_could_not_be_looked_at(tmp_path: Path) -> None:
    """The user may move it at any time (ours)."""
    found = await named(tmp_path / "video.mp4", record_of(seconds=5))

    assert "no longer where it was saved" in found["inspection"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.usefixtures("here")
async def test_a_link_under_the_name_of_a_video_is_not_followed(tmp_path: Path) -> None:
    """Somebody else may have placed it (observed elsewhere)."""
    (tmp_path / "video.mp4").symlink_to(RESULT)
    found = await named(tmp_path / "video.mp4", record_of(seconds=5))

    assert "a link now, or a file of another user" in found["inspection"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
@pytest.mark.usefixtures("here")
async def test_a_video_in_a_folder_named_in_another_encoding_is_inspected(tmp_path: Path) -> None:
    """The process receives its path as JSON, which knows UTF-8 only (ours)."""
    folder = tmp_path / os.fsdecode(b"M\xfcnchen")
    folder.mkdir()
    path = folder / "video.mp4"
    path.write_bytes(RESULT.read_bytes())

    assert await named(path, record_of(WITH_SOUND, seconds=3)) == {"seconds": "5"}


@pytest.mark.usefixtures("here")
async def test_a_video_of_more_packets_than_any_job_makes_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An hour of video would take minutes (ours)."""
    monkeypatch.setattr(content_module, "MAX_PACKETS", 50)
    found = await named(RESULT, record_of(seconds=5))

    assert set(found) == {"inspection"}


@pytest.mark.usefixtures("here")
async def test_one_video_is_inspected_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a process is always left for an input that is to be paid for (ours)."""
    open_now, most = 0, 0

    @asynccontextmanager
    async def started(module: str) -> AsyncIterator[Here]:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await anyio.lowlevel.checkpoint()
        yield Here()
        open_now -= 1

    monkeypatch.setattr(inspection, "started", started)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(inspect, RESULT, record_of(seconds=5))

    assert most == 1
