"""Limits what a server may send beside the file itself: headers, interim answers and trailers.

httpx reads up to 100 kB of headers (httpcore 1.0) in one step, in which nothing else runs. For
16,000 short ones this takes 75 ms, and four such answers at once kept other calls waiting for 0.3 s
(measured). PixelDojo's own answers are not limited like this: they may have to be paid for.
"""

from typing import Any

import httpcore

MAX_HEADER_BYTES = 8 * 1024
"""As much as nginx passes on from the server behind it by default (proxy_buffer_size, documented).
Reading so many takes 8 ms at most (measured)."""
_PART_BYTES = 16 * 1024
"""As much of a file as an encrypted connection gives at once (documented: TLS)."""


class HeadersTooLong(httpcore.RemoteProtocolError):
    """A server sent more than MAX_HEADER_BYTES without one byte of the file."""


class LimitedStream(httpcore.AsyncNetworkStream):
    """A connection from which MAX_HEADER_BYTES can be read, and more after each `renew`."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._bytes_left = MAX_HEADER_BYTES

    def renew(self) -> None:
        """Call it when an answer has begun, and when a part of the file has arrived."""
        self._bytes_left = _PART_BYTES

    async def read(self, max_bytes: int, *args: Any, **kwargs: Any) -> bytes:
        """The next bytes. Raises HeadersTooLong."""
        if not self._bytes_left:
            raise HeadersTooLong(f"more than {MAX_HEADER_BYTES} bytes of headers")
        data = await self._stream.read(min(max_bytes, self._bytes_left), *args, **kwargs)
        self._bytes_left -= len(data)
        return data

    async def write(self, *args: Any, **kwargs: Any) -> None:
        """Send bytes."""
        await self._stream.write(*args, **kwargs)

    async def start_tls(self, *args: Any, **kwargs: Any) -> "LimitedStream":
        """The same connection, encrypted."""
        return LimitedStream(await self._stream.start_tls(*args, **kwargs))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """What is known of the connection."""
        return self._stream.get_extra_info(info)


class LimitedBackend(httpcore.AnyIOBackend):
    """Opens connections that are limited."""

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> LimitedStream:
        """Connect to a server."""
        return LimitedStream(await super().connect_tcp(*args, **kwargs))
