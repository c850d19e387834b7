"""Fetches and decodes a job's inputs. Runs in a process of its own (see `render`), so it may block.

Any http(s) URL is fetched, even inside a private network, because the person who submits a job runs
this sandbox and could fetch the URL anyway. A web page on another site cannot submit a job: to send
the API key, the browser would first have to ask with an OPTIONS request, which is never granted.
"""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SIZE_LIMIT_BYTES = 200 << 20
_BLOCK_BYTES = 65_536
# Only videos and images: a playlist would make FFmpeg open other files on this machine.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif,apng,"
    "png_pipe,jpeg_pipe,webp_pipe,webp_anim,bmp_pipe,tiff_pipe"
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_JUMP_SECONDS, _BACK_SECONDS = 10, Fraction(1, 10)
"""The steps of the times, forwards and back, that ffmpeg takes for a jump (documented)."""


class _Ratio(Protocol):
    """A rate, ratio or time base of PyAV: a Fraction up to release 18, an AVRational from 19 on."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...


class Unusable(Exception):
    """No video can be rendered from an input; the text is a sentence for the job's `error`."""


class _Redirects(request.HTTPRedirectHandler):
    max_redirections = 5


class _Proxies(request.ProxyHandler):
    """The proxies of the environment, except for loopback, which they cannot reach."""

    def proxy_open(self, req: request.Request, proxy: str, type: str) -> HTTPResponse | None:
        if urlsplit(req.full_url).hostname in _LOOPBACK:
            return None
        response: HTTPResponse | None = super().proxy_open(req, proxy, type)
        return response


