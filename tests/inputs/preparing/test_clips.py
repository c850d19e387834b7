"""What is written of a clip: the right seconds, in step, upright, in a format that all read."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.inputs.preparing.clips import GREY, LOCATION, PHONE, Clip, Seen, seen
from wan_mcp.inputs.preparing.colours import HLG, sdr_of
from wan_mcp.inputs.preparing.extras import Extras, extras_of
from wan_mcp.inputs.preparing.preparer import Preparer
from wan_mcp.inputs.preparing.survey import NoClip

av: Any = pytest.importorskip("av")

STEP_SECONDS = 0.03
"""How far the beep may move against the flash: one packet of AAC is 21 ms long."""


def prepared(
    path: Path, start: float = 0, end: float | None = None, seconds: float = 1
) -> tuple[list[str], Path]:
    """What is changed, and the file that is written, in this process."""
    target = path.with_suffix(".prepared")
    target.touch()
    preparer = Preparer()
    with path.open("rb") as file:
        question = {
            "role": "video",
            "start": start,
            "end": end,
            "seconds": seconds,
            "target": str(target),
        }
        answer = preparer.begin(file, question)
        while "format" not in preparer.answer({"work": 60}, []):
            pass
    return answer["changes"], target


def extras_in(path: Path) -> Extras:
    with path.open("rb") as file:
        return extras_of(file)


def step_of(clip: Seen) -> float:
    """How much later than the flash the beep is, in seconds."""
    assert clip.flash_at is not None
    assert clip.beep_at is not None
    return clip.beep_at - clip.flash_at


def test_a_clip_that_needs_no_change_is_left_as_it_is(tmp_path: Path) -> None:
    """Nothing is written, and its own hash counts (ours)."""
    changes, target = prepared(Clip(frames=60).written(tmp_path / "a.mp4"), seconds=2)

    assert (changes, target.stat().st_size) == ([], 0)


def test_a_phones_clip_becomes_upright_h264_of_8_bits_without_its_location(tmp_path: Path) -> None:
    """HEVC, 10 bits, HLG, a quarter turn and Apple's keys, in one file (ours)."""
    source = PHONE.written(tmp_path / "phone.mov")
    assert extras_in(source) is Extras.LOCATION
    assert LOCATION.encode() in source.read_bytes()

    changes, target = prepared(source, start=1)

    clip = seen(target)
    assert clip.flash_at == pytest.approx(1.0, abs=0.034)
    assert abs(step_of(clip) - step_of(seen(source))) < STEP_SECONDS
    assert (clip.codec, clip.pixels, clip.size) == ("h264", "yuv420p", (108, 192))
    grey = 16 + 219 * sdr_of(((GREY - 16) / 219,) * 3, HLG)[0]
    assert clip.corners[0] == pytest.approx(grey, abs=4)
    dark = [light < 100 for light in clip.corners]
    assert dark == [False, True, False, False]
    assert extras_in(target) is Extras.NONE
    assert LOCATION.encode() not in target.read_bytes()
    assert b"Pomme" not in target.read_bytes()
    assert [change.split(" (")[0] for change in changes] == [
        "cut to the 1.5 s that begin at 1 s",
        "turned upright",
        "turned from HDR into SDR",
        "converted from HEVC with 10 bits to H.264",
        "freed of everything that says where, when and with what it was recorded",
    ]
    assert target.read_bytes().index(b"moov") < target.read_bytes().index(b"mdat")


COPIED = Clip(key_every=10, options={"bf": "2", "preset": "veryfast"})
"""A key frame every third of a second, and pictures that are stored before earlier ones."""


@pytest.mark.parametrize(
    ("start", "copies"), [(1.0, True), (1.34, True), (1.1, False), (0.0, True)]
)
def test_a_cut_begins_with_the_picture_of_that_moment_and_sound_stays_in_step(
    tmp_path: Path, start: float, copies: bool
) -> None:
    """Copied from a key frame of that moment, encoded otherwise (ours)."""
    source = COPIED.written(tmp_path / "a.mp4")
    changes, target = prepared(source, start=start, seconds=1)

    clip = seen(target)
    assert ("without encoding" in changes[0]) is copies
    assert clip.flash_at == pytest.approx(2.0 - start if start else None, abs=0.034)
    assert clip.is_key_first
    assert clip.times[0] == 0.0
    assert 1.4 < len(clip.times) / 30 <= 1.7
    if start:
        assert abs(step_of(clip) - step_of(seen(source))) < STEP_SECONDS


def test_the_end_of_a_fragment_is_kept(tmp_path: Path) -> None:
    """No picture beyond it is shown, though models might take one more (ours)."""
    _, target = prepared(Clip(key_every=7).written(tmp_path / "a.mp4"), 0.5, 1.5, 1)

    assert seen(target).times == pytest.approx([n / 30 for n in range(30)], abs=1e-3)


@pytest.mark.parametrize(
    ("sound", "name", "expected"),
    [
        ("pcm_s16le", "a.mov", "aac"),
        ("libopus", "a.mkv", "aac"),
        ("aac", "a.mkv", "aac"),
        (None, "a.mov", None),
    ],
)
def test_sound_of_each_coding_stays_in_step(
    tmp_path: Path, sound: str | None, name: str, expected: str | None
) -> None:
    """What is no AAC becomes it; no sound stays none (ours)."""
    source = Clip(sound=sound, key_every=15).written(tmp_path / name)
    _, target = prepared(source, start=1.5, seconds=1)

    clip = seen(target)
    assert clip.sound == expected
    if sound:
        assert abs(step_of(clip) - step_of(seen(source))) < STEP_SECONDS


UNEVEN = [33 * n + (400 if n > 30 else 0) + (12 if n % 3 == 0 else 0) for n in range(90)]


