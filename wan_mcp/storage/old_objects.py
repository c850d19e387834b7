"""Deletes old objects in a storage, by the storage's own clock."""

import io
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from wan_mcp.clock import Clock
from wan_mcp.storage.object_store import ObjectStore, StoredObject

KEPT = timedelta(days=2)
"""How long an object is kept (ours): nothing here needs one that is older than a day."""
FIRST_SECONDS = 60.0
EVERY_SECONDS = 6 * 3600.0
"""How often old objects are looked for, after a first time soon after the start (ours)."""

logger = logging.getLogger(__name__)


async def delete_regularly(
    deletes: Sequence[Callable[[], Awaitable[object]]], clock: Clock
) -> None:
    """Delete old objects regularly, until cancelled.

    Args:
        deletes: each deletes the old objects in one place.
    """
    await clock.sleep(FIRST_SECONDS)
    while True:
        for delete in deletes:
            try:
                await delete()
            except Exception as error:
                # Another program's storage must not end the server, in whose tasks payments run.
                logger.warning("old uploads could not be deleted: %s", error)
        await clock.sleep(EVERY_SECONDS)


async def delete_old(store: ObjectStore, folder: str, ours: re.Pattern[str]) -> int:
    """Delete the objects below a folder that were last written more than KEPT ago.

    Args:
        ours: the names of the objects that may be deleted; all others stay.

    Returns:
        The number of deleted objects.

    Raises:
        Unavailable: the storage cannot be used.
    """
    found = [each async for each in store.list(folder) if ours.fullmatch(each.name)]
    now = await _storage_time(store, folder) if found else None
    if now is None:
        return 0
    count = 0
    for each in found:
        if now - each.modified > KEPT and await _is_still_old(store, each, now):
            await store.delete(each.name)
            count += 1
    return count


async def _is_still_old(store: ObjectStore, listed: StoredObject, now: datetime) -> bool:
    """Whether an object is still old: another process may have written it again meanwhile."""
    found = await store.head(listed.name)
    return found is not None and now - found.modified > KEPT


async def _storage_time(store: ObjectStore, folder: str) -> datetime | None:
    """The time by the storage's clock; None if another process interferes.

    To read it, an object is written and deleted again.
    """
    name = f"{folder}/.now"
    mark = b"The date of this object is the time of the storage.\n"
    digest = sha256(mark).hexdigest()
    await store.put(name, io.BytesIO(mark), len(mark), digest, "text/plain", lambda sent: None)
    found = await store.head(name)
    await store.delete(name)
    return found.modified if found else None
