"""A contact sheet: a few frames of a video in one small image, for hosts that cannot play it.

PyAV, which is an extra, also encodes the JPEG, so no second library is needed. The video comes from
elsewhere: it is decoded in a process with limits (see `inputs.decoder_process`). Each frame looks
as a player shows it (see `display`).
"""

import base64
import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_mcp.inputs.decoder_limits import answer_questions
from wan_mcp.inputs.decoder_process import NotLookedAt, started
from wan_mcp.inputs.preparing.display import Display, display_of
from wan_mcp.inputs.preparing.filters import filtered
from wan_mcp.inputs.probe import any_titles, available
from wan_mcp.videos.own_files import open_ours

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream

    _Frame = tuple[VideoFrame, Display]

MAX_SIDE_PIXELS = 960
"""The longer side of a sheet. Hosts shrink larger images for the model anyway (assumed)."""
MAX_FRAMES = 3_000
"""How many frames are read at most: a result has at most 450, and every frame up to the last chosen
one has to be decoded (ours)."""

_SIDES = (MAX_SIDE_PIXELS, 640, 400, 240, 120)
_QUANTIZERS = (3, 6, 10, 16, 24, 31)
"""Quantizers of MJPEG, from nearly perfect quality to the worst."""
_PIXEL_FORMAT = "yuvj420p"
_VIDEO_FORMATS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"}
"""Some other formats of FFmpeg are lists of files and addresses, which it would open."""

MODULE = "wan_mcp.videos.contact_sheet"
"""Runs `main` in a process of its own."""

logger = logging.getLogger(__name__)


async def contact_sheet(path: Path) -> bytes | None:
    """The contact sheet of a video as JPEG; None without PyAV or if it cannot be decoded."""
    if not available():
        logger.info("no contact sheet: the extra [media] is not installed")
        return None
    try:
        async with started(MODULE) as process:
            answer = await process.ask({"path": str(path)})
        return base64.b64decode(answer["jpeg"], validate=True)
    except NotLookedAt as exc:
        logger.info("no contact sheet of %s: %s", path.name, exc.why)
    except Exception:
        # An extra must not prevent the answer that says where the video is.
        logger.exception("making a contact sheet failed")
    return None


def main() -> None:
    """Answer questions on standard input, in a process of its own."""
    answer_questions(_answer)


def _answer(question: dict[str, Any], parts: list[bytes]) -> dict[str, Any]:
    jpeg = draw_contact_sheet(Path(question["path"]))
    return {"jpeg": base64.b64encode(jpeg).decode()}


def draw_contact_sheet(path: Path, *, frames: int = 4, max_bytes: int = 60_000) -> bytes:
    """Frames from evenly spaced moments of a video, in one JPEG of at most 960 by 960 pixels.

    Only for the process of its own, and for tests.

    Args:
        frames: how many frames; of a shorter video, all are shown.
        max_bytes: the largest size; the image is made coarser, and then smaller, until it fits.

    Raises:
        ImportError: PyAV is not installed.
        OSError: there is no such file.
        NotOurs: it is a link or a file of another user.
        ValueError: the video cannot be decoded, or the limit is too small for any image.
    """
    import av

    try:
        shown = _shown(_chosen(path, frames))
        for side in _SIDES:
            sheet = _tiled(shown, side)
            for quantizer in _QUANTIZERS:
                if len(jpeg := _jpeg(sheet, quantizer)) <= max_bytes:
                    return jpeg
    except av.FFmpegError as exc:
        raise ValueError(f"not decodable ({type(exc).__name__})") from exc
    raise ValueError(f"no image fits into {max_bytes} bytes")


def _chosen(path: Path, count: int) -> list["_Frame"]:
    """The middle frames of `count` equally long parts of the video."""
    length = sum(1 for packet in _packets(path) if packet.size)
    wanted = {(2 * part + 1) * length // (2 * count) for part in range(count)}
    frames = (
        (frame, display_of(frame, packet.stream))
        for packet in _packets(path)
        for frame in packet.decode()
    )
    read = enumerate(islice(frames, max(wanted) + 1))
    chosen = [frame for number, frame in read if number in wanted]
    if not chosen:
        raise ValueError("no frame in it")
    return chosen


def _packets(path: Path) -> Iterator["Packet[VideoStream]"]:
    import av
    from av.stream import Disposition

    with (
        open_ours(path) as file,
        av.open(file, "r", options=_VIDEO_FORMATS, **any_titles()) as video,
    ):
        cover = Disposition.attached_pic
        streams = [stream for stream in video.streams.video if not stream.disposition & cover]
        if not streams:
            raise ValueError("no video stream")
        stream = streams[0]
        stream.codec_context.thread_count = 1  # each thread keeps frames, and memory is limited
        yield from islice(video.demux(stream), MAX_FRAMES)


def _shown(frames: list["_Frame"]) -> list["VideoFrame"]:
    """The frames as a player shows them, in the largest size that the sheet may need."""
    (_, first), count = frames[0], len(frames)
    size = _size_in_sheet(first.width, first.height, count, MAX_SIDE_PIXELS)
    return [_as_shown(frame, display, size) for frame, display in frames]


def _as_shown(frame: "VideoFrame", display: Display, size: tuple[int, int]) -> "VideoFrame":
    """A frame as a player shows it, in this size, in the colours of a JPEG."""
    frame.colorspace, frame.color_range = display.colorspace, display.color_range
    width, height = reversed(size) if display.swaps_axes else size
    scale = ("scale", f"{width}:{height}:out_color_matrix=bt601:out_range=full")
    return filtered([frame], (scale, ("format", _PIXEL_FORMAT), *display.turn))


def _tiled(shown: list["VideoFrame"], side: int) -> "VideoFrame":
    first, count = shown[0], len(shown)
    columns = _columns(first.width, first.height, count)
    size = _size_in_sheet(first.width, first.height, count, side)
    small = [frame.reformat(*size) for frame in shown]
    return filtered(small, (("tile", f"{columns}x{math.ceil(count / columns)}"),))


def _columns(width: float, height: float, count: int) -> int:
    """How many columns a sheet has: upright frames are in one row, others in a square."""
    return count if height > width else math.ceil(math.sqrt(count))


def _size_in_sheet(width: float, height: float, count: int, side: int) -> tuple[int, int]:
    """The size of each frame in a sheet of `side` pixels a side; no frame is enlarged."""
    columns = _columns(width, height, count)
    rows = math.ceil(count / columns)
    scale = min(side / columns / width, side / rows / height, 1.0)
    return _even(width * scale), _even(height * scale)


def _even(pixels: float) -> int:
    return max(2, round(pixels / 2) * 2)  # the format stores colour for every second pixel


def _jpeg(sheet: "VideoFrame", quantizer: int) -> bytes:
    from av import CodecContext

    encoder = CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = sheet.width, sheet.height, _PIXEL_FORMAT
    encoder.time_base = Fraction(1)
    encoder.qmin = encoder.qmax = quantizer
    return b"".join(bytes(packet) for packet in (*encoder.encode(sheet), *encoder.encode(None)))


if __name__ == "__main__":
    main()
