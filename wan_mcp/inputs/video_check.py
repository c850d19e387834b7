"""Checks the video: its type, and with the extra `media` its length and its streams."""

from wan_mcp.inputs.decoder_process import DecoderProcess, NotLookedAt, started
from wan_mcp.inputs.findings import Findings
from wan_mcp.inputs.local.references import Fragment
from wan_mcp.inputs.probe import (
    MODULE,
    BytesMissing,
    DamagedVideo,
    VideoHeader,
    available,
    header_of,
    question,
)
from wan_mcp.inputs.verdict import VIDEO, InputFile, Unusable, judge
from wan_mcp.models import SourceClip
from wan_mcp.wording import number

TOLERANCE_SECONDS = 0.1
"""How much shorter a video may be: many that were cut to 5 s lack a frame or two (ours)."""


_WHOLE = Fragment()


async def check_video(file: InputFile, found: Findings, seconds: float) -> None:
    """Check the video, and add the results to `found`.

    Args:
        seconds: limit for the first read.

    Raises:
        Unusable: it certainly cannot be used.
        Unreachable: there is no answer.
        NotLookedAt: it could not be read.
    """
    _judge_fragment(found)
    await file.read_start(seconds, whole=available())
    file_type = judge(VIDEO, file)
    if file_type is None:
        return
    found.note_type(VIDEO, file_type, "MP4")
    if not file_type.demuxer or not available():
        return
    async with started(MODULE) as process:
        header = await _header(process, file, file_type.demuxer, count=False)
        if header is None:
            return
        _judge_header(header, found)
        found.source = source_clip(header, found.wanted.seconds, found.fragment)
        if _must_be_counted(header, found):
            await _count(process, file, file_type.demuxer, header, found)


async def _header(
    process: DecoderProcess, file: InputFile, demuxer: str, *, count: bool
) -> VideoHeader | None:
    """The header of the video; None if not enough of the file could be read.

    The process only reads from memory, so it never waits for a server. When it needs a part that
    is missing, that part is fetched and the header is read again, which takes milliseconds.
    """
    while True:
        asked, parts = question(file.content, demuxer, count=count)
        try:
            return header_of(await process.ask(asked, parts))
        except BytesMissing as missing:
            if missing.offset is None or not await file.read_at(missing.offset):
                return None
        except DamagedVideo:
            what = "is damaged or cut off, so that it cannot be opened"
            raise Unusable(VIDEO.name, what, "give the clip again, whole") from None


async def _count(
    process: DecoderProcess, file: InputFile, demuxer: str, header: VideoHeader, found: Findings
) -> None:
    """Count the length from all pictures. Until that is done, the length is noted as doubtful."""
    found.length_doubt = _doubt(header)
    found.unchecked.pop(VIDEO.name, None)
    try:
        counted = await _header(process, file, demuxer, count=True)
    except NotLookedAt:
        return
    if counted is not None:
        found.length_doubt = ""
        _judge_length(counted, found)
        found.source = source_clip(counted, found.wanted.seconds, found.fragment)


def source_clip(
    header: VideoHeader, wanted_seconds: int, fragment: Fragment = _WHOLE
) -> SourceClip:
    """What the inspection of the result needs to know of the clip.

    Args:
        wanted_seconds: the length that is ordered; later sound will not be in the result.
        fragment: the part of the clip that is meant; only its length and its sound count.
    """
    certain = certain_seconds(header)
    seconds = header.seconds if certain is None else certain
    last = fragment.start + wanted_seconds
    return SourceClip(
        seconds=None if seconds is None else _left(seconds, fragment),
        frames_per_second=header.frames_per_second,
        has_sound=header.sound_from is not None and header.sound_from < last,
    )