def test_a_variable_rate_becomes_constant_without_moving_anything(tmp_path: Path) -> None:
    """A reader that counts frames would otherwise drift from the sound (ours)."""
    source = Clip(times=UNEVEN).written(tmp_path / "a.mp4")
    changes, target = prepared(source, seconds=3)

    clip = seen(target)
    assert changes == ["given a constant frame rate (30)"]
    assert clip.gaps == {33.3}
    assert clip.flash_at == pytest.approx((UNEVEN[60] - UNEVEN[0]) / 1000, abs=0.02)
    assert abs(step_of(clip) - step_of(seen(source))) < STEP_SECONDS


ORIENTATIONS = {
    "quarter": ((0, 1, -1, 0), (108, 192), 1),
    "half": ((-1, 0, 0, -1), (192, 108), 3),
    "three quarters": ((0, -1, 1, 0), (108, 192), 2),
    "mirrored": ((-1, 0, 0, 1), (192, 108), 1),
    "mirrored and turned": ((0, 1, 1, 0), (108, 192), 0),
}


def trimmed(path: Path, *, milliseconds: int, from_unit: int = 0) -> Path:
    """Let the edit list of the first track, which has the pictures, show only a part of it."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12
    data[at : at + 4] = milliseconds.to_bytes(4)
    data[at + 4 : at + 8] = (int.from_bytes(data[at + 4 : at + 8]) + from_unit).to_bytes(4)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("key_every", "milliseconds", "from_unit"), [(10, 500, 0), (90, 1500, 0), (90, 1500, 7680)]
)
def test_pictures_that_were_cut_away_do_not_leave_with_the_rest(
    tmp_path: Path, key_every: int, milliseconds: int, from_unit: int
) -> None:
    """A phone only hides them, and its file still has them all (observed elsewhere)."""
    source = Clip(sound=None, key_every=key_every, frames=150).written(tmp_path / "a.mp4")
    trimmed(source, milliseconds=milliseconds, from_unit=from_unit)
    shown = seen(source).times
    changes, target = prepared(source, seconds=1)

    assert changes == ["freed of the pictures that were cut away from it"]
    with av.open(target) as file:
        assert file.streams.video[0].frames == pytest.approx(len(shown), abs=1)
    assert seen(target).size == (192, 108)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_a_turned_or_mirrored_clip_is_stored_as_it_is_shown(tmp_path: Path, name: str) -> None:
    """The dark quarter, which is stored at the top left, is where a player shows it (ours)."""
    matrix, size, dark = ORIENTATIONS[name]
    source = Clip(frames=5, flash=9, matrix=matrix, sound=None).written(tmp_path / "a.mp4")
    changes, target = prepared(source)

    clip = seen(target)
    assert changes == ["turned upright"]
    assert clip.size == size
    assert [light < 100 for light in clip.corners] == [n == dark for n in range(4)]


@pytest.mark.parametrize(
    ("clip", "size", "change"),
    [
        (Clip(size=(2000, 20)), (1920, 20), "made smaller (2,000 x 20 to 1,920 x 20)"),
        (Clip(size=(144, 108), sar=Fraction(4, 3)), (192, 108), "given square pixels"),
        (Clip(pixels="yuv444p"), (192, 108), "converted from H.264 to H.264"),
    ],
    ids=["large", "wide pixels", "more colour"],
)
def test_a_shape_that_not_every_reader_takes_is_changed(
    tmp_path: Path, clip: Clip, size: tuple[int, int], change: str
) -> None:
    """At most 1,920 pixels a side, square pixels, 4:2:0 (ours)."""
    source = replace(clip, frames=3, sound=None).written(tmp_path / "a.mp4")
    changes, target = prepared(source)

    assert changes == [change]
    assert (seen(target).size, seen(target).pixels) == (size, "yuv420p")


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (Fraction(240), Fraction(30)),
        (Fraction(60000, 1001), Fraction(30000, 1001)),
        (Fraction(50), Fraction(50)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (Fraction(24), Fraction(24)),
        (Fraction(17), Fraction(17)),
    ],
)
def test_a_clip_that_is_encoded_keeps_its_rate_or_the_half_of_it(
    tmp_path: Path, rate: Fraction, expected: Fraction
) -> None:
    """The fastest result has 30 frames per second (documented)."""
    clip = Clip(rate=rate, codec="mpeg4", sound=None, size=(64, 64), frames=int(rate))
    changes, target = prepared(clip.written(tmp_path / "a.mp4"), seconds=1)

    with av.open(target) as file:
        assert file.streams.video[0].average_rate == expected
    assert changes == ["converted from MPEG-4 to H.264"]


def test_a_matroska_of_h264_is_only_put_into_an_mp4(tmp_path: Path) -> None:
    """Copied (ours)."""
    source = Clip(frames=30, flash=10).written(tmp_path / "a.mkv")
    changes, target = prepared(source)

    assert changes[0] == "put into an MP4"
    assert abs(step_of(seen(target)) - step_of(seen(source))) < STEP_SECONDS


@pytest.mark.parametrize(
    ("start", "end", "name", "remedy"),
    [
        (5.0, None, "video", "begin the fragment earlier"),
        (2.5, None, "video_duration", "begin the fragment earlier"),
        (0.0, 0.5, "video_duration", "begin the fragment earlier"),
    ],
)
def test_a_part_that_the_clip_does_not_have_is_refused(
    tmp_path: Path, start: float, end: float | None, name: str, remedy: str
) -> None:
    """Also one that is shorter than what is paid for (ours)."""
    source = Clip(sound=None).written(tmp_path / "a.mp4")
    with pytest.raises(NoClip) as refusal:
        prepared(source, start, end, 1)

    assert (refusal.value.name, remedy in refusal.value.remedy) == (name, True)
