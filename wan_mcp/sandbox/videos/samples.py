"""The sample inputs and the results, served with byte ranges as a storage host does."""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from wan_mcp.sandbox.http.message import Reply, Request, text_reply
from wan_mcp.sandbox.vendor.vendor import ENDLESS, FAILING, Vendor

SAMPLES = {
    "/media/clip.mp4": "clip.mp4",
    "/media/character.png": "character.png",
    FAILING: "no-person.mp4",
    ENDLESS: "clip.mp4",
}
"""The file behind each path."""
_FOLDER = Path(__file__).parents[1] / "media"
_MEDIA_TYPES = {".mp4": "video/mp4", ".png": "image/png"}


def sample(request: Request) -> Reply:
    """A sample input."""
    name = SAMPLES.get(request.path)
    return text_reply("No such file", 404) if name is None else _shipped(name, request.headers)


def sample_file(url: str, origin: str) -> Path | None:
    """The file behind the URL of a sample of the sandbox at `origin`; None for any other URL."""
    name = SAMPLES.get(url.removeprefix(origin)) if url.startswith(origin) else None
    return None if name is None else _FOLDER / name


def result(vendor: Vendor, request: Request, job_id: str) -> Reply:
    """A completed job's video. It needs no API key, only the URL, like the vendor's storage."""
    state = vendor.result_state(job_id)
    if state == "expired":
        return text_reply("This URL has expired", 403)
    if state == "missing":
        return text_reply("No such file", 404)
    rendering = vendor.renderings.get(job_id)
    if rendering is None:
        return _shipped("result.mp4", request.headers)
    # The content behind this URL never changes, so the job's id identifies it.
    return _serve(rendering.content, f'"{job_id}"', "video/mp4", request.headers)


@cache
def _file(name: str) -> tuple[bytes, str]:
    content = (_FOLDER / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _shipped(name: str, headers: Mapping[str, str]) -> Reply:
    return _serve(*_file(name), _MEDIA_TYPES[Path(name).suffix], headers)


def _serve(content: bytes, etag: str, media_type: str, headers: Mapping[str, str]) -> Reply:
    common = {"Content-Type": media_type, "Accept-Ranges": "bytes", "ETag": etag}
    if headers.get("if-none-match") == etag:
        return Reply(304, common)
    requested = _range(headers, etag, len(content))
    if requested is None:
        return Reply(200, common, content)
    if not requested:
        return Reply(416, common | {"Content-Range": f"bytes */{len(content)}"})
    span = f"bytes {requested.start}-{requested.stop - 1}/{len(content)}"
    return Reply(206, common | {"Content-Range": span}, content[requested.start : requested.stop])


def _range(headers: Mapping[str, str], etag: str, size: int) -> range | None:
    """The requested bytes: None for the whole file, an empty range for one that does not exist."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", headers.get("range", "").strip())
    # RFC 9110: an invalid header, or a stale If-Range, means the whole file.
    if match is None or headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if (first and last and int(last) < int(first)) or not (first or last):
        return None
    if not first:
        return range(max(0, size - int(last)), size)
    stop = min(int(last), size - 1) + 1 if last else size
    return range(int(first), stop)
