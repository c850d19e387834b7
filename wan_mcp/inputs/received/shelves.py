"""Uploaded files in the operator's object storage, each workspace's on a shelf of its own.

An object is named after the shelf, the id of the upload and the hash of its bytes, so no table of
uploads is needed. It is deleted by age alone.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from anyio.to_thread import run_sync

from wan_mcp.inputs.file_types import FileType
from wan_mcp.storage.object_store import ObjectStore, StoredObject
from wan_mcp.storage.old_objects import delete_old
from wan_mcp.storage.unavailable import Reason, unavailable

_FOLDER = "uploads"
_NAME = re.compile(
    rf"{_FOLDER}/(?P<shelf>[0-9a-f]{{20}})/(?P<id>(?:video|image)_[a-z2-7]{{16}})/"
    r"(?P<sha256>[0-9a-f]{64})(?P<suffix>\.[a-z0-9]{1,8})?"
)
LINK_SECONDS = 3600.0


@dataclass(frozen=True)
class StoredUpload:
    """One uploaded file.

    Attributes:
        name: the name of its object.
        size: how many bytes it has.
        sha256: the hash of its bytes, 64 hex digits.
        suffix: the usual suffix of such a file, such as `.mp4`.
        modified: when it was stored, by the storage's clock; UTC.
    """

    name: str
    size: int
    sha256: str
    suffix: str
    modified: datetime


class Shelves:
    """The uploaded files of all workspaces. Every method may raise Unavailable.

    Args:
        store: the bucket, or a part of it.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def find(self, shelf: str, id: str) -> list[StoredUpload]:
        """The files under an id: none or one, or several that arrived at the same time."""
        return await self._listed(f"{_FOLDER}/{shelf}/{id}")

    async def all_of(self, shelf: str) -> list[StoredUpload]:
        """All files of a workspace."""
        return await self._listed(f"{_FOLDER}/{shelf}")

    async def put(
        self, shelf: str, id: str, file: BinaryIO, size: int, sha256: str, file_type: FileType
    ) -> StoredUpload:
        """Store a whole file under an id."""
        name = f"{_FOLDER}/{shelf}/{id}/{sha256}{file_type.suffix}"
        media_type = file_type.mime_type or "application/octet-stream"
        await self._store.put(name, file, size, sha256, media_type, lambda sent: None)
        found = await self._store.head(name)
        if found is None or found.size != size:
            await self._store.delete(name)
            raise unavailable(Reason.CUT, self._store.url)
        return StoredUpload(name, size, sha256, file_type.suffix, found.modified)

    async def delete(self, upload: StoredUpload) -> None:
        """Delete a file."""
        await self._store.delete(upload.name)

    async def link(self, upload: StoredUpload) -> str:
        """A link under which anybody can fetch a file for an hour."""
        return await self._store.sign(upload.name, LINK_SECONDS)

    async def copy(self, upload: StoredUpload, target: BinaryIO) -> None:
        """Write the bytes of a file into an open one; the caller compares their hash."""
        async for block in self._store.read(upload.name):
            await run_sync(target.write, block)

    async def delete_old(self) -> int:
        """Delete the files that are older than `old_objects.KEPT`. Returns their number."""
        return await delete_old(self._store, _FOLDER, _NAME)

    async def _listed(self, folder: str) -> list[StoredUpload]:
        found = [_upload(each) async for each in self._store.list(folder)]
        return [each for each in found if each is not None]


def _upload(stored: StoredObject) -> StoredUpload | None:
    name = _NAME.fullmatch(stored.name)
    if name is None:
        return None
    suffix = name["suffix"] or ""
    return StoredUpload(stored.name, stored.size, name["sha256"], suffix, stored.modified)
