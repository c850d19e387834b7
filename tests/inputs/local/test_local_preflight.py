"""The look before paying at files of this computer: nothing is fetched, little is read."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.inputs.test_preflight import (
    HEIC,
    index_at_the_end,
    png,
    resolve,
    sound_later,
    video_file,
)
from wan_mcp.errors import InvalidArguments
from wan_mcp.inputs import preflight, video_check
from wan_mcp.inputs.local.files import LocalFiles
from wan_mcp.inputs.local.folders import InputFolders
from wan_mcp.inputs.local.opening import OpenFile
from wan_mcp.inputs.preflight import check_inputs
from wan_mcp.inputs.verdict import UnusableInput
from wan_mcp.models import InputReport, Replacement
from wan_mcp.web.fetch import Web

pytestmark = pytest.mark.anyio


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[LocalFiles]:
    (tmp_path / "picture.png").write_bytes(png(640, 480))
    async with anyio.create_task_group() as tasks:
        yield LocalFiles(InputFolders((tmp_path,)), 1 << 34, tasks)


async def look(
    files: LocalFiles, clip: Path, fragment: str = "", picture: str = "picture.png", **wanted: Any
) -> InputReport:
    """What the look says of a clip and a picture beside it. There is no web."""
    image = (clip.parent / picture).as_uri()
    given = {"seconds": 3, "merge_audio": False} | wanted
    job = Replacement(video=clip.as_uri() + fragment, character_image=image, **given)
    nothing: Any = None
    return await check_inputs(job, nothing, files=files, seconds=600)


async def test_good_files_need_no_note_and_no_web(files: LocalFiles, tmp_path: Path) -> None:
    """The same checks as for links, without a download (ours)."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video_file())

    report = await look(files, clip)

    assert report.notes == ()
    assert report.source.seconds == pytest.approx(3)


async def test_a_file_beside_a_link_is_looked_at_as_well(files: LocalFiles, tmp_path: Path) -> None:
    """Each input is looked at where it is (ours)."""
    web = Web(loopback=False, resolve=resolve)
    job = Replacement(
        video="https://nowhere.example.com/clip.mp4",
        character_image=(tmp_path / "picture.png").as_uri(),
    )
    with pytest.raises(UnusableInput) as refused:
        await check_inputs(job, web, files=files, seconds=600)
    await web.aclose()

    assert "video cannot be fetched" in refused.value.what
    assert "character_image" not in refused.value.what


@pytest.mark.parametrize(
    ("fragment", "seconds", "words"),
    [
        ("", 4, "video_duration is 4, but the clip is only 3 s long"),
        ("#t=1", 3, "video_duration is 3, but the part of the clip that is meant is only 2 s"),
        ("#t=0,2", 3, "is meant is only 2 s long"),
        ("#t=5,9", 4, "video is to begin at 5 s, but the clip is only 3 s long"),
        ("#t=3", 1, "video is to begin at 3 s, but the clip is only 3 s long"),
        ("#t=2,60", 2, "is meant is only 1 s long"),
    ],
)
async def test_a_part_that_is_not_there_is_refused_with_the_length_that_is(
    fragment: str, seconds: int, words: str, files: LocalFiles, tmp_path: Path
) -> None:
    """What counts is the length from the fragment's start to its end, or the clip's (ours)."""
    pytest.importorskip("av")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video_file())

    with pytest.raises(UnusableInput) as refused:
        await look(files, clip, fragment, seconds=seconds)

    assert words in refused.value.what


@pytest.mark.parametrize("flags", ["", "frag_keyframe+empty_moov"], ids=["index", "fragmented"])
async def test_a_part_that_is_there_is_accepted_and_is_the_source(
    flags: str, files: LocalFiles, tmp_path: Path
) -> None:
    """The finished video is compared to the part, not to the whole clip (ours)."""
    pytest.importorskip("av")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video_file(movflags=flags) if flags else video_file())

    report = await look(files, clip, "#t=1,3", seconds=2)

    assert report.notes == ()
    assert report.source.seconds == pytest.approx(2, abs=0.05)


async def test_sound_counts_in_the_part_that_is_meant(files: LocalFiles, tmp_path: Path) -> None:
    """Sound that begins at 2 s is in the part from 1 to 3 s, and not in the first second (ours)."""
    pytest.importorskip("av")
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(sound_later(2))

    assert (await look(files, clip, "#t=1,3", seconds=2)).source.has_sound is True
    assert (await look(files, clip, "#t=0,1", seconds=1)).source.has_sound is False


async def test_a_part_that_is_too_short_by_itself_is_refused_without_the_extra(
    files: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clip has more than two seconds between 12 and 14 s (ours)."""
    monkeypatch.setattr(video_check, "available", lambda: False)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video_file())

    with pytest.raises(UnusableInput, match="is meant is only 2 s long"):
        await look(files, clip, "#t=12,14", seconds=3)


async def test_a_large_file_is_accepted_and_only_its_index_is_read(
    files: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that the operator raised holds; the index at the end costs one more read (ours)."""
    pytest.importorskip("av")
    data, clip = index_at_the_end(), tmp_path / "clip.mp4"
    at = data.index(b"free") - 4
    with clip.open("wb") as file:  # a hole of 3 GB before the index, which takes no space
        file.write(data[:at] + (1).to_bytes(4) + b"free" + (3 << 30).to_bytes(8))
        file.seek(at + (3 << 30))
        file.write(data[at + 8 :])
    read = 0
    readinto = OpenFile.readinto

    def counted(self: OpenFile, buffer: Any) -> int:
        nonlocal read
        found = readinto(self, buffer)
        read += found
        return found

    monkeypatch.setattr(OpenFile, "readinto", counted)
    report = await look(files, clip)

    assert report.notes == ()
    assert report.source.seconds == pytest.approx(3)
    assert read < 1 << 20


@pytest.mark.parametrize("has_media", [True, False])
async def test_a_form_that_is_changed_before_the_upload_needs_no_note(
    has_media: bool, files: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the extra, a phone's HEIC becomes a JPEG, and a turned clip is turned (ours)."""
    pytest.importorskip("av")
    monkeypatch.setattr(preflight, "available", lambda: has_media)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video_file(rotation=90))
    (tmp_path / "ana.heic").write_bytes(HEIC)

    notes = " ".join((await look(files, clip, picture="ana.heic")).notes)

    assert ("is a HEIC picture" in notes) is not has_media
    assert ("stored turned by" in notes) is not has_media


async def test_a_file_in_a_wrong_place_is_refused_as_such(
    files: LocalFiles, tmp_path: Path
) -> None:
    """Also when it is named only to be looked at (ours)."""
    with pytest.raises(InvalidArguments, match="Nothing there was looked at"):
        await look(files, tmp_path.parent / "clip.mp4")


async def test_a_picture_that_is_cut_off_is_refused(files: LocalFiles, tmp_path: Path) -> None:
    """All that is known of pictures behind links holds for files (ours)."""
    (tmp_path / "half.png").write_bytes(png(640, 480)[:-12])
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(video_file())

    with pytest.raises(UnusableInput, match="character_image is cut off") as refused:
        await look(files, clip, picture="half.png")

    assert refused.value.next_step == "character_image: give it again, whole."
