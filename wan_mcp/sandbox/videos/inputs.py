"""A job's inputs: fetched from where its submitter put them, and decoded.

Any http(s) address is fetched, also one inside a private network: whoever submits holds the key,
runs this sandbox and could fetch it as well. A web page elsewhere cannot: to send the key it would
have to ask with an OPTIONS request first, and nobody answers that. It runs in a process of its own
(see `studio`), so it may block.
"""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer
    from av.video.frame import VideoFrame

SIZE_LIMIT = 200 << 20
SECONDS = 15.0
"""For each input, and for each silence: a host that stops just before the end gets both."""
_BLOCK = 65_536
# Real films and pictures only: a playlist would make FFmpeg open other files of this machine.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,gif,apng,"
    "png_pipe,jpeg_pipe,webp_pipe,webp_anim,bmp_pipe,tiff_pipe"
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Unusable(Exception):
    """An input that no film can be made from; the text is a sentence for the job's `error`."""


class _Redirects(request.HTTPRedirectHandler):
    max_redirections = 5


class _Proxies(request.ProxyHandler):
    """Those of the environment, which cannot see this machine's loopback."""

    def proxy_open(self, req: request.Request, proxy: str, type: str) -> HTTPResponse | None:
        if urlsplit(req.full_url).hostname in _LOOPBACK:
            return None
        answer: HTTPResponse | None = super().proxy_open(req, proxy, type)
        return answer


def fetch(
    url: str,
    target: Path,
    what: str,
    *,
    size_limit: int = SIZE_LIMIT,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Save what is at a URL.

    Args:
        what: the input's name, for the sentence.
        size_limit: in bytes.
        clock: seconds that never go back.

    Raises:
        Unusable: it could not be had, or not within the limits.
    """
    asked = request.Request(url, headers={"User-Agent": "wan-mcp-sandbox", "Accept": "*/*"})
    try:
        with _opener().open(asked, timeout=SECONDS) as answer, target.open("wb") as file:
            _copy(answer, file, size_limit, clock)
    except (OSError, HTTPException, ValueError) as exc:
        raise Unusable(f"The {what} could not be fetched: {_reason(exc)}.") from exc
    return target


def _opener() -> request.OpenerDirector:
    # Not build_opener(), which can also open files and FTP addresses.
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


class _TooMuch(ValueError):
    """The limits are exceeded; the text is a reason."""


def _copy(
    answer: HTTPResponse, file: IO[bytes], size_limit: int, clock: Callable[[], float]
) -> None:
    end = clock() + SECONDS
    size = 0
    while block := answer.read1(_BLOCK):  # not read(), which a slow host keeps for ever
        size += len(block)
        if size > size_limit:
            raise _TooMuch(f"it is larger than {size_limit >> 20} MiB")
        if clock() > end:
            raise TimeoutError
        file.write(block)
    if answer.length:
        raise _TooMuch("its host stopped before the end")


def _reason(exc: Exception) -> str:
    """Half a sentence of ours; a library's text may repeat the URL, and with it a secret."""
    if isinstance(exc, HTTPError):
        exc.close()
        return f"its host answered HTTP {exc.code}"
    cause = exc.reason if isinstance(exc, URLError) else exc
    if isinstance(cause, _TooMuch):
        return str(cause)
    if isinstance(cause, TimeoutError):
        return f"it did not arrive within {SECONDS:.0f} s"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "its host's certificate is not trusted on this machine"
    if isinstance(cause, OSError):
        return f"no connection ({type(cause).__name__})"
    return "its address or its host's answer makes no sense"


@contextmanager
def opened(path: Path, what: str) -> "Iterator[InputContainer]":
    """An input, ready to be decoded.

    Raises:
        Unusable: FFmpeg cannot read it; also from whatever is done with it inside the block.
    """
    import av

    try:
        with av.open(path, options={"format_whitelist": _FORMATS}) as container:
            yield container
    except av.FFmpegError as exc:
        raise Unusable(f"The {what} could not be read: {exc.strerror}.") from exc


def pictures(path: Path, what: str) -> "Iterator[VideoFrame]":
    """At least one picture. Raises: Unusable."""
    empty = True
    with opened(path, what) as container:
        for stream in container.streams.video[:1]:
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                empty = False
                yield frame
    if empty:
        raise Unusable(f"The {what} could not be read: it holds no picture.")


def sounds(path: Path, what: str) -> "Iterator[AudioFrame]":
    """The pieces of its first sound track, if it has one. Raises: Unusable."""
    with opened(path, what) as container:
        for stream in container.streams.audio[:1]:
            yield from container.decode(stream)