def fetch(
    url: str,
    target: Path,
    label: str,
    *,
    seconds: float,
    size_limit: int = SIZE_LIMIT_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Save the file at a URL, and return its path.

    Args:
        url: http(s), with any host.
        target: where to save it.
        label: "video" or "image", for the error's sentence.
        seconds: the time limit for the whole input, and also for each pause in which no bytes
            arrive. Both together can pass when a host stops shortly before the end.
        size_limit: in bytes.
        clock: seconds that never go back.

    Raises:
        Unusable: it could not be fetched, or not within the limits.
    """
    get = request.Request(url, headers={"User-Agent": "wan-mcp-sandbox", "Accept": "*/*"})
    try:
        with _opener().open(get, timeout=seconds) as response, target.open("wb") as file:
            _copy(response, file, size_limit, seconds, clock)
    except (OSError, HTTPException, ValueError) as exc:
        raise Unusable(f"The {label} could not be fetched: {_reason(exc, seconds)}.") from exc
    return target


def _opener() -> request.OpenerDirector:
    # Not build_opener(), which would also open local files and FTP URLs.
    opener = request.OpenerDirector()
    for handler in (
        _Proxies(),
        request.UnknownHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(context=ssl.create_default_context()),
        request.HTTPDefaultErrorHandler(),
        _Redirects(),
        request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _WrongLength(ValueError):
    """The response is too long or too short; the text is the end of a sentence."""


def _copy(
    response: HTTPResponse,
    file: IO[bytes],
    size_limit: int,
    seconds: float,
    clock: Callable[[], float],
) -> None:
    deadline = clock() + seconds
    size = 0
    while block := response.read1(_BLOCK_BYTES):  # read() would wait for a slow host without limit
        size += len(block)
        if size > size_limit:
            raise _WrongLength(f"it is larger than {size_limit >> 20} MiB")
        if clock() > deadline:
            raise TimeoutError
        file.write(block)
    if response.length:
        raise _WrongLength("its host stopped before the end")


def _reason(exc: Exception, seconds: float) -> str:
    """The end of a sentence. A library's own text could contain the URL, and with it a secret."""
    if isinstance(exc, HTTPError):
        exc.close()
        return f"its host answered HTTP {exc.code}"
    cause = exc.reason if isinstance(exc, URLError) else exc
    if isinstance(cause, _WrongLength):
        return str(cause)
    if isinstance(cause, TimeoutError):
        return f"it did not arrive within {seconds:.0f} s"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "its host's certificate is not trusted on this machine"
    if isinstance(cause, OSError):
        return f"no connection ({type(cause).__name__})"
    return "its address or its host's answer makes no sense"


@contextmanager
def opened(path: Path, label: str) -> "Iterator[InputContainer]":
    """An input that is ready to be decoded.

    Raises:
        Unusable: FFmpeg cannot read it. FFmpeg's errors inside the block are raised as this too.
    """
    import av

    try:
        with av.open(
            path, "r", options={"format_whitelist": _FORMATS}, **_any_titles()
        ) as container:
            yield container
    except av.FFmpegError as exc:
        raise Unusable(f"The {label} could not be read: {exc.strerror}.") from exc


def _any_titles() -> dict[str, Any]:
    """What `av.open` needs so that a title in any encoding is no error.

    PyAV before version 19 raises an error for bytes that are not UTF-8; 19 has no such option.
    """
    import av

    before_19 = int(av.__version__.partition(".")[0]) < 19
    return {"metadata_errors": "replace"} if before_19 else {}


def video_stream(container: "InputContainer", label: str) -> "VideoStream":
    """The video, or an image: the first stream of pictures that is no cover.

    Raises:
        Unusable: there is none.
    """
    from av.stream import Disposition

    streams = container.streams.video
    videos = [stream for stream in streams if not stream.disposition & Disposition.attached_pic]
    if not videos:
        what = "its only image is a cover" if streams else "it contains no image"
        raise Unusable(f"The {label} could not be read: {what}.")
    return videos[0]


def video_frames(path: Path, label: str) -> "Iterator[VideoFrame]":
    """The frames of the video stream, or an image as its one frame.

    Raises:
        Unusable: the input cannot be read, or has no frame.
    """
    empty = True
    with opened(path, label) as container:
        stream = video_stream(container, label)
        stream.thread_type = "AUTO"
        for packet in _packets(container, stream):
            for frame in packet.decode() if packet.stream_index == stream.index else ():
                empty = False
                yield frame
    if empty:
        raise Unusable(f"The {label} could not be read: it contains no image.")


def audio_frames(path: Path, label: str) -> "Iterator[AudioFrame]":
    """The frames of the first audio stream, if there is one.

    Raises:
        Unusable: the input cannot be read.
    """
    with opened(path, label) as container:
        for stream in container.streams.audio[:1]:
            for packet in _packets(container, stream):
                if packet.stream_index == stream.index:
                    yield from packet.decode()


def _packets(container: "InputContainer", wanted: "Stream") -> "Iterator[Any]":
    """The packets of a stream, among others, with times that go on without a jump.

    Where transport streams were joined, each part has times of its own. There, all streams are
    moved by what the first of them jumps, so that sound and pictures stay together.
    """
    from av.format import Flags

    may_jump: int = cast(Any, Flags.ts_discont).value
    if not container.format.flags & may_jump:
        yield from container.demux(wanted)
        return
    clock = _Clock()
    for packet in container.demux(*container.streams.video, *container.streams.audio):
        if packet.dts is not None:
            clock.move(packet)
        yield packet


class _Clock:
    """Moves the times of packets as ffmpeg does it: over jumps of any stream."""

    def __init__(self) -> None:
        self._offset = Fraction(0)
        self._last: dict[int, Fraction] = {}
        self._expected: dict[int, Fraction] = {}

    def move(self, packet: "Packet[Any]") -> None:
        """Change the times of a packet that has a decoding time."""
        unit, stream = fraction(packet.time_base), packet.stream_index
        time = (packet.dts or 0) * unit + self._offset
        expected, last = self._expected.get(stream, time), self._last.get(stream, time)
        if abs(time - expected) > _JUMP_SECONDS or time < last - _BACK_SECONDS:
            self._offset += expected - time
            time = expected
        shift = round(self._offset / unit)
        packet.dts = (packet.dts or 0) + shift
        packet.pts = None if packet.pts is None else packet.pts + shift
        self._last[stream] = time
        self._expected[stream] = time + (packet.duration or 0) * unit


def fraction(value: _Ratio | None) -> Fraction:
    """Zero when FFmpeg does not know the value, which PyAV reports as None, 0/1 or 0/0."""
    return Fraction(value.numerator, value.denominator) if value else Fraction(0)
