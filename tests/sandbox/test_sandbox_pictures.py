"""The sandbox's own videos show both inputs as ffmpeg would: turned, mirrored, in their colours.

The fields of every picture have colours that the test knows, so it knows which stands where.
"""

from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.test_sandbox_videos import GREY, audio_file, image_file, video_file
from tests.videos.test_display import (
    BT_601,
    BT_709,
    ORIENTATIONS,
    UNSPECIFIED,
    YCGCO,
    Clip,
    cover_first,
    jpeg_of,
    with_exif,
)
from wan_mcp.sandbox.videos.composition import Look
from wan_mcp.sandbox.videos.inputs import Unusable
from wan_mcp.sandbox.videos.render import render

av: Any = pytest.importorskip("av", reason="the extra `media` is not installed")

Colour = tuple[int, ...]

FIELDS: tuple[Colour, ...] = ((200, 40, 60), (60, 190, 80), (50, 70, 210), (220, 205, 90))
"""In the stored picture: top left, top right, bottom left, bottom right."""
SEED = 1
TOLERANCE = 8
"""Both encoders are lossy."""


def rendered(folder: Path, video: bytes, image: bytes, **body: Any) -> list[Any]:
    """The frames of the video, of 480 lines."""
    (folder / "video").write_bytes(video)
    (folder / "image").write_bytes(image)
    target = folder / "result.mp4"
    given = {"video_duration": 1, "resolution": "480", "seed": SEED, **body}
    render(folder / "video", folder / "image", given, target)
    with av.open(target) as file:
        return list(file.decode(video=0))


def sound_seconds(folder: Path) -> float:
    with av.open(folder / "result.mp4") as file:
        (track,) = file.streams.audio
        return float(track.duration * Fraction(str(track.time_base)))


def pixel(frame: Any, x: float, y: float) -> Colour:
    """Red, green and blue, by what the frame says of its colours."""
    plane = frame.reformat(format="rgb24").planes[0]
    at = round(y) * plane.line_size + 3 * round(x)
    return tuple(bytes(plane)[at : at + 3])


def assert_fields(frame: Any, at: tuple[float, float, float, float], order: str) -> None:
    """The colours at two columns and two rows, row by row."""
    left, right, upper, lower = at
    found = [pixel(frame, x, y) for y in (upper, lower) for x in (left, right)]
    for one, number in zip(found, order, strict=True):
        assert one == pytest.approx(FIELDS[int(number)], abs=TOLERANCE)