def _judge_header(header: VideoHeader, found: Findings) -> None:
    wanted = found.wanted
    if not header.has_video:
        raise Unusable(VIDEO.name, "has no video stream, only sound", "give a clip with pictures")
    if header.is_encrypted:
        what = "is encrypted, so that nobody can decode it without its key"
        raise Unusable(VIDEO.name, what, "give a clip without copy protection")
    _judge_length(header, found)
    if not header.has_audio and wanted.merge_audio is not False:
        found.notes.append("The clip has no sound, so merge_audio has none to keep.")
    rate, wanted_rate = header.frames_per_second, wanted.frames_per_second
    if rate and wanted_rate and wanted_rate > rate + 0.5:
        found.notes.append(
            f"The clip has {rate:.3g} frames per second, fewer than the {wanted_rate} asked for."
        )
    if header.size:
        found.note_size(VIDEO, header.size, int(wanted.resolution or 480) // 2)
    _note_how_it_is_stored(header, found)


def _note_how_it_is_stored(header: VideoHeader, found: Findings) -> None:
    if found.is_prepared.get(VIDEO.name):
        return
    if header.turned_degrees:
        found.notes.append(
            f"The clip is stored turned by {header.turned_degrees} degrees, as phones do: if the "
            "result lies on its side, turn the pictures themselves and upload the clip again."
        )
    if header.is_hdr:
        found.notes.append("The clip is HDR: its colours may come out pale; SDR is safest.")


def _judge_length(header: VideoHeader, found: Findings) -> None:
    """Refuse a clip that is certainly too short; note a field that wrongly says it is."""
    wanted, certain = found.wanted.seconds, certain_seconds(header)
    if certain is None:
        return
    if found.fragment.start and found.fragment.start >= certain:
        raise _beyond_the_end(certain, found.fragment.start)
    if _is_short(left := _left(certain, found.fragment), wanted):
        raise _too_short(left, wanted, found.fragment)
    for field, length in (("header", header.seconds), ("index", header.indexed_seconds)):
        if length is not None and _is_short(_left(length, found.fragment), wanted):
            found.notes.append(
                f"The {field} of the clip says {length:.3g} s, although it has {certain:.3g} s: "
                "a program may believe it. Exporting the clip again repairs that."
            )


def certain_seconds(header: VideoHeader) -> float | None:
    """The length of the video stream, if it is certain that the stream is not longer than that.

    Counted pictures win over all fields. The header and the index of an MP4 are certain if they
    agree; if they do not, the longer one counts, because it may be the true one.
    """
    if header.counted_seconds is not None:
        return header.counted_seconds
    if header.indexed_seconds is not None:
        return max(header.indexed_seconds, header.seconds or 0.0)
    return None


def _must_be_counted(header: VideoHeader, found: Findings) -> bool:
    if certain_seconds(header) is not None:
        return False
    if header.seconds is None:
        return True
    return _is_short(_left(header.seconds, found.fragment), found.wanted.seconds)


def _is_short(seconds: float, wanted: int) -> bool:
    return seconds < wanted - TOLERANCE_SECONDS


def _doubt(header: VideoHeader) -> str:
    if header.seconds is None:
        return "The length of the clip is not in its header, and could not be counted from here."
    return (
        f"The header of the clip says {header.seconds:.3g} s, less than video_duration; whether "
        "that is true could not be counted from here."
    )


def _judge_fragment(found: Findings) -> None:
    """Refuse a part that is shorter than the ordered result, however long the clip is."""
    fragment, wanted = found.fragment, found.wanted.seconds
    if fragment.end is not None and _is_short(fragment.end - fragment.start, wanted):
        raise _too_short(fragment.end - fragment.start, wanted, fragment)


def _left(seconds: float, fragment: Fragment) -> float:
    """How much of a clip of this length is meant."""
    end = seconds if fragment.end is None else min(seconds, fragment.end)
    return max(0.0, end - fragment.start)


def _too_short(actual: float, wanted: int, fragment: Fragment) -> Unusable:
    longest = int(actual + TOLERANCE_SECONDS)
    is_part = fragment != _WHOLE
    remedy = "give a longer part of the clip" if is_part else "give a longer clip"
    if longest:
        remedy = f"set video_duration to {longest} or less, or {remedy}"
    meant = "part of the clip that is meant" if is_part else "clip"
    what = f"is {wanted}, but the {meant} is only {actual:.3g} s long"
    return Unusable("video_duration", what, remedy)


def _beyond_the_end(actual: float, start: float) -> Unusable:
    what = (
        f"is to begin at {number(start)} s, but the clip is only {number(round(actual, 2))} s long"
    )
    return Unusable(VIDEO.name, what, "name an earlier second after #t=")
