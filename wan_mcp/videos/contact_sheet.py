"""A contact sheet: a few frames of a film in one small picture, for those who cannot play it.

The only module that uses PyAV, which is an extra; it also makes the JPEG, so that no second
library is needed.
"""

import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream

WIDEST = 960
"""Pixels; hosts shrink wider pictures for the model anyway (assumed)."""
LONGEST = 3_000
"""Frames that are looked at: a film has 450 at most, and a later one has to be decoded up to."""

_SIDES = (WIDEST, 640, 400, 240, 120)
_QUANTIZERS = (3, 6, 10, 16, 24, 31)
"""MJPEG's scale, from nearly perfect to its worst."""
_PIXELS = "yuvj420p"
_FILMS_ONLY = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"}
"""Some of FFmpeg's other formats are lists of files and addresses, which it would open."""

logger = logging.getLogger(__name__)


async def contact_sheet(path: Path) -> bytes | None:
    """The contact sheet of a film as JPEG; None without PyAV, or when the film is not readable."""
    try:
        return await anyio.to_thread.run_sync(draw_contact_sheet, path, abandon_on_cancel=True)
    except ImportError:
        logger.info("no poster: the extra [media] is not installed")
    except (OSError, ValueError) as exc:
        logger.info("no poster of %s: %s", path.name, type(exc).__name__)
    except Exception:
        # An extra must not cost the answer that tells where the film is.
        logger.exception("making a poster broke")
    return None


def draw_contact_sheet(path: Path, *, frames: int = 4, max_bytes: int = 60_000) -> bytes:
    """Frames from evenly spaced moments of a film, in one JPEG of at most 960 by 960 pixels.

    Args:
        frames: how many; a film that has fewer shows all of them.
        max_bytes: the picture becomes coarser, and then smaller, until it fits.

    Raises:
        ImportError: PyAV is not installed.
        OSError: there is no such file.
        ValueError: it is no film that can be decoded, or the limit is too small for any picture.
    """
    import av

    try:
        chosen = _chosen(path, frames)
        for side in _SIDES:
            sheet = _tiled(chosen, side)
            for quantizer in _QUANTIZERS:
                if len(jpeg := _jpeg(sheet, quantizer)) <= max_bytes:
                    return jpeg
    except av.FFmpegError as exc:
        raise ValueError(f"not decodable ({type(exc).__name__})") from exc
    raise ValueError(f"no picture fits into {max_bytes} bytes")


def _chosen(path: Path, count: int) -> list["VideoFrame"]:
    """The frames in the middle of so many equally long parts of the film."""
    length = sum(1 for packet in _packets(path) if packet.size)
    wanted = {(2 * part + 1) * length // (2 * count) for part in range(count)}
    frames = (frame for packet in _packets(path) for frame in packet.decode())
    chosen = [frame for at, frame in enumerate(islice(frames, max(wanted) + 1)) if at in wanted]
    if not chosen:
        raise ValueError("no picture in it")
    return chosen


def _packets(path: Path) -> Iterator["Packet[VideoStream]"]:
    import av

    with path.open("rb") as file, av.open(file, "r", options=_FILMS_ONLY) as film:
        if not film.streams.video:
            raise ValueError("no video stream")
        yield from islice(film.demux(film.streams.video[0]), LONGEST)


def _tiled(frames: list["VideoFrame"], side: int) -> "VideoFrame":
    """The frames in one row if they are upright, otherwise in a square; none is enlarged."""
    import av
    from av.filter import Graph

    first, count = frames[0], len(frames)
    columns = count if first.height > first.width else math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = min(side / columns / first.width, side / rows / first.height, 1.0)
    width, height = _even(first.width * scale), _even(first.height * scale)
    pixels = av.VideoFormat(_PIXELS)
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(width=width, height=height, format=pixels, time_base=Fraction(1)),
        graph.add("tile", f"{columns}x{rows}:nb_frames={count}"),
        graph.add("buffersink"),
    ).configure()
    for at, frame in enumerate(frames):
        small = frame.reformat(width, height, _PIXELS)
        small.pts, small.time_base = at, Fraction(1)
        graph.vpush(small)
    graph.vpush(None)
    return graph.vpull()


def _even(pixels: float) -> int:
    return max(2, round(pixels / 2) * 2)  # colour is stored for every second pixel


def _jpeg(sheet: "VideoFrame", quantizer: int) -> bytes:
    from av import CodecContext

    encoder = CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = sheet.width, sheet.height, _PIXELS
    encoder.time_base = Fraction(1)
    encoder.qmin = encoder.qmax = quantizer
    return b"".join(bytes(packet) for packet in (*encoder.encode(sheet), *encoder.encode(None)))