def fields(size: tuple[int, int]) -> Any:
    """A picture of four fields."""
    width, height = size
    rows = [
        b"".join(bytes((*colour, 255)) * (width // 2) for colour in pair) * (height // 2)
        for pair in (FIELDS[:2], FIELDS[2:])
    ]
    return av.VideoFrame.from_bytes(b"".join(rows), width, height)


def clip(matrix: tuple[int, int, int, int] = (1, 0, 0, 1), colorspace: int = 6) -> bytes:
    """A video of four fields, in colours of this coding."""
    file = BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=8, options={"crf": "8", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, 1
        a, b, c, d = (number << 16 for number in matrix)
        stream.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        name = {1: "ITU709", 6: "ITU601"}[colorspace]
        frame = fields((320, 240)).reformat(
            format="yuv420p", dst_colorspace=name, dst_color_range="MPEG"
        )
        for number in range(4):
            frame.pts, frame.time_base = number, Fraction(1, 8)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def photo(orientation: int) -> bytes:
    """A JPEG of four fields with an orientation in its EXIF."""
    frame = fields((120, 80)).reformat(format="yuvj444p", dst_colorspace="ITU601")
    return with_exif(jpeg_of(frame), orientation)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_clip_is_turned_and_mirrored_as_a_player_does_it(
    tmp_path: Path, orientation: str
) -> None:
    """All eight display matrices of quarter turns (documented)."""
    matrix, order = ORIENTATIONS[orientation]

    frame = rendered(tmp_path, clip(matrix), image_file())[0]

    assert (frame.width, frame.height) == ((360, 480) if matrix[1] else (640, 480))
    width = frame.width
    assert_fields(frame, (width * 0.25, width * 0.75, 210, 270), order)


@pytest.mark.parametrize(("number", "orientation"), list(enumerate(ORIENTATIONS, start=1)))
def test_a_photo_is_turned_and_mirrored_as_its_exif_says(
    tmp_path: Path, number: int, orientation: str
) -> None:
    """All eight orientations (documented)."""
    matrix, order = ORIENTATIONS[orientation]
    width = 107 if matrix[1] else 240  # a third of the height is the limit
    right, bottom = Look(480, Fraction(8), SEED, ()).corner
    left = 640 - 12 - width if right else 12
    top = 480 - 12 - 160 if bottom else 12

    frame = rendered(tmp_path, clip(), photo(number))[0]

    columns = left + width * 0.25, left + width * 0.75
    assert_fields(frame, (*columns, top + 40, top + 120), order)


@pytest.mark.parametrize("colorspace", [1, 6], ids=["BT.709", "BT.601"])
@pytest.mark.parametrize("image", ["png", "jpeg"])
def test_the_clip_keeps_its_colours_whatever_the_picture_is(
    tmp_path: Path, colorspace: int, image: str
) -> None:
    """A JPEG has the full range, which is not that of the clip (ours)."""
    frame = rendered(
        tmp_path,
        clip(colorspace=colorspace),
        photo(1) if image == "jpeg" else image_file(),
    )[0]

    assert (frame.format.name, int(frame.color_range)) == ("yuv420p", 1)
    assert_fields(frame, (160, 480, 210, 270), "0123")


@pytest.mark.parametrize(
    "kind",
    [
        Clip(coded=BT_709, colorspace=YCGCO, size=(960, 720)),
        Clip(coded=BT_601, colorspace=YCGCO),
        Clip(coded=BT_601, colorspace=UNSPECIFIED, size=(560, 320), matrix=(0, 1, -1, 0)),
        Clip(coded=BT_709, colorspace=UNSPECIFIED, size=(720, 480), matrix=(0, 1, -1, 0)),
    ],
    ids=str,
)
def test_what_a_clip_does_not_say_of_its_colours_is_decided_as_by_ffplay(
    tmp_path: Path, kind: Clip
) -> None:
    """By its lines as they are shown; so are codings that FFmpeg does not convert (documented)."""
    frame = rendered(tmp_path, kind.written(tmp_path / "f.mp4").read_bytes(), image_file())[0]

    order = "31" if kind.matrix[1] else "23"
    for x, number in zip((0.1, 0.9), order, strict=True):
        found = pixel(frame, frame.width * x, frame.height // 2)
        assert found == pytest.approx(FIELDS[int(number)], abs=TOLERANCE)


def test_a_cover_is_never_the_clip(tmp_path: Path) -> None:
    """It may stand before the moving pictures (observed elsewhere)."""
    frame = rendered(tmp_path, cover_first(clip()), image_file())[0]

    assert_fields(frame, (160, 480, 210, 270), "0123")


def test_a_title_in_any_encoding_is_no_obstacle(tmp_path: Path) -> None:
    """Old programs wrote Latin-1 (observed elsewhere)."""
    video = clip()
    renamed = video.replace(b"VideoHandler", b"Vid\xe9oHandler")
    assert renamed != video

    frame = rendered(tmp_path, renamed, image_file())[0]

    assert_fields(frame, (160, 480, 210, 270), "0123")


def test_a_song_with_a_cover_is_no_clip(tmp_path: Path) -> None:
    """The job fails with a sentence (ours)."""
    with pytest.raises(Unusable, match=r"^The video could not be read: its only image is a cover."):
        rendered(tmp_path, cover_first(audio_file()), image_file())


def part(shade: int, *, start: float = 0, sound: str = "aac", width: int = 320) -> bytes:
    """A transport stream of one second and one shade."""
    times = tuple(start + number / 25 for number in range(25))
    return video_file(
        "mpegts",
        size=(width, 180),
        times=times,
        columns=((shade, shade, shade, 255),),
        audio_codec=sound,
    )


@pytest.mark.parametrize(
    "later",
    [
        lambda: part(200),
        lambda: part(200, width=160),
        lambda: part(200, start=100, sound=""),
    ],
    ids=["as-before", "smaller", "times-ahead"],
)
def test_joined_transport_streams_are_one_clip(tmp_path: Path, later: Any) -> None:
    """Each part begins its times anew; ffmpeg puts them one after the other (documented)."""
    joined = part(GREY[0]) + later()

    frames = rendered(tmp_path, joined, image_file(), video_duration=3)
    shades = [pixel(frame, 300, 240)[0] for frame in frames]

    assert len(frames) == pytest.approx(50, abs=3)
    assert shades[:23] == pytest.approx([GREY[0]] * 23, abs=TOLERANCE)
    assert shades[28:] == pytest.approx([200] * len(shades[28:]), abs=TOLERANCE)


def test_joined_parts_of_two_codecs_are_no_clip(tmp_path: Path) -> None:
    """The job fails with a sentence (ours)."""
    with pytest.raises(Unusable, match=r"^The video could not be read: Invalid data found"):
        rendered(tmp_path, part(90) + part(90, sound="mp2"), image_file(), video_duration=3)


def test_joined_parts_keep_their_sound_to_the_end(tmp_path: Path) -> None:
    """Also when the second has another form (documented)."""
    rendered(tmp_path, part(90) + stereo_part(), image_file(), video_duration=3)

    assert sound_seconds(tmp_path) == pytest.approx(2, abs=0.15)


def stereo_part() -> bytes:
    """A transport stream of one second, whose sound is no longer mono and has another rate."""
    file = BytesIO()
    with av.open(file, "w", format="mpegts") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        audio = output.add_stream("aac", rate=44_100, layout="stereo")
        for number in range(25):
            frame = av.VideoFrame(320, 180, "yuv420p")
            frame.pts = number
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for start in range(0, 44_100, 1024):
            sound = av.AudioFrame("fltp", "stereo", 1024)
            sound.sample_rate, sound.pts = 44_100, start
            for plane in sound.planes:
                plane.update(bytes(plane.buffer_size))
            output.mux(audio.encode(sound))
        output.mux(audio.encode(None))
    return file.getvalue()
