"""Files of this computer and a bucket for tests of payments: no disk and no network is touched."""

import hashlib
import io
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import anyio

from wan_mcp.errors import InvalidArguments
from wan_mcp.inputs.local.references import Fragment
from wan_mcp.inputs.preparing.prepare import Prepared
from wan_mcp.inputs.verdict import Role
from wan_mcp.storage.delivery import Content

MB = 10**6
CLIP = "file:///home/ana/Videos/dance.mov"
PICTURE = "file:///home/ana/Pictures/ana.jpg"


@dataclass(frozen=True)
class AFile:
    """What `LocalFile` says of a file."""

    path: Path
    size: int
    sha256: str
    suffix: str


class Disk:
    """The files of this computer, by their URIs without a fragment.

    Attributes:
        read: the URIs that were looked for.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, int]] = {}
        self.read: list[str] = []
        self.write(CLIP, b"clip", 119 * MB)
        self.write(PICTURE, b"picture", MB)

    def write(self, uri: str, content: bytes, size: int = MB) -> None:
        self.files[uri] = content, size

    async def locate(self, uri: str, role: Role, *, roots: Sequence[Path] = ()) -> Any:
        self.read.append(uri)
        plain = uri.partition("#")[0]
        if plain not in self.files:
            raise InvalidArguments(f"{role.name} is in no folder that is allowed.")
        content, size = self.files[plain]
        path = Path(plain.removeprefix("file://"))
        return AFile(path, size, hashlib.sha256(content).hexdigest(), path.suffix)

    def content(self, file: Any) -> Content:
        def open() -> BinaryIO:
            content, _ = self.files[file.path.as_uri()]
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise OSError(116, "the file was changed")
            return io.BytesIO(content)

        return Content(open, file.size, file.sha256, file.suffix, "video/mp4")


@dataclass
class Preparation:
    """Prepares nothing; or fails, if that is wanted.

    Attributes:
        asked: the fragments and seconds that were asked for.
        written: how many files it has written.
    """

    failure: Exception | None = None
    asked: list[tuple[str, str, float]] = field(default_factory=list)
    written: int = 0

    async def __call__(
        self,
        source: Content,
        role: Role,
        fragment: Fragment,
        seconds: float,
        folder: Path,
        report: Callable[[float], None] = lambda share: None,
    ) -> Prepared:
        self.asked.append((role.name, str(fragment), seconds))
        if self.failure is not None:
            raise self.failure
        self.written += 1
        (folder / f"{self.written}").touch()
        return Prepared(source, (f"{role.name} was cut.",), folder / f"{self.written}")


class Bucket:
    """A bucket under the address of a file that PixelDojo can fetch.

    Attributes:
        objects: how often each content was uploaded.
        signed: how many links were made.
        half: set when half of an upload is there.
        go_on: an upload waits for it at its half.
        stopped: how many uploads were cancelled.
        failure: what the next upload raises.
        released: the requests that need nothing any more.
    """

    uploads = True

    def __init__(self, base: str) -> None:
        self.base = base
        self.objects: dict[str, int] = {}
        self.signed = 0
        self.half = anyio.Event()
        self.go_on = anyio.Event()
        self.stopped = 0
        self.failure: Exception | None = None
        self.released: list[str] = []
        self.pause: Callable[[str], Awaitable[object]] | None = None

    def link_of(self, content: Content) -> str:
        """The link without its signature."""
        return f"{self.base}/inputs/{content.sha256}{content.suffix}"

    async def link(
        self, content: Content, submission_id: str, name: str, report: Callable[[int], None]
    ) -> str:
        if content.sha256 not in self.objects:
            await self._upload(content, name, report)
        self.signed += 1
        return f"{self.link_of(content)}?signature={self.signed}"

    async def release(self, submission_id: str) -> None:
        self.released.append(submission_id)

    async def _upload(self, content: Content, name: str, report: Callable[[int], None]) -> None:
        report(content.size // 3)
        self.half.set()
        try:
            await self.go_on.wait()
            if self.pause is not None:
                await self.pause(name)
        except anyio.get_cancelled_exc_class():
            self.stopped += 1
            raise
        if self.failure is not None:
            raise self.failure
        with content.open() as file:
            file.read()
        report(content.size)
        self.objects[content.sha256] = self.objects.get(content.sha256, 0) + 1
