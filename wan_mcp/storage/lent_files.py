"""Copies of the files that are lent: one folder for each request, within the data folder.

A copy holds exactly the bytes that were hashed, whatever happens to the original afterwards. Its
path says all that is needed to lend it: `{submission id}/{input}.{sha256}.{size}.{type}`, with the
type encoded as in a URL. So a restarted server, and any other one on this data folder, lends the
same files. Nothing here may run in the event loop.
"""

import hashlib
import hmac
import os
import re
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import BinaryIO
from urllib.parse import quote, unquote

from wan_mcp.storage.delivery import Changed, Content

BLOCK_BYTES = 1 << 20
_REQUEST = re.compile(r"[A-Za-z0-9_-]{1,100}")
_COPY = re.compile(r"([a-z_]+)\.([0-9a-f]{64})\.([0-9]+)\.([^./\\]+)")
_PART = ".part"


@dataclass(frozen=True)
class LentFile:
    """A complete copy.

    Attributes:
        path: where it is.
        submission_id: the request that needs it.
        name: which input of the request it is.
        sha256: the hash of its bytes, 64 hex digits.
        size: how many bytes it has.
        media_type: its MIME type.
    """

    path: Path
    submission_id: str
    name: str
    sha256: str
    size: int
    media_type: str

    def open(self) -> BinaryIO:
        """Open it for reading in binary.

        Raises:
            FileNotFoundError: it was deleted, because its request has ended.
            Changed: its length is not that of the file that was copied.
            OSError: it cannot be opened.
        """
        file = self.path.open("rb")
        if os.fstat(file.fileno()).st_size != self.size:
            file.close()
            raise Changed
        return file


class LentFiles:
    """The copies in one folder.

    Args:
        folder: it need not exist; other programs must not write into it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def copy(self, content: Content, submission_id: str, name: str) -> Generator[int, None, None]:
        """Copy an input in steps of at most 1 MiB; each yields how many bytes have been copied.

        A copy of these bytes that exists already is kept. A copy that is still incomplete when the
        steps end is deleted.

        Raises:
            Changed: the bytes are not those that were hashed.
            OSError: they cannot be read, or the copy cannot be written.
        """
        target = self._path(content, submission_id, name)
        if target.exists():
            yield content.size
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        part = target.parent / (name + _PART)
        try:
            with closing(_copied(content, part)) as steps:
                yield from steps
            for old in self._copies(target.parent, name):
                old.path.unlink()
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def find(self, token: str, secret: bytes) -> LentFile | None:
        """The copy that a token names; None if there is none. Every token takes equally long."""
        found = None
        for request in self.requests():
            for copy in self._copies(self._folder / request):
                if hmac.compare_digest(token_of(request, copy.name, secret), token):
                    found = copy
        return found

    def requests(self) -> list[str]:
        """The submission ids of the requests that have a folder here."""
        try:
            with os.scandir(self._folder) as entries:
                return sorted(entry.name for entry in entries if _REQUEST.fullmatch(entry.name))
        except FileNotFoundError:
            return []

    def remove(self, submission_id: str) -> None:
        """Delete the copies of a request. On Windows, one that is being read stays until later."""
        if _REQUEST.fullmatch(submission_id):
            rmtree(self._folder / submission_id, ignore_errors=True)

    def _path(self, content: Content, submission_id: str, name: str) -> Path:
        media_type = quote(content.media_type, safe="").replace(".", "%2E")
        copy = f"{name}.{content.sha256}.{content.size}.{media_type}"
        if not (_REQUEST.fullmatch(submission_id) and _COPY.fullmatch(copy)):
            raise ValueError("not a submission id, or not the name of an input")
        return self._folder / submission_id / copy

    def _copies(self, folder: Path, name: str = "") -> Iterator[LentFile]:
        """The complete copies of a request, of one input or of all."""
        with suppress(FileNotFoundError, NotADirectoryError):  # its request ended just now
            for path in folder.iterdir():
                parts = _COPY.fullmatch(path.name)
                if parts and name in ("", parts[1]):
                    size, media_type = int(parts[3]), unquote(parts[4])
                    yield LentFile(path, folder.name, parts[1], parts[2], size, media_type)


def token_of(submission_id: str, name: str, secret: bytes) -> str:
    """The part of the link to an input that cannot be guessed: 64 hex digits.

    It depends on nothing else, so a repeated or restarted request has the same links.
    """
    return hmac.new(secret, f"{submission_id}/{name}".encode(), "sha256").hexdigest()


def _copied(content: Content, target: Path) -> Generator[int, None, None]:
    digest, size = hashlib.sha256(), 0
    with content.open() as source, target.open("wb") as file:
        while block := source.read(BLOCK_BYTES):
            size += len(block)
            if size > content.size:
                break
            digest.update(block)
            file.write(block)
            yield size
        file.flush()
        os.fsync(file.fileno())  # otherwise this could be an empty file after a power failure
    if (digest.hexdigest(), size) != (content.sha256, content.size):
        raise Changed
